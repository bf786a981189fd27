"""Gaps of the line along the junction, and how ridge tips, flanks and papilla tops differ.

Everything here follows from the table of bins, so that it can be taken again when bins are
excluded, and over the bins of several sections.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

FEATURES = ("ridge", "papilla", "flank")
FEATURE_FIGURES = tuple(
    f"{feature}_{figure}"
    for feature in FEATURES
    for figure in ("continuity_percent", "integrated_od_um_mean")
)


class Gap(NamedTuple):
    """A run of junction without line: stretch, and where it lies on that stretch's arc (um)."""

    stretch: int
    start_um: float
    end_um: float


def positive_fraction(table: pd.DataFrame) -> Floats:
    """Part of each bin that is positive; all or nothing in a table that does not say."""
    name = "positive_fraction" if "positive_fraction" in table else "positive"
    return np.asarray(table[name].to_numpy(np.float64, na_value=np.nan))


def find_gaps(table: pd.DataFrame, min_gap_um: float) -> list[Gap]:
    """Runs of junction without line, of at least `min_gap_um`.

    Bins of which less than half is positive make a gap, with the negative parts of the bins on
    both sides. A bin that is not measured between two negative ones belongs to their gap. A gap
    that runs into the end of the measured junction counts with the length that is seen.
    """
    return [
        Gap(int(str(number)), start, end)
        for number, stretch in table.groupby("stretch")
        for start, end in _gaps_of(stretch)
        if end - start >= min_gap_um - 1e-9
    ]


def gap_lengths(table: pd.DataFrame, min_gap_um: float) -> Floats:
    """Lengths (um) of `find_gaps`."""
    return np.array([gap.end_um - gap.start_um for gap in find_gaps(table, min_gap_um)], np.float64)


def measured_runs(table: pd.DataFrame) -> list[Floats]:
    """Positive parts of neighbouring measured bins, one array for every unbroken run."""
    share, out = positive_fraction(table), table["excluded"].to_numpy(bool)
    ends = (np.diff(table["stretch"].to_numpy()) != 0) | (np.diff(out.astype(int)) != 0)
    cuts = np.flatnonzero(ends) + 1
    pieces = zip(np.split(share, cuts), np.split(out, cuts), strict=True)
    return [piece for piece, excluded in pieces if len(piece) and not excluded[0]]


def feature_figures(kept: pd.DataFrame) -> dict[str, object]:
    """Continuity and mean integrated OD of ridge tips, papilla tops and flanks; NaN without any."""
    figures: dict[str, object] = {}
    for feature in FEATURES:
        own = kept[kept["feature"] == feature]
        share = positive_fraction(own)
        figures[f"{feature}_continuity_percent"] = (
            100 * float(share.mean()) if len(share) else float("nan")
        )
        figures[f"{feature}_integrated_od_um_mean"] = float(own["integrated_od_um"].mean())
    return figures


def _gaps_of(stretch: pd.DataFrame) -> Iterator[tuple[float, float]]:
    measured = np.flatnonzero(~stretch["excluded"].to_numpy(bool))
    if not len(measured):
        return
    share = positive_fraction(stretch)
    absent = ~(share >= 0.5)
    every = np.arange(len(absent))
    before = measured[np.maximum(np.searchsorted(measured, every, "right"), 1) - 1]
    after = measured[np.minimum(np.searchsorted(measured, every), len(measured) - 1)]
    negative = absent[before] & absent[after]
    negative[: measured[0]] = negative[measured[-1] + 1 :] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[False], negative, [False]]).astype(int)))
    starts, ends = (stretch[name].to_numpy(float) for name in ("arc_start_um", "arc_end_um"))
    size, kept = ends - starts, set(measured.tolist())
    for first, last in zip(edges[::2], edges[1::2] - 1, strict=True):
        start, end = starts[first], ends[last]
        if first - 1 in kept:  # the bin beside has its negative part, the first its positive one
            start += size[first] * share[first] - size[first - 1] * (1 - share[first - 1])
        if last + 1 in kept:
            own = 0.0 if first == last and first - 1 in kept else size[last] * share[last]
            end += size[last + 1] * (1 - share[last + 1]) - own
        yield float(start), float(end)
