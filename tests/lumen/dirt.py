"""What happens to a section before it is looked at: debris and folds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lumen.chance import Lots
from lumen.plan import Plan
from lumen.raster import blur
from lumen.skin import MPP, Light, Plane, Range


@dataclass(frozen=True)
class Debris:
    """Specks: their number, radius, and light in DAPI and (of the line's peak) in the marker."""

    count: tuple[int, int]
    radius_um: Range
    dapi: Range
    marker: Range


FAINT = Debris((5, 40), (1.2, 4), dapi=(0.1, 0.8), marker=(0.2, 1.2))
SATURATED = Debris((4, 25), (1.2, 6), dapi=(2, 8), marker=(6, 30))


def add_debris(light: Light, peak: float, lots: Lots) -> None:
    """Add debris, in place."""
    preset = lots.preset
    if lots.happens(preset.debris_chance):
        _add_specks(light, FAINT, peak, lots)
        lots.features.add("debris")
    if lots.happens(preset.specks_chance):
        _add_specks(light, SATURATED, peak, lots)
        lots.features.add("saturated specks")


def _add_specks(light: Light, debris: Debris, peak: float, lots: Lots) -> None:
    """Add specks anywhere, some of them in the marker only."""
    rng, (height, width) = lots.rng, light.dapi.shape
    for _ in range(int(rng.integers(*debris.count))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = lots.within(debris.radius_um) / MPP
        rows, columns = _span(y, 4 * radius, height), _span(x, 4 * radius, width)
        if len(rows) < 3 or len(columns) < 3:
            continue
        turn, flat = rng.uniform(0, 3), rng.uniform(0.4, 1)
        dx, dy = columns[None] - x, rows[:, None] - y
        long = dx * np.cos(turn) + dy * np.sin(turn)
        short = (-dx * np.sin(turn) + dy * np.cos(turn)) / flat
        speck = np.exp(-(((long**2 + short**2) / radius**2) ** 1.5)).astype(np.float32)
        window = np.ix_(rows, columns)
        light.marker[window] += lots.within(debris.marker) * peak * speck
        if lots.happens(0.6):
            light.dapi[window] += speck * lots.within(debris.dapi)


def _span(centre: float, reach: float, size: int) -> NDArray[np.intp]:
    """Pixels within `reach` of `centre`, as far as the picture goes."""
    return np.arange(int(max(0, centre - reach)), int(min(size, centre + reach)))


@dataclass(frozen=True)
class Fold:
    """Where tissue lies double, how far the upper sheet has moved (um), and its share of light."""

    mask: Plane
    shift_um: tuple[float, float]
    share: float


def add_folds(light: Light, plan: Plan, lots: Lots) -> None:
    """Fold the section once or twice, in place."""
    if not lots.happens(lots.preset.fold_chance):
        return
    lots.features.add("fold")
    for _ in range(1 + lots.happens(0.3)):
        fold = _some_fold(plan, lots)
        for plane in (light.marker, light.dapi):
            plane += fold.mask * fold.share * _moved(plane, fold)


def _moved(plane: Plane, fold: Fold) -> Plane:
    """Return the light of the upper sheet, which is out of focus."""
    x, y = fold.shift_um
    shift = np.array([[1, 0, x / MPP], [0, 1, y / MPP]], np.float32)
    height, width = plane.shape
    return blur(np.asarray(cv2.warpAffine(plane, shift, (width, height)), np.float32), 2.5)


def _some_fold(plan: Plan, lots: Lots) -> Fold:
    """Draw a winding fold of uneven width, more or less down through the skin."""
    rng = lots.rng
    x0 = rng.uniform(0.15, 0.85) * plan.right_um
    angle, half_um = np.pi / 2 + rng.normal(0, 0.5), rng.uniform(8, 26)
    cos, sin = np.cos(angle), np.sin(angle)
    height, width = plan.shape
    x = (np.arange(width, dtype=np.float32)[None] + 0.5) * MPP - x0
    y = (np.arange(height)[:, None] + 0.5) * MPP - (plan.junction_y(x0) + 100)
    along = x * cos + y * sin
    aside = -x * sin + y * cos + 6 * np.sin(along / 60 + rng.uniform(0, 6))
    aside += 3 * np.sin(along / 23)
    half = half_um * (1 + 0.35 * np.sin(along / 140 + rng.uniform(0, 6)))
    mask = _sigmoid((half - np.abs(aside)) / 1.6)
    end = rng.uniform(-150, 250)
    start = -400 if lots.happens(0.5) else end - 150
    mask *= _sigmoid((along - start) / 10)
    shift = -sin * half_um * 1.5, cos * half_um * 1.5
    return Fold(mask, shift, rng.uniform(0.45, 0.85))


def _sigmoid(at: Plane) -> Plane:
    return np.asarray(1 / (1 + np.exp(np.clip(-at, -30, 30))), np.float32)
