"""Skin of another generator in fluorescence: junction, epidermis, and what the marker shows.

Against the junction of these slides lies no heap of lymphocytes: in DAPI it is epithelium.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.spatial import cKDTree

import histoquant as hq
from glow import draw, write
from helpers import away_from_drawn, on_two_cores

NEAR_UM = 8.0  # a row of the truth belongs to a bin of 10 um


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
    "continuity": 3.0, "intensity": 0.13, "nuclei": 0.05, "positive": 0.5,
}  # fmt: skip


def line_figures(result, drawn):
    """Continuity (points) and integrated intensity, against the truth where both are measured."""
    found, line = result.summary, np.concatenate(drawn.line)
    used = result.junction[~result.junction["excluded"]]
    bins = cKDTree(used[["x_px", "y_px"]].to_numpy() * found["mpp"])
    line = line[bins.query(np.stack([line["x"], line["y"]], 1))[0] < NEAR_UM]
    return {
        "continuity": found["continuity_percent"] - 100 * line["present"].mean(),
        "intensity": found["integrated_od_um_mean"] / line["light_um"].mean() - 1,
    }


def nuclear_figures(result, drawn):
    """Number of nuclei, and how many are positive (points)."""
    found, nuclei = result.summary, drawn.nuclei[drawn.nuclei["compartment"] != "adnexa"]
    return {
        "nuclei": found["n_nuclei"] / len(nuclei) - 1,
        "positive": found["positive_percent"] - 100 * nuclei["positive"].mean(),
    }


def measure(case, folder):
    """Draw one, measure it, and compare."""
    drawn = draw(case.preset, case.marker, case.seed, mpp=0.5)
    path = folder / f"{case.preset}_{case.marker}.ome.tif"
    write(path, drawn)
    result = hq.quantify(path, case.marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    return got | (line_figures if case.marker == "col7" else nuclear_figures)(result, drawn)


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
