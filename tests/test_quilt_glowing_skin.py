"""Textures of real skin as DAPI beside a marker: junction, thickness, nuclei and collagen VII."""

from dataclasses import dataclass, field

import pytest

import histoquant as hq
from helpers import (
    away_from_drawn,
    line_away_from_drawn,
    nuclei_away_from_drawn,
    on_two_cores,
)
from quilt import draw_glowing, write_glowing


@dataclass(frozen=True)
class Case:
    preset: str
    marker: str
    seed: int
    most: dict[str, float] = field(default_factory=dict)
    """Looser limits than those of the rest."""


CASES = {
    "easy, p16": Case("easy", "p16", 200),
    "easy, collagen VII": Case("easy", "col7", 201),
    # Bits of collagen pass for nuclei; haze and bleed hide the weakest of the line.
    "typical, p16": Case("typical", "p16", 200, {"median_um": 3.0, "nuclei": 0.4}),
    "typical, collagen VII": Case("typical", "col7", 200, {"integral": 0.17}),
}
MOST = {
    "median_um": 2.0, "p95_um": 8.0, "false": 0.02, "length": 0.04, "thickness": 0.13,
    "missed": 0.05, "nuclei": 0.35, "positive": 2.0, "continuity": 2.0, "integral": 0.05,
}  # fmt: skip


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw_glowing(case.preset, case.marker, case.seed)
    path = folder / f"{case.preset}_{case.marker}_{case.seed}.ome.tif"
    write_glowing(path, drawn)
    result = hq.quantify(path, case.marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    if case.marker == "col7":
        return got | line_away_from_drawn(result, drawn, "od_um")
    return got | nuclei_away_from_drawn(result, drawn)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quilt_glowing")
    jobs = [(case, folder) for case in CASES.values()]
    return dict(zip(CASES, on_two_cores(measure, jobs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_drawn(measured, name):
    got = dict(measured[name])
    assert "reason" not in got, got
    assert got.pop("found") >= 0.98
    most = MOST | CASES[name].most
    off = {figure: value for figure, value in got.items() if not abs(value) <= most[figure]}
    assert not off
