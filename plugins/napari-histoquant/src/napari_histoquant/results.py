"""A measured slide on disk as layers: the slide itself, where it still is, and what was found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from histoquant import HistoquantError, open_slide, read_result
from histoquant.results import SlideResult
from histoquant.rundir import Ledger
from histoquant.slides import Slide
from napari_histoquant.layers import (
    GREY,
    JUNCTION_UM,
    THIN_UM,
    LayerData,
    bins_layer,
    compartment_layer,
    has_profile,
    junction_layer,
    nuclei_layer,
    outlined,
    region_layer,
    slide_layers,
)


def read_layers(directory: Path) -> tuple[list[LayerData], list[str]]:
    """Layers of one measured slide, undermost first.

    Parameters
    ----------
    directory
        A slide's own directory: the one with ``result.json``.

    Returns
    -------
    layers
        Slide, compartments, what is left out, junction, collagen VII or nuclei.
    problems
        What could not be shown, and why, in words.

    Raises
    ------
    histoquant.ResultError
        When the result is damaged or of another format.
    """
    result = read_result(directory)
    layers: list[LayerData] = []
    problems: list[str] = []
    try:
        layers += slide_layers(_open_slide(directory, result))
    except HistoquantError as error:
        problems.append(f"{result.slide_id}: the slide itself cannot be shown: {error}")
    return layers + measured_layers(result, directory), problems


def measured_layers(result: SlideResult, directory: Path) -> list[LayerData]:
    """What was measured, undermost first."""
    layers: list[LayerData] = []
    if result.compartments is not None:
        found = result.compartments
        layers.append(compartment_layer(outlined(found.labels), found.mpp))
    layers += _left_out(directory, float(str(result.summary["mpp"])))
    if result.junction_line is not None:
        width = THIN_UM if has_profile(result.junction) else JUNCTION_UM
        layers.append(junction_layer(result.junction_line, width))
    if has_profile(result.junction):
        layers.append(bins_layer(result.junction, float(str(result.summary["mpp"]))))
    if result.nuclei is not None:
        layers.append(nuclei_layer(result.nuclei))
    return layers


def _open_slide(directory: Path, result: SlideResult) -> Slide:
    """The slide a result was measured on, where the run's ledger says it lies."""
    run = directory.parent.parent
    rows = [r for r in Ledger.read(run / "ledger.csv").rows if r["slide_id"] == result.slide_id]
    place = rows[0]["resolved_path"] or rows[0]["slide"] if rows else ""
    if not place:
        raise HistoquantError(
            f"{run / 'ledger.csv'} does not say where it lies; drop the slide file beside these "
            "layers, they will fit"
        )
    mpp = result.summary.get("mpp")
    return open_slide(place, mpp=float(str(mpp)) if mpp else None, on_damage="missing")


def _left_out(directory: Path, mpp: float) -> list[LayerData]:
    """Regions that the measurement left out, from the GeoJSON."""
    try:
        features = json.loads((directory / "compartments.geojson").read_text("utf-8"))["features"]
    except (OSError, ValueError, KeyError):
        return []  # a picture less; the result itself has been read
    polygons = []
    for feature in features:
        if feature["properties"]["name"] != "Excluded":
            continue
        geometry = feature["geometry"]
        parts = geometry["coordinates"]
        for rings in [parts] if geometry["type"] == "Polygon" else parts:
            polygons.append(np.asarray(rings[0], np.float64)[:, ::-1] * mpp)
    return [region_layer(polygons, [GREY] * len(polygons), "Left out")] if polygons else []
