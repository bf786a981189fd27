"""The border between epithelium and what is around it, decided on fine scales, window by window.

The coarse answer is safe but blurred. Near its border the counterstain is looked at again, on
fine scales, by a discriminant that is trained close by. Evidence is capped: not above a nucleus,
so that none outweighs others, and down to cytoplasm where that alone tells epithelium from what
is around it, for a border seen by nuclei runs along the outermost of them. Which cap keeps the
two apart best is tried on every slide. Dermis, stratum corneum and dermis crowded with cells have a
rule each. At last the border is pulled taut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from skimage.restoration import denoise_tv_chambolle

from histoquant.blocks import Block, map_blocks, plan_blocks
from histoquant.epithelium import (
    Sums,
    discriminate,
    drop_specks,
    moments_of,
    score,
    smooth_within,
    sums_of,
)
from histoquant.evidence import Evidence, Reading, ground_of, histograms, quantile
from histoquant.layers import CROWDED, DERMIS, EPIDERMIS, STRATUM_CORNEUM, Labels
from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, from_nearest, opened
from histoquant.windowed import FloatArray, Window, widened, window_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.int8]

FULL = 127
"""Score of what is surely epithelium; its negative is surely not."""

# Scales (um), half width of the zone decided again, distance left out of training, and whether
# the stain between nuclei counts: it tells crowds of cells below the junction from epithelium, and
# the stain itself then places the border within a few um.
_ROUNDS = (
    ((2.0, 4.0), 30.0, 6.0, True),
    ((2.0,), 20.0, 4.0, True),
    ((2.0,), 4.0, 4.0, False),
)
_TRAINING_REACH_UM = 45.0
_UPPER_REACH_UM = 25.0  # towards corneum: the flat, pale upper layers only
_UPPER_MARGIN = 0.5  # corneum may be thin
_CAPS = (0.65, 0.8, 0.95)  # quantiles of the epithelium near a border
_UPPER_CAPS = (0.65, 0.8)  # there nuclei lie apart
_EVIDENCE_GAIN = 1.5  # full evidence a bit short of the class means, nothing beyond it
_GROUND_BLUR_UM = 2.0
_SPUR_UM = 8.0
_BLEND_UM = 1.0  # evidence within it is pooled; what is left of nuclei the tension takes out
_TAUT, _TAUT_STEPS = 0.4, 20  # tension at 2 um/px; steps, each of which reaches a pixel farther
_BLOCK_PX = 256
_HALO_UM = 64.0  # what a pixel depends on: 30 (zone), 4 (blend) and 16 (spurs); 45 in training


@dataclass(frozen=True)
class _Rule:
    """A discriminant of the evidence below a cap."""

    weights: Floats
    offset: float
    cap_od: float
    with_ground: bool


@dataclass(frozen=True)
class _Front:
    """One kind of surroundings. The border with it is decided by a rule of its own.

    `code` is its label: what is nearer to where that lay at first than to other kinds is its own.
    The rule is trained on epithelium as far as `reach_um` from it, and on itself from `margin`
    times a round's margin on. `caps` are the quantiles of that epithelium that are tried. What
    lies between nuclei counts in every round where `with_ground` is set.
    """

    code: int
    caps: tuple[float, ...]
    reach_um: float
    margin: float
    with_ground: bool = False


_FRONTS = (
    _Front(DERMIS, _CAPS, _TRAINING_REACH_UM, 1.0),
    _Front(STRATUM_CORNEUM, _UPPER_CAPS, _UPPER_REACH_UM, _UPPER_MARGIN),
    _Front(CROWDED, _CAPS, _TRAINING_REACH_UM, 1.0, with_ground=True),
)


@dataclass(frozen=True)
class _Round:
    """What one round starts from."""

    evidence: Evidence
    labels: Labels
    epithelium: Mask
    around: Mask
    mpp: float
    scales_um: tuple[float, ...]
    zone_um: float
    margin_um: float
    with_ground: bool

    def blocks(self) -> list[Block]:
        """Blocks in which epithelium meets what is around it."""
        return [b for b in plan_blocks(self.epithelium.shape, _BLOCK_PX) if self._has_border(b)]

    def _has_border(self, block: Block) -> bool:
        window, _ = self.widened(block)
        return bool(self.epithelium[window].any() and self.around[window].any())

    def widened(self, block: Block) -> tuple[Window, Window]:
        return widened(block, int(np.ceil(_HALO_UM / self.mpp)), self.epithelium.shape)

    def looks_between(self, front: _Front) -> bool:
        """Whether what lies between nuclei counts at a front."""
        return self.with_ground or front.with_ground

    def features(self, reading: Reading, cap_od: float, with_ground: bool) -> list[FloatArray]:
        stain = self.evidence.capped(reading)[self.evidence.placing]
        stain = np.minimum(stain, np.float32(cap_od))
        layers = [smooth_within(stain, reading.legible, s / self.mpp) for s in self.scales_um]
        if with_ground:
            ground = ground_of(stain, reading.legible, self.mpp)
            layers.append(smooth_within(ground, reading.legible, _GROUND_BLUR_UM / self.mpp))
        return layers

    def away_from(self, front: _Front, window: Window) -> FloatArray:
        """Distance from where a front lay at first, in um."""
        return distance_um(self.labels[window] == front.code, self.mpp)

    def nearest_front(self, window: Window) -> npt.NDArray[np.intp]:
        """Which front each pixel is nearest to."""
        return np.asarray(np.argmin([self.away_from(f, window) for f in _FRONTS], axis=0))


def sharpen(
    evidence: Evidence,
    labels: Labels,
    mpp: float,
    settings: AnatomySettings,
    boxes: Sequence[Block],
    workers: int = 1,
) -> tuple[Mask, Scores]:
    """Decide the border between epithelium and what is around it again.

    Parameters
    ----------
    labels
        uint8 (h, w), fine: codes of `histoquant.layers`, the border of the epidermis about where
        it is. What is neither epidermis nor dermis nor stratum corneum stays so.
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
    epithelium, edges = labels == EPIDERMIS, None
    around = np.isin(labels, [front.code for front in _FRONTS])
    both = epithelium | around
    for scales, zone_um, margin_um, ground in _ROUNDS:
        step = _Round(evidence, labels, epithelium, around, mpp, scales, zone_um, margin_um, ground)
        blocks = step.blocks()
        caps = _caps(step, blocks, workers)
        sums = map_blocks(partial(_train, step, caps), blocks, workers)
        rules = _rules(step, sums, caps)
        if not rules:
            break
        edges = None  # on a large slide masks take most of the memory
        epithelium, edges = _drawn(partial(_decide, step, rules), blocks, epithelium, workers)
        epithelium = _without_specks(epithelium, both, boxes, mpp, settings)
        around = both & ~epithelium
    del around
    edges = _certain(epithelium) if edges is None else edges
    taut = partial(_tauten, edges, both, evidence.tissue, mpp)
    blocks = [b for b in plan_blocks(edges.shape, _BLOCK_PX) if _is_mixed(edges[window_of(b)])]
    epithelium, edges = _drawn(taut, blocks, epithelium, workers)
    return _without_specks(epithelium, both, boxes, mpp, settings), edges


def _drawn(
    draw: Callable[[Block], tuple[Mask, Scores]],
    blocks: Sequence[Block],
    epithelium: Mask,
    workers: int,
) -> tuple[Mask, Scores]:
    """Epithelium and its score, as drawn in `blocks` and as it was elsewhere."""
    sharp, edges = epithelium.copy(), _certain(epithelium)
    for block, drawn in zip(blocks, map_blocks(draw, blocks, workers), strict=True):
        sharp[window_of(block)], edges[window_of(block)] = drawn
    return sharp, edges


def _without_specks(
    epithelium: Mask, both: Mask, boxes: Sequence[Block], mpp: float, settings: AnatomySettings
) -> Mask:
    clean = epithelium.copy()
    for box in boxes:
        window = window_of(box)
        clean[window] = drop_specks(epithelium[window], mpp, settings) & both[window]
    return clean


def _is_mixed(edges: Scores) -> bool:
    return bool(edges.min() < FULL and edges.max() > -FULL)


def _certain(epithelium: Mask) -> Scores:
    return np.where(epithelium, np.int8(FULL), np.int8(-FULL))


def _caps(step: _Round, blocks: Sequence[Block], workers: int) -> list[tuple[float, ...]]:
    """For each front, the ODs above which the stain is tried to say no more."""

    def count(block: Block) -> npt.NDArray[np.int64]:
        window, core = step.widened(block)
        reading, nearest = step.evidence.read(window), step.nearest_front(window)
        inside = step.epithelium[window] & reading.legible
        inside &= distance_um(step.around[window], step.mpp) < _TRAINING_REACH_UM
        stain = reading.stains[step.evidence.placing]
        rows = []
        for number, front in enumerate(_FRONTS):
            away = step.away_from(front, window)
            near = inside & (nearest == number) & (away < front.reach_um)
            rows.append(histograms([stain[core]], near[core])[0])
        return np.stack(rows)

    counts = np.sum(map_blocks(count, blocks, workers), axis=0) if blocks else None
    most = step.evidence.caps[step.evidence.placing]
    return [
        tuple(min(most, quantile(counts[number], share)) for share in front.caps)
        if counts is not None
        else (most,)
        for number, front in enumerate(_FRONTS)
    ]


def _train(
    step: _Round, caps: Sequence[tuple[float, ...]], block: Block
) -> list[list[tuple[Sums, Sums]]]:
    """Count, sum and sum of products of the features in the core of a block.

    Of each front and each of its caps, for epithelium and for what is around it.
    """
    window, core = step.widened(block)
    epithelium, around = step.epithelium[window], step.around[window]
    reading, nearest = step.evidence.read(window), step.nearest_front(window)
    to_around, to_epithelium = distance_um(around, step.mpp), distance_um(epithelium, step.mpp)
    result = []
    for number, front in enumerate(_FRONTS):
        chosen = []
        for own, away, least, most in (
            (epithelium, to_around, step.margin_um, front.reach_um),
            (around, to_epithelium, step.margin_um * front.margin, _TRAINING_REACH_UM),
        ):
            here = own & (nearest == number) & (away > least) & (away < most)
            chosen.append(here[core])
        tried = []
        for cap_od in caps[number] if any(c.any() for c in chosen) else ():
            layers = step.features(reading, cap_od, step.looks_between(front))
            here = [layer[core] for layer in layers]
            tried.append((sums_of(here, chosen[0]), sums_of(here, chosen[1])))
        nothing = _nothing(step, front)
        result.append(tried or [(nothing, nothing)] * len(caps[number]))
    return result


def _nothing(step: _Round, front: _Front) -> Sums:
    count = len(step.scales_um) + step.looks_between(front)
    return 0, np.zeros(count), np.zeros((count, count))


def _rules(
    step: _Round,
    sums: Sequence[Sequence[Sequence[tuple[Sums, Sums]]]],
    caps: Sequence[tuple[float, ...]],
) -> list[_Rule]:
    """The rule of each front, of one too small that of the first that is not; empty without any.

    Of the caps the one that keeps epithelium and surroundings farthest apart.
    """
    found: list[_Rule | None] = []
    for number, (front, tried) in enumerate(zip(_FRONTS, caps, strict=True)):
        best, apart = None, -1.0
        for which, cap_od in enumerate(tried):
            sides = (moments_of([p[number][which][side] for p in sums]) for side in (0, 1))
            inner, outer = sides
            if inner is None or outer is None:
                continue
            weights, offset, separation = discriminate(inner, outer)
            if separation > apart:
                best = _Rule(weights, offset, cap_od, step.looks_between(front))
                apart = separation
        found.append(best)
    first = next((rule for rule in found if rule), None)
    return [rule or first for rule in found] if first else []


def _decide(step: _Round, rules: Sequence[_Rule], block: Block) -> tuple[Mask, Scores]:
    window, core = step.widened(block)
    epithelium, around = step.epithelium[window], step.around[window]
    tissue = step.evidence.tissue[window]
    either = epithelium | around
    zone = either & (distance_um(around, step.mpp) < step.zone_um)
    zone &= distance_um(epithelium, step.mpp) < step.zone_um
    if step.evidence.unread is not None:
        zone &= ~step.evidence.unread[window]
    values = np.where(epithelium, np.float32(1), np.float32(-1))
    reading, nearest = step.evidence.read(window), step.nearest_front(window)
    for number, rule in enumerate(rules):
        here = zone & (nearest == number)
        if not here.any():
            continue
        layers = step.features(reading, rule.cap_od, rule.with_ground)
        found = score(layers, rule.weights, rule.offset)
        values[here] = np.clip(_EVIDENCE_GAIN * found[here], -1, 1)
    blended = smooth_within(values, tissue, _BLEND_UM / step.mpp)
    inside = _even((blended > 0) & either, tissue, step.mpp) & either
    whole = np.rint(np.where(tissue, blended, -1) * FULL).astype(np.int8)
    return inside[core], whole[core]


def _tauten(
    edges: Scores, either: Mask, tissue: Mask, mpp: float, block: Block
) -> tuple[Mask, Scores]:
    """The border pulled taut: as short as it can be without leaving much evidence on either side.

    A nucleus that touches it from the dermis, or one that is missing in the basal row, is a bump
    or a notch as wide as a cell, and makes the line too long; ridges and papillae hold much more
    evidence for their length. (Total variation, Rudin, Osher and Fatemi 1992, by the method of
    Chambolle 2004.)
    """
    halo = _TAUT_STEPS + 1 + 2 * int(np.ceil(_SPUR_UM / mpp))
    window, core = widened(block, halo, edges.shape)
    inside = tissue[window]
    # Glass as the tissue nearest to it, so that it pulls at no border that ends there.
    values = from_nearest(edges[window].astype(np.float32) / np.float32(FULL), inside)
    weight = _TAUT * 2.0 / mpp
    taut = denoise_tv_chambolle(values, weight, eps=0, max_num_iter=_TAUT_STEPS)
    mask = _even((taut > 0) & either[window], inside, mpp) & either[window]
    whole = np.rint(np.where(inside, taut, -1) * FULL).astype(np.int8)
    return mask[core], whole[core]


def _even(mask: Mask, tissue: Mask, mpp: float) -> Mask:
    """`mask` without spurs and notches no wider than a cell: nuclei beside the border, gaps."""
    # Glass counts as epithelium here, or the sharp corners at cut edges would be rounded off.
    smooth = opened(mask | ~tissue, _SPUR_UM / 2, mpp) & tissue
    return closed(smooth, _SPUR_UM / 2, mpp)
