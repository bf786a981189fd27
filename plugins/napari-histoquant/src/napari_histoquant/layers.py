"""What histoquant knows of a slide, as napari layers: data, how they look, and what they are.

Everything is placed in um from the slide's top left corner, so slide and measurements lie on
one another whatever their pixel sizes. Nothing here needs Qt, or a viewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.anatomy import ADNEXA, BACKGROUND, DERMIS, EPIDERMIS, NAMES, STRATUM_CORNEUM
from histoquant.junction import Junction
from histoquant.polyline import right_normals
from histoquant.slides import Slide
from napari_histoquant.pyramid import levels_of

LayerData = tuple[Any, dict[str, Any], str]
Floats = npt.NDArray[np.float64]
Colours = npt.NDArray[np.float32]

NUCLEUS_UM, RING = 7.0, 0.16
JUNCTION_UM, THIN_UM, BIN_UM = 2.0, 0.7, 4.0
"""Widths of lines; the junction is thin where it must not hide the stain it runs along."""
BESIDE_UM = 12.0
"""How far on the dermal side of the junction the collagen VII bins are drawn."""

# Okabe & Ito's colours, which colour-blind readers tell apart; the same as in overlay.png.
SKY, GREEN, BLUE, VERMILION, ORANGE, PURPLE, BLACK, GREY, YELLOW = (
    "#56b4e9", "#009e73", "#0072b2", "#d55e00", "#e69f00", "#cc79a7", "#000000", "#8c8c8c",
    "#f0e442",
)  # fmt: skip
_CLASS_COLOURS = (BLUE, ORANGE, VERMILION, "#8b0000")  # negative, 1+, 2+, 3+
_COMPARTMENTS = {EPIDERMIS: GREEN, STRATUM_CORNEUM: ORANGE, DERMIS: YELLOW, ADNEXA: PURPLE}
_LEAST_RING, _LEAST_RUN = 12, 3  # pixels: what is smaller is no outline worth a line
_SMOOTH_PX, _SHARED_PX = 2, 5
CLASS_LEGEND = (("negative", BLUE), ("1+", ORANGE), ("2+", VERMILION), ("3+", "#8b0000"),
                ("in no count", GREY))  # fmt: skip
LINE_LEGEND = (("collagen VII found", SKY), ("missing", VERMILION), ("not measured", GREY))
_FEATURES = (
    "nucleus_id", "class", "dab_od_mean", "hematoxylin_od_mean", "ring_dab_od_mean", "area_um2",
    "compartment", "dej_distance_um", "pigment_suspected", "exclusion_reason", "added",
)  # fmt: skip


def slide_layers(slide: Slide, name: str = "Slide", *, keep_path: bool = True) -> list[LayerData]:
    """The slide's pixels: one layer of colours, or one per channel of fluorescence.

    Parameters
    ----------
    slide
        An open slide. It stays open as long as the layers are in use.
    name
        Name of the layer; channels are named after it.
    keep_path
        Whether the layer's metadata says which file it is. A blinded one must not.
    """
    about: dict[str, Any] = {"format": slide.format}
    if keep_path:
        about |= {"slide": str(slide.path), "mpp": slide.mpp, "mpp_source": slide.mpp_source}
    common = {**_grid(slide.mpp), "metadata": {"histoquant": about}, "multiscale": True}
    if slide.is_colour or slide.channels == ("red", "green", "blue"):
        return [(levels_of(slide), {**common, "name": name, "rgb": True}, "image")]
    layers = []
    for number, channel in enumerate(slide.channels):
        levels = levels_of(slide, number)
        meta = {
            **common,
            "name": f"{name}: {channel}",
            "rgb": False,
            "blending": "additive",
            "colormap": _colormap(channel, number, len(slide.channels)),
            "contrast_limits": _contrast(levels[-1]),
        }
        layers.append((levels, meta, "image"))
    return layers


def compartment_layer(labels: npt.NDArray[np.uint8], mpp: float) -> LayerData:
    """Outlines of the compartments; ``labels`` as `histoquant.Compartments` holds them."""
    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for code, colour in _COMPARTMENTS.items():
        colours[code] = colour
    names = [NAMES[code].replace("_", " ") for code in range(len(NAMES))]
    meta = {
        **_grid(mpp),
        "name": "Compartments",
        "opacity": 0.8,
        "blending": "translucent",
        "colormap": colours,
        "features": pd.DataFrame({"compartment": names}),
    }
    return labels, meta, "labels"


def outline_layer(
    labels: npt.NDArray[np.uint8], mpp: float, junction: Junction | None = None
) -> LayerData:
    """Outlines of the compartments as lines: quick to draw and to change on the largest slide.

    A border that two compartments share is drawn once, in the colour of the one nearer to the
    epidermis; one that is `junction` is not drawn, as that is a line of its own.
    """
    lines: list[Floats] = []
    colours: list[str] = []
    drawn = np.zeros(labels.shape, np.uint8)
    for stretch in () if junction is None else junction.stretches:
        course = np.rint(stretch.points_um[:, ::-1] / mpp - 0.5).astype(np.int32)
        cv2.polylines(drawn, [course], False, 1, _SHARED_PX)
    for code, colour in _COMPARTMENTS.items():
        mask = labels > BACKGROUND if code == DERMIS else labels == code  # tissue bounds dermis
        own = mask.astype(np.uint8)
        rings, _ = cv2.findContours(own, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for ring in rings:
            if len(ring) < _LEAST_RING:
                continue
            corners = ring[:, 0, ::-1]
            for run in _runs(drawn[corners[:, 0], corners[:, 1]] == 0):
                lines.append((_smooth(corners, run) + 0.5) * mpp)
                colours.append(colour)
        cv2.drawContours(drawn, rings, -1, 1, _SHARED_PX)
    return _lines_layer(lines, colours, "Compartments")


def _runs(free: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.int64]]:
    """Unbroken runs of a ring's points that are not drawn yet; the whole ring is closed."""
    at = np.arange(len(free) + 1) % len(free)
    if free.all():
        return [at]
    start = int(np.argmin(free))  # a point that is left out: no run goes over the seam
    at = (np.arange(len(free)) + start) % len(free)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], free[at], [False]]).astype(int)))
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [at[first:stop] for first, stop in pairs if stop - first >= _LEAST_RUN]


def _smooth(ring: npt.NDArray[np.int32], run: npt.NDArray[np.int64]) -> Floats:
    """The points of a run without the steps of the pixels, and no more of them than it takes."""
    around = np.arange(-_SMOOTH_PX, _SMOOTH_PX + 1)
    whole = ring.astype(np.float32)
    # Neighbours on the ring, so that runs meet where a ring was cut.
    mean = sum(whole[(run + step) % len(ring)] for step in around) / np.float32(len(around))
    kept = cv2.approxPolyDP(np.asarray(mean, np.float32)[:, None], 0.4, False)
    return np.asarray(kept[:, 0], np.float64)


def outlined(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Labels with everything but the rims of compartments set to 0.

    A border is drawn once, on the side of epidermis, stratum corneum or adnexa; dermis has a rim
    towards the glass alone. So the junction is not hidden under a second line.
    """
    rim = np.zeros(labels.shape, bool)
    for here, there in _neighbours(labels):
        other = there != here
        np.logical_or(rim[_window(1)], other & ((here != DERMIS) | (there == BACKGROUND)),
                      out=rim[_window(1)])  # fmt: skip
    return np.where(rim, labels, np.uint8(0))


def _neighbours(labels: npt.NDArray[np.uint8]) -> Iterator[tuple[Any, Any]]:
    """Inner pixels, beside each of their four neighbours."""
    rows, columns = labels.shape
    for down, right in ((0, 1), (2, 1), (1, 0), (1, 2)):
        there = labels[down : rows - 2 + down, right : columns - 2 + right]
        yield labels[_window(1)], there


def _window(margin: int) -> tuple[slice, slice]:
    return slice(margin, -margin), slice(margin, -margin)


def nuclei_layer(table: pd.DataFrame) -> LayerData:
    """Nuclei as points coloured by class, with their measurements as features.

    Parameters
    ----------
    table
        Rows of ``nuclei.parquet``.
    """
    meta = {
        **_place(),
        "name": "Nuclei",
        "features": nuclei_features(table),
        "face_color": "transparent",
        "border_color": nuclei_colours(table) if len(table) else GREY,
        "border_width": RING,
        "size": NUCLEUS_UM,
        "opacity": 1.0,
        "antialiasing": 0.5,
    }
    return table[["y_um", "x_um"]].to_numpy(np.float64), meta, "points"


def nuclei_colours(table: pd.DataFrame) -> Colours:
    """Colour of every nucleus, (n, 4): by intensity class; grey when it is in no count."""
    palette = np.array([_rgba(c) for c in (*_CLASS_COLOURS, SKY, GREY)], np.float32)
    judged = table["positive"].notna().to_numpy(bool)
    index = table["intensity_class"].fillna(0).to_numpy().astype(int).clip(0, 3)
    positive = table["positive"].fillna(False).to_numpy(bool)
    index = np.where(positive, np.maximum(index, 1), 0)
    index = np.where(judged, index, 4)
    colours: Colours = palette[index]
    colours[_is_left_out(table)] = palette[5]
    return colours


def nuclei_features(table: pd.DataFrame) -> pd.DataFrame:
    """What is shown of a nucleus in napari's features table and status bar."""
    words = pd.DataFrame({"class": nuclei_words(table)}, index=table.index)
    both = pd.concat([table, words], axis=1)
    return both[[name for name in _FEATURES if name in both]].reset_index(drop=True)


def nuclei_words(table: pd.DataFrame) -> npt.NDArray[np.object_]:
    """The class of every nucleus in words."""
    level = table["intensity_class"].fillna(0).to_numpy().astype(int).clip(0, 3)
    words: npt.NDArray[np.object_] = np.array(["negative", "1+", "2+", "3+"], dtype=object)[level]
    positive = table["positive"].fillna(False).to_numpy(bool)
    words[positive & (level == 0)] = "positive"
    words[~table["positive"].notna().to_numpy(bool)] = "not judged"
    words[_is_left_out(table)] = "left out"
    return words


def junction_layer(junction: Junction, width_um: float = JUNCTION_UM) -> LayerData:
    """The junction as short lines: black where it is measured, grey where it is left out."""
    segments, colours = [np.empty((0, 2, 2))], [np.empty((0, 4), np.float32)]
    for stretch in junction.stretches:
        segments.append(_segments(stretch.points_um))
        out = stretch.excluded[1:] | stretch.excluded[:-1]
        colours.append(np.where(out[:, None], _rgba(GREY), _rgba(BLACK)))
    return _vectors(np.concatenate(segments), np.concatenate(colours), "Junction", width_um)


def bins_layer(bins: pd.DataFrame, mpp: float) -> LayerData:
    """Collagen VII beside the junction, bin by bin: light blue found, red missing, grey left out.

    Parameters
    ----------
    bins
        Rows of ``junction.parquet`` with a profile.
    mpp
        Size of a level-0 pixel in um.
    """
    segments, colours = [np.empty((0, 2, 2))], [np.empty((0, 4), np.float32)]
    for _, own in bins.groupby("stretch", sort=True):
        middles = own[["y_px", "x_px"]].to_numpy(np.float64) * mpp
        if len(middles) < 2:
            continue
        steps = np.gradient(middles, axis=0)
        beside = middles + BESIDE_UM * right_normals(middles)
        segments.append(np.stack([beside - 0.46 * steps, 0.92 * steps], axis=1))
        found = np.where(
            own["positive"].fillna(False).to_numpy(bool)[:, None], *_rgbas(SKY, VERMILION)
        )
        unknown = own["excluded"].to_numpy(bool) | own["positive"].isna().to_numpy(bool)
        colours.append(np.where(unknown[:, None], _rgba(GREY), found).astype(np.float32))
    return _vectors(np.concatenate(segments), np.concatenate(colours), "Collagen VII", BIN_UM)


def region_layer(
    polygons_um: Sequence[Floats], colours: Sequence[str], name: str = "Regions"
) -> LayerData:
    """Outlines of regions that were drawn, or left out.

    Vectors, as the junction: a Shapes layer compiles its triangulation when the first polygon is
    drawn, and the reviewer waits for it.
    """
    closed = [np.vstack([polygon, polygon[:1]]) for polygon in polygons_um]
    return _lines_layer(closed, colours, name)


def line_layer(line_um: Floats, colour: str, name: str) -> LayerData:
    """One drawn line."""
    pieces = _segments(line_um) if len(line_um) > 1 else np.empty((0, 2, 2))
    return _vectors(pieces, np.tile(_rgba(colour), (len(pieces), 1)), name, JUNCTION_UM)


def has_profile(bins: pd.DataFrame) -> bool:
    """Whether collagen VII was measured in any bin."""
    return "positive" in bins and bool(bins["positive"].notna().any())


def _vectors(data: Floats, colours: Colours, name: str, width_um: float) -> LayerData:
    meta = {
        **_place(),
        "name": name,
        "edge_color": colours if len(colours) else BLACK,
        "edge_width": width_um,
        "vector_style": "line",
        "opacity": 1.0,
        "ndim": 2,
    }
    return data, meta, "vectors"


def _lines_layer(lines: Sequence[Floats], colours: Sequence[str], name: str) -> LayerData:
    segments, own = [np.empty((0, 2, 2))], [np.empty((0, 4), np.float32)]
    for line, colour in zip(lines, colours, strict=True):
        segments.append(_segments(line))
        own.append(np.tile(_rgba(colour), (len(line) - 1, 1)))
    return _vectors(np.concatenate(segments), np.concatenate(own), name, JUNCTION_UM)


def _segments(points: Floats) -> Floats:
    """(n - 1, 2, 2): starts and steps of a line's pieces, as a Vectors layer takes them."""
    return np.stack([points[:-1], np.diff(points, axis=0)], axis=1)


def _is_left_out(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    return table["excluded"].to_numpy(bool)


def _grid(pixel_um: float | None) -> dict[str, Any]:
    """Scale and place of a raster whose corner is the slide's corner."""
    if pixel_um is None:
        return {"scale": (1.0, 1.0), "units": ("pixel",) * 2, "axis_labels": ("y", "x")}
    half = pixel_um / 2  # napari puts the centre of the first pixel at the origin
    return {**_place(), "scale": (pixel_um,) * 2, "translate": (half, half)}


def _place() -> dict[str, Any]:
    return {"units": ("um", "um"), "axis_labels": ("y", "x")}


def _rgba(colour: str) -> Colours:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return np.array([*parts, 1.0], np.float32)


def _rgbas(*colours: str) -> tuple[Colours, ...]:
    return tuple(_rgba(c) for c in colours)


_BY_NAME = {"dapi": "blue", "hoechst": "blue", "fitc": "green", "gfp": "green", "488": "green",
            "tritc": "red", "cy3": "red", "rhodamine": "red", "cy5": "magenta",
            "red": "red", "green": "green", "blue": "blue"}  # fmt: skip
_BY_NUMBER = ("blue", "green", "red", "magenta", "cyan", "yellow")


def _colormap(channel: str, number: int, count: int) -> str:
    if count == 1:
        return "gray"
    for word, colour in _BY_NAME.items():
        if word in channel.lower():
            return colour
    return _BY_NUMBER[number % len(_BY_NUMBER)]


def _contrast(level: Any) -> tuple[float, float]:
    """From the darkest to nearly the brightest pixel of a coarse level."""
    pixels = np.asarray(level[...] if isinstance(level, np.ndarray) else level[:, :])
    low, high = np.percentile(pixels, [0.5, 99.8]) if pixels.size else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1)
