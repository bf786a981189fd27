"""The arrays of an OME-Zarr image as levels of a pyramid, and which of their tiles exist."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.omezarr_layout import Image
from histoquant.slides.omezarr_store import Place
from histoquant.slides.tiff_pyramid import downsample

_MOST_TILES = 2**22
_LARGEST_TILE_BYTES = 2**30
_ABSENT = 2**64 - 1
_LARGEST_FILE = 2**48
_ADVICE = "Export the slide as 8 or 16 bit OME-Zarr to use it"

Coordinates = tuple[int, ...]


@dataclass(frozen=True)
class ZarrLevel:
    """One level.

    Attributes
    ----------
    path
        Path of the array in the store.
    shape, tile
        Rows and columns of the level, and of what is decoded at a time (px).
    downsample
        Level-0 px per px of this level, (y, x).
    missing
        bool (tile rows, tile columns): tiles of which a channel has no data.
    keys
        Keys of the store that hold its data.
    is_blosc
        Whether the content of each key is one Blosc buffer.
    """

    path: str
    shape: tuple[int, int]
    tile: tuple[int, int]
    downsample: tuple[float, float]
    missing: NDArray[np.bool_]
    keys: frozenset[str]
    is_blosc: bool


def read_levels(
    where: str, place: Place, image: Image, arrays: list[zarr.Array[Any]]
) -> tuple[ZarrLevel, ...]:
    """Describe the levels whose arrays are `arrays`, in the order of the image's datasets.

    Raises
    ------
    SlideError
        For a stack, for arrays that do not fit each other, and for unreadable pixels.
    """
    base = _sides(image, arrays[0])
    for dataset, array in zip(image.datasets, arrays, strict=True):
        _check_array(f"{where}: array {dataset.path!r}", image, array, arrays[0])
    factors = [_factor(where, image, k, base, arrays) for k in range(len(arrays))]
    return tuple(
        _level(place, image, array, factor) for array, factor in zip(arrays, factors, strict=True)
    )


def compression_of(array: zarr.Array[Any]) -> str:
    """Name the codec of an array's chunks, such as ``zstd``."""
    names = [getattr(codec, "codec_id", None) or _codec_name(codec) for codec in array.compressors]
    return ", ".join(names) or "none"


def _codec_name(codec: Any) -> str:
    return str(codec.to_dict().get("name", type(codec).__name__))


def _sides(image: Image, array: zarr.Array[Any]) -> tuple[int, int]:
    if array.ndim != len(image.axes):
        raise SlideError(
            f"{array.path}: {array.ndim} axes where its OME-Zarr metadata name "
            f"{len(image.axes)} ({', '.join(image.axes)}). Export the slide again."
        )
    return array.shape[image.axes.index("y")], array.shape[image.axes.index("x")]


def _check_array(where: str, image: Image, array: zarr.Array[Any], first: zarr.Array[Any]) -> None:
    _sides(image, array)
    sizes = dict(zip(image.axes, array.shape, strict=True))
    for axis, name in (("t", "time points"), ("z", "focal planes")):
        if sizes.get(axis, 1) != 1:
            raise SlideError(
                f"{where}: {sizes[axis]} {name} (axis {axis}); a slide has one. "
                "Export one of them to use it."
            )
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise SlideError(f"{where}: pixels of type {array.dtype}. {_ADVICE}.")
    if min(array.shape) < 1:
        raise SlideError(f"{where}: an image of {array.shape} px. {_ADVICE}.")
    same = (array.dtype, sizes.get("c", 1)) == (
        first.dtype,
        dict(zip(image.axes, first.shape, strict=True)).get("c", 1),
    )
    if not same:
        raise SlideError(
            f"{where}: {array.dtype} of {array.shape} where the first level is {first.dtype} of "
            f"{first.shape}. Export the slide again."
        )
    tiles = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
    if tiles > _MOST_TILES or math.prod(array.chunks) * array.dtype.itemsize > _LARGEST_TILE_BYTES:
        raise SlideError(
            f"{where}: {tiles} chunks of {array.chunks} px, which are too many or too large. "
            f"{_ADVICE}."
        )


def _factor(
    where: str, image: Image, k: int, base: tuple[int, int], arrays: list[zarr.Array[Any]]
) -> tuple[float, float]:
    """Find the downsample of level `k`, from its sides: writers' scales are rounded or copied."""
    shape, dataset = _sides(image, arrays[k]), image.datasets[k]
    factor = downsample(base, shape)
    if factor is None:
        raise SlideError(
            f"{where}: array {dataset.path!r} of {shape[0]} x {shape[1]} px does not show the "
            f"same picture as {image.datasets[0].path!r} of {base[0]} x {base[1]} px. "
            "Export the slide again."
        )
    first = image.datasets[0]
    if dataset.translation and first.translation and first.scale:
        for axis in (0, 1):
            shift = (dataset.translation[axis] - first.translation[axis]) / first.scale[axis]
            # Writers give the place of the first pixel's centre, or leave it at 0.
            if abs(shift - (factor[axis] - 1) / 2) > factor[axis]:
                raise SlideError(
                    f"{where}: array {dataset.path!r} is shifted by {shift:.4g} px against the "
                    "first level; its picture is another one. Export the slide again."
                )
    return factor


def _level(
    place: Place, image: Image, array: zarr.Array[Any], factor: tuple[float, float]
) -> ZarrLevel:
    rows, columns = image.axes.index("y"), image.axes.index("x")
    stored = array.shards or array.chunks
    grid = [-(-n // s) for n, s in zip(array.shape, stored, strict=True)]
    encode = array.metadata.encode_chunk_key
    keys = {
        f"{array.path}/{encode(chunk)}": chunk for chunk in itertools.product(*map(range, grid))
    }
    there = place.keys(array.path, keys).intersection(keys)
    missing = np.zeros(
        tuple(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True)), np.bool_
    )
    within = [s // c for s, c in zip(stored, array.chunks, strict=True)]
    absent_keys = [keys[key] for key in keys.keys() - there]
    if max(within) == 1 and absent_keys:
        missing[tuple(np.transpose(absent_keys))] = True
    else:
        for box in _boxes(absent_keys, within):
            missing[box] = True
    for key, absent in _absent_in_shards(place, array, sorted(there)):
        part = missing[next(_boxes([keys[key]], within))]
        part |= absent[tuple(slice(0, n) for n in part.shape)]
    others = tuple(k for k in range(array.ndim) if k not in (rows, columns))
    channels = array.shape[image.axes.index("c")] if "c" in image.axes else 1
    # Writers leave out chunks of zeros: a marker absent from a tile is a measurement, and no
    # reason to lose the other channels. A colour without its red is no colour.
    in_colour = image.is_rgb(channels, array.dtype == np.uint8)
    flat = np.asarray(missing.any(axis=others) if in_colour else missing.all(axis=others))
    return ZarrLevel(
        path=array.path,
        shape=(array.shape[rows], array.shape[columns]),
        tile=(array.chunks[rows], array.chunks[columns]),
        downsample=factor,
        missing=flat if rows < columns else flat.T,
        keys=frozenset(there),
        is_blosc=array.shards is None and compression_of(array).endswith("blosc"),
    )


def _boxes(places: list[Coordinates], within: list[int]) -> Iterator[tuple[slice, ...]]:
    """Give the tiles that the stored chunks at `places` hold, `within` of them along each axis."""
    for place in places:
        yield tuple(slice(k * n, (k + 1) * n) for k, n in zip(place, within, strict=True))


def _absent_in_shards(
    place: Place, array: zarr.Array[Any], keys: list[str]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Read the index of each shard: which of its chunks (in C order) hold no data.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
    """
    if array.shards is None or not keys:
        return
    metadata: Any = array.metadata.to_dict()
    codec = metadata["codecs"][0]["configuration"]
    names = [item["name"] for item in codec["index_codecs"]]
    at_end = codec.get("index_location", "end") == "end"
    endian = codec["index_codecs"][0].get("configuration", {}).get("endian", "little")
    if names not in (["bytes"], ["bytes", "crc32c"]) or not at_end or endian != "little":
        raise SlideError(
            f"{array.path}: shards whose index is stored as {names} "
            f"({codec.get('index_location')}). Write the slide with the usual index to use it."
        )
    shape = [s // c for s, c in zip(array.shards, array.chunks, strict=True)]
    entries = math.prod(shape)
    check = struct.calcsize("<I") * (len(names) - 1)
    for key, tail in zip(keys, place.tails(keys, 16 * entries + check), strict=True):
        if len(tail) == 16 * entries + check:
            index = np.frombuffer(tail, "<u8", 2 * entries).reshape(entries, 2)
            absent = (index == _ABSENT).all(axis=1)
            # What is no index belongs to a file cut short: reading it says so.
            if (absent | (index < _LARGEST_FILE).all(axis=1)).all():
                yield key, absent.reshape(shape)
