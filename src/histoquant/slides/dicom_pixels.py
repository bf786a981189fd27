"""The frames of a DICOM slide, found and decoded with wsidicom.

wsidicom's `WsiDicom` wants pyramids whose levels are powers of two and paints absent tiles in a
colour; so its source of instances is used, one step below, where a tile has a frame or has none.
"""

from __future__ import annotations

import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from wsidicom.config import Settings, use_settings
from wsidicom.file import WsiDicomFileSource
from wsidicom.geometry import Point
from wsidicom.instance import TileType, WsiInstance

from histoquant.errors import SlideError
from histoquant.slides.dicom_files import JPEG, JPEG_2000, JPEG_LS, NATIVE, Header

# Decoded tiles are kept by the source; levels may differ in tile size.
_SETTINGS = Settings(
    strict_tile_size_check=False, decoded_frame_cache_size=0, encoded_frame_cache_size=0
)


@dataclass(frozen=True)
class Plane:
    """One optical path of one image.

    Attributes
    ----------
    name
        Identifier of the optical path.
    shape, tile
        Rows and columns of the image and of a tile (px).
    frames
        int64 (tile rows, tile columns), index of the tile's frame; -1 where there is none.
    fetch
        Thread-safe function of a tile's row and column, giving the frame's bytes.
    decode
        Thread-safe function of a frame's bytes, giving (y, x, c).
    """

    name: str
    header: Header
    shape: tuple[int, int]
    frames: NDArray[np.int64]
    fetch: Callable[[int, int], bytes]
    decode: Callable[[bytes], NDArray[Any]]


class DicomFiles:
    """The open files of a slide.

    Attributes
    ----------
    levels
        Planes of each level, finest first; within a level by the name of the optical path.
    others
        Label, macro and thumbnail.
    """

    def __init__(self, headers: tuple[Header, ...]) -> None:
        by_path = {header.path: header for header in headers}
        with use_settings(_SETTINGS):
            self._source = WsiDicomFileSource.open(list(by_path))
            try:
                self.levels = _levels(by_path, self._source.level_instances)
                self.others = {
                    name: planes[0]
                    for name, instances in (
                        ("label", self._source.label_instances),
                        ("macro", self._source.overview_instances),
                        ("thumbnail", self._source.thumbnail_instances),
                    )
                    if (planes := _planes(by_path, instances))
                }
                _check_all_used(by_path, self._source)
            except BaseException:
                self._source.close()
                raise

    def close(self) -> None:
        """Close the files."""
        self._source.close()


def open_files(headers: tuple[Header, ...]) -> DicomFiles:
    """Open the files of a slide.

    Raises
    ------
    SlideError
        Where the files contradict themselves or each other.
    """
    try:
        return DicomFiles(headers)
    except SlideError:
        raise
    except Exception as error:  # wsidicom raises whatever it meets in damaged files
        raise SlideError(
            f"{headers[0].path.parent}: this DICOM slide cannot be read ({error}). "
            "It is damaged or incomplete; copy it again from the scanner."
        ) from error


def _check_all_used(by_path: dict[Path, Header], source: WsiDicomFileSource) -> None:
    """A file that wsidicom passed over may be the finest level."""
    used = {Path(str(file)) for file in source.files}
    for path, header in by_path.items():
        if path.resolve() not in {file.resolve() for file in used}:
            raise SlideError(
                f"{path}: this {header.flavour} image of the slide cannot be read. The file is "
                "damaged or truncated; copy it again from the scanner."
            )


def _levels(
    by_path: dict[Path, Header], instances: Iterable[WsiInstance]
) -> tuple[tuple[Plane, ...], ...]:
    levels: dict[tuple[int, int], list[Plane]] = defaultdict(list)
    for plane in _planes(by_path, instances):
        levels[plane.shape].append(plane)
    for shape, planes in levels.items():
        names = [plane.name for plane in planes]
        if len(set(names)) < len(names):
            raise SlideError(
                f"{planes[0].header.path}: {len(names)} images of {shape[1]} x {shape[0]} px "
                "in one series; which of them is the slide is not known. Keep one of them in "
                "the folder."
            )
    finest_first = sorted(levels, key=lambda shape: -math.prod(shape))
    return tuple(tuple(sorted(levels[s], key=lambda plane: plane.name)) for s in finest_first)


def _planes(by_path: dict[Path, Header], instances: Iterable[WsiInstance]) -> list[Plane]:
    resolved = {path.resolve(): header for path, header in by_path.items()}
    planes = []
    for instance in instances:
        parts = [resolved[Path(str(file)).resolve()] for file in instance.image_data.files]
        planes += _planes_of(instance, parts)
    return planes


def _planes_of(instance: WsiInstance, parts: list[Header]) -> list[Plane]:
    image, header = instance.image_data, parts[0]
    depths = image.focal_planes
    if len(depths) != 1:
        raise SlideError(
            f"{header.path}: {len(depths)} focal planes; a slide has one. Export one plane as "
            "OME-TIFF."
        )
    shape = (image.image_size.height, image.image_size.width)
    if header.flavour == "VOLUME" and shape != header.matrix:
        raise SlideError(
            f"{header.path}: one frame of {header.tile[0]} x {header.tile[1]} px cannot fill "
            f"{header.matrix[0]} x {header.matrix[1]} px. The file is damaged; copy it again."
        )
    _check_positions(instance, header)
    tables = {name: _frame_table(image, depths[0], name) for name in image.optical_paths}
    _check_count(header, list(tables.values()), sum(part.frames for part in parts))
    return [
        Plane(
            name=name,
            header=header,
            shape=shape,
            frames=table,
            fetch=partial(_fetch, image, depths[0], name),
            decode=_decoder(header, image.decoder.decode),
        )
        for name, table in tables.items()
    ]


def _check_positions(instance: WsiInstance, header: Header) -> None:
    """Refuse sparse frames off the grid of tiles: wsidicom would move them onto it."""
    for dataset in instance.datasets:
        if dataset.tile_type != TileType.SPARSE:
            continue
        positions = dataset.frame_positions
        rows, columns = np.asarray(positions.rows) - 1, np.asarray(positions.columns) - 1
        if np.any(rows % header.tile[0]) or np.any(columns % header.tile[1]):
            raise SlideError(
                f"{header.path}: frames that do not lie on a grid of {header.tile[0]} x "
                f"{header.tile[1]} px tiles. Export the slide as OME-TIFF to use it."
            )


def _frame_table(image: Any, depth: float, name: str) -> NDArray[np.int64]:
    rows, columns = range(image.tiled_size.height), range(image.tiled_size.width)
    frame = image.tiles.get_frame_index
    return np.array([[frame(Point(x, y), depth, name) for x in columns] for y in rows], np.int64)


def _check_count(header: Header, tables: list[NDArray[np.int64]], count: int) -> None:
    placed = sum(int(np.count_nonzero(table >= 0)) for table in tables)
    last = max(int(table.max()) for table in tables)
    if last >= count or placed != count:
        raise SlideError(
            f"{header.path}: {count} frames for {placed} tiles. A part of the image is missing "
            "from the folder, or two frames claim one tile; copy the slide again."
        )


def _fetch(image: Any, depth: float, name: str, row: int, column: int) -> bytes:
    data: bytes = image.get_encoded_tile(Point(column, row), depth, name)
    return data


def _decoder(
    header: Header, decode_frame: Callable[[bytes], NDArray[Any]]
) -> Callable[[bytes], NDArray[Any]]:
    dtype = np.dtype("u1" if header.bits == 8 else "<u2")
    shape = (*header.tile, header.samples)
    is_native, is_ybr = header.syntax in NATIVE, header.photometric == "YBR_FULL"

    def decode(data: bytes) -> NDArray[Any]:
        if is_native:
            # Not wsidicom's decoder for these: it keeps the frame in an object of its own.
            pixels = np.frombuffer(data[: math.prod(shape) * dtype.itemsize], dtype)
        else:
            _check_frame(header, data)
            pixels = decode_frame(data)
        pixels = pixels.reshape(shape)
        return _ybr_to_rgb(pixels) if is_ybr and header.syntax not in JPEG else pixels

    return decode


def _check_frame(header: Header, data: bytes) -> None:
    """Refuse a frame cut short, and one whose own header would be given gigabytes."""
    if header.syntax in JPEG | JPEG_2000 | JPEG_LS and b"\xff\xd9" not in data[-16:]:
        raise ValueError("the frame has no end: it is truncated")
    size = header.tile
    if header.syntax in JPEG | JPEG_2000:
        with Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000")) as image:
            size = (image.height, image.width)
    elif header.syntax in JPEG_LS:
        # ITU-T T.87, C.2.2: marker SOF55, length, precision, rows, columns.
        start = data.index(b"\xff\xf7") + 5
        size = (
            int.from_bytes(data[start : start + 2]),
            int.from_bytes(data[start + 2 : start + 4]),
        )
    if size != header.tile:
        raise ValueError(f"it claims {size[0]} x {size[1]} px, expected {header.tile}")


def _ybr_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo YBR_FULL (PS3.3, C.7.6.3.1.2), which is the full-range YCbCr of JFIF."""
    height, width, _ = pixels.shape
    packed = np.ascontiguousarray(pixels)
    image = Image.frombuffer("YCbCr", (width, height), packed, "raw", "YCbCr", 0, 1)
    return np.asarray(image.convert("RGB"))
