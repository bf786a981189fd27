"""Pairs of sites of one person: the only shape in which values reach a comparison.

A pair is complete when both sites have a finite value at the visit. A person without one is
lost for that outcome and visit, with a reason in words; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.errors import StudyError
from histoquant.study import samples
from histoquant.study.design import Design
from histoquant.study.means import difference
from histoquant.study.outcomes import Outcome

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Complete pairs of one outcome at one visit.

    Attributes
    ----------
    outcome, visit
        What was measured, and when.
    people
        Persons with a complete pair, sorted; each once.
    treated, placebo
        (n,) float64, their values, in the same order, in the outcome's unit.
    n_enrolled
        People in the design.
    lost
        Person -> why there is no complete pair. With `people`, everyone enrolled.
    baseline_treated, baseline_placebo
        (n,) float64, the same sites before treatment, NaN where missing; None without a
        baseline in the design, or when this is the baseline.
    baseline_missing
        Person of `people` -> why a baseline is missing.
    numerators, denominators
        (n, 2) float64, treated and placebo: the count, and its total, length or area, where
        the outcome is a rate; NaN where the table lacks them. None otherwise.
    """

    outcome: Outcome
    visit: str
    people: tuple[str, ...]
    treated: Floats
    placebo: Floats
    n_enrolled: int
    lost: Mapping[str, str] = field(default_factory=dict)
    baseline_treated: Floats | None = None
    baseline_placebo: Floats | None = None
    baseline_missing: Mapping[str, str] = field(default_factory=dict)
    numerators: Floats | None = None
    denominators: Floats | None = None

    def __post_init__(self) -> None:
        if len(set(self.people)) != len(self.people):
            raise StudyError(
                f"{self.outcome.key}: a person is in several pairs. The person is the unit of "
                "analysis; nuclei, bins and sections are pooled before"
            )
        sizes = {len(self.people), self.treated.size, self.placebo.size}
        if len(sizes) > 1:
            raise StudyError(f"{self.outcome.key}: people and values differ in number: {sizes}")
        if not (np.isfinite(self.treated).all() and np.isfinite(self.placebo).all()):
            raise StudyError(f"{self.outcome.key}: a pair with a value that is not finite")

    @property
    def n(self) -> int:
        """Complete pairs."""
        return len(self.people)

    @property
    def difference(self) -> Floats:
        """(n,) float64, treated minus placebo."""
        return difference(self.treated, self.placebo)


@dataclass(frozen=True)
class SiteValues:
    """One outcome of everyone enrolled at one visit, measured or not.

    Attributes
    ----------
    people
        Everyone enrolled, in the design's order.
    values
        (n_enrolled, 2) float64, treated and placebo site; NaN where missing.
    reasons
        (person, 0 for treated or 1 for placebo) -> why the value is missing.
    numerators, denominators
        (n_enrolled, 2) float64 where the outcome is a rate, else None.
    """

    people: tuple[str, ...]
    values: Floats
    reasons: Mapping[tuple[str, int], str]
    numerators: Floats | None = None
    denominators: Floats | None = None

    @property
    def complete(self) -> npt.NDArray[np.bool_]:
        """(n_enrolled,) whether both sites have a value."""
        return np.asarray(np.isfinite(self.values).all(axis=1))


def site_values(design: Design, markers: pd.DataFrame, outcome: Outcome, visit: str) -> SiteValues:
    """Values of `outcome` at `visit` for everyone enrolled.

    Parameters
    ----------
    markers
        Marker table (`samples.read_markers`), checked against `design`.

    Raises
    ------
    StudyError
        When the rows are not samples, a sample has several rows, or the column is not there.
    """
    rows = _rows(markers, outcome, visit)
    shape = (len(design.people), 2)
    values = np.full(shape, np.nan)
    counts = np.full((2, *shape), np.nan)
    reasons: dict[tuple[str, int], str] = {}
    for i, person in enumerate(design.people):
        for j, site in enumerate(design.sites[person]):
            row = rows.get((person, site))
            value, reason = _value(row, outcome.name)
            if reason:
                said = design.reasons.get((person, site, visit), "")
                reasons[person, j] = said or (
                    reason if row is not None else _unmeasured(design, outcome, person, visit)
                )
                continue
            values[i, j] = value
            if outcome.is_rate:
                names = (outcome.numerator, outcome.denominator)
                counts[:, i, j] = [_value(row, name)[0] for name in names]
    top, bottom = counts if outcome.is_rate else (None, None)
    return SiteValues(design.people, values, reasons, top, bottom)


def make_pairs(design: Design, markers: pd.DataFrame, outcome: Outcome, visit: str = "") -> Pairs:
    """Complete pairs of `outcome` at `visit` (the design's primary visit when empty).

    Raises
    ------
    StudyError
        As `site_values`.
    """
    visit = visit or design.primary_visit
    now = site_values(design, markers, outcome, visit)
    keep = now.complete
    people = tuple(p for p, kept in zip(now.people, keep, strict=True) if kept)
    lost = {
        person: _lost_reason(design, person, now.reasons)
        for person, kept in zip(now.people, keep, strict=True)
        if not kept
    }
    before = None
    if design.baseline and design.baseline != visit:
        before = site_values(design, markers, outcome, design.baseline)
    return Pairs(
        outcome=outcome,
        visit=visit,
        people=people,
        treated=now.values[keep, 0],
        placebo=now.values[keep, 1],
        n_enrolled=design.n_enrolled,
        lost=lost,
        baseline_treated=before.values[keep, 0] if before else None,
        baseline_placebo=before.values[keep, 1] if before else None,
        baseline_missing=_baseline_missing(design, people, before),
        numerators=None if now.numerators is None else now.numerators[keep],
        denominators=None if now.denominators is None else now.denominators[keep],
    )


def pairs_from_arrays(
    outcome: Outcome,
    treated: Sequence[float] | Floats,
    placebo: Sequence[float] | Floats,
    people: Sequence[str] = (),
) -> Pairs:
    """Pairs of plain values, for simulations and pilots; pairs that are not finite are lost."""
    first, second = (np.asarray(v, np.float64).ravel() for v in (treated, placebo))
    if first.size != second.size:
        raise StudyError(f"{first.size} treated and {second.size} placebo values make no pairs")
    names = tuple(people) or tuple(f"{i + 1:03d}" for i in range(first.size))
    keep = np.isfinite(first) & np.isfinite(second)
    kept = tuple(n for n, k in zip(names, keep, strict=True) if k)
    lost = {n: "a value is not finite" for n, k in zip(names, keep, strict=True) if not k}
    return Pairs(outcome, "", kept, first[keep], second[keep], len(names), lost)


def _rows(
    markers: pd.DataFrame, outcome: Outcome, visit: str
) -> dict[tuple[str, str], Mapping[str, object]]:
    """(person, site) -> row of the marker table."""
    samples.require_samples(markers.columns, "the marker table")
    markers = samples.samples_only(markers)
    own = markers[(markers["marker"] == outcome.marker) & (markers["visit"] == visit)]
    repeated = samples.repeated_samples(own)
    if repeated:
        raise StudyError("\n".join(repeated))
    if len(own) and outcome.name not in own:
        raise StudyError(f"the marker table has no column {outcome.name} ({outcome.key})")
    names = ("person", "site", outcome.name, outcome.numerator, outcome.denominator, "reasons")
    table = own[[name for name in dict.fromkeys(names) if name in own]]
    return {(str(r["person"]), str(r["site"])): r for r in table.to_dict("records")}  # type: ignore[misc]


def _value(row: Mapping[str, object] | None, name: str) -> tuple[float, str]:
    """A finite value, or NaN and why."""
    if row is None:
        return np.nan, "no sample"
    value = row.get(name)
    number = float(value) if isinstance(value, int | float | np.number) else np.nan
    if np.isfinite(number):
        return number, ""
    if np.isinf(number):
        return np.nan, f"{name} is infinite"
    return np.nan, samples.reasons_of(row.get("reasons")).get(name, f"{name} not measured")


def _unmeasured(design: Design, outcome: Outcome, person: str, visit: str) -> str:
    if (person, visit) not in design.planned:
        return f"not in the design at {visit}"
    return f"no {outcome.marker} sample at {visit}"


def _lost_reason(design: Design, person: str, reasons: Mapping[tuple[str, int], str]) -> str:
    """One reason for a pair: that of both sites where they share it, else by site."""
    arms = (design.terms.treated, design.terms.placebo)
    given = [(j, reasons[person, j]) for j in (0, 1) if (person, j) in reasons]
    if len(given) == 2 and given[0][1] == given[1][1]:
        return given[0][1]
    return "; ".join(f"{design.sites[person][j]} ({arms[j]}): {reason}" for j, reason in given)


def _baseline_missing(
    design: Design, people: Sequence[str], before: SiteValues | None
) -> dict[str, str]:
    if before is None:
        return {}
    return {
        person: _lost_reason(design, person, before.reasons)
        for person in people
        if any((person, j) in before.reasons for j in (0, 1))
    }
