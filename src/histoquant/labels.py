"""``labels.ome.zarr`` of a slide's result: nuclei and compartments as OME-Zarr 0.5 labels.

::

    labels.ome.zarr/
        compartments/    uint8 at the scale of the compartments, codes with names and colours
        nuclei/          uint32 (p16), the row of nuclei.parquet from 1

No picture is in it: it lies on the slide's own. A level more, of every fourth pixel, is added
while the last one takes more than one shard, so that a section has few files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant import ngff
from histoquant.artefacts import NAMES
from histoquant.errors import ResultError
from histoquant.outlining import outline_nuclei, recorded_model, with_recorded_contrast
from histoquant.results import LABELS, SlideResult
from histoquant.settings import Settings
from histoquant.slides import Slide

_STEP = 4
_EXCLUDED = next(code for code, name, _ in ngff.COMPARTMENTS if name == "Excluded")
_AXES = ("y", "x")


def write_labels(result: SlideResult, slide: Slide, settings: Settings, directory: Path) -> None:
    """Write ``labels.ome.zarr`` into a slide's directory.

    Parameters
    ----------
    result
        What was measured on the slide, just now and with `settings`.
    slide
        Read again for the outlines of the nuclei, which are found as they were.

    Raises
    ------
    ResultError
        When a nucleus does not come up again.
    """
    import zarr

    root = zarr.open_group(directory / LABELS, mode="w", zarr_format=3)
    listed = []
    if result.compartments is not None:
        codes = _codes(result)
        group = root.create_group("compartments")
        level = ngff.new_array(group, "0", codes.shape, codes.dtype, _AXES)
        level[...] = codes
        _describe(group, "compartments", result.compartments.mpp, level, ngff.legend())
        listed.append("compartments")
    if result.nuclei is not None and len(result.nuclei):
        _write_nuclei(root.create_group("nuclei"), result, slide, settings)
        listed.append("nuclei")
    root.attrs["ome"] = {"version": ngff.VERSION, "labels": listed}


def _codes(result: SlideResult) -> NDArray[np.uint8]:
    """Compartments by the codes of `ngff.COMPARTMENTS`: what is left out lies over the rest."""
    compartments = result.compartments
    if compartments is None:
        raise ResultError(f"{result.slide_id}: there are no compartments to label")
    codes = compartments.labels.copy()
    if compartments.artefacts is not None:
        codes[np.isin(compartments.artefacts, list(NAMES))] = _EXCLUDED
    return codes


def _write_nuclei(group: Any, result: SlideResult, slide: Slide, settings: Settings) -> None:
    """Block by block: no slide in memory."""
    if result.nuclei is None:
        raise ResultError(f"{result.slide_id}: there are no nuclei to label")
    mpp = settings.nuclei.mpp
    level = ngff.new_array(group, "0", slide.grid_shape(mpp), np.dtype(np.uint32), _AXES)
    model = recorded_model(result.provenance, result.slide_id)
    settings = with_recorded_contrast(settings, result.provenance)
    for window in outline_nuclei(result.nuclei, slide, model, settings):
        b = window.block
        level[b.y : b.y + b.height, b.x : b.x + b.width] = window.core
    _describe(group, "nuclei", mpp, level, {})
    group.attrs["histoquant"] = ngff.ROW_OF_NUCLEI


def _describe(group: Any, name: str, mpp: float, level: Any, legend: dict[str, Any]) -> None:
    """Add coarser levels, strip by strip, and the metadata of all."""
    pixels_um = [mpp]
    while max(level.shape) > ngff.SHARD_PX:
        rows, columns = (-(-n // _STEP) for n in level.shape)
        coarser = ngff.new_array(group, str(len(pixels_um)), (rows, columns), level.dtype, _AXES)
        for top in range(0, rows, ngff.CHUNK_PX):
            strip = level[_STEP * top : _STEP * (top + ngff.CHUNK_PX)]
            coarser[top : top + ngff.CHUNK_PX] = strip[::_STEP, ::_STEP]
        pixels_um.append(pixels_um[-1] * _STEP)
        level = coarser
    ome = ngff.pyramid(name, pixels_um, _AXES)
    group.attrs["ome"] = ome | {"image-label": legend}
