"""Slides that OpenSlide decodes: MRXS, SCN, BIF, VMS and the TIFF files of rarer vendors.

Coordinates are OpenSlide's own: level-0 px of the whole scannable area, of which these formats
hold only the parts that were scanned. Nothing is cropped to OpenSlide's bounds, so that a
position means the same here, in OpenSlide and in programs that show the whole frame.

What was not scanned has no pixels: OpenSlide gives it as transparent black. It is missing, not
black: it reads as the fill value and is listed by `OpenSlideSource.missing_boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.files import TileCache
from histoquant.slides.grid import spans
from histoquant.slides.handles import Handle
from histoquant.slides.openslide_facts import Facts, detect_vendor, open_slide, read_facts
from histoquant.slides.openslide_gaps import Box, boxes_of, filler_cells
from histoquant.slides.source import OnDamage

if TYPE_CHECKING:
    from openslide import OpenSlide

_CACHE_BYTES = 64 * 2**20
_SCAN_PX = 4096**2
_OPAQUE = 128
_LARGEST_IMAGE_PX = 2**28
_ROUNDING = 1e-6

__all__ = ["OpenSlideSource", "detect_vendor"]


class OpenSlideSource:
    """A slide that OpenSlide decodes, as a `Source`.

    A level is read in blocks on a fixed grid, because OpenSlide places a window to the nearest
    level-0 pixel and draws tiles that lie between pixels by interpolation: only a window that
    is always the same gives pixels that are always the same. Where a level's downsample is not
    whole, its pixels may lie up to half a level-0 px off (in SCN, up to two px of the level).

    Attributes
    ----------
    bounds
        Top, left, height, width (level-0 px) of what was scanned, where the file says so.
    """

    def __init__(self, path: Path, *, on_damage: OnDamage = "error") -> None:
        self._path = path
        self._on_damage = on_damage
        self._handle: Handle[OpenSlide] = Handle(partial(open_slide, path), _close)
        self._alone: Handle[OpenSlide] = Handle(partial(open_slide, path), _close)
        self._cache = TileCache(_CACHE_BYTES)
        self._lock = Lock()
        self._repairing = Lock()
        self._damaged: set[tuple[int, int, int]] = set()
        self._gaps: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
        with self._handle.use() as slide:
            self._facts: Facts = read_facts(path, slide)
        facts = self._facts
        self.format = facts.format
        self.levels = facts.levels
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.channels: tuple[str, ...] = ("red", "green", "blue")
        self.is_colour = True
        self.claims = facts.claims
        self.compression = "decoded by OpenSlide"
        self.has_icc_profile = facts.has_icc_profile
        self.associated = facts.associated
        self.bounds = facts.bounds
        self._scanned = _scan_level(facts)

    def close(self) -> None:
        """Release the files and the decoded blocks; a later read opens them again."""
        self._handle.close()
        self._alone.close()
        self._cache.clear()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, 3) of a window that lies inside `level`."""
        out = np.empty((height, width, 3), dtype=np.uint8)
        block_h, block_w = self.levels[level].tile
        for top, bottom in spans(y, y + height, block_h):
            for left, right in spans(x, x + width, block_w):
                row, column = top // block_h, left // block_w
                inside = (
                    slice(top - row * block_h, bottom - row * block_h),
                    slice(left - column * block_w, right - column * block_w),
                )
                block = self._block(level, row, column)[inside]
                part = out[top - y : bottom - y, left - x : right - x]
                part[:] = block[..., :3]
                part[block[..., 3] < _OPAQUE] = fill
        return out

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Read a label, macro or thumbnail: (height, width, 3), on white where it is clear."""
        if name not in self.associated:
            there = ", ".join(self.associated) or "none"
            raise SlideError(f"{self._path}: no associated image {name!r}; there are: {there}.")
        height, width = self._facts.associated_shapes[name]
        if height * width > _LARGEST_IMAGE_PX:
            raise SlideError(
                f"{self._path}: its {name} image claims {height} x {width} px, which is no {name}."
            )
        rgba = self._associated_pixels(name).astype(np.float32)
        clear = 1 - rgba[..., 3:] / 255
        image: NDArray[np.uint8] = np.rint(rgba[..., :3] * (1 - clear) + 255 * clear).astype(
            np.uint8
        )
        return image

    def _associated_pixels(self, name: str) -> NDArray[np.uint8]:
        from openslide import OpenSlideError

        try:
            with self._repairing, self._alone.use() as slide:
                return np.array(slide.associated_images[name])
        except OpenSlideError as error:
            self._alone.close()
            raise SlideError(f"{self._path}: its {name} image cannot be decoded ({error}).") from (
                error
            )

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of what was not scanned.

        Found at one coarse level (the finest of at most 4096 x 4096 px, else the coarsest), to
        the pixel of that level. The level is read once: that costs what its overview costs, and
        nothing where it has been read already. Where a coarse level may show filler instead of
        nothing, level 0 is asked at each of its tiles that looks like filler.
        """
        level = self.levels[self._scanned]
        grid = [
            (row, column)
            for row in range(-(-level.shape[0] // level.tile[0]))
            for column in range(-(-level.shape[1] // level.tile[1]))
        ]
        for place in grid:
            if place not in self._gaps:
                self._block(self._scanned, *place)
        return [box for place in grid for box in self._gaps[place]]

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of tiles found unreadable so far."""
        with self._lock:
            damaged = sorted(self._damaged)
        boxes = []
        for index, row, column in damaged:
            (tile_h, tile_w), (down, across) = (
                self._facts.tiles[index],
                self.levels[index].downsample,
            )
            boxes.append(
                (row * tile_h * down, column * tile_w * across, tile_h * down, tile_w * across)
            )
        return boxes

    def _block(self, level: int, row: int, column: int) -> NDArray[np.uint8]:
        """Give a block of a level: uint8 (y, x, 4), red, green, blue and alpha, not blended."""
        key = (level, row, column)
        block = self._cache.get(key)
        if block is None:
            block = self._read(level, self._box(level, row, column))
            if level == self._scanned:
                self._note_gaps(row, column, block)
            self._cache.put(key, block)
        return block

    def _box(self, level: int, row: int, column: int) -> Box:
        (height, width), (block_h, block_w) = self.levels[level].shape, self.levels[level].tile
        top, left = row * block_h, column * block_w
        return top, left, min(block_h, height - top), min(block_w, width - left)

    def _note_gaps(self, row: int, column: int, block: NDArray[np.uint8]) -> None:
        top, left, *_ = self._box(self._scanned, row, column)
        down, across = self.levels[self._scanned].downsample
        gaps = [
            (y * down, x * across, height * down, width * across)
            for y, x, height, width in boxes_of(block[..., 3] < _OPAQUE, top, left)
        ]
        if self._facts.has_filler and self._scanned:
            tile_h, tile_w = self._facts.tiles[0]
            cells = filler_cells(block, (top, left), (tile_h / down, tile_w / across))
            gaps += [
                (y * tile_h, x * tile_w, tile_h, tile_w)
                for y, x in cells
                if self._is_clear(y * tile_h + tile_h // 2, x * tile_w + tile_w // 2)
            ]
        with self._lock:
            self._gaps[row, column] = gaps

    def _is_clear(self, y: int, x: int) -> bool:
        """Tell whether level 0 has no pixel at (y, x)."""
        return bool(self._read(0, (y, x, 1, 1))[0, 0, 3] < _OPAQUE)

    def _read(self, level: int, box: Box) -> NDArray[np.uint8]:
        from openslide import OpenSlideError

        tiles = list(_tiles_in(box, self._facts.tiles[level]))
        if self._is_whole(level, tiles):
            with suppress(OpenSlideError):
                return self._pixels(self._handle, level, box)
        # After an error OpenSlide refuses all that other threads read through the same handle,
        # so that only one used by nobody else tells whose error it is.
        with self._repairing:
            if self._is_whole(level, tiles):
                with suppress(OpenSlideError):
                    return self._pixels(self._alone, level, box)
            return self._read_tiles(level, box, tiles)

    def _is_whole(self, level: int, tiles: list[_Tile]) -> bool:
        with self._lock:
            return self._damaged.isdisjoint((level, *place) for place, _ in tiles)

    def _read_tiles(self, level: int, box: Box, tiles: list[_Tile]) -> NDArray[np.uint8]:
        from openslide import OpenSlideError

        out = np.zeros((*box[2:], 4), dtype=np.uint8)
        for place, (top, left, height, width) in tiles:
            if (level, *place) in self._damaged:
                continue
            try:
                part = self._pixels(self._alone, level, (top, left, height, width))
            except OpenSlideError as error:
                self._note_damage(level, place, error)
            else:
                y, x = top - box[0], left - box[1]
                out[y : y + height, x : x + width] = part
        return out

    def _note_damage(self, level: int, place: tuple[int, int], error: Exception) -> None:
        if self._on_damage == "error":
            height, width = self._facts.tiles[level]
            raise SlideError(
                f"{self._path}: level {level}, tile row {place[0]}, column {place[1]} ({height} x "
                f"{width} px each): cannot be decoded ({error}). The file is damaged; copy it "
                "again from the scanner."
            ) from error
        with self._lock:
            self._damaged.add((level, *place))

    def _pixels(self, handle: Handle[OpenSlide], level: int, box: Box) -> NDArray[np.uint8]:
        """Read a window: uint8 (y, x, 4), red, green, blue and alpha, not blended."""
        from openslide import OpenSlideError

        top, left, height, width = box
        step = self._facts.steps[level]
        nearest = 0.5 if not self._facts.truncates else 1 - _ROUNDING
        corner = math.floor(left * step + nearest), math.floor(top * step + nearest)
        try:
            with handle.use() as slide:
                return np.array(slide.read_region(corner, level, (width, height)))
        except OpenSlideError:
            handle.close()
            raise


_Tile = tuple[tuple[int, int], Box]


def _tiles_in(box: Box, tile: tuple[int, int]) -> Iterator[_Tile]:
    """Cut a window at the file's tiles: row and column of each, and its part of the window."""
    top, left, height, width = box
    for y0, y1 in spans(top, top + height, tile[0]):
        for x0, x1 in spans(left, left + width, tile[1]):
            yield (y0 // tile[0], x0 // tile[1]), (y0, x0, y1 - y0, x1 - x0)


def _scan_level(facts: Facts) -> int:
    small = (k for k, level in enumerate(facts.levels) if math.prod(level.shape) <= _SCAN_PX)
    return next(small, len(facts.levels) - 1)


def _close(slide: OpenSlide) -> None:
    slide.close()
