"""The dask twin of `Slide.read`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from histoquant.slides.grid import plan_grid

if TYPE_CHECKING:
    from histoquant.slides.slide import Slide


def lazy_pixels(slide: Slide, mpp: float, chunk: tuple[int, int]) -> da.Array:
    """Give `slide` at `mpp` um/px as a dask array (y, x, c), in chunks of `chunk` rows, columns.

    Type and channels are those of `Slide.read`. The graph holds the slide as its path and
    options, and a task for each chunk.
    """
    channels = 3 if slide.is_colour else len(slide.channels)
    shape = (*slide.grid_shape(mpp), channels)
    grid = plan_grid(slide.levels, mpp / slide.mpp)
    # The pixels of a level need no averaging, and so no copy: streaming is as fast as decoding.
    is_stored = grid.is_level and channels == len(slide.channels)
    chunks = da.core.normalize_chunks(  # type: ignore[no-untyped-call]
        (*chunk, channels), shape=shape, dtype=slide.dtype
    )
    lazy: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _read_chunk,
        slide=slide,
        mpp=mpp,
        level=grid.index if is_stored else None,
        starts=tuple(tuple(np.cumsum((0, *sizes)).tolist()) for sizes in chunks[:2]),
        chunks=chunks,
        dtype=slide.dtype,
        meta=np.empty((0, 0, 0), dtype=slide.dtype),
    )
    return lazy


def _read_chunk(
    slide: Slide,
    mpp: float,
    level: int | None,
    starts: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    block_id: tuple[int, int, int],
) -> NDArray[Any]:
    """Read the chunk `block_id`, which dask fills in; `starts` are of each row and column."""
    row, column, _ = block_id
    (y, y_stop), (x, x_stop) = starts[0][row : row + 2], starts[1][column : column + 2]
    window = y, x, y_stop - y, x_stop - x
    if level is not None:
        rows, columns = slide.levels[level].shape
        if y_stop <= rows and x_stop <= columns:  # a grid may have a row more than its level
            return slide.region(*window, level)
    return slide.read(mpp, *window)
