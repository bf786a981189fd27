"""A follicle that opens at the surface, cut lengthwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from lumen.chance import Lots, waves
from lumen.lines import longest_line
from lumen.plan import Plan
from lumen.ridges import Cut
from lumen.skin import Array

POINTS = 160  # down each wall


@dataclass(frozen=True)
class Funnel:
    """Its epithelium with canal, its canal, its basement membrane, and the middle of the canal."""

    outer: BaseGeometry
    lumen: BaseGeometry
    wall: Array
    axis: Array


@dataclass(frozen=True)
class Course:
    """How a follicle runs down from the surface, um."""

    x: float
    bottom: float
    depth: float
    lean: float

    def side(self, start: tuple[float, float], aside_um: float, pace: float) -> Array:
        """Points from `start` down; the higher the pace, the sooner they are `aside_um` from it."""
        share = np.linspace(0, 1, POINTS)
        start_x, start_y = start
        mouth = np.exp(-share * pace)
        axis = self.x + self.lean * self.depth * share
        x = start_x * mouth + (axis + aside_um) * (1 - mouth)
        return np.stack([x, start_y + (self.bottom - start_y) * share], 1)


def funnel(cut: Cut, plan: Plan, lots: Lots) -> Funnel:
    """Draw the follicle that opens where the epidermis is cut."""
    rng = lots.rng
    depth = rng.uniform(220, min(620, max(260, plan.depth_um * 0.75)))
    lean = rng.uniform(-0.45, 0.45)
    width = np.clip(cut.width * rng.uniform(0.45, 0.7), 60, 110)
    canal = rng.uniform(12, 26)
    course = Course(cut.centre, plan.surface_y(cut.centre) + depth, depth, lean)
    left, right = _mouth(cut, plan)
    walls = [
        course.side((cut.start, plan.junction_y(cut.start)), -width / 2, 5.5),
        course.side((cut.end, plan.junction_y(cut.end)), width / 2, 5.5),
    ]
    canals = [
        course.side((left[0] + 3, left[1] - 0.5), -canal / 2, 9),
        course.side((right[0] - 3, right[1] - 0.5), canal / 2, 9),
    ]
    bulge = np.sin(np.pi * np.linspace(0, 1, POINTS))
    for side, height in zip(walls + canals, (3.0, 3.0, 2.0, 2.0), strict=True):
        side[:, 0] += bulge * waves(rng, POINTS, (12, 4), (height, height * 0.3))
    rng.random()  # Of no use, but it keeps what each seed draws.
    end = Point(walls[0][-1] * 0.5 + walls[1][-1] * 0.5).buffer(width / 2 * 0.98)
    shaft = Polygon(np.r_[[left], walls[0], walls[1][::-1], [right]]).buffer(0)
    outer = unary_union([shaft, end])
    return Funnel(
        outer=outer,
        lumen=_canal(canals, left, right),
        wall=_membrane(outer, cut, plan),
        axis=(canals[0] + canals[1]) / 2,
    )


def _mouth(cut: Cut, plan: Plan) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the epidermis ends at the surface, left and right."""
    left, right = plan.surface_y(cut.start), plan.surface_y(cut.end)
    return (cut.start, left), (cut.end, right)


def _canal(
    sides: list[Array], left: tuple[float, float], right: tuple[float, float]
) -> BaseGeometry:
    """Close a canal well above the surface."""
    above = [[left[0] + 3, left[1] - 30]], [[right[0] - 3, right[1] - 30]]
    return Polygon(np.r_[above[0], sides[0], sides[1][::-1], above[1]]).buffer(0)


def _membrane(outer: BaseGeometry, cut: Cut, plan: Plan) -> Array:
    """The outline of a follicle without its mouth."""
    left, right = _mouth(cut, plan)
    mouth = Polygon([
        (left[0] - 1, left[1] - 200),
        (right[0] + 1, right[1] - 200),
        (right[0] + 1, plan.junction_y(cut.end) + 2),
        (left[0] - 1, plan.junction_y(cut.start) + 2),
    ])  # fmt: skip
    return np.asarray(longest_line(outer.boundary.difference(mouth)).coords)
