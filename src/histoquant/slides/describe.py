"""A slide in JSON types, for `histoquant info` and for what is kept with results."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from histoquant.errors import SlideError
from histoquant.slides.source import Source

if TYPE_CHECKING:
    from histoquant.slides.slide import Slide


def describe(slide: Slide, source: Source) -> dict[str, Any]:
    """Describe `slide`, read through `source`; what `Slide.info` gives."""
    height, width, _ = slide.shape
    return {
        "path": str(slide.path),
        "format": slide.format,
        "height": height,
        "width": width,
        "bounds": getattr(source, "bounds", None),
        "channels": list(slide.channels),
        "dtype": str(slide.dtype),
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "levels": [asdict(level) for level in slide.levels],
        "compression": source.compression,
        "icc_profile": source.has_icc_profile,
        "associated_images": list(source.associated),
        "missing_tiles": slide.missing_tiles,
        "missing_percent": _missing_percent(slide),
        "damaged_tiles": slide.damaged_tiles,
    }


def _missing_percent(slide: Slide) -> float | None:
    """Give the part without pixels, or None where damage keeps it from being known."""
    try:
        return round(slide.missing_percent, 3)
    except SlideError:
        return None
