"""Follicles and glands: where there is room for them, and their walls and lumens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from shapely import affinity
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from lumen.chance import Lots, Oval, blob
from lumen.funnel import funnel
from lumen.lines import largest_polygon
from lumen.plan import Plan
from lumen.skin import Array

MOST_TUBES = 13  # of one coil
NOTHING: BaseGeometry = Polygon()


@dataclass(frozen=True)
class Appendage:
    """A follicle or gland, in um.

    Attributes
    ----------
    outer
        All of it.
    wall
        Points (n, 2) of its basement membrane.
    lumen
        Its canal; a sebaceous gland has none.
    hair
        In a follicle cut in depth.
    axis
        Points (n, 2) down the canal of a follicle that opens at the surface.
    """

    kind: Literal["opening", "follicle", "sebaceous", "eccrine"]
    outer: BaseGeometry
    wall: Array
    lumen: BaseGeometry = NOTHING
    hair: BaseGeometry = NOTHING
    axis: Array = field(default_factory=lambda: np.empty((0, 2)))


class Room:
    """What is left of the dermis of a section."""

    def __init__(self, plan: Plan, placed: list[Appendage]) -> None:
        self.plan = plan
        self._zone = plan.dermis.buffer(-15)
        self._junction = LineString(plan.ridges.junction[::10])
        self._taken = [one.outer.buffer(15) for one in placed]

    def holds(self, area: BaseGeometry, below_um: float) -> bool:
        """Whether an area is free and lies more than that below the junction."""
        return (
            self._zone.contains(area)
            and area.distance(self._junction) > below_um
            and not any(area.intersects(other) for other in self._taken)
        )

    def take(self, area: BaseGeometry, around_um: float) -> None:
        """Keep an area, and some around it, from all that come later."""
        self._taken.append(area.buffer(around_um))

    def some_place(self, lots: Lots, aside_um: float, down: tuple[float, float]) -> Array:
        """Return any x, y: away from the sides, and so far below the junction."""
        x = lots.rng.uniform(aside_um, self.plan.right_um - aside_um)
        return np.array([x, self.plan.junction_y(x) + lots.rng.uniform(*down)])


def appendages_of(plan: Plan, lots: Lots) -> list[Appendage]:
    """Draw all appendages; the first to come has the room."""
    rng, preset = lots.rng, lots.preset
    placed = _openings(plan, lots)
    room = Room(plan, placed)
    if lots.happens(preset.follicle_chance):
        for _ in range(rng.integers(1, 4)):
            placed += _first(30, lambda: _follicle(room, lots))
    if lots.happens(preset.sebaceous_chance):
        placed += _first(40, lambda: _sebaceous(room, placed, lots))
    if lots.happens(preset.eccrine_chance):
        for _ in range(rng.integers(1, 4)):
            placed += _first(30, lambda: _coil(room, lots))
    return placed


def _first(tries: int, attempt: Callable[[], list[Appendage]]) -> list[Appendage]:
    """Try until something has found room."""
    return next(filter(None, (attempt() for _ in range(tries))), [])


def _openings(plan: Plan, lots: Lots) -> list[Appendage]:
    """Draw a follicle at every opening."""
    cuts = [cut for cut in plan.ridges.cuts if cut.kind == "opening"]
    shapes = [funnel(cut, plan, lots) for cut in cuts]
    return [Appendage("opening", s.outer, s.wall, s.lumen, axis=s.axis) for s in shapes]


def _follicle(room: Room, lots: Lots) -> list[Appendage]:
    """Try to place a follicle that is cut obliquely."""
    rng, plan = lots.rng, room.plan
    short = rng.uniform(45, 70)
    long, angle = short * rng.uniform(1.0, 3.6), np.pi / 2 + rng.normal(0, 0.45)
    x, y = room.some_place(lots, 100, (130, plan.depth_um * 0.85))
    outer = blob(rng, x, y, Oval(long, short, angle, 0.035))
    if not room.holds(outer, 60):
        return []
    share = rng.uniform(0.38, 0.5)
    stretched = long > 2 * short
    lumen = affinity.scale(outer, share + 0.15 * stretched, share)
    rng.random()  # Of no use, but it keeps what each seed draws.
    hair_long = long * (share + 0.12 * stretched) * 0.96
    hair = blob(rng, x, y, Oval(hair_long, short * rng.uniform(0.12, 0.24), angle, 0.03))
    room.take(outer, 12)
    lots.features.add("follicle in depth")
    return [Appendage("follicle", outer, _outline(outer), lumen, hair=hair)]


def _sebaceous(room: Room, others: list[Appendage], lots: Lots) -> list[Appendage]:
    """Try to place a gland of several lobes, beside a follicle if there is one."""
    rng, plan = lots.rng, room.plan
    if others:
        beside = others[rng.integers(len(others))].outer.centroid
        side = rng.choice([-1, 1])
        x, y = beside.x + side * rng.uniform(90, 190), beside.y + rng.uniform(-60, 120)
    else:
        x, y = room.some_place(lots, 120, (150, plan.depth_um * 0.7))
    lobes = [_lobe(x, y, lots) for _ in range(rng.integers(2, 6))]
    gland = largest_polygon(unary_union(lobes).buffer(4).buffer(-4))
    outer = Polygon(gland.exterior)
    if not room.holds(outer, 60):
        return []
    room.take(outer, 8)
    lots.features.add("sebaceous gland")
    return [Appendage("sebaceous", outer, _outline(outer))]


def _lobe(x: float, y: float, lots: Lots) -> BaseGeometry:
    """Draw one lobe of a gland that lies around x, y."""
    rng = lots.rng
    x, y = x + rng.normal(0, 45), y + rng.normal(0, 45)
    oval = Oval(rng.uniform(28, 60), rng.uniform(25, 45), rng.uniform(0, 3), 0.07)
    return blob(rng, x, y, oval)


def _coil(room: Room, lots: Lots) -> list[Appendage]:
    """Try to place the tubes of a sweat gland."""
    rng, depth = lots.rng, room.plan.depth_um
    x, y = room.some_place(lots, 100, (depth * 0.35, depth * 0.85))
    if not room.holds(Point(x, y).buffer(50), 80):
        return []
    radius = rng.uniform(45, 95)
    tubes: list[Appendage] = []
    for _ in range(120):
        outer = _tube(x, y, radius, lots)
        if not room.holds(outer, 50):
            continue
        room.take(outer, 3)
        lots.features.add("eccrine glands")
        lumen = affinity.scale(outer, 0.24, 0.24)
        tubes.append(Appendage("eccrine", outer, _outline(outer), lumen))
        if len(tubes) == MOST_TUBES:
            break
    return tubes


def _tube(x: float, y: float, radius: float, lots: Lots) -> BaseGeometry:
    """Draw one tube of a coil around x, y."""
    rng = lots.rng
    away, turn = radius * np.sqrt(rng.random()), rng.uniform(0, 7)
    short = rng.uniform(15, 22)
    long = short * rng.uniform(1, 1.9)
    oval = Oval(long, short, rng.uniform(0, 3), 0.05)
    return blob(rng, x + away * np.cos(turn), y + away * np.sin(turn), oval)


def _outline(area: BaseGeometry) -> Array:
    return np.asarray(area.exterior.coords)
