"""A section with all that lies in it, and coarse maps of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from lumen.appendages import Appendage, appendages_of
from lumen.chance import Lots, Oval, blob, wave
from lumen.lines import STEP_UM
from lumen.plan import Plan, lay_out
from lumen.raster import Shape, coarse_mask, coarse_shape, distance_to
from lumen.skin import Array, Mask, Plane


@dataclass(frozen=True)
class Maps:
    """Coarse pixels of each compartment, and how far they lie from the epidermis's bounds, um."""

    viable: Mask
    dermis: Mask
    adnexa: Mask
    to_junction: Plane
    to_surface: Plane

    @property
    def shape(self) -> Shape:
        height, width = self.viable.shape
        return height, width


@dataclass(frozen=True)
class Section:
    """A section before any light; areas do not overlap.

    Attributes
    ----------
    dermis
        Without appendages and clefts.
    adnexa
        The epithelium of appendages, with the lumens of those that do not open at the surface.
    cleft
        Where the epidermis has come off the dermis, and cracks in the dermis.
    """

    plan: Plan
    appendages: list[Appendage]
    dermis: BaseGeometry
    adnexa: BaseGeometry
    cleft: BaseGeometry
    maps: Maps


def section_of(lots: Lots) -> Section:
    """Draw a section."""
    plan = lay_out(lots)
    appendages = appendages_of(plan, lots)
    outers = unary_union([one.outer for one in appendages])
    canals = unary_union([one.lumen for one in appendages if one.kind == "opening"])
    cleft = _clefts(plan, outers, lots).intersection(plan.outline)
    dermis = plan.dermis.difference(outers).difference(cleft)
    adnexa = outers.difference(canals).intersection(plan.outline).difference(plan.viable)
    maps = _mapped(plan, dermis, adnexa)
    return Section(plan, appendages, dermis, adnexa, cleft, maps)


def _mapped(plan: Plan, dermis: BaseGeometry, adnexa: BaseGeometry) -> Maps:
    shape = coarse_shape(plan.shape)
    return Maps(
        viable=coarse_mask(plan.viable, shape),
        dermis=coarse_mask(dermis, shape),
        adnexa=coarse_mask(adnexa, shape),
        to_junction=distance_to(plan.ridges.junction, shape),
        to_surface=distance_to(plan.ridges.surface, shape),
    )


def _clefts(plan: Plan, outers: BaseGeometry, lots: Lots) -> BaseGeometry:
    """Draw clefts below the junction, and cracks in the dermis."""
    cleft: BaseGeometry = Polygon()
    if lots.happens(lots.preset.cleft_chance):
        for _ in range(lots.rng.integers(1, 3)):
            if space := _below_junction(plan, lots):
                cleft = unary_union([cleft, space])
    if lots.happens(lots.preset.cleft_chance):
        for _ in range(lots.rng.integers(1, 4)):
            cleft = unary_union([cleft, _crack(plan, lots)])
        cleft = cleft.difference(plan.viable.buffer(1.0)).difference(outers.buffer(3))
    return cleft


def _below_junction(plan: Plan, lots: Lots) -> BaseGeometry | None:
    """Draw a space full of fluid just below the junction; none where a stretch is too short."""
    rng = lots.rng
    line = plan.junctions[rng.integers(len(plan.junctions))]
    count = int(rng.uniform(90, 300) / STEP_UM)
    if len(line) < count + 200:
        return None
    first = rng.integers(80, len(line) - count - 80)
    lots.features.add("cleft")
    height = rng.uniform(7, 24) * np.sin(np.linspace(0, np.pi, count)) ** 0.6
    height = height * (1 + 0.25 * wave(rng, count, 25))
    space = _strip(line[first : first + count], height).difference(plan.viable.buffer(1.0))
    return space.buffer(-1).buffer(1)


def _strip(roof: Array, height_um: Array) -> BaseGeometry:
    """Area between a line and another so far below, pieced together: both may be winding."""
    floor = np.c_[roof[:, 0], roof[:, 1] + np.maximum(height_um, 0) + 1.2]
    pieces = []
    for k in range(0, len(roof) - 4, 4):
        piece = Polygon([roof[k], roof[k + 4], floor[k + 4], floor[k]])
        pieces.append(piece.buffer(0.3))
    return unary_union(pieces)


def _crack(plan: Plan, lots: Lots) -> BaseGeometry:
    """Draw a crack in the dermis."""
    rng = lots.rng
    x = rng.uniform(150, plan.right_um - 150)
    y = plan.junction_y(x) + rng.uniform(90, plan.depth_um * 0.8)
    lots.features.add("dermal crack")
    oval = Oval(rng.uniform(40, 140), rng.uniform(4, 12), rng.normal(0, 0.3), 0.12)
    return blob(rng, x, y, oval)
