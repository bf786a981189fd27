"""Which pages of a TIFF file show the same picture smaller, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from histoquant.errors import SlideError
from histoquant.slides.tiff_planes import Plane, planes_of, tile_grid, tile_shape

OTHER_PICTURES = ("label", "macro", "thumbnail", "overview")


@dataclass(frozen=True)
class PyramidLevel:
    """A level: its geometry as in `Level`, and the planes that hold its channels."""

    shape: tuple[int, int]
    downsample: tuple[float, float]
    tile: tuple[int, int]
    tile_columns: int
    dtype: np.dtype[Any]
    planes: tuple[Plane, ...]

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """Bool (tiles,): tiles of which a channel has no data in the file."""
        missing: NDArray[np.bool_] = np.logical_or.reduce([p.missing for p in self.planes])
        return missing

    def box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Top, left, height, width of a tile (level-0 px)."""
        height, width = (t * d for t, d in zip(self.tile, self.downsample, strict=True))
        return row * height, column * width, height, width


def finest_first(base: TiffPage, candidates: Sequence[TiffPage]) -> list[TiffPage]:
    """List `base` and those of `candidates` that show the same picture smaller."""
    levels = {(base.imagelength, base.imagewidth): base}
    for page in candidates:
        shape = (page.imagelength, page.imagewidth)
        if shape not in levels and _is_level(base, page):
            levels[shape] = page
    return sorted(levels.values(), key=lambda page: -page.imagelength * page.imagewidth)


def downsample(base: tuple[int, int], level: tuple[int, int]) -> tuple[float, float] | None:
    """Find the base px per px of a level, (y, x), or None when the shapes do not fit.

    Writers round the sides of a level down or up, once per step: 2967 rows halved are 1483.
    The whole number they meant is taken wherever it fits; 2967 / 1483 would shift the last
    pixel by one.
    """
    sides = tuple(zip(base, level, strict=True))
    if any(not 0 < small <= large for large, small in sides):
        return None
    large, small = max(sides)
    ratio = large / small
    for whole in (2.0 ** round(math.log2(ratio)), float(round(ratio))):
        if all(abs(large / whole - small) < 1 for large, small in sides):
            return whole, whole
    y, x = (large / small for large, small in sides)
    # Each side may be off by a pixel; more than that is another picture (a label, a macro).
    slack = max(1 / small for _, small in sides) + 1e-3
    return (y, x) if abs(y / x - 1) <= slack else None


def build_level(
    where: str,
    pages: Sequence[TiffPage],
    base: tuple[int, int],
    kept: int,
    *,
    times: float | None = None,
) -> PyramidLevel:
    """Describe a level whose channels lie on `pages`, `kept` of them on each.

    `times` is its downsample where the file states it: then its pages may be padded at the
    right and bottom, and the padding is cut off.

    Raises
    ------
    SlideError
        When the pages differ in geometry, or list fewer tiles than they need.
    """
    page = pages[0]
    geometry = {(p.shape, tile_shape(p), str(p.dtype)) for p in pages}
    shape = (page.imagelength, page.imagewidth)
    factor = downsample(base, shape) if times is None else (times, times)
    if times is not None:
        rows, columns = (max(1, int(side / times)) for side in base)
        shape = min(shape[0], rows), min(shape[1], columns)
    if 0 in shape:
        raise SlideError(f"{where}: an image of {shape} px. Copy it again from the scanner.")
    if len(geometry) > 1 or factor is None or page.dtype is None:
        raise SlideError(
            f"{where}: its channels differ in shape or type ({geometry}). "
            "Export the slide again as OME-TIFF."
        )
    return PyramidLevel(
        shape=shape,
        downsample=factor,
        tile=tile_shape(page),
        tile_columns=tile_grid(page)[1],
        dtype=page.dtype,
        planes=tuple(
            plane for k, p in enumerate(pages) for plane in planes_of(p, k * kept, kept, where)
        ),
    )


def _is_level(base: TiffPage, page: TiffPage) -> bool:
    same_pixels = (page.dtype, page.samplesperpixel, int(page.photometric)) == (
        base.dtype,
        base.samplesperpixel,
        int(base.photometric),
    )
    if not same_pixels or page.description.lower().startswith(OTHER_PICTURES):
        return False
    shapes = ((p.imagelength, p.imagewidth) for p in (base, page))
    return downsample(*shapes) is not None
