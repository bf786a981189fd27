"""A picture's pixels: which compartment each is in, and how far from the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from woven.plan import parts_of, place_sections
from woven.skin import (
    DERMIS,
    EPIDERMIS,
    GLAND,
    SEBUM,
    UINT8_PER_OD,
    WALL,
    Array,
    Mask,
    Plan,
    Plane,
    Skin,
)


@dataclass(frozen=True)
class Grid:
    """A picture's pixels, and how lengths and positions in um reach them."""

    mpp: float
    shape: tuple[int, int]

    def fixed(self, points: Array) -> NDArray[np.int32]:
        """Positions as OpenCV draws them: 1/16 pixel, whole numbers at pixel centres."""
        return np.round((points / self.mpp - 0.5) * 16).astype(np.int32)

    def paint(self, image: NDArray[np.uint8], geometry: BaseGeometry, value: int) -> None:
        """Fill polygons, holes left out."""
        for part in parts_of(geometry, Polygon):
            rings = [self.fixed(np.asarray(r.coords)) for r in (part.exterior, *part.interiors)]
            cv2.fillPoly(image, rings, [value], shift=4)

    def mask(self, geometry: BaseGeometry) -> Mask:
        """Pixels whose centre lies inside."""
        image = np.zeros(self.shape, np.uint8)
        self.paint(image, geometry, 1)
        return image > 0

    def strokes(
        self, image: NDArray[np.uint8], lines: Sequence[Array], od: float, um: float
    ) -> None:
        """Draw open lines of width `um` and the given OD."""
        fixed = [self.fixed(line) for line in lines]
        value, width = round(np.clip(od, 0, 0.63) * UINT8_PER_OD), max(1, round(um / self.mpp))
        cv2.polylines(image, fixed, False, [value], width, cv2.LINE_AA, 4)

    def pixels(self, points: Array) -> NDArray[np.intp]:
        """(n, 2) row and column, clipped to the picture."""
        index = np.floor(points[:, ::-1] / self.mpp).astype(np.intp)
        return np.clip(index, 0, np.array(self.shape) - 1)

    def at(self, image: NDArray[Any], points: Array) -> NDArray[Any]:
        """Values of `image` at points."""
        rows, columns = self.pixels(points).T
        return np.asarray(image[rows, columns])

    def centres(self, mask: Mask) -> Array:
        """(n, 2) x, y of the pixels in `mask`, in um."""
        return np.asarray((np.argwhere(mask)[:, ::-1] + 0.5) * self.mpp)

    def noise(self, rng: np.random.Generator, scale: float) -> Plane:
        """Smooth noise of unit variance with a grain of `scale` um."""
        sigma = scale / self.mpp
        step = max(1.0, sigma / 2)
        small = (int(self.shape[0] / step) + 8, int(self.shape[1] / step) + 8)
        raw = rng.standard_normal(small, np.float32)
        soft = np.asarray(cv2.GaussianBlur(raw, (0, 0), sigma / step), np.float32)
        if step > 1:
            large = (self.shape[1] + 8, self.shape[0] + 8)
            soft = np.asarray(cv2.resize(soft, large, interpolation=cv2.INTER_CUBIC), np.float32)
        return np.asarray(soft[: self.shape[0], : self.shape[1]] / soft.std(), np.float32)

    def distance(self, mask: Mask) -> Plane:
        """Distance to the nearest pixel in `mask`, um."""
        far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        return np.asarray(far * self.mpp, np.float32)


@dataclass(frozen=True)
class Scene:
    """What all painters share."""

    skin: Skin
    grid: Grid
    plans: list[Plan]
    kind: NDArray[np.uint8]
    to_dermis: Plane
    to_keratin: Plane
    to_epidermis: Plane
    h: Plane  # hematoxylin, DAB, melanin and dirt: OD of each
    dab: Plane
    melanin: Plane
    dirt: Plane


def make_scene(skin: Skin, rng: np.random.Generator) -> Scene:
    plans, shape = place_sections(skin, rng)
    grid, kind = Grid(skin.mpp, shape), np.zeros(shape, np.uint8)
    for plan in plans:
        for name, code in (("tissue", DERMIS), ("viable", EPIDERMIS), ("wall", WALL),
                           ("gland", GLAND), ("sebum", SEBUM)):  # fmt: skip
            grid.paint(kind, getattr(plan, name), code)
    keratin = grid.mask(unary_union([plan.keratin for plan in plans]))
    planes = [np.zeros(shape, np.float32) for _ in range(4)]
    fields = (grid.distance(where) for where in (kind == DERMIS, keratin, kind == EPIDERMIS))
    return Scene(skin, grid, plans, kind, *fields, *planes)
