"""How a section lies in the picture: turned any way, often mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import shapely
from numpy.typing import ArrayLike
from shapely import affinity
from shapely.geometry import MultiPolygon, Polygon

from lumen.chance import Lots
from lumen.plan import Plan
from lumen.raster import Shape
from lumen.skin import MPP, Array, Plane


@dataclass(frozen=True)
class Pose:
    """From x, y of a plan to x, y of the picture, um, and the picture's pixels (y, x)."""

    matrix: Array
    shift_um: Array
    shape: Shape
    angle: float
    mirrored: bool

    def points(self, points_um: ArrayLike) -> Array:
        """Return x, y (n, 2) in the picture."""
        return np.asarray(np.asarray(points_um) @ self.matrix.T + self.shift_um)

    def area(self, area: MultiPolygon) -> MultiPolygon:
        """Return an area in the picture."""
        turned = affinity.affine_transform(area, [*self.matrix.ravel(), *self.shift_um])
        return shapely.normalize(turned) if self.mirrored else turned

    def plane(self, plane: Plane) -> Plane:
        """Return the light of the picture; there is none beyond the plan's."""
        # Pixel centres lie half a pixel from the corner, before as after.
        shift_px = self.matrix @ [0.5, 0.5] + self.shift_um / MPP - 0.5
        turned = cv2.warpAffine(
            plane,
            np.c_[self.matrix, shift_px],
            self.shape[::-1],
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_CONSTANT,
        )
        return np.asarray(turned.clip(0))


def some_pose(plan: Plan, lots: Lots) -> Pose:
    """Turn a section, and fit the picture around it."""
    rng = lots.rng
    angle, mirrored = rng.uniform(0, 2 * np.pi), lots.happens(0.5)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    if mirrored:
        lots.features.add("mirrored")
    hull = _hull(plan) @ matrix.T
    margins = rng.uniform(30, 90, 4)
    shift = -hull.min(0) + margins[:2]
    size_um = np.ptp(hull, axis=0) + margins[:2] + margins[2:]
    width, height = (int(np.ceil(side / MPP)) for side in size_um)
    return Pose(matrix, shift, (height, width), angle, mirrored)


def _hull(plan: Plan) -> Array:
    """Corners around a section and its corneum."""
    left, _, right, _ = plan.outline.bounds
    x = plan.ridges.surface[:, 0]
    surface = plan.ridges.surface[(x > left) & (x < right)]
    band = Polygon(np.r_[surface - [0, 45], surface[::-1] + [0, 30]]).buffer(0)
    return np.asarray(plan.outline.union(band).convex_hull.exterior.coords)
