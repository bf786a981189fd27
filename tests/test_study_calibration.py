"""The calibration that the documentation quotes, with fewer simulations and wider bounds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parent.parent / "benchmarks" / "statistics_calibration.py"


@pytest.fixture(scope="module")
def calibration():
    spec = importlib.util.spec_from_file_location("statistics_calibration", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("data", ["skewed", "uneven", "overdispersed", "sparse"])
@pytest.mark.parametrize("n", [8, 17])
def test_the_primary_analysis_holds_its_level_and_coverage(calibration, data, n) -> None:
    """4000 studies: a percentage of 5 has a standard error of 0.34, so +- 1.4 is four of them."""
    truth = calibration.truth_of(calibration.DATA[data], seed=5, pairs=400_000)
    found = calibration.cell(data, n, 4000, truth, seed=5)
    assert found["primary_type_i"] == pytest.approx(5, abs=1.4)
    assert found["primary_coverage"] == pytest.approx(95, abs=1.4)
    assert found["wrong_type_i"] > 9


def test_the_exact_test_of_eight_is_conservative_by_its_steps(calibration) -> None:
    """No attainable P lies between 0.0391 and 0.05: 10 of 256 sign patterns, then 14."""
    truth = calibration.truth_of(calibration.skewed, seed=6, pairs=100_000)
    found = calibration.cell("skewed", 8, 6000, truth, seed=6)
    assert found["rank_type_i"] == pytest.approx(100 * 10 / 256, abs=1)


def test_nuclei_as_people_find_what_is_not_there(calibration) -> None:
    truth = calibration.truth_of(calibration.skewed, seed=7, pairs=100_000)
    assert calibration.cell("skewed", 8, 1000, truth, seed=7)["wrong_type_i"] > 60


def test_a_cell_off_its_target_is_reported(calibration) -> None:
    good = {"primary_type_i": 5.1, "primary_coverage": 94.8}
    bad = {"primary_type_i": 6.1, "primary_coverage": 94.8}
    assert calibration.off_target({("skewed", 8): good}) == []
    assert calibration.off_target({("skewed", 8): bad}) == ["skewed, n = 8: primary_type_i 6.10 %"]
