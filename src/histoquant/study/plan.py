"""The plan of a study: what will be compared, decided before the arms are known.

``plan.toml`` names arms, visits, outcomes and their roles, and margins. Its hash is of the
content and not of the comments. `histoquant.study.lock` keeps it.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from histoquant.errors import StudyError
from histoquant.study.terms import Terms


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Arms(_Group):
    """Names of the arms, as in the design."""

    treated: str = Field("", description="The arm whose effect is asked for.")
    placebo: str = Field("", description="The arm it is compared with.")
    other: tuple[str, ...] = Field((), description="Arms that are in no comparison.")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        names = [n for n in (self.treated, self.placebo, *self.other) if n]
        if len(set(names)) < len(names):
            raise ValueError(f"an arm is named twice: {', '.join(names)}")
        return self


class Visits(_Group):
    """Names of the visits, as in the design."""

    order: tuple[str, ...] = Field((), description="All visits, in order of time.")
    baseline: str = Field("", description="Visit before treatment.")
    primary: str = Field("", description="Visit of the primary comparison; unset: the last.")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"a visit is named twice: {', '.join(self.order)}")
        for name, visit in (("baseline", self.baseline), ("primary", self.primary)):
            if visit and self.order and visit not in self.order:
                raise ValueError(f"the {name} visit {visit!r} is not in order: {self.order}")
        if self.baseline and self.baseline == self.primary:
            raise ValueError(f"the primary visit {self.primary!r} is the baseline")
        return self


class Plan(_Group):
    """What will be compared, decided before the arms are known."""

    title: str = Field("", description="Name of the study.")
    primary: tuple[str, ...] = Field((), description="Primary outcome; more than one is corrected.")
    secondary: tuple[str, ...] = Field((), description="Secondary outcomes (Holm).")
    exploratory: tuple[str, ...] = Field(
        (), description="Exploratory outcomes (Benjamini-Hochberg)."
    )
    arms: Arms = Arms()
    visits: Visits = Visits()
    margin: dict[str, float] = Field(
        default_factory=dict,
        description="Outcome -> largest effect that counts as none, as a ratio above 1: 1.1 "
        "stands for 0.909 to 1.1.",
    )
    direction: dict[str, Literal["lower", "higher"]] = Field(
        default_factory=dict, description="Outcome -> which way is better, where not the usual."
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Two-sided level; 1 - alpha intervals.")
    seed: int = Field(0, ge=0, description="Everything random in the analysis follows from it.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        named = [*self.primary, *self.secondary, *self.exploratory]
        twice = sorted({n for n in named if named.count(n) > 1})
        if twice:
            raise ValueError(f"outcomes with two roles: {', '.join(twice)}")
        wrong = [f"{name} {value:g}" for name, value in self.margin.items() if not value > 1]
        if wrong:
            raise ValueError(f"margins are ratios above 1: {', '.join(wrong)}")
        return self

    @property
    def roles(self) -> dict[str, tuple[str, ...]]:
        """Role -> outcomes, as `outcomes.declared_outcomes` takes them."""
        return {
            "primary": self.primary, "secondary": self.secondary, "exploratory": self.exploratory,
        }  # fmt: skip

    @property
    def terms(self) -> Terms:
        """Arms and visits, as `design.read_design` takes them."""
        return Terms(
            treated=self.arms.treated,
            placebo=self.arms.placebo,
            other_arms=self.arms.other,
            baseline=self.visits.baseline,
            visits=self.visits.order,
            primary_visit=self.visits.primary,
        )

    @property
    def sha256(self) -> str:
        """Hash of the content: comments, order of keys and spelling of numbers do not count."""
        return content_sha256(self.model_dump(mode="json"))


def read_plan(path: Path | str) -> Plan:
    """Read and check a plan.

    Raises
    ------
    StudyError
        With everything that is wrong with it.
    """
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise StudyError(f"cannot read the plan {path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"{path} is not TOML: {error}") from None
    return plan_from(values, str(path))


def plan_from(values: Mapping[str, Any], source: str) -> Plan:
    """Check the content of a plan.

    Raises
    ------
    StudyError
        With everything that is wrong with it.
    """
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc'])) or 'plan'}: {e['msg']}"
            + (f" (found {e['input']!r})" if e["type"] not in ("missing", "value_error") else "")
            for e in error.errors()
        ]
        known = ", ".join(Plan.model_fields)
        raise StudyError(
            f"{source}: {len(lines)} problem(s) in the plan:\n"
            + "\n".join(lines)
            + f"\nA plan has {known}"
        ) from None


def content_sha256(content: object) -> str:
    """SHA-256 of what JSON can hold, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
