"""Pixels: blur, masks, drawn lines and distances."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from shapely.geometry.base import BaseGeometry

from lumen.lines import polygons_of
from lumen.skin import MPP, Array, Mask, Plane

SHIFT = 4  # bits behind the point of the coordinates that OpenCV draws at
COARSE_UM = 1.0  # a pixel where there is room for nuclei, and where distances are looked up

Shape = tuple[int, int]
Bytes = NDArray[np.uint8]


def coarse_shape(shape: Shape) -> Shape:
    """Return the size of a coarse picture over one of `shape`."""
    height, width = (int(np.ceil(side * MPP)) for side in shape)
    return height, width


def subpixels(points_um: ArrayLike, mpp: float = MPP) -> NDArray[np.int32]:
    """Points x, y in the fixed-point pixels that OpenCV draws at."""
    at = (np.asarray(points_um) / mpp - 0.5) * 2**SHIFT
    return np.asarray(np.round(at).astype(np.int32))


def blur(plane: Plane, sigma_px: float) -> Plane:
    """Gaussian blur; a wide one of a smaller copy, for that is faster."""
    if sigma_px <= 12:
        return _gaussian(plane, sigma_px)
    step = int(sigma_px // 5)
    height, width = plane.shape
    size = max(2, width // step), max(2, height // step)
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return enlarged(_gaussian(small, sigma_px / step), (height, width))


def _gaussian(plane: NDArray[Any], sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))


def enlarged(plane: NDArray[Any], shape: Shape, how: int = cv2.INTER_CUBIC) -> Plane:
    """Return a coarse plane at the pixels of `shape`."""
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=how))


def _fill(image: Bytes, area: BaseGeometry, value: int, mpp: float, how: int) -> None:
    for polygon in polygons_of(area):
        cv2.fillPoly(image, [subpixels(polygon.exterior.coords, mpp)], [value], how, SHIFT)
        for hole in polygon.interiors:
            cv2.fillPoly(image, [subpixels(hole.coords, mpp)], [0], how, SHIFT)


def soft_mask(area: BaseGeometry, shape: Shape, soft_px: float = 1.0) -> Plane:
    """Return 1 inside an area and 0 outside, with a soft edge."""
    filled = np.zeros(shape, np.uint8)
    _fill(filled, area, 255, MPP, cv2.LINE_AA)
    return blur(unit(filled), soft_px)


def coarse_mask(area: BaseGeometry, shape: Shape) -> Mask:
    """Coarse pixels inside an area; `shape` is that of the coarse picture."""
    filled = np.zeros(shape, np.uint8)
    _fill(filled, area, 1, COARSE_UM, cv2.LINE_8)
    return np.asarray(filled > 0)


def distance_to(line: Array, shape: Shape) -> Plane:
    """Distance of every coarse pixel to a line, um."""
    drawn = np.ones(shape, np.uint8)
    cv2.polylines(drawn, [subpixels(line, COARSE_UM)], False, [0], 1, cv2.LINE_8, SHIFT)
    return np.asarray(cv2.distanceTransform(drawn, cv2.DIST_L2, 5))


def draw_line(image: Bytes, line: Array, value: int, width_px: int) -> None:
    """Draw a line into an image of bytes."""
    cv2.polylines(image, [subpixels(line)], False, [value], width_px, cv2.LINE_AA, SHIFT)


def unit(image: Bytes) -> Plane:
    """Return an image of bytes as light between 0 and 1."""
    return np.asarray(image.astype(np.float32) / 255)
