"""Areas of the dermal bands when regions leave out parts of a slide whose line stays as it was.

A region changes the bands only inside itself and along the junction that it takes: everything
else is as the program measured it. So only what may have changed is looked up, once, and the
program's areas follow; sampled on the same pixels, they are those of a measurement of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from histoquant.anatomy import DERMIS, EPIDERMIS
from histoquant.p16 import AREA_STRIDE
from histoquant.review.geometry import Geometry

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]

_CELLS = (64, 16, 4)  # samples across: how coarsely to rule out, again and again


class Bands:
    """Samples of dermis, and the vertex and band of each that a region ever asked for.

    Parameters
    ----------
    base
        The slide as it was measured.
    papillary_depth_um
        Where the papillary band ends.
    """

    def __init__(self, base: Geometry, papillary_depth_um: float) -> None:
        self._base, self._depth_um = base, papillary_depth_um
        found = base.compartments
        self._dermis: Mask = found.labels[::AREA_STRIDE, ::AREA_STRIDE] == DERMIS
        self._step_um = AREA_STRIDE * found.mpp
        self._course = np.concatenate([s.course_um for s in base.junction.stretches])
        self._excluded = _excluded(base)
        self._vertex = np.full(self._dermis.shape, -1, np.int32)
        self._papillary = np.zeros(self._dermis.shape, np.bool_)
        self._has_band = np.zeros(self._dermis.shape, np.bool_)

    def areas(self, known: Mapping[str, float], after: Geometry) -> dict[str, float]:
        """Areas (mm2) of epidermis and bands after regions.

        Parameters
        ----------
        known
            The same areas before them.
        after
            `base` with regions.
        """
        found, lost = self._base.compartments, after.left_out
        left_out = np.zeros(found.labels.shape, np.bool_) if lost is None else lost
        damaged = np.zeros_like(left_out) if found.artefacts is None else found.artefacts > 0
        out = np.count_nonzero(found.labels[left_out | damaged] == EPIDERMIS)
        changes = self._changes(_excluded(after), _sampled(left_out), _sampled(damaged))
        cell = self._step_um**2 / 1e6
        return {
            "epidermis_area_mm2": found.area_mm2(EPIDERMIS) - float(out) * found.mpp**2 / 1e6,
            "papillary_area_mm2": (round(known["papillary_area_mm2"] / cell) + changes[0]) * cell,
            "reticular_area_mm2": (round(known["reticular_area_mm2"] / cell) + changes[1]) * cell,
        }

    def _changes(self, excluded: Mask, left_out: Mask, damaged: Mask) -> tuple[int, int]:
        """By how many samples the papillary and the reticular band grow."""
        changed = excluded != self._excluded
        if changed.any():
            self._look_up_vertices(self._may_be_beside(changed))
        beside = (self._vertex >= 0) & changed[self._vertex]
        asked = self._dermis & (beside | left_out)
        self._look_up_vertices(asked)
        self._look_up_bands(asked)
        vertex, papillary = self._vertex[asked], self._papillary[asked]
        before = ~damaged[asked]
        now = before & ~left_out[asked]
        was, stays = papillary & before & ~self._excluded[vertex], papillary & ~excluded[vertex]
        return (
            int((stays & now).sum()) - int(was.sum()),
            int((~papillary & now).sum()) - int((~papillary & before).sum()),
        )

    def _may_be_beside(self, changed: Mask) -> Mask:
        """Samples that may lie beside changed junction: cells that surely do not are ruled out."""
        shape = self._dermis.shape
        ours, others = cKDTree(self._course[changed]), cKDTree(self._course[~changed])
        alive = np.ones([-(-n // _CELLS[0]) for n in shape], np.bool_)
        for size, finer in zip(_CELLS, (*_CELLS[1:], 1), strict=True):
            centres = (np.argwhere(alive) + 0.5).astype(np.float64) * (size * self._step_um)
            reach = size * self._step_um * float(np.sqrt(0.5))
            alive[alive] = _distance(ours, centres) <= _distance(others, centres) + 2.001 * reach
            alive = alive.repeat(size // finer, axis=0).repeat(size // finer, axis=1)
        return np.asarray(self._dermis & alive[: shape[0], : shape[1]], np.bool_)

    def _look_up_vertices(self, asked: Mask) -> None:
        new = asked & (self._vertex < 0)
        if new.any():
            self._vertex[new] = self._base.junction.beside(self._points(new))

    def _look_up_bands(self, asked: Mask) -> None:
        new = asked & ~self._has_band
        if new.any():
            depth = self._base.junction.signed_distance(self._points(new))
            self._papillary[new] = depth <= self._depth_um
            self._has_band |= new

    def _points(self, chosen: Mask) -> Points:
        centres = np.argwhere(chosen) * AREA_STRIDE + 0.5
        return np.asarray(centres * self._base.compartments.mpp, np.float64)


def _excluded(geometry: Geometry) -> Mask:
    return np.concatenate([s.excluded for s in geometry.junction.stretches])


def _sampled(pixels: Mask) -> Mask:
    return pixels[::AREA_STRIDE, ::AREA_STRIDE]


def _distance(tree: cKDTree, points: Points) -> Points:
    return np.asarray(tree.query(points)[0], np.float64) if tree.n else np.full(len(points), np.inf)
