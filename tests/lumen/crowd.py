"""Nuclei placed so far, and rows of them along a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from shapely.geometry import Point

from lumen.chance import Lots
from lumen.lines import STEP_UM, even, normals
from lumen.section import Section
from lumen.skin import Angle, Array, Mask, Range
from lumen.stamps import is_free, take


class Nucleus(NamedTuple):
    """An oval, in um; what it shines in DAPI is relative.

    `long` and `short` are half axes, the first of them turned by `angle` from x; `rim` says how
    much darker its middle is.
    """

    x: float
    y: float
    long: float
    short: float
    angle: Angle
    light: float
    compartment: str
    rim: float = 0.0


@dataclass(frozen=True)
class Row:
    """Nuclei side by side: um from the line and between them, half axes across it and along it."""

    inward: Range = (5.5, 8.0)
    pitch: Range = (4.6, 6.6)
    across: Range = (4.6, 6.4)
    along: Range = (2.3, 3.0)
    light: float = 1.0


class Crowd:
    """Nuclei placed so far; there is no room for one that would lie on another."""

    def __init__(self, section: Section, lots: Lots) -> None:
        self.section, self.lots, self.rng = section, lots, lots.rng
        self.taken: Mask = np.zeros(section.maps.shape, bool)
        self.density = lots.within(lots.preset.crowding)  # of lymphocytes
        self.size = self.rng.uniform(0.9, 1.12)  # of nuclei of the epidermis, relative
        self.nuclei: list[Nucleus] = []
        self._inside = section.plan.outline.buffer(-2.5)
        shapely.prepare(self._inside)

    def add(self, nucleus: Nucleus, overlap: float = 0.12, room: float = 1.1) -> bool:
        """Place a nucleus if there is room, and say so.

        Parameters
        ----------
        nucleus
            What to place.
        overlap
            Share of its room that others may have taken.
        room
            How much larger its room is, in diameter.
        """
        x, y, long, short, angle = nucleus[:5]
        height, width = self.taken.shape
        if not (0 <= x < width - 1 and 0 <= y < height - 1):
            return False
        if not is_free(self.taken, x, y, long * room, short * room, angle, overlap):
            return False
        take(self.taken, x, y, long, short, angle)
        self.nuclei.append(nucleus)
        return True

    def add_lymphocyte(self, x: float, y: float) -> bool:
        """Place a small round bright nucleus if there is room, and say so."""
        rng = self.rng
        radius = rng.uniform(2.5, 3.3)
        long, angle = radius * rng.uniform(1, 1.18), rng.uniform(0, 3)
        light = rng.uniform(1.0, 1.5)
        return self.add(Nucleus(x, y, long, radius, angle, light, "dermis"), room=1.0)

    def add_row(self, line: Array, within: Mask, compartment: str, row: Row, side: int = 1) -> None:
        """Place nuclei along a line, on the side of its normals (or against them, with -1)."""
        rng, points = self.rng, even(line)
        normal = normals(points, 8) * side
        at = rng.uniform(0, 8)
        while at < len(points) - 1:
            k = int(at)
            centre = points[k] + normal[k] * rng.uniform(*row.inward)
            if self._holds(centre, within):
                angle = np.arctan2(normal[k, 1], normal[k, 0]) + rng.normal(0, 0.16)
                long, short = (rng.uniform(*axis) * self.size for axis in (row.across, row.along))
                light = row.light * rng.lognormal(0, 0.16)
                rim = rng.uniform(0, 0.25)
                x, y = centre
                nucleus = Nucleus(x, y, long, short, angle, light, compartment, rim)
                self.add(nucleus, overlap=0.13, room=1.05)
            at += rng.uniform(*row.pitch) / STEP_UM

    def _holds(self, centre: Array, within: Mask) -> bool:
        """Whether a point lies in a mask, and in the section."""
        column, row = int(centre[0]), int(centre[1])
        height, width = within.shape
        if not (0 <= row < height and 0 <= column < width and within[row, column]):
            return False
        return bool(self._inside.contains(Point(centre)))
