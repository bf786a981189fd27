"""TIFF slides: tiles and strips decoded one by one with tifffile's page decoders.

The file's structure is read once and its handle closed; pixels are then read through a handle
of our own, opened at the first read, that any number of threads may use at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.files import Read, SharedFile, TileCache
from histoquant.slides.source import Level, OnDamage
from histoquant.slides.tiff_layout import read_layout
from histoquant.slides.tiff_planes import Plane
from histoquant.slides.tiff_pyramid import PyramidLevel

_CACHE_BYTES = 64 * 2**20
# Windows overlap by their halo: only tiles this near (px) to the edge of one are kept.
_SHARED_PX = 256

Tile = tuple[int | str, int, int]
"""Level, or name of an associated image; row and column of the tile."""


class _DamagedTileError(SlideError):
    """A tile whose bytes are cut off or no picture, as against a disk that cannot be read."""


class TiffSource:
    """A TIFF slide as a `Source`: Aperio SVS, Hamamatsu NDPI, Philips, OME-TIFF, a plain pyramid.

    With ``on_damage="missing"`` a tile that cannot be decoded reads as the fill value, in all
    its channels, and is remembered in `damaged_boxes`. A disk that cannot be read is always an
    error: it says nothing about the tile.
    """

    def __init__(self, path: Path, *, on_damage: OnDamage = "error") -> None:
        layout = read_layout(path)
        self._path = path
        self._on_damage = on_damage
        self._levels = layout.levels
        self._associated = layout.associated
        self._file = SharedFile(path)
        self._cache = TileCache(_CACHE_BYTES)
        self._damaged: set[Tile] = set()
        self._lock = Lock()
        self.format = layout.format
        self.levels = tuple(_public(level) for level in layout.levels)
        self.dtype = layout.levels[0].dtype
        self.channels = layout.channels
        self.is_colour = layout.is_colour
        self.claims = layout.claims
        self.compression = layout.compression
        self.has_icc_profile = layout.has_icc_profile
        self.associated = tuple(layout.associated)

    def close(self) -> None:
        """Release the file handle and the decoded tiles; a later read opens it again."""
        self._file.close()
        self._cache.clear()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        out = np.empty((height, width, len(self.channels)), dtype=self.dtype)
        if out.size:
            self._read(level, self._levels[level], (y, x), out, fill)
        return out

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Read one of `associated`: (height, width, 3), grey repeated in all three.

        Raises
        ------
        SlideError
            When there is none of that name, or it cannot be read.
        """
        picture = self._associated.get(name)
        if picture is None:
            there = ", ".join(self.associated) or "none"
            raise SlideError(f"{self._path}: no associated image {name!r}; there are: {there}.")
        if isinstance(picture, str):
            raise SlideError(picture)
        samples = max(plane.out.stop for plane in picture.planes)
        out = np.empty((*picture.shape, samples), dtype=np.uint8)
        self._read(name, picture, (0, 0), out, 255)
        return out if samples == 3 else np.repeat(out, 3, axis=2)

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of every tile of any level without data."""
        return [
            level.box(*divmod(int(index), level.tile_columns))
            for level in self._levels
            for index in np.flatnonzero(level.missing)
        ]

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of tiles found unreadable so far."""
        with self._lock:
            damaged = [tile for tile in self._damaged if isinstance(tile[0], int)]
        return [self._levels[int(level)].box(row, column) for level, row, column in sorted(damaged)]

    def _read(
        self,
        name: int | str,
        picture: PyramidLevel,
        corner: tuple[int, int],
        out: NDArray[Any],
        fill: int,
    ) -> None:
        """Read the window of `picture` that has its `corner` and the shape of `out`."""
        (y, x), (height, width) = corner, out.shape[:2]
        down = list(_parts(y, height, picture.tile[0], picture.shape[0]))
        across = list(_parts(x, width, picture.tile[1], picture.shape[1]))
        # Between two decodings as little as can be: Python that was pushed out of the caches by
        # a tile costs several times what it does in a loop of its own.
        place = (name, down[0].tile, across[0].tile)
        try:
            with self._file.reading() as read:
                for row in down:
                    for column in across:
                        place = (name, row.tile, column.tile)
                        window = out[row.of_window, column.of_window]
                        if not self._put(read, picture, place, (row, column), window):
                            window[...] = fill
        except (OSError, OverflowError) as error:
            raise SlideError(
                f"{self._where(place)}: it cannot be read ({error}). "
                "Check that the disk is still there and the file unchanged."
            ) from error

    def _put(
        self,
        read: Read,
        picture: PyramidLevel,
        place: Tile,
        parts: tuple[_Part, _Part],
        window: NDArray[Any],
    ) -> bool:
        """Put part of a tile in `window`, plane by plane; False where any has no data."""
        row, column = parts
        if picture.missing[place[1] * picture.tile_columns + place[2]] or place in self._damaged:
            return False
        is_shared = row.is_shared or column.is_shared
        try:
            for plane in picture.planes:
                # Nothing holds the tile any longer than this line: the next one takes its memory,
                # which is still in the cache.
                window[..., plane.out] = self._tile(read, picture, plane, place, is_shared)[
                    row.of_tile, column.of_tile
                ]
        except _DamagedTileError:
            if self._on_damage == "error":
                raise
            with self._lock:
                self._damaged.add(place)
            return False
        return True

    def _tile(
        self, read: Read, picture: PyramidLevel, plane: Plane, place: Tile, is_shared: bool
    ) -> NDArray[Any]:
        """Give a tile of a plane, (y, x, c): the one that is kept, or decoded."""
        key = (*place, plane.out.start)
        tile = self._cache.get(key)
        if tile is None:
            tile = self._decode(read, picture, plane, place)
            if is_shared:
                self._cache.put(key, tile)
        return tile

    def _decode(self, read: Read, picture: PyramidLevel, plane: Plane, place: Tile) -> NDArray[Any]:
        index = place[1] * picture.tile_columns + place[2]
        offset, count = int(plane.offsets[index]), int(plane.counts[index])
        data = read(offset, count)
        if len(data) < count:
            raise _DamagedTileError(
                f"{self._where(place)}: the file ends after {len(data)} of the tile's {count} "
                f"bytes at byte {offset}. It is truncated; copy it again from the scanner."
            )
        try:
            tile = plane.decode(data, plane.first + index)
        except MemoryError as error:
            raise SlideError(f"{self._where(place)}: too little memory to decode it.") from error
        except Exception as error:  # codecs raise whatever they like on damaged data
            raise _DamagedTileError(
                f"{self._where(place)}: {count} bytes at byte {offset} cannot be decoded "
                f"({error}). The file is damaged; copy it again from the scanner."
            ) from error
        channels = plane.out.stop - plane.out.start
        if tile.shape != (*picture.tile, channels) or tile.dtype != picture.dtype:
            _check_tile(picture, channels, tile, place[1:], self._where(place))
        return tile

    def _where(self, place: Tile) -> str:
        level = f"level {place[0]}" if isinstance(place[0], int) else place[0]
        return f"{self._path}: {level}, tile row {place[1]}, column {place[2]}"


def _check_tile(
    picture: PyramidLevel, channels: int, tile: NDArray[Any], place: tuple[int, int], where: str
) -> None:
    """Check that a tile which is not a full one at least covers its part of the picture."""
    height, width = (
        min(tile_side, side - k * tile_side)
        for k, tile_side, side in zip(place, picture.tile, picture.shape, strict=True)
    )
    needed = (height, width, channels)
    has_room = tile.shape[0] >= height and tile.shape[1] >= width and tile.shape[2] == channels
    if not has_room or tile.dtype != picture.dtype:
        raise _DamagedTileError(
            f"{where}: decoded to {tile.shape} {tile.dtype}, expected {needed} {picture.dtype}. "
            "The file is damaged; copy it again from the scanner."
        )


class _Part(NamedTuple):
    """Where a window meets a row or a column of tiles, and whether other windows may, too."""

    tile: int
    of_window: slice
    of_tile: slice
    is_shared: bool


def _parts(start: int, length: int, tile: int, size: int) -> Iterator[_Part]:
    """Cut a window at the tiles along one axis of `size` px.

    An edge of the window that cuts through tiles is one that windows overlap at.
    """
    stop = start + length
    first = start + _SHARED_PX if start % tile else start
    last = stop - _SHARED_PX if stop % tile and stop < size else stop
    for index in range(start // tile, -(-stop // tile)):
        low, high = max(start, index * tile), min(stop, (index + 1) * tile)
        yield _Part(
            index,
            slice(low - start, high - start),
            slice(low - index * tile, high - index * tile),
            low < first or high > last,
        )


def _public(level: PyramidLevel) -> Level:
    return Level(level.shape, level.downsample, level.tile, int(np.count_nonzero(level.missing)))
