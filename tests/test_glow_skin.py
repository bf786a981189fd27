"""Skin of another generator in fluorescence: junction, epidermis, and what the marker shows.

Against the junction of one lies a heap of lymphocytes, which DAPI shows as close as epithelium.
"""

import pytest

from glow import draw, write
from helpers import DrawnCase, assert_as_drawn, measured_against, on_two_cores

CASES = {
    "easy, p16": DrawnCase("easy", "p16", 201),
    "easy, a heap": DrawnCase("easy", "p16", 4, {"p95_um": 9.0}),
    "easy, collagen VII": DrawnCase("easy", "col7", 200),
    # Autofluorescence and haze hide the weakest of its line.
    "typical, collagen VII": DrawnCase(
        "typical", "col7", 201, {"p95_um": 11.0, "continuity": 12.0}
    ),
}
MOST = {
    "median_um": 2.0, "p95_um": 5.0, "false": 0.03, "length": 0.05, "thickness": 0.13,
    "continuity": 3.0, "integral": 0.13, "missed": 0.05, "nuclei": 0.05, "positive": 0.5,
}  # fmt: skip


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw(case.preset, case.marker, case.seed, mpp=0.5)
    path = folder / f"{case.preset}_{case.marker}_{case.seed}.ome.tif"
    write(path, drawn)
    return measured_against(drawn, path, case.marker, "light_um")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glow")
    jobs = [(case, folder) for case in CASES.values()]
    return dict(zip(CASES, on_two_cores(measure, jobs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_drawn(measured, name):
    assert_as_drawn(measured[name], MOST | CASES[name].most)
