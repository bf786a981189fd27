"""The border between epithelium and what is around it, decided on fine scales, window by window.

The coarse answer is safe but blurred. Near its border the counterstain is looked at again, on
fine scales, by a discriminant that is trained close by, with evidence that is capped so that no
nucleus outweighs others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block, map_blocks, plan_blocks
from histoquant.epithelium import discriminate, drop_specks, score, smooth_within
from histoquant.evidence import Evidence
from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, opened
from histoquant.windowed import FloatArray, Window, widened, window_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.int8]

FULL = 127
"""Score of what is surely epithelium; its negative is surely not."""

# Scales (um), half width of the zone decided again, distance left out of training.
_ROUNDS = (((2.0, 4.0), 30.0, 6.0), ((2.0,), 20.0, 4.0))
_TRAINING_REACH_UM = 45.0
_EVIDENCE_GAIN = 1.5  # full evidence a bit short of the class means, nothing beyond it
_SPUR_UM = 8.0
_BLEND_UM = 2.5  # evidence within it is pooled: under half a nucleus, so ridges keep their shape
_BLOCK_PX = 256
_HALO_UM = 64.0  # what a pixel depends on: 30 (zone), 10 (blend) and 16 (spurs); 45 in training


@dataclass(frozen=True)
class _Round:
    evidence: Evidence
    epithelium: Mask
    around: Mask
    mpp: float
    scales_um: tuple[float, ...]
    zone_um: float
    margin_um: float

    def features(self, window: Window) -> list[FloatArray]:
        reading = self.evidence.read(window)
        stain = self.evidence.capped(reading)[self.evidence.placing]
        return [smooth_within(stain, reading.legible, s / self.mpp) for s in self.scales_um]

    def both(self, window: Window) -> tuple[Mask, Mask]:
        return self.epithelium[window], self.around[window]

    def block(self, block: Block) -> tuple[Window, Window]:
        return widened(block, int(np.ceil(_HALO_UM / self.mpp)), self.epithelium.shape)


def sharpen(
    evidence: Evidence,
    epithelium: Mask,
    around: Mask,
    mpp: float,
    settings: AnatomySettings,
    boxes: Sequence[Block],
    workers: int = 1,
) -> tuple[Mask, Scores]:
    """Decide the border between epithelium and what is around it again.

    Parameters
    ----------
    epithelium, around
        bool (h, w), fine; what is neither (debris, adnexa) stays so.
    boxes
        Disjoint, around all tissue.
    workers
        Threads. The answer does not depend on it.

    Returns
    -------
    epithelium
        bool (h, w).
    score
        int8 (h, w), above 0 in epithelium; its zero line is the border with sub-pixel accuracy.
    """
    edges = np.where(epithelium, np.int8(FULL), np.int8(-FULL))
    for scales, zone_um, margin_um in _ROUNDS:
        step = _Round(evidence, epithelium, around, mpp, scales, zone_um, margin_um)
        blocks = [b for b in plan_blocks(epithelium.shape, _BLOCK_PX) if _has_border(step, b)]
        sums = map_blocks(partial(_train, step), blocks, workers)
        inner, outer = (_moments([part[k] for part in sums]) for k in (0, 1))
        if inner is None or outer is None:
            break
        weights, offset, _ = discriminate(inner, outer)
        decide = partial(_decide, step, weights, offset)
        decided = map_blocks(decide, blocks, workers)
        sharp, edges = epithelium.copy(), np.where(epithelium, np.int8(FULL), np.int8(-FULL))
        for block, (inside, values) in zip(blocks, decided, strict=True):
            sharp[window_of(block)], edges[window_of(block)] = inside, values
        both = epithelium | around
        for box in boxes:
            window = window_of(box)
            sharp[window] = drop_specks(sharp[window], mpp, settings) & both[window]
        epithelium, around = sharp, both & ~sharp
    return epithelium, edges


def _has_border(step: _Round, block: Block) -> bool:
    epithelium, around = step.both(step.block(block)[0])
    return bool(epithelium.any() and around.any())


def _train(step: _Round, block: Block) -> list[tuple[int, Floats, Floats]]:
    """Count, sum and sum of products of the features of both classes in the core of a block."""
    window, core = step.block(block)
    epithelium, around = step.both(window)
    features = step.features(window)
    sums = []
    for own, other in ((epithelium, around), (around, epithelium)):
        away = distance_um(other, step.mpp)
        chosen = (own & (away > step.margin_um) & (away < _TRAINING_REACH_UM))[core]
        rows = np.stack([f[core][chosen] for f in features]).astype(np.float64)
        sums.append((rows.shape[1], rows.sum(axis=1), rows @ rows.T))
    return sums


def _moments(sums: list[tuple[int, Floats, Floats]]) -> tuple[Floats, Floats] | None:
    """Mean and covariance from sums; None of too few pixels."""
    count = sum(part[0] for part in sums)
    if count < 100:
        return None
    mean = sum((part[1] for part in sums), np.zeros_like(sums[0][1])) / count
    square = sum((part[2] for part in sums), np.zeros_like(sums[0][2])) / count
    return mean, square - np.outer(mean, mean)


def _decide(step: _Round, weights: Floats, offset: float, block: Block) -> tuple[Mask, Scores]:
    window, core = step.block(block)
    epithelium, around = step.both(window)
    tissue = step.evidence.tissue[window]
    either = epithelium | around
    zone = either & (distance_um(around, step.mpp) < step.zone_um)
    zone &= distance_um(epithelium, step.mpp) < step.zone_um
    found = np.clip(_EVIDENCE_GAIN * score(step.features(window), weights, offset), -1, 1)
    known = np.where(epithelium, np.float32(1), np.float32(-1))
    blended = smooth_within(np.where(zone, found, known), tissue, _BLEND_UM / step.mpp)
    inside = _even((blended > 0) & either, tissue, step.mpp) & either
    values = np.rint(np.where(tissue, blended, -1) * FULL).astype(np.int8)
    return inside[core], values[core]


def _even(mask: Mask, tissue: Mask, mpp: float) -> Mask:
    """`mask` without spurs and notches no wider than a cell: nuclei beside the border, gaps."""
    # Glass counts as epithelium here, or the sharp corners at cut edges would be rounded off.
    smooth = opened(mask | ~tissue, _SPUR_UM / 2, mpp) & tissue
    return closed(smooth, _SPUR_UM / 2, mpp)
