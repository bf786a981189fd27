"""Out-of-focus regions: where the finest detail is missing that the rest of the slide has.

Blur takes contrast from the finest scale first. The ratio of the contrast at the finest scale to
that at the next one falls with defocus, and depends neither on how dense the tissue is nor how
strongly it is stained.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.pieces import touching
from histoquant.planes import over_channels
from histoquant.stains import RgbArray, optical_density
from histoquant.white import Triple

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CELL_PX = 8
"""Pixels of the finer picture in a cell of the map."""

_FINE_PX, _COARSE_PX = 0.8, 2.4
_WINDOW_CELLS = 1.5
_STRIP_CELLS = 64
_PAD_CELLS = 2
_GROW = 0.5  # of the loss in the core: how far a region reaches around it
_MIN_DETAIL = 1e-6  # variance of OD at the coarser scale; below it there is nothing to judge


def sharpness(rgb: RgbArray, white: Triple) -> tuple[FloatArray, FloatArray]:
    """Contrast at two scales, in cells of `CELL_PX` pixels.

    Parameters
    ----------
    rgb
        Picture (h, w, 3), uint8.
    white
        Grey levels R, G, B that mean OD 0.

    Returns
    -------
    fine, coarse
        float32 (ceil(h / CELL_PX), ceil(w / CELL_PX)): variances.
    """
    rows, columns = (-(-n // CELL_PX) for n in rgb.shape[:2])
    fine, coarse = (np.zeros((rows, columns), np.float32) for _ in range(2))
    for start in range(0, rows, _STRIP_CELLS):  # strips bound the memory
        first = max(0, start - _PAD_CELLS)
        stop = min(rows, start + _STRIP_CELLS)
        rows_read = rgb[first * CELL_PX : (stop + _PAD_CELLS) * CELL_PX]
        od = optical_density(rows_read, white)
        strip = over_channels(np.add, od) / np.float32(od.shape[-1])
        once = cv2.GaussianBlur(strip, (0, 0), _FINE_PX)
        twice = cv2.GaussianBlur(strip, (0, 0), _COARSE_PX)
        for out, detail in ((fine, strip - once), (coarse, once - twice)):
            cells = _cell_means(detail * detail)
            out[start:stop] = cells[start - first : stop - first]
    return fine, coarse


def find_blur(fine: FloatArray, coarse: FloatArray, tissue: Mask, ratio: float) -> Mask:
    """Cells of tissue out of focus.

    Parameters
    ----------
    fine, coarse
        From `sharpness`.
    tissue
        bool, on the same cells.
    ratio
        Part of the slide's own ratio of contrasts below which a cell is out of focus.
    """
    weight = tissue.astype(np.float32)
    near = cv2.GaussianBlur(weight, (0, 0), _WINDOW_CELLS) + 1e-6
    smooth = [cv2.GaussianBlur(v * weight, (0, 0), _WINDOW_CELLS) / near for v in (fine, coarse)]
    judged = tissue & (smooth[1] >= _MIN_DETAIL)
    if not judged.any():
        return np.zeros_like(tissue)
    contrast = np.sqrt(smooth[0] / np.maximum(smooth[1], 1e-9))
    usual = float(np.median(contrast[judged]))
    core = judged & (contrast < ratio * usual)
    around = judged & (contrast < (1 - _GROW * (1 - ratio)) * usual)
    return touching(around, core)


def _cell_means(values: FloatArray) -> FloatArray:
    pad = [(0, -n % CELL_PX) for n in values.shape]
    whole = np.pad(values, pad, mode="edge")
    rows, columns = (n // CELL_PX for n in whole.shape)
    return np.asarray(whole.reshape(rows, CELL_PX, columns, CELL_PX).mean(axis=(1, 3)), np.float32)
