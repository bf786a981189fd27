"""Nuclei of the dermis and along the junction, and the direction of its fibres."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely.geometry.base import BaseGeometry

from lumen.chance import Lots, texture
from lumen.crowd import Crowd, Nucleus
from lumen.lines import STEP_UM, normals, tangents
from lumen.section import Section
from lumen.skin import Array, Plane
from lumen.vessels import add_vessels

PAPILLARY_UM = 60  # below the junction: here there are more fibroblasts


@dataclass(frozen=True)
class Grain:
    """The direction of fibres and of the cells between them: along the skin, but uneven."""

    along_um: Array
    slope: Array
    uneven: Plane

    @classmethod
    def of(cls, section: Section, lots: Lots) -> Grain:
        """Draw the direction of a section's fibres."""
        ridges = section.plan.ridges
        uneven = texture(lots.rng, section.maps.shape, 120, 90) * 0.35
        slope = np.gradient(gaussian_filter1d(ridges.surface[:, 1], 150), ridges.along_um)
        return cls(ridges.along_um, slope, uneven)

    def at(self, x: float, y: float) -> float:
        """Angle from x at a point, radians."""
        height, width = self.uneven.shape
        row, column = int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))
        slope = np.arctan(np.interp(x, self.along_um, self.slope))
        return float(slope + self.uneven[row, column])


@dataclass(frozen=True)
class Bound:
    """A junction, and its unit vectors along it and out of the dermis; (n, 2) each."""

    points: Array
    along: Array
    outward: Array

    def below(self, k: int, depth_um: float) -> Array:
        """Return x, y below a point of it."""
        return np.asarray(self.points[k] - self.outward[k] * depth_um)


def add_dermal_nuclei(crowd: Crowd) -> tuple[list[BaseGeometry], Grain]:
    """Place all nuclei of the dermis; return its vessels and the direction of its fibres."""
    maps, lots = crowd.section.maps, crowd.lots
    crowd.taken |= maps.viable | maps.adnexa | ~maps.dermis
    vessels = add_vessels(crowd)
    _add_at_junction(crowd)
    if lots.happens(0.5):
        _add_within_epidermis(crowd)
    grain = Grain.of(crowd.section, lots)
    _add_fibroblasts(crowd, grain)
    return vessels, grain


def _add_at_junction(crowd: Crowd) -> None:
    """Place lymphocytes and fibroblasts just below the junction, where nuclei mislead most."""
    rng, lots, preset = crowd.rng, crowd.lots, crowd.lots.preset
    lines = crowd.section.plan.junctions
    bounds = [Bound(line, tangents(line, 8), normals(line, 8)) for line in lines]
    length_mm = sum(map(len, lines)) * STEP_UM / 1000
    for bound, k in _anywhere(bounds, int(length_mm * rng.uniform(3, 18) * crowd.density), rng):
        crowd.add_lymphocyte(*bound.below(k, rng.uniform(4, 12)))
    if lots.happens(preset.band_chance):
        lots.features.add("band-like infiltrate at the junction")
        for _ in range(rng.integers(1, 4)):
            _add_band(crowd, bounds)
    if lots.happens(preset.fibroblast_chance):
        lots.features.add("fibroblasts along the junction")
        for bound, k in _anywhere(bounds, int(length_mm * rng.uniform(15, 50)), rng):
            _add_along(crowd, bound, k)


def _anywhere(
    bounds: list[Bound], count: int, rng: np.random.Generator
) -> Iterator[tuple[Bound, int]]:
    """Choose points of junctions, one after another."""
    for _ in range(count):
        bound = bounds[rng.integers(len(bounds))]
        yield bound, int(rng.integers(len(bound.points)))


def _add_along(crowd: Crowd, bound: Bound, k: int) -> None:
    """Place a fibroblast that lies flat below a junction."""
    rng = crowd.rng
    x, y = bound.below(k, rng.uniform(2.2, 6))
    axes = rng.uniform(5, 9), rng.uniform(1.0, 1.6)
    angle = np.arctan2(bound.along[k, 1], bound.along[k, 0]) + rng.normal(0, 0.12)
    nucleus = Nucleus(x, y, *axes, angle, rng.uniform(0.7, 1.1), "dermis")
    crowd.add(nucleus, overlap=0.15, room=1.0)


def _add_band(crowd: Crowd, bounds: list[Bound]) -> None:
    """Place a crowd of lymphocytes along part of a junction, most likely of the longest."""
    rng = crowd.rng
    longest = max(bounds, key=lambda bound: len(bound.points))
    bound = longest if crowd.lots.happens(0.6) else bounds[rng.integers(len(bounds))]
    length = int(rng.uniform(150, 500) / STEP_UM)
    if len(bound.points) < length + 50:
        return
    first, thick = int(rng.integers(0, len(bound.points) - length)), rng.uniform(20, 60)
    wanted = length * STEP_UM * thick / 42 * rng.uniform(0.5, 1.0) * min(crowd.density, 1.2)
    for _ in range(int(wanted)):
        k = first + int(length * np.clip(rng.normal(0.5, 0.22), 0, 0.999))
        x, y = bound.below(k, 4 + abs(rng.normal(0, 0.5)) * thick)
        crowd.add_lymphocyte(x + rng.normal(0, 2), y)


def _add_within_epidermis(crowd: Crowd) -> None:
    """Add lymphocytes that have entered the epidermis; they may lie on other nuclei."""
    rng, maps = crowd.rng, crowd.section.maps
    places = np.argwhere(maps.viable & (maps.to_surface > 15))
    for _ in range(int(crowd.section.plan.right_um / 1000 * rng.uniform(3, 14))):
        y, x = places[rng.integers(len(places))] + 0.5
        radius = rng.uniform(2.3, 2.9)
        light = rng.uniform(1.0, 1.35)
        crowd.nuclei.append(Nucleus(x, y, radius * 1.1, radius, 0.0, light, "epidermis"))


def _add_fibroblasts(crowd: Crowd, grain: Grain) -> None:
    """Place spindles along the fibres, and plumper ones any way just below the junction."""
    rng, maps = crowd.rng, crowd.section.maps
    places = np.argwhere(maps.dermis)
    room_um2 = rng.uniform(900, 1700) / min(crowd.density, 1.1)  # a coarse pixel is 1 um2
    for i in rng.permutation(len(places))[: int(len(places) / room_um2)]:
        y, x = places[i]
        axes = rng.uniform(5, 10), rng.uniform(1.1, 1.9)
        angle = grain.at(x, y) + rng.normal(0, 0.45)
        light = rng.uniform(0.6, 1.05)
        crowd.add(Nucleus(x + 0.5, y + 0.5, *axes, angle, light, "dermis"), overlap=0.1)
    papillary = places[maps.to_junction[maps.dermis] < PAPILLARY_UM]
    for i in rng.permutation(len(papillary))[: int(len(papillary) / 700)]:
        y, x = papillary[i]
        axes = rng.uniform(4, 7), rng.uniform(1.4, 2.2)
        angle, light = rng.uniform(0, 3.2), rng.uniform(0.6, 1.05)
        crowd.add(Nucleus(x + 0.5, y + 0.5, *axes, angle, light, "dermis"), overlap=0.1)
