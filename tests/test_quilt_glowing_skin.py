"""Textures of real skin as DAPI beside a marker: junction, thickness, nuclei and collagen VII."""

import pytest

from helpers import DrawnCase, assert_as_drawn, measured_against, on_two_cores
from quilt import draw_glowing, write_glowing

CASES = {
    "easy, p16": DrawnCase("easy", "p16", 200),
    "easy, collagen VII": DrawnCase("easy", "col7", 201),
    # Bits of collagen pass for nuclei; haze and bleed hide the weakest of the line.
    "typical, p16": DrawnCase("typical", "p16", 200, {"median_um": 3.0, "nuclei": 0.4}),
    "typical, collagen VII": DrawnCase("typical", "col7", 200, {"integral": 0.17}),
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
    return measured_against(drawn, path, case.marker, "od_um")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quilt_glowing")
    jobs = [(case, folder) for case in CASES.values()]
    return dict(zip(CASES, on_two_cores(measure, jobs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_drawn(measured, name):
    assert_as_drawn(measured[name], MOST | CASES[name].most)
