"""Figures: well-formed, the same every time, and nothing outside the drawing or over another."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from histoquant.study import figures
from histoquant.study.figures import ForestRow, Slope
from histoquant.study.flow_figure import FlowStep, flow
from histoquant.study.illustrate import pigment_agreement
from histoquant.study.svg import Drawing, Scale, number, text_width, wrap

NAN = math.nan
PLACEBO = np.array([18.0, 11.0, 24.0, 20.0])
TREATED = np.array([9.0, 12.5, 11.0, 8.0])
SLOPE = Slope("month_8", "placebo", "rapamycin", PLACEBO, TREATED, (18, 12, 25), (10, 8, 13))
LONG = "withdrew because of a <very> long reason & an ampersand " * 4
DRAWINGS = {
    "slopes": figures.paired_slopes("p16", "positive (%)", [SLOPE], ["4 people"]),
    "two panels": figures.paired_slopes("p16", "positive (%)", [SLOPE, SLOPE], [LONG]),
    "slopes from 0": figures.paired_slopes(
        "p16", "n", [Slope("v", "a", "b", np.zeros(2), np.array([0.0, 3.0]), (0, NAN, NAN),
                           (1.5, NAN, NAN))]),
    "one person": figures.paired_slopes(
        "p16", "n", [Slope("v", "a", "b", np.ones(1), np.ones(1), (1, NAN, NAN), (1, NAN, NAN))]),
    "forest": figures.forest(
        "Ratios",
        [ForestRow("Primary"), ForestRow("p16 positive_percent", (0.5, 0.3, 0.9), "0.5", True),
         ForestRow("col7 x", (NAN, NAN, NAN), "no ratio, n = 0")],
        "ratio"),
    "agreement": figures.bland_altman(
        "a", "%", PLACEBO, TREATED, (7.4, 1, 13), ((-3, -9, 3), (17, 11, 24)), ["4 samples"]),
    "flow": flow(
        "Flow",
        [FlowStep("Enrolled", 36, 72), FlowStep("Randomised", 36, 72, ("19 lost", LONG)),
         FlowStep("Measured", 17, 34)],
        [FlowStep("Analysed: p16", 8, 16, (LONG,)), FlowStep("Analysed: col7", 1, 2)]),
    "threshold": figures.threshold_sensitivity(
        "t", "OD", [0.1, 0.2, 0.3], [(0.5, 0.4, 0.7), (0.6, 0.4, 0.8), (NAN, NAN, NAN)], 0.2),
    "threshold of one": figures.threshold_sensitivity("t", "OD", [0.2], [(0.5, 0.4, 0.7)], 0.2),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_well_formed_and_holds_everything_inside(name: str) -> None:
    drawing = DRAWINGS[name]
    root = ElementTree.fromstring(drawing.file())
    shown = {tag: [e for e in root.iter() if e.tag.endswith("}" + tag)] for tag in
             ("text", "line", "circle", "rect", "title", "polygon", "polyline")}  # fmt: skip
    assert shown["title"][0].text
    assert "nan" not in drawing.file()
    for mark in shown["text"]:
        x, y = float(mark.attrib["x"]), float(mark.attrib["y"])
        assert 0 <= y <= drawing.height
        if "transform" in mark.attrib:
            continue
        wide = text_width(mark.text or "", float(mark.attrib["font-size"]))
        start = {"start": x, "middle": x - wide / 2, "end": x - wide}[mark.attrib["text-anchor"]]
        assert start >= 0, mark.text
        assert start + wide <= drawing.width + 1, mark.text
    for mark in shown["line"]:
        assert all(0 <= float(mark.attrib[k]) <= drawing.width for k in ("x1", "x2"))
        assert all(0 <= float(mark.attrib[k]) <= drawing.height for k in ("y1", "y2"))
    for mark in shown["polygon"] + shown["polyline"]:
        for point in mark.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= drawing.width
            assert 0 <= y <= drawing.height


@pytest.mark.parametrize("name", DRAWINGS)
def test_no_text_lies_on_another(name: str) -> None:
    boxes = []
    for mark in ElementTree.fromstring(DRAWINGS[name].file()).iter():
        if not mark.tag.endswith("}text") or "transform" in mark.attrib:
            continue
        x, y, size = (float(mark.attrib[k]) for k in ("x", "y", "font-size"))
        wide = 0.5 / 0.56 * text_width(mark.text or "", size)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[mark.attrib["text-anchor"]]
        boxes.append((left, y - 0.7 * size, left + wide, y, mark.text))
    for i, (left, top, right, bottom, text) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
            assert apart, (text, other[4])


def test_text_from_outside_is_escaped() -> None:
    text = DRAWINGS["flow"].inline()
    assert "<very>" not in text
    assert "&lt;very&gt;" in text
    assert "&amp;" in text


def test_a_drawing_for_a_page_names_no_address() -> None:
    assert "http" not in DRAWINGS["forest"].inline()
    assert 'xmlns="http://www.w3.org/2000/svg"' in DRAWINGS["forest"].file()


def test_direction_is_told_by_more_than_colour() -> None:
    lines = re.findall(r"<line [^>]*>", DRAWINGS["slopes"].inline())
    rising = [line for line in lines if "#d55e00" in line]
    falling = [line for line in lines if "#0072b2" in line]
    assert (len(rising), len(falling)) == (2, 4)  # one of them each in the legend
    assert all("stroke-dasharray" in line for line in rising)
    assert not any("stroke-dasharray" in line for line in falling)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0.5, 2.0, True), (0.93, 1.04, True), (1e-3, 1e3, True), (0, 1, False), (-3, 1e4, False),
     (5, 5, False), (5, 5, True)],
)  # fmt: skip
def test_ticks_are_round_inside_and_enough(low: float, high: float, log: bool) -> None:
    scale = Scale.around([low, high], 400, 20, log=log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(scale.low <= t <= scale.high for t in ticks)
    assert ticks == sorted(set(ticks))
    assert all(len(number(t)) <= 6 for t in ticks)
    places = [scale(t) for t in ticks]
    assert places == sorted(places, reverse=True)


def test_equal_ratios_take_equal_lengths() -> None:
    scale = Scale(0.25, 4.0, 0, 100, log=True)
    assert [scale(v) for v in (0.25, 0.5, 1, 2, 4)] == pytest.approx([0, 25, 50, 75, 100])


def test_wrapping_loses_no_word() -> None:
    assert " ".join(wrap(LONG, 200)) == LONG.strip()
    assert all(text_width(line) <= 200 for line in wrap(LONG, 200))
    assert wrap("", 100) == [""]


def test_the_same_figure_twice_is_the_same_text() -> None:
    again = figures.paired_slopes("p16", "positive (%)", [SLOPE], ["4 people"])
    assert again.file() == DRAWINGS["slopes"].file()
    assert isinstance(again, Drawing)


def test_limits_of_agreement_say_where_the_difference_goes_with_the_mean() -> None:
    rng = np.random.default_rng(4)
    before = rng.uniform(5, 40, 24)

    def text(after: np.ndarray) -> str:
        table = pd.DataFrame({"marker": "p16", "positive_percent": before,
                              "positive_percent_without_pigment": after})  # fmt: skip
        drawing = pigment_agreement(table)
        assert drawing is not None
        root = ElementTree.fromstring(drawing.file())
        return " ".join("".join(e.itertext()) for e in root.iter() if e.tag.endswith("}text"))

    assert "The difference grows with the mean, by 0.1" in text(0.9 * before)
    assert "difference grows" not in text(before - rng.normal(2, 0.5, 24))
