"""Skin of another generator in fluorescence: junction, epidermis, and what the marker shows.

Against the junction of these slides lies no heap of lymphocytes: in DAPI it is epithelium.
"""

from dataclasses import dataclass, field

import pytest

import histoquant as hq
from glow import draw, write
from helpers import (
    away_from_drawn,
    line_away_from_drawn,
    nuclei_away_from_drawn,
    on_two_cores,
)


@dataclass(frozen=True)
class Case:
    preset: str
    marker: str
    seed: int
    most: dict[str, float] = field(default_factory=dict)
    """Looser limits than those of the rest."""


CASES = {
    "easy, p16": Case("easy", "p16", 201),
    "easy, collagen VII": Case("easy", "col7", 200),
    # Autofluorescence and haze hide the weakest of its line.
    "typical, collagen VII": Case("typical", "col7", 201, {"p95_um": 11.0, "continuity": 12.0}),
}
MOST = {
    "median_um": 2.0, "p95_um": 5.0, "false": 0.03, "length": 0.05, "thickness": 0.13,
    "continuity": 3.0, "integral": 0.13, "missed": 0.05, "nuclei": 0.05, "positive": 0.5,
}  # fmt: skip


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw(case.preset, case.marker, case.seed, mpp=0.5)
    path = folder / f"{case.preset}_{case.marker}.ome.tif"
    write(path, drawn)
    result = hq.quantify(path, case.marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    if case.marker == "col7":
        return got | line_away_from_drawn(result, drawn, "light_um")
    return got | nuclei_away_from_drawn(result, drawn)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glow")
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
