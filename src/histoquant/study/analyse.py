"""All analyses of one outcome, in the order in which a reader meets them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from histoquant.study.adequacy import (
    adequacy_rows,
    adequacy_sentence,
    sample_adequacy,
    sampling_share,
)
from histoquant.study.baseline import FourPoints, Reversal, Yardstick, read_reversal
from histoquant.study.contrasts import Contrast, compare, contrast_rows, influence_sentence
from histoquant.study.counts import compare_counts, count_sentence
from histoquant.study.design import Design
from histoquant.study.flow import flow_table
from histoquant.study.means import counted, finite, interval_text, p_text, pair_effects, unit_of
from histoquant.study.missing import Effects, at_baseline, missing_lines
from histoquant.study.missing import Line as MissingLine
from histoquant.study.mixed import mixed_contrast, sample_table, section_table
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import Pairs, make_pairs, site_values
from histoquant.study.plan import Plan
from histoquant.study.sections import Section
from histoquant.study.sensitivity import Line as SensitivityLine
from histoquant.study.sensitivity import Study, sensitivity_lines

Row = dict[str, object]

ALL_ROWS = "over all"
"""How the sentence on all visits and sections begins."""


@dataclass(frozen=True, eq=False)
class Material:
    """What a study is made from.

    Attributes
    ----------
    markers
        Marker table, checked against `design`.
    ledger
        Rows of ``ledger.csv``; None where there is none.
    sections
        The slides behind the samples; none where there is no ledger.
    automatic
        The marker table as it was before any review; None where nothing was reviewed.
    """

    design: Design
    markers: pd.DataFrame
    plan: Plan
    ledger: Sequence[Mapping[str, str]] | None
    sections: Sequence[Section]
    automatic: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Analysed:
    """What was found of one outcome.

    Attributes
    ----------
    contrast, row
        The comparison, and its row of ``contrasts.csv`` with P corrected for the others.
    flow
        Its rows of ``flow.csv``.
    sensitivity
        Of lead outcomes only: it takes every nucleus again.
    reversal
        None without a baseline in the design.
    more
        Sentences of the analyses beside the comparison: counts, influence, all visits.
    adequacy, adequacy_lines
        Whether enough junction is measured, in words and by sample; empty where the outcome is
        not taken along it.
    """

    outcome: Outcome
    pairs: Pairs
    contrast: Contrast
    row: Row
    flow: list[Row]
    missing: list[MissingLine]
    sensitivity: tuple[SensitivityLine, ...] = ()
    reversal: Reversal | None = None
    more: tuple[str, ...] = ()
    adequacy: str = ""
    adequacy_lines: Sequence[Row] = ()

    @property
    def who(self) -> Row:
        """Marker and outcome: the first columns of every table."""
        return {"marker": self.outcome.marker, "outcome": self.outcome.name}

    @property
    def reversal_rows(self) -> list[Row]:
        """Its row of ``reversal.csv``, if any."""
        if self.reversal is None:
            return []
        return [self.who | {"role": self.outcome.role} | self.reversal.row()]

    @property
    def missing_rows(self) -> list[Row]:
        """Its rows of ``missing.csv``."""
        return [self.who | line.row() for line in self.missing]

    @property
    def sensitivity_rows(self) -> list[Row]:
        """Its rows of ``sensitivity.csv``."""
        return [self.who | line.row() for line in self.sensitivity]

    @property
    def adequacy_rows(self) -> list[Row]:
        """Its rows of ``adequacy.csv``."""
        return [self.who | line for line in self.adequacy_lines]


def analyse(material: Material, outcome: Outcome, *, lead: bool) -> Analysed:
    """Everything about one outcome but the correction for the others (`correct`).

    Parameters
    ----------
    lead
        Whether readers see it first; the analyses that take long are made of these only.
    """
    design, markers, plan = material.design, material.markers, material.plan
    pairs = make_pairs(design, markers, outcome)
    contrast = compare(pairs, plan.alpha, plan.seed)
    found = Analysed(
        outcome=outcome,
        pairs=pairs,
        contrast=contrast,
        row=contrast.row(),
        flow=flow_table(design, markers, [outcome], material.ledger),
        missing=_missing(material, outcome, pairs),
        reversal=_reversal(material, outcome, pairs),
    )
    if not lead:
        return found
    study = Study(design, markers, alpha=plan.alpha)
    adequacy, lines = _adequacy(material, outcome, pairs)
    return replace(
        found,
        sensitivity=tuple(sensitivity_lines(study, outcome, material.sections, material.automatic)),
        more=tuple(_more(material, outcome, pairs)),
        adequacy=adequacy,
        adequacy_lines=lines,
    )


def correct(found: Sequence[Analysed]) -> tuple[Analysed, ...]:
    """The same with P corrected by role (`multiplicity.correct_by_role`)."""
    rows = contrast_rows([own.contrast for own in found])
    return tuple(replace(own, row=row) for own, row in zip(found, rows, strict=True))


def _more(material: Material, outcome: Outcome, pairs: Pairs) -> Iterator[str]:
    yield influence_sentence(pairs, material.plan.alpha)
    if outcome.is_rate:
        yield count_sentence(compare_counts(pairs, alpha=material.plan.alpha), material.plan.alpha)
    yield from _all_rows(material, outcome)


def _reversal(material: Material, outcome: Outcome, pairs: Pairs) -> Reversal | None:
    if pairs.baseline_treated is None or pairs.baseline_placebo is None:
        return None
    points = FourPoints(
        pairs.baseline_treated, pairs.baseline_placebo, pairs.treated, pairs.placebo
    )
    return read_reversal(points, _yardstick(material.plan, outcome))


def _yardstick(plan: Plan, outcome: Outcome) -> Yardstick:
    margin = plan.margin.get(outcome.key, plan.margin.get(outcome.name))
    return Yardstick(direction=outcome.direction, margin=margin, alpha=plan.alpha)


def _missing(material: Material, outcome: Outcome, pairs: Pairs) -> list[MissingLine]:
    values, scale, _ = pair_effects(pairs.treated, pairs.placebo)
    limits = (0.0, 100.0) if outcome.unit == "%" else (-math.inf, math.inf)
    effects = Effects(values, len(pairs.lost), scale, limits, material.plan.alpha)
    lines = missing_lines(effects)
    if material.design.baseline and pairs.lost:
        lines.append(_lost_at_baseline(material, outcome, pairs))
    return lines


def _lost_at_baseline(material: Material, outcome: Outcome, pairs: Pairs) -> MissingLine:
    before = site_values(material.design, material.markers, outcome, material.design.baseline)
    person = (before.values / 2).sum(axis=1)
    kept = np.isin(before.people, pairs.people)
    _, scale, _ = pair_effects(pairs.treated, pairs.placebo)
    return at_baseline(person[kept], person[~kept], scale, material.plan.alpha)


def _all_rows(material: Material, outcome: Outcome) -> Iterator[str]:
    """The mixed model, where there is more than one pair of values or of baselines a person."""
    design, visits = material.design, len(material.design.terms.visits)
    table, scale = section_table(design, material.sections, outcome)
    repeated = table.duplicated(["person", "site", "visit"]).any()
    if not repeated:
        if visits < 3:
            return
        table, scale = sample_table(design, material.markers, outcome)
    unit = unit_of(finite(table["value"]))
    small = table.assign(value=table["value"] / unit)
    found = mixed_contrast(small, design.baseline, material.plan.alpha)
    effect = interval_text(found.effect.times(unit), scale, material.plan.alpha)
    why = f" ({found.reason})" if found.reason else ""
    over = f"{visits} visits" if visits > 1 else ""
    over = " and ".join(filter(None, [over, f"{found.n_rows} sections" if repeated else ""]))
    yield (
        f"{ALL_ROWS} {over}, by {found.method}{why}: {effect}, {p_text(found.effect.p)}, "
        f"{counted(found.n_people, 'person', 'people')}"
    )


def _adequacy(material: Material, outcome: Outcome, pairs: Pairs) -> tuple[str, list[Row]]:
    found = sample_adequacy(material.sections, outcome, seed=material.plan.seed)
    if not found:
        return "", []
    share = sampling_share(found, pairs, material.design.sites)
    return adequacy_sentence(found, share), adequacy_rows(found)
