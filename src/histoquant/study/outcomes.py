"""What is compared: columns of the marker table, each with its role and its better direction.

An outcome is written ``marker:column``, for example ``p16:positive_per_mm_dej``. Roles are
declared in the plan, before the arms are known. Without a plan nothing was declared, so every
outcome is exploratory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from histoquant import tables
from histoquant.errors import StudyError
from histoquant.settings import MARKERS, Marker
from histoquant.tables import Column

Role = Literal["primary", "secondary", "exploratory"]
Direction = Literal["lower", "higher", ""]
ROLES: tuple[Role, ...] = get_args(Role)

NO_PLAN = (
    "No plan was given, so no outcome was declared primary before the arms were known: all are "
    "exploratory, adjusted by Benjamini-Hochberg"
)

# Every biological measure; what is technical (focus, white level, areas) stays out.
_P16 = {
    "positive_per_mm_dej": "lower",
    "positive_per_mm_surface": "lower",
    "positive_percent": "lower",
    "epidermis_positive_percent": "lower",
    "basal_positive_percent": "lower",
    "suprabasal_positive_percent": "lower",
    "papillary_positive_percent": "lower",
    "papillary_positive_per_mm2": "lower",
    "reticular_positive_percent": "lower",
    "reticular_positive_per_mm2": "lower",
    "h_score": "lower",
    "positive_percent_without_pigment": "lower",
}
_COL7 = {
    "integrated_od_um_mean": "higher",
    "integrated_od_um_median": "higher",
    "peak_od_mean": "higher",
    "peak_od_median": "higher",
    "continuity_percent": "higher",
    "gap_length_median_um": "lower",
    "fwhm_um_median": "",
}
_BOTH = {
    "epidermis_thickness_um_mean": "higher",
    "interdigitation_index": "higher",
    "ridges_per_mm": "higher",
    "ridge_height_um_median": "higher",
}
_DIRECTIONS: dict[str, dict[str, str]] = {"p16": _P16 | _BOTH, "col7": _COL7 | _BOTH}


@dataclass(frozen=True)
class Outcome:
    """One outcome.

    Attributes
    ----------
    marker, name
        Marker and column of the marker table.
    role
        primary, secondary or exploratory.
    direction
        Which way is better; empty where that is not known.
    numerator, denominator
        Columns of a count and of its total, length or area; empty for what is no rate.
    unit, meaning
        From the column.
    """

    marker: Marker
    name: str
    role: Role = "exploratory"
    direction: Direction = ""
    numerator: str = ""
    denominator: str = ""
    unit: str = ""
    meaning: str = ""

    @property
    def key(self) -> str:
        """``marker:column``."""
        return f"{self.marker}:{self.name}"

    @property
    def is_rate(self) -> bool:
        """Whether it is a count per total, length or area."""
        return bool(self.denominator)

    @property
    def is_percent(self) -> bool:
        """Whether it is a percent of a total, so that the total bounds the count."""
        return self.is_rate and self.unit == "%"


def default_outcomes(markers: Iterable[str] = MARKERS) -> tuple[Outcome, ...]:
    """Every biological measure of `markers`, exploratory: what is compared without a plan."""
    wanted = set(markers)
    return tuple(
        _outcome(marker, name, "exploratory")
        for marker in MARKERS
        if marker in wanted
        for name in _DIRECTIONS[marker]
    )


def declared_outcomes(
    roles: Mapping[str, Sequence[str]], directions: Mapping[str, str] | None = None
) -> tuple[Outcome, ...]:
    """Outcomes as a plan declares them, primary ones first.

    Parameters
    ----------
    roles
        Role -> outcomes, ``marker:column``, or the column alone where one marker has it.
    directions
        Outcome -> "lower" or "higher", where it differs from the usual one.

    Raises
    ------
    StudyError
        With every unknown role, outcome and direction, and every outcome declared twice.
    """
    problems = [f"role {r!r} is not one of {', '.join(ROLES)}" for r in roles if r not in ROLES]
    outcomes: dict[str, Outcome] = {}
    for role in ROLES:
        for text in roles.get(role, ()):
            found, problem = _find(text, role)
            if found and found.key in outcomes:
                problem = f"{found.key} is declared twice"
            elif found:
                outcomes[found.key] = found
            problems += [problem] if problem else []
    for text, direction in (directions or {}).items():
        found, problem = _find(text, "exploratory")
        if direction not in ("lower", "higher"):
            problem = problem or f"direction {direction!r} of {text} is not lower or higher"
        elif found and found.key not in outcomes:
            problem = f"a direction is given for {found.key}, which is no outcome of the plan"
        if problem:
            problems.append(problem)
        elif found:
            outcomes[found.key] = _outcome(
                found.marker, found.name, outcomes[found.key].role, direction
            )
    if problems:
        raise StudyError("outcomes that cannot be used:\n" + "\n".join(f"  {p}" for p in problems))
    return tuple(outcomes.values())


def planned_outcomes(
    roles: Mapping[str, Sequence[str]],
    directions: Mapping[str, str],
    margins: Iterable[str],
    found: Sequence[Outcome] | None = None,
) -> tuple[Outcome, ...]:
    """Outcomes of a plan: those it declares, or all of `found` where it declares none.

    Parameters
    ----------
    roles, directions
        As `declared_outcomes` takes them.
    margins
        Outcomes that have a margin, ``marker:column`` or the column alone.
    found
        Outcomes that can be analysed; all that there are while that is not known.

    Raises
    ------
    StudyError
        As `declared_outcomes`, and for margins of what is no outcome of the plan.
    """
    if not any(roles.values()):
        there = default_outcomes() if found is None else found
        roles = {"exploratory": [o.key for o in there]}
    outcomes = declared_outcomes(roles, directions)
    known = {name for o in outcomes for name in (o.key, o.name)}
    if unknown := sorted(set(margins) - known):
        raise StudyError(
            f"the plan has a margin for {', '.join(unknown)}, which is no outcome of it"
        )
    return outcomes


def numeric_columns(marker: Marker) -> dict[str, Column]:
    """Columns of `marker` an outcome may be, by name; limits are none."""
    return {
        c.name: c
        for c in tables.measured_columns(marker)
        if c.dtype in ("float64", "int64") and not c.name.endswith(("_low", "_high"))
    }


def _find(text: str, role: Role) -> tuple[Outcome | None, str]:
    """The outcome that `text` names, or why there is none."""
    before, colon, after = text.strip().rpartition(":")
    having = [m for m in MARKERS if after in numeric_columns(m) and (not colon or m == before)]
    if len(having) == 1:
        return _outcome(having[0], after, role), ""
    if having:
        choices = " or ".join(f"{m}:{after}" for m in having)
        return None, f"{text!r} is measured on several markers: write {choices}"
    return None, (
        f"{text!r} is no outcome: write marker:column with a marker of {', '.join(MARKERS)} and a "
        "numeric column of markers.csv"
    )


def _outcome(marker: Marker, name: str, role: Role, direction: str | None = None) -> Outcome:
    column = numeric_columns(marker)[name]
    better = _DIRECTIONS[marker].get(name, "") if direction is None else direction
    rate = column.pool if column.pool.how in ("percent", "rate") else None
    return Outcome(
        marker=marker,
        name=name,
        role=role,
        direction="lower" if better == "lower" else "higher" if better == "higher" else "",
        numerator=rate.top if rate else "",
        denominator=rate.bottom if rate else "",
        unit=column.unit,
        meaning=column.meaning,
    )
