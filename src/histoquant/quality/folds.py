"""Folds: bands of double thickness.

Skin has dark bands of its own, and the epidermis is the darkest: what tells a fold is that it
is denser in counterstain than the *dense compartment of the same slide* over a width that no
row of nuclei has. From there a fold is followed straight on, through paler tissue, as long as
the tissue in its band is denser than that on both of its sides.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.tissue import drop_small, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_SMOOTH_UM = 7.0  # blends a nucleus with its cytoplasm
_HALF_WIDTH_UM = 7.0  # of the thinnest fold found
_MIN_SEED_UM2 = 600.0
_GROW = 0.82  # of the seed's excess over the compartment
_MIN_DENSER = 1.2
_DIRECTIONS = 36
_REACH_UM, _FLANK_UM, _STEP_UM = 700.0, 14.0, 6.0
_MIN_RATIO = 1.3  # band against both of its sides
_BREAK_STEPS = 5
_MAX_HALF_UM = 80.0


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
    # Epidermis stands out from dermis on one side, and from keratin or glass on the other.
    flank = smooth if keratin is None else np.where(keratin, np.float32(0), smooth)
    flank = np.maximum(np.where(tissue, flank, 0), 0)
    bare = (flank == 0) & (cv2.dilate(dense.astype(np.uint8), _disc(_MAX_HALF_UM, mpp)) > 0)
    flank = np.where(bare, np.float32(usual), flank)
    grown = (smooth > _GROW * factor * usual) & tissue
    count, pieces = cv2.connectedComponents(grown.astype(np.uint8))
    wanted = np.zeros(count, bool)
    wanted[np.unique(pieces[seeds])] = True
    wanted[0] = False
    for number in np.flatnonzero(wanted):
        piece = pieces == number
        folds |= piece & (cv2.dilate((seeds & piece).astype(np.uint8), _disc(20, mpp)) > 0)
        folds |= _follow(smooth, flank, seeds & piece, tissue, mpp)
    return folds


def _follow(
    smooth: npt.NDArray[Any], flank: npt.NDArray[Any], seed: Mask, tissue: Mask, mpp: float
) -> Mask:
    """The band that runs straight through a seed, as far as it stands out from both sides."""
    pixels = np.argwhere(seed).astype(np.float64)
    band = np.zeros_like(tissue)
    if not len(pixels):
        return band
    centre = pixels.mean(axis=0)
    best: tuple[float, Floats, float, tuple[float, float]] | None = None
    for angle in np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS:
        along = np.array([np.sin(angle), np.cos(angle)])
        across = np.array([np.cos(angle), -np.sin(angle)])
        half = float(np.quantile(np.abs((pixels - centre) @ across), 0.9)) * mpp
        if half > _MAX_HALF_UM:
            continue
        ends = tuple(
            _run(smooth, flank, tissue, centre, sign * along, across, half, mpp) for sign in (-1, 1)
        )
        length = sum(ends)
        if best is None or length / (half + 20) > best[0]:
            best = (length / (half + 20), along, half, (ends[0], ends[1]))
    if best is None or sum(best[3]) < 2 * best[2]:
        return band
    _, along, half, (back, ahead) = best
    first, last = centre - along * back / mpp, centre + along * ahead / mpp
    line = np.rint(np.array([first[::-1], last[::-1]])).astype(np.int32)
    drawn = np.zeros(tissue.shape, np.uint8)
    width = max(1, round(2 * (half + 4) / mpp))
    cv2.line(drawn, tuple(line[0].tolist()), tuple(line[1].tolist()), 1, width)
    return (drawn > 0) & tissue


def _run(
    smooth: npt.NDArray[Any],
    flank: npt.NDArray[Any],
    tissue: Mask,
    centre: Floats,
    along: Floats,
    across: Floats,
    half: float,
    mpp: float,
) -> float:
    """How far (um) from the seed the band is denser than both of its sides."""
    steps = np.arange(0, _REACH_UM, _STEP_UM)
    offsets = np.array([0.0, -(half + _FLANK_UM), half + _FLANK_UM])
    where = centre + steps[:, None, None] / mpp * along + offsets[None, :, None] / mpp * across
    at = np.rint(where).astype(int)
    inside = np.asarray(((at >= 0) & (at < np.array(smooth.shape))).all(axis=-1))
    rows, columns = (np.clip(at[..., k], 0, smooth.shape[k] - 1) for k in (0, 1))
    beside = np.where(inside, flank[rows, columns], 0)[:, 1:].max(axis=1)
    on = inside[:, 0] & tissue[rows[:, 0], columns[:, 0]]
    stands_out = on & (smooth[rows[:, 0], columns[:, 0]] >= _MIN_RATIO * beside)
    missed, reached = 0, 0.0
    for step, good in zip(steps, stands_out, strict=True):
        missed = 0 if good else missed + 1
        if missed > _BREAK_STEPS:
            break
        reached = float(step) if good else reached
    return reached


def _disc(radius_um: float, mpp: float) -> npt.NDArray[np.uint8]:
    size = 2 * max(1, round(radius_um / mpp)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
