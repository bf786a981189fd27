"""A real Ki67 section gives the same percentage however it was scanned and stained."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from histoquant.nuclei import measure_nuclei, segment_nuclei
from histoquant.settings import Settings
from histoquant.stains import StainModel, measure_white, optical_density, unmix

SLIDE = Path(__file__).parents[1] / "sample_slides" / "real" / "OS-2-ndpi.ome.tif"
MPP = 0.2271
SETTINGS = Settings()


def resized(rgb: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    height, width = (round(side * factor) for side in rgb.shape[:2])
    return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)


def count(rgb: NDArray[np.uint8], mpp: float) -> tuple[int, float]:
    """Nuclei and percent positive of a picture of `mpp` um/px."""
    target = SETTINGS.nuclei.mpp
    white = measure_white(resized(rgb, mpp / 8)).values
    od = np.minimum(
        optical_density(resized(rgb, mpp / target), white), np.float32(SETTINGS.stains.max_od)
    )
    stains = unmix(od, StainModel.preset("hdab", white))
    labels = segment_nuclei(stains, target, SETTINGS.nuclei)
    found = measure_nuclei(labels, stains, target, SETTINGS.nuclei)
    positive = found["dab_od_mean"] >= SETTINGS.p16.thresholds_od[0]
    return len(positive), 100 * float(positive.mean())


@pytest.fixture(scope="module")
def scan() -> NDArray[np.uint8]:
    rgb = tifffile.imread(SLIDE)
    return np.ascontiguousarray(rgb if rgb.shape[-1] == 3 else np.moveaxis(rgb, 0, -1))


@pytest.fixture(scope="module")
def as_scanned(scan: NDArray[np.uint8]) -> tuple[int, float]:
    return count(scan, MPP)


def restained(rgb: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    od = -np.log10(np.maximum(rgb, 1) / 245)
    return np.clip(np.round(245 * 10 ** (-od * strength)), 0, 255).astype(np.uint8)


def lit(rgb: NDArray[np.uint8], light: tuple[float, float, float]) -> NDArray[np.uint8]:
    return np.round(rgb * np.array(light)).astype(np.uint8)


def test_the_section_as_scanned(as_scanned: tuple[int, float]) -> None:
    """QuPath's positive cell detection counts 1066 to 1323 cells here, by its threshold."""
    nuclei, percent = as_scanned
    assert 900 < nuclei < 1300
    assert 18 < percent < 23


@pytest.mark.parametrize("strength", [0.8, 1.25])
def test_staining_strength(
    scan: NDArray[np.uint8], as_scanned: tuple[int, float], strength: float
) -> None:
    nuclei, percent = count(restained(scan, strength), MPP)
    assert percent == pytest.approx(as_scanned[1], abs=2)
    assert nuclei == pytest.approx(as_scanned[0], rel=0.15)


@pytest.mark.parametrize("light", [(0.85, 0.85, 0.85), (1.0, 0.96, 0.9)], ids=["dim", "tinted"])
def test_white_level(
    scan: NDArray[np.uint8], as_scanned: tuple[int, float], light: tuple[float, float, float]
) -> None:
    nuclei, percent = count(lit(scan, light), MPP)
    assert percent == pytest.approx(as_scanned[1], abs=1)
    assert nuclei == pytest.approx(as_scanned[0], rel=0.02)


@pytest.mark.parametrize("mpp", [0.25, 0.35, 0.5])
def test_scale_of_the_scan(
    scan: NDArray[np.uint8], as_scanned: tuple[int, float], mpp: float
) -> None:
    nuclei, percent = count(resized(scan, MPP / mpp), mpp)
    assert percent == pytest.approx(as_scanned[1], abs=2)
    assert nuclei == pytest.approx(as_scanned[0], rel=0.05)
