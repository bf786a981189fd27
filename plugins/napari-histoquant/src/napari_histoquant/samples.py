"""Sample data: synthetic skin that is drawn when it is asked for, and kept for the next time.

Nothing is downloaded: the phantom that histoquant tests itself with draws it in a few seconds.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Literal

from histoquant import __version__
from napari_histoquant.form import Request
from napari_histoquant.job import measure
from napari_histoquant.layers import LayerData

Marker = Literal["p16", "col7"]
_SEED, _SIZE_MM = 2019, (1.1, 0.75)


def p16_slide() -> list[LayerData]:
    """A synthetic section stained for p16INK4A."""
    return _slide("p16")


def collagen7_slide() -> list[LayerData]:
    """A synthetic section stained for collagen VII."""
    return _slide("col7")


def measured_slides() -> list[LayerData]:
    """The p16 section with everything that histoquant measures on it."""
    from napari_histoquant.results import read_layers

    layers, _ = read_layers(measured() / "slides" / "sample_p16")
    return layers


def measured() -> Path:
    """The results directory of both sample slides; drawn and measured once, some 15 seconds."""
    out = _cache() / "results"
    for marker in ("p16", "col7"):
        measure(Request(str(draw(marker)), marker, str(out), workers=1), lambda stage: None)
    return out


def draw(marker: Marker) -> Path:
    """The sample slide of `marker`, drawn on first use."""
    from histoquant import phantom

    path = _cache() / f"sample_{marker}.ome.tif"
    if not path.exists():
        phantom.write_slide(path, marker, seed=_SEED, size_mm=_SIZE_MM, angle_deg=0.0)
    return path


def _slide(marker: Marker) -> list[LayerData]:
    from histoquant import open_slide
    from napari_histoquant.layers import slide_layers

    return slide_layers(open_slide(draw(marker)), f"Sample: {marker}")


def _cache() -> Path:
    """Where drawn samples are kept: the user's cache, a temporary directory where it is closed."""
    name = f"napari-histoquant/{__version__}"
    for base in (_user_cache(), Path(tempfile.gettempdir())):
        try:
            (base / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(base / name, os.W_OK):
            return base / name
    return Path(tempfile.mkdtemp(prefix="napari-histoquant-"))


def _user_cache() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"
