"""The report's drawings: fates, samples, staining batches, thresholds.

They hold nothing that the tables do not. Colours are those of Okabe and Ito; what colour tells,
shape or words tell too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from histoquant.drift import Stain
from histoquant.report.figures import show
from histoquant.study.svg import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    SOFT,
    TINT,
    AxisError,
    Drawing,
    Scale,
)
from histoquant.tables import Column, is_missing

Row = Mapping[str, Any]
_RADII = (4.2, 3.4, 2.7, 2.1, 1.6, 1.2)
_ROOM_PX = 35.0
"""Of the dots of a strip, to either side of their middle."""

FATES = {"done": GREEN, "failed": ORANGE, "excluded": "#8a93a1", "pending": BLUE}
"""Colour of each fate of a slide."""


def fates(counts: Mapping[str, int]) -> Drawing:
    """Slides received, as one bar parted by what became of them."""
    total = sum(counts.values())
    told = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    drawing = Drawing(1152, 18, f"{total} slides received", told)
    x = 0.0
    for status, colour in FATES.items():
        n = counts.get(status, 0)
        if n:
            width = 1152 * n / total
            drawing.box((x, 0), (max(width - 3, 2), 18), colour, "none", 0)
            x += width
    return drawing


@dataclass(frozen=True)
class Point:
    """One sample on a strip: its name, its value, and whether it is a control."""

    name: str
    value: float
    control: bool = False


def strip(column: Column, points: Sequence[Point], n_missing: int) -> Drawing | None:
    """All samples along one axis with their median; None where no axis can show them.

    Controls are hollow and in no median.
    """
    values = [p.value for p in points if math.isfinite(p.value)]
    if not values:
        return None
    unit = "" if column.unit in ("", "1") else f" ({column.unit})"
    meaning = column.meaning.split(";")[0].rstrip(".")
    drawing = Drawing(540, 162, f"{meaning}{unit}", f"Column {column.name}")
    drawing.text((12, 20), f"{meaning}{unit}", size=14, bold=True)
    drawing.text((12, 38), column.name, size=12, colour=SOFT)
    try:
        scale = Scale.around(values, 24, 516)
    except AxisError as error:
        drawing.text((12, 86), str(error), colour=SOFT, size=12.5)
        return drawing
    middle = 86.0
    drawing.line((24, 126), (516, 126), LINE, 1)
    drawing.axis_below(scale, 126, 122, "")
    own = [p.value for p in points if not p.control and math.isfinite(p.value)]
    if own:
        drawing.line((scale(median(own)), 50), (scale(median(own)), 124), BLUE, 2)
    radius, placed = _apart([p for p in points if math.isfinite(p.value)], scale)
    for point, y in placed:
        fill, ring = ("#ffffff", SOFT) if point.control else (INK, "#ffffff")
        hint = f"{point.name}: {show(point.value)}{unit}"
        drawing.dot((scale(point.value), middle + y), radius, fill, ring, hint)
    notes = f"{len(own)} sample{'' if len(own) == 1 else 's'}"
    notes += f", median {show(float(median(own)))}" if own else ""
    notes += f", {n_missing} missing" if n_missing else ""
    drawing.text((516, 38), notes, anchor="end", colour=SOFT, size=12.5)
    return drawing


def _apart(points: Sequence[Point], scale: Scale) -> tuple[float, list[tuple[Point, float]]]:
    """Radius of the dots, and their offsets: the largest dots that none of them hides another."""
    for radius in _RADII:
        placed = _swarm(points, scale, radius)
        if placed is not None:
            return radius, placed
    return _RADII[-1], [(point, 0.0) for point in points]


def _swarm(
    points: Sequence[Point], scale: Scale, radius: float
) -> list[tuple[Point, float]] | None:
    """Points with offsets across the axis that keep them apart; None where there is no room."""
    step_px, apart = 2.05 * radius, 2 * radius
    placed: list[tuple[float, float]] = []
    out = []
    for point in sorted(points, key=lambda p: (p.value, p.name)):
        x = scale(point.value)
        near = [(px, py) for px, py in placed if abs(px - x) < apart]
        for step in range(2 * int(_ROOM_PX / step_px) + 1):
            y = (step + 1) // 2 * step_px * (1 if step % 2 else -1)
            if all((px - x) ** 2 + (py - y) ** 2 >= apart**2 for px, py in near):
                break
        else:
            return None
        placed.append((x, y))
        out.append((point, y))
    return out


def staining(title: str, stains: Sequence[Stain], rows: Sequence[Row], name: str) -> Drawing:
    """A stain of the slides batch by batch, against what the other batches lead to expect.

    Parameters
    ----------
    stains
        Slides of one marker and one kind of control.
    rows
        Their rows of the drift table.
    name
        Which stain: ``marker_od`` or ``hematoxylin_od``.
    """
    values = [v for s in stains if (v := getattr(s, name)) is not None]
    bands = [_band(row, name) for row in rows]
    limits = [v for band in bands if band for v in band]
    step = max(64.0, min(150.0, 900 / max(len(rows), 1)))
    width = 90 + step * len(rows) + 30
    drawing = Drawing(max(width, 540), 290, title, f"{name} of {len(stains)} slides")
    drawing.text((12, 22), title, size=14, bold=True)
    scale = Scale.around([*values, *limits, 0.0], 236, 50)
    drawing.axis_left(scale, 66, 66 + step * len(rows), "OD")
    for number, (row, band) in enumerate(zip(rows, bands, strict=True)):
        x = 66 + step * (number + 0.5)
        _batch(drawing, scale, x, step, row, band, name)
        own = [(s, v) for s in stains
               if s.batch == row["batch"] and (v := getattr(s, name)) is not None]  # fmt: skip
        for k, (slide, value) in enumerate(sorted(own, key=lambda item: item[1])):
            side = (k % 5 - 2) * min(step / 9, 8)
            drawing.dot((x + side, scale(value)), 3.4, "#ffffff", SOFT,
                        f"{slide.slide_id}: {value:.3g} OD")  # fmt: skip
        if not is_missing(row[name]):  # over the dots: it is what is judged
            off = _is_off(row, band, name)
            drawing.diamond((x, scale(float(row[name]))), 7, ORANGE if off else BLUE)
    return drawing


def _batch(
    drawing: Drawing, scale: Scale, x: float, step: float, row: Row,
    band: tuple[float, float] | None, name: str,
) -> None:  # fmt: skip
    """One batch: what is expected as a band, and its name."""
    off = _is_off(row, band, name)
    if band:
        low, high = band
        drawing.box((x - 0.38 * step, scale(high)), (0.76 * step, scale(low) - scale(high)),
                    TINT, LINE)  # fmt: skip
    label = str(row["batch"])
    room = max(int(step / 7), 4)
    drawing.text((x, 258), label if len(label) <= room else f"{label[: room - 1]}…",
                 anchor="middle", size=12, colour=ORANGE if off else INK, bold=off)  # fmt: skip
    if off:
        drawing.text((x, 276), "flagged", anchor="middle", size=12, colour=ORANGE, bold=True)


def _band(row: Row, name: str) -> tuple[float, float] | None:
    expected, limit = row.get(f"expected_{name}"), row.get(f"limit_{name}")
    if row["control"] == "none" or is_missing(expected) or is_missing(limit):
        return None
    return float(str(expected)) - float(str(limit)), float(str(expected)) + float(str(limit))


def _is_off(row: Row, band: tuple[float, float] | None, name: str) -> bool:
    if not row.get("flagged") or band is None or is_missing(row[name]):
        return False
    return not band[0] <= float(row[name]) <= band[1]


_LOWEST_NAME = 244.0
_COMPARTMENTS = {
    "all": (INK, "", 2.6),
    "epidermis_basal": (BLUE, "", 1.6),
    "epidermis_suprabasal": (BLUE, "5 4", 1.6),
    "dermis_papillary": (ORANGE, "", 1.6),
    "dermis_reticular": (ORANGE, "5 4", 1.6),
}


def sweep(rows: Sequence[Row], threshold: object, unit: str = "OD") -> Drawing | None:
    """Percent positive over the cut-off, whole slide and by compartment; None without a sweep.

    `unit` is the marker's: OD, or grey levels in fluorescence.
    """
    lines: dict[str, list[tuple[float, Row]]] = {}
    for row in rows:
        if row["compartment"] in _COMPARTMENTS and not is_missing(row["positive_percent"]):
            lines.setdefault(row["compartment"], []).append((float(row["threshold_od"]), row))
    everything = lines.get("all", [])
    if len(everything) < 2:
        return None
    drawing = Drawing(540, 300, "Percent positive over the threshold",
                      "one line per compartment, with 95 % limits for all nuclei")  # fmt: skip
    drawing.text((12, 22), "Percent positive over the threshold", size=14, bold=True)
    highs = [float(row["positive_percent_high"]) for _, row in everything
             if not is_missing(row["positive_percent_high"])]  # fmt: skip
    tops = [float(row["positive_percent"]) for line in lines.values() for _, row in line]
    across = Scale(min(x for x, _ in everything), max(x for x, _ in everything), 60, 370)
    up = Scale(0, max([*highs, *tops, 1.0]) * 1.04, 250, 42)
    drawing.axis_left(up, 60, 370, "% positive")
    what = "DAB OD" if unit == "OD" else f"marker, {unit}"
    drawing.axis_below(across, 250, 246, f"cut-off of the mean nuclear {what}")
    _limits(drawing, across, up, everything)
    if not is_missing(threshold):
        x = across(float(str(threshold)))
        drawing.line((x, 42), (x, 250), SOFT, 1.2, "3 3")
    ends: list[tuple[float, str]] = []
    for name, (colour, dash, width) in _COMPARTMENTS.items():
        points = [(across(x), up(float(row["positive_percent"])))
                  for x, row in lines.get(name, ())]  # fmt: skip
        for start, end in zip(points, points[1:], strict=False):
            drawing.line(start, end, colour, width, dash)
        if points:
            ends.append((points[-1][1], name))
    _name_lines(drawing, ends)
    return drawing


def _limits(drawing: Drawing, across: Scale, up: Scale, line: Sequence[tuple[float, Row]]) -> None:
    known = [(x, row) for x, row in line
             if not (is_missing(row["positive_percent_low"])
                     or is_missing(row["positive_percent_high"]))]  # fmt: skip
    upper = [(across(x), up(float(row["positive_percent_high"]))) for x, row in known]
    lower = [(across(x), up(float(row["positive_percent_low"]))) for x, row in known]
    if len(known) > 1:
        drawing.area([*upper, *reversed(lower)], INK, 0.1)


def _name_lines(drawing: Drawing, ends: Sequence[tuple[float, str]]) -> None:
    """Names at the right ends of lines, pushed apart, each with a sample of its line."""
    places: list[tuple[float, str]] = []
    for at, name in sorted(ends):
        places.append((max(at, places[-1][0] + 17) if places else at, name))
    below = max(0.0, places[-1][0] - _LOWEST_NAME) if places else 0.0
    for at, name in places:
        colour, dash, width = _COMPARTMENTS[name]
        y = at - below
        drawing.line((374, y), (392, y), colour, width, dash)
        words = "all nuclei" if name == "all" else name.replace("_", ", ", 1)
        drawing.text((398, y + 4), words, size=12, colour=colour, bold=name == "all")
