"""Whole-slide skin biopsies in, p16INK4A and collagen VII numbers out.

The names below load on first use: importing histoquant costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from histoquant.errors import (
    HistoquantError,
    ManifestError,
    ResultError,
    ScaleError,
    SettingsError,
    SlideError,
    StainError,
)

if TYPE_CHECKING:
    from histoquant import phantom as phantom
    from histoquant.anatomy import Compartments as Compartments
    from histoquant.anatomy import find_compartments as find_compartments
    from histoquant.junction import Junction as Junction
    from histoquant.junction import trace_junction as trace_junction
    from histoquant.nuclei import segment_nuclei as segment_nuclei
    from histoquant.pipeline import quantify as quantify
    from histoquant.results import SlideResult as SlideResult
    from histoquant.results import read_result as read_result
    from histoquant.settings import Settings as Settings
    from histoquant.slides import open_slide as open_slide
    from histoquant.stains import StainModel as StainModel
    from histoquant.stains import optical_density as optical_density
    from histoquant.stains import unmix as unmix

__version__ = "0.1.0"

_HOMES = {
    "Compartments": "anatomy",
    "Junction": "junction",
    "Settings": "settings",
    "SlideResult": "results",
    "StainModel": "stains",
    "find_compartments": "anatomy",
    "open_slide": "slides",
    "optical_density": "stains",
    "phantom": "phantom",
    "quantify": "pipeline",
    "read_result": "results",
    "segment_nuclei": "nuclei",
    "trace_junction": "junction",
    "unmix": "stains",
}

__all__ = [
    "HistoquantError",
    "ManifestError",
    "ResultError",
    "ScaleError",
    "SettingsError",
    "SlideError",
    "StainError",
    "__version__",
    *sorted(_HOMES),
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_HOMES[name]}")
    value = module if name == "phantom" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(__all__)
