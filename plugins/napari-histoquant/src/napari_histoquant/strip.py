"""The straightened junction around a place: the slide sampled along the junction's normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from histoquant.junction import Junction
from histoquant.polyline import sample
from histoquant.slides import Slide

Floats = npt.NDArray[np.float64]

HALF_ARC_UM, EPIDERMAL_UM, DERMAL_UM = 300.0, 45.0, 35.0
_STEP_UM = 0.5


@dataclass(frozen=True, eq=False)
class Strip:
    """A piece of junction laid straight: epidermis above, dermis below.

    Attributes
    ----------
    pixels
        uint8 (depth, arc, 3), white where the slide ends.
    arc_um
        (arc,): arc length of every column on its stretch.
    depth_um
        (depth,): positive towards the dermis; the junction is at 0.
    excluded
        (arc,): the junction is not measured there.
    centre
        Column of the place that was asked for.
    stretch
        Number of the stretch.
    """

    pixels: npt.NDArray[np.uint8]
    arc_um: Floats
    depth_um: Floats
    excluded: npt.NDArray[np.bool_]
    centre: int
    stretch: int


class Straightener:
    """Lays a slide's junction straight, piece by piece.

    Parameters
    ----------
    slide
        An open slide of colours.
    junction
        The junction as it stands.
    """

    def __init__(self, slide: Slide, junction: Junction) -> None:
        self._slide, self._junction = slide, junction
        self._mpp = max(_STEP_UM, slide.mpp)
        lines = [stretch.points_um for stretch in junction.stretches]
        self._of = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
        self._vertex = np.concatenate(
            [np.arange(len(line)) for line in lines] or [np.empty(0, int)]
        )
        self._tree = cKDTree(np.concatenate(lines)) if lines else None

    @property
    def middle(self) -> tuple[float, float]:
        """The place half-way along the longest stretch (y, x, um); there must be one."""
        points = max(self._junction.stretches, key=lambda stretch: stretch.length_um).points_um
        y, x = points[len(points) // 2]
        return float(y), float(x)

    def locate(self, point_um: tuple[float, float]) -> tuple[int, float] | None:
        """Stretch and arc length of the junction nearest to a point; None without a junction."""
        if self._tree is None:
            return None
        _, nearest = self._tree.query(point_um)
        number = int(self._of[nearest])
        return number, float(self._junction.stretches[number].arc_um[self._vertex[nearest]])

    def around(self, point_um: tuple[float, float]) -> Strip | None:
        """The strip around the junction's place nearest to a point; None without a junction."""
        place = self.locate(point_um)
        if place is None:
            return None
        number, at = place
        stretch = self._junction.stretches[number]
        start = max(0.0, min(at - HALF_ARC_UM, stretch.length_um - 2 * HALF_ARC_UM))
        stop = min(start + 2 * HALF_ARC_UM, stretch.length_um)
        arc = np.arange(start, stop, self._mpp)
        depth = np.arange(-EPIDERMAL_UM, DERMAL_UM + self._mpp / 2, self._mpp)
        points, normals = (
            np.column_stack([np.interp(arc, stretch.arc_um, values[:, k]) for k in (0, 1)])
            for values in (stretch.points_um, stretch.normals)
        )
        normals /= np.maximum(np.hypot(*normals.T), 1e-9)[:, None]
        where = points[None] + depth[:, None, None] * normals[None]
        vertex = np.clip(np.searchsorted(stretch.arc_um, arc), 0, len(stretch.excluded) - 1)
        centre = min(int(np.searchsorted(arc, at)), len(arc) - 1)
        return Strip(self._read(where), arc, depth, stretch.excluded[vertex], centre, number)

    def point_at(self, strip: Strip, column: int) -> tuple[float, float]:
        """The place on the slide (y, x, um) of a column of a strip."""
        stretch = self._junction.stretches[strip.stretch]
        arc = strip.arc_um[np.clip(column, 0, len(strip.arc_um) - 1)]
        y, x = (float(np.interp(arc, stretch.arc_um, stretch.points_um[:, k])) for k in (0, 1))
        return y, x

    def _read(self, where: Floats) -> npt.NDArray[np.uint8]:
        low = np.floor(where.reshape(-1, 2).min(axis=0) / self._mpp).astype(int) - 2
        high = np.ceil(where.reshape(-1, 2).max(axis=0) / self._mpp).astype(int) + 2
        pixels = self._slide.read(self._mpp, int(low[0]), int(low[1]), *map(int, high - low))
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
        planes = np.moveaxis(pixels, 2, 0).astype(np.float32)
        at = where - low * self._mpp
        flat = np.stack([sample(plane, at, self._mpp) for plane in planes], axis=-1)
        if pixels.dtype != np.uint8:
            flat = 255 * flat / max(float(flat.max()), 1.0)
        return np.clip(np.round(flat), 0, 255).astype(np.uint8)
