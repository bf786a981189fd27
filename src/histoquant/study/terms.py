"""Which arms and visits a design compares: as a plan says, or by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

_CONTROL = re.compile(r"(?<![a-z])(?:placebo|vehicle|controls?|sham|untreated)(?![a-z])")
_BASELINE_WORDS = ("baseline", "before", "pre", "screening")
_DAYS = {"day": 1.0, "week": 7.0, "month": 365.25 / 12, "year": 365.25}


@dataclass(frozen=True)
class Terms:
    """What a plan says of arms and visits; empty where it leaves that to the design.

    Attributes
    ----------
    treated, placebo
        Names of the two arms that are compared.
    other_arms
        Arms the design may name that are in no comparison.
    baseline
        Visit before treatment.
    visits
        All visits, in order of time.
    primary_visit
        Visit of the primary comparison; the last one when empty.
    """

    treated: str = ""
    placebo: str = ""
    other_arms: tuple[str, ...] = ()
    baseline: str = ""
    visits: tuple[str, ...] = ()
    primary_visit: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a design."""

    line: int
    person: str
    site: str
    visit: str
    arm: str
    reason: str = ""


def resolve_arms(rows: Sequence[Row], terms: Terms) -> tuple[Terms, list[str], list[str]]:
    """Terms with both arms named, or problems; and notes."""
    lines: dict[str, list[int]] = {}
    for row in rows:
        lines.setdefault(row.arm, []).append(row.line)
    found = [a for a in lines if a not in terms.other_arms]
    notes = [f"arm {a} is in no comparison" for a in terms.other_arms if a in lines]
    if terms.treated and terms.placebo:
        problems = list(_unknown_arms(found, lines, (terms.treated, terms.placebo)))
        return terms, problems, notes
    if not rows:
        return terms, [], notes
    if len(found) != 2:
        counts = ", ".join(f"{a!r} on {len(lines[a])} line(s)" for a in found)
        return terms, [f"two arms are compared; found {counts}. A misspelt one?"], notes
    absent = [_no_row(a) for a in (terms.treated, terms.placebo) if a and a not in found]
    if absent:
        return terms, absent, notes
    controls = [a for a in found if _CONTROL.search(a.casefold())]
    named = terms.placebo
    if not named and terms.treated:
        named = next(a for a in found if a != terms.treated)
    elif not named and len(controls) == 1:
        named = controls[0]
    if named not in found:
        return terms, [f"cannot tell which arm is the placebo: {' or '.join(found)}; name it in "
                       "the plan"], notes  # fmt: skip
    treated = next(a for a in found if a != named)
    how = "by its name" if not terms.treated else "because the plan names the treated one"
    notes.append(
        f"taken for the treated arm because the plan names the placebo: {treated}"
        if terms.placebo
        else f"taken for the placebo {how}: {named}; treated: {treated}"
    )
    return replace(terms, treated=treated, placebo=named), [], notes


def _unknown_arms(
    found: Iterable[str], lines: Mapping[str, list[int]], known: tuple[str, str]
) -> Iterator[str]:
    for arm in found:
        if arm not in known:
            where = ", ".join(map(str, lines[arm][:5])) + ("" if len(lines[arm]) < 6 else ", ...")
            yield f"unknown arm {arm!r} on line(s) {where}: the plan has {' and '.join(known)}"
    for arm in known:
        if arm not in lines:
            yield _no_row(arm)


def _no_row(arm: str) -> str:
    return f"no row has the arm {arm!r} that the plan names"


def resolve_visits(rows: Iterable[Row], terms: Terms) -> tuple[Terms, list[str], list[str]]:
    """Terms with the visits in order, the baseline and the primary visit; problems; notes."""
    found = list(dict.fromkeys(r.visit for r in rows))
    notes: list[str] = []
    problems = [
        f"visit {v!r} is not among the plan's: {', '.join(terms.visits)}"
        for v in found
        if terms.visits and v not in terms.visits
    ]
    ordered = list(terms.visits) or _in_order(found)
    for name, visit in (("baseline", terms.baseline), ("primary visit", terms.primary_visit)):
        if visit and visit not in ordered:
            problems.append(f"the plan's {name} {visit!r} is no visit: {', '.join(ordered)}")
    baseline = terms.baseline
    if not baseline and len(ordered) > 1 and _is_baseline(ordered[0]):
        baseline = ordered[0]
        notes.append(f"taken for the baseline by its name: {baseline}")
    later = [v for v in ordered if v != baseline]
    if len(later) > 1 and not terms.visits and any(_days(v) is None for v in later):
        problems.append(
            f"cannot tell the order in time of the visits {', '.join(later)}: give visits.order, "
            "and the baseline, in the plan"
        )
    if baseline in ordered:
        ordered = [baseline, *(v for v in ordered if v != baseline)]
    if len(ordered) > 1 and not terms.visits:
        notes.append(f"visits taken in the order {', '.join(ordered)}")
    last = terms.primary_visit or (ordered[-1] if ordered else "")
    if len(ordered) > 1 and not terms.primary_visit:
        notes.append(f"the comparison is at the last visit, {last}")
    new = replace(terms, baseline=baseline, visits=tuple(ordered), primary_visit=last)
    return new, problems, notes


def _in_order(visits: Sequence[str]) -> list[str]:
    """Visits by their time where every name tells it; as they come otherwise."""
    times = {visit: _days(visit) for visit in visits}
    if any(time is None for time in times.values()):
        return sorted(visits, key=lambda v: not _is_baseline(v))
    return sorted(visits, key=lambda v: times[v] or 0.0)


def _days(visit: str) -> float | None:
    """Days since the start that a name such as ``month_8`` or ``12 weeks`` tells."""
    name = visit.casefold().strip()
    if name in _BASELINE_WORDS:
        return 0.0
    unit = next((u for u in _DAYS if u in name), "")
    number = re.findall(r"\d+(?:\.\d+)?", name)
    if len(number) != 1 or not unit:
        return None
    return float(number[0]) * _DAYS[unit]


def _is_baseline(visit: str) -> bool:
    return _days(visit) == 0.0
