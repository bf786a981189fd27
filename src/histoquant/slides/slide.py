"""`Slide`: lazy pixels of one whole slide at any scale, on one global grid."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import ScaleError, SlideError
from histoquant.slides.coverage import outside, percent_inside
from histoquant.slides.describe import describe
from histoquant.slides.fingerprint import file_stamps, fingerprint
from histoquant.slides.grid import Grid
from histoquant.slides.pair import ChannelSource, PairSource
from histoquant.slides.readers import is_url, open_source
from histoquant.slides.reading import grid_at, is_brightfield, read_window
from histoquant.slides.scale import Scale, resolve_scale
from histoquant.slides.sharing import shared_source
from histoquant.slides.source import Level, OnDamage, Source

if TYPE_CHECKING:
    import dask.array as da

_CHUNK_PX = 2048


def open_slide(
    path: str | os.PathLike[str],
    *,
    mpp: float | None = None,
    require_scale: bool = True,
    on_damage: OnDamage = "error",
    nuclear: str | os.PathLike[str] | None = None,
) -> Slide:
    """Open a whole slide.

    Parameters
    ----------
    path
        A slide file, a folder of DICOM files, or an OME-Zarr (a folder or a URL).
    mpp
        Microns per level-0 pixel, instead of what the file says.
    require_scale
        With False, a slide without a usable scale opens too, with `Slide.mpp` None.
    on_damage
        What an unreadable tile is: an error, or missing like a tile without data. Missing ones
        are counted in `Slide.damaged_tiles` and left out of `Slide.known`.
    nuclear
        The file with the nuclear stain of a fluorescence slide that was written as a file per
        stain; `path` is then the marker's. They become two channels of one slide.

    Raises
    ------
    SlideError
        When the file is missing, no slide, or damaged.
    ScaleError
        When its scale is missing, absurd or unequal in x and y.
    """
    slide = Slide(path, mpp=mpp, require_scale=require_scale, on_damage=on_damage, nuclear=nuclear)
    slide._open()
    return slide


class Slide:
    """A whole slide: open it with `open_slide`.

    It holds no pixels, only where they are: it pickles as its path and options and opens the
    file again in the process that reads. Reading is thread-safe. `close` (or leaving a ``with``
    block) releases the file; reading afterwards opens it again, so that lazy arrays stay good.

    Coordinates are (y, x). Continuous level-0 coordinates have the top-left corner of the
    picture at (0, 0); the centre of pixel i is i + 0.5. The picture is the whole frame that the
    scanner describes, also where (MRXS, SCN, BIF) only parts of it were scanned.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mpp: float | None = None,
        require_scale: bool = True,
        on_damage: OnDamage = "error",
        nuclear: str | os.PathLike[str] | None = None,
        as_channels: bool = False,
    ) -> None:
        self.path = _placed(path)
        self.nuclear_path = None if nuclear is None else _placed(nuclear)
        self._as_channels = as_channels
        self._given_mpp = mpp
        self._require_scale = require_scale
        self._on_damage = on_damage
        self._is_copy = False
        self._lock = Lock()
        self._opened: tuple[Source, Scale | None] | None = None
        self._fingerprint = ""

    def __getstate__(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "mpp": self._given_mpp,
            "require_scale": self._require_scale,
            "on_damage": self._on_damage,
            "nuclear": None if self.nuclear_path is None else str(self.nuclear_path),
            "as_channels": self._as_channels,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]
        self._is_copy = True

    def __dask_tokenize__(self) -> tuple[object, ...]:
        stamps = [stamp for path in self._paths for stamp in file_stamps(path)]
        return *self.__getstate__().values(), *stamps

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
    def is_colour(self) -> bool:
        """Whether it is read as 8-bit red, green and blue; grey is repeated in all three."""
        return is_brightfield(self._source)

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
        """Level-0 tiles without data, where a format tells of tiles; see `missing_percent`."""
        return self.levels[0].missing_tiles

    @property
    def missing_percent(self) -> float:
        """Part of the frame without pixels: not scanned, without data or unreadable."""
        return percent_inside(self._unknown_boxes(), self.levels[0].shape)

    @property
    def damaged_tiles(self) -> int:
        """Tiles found unreadable so far in this process, opened with ``on_damage="missing"``."""
        return len(self.damaged_boxes())

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (level-0 px) of the tiles that `damaged_tiles` counts."""
        return self._source.damaged_boxes()

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of the content, as `slides.fingerprint` defines it; once."""
        if not self._fingerprint:
            self._fingerprint = fingerprint(self.path, self.nuclear_path)
        return self._fingerprint

    def as_channels(self) -> Slide:
        """The same slide, its colours read as channels of fluorescence that stand for themselves.

        Where there are no data it is then 0, as in any dark field, not white.
        """
        if not self.is_colour:
            return self
        return Slide(
            self.path,
            mpp=self._given_mpp,
            require_scale=self._require_scale,
            on_damage=self._on_damage,
            as_channels=True,
        )

    def associated(self, name: str) -> NDArray[np.uint8]:
        """Read the label, macro or thumbnail: uint8 (y, x, 3), under a name that `info` lists.

        A label may show a person's name: it belongs in no result.

        Raises
        ------
        SlideError
            When there is none of that name; the message lists those there are.
        """
        return self._source.associated_image(name)

    def info(self) -> dict[str, Any]:
        """Describe the slide in JSON types; `mpp` is None where it is unknown.

        `missing_percent` is None where damage keeps it from being known.
        """
        return describe(self, self._source)

    def region(
        self,
        y: int,
        x: int,
        height: int,
        width: int,
        level: int = 0,
        *,
        fill: int | None = None,
    ) -> NDArray[Any]:
        """Read pixels of a level as they are stored.

        Parameters
        ----------
        y, x, height, width
            Window in px of `level`, inside the slide.
        level
            Index into `levels`.
        fill
            Value of pixels that the file holds no data for; by default that of glass: 255 in a
            slide of 8-bit colours, else 0.

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
        return self._source.region(level, y, x, height, width, self._fill(fill))

    def grid_shape(self, mpp: float) -> tuple[int, int]:
        """Count rows and columns at `mpp` um/px; the last ones may be partly covered."""
        return self._grid(mpp).shape

    def read(
        self, mpp: float, y: int, x: int, height: int, width: int, *, fill: int | None = None
    ) -> NDArray[Any]:
        """Read pixels at a scale, area-averaged from the next finer level.

        The value of a pixel of the grid is the same in every window that holds it.

        Parameters
        ----------
        mpp
            Microns per pixel of the result.
        y, x, height, width
            Window on the grid of `mpp` (px), whose corner is that of the slide. It may leave
            the slide.
        fill
            Value outside the slide and where the file holds no data; by default that of glass:
            255 in a slide of 8-bit colours, else 0.

        Returns
        -------
        numpy.ndarray
            (height, width, c): uint8 red, green, blue where `is_colour`; else the slide's own
            type and channels.

        Raises
        ------
        SlideError
            When the slide is too coarse for `mpp`, or damaged.
        """
        return read_window(self._source, self._grid(mpp), (y, x), (height, width), self._fill(fill))

    def overview(self, mpp: float) -> NDArray[Any]:
        """Read the whole slide at `mpp` um/px, (y, x, c) as `read` does, in bounded memory."""
        rows, columns = self.grid_shape(mpp)
        return self.read(mpp, 0, 0, rows, columns)

    def known(self, mpp: float) -> NDArray[np.bool_]:
        """Where the file holds data, on the grid of `mpp`: bool (y, x).

        False wherever any level lacks a tile or pixels, and where a tile was found unreadable
        so far: those read as the fill value, not as tissue.
        """
        return outside(self._unknown_boxes(), self.grid_shape(mpp), self.mpp / mpp)

    def pixels(self, mpp: float) -> da.Array:
        """Give the whole slide at `mpp` um/px as a lazy array.

        Returns
        -------
        dask.array.Array
            (y, x, c), equal to `overview`. Chunks follow the tiles of the file; they never
            change a value.
        """
        from histoquant.slides.lazy import lazy_pixels

        return lazy_pixels(self, mpp, self._grid(mpp).chunk(_CHUNK_PX**2))

    @property
    def _source(self) -> Source:
        return self._open()[0]

    @property
    def _scale(self) -> Scale | None:
        return self._open()[1]

    def _open(self) -> tuple[Source, Scale | None]:
        with self._lock:
            if self._opened is None:
                open_it = shared_source if self._is_copy else open_source
                sources = [open_it(path, on_damage=self._on_damage) for path in self._paths]
                source: Source = sources[-1]
                if len(sources) > 1:
                    source = PairSource(self._paths, sources)
                elif self._as_channels:
                    source = ChannelSource(source)
                try:
                    scale = resolve_scale(self.path, source.claims, self._given_mpp)
                except ScaleError:
                    if self._require_scale or self._given_mpp is not None:
                        raise
                    scale = None
                self._opened = source, scale
            return self._opened

    @property
    def _paths(self) -> tuple[Path | str, ...]:
        """The files of the slide: that of the nuclear stain, where it has one, comes first."""
        return (self.path,) if self.nuclear_path is None else (self.nuclear_path, self.path)

    def _fill(self, given: int | None) -> int:
        return given if given is not None else 255 * self.is_colour

    def _unknown_boxes(self) -> list[tuple[float, float, float, float]]:
        return self._source.missing_boxes() + self.damaged_boxes()

    def _grid(self, mpp: float) -> Grid:
        return grid_at(self.path, self.levels, self._scale, mpp)


def _placed(path: str | os.PathLike[str]) -> Path | str:
    name = os.fspath(path)
    return name if is_url(name) else Path(name).absolute()
