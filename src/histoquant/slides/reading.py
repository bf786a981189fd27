"""Windows of a grid, averaged from the level below it, within bounded memory."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import ScaleError, SlideError
from histoquant.slides.grid import Grid, Window, plan_grid, spans
from histoquant.slides.scale import Scale
from histoquant.slides.source import Level, Source

_BLOCK_SOURCE_PX = 4096**2
_FINEST_FACTOR = 0.5


def is_brightfield(source: Source) -> bool:
    """Tell whether its pixels are 8-bit colours, or grey that can stand for them."""
    return source.is_colour and source.dtype == np.uint8


def sample_count(source: Source) -> int:
    """Count the samples of a pixel as it is read at a scale: grey is repeated in colours."""
    return 3 if is_brightfield(source) else len(source.channels)


def grid_at(path: Path | str, levels: tuple[Level, ...], scale: Scale | None, mpp: float) -> Grid:
    """Plan the grid of a slide at `mpp` um/px.

    Raises
    ------
    ScaleError
        When the slide's own scale is unknown.
    SlideError
        When `mpp` is no scale, or finer than half a pixel of the slide.
    """
    if scale is None:
        raise ScaleError(
            f"{path}: its scale is unknown, so nothing can be read at {mpp} um/px. "
            "Open it with its microns per pixel (mpp=, --mpp)."
        )
    if not (math.isfinite(mpp) and mpp > 0):
        raise SlideError(f"{path}: cannot be read at {mpp} um/px; expected above 0.")
    factor = mpp / scale.mpp
    if factor < _FINEST_FACTOR:
        raise SlideError(
            f"{path}: its {scale.mpp:.4g} um/px is too coarse to be read at "
            f"{mpp} um/px. Scan it at a higher magnification, or analyse at a coarser scale."
        )
    return plan_grid(levels, factor)


def read_window(
    source: Source, grid: Grid, corner: tuple[int, int], shape: tuple[int, int], fill: int
) -> NDArray[Any]:
    """Read a window of `grid` that may leave it: (*shape, c) in the type of the source.

    Block by block: an overview of a slide of one level must not hold the whole slide.
    """
    (y, x), (height, width) = corner, (max(side, 0) for side in shape)
    whole = min(corner) >= 0 and y + height <= grid.shape[0] and x + width <= grid.shape[1]
    if whole and 0 < height * width * grid.reduction <= _BLOCK_SOURCE_PX:
        block = _read_block(source, grid, ((y, y + height), (x, x + width)), fill)
        if block.shape[2] == sample_count(source):
            return block
    out = np.full((height, width, sample_count(source)), fill, dtype=source.dtype)
    (y0, y1), (x0, x1) = (
        (max(start, 0), min(start + length, limit))
        for start, length, limit in zip(corner, (height, width), grid.shape, strict=True)
    )
    block_h, block_w = grid.chunk(_BLOCK_SOURCE_PX / grid.reduction)
    for rows in spans(y0, y1, block_h):
        for columns in spans(x0, x1, block_w):
            inside = slice(rows[0] - y, rows[1] - y), slice(columns[0] - x, columns[1] - x)
            out[inside] = _read_block(source, grid, (rows, columns), fill)
    return out


def _read_block(source: Source, grid: Grid, window: Window, fill: int) -> NDArray[Any]:
    """Read a window inside the grid: (y, x, c), or (y, x, 1) for grey pixels."""
    if grid.is_level and all(
        stop <= size for (_, stop), size in zip(window, grid.level.shape, strict=True)
    ):
        return _level_block(source, grid, window, fill)
    from histoquant.slides.resample import area_mean, axis_weights

    down, across = (
        axis_weights(
            *window[axis],
            grid.factor[axis],
            downsample=grid.level.downsample[axis],
            size=grid.level.shape[axis],
            extent=grid.extent[axis],
        )
        for axis in (0, 1)
    )
    block = _level_block(source, grid, ((down.start, down.stop), (across.start, across.stop)), fill)
    samples = sample_count(source)
    return area_mean(np.broadcast_to(block, (*block.shape[:2], samples)), down, across)


def _level_block(source: Source, grid: Grid, window: Window, fill: int) -> NDArray[Any]:
    (y0, y1), (x0, x1) = window
    return source.region(grid.index, y0, x0, y1 - y0, x1 - x0, fill)
