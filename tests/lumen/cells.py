"""Nuclei of epithelium, and all of a section's nuclei together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry

from lumen.appendages import Appendage
from lumen.chance import Lots
from lumen.crowd import Crowd, Nucleus, Row
from lumen.dermis import Grain, add_dermal_nuclei
from lumen.lines import even, normals
from lumen.raster import blur, coarse_mask
from lumen.section import Section
from lumen.skin import Angle, Range

MOST_SUPRABASAL = 26000  # places that are tried for nuclei above the basal row


@dataclass(frozen=True)
class Filling:
    """Nuclei anywhere within an appendage; half axes in um."""

    tries: int
    long: Range
    short: Range
    light: Range
    room: float
    rim: float = 0.0


HAIR = Row(light=0.95), Filling(9000, (3.8, 4.8), (3, 3.8), (0.55, 0.85), room=1.3, rim=0.25)
FILLINGS = {
    "opening": HAIR,
    "follicle": HAIR,
    "sebaceous": (
        Row((2.5, 4), (9, 16), (1.6, 2.2), (3.6, 5), light=0.8),
        Filling(3000, (2.6, 3.6), (2.2, 3), (0.5, 0.8), room=2.9),
    ),
    "eccrine": (
        Row((4, 6.5), (6, 8.5), (3, 3.8), (2.6, 3.2), light=0.95),
        Filling(600, (2.8, 3.5), (2.5, 3), (0.6, 0.9), room=1.25),
    ),
}


@dataclass(frozen=True)
class Cells:
    """All nuclei of a section, its vessels, and the direction of its fibres."""

    nuclei: list[Nucleus]
    vessels: list[BaseGeometry]
    grain: Grain


def all_nuclei(section: Section, lots: Lots) -> Cells:
    """Fill a section with nuclei, from the junction up and then down."""
    crowd = Crowd(section, lots)
    viable = section.maps.viable
    # The second row fills what the first has left open.
    for row in (Row(), Row(inward=(5.0, 11), pitch=(3.0, 6.0), light=0.95)):
        for line in section.plan.junctions:
            crowd.add_row(line, viable, "epidermis", row)
    _fill_epidermis(crowd)
    for appendage in section.appendages:
        _fill_appendage(crowd, appendage)
    vessels, grain = add_dermal_nuclei(crowd)
    return Cells(crowd.nuclei, vessels, grain)


def _fill_epidermis(crowd: Crowd) -> None:
    """Place what lies above the basal row: the higher, the flatter."""
    rng, maps = crowd.rng, crowd.section.maps
    slope_y, slope_x = map(np.asarray, np.gradient(blur(maps.to_surface, 3)))
    rows, columns = np.nonzero(maps.viable & (maps.to_junction > 10) & (maps.to_surface > 3.5))
    for i in rng.permutation(len(rows))[:MOST_SUPRABASAL]:
        at = rows[i], columns[i]
        x, y = columns[i] + rng.random(), rows[i] + rng.random()
        if not crowd.taken[at]:
            along = np.arctan2(slope_x[at], -slope_y[at])
            _add_suprabasal(crowd, x, y, along, maps.to_surface[at], maps.to_junction[at])


def _add_suprabasal(
    crowd: Crowd, x: float, y: float, along: np.float32, down: np.float32, up: np.float32
) -> None:
    """Place a nucleus so far (um) below the surface and above the junction, if there is room."""
    rng, size = crowd.rng, crowd.size
    angle: Angle
    share = down / (down + up)
    if down < 12 or share < 0.16:
        angle = along + rng.normal(0, 0.12)
        long, short = rng.uniform(4.5, 7) * size, rng.uniform(1.5, 2.3) * size
        light, overlap, room, rim = rng.uniform(0.45, 0.8), 0.0, 1.85, 0.0
    elif share < 0.42:
        angle = along + rng.normal(0, 0.3)
        long, short = rng.uniform(4.4, 5.6) * size, rng.uniform(2.8, 3.7) * size
        light, overlap, room, rim = rng.uniform(0.5, 0.8), 0.0, 1.62, 0.3
    else:
        long, short = rng.uniform(4.1, 5.1) * size, rng.uniform(3.2, 4.2) * size
        angle = rng.uniform(0, 3.2)
        light, overlap, rim = rng.uniform(0.55, 0.85), 0.02, 0.3
        room = float(1.28 + 0.25 * np.clip((up - 10) / 20, 0, 1))
    nucleus = Nucleus(x, y, long, short, angle, light, "epidermis", rim)
    crowd.add(nucleus, overlap, room)


def _fill_appendage(crowd: Crowd, appendage: Appendage) -> None:
    """Place a row along the wall of a follicle or gland, and what lies further in."""
    rng, maps = crowd.rng, crowd.section.maps
    row, filling = FILLINGS[appendage.kind]
    crowd.add_row(appendage.wall, maps.adnexa, "adnexa", row, _inward(appendage))
    solid = appendage.outer.difference(appendage.lumen).intersection(crowd.section.plan.outline)
    within = coarse_mask(solid, maps.shape) & maps.adnexa
    rows, columns = np.nonzero(within)
    for i in rng.permutation(len(rows))[: filling.tries]:
        long, short = rng.uniform(*filling.long), rng.uniform(*filling.short)
        angle, light = rng.uniform(0, 3), rng.uniform(*filling.light)
        x, y = columns[i] + 0.5, rows[i] + 0.5
        nucleus = Nucleus(x, y, long, short, angle, light, "adnexa", filling.rim)
        crowd.add(nucleus, overlap=0.0, room=filling.room)


def _inward(appendage: Appendage) -> int:
    """Return 1 if the normals of its wall point inward, else -1."""
    points = even(appendage.wall)
    k = len(points) // 3
    inner = points[k] + normals(points, 8)[k] * 3
    return 1 if appendage.outer.contains(Point(inner)) else -1
