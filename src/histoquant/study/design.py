"""Who got what: person x site x visit -> arm, checked as a whole.

``design.csv`` is the randomisation list, so it names every person enrolled and both of
their sites, also those of people who were lost later. What is planned and was not measured
is data (a lost pair, with its reason), never an error. What contradicts itself, or leaves a
measured sample without an arm, is an error; all of it is reported at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from histoquant.errors import DesignError
from histoquant.study import samples
from histoquant.study.terms import Row, Terms, resolve_arms, resolve_visits

REQUIRED = ("person", "site", "visit", "arm")
REASON = "reason"
"""Optional column: why a sample of the row is not there, such as "withdrew"."""


@dataclass(frozen=True)
class Design:
    """A design that agrees with itself.

    Attributes
    ----------
    terms
        Arms and visits, none of them empty except `Terms.baseline` where there is none.
    people
        Everyone enrolled, sorted.
    sites
        person -> (treated site, placebo site).
    planned
        Pairs (person, visit) that the design lists.
    reasons
        (person, site, visit) -> why that sample is not there, from the column ``reason``.
    notes
        What a reader should know: what was inferred, who is not there, how sites were allotted.
    sha256
        Of the file.
    """

    path: Path
    terms: Terms
    people: tuple[str, ...]
    sites: Mapping[str, tuple[str, str]]
    planned: frozenset[tuple[str, str]]
    reasons: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def n_enrolled(self) -> int:
        """People in the design, measured or lost."""
        return len(self.people)

    @property
    def baseline(self) -> str:
        """Visit before treatment; empty where there is none."""
        return self.terms.baseline

    @property
    def follow_ups(self) -> tuple[str, ...]:
        """Visits after the baseline, in order."""
        return tuple(v for v in self.terms.visits if v != self.baseline)

    @property
    def primary_visit(self) -> str:
        """Visit of the primary comparison."""
        return self.terms.primary_visit

    def arm(self, person: str, site: str) -> str:
        """Arm of a person's site; empty for a site that is in no comparison."""
        arms = (self.terms.treated, self.terms.placebo)
        return dict(zip(self.sites[person], arms, strict=True)).get(site, "")


def read_design(
    path: Path | str, markers: pd.DataFrame | None = None, terms: Terms | None = None
) -> Design:
    """Read a design and check it, against itself and against the samples.

    Parameters
    ----------
    path
        CSV file with the columns person, site, visit, arm; ``reason`` says why a sample is not
        there; other columns are ignored, with a note.
    markers
        Marker table (`samples.read_markers`); every sample in it needs an arm.
    terms
        From the plan. Without it the arms are told apart by name, and the notes say so.

    Raises
    ------
    DesignError
        With every contradiction in one message.
    StudyError
        When the file cannot be read, or the rows of `markers` are not samples.
    """
    path = Path(path)
    header, lines = samples.read_csv(path, "design")
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise DesignError(
            f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(header) or 'none'}. "
            f"A design has {', '.join(REQUIRED)}, one row per person, site and visit"
        )
    given = terms or Terms()
    all_rows = [
        Row(n, r["person"], r["site"], r["visit"], r["arm"], r.get(REASON, "")) for n, r in lines
    ]
    problems = [] if all_rows else ["it has a header and no rows"]
    problems += _blanks(all_rows) + _repeats(all_rows)
    rows = [r for r in all_rows if r.person and r.site and r.visit and r.arm]
    arms, arm_problems, arm_notes = resolve_arms(rows, given)
    visits, visit_problems, visit_notes = resolve_visits(rows, arms)
    compared = [r for r in rows if r.arm not in arms.other_arms]
    problems += arm_problems + visit_problems
    problems += _people(compared)
    if markers is not None:
        problems += check_samples(rows, markers)
    if problems:
        listed = "\n".join(f"  {p}" for p in problems)
        raise DesignError(f"{path}: {len(problems)} problem(s):\n{listed}")
    ignored = [name for name in header if name not in (*REQUIRED, REASON)]
    notes = arm_notes + visit_notes
    notes += [f"columns not read: {', '.join(ignored)}"] if ignored else []
    design = _build(path, compared, visits)
    return _with_notes(design, notes, markers)


def check_samples(rows: Iterable[Row], markers: pd.DataFrame) -> list[str]:
    """What is wrong between the rows of a design and the samples measured."""
    samples.require_samples(markers.columns, "the marker table")
    markers = samples.samples_only(markers)
    problems = samples.repeated_samples(markers)
    planned = {(r.person, r.site, r.visit) for r in rows}
    people = {person for person, _, _ in planned}
    keys = (markers[name].astype(str) for name in ("person", "site", "visit"))
    unplanned = sorted(set(zip(*keys, strict=True)) - planned)
    strangers = sorted({person for person, _, _ in unplanned} - people)
    problems += [
        f"person {person} was measured and is not in the design: add the person's sites and "
        "arms, or correct the name in the manifest"
        for person in strangers
    ]
    problems += [
        f"the sample of {person}, {site or '(no site)'}, {visit or '(no visit)'} is measured and "
        "has no row in the design: nobody can say which arm it is"
        for person, site, visit in unplanned
        if person in people
    ]
    return problems


def _blanks(rows: Iterable[Row]) -> list[str]:
    return [
        f"line {row.line}: {', '.join(blank)} is empty"
        for row in rows
        if (blank := [name for name in REQUIRED if not getattr(row, name)])
    ]


def _repeats(rows: Iterable[Row]) -> list[str]:
    lines: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.person and row.site and row.visit:
            lines.setdefault((row.person, row.site, row.visit), []).append(row)
    return [
        f"{', '.join(key)} is on lines {', '.join(str(r.line) for r in group)}"
        + (", in different arms" if len({r.arm for r in group}) > 1 else "")
        for key, group in lines.items()
        if len(group) > 1
    ]


def _people(rows: Iterable[Row]) -> list[str]:
    """Problems of people: one site, two sites in an arm, changed arms, visits without partner."""
    problems: list[str] = []
    people: dict[str, list[Row]] = {}
    for row in rows:
        people.setdefault(row.person, []).append(row)
    for person, own in people.items():
        arms: dict[str, set[str]] = {}
        for row in own:
            arms.setdefault(row.site, set()).add(row.arm)
        problems += _site_problems(person, arms) or list(_partners(person, own))
    return problems


def _site_problems(person: str, arms: Mapping[str, set[str]]) -> list[str]:
    changed = [site for site, names in arms.items() if len(names) > 1]
    if changed:
        return [f"{person}: {', '.join(changed)} changes its arm from row to row"]
    if len(arms) == 1:
        (site,) = arms
        return [f"{person} has one site ({site}): the design lists both, also of people who left"]
    sites: dict[str, list[str]] = {}
    for site, (arm,) in arms.items():
        sites.setdefault(arm, []).append(site)
    return [
        f"{person}: {' and '.join(own)} are both in the arm {arm}"
        for arm, own in sites.items()
        if len(own) > 1
    ]


def _partners(person: str, rows: Iterable[Row]) -> Iterator[str]:
    sites: dict[str, list[str]] = {}
    for row in rows:
        sites.setdefault(row.visit, []).append(row.site)
    for visit, own in sites.items():
        if len(set(own)) == 1:
            yield f"{person}, {visit}: {own[0]} has no partner at this visit"


def _build(path: Path, rows: Sequence[Row], terms: Terms) -> Design:
    sites = {(r.person, r.arm): r.site for r in rows}
    people = tuple(sorted({r.person for r in rows}))
    return Design(
        path=path,
        terms=terms,
        people=people,
        sites={p: (sites[p, terms.treated], sites[p, terms.placebo]) for p in people},
        planned=frozenset((r.person, r.visit) for r in rows),
        reasons={(r.person, r.site, r.visit): r.reason for r in rows if r.reason},
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _with_notes(design: Design, notes: list[str], markers: pd.DataFrame | None) -> Design:
    treated = [design.sites[p][0] for p in design.people]
    counts = {site: treated.count(site) for site in sorted(set(treated))}
    allotted = ", ".join(f"{site} in {n}" for site, n in counts.items())
    notes = [*notes, f"treated site: {allotted} of {design.n_enrolled} people"]
    if len(counts) == 1 and design.n_enrolled > 1:
        notes.append("the same site is treated in everyone: arm and side cannot be told apart")
    if markers is not None:
        measured = set(samples.samples_only(markers)["person"].astype(str))
        lost = [p for p in design.people if p not in measured]
        if lost:
            notes.append(f"enrolled and never measured: {', '.join(lost)}")
    return replace(design, notes=tuple(notes))
