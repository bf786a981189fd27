"""Skin with textures of a real slide on a drawn geometry: junction, nuclei and collagen VII."""

from dataclasses import dataclass, field

import pytest

import histoquant as hq
from helpers import (
    away_from_drawn,
    line_away_from_drawn,
    nuclei_away_from_drawn,
    on_two_cores,
)
from quilt import draw, write


@dataclass(frozen=True)
class Case:
    preset: str
    marker: str
    seed: int
    most: dict[str, float] = field(default_factory=dict)
    """Looser limits than those of the rest."""


CASES = {
    "easy, p16": Case("easy", "p16", 200),
    "easy, collagen VII": Case("easy", "col7", 200),
    # Lymphocytes lie against the line in places.
    "typical, collagen VII": Case("typical", "col7", 201, {"continuity": 9.0}),
    "hard, p16": Case("hard", "p16", 200, {"false": 0.05, "length": 0.07}),
}
# Epidermis ends above its outermost nuclei, as drawn only below the dense corneum. Bits of collagen
# and of cytoplasm that pass for nuclei are paler than p16-positive ones, and make these fewer.
MOST = {
    "median_um": 2.0, "p95_um": 8.0, "false": 0.02, "length": 0.05, "thickness": 0.18,
    "missed": 0.06, "nuclei": 0.27, "positive": 2.5, "continuity": 2.0, "integral": 0.1,
}  # fmt: skip


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw(case.preset, case.marker, case.seed)
    path = folder / f"{case.preset}_{case.marker}_{case.seed}.ome.tif"
    write(path, drawn)
    result = hq.quantify(path, case.marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    if case.marker == "col7":
        return got | line_away_from_drawn(result, drawn, "od_um")
    return got | nuclei_away_from_drawn(result, drawn)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quilt")
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
