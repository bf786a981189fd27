"""Looking over a slide for what is not fit to be measured.

In two steps, because each needs the other's answer: ink must be gone before compartments are
looked for, and folds and blood are told from epidermis only once that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.anatomy import ADNEXA, BACKGROUND, DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.artefacts import BLOOD, BLUR, FOLD, NONE, OPAQUE
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
    field_density,
    unmix,
)
from histoquant.tissue import closed, drop_small, opened

Mask = npt.NDArray[np.bool_]

_COARSER = 2  # pixels of the anatomy's picture in one of these maps
_BLOOD_SMOOTH_UM, _BLOOD_HALF_UM = 8.0, 14.0
_BLOOD_RED, _BLOOD_GREEN, _BLOOD_SUM_OD = 0.148, (0.24, 0.46), 0.3
_MIN_BLOOD_UM2 = 6000.0
_BLUR_MIN_OD = 0.04
_BLUR_CLOSE_UM, _BLUR_OPEN_UM = 30.0, 40.0


@dataclass(frozen=True, eq=False)
class Overview:
    """What the artefacts of a slide are looked for in.

    Attributes
    ----------
    picture, white, max_od
        The whole slide (h, w, 3), uint8, its white level, and the OD beyond which nothing is
        denser: a quarter of the memory of the densities, which are only needed now and then.
    mpp
        Pixel size of the picture in um.
    fine, coarse
        Contrast at two scales (see `focus.sharpness`), on coarser cells.
    cell_um
        Side of those cells.
    """

    picture: RgbArray
    white: WhiteLevel
    max_od: float
    mpp: float
    fine: FloatArray
    coarse: FloatArray
    cell_um: float

    def density(self) -> FloatArray:
        """Optical densities (h, w, 3), float32, of the whole slide."""
        od = field_density(self.picture, self.white)
        return np.minimum(od, np.float32(self.max_od), out=od)


def overview_of(rgb: RgbArray, white: WhiteLevel, mpp: float, max_od: float) -> Overview:
    """Colours and sharpness of a slide, from its picture (h, w, 3) at `mpp` um/px, some 2."""
    pads = [(0, -n % _COARSER) for n in rgb.shape[:2]]
    even = cv2.copyMakeBorder(rgb, 0, pads[0][1], 0, pads[1][1], cv2.BORDER_REPLICATE)
    size = even.shape[1] // _COARSER, even.shape[0] // _COARSER
    smaller = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
    fine, coarse = sharpness(rgb, white.values)
    picture = np.asarray(smaller, np.uint8)
    return Overview(picture, white, max_od, mpp * _COARSER, fine, coarse, mpp * CELL_PX)


def before_anatomy(view: Overview, preset: Preset, settings: QualitySettings) -> Artefacts:
    """Ink, debris, bubbles and edges of the coverslip: what is there whatever the tissue."""
    if not settings.artefacts:
        return Artefacts(np.zeros(view.picture.shape[:2], np.uint8), view.mpp)
    od = view.density()
    codes = find_outlines(od, view.mpp)
    ink = find_ink(od, view.mpp, preset)
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
    od = view.density()
    stains = unmix(od, model)
    counterstain = stains[..., 0] if model.has_marker else stains[..., :2].sum(axis=-1)
    dense = (labels == EPIDERMIS) & living
    found = {
        BLUR: _blur(view, od, labels != BACKGROUND, settings) & free,
        BLOOD: _blood(od, view.mpp) & np.isin(labels, (BACKGROUND, DERMIS, ADNEXA)) & free,
        FOLD: find_folds(
            np.ascontiguousarray(counterstain), dense, living, view.mpp, settings.fold_factor
        ),
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


def _blood(od: FloatArray, mpp: float) -> Mask:
    """Pools of erythrocytes: orange, where no stain of nuclei or marker is."""
    smooth = cv2.GaussianBlur(od, (0, 0), _BLOOD_SMOOTH_UM / mpp)
    total = np.maximum(smooth.sum(axis=-1), 1e-3)
    red, green = smooth[..., 0] / total, smooth[..., 1] / total
    orange = (red <= _BLOOD_RED) & (green >= _BLOOD_GREEN[0]) & (green <= _BLOOD_GREEN[1])
    pools = opened(orange & (total >= _BLOOD_SUM_OD), _BLOOD_HALF_UM, mpp)
    return drop_small(pools, _MIN_BLOOD_UM2 / mpp**2)


def _blur(view: Overview, od: FloatArray, tissue: Mask, settings: QualitySettings) -> Mask:
    """Regions out of focus, on the grid of the densities."""
    cells = view.fine.shape
    share, density = (
        cv2.resize(np.asarray(part, np.float32), cells[::-1], interpolation=cv2.INTER_AREA)
        for part in (tissue, od.max(axis=-1))
    )
    judged = (share > 0.6) & (density >= _BLUR_MIN_OD)  # a haze over glass has no focus
    blurred = find_blur(view.fine, view.coarse, np.asarray(judged), settings.blur_ratio)
    blurred = closed(blurred, _BLUR_CLOSE_UM, view.cell_um)
    blurred = opened(blurred, _BLUR_OPEN_UM, view.cell_um)
    blurred = drop_small(blurred, settings.min_blur_mm2 * 1e6 / view.cell_um**2)
    per_cell = round(view.cell_um / view.mpp)
    large = np.repeat(np.repeat(blurred, per_cell, axis=0), per_cell, axis=1)
    return np.asarray(large[: tissue.shape[0], : tissue.shape[1]] & tissue)
