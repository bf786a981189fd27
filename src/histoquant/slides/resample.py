"""Area averaging on one global grid: the value of a pixel never depends on the window.

Pixel ``j`` of a grid with `factor` level-0 px per pixel spans ``[j * factor, (j + 1) * factor)``
and is the mean of the level's pixels over that span, each weighted with its overlap. The
weights follow from ``j`` alone and are summed in a fixed order, so that two windows over the
same pixel agree bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Halves round up although 1 / area is rounded; other sums keep farther from a half than this.
_HALF = 0.5 + 1e-9


@dataclass(frozen=True)
class AxisWeights:
    """Overlaps of the level's pixels with each output pixel along one axis.

    Attributes
    ----------
    first, count
        int64 (n,), the contributing pixels of the level: ``first .. first + count``.
    overlap
        float64 (n, most taps), overlap of each of them (level-0 px), then zeros.
    total
        float64 (n,), sum of the overlaps: the covered part of the output pixel (level-0 px).
    """

    first: NDArray[np.int64]
    count: NDArray[np.int64]
    overlap: NDArray[np.float64]
    total: NDArray[np.float64]

    @property
    def start(self) -> int:
        """First contributing pixel of the level."""
        return int(self.first[0])

    @property
    def stop(self) -> int:
        """One past the last contributing pixel of the level."""
        return int(self.first[-1] + self.count[-1])


def axis_weights(
    start: int, stop: int, factor: float, *, downsample: float, size: int, extent: int
) -> AxisWeights:
    """Compute the weights of the output pixels ``start..stop`` along one axis.

    Parameters
    ----------
    factor
        Level-0 px per output pixel.
    downsample, size
        Level-0 px per pixel of the level, and the pixels it has along this axis.
    extent
        Level-0 px along this axis. The level's last pixel reaches exactly to here: levels are
        rounded down or up by writers, and neither may shift or lose the edge.
    """
    index = np.arange(start, stop, dtype=np.float64)
    low = index * factor
    high = np.minimum((index + 1) * factor, extent)
    first = np.clip(np.floor(low / downsample), 0, size - 1).astype(np.int64)
    pixel = first[:, None] + np.arange(math.ceil(factor / downsample) + 2)
    left = np.where(pixel < size, pixel * downsample, extent)
    right = np.where(pixel < size - 1, (pixel + 1) * downsample, extent)
    overlap = np.minimum(high[:, None], right) - np.maximum(low[:, None], left)
    overlap = np.maximum(overlap, 0.0)
    count = overlap.shape[1] - np.argmax(overlap[:, ::-1] > 0, axis=1)
    overlap = np.ascontiguousarray(overlap[:, : count.max()])
    return AxisWeights(first, count, overlap, overlap.cumsum(axis=1)[:, -1])


def area_mean(
    source: NDArray[np.uint8], rows: AxisWeights, columns: AxisWeights
) -> NDArray[np.uint8]:
    """Average `source` (y, x, 3), whose corner is ``(rows.start, columns.start)``.

    Returns uint8 (len(rows.first), len(columns.first), 3), rounded half up.
    """
    out = np.empty((len(rows.first), len(columns.first), 3), dtype=np.uint8)
    _area_mean(
        np.ascontiguousarray(source).reshape(len(source), -1),
        (rows.first - rows.start, rows.count, rows.overlap, 1 / rows.total),
        (columns.first - columns.start, columns.count, columns.overlap, 1 / columns.total),
        out,
    )
    return out


@numba.njit(nogil=True, cache=True)
def _area_mean(source: Any, rows: Any, columns: Any, out: Any) -> None:
    row_first, row_count, row_overlap, per_row = rows
    column_first, column_count, column_overlap, per_column = columns
    line = np.empty(source.shape[1], dtype=np.float64)
    for i in range(out.shape[0]):
        line[:] = 0.0
        for k in range(row_count[i]):
            weight, values = row_overlap[i, k], source[row_first[i] + k]
            for v in range(line.size):
                line[v] += weight * values[v]
        for j in range(out.shape[1]):
            red = green = blue = 0.0
            v = 3 * column_first[j]
            for k in range(column_count[j]):
                weight = column_overlap[j, k]
                red += weight * line[v]
                green += weight * line[v + 1]
                blue += weight * line[v + 2]
                v += 3
            share = per_row[i] * per_column[j]
            out[i, j, 0] = np.uint8(red * share + _HALF)
            out[i, j, 1] = np.uint8(green * share + _HALF)
            out[i, j, 2] = np.uint8(blue * share + _HALF)
