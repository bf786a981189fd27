"""The junction laid straight: stains sampled on its normals, and unmixed again for other vectors.

Only the band along the junction is read, a chunk of arc length at a time: cost grows with the
junction's length, not with the slide.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from histoquant.junction import Junction, Stretch
from histoquant.planes import PlaneModel
from histoquant.polyline import sample
from histoquant.settings import Collagen7Settings
from histoquant.stains import StainModel

if TYPE_CHECKING:
    from histoquant.slides import Slide

Floats = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
_Chunk = tuple[Floats, Floats, Floats]
_Laid = tuple[FloatArray, FloatArray, FloatArray, Mask]

_CHUNK_UM = 100.0  # arc length read at once: bounds memory, and fixes the order of arithmetic
_FLANK_TOLERANCE_UM = 2.0


@dataclass(frozen=True, eq=False)
class Straightened:
    """The junction laid straight.

    Attributes
    ----------
    od
        float32 (arc, depth), DAB OD; NaN where the normal has run into another part of the
        junction or off the slide.
    hematoxylin
        float32 (arc, depth), OD.
    saturated
        bool (arc, depth): any channel at or above the OD cap.
    stretch, arc_um
        (arc,): number of the stretch and arc length on it.
    depth_um
        (depth,), positive towards the dermis.
    residual
        float32 (arc, depth), OD; None where there is none.
    channel_od
        OD of a channel per OD of the marker, the channels weighed as they make up the marker's.
        0 in fluorescence, where the marker is light itself.
    """

    od: FloatArray
    hematoxylin: FloatArray
    saturated: Mask
    stretch: npt.NDArray[np.int64]
    arc_um: Floats
    depth_um: Floats
    residual: FloatArray | None = None
    channel_od: float = 0.0

    @property
    def step_um(self) -> float:
        """Distance of neighbouring samples, along the arc as over the depth."""
        return float(self.depth_um[1] - self.depth_um[0])

    def rows_of(self, row: Any) -> slice:
        """Which rows belong to a bin, a row of the bins' table."""
        first, last = np.searchsorted(self.stretch, [row.stretch, row.stretch + 1])
        arc = self.arc_um[first:last]
        begin, stop = first + np.searchsorted(arc, [row.arc_start_um, row.arc_end_um])
        return slice(int(begin), int(stop))


def straighten(
    slide: Slide,
    model: PlaneModel,
    junction: Junction,
    settings: Collagen7Settings,
    max_od: float,
    workers: int = 1,
) -> Straightened:
    """Sample DAB along the normals of the junction, only where the band lies.

    Parameters
    ----------
    max_od
        OD per channel at which a pixel counts as saturated and is capped.
    workers
        Threads. The answer does not depend on it.

    Returns
    -------
    Straightened, all stretches one after the other, steps of `settings.depth_step_um` both ways.
    """
    step = settings.depth_step_um
    mpp = max(step, slide.mpp)
    extent = np.array(slide.shape[:2]) * slide.mpp
    depth = np.arange(-settings.epidermal_um, settings.dermal_um + step / 2, step)
    chunks = [chunk for stretch in junction.stretches for chunk in _chunks(stretch, step)]

    def lay(chunk: _Chunk) -> _Laid:
        _, points, normals = chunk
        where = points[:, None, :] + depth[None, :, None] * normals[:, None, :]
        hematoxylin, dab, residual, saturated = _sample(slide, model, where, mpp, max_od)
        # A normal that nears another flank has left its own part of the junction.
        real = junction.signed_distance(where.reshape(-1, 2)).reshape(dab.shape)
        dab[np.abs(real) < np.abs(depth) - _FLANK_TOLERANCE_UM] = np.nan
        dab[((where < 0) | (where > extent)).any(axis=-1)] = np.nan
        return hematoxylin, dab, residual, saturated

    nothing = np.empty((0, len(depth)), np.float32)
    with ThreadPoolExecutor(workers) as pool:
        laid = [(nothing, nothing, nothing, nothing > 0), *pool.map(lay, chunks)]
    counts = [len(np.arange(0, s.length_um, step)) for s in junction.stretches]
    hematoxylin, dab, residual, saturated = (
        np.concatenate(kind) for kind in zip(*laid, strict=True)
    )
    return Straightened(
        dab,
        hematoxylin,
        saturated,
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.empty(0), *(arc for arc, *_ in chunks)]),
        depth,
        residual,
        channel_od(model) if isinstance(model, StainModel) else 0.0,
    )


def unmixed_again(found: Straightened, old: StainModel, new: StainModel) -> Straightened:
    """The straightened junction as it would have been sampled with other stain vectors.

    Unmixing is linear, and so is sampling: no pixel has to be read again.
    """
    if found.residual is None:
        raise ValueError("without the residual stain nothing can be unmixed again")
    turn = np.asarray(old.vectors) @ np.linalg.inv(np.asarray(new.vectors))
    planes = found.hematoxylin, found.od, found.residual
    stains = [
        sum((np.float32(turn[k, stain]) * plane for k, plane in enumerate(planes)), np.float32(0))
        for stain in range(3)
    ]
    hematoxylin, od, residual = (np.asarray(plane, np.float32) for plane in stains)
    # DAB is missing where the others are not: of those, only what was sampled is known.
    known = np.isfinite(found.od)
    hematoxylin, residual = (
        np.where(known, plane, before)
        for plane, before in ((hematoxylin, found.hematoxylin), (residual, found.residual))
    )
    return replace(
        found, od=od, hematoxylin=hematoxylin, residual=residual, channel_od=channel_od(new)
    )


def channel_od(model: StainModel) -> float:
    """OD of a channel per OD of the second stain, the channels weighed as unmixing weighs them."""
    vectors = np.asarray(model.vectors, np.float64)
    weights = np.linalg.inv(vectors)[:, 1]
    return float((weights * vectors[1] ** 2).sum())


def _chunks(stretch: Stretch, step: float) -> Iterator[_Chunk]:
    """Arc length, points (n, 2) and normals (n, 2), `step` apart, a chunk of arc at a time."""
    arc = np.arange(0, stretch.length_um, step)
    for start in range(0, len(arc), round(_CHUNK_UM / step)):
        at = arc[start : start + round(_CHUNK_UM / step)]
        points, normals = (
            np.column_stack([np.interp(at, stretch.arc_um, values[:, k]) for k in (0, 1)])
            for values in (stretch.points_um, stretch.normals)
        )
        yield at, points, normals / np.hypot(*normals.T)[:, None]


def _sample(slide: Slide, model: PlaneModel, where: Floats, mpp: float, max_od: float) -> _Laid:
    """Hematoxylin, DAB, residual and saturation at points (arc, depth, 2) in um."""
    low = np.floor(where.reshape(-1, 2).min(axis=0) / mpp).astype(int) - 2
    high = np.ceil(where.reshape(-1, 2).max(axis=0) / mpp).astype(int) + 2
    rgb = slide.read(mpp, int(low[0]), int(low[1]), *(int(n) for n in high - low))
    planes = model.planes(rgb, max_od)
    full = planes.saturated.astype(np.float32)
    hematoxylin, dab, residual, saturated = (
        sample(np.ascontiguousarray(image), where - low * mpp, mpp).astype(np.float32)
        for image in (*np.moveaxis(planes.stains, -1, 0), full)
    )
    return hematoxylin, dab, residual, saturated > 0.5
