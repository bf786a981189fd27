"""The contrast that nuclei need follows the slide's own nuclei."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from histoquant.detection import least_contrast
from histoquant.settings import Settings
from histoquant.stains import StainModel

MODEL = StainModel.preset("hdab", (245.0, 245.0, 245.0))
SETTINGS = Settings()
USUAL = SETTINGS.nuclei.min_contrast_od


def field(hematoxylin_od: float, count: int = 36, dab_od: float = 0.0) -> NDArray[np.uint8]:
    """Round nuclei of one density on pale tissue, 256 x 256 px."""
    y, x = np.indices((256, 256))
    stains = np.zeros((256, 256, 2))
    stains[..., 0] = 0.03
    for k in range(count):
        centre = 22 + 42 * np.array(divmod(k, 6))
        inside = np.hypot(y - centre[0], x - centre[1]) < 8
        stains[inside] = hematoxylin_od, dab_od
    od = stains @ np.array(MODEL.vectors[:2])
    return np.clip(np.round(245 * 10**-od), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("hematoxylin_od", "factor"), [(0.34, 1.0), (0.26, 0.75), (0.12, 0.6), (0.7, 1.25)]
)
def test_it_is_scaled_by_how_dense_they_are(hematoxylin_od: float, factor: float) -> None:
    found = least_contrast([field(hematoxylin_od)], MODEL, SETTINGS)
    assert found == pytest.approx(factor * USUAL, rel=0.05)


def test_positive_nuclei_do_not_count_and_few_tell_nothing() -> None:
    assert least_contrast([field(0.2, dab_od=0.6)], MODEL, SETTINGS) == USUAL
    assert least_contrast([field(0.2, count=20)], MODEL, SETTINGS) == USUAL
    assert least_contrast([], MODEL, SETTINGS) == USUAL


def test_it_is_left_alone_on_request_and_without_a_marker() -> None:
    off = SETTINGS.with_values(["nuclei.typical_od=0"])
    assert least_contrast([field(0.2)], MODEL, off) == USUAL
    eosin = StainModel.preset("he", (245.0, 245.0, 245.0))
    assert least_contrast([field(0.2)], eosin, SETTINGS) == USUAL
