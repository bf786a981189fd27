"""What the metadata of an OME-Zarr say: which arrays are its levels, their axes and scale.

Source: https://ngff.openmicroscopy.org/0.4/ and https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoquant.errors import SlideError
from histoquant.slides.source import ScaleClaim

_READABLE = ("0.4", "0.5")
_AXES = "tczyx"
# The names of UDUNITS-2 that the specification lists, and what else is written for them.
_UNIT_UM = {
    "meter": 1e6,
    "centimeter": 1e4,
    "millimeter": 1e3,
    "micrometer": 1.0,
    "nanometer": 1e-3,
    "picometer": 1e-6,
    "angstrom": 1e-4,
    "inch": 25400.0,
    "um": 1.0,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
}
_RGB_NAMES = ({"red", "r"}, {"green", "g"}, {"blue", "b"})
_RGB_COLOURS = ("FF0000", "00FF00", "0000FF")
_ADVICE = "Export the slide as OME-Zarr 0.4 or 0.5 or as OME-TIFF to use it"


@dataclass(frozen=True)
class Dataset:
    """One level: the path of its array, and the size and place of its pixels.

    Attributes
    ----------
    scale, translation
        (y, x) in the unit of the axes; None where the metadata say nothing.
    """

    path: str
    scale: tuple[float, float] | None
    translation: tuple[float, float] | None


@dataclass(frozen=True)
class Image:
    """A multiscale image, as its metadata describe it.

    Attributes
    ----------
    axes
        Names of the arrays' axes, in order: some of t, c, z, and y and x.
    units
        Units of y and x, empty where none is given.
    labels, colours
        Name and colour (RRGGBB) of each channel in the ``omero`` metadata, empty where absent.
    """

    version: str
    axes: str
    units: tuple[str, str]
    datasets: tuple[Dataset, ...]
    labels: tuple[str, ...]
    colours: tuple[str, ...]

    @property
    def claim(self) -> ScaleClaim:
        """What the image says about the scale of its first level."""
        scale = self.datasets[0].scale
        if scale is None:
            return ScaleClaim(None, None, "", "no OME-Zarr scale")
        found = f"OME-Zarr scale y = {scale[0]:g} {self.units[0] or 'without a unit'}, "
        found += f"x = {scale[1]:g} {self.units[1] or 'without a unit'}"
        y_um, x_um = (_UNIT_UM.get(unit) for unit in self.units)
        if y_um is None or x_um is None:
            return ScaleClaim(None, None, "", f"{found}, which is no length")
        return ScaleClaim(scale[0] * y_um, scale[1] * x_um, "OME-Zarr scale", found)

    def is_rgb(self, channels: int, is_8_bit: bool) -> bool:
        """Tell whether the channels are the colours of a picture.

        They are if there are three of 8 bits, and their names are red, green, blue (or R, G,
        B). Where the names say nothing (none, or ``Channel 0`` and the like), their display
        colours must be red, green and blue in this order, or not be given.
        """
        if channels != 3 or not is_8_bit:
            return False
        names = [label.strip().lower() for label in self.labels]
        telling = [name for name in names if name.strip("0123456789 _:-") not in ("", *_SILENT)]
        if telling:
            return len(names) == 3 and all(
                name in known for name, known in zip(names, _RGB_NAMES, strict=True)
            )
        given = tuple(colour.upper() for colour in self.colours if colour)
        return not given or given == _RGB_COLOURS


_SILENT = ("channel", "ch", "c")


def ome_attributes(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the OME metadata of a group: version 0.5 keeps them under the key ``ome``."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def refuse_other_kinds(where: str, attributes: Mapping[str, Any]) -> None:
    """Say what a group is that is no image: a plate, a well or a label image.

    Raises
    ------
    SlideError
        For each of these.
    """
    kinds = {
        "plate": "a high-content screening plate; open one field of it (row/column/0)",
        "well": "a well of a plate; open one field of it (0)",
        "image-label": "a label image, which holds objects and not colours; open the image",
    }
    for key, kind in kinds.items():
        if key in attributes:
            raise SlideError(f"{where}: {kind}.")


def read_image(where: str, attributes: Mapping[str, Any]) -> Image:
    """Read the ``multiscales`` of an image group; the first one, where there are several.

    Raises
    ------
    SlideError
        For another version, and metadata that do not say which arrays are the levels.
    """
    try:
        return _read_image(where, attributes)
    except SlideError:
        raise
    except Exception as error:  # metadata may hold anything in place of anything
        raise SlideError(
            f"{where}: its OME-Zarr metadata cannot be used ({type(error).__name__}: {error}). "
            f"They are damaged; copy the slide again, or export it again. {_ADVICE}."
        ) from error


def _read_image(where: str, attributes: Mapping[str, Any]) -> Image:
    multiscales = attributes["multiscales"][0]
    version = str(attributes.get("version") or multiscales.get("version") or "")
    axes = multiscales.get("axes")
    if not version and axes and isinstance(axes[0], Mapping):
        version = "0.4"  # the first version with axes like these; it need not be written
    if version not in _READABLE:
        raise SlideError(
            f"{where}: OME-Zarr version {version or 'unknown'}; histoquant reads "
            f"{' and '.join(_READABLE)}. {_ADVICE}."
        )
    names = [str(axis["name"]).lower() for axis in axes]
    if len(set(names)) < len(names) or not {"y", "x"} <= set(names) <= set(_AXES):
        raise SlideError(
            f"{where}: axes {', '.join(names)}; a slide has y and x, and may have t, c and z. "
            f"{_ADVICE}."
        )
    outer = multiscales.get("coordinateTransformations")
    channels = _channels(attributes)
    return Image(
        version=version,
        axes="".join(names),
        units=(_unit(axes, names, "y"), _unit(axes, names, "x")),
        datasets=tuple(_dataset(item, outer, names) for item in _nonempty(multiscales["datasets"])),
        labels=tuple(str(channel.get("label") or "") for channel in channels),
        colours=tuple(str(channel.get("color") or "") for channel in channels),
    )


def _channels(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    omero = attributes.get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    return [c for c in channels if isinstance(c, Mapping)] if isinstance(channels, list) else []


def _nonempty(datasets: list[Any]) -> list[Any]:
    if not datasets:
        raise ValueError("no datasets")
    return datasets


def _unit(axes: list[Mapping[str, Any]], names: list[str], axis: str) -> str:
    return str(axes[names.index(axis)].get("unit") or "")


def _dataset(item: Mapping[str, Any], outer: Any, names: list[str]) -> Dataset:
    path = item["path"]
    if not isinstance(path, str) or not path:
        raise ValueError(f"{path!r} is no path of an array")
    scale, place = _transformations(item.get("coordinateTransformations"), names)
    # The outer translation moves all levels alike; only their places to each other matter.
    outer_scale, _ = _transformations(outer, names)
    if outer_scale is None:
        return Dataset(path, scale, place)
    return Dataset(path, _product(scale, outer_scale) or outer_scale, _product(place, outer_scale))


def _transformations(
    given: Any, names: list[str]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Find the scale and the translation of (y, x) among coordinate transformations."""
    found: dict[str, tuple[float, float]] = {}
    for item in given or ():
        kind = item["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in item or kind in found:
            raise ValueError(f"coordinate transformation {item} is not understood")
        if len(item[kind]) != len(names):
            raise ValueError(f"{kind} {item[kind]} for the axes {', '.join(names)}")
        y, x = (float(item[kind][names.index(axis)]) for axis in "yx")
        if not (math.isfinite(y) and math.isfinite(x)):
            raise ValueError(f"{kind} {item[kind]} is not finite")
        found[kind] = (y, x)
    return found.get("scale"), found.get("translation")


def _product(
    pair: tuple[float, float] | None, factors: tuple[float, float]
) -> tuple[float, float] | None:
    return None if pair is None else (pair[0] * factors[0], pair[1] * factors[1])
