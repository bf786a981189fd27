"""Telling epithelium from dermis by the counterstain, pixel by pixel.

Two steps. `find_epithelium` teaches every slide its own classifier, because stainings differ: a
threshold put where the smoothed hematoxylin changes most gives seeds, and a linear discriminant
on hematoxylin at several scales (with eosin where that is the counterstain) is trained on them
and then on its own answer. Its border is blurred by the coarse scales that make it safe, and
pushed outwards by the dense basal layer. `sharpen` therefore decides again near the border, on
fine scales trained close by, with evidence that is capped so that no nucleus outweighs others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, drop_small, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_COARSE_UM = 10.0  # smoothing that blends a nucleus (8 um) with its cytoplasm
_EDGE_UM = 20.0  # the picture's glass border says nothing about epidermis against dermis
_STEEP_SHARE = 0.2  # of the tissue: where hematoxylin changes most
_CAP_QUANTILE = 0.95  # of the stain in the tissue
_SCALES_UM = (2.0, 4.0, 8.0, 14.0)
_SEED_INNER_UM, _SEED_OUTER_UM, _SEED_REACH_UM = 6.0, 10.0, 300.0
_ROUNDS = 3
_OPEN_UM = 6.0  # half the width of the thinnest epidermal strand kept
_MIN_HOLE_UM2 = 1500.0  # smaller holes in the epidermis are oedema, cysts or noise

# Sharpening: scales (um), half width of the zone decided again, distance left out of training.
_SHARPENING = (((2.0, 4.0), 30.0, 6.0), ((2.0,), 20.0, 4.0))
_TRAINING_REACH_UM = 45.0
_EVIDENCE_GAIN = 1.5  # full evidence a bit short of the class means, nothing beyond it
_SPUR_UM = 8.0
_BLEND_UM = 2.5  # evidence within it is pooled: under half a nucleus, so ridges keep their shape


def find_epithelium(
    counterstains: Sequence[FloatArray],
    tissue: Mask,
    legible: Mask,
    mpp: float,
    settings: AnatomySettings,
) -> tuple[Mask, float]:
    """Epithelium of any kind, and how well it keeps apart from its surroundings.

    Parameters
    ----------
    counterstains
        Signed OD (h, w) float32 at `mpp` um/px of hematoxylin, and of eosin where that is there.
    tissue
        bool (h, w).
    legible
        bool (h, w), within `tissue`: where the counterstain can be read.

    Returns
    -------
    epithelium
        bool (h, w); all False when nothing keeps apart.
    separation
        Distance between the two classes in the discriminant, in standard deviations.
    """
    capped = [_capped(stain, legible) for stain in counterstains]
    seeds = _seeds(capped[0], tissue, legible, mpp, settings)
    if not seeds.any():
        return seeds, 0.0
    features = np.stack(list(_features(capped, legible, mpp)), axis=-1)
    epithelium, separation = seeds, 0.0
    for _ in range(_ROUNDS):
        inside = tissue & (distance_um(~epithelium, mpp) > _SEED_INNER_UM)
        away = distance_um(epithelium, mpp)
        outside = tissue & (away > _SEED_OUTER_UM) & (away < _SEED_REACH_UM)
        if min(inside.sum(), outside.sum()) < 50 * features.shape[-1]:
            return np.zeros_like(seeds), 0.0
        score, separation = _discriminate(features, inside, outside)
        epithelium = _clean((score > 0) & tissue, mpp, settings)
    return epithelium, separation


def sharpen(
    hematoxylin: FloatArray,
    epithelium: Mask,
    around: Mask,
    tissue: Mask,
    legible: Mask,
    mpp: float,
    settings: AnatomySettings,
) -> tuple[Mask, FloatArray]:
    """Decide the border between epithelium and what is around it again, on fine scales.

    Parameters
    ----------
    hematoxylin
        Signed OD (h, w), float32.
    epithelium, around
        bool (h, w); what is neither (debris, adnexa) stays so.

    Returns
    -------
    epithelium
        bool (h, w).
    score
        float32 (h, w) in [-1, 1], positive in epithelium; its zero line is the border with
        sub-pixel accuracy.
    """
    capped = _capped(hematoxylin, legible)
    score = np.where(epithelium, 1, -1).astype(np.float32)
    for scales, zone_um, margin_um in _SHARPENING:
        to_around, to_epithelium = distance_um(around, mpp), distance_um(epithelium, mpp)
        inside = epithelium & (to_around > margin_um) & (to_around < _TRAINING_REACH_UM)
        outside = around & (to_epithelium > margin_um) & (to_epithelium < _TRAINING_REACH_UM)
        if min(inside.sum(), outside.sum()) < 100:
            break
        features = np.stack([smooth_within(capped, legible, s / mpp) for s in scales], axis=-1)
        evidence = np.clip(_EVIDENCE_GAIN * _discriminate(features, inside, outside)[0], -1, 1)
        zone = (to_around < zone_um) & (to_epithelium < zone_um) & (epithelium | around)
        evidence = np.where(zone, evidence, np.where(epithelium, 1, -1)).astype(np.float32)
        score = smooth_within(evidence, tissue, _BLEND_UM / mpp)
        both = epithelium | around
        epithelium = _drop_specks(_even((score > 0) & both, tissue, mpp) & both, mpp, settings)
        around = both & ~epithelium
    score[~tissue] = -1
    return epithelium, score


def smooth_within(values: FloatArray, mask: Mask, sigma_px: float) -> FloatArray:
    """Gaussian mean of `values` over `mask` only, so that glass does not thin the tissue's edge."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma_px)
    return cast(FloatArray, total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-3))


def _capped(stain: FloatArray, legible: Mask) -> FloatArray:
    """The stain without its extremes: the darkest nuclei and keratin must not set the scale."""
    if not legible.any():
        return stain
    return np.clip(stain, -0.1, np.quantile(stain[legible], _CAP_QUANTILE)).astype(np.float32)


def _seeds(
    hematoxylin: FloatArray, tissue: Mask, legible: Mask, mpp: float, settings: AnatomySettings
) -> Mask:
    """Regions denser than the level at which smoothed hematoxylin changes most."""
    smooth = smooth_within(hematoxylin, legible, _COARSE_UM / mpp)
    inner = distance_um(~tissue, mpp) > _EDGE_UM
    if inner.sum() * mpp**2 / 1e6 < settings.min_epidermis_area_mm2:
        return np.zeros_like(tissue)
    gradient = np.hypot(*np.gradient(smooth))[inner]
    steep = gradient >= np.quantile(gradient, 1 - _STEEP_SHARE)
    level = np.average(smooth[inner][steep], weights=gradient[steep] ** 2 + 1e-12)
    return _clean((smooth > level) & tissue, mpp, settings)


def _clean(mask: Mask, mpp: float, settings: AnatomySettings) -> Mask:
    """`mask` without thin strands, small pieces and small holes."""
    return _drop_specks(opened(mask, _OPEN_UM, mpp), mpp, settings)


def _even(mask: Mask, tissue: Mask, mpp: float) -> Mask:
    """`mask` without spurs and notches no wider than a cell: nuclei beside the border, gaps."""
    # Glass counts as epithelium here, or the sharp corners at cut edges would be rounded off.
    smooth = opened(mask | ~tissue, _SPUR_UM / 2, mpp) & tissue
    return closed(smooth, _SPUR_UM / 2, mpp)


def _drop_specks(mask: Mask, mpp: float, settings: AnatomySettings) -> Mask:
    pieces = drop_small(mask, settings.min_epidermis_area_mm2 * 1e6 / mpp**2)
    return ~drop_small(~pieces, _MIN_HOLE_UM2 / mpp**2)


def _features(counterstains: list[FloatArray], legible: Mask, mpp: float) -> Iterator[FloatArray]:
    for stain in counterstains:
        for scale in _SCALES_UM:
            yield smooth_within(stain, legible, scale / mpp)
    hematoxylin = counterstains[0]
    mean = smooth_within(hematoxylin, legible, _SCALES_UM[2] / mpp)
    square = smooth_within(hematoxylin**2, legible, _SCALES_UM[2] / mpp)
    yield np.sqrt(np.maximum(square - mean**2, 0))


def _discriminate(features: FloatArray, first: Mask, second: Mask) -> tuple[FloatArray, float]:
    """Fisher's linear discriminant: score (+1 and -1 at the class means), separation in SDs."""
    samples = features[first].astype(np.float64), features[second].astype(np.float64)
    means = [s.mean(axis=0) for s in samples]
    spread = (np.atleast_2d(np.cov(samples[0].T)) + np.atleast_2d(np.cov(samples[1].T))) / 2
    spread += np.eye(len(spread)) * np.trace(spread) / len(spread) * 1e-3
    weights = np.linalg.solve(spread, means[0] - means[1])
    square = max(float((means[0] - means[1]) @ weights), 1e-9)
    offset = -float((means[0] + means[1]) @ weights) / 2
    score = (features @ weights.astype(np.float32) + np.float32(offset)) * np.float32(2 / square)
    return score.astype(np.float32), float(np.sqrt(square))
