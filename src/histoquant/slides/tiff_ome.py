"""The pages, levels, channels and scale of an OME-TIFF, from its OME-XML.

Source: the OME-TIFF specification, https://ome-model.readthedocs.io/en/stable/ome-tiff/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tifffile import TiffPage

from histoquant.errors import SlideError
from histoquant.slides.scale import ome_claims
from histoquant.slides.source import ScaleClaim
from histoquant.slides.tiff_pyramid import finest_first


@dataclass(frozen=True)
class OmeImage:
    """The largest image of the file; each level lists one page per channel or group of them.

    `others` are the names and pages of the other images.
    """

    levels: list[list[TiffPage]]
    channels: tuple[str, ...]
    claims: tuple[ScaleClaim, ...]
    others: tuple[tuple[str, list[TiffPage]], ...]


def read_ome(path: Path, xml: str, pages: list[TiffPage]) -> OmeImage:
    """Find the slide among the images that `xml` describes.

    Raises
    ------
    SlideError
        For a stack, for pixels in other files, and for XML that does not fit the file.
    """
    root = ElementTree.fromstring(xml)
    images = [
        (image, pixels)
        for image in _children(root, "Image")
        for pixels in _children(image, "Pixels")
    ]
    if not images:
        raise SlideError(
            f"{path}: its OME-XML describes no image; the pixels lie in another file of the "
            "data set. Open that one."
        )
    main = max(range(len(images)), key=lambda k: _area(images[k][1]))
    pixels = images[main][1]
    if sum(_area(other) == _area(pixels) for _, other in images) > 1:
        raise SlideError(
            f"{path}: several images of {pixels.get('SizeX')} x {pixels.get('SizeY')} px; which of "
            "them is the slide is not known. Export it alone as OME-TIFF."
        )
    base = _full_resolution(path, root, pixels, pages)
    return OmeImage(
        levels=_levels(base, pages if len(images) == 1 else []),
        channels=tuple(c.get("Name", "") for c in _children(pixels, "Channel")),
        claims=tuple(ome_claims(pixels)),
        others=tuple(
            (image.get("Name") or f"image {k}", _pages_of(path, root, other, pages))
            for k, (image, other) in enumerate(images)
            if k != main
        ),
    )


def _full_resolution(
    path: Path, root: Element, pixels: Element, pages: list[TiffPage]
) -> list[TiffPage]:
    depth, times = (int(pixels.get(f"Size{axis}", 1)) for axis in "ZT")
    if depth * times != 1:
        raise SlideError(
            f"{path}: {depth} focal planes and {times} time points; a slide has one of each. "
            "Export one plane as OME-TIFF."
        )
    ifds = _ifds(path, root, pixels)
    if not 0 <= min(ifds) <= max(ifds) < len(pages):
        raise SlideError(
            f"{path}: its OME-XML names image {max(ifds)}, but the file holds {len(pages)}. "
            "It is truncated or was edited; export it again."
        )
    return [pages[ifd] for ifd in ifds]


def _pages_of(path: Path, root: Element, pixels: Element, pages: list[TiffPage]) -> list[TiffPage]:
    return [pages[ifd] for ifd in _ifds(path, root, pixels) if 0 <= ifd < len(pages)]


def _ifds(path: Path, root: Element, pixels: Element) -> list[int]:
    """Give the page of each channel (of each group, where a page holds several)."""
    samples = [int(c.get("SamplesPerPixel", 1)) for c in _children(pixels, "Channel")]
    group = max(1, samples[0]) if samples else 1
    count = max(1, int(pixels.get("SizeC", 1)) // group)
    ifds = list(range(min(count, len(root) + 2**16)))
    for data in _children(pixels, "TiffData"):
        _refuse_other_files(path, root, data)
        first, ifd = int(data.get("FirstC", 0)) // group, int(data.get("IFD", 0))
        planes = int(data.get("PlaneCount", 1 if "IFD" in data.attrib else count))
        for k in range(min(planes, count - first)):
            ifds[first + k] = ifd + k
    return ifds


def _refuse_other_files(path: Path, root: Element, data: Element) -> None:
    own = root.get("UUID")
    for uuid in _children(data, "UUID"):
        if own and (uuid.text or "").strip() != own:
            raise SlideError(
                f"{path}: its pixels are spread over several files "
                f"({uuid.get('FileName', 'unnamed')}). Export the slide as one OME-TIFF."
            )


def _levels(base: list[TiffPage], pages: list[TiffPage]) -> list[list[TiffPage]]:
    """Put the SubIFDs of each page below it; old writers appended the levels as pages."""
    below = [[sub.aspage() for sub in page.pages or ()] for page in base]
    if not any(below):
        own = {page.index for page in base}
        others = [page for page in pages if page.index not in own]
        smaller = finest_first(base[0], others)[1:] if len(base) == 1 else []
        return [base, *([page] for page in smaller)]
    offsets = [page.offset for page in below[0]]
    order = [offsets.index(page.offset) for page in finest_first(base[0], below[0])[1:]]
    return [base, *([subpages[k] for subpages in below] for k in order)]


def _children(element: Element, name: str) -> Iterator[Element]:
    """List child elements by name, in whatever version of the OME namespace."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _area(pixels: Element) -> int:
    return int(pixels.get("SizeX", 0)) * int(pixels.get("SizeY", 0))
