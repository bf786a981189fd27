"""Telling tissue from glass on the overview."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block, map_blocks, plan_blocks
from histoquant.pieces import drop_small as drop_small
from histoquant.planes import over_channels
from histoquant.settings import TissueSettings
from histoquant.windowed import Windowed, widened, window_of

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])

_BLEND_UM = 6.0  # blends fibres and the chinks between them
_DETAIL_UM = 3.0
_DETAIL_SHARE = 0.75  # of the least OD: inside tissue the palest fibres still are tissue
_CLOSE_UM = 12.0
_CLEFT_UM = 40.0  # narrower gaps in tissue are clefts and lumina, wider ones open glass
_BLOCK_PX = 1024
_MIN_CHINK_UM2 = 400.0  # smaller gaps are vacuoles and chinks between fibres, not clefts


def find_tissue(od: FloatArray, mpp: float, settings: TissueSettings) -> Mask:
    """Find tissue: darker than glass in the densest of the three channels, in large pieces.

    Holes of less than a quarter of `settings.min_area_mm2` count as tissue.

    Parameters
    ----------
    od
        Optical densities of the overview, shape (h, w, 3), float32.
    mpp
        Its pixel size in um.

    Returns
    -------
    bool (h, w).
    """
    mask = _density(od, max(_BLEND_UM / mpp, 0.8)) >= settings.min_od
    min_pixels = settings.min_area_mm2 * 1e6 / mpp**2
    holes = ~closed(mask, _CLOSE_UM, mpp)
    return drop_small(~drop_small(holes, min_pixels / 4), min_pixels)


def tissue_detail(
    od: Windowed, tissue: Mask, mpp: float, settings: TissueSettings, *, workers: int = 1
) -> Mask:
    """Cut the clefts, lumina and ragged edges out of `tissue` that the overview is too coarse for.

    Parameters
    ----------
    od
        Optical densities (h, w, 3), float32, at `mpp` um/px, some 2: an array, or what gives its
        windows one by one.
    tissue
        From `find_tissue`, at any coarser scale over the same area.
    workers
        Threads. The answer does not depend on it.

    Returns
    -------
    bool (h, w).
    """
    height, width = od.shape[:2]
    coarse = cv2.resize(tissue.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    chink_px = _MIN_CHINK_UM2 / mpp**2
    sigma_px = max(_DETAIL_UM / mpp, 0.8)
    # A chink that reaches from a block's core to the end of the halo is no chink.
    halo = int(np.ceil(chink_px + 5 * sigma_px)) + 1
    found = np.zeros((height, width), np.bool_)

    def cut(block: Block) -> None:
        window, core = widened(block, halo, found.shape)
        dense = _density(od[window], sigma_px) >= _DETAIL_SHARE * settings.min_od
        whole = ~drop_small(~(dense & (coarse[window] > 0)), chink_px)
        found[window_of(block)] = whole[core]

    map_blocks(cut, plan_blocks((height, width), _BLOCK_PX, tissue), workers)
    return found


def _density(od: FloatArray, sigma_px: float) -> FloatArray:
    """Smoothed OD of the densest channel: pale stains show in one channel more than in the mean."""
    smooth = cast(FloatArray, cv2.GaussianBlur(od, (0, 0), sigma_px))
    return over_channels(np.maximum, smooth)


def opened(mask: Mask, radius_um: float, mpp: float) -> Mask:
    """`mask` where a disc of `radius_um` (at least one pixel) fits into it."""
    return _morphology(mask, cv2.MORPH_OPEN, radius_um / mpp)


def closed(mask: Mask, radius_um: float, mpp: float) -> Mask:
    """`mask` and what a disc of `radius_um` (at least one pixel) outside it cannot reach."""
    return _morphology(mask, cv2.MORPH_CLOSE, radius_um / mpp)


def _morphology(mask: Mask, operation: int, radius_px: float) -> Mask:
    radius = max(1, round(radius_px))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), operation, disc) > 0)


def distance_um(mask: Mask, mpp: float) -> FloatArray:
    """Distance of every pixel to the nearest True of `mask`, in um; infinite without one."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    inverse = (~mask).astype(np.uint8)
    return cast(FloatArray, cv2.distanceTransform(inverse, cv2.DIST_L2, 5) * np.float32(mpp))


def pixels_of(
    places_um: npt.NDArray[np.float64], mpp: float, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of the pixels that places (n, 2), y and x in um, lie in or nearest to."""
    rows, columns = np.clip((places_um / mpp).astype(np.int64), 0, np.array(shape) - 1).T
    return rows, columns


def from_nearest(values: Pixels, known: Mask) -> Pixels:
    """Every pixel of `values` (h, w) as the nearest one of `known`; as it is without any."""
    if known.all() or not known.any():
        return values
    _, numbers = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    numbered = np.zeros(int(numbers.max()) + 1, values.dtype)
    numbered[numbers[known]] = values[known]
    return cast(Pixels, numbered[numbers])


def open_glass(tissue: Mask, mpp: float) -> Mask:
    """Background too wide to be a cleft or a lumen within the tissue."""
    pad = int(np.ceil(_CLEFT_UM / 2 / mpp)) + 1  # beyond the picture there may be more glass
    background = np.pad(~tissue, pad, mode="edge")
    return opened(background, _CLEFT_UM / 2, mpp)[pad:-pad, pad:-pad]


def focus_score(od: FloatArray) -> float:
    """Sharpness of a field: spread of its Laplacian relative to its own contrast.

    Blur takes contrast from the finest scale first, so the ratio falls with defocus and does not
    depend on how strongly the field is stained.

    Parameters
    ----------
    od
        Optical densities (h, w, 3), float32, at the scale of the analysis.
    """
    grey = cv2.GaussianBlur(od.mean(axis=-1), (0, 0), 1.0)  # camera noise is not sharpness
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(float(grey.std()), 1e-6))
