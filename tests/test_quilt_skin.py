"""Skin with textures of a real slide on a drawn geometry: junction, nuclei and collagen VII."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.spatial import cKDTree

import histoquant as hq
from helpers import away_from_drawn, on_two_cores
from quilt import draw, write

NEAR_UM = 8.0  # a row of the truth belongs to a bin of 10 um


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
    "nuclei": 0.27, "positive": 2.5, "continuity": 2.0, "integral": 0.1,
}  # fmt: skip


def nuclear_figures(result, drawn):
    """Share of true nuclei that are found; their number, and how many are positive (points)."""
    found, nuclei = result.summary, drawn.nuclei[drawn.nuclei["compartment"] != "adnexa"]
    centres = cKDTree(result.nuclei[["x_um", "y_um"]].to_numpy())
    near, _ = centres.query(np.stack([nuclei["x"], nuclei["y"]], 1))
    return {
        "nuclei found": np.mean(near <= 4),
        "nuclei": found["n_nuclei"] / len(nuclei) - 1,
        "positive": found["positive_percent"] - 100 * nuclei["positive"].mean(),
    }


def line_figures(result, drawn):
    """Continuity (points) and integrated OD, against the truth where both are measured."""
    found, line = result.summary, np.concatenate(drawn.line)
    used = result.junction[~result.junction["excluded"]]
    bins = cKDTree(used[["x_px", "y_px"]].to_numpy() * found["mpp"])
    line = line[bins.query(np.stack([line["x"], line["y"]], 1))[0] < NEAR_UM]
    return {
        "continuity": found["continuity_percent"] - 100 * line["present"].mean(),
        "integral": found["integrated_od_um_mean"] / line["od_um"].mean() - 1,
    }


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw(case.preset, case.marker, case.seed)
    path = folder / f"{case.preset}_{case.marker}_{case.seed}.ome.tif"
    write(path, drawn)
    result = hq.quantify(path, case.marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    return got | (line_figures if case.marker == "col7" else nuclear_figures)(result, drawn)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quilt")
    jobs = [(case, folder) for case in CASES.values()]
    return dict(zip(CASES, on_two_cores(measure, jobs), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_the_junction_is_found_and_nothing_else(measured, name):
    got, most = measured[name], MOST | CASES[name].most
    assert "reason" not in got, got
    assert got["found"] >= 0.98
    for figure in ("median_um", "p95_um", "false", "length", "thickness"):
        assert abs(got[figure]) <= most[figure], figure


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.marker == "p16"])
def test_nuclei_are_found_and_positive_ones_told(measured, name):
    got, most = measured[name], MOST | CASES[name].most
    assert got["nuclei found"] >= 0.94
    assert abs(got["nuclei"]) <= most["nuclei"]
    assert abs(got["positive"]) <= most["positive"]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.marker == "col7"])
def test_collagen_vii_is_what_was_drawn(measured, name):
    got, most = measured[name], MOST | CASES[name].most
    assert abs(got["continuity"]) <= most["continuity"]
    assert abs(got["integral"]) <= most["integral"]
