"""The global grid of pixels at a scale, and the level it is computed from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from histoquant.slides.source import Level

Window = tuple[tuple[int, int], tuple[int, int]]  # (start, stop) of the rows, of the columns

_SAME_SCALE = 1e-6
_LEVEL_TOLERANCE = 0.01


@dataclass(frozen=True)
class Grid:
    """Pixels at one scale, with its corner at the corner of the slide.

    Attributes
    ----------
    extent
        Rows and columns of the slide (level-0 px).
    factor
        Level-0 px per pixel of the grid, (y, x).
    index, level
        The level the grid is averaged from: the coarsest that is not coarser than the grid.
    """

    extent: tuple[int, int]
    factor: tuple[float, float]
    index: int
    level: Level

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns; the last ones may be partly covered."""
        rows, columns = (
            # A sliver of a millionth of a pixel is rounding, not tissue.
            max(1, math.ceil(extent / factor - _SAME_SCALE))
            for extent, factor in zip(self.extent, self.factor, strict=True)
        )
        return rows, columns

    @property
    def is_level(self) -> bool:
        """Whether the pixels of the grid are those of the level."""
        return self.factor == self.level.downsample

    @property
    def reduction(self) -> float:
        """Pixels of the level per pixel of the grid."""
        return math.prod(self.factor) / math.prod(self.level.downsample)

    def chunk(self, pixels: float) -> tuple[int, int]:
        """Choose rows and columns of about `pixels` in all that are whole tiles of the level."""
        tile_h, tile_w = (
            tile * down / factor
            for tile, down, factor in zip(
                self.level.tile, self.level.downsample, self.factor, strict=True
            )
        )
        width = _whole_tiles(tile_w, math.sqrt(pixels), self.shape[1])
        return _whole_tiles(tile_h, pixels / width, self.shape[0]), width


def plan_grid(levels: tuple[Level, ...], factor: float) -> Grid:
    """Choose the level for a grid of `factor` level-0 px per pixel.

    A factor within a millionth of a level's is taken for the level's own.
    """
    whole = float(round(factor))
    exact = (factor, factor) if abs(factor - whole) > _SAME_SCALE * factor else (whole, whole)
    for level in levels:
        if max(abs(factor / down - 1) for down in level.downsample) <= _SAME_SCALE:
            exact = level.downsample
    finer = [
        index
        for index, level in enumerate(levels)
        if all(
            down <= f * (1 + _LEVEL_TOLERANCE)
            for down, f in zip(level.downsample, exact, strict=True)
        )
    ]
    index = finer[-1] if finer else 0
    return Grid(levels[0].shape, exact, index, levels[index])


def spans(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut ``start..stop`` at the multiples of `step`."""
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def _whole_tiles(tile: float, wanted: float, available: int) -> int:
    """Share `available` pixels out in even pieces of about `wanted`, each of whole tiles."""
    pieces = max(1, round(available / wanted))
    tiles = math.ceil(available / tile / pieces)
    return min(math.ceil(tiles * tile), available)
