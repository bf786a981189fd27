"""Finding nuclei and measuring them: NumPy arrays in, NumPy arrays out.

Nuclear density is hematoxylin plus DAB, so that pale blue and dark brown nuclei are found alike;
each nucleus is the best-shaped level set of the smoothed density (`component_tree`), found in
two passes: the second looks at what the first left over, which is where a pale nucleus leans
on a dark one.

Finite support: no value of an object depends on anything further than `HALO_UM` from the
nearest point of a core that holds its centroid, and nothing depends on the size or place of the
window: there are no statistics over the window, and whatever is summed is summed in raster
order or as integers.

Another segmenter takes the place of the classical one as a function

    ``segment(stains, mpp, settings) -> labels``

(`stains` float32 (y, x, 3), `mpp` um/px, `settings` a `NucleiSettings`, `labels` int32 (y, x)
with 0 for background) that a package registers under the entry point group
``histoquant.segmenters`` and ``nuclei.segmenter`` names. It is called from several threads. Its
own support must not exceed `HALO_UM` less `MAX_EXTENT_UM`; it need not care about borders:
blocks are read with the halo, each object is taken from the one block that owns its centroid,
and an object longer than `MAX_EXTENT_UM` is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.metadata import entry_points

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from histoquant.component_tree import ShapeRules, best_components
from histoquant.errors import SettingsError
from histoquant.nucleus_measures import Labels, Stains, measure_nuclei
from histoquant.settings import NucleiSettings
from histoquant.waists import split_at_waists

Density = NDArray[np.uint16]
Segmenter = Callable[[Stains, float, NucleiSettings], Labels]

__all__ = [
    "FLOOR_OD",
    "HALO_UM",
    "MAX_EXTENT_UM",
    "MEASURED_UM",
    "SEGMENTER_GROUP",
    "STEPS_PER_OD",
    "find_segmenter",
    "measure_nuclei",
    "nuclear_shares",
    "outline_nuclei",
    "segment_nuclei",
]

SEGMENTER_GROUP = "histoquant.segmenters"
MAX_EXTENT_UM = 25.0
"""Longest side of a nucleus' bounding box (um): a spindle nucleus is 10-16 um long."""
_WIDEST_UM = 16.0  # a nucleus leaves some of a square of this side uncovered
_SMOOTHING_UM = 0.6
_EDGE_HALF = 1.2  # least contrasts per um: the step across an outline that scores one half
_LEFT_SCORE = 0.15
_LEFT_AREA = 1.25
HALO_UM = 100.0
"""Support of `segment_nuclei` and `measure_nuclei` together (um): an object, a ring of at most
5 um, under it an object of the second pass beside one of the first, each as long as the longest,
the square that surroundings are taken from, and the smoothing."""
MEASURED_UM = MAX_EXTENT_UM + 10.0
"""How far from a core outlines must be right (um): an object, its ring, and whoever else may be
nearer to that ring."""

STEPS_PER_OD = 8000
"""Integer steps of nuclear density, while it is smoothed."""
FLOOR_OD = -0.1
"""Nuclear density of step 0: a little below glass, so that haze keeps its slope."""
_STEPS_PER_GREY = 64
_GREY_OD = _STEPS_PER_GREY / STEPS_PER_OD  # one grey level of nuclear density
_GREY_UM = 0.1  # one grey level of the distance to an object's border
_ELLIPSE = 0.95  # objects that fill their ellipse this well are not split
_WAIST_UM = 0.6
_EOSIN_SHARE = 0.35  # taken off: collagen and red cells leave a shadow in hematoxylin
_DAB_SHARE = 0.5  # cytoplasm takes DAB too, hematoxylin hardly


def segment_nuclei(
    stains: Stains, mpp: float, settings: NucleiSettings, second_is_marker: bool = True
) -> Labels:
    """Outline the nuclei of a window.

    Parameters
    ----------
    stains
        Signed stain OD (y, x, 3), float32: hematoxylin, DAB or eosin, residual.
    mpp
        Pixel size (um/px) of `stains`.
    settings
        Sizes, least contrast, and which segmenter to use.
    second_is_marker
        Whether the second stain can mark a nucleus (DAB) or not (eosin).

    Returns
    -------
    labels
        int32 (y, x): 0 outside nuclei, else the number of the nucleus, in no useful order.

    Raises
    ------
    SettingsError
        If `settings.segmenter` is not installed.
    """
    if settings.segmenter != "classical":
        return find_segmenter(settings.segmenter)(stains, mpp, settings)
    shares = nuclear_shares(second_is_marker)
    density = np.empty(stains.shape[:2], np.uint16)
    _blend(stains, np.float32(shares[1]), np.float32(FLOOR_OD), np.float32(STEPS_PER_OD), density)
    return outline_nuclei(density, mpp, settings, second_is_marker)


def nuclear_shares(second_is_marker: bool) -> tuple[float, float]:
    """Shares of the first and the second stain in nuclear density."""
    return 1.0, _DAB_SHARE if second_is_marker else -_EOSIN_SHARE


def outline_nuclei(
    density: Density,
    mpp: float,
    settings: NucleiSettings,
    second_is_marker: bool = True,
    halo_px: int = 0,
) -> Labels:
    """Outline the nuclei of a window, from its nuclear density.

    Parameters
    ----------
    density
        Shares of the stains (`nuclear_shares`), uint16 (y, x), in steps of 1 / `STEPS_PER_OD`
        above `FLOOR_OD`.
    halo_px
        Rows and columns on every side that are there for the core only (px), some `HALO_UM`.
        Nuclei are outlined up to `MEASURED_UM` beyond the core, and farther out left alone as
        far as no nucleus in there can depend on them.

    Returns
    -------
    As `segment_nuclei`.
    """
    grey = _smoothed(density, mpp)
    eligible = _stands_out(grey, mpp, settings)
    rules = _shape_rules(mpp, settings)
    if not second_is_marker:
        rules = rules._replace(edge_half=2 * rules.edge_half, min_edge=2 * rules.min_edge)
    first = _within(density.shape, halo_px, (MEASURED_UM + 2 * MAX_EXTENT_UM) / mpp)
    second = _within(density.shape, halo_px, (MEASURED_UM + MAX_EXTENT_UM) / mpp)
    nothing = np.zeros(grey[first].shape, np.bool_)
    found = np.zeros(grey.shape, np.int32)
    found[first] = best_components(grey[first], eligible[first], nothing, rules, False)
    # What is left beside a nucleus is often its own rim.
    rules = rules._replace(min_score=_LEFT_SCORE, min_area=rules.min_area * _LEFT_AREA)
    labels = found[second]
    taken = cv2.dilate((labels > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    left = best_components(grey[second], eligible[second], taken, rules, True)
    np.add(left, labels.max(initial=0), out=labels, where=left > 0)
    min_piece = settings.min_area_um2 / (mpp * mpp)
    waist = _waist_rules(mpp, settings)
    found[second] = split_at_waists(labels, _ELLIPSE, mpp / _GREY_UM, waist, min_piece)
    return found


def _within(shape: tuple[int, ...], halo_px: int, reach_px: float) -> tuple[slice, slice]:
    """The rows and columns within `reach_px` of the core of a window with a halo."""
    cut = max(0, halo_px - math.ceil(reach_px) - 2)
    return slice(cut, shape[0] - cut), slice(cut, shape[1] - cut)


def _stands_out(grey: NDArray[np.uint8], mpp: float, settings: NucleiSettings) -> NDArray[np.bool_]:
    """Pixels darker than their surroundings by what the outline of a nucleus must be.

    The surroundings: the least density that a square too large for a nucleus can hold.
    """
    side = 2 * int(np.ceil(_WIDEST_UM / mpp / 2)) + 1
    around = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    # The outline lies half-way up the edge: as much below it as the least mean above it.
    return cv2.subtract(grey, around) >= settings.min_contrast_od / 2 / _GREY_OD


def _waist_rules(mpp: float, settings: NucleiSettings) -> ShapeRules:
    """What a node of the distance to an object's border must be to count as a nucleus' core."""
    pixel = mpp * mpp
    return ShapeRules(
        min_area=settings.min_area_um2 / 3 / pixel,
        max_area=settings.max_area_um2 / pixel,
        max_extent=math.floor(MAX_EXTENT_UM / mpp),
        typical_area=10.0 / pixel,
        edge_half=0.0,
        min_edge=0.0,
        min_contrast=_WAIST_UM / _GREY_UM / 3,  # a cone's mean lies at a third of its height
        fit_power=8,
        min_fit=0.8,
        min_score=0.0,
        min_seen=0.0,
    )


def find_segmenter(name: str) -> Segmenter:
    """Load the segmenter registered as `name`; `SettingsError` if there is none."""
    found = entry_points(group=SEGMENTER_GROUP)
    for point in found:
        if point.name == name:
            segmenter: Segmenter = point.load()
            return segmenter
    known = ", ".join(sorted({"classical", *found.names}))
    raise SettingsError(
        f"nuclei.segmenter = {name!r} is not installed; found {known}. "
        f"A package provides one under the entry point group {SEGMENTER_GROUP}."
    )


def _smoothed(density: Density, mpp: float) -> NDArray[np.uint8]:
    """Smoothed nuclear density in grey levels of `_GREY_OD`.

    Smoothed as integers: OpenCV's blur of uint16 is exact, so a pixel does not depend on how
    wide the window is; of float32 it would, in the last bit.
    """
    grey = np.empty(density.shape, np.uint8)
    sigma = _SMOOTHING_UM / mpp
    side = 2 * int(np.ceil(3 * sigma)) + 1
    _to_grey(cv2.GaussianBlur(density, (side, side), sigma).astype(np.uint16, copy=False), grey)
    return grey


@njit(cache=True, nogil=True)
def _blend(
    stains: Stains, share: np.float32, floor: np.float32, steps: np.float32, density: Density
) -> None:
    """Set `density`: first stain plus a share of the second, above `floor`, in steps per OD."""
    for y in range(density.shape[0]):
        for x in range(density.shape[1]):
            blended = stains[y, x, 0] + share * stains[y, x, 1]
            density[y, x] = min(max((blended - floor) * steps, np.float32(0)), np.float32(65535))


@njit(cache=True, nogil=True)
def _to_grey(fine: Density, grey: NDArray[np.uint8]) -> None:
    for y in range(fine.shape[0]):
        for x in range(fine.shape[1]):
            grey[y, x] = min(fine[y, x] // np.uint16(_STEPS_PER_GREY), np.uint16(255))


def _shape_rules(mpp: float, settings: NucleiSettings) -> ShapeRules:
    pixel = mpp * mpp
    return ShapeRules(
        min_area=settings.min_area_um2 / pixel,
        max_area=settings.max_area_um2 / pixel,
        max_extent=math.floor(MAX_EXTENT_UM / mpp),
        typical_area=25.0 / pixel,
        edge_half=_EDGE_HALF * settings.min_contrast_od * mpp / _GREY_OD,
        min_edge=0.03 * mpp / _GREY_OD,
        # The outline lies half-way up the edge: a mean above it is half of that above tissue.
        min_contrast=settings.min_contrast_od / 2 / _GREY_OD,
        fit_power=6,
        min_fit=0.75,
        min_score=0.12,
        min_seen=0.5,
    )
