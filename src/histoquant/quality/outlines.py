"""Bubbles and edges of the coverslip: thin dark lines without colour, round or straight.

Air and glass bend light; they stain nothing. Their rims are grey in a picture of coloured
stains, a few um wide, and of a shape that tissue does not have: a circle, or a straight line
that runs on for most of a millimetre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from histoquant.artefacts import BUBBLE, COVERSLIP
from histoquant.planes import over_channels
from histoquant.windowed import Windowed, strips

FloatArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_LINE_UM = 12.0  # half the width above which it is no line
_MIN_OD = 0.12
_GREY_SHARE = 0.075  # how far a share of the density may lie from a third
_AROUND_UM, _MAX_CROWD = 40.0, 0.4
_MIN_EXTENT_UM = 100.0
_BESIDE_UM, _MAX_BESIDE = 28.0, 0.2  # points beside a line over points on it
_FIT_UM = 7.0
_MIN_RADIUS_UM, _MAX_RADIUS_UM = 40.0, 1500.0
_MIN_COVER = 0.85  # of a bubble's circle that is seen
_MIN_EDGE_UM = 500.0
_EDGE_COVER = 0.75
_GLASS_OD, _MIN_ON_GLASS = 0.06, 0.1
_RIM_UM = 10.0
_TRIALS = 400
_MAX_SHAPES = 12
_MAX_POINTS = 60_000


@dataclass(frozen=True)
class _Shape:
    """A circle (radius above 0) or a line through `centre` along `along`; in pixels."""

    centre: Floats
    radius: float = 0.0
    along: Floats | None = None

    def distance(self, points: Floats) -> Floats:
        """Distance of (n, 2) points from it."""
        apart = points - self.centre
        if self.along is None:
            return np.asarray(np.abs(np.hypot(*apart.T) - self.radius))
        return np.asarray(np.abs(apart[:, 0] * self.along[1] - apart[:, 1] * self.along[0]))


def find_outlines(od: Windowed, mpp: float) -> npt.NDArray[np.uint8]:
    """Find bubbles and edges of the coverslip.

    Parameters
    ----------
    od
        Optical densities (h, w, 3), float32, of the whole slide at `mpp` um/px, some 4: an array,
        or what gives its windows one by one.

    Returns
    -------
    uint8 (h, w): `BUBBLE`, `COVERSLIP` or 0. Deterministic.
    """
    codes = np.zeros(od.shape[:2], np.uint8)
    lines, glass = _grey_lines(od, mpp)
    points = np.argwhere(lines).astype(np.float64)
    rng = np.random.default_rng(0)
    if len(points) > _MAX_POINTS:  # texture, not lines; a line still stands out
        points = points[rng.permutation(len(points))[:_MAX_POINTS]]
    for _ in range(_MAX_SHAPES):
        found = _best_shape(points, glass, mpp, rng)
        if found is None:
            break
        shape, code = found
        _draw(codes, shape, code, points, mpp)
        points = points[shape.distance(points) > 3 * _FIT_UM / mpp]
    return codes


def _grey_lines(od: Windowed, mpp: float) -> tuple[Mask, Mask]:
    """Thin dark structures without colour, and glass."""
    found, glass = np.empty(od.shape[:2], np.bool_), np.empty(od.shape[:2], np.bool_)
    for rows, strip, inner in strips(od, math.ceil((2 * _LINE_UM + _AROUND_UM) / mpp) + 3):
        found[rows] = _grey_lines_of(strip, mpp)[inner]
        glass[rows] = over_channels(np.maximum, strip[inner]) < _GLASS_OD
    return found, glass


def _grey_lines_of(od: FloatArray, mpp: float) -> Mask:
    size = 2 * max(1, round(_LINE_UM / mpp)) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    excess = []
    for k in range(od.shape[2]):  # channel by channel: all at once take five times the memory
        channel = np.ascontiguousarray(od[..., k])
        excess.append(channel - cv2.morphologyEx(channel, cv2.MORPH_OPEN, element))
    total = excess[0] + excess[1] + excess[2]
    strength, colourless = total / np.float32(3), np.ones(total.shape, np.bool_)
    np.maximum(total, np.float32(1e-3), out=total)
    for channel in excess:
        colourless &= np.abs(channel / total - np.float32(1 / 3)) <= np.float32(_GREY_SHARE)
    lines = (strength >= _MIN_OD) & colourless
    # A line fills little of its surroundings; the grain of dense tissue fills much.
    window = 2 * round(_AROUND_UM / mpp) + 1
    crowd = cv2.blur(lines.astype(np.float32), (window, window))
    return np.asarray(lines & (crowd <= _MAX_CROWD))


def _best_shape(
    points: Floats, glass: Mask, mpp: float, rng: np.random.Generator
) -> tuple[_Shape, int] | None:
    """The circle or line with most of its length on `points`; None where none is convincing."""
    least = _MIN_EXTENT_UM / mpp
    if len(points) < least:
        return None
    best: tuple[float, _Shape, int] | None = None
    for shape in _candidates(points, mpp, rng):
        score, code = _judge(shape, points, glass, mpp)
        if code and (best is None or score > best[0]):
            best = (score, shape, code)
    if best is None:
        return None
    return best[1], best[2]


def _candidates(points: Floats, mpp: float, rng: np.random.Generator) -> list[_Shape]:
    """Circles through three neighbouring points, lines through two."""
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    shapes: list[_Shape] = []
    starts = rng.integers(len(points), size=_TRIALS)
    for start in starts:
        reach = rng.uniform(60, 300) / mpp
        near = np.asarray(tree.query_ball_point(points[start], reach), np.int64)
        if len(near) < 8:
            continue
        chosen = points[rng.choice(near, 2, replace=False)]
        shapes += _through(points[start], chosen[0], chosen[1], mpp)
    return shapes


def _through(a: Floats, b: Floats, c: Floats, mpp: float) -> list[_Shape]:
    """The line through two points, and the circle through three."""
    shapes = []
    span = np.hypot(*(c - a))
    if span > 0:
        shapes.append(_Shape(a, along=(c - a) / span))
    matrix = 2 * np.array([b - a, c - a])
    if abs(np.linalg.det(matrix)) > 1e-6:
        centre = np.linalg.solve(matrix, np.array([b @ b - a @ a, c @ c - a @ a]))
        radius = float(np.hypot(*(a - centre)))
        if _MIN_RADIUS_UM <= radius * mpp <= _MAX_RADIUS_UM:
            shapes.append(_Shape(centre, radius))
    return shapes


def _judge(shape: _Shape, points: Floats, glass: Mask, mpp: float) -> tuple[float, int]:
    """Length (um) of the shape that is seen, and what it is; 0 where it does not convince."""
    straight = shape.along is not None
    along = shape.along if shape.along is not None else shape.centre
    near = np.empty(len(points), np.bool_)
    limits = np.array([_FIT_UM, _FIT_UM + 6, _BESIDE_UM]) / mpp
    count = _look_beside(points, shape.centre, shape.radius, along, straight, limits, near)
    on, beside = points[near], count / (_BESIDE_UM - _FIT_UM - 6)
    if len(on) < _MIN_EXTENT_UM / mpp or beside > _MAX_BESIDE * len(on) / _FIT_UM:
        return 0.0, 0
    if shape.along is None:
        apart = on - shape.centre
        steps = max(24, round(2 * np.pi * shape.radius * mpp / 16))
        turn = (np.arctan2(apart[:, 0], apart[:, 1]) + np.pi) / (2 * np.pi) * steps
        cover = len(np.unique(turn.astype(int) % steps)) / steps
        length = cover * 2 * np.pi * shape.radius * mpp
        return (length, BUBBLE) if cover >= _MIN_COVER else (0.0, 0)
    where = np.sort((on - shape.centre) @ shape.along) * mpp
    cells = np.unique(np.floor(where / 16)).astype(int)
    filled = np.zeros(cells[-1] - cells[0] + 1)
    filled[cells - cells[0]] = 1
    window = round(_MIN_EDGE_UM / 16)
    if len(filled) < window:
        return 0.0, 0
    share = np.convolve(filled, np.ones(window) / window, mode="valid").max()
    if share < _EDGE_COVER or _share_on_glass(on, shape.along, glass, mpp) < _MIN_ON_GLASS:
        return 0.0, 0
    return len(cells) * 16.0, COVERSLIP


def _share_on_glass(on: Floats, along: Floats, glass: Mask, mpp: float) -> float:
    """How much of a line has glass on both of its sides.

    The edge of a coverslip does not end with the tissue. The line of collagen VII along a flat
    junction does, and the rim of a straight cut edge has tissue on one side.
    """
    aside = _BESIDE_UM / mpp * np.array([along[1], -along[0]])
    limit = np.array(glass.shape) - 1
    sides = [np.clip(np.rint(on + k * aside), 0, limit).astype(np.int64) for k in (-1, 1)]
    return float(np.mean(np.logical_and(*(glass[at[:, 0], at[:, 1]] for at in sides))))


@njit(cache=True, nogil=True)
def _look_beside(
    points: Floats, centre: Floats, radius: float, along: Floats, straight: bool, limits: Floats,
    near: Mask,
) -> int:  # fmt: skip
    """Set which points lie on a shape, up to `limits[0]` from it; count those from 1 to 2."""
    count = 0
    for i in range(points.shape[0]):
        y, x = points[i, 0] - centre[0], points[i, 1] - centre[1]
        if straight:
            away = abs(y * along[1] - x * along[0])
        else:
            away = abs(np.sqrt(y * y + x * x) - radius)
        near[i] = away <= limits[0]
        count += limits[1] < away <= limits[2]
    return count


def _draw(
    codes: npt.NDArray[np.uint8], shape: _Shape, code: int, points: Floats, mpp: float
) -> None:
    rim = max(1, round(_RIM_UM / mpp))
    centre = tuple(np.rint(shape.centre[::-1]).astype(int).tolist())
    if shape.along is None:
        cv2.circle(codes, centre, round(shape.radius) + rim, code, -1)
        return
    on = points[shape.distance(points) <= _FIT_UM / mpp]
    where = (on - shape.centre) @ shape.along
    ends = [shape.centre + where.min() * shape.along, shape.centre + where.max() * shape.along]
    first, last = (tuple(np.rint(end[::-1]).astype(int).tolist()) for end in ends)
    cv2.line(codes, first, last, code, 2 * rim + 1)
