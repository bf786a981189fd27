"""Looking over a slide for what is not fit to be measured.

In two steps, because each needs the other's answer: ink must be gone before compartments are
looked for, and folds and blood are told from epidermis only once that is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.anatomy import ADNEXA, BACKGROUND, DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.artefacts import BLOOD, BLUR, FOLD, NONE, OPAQUE
from histoquant.pieces import touching
from histoquant.planes import over_channels
from histoquant.quality.artefacts import Artefacts, Codes
from histoquant.quality.focus import CELL_PX, find_blur, sharpness
from histoquant.quality.folds import find_folds
from histoquant.quality.ink import find_ink
from histoquant.quality.outlines import find_outlines
from histoquant.settings import QualitySettings
from histoquant.stains import (
    FloatArray,
    Preset,
    RgbArray,
    StainModel,
    WhiteLevel,
    unmix,
)
from histoquant.tissue import closed, drop_small, opened
from histoquant.windowed import Windowed, density_of, strips

Mask = npt.NDArray[np.bool_]

_STRIP_PX = 512
_COARSER = 2  # pixels of the anatomy's picture in one of these maps
_BLOOD_SMOOTH_UM, _BLOOD_HALF_UM, _BLOOD_AROUND_UM = 8.0, 8.0, 20.0
_BLOOD_RED, _BLOOD_RIM_RED = 0.148, 0.162  # of all OD; DAB has 0.166
_BLOOD_GREEN, _BLOOD_SUM_OD = (0.24, 0.46), 0.3
_MIN_BLOOD_UM2 = 6000.0
_BLUR_MIN_OD = 0.04
_EOSIN_FACTOR = 0.15  # what of a follicle turns to keratin takes up both stains
_BLUR_CLOSE_UM, _BLUR_OPEN_UM = 30.0, 40.0


@dataclass(frozen=True, eq=False)
class Overview:
    """What the artefacts of a slide are looked for in.

    Attributes
    ----------
    od
        Optical densities (h, w, 3), float32, of the whole slide, window by window.
    mpp
        Their pixel size in um.
    fine, coarse
        Contrast at two scales (see `focus.sharpness`), on coarser cells.
    cell_um
        Side of those cells.
    """

    od: Windowed
    mpp: float
    fine: FloatArray
    coarse: FloatArray
    cell_um: float


def overview_of(rgb: RgbArray, white: WhiteLevel, mpp: float, max_od: float) -> Overview:
    """Densities and sharpness of a slide, from its picture (h, w, 3) at `mpp` um/px, some 2."""
    fine, coarse = sharpness(rgb, white.values)
    density = density_of(_smaller(rgb), white, max_od)
    return Overview(density, mpp * _COARSER, fine, coarse, mpp * CELL_PX)


def _smaller(rgb: RgbArray) -> RgbArray:
    """Means of 2 x 2 pixels, the last row and column taken twice where there is one too few."""
    height, width = (-(-n // _COARSER) for n in rgb.shape[:2])
    small = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _STRIP_PX):
        rows = rgb[top * _COARSER : (top + _STRIP_PX) * _COARSER]
        below, beside = (-n % _COARSER for n in rows.shape[:2])
        even = cv2.copyMakeBorder(rows, 0, below, 0, beside, cv2.BORDER_REPLICATE)
        size = (width, even.shape[0] // _COARSER)
        small[top : top + _STRIP_PX] = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
    return small


def before_anatomy(view: Overview, preset: Preset, settings: QualitySettings) -> Artefacts:
    """Ink, debris, bubbles and edges of the coverslip: what is there whatever the tissue."""
    if not settings.artefacts:
        return Artefacts(np.zeros(view.od.shape[:2], np.uint8), view.mpp)
    codes = find_outlines(view.od, view.mpp)
    ink = find_ink(view.od, view.mpp, preset)
    return Artefacts(np.where(ink != NONE, ink, codes).astype(np.uint8), view.mpp)


def after_anatomy(
    view: Overview,
    artefacts: Artefacts,
    compartments: Compartments,
    model: StainModel,
    settings: QualitySettings,
) -> Artefacts:
    """`artefacts` with folds, blood and blur: what only the tissue around it gives away."""
    if not settings.artefacts:
        return artefacts
    codes = artefacts.codes.copy()
    labels = _labels_on(compartments, codes.shape, view.mpp)
    free = codes == NONE
    living = np.isin(labels, (EPIDERMIS, DERMIS, ADNEXA)) & free
    if model.has_marker:  # eosin stains keratin darker than any fold, hematoxylin does not
        living |= (labels == STRATUM_CORNEUM) & free
    dense, keratin = (labels == EPIDERMIS) & living, labels == STRATUM_CORNEUM
    stain = _counterstain(view, model)
    factor = settings.fold_factor + (0.0 if model.has_marker else _EOSIN_FACTOR)
    found = {
        BLUR: _blur(view, labels != BACKGROUND, settings) & free,
        BLOOD: _blood(view) & (labels != EPIDERMIS) & free,
        FOLD: find_folds(stain, dense, living, view.mpp, factor, keratin),
    }
    for code, mask in found.items():
        codes[mask] = code
    return replace(artefacts, codes=codes)


def opaque(artefacts: Artefacts, shape: tuple[int, int], mpp: float) -> Mask:
    """Where artefacts hide the tissue, on a grid (h, w) of the whole slide at `mpp`."""
    return np.isin(artefacts.on_grid(shape, mpp), OPAQUE)


def _labels_on(compartments: Compartments, shape: tuple[int, ...], mpp: float) -> Codes:
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * mpp / compartments.mpp).astype(np.int64), limit - 1)
        for n, limit in zip(shape, compartments.labels.shape, strict=True)
    )
    return np.asarray(compartments.labels[rows[:, None], columns[None, :]])


def _counterstain(view: Overview, model: StainModel) -> FloatArray:
    """Density (h, w) of what stains all tissue."""
    density = np.empty(view.od.shape[:2], np.float32)
    for rows, strip, inner in strips(view.od, 0):
        stains = unmix(strip[inner], model)
        density[rows] = stains[..., 0] if model.has_marker else stains[..., :2].sum(axis=-1)
    return density


def _blood(view: Overview) -> Mask:
    """Pools of erythrocytes: orange, where no stain of nuclei or marker is.

    Most of a pool is as orange as no stain is, and its rim a little less.
    """
    sigma = _BLOOD_SMOOTH_UM / view.mpp
    orange, pale = (np.empty(view.od.shape[:2], np.bool_) for _ in range(2))
    for rows, strip, inner in strips(view.od, math.ceil(4 * sigma) + 1):
        smooth = cv2.GaussianBlur(strip, (0, 0), sigma)[inner]
        total = np.maximum(over_channels(np.add, smooth), 1e-3)
        red, green = smooth[..., 0] / total, smooth[..., 1] / total
        like = (green >= _BLOOD_GREEN[0]) & (green <= _BLOOD_GREEN[1]) & (total >= _BLOOD_SUM_OD)
        orange[rows], pale[rows] = like & (red <= _BLOOD_RED), like & (red <= _BLOOD_RIM_RED)
    around = 2 * round(_BLOOD_AROUND_UM / view.mpp) + 1
    mostly = cv2.blur(orange.astype(np.float32), (around, around)) >= 0.5
    pools = opened(pale, _BLOOD_HALF_UM, view.mpp)
    return drop_small(touching(pools, pools & mostly), _MIN_BLOOD_UM2 / view.mpp**2)


def _blur(view: Overview, tissue: Mask, settings: QualitySettings) -> Mask:
    """Regions out of focus, on the grid of the densities."""
    cells = view.fine.shape
    densest = np.empty(view.od.shape[:2], np.float32)
    for rows, strip, inner in strips(view.od, 0):
        densest[rows] = over_channels(np.maximum, strip[inner])
    share, density = (
        cv2.resize(np.asarray(part, np.float32), cells[::-1], interpolation=cv2.INTER_AREA)
        for part in (tissue, densest)
    )
    judged = (share > 0.6) & (density >= _BLUR_MIN_OD)  # a haze over glass has no focus
    blurred = find_blur(view.fine, view.coarse, np.asarray(judged), settings.blur_ratio)
    blurred = closed(blurred, _BLUR_CLOSE_UM, view.cell_um)
    blurred = opened(blurred, _BLUR_OPEN_UM, view.cell_um)
    blurred = drop_small(blurred, settings.min_blur_mm2 * 1e6 / view.cell_um**2)
    per_cell = round(view.cell_um / view.mpp)
    large = np.repeat(np.repeat(blurred, per_cell, axis=0), per_cell, axis=1)
    return np.asarray(large[: tissue.shape[0], : tissue.shape[1]] & tissue)
