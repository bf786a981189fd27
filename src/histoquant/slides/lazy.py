"""The dask twin of `Slide.read`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from histoquant.slides.slide import Slide


def lazy_pixels(slide: Slide, mpp: float, chunk: tuple[int, int]) -> da.Array:
    """Give `slide` at `mpp` um/px as a dask array, uint8 (y, x, 3), in chunks of `chunk`."""
    rows, columns = slide.grid_shape(mpp)
    chunks = da.core.normalize_chunks(  # type: ignore[no-untyped-call]
        (*chunk, 3), shape=(rows, columns, 3), dtype=np.uint8
    )
    lazy: da.Array = da.map_blocks(  # type: ignore[no-untyped-call]
        _read_chunk,
        slide=slide,
        mpp=mpp,
        chunks=chunks,
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), dtype=np.uint8),
    )
    return lazy


def _read_chunk(slide: Slide, mpp: float, block_info: Any = None) -> NDArray[np.uint8]:
    (y, y_stop), (x, x_stop), _ = block_info[None]["array-location"]
    return slide.read(mpp, y, x, y_stop - y, x_stop - x)
