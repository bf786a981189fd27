"""Where a picture has no pixels: rectangles that cover a mask, and cells that look like filler."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]

_MOST_BOXES = 4096
_FLAT, _WHITE = 8, 230


def boxes_of(mask: NDArray[np.bool_], top: int, left: int) -> list[Box]:
    """Cover the true pixels of `mask`, whose corner is at (top, left), with rectangles.

    Returns
    -------
    list of (top, left, height, width)
        They do not overlap and cover true pixels only, unless there would be more than 4096 of
        them: then they also cover what is within a few pixels of true ones.
    """
    step = 1
    while True:
        boxes = _merged_runs(mask) if mask.any() else []
        if len(boxes) <= _MOST_BOXES or max(mask.shape) == 1:
            break
        mask, step = _halved(mask), 2 * step
    return [(top + y * step, left + x * step, h * step, w * step) for y, x, h, w in boxes]


def filler_cells(
    rgba: NDArray[np.uint8], corner: tuple[int, int], cell: tuple[float, float]
) -> list[tuple[int, int]]:
    """List the cells of a grid whose inner pixels in `rgba` are of one colour that is not white.

    Parameters
    ----------
    rgba
        uint8 (y, x, 4), a window of a level whose corner lies at `corner` (px).
    cell
        Rows and columns of a cell (px of the level); cells cut by the window are left out.

    Returns
    -------
    list of (row, column)
        Places on the grid, whose corner is that of the level.
    """
    rows, columns = (
        _inner(start, length, side)
        for start, length, side in zip(corner, rgba.shape[:2], cell, strict=True)
    )
    if not (rows[0].size and columns[0].size):
        return []
    low, high = (
        reduce.reduceat(reduce.reduceat(rgba, rows[1], axis=0), columns[1], axis=1)[::2, ::2]
        for reduce in (np.minimum, np.maximum)
    )
    is_filler = (
        (high[..., 3] == 255)
        & (low[..., 3] == 255)
        & (high[..., :3] - low[..., :3] <= _FLAT).all(axis=-1)
        & (high[..., :3].max(axis=-1) < _WHITE)
    )
    return [(int(rows[0][i]), int(columns[0][k])) for i, k in np.argwhere(is_filler)]


def _inner(start: int, length: int, side: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the cells inside a window along one axis, and where each begins and ends in it.

    Their first and last pixel are left out: compression smears the neighbours into them.
    """
    index = np.arange(int(start // side), int((start + length) // side) + 1)
    begin = np.ceil(index * side).astype(np.int64) + 1 - start
    end = np.floor((index + 1) * side).astype(np.int64) - 1 - start
    inside = (begin >= 0) & (end < length) & (begin < end)
    edges = np.stack((begin[inside], end[inside]), axis=-1).ravel()
    return index[inside], edges


def _merged_runs(mask: NDArray[np.bool_]) -> list[Box]:
    """Cut each row into runs and join runs that are the same in rows that follow each other."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    boxes: list[Box] = []
    growing: dict[tuple[int, int], int] = {}
    for y in range(mask.shape[0]):
        first, last = np.searchsorted(rows, (y, y + 1))
        runs = set(zip(starts[first:last].tolist(), stops[first:last].tolist(), strict=True))
        for run in [run for run in growing if run not in runs]:
            since = growing.pop(run)
            boxes.append((since, run[0], y - since, run[1] - run[0]))
        for run in runs:
            growing.setdefault(run, y)
    end = mask.shape[0]
    boxes += [(since, run[0], end - since, run[1] - run[0]) for run, since in growing.items()]
    return sorted(boxes)


def _halved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Take each 2 x 2 pixels for one, true where any of them is."""
    even = np.pad(mask, [(0, side % 2) for side in mask.shape])
    return even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
