"""Where viable epidermis ends towards the stratum corneum: a little above its outermost nuclei.

Corneum takes up hematoxylin as cytoplasm does, or more, and then passes for epithelium. But no
nuclei are left in it. Of what hematoxylin shows, nuclei are compact; lamellae of corneum and the
gaps between them are as dark, and long. A ball that rolls over the nuclei gives a first line; near
it the stain decides, as far as it tells the two apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block, blocks_within, map_blocks
from histoquant.epithelium import Sums, discriminate, moments_of, score, smooth_within, sums_of
from histoquant.evidence import LONG_UM, Evidence, ground_of, histograms, quantile, standing_out
from histoquant.layers import BACKGROUND, DERMIS, EPIDERMIS, STRATUM_CORNEUM, Labels
from histoquant.pieces import touching
from histoquant.tissue import closed, distance_um, opened
from histoquant.windowed import FloatArray, Window, widened, window_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

_SHARP_UM = 1.0  # blur that takes out noise
_LEVEL_QUANTILE, _LEVEL_SHARE = 0.9, 0.35  # of how far nuclei stand out in epidermis
_LEAST_CONTRAST = 0.2  # of what lies between nuclei; less is noise
_INNER_UM = 8.0  # epidermis that far from its border sets the level
_GAP_UM, _PALE = 4.0, 0.4  # a nucleus has no gap as near, paler than this share of cytoplasm
_THIN_UM = 4.0  # opening: what is left of a nucleus
_CROWD_UM, _LEAST_CROWD = 8.0, 0.3  # of nuclei around one, of what is usual in epidermis
_NEXT_UM = 8.0  # half of the way from one nucleus to the next, at most
_ROLL_UM = 30.0  # radius of the ball that rolls over the outermost nuclei
_PEAK_UM, _HIGH_UM = 40.0, 10.0  # wide and high: narrower and higher rises no row of nuclei
_ABOVE_UM = 3.0  # cytoplasm above them, at least
_LEAST_COVERED = 0.9  # of the epidermis nearer to dermis: less says that nuclei were not told
_LIKELY_UM = 2.5  # each time as far beyond the first line epidermis is e times less likely
_ROUNDS = 2  # the second learns from what the first decided
_ZONE_UM = 12.0  # on both sides of the first line: what the stain decides again
_MARGIN_UM, _REACH_UM = 3.0, (25.0, 45.0)  # left out of training; the farthest within and beyond
_BLUR_UM = 2.0
_BLEND_UM, _SPUR_UM = 1.0, 8.0
_BLOCK_PX = 512
_HALO_UM = 2 * _ROLL_UM + 3 * _CROWD_UM + LONG_UM


def end_at_nuclei(
    evidence: Evidence, labels: Labels, mpp: float, boxes: Sequence[Block], workers: int = 1
) -> None:
    """Call stratum corneum what was taken for epidermis and lies beyond its outermost nuclei.

    Near them stain decides, and may give corneum back. Where nuclei cannot be told nothing changes.

    Parameters
    ----------
    evidence
        By whose first stain nuclei are told.
    labels
        uint8 (h, w), fine: codes of `histoquant.layers`. Changed in place.
    mpp
        Their pixel size in um.
    boxes
        Disjoint, around all tissue.
    workers
        Threads. The answer does not depend on it.
    """
    blocks = [b for box in boxes for b in blocks_within(box, _BLOCK_PX)]
    blocks = [b for b in blocks if (labels[window_of(b)] == EPIDERMIS).any()]
    if not blocks:
        return

    def over(work: Callable[..., Any], *args: Any) -> list[Any]:
        return map_blocks(partial(work, evidence, labels, mpp, *args), blocks, workers)

    first = _draw_first(over, labels, blocks)
    if first is None:
        return
    past = first
    for _ in range(_ROUNDS):
        rule = _learn(over(_train, past))
        decided = over(_decide, first, rule)
        past = first.copy()
        for block, found in zip(blocks, decided, strict=True):
            past[window_of(block)] = found
    layer = (labels == EPIDERMIS) | (labels == STRATUM_CORNEUM)
    labels[layer] = np.where(past[layer], np.uint8(STRATUM_CORNEUM), np.uint8(EPIDERMIS))


def _draw_first(
    over: Callable[..., list[Any]], labels: Labels, blocks: Sequence[Block]
) -> Mask | None:
    """Corneum, and what lies beyond the outermost nuclei, bool (h, w); None if they are not told.

    `over` does a piece of work in every block.
    """
    standing_out, between = np.sum(over(_count), axis=0)
    nuclear_od, between_od = quantile(standing_out, _LEVEL_QUANTILE), quantile(between, 0.5)
    if nuclear_od < _LEAST_CONTRAST * between_od:
        return None
    told = _Nuclei(_LEVEL_SHARE * nuclear_od, _PALE * between_od)
    nuclear, inner = np.sum(over(_nuclear_share, told), axis=0)
    lines = over(_first_line, told, nuclear / max(inner, 1))
    covered, below = np.sum([counts for _, counts in lines], axis=0)
    if covered < _LEAST_COVERED * below:
        return None
    first = labels == STRATUM_CORNEUM
    for block, (beyond, _) in zip(blocks, lines, strict=True):
        first[window_of(block)] |= beyond
    return np.asarray(first)


@dataclass(frozen=True)
class _Nuclei:
    """What tells nuclei on a slide: they stand out by `least_od`; gaps are paler than `pale_od`."""

    least_od: float
    pale_od: float

    def find(self, evidence: Evidence, labels: Labels, window: Window, mpp: float) -> Mask:
        stain = _stain(evidence, window, mpp)
        found = (standing_out(stain, mpp) > self.least_od) & (labels[window] == EPIDERMIS)
        found &= cv2.erode(stain, _disc(_GAP_UM, mpp)) >= self.pale_od
        size = max(1, round(_THIN_UM / mpp))
        thick = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_OPEN, np.ones((size, size)))
        return np.asarray(thick > 0)


def _stain(evidence: Evidence, window: Window, mpp: float) -> FloatArray:
    """The stain, not capped: where dermis is most of a section, nuclei lie above the cap."""
    reading = evidence.read(window)
    stain = np.where(reading.legible, np.maximum(reading.stains[0], 0), np.float32(0))
    return np.asarray(cv2.GaussianBlur(stain, (0, 0), _SHARP_UM / mpp), np.float32)


def _disc(radius_um: float, mpp: float) -> npt.NDArray[np.uint8]:
    size = 2 * round(radius_um / mpp) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)


def _inner(labels: Labels, window: Window, mpp: float) -> Mask:
    return np.asarray(distance_um(labels[window] != EPIDERMIS, mpp) > _INNER_UM)


def _count(evidence: Evidence, labels: Labels, mpp: float, block: Block) -> Counts:
    """Histograms inside the epidermis: of what stands out, and of what lies between nuclei."""
    window, core = widened(block, int(np.ceil(LONG_UM / mpp)), labels.shape)
    stain = _stain(evidence, window, mpp)
    ground = ground_of(stain, np.ones(stain.shape, np.bool_), mpp)
    inner = _inner(labels, window, mpp)[core]
    return histograms([standing_out(stain, mpp)[core], ground[core]], inner)


def _nuclear_share(
    evidence: Evidence, labels: Labels, mpp: float, told: _Nuclei, block: Block
) -> Counts:
    """Pixels of nuclei inside the epidermis, and all."""
    window, core = widened(block, int(np.ceil(LONG_UM / mpp)), labels.shape)
    inner = _inner(labels, window, mpp)[core]
    nuclei = told.find(evidence, labels, window, mpp)[core]
    return np.array([np.count_nonzero(inner & nuclei), np.count_nonzero(inner)])


def _first_line(
    evidence: Evidence, labels: Labels, mpp: float, told: _Nuclei, usual: float, block: Block
) -> tuple[Mask, Counts]:
    """What the ball reaches, in the core of a block; how much of the epidermis nuclei cover.

    The latter of what is nearer to dermis, as pixels covered and all.
    """
    window, core = widened(block, int(np.ceil(_HALO_UM / mpp)), labels.shape)
    here = labels[window]
    dermis = distance_um(here == DERMIS, mpp)
    corneum = here == STRATUM_CORNEUM
    upper = distance_um(corneum | (here == BACKGROUND), mpp) < dermis
    below = (here == EPIDERMIS) & ~upper
    nuclei = told.find(evidence, labels, window, mpp)
    crowd = cv2.GaussianBlur(nuclei.astype(np.float32), (0, 0), _CROWD_UM / mpp)
    nuclei &= crowd >= _LEAST_CROWD * usual
    # From one to the next they hang together with those near the dermis.
    nuclei &= touching((distance_um(nuclei, mpp) <= _NEXT_UM) | below, below)
    covered = below & (distance_um(nuclei, mpp) <= _ROLL_UM)
    under = under_the_ball(nuclei | (dermis <= _INNER_UM), (here == EPIDERMIS) | corneum, mpp)
    beyond = (here == EPIDERMIS) & upper & (distance_um(under, mpp) > _ABOVE_UM)
    # Where corneum is lost what is left above nuclei is their own cytoplasm.
    beyond &= opened(beyond | corneum, _ABOVE_UM, mpp)
    return beyond[core], np.array([np.count_nonzero(m[core]) for m in (covered, below)])


def under_the_ball(solid: Mask, layer: Mask, mpp: float) -> Mask:
    """What a ball that rolls over `solid` cannot reach, bool (h, w), without narrow, high peaks.

    `layer` is epidermis and corneum: what the ball may roll in.
    """
    under = distance_um(distance_um(solid, mpp) > _ROLL_UM, mpp) > _ROLL_UM
    return np.asarray(under & ~_peaks(under, layer, mpp))


def _peaks(under: Mask, layer: Mask, mpp: float) -> Mask:
    """What rises high into the corneum and is narrow: what passed for nuclei, and no row of them.

    What is no layer counts as under it, or epidermis thinner than a peak is wide would be lost.
    """
    wide = opened(under | ~layer, _PEAK_UM / 2, mpp)
    narrow = under & ~wide
    return touching(narrow, narrow & (distance_um(wide, mpp) > _HIGH_UM))


@dataclass(frozen=True, eq=False)
class _Sides:
    """Viable epidermis and corneum by a line, and how far each pixel is from the other.

    `to_viable_um` and `to_corneum_um`, (h, w); `own` is what is nearer to corneum than to dermis.
    """

    viable: Mask
    corneum: Mask
    to_viable_um: FloatArray
    to_corneum_um: FloatArray
    own: Mask


def _sides(labels: Labels, past: Mask, window: Window, mpp: float) -> _Sides:
    here = labels[window]
    layer = (here == EPIDERMIS) | (here == STRATUM_CORNEUM)
    viable, corneum = layer & ~past[window], layer & past[window]
    to_corneum = distance_um(corneum, mpp)
    own = to_corneum < distance_um(here == DERMIS, mpp)
    return _Sides(viable, corneum, distance_um(viable, mpp), to_corneum, own)


def _features(evidence: Evidence, window: Window, mpp: float) -> list[FloatArray]:
    """The stain, and what of it lies between nuclei."""
    reading = evidence.read(window)
    stain = evidence.capped(reading)[0]
    both = stain, ground_of(stain, reading.legible, mpp)
    return [smooth_within(layer, reading.legible, _BLUR_UM / mpp) for layer in both]


def _train(
    evidence: Evidence, labels: Labels, mpp: float, past: Mask, block: Block
) -> tuple[Sums, Sums]:
    """Count, sum and sum of products of the features on either side of a line."""
    window, core = widened(block, int(np.ceil(_HALO_UM / mpp)), labels.shape)
    sides = _sides(labels, past, window, mpp)
    within, away = _REACH_UM
    viable = sides.viable & sides.own & (sides.to_corneum_um > _MARGIN_UM)
    corneum = sides.corneum & (sides.to_viable_um > _MARGIN_UM)
    chosen = viable & (sides.to_corneum_um < within), corneum & (sides.to_viable_um < away)
    layers = [layer[core] for layer in _features(evidence, window, mpp)]
    return tuple(sums_of(layers, side[core]) for side in chosen)  # type: ignore[return-value]


def _learn(sums: Sequence[tuple[Sums, Sums]]) -> tuple[Floats, float, float] | None:
    """The discriminant of viable epidermis and corneum; None of too little of either."""
    viable, corneum = (moments_of([part[side] for part in sums]) for side in (0, 1))
    return None if viable is None or corneum is None else discriminate(viable, corneum)


def _decide(
    evidence: Evidence,
    labels: Labels,
    mpp: float,
    first: Mask,
    rule: tuple[Floats, float, float] | None,
    block: Block,
) -> Mask:
    """What is past viable epidermis in the core of a block, by the first line and by stain.

    Log odds of the stain are its score times half of the squared separation.
    """
    window, core = widened(block, int(np.ceil(_HALO_UM / mpp)), labels.shape)
    sides = _sides(labels, first, window, mpp)
    zone = (sides.viable & sides.own & (sides.to_corneum_um <= _ZONE_UM)) | (
        sides.corneum & (sides.to_viable_um <= _ZONE_UM)
    )
    if rule is None or not zone.any():
        return sides.corneum[core]
    weights, offset, separation = rule
    odds = score(_features(evidence, window, mpp), weights, offset)
    odds *= np.float32(separation**2 / 2)
    odds -= np.where(sides.viable, -sides.to_corneum_um, sides.to_viable_um) / _LIKELY_UM
    layer = sides.viable | sides.corneum
    values = np.where(zone, np.clip(odds, -1, 1), np.where(sides.viable, 1, -1))
    found = smooth_within(values.astype(np.float32), layer, _BLEND_UM / mpp) > 0
    # What is no layer counts as epidermis, or corners at cut edges would be rounded off.
    even = closed(opened(found | ~layer, _SPUR_UM / 2, mpp) & layer, _SPUR_UM / 2, mpp)
    return np.where(zone, ~even, sides.corneum)[core]
