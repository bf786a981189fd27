"""How faint a nucleus of the dermis may be."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.faint import least_dermal_od


def densities(median: float, spread: float, count: int, seed: int) -> np.ndarray:
    """Densities (OD) spread evenly by their logarithm, as those of nuclei are."""
    return median * np.exp(np.random.default_rng(seed).normal(0, spread, count))


EPIDERMAL = densities(0.4, 0.2, 400, 0)


@pytest.mark.parametrize("pale", [0.16, 0.18, 0.2])
@pytest.mark.parametrize("count", [60, 300])
def test_the_limit_lies_between_bits_of_collagen_and_nuclei(pale: float, count: int) -> None:
    bits, nuclei = densities(pale, 0.12, count, 1), densities(0.4, 0.2, 200, 2)
    limit = least_dermal_od(EPIDERMAL, np.concatenate([bits, nuclei]), 0.4)
    assert np.mean(bits < limit) > 0.85
    assert np.mean(nuclei < limit) < 0.05


@pytest.mark.parametrize("median", [0.22, 0.3, 0.4, 0.6])
def test_nuclei_of_one_kind_have_no_gap_however_pale_they_are(median: float) -> None:
    limit = least_dermal_od(EPIDERMAL, densities(median, 0.25, 400, 3), 0.5)
    assert limit == pytest.approx(0.5 * np.median(EPIDERMAL))


def test_a_few_pale_ones_make_no_group() -> None:
    few = np.concatenate([densities(0.19, 0.08, 15, 4), densities(0.4, 0.2, 300, 5)])
    assert least_dermal_od(EPIDERMAL, few, 0.5) == pytest.approx(0.5 * np.median(EPIDERMAL))


def test_stain_scales_the_limit_and_nothing_else() -> None:
    found = np.concatenate([densities(0.19, 0.12, 150, 6), densities(0.4, 0.2, 200, 7)])
    one, half = (least_dermal_od(EPIDERMAL * k, found * k, 0.5) for k in (1.0, 0.5))
    assert half == pytest.approx(one / 2)


@pytest.mark.parametrize(
    ("epidermal", "share"), [(EPIDERMAL[:29], 0.5), (EPIDERMAL, 0.0), (-EPIDERMAL, 0.5)]
)
def test_without_a_standard_there_is_no_limit(epidermal: np.ndarray, share: float) -> None:
    assert least_dermal_od(epidermal, densities(0.2, 0.2, 300, 8), share) == 0


def test_of_nothing_the_share_is_the_limit() -> None:
    assert least_dermal_od(EPIDERMAL, np.empty(0), 0.5) == 0.5 * np.median(EPIDERMAL)


def test_a_share_above_what_a_gap_may_reach_stands() -> None:
    found = np.concatenate([densities(0.19, 0.12, 150, 6), densities(0.4, 0.2, 200, 7)])
    assert least_dermal_od(EPIDERMAL, found, 0.9) == 0.9 * np.median(EPIDERMAL)


def test_nuclei_that_a_person_added_have_no_density() -> None:
    found = np.concatenate([densities(0.19, 0.12, 150, 6), densities(0.4, 0.2, 200, 7)])
    limit = least_dermal_od(EPIDERMAL, found, 0.5)
    assert least_dermal_od(np.append(EPIDERMAL, np.nan), np.append(found, np.nan), 0.5) == limit
