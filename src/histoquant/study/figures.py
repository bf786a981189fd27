"""Figures of a study as SVG: slopes, forest, Bland-Altman and threshold sensitivity.

Every function takes plain values and returns a `Drawing`; none of them computes a statistic,
so a figure can show nothing that the tables do not hold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from histoquant.study.svg import (
    BLUE,
    INK,
    ORANGE,
    SOFT,
    Drawing,
    Scale,
    number,
    text_width,
    wrap,
)

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]
"""Estimate, lower and upper 95 % limit."""


@dataclass(frozen=True)
class Slope:
    """One panel of a slope plot: the same people measured twice.

    Attributes
    ----------
    left, right
        Values of the people, in the same order; NaN leaves a person out.
    left_mean, right_mean
        Mean of each side with its limits, as the tables have it.
    """

    title: str
    left_label: str
    right_label: str
    left: Floats
    right: Floats
    left_mean: Interval
    right_mean: Interval


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot; a row whose `estimate` is None is a heading."""

    label: str
    estimate: Interval | None = None
    text: str = ""
    strong: bool = False


def paired_slopes(
    title: str, unit: str, panels: Sequence[Slope], below: Sequence[str] = (), *, log: bool = True
) -> Drawing:
    """Each person a line from left to right; the mean of each side beside it with its interval.

    Lines that fall are blue and solid, lines that rise orange and dashed.
    """
    values = [v for p in panels for side in (p.left, p.right) for v in side[np.isfinite(side)]]
    limits = [v for p in panels for mean in (p.left_mean, p.right_mean) for v in mean]
    log = log and all(v > 0 for v in values)
    width = max(84 + 288 * len(panels), 430)
    heads = [line for text in below for line in wrap(text, width - 32, 12.5)]
    drawing = Drawing(width, 420 + 17 * len(heads), title, "; ".join(below))
    top = drawing.heading(title, heads) + 16
    scale = Scale.around([*values, *limits], drawing.height - 66, top + 14, log=log)
    drawing.axis_left(scale, 72, width - 16, unit)
    for number_of, panel in enumerate(panels):
        _slope_panel(drawing, scale, panel, 72 + 288 * number_of, top)
    _slope_legend(drawing, drawing.height - 14)
    return drawing


def _slope_panel(drawing: Drawing, scale: Scale, panel: Slope, x: float, top: float) -> None:
    left, right = x + 84, x + 204
    drawing.text((x + 144, top), panel.title, anchor="middle", size=13, bold=True)
    for a, b in zip(panel.left.tolist(), panel.right.tolist(), strict=True):
        if math.isfinite(a) and math.isfinite(b):
            _slope_line(drawing, (left, scale(a)), (right, scale(b)), falls=b <= a)
    sides = (
        (left, left - 30, panel.left_label, panel.left_mean),
        (right, right + 30, panel.right_label, panel.right_mean),
    )
    for at, beside, label, mean in sides:
        drawing.text((at, scale.start + 24), label, anchor="middle", size=13)
        _interval(drawing, scale, beside, mean)


def _slope_line(
    drawing: Drawing, start: tuple[float, float], end: tuple[float, float], *, falls: bool
) -> None:
    colour, dash = (BLUE, "") if falls else (ORANGE, "5 4")
    drawing.line(start, end, colour, 1.5, dash, opacity=0.7)
    drawing.dot(start, 3.2, colour)
    drawing.dot(end, 3.2, colour)


def _interval(drawing: Drawing, scale: Scale, x: float, mean: Interval) -> None:
    estimate, low, high = mean
    if not math.isfinite(estimate):
        return
    if math.isfinite(low) and math.isfinite(high):
        drawing.line((x, scale(low)), (x, scale(high)), INK, 2)
        for end in (low, high):
            drawing.line((x - 5, scale(end)), (x + 5, scale(end)), INK, 2)
    drawing.diamond((x, scale(estimate)), 6.5)


def _slope_legend(drawing: Drawing, y: float) -> None:
    x = 72.0
    for colour, dash, word in ((BLUE, "", "falls"), (ORANGE, "5 4", "rises")):
        drawing.line((x, y - 4), (x + 24, y - 4), colour, 2, dash)
        drawing.text((x + 30, y), word, size=12, colour=SOFT)
        x += 76
    drawing.diamond((x + 6, y - 4), 6)
    drawing.text((x + 18, y), "mean, 95 % interval", size=12, colour=SOFT)


def forest(
    title: str, rows: Sequence[ForestRow], axis: str, below: Sequence[str] = (), *,
    neutral: float = 1.0, log: bool = True,
) -> Drawing:  # fmt: skip
    """Estimates with intervals under each other, and a line where there is no effect."""
    labels = max([text_width(row.label, 13) for row in rows] + [120])
    texts = max([text_width(row.text, 12.5) for row in rows] + [60])
    left, right = 28 + labels, 28 + labels + 330
    width = right + 24 + texts + 12
    heads = [line for text in below for line in wrap(text, width - 32, 12.5)]
    drawing = Drawing(width, 118 + 17 * len(heads) + 27 * len(rows), title, "; ".join(below))
    top = drawing.heading(title, heads) + 6
    bottom = top + 27 * len(rows) + 8
    found = [v for row in rows if row.estimate for v in row.estimate]
    scale = Scale.around([*found, neutral], left, right, log=log)
    drawing.axis_below(scale, bottom, top, axis)
    drawing.line((scale(neutral), top), (scale(neutral), bottom), SOFT, 1.5, "4 4")
    for line, row in enumerate(rows):
        _forest_row(drawing, scale, row, top + 27 * line + 18)
    return drawing


def _forest_row(drawing: Drawing, scale: Scale, row: ForestRow, y: float) -> None:
    if row.estimate is None:
        drawing.text((16, y + 4), row.label, size=12.5, bold=True, colour=SOFT)
        drawing.text((scale.end + 24, y + 4), row.text, size=12.5, colour=SOFT)
        return
    drawing.text((24, y + 4), row.label, size=13, bold=row.strong)
    drawing.text((scale.end + 24, y + 4), row.text, size=12.5, bold=row.strong)
    estimate, low, high = row.estimate
    if not math.isfinite(estimate):
        return
    colour = BLUE if row.strong else INK
    if math.isfinite(low) and math.isfinite(high):
        drawing.line((scale(low), y), (scale(high), y), colour, 2.5 if row.strong else 1.8)
    if row.strong:
        drawing.diamond((scale(estimate), y), 7, colour)
    else:
        drawing.dot((scale(estimate), y), 4, colour)


def bland_altman(
    title: str,
    unit: str,
    first: Floats,
    second: Floats,
    bias: Interval,
    limits: tuple[Interval, Interval],
    below: Sequence[str] = (),
) -> Drawing:
    """Differences (first - second) against means, with bias and limits of agreement.

    Parameters
    ----------
    bias
        Mean difference with its interval.
    limits
        Lower and upper limit of agreement, each with its interval.
    """
    mean, difference = (first + second) / 2, first - second
    width = 620.0
    heads = [line for text in below for line in wrap(text, width - 32, 12.5)]
    drawing = Drawing(width, 400 + 17 * len(heads), title, "; ".join(below))
    top, bottom = drawing.heading(title, heads) + 8, drawing.height - 52
    ends = [v for line in (bias, *limits) for v in line]
    scale_y = Scale.around([*difference.tolist(), *ends, 0.0], bottom, top)
    scale_x = Scale.around(mean.tolist(), 76, width - 118)
    drawing.axis_left(scale_y, 72, width - 114, f"difference ({unit})")
    drawing.axis_below(scale_x, bottom, top, "mean of the two")
    rows = (
        ("upper limit", limits[1], ORANGE, "6 4"),
        ("bias", bias, BLUE, ""),
        ("lower limit", limits[0], ORANGE, "6 4"),
    )
    spots = _apart([scale_y(line[0]) for _, line, _, _ in rows], 30)
    for (name, line, colour, dash), spot in zip(rows, spots, strict=True):
        _agreement_line(drawing, scale_y, line, colour, dash, width - 114)
        drawing.text((width - 106, spot), name, size=12, colour=colour, bold=True)
        drawing.text((width - 106, spot + 14), number(float(f"{line[0]:.3g}")), size=12)
    for x, y in zip(mean.tolist(), difference.tolist(), strict=True):
        drawing.dot((scale_x(x), scale_y(y)), 3.6, INK)
    return drawing


def _agreement_line(
    drawing: Drawing, scale: Scale, line: Interval, colour: str, dash: str, right: float
) -> None:
    value, low, high = line
    if math.isfinite(low) and math.isfinite(high):
        a, b = scale(low), scale(high)
        drawing.area([(72, a), (right, a), (right, b), (72, b)], colour, 0.12)
    drawing.line((72, scale(value)), (right, scale(value)), colour, 1.8, dash)


def _apart(positions: Sequence[float], least: float) -> list[float]:
    """Positions in rising order, moved down where they are closer than `least`."""
    out: list[float] = []
    for position in positions:
        out.append(max(position, out[-1] + least) if out else position)
    return out


def threshold_sensitivity(
    title: str,
    unit: str,
    thresholds: Sequence[float],
    ratios: Sequence[Interval],
    chosen: float,
    below: Sequence[str] = (),
) -> Drawing:
    """Ratio treated/placebo over the thresholds that could have been chosen."""
    width = 620.0
    heads = [line for text in below for line in wrap(text, width - 32, 12.5)]
    drawing = Drawing(width, 380 + 17 * len(heads), title, "; ".join(below))
    top, bottom = drawing.heading(title, heads) + 24, drawing.height - 52
    kept = [(t, r) for t, r in zip(thresholds, ratios, strict=True) if all(map(math.isfinite, r))]
    scale_y = Scale.around([v for _, r in kept for v in r] + [1.0], bottom, top, log=True)
    scale_x = Scale.around([*thresholds, chosen], 80, width - 24)
    drawing.axis_left(scale_y, 72, width - 16, "ratio treated / placebo")
    drawing.axis_below(scale_x, bottom, top, unit)
    drawing.line((72, scale_y(1.0)), (width - 16, scale_y(1.0)), SOFT, 1.5, "4 4")
    if len(kept) > 1:
        upper = [(scale_x(t), scale_y(r[2])) for t, r in kept]
        lower = [(scale_x(t), scale_y(r[1])) for t, r in kept]
        drawing.area([*upper, *reversed(lower)], BLUE, 0.16)
        drawing.path([(scale_x(t), scale_y(r[0])) for t, r in kept], BLUE, 2.4)
    for t, r in kept:
        drawing.line((scale_x(t), scale_y(r[1])), (scale_x(t), scale_y(r[2])), BLUE, 1)
        drawing.dot((scale_x(t), scale_y(r[0])), 3.6, BLUE)
    x = scale_x(chosen)
    drawing.line((x, top - 8), (x, bottom), ORANGE, 1.6, "6 3")
    drawing.text(
        (x, top - 12), f"chosen: {number(chosen)}", anchor="middle", size=12, colour=ORANGE
    )
    return drawing
