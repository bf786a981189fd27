"""A slide's compartments and nuclei as OME-Zarr 0.5 labels on a picture of the slide.

::

    <slide_id>.ome.zarr/        the slide at the scale of its compartments, pyramid
        labels/compartments/    uint8, codes with names and colours
        labels/nuclei/          uint32 (p16), the row of nuclei.parquet from 1

Labels have as many levels as the picture. Where everything lies: `histoquant.ngff`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely.geometry import shape

from histoquant import __version__
from histoquant.export.kept import KeptSlide
from histoquant.export.outlines import measured_slide, nucleus_windows
from histoquant.ngff import (
    COMPARTMENTS,
    ROW_OF_NUCLEI,
    SHARD_PX,
    VERSION,
    legend,
    new_array,
    pyramid,
)
from histoquant.slides import Slide

_LEAST_SIDE = 512
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates

Array = NDArray[Any]


def write_ome_zarr(kept: KeptSlide, path: Path) -> None:
    """Write the slide's labels, and a picture of the slide for them to lie on, into `path`.

    Raises
    ------
    SlideError
        When the slide is not where it was measured, or is another one now.
    ResultError
        When a file of the result cannot be read, or nuclei do not come up again.
    """
    import zarr

    mpp = max(float(_setting(kept, "anatomy")), kept.mpp)
    with measured_slide(kept) as slide:
        root = zarr.open_group(path, mode="w", zarr_format=3)
        levels = _halved_mean(np.moveaxis(slide.overview(mpp), 2, 0))
        _write_levels(root, levels, mpp, kept.slide_id, channels=list(slide.channels))
        labels = root.create_group("labels")
        codes = _compartment_codes(kept, slide.grid_shape(mpp), mpp)
        _write_label(labels, "compartments", _halved_label(codes), mpp, legend())
        listed = ["compartments"]
        if kept.nuclei is not None and len(kept.nuclei):
            _write_nuclei(labels, kept, slide, len(levels))
            listed.append("nuclei")
        labels.attrs["ome"] = {"version": VERSION, "labels": listed}


def _setting(kept: KeptSlide, group: str) -> Any:
    return kept.record["provenance"]["settings"][group]["mpp"]


def _compartment_codes(kept: KeptSlide, shape_px: tuple[int, int], mpp: float) -> Array:
    """Compartments on a grid, from their outlines; a hole is filled by what lies in it."""
    codes = np.zeros(shape_px, np.uint8)
    for code, name, _ in COMPARTMENTS:
        for feature in kept.features:
            if feature["properties"]["name"] != name:
                continue
            mask = np.zeros(shape_px, np.uint8)
            rings = [_fixed(ring, kept.mpp / mpp) for ring in _rings(shape(feature["geometry"]))]
            if rings:
                cv2.fillPoly(mask, rings, 1, cv2.LINE_8, _SHIFT)
            codes[mask > 0] = code
    return codes


def _rings(geometry: Any) -> Iterator[Any]:
    """Every ring of a (multi)polygon; together they fill by the even-odd rule."""
    for polygon in getattr(geometry, "geoms", [geometry]):
        if polygon.geom_type == "Polygon" and not polygon.is_empty:
            yield np.asarray(polygon.exterior.coords)
            for hole in polygon.interiors:
                yield np.asarray(hole.coords)


def _fixed(points: Array, scale: float) -> NDArray[np.int32]:
    """Level-0 (x, y) as OpenCV's fixed-point pixels, whose 0 is the middle of the first one."""
    return np.asarray(np.round((points * scale - 0.5) * 2**_SHIFT), np.int32)


def _write_nuclei(labels: Any, kept: KeptSlide, slide: Slide, count: int) -> None:
    """The finest level block by block, the others from it strip by strip: no slide in memory."""
    mpp = float(_setting(kept, "nuclei"))
    group = labels.create_group("nuclei")
    rows, columns = slide.grid_shape(mpp)
    level = new_array(group, "0", (rows, columns), np.dtype(np.uint32), ("y", "x"))
    for window in nucleus_windows(kept, slide):
        b = window.block
        level[b.y : b.y + b.height, b.x : b.x + b.width] = window.core
    for number in range(1, count):
        rows, columns = (rows + 1) // 2, (columns + 1) // 2
        smaller = new_array(group, str(number), (rows, columns), level.dtype, ("y", "x"))
        for top in range(0, rows, SHARD_PX):
            strip = level[2 * top : 2 * (top + SHARD_PX)]
            smaller[top : top + SHARD_PX] = strip[::2, ::2]
        level = smaller
    group.attrs["ome"] = pyramid("nuclei", _halving(mpp, count), ("y", "x")) | {
        "image-label": {"source": {"image": "../../"}}
    }
    group.attrs["histoquant"] = ROW_OF_NUCLEI


def _write_label(
    labels: Any, name: str, levels: list[Array], mpp: float, legend: dict[str, Any]
) -> None:
    group = labels.create_group(name)
    for number, values in enumerate(levels):
        array = new_array(group, str(number), values.shape, values.dtype, ("y", "x"))
        array[...] = values
    ome = pyramid(name, _halving(mpp, len(levels)), ("y", "x"))
    group.attrs["ome"] = ome | {"image-label": legend | {"source": {"image": "../../"}}}


def _write_levels(
    root: Any, levels: list[Array], mpp: float, name: str, channels: list[str]
) -> None:
    axes = ("c", "y", "x")
    for number, values in enumerate(levels):
        array = new_array(root, str(number), values.shape, values.dtype, axes)
        array[...] = values
    ome = pyramid(name, _halving(mpp, len(levels)), axes, is_mean=True)
    highest = float(np.iinfo(levels[0].dtype).max) if levels[0].dtype.kind == "u" else 1.0
    colours = ("FF0000", "00FF00", "0000FF") if len(channels) == 3 else ("FFFFFF",) * len(channels)
    ome["omero"] = {
        "channels": [
            {"label": label, "color": colour, "active": True,
             "window": {"start": 0.0, "min": 0.0, "end": highest, "max": highest}}
            for label, colour in zip(channels, colours, strict=True)
        ]
    }  # fmt: skip
    root.attrs["ome"] = ome
    root.attrs["histoquant"] = {"version": __version__}


def _halving(mpp: float, count: int) -> list[float]:
    return [mpp * 2**level for level in range(count)]


def _halved_mean(picture: Array) -> list[Array]:
    """Levels of a picture (c, y, x), each the mean of 2 x 2 pixels of the one before."""
    levels = [picture]
    while max(levels[-1].shape[1:]) > _LEAST_SIDE:
        last = levels[-1]
        odd = [(0, 0), *((0, n % 2) for n in last.shape[1:])]
        padded = np.pad(last, odd, mode="edge").astype(np.uint32)
        total = sum(padded[:, y::2, x::2] for y in (0, 1) for x in (0, 1))
        levels.append(np.asarray((total + 2) // 4, last.dtype))
    return levels


def _halved_label(codes: Array) -> list[Array]:
    """Levels of labels (y, x): every second pixel, so that no new number arises."""
    levels = [codes]
    while max(levels[-1].shape) > _LEAST_SIDE:
        levels.append(levels[-1][::2, ::2])
    return levels
