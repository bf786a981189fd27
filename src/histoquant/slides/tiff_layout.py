"""The structure of a TIFF slide file: whose it is, its levels, channels and scale."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile, TiffPage

from histoquant.errors import SlideError
from histoquant.slides.scale import aperio_claims, resolution_claims
from histoquant.slides.source import ScaleClaim
from histoquant.slides.tiff_chain import check_chain, check_subifds
from histoquant.slides.tiff_ome import read_ome
from histoquant.slides.tiff_philips import read_philips
from histoquant.slides.tiff_planes import ALPHA, compression_name
from histoquant.slides.tiff_pyramid import (
    OTHER_PICTURES,
    PyramidLevel,
    build_level,
    finest_first,
)

# tifffile's remarks go to whoever configured logging, not to everybody's terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_LARGEST_OTHER_BYTES = 2**29
_NDPI_FORMAT, _NDPI_LENS, _NDPI_Z = 65420, 65421, 65424
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, _ICC_PROFILE = 282, 283, 296, 34675
_MINISBLACK, _RGB, _YCBCR = 1, 2, 6
_DECODED_AS_RGB = {6, 7, 33003, 33007}
_REDUCED, _MACRO = 1, 8
_OTHERS = (("is_scn", "Leica SCN"), ("is_bif", "Ventana BIF"))
_ADVICE = "Export the slide as an RGB or multi-channel OME-TIFF to use it"


@dataclass(frozen=True)
class Layout:
    """The structure of a slide file, free of the file handle it was read through."""

    format: str
    levels: tuple[PyramidLevel, ...]
    channels: tuple[str, ...]
    is_colour: bool
    claims: tuple[ScaleClaim, ...]
    compression: str
    has_icc_profile: bool
    associated: dict[str, PyramidLevel | str]
    """Label, macro and the like by name; a text where one cannot be read, saying why."""


Named = tuple[tuple[str, list[TiffPage]], ...]


@dataclass(frozen=True)
class _Pages:
    """Pages of each level (several where channels lie on separate pages), finest first.

    `times` are the downsamples of the levels where the file states them.
    """

    format: str
    levels: list[list[TiffPage]]
    associated: Named = ()
    claims: tuple[ScaleClaim, ...] = ()
    channels: tuple[str, ...] = ()
    times: tuple[float, ...] = ()


def read_layout(path: Path) -> Layout:
    """Read the structure of a TIFF slide.

    Raises
    ------
    SlideError
        For a damaged structure, or pixels that would be read wrongly.
    """
    try:
        return _read_layout(path)
    except SlideError:
        raise
    except Exception as error:  # tifffile raises whatever it meets in a damaged file
        raise SlideError(
            f"{path}: the structure of this TIFF file cannot be read ({error}). "
            "It is damaged or truncated; copy it again from the scanner."
        ) from error


def _read_layout(path: Path) -> Layout:
    # NDPI lays out 64-bit offsets in a way of its own; tifffile would go by the file's name.
    with TiffFile(path, is_ndpi=_is_ndpi(path)) as tiff:
        return _layout(path, tiff)


def _is_ndpi(path: Path) -> bool:
    with path.open("rb") as file:
        magic, offset = struct.unpack("<4sQ", file.read(12))
        if magic != b"II*\0" or offset >= path.stat().st_size:
            return False
        file.seek(offset)
        count = int.from_bytes(file.read(2), "little")
        codes = np.frombuffer(file.read(12 * count)[: 12 * count], "<u2")[::6]
    return _NDPI_FORMAT in codes


def _layout(path: Path, tiff: TiffFile) -> Layout:
    found = _find_levels(path, tiff)
    first = found.levels[0][0]
    base = (first.imagelength, first.imagewidth)
    if 0 in base:
        raise SlideError(f"{path}: an image of {base} px. Copy it again from the scanner.")
    kept = _kept_samples(path, first)
    channels = _channel_names(first, kept * len(found.levels[0]), found.channels)
    return Layout(
        format=found.format,
        levels=tuple(
            build_level(f"{path}: level {k}", pages, base, kept, times=times)
            for k, (pages, times) in enumerate(
                zip(found.levels, found.times or (None,) * len(found.levels), strict=True)
            )
        ),
        channels=channels,
        is_colour=len(channels) == 1 or int(first.photometric) != _MINISBLACK,
        claims=(*found.claims, *resolution_claims(*_resolution(first))),
        compression=compression_name(first),
        has_icc_profile=_ICC_PROFILE in first.tags,
        associated=_associated(path, found.associated),
    )


def _associated(path: Path, named: Named) -> dict[str, PyramidLevel | str]:
    found: dict[str, PyramidLevel | str] = {}
    for name, pages in named:
        count = sum(other.partition(" #")[0] == name for other in found)
        found[f"{name} #{count + 1}" if count else name] = _picture(path, name, pages)
    return found


def _picture(path: Path, name: str, pages: list[TiffPage]) -> PyramidLevel | str:
    """Describe an associated image. That one is damaged is no reason to refuse the slide."""
    try:
        if len(pages) != 1:
            return f"{path}: {name} has its channels on {len(pages)} pages and is no picture."
        shape = pages[0].imagelength, pages[0].imagewidth
        kept = _kept_samples(path, pages[0])
        if kept not in (1, 3) or pages[0].dtype != np.uint8:
            return f"{path}: {name} has {kept} channels of {pages[0].dtype} and is no picture."
        if not 0 < math.prod(shape) * kept <= _LARGEST_OTHER_BYTES:
            return f"{path}: {name} claims {shape[0]} x {shape[1]} px, which is no {name}."
        return build_level(f"{path}: {name}", pages, shape, kept)
    except SlideError as error:
        return str(error)
    except Exception as error:  # as in read_layout
        return f"{path}: {name} cannot be read ({error}). The file is damaged."


def _find_levels(path: Path, tiff: TiffFile) -> _Pages:
    pages = _all_pages(path, tiff)
    for flag, name in _OTHERS:
        if getattr(tiff, flag, False):
            raise SlideError(f"{path}: {name}, whose tiles overlap; OpenSlide reads it.")
    if _NDPI_FORMAT in pages[0].tags:
        return _ndpi(path, pages)
    if tiff.is_svs:
        return _aperio(pages)
    if tiff.is_philips:
        slide = read_philips(path, pages)
        return _Pages(
            "Philips TIFF", slide.levels, slide.others, slide.claims, times=slide.downsamples
        )
    if tiff.is_ome and tiff.ome_metadata:
        image = read_ome(path, tiff.ome_metadata, pages)
        return _Pages("OME-TIFF", image.levels, image.others, image.claims, image.channels)
    return _plain(path, pages)


def _all_pages(path: Path, tiff: TiffFile) -> list[TiffPage]:
    count = check_chain(path, tiff)
    pages: list[TiffPage] = [page.aspage() for page in tiff.pages]
    if not pages:
        raise SlideError(f"{path}: a TIFF file without an image. Copy it again from the scanner.")
    if len(pages) != count:
        raise SlideError(
            f"{path}: {len(pages)} of {count} images can be read. The file is damaged; copy it "
            "again from the scanner."
        )
    for k, page in enumerate(pages):
        check_subifds(path, tiff, k, page.subifds or ())
    return pages


def _aperio(pages: list[TiffPage]) -> _Pages:
    base, *others = pages
    # The thumbnail is striped and keeps the aspect of the scan: only tiles make a level.
    scans = [page for page in others if page.is_tiled and not page.subfiletype]
    names = [(_aperio_name(page), [page]) for page in others if page not in scans]
    levels = [[page] for page in finest_first(base, scans)]
    return _Pages("Aperio SVS", levels, tuple(names), tuple(aperio_claims(base.description)))


def _aperio_name(page: TiffPage) -> str:
    """Name an associated image: by its second line, else by its subfile type."""
    second_line = page.description.lower().partition("\n")[2]
    for name in ("label", "macro"):
        if second_line.startswith(name):
            return name
    if page.subfiletype & _MACRO:
        return "macro"
    return "label" if page.subfiletype & _REDUCED else "thumbnail"


def _ndpi(path: Path, pages: list[TiffPage]) -> _Pages:
    lens = [float(page.tags.valueof(_NDPI_LENS, default=0.0)) for page in pages]
    scans = [page for page, power in zip(pages, lens, strict=True) if power > 0]
    if not scans:
        raise SlideError(f"{path}: an NDPI file with macro images only (found lenses {lens}).")
    # Focal planes repeat the shape; the one nearest the centre of the section is the scan.
    scans.sort(
        key=lambda p: (-p.imagelength * p.imagewidth, abs(p.tags.valueof(_NDPI_Z, default=0)))
    )
    names = {-1.0: "macro", -2.0: "map"}
    return _Pages(
        "Hamamatsu NDPI",
        [[page] for page in finest_first(scans[0], scans[1:])],
        tuple(
            (names[power], [page])
            for page, power in zip(pages, lens, strict=True)
            if power in names
        ),
        tuple(resolution_claims(*_resolution(scans[0]), vendor="Hamamatsu")),
    )


def _plain(path: Path, pages: list[TiffPage]) -> _Pages:
    base = max(pages, key=lambda page: page.imagewidth * page.imagelength)
    same = sum(page.shape == base.shape for page in pages)
    if same > 1:
        raise SlideError(
            f"{path}: {same} images of {base.imagewidth} x {base.imagelength} px; which of them "
            f"is the slide is not known. {_ADVICE}."
        )
    others = [page for page in pages if page is not base]
    subpages = [sub.aspage() for sub in base.pages or ()]
    tiled = [page for page in subpages + others if page.is_tiled or not base.is_tiled]
    levels = finest_first(base, tiled)
    rest = tuple((_plain_name(page), [page]) for page in others if page not in levels)
    return _Pages("TIFF", [[page] for page in levels], rest)


def _plain_name(page: TiffPage) -> str:
    text = page.description.lower()
    return next((name for name in OTHER_PICTURES if text.startswith(name)), f"image {page.index}")


def _kept_samples(path: Path, page: TiffPage) -> int:
    """Count the samples per pixel that are colours or channels; alpha is left out."""
    photometric, samples = int(page.photometric), page.samplesperpixel
    is_rgb = photometric == _RGB or (
        photometric == _YCBCR and int(page.compression) in _DECODED_AS_RGB
    )
    is_flat = page.imagedepth == 1 and page.dtype is not None
    if is_flat and photometric == _MINISBLACK:
        return max(1, samples - sum(int(kind) in ALPHA for kind in page.extrasamples))
    if is_flat and is_rgb and samples >= 3:
        return 3
    name = getattr(page.photometric, "name", photometric)
    raise SlideError(
        f"{path}: colours stored as {name}, {samples} samples of {page.bitspersample} bits "
        f"({compression_name(page)}). {_ADVICE}."
    )


def _channel_names(page: TiffPage, count: int, given: tuple[str, ...]) -> tuple[str, ...]:
    if int(page.photometric) != _MINISBLACK:
        return ("red", "green", "blue") * (count // 3)
    names = given if len(given) == count else ("",) * count
    default = (f"channel {k}" for k in range(count)) if count > 1 else iter(("grey",))
    return tuple(name or other for name, other in zip(names, default, strict=True))


def _resolution(page: TiffPage) -> Iterator[Any]:
    """Give pixels per unit in y and x (None where absent), and the unit."""
    for code in (_Y_RESOLUTION, _X_RESOLUTION):
        value = page.tags.valueof(code)
        is_ratio = isinstance(value, tuple) and len(value) == 2 and value[1]
        yield value[0] / value[1] if is_ratio else None
    yield int(page.tags.valueof(_RESOLUTION_UNIT, default=2))
