"""An OME-Zarr that is open: its image found, its levels described, its windows read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import zarr
from numpy.typing import NDArray

from histoquant.errors import SlideError
from histoquant.slides.omezarr_layout import (
    Image,
    ome_attributes,
    read_image,
    refuse_other_kinds,
)
from histoquant.slides.omezarr_levels import ZarrLevel, compression_of, read_levels
from histoquant.slides.omezarr_store import Place, StrictStore, open_place

_LARGEST_ASSOCIATED_PX = 2**26
_MOST_SERIES = 1000
_SERIES = "bioformats2raw.layout"
_DOCUMENTS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
_RGB = ("red", "green", "blue")

Span = tuple[int, int]


@dataclass(frozen=True)
class OpenImage:
    """The image of an open OME-Zarr.

    Attributes
    ----------
    path
        The group of the image in the store.
    levels, arrays
        Levels and their arrays, finest first.
    others
        Path of the group of each further image (label, macro) by its name.
    """

    place: Place
    store: StrictStore
    path: str
    image: Image
    levels: tuple[ZarrLevel, ...]
    arrays: tuple[zarr.Array[Any], ...]
    others: dict[str, str]

    def close(self) -> None:
        """Close the store."""
        self.place.close()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels, in this machine's byte order."""
        return np.dtype(self.arrays[0].dtype.newbyteorder("="))

    @property
    def is_rgb(self) -> bool:
        """Whether the channels are the colours of a picture."""
        return self.image.is_rgb(self._channel_count, self.dtype == np.uint8)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        count = self._channel_count
        if self.is_rgb:
            return _RGB
        names = self.image.labels if len(self.image.labels) == count else ("",) * count
        default = (f"channel {k}" if count > 1 else "grey" for k in range(count))
        return tuple(name or other for name, other in zip(names, default, strict=True))

    @property
    def compression(self) -> str:
        """Name of the codec of the finest level."""
        return compression_of(self.arrays[0])

    @property
    def _channel_count(self) -> int:
        axes = self.image.axes
        return self.arrays[0].shape[axes.index("c")] if "c" in axes else 1

    def content_keys(self) -> set[str]:
        """List the keys of the store that make up the slide: its metadata and its chunks."""
        folders = {self.path, *(level.path for level in self.levels)}
        documents = {f"{folder}/{name}".lstrip("/") for folder in folders for name in _DOCUMENTS}
        there = {name for name in documents if self.place.read(name) is not None}
        return there.union(*(level.keys for level in self.levels))

    def read(self, level: int, rows: Span, columns: Span) -> NDArray[Any]:
        """Read pixels (y, x, c) of a window; absent chunks hold zarr's fill value."""
        return read_window(self.arrays[level], self.image.axes, rows, columns)

    def associated_image(self, where: str, name: str) -> NDArray[np.uint8]:
        """Read one of `others` at its finest level: uint8 (y, x, 3).

        Raises
        ------
        SlideError
            When there is none of that name, or it is damaged or no 8-bit picture.
        """
        if name not in self.others:
            there = ", ".join(self.others) or "none"
            raise SlideError(f"{where}: no image {name!r}; there are: {there}.")
        image, arrays = _image_at(where, self.store, self.others[name])
        array = arrays[0]
        if math.prod(array.shape) > 3 * _LARGEST_ASSOCIATED_PX or array.dtype != np.uint8:
            raise SlideError(
                f"{where}: the image {name!r} of {array.shape} {array.dtype} is not read as a "
                "picture."
            )
        sizes = dict(zip(image.axes, array.shape, strict=True))
        try:
            pixels = read_window(array, image.axes, (0, sizes["y"]), (0, sizes["x"]))
            return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
        except Exception as error:  # codecs raise whatever they like on damaged data
            raise SlideError(f"{where}: the image {name!r} cannot be read ({error}).") from error


def open_image(where: str) -> OpenImage:
    """Open the OME-Zarr at `where`, a path or a URL.

    Raises
    ------
    SlideError
        As `OmeZarrSource`.
    """
    place = open_place(where)
    try:
        return _open_image(where, place)
    except SlideError:
        place.close()
        raise
    except Exception as error:  # zarr and fsspec raise whatever they meet
        place.close()
        raise SlideError(
            f"{where}: this OME-Zarr cannot be read ({type(error).__name__}: {error}). "
            "It is damaged or incomplete; copy or export it again."
        ) from error


def read_window(array: zarr.Array[Any], axes: str, rows: Span, columns: Span) -> NDArray[Any]:
    """Read pixels (y, x, c) of a window, in this machine's byte order."""
    selection = {"y": slice(*rows), "x": slice(*columns), "c": slice(None)}
    pixels = np.asarray(array[tuple(selection.get(axis, 0) for axis in axes)])
    kept = "".join(axis for axis in axes if axis in selection)
    native = pixels.dtype.newbyteorder("=")
    if kept == "cyx" and len(pixels) > 1:
        # Channels lie apart in most files: OpenCV brings them together at memory speed.
        merged: NDArray[Any] = cv2.merge(list(pixels.astype(native, copy=False)))
        return merged
    pixels = pixels.transpose([kept.index(axis) for axis in "yxc" if axis in kept])
    pixels = pixels if "c" in kept else pixels[..., None]
    return np.ascontiguousarray(pixels, dtype=native)


def _open_image(where: str, place: Place) -> OpenImage:
    store = StrictStore(place.store)
    root = place.prefix.rstrip("/")
    attributes = _attributes(where, store, root)
    refuse_other_kinds(where, attributes)
    path, others = root, {}
    if "multiscales" not in attributes:
        if _SERIES not in attributes:
            raise SlideError(
                f"{where}: a Zarr group without an OME-Zarr image (found the attributes "
                f"{', '.join(map(str, attributes)) or 'none'}). Open the group of the image."
            )
        path, *further = _series(where, store, place, root)
        others = _named(place, root, further)
    image, arrays = _image_at(where, store, path)
    _check_largest(where, store, arrays[0], others)
    levels = read_levels(where, place, image, arrays)
    for level in levels:
        store.known |= level.keys
        if level.is_blosc:
            store.blosc |= level.keys
    return OpenImage(place, store, path, image, levels, tuple(arrays), others)


def _attributes(where: str, store: StrictStore, path: str) -> Mapping[str, Any]:
    try:
        group = zarr.open_group(store, path=path, mode="r", use_consolidated=False)
    except FileNotFoundError:
        raise SlideError(
            f"{where}: no Zarr group{f' {path!r}' if path else ''} there. Check the path."
        ) from None
    return ome_attributes(group.attrs.asdict())


def _image_at(where: str, store: StrictStore, path: str) -> tuple[Image, list[zarr.Array[Any]]]:
    """Find the image of a group, and its arrays, finest first."""
    image = read_image(where, _attributes(where, store, path))
    arrays = []
    for dataset in image.datasets:
        try:
            array_path = f"{path}/{dataset.path}" if path else dataset.path
            arrays.append(zarr.open_array(store, path=array_path, mode="r"))
        except FileNotFoundError:
            raise SlideError(
                f"{where}: its metadata name the array {dataset.path!r}, which is missing. The "
                "copy is incomplete; copy it again."
            ) from None
    order = sorted(range(len(arrays)), key=lambda k: -math.prod(arrays[k].shape))
    datasets = tuple(image.datasets[k] for k in order)
    return replace(image, datasets=datasets), [arrays[k] for k in order]


def _series(where: str, store: StrictStore, place: Place, root: str) -> list[str]:
    """List the groups of the images of a file that bioformats2raw wrote, in order.

    Source: https://ngff.openmicroscopy.org/0.5/#bf2raw
    """
    below = f"{root}/" if root else ""
    try:
        names = _attributes(where, store, f"{below}OME").get("series")
    except SlideError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = []
        while len(names) < _MOST_SERIES and _is_group(place, f"{below}{len(names)}"):
            names.append(str(len(names)))
    if not names:
        raise SlideError(f"{where}: a bioformats2raw file without an image 0. Copy it again.")
    return [f"{below}{name}" for name in names]


def _is_group(place: Place, path: str) -> bool:
    return any(place.read(f"{path}/{name}") is not None for name in (".zgroup", "zarr.json"))


def _named(place: Place, root: str, paths: list[str]) -> dict[str, str]:
    """Name the further images of a file by its OME-XML, else by their number."""
    titles: list[str] = []
    xml = place.read(f"{root}/OME/METADATA.ome.xml" if root else "OME/METADATA.ome.xml")
    if xml is not None:
        try:
            tree = ElementTree.fromstring(xml)
            titles = [e.get("Name") or "" for e in tree if e.tag.rpartition("}")[2] == "Image"]
        except ElementTree.ParseError:
            titles = []
    named: dict[str, str] = {}
    for k, path in enumerate(paths, start=1):
        title = titles[k] if k < len(titles) else ""
        words = title.lower().split()
        name = next((word for word in ("label", "macro", "thumbnail") if word in words), title)
        named[name if name and name not in named else f"image {k}"] = path
    return named


def _check_largest(
    where: str, store: StrictStore, slide: zarr.Array[Any], others: dict[str, str]
) -> None:
    """Make sure that the first image is the slide: it has no fewer pixels than any other."""
    for name, path in others.items():
        _, arrays = _image_at(where, store, path)
        if math.prod(arrays[0].shape) > math.prod(slide.shape):
            raise SlideError(
                f"{where}: its image {name!r} is larger than the first; which of them is the "
                f"slide is not known. Open the one you mean ({where}/{path})."
            )
