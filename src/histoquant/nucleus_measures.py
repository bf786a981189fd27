"""Measuring labelled nuclei: geometry, stains inside, and stains in a ring around.

Sums are taken in raster order and geometry from the corner of each nucleus' own box, so that no
number depends on the window the nucleus was seen in. Stains are asked for only where nuclei and
their rings are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from histoquant.settings import NucleiSettings

Labels = NDArray[np.int32]
Stains = NDArray[np.float32]
Places = NDArray[np.int32]
"""Pixels of a window, numbered in raster order."""
Look = Callable[[Places], tuple[Stains, Stains | None]]
"""Gives signed stain OD (n, 3), and OD per channel (n, 3) where there is any, at n places."""
Own = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
"""Says of centroids (n, 2) (y, x) of a window which are wanted."""

_FAR = 2**29  # distance beyond any ring
_AREA, _SY, _SX, _TOP, _LEFT, _BOTTOM, _RIGHT = range(7)


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
    flat, colours = stains.reshape(-1, 3), (stains if od is None else od).reshape(-1, 3)

    def look(places: Places) -> tuple[Stains, Stains | None]:
        return flat.take(places, axis=0), None if od is None else colours.take(places, axis=0)

    return measure_places(
        labels, look, mpp, settings, max_od=max_od, second_is_marker=second_is_marker
    )


def measure_places(
    labels: Labels,
    look: Look,
    mpp: float,
    settings: NucleiSettings,
    *,
    max_od: float = 2.5,
    second_is_marker: bool = True,
    own: Own | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Measure nuclei of a window whose stains `look` knows; of those only that are the `own`.

    Parameters and columns as in `measure_nuclei`.
    """
    labels = np.ascontiguousarray(labels)
    extents = _extents(labels)
    present = np.flatnonzero(extents[:, _AREA])
    if own is not None:
        present = present[own(_centroids(extents[present]))]
    extents = extents[present]
    number = np.full(int(labels.max(initial=0)) + 1, -1, np.int32)
    number[present] = np.arange(present.size, dtype=np.int32)
    ends = np.cumsum(extents[:, _AREA])
    places = np.empty(int(extents[:, _AREA].sum()), np.int32)
    _list_places(labels, number, ends - extents[:, _AREA], places)
    stains, od = look(places)
    with_od = od is not None
    colours = od if od is not None else np.zeros((1, 3), np.float32)
    sums = _sum_nuclei(places, labels.shape[1], ends, extents, stains, colours, with_od,
                       float(np.float32(max_od)))  # fmt: skip
    columns = {"label": present.astype(np.float64)} | _shapes(sums, extents, mpp)
    area = sums[:, 0]
    columns["hematoxylin_od_mean"] = sums[:, 6] / area
    columns["dab_od_mean"] = sums[:, 7] / area
    columns["dab_od_median"] = _medians(stains, ends)
    columns["dab_od_sd"] = np.sqrt(np.maximum(sums[:, 8] / area - (sums[:, 7] / area) ** 2, 0))
    columns["ring_dab_od_mean"] = _ring_means(labels, number, look, settings.ring_um / mpp)
    unknown = np.full(present.size, np.nan)
    columns["saturated_fraction"] = sums[:, 9] / area if with_od else unknown
    columns["red_blue_ratio"] = _ratio(sums[:, 10], sums[:, 11]) if with_od else unknown
    if not second_is_marker:
        for name in ("dab_od_mean", "dab_od_median", "dab_od_sd", "ring_dab_od_mean"):
            columns[name] = unknown
    return columns


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where the divisor is not above zero."""
    quotient = np.full(a.shape, np.nan)
    np.divide(a, b, out=quotient, where=b > 0)
    return quotient


def _centroids(extents: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centroids (n, 2) in the window."""
    return np.column_stack(
        [
            extents[:, first] + (total / extents[:, _AREA] + 0.5)
            for first, total in (
                (_TOP, extents[:, _SY] - extents[:, _AREA] * extents[:, _TOP]),
                (_LEFT, extents[:, _SX] - extents[:, _AREA] * extents[:, _LEFT]),
            )
        ]
    )


def _shapes(
    sums: NDArray[np.float64], extents: NDArray[np.int64], mpp: float
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
        "y_px": extents[:, _TOP] + (mean_y + 0.5),
        "x_px": extents[:, _LEFT] + (mean_x + 0.5),
        "from_top_px": mean_y + 0.5,
        "from_left_px": mean_x + 0.5,
        "top_px": extents[:, _TOP].astype(np.float64),
        "left_px": extents[:, _LEFT].astype(np.float64),
        "bottom_px": extents[:, _BOTTOM] + 1.0,
        "right_px": extents[:, _RIGHT] + 1.0,
        "area_um2": area * mpp * mpp,
        "eccentricity": np.sqrt(np.maximum(1 - minor / major, 0)),
        "ellipse_fit": area / (4 * np.pi * np.sqrt(major * minor)),
    }


def _ring_means(
    labels: Labels, number: NDArray[np.int32], look: Look, radius: float
) -> NDArray[np.float64]:
    """Mean DAB of each ring: background nearer to this nucleus than to any other.

    Of two equally near, the one whose outline comes first in raster order has the pixel.
    """
    room = np.empty((2, labels.size), np.int32)
    count = _ring_places(labels, number, radius, room[0], room[1])
    stains, _ = look(room[0, :count])
    sums = _sum_rings(stains, room[1, :count], int(number.max(initial=-1)) + 1)
    return _ratio(sums[:, 0], sums[:, 1])


@njit(cache=True, nogil=True, error_model="numpy")
def _extents(labels: Labels) -> NDArray[np.int64]:
    """Of each label: pixels, sums of rows and columns, and box; rows of zeros where none is."""
    height, width = labels.shape
    found = np.zeros((labels.max() + 1 if labels.size else 1, 7), np.int64)
    for y in range(height):
        for x in range(width):
            k = labels[y, x]
            if k == 0:
                continue
            if found[k, _AREA] == 0:
                found[k, _TOP], found[k, _LEFT], found[k, _RIGHT] = y, x, x
            found[k, _AREA] += 1
            found[k, _SY] += y
            found[k, _SX] += x
            found[k, _LEFT] = min(found[k, _LEFT], x)
            found[k, _RIGHT] = max(found[k, _RIGHT], x)
            found[k, _BOTTOM] = y
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _list_places(
    labels: Labels, number: NDArray[np.int32], at: NDArray[np.int64], places: Places
) -> None:
    """Set `places`: pixels of the numbered nuclei in turn, each in raster order from its `at`."""
    flat = labels.ravel()
    for i in range(flat.size):
        if flat[i] == 0:
            continue
        k = number[flat[i]]
        if k >= 0:
            places[at[k]] = i
            at[k] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_nuclei(
    places: Places,
    width: int,
    ends: NDArray[np.int64],
    extents: NDArray[np.int64],
    stains: Stains,
    od: Stains,
    with_od: bool,
    max_od: float,
) -> NDArray[np.float64]:
    """Sum over each nucleus, in raster order.

    Columns: area, y, x, yy, xx, xy (from the box corner), hematoxylin, dab, dab squared,
    saturated pixels, red OD, blue OD.
    """
    sums = np.zeros((ends.size, 12))
    start = 0
    for k in range(ends.size):
        s = sums[k]
        s[0] = ends[k] - start
        for i in range(start, ends[k]):
            y = places[i] // width
            dy, dx = y - extents[k, _TOP], places[i] - y * width - extents[k, _LEFT]
            dab = np.float64(stains[i, 1])
            s[1] += dy
            s[2] += dx
            s[3] += dy * dy
            s[4] += dx * dx
            s[5] += dx * dy
            s[6] += stains[i, 0]
            s[7] += dab
            s[8] += dab * dab
            if with_od:
                s[9] += max(od[i, 0], max(od[i, 1], od[i, 2])) >= max_od
                s[10] += od[i, 0]
                s[11] += od[i, 2]
        start = ends[k]
    return sums


@njit(cache=True, nogil=True, error_model="numpy")
def _ring_places(
    labels: Labels, number: NDArray[np.int32], radius: float, places: Places, owners: Places
) -> int:
    """Set `places` and `owners` of the ring pixels of numbered nuclei; give how many there are.

    Nearest in each row first, then the nearest of the rows within reach: ties go to the left
    and to the upper one.
    """
    height, width = labels.shape
    reach = int(radius)
    rows = 2 * reach + 1
    away = np.full((rows, width), _FAR, np.int32)
    nearest = np.zeros((rows, width), np.int32)
    some = np.zeros(rows, np.bool_)
    best = np.empty(width, np.int32)
    limit = int(radius * radius) * rows + rows  # squared distance and row in one number
    count = 0
    for v in range(-reach, height):
        below = v + reach
        slot = below % rows
        some[slot] = below < height and labels[below].any()
        if some[slot]:
            _nearest_in_row(labels[below], reach, rows, away[slot], nearest[slot])
        if v < 0 or not some.any():
            continue
        best[:] = _FAR
        for j in range(rows):
            slot = (v + j + 1 + reach) % rows
            if some[slot]:
                row = away[slot]
                add = np.int32((j - reach) ** 2 * rows + j)
                for x in range(width):
                    best[x] = min(best[x], row[x] + add)
        for x in range(width):
            if best[x] < limit and labels[v, x] == 0:
                k = number[nearest[(v + best[x] % rows + 1 + reach) % rows, x]]
                if k >= 0:
                    places[count] = v * width + x
                    owners[count] = k
                    count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest_in_row(labels: Places, reach: int, rows: int, away: Places, nearest: Places) -> None:
    """`rows` times the squared distance to the nearest labelled pixel of a row, and its label."""
    width = labels.size
    last = -reach - 1
    for x in range(width):
        last = x if labels[x] else last
        gap = x - last
        away[x], nearest[x] = _FAR, 0
        if gap <= reach:
            away[x], nearest[x] = gap * gap * rows, labels[last]
    last = width + reach
    for x in range(width - 1, -1, -1):
        last = x if labels[x] else last
        gap = last - x
        if gap <= reach and gap * gap * rows < away[x]:
            away[x], nearest[x] = gap * gap * rows, labels[last]


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_rings(stains: Stains, owners: Places, n: int) -> NDArray[np.float64]:
    """DAB sum and pixel count of each ring."""
    sums = np.zeros((n, 2))
    for i in range(owners.size):
        sums[owners[i], 0] += stains[i, 1]
        sums[owners[i], 1] += 1
    return sums


@njit(cache=True, nogil=True, error_model="numpy")
def _medians(stains: Stains, ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Median DAB of each nucleus."""
    medians = np.empty(ends.size)
    start = 0
    for k in range(ends.size):
        medians[k] = np.median(stains[start : ends[k], 1].copy())
        start = ends[k]
    return medians
