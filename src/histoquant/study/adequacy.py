"""Is enough junction measured: interval width against mm sampled, per sample and together.

The interval is of this biopsy's own figure along its junction (`arc.along_arc`): how far another
biopsy of the same hand would differ it cannot say. `sampling_share` says what more junction
could save at most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from histoquant.arc import Adequacy, Width, along_arc
from histoquant.study.means import NAN, Floats, Scale, finite, number, pair_effects
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import Pairs
from histoquant.study.sections import Section
from histoquant.tables import measured_columns

_NO_WIDTH = Width(NAN, NAN, NAN, NAN)


def section_runs(junction: pd.DataFrame, column: str) -> list[Floats]:
    """Values of `column` of a table of bins, one array per unbroken run of counted bins."""
    out = junction["excluded"].astype(bool)
    runs = [out.cumsum()[~out], *([junction.loc[~out, "stretch"]] if "stretch" in junction else [])]
    groups = junction.loc[~out, column].groupby(runs, sort=True)
    return [group.to_numpy(np.float64, na_value=np.nan) for _, group in groups]


def positive_per_mm(junction: pd.DataFrame, nuclei: pd.DataFrame) -> pd.DataFrame:
    """The bins of a p16 slide with `per_mm`: its positive epidermal nuclei, by nearest bin."""
    own = nuclei[~nuclei["excluded"].astype(bool) & nuclei["positive"].fillna(False).astype(bool)]
    own = own[own["beside_measured_junction"].astype(bool)]
    own = own[own["compartment"].isin(("epidermis_basal", "epidermis_suprabasal"))]
    counts = np.zeros(len(junction))
    measured = np.flatnonzero(~junction["excluded"].to_numpy(bool))
    if len(own) and measured.size:
        places = junction[["y_px", "x_px"]].to_numpy(np.float64)[measured]
        _, nearest = cKDTree(places).query(own[["y_px", "x_px"]].to_numpy(np.float64))
        np.add.at(counts, measured[nearest], 1)
    lengths_mm = (junction["arc_end_um"] - junction["arc_start_um"]).to_numpy(np.float64) / 1000
    return junction.assign(per_mm=counts / lengths_mm)


def sample_adequacy(
    sections: Iterable[Section],
    outcome: Outcome,
    *,
    lengths_mm: Sequence[float] = (0.5, 1, 2, 4, 8),
    draws: int = 999,
    seed: int = 0,
) -> dict[tuple[str, str, str], Adequacy]:
    """Adequacy of every sample (person, site, visit) for an outcome taken along the junction.

    Those are the collagen VII figures that pool over bins, and ``positive_per_mm_dej``; for
    another outcome the result is empty.

    Parameters
    ----------
    sections
        From `sections.read_sections`; those of a sample are taken together.
    """
    source = _source(outcome)
    if source is None:
        return {}
    column, statistic = source
    runs: dict[tuple[str, str, str], list[Floats]] = {}
    bins_um: dict[tuple[str, str, str], list[float]] = {}
    for section in (s for s in sections if s.marker == outcome.marker):
        table = _bins(section, outcome, column)
        runs.setdefault(section.sample, []).extend(section_runs(table, column))
        sizes = (table["arc_end_um"] - table["arc_start_um"]).to_list()
        bins_um.setdefault(section.sample, []).extend(sizes)
    return {
        sample: along_arc(
            own,
            statistic,
            bin_um=float(np.median(bins_um[sample])) if bins_um[sample] else NAN,
            lengths_mm=lengths_mm,
            draws=draws,
            seed=seed,
        )
        for sample, own in sorted(runs.items())
    }


def _source(outcome: Outcome) -> tuple[str, str] | None:
    """Column of the bins, and the statistic of it; None for what is not taken from bins."""
    if outcome.marker == "p16":
        return ("per_mm", "mean") if outcome.name == "positive_per_mm_dej" else None
    pools = {c.name: c.pool for c in measured_columns(outcome.marker)}
    pool = pools[outcome.name]
    return (pool.top, pool.statistic) if pool.how == "bins" else None


def _bins(section: Section, outcome: Outcome, column: str) -> pd.DataFrame:
    """A slide's bins with `column`, none where the slide lacks the figure, as when pooling."""
    table = section.junction()
    if math.isnan(section.number(outcome.name)):
        return table.iloc[:0].assign(**{column: []})
    if outcome.marker != "p16":
        return table
    nuclei = section.nuclei()
    if "beside_measured_junction" not in nuclei:
        return table.iloc[:0].assign(**{column: []})
    return positive_per_mm(table, nuclei)


def adequacy_rows(found: Mapping[tuple[str, str, str], Adequacy]) -> list[dict[str, object]]:
    """Rows of the adequacy table, less what the outcome is; then the median over samples."""
    rows: list[dict[str, object]] = []
    for (person, site, visit), one in found.items():
        who = {
            "person": person,
            "site": site,
            "visit": visit,
            "measured_mm": one.measured_mm,
            "estimate": one.estimate,
            "block_um": one.block_um,
            "reason": one.reason,
        }
        rows += [who | _width_row(w) for w in one.widths or (_NO_WIDTH,)]
    return [*rows, *pooled_rows(found.values())]


def pooled_rows(samples: Iterable[Adequacy]) -> list[dict[str, object]]:
    """The median relative width over samples, at every length that all of them tried."""
    at: dict[float, list[float]] = {}
    usable = [s for s in samples if s.widths]
    for one in usable:
        for width in one.widths[:-1]:
            at.setdefault(width.length_mm, []).append(width.relative)
    return [
        {
            "person": "median of samples",
            "length_mm": length,
            "relative_width": float(np.median(widths)),
            "reason": f"{len(widths)} samples",
        }
        for length, widths in sorted(at.items())
        if len(widths) == len(usable)
    ]


def sampling_share(
    found: Mapping[tuple[str, str, str], Adequacy],
    pairs: Pairs,
    sites: Mapping[str, tuple[str, str]],
) -> float:
    """Share of the variance between pairs that sampling along the junction accounts for.

    Near 0, more junction per biopsy would not help, and more people would; near 1 the reverse.
    On the scale of `means.pair_effects`; NaN where it cannot be told.
    """
    effects, scale, _ = pair_effects(pairs.treated, pairs.placebo)
    if effects.size < 2 or not (between := float(effects.var(ddof=1))) > 0:
        return NAN
    own = []
    for person in pairs.people:
        both = [found.get((person, site, pairs.visit)) for site in sites[person]]
        errors = [_error(one, scale) for one in both if one is not None]
        own.append(sum(e * e for e in errors) if len(errors) == 2 else NAN)
    sampled = finite(own)
    return min(float(sampled.mean()) / between, 1.0) if sampled.size else NAN


def adequacy_sentence(found: Mapping[tuple[str, str, str], Adequacy], share: float = NAN) -> str:
    """Whether enough junction is measured, in words."""
    usable = [a for a in found.values() if a.widths and math.isfinite(a.widths[-1].relative)]
    if not usable:
        reasons = sorted({a.reason for a in found.values() if a.reason})
        return f"How much junction is enough cannot be said: {'; '.join(reasons) or 'no sample'}."
    length = float(np.median([a.measured_mm for a in usable]))
    width = 100 * float(np.median([a.widths[-1].relative for a in usable]))
    text = (
        f"In the median of {len(usable)} samples {number(length)} mm of junction are measured, and "
        f"the 95 % interval of a sample is {number(width)} % of its value wide"
    )
    if math.isnan(share):
        return f"{text}."
    return (
        f"{text}; sampling along the junction accounts for {number(100 * share)} % of the variance "
        "between pairs, which is all that more junction per biopsy could save."
    )


def _error(one: Adequacy, scale: Scale) -> float:
    """Standard error of a sample, relative to its value on the log scale."""
    if scale == "linear":
        return one.se
    return one.se / abs(one.estimate) if one.estimate else NAN


def _width_row(width: Width) -> dict[str, object]:
    return {
        "length_mm": width.length_mm,
        "low": width.low,
        "high": width.high,
        "relative_width": width.relative,
    }
