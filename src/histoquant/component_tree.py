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

from typing import Any, NamedTuple

import numpy as np
from numba import njit
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
    fit_power: float
    """How hard departures from an ellipse count."""
    min_fit: float
    """Least area over that of the ellipse with the same second moments."""
    min_score: float
    min_seen: float
    """Least share of the outline that borders on neither a taken pixel nor the window's end."""


@njit(cache=True, nogil=True)
def _sorted_pixels(grey: NDArray[np.uint8], blocked: NDArray[np.bool_], floor: int) -> IntArray:
    """Sort the pixels above `floor`, by level, in raster order within one."""
    counts = np.zeros(257, np.int64)
    flat, shut = grey.ravel(), blocked.ravel()
    for i in range(flat.size):
        if flat[i] > floor and not shut[i]:
            counts[flat[i] + 1] += 1
    for level in range(256):
        counts[level + 1] += counts[level]
    order = np.empty(counts[256], np.int32)
    for i in range(flat.size):
        if flat[i] > floor and not shut[i]:
            order[counts[flat[i]]] = i
            counts[flat[i]] += 1
    return order


# Columns of the attribute table: sums over the pixels of a component.
_AREA, _SY, _SX, _SYY, _SXX, _SXY, _TOP, _LEFT, _BOTTOM, _RIGHT, _EDGES, _STEPS, _GREY, _BLIND = (
    range(14)
)


@njit(cache=True, nogil=True)
def node_score(a: Any, level: Any, rules: ShapeRules) -> float:
    """Score in 0-1 of the component with the attribute sums `a` as a nucleus.

    The product of: step across the outline, likeness to the ellipse of equal moments,
    convexity (perimeter against that of the bounding box), and size.
    """
    area = a[_AREA]
    if area < rules.min_area or area > rules.max_area:
        return 0.0
    seen = a[_EDGES] - a[_BLIND]
    if seen < rules.min_seen * a[_EDGES]:
        return 0.0
    edge = a[_STEPS] / seen
    contrast = a[_GREY] / area - level
    if edge < rules.min_edge or contrast < rules.min_contrast:
        return 0.0
    vyy = (area * a[_SYY] - a[_SY] * a[_SY]) / (area * area) + 1.0 / 12.0
    vxx = (area * a[_SXX] - a[_SX] * a[_SX]) / (area * area) + 1.0 / 12.0
    vxy = (area * a[_SXY] - a[_SX] * a[_SY]) / (area * area)
    ellipse = 4.0 * np.pi * np.sqrt(max(vyy * vxx - vxy * vxy, 1e-9))
    fit = min(area / ellipse, 1.0)
    if fit < rules.min_fit:
        return 0.0
    box = 2.0 * (a[_BOTTOM] - a[_TOP] + a[_RIGHT] - a[_LEFT] + 2)
    convex = min(box / a[_EDGES], 1.0)
    size = min(area / rules.typical_area, 1.0)
    strength = edge / (edge + rules.edge_half)
    return float(strength * fit**rules.fit_power * convex * np.sqrt(size))


@njit(cache=True, nogil=True)
def _find(up: IntArray, i: int) -> int:
    while up[i] != i:
        up[i] = up[up[i]]
        i = up[i]
    return i


@njit(cache=True, nogil=True)
def best_components(
    grey: NDArray[np.uint8], blocked: NDArray[np.bool_], floor: int, rules: ShapeRules
) -> IntArray:
    """Label the best disjoint components of `grey`.

    Parameters
    ----------
    grey
        Image (y, x), uint8, nuclei bright.
    blocked
        Pixels (y, x) that belong to no component and say nothing of the edges beside them.
    floor
        Pixels at or below this level belong to no component.
    rules
        What counts as a nucleus.

    Returns
    -------
    labels
        int32 (y, x), 0 outside every component, else 1 .. n.
    """
    height, width = grey.shape
    flat = grey.ravel()
    order = _sorted_pixels(grey, blocked, floor)
    n = order.size
    slot = np.full(flat.size, -1, np.int32)  # pixel -> place in order, once processed
    parent = np.empty(n, np.int32)
    up = np.empty(n, np.int32)
    sums = np.zeros((n, 14), np.int64)
    value = np.zeros((n, 2))  # of the best choice below: area, area * score
    taken = np.zeros(n, np.bool_)
    dead = np.zeros(n, np.bool_)
    for k in range(n - 1, -1, -1):
        pixel = order[k]
        level = np.int64(flat[pixel])
        y, x = pixel // width, pixel % width
        parent[k] = k
        up[k] = k
        slot[pixel] = k
        a = sums[k]
        a[_AREA] = 1
        a[_SY], a[_SX] = y, x
        a[_SYY], a[_SXX], a[_SXY] = y * y, x * x, y * x
        a[_TOP], a[_BOTTOM], a[_LEFT], a[_RIGHT] = y, y, x, x
        a[_GREY] = level
        for side in range(4):
            ny = y + (side == 1) - (side == 0)
            nx = x + (side == 3) - (side == 2)
            if ny < 0 or nx < 0 or ny >= height or nx >= width:
                a[_EDGES] += 1
                a[_BLIND] += 1
                continue
            other = ny * width + nx
            step = np.int64(flat[other]) - level
            s = slot[other]
            if s < 0:  # outside as yet: an edge, with a step down where it can be seen
                a[_EDGES] += 1
                if blocked[ny, nx]:
                    a[_BLIND] += 1
                else:
                    a[_STEPS] -= step
                continue
            a[_EDGES] -= 1  # no longer an edge of the neighbour
            a[_STEPS] -= step
            r = _find(up, s)
            if r == k:
                continue
            up[r] = k
            parent[r] = k
            if dead[r]:
                dead[k] = True
            below = flat[order[r]] != flat[pixel]
            if below and not dead[r]:
                _settle(sums[r], np.int64(flat[order[r]]), value, taken, r, rules)
            value[k, 0] += value[r, 0]
            value[k, 1] += value[r, 1]
            if not dead[k]:
                _merge(a, sums[r])
        if (
            a[_AREA] > rules.max_area
            or a[_BOTTOM] - a[_TOP] >= rules.max_extent
            or a[_RIGHT] - a[_LEFT] >= rules.max_extent
        ):
            dead[k] = True
    labels = np.zeros(flat.size, np.int32)
    count = 0
    for k in range(n):
        if parent[k] == k and not dead[k]:
            _settle(sums[k], np.int64(flat[order[k]]), value, taken, k, rules)
        over = labels[order[parent[k]]] if parent[k] != k else 0
        if over:
            labels[order[k]] = over
        elif taken[k]:
            count += 1
            labels[order[k]] = count
    return labels.reshape(height, width)


@njit(cache=True, nogil=True)
def _merge(a: Any, b: Any) -> None:
    for i in range(_SXY + 1):
        a[i] += b[i]
    a[_EDGES] += b[_EDGES]
    a[_STEPS] += b[_STEPS]
    a[_GREY] += b[_GREY]
    a[_BLIND] += b[_BLIND]
    a[_TOP] = min(a[_TOP], b[_TOP])
    a[_LEFT] = min(a[_LEFT], b[_LEFT])
    a[_BOTTOM] = max(a[_BOTTOM], b[_BOTTOM])
    a[_RIGHT] = max(a[_RIGHT], b[_RIGHT])


@njit(cache=True, nogil=True)
def _settle(a: Any, level: Any, value: Any, taken: Any, k: int, rules: ShapeRules) -> None:
    """Decide between a finished node and the best nodes below it."""
    score = node_score(a, level, rules)
    if score < rules.min_score:
        return
    if value[k, 0] == 0 or score * value[k, 0] >= value[k, 1]:
        taken[k] = True
        value[k, 0] = a[_AREA]
        value[k, 1] = a[_AREA] * score


@njit(cache=True, nogil=True)
def ellipse_fits(labels: IntArray, count: int) -> NDArray[np.float64]:
    """Area of each object 1 .. `count` over that of the ellipse with the same moments."""
    sums = np.zeros((count + 1, 6), np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            if labels[y, x]:
                s = sums[labels[y, x]]
                s[0] += 1
                s[1] += y
                s[2] += x
                s[3] += y * y
                s[4] += x * x
                s[5] += y * x
    fits = np.ones(count + 1)
    for k in range(1, count + 1):
        a, y, x, yy, xx, xy = sums[k]
        if a:
            vyy = (a * yy - y * y) / (a * a) + 1.0 / 12.0
            vxx = (a * xx - x * x) / (a * a) + 1.0 / 12.0
            vxy = (a * xy - x * y) / (a * a)
            fits[k] = a / (4.0 * np.pi * np.sqrt(max(vyy * vxx - vxy * vxy, 1e-9)))
    return fits


@njit(cache=True, nogil=True)
def split_by_cores(labels: IntArray, cores: IntArray, count: int) -> IntArray:
    """Divide each object 1 .. `count` among its cores, where it has two or more.

    Cores grow step by step, row neighbours only and within their object. Objects with fewer
    cores stay as they are; pieces get new labels, in no useful order.
    """
    height, width = labels.shape
    first = np.zeros(count + 1, np.int32)
    several = np.zeros(count + 1, np.bool_)
    for y in range(height):
        for x in range(width):
            k, c = labels[y, x], cores[y, x]
            if k and c:
                if first[k] == 0:
                    first[k] = c
                elif first[k] != c:
                    several[k] = True
    out = labels.copy()
    queue = np.empty(labels.size, np.int32)
    end = 0
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k and several[k]:
                out[y, x] = 0
                if cores[y, x]:
                    out[y, x] = count + cores[y, x]
                    queue[end] = y * width + x
                    end += 1
    at = 0
    while at < end:
        y, x = queue[at] // width, queue[at] % width
        at += 1
        for side in range(4):
            v = y + (side == 1) - (side == 0)
            u = x + (side == 3) - (side == 2)
            inside = v >= 0 and u >= 0 and v < height and u < width
            if inside and labels[v, u] == labels[y, x] and out[v, u] == 0:
                out[v, u] = out[y, x]
                queue[end] = v * width + u
                end += 1
    return out
