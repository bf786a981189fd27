"""Image quilting: textures of any size from overlapping blocks of pieces.

After A. A. Efros and W. T. Freeman, "Image quilting for texture synthesis and transfer",
SIGGRAPH 2001. Blocks are chosen and cut by their hematoxylin, where edges show most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from quilt.raster import blurred
from quilt.skin import Array, Plane

BLOCK_TRIES = 32
STRIP_TRIES = 40
SEAM_BLUR_PX = 0.7  # a cut as sharp as a pixel would show
LEAST_COST = 1e-4  # per pixel: of equal seams the straighter one is taken
CLOSED = 1e9  # cost of leaving the overlap


def seam(left: Plane, right: Plane) -> Array:
    """Column per row (top to bottom) at which two overlapping pieces differ least."""
    cost = np.square(left - right) + LEAST_COST
    rows, columns = cost.shape
    total = np.full((rows, columns + 2), CLOSED)
    total[:, 1:-1] = cost
    for i in range(1, rows):
        above = total[i - 1]
        total[i, 1:-1] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    path = np.empty(rows, int)
    path[-1] = column = int(total[-1].argmin()) - 1
    for i in range(rows - 2, -1, -1):
        column += int(total[i, column : column + 3].argmin()) - 1
        path[i] = column = min(max(column, 0), columns - 1)
    return path


def blend(below: Plane, above: Plane, share: Plane) -> Plane:
    """Lay a piece over another where `share`, its edges softened, is 1."""
    share = blurred(share, SEAM_BLUR_PX)[..., None]
    return np.asarray(below * (1 - share) + above * share)


def _misfit(piece: Plane, old: Plane) -> Any:
    """How ill two overlaps fit; every other pixel says enough."""
    off = (piece[::2, ::2, 0] - old[::2, ::2, 0]).ravel()
    return off @ off


def _cuts(old: Plane, new: Plane, overlap_px: int, left: bool, top: bool) -> Plane:
    """1 where a new block is laid over the old ones to its left and above it."""
    share = np.ones(new.shape[:2], np.float32)
    if left:
        cut = seam(new[:, :overlap_px, 0], old[:, :overlap_px, 0])
        share *= np.arange(new.shape[1]) > cut[:, None]
    if top:
        cut = seam(new[:overlap_px, :, 0].T, old[:overlap_px, :, 0].T)
        share *= np.arange(new.shape[0])[:, None] > cut
    return share


def _best_block(
    rng: np.random.Generator,
    pieces: Sequence[Plane],
    old: Plane,
    overlap_px: int,
    left: bool,
    top: bool,
) -> Plane:
    """Of blocks cut anywhere from the pieces, the one that best fits the old ones."""
    block_px = len(old)
    room = np.array([(p.shape[0] - block_px) * (p.shape[1] - block_px) for p in pieces], float)
    tries = BLOCK_TRIES if left or top else 1
    least, best = np.inf, old
    for number in rng.choice(len(pieces), tries, p=room / room.sum()):
        piece = pieces[number]
        y, x = (rng.integers(side - block_px) for side in piece.shape[:2])
        block = piece[y : y + block_px, x : x + block_px]
        misfit = 0.0
        if left:
            misfit += _misfit(block[:, :overlap_px], old[:, :overlap_px])
        if top:
            misfit += _misfit(block[:overlap_px], old[:overlap_px])
        if misfit < least:
            least, best = misfit, block
    return best


def quilted(
    rng: np.random.Generator,
    pieces_at: Callable[[float], list[Plane]],
    size_px: tuple[int, int],
    block_px: int,
    overlap_px: int,
) -> Plane:
    """Texture of `size_px` (y, x); `pieces_at` a row in pixels are those to take blocks from."""
    height, width = size_px
    texture = np.zeros((height + block_px, width + block_px, 3), np.float32)
    for y in range(0, height, block_px - overlap_px):
        pieces = pieces_at(y + block_px / 2)
        pieces = pieces + [piece[:, ::-1] for piece in pieces]
        pieces = pieces + [piece[::-1] for piece in pieces]
        for x in range(0, width, block_px - overlap_px):
            place = np.s_[y : y + block_px, x : x + block_px]
            old, sides = texture[place], {"left": x > 0, "top": y > 0}
            block = _best_block(rng, pieces, old, overlap_px, **sides)
            texture[place] = blend(old, block, _cuts(old, block, overlap_px, **sides))
    return texture[:height, :width]


def _best_stretch(
    rng: np.random.Generator, strips: Sequence[Plane], chances: Array, old: Plane, overlap_px: int
) -> Plane:
    """Of stretches cut anywhere from the strips, the one that best fits `old`; any, if first."""
    block_px, first = old.shape[1], not old.any()  # nothing has been laid down yet
    least, best = np.inf, old
    for number in rng.choice(len(strips), STRIP_TRIES, p=chances):
        x = rng.integers(strips[number].shape[1] - block_px)
        stretch = strips[number][:, x : x + block_px]
        if rng.random() < 0.5:
            stretch = stretch[:, ::-1]
        if first:
            misfit = rng.random()
        else:
            misfit = np.square(stretch[:, :overlap_px, 0] - old[:, :overlap_px, 0]).sum()
        if misfit < least:
            least, best = misfit, stretch
    return best


def quilted_strip(
    rng: np.random.Generator,
    strips: Sequence[Plane],
    width_px: int,
    block_px: int = 90,
    overlap_px: int = 30,
    weights: Array | None = None,
) -> Plane:
    """Strip of any length from strips along a border; the higher its weight, the more of one."""
    room = np.array([strip.shape[1] - block_px for strip in strips], float)
    room *= 1 if weights is None else weights
    texture = np.zeros((len(strips[0]), width_px + block_px, 3), np.float32)
    for x in range(0, width_px, block_px - overlap_px):
        old = texture[:, x : x + block_px]
        new = _best_stretch(rng, strips, room / room.sum(), old, overlap_px)
        share = _cuts(old, new, overlap_px, left=x > 0, top=False)
        texture[:, x : x + block_px] = blend(old, new, share)
    return texture[:, :width_px]
