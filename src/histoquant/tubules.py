"""Glands and follicles whose walls are too thin to be found as epithelium: by their ring of nuclei.

A coil of a sweat gland is a row or two of nuclei around a lumen, some 40 um wide. What is closed
to a disc holds nuclei all along its rim and few within; lymphocytes that crowd are as many in the
middle as at the rim, and what lies around a vessel is sparse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block, blocks_within, map_blocks
from histoquant.evidence import Evidence, histograms, quantile
from histoquant.layers import ADNEXA, DERMIS, EPIDERMIS, Labels
from histoquant.tissue import closed, distance_um, opened
from histoquant.windowed import FloatArray, Window, widened, window_of

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.int64]

_BLUR_UM = 2.0  # what is left of a nucleus is its own
_LEVEL = 0.4  # quantile of the stain in the epidermis: nuclei are darker
_INNER_UM = 4.0  # epidermis that far from its border sets the level
_BESIDE_UM = 8.0  # nuclei as near to the epidermis are its own
_CLOSE_UM, _OPEN_UM = (10.0, 14.0, 18.0), 8.0  # half of a lumen, or of a gap; of a tubule
_RIM_UM, _CORE_UM = 8.0, 9.0  # a row of nuclei; what is farther in
_MIN_UM2, _MIN_CORE_UM2 = 500.0, 12.0
_LEAST_RIM, _LEAST_MORE = 0.38, 0.33  # share of nuclei at the rim; by how much more than within
_LEAST_RIM_OF_LUMEN, _LUMEN = 0.33, 0.35  # where the middle is that pale, next to what lies around
_WALL_UM, _AROUND_UM = 4.0, 20.0  # outside the nuclei
# How much darker a rim is than what lies around it, a broken one and one that is closed. Vessels
# with a few lymphocytes and bundles of collagen about a gap are less so.
_LEAST_DARK, _LEAST_DARK_CLOSED, _CLOSED_RIM = 1.75, 1.5, 0.6
_REACH_UM = 240.0  # longest piece of a tubule that is looked at
_BLOCK_PX = 1024


def find_tubules(
    evidence: Evidence, labels: Labels, mpp: float, boxes: Sequence[Block], workers: int = 1
) -> list[Pixels]:
    """Pieces of glands and follicles in what was taken for dermis.

    Parameters
    ----------
    evidence
        By whose first stain nuclei are told.
    labels
        uint8 (h, w), fine: codes of `histoquant.layers`.
    mpp
        Their pixel size in um.
    boxes
        Disjoint, around all tissue.
    workers
        Threads. The answer does not depend on it.

    Returns
    -------
    Of each piece the pixels (n, 2), row and column, with its lumen.
    """
    blocks = [block for box in boxes for block in blocks_within(box, _BLOCK_PX)]
    epidermal = [b for b in blocks if (labels[window_of(b)] == EPIDERMIS).any()]
    if not epidermal:
        return []
    counts = map_blocks(partial(_count, evidence, labels, mpp), epidermal, workers)
    level = quantile(np.sum(counts, axis=0)[0], _LEVEL)
    dermal = [b for b in blocks if (labels[window_of(b)] == DERMIS).any()]
    found = map_blocks(partial(_find, evidence, labels, mpp, level), dermal, workers)
    return [piece for pieces in found for piece in pieces]


def _nuclear(evidence: Evidence, window: Window, mpp: float) -> FloatArray:
    reading = evidence.read(window)
    stain = evidence.capped(reading)[0] * reading.tissue
    return np.asarray(cv2.GaussianBlur(stain, (0, 0), _BLUR_UM / mpp), np.float32)


def _count(evidence: Evidence, labels: Labels, mpp: float, block: Block) -> npt.NDArray[np.int64]:
    """Histogram of the smoothed stain inside the epidermis."""
    window, core = widened(block, int(np.ceil(5 * _BLUR_UM / mpp)), labels.shape)
    inner = distance_um(labels[window] != EPIDERMIS, mpp) > _INNER_UM
    return histograms([_nuclear(evidence, window, mpp)[core]], inner[core])


def _find(
    evidence: Evidence, labels: Labels, mpp: float, level: float, block: Block
) -> list[Pixels]:
    """The pieces whose centre lies in a block."""
    window, _ = widened(block, int(np.ceil(_REACH_UM / mpp)), labels.shape)
    stain = _nuclear(evidence, window, mpp)
    nuclei = (stain > level) & (distance_um(labels[window] == EPIDERMIS, mpp) > _BESIDE_UM)
    nuclei &= labels[window] != ADNEXA
    corner = np.array([window[0].start, window[1].start])
    found = []
    for radius_um in _CLOSE_UM:
        discs = opened(closed(nuclei, radius_um, mpp), _OPEN_UM, mpp)
        for disc, part in _pieces(discs, mpp):
            first = corner + (part[0].start, part[1].start)
            centre = first + np.array(disc.shape) / 2
            if not block.owns(centre[None]).all():
                continue
            away = distance_um(disc, mpp)
            if _is_tubule(away, nuclei[part], stain[part], mpp):
                found.append(np.argwhere(away <= _WALL_UM) + first)
    return found


def _pieces(mask: Mask, mpp: float) -> Iterator[tuple[Mask, Window]]:
    """Pieces with their holes filled, with a margin, and where they lie.

    But for what is too small, longer than `_REACH_UM`, or too near to the picture's end for a
    margin.
    """
    margin = int(np.ceil(_AROUND_UM / mpp)) + 1
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        left, top, width, height = cv2.boundingRect(outline)
        part = (slice(top - margin, top + height + margin),
                slice(left - margin, left + width + margin))  # fmt: skip
        whole = min(part[0].start, part[1].start) >= 0
        whole &= part[0].stop <= mask.shape[0] and part[1].stop <= mask.shape[1]
        whole &= width * height * mpp**2 >= _MIN_UM2
        if whole and max(width, height) * mpp <= _REACH_UM:
            disc = np.zeros((height + 2 * margin, width + 2 * margin), np.uint8)
            cv2.drawContours(
                disc, [outline], -1, 1, cv2.FILLED, offset=(margin - left, margin - top)
            )
            yield disc > 0, part


def _is_tubule(away: FloatArray, nuclei: Mask, stain: FloatArray, mpp: float) -> bool:
    """Whether nuclei line a disc, `away` from which each pixel is (um), and its middle is bare."""
    disc = away == 0
    if np.count_nonzero(disc) * mpp**2 < _MIN_UM2:
        return False
    depth = distance_um(~disc, mpp)
    core, rim = depth > _CORE_UM, disc & (depth <= _RIM_UM)
    share = float(nuclei[rim].mean())
    if np.count_nonzero(core) * mpp**2 < _MIN_CORE_UM2 or share < _LEAST_RIM_OF_LUMEN:
        return False
    around = stain[(away > _WALL_UM) & (away <= _AROUND_UM)]
    darker = _LEAST_DARK_CLOSED if share >= _CLOSED_RIM else _LEAST_DARK
    if np.median(stain[rim]) < darker * np.median(around):
        return False
    empty = np.quantile(stain[core], 0.1) < _LUMEN * np.median(
        stain[(away > 0) & (away <= _AROUND_UM)]
    )
    enough = share >= _LEAST_RIM and share >= float(nuclei[core].mean()) + _LEAST_MORE
    return bool(empty or enough)
