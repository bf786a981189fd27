"""Folds: bands of double thickness.

Skin has dark bands of its own, and the epidermis is the darkest: what tells a fold is that it
is denser in counterstain than the *dense compartment of the same slide* over a width that no
row of nuclei has. Where it crosses the epidermis it is about as long as wide, and gives no
direction. So every direction is tried: a fold goes straight on through epidermis and dermis, and
is denser than what lies on both of its sides, as long as that is alike; epidermis stands out too,
but from dermis on one side and from keratin or glass on the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from histoquant.tissue import distance_um, drop_small, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_SMOOTH_UM = 7.0  # blends a nucleus with its cytoplasm
_HALF_WIDTH_UM = 7.0  # of the thinnest fold found
_MIN_SEED_UM2 = 600.0
_GROW = 0.82  # of the seed's excess over the compartment
_MIN_DENSER = 1.2
_DIRECTIONS = 72
_REACH_UM, _STEP_UM = 2000.0, 6.0
# Where the band is looked at, of half its width, and its sides, beyond it (um).
_ACROSS, _FLANKS_UM, _MIDDLE = np.array([-0.6, 0.0, 0.6]), np.array([10.0, 14.0, 18.0]), 1
_LEAST_EXCESS, _MOST_GAIN = 0.18, 0.3  # logarithms of the band's density over that of its sides
_DOUBTFUL = 0.5  # what epidermis between dermis counts
_MIN_LENGTH = 4.0  # over half its width: a heap of lymphocytes is as long as wide
_MIN_CLIMB = 0.4  # of its length: towards the surface or away from it
_MAX_HALF_UM = 80.0
_AROUND_UM = 20.0  # of the seed, that as dense belongs to it
_GLASS, _KERATIN, _DENSE, _PALE = range(4)


def find_folds(
    counterstain: FloatArray,
    dense: Mask,
    tissue: Mask,
    mpp: float,
    factor: float,
    keratin: Mask | None = None,
) -> Mask:
    """Find folds.

    Parameters
    ----------
    counterstain
        Density (h, w), float32, at `mpp` um/px: what stains all tissue, not the marker.
    dense
        bool (h, w): the dense compartment, epidermis.
    tissue
        bool (h, w): where a fold may lie; no keratin that is darker than folds.
    factor
        How many times as dense as the dense compartment a fold is at least.
    keratin
        bool (h, w): tissue that tells nothing of a fold beside it, as glass does not.
    """
    folds = np.zeros_like(tissue)
    if dense.sum() * mpp**2 < _MIN_SEED_UM2:
        return folds
    weight = tissue.astype(np.float32)
    total = cv2.GaussianBlur(counterstain * weight, (0, 0), _SMOOTH_UM / mpp)
    smooth = total / np.maximum(cv2.GaussianBlur(weight, (0, 0), _SMOOTH_UM / mpp), 0.05)
    usual = float(np.median(smooth[dense & tissue]))
    beside = tissue & ~dense
    if beside.any() and usual <= _MIN_DENSER * float(np.median(smooth[beside])):
        return folds  # what is called dense is not: nothing to measure folds by
    seeds = opened((smooth > factor * usual) & tissue, _HALF_WIDTH_UM, mpp)
    seeds = drop_small(seeds, _MIN_SEED_UM2 / mpp**2)
    if not seeds.any():
        return folds
    grown = (smooth > _GROW * factor * usual) & tissue
    kinds = np.where(tissue, np.where(dense, _DENSE, _PALE), _GLASS).astype(np.uint8)
    if keratin is not None:
        kinds[keratin] = _KERATIN
    ground = _Ground(
        smooth.astype(np.float32), kinds, grown, distance_um(kinds == _GLASS, mpp), mpp
    )
    count, pieces = cv2.connectedComponents(grown.astype(np.uint8))
    wanted = np.zeros(count, bool)
    wanted[np.unique(pieces[seeds])] = True
    wanted[0] = False
    for number in np.flatnonzero(wanted):
        piece = pieces == number
        band = _follow(ground, seeds & piece) & tissue
        if band.any():
            near = distance_um(seeds & piece, mpp) <= _AROUND_UM
            folds |= band | (piece & near)
    return folds


@dataclass(frozen=True, eq=False)
class _Ground:
    """What a fold is followed over; arrays (h, w) at `mpp` um/px."""

    density: FloatArray
    kinds: npt.NDArray[np.uint8]
    """`_GLASS`, `_KERATIN`, `_DENSE` or `_PALE`."""
    grown: Mask
    """Denser than the dense compartment ever is."""
    depth_um: FloatArray
    """Distance from glass."""
    mpp: float


def _follow(ground: _Ground, seed: Mask) -> Mask:
    """The band that runs straight through a seed, as far as it stands out from both sides."""
    mpp = ground.mpp
    pixels = np.argwhere(seed).astype(np.float64)
    band = np.zeros_like(seed)
    centre = pixels.mean(axis=0)
    best: tuple[float, Floats, float, tuple[float, float]] | None = None
    for angle in np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS:
        along = np.array([np.sin(angle), np.cos(angle)])
        across = np.array([np.cos(angle), -np.sin(angle)])
        half = float(np.quantile(np.abs((pixels - centre) @ across), 0.9)) * mpp
        if half > _MAX_HALF_UM:
            continue
        ends = [_run(ground, centre, sign * along, across, half) for sign in (-1, 1)]
        merit = sum(gain for _, gain in ends) / (half + 20)
        if best is None or merit > best[0]:
            best = merit, along, half, (ends[0][0], ends[1][0])
    if best is None or sum(best[3]) < _MIN_LENGTH * best[2]:
        return band
    _, along, half, (back, ahead) = best
    first, last = centre - along * back / mpp, centre + along * ahead / mpp
    if _climb(ground, first, last) < _MIN_CLIMB:
        return band
    line = np.rint(np.array([first[::-1], last[::-1]])).astype(np.int32)
    drawn = np.zeros(seed.shape, np.uint8)
    width = max(1, round(2 * (half + 4) / mpp))
    cv2.line(drawn, tuple(line[0].tolist()), tuple(line[1].tolist()), 1, width)
    return drawn > 0


def _climb(ground: _Ground, first: Floats, last: Floats) -> float:
    """How steeply a line goes away from glass or towards it (0-1): folds run across the skin.

    What runs along the surface is epidermis that was taken for keratin.
    """
    long = float(np.hypot(*(last - first))) * ground.mpp
    at = np.rint(np.linspace(first, last, max(2, round(long / _STEP_UM)))).astype(int)
    depth = ground.depth_um[at[:, 0], at[:, 1]]
    if not np.isfinite(depth).all():  # no glass in view to tell by
        return 1.0
    return float(np.abs(np.diff(depth)).sum()) / long


def _run(
    ground: _Ground, centre: Floats, along: Floats, across: Floats, half: float
) -> tuple[float, float]:
    """How far (um) from the seed the band is denser than its sides, and by how much in sum.

    Both sides must be of one compartment: epidermis stands out from dermis on one side of it and
    from keratin or glass on the other, and where they differ nothing is told either way.
    """
    steps = np.arange(0, _REACH_UM, _STEP_UM)
    beside = half + _FLANKS_UM
    offsets = np.stack([half * _ACROSS, -beside, beside])
    where = steps[:, None, None, None] * along + offsets[..., None] * across
    at = np.rint(centre + where / ground.mpp).astype(int)
    limit = np.array(ground.kinds.shape)
    inside = np.asarray(((at >= 0) & (at < limit)).all(axis=-1))
    rows, columns = (np.clip(at[..., k], 0, limit[k] - 1) for k in (0, 1))
    density = uniform_filter1d(ground.density[rows, columns].mean(axis=-1), 3, axis=0)
    kinds = np.where(inside, ground.kinds[rows, columns], _GLASS)[..., _MIDDLE]
    own, least, most = kinds[:, 0], kinds[:, 1:].min(axis=1), kinds[:, 1:].max(axis=1)
    double = ground.grown[rows, columns][:, 0, _MIDDLE]
    telling = (least == most) & (least >= _DENSE)
    excess = np.log(np.maximum(density[:, 0], 1e-3) / np.maximum(density[:, 1:].max(axis=1), 1e-3))
    gain = np.where(telling, np.clip(excess - _LEAST_EXCESS, -_MOST_GAIN, _MOST_GAIN), 0)
    # A rete ridge stands out from papillae, too, and dermis that is double may pass for one.
    gain = np.where(double | (own == most) | (gain < 0), gain, _DOUBTFUL * gain)
    # Evenly dark, a fold of epidermis passes for keratin.
    gain[(own == _GLASS) | ((own == _KERATIN) & ~double)] = -_MOST_GAIN
    total = np.cumsum(gain) * _STEP_UM
    last = int(total.argmax())
    return (float(steps[last]), float(total[last])) if total[last] > 0 else (0.0, 0.0)
