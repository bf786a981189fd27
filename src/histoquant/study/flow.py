"""Who was enrolled, who was lost and why, who was analysed: by people and by sites.

In a within-person trial a person is lost as soon as one site is, so that counting people
alone hides how many sites were measured and thrown away, and from which arm (CONSORT
extension to within-person trials, Pandis 2017). Both counts add up: people and sites enrolled
are those lost, those left without a partner, and those analysed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import pandas as pd

from histoquant.study.design import Design
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import SiteValues, site_values

Stage = Literal["enrolled", "lost", "unpaired", "analysed"]
COLUMNS = (
    "marker", "outcome", "visit", "stage", "people", "sites", "treated_sites", "placebo_sites",
    "reason", "who",
)  # fmt: skip
"""Columns of ``flow.csv``."""

UNPAIRED = "measured, but the person's other site was not"
_SHOWN = {"failed": "slide failed", "excluded": "slide excluded", "pending": "not measured yet"}


@dataclass(frozen=True)
class Step:
    """One box of the flow diagram.

    Attributes
    ----------
    people
        Each person is in one box of lost or analysed.
    treated_sites, placebo_sites
        Sites in this box.
    who
        The people, or for a loss the sites, with what is known beyond the reason.
    """

    stage: Stage
    people: int
    treated_sites: int
    placebo_sites: int
    reason: str = ""
    who: tuple[str, ...] = ()

    @property
    def sites(self) -> int:
        """Sites of both arms."""
        return self.treated_sites + self.placebo_sites

    def row(self) -> dict[str, object]:
        """The row of ``flow.csv``, less what it is about."""
        return {
            "stage": self.stage,
            "people": self.people,
            "sites": self.sites,
            "treated_sites": self.treated_sites,
            "placebo_sites": self.placebo_sites,
            "reason": self.reason,
            "who": "; ".join(self.who),
        }


@dataclass(frozen=True)
class _Loss:
    person: str
    arm: int  # 0 treated, 1 placebo
    reason: str
    detail: str


def flow(
    design: Design,
    markers: pd.DataFrame,
    outcome: Outcome,
    ledger: Sequence[Mapping[str, str]] | None = None,
    visit: str = "",
) -> list[Step]:
    """The flow of one outcome at one visit (the design's primary one when empty).

    Parameters
    ----------
    markers
        Marker table (`samples.read_markers`), checked against `design`.
    ledger
        Rows of ``ledger.csv``: why a slide that was received was not measured.

    Raises
    ------
    StudyError
        As `pairs.site_values`.
    """
    visit = visit or design.primary_visit
    found = site_values(design, markers, outcome, visit)
    slides = None if ledger is None else _slides(ledger, outcome.marker, visit)
    losses = [
        _loss(design, person, arm, visit, reason, slides)
        for (person, arm), reason in found.reasons.items()
    ]
    return list(_steps(found, losses))


def flow_table(
    design: Design,
    markers: pd.DataFrame,
    outcomes: Iterable[Outcome],
    ledger: Sequence[Mapping[str, str]] | None = None,
) -> list[dict[str, object]]:
    """Rows of ``flow.csv``: every outcome at every visit."""
    return [
        {"marker": outcome.marker, "outcome": outcome.name, "visit": visit} | step.row()
        for outcome in outcomes
        for visit in design.terms.visits
        for step in flow(design, markers, outcome, ledger, visit)
    ]


def _steps(found: SiteValues, losses: list[_Loss]) -> Iterator[Step]:
    n = len(found.people)
    yield Step("enrolled", n, n, n, who=found.people)
    reasons = {
        person: " and ".join(sorted({loss.reason for loss in own}))
        for person, own in groupby(sorted(losses, key=_by_person), key=_by_person)
    }
    for reason in sorted({loss.reason for loss in losses} | set(reasons.values())):
        own = [loss for loss in losses if loss.reason == reason]
        people = sum(given == reason for given in reasons.values())
        treated = sum(loss.arm == 0 for loss in own)
        who = tuple(loss.detail for loss in own)
        yield Step("lost", people, treated, len(own) - treated, reason, who)
    missing = {(loss.person, loss.arm) for loss in losses}
    partners = sorted((p, 1 - arm) for p, arm in missing if (p, 1 - arm) not in missing)
    if partners:
        treated = sum(arm == 0 for _, arm in partners)
        who = tuple(person for person, _ in partners)
        yield Step("unpaired", 0, treated, len(partners) - treated, UNPAIRED, who)
    complete = zip(found.people, found.complete, strict=True)
    kept = tuple(person for person, both in complete if both)
    yield Step("analysed", len(kept), len(kept), len(kept), who=kept)


def _by_person(loss: _Loss) -> str:
    return loss.person


def _slides(
    ledger: Iterable[Mapping[str, str]], marker: str, visit: str
) -> dict[tuple[str, str], list[Mapping[str, str]]]:
    """(person, site) -> rows of the ledger that are about this marker and visit."""
    out: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in ledger:
        is_sample = row.get("control", "none") in ("", "none")
        if is_sample and row["marker"] == marker and row["visit"] == visit:
            out.setdefault((row["person"], row["site"]), []).append(row)
    return out


def _loss(
    design: Design,
    person: str,
    arm: int,
    visit: str,
    given: str,
    slides: Mapping[tuple[str, str], list[Mapping[str, str]]] | None,
) -> _Loss:
    """Why a site has no value: what the design says first, then the ledger, then the tables."""
    site = design.sites[person][arm]
    where = f"{person} {site}"
    rows = (slides or {}).get((person, site), [])
    unmeasured = [row for row in rows if row["status"] != "done"]
    if design.reasons.get((person, site, visit)) or (person, visit) not in design.planned:
        return _Loss(person, arm, given, where)
    if not rows:
        return _Loss(person, arm, given if slides is None else f"{given}: no slide received", where)
    if len(unmeasured) < len(rows):
        return _Loss(person, arm, given, where)
    status = unmeasured[0]["status"]
    why = "; ".join(dict.fromkeys(row["reason"] for row in unmeasured if row["reason"]))
    return _Loss(person, arm, _SHOWN.get(status, status), f"{where} ({why})" if why else where)
