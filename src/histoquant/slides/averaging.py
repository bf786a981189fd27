"""The loops of `resample`: lines of weighted sums, several samples at a time.

They work on rows of samples, so that the number of channels does not matter. Each sum is taken
in the order of the pixels, first down, then along: the loops differ in how they find the
samples, never in a value.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

# Halves round up although 1 / area is rounded; other sums keep farther from a half than this.
_HALF = 0.5 + 1e-9
MOST_TAPS = 16
"""Largest block (px a side) whose sum of 8-bit samples fits the 16-bit table of quotients."""


def block_means(taps: int, source: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Average blocks of `taps` x `taps` px, rounded half up: (y, x, c) to (y, x, c)."""
    area = taps * taps
    total = np.arange(255 * area + 1)
    quotients = ((2 * total + area) // (2 * area)).astype(np.uint8)
    plain = source.reshape(len(source), -1)
    _block_loop(taps, source.shape[2])(plain, quotients, out)


@cache
def _block_loop(taps: int, channels: int) -> Callable[..., None]:
    """Compile the loop for one block size: known numbers make it several times faster."""

    @numba.njit(nogil=True, cache=True)
    def loop(source: Any, quotients: Any, out: Any) -> None:
        line = np.empty(out.shape[1] * taps * channels, dtype=np.uint16)
        for i in range(out.shape[0]):
            values = source[i * taps]
            for v in range(line.size):
                line[v] = values[v]
            for k in range(1, taps):
                values = source[i * taps + k]
                for v in range(line.size):
                    line[v] += values[v]
            for j in range(out.shape[1]):
                for c in range(channels):
                    total = np.uint32(0)
                    for k in range(taps):
                        total += line[(j * taps + k) * channels + c]
                    out[i, j, c] = quotients[total]

    return loop


@numba.njit(nogil=True, cache=True)
def weighted_means(
    source: Any, down: Any, across: Any, samples: Any, channels: Any, out: Any
) -> None:
    """Average with any weights; `samples` are the first sample of each value of a row."""
    weights, per_column = across
    line = np.zeros(samples[-1] + weights.shape[0] * channels + source.shape[1], np.float64)
    sums = np.empty(out.shape[1], dtype=np.float64)
    for i in range(out.shape[0]):
        per_row = _sum_rows(source, down, i, line)
        weight, step = weights[0], np.uint32(0)
        for v in range(sums.size):
            sums[v] = weight[v] * line[samples[v]]
        for k in range(1, weights.shape[0]):
            weight = weights[k]
            step += np.uint32(channels)
            for v in range(sums.size):
                sums[v] += weight[v] * line[samples[v] + step]
        row = out[i]
        for v in range(sums.size):
            row[v] = np.int32(sums[v] * (per_row * per_column[v]) + _HALF)


@numba.njit(nogil=True, cache=True)
def shifted_means(source: Any, down: Any, across: Any, runs: Any, channels: Any, out: Any) -> None:
    """As `weighted_means` with two taps, where in each of `runs` the samples lie in a row."""
    weights, per_column = across
    line = np.zeros(runs[-1, 2] + out.shape[1] + channels + source.shape[1], np.float64)
    for i in range(out.shape[0]):
        per_row = _sum_rows(source, down, i, line)
        for r in range(runs.shape[0]):
            start, stop, sample = runs[r]
            values, beside = line[sample : sample + stop - start], line[sample + channels :]
            weight, second = weights[0, start:stop], weights[1, start:stop]
            per, row = per_column[start:stop], out[i, start:stop]
            for v in range(row.size):
                total = weight[v] * values[v] + second[v] * beside[v]
                row[v] = np.int32(total * (per_row * per[v]) + _HALF)


@numba.njit(nogil=True, cache=True)
def _sum_rows(source: Any, down: Any, i: Any, line: Any) -> Any:
    """Put the weighted sum of the rows of output row `i` in `line`; give 1 / its height."""
    first, count, overlap, per_row = down
    at, width = first[i], source.shape[1]
    weight, values = overlap[i, 0], source[at]
    if count[i] == 1:
        for v in range(width):
            line[v] = weight * values[v]
        return per_row[i]
    second, below = overlap[i, 1], source[at + 1]
    for v in range(width):
        line[v] = weight * values[v] + second * below[v]
    for k in range(2, count[i]):
        weight, values = overlap[i, k], source[at + k]
        for v in range(width):
            line[v] += weight * values[v]
    return per_row[i]
