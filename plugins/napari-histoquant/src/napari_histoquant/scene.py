"""What is drawn over a slide under review, worked out beside the screen and put there at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoquant.review import Measured
from histoquant.slides import Slide
from napari_histoquant import layers as look
from napari_histoquant.strip import Straightener

LayerData = look.LayerData


@dataclass(frozen=True, eq=False)
class Scene:
    """Lines over a slide.

    Attributes
    ----------
    layers
        Key -> what is to be drawn; what has not changed since the scene before is not in it.
    straightener
        Lays the junction straight; None without one, or without the slide.
    outlined
        What the outlines on the screen were drawn for: compartments, and lines of the junction.
    """

    layers: dict[str, LayerData]
    straightener: Straightener | None
    outlined: tuple[object, object]


def scene_of(
    measured: Measured,
    mpp: float,
    slide: Slide | None,
    outlined: tuple[object, object] | None = None,
) -> Scene:
    """The lines of an edited slide.

    Parameters
    ----------
    mpp
        Size of a level-0 pixel in um.
    slide
        The open slide, None where it cannot be read.
    outlined
        What outlines are drawn for already.
    """
    geometry = measured.geometry
    found, junction = geometry.compartments, geometry.junction
    layers: dict[str, LayerData] = {}
    now = (found.labels, geometry.pieces)
    if outlined is None or any(new is not old for new, old in zip(now, outlined, strict=True)):
        layers["compartments"] = look.outline_layer(found.labels, found.mpp, junction)
    polygons = [np.asarray(region.polygon_um, np.float64) for region in geometry.regions]
    colours = [look.GREY if region.reason else look.GREEN for region in geometry.regions]
    layers["regions"] = look.region_layer(polygons, colours)
    layers["junction"] = look.junction_layer(junction)
    if "peak_od" in measured.bins:
        layers["bins"] = look.bins_layer(measured.bins, mpp)
    with_strip = slide is not None and bool(junction.stretches)
    straightener = Straightener(slide, junction) if slide is not None and with_strip else None
    return Scene(layers, straightener, now)
