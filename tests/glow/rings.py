"""Follicles, glands and vessels that are cut across."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from shapely.geometry import MultiPolygon, Polygon

from glow.lines import blob
from glow.plan import Plan, Ring
from glow.raster import distance_to, look, scattered
from glow.skin import Preset
from woven.grid import Grid
from woven.skin import Array, Mask


@dataclass(frozen=True)
class Cut:
    """A cut that is wanted; half axes in um, the lumen as a share of them."""

    kind: Literal["follicle", "gland", "vessel"]
    centre: Array
    axes_um: tuple[float, float]
    lumen: float

    def is_clear_of(self, other: Cut) -> bool:
        apart = np.hypot(*(self.centre - other.centre))
        return bool(apart >= self.axes_um[0] + other.axes_um[0] + 6)


def dermis_of(plan: Plan, grid: Grid) -> Mask:
    """Pixels of tissue that are neither epidermis nor within a ring."""
    rings = grid.mask(MultiPolygon([ring.whole for ring in plan.rings]))
    return grid.mask(plan.tissue) & ~grid.mask(plan.viable) & ~rings


def _axes(
    long_um: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float]:
    long = rng.uniform(*long_um)
    return long, long * rng.uniform(*ratio)


def _wanted(preset: Preset, free: Mask, deep: Mask, rng: np.random.Generator) -> list[Cut]:
    """Coils of seven cuts each, follicles, and vessels; the first to come has the room."""
    coils = [
        Cut("gland", centre + rng.normal(0, 60, 2), _axes((17, 27), (0.75, 1), rng), 0.3)
        for centre in scattered(deep, preset.glands, rng)
        for _ in range(7)
    ]
    follicles = [
        Cut("follicle", centre, _axes((35, 55), (0.8, 1), rng), 0.2)
        for centre in scattered(deep, preset.follicles, rng)
    ]
    vessels = [
        Cut("vessel", centre, _axes((7, 26), (0.3, 0.8), rng), 0.45)
        for centre in scattered(free, 20 + 3 * preset.clusters, rng)
    ]
    return coils + follicles + vessels


def with_cuts(plan: Plan, preset: Preset, grid: Grid, rng: np.random.Generator) -> Plan:
    """Add rings, clear of the junction and of one another."""
    dermis, away = dermis_of(plan, grid), distance_to(plan.junctions, grid)
    roomy = cv2.erode((dermis & (away > 25)).astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
    rings: list[Ring] = []
    placed: list[Cut] = []
    for cut in _wanted(preset, roomy, roomy & (away > 160), rng):
        if not look(roomy, cut.centre) or not all(map(cut.is_clear_of, placed)):
            continue
        outline = blob(rng, cut.centre, cut.axes_um, rng.uniform(0, 3.14))
        # A vessel is so small that room around its centre is enough.
        if cut.kind == "vessel" or all(look(dermis, point) for point in outline):
            placed.append(cut)
            rings.append(_ring(cut, outline, rng))
    return replace(plan, rings=plan.rings + rings)


def _ring(cut: Cut, outline: Array, rng: np.random.Generator) -> Ring:
    lumen = Polygon(cut.centre + (outline - cut.centre) * cut.lumen)
    strength = rng.uniform(0.15, 0.4) if cut.kind == "vessel" else rng.uniform(0.4, 0.8)
    return Ring(cut.kind, outline, Polygon(outline), lumen, [outline], strength)
