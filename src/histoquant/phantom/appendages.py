"""Hair follicles and sweat glands: epithelium in the dermis, in tissue coordinates (um)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.geometry import Section
from histoquant.phantom.incidents import Incidents
from histoquant.phantom.noise import Array, Mask, stream

if TYPE_CHECKING:
    from scipy.spatial import KDTree

REACH_UM = 30.0
"""Distances from an outline are known this far."""

_KEEP_UM = 70.0
"""No appendage lies nearer to a punch edge."""


@dataclass(frozen=True)
class Appendage:
    """A chain of discs (s, d, radius) blended into a tube, with a canal along its middle.

    Attributes
    ----------
    kind
        ``follicle`` or ``gland``.
    discs
        (n, 3) s, d and radius, close enough together to make one outline.
    canal
        Share of the radius that the canal (keratin of a follicle, lumen of a gland) takes.
    opens
        Whether the canal reaches the skin surface.
    """

    kind: str
    discs: Array
    canal: float
    opens: bool = False

    @cached_property
    def _middle(self) -> KDTree:
        from scipy.spatial import KDTree

        return KDTree(self.discs[:, :2])

    def depth(self, s: Array, d: Array) -> tuple[Array, Array]:
        """Distance (um) outside the outline, negative within; and outside the canal's wall.

        Of places (n,) farther than `REACH_UM` from the outline both are infinite.
        """
        most = float(self.discs[:, 2].max()) + REACH_UM
        places = np.column_stack([s, d])
        found, nearest = self._middle.query(places, distance_upper_bound=most)
        radius = np.append(self.discs[:, 2], 0.0)[np.asarray(nearest)]
        away = np.asarray(found, float)
        return away - radius, away - self.canal * radius

    def near(self, s: Array, d: Array) -> Mask:
        """Which places lie in the box around what `depth` is finite at."""
        low, high = self.discs[:, :2].min(axis=0), self.discs[:, :2].max(axis=0)
        reach = float(self.discs[:, 2].max()) + REACH_UM
        inside: Mask = (s > low[0] - reach) & (s < high[0] + reach)
        inside &= (d > low[1] - reach) & (d < high[1] + reach)
        return inside

    def outline(self) -> list[Array]:
        """Rings (n, 2) of (s, d) around the parts of the appendage."""
        import shapely

        parts = shapely.union_all(
            [shapely.Point(s, d).buffer(radius, 16) for s, d, radius in self.discs]
        )
        polygons = getattr(parts, "geoms", [parts])
        return [np.asarray(polygon.exterior.coords) for polygon in polygons]


def draw_appendages(section: Section, incidents: Incidents, seed: int) -> tuple[Appendage, ...]:
    """Draw the follicles and glands of a section, none on another."""
    rng = stream(seed, "appendages")
    length_mm = 2 * section.half_length_um / 1e3
    drawn: list[Appendage] = []
    for kind, per_mm in (("follicle", incidents.follicles_per_mm),
                         ("gland", incidents.glands_per_mm)):  # fmt: skip
        for _ in range(rng.poisson(per_mm * length_mm)):
            opens = kind == "follicle" and bool(rng.uniform() < incidents.open_share)
            make = _follicle if kind == "follicle" else _gland
            new = make(section, rng, opens)
            if new is not None and not any(_touch(new, old) for old in drawn):
                drawn.append(new)
    return tuple(drawn)


def _touch(one: Appendage, other: Appendage) -> bool:
    away = one.discs[:, None, :2] - other.discs[None, :, :2]
    free = np.hypot(away[..., 0], away[..., 1]) - one.discs[:, None, 2] - other.discs[None, :, 2]
    return bool(free.min() < 25)


def _follicle(section: Section, rng: np.random.Generator, opens: bool) -> Appendage | None:
    """A slanting tube that narrows and ends in a bulb; one that does not open is cut off above."""
    reach = section.half_length_um - _KEEP_UM
    foot, slant = rng.uniform(-reach, reach), rng.uniform(-0.45, 0.45)
    deepest = float(section.lower(np.array([foot]))[0]) - 45
    top = float(section.top(np.array([foot]))[0])
    dej = float(section.junction(np.array([foot]))[0])
    first = top + 8.0 if opens else dej + rng.uniform(50, 90)
    last = min(first + rng.uniform(140, 320), deepest)
    if last - first < 70:
        return None
    wide, narrow, bulb = rng.uniform(30, 42), rng.uniform(20, 28), rng.uniform(26, 36)
    t = np.linspace(0, 1, int((last - first) / 3) + 1)
    radius = (
        wide
        + (narrow - wide) * np.minimum(t / 0.6, 1)
        + (bulb - narrow) * np.maximum(0, (t - 0.7) / 0.3)
    )
    down = first + t * (last - first)
    along = foot + slant * (down - first) + 6 * np.sin(down / 60)
    if abs(along).max() > reach:
        return None
    return Appendage("follicle", np.column_stack([along, down, radius]), 0.36, opens)


def _gland(section: Section, rng: np.random.Generator, _: bool) -> Appendage | None:
    """A coil of round tubules."""
    reach = section.half_length_um - _KEEP_UM
    at = rng.uniform(-reach, reach)
    low = float(section.lower(np.array([at]))[0]) - 45
    high = float(section.junction(np.array([at]))[0]) + 85
    if high > low:
        return None
    centre = np.array([at, rng.uniform(high, low)])
    discs: list[Array] = []
    for _number in range(rng.integers(2, 6)):
        radius = rng.uniform(16, 24)
        place = centre + rng.uniform(-45, 45, 2) * np.array([1.3, 0.7])
        if all(np.hypot(*(place - d[:2])) > radius + d[2] + 6 for d in discs) and (
            high - 25 < place[1] < low and abs(place[0]) < reach
        ):
            discs.append(np.array([*place, radius]))
    return Appendage("gland", np.array(discs), 0.32) if discs else None


def within(
    appendages: tuple[Appendage, ...], s: Array, d: Array
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Distance outside the nearest appendage and outside its canal, and its number (-1: none)."""
    best, canal = np.full(s.shape, np.inf), np.full(s.shape, np.inf)
    number = np.full(s.shape, -1, np.int64)
    for index, appendage in enumerate(appendages):
        box = appendage.near(s, d)
        if not box.any():
            continue
        own, inner = appendage.depth(s[box], d[box])
        closer = own < best[box]
        number[box] = np.where(closer, index, number[box])
        best[box] = np.where(closer, own, best[box])
        canal[box] = np.where(closer, inner, canal[box])
    return best, canal, number
