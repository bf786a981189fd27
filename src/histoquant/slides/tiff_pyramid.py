"""Which pages of a TIFF file show the same picture smaller, and by how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tifffile import TiffPage

from histoquant.errors import SlideError
from histoquant.slides.tiff_planes import Plane, planes_of, tile_grid, tile_shape

_OTHER_PICTURES = ("label", "macro", "thumbnail", "overview")


@dataclass(frozen=True)
class PyramidLevel:
    """A level: its geometry as in `Level`, and the planes that hold its channels."""

    shape: tuple[int, int]
    downsample: tuple[float, float]
    tile: tuple[int, int]
    tile_columns: int
    dtype: np.dtype[Any]
    planes: tuple[Plane, ...]


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
    where: str, pages: Sequence[TiffPage], base: tuple[int, int], kept: int
) -> PyramidLevel:
    """Describe a level whose channels lie on `pages`, `kept` of them on each.

    Raises
    ------
    SlideError
        When the pages differ in geometry, or list fewer tiles than they need.
    """
    page = pages[0]
    geometry = {(p.shape, tile_shape(p), str(p.dtype)) for p in pages}
    shape = (page.imagelength, page.imagewidth)
    factor = downsample(base, shape)
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
    if not same_pixels or page.description.lower().startswith(_OTHER_PICTURES):
        return False
    shapes = ((p.imagelength, p.imagewidth) for p in (base, page))
    return downsample(*shapes) is not None
