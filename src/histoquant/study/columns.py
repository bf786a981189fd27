"""Every column of the study's tables, once: name, dtype, unit and meaning.

``study/columns.json`` is made from here, and a table with a column that is not here is not
written (`conform`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from histoquant import tables
from histoquant.columns import Column, Dtype
from histoquant.results import csv_text

_OWN = "the outcome's"
_EFFECT = "1 (ratio), or the outcome's (difference)"


def _column(name: str, meaning: str, unit: str = "", dtype: Dtype = "float64") -> Column:
    return Column(name, dtype, unit, meaning)


def _text(name: str, meaning: str) -> Column:
    return _column(name, meaning, dtype="string")


def _count(name: str, meaning: str) -> Column:
    return _column(name, meaning, "1", "int64")


def _p(name: str, meaning: str) -> Column:
    return _column(name, meaning, "1")


MARKER = _text("marker", "p16 or col7.")
OUTCOME = _text("outcome", "Column of markers.csv that is compared.")
ROLE = _text("role", "primary, secondary or exploratory, as the plan declares it.")
SCALE = _text("scale", "ratio: compared on the log scale; difference: as it is.")
PAIRS = _count("n_pairs", "People with both sites measured: n.")

CONTRASTS: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    ROLE,
    _count("n_enrolled", "People in the design."),
    PAIRS,
    _column("treated_median", "Median over the pairs, treated sites.", _OWN),
    _column("placebo_median", "Median over the pairs, placebo sites.", _OWN),
    _column("ratio", "Geometric mean of treated / placebo.", "1"),
    _column("ratio_low", "Lower limit of the ratio, t interval on the log.", "1"),
    _column("ratio_high", "Upper limit of the ratio, t interval on the log.", "1"),
    _column("difference_hl", "Hodges-Lehmann estimate of treated - placebo.", _OWN),
    _column("difference_low", "Lower limit of the difference, from the signed-rank test.", _OWN),
    _column("difference_high", "Upper limit of the difference, from the signed-rank test.", _OWN),
    _p("p_signed_rank", "Two-sided P of the Wilcoxon signed-rank test, exact where possible."),
    _p("p_sign_flip", "Two-sided P of the sign-flip permutation of the mean difference."),
    _p("p_t", "Two-sided P of the t test of the effects, on their scale: the primary analysis."),
    _p("p_floor", "Least P that the exact tests can give with the pairs that differ: 2 / 2^n."),
    _p("p_holm", "P of the primary analysis, corrected by Holm within the outcomes of its role."),
    _p("p_bh", "The same, corrected by Benjamini-Hochberg within the exploratory outcomes."),
    _column("dz", "Mean / standard deviation of the within-person effects, on their scale.", "1"),
    SCALE,
    _count("n_equal", "Pairs without a difference."),
    _column("mean_difference", "Mean of treated - placebo.", _OWN),
    _column("mean_difference_low", "Lower limit of the mean difference, t interval.", _OWN),
    _column("mean_difference_high", "Upper limit of the mean difference, t interval.", _OWN),
    _p("p_sign_flip_se", "Monte Carlo standard error of p_sign_flip; 0 when that is exact."),
    _text("ratio_reason", "Why there is no ratio, or no interval of it."),
    _text("difference_reason", "Why there is no interval of the difference."),
    _text("p_reason", "Why a P is missing or not exact."),
    _text("note", "What a reader must know of this line."),
)

REVERSAL: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    ROLE,
    SCALE,
    _count("n_pairs", "People with both sites measured at both visits: n."),
    _column("treated_change", "Change of the treated site from its own baseline.", _EFFECT),
    _column("treated_low", "Lower limit of that change.", _EFFECT),
    _column("treated_high", "Upper limit of that change.", _EFFECT),
    _column("placebo_change", "Change of the placebo site from its own baseline.", _EFFECT),
    _column("placebo_low", "Lower limit of that change.", _EFFECT),
    _column("placebo_high", "Upper limit of that change.", _EFFECT),
    _column("difference_in_differences", "Treated change against placebo change.", _EFFECT),
    _column("did_low", "Lower limit of the difference in differences.", _EFFECT),
    _column("did_high", "Upper limit of the difference in differences.", _EFFECT),
    _p("p", "Two-sided P of the difference in differences."),
    _text("reading", "reversal, slowed progression, no difference, worse or undecided."),
    _text("reason", "The intervals that lead to the reading."),
    _column("ancova_effect", "Treated against placebo at equal baselines (ANCOVA).", _EFFECT),
    _column("ancova_low", "Lower limit of that effect.", _EFFECT),
    _column("ancova_high", "Upper limit of that effect.", _EFFECT),
    _p("ancova_p", "Two-sided P of that effect."),
    _column("ancova_slope", "Share of a baseline difference that is left at follow-up.", "1"),
    _text("ancova_reason", "Why there is no ANCOVA, where there is none."),
    _text("note", "Who was left out, and on which scale."),
)

FLOW: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    _text("visit", "Visit, from the design."),
    _text("stage", "enrolled, lost, unpaired (its partner site is lost) or analysed."),
    _count("people", "People in this stage."),
    _count("sites", "Sites in this stage."),
    _count("treated_sites", "Of these, treated."),
    _count("placebo_sites", "Of these, placebo."),
    _text("reason", "Why they are lost."),
    _text("who", "The people, or the sites that were lost."),
)

MISSING: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    _text("analysis", "What is assumed of the missing pairs."),
    _count("n_pairs", "Pairs in this analysis."),
    _count("n_missing", "People enrolled without a complete pair."),
    SCALE,
    _column("estimate", "Treated against placebo, or what the analysis names.", _EFFECT),
    _column("low", "Lower limit.", _EFFECT),
    _column("high", "Upper limit.", _EFFECT),
    _p("p", "Two-sided P."),
    _text("meaning", "The analysis in a sentence."),
)

SENSITIVITY: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    _text("analysis", "threshold, pigment, edits or batch."),
    _text("level", "The cut-off in OD, or what was left out or kept."),
    PAIRS,
    SCALE,
    _column("effect", "Treated against placebo.", _EFFECT),
    _column("low", "Lower limit of the effect.", _EFFECT),
    _column("high", "Upper limit of the effect.", _EFFECT),
    _p("p", "Two-sided P of the paired t test."),
    _text("note", "What a reader must know of this line."),
)

ADEQUACY: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    _text("person", "Person, or that the line is the median of the samples."),
    _text("site", "Site of the sample."),
    _text("visit", "Visit of the sample."),
    _column("length_mm", "Junction that is supposed to be measured.", "mm"),
    _column("measured_mm", "Junction that was measured.", "mm"),
    _column("estimate", "The outcome of the whole sample, from its bins.", _OWN),
    _column("low", "Lower 95 % limit expected at length_mm, by bootstrap along the arc.", _OWN),
    _column("high", "Upper 95 % limit expected at length_mm.", _OWN),
    _column("relative_width", "(high - low) / estimate.", "1"),
    _column("block_um", "Length of the blocks that are drawn.", "um"),
    _text("reason", "Why there are no limits; of the median, how many samples it is of."),
)

POWER: tuple[Column, ...] = (
    MARKER,
    OUTCOME,
    _text("spread", "Where the spread between people comes from."),
    _count("n_enrolled", "People enrolled."),
    _column("mean_pairs", "Complete pairs left after drop-out, on average.", "1"),
    _column("power", "Share of simulated studies that find the effect.", "1"),
    _column("mc_error", "Standard error of the power from the number of simulations.", "1"),
)
"""Of the table that ``study --power`` writes where it is asked to."""

TABLES: Mapping[str, tuple[Column, ...]] = {
    "contrasts.csv": CONTRASTS,
    "reversal.csv": REVERSAL,
    "flow.csv": FLOW,
    "missing.csv": MISSING,
    "sensitivity.csv": SENSITIVITY,
    "adequacy.csv": ADEQUACY,
}


def table_csv(name: str, rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as the text of the table `name`, with its columns in their order.

    Raises
    ------
    ResultError
        For a column that is not registered, or a value that is not of its column's dtype.
    """
    return _as_csv(TABLES[name], rows, name)


def power_csv(rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as the text of the power table; raises as `table_csv`."""
    return _as_csv(POWER, rows, "the power table")


def _as_csv(columns: tuple[Column, ...], rows: Iterable[Mapping[str, object]], name: str) -> str:
    rows = list(rows)
    if rows:
        frame = pd.DataFrame(rows, dtype=object)
        tables.conform(frame, columns, name)
    return csv_text((c.name for c in columns), rows)


def columns_json() -> dict[str, list[dict[str, str]]]:
    """Content of ``study/columns.json``."""
    return {name: [c.as_json() for c in columns] for name, columns in TABLES.items()}
