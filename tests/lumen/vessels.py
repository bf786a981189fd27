"""Vessels, their lining, and the lymphocytes around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from lumen.chance import Oval, blob
from lumen.crowd import Crowd, Nucleus
from lumen.raster import coarse_mask

USUAL_UM2 = 8e5  # section that has 5 to 11 vessels, without those that are inflamed
SUPERFICIAL_UM = 160  # half of all vessels lie no further below the junction


@dataclass(frozen=True)
class Vessel:
    """A vessel cut obliquely; half axes in um, the first turned by `angle` from x."""

    x: float
    y: float
    long: float
    short: float
    angle: float

    def at(self, across: float, along: float) -> tuple[float, float]:
        """Return the point so far from its centre, along its axes."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return self.x + across * cos - along * sin, self.y + across * sin + along * cos


def add_vessels(crowd: Crowd) -> list[BaseGeometry]:
    """Place vessels with their nuclei; return their areas."""
    rng, lots, plan, maps = crowd.rng, crowd.lots, crowd.section.plan, crowd.section.maps
    plain = int(rng.uniform(5, 11) * plan.right_um * plan.depth_um / USUAL_UM2)
    inflamed = int(lots.within(lots.preset.infiltrates))
    deep_enough = np.argwhere(maps.dermis & (maps.to_junction > 22))
    areas = []
    for k in range(plain + inflamed):
        y, x = _place(crowd, deep_enough)
        vessel = Vessel(x, y, rng.uniform(5, 14), rng.uniform(3.5, 7), rng.normal(0, 0.7))
        area = blob(rng, x, y, Oval(vessel.long, vessel.short, vessel.angle, 0.08))
        if not crowd.section.dermis.contains(area.buffer(6)):
            continue
        areas.append(area)
        crowd.taken |= coarse_mask(area.buffer(0.5), maps.shape)
        _line_with_endothelium(crowd, vessel)
        if k >= plain:
            count = int(rng.lognormal(np.log(38), 0.6) * crowd.density)
            _surround(crowd, vessel, count)
            lots.features.add("perivascular infiltrate")
        elif lots.happens(0.3 * crowd.density):
            _surround(crowd, vessel, int(rng.integers(4, 14)))
    return areas


def _place(crowd: Crowd, pixels: NDArray[np.intp]) -> tuple[int, int]:
    """Choose y, x of a vessel; half of them near the surface."""
    superficial = crowd.lots.happens(0.5)
    for _ in range(200):
        y, x = pixels[crowd.rng.integers(len(pixels))]
        if not superficial or crowd.section.maps.to_junction[y, x] < SUPERFICIAL_UM:
            break
    return y, x


def _line_with_endothelium(crowd: Crowd, vessel: Vessel) -> None:
    rng, long, short = crowd.rng, vessel.long, vessel.short
    for turn in np.arange(0, 2 * np.pi, 2 * np.pi / rng.integers(4, 9)):
        if crowd.lots.happens(0.3):
            continue
        x, y = vessel.at((long + 2.0) * np.cos(turn), (short + 2.0) * np.sin(turn))
        angle = vessel.angle + np.arctan2(short * np.cos(turn), -long * np.sin(turn))
        axes = rng.uniform(3.5, 5), rng.uniform(1.2, 1.7)
        crowd.add(Nucleus(x, y, *axes, angle, rng.uniform(0.7, 1.1), "dermis"), overlap=0.25)


def _surround(crowd: Crowd, vessel: Vessel, count: int) -> None:
    """Place lymphocytes around a vessel; fewer where there is no room."""
    rng, reach = crowd.rng, 10 + 3.0 * np.sqrt(count)
    missing = count
    for _ in range(3 * count):
        away = abs(rng.normal(0, 0.55)) * reach + vessel.short * 0.9
        turn = rng.uniform(0, 2 * np.pi)
        x, y = vessel.at(away * np.cos(turn) * 1.4, away * np.sin(turn))
        missing -= crowd.add_lymphocyte(x, y)
        if missing == 0:
            break
