"""Stain vectors from pixels: found where they can be, refused where they cannot."""

import json
import re

import numpy as np
import pytest

from histoquant.stain_estimate import estimate_vectors, usable_pixels
from histoquant.stains import PRESETS, angle_deg

BLUE, BROWN = (0.68, 0.68, 0.27), (0.25, 0.60, 0.76)  # some degrees from the preset


def mixed(n=40_000, blue=BLUE, brown=BROWN, alone=0.3, sparse=1.0, noise=0.004, seed=0):
    """Pixels of two stains; the share `alone` of the brown ones holds no blue."""
    rng = np.random.default_rng(seed)
    is_brown = rng.uniform(size=n) < 0.4 * sparse
    brown_od = np.where(is_brown, rng.uniform(0.3, 0.7, n), 0)
    blue_od = rng.uniform(0.2, 0.6, n)
    blue_od[is_brown] *= rng.uniform(0.5, 1.0, is_brown.sum())
    blue_od[is_brown & (rng.uniform(size=n) < alone)] = 0
    vectors = [np.array(v) / np.linalg.norm(v) for v in (blue, brown)]
    od = blue_od[:, None] * vectors[0] + brown_od[:, None] * vectors[1]
    return usable_pixels((od + rng.normal(0, noise, od.shape)).astype(np.float32))


def test_the_pixels_of_qupath_are_used():
    od = np.array(
        [
            [[0.049, 0.5, 0.5], [0.05, 0.5, 0.5]],  # every channel from 0.05 on
            [[0.6, 0.6, 0.6], [0.57, 0.57, 0.57]],  # length up to 1
        ],
        np.float32,
    )
    assert usable_pixels(od).tolist() == od[[0, 1], [1, 1]].tolist()


@pytest.mark.parametrize(
    ("preset", "blue", "second"),
    [
        ("hdab", BLUE, BROWN),
        ("haec", (0.65, 0.70, 0.29), (0.24, 0.70, 0.67)),
        ("he", (0.65, 0.70, 0.29), (0.216, 0.801, 0.558)),  # QuPath's eosin
    ],
)
def test_vectors_are_found_where_pixels_hold_one_stain_alone(preset, blue, second):
    found = estimate_vectors([mixed(blue=blue, brown=second)], preset)
    assert not found.refused
    assert angle_deg(found.hematoxylin, blue) < 2
    assert angle_deg(found.second, second) < 2
    assert np.linalg.norm([found.hematoxylin, found.second], axis=1) == pytest.approx(1, abs=1e-3)
    name, *known = PRESETS[preset]
    assert found.angles_deg == pytest.approx(
        (angle_deg(found.hematoxylin, known[0]), angle_deg(found.second, known[1]))
    )
    words = found.describe("the slide")
    assert f"{found.angles_deg[1]:.1f} degrees from preset {preset}" in words
    assert name in words


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (mixed(n=3000), "stained pixels, 5000 are needed"),
        (np.empty((0, 3), np.float32), "only 0 stained pixels"),
        (mixed(sparse=0.0), "both vectors lie on one stain"),
        (mixed(sparse=0.0, noise=0.03), "both vectors lie on one stain|too sparse"),
        (mixed(sparse=0.01, noise=0.03), "dab is too sparse: 0.. %"),
        (mixed(alone=0.0), "dab found .* nearer to hematoxylin .* no pixels hold dab alone"),
        (mixed(blue=(0.9, 0.3, 0.3)), "hematoxylin found .* degrees from the preset"),
    ],
)
def test_an_estimate_that_cannot_be_trusted_is_refused(pixels, words):
    found = estimate_vectors([pixels], "hdab")
    assert (found.hematoxylin, found.second) == PRESETS["hdab"][1:]
    assert re.search(words, found.refused)
    assert found.describe("the slide") == (
        f"preset hdab (estimate on the slide refused: {found.refused})"
    )


def test_slides_pool_and_neither_their_number_nor_the_run_changes_the_estimate():
    pixels = mixed()
    whole = estimate_vectors([pixels], "hdab")
    parts = estimate_vectors(np.array_split(pixels, 7), "hdab")
    assert parts == whole == estimate_vectors([pixels.copy()], "hdab")
    sparse = mixed(sparse=0.005, seed=3)
    assert estimate_vectors([sparse], "hdab").refused
    assert not estimate_vectors([sparse, pixels], "hdab").refused


def test_what_is_kept_reads_back_as_it_was():
    found = estimate_vectors([mixed()], "hdab")
    kept = json.loads(json.dumps(found.as_json()))
    assert tuple(kept["second"]) == found.second  # to four decimals, so exact in any notation
    assert kept["refused"] == ""
