"""Positive nuclei counted again from each slide's table, under another rule.

Counts are summed over the sections of a sample and divided once, as `histoquant.pooling` does; a
section that lacks a figure stays out of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.positivity import deciding_od
from histoquant.settings import P16Settings
from histoquant.study.outcomes import Outcome
from histoquant.study.sections import Section

_COMPARTMENTS = {
    "epidermis": ("epidermis_basal", "epidermis_suprabasal"),
    "basal": ("epidermis_basal",),
    "suprabasal": ("epidermis_suprabasal",),
    "papillary": ("dermis_papillary",),
    "reticular": ("dermis_reticular",),
}
_HAZE = ("min_over_ring_od", "haze_below_od")


@dataclass(frozen=True)
class Rule:
    """Which nuclei count: positive from a threshold on, as measured when there is none."""

    threshold_od: float | None = None
    without_pigment: bool = False


def recounted(
    sections: Iterable[Section], outcome: Outcome, rules: Sequence[Rule]
) -> list[pd.DataFrame]:
    """Marker tables of one outcome, counted again from the nuclei: one per rule.

    Parameters
    ----------
    sections
        Slides of the outcome's marker; one table of nuclei is in memory at a time.
    outcome
        A rate of positive nuclei.
    """
    sums: list[dict[tuple[str, str, str], list[tuple[float, float]]]] = [{} for _ in rules]
    for section in sections:
        nuclei = _of_outcome(section, outcome)
        for rule, samples in zip(rules, sums, strict=True):
            if nuclei is not None:
                counts = _count(section, nuclei, outcome, rule)
                samples.setdefault(section.sample, []).append(counts)
    return [_marker_table(samples, outcome) for samples in sums]


def _of_outcome(section: Section, outcome: Outcome) -> pd.DataFrame | None:
    """Nuclei of one section that an outcome is about; None where the section lacks it."""
    figures = [outcome.numerator, outcome.denominator]
    if not outcome.is_percent:  # where no nuclei were found there is a length and still no rate
        figures.append(outcome.name)
    if any(np.isnan(section.number(name)) for name in figures):
        return None
    nuclei = section.nuclei()
    own = nuclei[~nuclei["excluded"].astype(bool)]
    group = outcome.numerator.removeprefix("n_").split("_")[0]
    if group in _COMPARTMENTS:
        own = own[own["compartment"].isin(_COMPARTMENTS[group])]
    if not outcome.numerator.endswith("_measured"):
        return own
    if "beside_measured_junction" not in own:
        return None
    return own[own["beside_measured_junction"].astype(bool)]


def _count(
    section: Section, nuclei: pd.DataFrame, outcome: Outcome, rule: Rule
) -> tuple[float, float]:
    """Positive nuclei of one section, and what they are divided by."""
    if rule.without_pigment or "without_pigment" in outcome.numerator:
        nuclei = nuclei[~nuclei["pigment_suspected"].astype(bool)]
    if rule.threshold_od is None:
        positive = nuclei["positive"].astype(bool)
    else:
        positive = pd.Series(_deciding_od(section, nuclei) >= rule.threshold_od)
    total = float(len(nuclei)) if outcome.is_percent else section.number(outcome.denominator)
    return float(positive.sum()), total


def _marker_table(
    samples: Mapping[tuple[str, str, str], Sequence[tuple[float, float]]], outcome: Outcome
) -> pd.DataFrame:
    rows = [_sample_row(key, np.asarray(counts), outcome) for key, counts in samples.items()]
    figures = [outcome.name, outcome.numerator, outcome.denominator]
    return pd.DataFrame(rows, columns=["person", "site", "visit", "marker", *figures])


def _sample_row(
    key: tuple[str, str, str], counts: npt.NDArray[np.float64], outcome: Outcome
) -> tuple[object, ...]:
    top, bottom = counts.sum(axis=0)
    value = float("nan") if bottom <= 0 else (100 if outcome.is_percent else 1) * top / bottom
    return (*key, outcome.marker, value, top, bottom)


def threshold_of(section: Section) -> float:
    """The cut-off that a slide was measured with; NaN where it has no marker."""
    if np.isnan(section.number("n_positive")):
        return float("nan")
    given = section.number("positive_threshold_od")
    first = section.settings.get("p16", {}).get("thresholds_od", [float("nan")])[0]
    return float(first) if np.isnan(given) else given


def _deciding_od(section: Section, nuclei: pd.DataFrame) -> npt.NDArray[np.float64]:
    """What is compared with a cut-off; results from before the rule on haze have no haze."""
    settings = section.settings.get("p16", {})
    if any(name not in settings for name in _HAZE) or "ring_dab_od_mean" not in nuclei:
        nuclei, settings = nuclei.assign(ring_dab_od_mean=-np.inf), {}
    given = {name: settings[name] for name in _HAZE if name in settings}
    return deciding_od(nuclei, P16Settings(**given))
