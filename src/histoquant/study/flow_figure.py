"""The flow diagram of a study, by people and by sites (CONSORT, within-person extension)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from histoquant.study.svg import GREEN, ORANGE, SOFT, TINT, Drawing, wrap

_BOX = 264.0
"""Width of a box, px."""


@dataclass(frozen=True)
class FlowStep:
    """One box of the flow diagram, and what left before it."""

    label: str
    people: int
    sites: int
    lost: tuple[str, ...] = ()


def flow(
    title: str, steps: Sequence[FlowStep], analysed: Sequence[FlowStep], below: Sequence[str] = ()
) -> Drawing:
    """People and sites from enrolment to analysis, and who was lost on the way, and why.

    `analysed` are boxes beside each other at the end: one for every marker.
    """
    width = max(760.0, 34 + (_BOX + 20) * len(analysed))
    heads = [line for text in below for line in wrap(text, width - 32, 12.5)]
    losses = [[line for text in step.lost for line in wrap(text, 330, 12.5)] for step in steps]
    gaps = [max(34.0, 17.0 * len(lines) + 38) if lines else 34.0 for lines in losses]
    ends = [[line for text in step.lost for line in wrap(text, _BOX - 24, 12)] for step in analysed]
    end_height = 56 + 16.0 * max([len(lines) for lines in ends] + [0]) + 10
    height = 52 + 17 * len(heads) + 52 * len(steps) + sum(gaps) + 28 + end_height
    drawing = Drawing(width, height, title, "; ".join(below))
    y, x = drawing.heading(title, heads) + 6, 24.0
    spine = x + _BOX / 2
    for step, lines, gap in zip(steps, losses, gaps, strict=True):
        _flow_box(drawing, step, (x, y))
        if step is steps[-1]:
            drawing.line((spine, y + 52), (spine, y + 62 + gap), SOFT)
        else:
            _arrow(drawing, (spine, y + 52), (spine, y + 52 + gap))
        if lines:
            _lost_box(drawing, lines, (x + _BOX + 50, y + 64), spine)
        y += 52 + gap
    _flow_ends(drawing, analysed, ends, y + 10, end_height)
    return drawing


def _flow_box(drawing: Drawing, step: FlowStep, corner: tuple[float, float]) -> None:
    x, y = corner
    drawing.box(corner, (_BOX, 52), TINT, SOFT)
    drawing.text((x + _BOX / 2, y + 21), step.label, anchor="middle", bold=True)
    drawing.text((x + _BOX / 2, y + 40), _people_and_sites(step), anchor="middle", size=12.5)


def _people_and_sites(step: FlowStep) -> str:
    people = f"{step.people} {'person' if step.people == 1 else 'people'}"
    return f"{people}, {step.sites} {'site' if step.sites == 1 else 'sites'}"


def _lost_box(
    drawing: Drawing, lines: Sequence[str], corner: tuple[float, float], spine: float
) -> None:
    x, y = corner
    height = 17 * len(lines) + 14
    drawing.box(corner, (376, height), "#ffffff", ORANGE)
    _arrow(drawing, (spine, y + height / 2), (x, y + height / 2))
    for row, line in enumerate(lines):
        drawing.text((x + 12, y + 20 + 17 * row), line, size=12.5)


def _flow_ends(
    drawing: Drawing,
    analysed: Sequence[FlowStep],
    ends: Sequence[Sequence[str]],
    y: float,
    height: float,
) -> None:
    spine = 24 + _BOX / 2
    middles = [spine + (_BOX + 20) * column for column in range(len(analysed))]
    if len(middles) > 1:
        drawing.line((spine, y), (middles[-1], y), SOFT, 1.5)
    for middle, step, lines in zip(middles, analysed, ends, strict=True):
        _arrow(drawing, (middle, y), (middle, y + 18))
        corner = (middle - _BOX / 2, y + 18)
        drawing.box(corner, (_BOX, height - 14), "#ffffff", GREEN, 1.6)
        drawing.text((middle, corner[1] + 21), step.label, anchor="middle", bold=True)
        drawing.text((middle, corner[1] + 40), _people_and_sites(step), anchor="middle", size=12.5)
        for row, line in enumerate(lines):
            at = (corner[0] + 12, corner[1] + 60 + 16 * row)
            drawing.text(at, line, size=12, colour=SOFT)


def _arrow(drawing: Drawing, start: tuple[float, float], end: tuple[float, float]) -> None:
    drawing.line(start, end, SOFT, 1.5)
    (x, y), across = end, start[1] == end[1]
    wings = [(x - 8, y - 4), (x - 8, y + 4)] if across else [(x - 4, y - 8), (x + 4, y - 8)]
    drawing.area([end, *wings], SOFT, 1.0)
