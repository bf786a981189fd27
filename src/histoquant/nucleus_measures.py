"""Measuring labelled nuclei: geometry, stains inside, and stains in a ring around.

Sums are taken in raster order and geometry from the corner of each nucleus' own box, so that no
number depends on the window the nucleus was seen in.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from histoquant.settings import NucleiSettings

Labels = NDArray[np.int32]
Stains = NDArray[np.float32]

_FAR = 2**16 - 1  # squared distance (px) beyond any ring


def measure_nuclei(
    labels: Labels,
    stains: Stains,
    mpp: float,
    settings: NucleiSettings,
    *,
    od: NDArray[np.float32] | None = None,
    max_od: float = 2.5,
    second_is_marker: bool = True,
) -> dict[str, NDArray[np.float64]]:
    """Measure every labelled nucleus of a window.

    Parameters
    ----------
    labels
        int32 (y, x), 0 for background.
    stains
        Signed stain OD (y, x, 3), float32.
    mpp
        Pixel size (um/px).
    settings
        For the width of the cytoplasm ring.
    od
        OD per colour channel (y, x, 3), float32, red first; without it `saturated_fraction` and
        `red_blue_ratio` are NaN.
    max_od
        OD per channel from which a pixel counts as saturated.
    second_is_marker
        False (eosin) leaves the DAB columns NaN.

    Returns
    -------
    columns
        One float64 array per measurement, one entry per nucleus, in the order of labels:
        ``label``; ``y_px``, ``x_px`` (centroid in the window, continuous, corner origin,
        analysis pixels); ``top_px``, ``left_px``, ``bottom_px``, ``right_px`` (half-open);
        ``from_top_px``, ``from_left_px`` (centroid in that box, which no window rounds);
        ``area_um2``; ``eccentricity`` and ``ellipse_fit`` (area over that of the ellipse with
        the same second moments); ``hematoxylin_od_mean``, ``dab_od_mean``, ``dab_od_median``,
        ``dab_od_sd``, ``ring_dab_od_mean`` (NaN without a ring pixel); ``saturated_fraction``;
        ``red_blue_ratio`` (mean OD in red over mean OD in blue).
    """
    numbers = np.empty_like(labels)
    present = _renumber(labels, numbers)
    n = present.size
    colour = np.zeros((1, 1, 3), np.float32) if od is None else od
    sums, boxes = _sum_nuclei(numbers, stains, colour, n, float(np.float32(max_od)))
    owner = np.empty_like(labels)  # only where `nearest` has been set
    nearest = np.full(labels.shape, _FAR, np.uint16)
    ring = _ring_sums(numbers, stains, _disc(settings.ring_um / mpp), n, nearest, owner)
    columns = {"label": present.astype(np.float64)} | _shapes(sums, boxes, mpp)
    area = sums[:, 0]
    columns["hematoxylin_od_mean"] = sums[:, 6] / area
    columns["dab_od_mean"] = sums[:, 7] / area
    columns["dab_od_median"] = _medians(numbers, stains, area.astype(np.int64))
    columns["dab_od_sd"] = np.sqrt(np.maximum(sums[:, 8] / area - (sums[:, 7] / area) ** 2, 0))
    columns["ring_dab_od_mean"] = _ratio(ring[:, 0], ring[:, 1])
    unknown = np.full(n, np.nan)
    columns["saturated_fraction"] = unknown if od is None else sums[:, 9] / area
    columns["red_blue_ratio"] = unknown if od is None else _ratio(sums[:, 10], sums[:, 11])
    if not second_is_marker:
        for name in ("dab_od_mean", "dab_od_median", "dab_od_sd", "ring_dab_od_mean"):
            columns[name] = unknown
    return columns


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where the divisor is not above zero."""
    quotient = np.full(a.shape, np.nan)
    np.divide(a, b, out=quotient, where=b > 0)
    return quotient


def _shapes(
    sums: NDArray[np.float64], boxes: NDArray[np.int64], mpp: float
) -> dict[str, NDArray[np.float64]]:
    """Geometry from moment sums; offsets are taken from the box corner, whatever the window."""
    area = sums[:, 0]
    mean_y, mean_x = sums[:, 1] / area, sums[:, 2] / area
    vyy = sums[:, 3] / area - mean_y**2 + 1 / 12
    vxx = sums[:, 4] / area - mean_x**2 + 1 / 12
    vxy = sums[:, 5] / area - mean_y * mean_x
    middle, spread = (vyy + vxx) / 2, np.hypot((vyy - vxx) / 2, vxy)
    major, minor = middle + spread, np.maximum(middle - spread, 1e-9)
    return {
        "y_px": boxes[:, 0] + (mean_y + 0.5),
        "x_px": boxes[:, 1] + (mean_x + 0.5),
        "from_top_px": mean_y + 0.5,
        "from_left_px": mean_x + 0.5,
        "top_px": boxes[:, 0].astype(np.float64),
        "left_px": boxes[:, 1].astype(np.float64),
        "bottom_px": boxes[:, 2] + 1.0,
        "right_px": boxes[:, 3] + 1.0,
        "area_um2": area * mpp * mpp,
        "eccentricity": np.sqrt(np.maximum(1 - minor / major, 0)),
        "ellipse_fit": area / (4 * np.pi * np.sqrt(major * minor)),
    }


def _disc(radius: float) -> NDArray[np.int32]:
    """Offsets (n, 3) within `radius` pixels: dy, dx, squared distance."""
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    squared = dy**2 + dx**2
    inside = squared <= radius * radius
    return np.column_stack((dy[inside], dx[inside], squared[inside])).astype(np.int32)


@njit(cache=True, nogil=True)
def _renumber(labels: Labels, numbers: Labels) -> NDArray[np.int64]:
    """Set `numbers`: the labels that there are as 1 .. n in ascending order; give those labels."""
    highest = int(labels.max()) if labels.size else 0
    there = np.zeros(highest + 1, np.bool_)
    for label in labels.ravel():
        there[label] = True
    there[0] = False
    present = np.flatnonzero(there)
    new = np.zeros(highest + 1, np.int32)
    for k in range(present.size):
        new[present[k]] = np.int32(k + 1)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            numbers[y, x] = new[labels[y, x]]
    return present


@njit(cache=True, nogil=True)
def _sum_nuclei(
    numbers: NDArray[np.int32],
    stains: NDArray[np.float32],
    od: NDArray[np.float32],
    n: int,
    max_od: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum over each nucleus, in raster order, and find its bounding box.

    Columns: area, y, x, yy, xx, xy (from the box corner), hematoxylin, dab, dab squared,
    saturated pixels, red OD, blue OD.
    """
    height, width = numbers.shape
    with_od = od.shape[0] == height and od.shape[1] == width
    boxes = np.empty((n, 4), np.int64)
    boxes[:, :2] = 2**31
    boxes[:, 2:] = -1
    for y in range(height):
        for x in range(width):
            k = numbers[y, x] - 1
            if k >= 0:
                boxes[k, 0] = min(boxes[k, 0], y)
                boxes[k, 1] = min(boxes[k, 1], x)
                boxes[k, 2] = max(boxes[k, 2], y)
                boxes[k, 3] = max(boxes[k, 3], x)
    sums = np.zeros((n, 12))
    for y in range(height):
        for x in range(width):
            k = numbers[y, x] - 1
            if k < 0:
                continue
            dy, dx = y - boxes[k, 0], x - boxes[k, 1]
            dab = np.float64(stains[y, x, 1])
            s = sums[k]
            s[0] += 1
            s[1] += dy
            s[2] += dx
            s[3] += dy * dy
            s[4] += dx * dx
            s[5] += dx * dy
            s[6] += stains[y, x, 0]
            s[7] += dab
            s[8] += dab * dab
            if with_od:
                highest = max(od[y, x, 0], max(od[y, x, 1], od[y, x, 2]))
                s[9] += highest >= max_od
                s[10] += od[y, x, 0]
                s[11] += od[y, x, 2]
    return sums, boxes


@njit(cache=True, nogil=True)
def _ring_sums(
    numbers: NDArray[np.int32],
    stains: NDArray[np.float32],
    disc: NDArray[np.int32],
    n: int,
    nearest: NDArray[np.uint16],
    owner: NDArray[np.int32],
) -> NDArray[np.float64]:
    """DAB sum and pixel count of each ring: background nearer to this nucleus than to any other.

    Of two equally near, the one whose outline comes first in raster order has the pixel.
    """
    height, width = numbers.shape
    for y in range(height):
        for x in range(width):
            k = numbers[y, x]
            if k == 0 or _is_inside(numbers, y, x):
                continue
            for j in range(disc.shape[0]):
                v, u = y + disc[j, 0], x + disc[j, 1]
                if v < 0 or u < 0 or v >= height or u >= width or numbers[v, u] != 0:
                    continue
                if disc[j, 2] < nearest[v, u]:
                    nearest[v, u] = np.uint16(disc[j, 2])
                    owner[v, u] = k
    sums = np.zeros((n, 2))
    for y in range(height):
        for x in range(width):
            if nearest[y, x] != _FAR:
                k = owner[y, x] - 1
                sums[k, 0] += stains[y, x, 1]
                sums[k, 1] += 1
    return sums


@njit(cache=True, nogil=True)
def _is_inside(numbers: NDArray[np.int32], y: int, x: int) -> bool:
    """Whether all four neighbours belong to the same nucleus."""
    height, width = numbers.shape
    if y == 0 or x == 0 or y == height - 1 or x == width - 1:
        return False
    k = numbers[y, x]
    across = numbers[y, x - 1] == k and numbers[y, x + 1] == k
    return bool(across and numbers[y - 1, x] == k and numbers[y + 1, x] == k)


@njit(cache=True, nogil=True)
def _medians(
    numbers: NDArray[np.int32], stains: NDArray[np.float32], areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Median DAB of each nucleus."""
    ends = np.cumsum(areas)
    at = ends - areas
    values = np.empty(areas.sum(), np.float32)
    for y in range(numbers.shape[0]):
        for x in range(numbers.shape[1]):
            k = numbers[y, x] - 1
            if k >= 0:
                values[at[k]] = stains[y, x, 1]
                at[k] += 1
    medians = np.empty(areas.size)
    for k in range(areas.size):
        medians[k] = np.median(values[ends[k] - areas[k] : ends[k]])
    return medians
