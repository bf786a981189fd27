"""Lines and areas: points (n, 2) of x, y in um, and what geometry leaves of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter1d
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from lumen.skin import Array

STEP_UM = 0.5  # between two points of an even line


def even(line: ArrayLike) -> Array:
    """Points every `STEP_UM` or nearly so along a line, its two ends among them."""
    points = np.asarray(line, float)
    arc = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    moves = np.r_[True, np.diff(arc) > 1e-9]
    at = np.linspace(0, arc[-1], max(3, round(arc[-1] / STEP_UM) + 1))
    x, y = (np.interp(at, arc[moves], points[moves, axis]) for axis in (0, 1))
    return np.stack([x, y], 1)


def tangents(line: Array, soft: float) -> Array:
    """Unit tangents (n, 2) of an even line smoothed by `soft` samples."""
    along = np.gradient(gaussian_filter1d(line, soft, axis=0, mode="nearest"), axis=0)
    along /= np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9
    return np.asarray(along)


def normals(line: Array, soft: float) -> Array:
    """Unit normals (n, 2); of a line that runs to the right they point up, out of the skin."""
    along = tangents(line, soft)
    return np.stack([along[:, 1], -along[:, 0]], 1)


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    """All polygons in a geometry."""
    if geometry.is_empty:
        return []
    if isinstance(geometry, Polygon):
        return [geometry]
    return [part for each in getattr(geometry, "geoms", ()) for part in polygons_of(each)]


def lines_of(geometry: BaseGeometry) -> list[LineString]:
    """All lines in a geometry."""
    if geometry.is_empty:
        return []
    if geometry.geom_type == "LineString":
        return [geometry]
    return [part for each in getattr(geometry, "geoms", ()) for part in lines_of(each)]


def longest_line(geometry: BaseGeometry) -> LineString:
    """The longest line in a geometry."""
    return max(lines_of(geometry), key=lambda line: line.length)


def largest_polygon(geometry: BaseGeometry) -> Polygon:
    """The largest polygon in a geometry."""
    return max(polygons_of(geometry), key=lambda polygon: polygon.area)
