"""TIFF slides: tiles and strips decoded one by one with tifffile's page decoders.

The file's structure is read once and its handle closed; pixels are then read through a handle
of our own, opened at the first read, that any number of threads may use at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.files import SharedFile, TileCache
from histoquant.slides.source import Level
from histoquant.slides.tiff_layout import read_layout
from histoquant.slides.tiff_planes import Plane
from histoquant.slides.tiff_pyramid import PyramidLevel

_CACHE_BYTES = 64 * 2**20
# Windows overlap by their halo: only tiles this near (px) to the edge of one are kept.
_SHARED_PX = 256


class TiffSource:
    """A TIFF slide as a `Source`: Aperio SVS, Hamamatsu NDPI, OME-TIFF or a plain pyramid."""

    def __init__(self, path: Path) -> None:
        layout = read_layout(path)
        self._path = path
        self._levels = layout.levels
        self._file = SharedFile(path)
        self._cache = TileCache(_CACHE_BYTES)
        self.format = layout.format
        self.levels = tuple(_public(level) for level in layout.levels)
        self.dtype = layout.levels[0].dtype
        self.channels = layout.channels
        self.is_colour = layout.is_colour
        self.claims = layout.claims
        self.compression = layout.compression
        self.has_icc_profile = layout.has_icc_profile
        self.associated = layout.associated

    def close(self) -> None:
        """Release the file handle and the decoded tiles; a later read opens it again."""
        self._file.close()
        self._cache.clear()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        (tile_h, tile_w), (level_h, level_w) = self._levels[level].tile, self._levels[level].shape
        out = np.empty((height, width, len(self.channels)), dtype=self.dtype)
        if not out.size:
            return out
        for row, rows, tile_rows in _cuts(y, height, tile_h):
            for column, columns, tile_columns in _cuts(x, width, tile_w):
                is_shared = _is_near_cut(rows, y, height, level_h) or _is_near_cut(
                    columns, x, width, level_w
                )
                for plane in self._levels[level].planes:
                    tile = self._tile(level, plane, row, column, is_shared)
                    if tile is None:
                        self._check_fillable(level, row, column)
                        out[rows, columns, plane.out] = fill
                    else:
                        out[rows, columns, plane.out] = tile[tile_rows, tile_columns]
        return out

    def _tile(
        self, level: int, plane: Plane, row: int, column: int, is_shared: bool
    ) -> NDArray[Any] | None:
        """Give a decoded tile (y, x, c), or None where the file has no data."""
        index = row * self._levels[level].tile_columns + column
        offset, count = int(plane.offsets[index]), int(plane.counts[index])
        if offset == 0 or count == 0:
            return None
        key = (level, plane.out.start, index)
        tile = self._cache.get(key)
        if tile is None:
            tile = self._decode(level, plane, row, column, offset, count)
            if is_shared:
                self._cache.put(key, tile)
        return tile

    def _decode(
        self, level: int, plane: Plane, row: int, column: int, offset: int, count: int
    ) -> NDArray[Any]:
        where = f"{self._path}: level {level}, tile row {row}, column {column}"
        data = self._file.read(offset, count, where)
        if len(data) < count:
            raise SlideError(
                f"{where}: the file ends after {len(data)} of the tile's {count} bytes "
                f"at byte {offset}. It is truncated; copy it again from the scanner."
            )
        index = plane.first + row * self._levels[level].tile_columns + column
        try:
            tile = plane.decode(data, index)
        except Exception as error:  # codecs raise whatever they like on damaged data
            raise SlideError(
                f"{where}: {count} bytes at byte {offset} cannot be decoded ({error}). "
                "The file is damaged; copy it again from the scanner."
            ) from error
        self._check_tile(tile, level, row, column, where)
        return tile

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of every tile of any level without data."""
        return [
            (
                row * level.tile[0] * level.downsample[0],
                column * level.tile[1] * level.downsample[1],
                level.tile[0] * level.downsample[0],
                level.tile[1] * level.downsample[1],
            )
            for level in self._levels
            for plane in level.planes
            for row, column in (
                divmod(int(index), level.tile_columns) for index in np.flatnonzero(plane.missing)
            )
        ]

    def _check_tile(
        self, tile: NDArray[Any], level: int, row: int, column: int, where: str
    ) -> None:
        geometry = self._levels[level]
        starts = (row * geometry.tile[0], column * geometry.tile[1])
        needed = tuple(
            min(tile_side, side - start)
            for tile_side, side, start in zip(geometry.tile, geometry.shape, starts, strict=True)
        )
        if tile.shape[0] < needed[0] or tile.shape[1] < needed[1] or tile.dtype != self.dtype:
            raise SlideError(
                f"{where}: decoded to {tile.shape} {tile.dtype}, expected {needed} {self.dtype}. "
                "The file is damaged; copy it again from the scanner."
            )

    def _check_fillable(self, level: int, row: int, column: int) -> None:
        if self.dtype != np.uint8:
            raise SlideError(
                f"{self._path}: level {level}, tile row {row}, column {column} has no data, and "
                f"no value of {self.dtype} could stand for it. Export the slide again."
            )


def _cuts(start: int, length: int, tile: int) -> Iterator[tuple[int, slice, slice]]:
    """Cut a window along one axis: tile index, part of the window, part of the tile."""
    stop = start + length
    for index in range(start // tile, -(-stop // tile)):
        corner = index * tile
        first, last = max(start, corner), min(stop, corner + tile)
        yield index, slice(first - start, last - start), slice(first - corner, last - corner)


def _is_near_cut(part: slice, start: int, length: int, size: int) -> bool:
    """Tell whether a part of a window lies near an edge behind which the slide goes on."""
    before = start > 0 and part.start < _SHARED_PX
    return before or (start + length < size and part.stop > length - _SHARED_PX)


def _public(level: PyramidLevel) -> Level:
    missing = sum(int(np.count_nonzero(plane.missing)) for plane in level.planes)
    return Level(level.shape, level.downsample, level.tile, missing)
