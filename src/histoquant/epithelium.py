"""Telling epithelium from dermis by the counterstain, on a coarse scale.

`find_epithelium` teaches every slide its own classifier, because stainings differ: a threshold
put where the smoothed hematoxylin changes most gives seeds, and a linear discriminant on
hematoxylin at several scales (with eosin where that is the counterstain) is trained on them and
then on its own answer. All pieces of tissue on a slide are stained alike, so they share one
classifier. Lymphocytes that crowd below the junction pass for epithelium: `find_crowds` takes
them out. The border of what stays is blurred by the coarse scales that make it safe, and pushed
outwards by the dense basal layer: `histoquant.border` decides it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.evidence import Coarse
from histoquant.pieces import touching
from histoquant.settings import AnatomySettings
from histoquant.tissue import distance_um, drop_small, opened
from histoquant.windowed import window_around

FloatArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Sums = tuple[int, Floats, Floats]

_COARSE_UM = 10.0  # smoothing that blends a nucleus (8 um) with its cytoplasm
_EDGE_UM = 20.0  # the picture's glass border says nothing about epidermis against dermis
_STEEP_SHARE = 0.2  # of the tissue: where hematoxylin changes most; no more than its rim
_SCALES_UM = (2.0, 4.0, 8.0, 14.0)
_GROUNDS = 3  # of them, the coarsest, for what lies between nuclei
_SEED_INNER_UM, _SEED_OUTER_UM, _SEED_REACH_UM = 6.0, 10.0, 300.0
_ROUNDS, _FIRM_ROUNDS = 3, 1  # of which the first take no thin strands
# A piece teaches if its mean score is this share of the best at the surface, at least; bundles of
# collagen come to 0.4-0.6, epithelium to 0.75 and more.
_TEACHING_SHARE = 0.68
_LEAST_SHARE = 0.5  # of a piece in the depth; less is no epithelium
_BEST_SHARE = 0.25  # of the area of the largest piece: smaller ones are not what others are held to
_SURFACE_UM, _SURFACE_WIDTH_UM = 30.0, 60.0  # from glass; along it
_CROWD_UM = 8.0  # smoothing that blends what lies between two cells
# Of a crowd and of its rim: the most that both scores add up to, in standard deviations, and the
# least of the way from epithelium to dermis that the stain between its cells lies at.
_CROWD_SEED, _CROWD_RIM = (-2.25, 0.3), (-1.25, 0.2)
_MIN_CROWD_UM2 = 1200.0
_CROWD_CORE_UM, _CROWD_REACH_UM = 8.0, 28.0  # half its width somewhere; how far it lies around
# What lies between most of its cells: this far from epithelium to dermis. Less where a disc of this
# radius (um) fits into it and it is this large (um2): rows of basal cells are narrow.
_CROWD_PALE, _PALE_OF_WIDE = 0.55, ((0.48, 12.0, 4000.0), (0.3, 20.0, 0.0))
_OPEN_UM, _THIN_UM = 6.0, 4.0  # half the width of the thinnest strand that teaches at first; kept
_AROUND_PX = 16
_MIN_HOLE_UM2 = 1500.0  # smaller holes in the epidermis are oedema, cysts or noise
_MIN_SAMPLES = 100
_SAMPLES = 200_000  # pixels of a class that its discriminant is trained on


@dataclass(frozen=True, eq=False)
class Told:
    """Epithelium as told from its surroundings.

    Attributes
    ----------
    epithelium
        Of each field, bool (h, w), epithelium of any kind; all False when nothing keeps apart.
    separation
        Distance between the two classes in the discriminant, in standard deviations.
    nuclei_ratio
        How much more of the stain lies in nuclei in the surest epithelium than around it: some 1
        where dermis was taken for it.
    """

    epithelium: list[Mask]
    separation: float
    nuclei_ratio: float


def find_epithelium(
    fields: Sequence[Coarse],
    settings: AnatomySettings,
    workers: int = 1,
    seeds: Sequence[Mask] | None = None,
    beside_marker: bool = False,
) -> Told:
    """Tell epithelium of any kind from its surroundings.

    Parameters
    ----------
    fields
        The evidence, piece by piece of tissue.
    workers
        Threads. The answer does not depend on it.
    seeds
        Of each field, bool (h, w): epithelium to learn from, where it is known already.
    beside_marker
        Whether hematoxylin alone tells, beside a marker. Then what lies between nuclei counts, too,
        and only sure pieces teach.
    """
    seeds = _seeds(fields, settings) if seeds is None else list(seeds)
    nothing = Told([np.zeros_like(seed) for seed in seeds], 0.0, 0.0)
    if not any(seed.any() for seed in seeds):
        return nothing
    with ThreadPoolExecutor(workers) as pool:
        tasks = [[pool.submit(t) for t in _features(field, beside_marker)] for field in fields]
        features = [[task.result() for task in row] for row in tasks]
        learn = partial(_learn, fields, features, pool)
        epithelium, teaching, separation = seeds, seeds, 0.0
        if beside_marker and (first := learn(seeds, seeds)):
            epithelium, teaching = _sure(fields, seeds, _scores(features, first))
        for number in range(_ROUNDS):
            learned = learn(epithelium, teaching)
            if learned is None:
                return nothing
            separation, scores = learned[2], _scores(features, learned)
            above = [(s > 0) & field.tissue for s, field in zip(scores, fields, strict=True)]
            epithelium = [clean(a, f.mpp, settings) for a, f in zip(above, fields, strict=True)]
            if number >= _FIRM_ROUNDS:
                # The walls of follicles are as thin as noise in the dermis, and hang on to more.
                epithelium = [
                    touching(clean(a, f.mpp, settings, _THIN_UM), e) | e
                    for a, e, f in zip(above, epithelium, fields, strict=True)
                ]
            teaching = epithelium
            if beside_marker:
                epithelium, teaching = _sure(fields, epithelium, scores)
    return Told(epithelium, separation, _nuclei_ratio(fields, epithelium, teaching))


def _scores(
    features: Sequence[Sequence[FloatArray]], learned: tuple[Floats, float, float]
) -> list[FloatArray]:
    weights, offset, _ = learned
    return [score(layers, weights, offset) for layers in features]


def _nuclei_ratio(
    fields: Sequence[Coarse], epithelium: Sequence[Mask], teaching: Sequence[Mask]
) -> float:
    """What of the stain lies in nuclei, in the pieces that teach over what is around them."""
    sums = np.zeros((2, 2))
    for field, own, sure in zip(fields, epithelium, teaching, strict=True):
        nuclei = field.capped[0] - field.ground
        for k, side in enumerate(_sides(field, own, sure)):
            sums[k] += nuclei[side].sum(dtype=np.float64), np.count_nonzero(side)
    inside, outside = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return float(inside / outside) if outside > 0 else 0.0


def _sure(
    fields: Sequence[Coarse], epithelium: Sequence[Mask], scores: Sequence[FloatArray]
) -> tuple[list[Mask], list[Mask]]:
    """The pieces that may be epithelium, and those sure enough to teach by, bool (h, w).

    Bundles of collagen may be about as dense as the level that parts seeds from the rest. What
    lies at the surface and scores best is epidermis; what scores far less is none.
    """
    pieces = list(map(_measure_pieces, fields, epithelium, scores))
    area_um2 = np.concatenate([p.area_um2 for p in pieces])
    standard = np.concatenate([p.at_surface for p in pieces])
    standard &= area_um2 >= _BEST_SHARE * area_um2.max()
    if not standard.any():
        return list(epithelium), list(epithelium)
    best = np.concatenate([p.score for p in pieces])[standard].max()
    kept, teaching = [], []
    for piece, mask in zip(pieces, epithelium, strict=True):
        teach = piece.at_surface & (piece.score >= _TEACHING_SHARE * best)
        deep = ~piece.at_surface & (piece.score >= _LEAST_SHARE * best)
        kept.append((teach | deep)[piece.numbers] & mask)
        teaching.append(teach[piece.numbers] & mask)
    return kept, teaching


@dataclass(frozen=True, eq=False)
class _Pieces:
    """Connected pieces of epithelium in one field; `numbers` (h, w) says where each is."""

    numbers: npt.NDArray[np.int32]
    area_um2: Floats
    score: Floats
    """Mean over what is not near its border; -inf for a piece that is all border."""
    at_surface: Mask


def _measure_pieces(field: Coarse, epithelium: Mask, scores: FloatArray) -> _Pieces:
    count, found = cv2.connectedComponents(epithelium.astype(np.uint8))
    numbers = np.asarray(found, np.int32)
    inner = epithelium & (distance_um(~epithelium, field.mpp) > _SEED_INNER_UM)
    rim = epithelium & (distance_um(~field.tissue, field.mpp) <= _SURFACE_UM)
    pixels, within, free = (np.bincount(numbers[m], minlength=count)
                            for m in (epithelium, inner, rim))  # fmt: skip
    total = np.bincount(numbers[inner], scores[inner], count)
    score = np.where(within > 0, total / np.maximum(within, 1), -np.inf)
    at_surface = free * field.mpp**2 / _SURFACE_UM >= _SURFACE_WIDTH_UM
    return _Pieces(numbers, np.asarray(pixels * field.mpp**2, np.float64), score, at_surface)


def _learn(
    fields: Sequence[Coarse],
    features: Sequence[Sequence[FloatArray]],
    pool: ThreadPoolExecutor,
    epithelium: Sequence[Mask],
    teaching: Sequence[Mask],
) -> tuple[Floats, float, float] | None:
    """The discriminant of what is epithelium and what is not; None of too little of either."""
    sides = list(pool.map(_sides, fields, epithelium, teaching))
    classes = [_samples(features, [side[k] for side in sides]) for k in (0, 1)]
    if min(len(c) for c in classes) < 10 * classes[0].shape[1]:
        return None
    return discriminate(*(_moments(c) for c in classes))


def find_crowds(
    fields: Sequence[Coarse], epithelium: Sequence[Mask], below: Sequence[Mask]
) -> list[Mask]:
    """Cells of the dermis that crowd below the junction and passed for epithelium, bool (h, w).

    They lie as dense as in epithelium, but dermis lies between them: both what is there and its
    share of all stain are less than in most epithelium of the slide.

    Parameters
    ----------
    below
        Of each field, bool (h, w): the side of the epithelium where the dermis is.
    """
    grounds = [smooth_within(f.ground, f.legible, _CROWD_UM / f.mpp) for f in fields]
    means = [smooth_within(f.capped[0], f.legible, _CROWD_UM / f.mpp) for f in fields]
    shares = [
        np.asarray(g / np.maximum(m, 1e-3), np.float32) for g, m in zip(grounds, means, strict=True)
    ]
    inside, outside = zip(*map(_sides, fields, epithelium, epithelium), strict=True)
    crowds = [np.zeros_like(e) for e in epithelium]
    if not (any(i.any() for i in inside) and any(o.any() for o in outside)):
        return crowds
    level, high = _levels_of(grounds, inside)
    dermis, _ = _levels_of(grounds, outside)
    share, high_share = _levels_of(shares, inside)
    if level <= dermis:  # nothing between nuclei tells the two apart
        return crowds
    for k, field in enumerate(fields):
        pale = (level - grounds[k]) / (level - dermis)
        score = (grounds[k] - level) / (high - level) + (shares[k] - share) / (high_share - share)
        own = epithelium[k] & below[k]
        seeds, wide = (
            opened(own & (score < least) & (pale > paler), _THIN_UM, field.mpp)
            for least, paler in (_CROWD_SEED, _CROWD_RIM)
        )
        seeds = drop_small(seeds, _MIN_CROWD_UM2 / field.mpp**2)
        whole = touching(wide, seeds) | seeds
        # Along the junction the blurred rim of epithelium is as pale: it is no wider than the blur.
        core = opened(whole, _CROWD_CORE_UM, field.mpp)
        whole &= distance_um(core, field.mpp) <= _CROWD_REACH_UM
        # Glands are as pale, and lie apart from the surface.
        near = touching(epithelium[k], epithelium[k] & ~below[k])
        crowds[k] = _mostly(whole, pale > _least_pale(whole, near, field.mpp))
    return crowds


def _least_pale(crowds: Mask, at_surface: Mask, mpp: float) -> FloatArray:
    """How pale most of a crowd must be: the less, the wider it is."""
    least = np.full(crowds.shape, _CROWD_PALE, np.float32)
    for enough, radius_um, area_um2 in _PALE_OF_WIDE:
        large = drop_small(crowds & at_surface, area_um2 / mpp**2)
        least[touching(large, opened(large, radius_um, mpp))] = enough
    return least


def _mostly(mask: Mask, chosen: Mask) -> Mask:
    """The pieces of `mask` more than half of which is `chosen`."""
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8))
    area, part = (np.bincount(numbers[m], minlength=count) for m in (mask, mask & chosen))
    return np.asarray((2 * part > area)[numbers])


def without(epithelium: Mask, crowd: Mask, mpp: float, settings: AnatomySettings) -> Mask:
    """`epithelium` less a crowd."""
    return clean(epithelium & ~crowd, mpp, settings, _THIN_UM)


def _levels_of(layers: Sequence[FloatArray], masks: Sequence[Mask]) -> tuple[float, float]:
    """Median, and a standard deviation above it: what is amiss lies in the lower half."""
    values = np.concatenate([v[m] for v, m in zip(layers, masks, strict=True)])
    middle, high = (float(q) for q in np.quantile(values, [0.5, 0.84]))
    return middle, max(high, middle + 1e-3)


def smooth_within(values: FloatArray, mask: Mask | FloatArray, sigma_px: float) -> FloatArray:
    """Gaussian mean of `values` over `mask` only, so that glass does not thin the tissue's edge.

    Parameters
    ----------
    mask
        bool, or the weight of each pixel.
    """
    weight = mask.astype(np.float32, copy=False)
    total = cv2.GaussianBlur(values * weight, (0, 0), sigma_px)
    share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-3)
    return cast(FloatArray, np.divide(total, share, out=share))


def clean(mask: Mask, mpp: float, settings: AnatomySettings, thinnest_um: float = _OPEN_UM) -> Mask:
    """`mask` without strands thinner than `thinnest_um` to either side, specks and small holes."""
    return drop_specks(opened(mask, thinnest_um, mpp), mpp, settings)


def drop_specks(mask: Mask, mpp: float, settings: AnatomySettings) -> Mask:
    """`mask` without small pieces and small holes."""
    clean = np.zeros_like(mask)
    if not mask.any():
        return clean
    # Epithelium is a strip of a large section; what lies around it must not look like a hole.
    around = window_around(mask, _AROUND_PX)
    pieces = drop_small(mask[around], settings.min_epidermis_area_mm2 * 1e6 / mpp**2)
    clean[around] = ~drop_small(~pieces, _MIN_HOLE_UM2 / mpp**2)
    return clean


def discriminate(first: tuple[Floats, Floats], second: tuple[Floats, Floats]) -> tuple[
    Floats, float, float
]:  # fmt: skip
    """Fisher's linear discriminant of two classes.

    Parameters
    ----------
    first, second
        Mean (k,) and covariance (k, k) of the features of each.

    Returns
    -------
    weights, offset
        Of the score: +1 and -1 at the means of the classes.
    separation
        Distance of the means in standard deviations.
    """
    spread = (first[1] + second[1]) / 2
    spread = spread + np.eye(len(spread)) * np.trace(spread) / len(spread) * 1e-3
    weights = np.linalg.solve(spread, first[0] - second[0])
    square = max(float((first[0] - second[0]) @ weights), 1e-9)
    offset = -float((first[0] + second[0]) @ weights) / 2
    return weights * 2 / square, offset * 2 / square, float(np.sqrt(square))


def sums_of(layers: Sequence[FloatArray], where: Mask) -> Sums:
    """Number of pixels of `where`, sum (k,) and sum of products (k, k) of k layers in them."""
    rows = np.stack([layer[where] for layer in layers]).astype(np.float64)
    return rows.shape[1], rows.sum(axis=1), rows @ rows.T


def moments_of(sums: Sequence[Sums]) -> tuple[Floats, Floats] | None:
    """Mean and covariance from sums; None of too few pixels."""
    count = sum(part[0] for part in sums)
    if count < _MIN_SAMPLES:
        return None
    mean = sum((part[1] for part in sums), np.zeros_like(sums[0][1])) / count
    square = sum((part[2] for part in sums), np.zeros_like(sums[0][2])) / count
    return mean, square - np.outer(mean, mean)


def score(features: Sequence[FloatArray], weights: Floats, offset: float) -> FloatArray:
    """The discriminant's value at every pixel of the features, each (h, w)."""
    total = np.full(features[0].shape, offset, np.float32)
    for feature, weight in zip(features, weights, strict=True):
        total += feature * np.float32(weight)
    return total


def _seeds(fields: Sequence[Coarse], settings: AnatomySettings) -> list[Mask]:
    """Regions denser than the level at which smoothed hematoxylin changes most."""
    smooth = [smooth_within(f.capped[0], f.legible, _COARSE_UM / f.mpp) for f in fields]
    inner = [distance_um(~f.tissue, f.mpp) > _EDGE_UM for f in fields]
    area_mm2 = sum(i.sum() * f.mpp**2 / 1e6 for i, f in zip(inner, fields, strict=True))
    if area_mm2 < settings.min_epidermis_area_mm2:
        return [np.zeros_like(i) for i in inner]
    changes = [np.hypot(*np.gradient(s))[i] for s, i in zip(smooth, inner, strict=True)]
    gradient = np.concatenate(changes)
    values = np.concatenate([s[i] for s, i in zip(smooth, inner, strict=True)])
    # The junction is no longer than the outline. In a large section a fifth of the tissue would be
    # dermis, and the level one between its bundles.
    share = min(_STEEP_SHARE, sum(map(_rim_px, fields)) / len(values))
    steep = gradient >= np.quantile(gradient, 1 - share)
    level = np.average(values[steep], weights=gradient[steep].astype(np.float64) ** 2 + 1e-12)
    return [
        clean((s > level) & f.tissue, f.mpp, settings) for s, f in zip(smooth, fields, strict=True)
    ]


def _rim_px(field: Coarse) -> int:
    """Pixels of tissue near its outline, or near where it leaves the picture."""
    inside = distance_um(np.pad(~field.tissue, 1, constant_values=True), field.mpp)[1:-1, 1:-1]
    return int(np.count_nonzero(field.tissue & (inside <= _EDGE_UM)))


def _features(field: Coarse, by_ground: bool) -> Iterator:  # type: ignore[type-arg]
    for stain in field.capped:
        for scale in _SCALES_UM:
            yield lambda s=stain, sigma=scale / field.mpp: smooth_within(s, field.legible, sigma)
    yield lambda: _spread(field)
    if by_ground:
        for scale in _SCALES_UM[-_GROUNDS:]:
            yield lambda sigma=scale / field.mpp: smooth_within(field.ground, field.legible, sigma)


def _spread(field: Coarse) -> FloatArray:
    stain, sigma = field.capped[0], _SCALES_UM[2] / field.mpp
    mean = smooth_within(stain, field.legible, sigma)
    square = smooth_within(stain * stain, field.legible, sigma)
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _sides(field: Coarse, epithelium: Mask, teaching: Mask) -> tuple[Mask, Mask]:
    """What is surely epithelium and what surely is not, but near it."""
    inside = field.tissue & (distance_um(~teaching, field.mpp) > _SEED_INNER_UM)
    near = field.tissue & (distance_um(teaching, field.mpp) < _SEED_REACH_UM)
    return inside, near & (distance_um(epithelium, field.mpp) > _SEED_OUTER_UM)


def _samples(features: Sequence[Sequence[FloatArray]], masks: Sequence[Mask]) -> FloatArray:
    """Features (n, k) of pixels of the masks, evenly thinned out to at most some `_SAMPLES`."""
    places = [np.flatnonzero(mask) for mask in masks]
    every = max(1, sum(map(len, places)) // _SAMPLES)
    rows = [
        np.stack([layer.ravel()[at[::every]] for layer in layers], axis=-1)
        for layers, at in zip(features, places, strict=True)
    ]
    return np.concatenate(rows)


def _moments(samples: FloatArray) -> tuple[Floats, Floats]:
    values = samples.astype(np.float64)
    return values.mean(axis=0), np.atleast_2d(np.cov(values.T))
