"""`Slide`: lazy pixels of one whole slide at any scale, on one global grid."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import ScaleError, SlideError
from histoquant.slides.grid import Grid, Window, plan_grid, spans
from histoquant.slides.scale import Scale, resolve_scale
from histoquant.slides.source import Level, Source, open_source

if TYPE_CHECKING:
    import dask.array as da

_FINEST_FACTOR = 0.5
_BLOCK_SOURCE_PX = 4096**2
_CHUNK_PX = 2048


def open_slide(
    path: str | os.PathLike[str], *, mpp: float | None = None, require_scale: bool = True
) -> Slide:
    """Open a whole slide.

    Parameters
    ----------
    path
        An Aperio SVS, Hamamatsu NDPI, OME-TIFF or pyramidal TIFF file.
    mpp
        Microns per level-0 pixel, instead of what the file says.
    require_scale
        With False, a slide without a usable scale opens too, with `Slide.mpp` None.

    Raises
    ------
    SlideError
        When the file is missing, no slide, or damaged.
    ScaleError
        When its scale is missing, absurd or unequal in x and y.
    """
    slide = Slide(path, mpp=mpp, require_scale=require_scale)
    slide._open()
    return slide


class Slide:
    """A whole slide: open it with `open_slide`.

    It holds no pixels, only where they are: it pickles as its path and options and opens the
    file again in the process that reads. Reading is thread-safe. `close` (or leaving a ``with``
    block) releases the file; reading afterwards opens it again, so that lazy arrays stay good.

    Coordinates are (y, x). Continuous level-0 coordinates have the top-left corner of the
    picture at (0, 0); the centre of pixel i is i + 0.5.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mpp: float | None = None,
        require_scale: bool = True,
    ) -> None:
        self.path = Path(path).absolute()
        self._given_mpp = mpp
        self._require_scale = require_scale
        self._lock = Lock()
        self._opened: tuple[Source, Scale | None] | None = None
        self._fingerprint = ""

    def __getstate__(self) -> tuple[str, float | None, bool]:
        return str(self.path), self._given_mpp, self._require_scale

    def __setstate__(self, state: tuple[str, float | None, bool]) -> None:
        path, mpp, require_scale = state
        self.__init__(path, mpp=mpp, require_scale=require_scale)  # type: ignore[misc]

    def __dask_tokenize__(self) -> tuple[object, ...]:
        stat = self.path.stat()
        return (*self.__getstate__(), stat.st_size, stat.st_mtime_ns)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        height, width, _ = self.shape
        scale = f"{self.mpp:.4g} um/px" if self._scale else "no scale"
        return f"Slide({str(self.path)!r}: {self.format}, {width} x {height} px, {scale})"

    def close(self) -> None:
        """Release the file and the decoded tiles; reading opens it again."""
        with self._lock:
            if self._opened:
                self._opened[0].close()

    @property
    def format(self) -> str:
        """Name of the file format, such as ``Aperio SVS``."""
        return self._source.format

    @property
    def shape(self) -> tuple[int, int, int]:
        """Level-0 rows, columns and channels."""
        return (*self.levels[0].shape, len(self.channels))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        return self._source.dtype

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels: red, green, blue, or those of the file. Alpha is left out."""
        return self._source.channels

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels of the pyramid, finest first. Labels, macros and thumbnails are none."""
        return self._source.levels

    @property
    def mpp(self) -> float:
        """Microns per level-0 pixel; None only for a slide opened with require_scale=False."""
        return self._scale.mpp if self._scale else None  # type: ignore[return-value]

    @property
    def mpp_source(self) -> str:
        """Where `mpp` came from: a tag of the file, or ``given``."""
        return self._scale.source if self._scale else ""

    @property
    def missing_tiles(self) -> int:
        """Level-0 tiles for which the file holds no data; they read as the fill value."""
        return self.levels[0].missing_tiles

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file's content (hexadecimal), computed once."""
        if not self._fingerprint:
            try:
                with self.path.open("rb") as file:
                    self._fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise SlideError(f"{self.path}: cannot be read ({error}).") from error
        return self._fingerprint

    def info(self) -> dict[str, Any]:
        """Describe the slide in JSON types; `mpp` is None where it is unknown."""
        source = self._source
        return {
            "path": str(self.path),
            "format": self.format,
            "height": self.shape[0],
            "width": self.shape[1],
            "channels": list(self.channels),
            "dtype": str(self.dtype),
            "mpp": self.mpp,
            "mpp_source": self.mpp_source,
            "levels": [asdict(level) for level in self.levels],
            "compression": source.compression,
            "icc_profile": source.has_icc_profile,
            "associated_images": list(source.associated),
        }

    def region(
        self, y: int, x: int, height: int, width: int, level: int = 0, *, fill: int = 255
    ) -> NDArray[Any]:
        """Read pixels of a level as they are stored.

        Parameters
        ----------
        y, x, height, width
            Window in px of `level`, inside the slide.
        level
            Index into `levels`.
        fill
            Value of pixels in tiles that the file holds no data for.

        Returns
        -------
        numpy.ndarray
            (height, width, c) in the slide's dtype.

        Raises
        ------
        SlideError
            When the level does not exist, the window leaves it, or its data are damaged.
        """
        if not 0 <= level < len(self.levels):
            raise SlideError(f"{self.path}: no level {level}; there are {len(self.levels)}.")
        rows, columns = self.levels[level].shape
        inside = 0 <= y <= y + height <= rows and 0 <= x <= x + width <= columns
        if not inside or height < 0 or width < 0:
            raise SlideError(
                f"{self.path}: window y={y}, x={x}, {height} x {width} px leaves level {level} "
                f"of {rows} x {columns} px. Use read() for windows over the edge."
            )
        return self._source.region(level, y, x, height, width, fill)

    def grid_shape(self, mpp: float) -> tuple[int, int]:
        """Count rows and columns at `mpp` um/px; the last ones may be partly covered."""
        return self._grid(mpp).shape

    def read(
        self, mpp: float, y: int, x: int, height: int, width: int, *, fill: int = 255
    ) -> NDArray[np.uint8]:
        """Read colours at a scale, area-averaged from the next finer level.

        The value of a pixel of the grid is the same in every window that holds it.

        Parameters
        ----------
        mpp
            Microns per pixel of the result.
        y, x, height, width
            Window on the grid of `mpp` (px), whose corner is that of the slide. It may leave
            the slide.
        fill
            Value outside the slide and where the file holds no data.

        Returns
        -------
        numpy.ndarray
            uint8 (height, width, 3).

        Raises
        ------
        SlideError
            When the slide is not 8-bit colour or grey, too coarse for `mpp`, or damaged.
        """
        grid = self._colour_grid(mpp)
        out = np.full((max(height, 0), max(width, 0), 3), fill, dtype=np.uint8)
        (y0, y1), (x0, x1) = (
            (max(start, 0), min(start + length, limit))
            for start, length, limit in zip((y, x), (height, width), grid.shape, strict=True)
        )
        # Block by block: an overview of a slide of one level must not hold the whole slide.
        block_h, block_w = grid.chunk(_BLOCK_SOURCE_PX / grid.reduction)
        for rows in spans(y0, y1, block_h):
            for columns in spans(x0, x1, block_w):
                inside = slice(rows[0] - y, rows[1] - y), slice(columns[0] - x, columns[1] - x)
                out[inside] = self._read_block(grid, (rows, columns), fill)
        return out

    def overview(self, mpp: float) -> NDArray[np.uint8]:
        """Read the whole slide at `mpp` um/px, uint8 (y, x, 3), within bounded memory."""
        rows, columns = self.grid_shape(mpp)
        return self.read(mpp, 0, 0, rows, columns)

    def known(self, mpp: float) -> NDArray[np.bool_]:
        """Where the file holds data, on the grid of `mpp`: bool (y, x).

        False wherever any level lacks a tile: those read as the fill value, not as tissue.
        """
        rows, columns = self.grid_shape(mpp)
        known = np.ones((rows, columns), dtype=np.bool_)
        for box in self._source.missing_boxes():
            y, x, height, width = (side * self.mpp / mpp for side in box)
            known[int(y) : math.ceil(y + height), int(x) : math.ceil(x + width)] = False
        return known

    def pixels(self, mpp: float) -> da.Array:
        """Give the whole slide at `mpp` um/px as a lazy array.

        Returns
        -------
        dask.array.Array
            uint8 (y, x, 3), equal to `overview`. Chunks follow the tiles of the file; they
            never change a value.
        """
        from histoquant.slides.lazy import lazy_pixels

        return lazy_pixels(self, mpp, self._colour_grid(mpp).chunk(_CHUNK_PX**2))

    @property
    def _source(self) -> Source:
        return self._open()[0]

    @property
    def _scale(self) -> Scale | None:
        return self._open()[1]

    def _open(self) -> tuple[Source, Scale | None]:
        with self._lock:
            if self._opened is None:
                source = open_source(self.path)
                try:
                    scale = resolve_scale(self.path, source.claims, self._given_mpp)
                except ScaleError:
                    if self._require_scale or self._given_mpp is not None:
                        raise
                    scale = None
                self._opened = source, scale
            return self._opened

    def _grid(self, mpp: float) -> Grid:
        if self._scale is None:
            raise ScaleError(
                f"{self.path}: its scale is unknown, so nothing can be read at {mpp} um/px. "
                "Open it with its microns per pixel (mpp=, --mpp)."
            )
        if not (math.isfinite(mpp) and mpp > 0):
            raise SlideError(f"{self.path}: cannot be read at {mpp} um/px; expected above 0.")
        factor = mpp / self._scale.mpp
        if factor < _FINEST_FACTOR:
            raise SlideError(
                f"{self.path}: its {self._scale.mpp:.4g} um/px is too coarse to be read at "
                f"{mpp} um/px. Scan it at a higher magnification, or analyse at a coarser scale."
            )
        return plan_grid(self.levels, factor)

    def _colour_grid(self, mpp: float) -> Grid:
        if not self._source.is_colour or self.dtype != np.uint8:
            raise SlideError(
                f"{self.path}: {len(self.channels)} channels of {self.dtype} "
                f"({', '.join(self.channels)}) are not 8-bit colours. region() reads them as "
                "they are stored; the measurements need a brightfield slide."
            )
        return self._grid(mpp)

    def _read_block(self, grid: Grid, window: Window, fill: int) -> NDArray[np.uint8]:
        """Read a window inside the grid: uint8 (y, x, 3), or (y, x, 1) for grey pixels."""
        if grid.is_level and all(
            stop <= size for (_, stop), size in zip(window, grid.level.shape, strict=True)
        ):
            return self._level_block(grid, window, fill)
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
        source = ((down.start, down.stop), (across.start, across.stop))
        block = self._level_block(grid, source, fill)
        return area_mean(np.broadcast_to(block, (*block.shape[:2], 3)), down, across)

    def _level_block(self, grid: Grid, window: Window, fill: int) -> NDArray[np.uint8]:
        (y0, y1), (x0, x1) = window
        return self._source.region(grid.index, y0, x0, y1 - y0, x1 - x0, fill)
