"""Whether a TIFF file holds all the directories and tables that it points to.

A truncated file loses what lies last. Where that is a directory of a smaller level, the file
still opens, with fewer levels; so every pointer is followed once before anything is believed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tifffile import TiffFile

from histoquant.errors import SlideError

MOST_PAGES = 4096
_MOST_TAGS = 4096
_SUBIFDS = 330
_BYTES_OF_TYPE = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), start=1))
# Offsets and sizes of strips and tiles, SubIFDs, JPEG tables, and NDPI's restart markers.
_TABLES = {273, 279, 324, 325, _SUBIFDS, 347, 65426, 65432}


@dataclass(frozen=True)
class _Table:
    code: int
    kind: int
    count: int
    offset: int


def check_chain(path: Path, tiff: TiffFile) -> int:
    """Follow the chain of directories to its end and count them.

    Raises
    ------
    SlideError
        When a directory, a SubIFD or a table of tiles lies behind the end of the file, or the
        chain runs in a circle.
    """
    file, form = tiff.filehandle, tiff.tiff
    file.seek(8 if tiff.is_bigtiff else 4)
    offset = _number(file.read(form.offsetsize), form.byteorder)
    seen: set[int] = set()
    while offset:
        where = f"{path}: image {len(seen)}"
        if offset in seen or len(seen) >= MOST_PAGES:
            raise SlideError(
                f"{where}: the chain of images runs in a circle or has over {MOST_PAGES} images "
                f"(at byte {offset}). The file is damaged; copy it again from the scanner."
            )
        seen.add(offset)
        offset = _check_directory(where, tiff, offset)
    return len(seen)


def _check_directory(where: str, tiff: TiffFile, offset: int) -> int:
    """Check one directory and give the offset of the next, 0 after the last."""
    file, form = tiff.filehandle, tiff.tiff
    _demand(where, "directory", offset, form.tagnosize, file.size)
    file.seek(offset)
    count = _number(file.read(form.tagnosize), form.byteorder)
    if count > _MOST_TAGS:
        raise SlideError(f"{where}: {count} tags at byte {offset}. Copy it again from the scanner.")
    length = form.tagsize * count
    high = 4 * count if form.is_ndpi else 0
    _demand(where, "directory", offset, form.tagnosize + length + form.offsetsize + high, file.size)
    entries, following = file.read(length), file.read(form.offsetsize)
    for table in _tables(tiff, entries, file.read(high)):
        size = _BYTES_OF_TYPE.get(table.kind, 0) * table.count
        if size > form.tagoffsetthreshold:
            _demand(where, f"table (tag {table.code})", table.offset, size, file.size)
    return _number(following, form.byteorder)


def check_subifds(path: Path, tiff: TiffFile, index: int, offsets: tuple[int, ...]) -> None:
    """Check that the smaller images of an image lie in the file.

    Raises
    ------
    SlideError
        When one lies behind its end.
    """
    for offset in offsets:
        _demand(
            f"{path}: image {index}", "SubIFD", offset, tiff.tiff.tagnosize, tiff.filehandle.size
        )


def _tables(tiff: TiffFile, entries: bytes, high: bytes) -> Iterator[_Table]:
    """List the tags that point to tables; `high` are the upper halves of NDPI's offsets."""
    order = tiff.tiff.byteorder
    form = f"{order}HHQQ" if tiff.is_bigtiff else f"{order}HHII"
    for k, (code, kind, count, value) in enumerate(struct.iter_unpack(form, entries)):
        if code in _TABLES:
            upper = _number(high[4 * k : 4 * k + 4], order)
            yield _Table(code, kind, count, value + (upper << 32))


def _demand(where: str, what: str, offset: int, length: int, size: int) -> None:
    if offset + length > size:
        raise SlideError(
            f"{where}: its {what} lies at byte {offset} and needs {length} bytes, but the file "
            f"ends at {size}. It is truncated or damaged; copy it again from the scanner."
        )


def _number(data: bytes, order: str) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")
