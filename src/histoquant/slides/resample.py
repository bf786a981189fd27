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

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides import averaging as kernels

# Samples that lie in a row, below which looking each one up is faster.
_LONG_RUN = 96


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

    def part(self, start: int, stop: int) -> AxisWeights:
        """Give the weights of the output pixels ``start..stop`` of these."""
        inside = slice(start, stop)
        count, overlap = self.count[inside], self.overlap[inside]
        return AxisWeights(
            self.first[inside], count, overlap[:, : count.max(initial=1)], self.total[inside]
        )


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


def area_mean(source: NDArray[Any], rows: AxisWeights, columns: AxisWeights) -> NDArray[Any]:
    """Average `source`, uint8 or uint16 (y, x, c), whose corner is ``(rows.start, columns.start)``.

    Sums are taken down the rows, then along the columns, in the order of the pixels. Where the
    weights are whole and equal the sums are integers and the division is exact: those pixels
    are the same by either way.

    Returns (len(rows.first), len(columns.first), c) in the type of `source`, rounded half up.

    Raises
    ------
    SlideError
        For pixels of another type.
    """
    if source.dtype not in (np.uint8, np.uint16):
        raise SlideError(
            f"pixels of type {source.dtype} cannot be averaged, only uint8 and uint16. region() "
            "reads them as they are stored."
        )
    out = np.empty((len(rows.first), len(columns.first), source.shape[2]), dtype=source.dtype)
    taps, height, width = _block_part(source.dtype, rows, columns)
    if taps:
        kernels.block_means(taps, np.ascontiguousarray(source), out[:height, :width])
    if width < out.shape[1]:
        right = columns.part(width, out.shape[1])
        out[:, width:] = _weighted(source[:, right.start - columns.start :], rows, right)
    if height < len(out) and width:
        below = rows.part(height, len(out))
        out[height:, :width] = _weighted(
            source[below.start - rows.start :], below, columns.part(0, width)
        )
    return out


def _weighted(source: NDArray[Any], rows: AxisWeights, columns: AxisWeights) -> NDArray[Any]:
    """Average with any weights, `source` from the first pixel of both on."""
    channels = source.shape[2]
    plain = np.ascontiguousarray(source[:, : columns.stop - columns.start])
    plain = plain.reshape(len(source), -1)
    down = (rows.first - rows.start, rows.count, rows.overlap, 1 / rows.total)
    across = (
        np.repeat(columns.overlap.T, channels, axis=1),
        np.repeat(1 / columns.total, channels),
    )
    samples = (columns.first - columns.start)[:, None] * channels + np.arange(channels)
    samples = samples.ravel()
    out = np.empty((len(rows.first), samples.size), dtype=source.dtype)
    starts = np.flatnonzero(np.diff(samples, prepend=-2) != 1)
    if len(across[0]) == 2 and samples.size > _LONG_RUN * starts.size:
        runs = np.stack((starts, np.append(starts[1:], samples.size), samples[starts]), axis=1)
        kernels.shifted_means(plain, down, across, runs, channels, out)
    else:
        kernels.weighted_means(plain, down, across, samples.astype(np.uint32), channels, out)
    return out.reshape(len(out), -1, channels)


def _block_part(
    dtype: np.dtype[Any], rows: AxisWeights, columns: AxisWeights
) -> tuple[int, int, int]:
    """Find the taps of a plain block mean, and the leading rows and columns that are one."""
    (taps, height), (across, width) = _whole_pixels(rows), _whole_pixels(columns)
    fits = dtype == np.uint8 and 1 < taps == across <= kernels.MOST_TAPS
    return (taps, height, width) if fits else (0, 0, 0)


def _whole_pixels(weights: AxisWeights) -> tuple[int, int]:
    """Count the taps of the first pixel, and the leading pixels that have as many, all equal.

    (0, 0) where the first pixel's are not whole and equal.
    """
    taps, weight = int(weights.count[0]), weights.overlap[0, 0]
    alike = (weights.overlap[:, :taps] == weight).all(axis=1) & (weights.count == taps)
    in_step = weights.first == weights.first[0] + taps * np.arange(len(alike))
    if not (alike[0] and float(weight).is_integer()):
        return 0, 0
    return taps, int(np.argmin(np.append(alike & in_step, False)))
