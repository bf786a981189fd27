"""The choice of the reader: by what a file holds, never by its name alone.

Archives are full of renamed files. Readers are asked in an order of preference; one that finds
a whole file that it does not understand hands it on, one that finds a damaged file does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from histoquant.errors import SlideError
from histoquant.slides.source import OnDamage, OtherReaderError, Source

Reader = Callable[..., Source]

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ZIP_MAGIC = b"PK\x03\x04"
_OTHER_MAGIC = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (_ZIP_MAGIC, "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
)
# TIFF files of these vendors need more than tiles: overlaps, offsets, tables in XML.
_OPENSLIDE_ONLY = {"leica", "ventana", "trestle"}
_SLIDEDAT = "Slidedat.ini"
_MOST_ENTRIES, _SHOWN_ENTRIES = 1000, 5
_READABLE = (
    "histoquant reads Aperio SVS, Hamamatsu NDPI and VMS, 3DHISTECH MRXS, Leica SCN, Ventana BIF, "
    "Philips TIFF, OME-TIFF, pyramidal TIFF, DICOM, OME-Zarr, and PNG and JPEG pictures; export "
    "the slide as OME-TIFF (for instance with QuPath) to use it"
)


def is_url(path: Path | str) -> bool:
    """Tell whether `path` names something that is not on a disk (``s3://...``)."""
    return isinstance(path, str) and "://" in path


def open_source(path: Path | str, *, on_damage: OnDamage = "error") -> Source:
    """Open `path` with the reader that its content asks for.

    Raises
    ------
    SlideError
        When nothing is there, or when no reader understands it: the message says what was found
        and what each reader that was asked had against it.
    """
    found, candidates = _look(path)
    refusals: list[tuple[str, OtherReaderError]] = []
    for name, reader in candidates:
        try:
            return reader(path, on_damage=on_damage)
        except OtherReaderError as refusal:
            refusals.append((name, refusal))
    told = "".join(f" [{name}] {_without(path, refusal)}" for name, refusal in refusals)
    raise SlideError(f"{path}: {found}. {_READABLE}.{told}") from (
        refusals[0][1] if refusals else None
    )


def first_bytes(path: Path, count: int = 132) -> bytes:
    """Read the beginning of a file.

    Raises
    ------
    SlideError
        When the file is missing or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(count)
    except FileNotFoundError:
        raise SlideError(
            f"{path}: no such file; it cannot be read. Check the path and that the disk is there."
        ) from None
    except (OSError, ValueError) as error:
        raise SlideError(f"{path}: cannot be read ({error}). Check its permissions.") from error


def mirax_folder(path: Path) -> Path:
    """Name the folder that holds the pixels of an MRXS slide; the file itself is a preview."""
    return path.with_suffix("")


def _look(path: Path | str) -> tuple[str, Iterator[tuple[str, Reader]]]:
    """Say what is at `path`, and list the readers to ask, as they are needed."""
    if isinstance(path, str):
        return "a URL", _for_url()
    if path.is_dir():
        return f"this is a directory ({_names(path)}), not a slide", _for_directory(path)
    head = first_bytes(path)
    if head[:4] in _TIFF_MAGIC:
        return "found a TIFF file that no reader can read", _for_tiff(path)
    return _describe(head), _for_file(path, head)


def _for_url() -> Iterator[tuple[str, Reader]]:
    from histoquant.slides.omezarr import OmeZarrSource

    yield "OME-Zarr", OmeZarrSource


def _for_directory(path: Path) -> Iterator[tuple[str, Reader]]:
    from histoquant.slides.dicom import DicomSource, is_dicom
    from histoquant.slides.omezarr import OmeZarrSource, is_omezarr

    if is_omezarr(path):
        yield "OME-Zarr", OmeZarrSource
    elif is_dicom(path):
        yield "DICOM", DicomSource
    elif (path / _SLIDEDAT).is_file():
        raise SlideError(
            f"{path}: this is a directory with the pixels of a 3DHISTECH slide. Open the .mrxs "
            f"file beside it ({path.name}.mrxs)."
        )


def _for_tiff(path: Path) -> Iterator[tuple[str, Reader]]:
    yield "tifffile", _read_tiff
    yield "OpenSlide", _read_openslide


def _for_file(path: Path, head: bytes) -> Iterator[tuple[str, Reader]]:
    from histoquant.slides.dicom import DicomSource, is_dicom
    from histoquant.slides.omezarr import OmeZarrSource, is_omezarr
    from histoquant.slides.picture import PictureSource, is_picture

    if path.suffix.lower() == ".mrxs":
        yield "OpenSlide", _read_mirax
    elif is_dicom(path):
        yield "DICOM", DicomSource
    elif head.startswith(_ZIP_MAGIC) and is_omezarr(path):
        yield "OME-Zarr", OmeZarrSource
    elif head:
        yield "OpenSlide", _read_openslide
        if is_picture(path):
            yield "picture", PictureSource


def _read_tiff(path: Path, *, on_damage: OnDamage) -> Source:
    from histoquant.slides.tiff import TiffSource

    try:
        return TiffSource(path, on_damage=on_damage)
    except OtherReaderError:
        raise
    except SlideError as refusal:
        from histoquant.slides.openslide_facts import detect_vendor

        if detect_vendor(path) in _OPENSLIDE_ONLY:
            raise OtherReaderError(str(refusal)) from refusal
        raise


def _read_openslide(path: Path, *, on_damage: OnDamage) -> Source:
    from histoquant.slides.openslide_source import OpenSlideSource

    return OpenSlideSource(path, on_damage=on_damage)


def _read_mirax(path: Path, *, on_damage: OnDamage) -> Source:
    """Open an MRXS slide; without its folder the file is a mere preview, and must not be read."""
    slidedat = mirax_folder(path) / _SLIDEDAT
    if not slidedat.is_file():
        raise SlideError(
            f"{path}: the folder with the pixels of this 3DHISTECH slide is not beside it "
            f"(expected {slidedat}). Copy it there; the file itself is only a preview."
        )
    return _read_openslide(path, on_damage=on_damage)


def _describe(head: bytes) -> str:
    if not head:
        return "the file is empty (0 bytes); copy it again from the scanner"
    if head[128:132] == b"DICM":
        return "found a DICOM file"
    for magic, name in _OTHER_MAGIC:
        if head.startswith(magic):
            return f"found {name}, which is no TIFF"
    return f"found bytes {head[:16]!r}, which is no TIFF and nothing else that is known"


def _names(directory: Path) -> str:
    """Name the first entries of a directory."""
    try:
        names = sorted(entry.name for entry in islice(directory.iterdir(), _MOST_ENTRIES))
    except OSError as error:
        return f"unreadable entries ({error})"
    return ", ".join(names[:_SHOWN_ENTRIES]) + (", ..." if len(names) > _SHOWN_ENTRIES else "")


def _without(path: Path | str, refusal: Exception) -> str:
    return str(refusal).removeprefix(f"{path}: ")
