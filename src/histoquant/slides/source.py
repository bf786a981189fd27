"""What a file format must offer to become a `Slide`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError

OnDamage = Literal["error", "missing"]


@dataclass(frozen=True)
class Level:
    """One level of a slide's pyramid.

    Attributes
    ----------
    shape
        Rows and columns (px of this level).
    downsample
        Level-0 px per px of this level, (y, x). Pixel i spans
        ``[i * downsample, (i + 1) * downsample)`` in level-0 px.
    tile
        Rows and columns decoded at a time (px of this level).
    missing_tiles
        Tiles that the file declares but holds no data for; they read as the fill value.
    """

    shape: tuple[int, int]
    downsample: tuple[float, float]
    tile: tuple[int, int]
    missing_tiles: int = 0

    @property
    def downsample_y(self) -> float:
        """Level-0 rows per row of this level."""
        return self.downsample[0]

    @property
    def downsample_x(self) -> float:
        """Level-0 columns per column of this level."""
        return self.downsample[1]


@dataclass(frozen=True)
class ScaleClaim:
    """What a file says about its scale: um/px in y and x (None where absent) and where."""

    y_um: float | None
    x_um: float | None
    source: str
    found: str


class OtherReaderError(SlideError):
    """A file that one reader does not understand, though it seems whole; another one may."""


class Source(Protocol):
    """A slide opened by one reader, ``Reader(path, on_damage="error")``. It is thread-safe."""

    @property
    def format(self) -> str:
        """Name of the format, such as ``Aperio SVS``."""
        ...

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels of the pyramid, finest first; labels, macros and thumbnails are none."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, without alpha."""
        ...

    @property
    def is_colour(self) -> bool:
        """Whether the channels are red, green and blue, or one grey that stands for them."""
        ...

    @property
    def claims(self) -> tuple[ScaleClaim, ...]:
        """What the file says about its scale, the most trusted first."""
        ...

    @property
    def compression(self) -> str:
        """How the pixels are packed."""
        ...

    @property
    def has_icc_profile(self) -> bool:
        """Whether there is a colour profile; it is noted and never applied."""
        ...

    @property
    def associated(self) -> tuple[str, ...]:
        """Names of the label, macro and thumbnail images."""
        ...

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        ...

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of what the file holds no pixels for."""
        ...

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of tiles found unreadable so far.

        Only a source opened with ``on_damage="missing"`` has any: there they read as the fill
        value. Else an unreadable tile is a `SlideError` naming level, tile row and column.
        """
        ...

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Read one of `associated`, (height, width, 3); `SlideError` names them all."""
        ...

    def close(self) -> None:
        """Release the file handle and the decoded tiles; a later read opens it again."""
        ...
