"""Does the conclusion hang on a choice: threshold, pigment, reviewers' edits, staining batch.

Each analysis is the completers' comparison again, from other numbers: the effect with its t
interval, on the scale of `means.pair_effects`. Counts of nuclei are taken again from each
slide's table, summed over the sections of a sample as `histoquant.pooling` does, and divided
once; a section that lacks a figure stays out of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from histoquant.study.design import Design
from histoquant.study.means import Mean, Scale, mean_of, pair_effects, shown
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import Pairs, make_pairs
from histoquant.study.recount import Rule, recounted, threshold_of
from histoquant.study.sections import Section

COLUMNS = (
    "marker", "outcome", "analysis", "level", "n_pairs", "scale", "effect", "low", "high", "p",
    "note",
)  # fmt: skip
"""Columns of the sensitivity table. Effects on the log scale are ratios treated / placebo."""

USED = "the cut-off that was used"
THRESHOLD, PIGMENT, EDITS, BATCH = "threshold", "pigment", "edits", "batch"


@dataclass(frozen=True)
class Line:
    """One comparison of a sensitivity analysis; the mean is on the scale of the analysis.

    Attributes
    ----------
    analysis
        threshold, pigment, edits or batch.
    level
        The threshold in OD, or what was left out or kept.
    note
        What a reader must know of this line; why there is none, where there is none.
    """

    analysis: str
    level: str
    mean: Mean
    scale: Scale = "log"
    note: str = ""

    def row(self) -> dict[str, object]:
        """The line as people read it, less who the outcome is."""
        return {
            "analysis": self.analysis,
            "level": self.level,
            "n_pairs": self.mean.n,
            "scale": "ratio" if self.scale == "log" else "difference",
            "effect": shown(self.mean.estimate, self.scale),
            "low": shown(self.mean.low, self.scale),
            "high": shown(self.mean.high, self.scale),
            "p": self.mean.p,
            "note": "; ".join(filter(None, [self.note, self.mean.reason])),
        }


@dataclass(frozen=True, eq=False)
class Study:
    """What every analysis of this module starts from.

    Attributes
    ----------
    design, markers
        The design and the marker table checked against it.
    visit
        Visit of the comparison; the design's primary one when empty.
    alpha
        One less the confidence.
    """

    design: Design
    markers: pd.DataFrame
    visit: str = ""
    alpha: float = 0.05

    def pairs(self, outcome: Outcome, markers: pd.DataFrame | None = None) -> Pairs:
        """Pairs of `outcome`, from another marker table where one is given."""
        table = self.markers if markers is None else markers
        return make_pairs(self.design, table, outcome, self.visit)

    def line(self, analysis: str, level: str, pairs: Pairs, note: str = "") -> Line:
        """The comparison of `pairs` as a line."""
        effects, scale, why = pair_effects(pairs.treated, pairs.placebo)
        note = "; ".join(filter(None, [note, why]))
        return Line(analysis, level, mean_of(effects, self.alpha), scale, note)


def by_threshold(study: Study, outcome: Outcome, sections: Sequence[Section]) -> list[Line]:
    """The comparison at every cut-off of the sweep, and at the one that was used.

    Only rates of p16-positive nuclei have a cut-off per nucleus; for others there is no line.

    Parameters
    ----------
    sections
        p16 slides, from `sections.read_sections`.
    """
    if not _is_nuclear(outcome):
        return []
    own = [s for s in sections if s.marker == outcome.marker]
    used = sorted({cut for s in own if math.isfinite(cut := threshold_of(s))})
    sweeps = [tuple(s.settings.get("p16", {}).get("sweep_od", ())) for s in own]
    common = set.intersection(*map(set, sweeps)) if sweeps else set()
    note = "" if len(set(sweeps)) < 2 else "slides differ in their sweep: cut-offs they share"
    cuts = sorted(common | (set(used) if len(used) == 1 else set()))
    lines = []
    if len(used) > 1:
        why = f"cut-offs from {used[0]:g} to {used[-1]:g} OD, one per staining batch or slide"
        lines.append(study.line(THRESHOLD, "as used", study.pairs(outcome), why))
    tables = recounted(own, outcome, [Rule(cut) for cut in cuts])
    for cut, table in zip(cuts, tables, strict=True):
        word = "; ".join(filter(None, [USED if [cut] == used else "", note]))
        lines.append(study.line(THRESHOLD, f"{cut:g}", study.pairs(outcome, table), word))
    if own and not cuts:
        lines.append(Line(THRESHOLD, "none", Mean(0), note="the slides share no cut-off"))
    return lines


def by_pigment(study: Study, outcome: Outcome, sections: Sequence[Section]) -> list[Line]:
    """The comparison with and without nuclei whose brown may be melanin."""
    if not _is_nuclear(outcome) or "without_pigment" in outcome.numerator:
        return []
    own = [s for s in sections if s.marker == outcome.marker]
    own = [s for s in own if not np.isnan(s.number("n_pigment_suspected"))]  # it takes colours
    if not own:
        return []
    suspected = sum(s.number("n_pigment_suspected") for s in own)
    note = f"nuclei suspected on {len(own)} slides: {suspected:.0f}"
    (table,) = recounted(own, outcome, [Rule(without_pigment=True)])
    return [
        study.line(PIGMENT, "with suspected pigment", study.pairs(outcome)),
        study.line(PIGMENT, "without suspected pigment", study.pairs(outcome, table), note),
    ]


def by_edits(study: Study, outcome: Outcome, automatic: pd.DataFrame | None = None) -> list[Line]:
    """The comparison with and without what reviewers changed.

    Parameters
    ----------
    automatic
        The marker table as it was before any review, where it was kept.
    """
    rows = study.markers[study.markers["marker"] == outcome.marker]
    as_is = study.line(EDITS, "with edits", study.pairs(outcome))
    if "n_edits" not in rows:
        return [replace(as_is, level="as measured", note="the table does not say what was edited")]
    edited = rows[(rows["n_edits"].fillna(0) > 0) | _has_other_sections(rows, automatic)]
    rejected = 0 if automatic is None else _lost(automatic, rows, outcome)
    if edited.empty and not rejected:
        return [replace(as_is, level="as measured", note="no sample has a reviewer's edits")]
    n = f"{len(edited)} of {len(rows)} samples have edits"
    n += f", {rejected} were rejected" if rejected else ""
    unseen = study.markers.drop(index=edited.index)
    lines = [replace(as_is, note="; ".join(filter(None, [n, as_is.note])))]
    if automatic is None:
        lines.append(Line(EDITS, "without edits", Mean(0),
                          note="the results before review were not kept"))  # fmt: skip
    else:
        lines.append(study.line(EDITS, "without edits", study.pairs(outcome, automatic)))
    left_out = "edited samples left out, with their partners"
    return [*lines, study.line(EDITS, "unedited samples", study.pairs(outcome, unseen), left_out)]


def _has_other_sections(rows: pd.DataFrame, automatic: pd.DataFrame | None) -> pd.Series[bool]:
    """Which samples a reviewer left some sections out of: pooled from others than before."""
    told = [c for c in ("slides", "n_sections") if automatic is not None and c in automatic]
    told = [c for c in told if c in rows]
    if automatic is None or not told:
        return pd.Series(False, index=rows.index)
    keys = ["marker", "person", "site", "visit"]
    before = automatic.set_index(keys)[told]
    before = before[~before.index.duplicated()].reindex(pd.MultiIndex.from_frame(rows[keys]))
    now = rows[told].astype(str).to_numpy()
    differs = (before.astype(str).to_numpy() != now) & before.notna().to_numpy()
    return pd.Series(differs.any(axis=1), index=rows.index)


def _lost(automatic: pd.DataFrame, rows: pd.DataFrame, outcome: Outcome) -> int:
    """Samples of the automatic table that a reviewer left none of."""
    before = automatic[automatic["marker"] == outcome.marker]
    keys = ["person", "site", "visit"]
    return len(before[~before[keys].agg(tuple, axis=1).isin(set(rows[keys].agg(tuple, axis=1)))])


def by_batch(study: Study, outcome: Outcome, sections: Iterable[Section]) -> list[Line]:
    """The comparison within each staining batch, and without each of them.

    A pair whose sites were stained in different batches compares batches as well as arms, so
    these pairs are also taken on their own.
    """
    batches = _batches(sections, outcome.marker)
    pairs = study.pairs(outcome)
    at = [_batch_of(study, batches, person, pairs.visit) for person in pairs.people]
    named = sorted({b for b in at if b})
    if not named and not any(b is None for b in at):
        return [study.line(BATCH, "all", pairs, "the manifest names no staining batch")]
    lines = [study.line(BATCH, b, _kept(pairs, [x == b for x in at])) for b in named]
    if len(named) > 1:
        lines += [
            study.line(BATCH, f"without {b}", _kept(pairs, [x != b for x in at])) for b in named
        ]
    split = [x is None for x in at]
    if any(split):
        note = "the two sites were stained in different batches: arm and batch are confounded"
        lines.append(study.line(BATCH, "split over batches", _kept(pairs, split), note))
        whole = _kept(pairs, [not s for s in split])
        lines.append(study.line(BATCH, "pairs within a batch", whole))
    return lines


def _is_nuclear(outcome: Outcome) -> bool:
    return outcome.is_rate and outcome.marker == "p16" and "positive" in outcome.numerator


def _batches(
    sections: Iterable[Section], marker: str
) -> Mapping[tuple[str, str, str], frozenset[str]]:
    found: dict[tuple[str, str, str], set[str]] = {}
    for section in sections:
        if section.marker == marker and section.batch:
            found.setdefault(section.sample, set()).add(section.batch)
    return {key: frozenset(names) for key, names in found.items()}


def _batch_of(
    study: Study,
    batches: Mapping[tuple[str, str, str], frozenset[str]],
    person: str,
    visit: str,
) -> str | None:
    """The one batch of a pair; None when it is in several, empty when none is named."""
    sites = study.design.sites[person]
    names = [batches.get((person, site, visit), frozenset()) for site in sites]
    if not any(names):
        return ""
    union = frozenset.union(*names)
    return next(iter(union)) if len(union) == 1 and all(names) else None


def _kept(pairs: Pairs, keep: Sequence[bool]) -> Pairs:
    """Some of the pairs; the others are lost to this comparison only."""
    mask = np.asarray(keep, bool)
    return Pairs(
        outcome=pairs.outcome,
        visit=pairs.visit,
        people=tuple(p for p, k in zip(pairs.people, keep, strict=True) if k),
        treated=pairs.treated[mask],
        placebo=pairs.placebo[mask],
        n_enrolled=pairs.n_enrolled,
    )


def sensitivity_lines(
    study: Study,
    outcome: Outcome,
    sections: Sequence[Section],
    automatic: pd.DataFrame | None = None,
) -> Iterator[Line]:
    """Every analysis of one outcome."""
    yield from by_threshold(study, outcome, sections)
    yield from by_pigment(study, outcome, sections)
    yield from by_edits(study, outcome, automatic)
    yield from by_batch(study, outcome, sections)
