"""Skin of another generator: the junction on looks on which it was lost, or found in the dermis.

In its dermis bundles of collagen take up as much counterstain as some epidermis does, with pale
clefts between them; its corneum is a weave of lamellae, or brown.
"""

from dataclasses import dataclass, field

import pytest

import histoquant as hq
from helpers import away_from_drawn, on_two_cores
from woven import LOOKS, Skin, draw, write


@dataclass(frozen=True)
class Case:
    look: str
    marker: str
    seed: int = 100
    most: dict[str, float] = field(default_factory=dict)
    """Looser limits than those of the rest."""


CASES = {
    "plain, with a line": Case("plain", "col7"),
    # Blotches of the dermis are as dense as the epidermis: the nuclei tell.
    "thin above dense dermis, with a line": Case("thin_aged", "col7", 8),
    "brown corneum above dense dermis": Case("dark_corneum", "col7", 8),
    "blotches of haze": Case("strong_haze", "p16", 10),
    "blotches of haze and a line": Case("strong_haze", "col7", 10),
    "corneum like a basket": Case("basket_weave", "p16", 7),
    "thin and flat": Case("thin_aged", "col7"),
    "follicles, one along a cut edge": Case(
        "follicle", "p16", 9, most={"length": 0.04, "p95_um": 8.0}
    ),
    "follicles and a line": Case("follicle", "col7", 9),
    "torn": Case("torn", "col7", most={"false": 0.08, "length": 0.09, "thickness": 0.12}),
    "brown corneum": Case("dark_corneum", "p16"),
    "brown corneum and a line": Case("dark_corneum", "col7"),
    "lymphocytes": Case("infiltrate", "col7", most={"length": 0.035, "thickness": 0.08}),
    "glands in the depth": Case("glands", "col7", most={"length": 0.03}),
}
MOST = {"median_um": 2.0, "p95_um": 8.0, "false": 0.02, "length": 0.03, "thickness": 0.08}


def measure(case, folder):
    """Draw one, measure it, and compare."""
    looks = {**LOOKS[case.look], "seed": case.seed, "marker": case.marker}
    drawn = draw(Skin(**looks))
    path = folder / f"{case.look}_{case.marker}.tif"
    write(path, drawn)
    return away_from_drawn(hq.quantify(path, case.marker), drawn)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("woven")
    jobs = [(case, folder) for case in CASES.values()]
    return dict(zip(CASES, on_two_cores(measure, jobs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_junction_is_found_and_nothing_else(measured, name):
    got = measured[name]
    assert "reason" not in got, got
    assert got["found"] >= 0.98
    for figure, limit in (MOST | CASES[name].most).items():
        assert abs(got[figure]) <= limit, figure


def test_bundles_of_collagen_alone_have_no_epidermis(tmp_path):
    """The same dermis without its skin: what is densest of it is no epidermis."""
    drawn = draw(Skin(**{**LOOKS["thin_aged"], "seed": 100, "marker": "col7", "length": 900.0}))
    lowest = max(line[:, 1].max() for line in drawn.junctions) + 40
    rgb = drawn.rgb[int(lowest / drawn.mpp) :].copy()
    rgb[:8] = drawn.rgb[:8, :8].mean(axis=(0, 1))
    path = tmp_path / "dermis.tif"
    write(path, type(drawn)(**{**vars(drawn), "rgb": rgb}))
    result = hq.quantify(path, "col7")
    assert not result.junction_line.stretches
    assert "no epidermis found" in str(result.reasons)
