"""The levels, scale and associated images of a Philips TIFF, from its XML.

Its levels are padded to whole tiles: what they show is base size / downsample, and the
downsample follows from the pixel spacings in the XML. Tiles of glass are left out (offset 0).
Label and macro may be pages of the file or JPEG pictures in the XML; only pages are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tifffile import TiffPage

from histoquant.errors import SlideError
from histoquant.slides.source import ScaleClaim

_UM_PER_MM = 1000.0
_OTHER_PAGES = ("label", "macro")


@dataclass(frozen=True)
class PhilipsSlide:
    """Pages and downsamples of the levels, finest first; names and pages of the others."""

    levels: list[list[TiffPage]]
    downsamples: tuple[float, ...]
    claims: tuple[ScaleClaim, ...]
    others: tuple[tuple[str, list[TiffPage]], ...]


def read_philips(path: Path, pages: list[TiffPage]) -> PhilipsSlide:
    """Find the levels of a Philips slide.

    Raises
    ------
    SlideError
        When the XML does not describe the levels that the file holds.
    """
    spacings = list(_spacings(ElementTree.fromstring(pages[0].description)))
    others = [(_name(page), page) for page in pages[1:]]
    levels = [pages[0], *(page for name, page in others if not name and page.is_tiled)]
    if len(levels) != len(spacings) or not all(min(pair) > 0 for pair in spacings):
        raise SlideError(
            f"{path}: {len(levels)} levels, but pixel spacings {spacings} in the Philips XML. "
            "The file is damaged or was edited; copy it again from the scanner."
        )
    y_mm, x_mm = spacings[0]
    times = tuple(float(round((y / y_mm + x / x_mm) / 2)) for y, x in spacings)
    if list(times) != sorted(set(times)):
        raise SlideError(
            f"{path}: levels with downsamples {times}. Copy it from the scanner again."
        )
    claim = ScaleClaim(
        y_mm * _UM_PER_MM,
        x_mm * _UM_PER_MM,
        "Philips pixel spacing",
        f"DICOM_PIXEL_SPACING = {y_mm:g}, {x_mm:g} mm",
    )
    return PhilipsSlide(
        levels=[[page] for page in levels],
        downsamples=times,
        claims=(claim,),
        others=tuple(
            (name or f"image {page.index}", [page])
            for name, page in others
            if name or not page.is_tiled
        ),
    )


def _spacings(root: Element) -> list[tuple[float, float]]:
    """List the spacings of the levels (mm; rows, then columns, as in DICOM)."""
    found = []
    for level in root.iterfind(".//DataObject[@ObjectType='PixelDataRepresentation']"):
        for attribute in level.iterfind("Attribute[@Name='DICOM_PIXEL_SPACING']"):
            y, x = (float(text) for text in (attribute.text or "").replace('"', " ").split())
            found.append((y, x))
    return found


def _name(page: TiffPage) -> str:
    text = page.description.strip().lower()
    return next((name for name in _OTHER_PAGES if text.startswith(name)), "")
