"""What a file format must offer to become a `Slide`, and the choice of the reader.

A reader is chosen by the first bytes of the file, never by its name alone: archives are full
of renamed files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
)
_READABLE = (
    "histoquant reads Aperio SVS, Hamamatsu NDPI, OME-TIFF and pyramidal TIFF; "
    "export the slide as OME-TIFF (for instance with QuPath) to use it"
)


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


class Source(Protocol):
    """A slide file opened by one reader. Reading is thread-safe."""

    format: str
    levels: tuple[Level, ...]
    dtype: np.dtype[Any]
    channels: tuple[str, ...]
    is_colour: bool
    claims: tuple[ScaleClaim, ...]
    compression: str
    has_icc_profile: bool
    associated: tuple[str, ...]

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        ...

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of every tile of any level without data."""
        ...

    def close(self) -> None:
        """Release the file handle and the decoded tiles; a later read opens it again."""
        ...


def open_source(path: Path) -> Source:
    """Open `path` with the reader that its first bytes ask for.

    Raises
    ------
    SlideError
        For a missing file, a directory, or bytes that no reader understands.
    """
    head = _first_bytes(path)
    if head[:4] in _TIFF_MAGIC:
        from histoquant.slides.tiff import TiffSource

        return TiffSource(path)
    raise SlideError(f"{path}: {_describe(head)}. {_READABLE}.")


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise SlideError(f"{path} is a directory, not a slide file. {_READABLE}.")
    try:
        with path.open("rb") as file:
            return file.read(132)
    except FileNotFoundError:
        raise SlideError(f"{path}: no such file. Check the path and that the disk is there.") from (
            None
        )
    except (OSError, ValueError) as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error


def _describe(head: bytes) -> str:
    if not head:
        return "the file is empty (0 bytes); copy it again from the scanner"
    if head[128:132] == b"DICM":
        return "a DICOM file, which this version does not read"
    for magic, name in _OTHER_MAGIC:
        if head.startswith(magic):
            return f"found {name}, which is no TIFF"
    return f"found bytes {head[:16]!r}, which is no TIFF"
