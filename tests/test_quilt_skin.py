"""Skin with textures of a real slide on a drawn geometry: junction, nuclei and collagen VII."""

import pytest

from helpers import DrawnCase, assert_as_drawn, measure_drawn
from quilt import draw, write

CASES = {
    "easy, p16": DrawnCase("easy", "p16", 200),
    "easy, collagen VII": DrawnCase("easy", "col7", 200),
    # Lymphocytes lie against the line in places.
    "typical, collagen VII": DrawnCase("typical", "col7", 201, {"continuity": 9.0}),
    "hard, p16": DrawnCase("hard", "p16", 200, {"false": 0.05, "length": 0.07}),
}
# Epidermis ends above its outermost nuclei, as drawn only below the dense corneum. Bits of collagen
# and of cytoplasm that pass for nuclei are paler than p16-positive ones, and make these fewer.
MOST = {
    "median_um": 2.0, "p95_um": 8.0, "false": 0.02, "length": 0.05, "thickness": 0.18,
    "missed": 0.06, "nuclei": 0.27, "positive": 2.5, "continuity": 2.0, "integral": 0.1,
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return measure_drawn(CASES, tmp_path_factory.mktemp("quilt"), draw, write, "od_um")


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_drawn(measured, name):
    assert_as_drawn(measured[name], MOST | CASES[name].most)
