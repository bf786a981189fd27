"""The picture to judge a measurement by: what was measured, drawn on the slide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from numba import njit

from histoquant.anatomy import ADNEXA, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.artefacts import NAMES, REASONS
from histoquant.junction import Junction
from histoquant.png import encode_png

if TYPE_CHECKING:
    from histoquant.slides import Slide

Rgb = tuple[int, int, int]
Image = npt.NDArray[np.uint8]
Colours = Callable[[npt.NDArray[Any]], Image]

# Okabe & Ito's colours, which colour-blind readers tell apart.
_BLACK, _ORANGE, _SKY, _GREEN, _BLUE, _VERMILION, _PURPLE = (
    (0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_OUTLINES: dict[int, tuple[str, Rgb]] = {
    EPIDERMIS: ("viable epidermis", _GREEN),
    STRATUM_CORNEUM: ("stratum corneum", _ORANGE),
    ADNEXA: ("adnexa (left out)", _PURPLE),
}
_TISSUE = ("tissue", (90, 90, 90))
_JUNCTION = ("junction", _BLACK)
_JUNCTION_ON_BLACK = ("junction", (240, 228, 66))
_UNMEASURED = ("junction, not measured", (150, 150, 150))
_ARTEFACT = ("artefact (left out)", _VERMILION)
_NEGATIVE, _POSITIVE = ("negative nucleus", _BLUE), ("positive nucleus", _VERMILION)
_UNJUDGED = ("nucleus", _SKY)
_LEFT_OUT = ("nucleus left out", (150, 150, 150))
_FOUND, _GAP = ("collagen VII", _SKY), ("no collagen VII", _VERMILION)
_NOT_JUDGED = ("not judged", (150, 150, 150))

_BESIDE_UM = 12.0
_MAX_SIDE_PX = 4000
_FINEST_MPP = 0.5
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def legend(marker: str, on_black: bool) -> list[tuple[str, str, bool]]:
    """What the lines and rings of an overlay mean: words, colour as #rrggbb, whether it is a ring.

    Parameters
    ----------
    marker
        p16 or col7.
    on_black
        Whether it is the picture of a fluorescence slide.
    """
    lines = [_JUNCTION_ON_BLACK if on_black else _JUNCTION, _UNMEASURED, *_OUTLINES.values()]
    lines += [] if marker == "p16" else [_FOUND, _GAP]
    rings = [_POSITIVE, _NEGATIVE, _LEFT_OUT] if marker == "p16" else []
    return [
        (words, "#{:02x}{:02x}{:02x}".format(*colour), is_ring)
        for styles, is_ring in ((lines, False), (rings, True))
        for words, colour in styles
    ]


class _Canvas:
    """A picture of the slide that is drawn on in um."""

    def __init__(
        self, slide: Slide, box_um: tuple[float, float, float, float], colours: Colours | None
    ) -> None:
        top, left, bottom, right = box_um
        self.mpp = max(_FINEST_MPP, slide.mpp, max(bottom - top, right - left) / _MAX_SIDE_PX)
        self.origin = np.floor(np.array([top, left]) / self.mpp).astype(int)
        size = np.ceil(np.array([bottom, right]) / self.mpp).astype(int) - self.origin
        corner, extent = self.origin.tolist(), size.tolist()
        pixels = slide.read(self.mpp, *corner, *extent)
        self.dark = colours is not None
        self.image: Image = np.ascontiguousarray(pixels if colours is None else colours(pixels))
        self.unit = max(1, round(max(size) / 1500))  # line widths follow the picture's size

    def pixels(self, points_um: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        """(n, 2) points (y, x) in um as OpenCV's fixed-point (x, y)."""
        pixels = points_um / self.mpp - self.origin - 0.5
        return np.asarray(np.round(pixels[:, ::-1] * 2**_SHIFT), np.int32)

    def line(self, points_um: npt.NDArray[np.float64], colour: Rgb, width: float) -> None:
        """Draw a polyline."""
        thickness = max(1, round(width * self.unit))
        cv2.polylines(
            self.image, [self.pixels(points_um)], False, colour, thickness, cv2.LINE_AA, _SHIFT
        )

    def rings(self, points_um: npt.NDArray[np.float64], colour: Rgb, radius_um: float) -> None:
        """Draw a ring around every point."""
        radius = max(2, round(radius_um / self.mpp))
        centres = points_um / self.mpp - self.origin - 0.5
        _paint_rings(self.image, centres, radius, self.unit, np.array(colour, np.float64))


@njit(cache=True, nogil=True)
def _paint_rings(
    image: Image, centres: npt.NDArray[np.float64], radius: int, width: int,
    colour: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    """Blend rings into the picture, smooth at their edges: tens of thousands take no time."""
    height, breadth = image.shape[:2]
    reach = radius + width
    for k in range(centres.shape[0]):
        y, x = centres[k]
        for v in range(max(0, int(y) - reach), min(height, int(y) + reach + 2)):
            for u in range(max(0, int(x) - reach), min(breadth, int(x) + reach + 2)):
                off = abs(np.sqrt((v - y) ** 2 + (u - x) ** 2) - radius)
                cover = min(max(width / 2 + 0.5 - off, 0.0), 1.0)
                for c in range(3):
                    old = image[v, u, c]
                    image[v, u, c] = np.uint8(old + cover * (colour[c] - old) + 0.5)


def draw_overlay(
    slide: Slide,
    compartments: Compartments,
    junction: Junction,
    nuclei: pd.DataFrame | None,
    bins: pd.DataFrame,
    colours: Colours | None = None,
) -> bytes:
    """Draw what was measured on the slide.

    Parameters
    ----------
    slide
        The slide itself.
    nuclei
        Rows of ``nuclei.parquet``; None for collagen VII.
    bins
        Rows of ``junction.parquet``; with a profile they are coloured along the junction.
    colours
        What makes a picture on black of the pixels of a fluorescence slide.

    Returns
    -------
    PNG, cropped to the tissue, at most 4000 pixels a side, with legend and scale bar.
    """
    begun = begin_overlay(slide, compartments, junction, nuclei is not None, colours)
    return begun.finish(nuclei, bins)


def begin_overlay(
    slide: Slide,
    compartments: Compartments,
    junction: Junction,
    of_nuclei: bool,
    colours: Colours | None = None,
) -> Begun:
    """Draw what is known of a slide before its marker is; parameters as in `draw_overlay`."""
    canvas = _Canvas(slide, _tissue_box(compartments, slide), colours)
    legend = [_draw_outline(canvas, compartments.labels > 0, compartments.mpp, _TISSUE, 1)]
    for code, style in _OUTLINES.items():
        if (compartments.labels == code).any():
            legend.append(
                _draw_outline(canvas, compartments.labels == code, compartments.mpp, style, 1)
            )
    legend += _draw_artefacts(canvas, compartments)
    # On collagen VII the line must not hide the stain it runs along.
    legend += _draw_junction(canvas, junction, width=2 if of_nuclei else 0.5)
    return Begun(canvas, legend, junction, compartments.reason or junction.reason)


@dataclass(frozen=True)
class Begun:
    """An overlay that lacks the marker."""

    canvas: _Canvas
    legend: list[tuple[str, Rgb]]
    junction: Junction
    note: str

    def finish(self, nuclei: pd.DataFrame | None, bins: pd.DataFrame, workers: int = 1) -> bytes:
        """Draw the marker and encode the picture, which does not depend on the workers."""
        legend = list(self.legend)
        if nuclei is not None:
            legend += _draw_nuclei(self.canvas, nuclei)
        elif "positive" in bins and bins["positive"].notna().any():
            legend += _draw_profile(self.canvas, self.junction, bins)
        return encode_png(_with_legend(self.canvas, legend, self.note), workers)


def _tissue_box(compartments: Compartments, slide: Slide) -> tuple[float, float, float, float]:
    """Top, left, bottom, right of the tissue in um with a margin; the slide without tissue."""
    height_um, width_um = (n * slide.mpp for n in slide.shape[:2])
    rows = np.flatnonzero((compartments.labels > 0).any(axis=1))
    columns = np.flatnonzero((compartments.labels > 0).any(axis=0))
    if not len(rows):
        return 0.0, 0.0, height_um, width_um
    margin, mpp = 50.0, compartments.mpp
    return (
        max(0.0, rows[0] * mpp - margin),
        max(0.0, columns[0] * mpp - margin),
        min(height_um, (rows[-1] + 1) * mpp + margin),
        min(width_um, (columns[-1] + 1) * mpp + margin),
    )


def _draw_outline(
    canvas: _Canvas, mask: npt.NDArray[np.bool_], mpp: float, style: tuple[str, Rgb], width: float
) -> tuple[str, Rgb]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        points = contour[:, 0, ::-1].astype(np.float64)
        canvas.line((np.vstack([points, points[:1]]) + 0.5) * mpp, style[1], width)
    return style


def _draw_artefacts(canvas: _Canvas, compartments: Compartments) -> list[tuple[str, Rgb]]:
    """Outline what is left out and name it there."""
    codes = compartments.artefacts
    if codes is None:
        return []
    mpp, scale = compartments.mpp, 0.6 * canvas.unit
    for code in NAMES:
        mask = codes == code
        if not mask.any():
            continue
        _draw_outline(canvas, mask, mpp, _ARTEFACT, 2)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        for left, top, *_ in stats[1:].tolist():
            corner = canvas.pixels(np.array([[top, left]]) * mpp)[0] >> _SHIFT
            at = (int(corner[0]), max(int(corner[1]) - 4 * canvas.unit, 14 * canvas.unit))
            cv2.putText(
                canvas.image, REASONS[code], at, cv2.FONT_HERSHEY_SIMPLEX, scale, _ARTEFACT[1],
                canvas.unit, cv2.LINE_AA,
            )  # fmt: skip
    return [_ARTEFACT]


def _draw_junction(canvas: _Canvas, junction: Junction, width: float) -> list[tuple[str, Rgb]]:
    found = _JUNCTION_ON_BLACK if canvas.dark else _JUNCTION
    for stretch in junction.stretches:
        for run, excluded in _runs(stretch.excluded):
            style = _UNMEASURED if excluded else found
            canvas.line(stretch.points_um[run], style[1], width)
    return [found, _UNMEASURED] if junction.stretches else []


def _runs(flags: npt.NDArray[np.bool_]) -> Sequence[tuple[slice, bool]]:
    """Slices of equal flags, each reaching one further so that drawn runs meet."""
    edges = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), len(flags)]
    return [
        (slice(a, min(b + 1, len(flags))), bool(flags[a]))
        for a, b in zip(edges, edges[1:], strict=False)
    ]


def _draw_nuclei(canvas: _Canvas, nuclei: pd.DataFrame) -> list[tuple[str, Rgb]]:
    points = nuclei[["y_um", "x_um"]].to_numpy(np.float64)
    judged = nuclei["positive"].notna().to_numpy(bool)
    positive = nuclei["positive"].fillna(False).to_numpy(bool)
    excluded = nuclei["excluded"].to_numpy(bool)
    canvas.rings(points[excluded], _LEFT_OUT[1], 2.5)
    if not judged.any():  # no marker stain: neither positive nor negative
        canvas.rings(points[~excluded], _UNJUDGED[1], 2.5)
        return [_UNJUDGED, _LEFT_OUT]
    canvas.rings(points[~excluded & ~positive], _NEGATIVE[1], 2.5)
    canvas.rings(points[~excluded & positive], _POSITIVE[1], 4.0)
    return [_NEGATIVE, _POSITIVE, _LEFT_OUT]


def _draw_profile(canvas: _Canvas, junction: Junction, bins: pd.DataFrame) -> list[tuple[str, Rgb]]:
    """Mark every bin beside the junction, on the dermal side: found, missing or left out."""
    for number, own in bins.groupby("stretch"):
        stretch = junction.stretches[int(str(number))]
        beside = stretch.points_um + _BESIDE_UM * stretch.normals
        arcs = own[["arc_start_um", "arc_end_um"]].to_numpy(np.float64)
        styles = np.where(own["positive"].fillna(False).to_numpy(bool), 1, 2)
        styles[own["excluded"].to_numpy(bool)] = 0
        for (start, end), style in zip(arcs, styles, strict=True):
            at = np.linspace(start, end, 5)
            line = np.column_stack([np.interp(at, stretch.arc_um, beside[:, k]) for k in (0, 1)])
            canvas.line(line, (_NOT_JUDGED, _FOUND, _GAP)[style][1], 4)
    return [_FOUND, _GAP, _NOT_JUDGED]


def _with_legend(canvas: _Canvas, legend: list[tuple[str, Rgb]], note: str) -> Image:
    """The picture above a strip with scale bar, legend and, if any, the reason for a lack."""
    width, unit = canvas.image.shape[1], canvas.unit
    scale, row = 0.5 * unit, 26 * unit
    cells = [_cell(name, colour, scale, unit) for name, colour in legend]
    bar_um = _nice_length(width * canvas.mpp / 5)
    cells.insert(0, _scale_bar(bar_um, canvas.mpp, scale, unit))
    if note:
        cells.append(_cell(note, _VERMILION, scale, unit))
    lines, used = [[]], 0  # type: list[list[Image]], int
    for cell in cells:
        if used + cell.shape[1] > width and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(cell[:, :width])
        used += cell.shape[1]
    strip = np.full((row * len(lines), width, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        joined = np.concatenate(line, axis=1)[:, :width]
        strip[number * row : (number + 1) * row, : joined.shape[1]] = joined
    return np.concatenate([canvas.image, strip])


def _cell(text: str, colour: Rgb, scale: float, unit: int) -> Image:
    """One legend entry: a swatch and its name."""
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, unit)
    cell = np.full((26 * unit, text_width + 44 * unit, 3), 255, np.uint8)
    cv2.line(cell, (8 * unit, 13 * unit), (26 * unit, 13 * unit), colour, 4 * unit)
    _write(cell, text, 32 * unit, scale, unit)
    return cell


def _scale_bar(length_um: float, mpp: float, scale: float, unit: int) -> Image:
    text = f"{length_um:g} um" if length_um < 1000 else f"{length_um / 1000:g} mm"
    bar = round(length_um / mpp)
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, unit)
    cell = np.full((26 * unit, bar + text_width + 32 * unit, 3), 255, np.uint8)
    cv2.line(cell, (8 * unit, 13 * unit), (8 * unit + bar, 13 * unit), _BLACK, 3 * unit)
    _write(cell, text, bar + 16 * unit, scale, unit)
    return cell


def _write(cell: Image, text: str, x: int, scale: float, unit: int) -> None:
    cv2.putText(
        cell, text, (x, 18 * unit), cv2.FONT_HERSHEY_SIMPLEX, scale, _BLACK, unit, cv2.LINE_AA
    )


def _nice_length(limit_um: float) -> float:
    """The longest of 10, 20, 50, 100, … um within `limit_um`."""
    power = 10.0 ** np.floor(np.log10(max(limit_um, 10.0)))
    return float(max(n * power for n in (1, 2, 5) if n * power <= max(limit_um, 10.0)))
