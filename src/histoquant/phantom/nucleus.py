"""One nucleus, a crowd of them that keep their distance, and a vessel; lengths in slide um."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Nucleus:
    """One nucleus; positions and lengths in slide um, OD as means over its area."""

    y: float
    x: float
    long: float
    """Larger half axis."""
    short: float
    """Smaller half axis."""
    angle: float
    """Direction of the larger axis, radians from x towards y."""
    kind: str
    compartment: str = ""
    dej_distance: float = 0.0
    hematoxylin: float = 0.4
    dab: float = 0.0
    cytoplasm: float = 0.0
    melanin: float = 0.0
    positive: bool = False
    bumps: tuple[float, ...] = (0.0,) * 6
    """Amplitudes and phases of the 2nd to 4th harmonic of the outline."""
    bend: float = 0.0
    """Curvature: how far the tips lie off the axis, as a fraction of the larger half axis."""
    grain: tuple[float, float] = (0.0, 0.0)
    """Where its chromatin is read in the texture."""

    @property
    def reach(self) -> float:
        """Radius of the circle that holds the outline."""
        return self.long * (1 + sum(self.bumps[:3]) + abs(self.bend))

    @property
    def area(self) -> float:
        """Area of the outline in um2: half the integral of the squared radius."""
        share = 1 + sum(size**2 for size in self.bumps[:3]) / 2
        return float(np.pi * self.long * self.short * share)

    def radius_towards(self, angle: float) -> float:
        """Radius of the ellipse in a direction."""
        turn = angle - self.angle
        return (
            self.long
            * self.short
            / math.hypot(self.short * math.cos(turn), self.long * math.sin(turn))
        )


@dataclass
class Crowd:
    """Nuclei placed so far; refuses a newcomer that would lie on another."""

    cell_um: float = 24.0
    nuclei: list[Nucleus] = field(default_factory=list)
    _grid: dict[tuple[int, int], list[Nucleus]] = field(default_factory=dict)

    def add(self, nucleus: Nucleus, gap_um: float) -> bool:
        """Place a nucleus if its outline keeps ``gap_um`` from all others."""
        row, column = int(nucleus.y // self.cell_um), int(nucleus.x // self.cell_um)
        for i in (row - 1, row, row + 1):
            for j in (column - 1, column, column + 1):
                for other in self._grid.get((i, j), ()):
                    if _too_close(nucleus, other, gap_um):
                        return False
        self._grid.setdefault((row, column), []).append(nucleus)
        self.nuclei.append(nucleus)
        return True


def _too_close(one: Nucleus, other: Nucleus, gap_um: float) -> bool:
    dy, dx = other.y - one.y, other.x - one.x
    away = math.hypot(dy, dx)
    if away > one.long + other.long + gap_um:
        return False
    towards = math.atan2(dy, dx)
    return away < one.radius_towards(towards) + other.radius_towards(towards) + gap_um


@dataclass(frozen=True)
class Vessel:
    """A small vessel: an ellipse of clear lumen with a thin wall; slide um."""

    y: float
    x: float
    long: float
    short: float
    angle: float
