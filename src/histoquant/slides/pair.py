"""Fluorescence kept as pictures: a file per stain, or all stains in one false-colour file.

Some scanners write each stain as an RGB file of its own, in false colour. Two such files of one
section are one slide of two channels, `PairSource`. A single RGB file in which stains are colours
is read as three channels, `ChannelSource`: dark where there is nothing, never filled with white.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.grid import plan_grid
from histoquant.slides.reading import read_window
from histoquant.slides.source import Level, ScaleClaim, Source

_LOOK_PX = 600  # longest side of the picture by which a file's colour is chosen
_DARK_GREY = 90.0  # the darkest tenth of a dark field lies below; that of glass far above
_OTHER_STAIN_SD = 6.0  # grey levels of another colour that the first does not explain
_NDPI_OFFSETS = (65422, 65423)  # from the slide's centre, nm, x and y
_NDPI_FILTER = 65434  # name of the fluorescence filter
Path_ = Path | str


class ChannelSource:
    """A colour picture read as channels that have nothing to do with each other."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    is_colour = False


class PairSource:
    """Two files of one section, a stain each, as one slide of two channels.

    Parameters
    ----------
    paths
        The file with the nuclear stain and the file with the marker.
    sources
        Their pixels.

    Raises
    ------
    SlideError
        When they are not two pictures of the same field, or one does not hold just one stain.
    """

    is_colour = False
    has_icc_profile = False

    def __init__(self, paths: Sequence[Path_], sources: Sequence[Source]) -> None:
        self._paths, self._sources = tuple(paths), tuple(sources)
        _check_same_field(self._paths, self._sources)
        first, second = self._sources
        self._levels = [
            (a, b)
            for a, one in enumerate(first.levels)
            for b, other in enumerate(second.levels)
            if one.shape == other.shape and one.downsample == other.downsample
        ]
        self._kept = tuple(map(_only_channel, self._paths, self._sources))
        self.channels = tuple(
            f"{role} {_ndpi_tag(path, _NDPI_FILTER) or _stem(path)}"
            for role, path in zip(("nuclear", "marker"), self._paths, strict=True)
        )

    @property
    def format(self) -> str:
        """Name of the format, of two files."""
        return f"{self._sources[1].format}, a file per stain"

    @property
    def levels(self) -> tuple[Level, ...]:
        """Levels that both files have."""
        return tuple(self._sources[1].levels[b] for _, b in self._levels)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        return self._sources[1].dtype

    @property
    def claims(self) -> tuple[ScaleClaim, ...]:
        """What the marker's file says of its scale; the other was checked to say the same."""
        return self._sources[1].claims

    @property
    def compression(self) -> str:
        """How the pixels are packed."""
        return self._sources[1].compression

    @property
    def associated(self) -> tuple[str, ...]:
        """Labels and macros stay with their own files."""
        return ()

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, 2) of a window: nuclear stain, marker."""
        own = self._levels[level]
        planes = [
            source.region(index, y, x, height, width, fill)[..., kept]
            for source, index, kept in zip(self._sources, own, self._kept, strict=True)
        ]
        return np.stack(planes, axis=-1)

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Boxes of what either file holds no pixels for."""
        return [box for source in self._sources for box in source.missing_boxes()]

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Boxes of tiles found unreadable in either file."""
        return [box for source in self._sources for box in source.damaged_boxes()]

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """Refuse: the files have their own."""
        raise SlideError(f"{self._paths[1]}: a pair of files has no {name!r}; open one of them.")

    def close(self) -> None:
        """Release both files."""
        for source in self._sources:
            source.close()


def _check_same_field(paths: Sequence[Path_], sources: Sequence[Source]) -> None:
    """Refuse files of another size, depth, scale or place on the glass."""
    facts = {
        "size": [f"{s.levels[0].shape[1]} x {s.levels[0].shape[0]} px" for s in sources],
        "type": [str(s.dtype) for s in sources],
        "um/px": [_scale(s) for s in sources],
        "place on the glass": [_place(p) for p in paths],
    }
    for name, (first, second) in facts.items():
        if first and second and first != second:
            raise SlideError(
                f"{paths[1]} and its nuclear slide {paths[0]} are not two stains of one field: "
                f"their {name} differs ({second} and {first}). Name the file that was scanned "
                "together with it, or export both channels as one OME-TIFF."
            )


def _scale(source: Source) -> str:
    """What the file says of its scale, to four digits; empty when it says nothing."""
    claim = next((c for c in source.claims if c.source), None)
    return f"{claim.y_um:.4g}" if claim is not None and claim.y_um else ""


def _place(path: Path_) -> str:
    """Where on the glass an NDPI was scanned, to the um; empty for other files."""
    x, y = (_ndpi_tag(path, code) for code in _NDPI_OFFSETS)
    if not (isinstance(x, int) and isinstance(y, int)):
        return ""
    return f"x {round(x / 1000)} um, y {round(y / 1000)} um"


def _ndpi_tag(path: Path_, code: int) -> object:
    """Value of one of Hamamatsu's own tags; None where there is none."""
    from tifffile import TiffFile, TiffFileError

    if isinstance(path, str) or path.suffix.lower() != ".ndpi":
        return None
    try:
        with TiffFile(path) as tiff:
            return tiff.pages.first.tags.valueof(code)
    except (TiffFileError, OSError, ValueError):
        return None


def _only_channel(path: Path_, source: Source) -> int:
    """Which channel of a file holds its stain: the one that varies most.

    Raises
    ------
    SlideError
        When there are several stains in the file, or it is no dark field.
    """
    count = len(source.channels)
    if count == 1:
        return 0
    advice = (
        "Each file of a pair holds one stain. If all are in one file, leave nuclear_slide out and "
        "name the channels (fluorescence.nuclear, fluorescence.marker)."
    )
    if not source.is_colour or count != 3:
        raise SlideError(f"{path}: {count} channels ({', '.join(source.channels)}). {advice}")
    picture = _small(source).reshape(-1, 3)
    if np.percentile(picture.max(axis=1), 10) >= _DARK_GREY:
        raise SlideError(
            f"{path}: this is a bright-field slide (its darkest tenth is brighter than "
            f"{_DARK_GREY:g}), no stain of a fluorescence pair."
        )
    values = picture.astype(np.float64)
    kept = int(np.argmax(values.std(axis=0)))
    shape = values[:, kept] - values[:, kept].mean()
    for other in set(range(3)) - {kept}:
        slope = float(shape @ values[:, other]) / max(float(shape @ shape), 1e-9)
        left = float((values[:, other] - slope * shape).std())
        if left > _OTHER_STAIN_SD:
            raise SlideError(
                f"{path}: {source.channels[kept]} and {source.channels[other]} show different "
                f"things (they differ by {left:.0f} grey levels). {advice}"
            )
    return kept


def _small(source: Source) -> NDArray[Any]:
    """The whole picture at some 600 px a side, area-averaged."""
    extent = source.levels[0].shape
    grid = plan_grid(source.levels, max(1.0, max(extent) / _LOOK_PX))
    return read_window(source, grid, (0, 0), grid.shape, 0)


def _stem(path: Path_) -> str:
    return PurePath(os.fspath(path)).name.split(".")[0]
