"""What identifies a slide: a hash of its content, whatever it is called and wherever it lies.

A slide of one file is identified by the SHA-256 of the file. One of several files (a folder of
DICOM, an OME-Zarr, an MRXS or VMS file and what belongs to it) is identified by the SHA-256 of
one line for each file, ``<SHA-256 of the file> <its name>``, sorted by name. Names are relative
to the slide's folder, with ``/``; an MRXS or VMS file itself goes by no name, so that renaming a
slide does not make it another one. A fluorescence slide of two files, a stain each, is identified
by the SHA-256 of two such lines, in which the files go by ``marker`` and ``nuclear``.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from histoquant.errors import SlideError
from histoquant.slides.readers import first_bytes, mirax_folder

_VMS_GROUPS = (b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")
_LARGEST_INI = 64 * 2**10


def fingerprint(path: Path | str, nuclear: Path | str | None = None) -> str:
    """Hash the content of a slide: SHA-256, hexadecimal. Every byte of it is read.

    Parameters
    ----------
    path
        The slide.
    nuclear
        The file with the nuclear stain, where each stain of the slide is a file of its own.

    Raises
    ------
    SlideError
        When a file of the slide is missing or cannot be read.
    """
    if nuclear is not None:
        return _combined({"nuclear": fingerprint(nuclear), "marker": fingerprint(path)})
    if isinstance(path, str):
        from histoquant.slides.omezarr import content_hashes

        return _combined(content_hashes(path))
    files = slide_files(path)
    if list(files) == [""]:
        return _file_hash(files[""])
    return _combined({name: _file_hash(file) for name, file in files.items()})


class FileStamp(NamedTuple):
    """Name, size (bytes) and time of writing (ns) of a file of a slide."""

    name: str
    size: int
    time_ns: int


def file_stamps(path: Path | str) -> tuple[FileStamp, ...]:
    """Tell name, size and time of each file of a slide: cheap, and changes when it changes.

    Nothing is told of a URL, whose content is taken not to change while a program runs.
    """
    if isinstance(path, str):
        return ()
    try:
        stats = [(name, file.stat()) for name, file in slide_files(path).items()]
    except OSError as error:
        raise SlideError(f"{path}: cannot be read ({error}).") from error
    return tuple(FileStamp(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def size_and_time(*paths: Path | str) -> dict[str, object]:
    """What stands for the content of a slide's files while it is not read, by name in a record.

    Returns
    -------
    ``slide_bytes`` in all and the latest ``slide_mtime_ns``; nothing for a URL.

    Raises
    ------
    SlideError
        When a file is missing.
    """
    stamps = [stamp for path in paths for stamp in file_stamps(path)]
    if not stamps:
        return {}
    return {
        "slide_bytes": sum(stamp.size for stamp in stamps),
        "slide_mtime_ns": max(stamp.time_ns for stamp in stamps),
    }


def slide_files(path: Path) -> dict[str, Path]:
    """List the files of the slide at `path` under the names that its fingerprint gives them."""
    if path.is_dir():
        return _folder_files(path)
    if path.suffix.lower() == ".mrxs":
        return {"": path, **_below(mirax_folder(path))}
    head = first_bytes(path, _LARGEST_INI)
    if any(group in head for group in _VMS_GROUPS):
        return {"": path, **_named_in(path, head)}
    if head[128:132] == b"DICM":
        return _dicom_files(path)
    return {"": path}


def _folder_files(path: Path) -> dict[str, Path]:
    from histoquant.slides.dicom import is_dicom
    from histoquant.slides.omezarr import content_files, is_omezarr

    if is_omezarr(path):
        return {file.relative_to(path).as_posix(): file for file in content_files(path)}
    if is_dicom(path):
        return _dicom_files(path)
    raise SlideError(f"{path}: this is a directory that is neither DICOM nor OME-Zarr.")


def _dicom_files(path: Path) -> dict[str, Path]:
    from histoquant.slides.dicom import content_files

    files = content_files(path)
    return {"": files[0]} if len(files) == 1 else {file.name: file for file in files}


def _below(folder: Path) -> dict[str, Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file for file in files}


def _named_in(path: Path, ini: bytes) -> dict[str, Path]:
    """List the files beside a VMS or VMU file that its lines name (``MapFile=a.opt``)."""
    values = (line.partition("=")[2].strip() for line in ini.decode("latin-1").splitlines())
    return {name: path.parent / name for name in values if name and (path.parent / name).is_file()}


def _file_hash(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise SlideError(f"{file}: cannot be read ({error}).") from error


def _combined(hashes: dict[str, str]) -> str:
    lines = (f"{hashes[name]} {name}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
