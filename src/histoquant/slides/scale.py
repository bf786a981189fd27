"""Microns per pixel: from the file or from the user, never guessed.

A magnification is not a scale: 20x has meant anything from 0.23 to 0.55 um/px.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from histoquant.errors import ScaleError
from histoquant.slides.source import ScaleClaim

SMALLEST_UM, LARGEST_UM = 0.05, 20.0
_MOST_UNEQUAL = 0.01
_ADVICE = "Give the microns per pixel with --mpp, or in the manifest column mpp"
_TIFF_UNIT_UM = {2: ("inch", 25400.0), 3: ("cm", 10000.0)}
_OME_UNIT_UM = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "\N{MICRO SIGN}m": 1.0,
    "\N{GREEK SMALL LETTER MU}m": 1.0,
    "um": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "in": 25400.0,
}


@dataclass(frozen=True)
class Scale:
    """Microns per level-0 pixel and where the number came from."""

    mpp: float
    source: str


def resolve_scale(path: Path | str, claims: tuple[ScaleClaim, ...], given: float | None) -> Scale:
    """Settle the scale of a slide: `given` if there is one, else the file's first claim.

    Raises
    ------
    ScaleError
        When there is no claim, or the one there is absurd or unequal in y and x.
    """
    if given is not None:
        if not is_plausible(given):
            raise ScaleError(
                f"{path}: the given scale of {given} um/px lies outside "
                f"{SMALLEST_UM}-{LARGEST_UM} um/px. --mpp wants microns per pixel, not a "
                "magnification"
            )
        return Scale(float(given), "given")
    for claim in claims:
        if claim.source:
            return _accept(path, claim)
    found = "; ".join(claim.found for claim in claims) or "no scale tag"
    raise ScaleError(f"{path}: the file does not state its scale (found {found}). {_ADVICE}.")


def is_plausible(um: float | None) -> bool:
    """Tell whether `um` can be the pixel size of a slide."""
    return um is not None and SMALLEST_UM <= um <= LARGEST_UM


def aperio_claims(description: str) -> Iterator[ScaleClaim]:
    """Read the claim of an Aperio image description (``MPP = 0.2520``)."""
    match = re.search(r"\bMPP\s*=\s*([^|;\r\n]*)", description)
    if match:
        text = match[1].strip()
        value = _number(text)
        yield ScaleClaim(value, value, "Aperio MPP tag", f"MPP = {text}")
    else:
        yield ScaleClaim(None, None, "", "no MPP in the Aperio description")


def ome_claims(pixels: Element) -> Iterator[ScaleClaim]:
    """Read the claim of an OME ``Pixels`` element; the unit is um where none is written."""
    texts = {axis: pixels.get(f"PhysicalSize{axis}") for axis in "YX"}
    units = {axis: pixels.get(f"PhysicalSize{axis}Unit", "um") for axis in "YX"}
    if not any(texts.values()):
        yield ScaleClaim(None, None, "", "no OME PhysicalSize")
        return
    y_um, x_um = (_ome_length(texts[axis], units[axis]) for axis in "YX")
    found = ", ".join(f"PhysicalSize{axis} = {texts[axis]} {units[axis]}" for axis in "YX")
    yield ScaleClaim(y_um, x_um, "OME PhysicalSize", found)


def resolution_claims(
    y_per_unit: float | None, x_per_unit: float | None, unit: int, *, vendor: str = ""
) -> Iterator[ScaleClaim]:
    """Read the claim of TIFF resolution tags.

    Without a `vendor` that is known to mean it, a value that cannot be a slide's (72 dpi by
    default of some program) is reported but is no claim.
    """
    if y_per_unit is None or x_per_unit is None:
        yield ScaleClaim(None, None, "", "no TIFF resolution tags")
        return
    name, unit_um = _TIFF_UNIT_UM.get(unit, ("no unit", math.nan))
    found = f"TIFF resolution {x_per_unit:g} x {y_per_unit:g} per {name}"
    y_um, x_um = (unit_um / r if r > 0 else math.nan for r in (y_per_unit, x_per_unit))
    if vendor:
        yield ScaleClaim(y_um, x_um, f"{vendor} resolution tags", found)
    elif is_plausible(y_um) and is_plausible(x_um):
        yield ScaleClaim(y_um, x_um, "TIFF resolution", found)
    else:
        yield ScaleClaim(None, None, "", f"{found}, which is no scale of a slide")


def openslide_claims(name: str, vendor: str, properties: Mapping[str, str]) -> Iterator[ScaleClaim]:
    """Read the claim of OpenSlide's standard properties, which it takes from a vendor's own tags.

    Of a file of no vendor they are its resolution tags, which need not mean the slide's scale.
    """
    texts = {axis: properties.get(f"openslide.mpp-{axis}") for axis in "yx"}
    y_um, x_um = (_number(texts[axis]) for axis in "yx")
    if not any(texts.values()):
        yield ScaleClaim(None, None, "", f"no pixel size in the {name} file")
        return
    found = ", ".join(f"openslide.mpp-{axis} = {texts[axis]}" for axis in "yx")
    if vendor == "generic-tiff" and not (is_plausible(y_um) and is_plausible(x_um)):
        yield ScaleClaim(None, None, "", f"{found}, which is no scale of a slide")
    else:
        yield ScaleClaim(y_um, x_um, f"{name} pixel size", found)


def _accept(path: Path | str, claim: ScaleClaim) -> Scale:
    y_um, x_um = claim.y_um, claim.x_um
    if y_um is None or x_um is None or not (is_plausible(y_um) and is_plausible(x_um)):
        raise ScaleError(
            f"{path}: the scale in the file cannot be used: found {claim.found} "
            f"({claim.source}), expected {SMALLEST_UM}-{LARGEST_UM} um/px. {_ADVICE}."
        )
    if abs(y_um - x_um) > _MOST_UNEQUAL * min(y_um, x_um):
        raise ScaleError(
            f"{path}: pixels are not square: {x_um:.5g} um in x, {y_um:.5g} um in y "
            f"({claim.found}). If that is a mistake of the file: {_ADVICE}."
        )
    return Scale((y_um + x_um) / 2, claim.source)


def _ome_length(text: str | None, unit: str) -> float | None:
    value, unit_um = _number(text), _OME_UNIT_UM.get(unit)
    return None if value is None or unit_um is None else value * unit_um


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
