"""Lines and areas: points (n, 2) of x, y in um, and what geometry leaves of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely.geometry import LineString, MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from woven.plan import parts_of
from woven.skin import Array


def even(line: Array, step_um: float) -> Array:
    """Points about every `step_um` along `line`, its two ends among them."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.linspace(0.0, arc[-1], max(int(arc[-1] / step_um), 1) + 1)
    return np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1)


def normals(line: Array) -> Array:
    """Unit normals (n, 2) of an even line."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    return np.stack([-along[:, 1], along[:, 0]], 1)


def wave(rng: np.random.Generator, size: int, scale: float) -> Array:
    """Smooth noise of mean 0 and variance 1; `scale` in samples."""
    soft = gaussian_filter1d(rng.normal(size=size + 2), scale, mode="reflect")[:size]
    return np.asarray((soft - soft.mean()) / max(soft.std(), 1e-9))


def blob(
    rng: np.random.Generator, centre: Array, axes_um: tuple[float, float], turn: float
) -> Array:
    """Outline of an uneven ellipse of half axes `axes_um`."""
    at = np.linspace(0, 2 * np.pi, 97)
    bumps = (rng.normal(0, 0.05) * np.cos(k * at + rng.uniform(0, 6.3)) for k in (2, 3, 4))
    radius = 1 + sum(bumps)
    cos, sin = np.cos(turn), np.sin(turn)
    flat = np.stack([axes_um[0] * radius * np.cos(at), axes_um[1] * radius * np.sin(at)], 1)
    return np.asarray(centre + flat @ np.array([[cos, sin], [-sin, cos]]))


def lines_of(geometries: Iterable[BaseGeometry]) -> list[Array]:
    """Lines longer than 10 um."""
    lines = [line for geometry in geometries for line in parts_of(geometry, LineString)]
    return [np.asarray(line.coords) for line in lines if line.length > 10]


def areas_of(geometries: Iterable[BaseGeometry]) -> MultiPolygon:
    """Areas of more than 20 um2, their holes filled."""
    areas = [area for geometry in geometries for area in parts_of(geometry, Polygon)]
    return MultiPolygon([Polygon(area.exterior) for area in areas if area.area > 20])
