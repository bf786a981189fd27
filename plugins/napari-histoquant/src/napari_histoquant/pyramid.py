"""A slide's pixels as napari wants them: one lazy array per level, read window by window.

napari asks for what is on the screen. A dask array would decode whole chunks for it; these read
the window alone, through the slide's own cache of decoded tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.slides import Slide

_LARGEST_OVERVIEW_PX = 2048**2
_TILE_PX = 512


class LevelArray:
    """One level of a slide, or one channel of it, as an array that reads on indexing.

    Parameters
    ----------
    slide
        An open slide.
    level
        Index into ``slide.levels``.
    channel
        The one channel it shows, (y, x); with None all of them, (y, x, c).
    """

    def __init__(self, slide: Slide, level: int, channel: int | None = None) -> None:
        self._slide, self._level, self._channel = slide, level, channel
        rows, columns = slide.levels[level].shape
        self.shape: tuple[int, ...] = (rows, columns)
        if channel is None:
            self.shape += (len(slide.channels),)
        self.dtype: np.dtype[Any] = slide.dtype
        # napari reads ahead to whole chunks, so that a small pan reads nothing new.
        self.chunks = (min(_TILE_PX, rows), min(_TILE_PX, columns), *self.shape[2:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        rows, columns, *rest = _as_slices(key, self.shape)
        (y0, y1), (x0, x1) = (
            _span(part, n) for part, n in zip((rows, columns), self.shape[:2], strict=True)
        )
        block = self._slide.region(y0, x0, y1 - y0, x1 - x0, level=self._level)
        if self._channel is not None:
            block = block[..., self._channel]
        if isinstance(rows, slice) and isinstance(columns, slice) and not rest:
            return block[:: rows.step or 1, :: columns.step or 1]
        first = (part if isinstance(part, slice) else 0 for part in (rows, columns))
        steps = tuple(slice(None, None, p.step) if isinstance(p, slice) else 0 for p in first)
        return block[(*steps, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        del copy  # reading makes one anyway
        whole = self[(slice(None),) * 2]
        return whole if dtype is None else whole.astype(dtype)


def levels_of(slide: Slide, channel: int | None = None) -> list[Any]:
    """Arrays of the slide's levels, finest first, down to one small enough for an overview.

    Parameters
    ----------
    slide
        An open slide.
    channel
        Show this channel alone.

    Returns
    -------
    Arrays (y, x) or (y, x, c). A slide whose coarsest level is large gets one more, which is
    read now and held in memory (at most some 4 megapixels).
    """
    levels: list[Any] = []
    for number, level in enumerate(slide.levels):
        if not levels or max(level.shape) < max(levels[-1].shape[:2]):
            levels.append(LevelArray(slide, number, channel))
    rows, columns = levels[-1].shape[:2]
    if rows * columns > _LARGEST_OVERVIEW_PX:
        levels.append(_small(slide, levels[-1], channel))
    return levels


def _small(slide: Slide, coarsest: LevelArray, channel: int | None) -> NDArray[Any]:
    """The coarsest level by a whole factor smaller: averaged, strip by strip."""
    rows, columns = coarsest.shape[:2]
    factor = int(np.ceil(np.sqrt(rows * columns / _LARGEST_OVERVIEW_PX)))
    height, width = rows // factor, columns // factor
    out = np.empty((height, width, *coarsest.shape[2:]), slide.dtype)
    strip = max(1, 1024 // factor)
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        block = coarsest[top * factor : bottom * factor, : width * factor]
        shape = (bottom - top, factor, width, factor, *block.shape[2:])
        mean = block.reshape(shape).mean(axis=(1, 3), dtype=np.float32)
        out[top:bottom] = np.round(mean) if out.dtype.kind in "ui" else mean
    return out


def _as_slices(key: Any, shape: Sequence[int]) -> list[Any]:
    """The index of every axis: ``...`` and what is left out become whole axes."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (2 - len(parts))
    return parts


def _span(part: Any, size: int) -> tuple[int, int]:
    """First row read and the one after the last."""
    if isinstance(part, slice):
        start, stop, step = part.indices(size)
        if step < 1:
            raise IndexError("a slide is read forwards: steps must be above 0")
        return start, max(start, stop)
    index = int(part) + (size if part < 0 else 0)
    if not 0 <= index < size:
        raise IndexError(f"index {part} leaves an axis of {size}")
    return index, index + 1
