"""Distances to the junction and the texture of the tissue, at any place on the slide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.geometry import Section, arc_length
from histoquant.phantom.noise import Array, Texture, stream


class JunctionDistance:
    """Signed distance to a junction line and the arc length of the nearest point on it."""

    def __init__(self, section: Section) -> None:
        from scipy.spatial import KDTree

        self.points = section.junction_line
        self.arc = arc_length(self.points)
        self._tree = KDTree(self.points)

    @property
    def length_um(self) -> float:
        """Length of the whole line."""
        return float(self.arc[-1])

    def at(self, points: Array, within_um: float = np.inf) -> tuple[Array, Array]:
        """Return distance (n,), positive towards the dermis, and arc length (n,), both in um.

        Points (n, 2) (y, x) farther than ``within_um`` get infinity and arc length 0.
        """
        found, places = self._tree.query(points, distance_upper_bound=within_um)
        nearest = np.asarray(places, np.intp)
        near = np.isfinite(found)
        distance, arc = np.full(len(points), np.inf), np.zeros(len(points))
        distance[near], arc[near] = self._project(points[near], nearest[near])
        return distance, arc

    def _project(self, points: Array, nearest: NDArray[np.intp]) -> tuple[Array, Array]:
        best = np.full(len(points), np.inf)
        distance, arc = np.zeros(len(points)), np.zeros(len(points))
        for start in (nearest - 1, nearest):
            first = np.clip(start, 0, len(self.points) - 2)
            a, step = self.points[first], self.points[first + 1] - self.points[first]
            size = (step**2).sum(axis=1)
            where = np.clip(((points - a) * step).sum(axis=1) / size, 0, 1)
            away = points - a - where[:, None] * step
            length = np.hypot(away[:, 0], away[:, 1])
            # Walking along s with d to the right on the screen, the dermis is on the right.
            side = step[:, 1] * (points - a)[:, 0] - step[:, 0] * (points - a)[:, 1]
            closer = length < best
            best = np.where(closer, length, best)
            distance = np.where(closer, np.where(side >= 0, length, -length), distance)
            arc = np.where(closer, self.arc[first] + where * np.sqrt(size), arc)
        return distance, arc


@dataclass(frozen=True)
class Fields:
    """The random textures of one section, read in tissue or slide coordinates."""

    cloud: Texture
    grain: Texture
    bundle: Texture
    fibril: Texture
    lamella: Texture
    chromatin: Texture

    @classmethod
    def make(cls, seed: int) -> Fields:
        """Draw the textures of a section."""

        def texture(
            name: str, fine: tuple[float, float], step: float, octaves: int, size: int = 512
        ) -> Texture:
            return Texture.make(stream(seed, f"texture {name}"), fine, step, octaves, size)

        return cls(
            cloud=texture("cloud", (9.0, 9.0), 1.0, 4, 1024),
            grain=texture("grain", (1.2, 1.2), 0.5, 3),
            bundle=texture("bundle", (7.0, 34.0), 1.0, 2, 1024),
            fibril=texture("fibril", (1.1, 11.0), 0.5, 2),
            lamella=texture("lamella", (1.3, 13.0), 0.5, 2),
            chromatin=texture("chromatin", (0.8, 0.8), 0.25, 2),
        )

    def weave(self, s_um: Array, d_um: Array) -> tuple[Array, Array, Array]:
        """Return coordinates across and along the collagen bundles, and distance of a patch's edge.

        Bundles run in three directions, patch by patch; level lines of the first value are
        bundles, and the last is 0 where one patch meets the next.
        """
        slow = 11.0 * self.cloud.at(d_um / 2.2 + 311.0, s_um / 2.6).astype(float)
        patch = self.cloud.at(d_um / 1.1, s_um / 1.9 + 500.0).astype(float)
        low, high = -0.55, 0.6
        turn = np.where(patch < low, 0.62, np.where(patch > high, -0.52, 0.0))
        cos, sin = np.cos(turn), np.sin(turn)
        across = cos * d_um - sin * s_um + slow + 137.0 * np.sign(turn)
        along = cos * s_um + sin * d_um
        return across, along, np.minimum(np.abs(patch - low), np.abs(patch - high))

    def collagen_slope(self, s_um: Array, d_um: Array) -> Array:
        """Return the slope dd/ds of the bundles at tissue coordinates."""
        step = 0.5
        along = self.weave(s_um + step, d_um)[0] - self.weave(s_um - step, d_um)[0]
        down = self.weave(s_um, d_um + step)[0] - self.weave(s_um, d_um - step)[0]
        slope: Array = -along / np.where(np.abs(down) < 0.5 * step, 0.5 * step, down)
        return np.clip(slope, -1.2, 1.2)
