"""Pictures that are worked out window by window, so that no step holds all of one as floats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block
from histoquant.stains import RgbArray, StainModel, WhiteLevel, optical_density, unmix
from histoquant.white import white_field

FloatArray = npt.NDArray[np.float32]
Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])
Window = tuple[slice, slice]
"""Rows and columns of a picture; both ends are given and lie within it."""
Mask = npt.NDArray[np.bool_]
_Corners = tuple[int, int, int, int]

_CELL_PX = 16
_STRIP_PX = 512


class Windowed(Protocol):
    """What gives float32 pixels by window: an array, or a `Lazy`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, and channels where there are any."""

    def __getitem__(self, window: Window, /) -> FloatArray: ...


@dataclass(frozen=True, eq=False)
class Lazy:
    """A picture of which a window is made when it is asked for.

    Attributes
    ----------
    shape
        Rows and columns of the whole.
    make
        Gives the pixels of a window, float32 (h, w, c). A pixel must not depend on the window.
    """

    shape: tuple[int, ...]
    make: Callable[[Window], FloatArray]

    def __getitem__(self, window: Window) -> FloatArray:
        return self.make(window)


def density_of(rgb: RgbArray, white: WhiteLevel, max_od: float) -> Lazy:
    """Optical densities of a picture of the whole slide, even in uneven light.

    Parameters
    ----------
    rgb
        The whole slide, (h, w, 3) uint8, at any scale.
    white
        Of the slide.
    max_od
        Denser pixels are taken for this dense.
    """
    height, width = rgb.shape[:2]

    def make(window: Window) -> FloatArray:
        if not white.field:
            od = optical_density(rgb[window], white.values)
        else:
            light = np.log10(white_field(white, (height, width), window))
            od = optical_density(rgb[window], (1.0, 1.0, 1.0)) + light
        return np.asarray(np.minimum(od, np.float32(max_od)), np.float32)

    return Lazy((height, width), make)


def stains_of(density: Windowed, model: StainModel) -> Lazy:
    """Stains of a picture of optical densities: signed OD of `model.names`."""
    height, width = density.shape[:2]
    return Lazy((height, width), lambda window: unmix(density[window], model))


def window_of(block: Block) -> Window:
    """Rows and columns of a block's core."""
    return slice(block.y, block.y + block.height), slice(block.x, block.x + block.width)


def window_around(mask: Mask, margin: int) -> Window:
    """The rows and columns in which `mask`, which is not empty, lies, with a margin."""
    lines = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (
        slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + margin + 1, size))
        for at, size in zip(lines, mask.shape, strict=True)
    )
    return rows, columns


def widened(block: Block, margin: int, shape: tuple[int, ...]) -> tuple[Window, Window]:
    """The window with a halo around a block's core, and where in that window the core lies."""
    first = max(block.y - margin, 0), max(block.x - margin, 0)
    last = (
        min(block.y + block.height + margin, shape[0]),
        min(block.x + block.width + margin, shape[1]),
    )
    inner = Block(block.y - first[0], block.x - first[1], block.height, block.width)
    return (slice(first[0], last[0]), slice(first[1], last[1])), window_of(inner)


def strips(picture: Windowed, margin: int) -> Iterator[tuple[slice, FloatArray, slice]]:
    """A picture in strips of rows: which they are, their pixels with a margin, and where in it.

    The strips are the same whoever works on them, so what is made of them is, too.
    """
    height, width = picture.shape[:2]
    for top in range(0, height, _STRIP_PX):
        block = Block(top, 0, min(_STRIP_PX, height - top), width)
        window, (inner, _) = widened(block, margin, picture.shape)
        yield slice(top, top + block.height), picture[window], inner


def boxes_around(mask: Mask, margin: int) -> list[Block]:
    """Rectangles that hold all of `mask` with a margin and do not overlap, in raster order.

    Parameters
    ----------
    mask
        bool (h, w).
    margin
        Least distance (px) of a True pixel to the sides of its box, but for the picture's own.

    Returns
    -------
    Blocks whose corners are multiples of 16 px, so that coarser grids fit into them.
    """
    height, width = mask.shape
    rows, columns = -(-height // _CELL_PX), -(-width // _CELL_PX)
    filled = np.zeros((rows * _CELL_PX, columns * _CELL_PX), np.bool_)
    filled[:height, :width] = mask
    cells = filled.reshape(rows, _CELL_PX, columns, _CELL_PX).any(axis=(1, 3))
    stats = cv2.connectedComponentsWithStats(np.asarray(cells).astype(np.uint8))[2]
    grow = -(-margin // _CELL_PX)
    corners = [
        (y - grow, x - grow, y + h + grow, x + w + grow) for x, y, w, h, _ in stats[1:].tolist()
    ]
    boxes = []
    for top, left, bottom, right in _disjoint(corners):
        y, x = max(top, 0) * _CELL_PX, max(left, 0) * _CELL_PX
        bottom, right = min(bottom * _CELL_PX, height), min(right * _CELL_PX, width)
        boxes.append(Block(y, x, bottom - y, right - x))
    return sorted(boxes)


def _disjoint(corners: list[_Corners]) -> list[_Corners]:
    """The rectangles, those that overlap taken together, over and over."""
    apart: list[_Corners] = []
    for corner in corners:
        grown, others = corner, apart
        while True:
            hit = [o for o in others if _overlap(o, grown)]
            if not hit:
                break
            others = [o for o in others if o not in hit]
            ends = np.array([grown, *hit])
            top, left = (int(v) for v in ends[:, :2].min(axis=0))
            bottom, right = (int(v) for v in ends[:, 2:].max(axis=0))
            grown = (top, left, bottom, right)
        apart = [*others, grown]
    return apart


def _overlap(a: _Corners, b: _Corners) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def coarsen(mask: Mask, factor: int) -> Mask:
    """Coarse pixels at least half of which is True."""
    height, width = (-(-n // factor) * factor for n in mask.shape)
    whole = np.zeros((height, width), np.uint8)
    whole[: mask.shape[0], : mask.shape[1]] = mask
    whole *= 255
    size = (width // factor, height // factor)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA) >= 127)


def enlarge(labels: Pixels, box: Block, factor: int) -> Pixels:
    """Coarse pixels of a box on the fine grid, `factor` x `factor` of each."""
    whole = labels.repeat(factor, axis=0).repeat(factor, axis=1)
    return cast(Pixels, whole[: box.height, : box.width])
