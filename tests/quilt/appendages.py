"""Follicles and sweat glands: distances to their walls and lumens, negative inside."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quilt.chance import Wave, happens
from quilt.layout import Section
from quilt.raster import tabled
from quilt.skin import Plane, Preset

NOWHERE_UM = 1e3  # distance where there is no such thing
FAR_UM = 1e2  # and below a follicle
FUNNEL_UM = 75.0  # over which its mouth widens
FOLLICLE_CLEAR_UM = 60.0  # between its bottom and the deep cut
GLAND_UM = 55.0  # radius of a coil
UPRIGHT_UM = 40.0  # a follicle begins to lean this far below the surface
CAPPED_UM = 45.0  # its canal ends this far above its bottom
CLEAR_UM = 8.0  # between any two appendages
TUBE_CLEAR_UM = 3.0  # between two tubes of a gland
TUBE_LUMEN, CUT_LUMEN = 0.28, 0.24  # radius of a lumen, of the radius of the whole
TRIES, GLAND_TRIES, TUBE_TRIES = 40, 60, 80


@dataclass(frozen=True)
class Follicle:
    """A follicle cut lengthwise that opens at the surface."""

    at_um: float  # along the skin
    half_um: float
    deep_um: float
    lean: float

    def aside_um(self, along_um: Plane | float, down_um: Plane | float) -> Plane:
        """How far from its axis, along the skin; negative to the left."""
        lean = self.lean * np.clip(np.subtract(down_um, UPRIGHT_UM), 0, None)
        return np.asarray(along_um - self.at_um - lean)


@dataclass(frozen=True)
class Appendages:
    """Distances to the outer wall of all, to all lumens, and to the wall of the open follicle."""

    wall_um: Plane
    lumen_um: Plane
    follicle_um: Plane | None = None

    def and_one(self, wall_um: Plane, lumen_um: Plane) -> Appendages:
        """Add one more, given its distances."""
        return replace(
            self,
            wall_um=np.minimum(self.wall_um, wall_um),
            lumen_um=np.minimum(self.lumen_um, lumen_um),
        )


class Room:
    """What has been taken of the dermis of a section."""

    def __init__(self, section: Section, follicle: Follicle | None) -> None:
        self._section, self._follicle = section, follicle
        self._taken: list[tuple[float, float, float]] = []

    def take(self, u: float, v: float, radius: float) -> None:
        self._taken.append((u, v, radius))

    def is_clear(self, u: float, v: float, radius: float, gap: float) -> bool:
        """Whether a circle keeps its distance from all that have been taken."""
        return all(np.hypot(u - x, v - y) > radius + r + gap for x, y, r in self._taken)

    def is_free(self, u: float, v: float, radius: float) -> bool:
        """Whether a circle lies well within the dermis (20 um and more) and clear of all else."""
        section, follicle = self._section, self._follicle
        top, bottom = section.profile.deepest_um + radius, section.depth_um - radius - 20
        side = radius + 25
        if not (top < v < bottom and side < u < section.length_um - side):
            return False
        if follicle and abs(follicle.aside_um(u, v)) <= follicle.half_um + radius + 12:
            return False
        return self.is_clear(u, v, radius, CLEAR_UM)


def _some_follicle(section: Section, rng: np.random.Generator) -> Follicle:
    at_um, half_um = rng.uniform(0.25, 0.75) * section.length_um, rng.uniform(38, 55)
    deep_um = min(rng.uniform(170, 330), section.depth_um - FOLLICLE_CLEAR_UM)
    return Follicle(at_um, half_um, deep_um, section.lean)


def _blunt(down_um: Plane, deep_um: float, power: int) -> Plane:
    """Width of something that ends at `deep_um`, of its width above; blunter if `power` is high."""
    share = np.clip(down_um, 0, None) / deep_um
    return np.asarray(np.sqrt(np.clip(1 - share**power, 0, 1)))


def _wall(section: Section, follicle: Follicle, rng: np.random.Generator) -> Plane:
    """Distance to the wall of a follicle that narrows by a quarter and opens in a funnel."""
    down, deep_um = section.down_um, follicle.deep_um
    half = follicle.half_um * (1 - 0.25 * np.clip(down / deep_um, 0, 1))
    half = half * _blunt(down, deep_um, 6)
    half = half * (1 + 0.06 * tabled(Wave(rng, shortest_um=40), down))
    half = half + 0.9 * np.maximum(0, 1 - down / FUNNEL_UM) * 18
    away = np.abs(follicle.aside_um(section.along_um, down))
    wall = np.where(down < deep_um, away - half, FAR_UM + down - deep_um)
    return np.where(down > 0, wall, NOWHERE_UM).astype(np.float32)


def _canal(section: Section, follicle: Follicle) -> Plane:
    """Distance to the canal of a follicle: 7 um from its axis, up to 16 more at the surface."""
    down, deep_um = section.down_um, follicle.deep_um - CAPPED_UM
    half = 7 + 16 * np.exp(-np.clip(down, -40, None) / 30)
    half = half * _blunt(down, deep_um, 8)
    within = (down < deep_um) & (down > -section.corneum_um)
    away = np.abs(follicle.aside_um(section.along_um, down))
    return np.where(within, away - half, NOWHERE_UM).astype(np.float32)


def _and_oval(
    found: Appendages, from_middle: tuple[Plane, Plane], least_um: float, rng: np.random.Generator
) -> Appendages:
    """Add an uneven ellipse, given x and y from its middle in units of its radii."""
    x, y = from_middle
    angle = np.arctan2(y, x)
    edge = 1 + 0.05 * np.sin(3 * angle + rng.uniform(0, 6))
    edge = edge + 0.04 * np.sin(5 * angle + rng.uniform(0, 6))
    radius = np.hypot(x, y)
    wall = (radius - edge).astype(np.float32) * least_um
    return found.and_one(wall, (radius - CUT_LUMEN * edge).astype(np.float32) * least_um)


def _and_cut_follicle(
    found: Appendages, section: Section, room: Room, rng: np.random.Generator
) -> Appendages:
    """Add a follicle cut across, if a place for it is found."""
    for _ in range(TRIES):
        wide_um, high_um = rng.uniform(38, 60), rng.uniform(40, 80)
        u, v = rng.uniform(0, section.length_um), rng.uniform(0, section.depth_um)
        turn = rng.uniform(0, np.pi)
        if room.is_free(u, v, max(wide_um, high_um)):
            room.take(u, v, max(wide_um, high_um))
            du, dv, cos, sin = section.along_um - u, section.down_um - v, np.cos(turn), np.sin(turn)
            turned = (du * cos + dv * sin) / wide_um, (dv * cos - du * sin) / high_um
            return _and_oval(found, turned, min(wide_um, high_um), rng)
    return found


def _place_of_gland(
    section: Section, room: Room, rng: np.random.Generator
) -> tuple[float, float] | None:
    """Find room for a gland in the deeper dermis, well away from the ends."""
    for _ in range(GLAND_TRIES):
        u, v = rng.uniform(80, section.length_um - 80), rng.uniform(0.6, 0.85) * section.depth_um
        if room.is_free(u, v, GLAND_UM):
            return u, v
    return None


def _and_gland(
    found: Appendages, section: Section, room: Room, rng: np.random.Generator
) -> Appendages:
    """Add the coil of a sweat gland, if there is room: tubes cut across, side by side."""
    place = _place_of_gland(section, room, rng)
    if place is None:
        return found
    for _ in range(TUBE_TRIES):
        u, v = place[0] + rng.uniform(-50, 50), place[1] + rng.uniform(-40, 40)
        radius_um = rng.uniform(15, 21)
        coiled = np.hypot(u - place[0], v - place[1]) < GLAND_UM - 3
        if coiled and room.is_clear(u, v, radius_um, TUBE_CLEAR_UM):
            room.take(u, v, radius_um)
            flat = rng.uniform(0.8, 1.25)  # tubes are ovals of the same area
            away = np.hypot((section.along_um - u) * flat, (section.down_um - v) / flat)
            wall, lumen = away - radius_um, away - radius_um * TUBE_LUMEN
            found = found.and_one(wall.astype(np.float32), lumen.astype(np.float32))
    return found


def some_appendages(section: Section, preset: Preset, rng: np.random.Generator) -> Appendages:
    """Draw what a section has of follicles and glands."""
    none = np.full(section.shape, NOWHERE_UM, np.float32)
    found, follicle = Appendages(none, none), None
    if happens(rng, preset.follicle_chance):
        follicle = _some_follicle(section, rng)
        wall = _wall(section, follicle, rng)
        found = Appendages(wall, _canal(section, follicle), follicle_um=wall)
    room = Room(section, follicle)
    if happens(rng, preset.cut_follicles_chance):
        for _ in range(rng.integers(1, 3)):
            found = _and_cut_follicle(found, section, room, rng)
    if happens(rng, preset.glands_chance):
        found = _and_gland(found, section, room, rng)
    return found
