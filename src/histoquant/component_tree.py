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
# eligible; its first and last pixel (they are linked from one to the next); its level; and whether
# it is too large for a nucleus, when the rest is not kept up.
_AREA, _SY, _SX, _SYY, _SXX, _SXY, _EDGES, _STEPS, _GREY, _BLIND, _BEST_AREA, _BEST = range(12)
_TOP, _LEFT, _BOTTOM, _RIGHT, _BESIDE, _FIRST, _LAST, _LEVEL, _DEAD = range(12, 21)
_N_SUMS, _N_COLUMNS = 12, 21
_Stack = NDArray[np.int64]
"""(n, 21): components being grown, each inside the one before it, the brightest last."""


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


# What is known of a pixel while the image is flooded.
_OPEN, _WAITING, _DONE, _LOW, _WALL = range(5)
_SCORE_STEPS = 2**20  # scores are compared as integers, so that no order of adding shows


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
        Look only at eligible regions that touch a blocked pixel.

    Returns
    -------
    labels
        int32 (y, x), 0 outside every component, else 1 .. n.

    Notes
    -----
    The image is flooded from its bright tops downwards, a pixel at a time, as in Nister and
    Stewenius 2008 (ECCV, doi 10.1007/978-3-540-88688-4_14): only the components that are
    growing have attributes, at most one for each level.
    """
    # Compiled callers and Python both come here: memory that NumPy gives in huge pages is fresh
    # in a third of the time.
    height, width = grey.shape
    level = np.zeros((height + 2, width + 2), np.uint8)
    state = np.full((height + 2, width + 2), _WALL, np.uint8)
    heap = np.empty(grey.size, np.int32)
    follows = np.empty(level.size, np.int32)
    labels = np.zeros((height, width), np.int32)
    _label_best(grey, eligible, blocked, rules, beside_blocked, level, state, heap, follows, labels)
    return labels


@njit(cache=True, nogil=True, error_model="numpy")
def _label_best(
    grey: NDArray[np.uint8],
    eligible: NDArray[np.bool_],
    blocked: NDArray[np.bool_],
    rules: ShapeRules,
    beside_blocked: bool,
    levels: NDArray[np.uint8],
    states: NDArray[np.uint8],
    heap: IntArray,
    follows: IntArray,
    labels: IntArray,
) -> None:
    """Flood the image and write `labels`; the arrays before are room to work in."""
    row = grey.shape[1] + 2
    heap_at = _lay_out(grey, eligible, blocked, levels, states)
    level, state = levels.ravel(), states.ravel()
    chosen = np.empty((heap_at[256] + 1, 2), np.int64)  # first pixel and pixels of what was chosen
    chosen[0] = 0  # how many
    stack = np.empty((258, _N_COLUMNS), np.int64)
    waiting = heap_at[:256].copy()  # end of each level's part of the heap
    for start in range(row, level.size - row):
        if state[start] != _OPEN:
            continue
        if not beside_blocked or _touches_wall(state, start, row):
            _flood(start, row, level, state, heap, heap_at, waiting, follows, chosen, stack, rules)
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
    level: NDArray[np.uint8],
    state: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """Set levels and states inside a wall of one pixel; give each level's place in the heap."""
    height, width = grey.shape
    heap_at = np.zeros(257, np.int64)
    for y in range(height):
        for x in range(width):
            value = grey[y, x]
            level[y + 1, x + 1] = value
            if blocked[y, x]:
                continue
            if eligible[y, x]:
                state[y + 1, x + 1] = _OPEN
                heap_at[value + 1] += 1
            else:
                state[y + 1, x + 1] = _LOW
    return np.cumsum(heap_at)


@njit(cache=True, nogil=True, error_model="numpy")
def _touches_wall(state: NDArray[np.uint8], pixel: int, row: int) -> bool:
    across = state[pixel - 1] == _WALL or state[pixel + 1] == _WALL
    return bool(across or state[pixel - row] == _WALL or state[pixel + row] == _WALL)


@njit(cache=True, nogil=True, error_model="numpy")
def _flood(
    start: int,
    row: int,
    level: NDArray[np.uint8],
    state: NDArray[np.uint8],
    heap: IntArray,
    heap_at: NDArray[np.int64],
    waiting: NDArray[np.int64],
    follows: IntArray,
    chosen: NDArray[np.int64],
    stack: _Stack,
    rules: ShapeRules,
) -> None:
    """Grow the components of everything that is connected to the pixel `start`."""
    pixel, here = start, int(level[start])
    state[pixel] = _WAITING
    top = 0
    _begin(stack, top, here)
    while True:
        brighter = -1
        for other in (pixel - row, pixel - 1, pixel + 1, pixel + row):
            if state[other] != _OPEN:
                continue
            state[other] = _WAITING
            there = int(level[other])
            if there > here:
                brighter = other
                break
            heap[waiting[there]] = other
            waiting[there] += 1
        if brighter >= 0:  # it goes first; this pixel waits
            heap[waiting[here]] = pixel
            waiting[here] += 1
            pixel, here = brighter, int(level[brighter])
            top += 1
            _begin(stack, top, here)
            continue
        state[pixel] = _DONE
        if not stack[top, _DEAD]:
            _add_pixel(stack, top, pixel, row, level, state, follows, rules)
        while here >= 0 and waiting[here] == heap_at[here]:
            here -= 1
        while stack[top, _LEVEL] > here:  # nothing of that level is left: its node is whole
            _settle(stack, top, chosen, rules)
            if top == 0 or stack[top - 1, _LEVEL] < here:
                stack[top, _LEVEL] = here
            else:
                top -= 1
                _merge(stack, top, follows, rules)
        if here < 0:
            return
        waiting[here] -= 1
        pixel = int(heap[waiting[here]])


@njit(cache=True, nogil=True, error_model="numpy")
def _begin(stack: _Stack, top: int, level: int) -> None:
    stack[top, _LEVEL] = level
    for i in range(_N_SUMS):
        stack[top, i] = 0
    stack[top, _TOP] = stack[top, _LEFT] = 2**31
    stack[top, _BOTTOM] = stack[top, _RIGHT] = stack[top, _BESIDE] = -1
    stack[top, _DEAD] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _add_pixel(
    stack: _Stack,
    top: int,
    pixel: int,
    row: int,
    level: NDArray[np.uint8],
    state: NDArray[np.uint8],
    follows: IntArray,
    rules: ShapeRules,
) -> None:
    y = pixel // row
    x = pixel - y * row
    here = int(level[pixel])
    edges = steps = blind = 0
    for other in (pixel - row, pixel - 1, pixel + 1, pixel + row):
        known = state[other]
        # Beside a pixel of the component there is no edge any longer.
        edges += -1 if known == _DONE else 1
        if known == _WALL:
            blind += 1
            continue
        there = int(level[other])
        steps += here - there
        if known == _LOW:
            stack[top, _BESIDE] = max(stack[top, _BESIDE], there)
    stack[top, _EDGES] += edges
    stack[top, _STEPS] += steps
    stack[top, _BLIND] += blind
    if stack[top, _AREA]:
        follows[stack[top, _LAST]] = pixel
    else:
        stack[top, _FIRST] = pixel
    stack[top, _LAST] = pixel
    stack[top, _AREA] += 1
    stack[top, _SY] += y
    stack[top, _SX] += x
    stack[top, _SYY] += y * y
    stack[top, _SXX] += x * x
    stack[top, _SXY] += y * x
    stack[top, _GREY] += here
    stack[top, _TOP] = min(stack[top, _TOP], y)
    stack[top, _LEFT] = min(stack[top, _LEFT], x)
    stack[top, _BOTTOM] = max(stack[top, _BOTTOM], y)
    stack[top, _RIGHT] = max(stack[top, _RIGHT], x)
    stack[top, _DEAD] = _is_too_large(stack, top, rules)


@njit(cache=True, nogil=True, error_model="numpy")
def _is_too_large(stack: _Stack, k: int, rules: ShapeRules) -> bool:
    return bool(
        stack[k, _AREA] > rules.max_area
        or stack[k, _BOTTOM] - stack[k, _TOP] >= rules.max_extent
        or stack[k, _RIGHT] - stack[k, _LEFT] >= rules.max_extent
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(stack: _Stack, top: int, follows: IntArray, rules: ShapeRules) -> None:
    """Add the component above `top` to it."""
    if stack[top + 1, _DEAD]:
        stack[top, _DEAD] = 1
    if stack[top, _DEAD]:
        return
    if stack[top, _AREA]:
        follows[stack[top, _LAST]] = stack[top + 1, _FIRST]
    else:
        stack[top, _FIRST] = stack[top + 1, _FIRST]
    stack[top, _LAST] = stack[top + 1, _LAST]
    for i in range(_N_SUMS):
        stack[top, i] += stack[top + 1, i]
    stack[top, _TOP] = min(stack[top, _TOP], stack[top + 1, _TOP])
    stack[top, _LEFT] = min(stack[top, _LEFT], stack[top + 1, _LEFT])
    stack[top, _BOTTOM] = max(stack[top, _BOTTOM], stack[top + 1, _BOTTOM])
    stack[top, _RIGHT] = max(stack[top, _RIGHT], stack[top + 1, _RIGHT])
    stack[top, _BESIDE] = max(stack[top, _BESIDE], stack[top + 1, _BESIDE])
    stack[top, _DEAD] = _is_too_large(stack, top, rules)


@njit(cache=True, nogil=True, error_model="numpy")
def _settle(stack: _Stack, top: int, chosen: NDArray[np.int64], rules: ShapeRules) -> None:
    """Decide between a whole node and the best nodes inside it."""
    if stack[top, _DEAD] or stack[top, _BESIDE] >= stack[top, _LEVEL]:
        return  # too large, or only a part of what is connected at this level
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
