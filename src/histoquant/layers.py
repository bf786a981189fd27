"""Names for the pieces of tissue: which epithelium is epidermis, which tissue stratum corneum.

By what they border on, on a coarse scale; `histoquant.border` draws the fine line.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.cut_edges import beside_cut_edges
from histoquant.epithelium import smooth_within
from histoquant.evidence import Looks
from histoquant.follicles import CANAL_UM, LOOK_THROUGH_UM, find_canals, find_sunken, half_widths
from histoquant.tissue import closed, distance_um, drop_small, from_nearest, open_glass, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

BACKGROUND, STRATUM_CORNEUM, EPIDERMIS, DERMIS, ADNEXA = range(5)
CROWDED = 5
"""Dermis as dense with cells as epithelium, while borders are drawn; then it is `DERMIS`."""

_CORNEUM_UM = 45.0  # thickest layer between viable epidermis and glass called stratum corneum
_THICK_CORNEUM_UM = 110.0  # thickest where a far larger dermis lies on the other side
_MAX_THICK_SHARE = 0.5  # of that dermis
_KERATIN_UM, _KERATIN_RATIO = 5.0, 1.5  # keratin: evenly this much denser than the epidermis
_MIN_KERATIN_UM2 = 2000.0
_LEAST_OD = 1e-3  # of what is divided by
_PALE_RIM_UM = 10.0  # of epithelium that is thin: half of it
_RIM_UM = 5.0  # tissue not twice as wide is a blurred rim or a strand
_FLAKES_UM = 150.0  # keratin farther from epithelium than this is debris
_MIN_DERMIS_SHARE = 0.5  # of the area of the epidermis that it carries
_MIN_PARTED_SHARE = 0.15  # of one that is wider than corneum
_MIN_PARTED_UM2 = 8000.0  # of one that looks as the rest of the dermis does
_MIN_BOUND = 0.5  # of it that lies at epithelium, over what lies at the outside: flakes are free
_ALIKE, _ALIKE_BROWN = 0.3, 0.1  # most that two pieces of dermis differ: of the stain; in share
_MIN_SURFACE_UM = 60.0  # epithelium with less free surface is a follicle or a gland


def dense_keratin(
    looks: Sequence[Looks], epithelium: Sequence[Mask], beside_marker: bool
) -> list[Mask]:
    """Evenly dense layers: keratin that takes up the counterstain, and perhaps epithelium.

    Denser than most of the epithelium is. Beside a marker hematoxylin alone tells: only what is far
    from the blurred border of the epithelium is compared with, and lymphocytes that crowd are as
    dense, but with more of it in nuclei. Eosin stains keratin: there the rim is as telling.
    """
    rim_um = _PALE_RIM_UM if beside_marker else 0.0
    smooth = [smooth_within(look.stain, look.tissue, _KERATIN_UM / look.mpp) for look in looks]
    inner = [
        e & (distance_um(~e, look.mpp) > rim_um) for e, look in zip(epithelium, looks, strict=True)
    ]
    if not any(i.any() for i in inner):
        inner = list(epithelium)
    dense = _above(smooth, inner, _KERATIN_RATIO)
    if beside_marker:
        nuclei = [
            smooth_within(look.nuclei.astype(np.float32), look.tissue, _KERATIN_UM / look.mpp)
            / np.maximum(s, np.float32(_LEAST_OD))
            for look, s in zip(looks, smooth, strict=True)
        ]
        dense = [d & ~n for d, n in zip(dense, _above(nuclei, inner, 1.0), strict=True)]
    return [
        drop_small(d & look.tissue, _MIN_KERATIN_UM2 / look.mpp**2)
        for d, look in zip(dense, looks, strict=True)
    ]


def _above(
    layers: Sequence[npt.NDArray[np.floating]], inner: Sequence[Mask], ratio: float
) -> list[Mask]:
    """Where layers exceed `ratio` times their median within `inner`."""
    inside = [layer[i] for layer, i in zip(layers, inner, strict=True)]
    level = ratio * np.median(np.concatenate(inside))
    return [np.asarray(layer > level) for layer in layers]


def name_layers(
    epithelium: Mask,
    dense: Mask,
    tissue: Mask,
    mpp: float,
    looks: Looks | None = None,
    before: Labels | None = None,
) -> Labels:
    """Label epidermis, stratum corneum, adnexa and dermis.

    Parameters
    ----------
    epithelium
        bool (h, w): epithelium of any kind.
    dense
        bool (h, w), from `dense_keratin`.
    tissue
        bool (h, w).
    looks
        What is alike in all of the dermis. Without, neither the canals of follicles are looked
        for, nor is dermis that one parts from the rest told from corneum.
    before
        uint8 (h, w): what was named with a wider epithelium. Corneum stays what it was, for beside
        the end of a narrower one it hangs together with the dermis, and has what lies between.

    Returns
    -------
    uint8 (h, w).
    """
    glass = open_glass(tissue, mpp)
    keratin = _keratin(dense, glass, mpp)
    epithelium = epithelium & ~keratin
    whole = epithelium
    if looks is not None:  # by nuclei alone, gaps between them are as narrow as canals
        # Across the mouths of follicles, or keratin in their canals would join corneum to dermis.
        whole = (closed(epithelium, CANAL_UM / 2, mpp) | epithelium) & ~glass & ~keratin
    spanned, whole = whole, whole & tissue
    corneum = keratin | _corneum(tissue & ~whole & ~keratin, whole, glass, mpp)
    corneum |= _flakes(tissue & ~whole & ~corneum, corneum | glass, whole, looks, mpp)
    if before is not None:
        rest = tissue & ~whole
        corneum |= (before == STRATUM_CORNEUM) & rest
        freed = rest & ~corneum & np.isin(before, (EPIDERMIS, ADNEXA))
        corneum |= freed & from_nearest(corneum, rest & ~freed)
    gaps = whole & ~epithelium
    canals = find_canals(spanned & ~epithelium, tissue, corneum | glass, mpp)
    # Other gaps are what lies before them: notches of the surface, papillae, corners of dermis.
    corneum |= (canals & tissue) | (gaps & from_nearest(corneum, tissue & ~whole))
    outside = corneum | glass
    if looks is not None:
        # Gaps between lamellae are outside as these are; with eosin the depth of a follicle is full
        # of keratin and gaps, which are not the skin's surface.
        outside |= ~tissue & from_nearest(corneum, tissue)
    surface, adnexa = _split_adnexa(epithelium, outside, mpp)
    cut = beside_cut_edges(tissue, surface, mpp)
    sunken = find_sunken(surface, outside, cut, canals, tissue & ~whole & ~corneum, mpp)
    surface, adnexa = surface & ~sunken, adnexa | sunken
    labels = tissue.astype(np.uint8) * np.uint8(DERMIS)
    labels[corneum] = STRATUM_CORNEUM
    labels[adnexa] = ADNEXA
    labels[surface] = EPIDERMIS
    return labels


def _corneum(rest: Mask, epithelium: Mask, glass: Mask, mpp: float) -> Mask:
    """Thin layers between epithelium and glass, on the side away from the dermis.

    Thinness alone would take in the dermis in the corner of a cut edge. So each pixel looks
    through the epithelium: stratum corneum has dermis behind it, dermis has the surface.
    """
    near = rest & (distance_um(epithelium, mpp) + distance_um(glass, mpp) <= _CORNEUM_UM)
    pixels = np.argwhere(near)
    if not len(pixels):
        return near
    entry = _nearest(epithelium, near)
    way = (entry - pixels) / np.maximum(np.hypot(*(entry - pixels).T), 1e-6)[:, None]
    body, limit = rest & ~near, np.array(rest.shape) - 1
    votes = np.zeros(rest.shape, np.float32)
    for step in np.arange(2, LOOK_THROUGH_UM / mpp, 2):
        at = np.clip(np.round(entry + step * way).astype(int), 0, limit)
        inside = epithelium[tuple(at.T)]
        out = ~inside
        votes[tuple(pixels[out].T)] = np.where(body[tuple(at[out].T)], 1.0, -1.0)
        pixels, entry, way = pixels[inside], entry[inside], way[inside]
    blur = 2 * round(_CORNEUM_UM / 2 / mpp) + 1
    seen = near & (cv2.blur(votes, (blur, blur)) > 0)
    return seen & ~_corners(rest, body, epithelium, mpp)


def _corners(rest: Mask, body: Mask, epithelium: Mask, mpp: float) -> Mask:
    """Dermis between a rete ridge and a cut edge: it hangs together with the body of it.

    Corneum does so by no more than the blurred rim of the cut edge.
    """
    count, pieces = cv2.connectedComponents(body.astype(np.uint8), connectivity=4)
    numbers = np.asarray(pieces, np.int32)
    area = np.bincount(numbers.ravel(), minlength=count)
    large = area >= _MIN_DERMIS_SHARE * _largest_neighbour(numbers, count, epithelium, mpp)
    large[0] = False
    dermis = large[numbers]
    thick = opened(rest, _RIM_UM, mpp) & (distance_um(dermis, mpp) <= _CORNEUM_UM)
    count, pieces = cv2.connectedComponents(thick.astype(np.uint8), connectivity=4)
    joined = np.zeros(count, np.bool_)
    joined[pieces[thick & dermis]] = True
    joined[0] = False
    return np.asarray(distance_um(joined[pieces], mpp) <= _RIM_UM) & rest


def spread_labels(labels: Labels, known: Mask) -> Labels:
    """Every pixel's label that of the nearest pixel of `known`; background without any."""
    return from_nearest(labels, known) if known.any() else np.zeros_like(labels)


def _nearest(mask: Mask, where: Mask) -> npt.NDArray[np.int64]:
    """Pixel (n, 2) of `mask` nearest to each True pixel of `where`, in raster order."""
    inverse = (~mask).astype(np.uint8)
    _, numbers = cv2.distanceTransformWithLabels(
        inverse, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixels = np.argwhere(mask)
    numbered = np.zeros((len(pixels) + 1, 2), np.int64)
    numbered[numbers[mask]] = pixels
    return np.asarray(numbered[numbers[where]])


def _keratin(dense: Mask, glass: Mask, mpp: float) -> Mask:
    """Dense layers at a free surface; elsewhere they are epithelium."""
    count, pieces = cv2.connectedComponents(dense.astype(np.uint8))
    at_surface = np.zeros(count, bool)
    at_surface[pieces[distance_um(glass, mpp) <= _CORNEUM_UM]] = True
    at_surface[0] = False
    return np.asarray(at_surface[pieces])


def _flakes(rest: Mask, outside: Mask, epithelium: Mask, looks: Looks | None, mpp: float) -> Mask:
    """Tissue on the free side of the epithelium: far smaller than a dermis under it would be.

    Or a thin layer of it, with a far larger piece of tissue, the dermis, at the same epithelium.

    Pieces hang together only by more than `_RIM_UM`: the blurred rim that runs around all
    epithelium would join them to the dermis.
    """
    thick = opened(rest, _RIM_UM, mpp)
    count, numbers = cv2.connectedComponents(thick.astype(np.uint8), connectivity=4)
    pieces = np.asarray(numbers, np.int32)
    area = np.bincount(pieces.ravel(), minlength=count)
    carried = _largest_neighbour(pieces, count, epithelium, mpp)
    near = thick & (distance_um(outside, mpp) <= 2 * _RIM_UM)
    free = np.bincount(pieces[near], minlength=count)
    narrow = 2 * half_widths(thick, pieces, count, mpp) <= _THICK_CORNEUM_UM
    thin = narrow & (area <= _MAX_THICK_SHARE * _largest_rival(pieces, area, epithelium, mpp))
    # A follicle parts the dermis: a piece of it may be less than half as large.
    alike = _like_largest(pieces, area, looks)
    least = np.where(narrow | ~alike, _MIN_DERMIS_SHARE, _MIN_PARTED_SHARE)
    dermal = (free == 0) | ((area >= least * carried) & ~thin)
    beside = thick & (distance_um(epithelium, mpp) <= 2 * _RIM_UM)
    bound = np.bincount(pieces[beside], minlength=count) >= _MIN_BOUND * free
    dermal |= alike & (area * mpp**2 >= _MIN_PARTED_UM2) & bound
    dermal[0] = False
    away = distance_um(dermal[pieces], mpp) > 2 * _RIM_UM
    return rest & away & (distance_um(epithelium, mpp) <= _FLAKES_UM)


def _like_largest(
    pieces: npt.NDArray[np.int32], area: npt.NDArray[np.int64], looks: Looks | None
) -> Mask:
    """Which of the numbered pieces look as the largest does, the body of the dermis."""
    alike = np.ones(len(area), np.bool_)
    if looks is None or len(area) < 2:
        return ~alike
    largest = 1 + int(np.argmax(area[1:]))
    stain, nuclei, brown = (
        np.bincount(pieces.ravel(), look.ravel(), len(area)) / np.maximum(area, 1)
        for look in (looks.stain, looks.nuclei, looks.brown)
    )
    for mean in (stain, nuclei):
        alike &= np.abs(mean - mean[largest]) <= _ALIKE * mean[largest]
    return np.asarray(alike & (np.abs(brown - brown[largest]) <= _ALIKE_BROWN))


def _largest_neighbour(
    pieces: npt.NDArray[np.int32], count: int, epithelium: Mask, mpp: float
) -> npt.NDArray[np.int64]:
    """Pixels of the largest epithelium that borders on each of `count` numbered pieces."""
    _, epithelia, stats, _ = cv2.connectedComponentsWithStats(epithelium.astype(np.uint8))
    areas = np.where(epithelium, stats[epithelia, cv2.CC_STAT_AREA], 0).astype(np.float32)
    reach = 2 * round(2 * _RIM_UM / mpp) + 1
    around = cv2.dilate(areas, np.ones((reach, reach), np.uint8))
    largest = np.zeros(count, np.int64)
    beside = (pieces > 0) & (around > 0)
    np.maximum.at(largest, pieces[beside], around[beside].astype(np.int64))
    return largest


def _largest_rival(
    pieces: npt.NDArray[np.int32], area: npt.NDArray[np.int64], epithelium: Mask, mpp: float
) -> npt.NDArray[np.float32]:
    """For each numbered piece, the area of the largest that borders on the same epithelium."""
    reach = np.ones((2 * round(2 * _RIM_UM / mpp) + 1,) * 2, np.uint8)
    sizes = np.where(pieces > 0, area[pieces], 0).astype(np.float32)
    count, numbers = cv2.connectedComponents(epithelium.astype(np.uint8))
    epithelia = np.asarray(numbers, np.int32)
    largest = np.zeros(count, np.float32)
    np.maximum.at(largest, epithelia[epithelium], cv2.dilate(sizes, reach)[epithelium])
    largest[0] = 0
    around = cv2.dilate(largest[epithelia], reach)
    rival = np.zeros(len(area), np.float32)
    beside = (pieces > 0) & (around > 0)
    np.maximum.at(rival, pieces[beside], around[beside])
    return rival


def _split_adnexa(epithelium: Mask, outside: Mask, mpp: float) -> tuple[Mask, Mask]:
    """Surface epidermis, and epithelium that hardly touches the outside: follicles, glands."""
    count, pieces = cv2.connectedComponents(epithelium.astype(np.uint8), connectivity=8)
    rim = epithelium & (distance_um(outside, mpp) <= 1.5 * mpp)
    free_um = np.bincount(pieces[rim], minlength=count) * mpp
    surface = free_um >= _MIN_SURFACE_UM
    surface[0] = False
    return surface[pieces], epithelium & ~surface[pieces]
