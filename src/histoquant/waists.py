"""Splitting nuclei that touch: objects with a waist fall into the pieces on either side."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from histoquant.component_tree import IntArray, ShapeRules, best_components


@njit(cache=True, nogil=True, error_model="numpy")
def split_at_waists(
    labels: IntArray, max_fit: float, grey_per_px: float, rules: ShapeRules, min_piece: float
) -> IntArray:
    """Split objects that are no ellipse where the distance to their border has a waist.

    Equally dark nuclei that touch have no level that parts them; the same tree, over the
    distance map of the object, does.

    Parameters
    ----------
    labels
        int32 (y, x), 0 for background.
    max_fit
        Objects whose area over that of the ellipse with the same moments exceeds this stay whole.
    grey_per_px
        Grey levels per pixel of distance.
    rules
        What counts as the core of a nucleus.
    min_piece
        Pieces of fewer pixels vanish.

    Returns
    -------
    labels
        int32 (y, x); the pieces of an object, grown from their cores, have new numbers.
    """
    boxes, fits = _boxes_and_fits(labels)
    out = labels.copy()
    last = boxes.shape[0] - 1
    for k in range(1, boxes.shape[0]):
        if fits[k] >= max_fit:
            continue
        top, left, bottom, right = boxes[k]
        mask = labels[top : bottom + 1, left : right + 1] == k
        distance = _depth_inside(mask, grey_per_px)
        cores = best_components(distance, mask, np.zeros(mask.shape, np.bool_), rules, False)
        n = cores.max()
        if n < 2:
            continue
        _grow(cores, mask)
        areas = np.bincount(cores.ravel(), None, n + 1)
        for y in range(mask.shape[0]):
            for x in range(mask.shape[1]):
                if mask[y, x]:
                    piece = cores[y, x]
                    out[top + y, left + x] = last + piece if areas[piece] >= min_piece else 0
        last += n
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _boxes_and_fits(labels: IntArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Box (top, left, bottom, right, inclusive) of each label, and area over its ellipse's."""
    count = int(labels.max()) if labels.size else 0
    sums = np.zeros((count + 1, 6), np.int64)
    boxes = np.zeros((count + 1, 4), np.int64)
    boxes[:, :2] = 2**31
    boxes[:, 2:] = -1
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k:
                sums[k, 0] += 1
                sums[k, 1] += y
                sums[k, 2] += x
                sums[k, 3] += y * y
                sums[k, 4] += x * x
                sums[k, 5] += y * x
                boxes[k, 0] = min(boxes[k, 0], y)
                boxes[k, 1] = min(boxes[k, 1], x)
                boxes[k, 2] = max(boxes[k, 2], y)
                boxes[k, 3] = max(boxes[k, 3], x)
    fits = np.ones(count + 1)
    for k in range(1, count + 1):
        a, sy, sx, syy, sxx, sxy = sums[k]
        if a:
            vyy = (a * syy - sy * sy) / (a * a) + 1.0 / 12.0
            vxx = (a * sxx - sx * sx) / (a * a) + 1.0 / 12.0
            vxy = (a * sxy - sx * sy) / (a * a)
            fits[k] = a / (4.0 * np.pi * np.sqrt(max(vyy * vxx - vxy * vxy, 1e-9)))
    return boxes, fits


@njit(cache=True, nogil=True, error_model="numpy")
def _depth_inside(mask: NDArray[np.bool_], grey_per_px: float) -> NDArray[np.uint8]:
    """Distance of each pixel of an object to the nearest one outside, in grey levels.

    Column by column and then row by row (Felzenszwalb and Huttenlocher 2012, without their lower
    envelope: nuclei are small). A wall of background stands around the box.
    """
    height, width = mask.shape
    up = np.zeros((height, width), np.int64)
    for x in range(width):
        run = 0
        for y in range(height):
            run = run + 1 if mask[y, x] else 0
            up[y, x] = run
        run = 0
        for y in range(height - 1, -1, -1):
            run = run + 1 if mask[y, x] else 0
            up[y, x] = min(up[y, x], run)
    depth = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                continue
            nearest = min(x + 1, width - x) ** 2
            for u in range(width):
                nearest = min(nearest, (u - x) ** 2 + up[y, u] ** 2)
            depth[y, x] = min(np.sqrt(nearest) * grey_per_px + 0.01, 255.0)
    return depth


@njit(cache=True, nogil=True, error_model="numpy")
def _grow(cores: IntArray, mask: NDArray[np.bool_]) -> None:
    """Grow `cores` in place over the mask, step by step, to row and column neighbours."""
    height, width = mask.shape
    queue = np.empty(mask.size, np.int64)
    end = 0
    for y in range(height):
        for x in range(width):
            if cores[y, x]:
                queue[end] = y * width + x
                end += 1
    at = 0
    while at < end:
        y, x = queue[at] // width, queue[at] % width
        at += 1
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            inside = v >= 0 and u >= 0 and v < height and u < width
            if inside and mask[v, u] and cores[v, u] == 0:
                cores[v, u] = cores[y, x]
                queue[end] = v * width + u
                end += 1
