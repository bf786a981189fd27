"""What OpenSlide says about a slide: vendor, levels, scale, bounds, associated images.

Source: the OpenSlide API and its standard properties, https://openslide.org/api/openslide_8h.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from histoquant.errors import SlideError
from histoquant.slides.scale import openslide_claims
from histoquant.slides.source import Level, OtherReaderError, ScaleClaim

if TYPE_CHECKING:
    from openslide import OpenSlide

_FORMATS = {
    "aperio": "Aperio SVS",
    "dicom": "DICOM",
    "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu VMS",
    "leica": "Leica SCN",
    "mirax": "3DHISTECH MRXS",
    "philips": "Philips TIFF",
    "sakura": "Sakura SVSLIDE",
    "trestle": "Trestle TIFF",
    "ventana": "Ventana BIF",
    "zeiss": "Zeiss CZI",
}
_BLOCK_PX = 512
_UNKNOWN_TILE_PX = 256
_LARGEST_TILE_PX = 2048
_MOST_TILE_PX = 2**26  # of a file's own tiles


@dataclass(frozen=True)
class Facts:
    """What the source needs to know about a slide, free of the handle it was read through.

    Attributes
    ----------
    tiles
        Rows and columns of a tile of each level (px); 256 where the file's tiles are irregular.
    steps
        Level-0 px per px of each level as OpenSlide reckons when it places a window.
    associated_shapes
        Rows and columns of each associated image.
    bounds
        Top, left, height, width (level-0 px) of what was scanned, or None.
    truncates
        Whether OpenSlide cuts off what lies behind the point where it places a window, instead
        of drawing between pixels.
    has_filler
        Whether coarser levels may show a colour where level 0 has no pixels: MRXS joins scanned
        and unscanned images to one where it does not tell where each of them lies.
    """

    format: str
    levels: tuple[Level, ...]
    tiles: tuple[tuple[int, int], ...]
    steps: tuple[float, ...]
    claims: tuple[ScaleClaim, ...]
    has_icc_profile: bool
    associated: tuple[str, ...]
    associated_shapes: Mapping[str, tuple[int, int]]
    bounds: tuple[int, int, int, int] | None
    truncates: bool
    has_filler: bool


def detect_vendor(path: Path) -> str | None:
    """Name the vendor whose format OpenSlide sees in the file, or None."""
    _import_openslide(path)
    from openslide import OpenSlide, OpenSlideError

    try:
        return OpenSlide.detect_format(str(path))
    except OpenSlideError:
        return None


def format_name(vendor: str) -> str:
    """Name a format by OpenSlide's name of its vendor."""
    return _FORMATS.get(vendor, vendor)


def open_slide(path: Path) -> OpenSlide:
    """Open `path` with OpenSlide.

    Raises
    ------
    OtherReaderError
        When OpenSlide cannot read the file, or cannot be loaded itself.
    """
    _import_openslide(path)
    from openslide import OpenSlide, OpenSlideError, OpenSlideUnsupportedFormatError

    try:
        return OpenSlide(str(path))
    except OpenSlideUnsupportedFormatError as error:
        raise OtherReaderError(f"{path}: no format that OpenSlide knows.") from error
    except OpenSlideError as error:
        raise OtherReaderError(
            f"{path}: OpenSlide cannot read it ({error}). If it is whole, export it as OME-TIFF "
            "with its scanner's software; else copy it again from the scanner."
        ) from error


def read_facts(path: Path, slide: OpenSlide) -> Facts:
    """Read everything but pixels.

    Raises
    ------
    SlideError
        When a level has no pixels.
    """
    properties = dict(slide.properties)
    vendor = properties.get("openslide.vendor", "")
    shapes = [(height, width) for width, height in slide.level_dimensions]
    if any(side < 1 for shape in shapes for side in shape):
        raise SlideError(f"{path}: levels of {shapes} px. Copy it again from the scanner.")
    tiles = tuple(_tile(properties, k) for k in range(len(shapes)))
    if any(height * width > _MOST_TILE_PX for height, width in tiles):  # OpenSlide would abort
        raise SlideError(f"{path}: tiles of {tiles} px. Copy it again from the scanner.")
    steps = tuple(slide.level_downsamples)
    names = tuple(sorted(slide.associated_images))
    return Facts(
        format=format_name(vendor),
        levels=tuple(
            Level(shape, _downsample(shapes[0], shape, step), _block(tile))
            for shape, tile, step in zip(shapes, tiles, steps, strict=True)
        ),
        tiles=tiles,
        steps=steps,
        claims=tuple(openslide_claims(format_name(vendor), vendor, properties)),
        has_icc_profile=_number(properties, "openslide.icc-size") > 0,
        associated=names,
        associated_shapes={
            name: (
                _number(properties, f"openslide.associated.{name}.height"),
                _number(properties, f"openslide.associated.{name}.width"),
            )
            for name in names
        },
        bounds=_bounds(properties),
        truncates=vendor == "leica",
        has_filler=vendor == "mirax" and "openslide.level[0].tile-width" in properties,
    )


def _import_openslide(path: Path) -> None:
    try:
        import openslide  # noqa: F401
    except (ImportError, OSError) as error:  # the wheel may lack a library for this machine
        raise OtherReaderError(
            f"{path}: OpenSlide, which would read it, cannot be loaded ({error}). Install it with "
            "`pip install openslide-python openslide-bin`."
        ) from error


def _downsample(base: tuple[int, int], level: tuple[int, int], step: float) -> tuple[float, float]:
    """Take the whole number that a level's shape was meant to have, else what OpenSlide says."""
    from histoquant.slides.tiff_pyramid import downsample

    return downsample(base, level) or (step, step)


def _tile(properties: Mapping[str, str], level: int) -> tuple[int, int]:
    height, width = (
        _number(properties, f"openslide.level[{level}].tile-{side}") for side in ("height", "width")
    )
    return (height, width) if height and width else (_UNKNOWN_TILE_PX, _UNKNOWN_TILE_PX)


def _block(tile: tuple[int, int]) -> tuple[int, int]:
    """Give the rows and columns of whole tiles that are read at a time."""
    height, width = (
        side * max(1, round(_BLOCK_PX / side)) if side <= _LARGEST_TILE_PX else _BLOCK_PX
        for side in tile
    )
    return height, width


def _bounds(properties: Mapping[str, str]) -> tuple[int, int, int, int] | None:
    names = [f"openslide.bounds-{side}" for side in ("y", "x", "height", "width")]
    if not all(name in properties for name in names):
        return None
    top, left, height, width = (_number(properties, name) for name in names)
    return top, left, height, width


def _number(properties: Mapping[str, str], name: str) -> int:
    try:
        return int(properties.get(name, "0"))
    except ValueError:
        return 0
