"""Plain pictures (PNG, JPEG, BMP, WebP) of a field of view, whose scale the user must give.

A resolution tag of such a file is that of a screen or a printer (72 or 300 per inch), or the
scale of a microscope, and nothing tells which: it is reported, and never taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from histoquant.errors import SlideError
from histoquant.slides.source import Level, OnDamage, ScaleClaim

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_MOST_PIXELS = 2**26
_TILE_PX = 1024
_STRIP_PX = 256
_MOST_BOXES = 2**14
_ADVICE = "Export it as an 8-bit RGB PNG or TIFF to use it"
_RGB = ("red", "green", "blue")
# Pillow's mode: what it is read as, its alpha, the channels. Palettes are looked up below.
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "P": "RGB",
    "PA": "RGBA",
    "I;16": "I;16",
}


def is_picture(path: Path) -> bool:
    """Tell whether `path` is a PNG, JPEG, BMP or WebP file, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(26)
    except OSError:
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return is_webp or head.startswith(_MAGIC)


@dataclass(frozen=True)
class _Pixels:
    """The decoded picture: (y, x, c), and where its alpha is 0 (None where nowhere)."""

    values: NDArray[Any]
    transparent: NDArray[np.bool_] | None


class PictureSource:
    """A picture as a `Source` of one level; it is decoded at the first read and held once.

    Pixels whose alpha is 0 are missing; other alpha is left out, as colours are stored apart
    from it. The picture is read as it is stored: an EXIF orientation is not applied.

    Parameters
    ----------
    path
        A PNG, JPEG, BMP or WebP file of up to 2**26 pixels.
    on_damage
        With ``missing``, a picture that cannot be decoded reads as the fill value throughout;
        with ``error`` it raises SlideError.

    Raises
    ------
    SlideError
        For a file that is no such picture, is too large, animated, or of a kind that would be
        read wrongly (CMYK, 16-bit colours, floating point).
    """

    def __init__(self, path: Path, *, on_damage: OnDamage = "error") -> None:
        self._path = path
        self._on_damage = on_damage
        self._lock = Lock()
        self._pixels: _Pixels | None = None
        self._is_damaged = False
        with _opened(path) as image:
            _check(path, image)
            self._mode = _mode(image)
            self._shape = (image.height, image.width)
            self.compression = str(image.format)
            self.format = f"{image.format} picture"
            self.has_icc_profile = "icc_profile" in image.info
            self.claims = (_claim(image),)
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if self._mode == "I;16" else np.uint8)
        self.channels = _RGB if self._mode.startswith("RGB") else ("grey",)
        self.is_colour = True
        self.associated: tuple[str, ...] = ()
        height, width = self._shape
        self.levels = (
            Level(self._shape, (1.0, 1.0), (min(height, _TILE_PX), min(width, _TILE_PX))),
        )

    def close(self) -> None:
        """Drop the decoded picture; a later read decodes it again."""
        with self._lock:
            self._pixels = None

    def region(
        self, level: int, y: int, x: int, height: int, width: int, fill: int
    ) -> NDArray[Any]:
        """Read pixels (height, width, c) of a window that lies inside the picture."""
        pixels = self._decoded()
        if pixels is None:
            return np.full((height, width, len(self.channels)), fill, dtype=self.dtype)
        window = slice(y, y + height), slice(x, x + width)
        out = pixels.values[window].copy()
        if pixels.transparent is not None:
            out[pixels.transparent[window]] = fill
        return out

    def associated_image(self, name: str) -> NDArray[np.uint8]:
        """A picture has no label and no macro: this raises SlideError."""
        raise SlideError(f"{self._path}: no image {name!r}; there are: none.")

    def missing_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (px) of areas whose alpha is 0.

        Raises
        ------
        SlideError
            When the picture is damaged, or transparent in thousands of scattered places.
        """
        if not self._mode.endswith("A"):
            return []
        pixels = self._decoded()
        if pixels is None or pixels.transparent is None:
            return []
        boxes = []
        for box in _boxes(pixels.transparent):
            boxes.append(box)
            if len(boxes) > _MOST_BOXES:
                raise SlideError(
                    f"{self._path}: transparent in more than {_MOST_BOXES} scattered places, "
                    f"which is no mask of a field of view. Remove its alpha channel. {_ADVICE}."
                )
        return boxes

    def damaged_boxes(self) -> list[tuple[float, float, float, float]]:
        """Top, left, height, width (px) of the picture, where it was found unreadable."""
        height, width = self._shape
        return [(0.0, 0.0, float(height), float(width))] if self._is_damaged else []

    def _decoded(self) -> _Pixels | None:
        """Give the decoded picture, or None where it cannot be decoded and may be missing."""
        with self._lock:
            if self._pixels is None and not self._is_damaged:
                try:
                    self._pixels = _decode(self._path, self._mode, self._shape)
                except Exception as error:  # codecs raise whatever they like on damaged data
                    if self._on_damage != "missing":
                        raise SlideError(
                            f"{self._path}: level 0, tile row 0, column 0 cannot be decoded "
                            f"({error}). The file is damaged or truncated; copy it again."
                        ) from error
                    self._is_damaged = True
            return self._pixels


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(path, "over a hundred million") from None
    except UnidentifiedImageError as error:
        raise SlideError(
            f"{path}: no PNG, JPEG, BMP or WebP picture, or one whose header is damaged. Copy it "
            "again."
        ) from error
    except Exception as error:  # Pillow's readers raise whatever they meet in a damaged header
        raise SlideError(f"{path}: this picture cannot be opened ({error}). Copy it again.") from (
            error
        )


def _check(path: Path, image: Image.Image) -> None:
    """Refuse what would be read wrongly, or not at all."""
    if image.width * image.height > _MOST_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height}")
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    if frames > 1:
        problem = f"an animation of {frames} pictures"
    elif image.mode not in _MODES:
        problem = f"colours stored as {image.mode}"
    elif _has_16_bit_colours(path, image):
        problem = "colours of 16 bits, which would be cut to 8"
    else:
        return
    raise SlideError(f"{path}: {problem}, which histoquant does not read. {_ADVICE}.")


def _too_large(path: Path, found: str) -> SlideError:
    return SlideError(
        f"{path}: a picture of {found} px, which would have to be held in memory whole; at most "
        f"{_MOST_PIXELS:,} px are read. Export it as a pyramidal OME-TIFF."
    )


def _has_16_bit_colours(path: Path, image: Image.Image) -> bool:
    """Look up bit depth and colour type (ISO/IEC 15948, 11.2.1): Pillow cuts 16 bits to 8."""
    if image.format != "PNG":
        return False
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] == 16 and head[25] != 0


def _mode(image: Image.Image) -> str:
    """Choose what the picture is read as; a palette or a colour may be transparent."""
    mode = _MODES[image.mode]
    is_keyed = "transparency" in image.info and mode in ("L", "RGB")
    return f"{mode}A" if is_keyed else mode


def _claim(image: Image.Image) -> ScaleClaim:
    found = f"a {image.format} picture"
    dpi = image.info.get("dpi")
    if dpi:
        found += (
            f", whose resolution tag of {float(dpi[0]):g} per inch is that of a screen or printer"
        )
    return ScaleClaim(None, None, "", found)


def _decode(path: Path, mode: str, shape: tuple[int, int]) -> _Pixels:
    """Decode the picture, converting it strip by strip: it is not held twice."""
    has_alpha, is_16_bit = mode.endswith("A"), mode == "I;16"
    bands = len(mode) - has_alpha if not is_16_bit else 1
    values = np.empty((*shape, bands), dtype=np.uint16 if is_16_bit else np.uint8)
    transparent = np.zeros(shape, dtype=np.bool_) if has_alpha else None
    with _opened(path) as image:
        if (image.height, image.width) != shape:
            raise ValueError("the file has changed since it was opened")
        image.load()
        for top in range(0, shape[0], _STRIP_PX):
            bottom = min(top + _STRIP_PX, shape[0])
            strip = image.crop((0, top, shape[1], bottom))
            part = np.asarray(strip if strip.mode == mode else strip.convert(mode))
            part = part.reshape(bottom - top, shape[1], -1)
            values[top:bottom] = part[..., :bands]
            if transparent is not None:
                transparent[top:bottom] = part[..., -1] == 0
    return _Pixels(values, transparent if transparent is not None and transparent.any() else None)


def _boxes(mask: NDArray[np.bool_]) -> Iterator[tuple[float, float, float, float]]:
    """Cover a mask with boxes that do not overlap: runs of a row, kept while rows repeat them."""
    height = len(mask)
    changes = np.flatnonzero((mask[1:] != mask[:-1]).any(axis=1)) + 1
    for top, bottom in zip([0, *changes], [*changes, height], strict=True):
        edges = np.flatnonzero(np.diff(mask[top], prepend=False, append=False))
        for left, right in edges.reshape(-1, 2).tolist():
            yield float(top), float(left), float(bottom - top), float(right - left)
