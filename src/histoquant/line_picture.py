"""The straightened junction as a picture: the band laid straight, its profile beneath.

Rows of `_ROW_UM` of arc length, one below the other. Above, the marker on the normals of the
junction, epidermis on top; below, the background-subtracted peak of every bin against the
threshold. Gaps are shaded, bins that are not measured are grey.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.collagen7 import Straightened
from histoquant.gaps import Gap, find_gaps
from histoquant.settings import Collagen7Settings

Image = npt.NDArray[np.uint8]
Rgb = tuple[int, int, int]

_ROW_UM = 500.0
_MOST_ROWS = 40  # beyond, the picture would be taller than anyone scrolls
_PX_PER_UM = 3
_PLOT_PX, _LEFT_PX, _GAP_PX, _TEXT_PX = 90, 70, 26, 22
_INK: Rgb = (40, 40, 40)
_PALE: Rgb = (235, 235, 235)
_GAP_FILL: Rgb = (250, 221, 203)
_LINE: Rgb = (0, 114, 178)
_THRESHOLD: Rgb = (213, 94, 0)
_BROWN = np.array([0.268, 0.570, 0.776])  # colour of DAB as OD of red, green and blue


def draw_line(
    straightened: Straightened, bins: pd.DataFrame, settings: Collagen7Settings, unit: str = "OD"
) -> bytes:
    """Draw the straightened junction with its profile.

    Parameters
    ----------
    straightened
        From `collagen7.straighten`.
    bins
        Rows of ``junction.parquet`` with the profile.
    settings
        For threshold and least gap.
    unit
        Of the marker.

    Returns
    -------
    PNG.
    """
    full = _full_scale(straightened, settings)
    gaps = find_gaps(bins, settings.min_gap_um)
    rows = [
        _row(straightened, bins, gaps, settings, (int(stretch), start), full, unit)
        for stretch in np.unique(straightened.stretch)
        for start in np.arange(
            0, straightened.arc_um[straightened.stretch == stretch].max() + 1e-6, _ROW_UM
        )
    ][:_MOST_ROWS]
    width = _LEFT_PX + round(_ROW_UM * _PX_PER_UM) + 10
    page = np.concatenate(rows) if rows else np.full((60, width, 3), 255, np.uint8)
    encoded, png = cv2.imencode(".png", np.ascontiguousarray(page[..., ::-1]))
    if not encoded:
        raise ValueError(f"the picture of {page.shape} pixels could not be written as PNG")
    return png.tobytes()


def _full_scale(straightened: Straightened, settings: Collagen7Settings) -> float:
    known = straightened.od[np.isfinite(straightened.od)]
    top = float(np.quantile(known, 0.998)) if known.size else 1.0
    return max(top, 2 * settings.threshold_od)


def _row(
    straightened: Straightened,
    bins: pd.DataFrame,
    gaps: list[Gap],
    settings: Collagen7Settings,
    place: tuple[int, float],
    full: float,
    unit: str,
) -> Image:
    """One row: a heading, the band, and the plot."""
    stretch, start = place
    on = (straightened.stretch == stretch) & (straightened.arc_um >= start)
    on &= straightened.arc_um < start + _ROW_UM
    band = _band(straightened, on, full)
    width = _LEFT_PX + round(_ROW_UM * _PX_PER_UM) + 10
    page = np.full((_TEXT_PX + len(band) + 6 + _PLOT_PX + _GAP_PX, width, 3), 255, np.uint8)
    _write(page, f"stretch {stretch + 1}, {start:.0f} um", (_LEFT_PX, 15))
    page[_TEXT_PX : _TEXT_PX + len(band), _LEFT_PX : _LEFT_PX + band.shape[1]] = band
    zero = _TEXT_PX + round(-straightened.depth_um[0] * _PX_PER_UM)
    for depth in (-10, 0, 10):
        y = zero + depth * _PX_PER_UM
        _write(page, f"{depth:+d} um" if depth else "junction", (4, y + 4), 0.36)
        cv2.line(page, (_LEFT_PX - 5, y), (_LEFT_PX - 1, y), _INK, 1)
    _plot(page, bins, gaps, settings, place, full, unit, _TEXT_PX + len(band) + 6)
    return page


def _band(straightened: Straightened, on: npt.NDArray[np.bool_], full: float) -> Image:
    """The marker in its own brown (depth, arc, 3); grey where there is nothing to see."""
    od = straightened.od[on].T
    step = float(straightened.depth_um[1] - straightened.depth_um[0])
    size = tuple(max(1, round(n * step * _PX_PER_UM)) for n in od.shape[::-1])
    known = np.isfinite(od)
    shown = np.clip(np.nan_to_num(od), 0, full) / full
    colour = 255 * 10.0 ** -(1.4 * shown[..., None] * _BROWN)
    colour[~known] = _PALE
    return np.asarray(
        cv2.resize(colour.astype(np.uint8), size, interpolation=cv2.INTER_LINEAR), np.uint8
    )


def _plot(
    page: Image,
    bins: pd.DataFrame,
    gaps: list[Gap],
    settings: Collagen7Settings,
    place: tuple[int, float],
    full: float,
    unit: str,
    top: int,
) -> None:
    """Peak of every bin over the arc, gaps shaded, threshold dashed."""
    stretch, start = place
    floor = top + _PLOT_PX

    def x_at(arc: float) -> int:
        return _LEFT_PX + round(float(np.clip(arc - start, 0, _ROW_UM)) * _PX_PER_UM)

    def y_at(value: float) -> int:
        return floor - round(float(np.clip(value / full, 0, 1)) * (_PLOT_PX - 4))

    own = bins[(bins["stretch"] == stretch) & (bins["arc_end_um"] > start)]
    own = own[own["arc_start_um"] < start + _ROW_UM]
    for row in own[own["excluded"]].itertuples():
        begin, end = float(str(row.arc_start_um)), float(str(row.arc_end_um))
        cv2.rectangle(page, (x_at(begin), top), (x_at(end), floor), _PALE, -1)
    for gap in gaps:
        if gap.stretch == stretch and gap.end_um > start and gap.start_um < start + _ROW_UM:
            left, right = x_at(gap.start_um), x_at(gap.end_um)
            cv2.rectangle(page, (left, top), (right, floor), _GAP_FILL, -1)
            if right - left > 60:
                _write(page, f"{gap.end_um - gap.start_um:.0f} um", (left + 4, top + 12), 0.36)
    y = y_at(settings.threshold_od)
    for x in range(_LEFT_PX, x_at(start + _ROW_UM), 12):
        cv2.line(page, (x, y), (x + 6, y), _THRESHOLD, 1)
    _write(page, f"{settings.threshold_od:g}", (_LEFT_PX - 34, y + 4), 0.36)
    if unit == "OD":
        _write(page, f"{full:.2g} OD", (4, top + 10), 0.36)
    else:  # "grey levels (16 bit)" is wider than the margin
        _write(page, f"{full:.4g}", (4, top + 10), 0.36)
        _write(page, f"0-{full:.4g} {unit}", (_LEFT_PX + 220, 15), 0.36)
    middle = own["arc_start_um"].to_numpy(float) + settings.bin_um / 2
    peak = np.where(own["excluded"], np.nan, own["peak_od"].to_numpy(float))
    points = [(x_at(a), y_at(p)) if np.isfinite(p) else None
              for a, p in zip(middle, peak, strict=True)]  # fmt: skip
    for a, b in zip(points, points[1:], strict=False):
        if a and b:
            cv2.line(page, a, b, _LINE, 2, cv2.LINE_AA)
    cv2.line(page, (_LEFT_PX, floor), (x_at(start + _ROW_UM), floor), _INK, 1)
    for arc in np.arange(start, start + _ROW_UM + 1, 100):
        cv2.line(page, (x_at(arc), floor), (x_at(arc), floor + 4), _INK, 1)
        _write(page, f"{arc:.0f}", (x_at(arc) - 10, floor + 17), 0.36)


def _write(page: Image, text: str, at: tuple[int, int], scale: float = 0.42) -> None:
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, _INK, 1, cv2.LINE_AA)
