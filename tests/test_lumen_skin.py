"""Skin of yet another author in fluorescence: fibroblasts lie against the junction and in papillae.

Where the line is found continuity is right, where a cell of the dermis passes for epidermis it is
not; these are slides on which nearly all of it is found.
"""

import pytest

from helpers import DrawnCase, assert_as_drawn, measure_drawn
from lumen import draw, write

CASES = {
    "easy": DrawnCase("easy", "col7", 704),
    "typical, fibroblasts in papillae": DrawnCase("typical", "col7", 602),
}
MOST = {
    "median_um": 2.0, "p95_um": 15.0, "false": 0.03, "length": 0.06, "thickness": 0.06,
    "continuity": 14.0, "integral": 0.12, "not_found": 0.04,
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return measure_drawn(CASES, tmp_path_factory.mktemp("lumen"), draw, write, "od_um")


@pytest.mark.parametrize("name", CASES)
def test_figures_are_those_drawn(measured, name):
    assert_as_drawn(measured[name], MOST | CASES[name].most)
