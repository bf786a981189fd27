"""Nuclei as the best-shaped level sets of a grey image.

Every nucleus, pale or dark, is a connected component of some threshold of the smoothed
nuclear density; which threshold differs from nucleus to nucleus. The components of all
thresholds form a tree (the max-tree). Each node gets a score from its shape, size and edge,
and the disjoint set of nodes that scores best is taken: the tree's own answer to "one nucleus
or two", with no global threshold and no seeds (compare Arteta et al. 2012, MICCAI,
doi 10.1007/978-3-642-33415-3_43, whose scores are learned; the tree is built as in
Berger et al. 2007, ICIP, doi 10.1109/ICIP.2007.4379949).

Finite support comes with the tree: a node wider than the largest nucleus is never taken, nor
is any node above it, so a taken component depends only on pixels within its own extent.
All attributes are sums of integers, so no order of summation can show either.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


class ShapeRules(NamedTuple):
    """What a node must look like; lengths in pixels, densities in grey levels."""

    min_area: float
    max_area: float
    max_extent: float
    """Longest side of the bounding box (px)."""
    typical_area: float
    """Area (px) above which size no longer counts against a node."""
    edge_half: float
    """Mean step across the outline (grey levels per px) that scores one half."""
    min_edge: float
    """Least mean step across the outline (grey levels per px)."""
    min_contrast: float
    """Least mean grey level above the outline's own level."""
    fit_power: int
    """How hard departures from an ellipse count."""
    min_fit: float
    """Least area over that of the ellipse with the same second moments."""
    min_score: float
    min_seen: float
    """Least share of the outline that borders on neither a taken pixel nor the window's end."""


# A component is a row of integers: sums over its pixels, of them the summed area and the summed
# area * score of the best choice of nodes in it; its box; the brightest pixel beside it that is not
# eligible; its first and last pixel (they are linked from one to the next); and its level.
_AREA, _SY, _SX, _SYY, _SXX, _SXY, _EDGES, _STEPS, _GREY, _BLIND, _BEST_AREA, _BEST = range(12)
_TOP, _LEFT, _BOTTOM, _RIGHT, _BESIDE, _FIRST, _LAST, _LEVEL = range(12, 20)
_N_COLUMNS = 20
_Stack = NDArray[np.int64]
"""(n, 20): components being grown, each inside the one before it, the brightest last."""


@njit(cache=True, nogil=True, error_model="numpy")
def node_score(stack: _Stack, k: int, rules: ShapeRules) -> float:
    """Score in 0-1 of the component with the attributes `stack[k]` as a nucleus.

    The product of: step across the outline, likeness to the ellipse of equal moments,
    convexity (perimeter against that of the bounding box), and size.
    """
    area = stack[k, _AREA]
    if area < rules.min_area or area > rules.max_area:
        return 0.0
    seen = stack[k, _EDGES] - stack[k, _BLIND]
    if seen < rules.min_seen * stack[k, _EDGES]:
        return 0.0
    edge = stack[k, _STEPS] / seen
    contrast = stack[k, _GREY] / area - stack[k, _LEVEL]
    if edge < rules.min_edge or contrast < rules.min_contrast:
        return 0.0
    vyy = (area * stack[k, _SYY] - stack[k, _SY] * stack[k, _SY]) / (area * area) + 1.0 / 12.0
    vxx = (area * stack[k, _SXX] - stack[k, _SX] * stack[k, _SX]) / (area * area) + 1.0 / 12.0
    vxy = (area * stack[k, _SXY] - stack[k, _SX] * stack[k, _SY]) / (area * area)
    ellipse = 4.0 * np.pi * np.sqrt(max(vyy * vxx - vxy * vxy, 1e-9))
    fit = min(area / ellipse, 1.0)
    if fit < rules.min_fit:
        return 0.0
    box = 2.0 * (stack[k, _BOTTOM] - stack[k, _TOP] + stack[k, _RIGHT] - stack[k, _LEFT] + 2)
    convex = min(box / stack[k, _EDGES], 1.0)
    size = min(area / rules.typical_area, 1.0)
    strength = edge / (edge + rules.edge_half)
    return float(strength * _power(fit, rules.fit_power) * convex * np.sqrt(size))


@njit(cache=True, nogil=True, error_model="numpy")
def _power(base: float, exponent: int) -> float:
    """Multiply out: a tenth of the time of a power of floats."""
    product = 1.0
    for _ in range(exponent):
        product *= base
    return product


# What is known of a pixel while the image is flooded, above its grey level in one number: a step
# to a neighbour then reads the memory once.
_OPEN, _WAITING, _DONE, _LOW, _WALL = range(0, 5 * 256, 256)
_SCORE_STEPS = 2**20  # scores are compared as integers, so that no order of adding shows
_Cells = NDArray[np.uint16]


@register_jitable
def best_components(
    grey: NDArray[np.uint8],
    eligible: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    rules: ShapeRules,
    beside_blocked: bool,
) -> IntArray:
    """Label the best disjoint components of `grey`.

    Parameters
    ----------
    grey
        Image (y, x), uint8, nuclei bright.
    eligible
        Pixels (y, x) that may belong to a component. A component is taken only when all that is
        connected at its level is eligible.
    blocked
        Pixels (y, x) that belong to no component and say nothing of the edges beside them.
    rules
        What counts as a nucleus.
    beside_blocked
        Take only components that border on a blocked pixel.

    Returns
    -------
    labels
        int32 (y, x), 0 outside every component, else 1 .. n.

    Notes
    -----
    The image is flooded from its bright tops downwards, a pixel at a time, as in Nister and
    Stewenius 2008 (ECCV, doi 10.1007/978-3-540-88688-4_14): only the components that are
    growing have attributes, at most one for each level.

    A component that has grown too large for a nucleus, or over pixels that are not eligible, is
    given up, and so is all below it: no darker level makes it smaller. Its pixels then stand like
    pixels that are not eligible, and what flows into them from above is given up in turn. Most
    of the pixels between nuclei are looked at no further than that.
    """
    # Compiled callers and Python both come here: memory that NumPy gives in huge pages is fresh
    # in a third of the time.
    height, width = grey.shape
    cells = np.full((height + 2, width + 2), np.uint16(_WALL), np.uint16)
    heap = np.empty(grey.size, np.int32)
    follows = np.empty(cells.size, np.int32)
    labels = np.zeros((height, width), np.int32)
    _label_best(grey, eligible, blocked, rules, beside_blocked, cells, heap, follows, labels)
    return labels


@njit(cache=True, nogil=True, error_model="numpy")
def _label_best(
    grey: NDArray[np.uint8],
    eligible: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    rules: ShapeRules,
    beside_blocked: bool,
    cells: _Cells,
    heap: IntArray,
    follows: IntArray,
    labels: IntArray,
) -> None:
    """Flood the image and write `labels`; the arrays before are room to work in."""
    row = grey.shape[1] + 2
    heap_at = _lay_out(grey, eligible, blocked, cells)
    cell = cells.ravel()
    chosen = np.empty((heap_at[256] + 1, 2), np.int64)  # first pixel and pixels of what was chosen
    chosen[0] = 0  # how many
    stack = np.empty((258, _N_COLUMNS), np.int64)
    waiting = heap_at[:256].copy()  # end of each level's part of the heap
    for start in range(row, cell.size - row):
        if cell[start] >= _WAITING or (beside_blocked and not _touches_wall(cell, start, row)):
            continue
        if _is_drained(cell, start, row):
            cell[start] += np.uint16(_LOW)
            continue
        _flood(start, row, cell, heap, heap_at, waiting, follows, chosen, stack, rules,
               beside_blocked)  # fmt: skip
    _draw_chosen(labels, chosen[1 : chosen[0, 0] + 1], follows)


@njit(cache=True, nogil=True, error_model="numpy")
def _draw_chosen(labels: IntArray, chosen: NDArray[np.int64], follows: IntArray) -> None:
    """Label what was chosen, the largest first: what lies inside that was given up for it."""
    row = labels.shape[1] + 2
    count = 0
    for k in np.argsort(-chosen[:, 1], kind="mergesort"):
        pixel, n = chosen[k]
        if labels[pixel // row - 1, pixel % row - 1]:
            continue
        count += 1
        for _ in range(n):
            labels[pixel // row - 1, pixel % row - 1] = count
            pixel = np.int64(follows[pixel])


@njit(cache=True, nogil=True, error_model="numpy")
def _lay_out(
    grey: NDArray[np.uint8],
    eligible: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    cells: _Cells,
) -> NDArray[np.int64]:
    """Set the cells inside a wall of one pixel; give each level's place in the heap."""
    height, width = grey.shape
    heap_at = np.zeros(257, np.int64)
    for y in range(height):
        for x in range(width):
            if blocked[y, x]:
                continue
            value = np.uint16(grey[y, x])
            if eligible[y, x]:
                cells[y + 1, x + 1] = value
                heap_at[value + 1] += 1
            else:
                cells[y + 1, x + 1] = value + np.uint16(_LOW)
    return np.cumsum(heap_at)


@njit(cache=True, nogil=True, error_model="numpy")
def _touches_wall(cell: _Cells, pixel: int, row: int) -> bool:
    across = cell[pixel - 1] >= _WALL or cell[pixel + 1] >= _WALL
    return bool(across or cell[pixel - row] >= _WALL or cell[pixel + row] >= _WALL)


@njit(cache=True, nogil=True, error_model="numpy")
def _is_drained(cell: _Cells, pixel: int, row: int) -> bool:
    """Whether a neighbour as bright or brighter cannot belong to a nucleus at this level."""
    least = np.int64(cell[pixel]) + _LOW
    for other in (pixel - row, pixel - 1, pixel + 1, pixel + row):
        if least <= np.int64(cell[other]) < _WALL:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _flood(
    start: int,
    row: int,
    cell: _Cells,
    heap: IntArray,
    heap_at: NDArray[np.int64],
    waiting: NDArray[np.int64],
    follows: IntArray,
    chosen: NDArray[np.int64],
    stack: _Stack,
    rules: ShapeRules,
    beside_blocked: bool,
) -> None:
    """Grow the components of what is connected to the pixel `start`, until they are no nuclei.

    The brightest component is kept in variables, which takes half the time of a row of `stack`.
    """
    per_row = 1.0 / row
    pixel, here = start, int(np.int64(cell[start]))
    lowest = level = here
    cell[pixel] += np.uint16(_WAITING)
    top = area = sy = sx = syy = sxx = sxy = edges = steps = grey = blind = best_area = best = 0
    upper = left = 2**31
    lower = right = beside = first = last = -1
    while True:
        brighter, more, falls, walls, low = -1, 0, 0, 0, beside
        for k in range(4):
            other = pixel + (-row if k == 0 else -1 if k == 1 else 1 if k == 2 else row)
            known = int(np.int64(cell[other]))
            if known < _WAITING:
                cell[other] = np.uint16(known + _WAITING)
                if known > here:
                    brighter = other
                    break
                heap[waiting[known]] = other
                waiting[known] += 1
                lowest = min(lowest, known)
                more += 1
                falls += here - known
                continue
            # Spelled as sums: a branch for each state would be guessed wrong half of the time.
            there, state = known & 255, known >> 8
            wall = state >> 2
            walls += wall
            falls += (here - there) * (1 - wall)
            # Beside a pixel of the component there is no edge any longer.
            more += 1 - 2 * (state == _DONE >> 8)
            low = max(low, there if state == _LOW >> 8 else -1)
        if brighter >= 0:  # it goes first; this pixel waits
            heap[waiting[here]] = pixel
            waiting[here] += 1
            _put(stack, top, (area, sy, sx, syy, sxx, sxy, edges, steps, grey, blind, best_area,
                 best, upper, left, lower, right, beside, first, last, level))  # fmt: skip
            pixel, here = brighter, int(np.int64(cell[brighter])) - _WAITING
            level = here
            top += 1
            area = sy = sx = syy = sxx = sxy = edges = steps = grey = blind = best_area = best = 0
            upper = left = 2**31
            lower = right = beside = first = last = -1
            continue
        cell[pixel] = np.uint16(here + _DONE)
        edges, steps, blind, beside = edges + more, steps + falls, blind + walls, low
        if area:
            follows[last] = pixel
        else:
            first = pixel
        last = pixel
        y = int((pixel + 0.5) * per_row)
        x = pixel - y * row
        area, sy, sx, grey = area + 1, sy + y, sx + x, grey + here
        syy, sxx, sxy = syy + y * y, sxx + x * x, sxy + y * x
        upper, lower, left, right = min(upper, y), max(lower, y), min(left, x), max(right, x)
        dead = beside >= here or _is_too_large(area, lower - upper, right - left, rules)
        if not dead:
            while here >= lowest and waiting[here] == heap_at[here]:
                here -= 1
            here = here if here >= lowest else -1
            while level > here:  # nothing of that level is left: its node is whole
                if area >= rules.min_area and (blind or not beside_blocked):
                    _put(stack, top, (area, sy, sx, syy, sxx, sxy, edges, steps, grey, blind,
                         best_area, best, upper, left, lower, right, beside, first, last,
                         level))  # fmt: skip
                    _settle(stack, top, chosen, rules)
                    best_area, best = stack[top, _BEST_AREA], stack[top, _BEST]
                if top == 0 or stack[top - 1, _LEVEL] < here:
                    level = here
                    continue
                top -= 1
                below = stack[top]
                if below[_AREA]:
                    follows[below[_LAST]] = first
                    first = below[_FIRST]
                area, sy, sx = area + below[_AREA], sy + below[_SY], sx + below[_SX]
                syy, sxx, sxy = syy + below[_SYY], sxx + below[_SXX], sxy + below[_SXY]
                edges, steps = edges + below[_EDGES], steps + below[_STEPS]
                grey, blind = grey + below[_GREY], blind + below[_BLIND]
                best_area, best = best_area + below[_BEST_AREA], best + below[_BEST]
                upper, left = min(upper, below[_TOP]), min(left, below[_LEFT])
                lower, right = max(lower, below[_BOTTOM]), max(right, below[_RIGHT])
                beside, level = max(beside, below[_BESIDE]), below[_LEVEL]
                dead = beside >= level or _is_too_large(area, lower - upper, right - left, rules)
                if dead:
                    break
            if here < 0:
                return
        if dead:
            _give_up(cell, heap, heap_at, waiting, here, lowest, stack, top, follows, first, area)
            return
        waiting[here] -= 1
        pixel = int(np.int64(heap[waiting[here]]))


@njit(cache=True, nogil=True, error_model="numpy")
def _put(stack: _Stack, k: int, values: tuple[int, ...]) -> None:
    for i in range(_N_COLUMNS):
        stack[k, i] = values[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _give_up(
    cell: _Cells,
    heap: IntArray,
    heap_at: NDArray[np.int64],
    waiting: NDArray[np.int64],
    here: int,
    lowest: int,
    stack: _Stack,
    top: int,
    follows: IntArray,
    first: int,
    area: int,
) -> None:
    """Have all that the flood has reached stand like pixels that are not eligible.

    What waits is darker than a pixel beside it that was given up, so it cannot do better.
    """
    for k in range(top, -1, -1):
        pixel = np.int64(first)
        for _ in range(area):
            cell[pixel] += np.uint16(_LOW - _DONE)
            pixel = np.int64(follows[pixel])
        if k:
            first, area = stack[k - 1, _FIRST], stack[k - 1, _AREA]
    for level in range(lowest, here + 1):
        for at in range(heap_at[level], waiting[level]):
            cell[heap[at]] += np.uint16(_LOW - _WAITING)
        waiting[level] = heap_at[level]


@njit(cache=True, nogil=True, error_model="numpy")
def _is_too_large(area: int, height: int, width: int, rules: ShapeRules) -> bool:
    """Whether a component of this area, and so many rows and columns after its first, is."""
    long = height >= rules.max_extent or width >= rules.max_extent
    return bool(area > rules.max_area or long)


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(stack: _Stack, top: int, chosen: NDArray[np.int64], rules: ShapeRules) -> None:
    """Decide between a whole node and the best nodes inside it."""
    score = node_score(stack, top, rules)
    if score < rules.min_score or score == 0.0:
        return
    steps = np.int64(score * _SCORE_STEPS)
    if steps * stack[top, _BEST_AREA] >= stack[top, _BEST]:
        area = stack[top, _AREA]
        chosen[0, 0] += 1
        chosen[chosen[0, 0], 0] = stack[top, _FIRST]
        chosen[chosen[0, 0], 1] = area
        stack[top, _BEST_AREA] = area
        stack[top, _BEST] = area * steps
