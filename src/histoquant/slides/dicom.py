"""DICOM whole-slide images: a folder, or one file with the rest of its series beside it.

Needs wsidicom (``pip install histoquant[dicom]``). A tile of a sparse image that has no frame
is missing; it is never painted in a colour that could be taken for glass or tissue.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.files import TileCache
from histoquant.slides.grid import spans
from histoquant.slides.handles import Handle
from histoquant.slides.source import Level, OnDamage
from histoquant.slides.tiff_pyramid import downsample

if TYPE_CHECKING:
    from histoquant.slides.dicom_pixels import Plane

_CACHE_BYTES = 64 * 2**20
_LARGEST_ASSOCIATED_PX = 2**26
_RGB = ("red", "green", "blue")


def is_dicom(path: Path) -> bool:
    """Tell whether `path` is a DICOM file, or a folder with one directly in it."""
    if not path.is_dir():
        return _has_mark(path)
    try:
        return any(_has_mark(entry) for entry in sorted(path.iterdir()))
    except OSError:
        return False


def content_files(path: Path) -> list[Path]:
    """List the files of the slide at `path` by name: its levels, label, macro and thumbnail.

    Raises
    ------
    SlideError
        Where no slide can be told from the files, or wsidicom is not installed.
    """
    _require_libraries(path)
    from histoquant.slides.dicom_files import read_series

    return [header.path for header in read_series(path)]


class DicomSource:
    """A DICOM whole-slide image as a `Source`.

    Parameters
    ----------
    path
        A folder that holds one slide, or any file of the slide.
    on_damage
        With ``missing``, a tile that cannot be decoded reads as the fill value and is listed in
        `damaged_boxes`; with ``error`` it raises SlideError.

    Raises
    ------
    SlideError
        When wsidicom is not installed, or the files are no slide, damaged or not readable.
    """

    def __init__(self, path: Path, *, on_damage: OnDamage = "error") -> None:
        _require_libraries(path)
        from histoquant.slides.dicom_files import read_series
        from histoquant.slides.dicom_pixels import DicomFiles, open_files

        self._path = path
        self._on_damage = on_damage
        self._headers = read_series(path)
        self._cache = TileCache(_CACHE_BYTES)
        self._lock = Lock()
        self._damaged: dict[tuple[int, int, int], None] = {}
        self._files = Handle(partial(open_files, self._headers), DicomFiles.close)
        with self._files.use() as files:
            first = _check_levels(path, files.levels)
            self.levels = tuple(_public(path, first.shape, planes) for planes in files.levels)
            self._missing = [
                np.any([plane.frames < 0 for plane in planes], axis=0) for planes in files.levels
            ]
            self.associated = tuple(files.others)
            names = tuple(plane.name for plane in files.levels[0])
        header = first.header
        self.format = "DICOM WSI"
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if header.bits == 8 else np.uint16)
        words = {name: text for h in self._headers for name, text in h.paths}
        self.channels = _channels(names, words) if header.samples == 1 else _RGB
        self.is_colour = len(self.channels) == 1 or header.samples == 3
        self.claims = header.claims
        self.compression = header.syntax.name
        self.has_icc_profile = header.has_icc_profile

    def close(self) -> None:
        """Release the files and the decoded tiles; a later read opens them again."""
        self._files.close()
        self._cache.clear()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside `level`."""
        out = np.empty((height, width, len(self.channels)), dtype=self.dtype)
        if out.size:
            with self._files.use() as files:
                planes = files.levels[level]
                samples = out.shape[2] // len(planes)
                for k, plane in enumerate(planes):
                    part = out[:, :, k * samples : (k + 1) * samples]
                    self._paint(part, (level, k), plane, (y, x), fill)
        return out

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Read the label, macro or thumbnail: uint8 (h, w, 3), absent tiles black.

        Raises
        ------
        SlideError
            When there is none of that name, or it is damaged.
        """
        with self._files.use() as files:
            if name not in files.others:
                there = ", ".join(files.others) or "none"
                raise SlideError(f"{self._path}: no image {name!r}; there are: {there}.")
            plane = files.others[name]
            height, width = plane.shape
            if height * width > _LARGEST_ASSOCIATED_PX or plane.header.bits != 8:
                raise SlideError(
                    f"{plane.header.path}: a {name} of {width} x {height} px, "
                    f"{plane.header.bits} bits, which is not read as a picture."
                )
            out = np.zeros((height, width, plane.header.samples), dtype=np.uint8)
            self._paint(out, (name, 0), plane, (0, 0), 0)
        return np.ascontiguousarray(np.broadcast_to(out, (height, width, 3)))

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of every tile of any level without a frame."""
        return [
            self._box(level, row, column)
            for level, missing in enumerate(self._missing)
            for row, column in np.argwhere(missing).tolist()
        ]

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of the tiles found unreadable so far."""
        with self._lock:
            return [self._box(*tile) for tile in self._damaged]

    def _paint(
        self,
        out: NDArray[Any],
        key: tuple[int | str, int],
        plane: Plane,
        corner: tuple[int, int],
        fill: int,
    ) -> None:
        """Copy the tiles of `plane` under `out` (y, x, c), whose corner lies at `corner`."""
        (y, x), (tile_h, tile_w) = corner, plane.header.tile
        for top, bottom in spans(y, y + out.shape[0], tile_h):
            for left, right in spans(x, x + out.shape[1], tile_w):
                row, column = top // tile_h, left // tile_w
                tile = self._tile(key, plane, row, column)
                window = out[top - y : bottom - y, left - x : right - x]
                if tile is None:
                    window[...] = fill
                else:
                    first, start = top - row * tile_h, left - column * tile_w
                    window[...] = tile[first:, start:][: bottom - top, : right - left]

    def _tile(
        self, key: tuple[int | str, int], plane: Plane, row: int, column: int
    ) -> NDArray[Any] | None:
        """Give a decoded tile (y, x, c), or None where there is no frame."""
        if plane.frames[row, column] < 0:
            return None
        tile = self._cache.get((*key, row, column))
        if tile is None:
            try:
                tile = plane.decode(plane.fetch(row, column))
            except Exception as error:  # wsidicom and codecs raise whatever they like
                self._note_damage(key, plane, row, column, error)
                return None
            self._cache.put((*key, row, column), tile)
        return tile

    def _note_damage(
        self,
        key: tuple[int | str, int],
        plane: Plane,
        row: int,
        column: int,
        error: Exception,
    ) -> None:
        """Remember a tile that cannot be decoded, or raise."""
        level = key[0]
        if self._on_damage == "missing" and isinstance(level, int):
            with self._lock:
                self._damaged[level, row, column] = None
            return
        name = f"level {level}" if isinstance(level, int) else level
        raise SlideError(
            f"{plane.header.path}: {name}, tile row {row}, column {column} cannot be decoded "
            f"({error}). The file is damaged or truncated; copy it again from the scanner."
        ) from error

    def _box(self, level: int, row: int, column: int) -> tuple[float, float, float, float]:
        (tile_h, tile_w), (down_y, down_x) = self.levels[level].tile, self.levels[level].downsample
        height, width = tile_h * down_y, tile_w * down_x
        return row * height, column * width, height, width


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _require_libraries(path: Path) -> None:
    advice = "Run: pip install histoquant[dicom]"
    absent = [name for name in ("pydicom", "wsidicom") if find_spec(name) is None]
    if absent:
        raise SlideError(
            f"{path}: a DICOM slide, and {' and '.join(absent)} is not installed here. {advice}"
        )
    try:
        import histoquant.slides.dicom_pixels  # noqa: F401
    except ImportError as error:
        raise SlideError(
            f"{path}: a DICOM slide, and the wsidicom installed here is another version ({error}). "
            f"{advice}"
        ) from error


def _check_levels(path: Path, levels: tuple[tuple[Plane, ...], ...]) -> Plane:
    """Give the first plane, once all levels are known to hold the same channels."""
    kinds = {
        (tuple(plane.name for plane in planes), planes[0].header.samples, planes[0].header.bits)
        for planes in levels
    }
    tiles = [{plane.header.tile for plane in planes} for planes in levels]
    if len(kinds) > 1 or max(map(len, tiles)) > 1:
        raise SlideError(
            f"{path}: its levels differ in channels or in type ({sorted(kinds)}). "
            "Export the slide as OME-TIFF to use it."
        )
    first, *more = levels[0]
    if more and first.header.samples == 3:
        raise SlideError(
            f"{path}: {1 + len(more)} colour pictures of one slide (optical paths "
            f"{', '.join(plane.name for plane in levels[0])}); which of them is meant is not "
            "known. Keep one of them in the folder."
        )
    return first


def _public(path: Path, base: tuple[int, int], planes: Iterable[Plane]) -> Level:
    planes = list(planes)
    first = planes[0]
    factor = downsample(base, first.shape)
    if factor is None:
        raise SlideError(
            f"{path}: the image of {first.shape[1]} x {first.shape[0]} px "
            f"({first.header.path.name}) does not show the same picture as the one of "
            f"{base[1]} x {base[0]} px. Keep one slide in the folder."
        )
    missing = sum(int(np.count_nonzero(plane.frames < 0)) for plane in planes)
    return Level(first.shape, factor, first.header.tile, missing)


def _channels(names: tuple[str, ...], descriptions: dict[str, str]) -> tuple[str, ...]:
    """Name the channels by what the optical paths are described as, else by identifier."""
    if len(names) == 1:
        return (descriptions.get(names[0]) or "grey",)
    return tuple(descriptions.get(name) or f"channel {name}" for name in names)
