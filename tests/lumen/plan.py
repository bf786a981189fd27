"""The layout of a section lying flat: its outline, and the stretches of its epidermis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from shapely import affinity
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from lumen.chance import Lots, waves
from lumen.lines import even, largest_polygon, lines_of, longest_line, polygons_of
from lumen.raster import Shape
from lumen.ridges import Cut, Ridges, ridges_of
from lumen.skin import MPP, Array

MARGIN_UM = 60  # around a section
ABOVE_UM = 130  # above its surface: the corneum needs more room
FAR_UM = 3000  # further down than any section reaches


@dataclass(frozen=True)
class Stretch:
    """Where epidermis begins and ends, um along the skin; its surface may be shorter."""

    start: float
    end: float
    surface_start: float
    surface_end: float


@dataclass(frozen=True)
class Plan:
    """A section lying flat; lengths in um.

    Attributes
    ----------
    ridges
        The bounds of the epidermis, beyond the section too.
    outline, below
        The section, and all that lies below the junction.
    viable
        Interfollicular epidermis without the corneum.
    dermis
        All of the section below the junction, with what lies in it.
    junctions, surface
        The truth, before it is turned.
    depth_um
        From the surface to the deep cut.
    """

    ridges: Ridges
    outline: BaseGeometry
    below: BaseGeometry
    viable: MultiPolygon
    dermis: BaseGeometry
    junctions: list[Array]
    surface: list[Array]
    depth_um: float

    @property
    def right_um(self) -> float:
        """Where the section ends."""
        return float(self.outline.bounds[2]) - MARGIN_UM

    @property
    def shape(self) -> Shape:
        """Pixels (y, x) of a picture of it."""
        _, _, right, bottom = self.outline.bounds
        return int((bottom + MARGIN_UM) / MPP), int((right + MARGIN_UM) / MPP)

    def junction_y(self, x: float) -> float:
        """How far down the junction lies at x."""
        return float(np.interp(x, self.ridges.along_um, self.ridges.junction[:, 1]))

    def surface_y(self, x: float) -> float:
        """How far down the surface lies at x."""
        return float(np.interp(x, self.ridges.along_um, self.ridges.surface[:, 1]))


def lay_out(lots: Lots) -> Plan:
    """Plan a section, a margin away from the picture's corner."""
    length, depth = lots.within(lots.preset.length_um), lots.within(lots.preset.depth_um)
    ridges = ridges_of(length, lots)
    outline = _outline(ridges, length, depth, lots)
    stretches, areas = _epidermis(ridges, lots)
    viable = unary_union(areas).intersection(outline)
    below = _below(ridges, length, lots)
    spans = [(s.start, s.end) for s in stretches]
    surface_spans = [(s.surface_start, s.surface_end) for s in stretches]
    plan = Plan(
        ridges=ridges,
        outline=outline,
        below=below,
        viable=MultiPolygon([part for part in polygons_of(viable) if part.area > 500]),
        dermis=outline.intersection(below),
        junctions=_within(outline, ridges.along_um, ridges.junction, spans),
        surface=_within(outline, ridges.along_um, ridges.surface, surface_spans),
        depth_um=depth,
    )
    left, top = outline.bounds[0], ridges.surface[:, 1].min()
    return _moved(plan, MARGIN_UM - left, ABOVE_UM - top)


def _outline(ridges: Ridges, length_um: float, depth_um: float, lots: Lots) -> Polygon:
    """Cut out a section with ragged sides and a ragged bottom."""
    rng, surface = lots.rng, ridges.surface[:, 1]
    top = -250 + surface.min()
    down = np.arange(top, surface.max() + depth_um + 250, 2.0)
    left, right = (_side(x, down, lots) for x in (25, length_um - 25))
    along = np.arange(-300, length_um + 300, 2.0)
    slope = 1 + rng.uniform(-0.3, 0.3) * (along - length_um / 2) / (length_um / 2)
    bottom = np.interp(along, ridges.along_um, surface) + depth_um * 0.5 + depth_um * 0.5 * slope
    heights = rng.uniform(15, 50), rng.uniform(6, 18), 6, 2.2
    bottom = bottom + waves(rng, len(along), (120, 30, 8, 2.5), heights)
    deepest = np.interp(along, ridges.along_um, ridges.junction[:, 1]) + 150
    bottom = np.maximum(bottom, deepest)
    strip = Polygon(np.r_[left, right[::-1]]).buffer(0)
    corners = [[length_um + 300, top], [-300, top]]
    whole = Polygon(np.r_[np.c_[along, bottom], corners]).buffer(0)
    return largest_polygon(strip.intersection(whole))


def _side(x: float, down: Array, lots: Lots) -> Array:
    """Draw a cut side that starts near x."""
    rng = lots.rng
    lean = rng.normal(0, 0.12)
    heights = rng.uniform(6, 22), rng.uniform(3, 8), 1.5
    across = x + lean * (down - down[0] - 300) + waves(rng, len(down), (60, 16, 4), heights)
    return np.stack([across, down], 1)


def _epidermis(ridges: Ridges, lots: Lots) -> tuple[list[Stretch], list[BaseGeometry]]:
    """Draw epidermis between cuts; where some is missing beside it, its side is ragged."""
    along, cuts = ridges.along_um, ridges.cuts
    befores: list[Cut | None] = [None, *cuts]
    afters: list[Cut | None] = [*cuts, None]
    stretches, areas = list[Stretch](), list[BaseGeometry]()
    for before, after in zip(befores, afters, strict=True):
        start, end = before.end if before else along[0], after.start if after else along[-1]
        torn = [cut is not None and cut.kind == "missing" for cut in (before, after)]
        back = [lots.rng.uniform(-6, 45) if is_torn else 0.0 for is_torn in torn]
        stretch = Stretch(start, end, start + back[0], end - back[1])
        here = (along >= start) & (along <= end)
        surface, junction = ridges.surface[here], ridges.junction[here]
        x = surface[:, 0]
        surface = surface[(x >= stretch.surface_start) & (x <= stretch.surface_end)]
        if len(surface) < 10:
            continue
        right = _torn_side(surface[-1], junction[-1], lots) if torn[1] else np.empty((0, 2))
        left = _torn_side(junction[0], surface[0], lots) if torn[0] else np.empty((0, 2))
        areas.append(Polygon(np.r_[surface, right, junction[::-1], left]).buffer(0))
        stretches.append(stretch)
    return stretches, areas


def _torn_side(start: Array, end: Array, lots: Lots) -> Array:
    """Draw a wavy line between two points, without these."""
    share = np.linspace(0, 1, 40)[1:-1]
    line = start + (end - start) * share[:, None]
    line[:, 0] += np.sin(np.pi * share) * waves(lots.rng, len(share), (6, 2), (4, 1.2))
    return np.asarray(line)


def _within(
    outline: Polygon, along: Array, line: Array, spans: list[tuple[float, float]]
) -> list[Array]:
    """Return each span of a line from left to right, as far as it lies well in the section."""
    inner = outline.buffer(-5)
    found = []
    for start, end in spans:
        whole = LineString(line[(along >= start) & (along <= end)])
        parts = lines_of(whole.intersection(inner))
        if not parts:
            continue
        merged = shapely.line_merge(shapely.MultiLineString(parts)) if len(parts) > 1 else parts[0]
        longest = longest_line(merged)
        if longest.length > 30:
            points = np.asarray(longest.coords)
            found.append(even(points if points[0, 0] <= points[-1, 0] else points[::-1]))
    return found


def _below(ridges: Ridges, length_um: float, lots: Lots) -> BaseGeometry:
    """All below the junction; where epidermis is missing, its bed is worn a little."""
    bound = ridges.junction.copy()
    for cut in ridges.cuts:
        if cut.kind == "missing":
            here = (ridges.along_um >= cut.start) & (ridges.along_um <= cut.end)
            index = np.arange(here.sum())
            fade = np.minimum(1, np.minimum(index, index[::-1]) / 20)
            bound[here, 1] += waves(lots.rng, len(index), (20, 6), (3.0, 1.2)) * fade + 3
    far = ridges.surface[:, 1].max() + FAR_UM
    return Polygon(np.r_[bound, [[length_um + 900, far], [-900, far]]]).buffer(0)


def _moved(plan: Plan, x: float, y: float) -> Plan:
    """Move all of a plan."""
    shift, ridges = np.array([x, y]), plan.ridges
    moved = Ridges(
        along_um=ridges.along_um + x,
        surface=ridges.surface + shift,
        junction=ridges.junction + shift,
        cuts=[Cut(cut.start + x, cut.end + x, cut.kind) for cut in ridges.cuts],
        kind=ridges.kind,
    )
    return Plan(
        ridges=moved,
        outline=affinity.translate(plan.outline, x, y),
        below=affinity.translate(plan.below, x, y),
        viable=affinity.translate(plan.viable, x, y),
        dermis=affinity.translate(plan.dermis, x, y),
        junctions=[line + shift for line in plan.junctions],
        surface=[line + shift for line in plan.surface],
        depth_um=plan.depth_um,
    )
