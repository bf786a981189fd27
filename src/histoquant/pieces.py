"""Connected pieces of a mask by runs of its rows.

A picture of labels takes four bytes a pixel; the runs of a mask take some per row. Pieces are
8-connected.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Mask = npt.NDArray[np.bool_]
Runs = npt.NDArray[np.int32]
"""(n, 3): row, first column, and the column after the last, in raster order."""

_FIRST_ROOM = 4096


def drop_small(mask: Mask, min_pixels: float) -> Mask:
    """`mask` without its pieces of fewer than `min_pixels` pixels."""
    runs, pieces = _pieces(mask)
    areas = np.bincount(pieces, weights=runs[:, 2] - runs[:, 1]) if len(runs) else np.zeros(0)
    return _drawn(mask.shape, runs, (areas >= min_pixels)[pieces])


def touching(mask: Mask, seeds: Mask) -> Mask:
    """The pieces of `mask` that have a pixel in `seeds`."""
    runs, pieces = _pieces(mask)
    hit = np.zeros(len(runs), np.bool_)
    _hit_runs(np.ascontiguousarray(seeds), runs, hit)
    wanted = np.zeros(len(runs), np.bool_)
    wanted[pieces[hit]] = True
    return _drawn(mask.shape, runs, wanted[pieces])


def _pieces(mask: Mask) -> tuple[Runs, npt.NDArray[np.int64]]:
    """The runs of a mask, and the number of the piece that each belongs to."""
    whole = np.ascontiguousarray(mask)
    room = np.empty((_FIRST_ROOM, 3), np.int32)
    count = _find_runs(whole, room)
    if count > len(room):
        room = np.empty((count, 3), np.int32)
        _find_runs(whole, room)
    runs = room[:count]
    return runs, _join(runs)


def _drawn(shape: tuple[int, ...], runs: Runs, chosen: Mask) -> Mask:
    drawn = np.zeros(shape, np.bool_)
    _draw_runs(drawn, runs[chosen])
    return drawn


@njit(cache=True, nogil=True)
def _find_runs(mask: Mask, runs: Runs) -> int:
    """Set `runs` as far as there is room; give how many there are."""
    height, width = mask.shape
    count = 0
    for y in range(height):
        x = 0
        while x < width:
            if not mask[y, x]:
                x += 1
                continue
            first = x
            while x < width and mask[y, x]:
                x += 1
            if count < runs.shape[0]:
                runs[count, 0], runs[count, 1], runs[count, 2] = y, first, x
            count += 1
    return count


@njit(cache=True, nogil=True)
def _join(runs: Runs) -> npt.NDArray[np.int64]:
    """Number of the piece of each run: that of its first run in raster order."""
    parent = np.arange(runs.shape[0])
    above = 0
    for k in range(runs.shape[0]):
        y, first, end = runs[k]
        while above < k and (runs[above, 0] < y - 1 or (runs[above, 0] == y - 1
                                                        and runs[above, 2] < first)):  # fmt: skip
            above += 1
        other = above
        while other < k and runs[other, 0] == y - 1 and runs[other, 1] <= end:
            a, b = _root(parent, k), _root(parent, other)
            if a < b:
                parent[b] = a
            else:
                parent[a] = b
            other += 1
    for k in range(runs.shape[0]):
        parent[k] = parent[parent[k]]
    return parent


@njit(cache=True, nogil=True)
def _root(parent: npt.NDArray[np.int64], k: int) -> int:
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = int(parent[k])
    return k


@njit(cache=True, nogil=True)
def _hit_runs(seeds: Mask, runs: Runs, hit: Mask) -> None:
    for k in range(runs.shape[0]):
        for x in range(runs[k, 1], runs[k, 2]):
            if seeds[runs[k, 0], x]:
                hit[k] = True
                break


@njit(cache=True, nogil=True)
def _draw_runs(mask: Mask, runs: Runs) -> None:
    for k in range(runs.shape[0]):
        mask[runs[k, 0], runs[k, 1] : runs[k, 2]] = True
