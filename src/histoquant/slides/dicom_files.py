"""Which files of a folder are one DICOM slide, and what their headers say about it.

Source: DICOM PS3.3, A.32.8 (VL Whole Slide Microscopy Image). Headers are read with pydicom and
only up to the groups of single frames, so that a slide of 100,000 tiles opens at once.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import read_partial
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
)

from histoquant.errors import SlideError
from histoquant.slides.dicom import is_dicom
from histoquant.slides.source import ScaleClaim

# Remarks of the libraries go to whoever configured logging, not to everybody's terminal.
for _name in ("pydicom", "wsidicom"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

NATIVE = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian})
JPEG = frozenset({JPEGBaseline8Bit})
JPEG_2000 = frozenset({JPEG2000, JPEG2000Lossless})
JPEG_LS = frozenset({JPEGLSLossless, JPEGLSNearLossless})
_PLAIN = frozenset({"MONOCHROME2", "RGB"})
# The colours that wsidicom decodes, or leaves as they are, by compression.
_COLOURS = {
    **dict.fromkeys(NATIVE | JPEG_LS, _PLAIN),
    **dict.fromkeys(JPEG, _PLAIN | {"YBR_FULL", "YBR_FULL_422"}),
    **dict.fromkeys(JPEG_2000, _PLAIN | {"YBR_ICT", "YBR_RCT"}),
    RLELossless: _PLAIN | {"YBR_FULL"},
}
_FLAVOURS = ("VOLUME", "LABEL", "OVERVIEW", "THUMBNAIL")
_PER_FRAME_GROUPS = 0x52009230
_LARGEST_TILE_BYTES = 2**30
_MOST_TILES = 2**24
_ADVICE = "Export the slide as OME-TIFF to use it"
_DAMAGED = "It is damaged or truncated; copy it again from the scanner"


@dataclass(frozen=True)
class Header:
    """What one file of the slide says of itself.

    Attributes
    ----------
    flavour
        VOLUME for a level; LABEL, OVERVIEW or THUMBNAIL.
    matrix, tile
        Rows and columns of the whole image and of one frame (px).
    paths
        Identifier and description of each optical path.
    """

    path: Path
    series: str
    flavour: str
    matrix: tuple[int, int]
    tile: tuple[int, int]
    frames: int
    samples: int
    bits: int
    photometric: str
    syntax: UID
    claims: tuple[ScaleClaim, ...]
    has_icc_profile: bool
    paths: tuple[tuple[str, str], ...]


def read_series(path: Path) -> tuple[Header, ...]:
    """Read the headers of all files of the slide at `path`: its levels, label and overview.

    Parameters
    ----------
    path
        A folder that holds one slide, or any file of the slide.

    Returns
    -------
    tuple of Header
        By file name.

    Raises
    ------
    SlideError
        For a folder without a slide or with several, a header that cannot be read, and pixels
        that would be read wrongly.
    """
    if path.is_dir():
        files = [header for file in _dicom_files(path) for header in _headers(file)]
        chosen = _only_series(path, files)
    else:
        chosen = _series_of(path)
        beside = (file for file in _dicom_files(path.parent) if file != path)
        files = [header for file in (path, *beside) for header in _headers(file)]
    series = sorted((h for h in files if h.series == chosen), key=lambda h: h.path.name)
    if not any(header.flavour == "VOLUME" for header in series):
        found = ", ".join(sorted({header.flavour for header in series}))
        raise SlideError(
            f"{path}: a DICOM series without a slide; found only {found or 'other objects'}. "
            "Open the folder that holds the slide's VOLUME images."
        )
    return tuple(series)


def _dicom_files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise SlideError(f"{folder}: cannot be read ({error}).") from error
    return (entry for entry in entries if entry.is_file() and is_dicom(entry))


def _only_series(folder: Path, headers: list[Header]) -> str:
    slides = sorted({header.series for header in headers if header.flavour == "VOLUME"})
    if len(slides) == 1:
        return slides[0]
    if not slides:
        raise SlideError(
            f"{folder}: no whole-slide image among its DICOM files. Open the folder that holds "
            "the slide's VOLUME images."
        )
    examples = [next(h.path.name for h in headers if h.series == uid) for uid in slides[:3]]
    raise SlideError(
        f"{folder}: {len(slides)} slides in one folder. Open one file of the slide you mean "
        f"({', '.join(examples)}...)."
    )


def _series_of(path: Path) -> str:
    for header in _headers(path):
        return header.series
    kind = "the index of a DICOM disc" if path.name.upper() == "DICOMDIR" else "no slide image"
    raise SlideError(f"{path}: a DICOM file, but {kind}. Open the folder that holds the slide.")


def _headers(path: Path) -> Iterator[Header]:
    """Read the header of a file, if it is part of a whole-slide image."""
    try:
        with path.open("rb") as file:
            data = read_partial(file, stop_when=lambda tag, *_: tag >= _PER_FRAME_GROUPS)
        sop_class = data.file_meta.get("MediaStorageSOPClassUID", data.get("SOPClassUID"))
        if sop_class == MediaStorageDirectoryStorage:
            return
        if sop_class == VLWholeSlideMicroscopyImageStorage:
            yield _header(path, data)
    except SlideError:
        raise
    except Exception as error:  # pydicom raises whatever it meets in a damaged file
        raise SlideError(
            f"{path}: this DICOM header cannot be read ({error}). {_DAMAGED}."
        ) from error


def _header(path: Path, data: pydicom.Dataset) -> Header:
    image_type = [str(word) for word in _many(data.ImageType)]
    flavour = next((word for word in image_type if word in _FLAVOURS), "")
    if not flavour:
        raise SlideError(
            f"{path}: a DICOM image of type {image_type}, which is no level, label or overview. "
            f"{_ADVICE}."
        )
    matrix = (int(data.TotalPixelMatrixRows), int(data.TotalPixelMatrixColumns))
    optical_paths = data.get("OpticalPathSequence") or ()
    header = Header(
        path=path,
        series=str(data.SeriesInstanceUID),
        flavour=flavour,
        matrix=matrix,
        tile=(int(data.Rows), int(data.Columns)),
        frames=int(data.get("NumberOfFrames") or 1),
        samples=int(data.SamplesPerPixel),
        bits=int(data.BitsStored),
        photometric=str(data.PhotometricInterpretation),
        syntax=UID(data.file_meta.TransferSyntaxUID),
        claims=tuple(_claims(data, matrix)),
        has_icc_profile=any("ICCProfile" in item for item in optical_paths),
        paths=tuple(
            (
                str(item.get("OpticalPathIdentifier", "")),
                str(item.get("OpticalPathDescription") or ""),
            )
            for item in optical_paths
        ),
    )
    _check_size(header)
    _check_pixels(header, data)
    return header


def _check_size(header: Header) -> None:
    sides = (*header.matrix, *header.tile)
    tiles = math.prod(-(-m // t) for m, t in zip(header.matrix, header.tile, strict=True) if t > 0)
    # Every frame takes a byte at least: a damaged count must not make room for billions.
    most = min(_MOST_TILES, header.path.stat().st_size)
    bytes_ = math.prod(header.tile) * header.samples * header.bits // 8
    if min(sides) < 1 or not 0 < header.frames <= most or tiles > _MOST_TILES:
        raise SlideError(
            f"{header.path}: {header.frames} frames of {header.tile[0]} x {header.tile[1]} px "
            f"in an image of {header.matrix[0]} x {header.matrix[1]} px cannot be. {_DAMAGED}."
        )
    if bytes_ > _LARGEST_TILE_BYTES:
        raise SlideError(
            f"{header.path}: frames of {header.tile[0]} x {header.tile[1]} px are too large to "
            f"decode at once. {_ADVICE}."
        )


def _check_pixels(header: Header, data: pydicom.Dataset) -> None:
    """Refuse what would be read wrongly, in words."""
    colours = _COLOURS.get(header.syntax)
    if colours is None:
        problem = f"compressed as {header.syntax.name}"
    elif header.photometric not in colours:
        problem = f"colours stored as {header.photometric} in {header.syntax.name}"
    elif header.samples != (1 if header.photometric == "MONOCHROME2" else 3):
        problem = f"{header.samples} samples per pixel of {header.photometric}"
    elif header.bits not in ((8, 16) if header.samples == 1 else (8,)) or header.bits != int(
        data.get("BitsAllocated", 0)
    ):
        problem = f"{header.bits} of {data.get('BitsAllocated')} bits used per sample"
    elif header.bits == 16 and header.syntax == RLELossless:
        problem = "16 bits per sample in RLE Lossless"  # wsidicom reads 8 bits only
    elif header.samples == 3 and int(data.get("PlanarConfiguration") or 0):
        problem = "colours stored plane by plane (planar configuration 1)"
    elif int(data.get("PixelRepresentation") or 0):
        problem = "signed pixels"
    else:
        return
    raise SlideError(f"{header.path}: {problem}, which histoquant does not read. {_ADVICE}.")


def _claims(data: pydicom.Dataset, matrix: tuple[int, int]) -> Iterator[ScaleClaim]:
    """Read the scale: PixelSpacing, else the imaged volume shared out over the matrix.

    PixelSpacing is (row spacing, column spacing) in mm: the first is the distance in y
    (PS3.3, 10.7.1.3).
    """
    groups = data.get("SharedFunctionalGroupsSequence") or ()
    measures = [item for group in groups for item in group.get("PixelMeasuresSequence") or ()]
    spacing = [mm for item in measures for mm in _many(item.get("PixelSpacing"))]
    if len(spacing) >= 2:
        y_um, x_um = (_um(mm) for mm in spacing[:2])
        found = f"PixelSpacing {spacing[0]} \\ {spacing[1]} mm"
        yield ScaleClaim(y_um, x_um, "DICOM PixelSpacing", found)
    else:
        yield ScaleClaim(None, None, "", "no DICOM PixelSpacing")
    volume = (data.get("ImagedVolumeHeight"), data.get("ImagedVolumeWidth"))
    if all(volume):
        y_um, x_um = (_um(mm / count) for mm, count in zip(volume, matrix, strict=True))
        found = f"ImagedVolumeHeight {volume[0]:g} mm, ImagedVolumeWidth {volume[1]:g} mm"
        yield ScaleClaim(y_um, x_um, "DICOM ImagedVolumeWidth", found)


def _um(mm: Any) -> float | None:
    value = float(mm) * 1000
    return value if math.isfinite(value) and value > 0 else None


def _many(value: Any) -> list[Any]:
    """Give the values of an element that may hold none, one or several."""
    if value is None:
        return []
    is_list = isinstance(value, pydicom.multival.MultiValue | list | tuple)
    return list(value) if is_list else [value]
