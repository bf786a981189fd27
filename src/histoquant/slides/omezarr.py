"""OME-Zarr 0.4 and 0.5: a folder, a ZIP file, or a URL that fsspec reads.

Attributes are read with zarr itself: the ome-zarr library would add dask, HTTP and S3 libraries
to every installation and does not tell which chunks exist. Windows are read with one request,
so that zarr fetches and decodes their chunks side by side.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.grid import spans
from histoquant.slides.handles import Handle
from histoquant.slides.omezarr_image import OpenImage, Span, open_image
from histoquant.slides.omezarr_store import METADATA, is_url, zip_prefix
from histoquant.slides.source import Level, OnDamage


def is_omezarr(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` is a Zarr folder, a ZIP file with one in it, or a URL.

    Every URL is one: no other kind of slide is read from there.
    """
    if is_url(path):
        return True
    place = Path(path)
    try:
        if place.is_dir():
            return any((place / name).is_file() for name in METADATA)
        if not zipfile.is_zipfile(place):
            return False
        with zipfile.ZipFile(place) as archive:
            return zip_prefix(archive.namelist()) is not None
    except (OSError, zipfile.BadZipFile):
        return False


def content_files(path: Path) -> list[Path]:
    """List the files of the slide in an OME-Zarr folder by name, or the ZIP file itself.

    They are the metadata and the chunks of the image's levels: labels, results and further
    images in the same folder are none of it.

    Raises
    ------
    SlideError
        As `OmeZarrSource`.
    """
    if not path.is_dir():
        return [path]
    image = open_image(str(path))
    try:
        return sorted(path / key for key in image.content_keys())
    finally:
        image.close()


def content_hashes(path: str | os.PathLike[str]) -> dict[str, str]:
    """Hash the slide in an OME-Zarr file by file: SHA-256 (hexadecimal) by name.

    The names are those of `content_files`, relative to `path`: a copy of the slide on a disk
    and the one behind a URL give the same. Every byte of the slide is read.

    Raises
    ------
    SlideError
        As `OmeZarrSource`, and when a file is gone.
    """
    image = open_image(os.fspath(path))
    try:
        keys = sorted(image.content_keys())
        contents = zip(keys, image.place.read_many(keys), strict=True)
        return {key: hashlib.sha256(content).hexdigest() for key, content in contents}
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}).") from error
    finally:
        image.close()


class OmeZarrSource:
    """An OME-Zarr image as a `Source`.

    Parameters
    ----------
    path
        A folder, a ZIP file, or a URL such as ``s3://bucket/slide.ome.zarr``.
    on_damage
        With ``missing``, a tile that cannot be decoded reads as the fill value and is listed in
        `damaged_boxes`; with ``error`` it raises SlideError.

    Raises
    ------
    SlideError
        When it is not there, no OME-Zarr image, another version, a stack, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, on_damage: OnDamage = "error") -> None:
        self._where = os.fspath(path)
        self._on_damage = on_damage
        self._lock = Lock()
        self._damaged: dict[tuple[int, int, int], None] = {}
        self._image = Handle(partial(open_image, self._where), OpenImage.close)
        with self._image.use() as image:
            self._levels = image.levels
            self.dtype = image.dtype
            self.channels = image.channels
            self.is_colour = image.is_rgb or len(image.channels) == 1
            self.format = f"OME-Zarr {image.image.version}"
            self.claims = (image.image.claim,)
            self.compression = image.compression
            self.associated = tuple(image.others)
        self.has_icc_profile = False
        self.levels = tuple(
            Level(level.shape, level.downsample, level.tile, int(level.missing.sum()))
            for level in self._levels
        )

    def close(self) -> None:
        """Release the store; a later read opens it again."""
        self._image.close()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        if not (height and width):
            return np.empty((height, width, len(self.channels)), dtype=self.dtype)
        with self._image.use() as image:
            try:
                out = image.read(level, (y, y + height), (x, x + width))
            except Exception:  # which tile it was is not known: zarr fetches them together
                out = self._read_tiles(image, level, (y, y + height), (x, x + width), fill)
        self._blank(out, level, y, x, fill)
        return out

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Read another image of the file (bioformats2raw keeps label and macro): (h, w, 3).

        Raises
        ------
        SlideError
            When there is none of that name, or it is no small picture.
        """
        with self._image.use() as image:
            return image.associated_image(self._where, name)

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of every tile of any level without data."""
        return [
            self._box(k, row, column)
            for k, level in enumerate(self._levels)
            for row, column in np.argwhere(level.missing).tolist()
        ]

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of the tiles found unreadable so far."""
        with self._lock:
            return [self._box(*tile) for tile in self._damaged]

    def _read_tiles(
        self, image: OpenImage, level: int, rows: Span, columns: Span, fill: int
    ) -> NDArray[Any]:
        """Read a window tile by tile, to find the one that cannot be read."""
        (y, y_stop), (x, x_stop) = rows, columns
        tile_h, tile_w = self._levels[level].tile
        out = np.full((y_stop - y, x_stop - x, len(self.channels)), fill, dtype=self.dtype)
        for top, bottom in spans(y, y_stop, tile_h):
            for left, right in spans(x, x_stop, tile_w):
                try:
                    tile = image.read(level, (top, bottom), (left, right))
                except Exception as error:  # codecs raise whatever they like on damaged data
                    self._note_damage(level, top // tile_h, left // tile_w, error)
                else:
                    out[top - y : bottom - y, left - x : right - x] = tile
        return out

    def _note_damage(self, level: int, row: int, column: int, error: Exception) -> None:
        """Remember a tile that cannot be read, or raise."""
        if self._on_damage == "missing":
            with self._lock:
                self._damaged[level, row, column] = None
            return
        raise SlideError(
            f"{self._where}: level {level}, tile row {row}, column {column} cannot be read "
            f"({type(error).__name__}: {error}). Its chunk is damaged or gone; copy it again."
        ) from error

    def _blank(self, out: NDArray[Any], level: int, y: int, x: int, fill: int) -> None:
        """Give absent tiles the value `fill`: zarr's own value could be taken for tissue."""
        tile_h, tile_w = self._levels[level].tile
        row, column = y // tile_h, x // tile_w
        bottom, right = -(-(y + out.shape[0]) // tile_h), -(-(x + out.shape[1]) // tile_w)
        missing = self._levels[level].missing[row:bottom, column:right]
        for i, j in np.argwhere(missing).tolist():
            top, left = (row + i) * tile_h - y, (column + j) * tile_w - x
            out[max(top, 0) : top + tile_h, max(left, 0) : left + tile_w] = fill

    def _box(self, level: int, row: int, column: int) -> tuple[float, float, float, float]:
        found = self._levels[level]
        height, width = (t * d for t, d in zip(found.tile, found.downsample, strict=True))
        return row * height, column * width, height, width
