"""Nuclei of lymphocytes in heaps, told from those of epithelium."""

import numpy as np
import pandas as pd
import pytest

from histoquant.heaps import in_heaps, without_nuclei

RNG = np.random.default_rng
KINDS = {  # area um2, eccentricity, light: mean and standard deviation
    "epidermis": ((40, 9), (0.74, 0.1), (0.6, 0.12)),
    "lymphocyte": ((28, 4), (0.5, 0.12), (0.9, 0.14)),
}


def drawn(kind, centre_um, size_um, pitch_um=9.0, seed=0):
    """Nuclei of one kind on a loose grid around a centre (y, x), as they come from detection."""
    rng = RNG(seed)
    y, x = (np.arange(-s / 2, s / 2, pitch_um) + c for s, c in zip(size_um, centre_um, strict=True))
    places = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    places = places + rng.normal(0, 1.2, places.shape)
    columns = ("area_um2", "eccentricity", "hematoxylin_od_mean")
    looks = {
        c: rng.normal(*look, len(places)) for c, look in zip(columns, KINDS[kind], strict=True)
    }
    looks["eccentricity"] = looks["eccentricity"].clip(0, 0.98)
    return pd.DataFrame({"y_um": places[:, 0], "x_um": places[:, 1], **looks, "kind": kind})


def skin(*heaps):
    """A strip of epidermis, 60 x 600 um, and what else there is."""
    return pd.concat([drawn("epidermis", (30, 300), (60, 600)), *heaps], ignore_index=True)


def share_told(nuclei, kind):
    return in_heaps(nuclei)[nuclei["kind"] == kind].mean()


def test_a_heap_against_the_epidermis_is_told():
    nuclei = skin(drawn("lymphocyte", (90, 300), (55, 90), seed=1))
    assert share_told(nuclei, "lymphocyte") > 0.9
    assert share_told(nuclei, "epidermis") < 0.02


def test_skin_without_a_heap_has_none():
    for seed in range(5):
        assert not in_heaps(skin(drawn("epidermis", (90, 300), (55, 90), seed=seed))).any()


def test_a_few_lymphocytes_are_no_heap():
    nuclei = skin(drawn("lymphocyte", (100, 300), (9, 45), seed=2))
    assert not in_heaps(nuclei).any()


def test_brightness_and_order_do_not_matter():
    nuclei = skin(drawn("lymphocyte", (90, 300), (55, 90), seed=3))
    told = in_heaps(nuclei)
    assert told.any()
    np.testing.assert_array_equal(
        in_heaps(nuclei.assign(hematoxylin_od_mean=7 * nuclei["hematoxylin_od_mean"])), told
    )
    order = RNG(4).permutation(len(nuclei))
    np.testing.assert_array_equal(in_heaps(nuclei.iloc[order]), told[order])


@pytest.mark.parametrize("count", [0, 1, 8, 9, 30])
def test_too_few_nuclei_say_nothing(count):
    assert not in_heaps(drawn("lymphocyte", (50, 50), (60, 60))[:count]).any()


def test_nuclei_far_apart_are_no_heap():
    nuclei = skin(drawn("lymphocyte", (400, 300), (400, 400), pitch_um=40.0))
    assert not in_heaps(nuclei).any()


def test_only_the_heap_is_taken_out_of_the_picture():
    picture = np.full((60, 60), 0.5, np.float32)
    places_um = np.array([[41.0, 41.0], [41.0, 53.0], [81.0, 81.0]])
    erased = without_nuclei(picture, 2.0, places_um, np.array([True, False, False]), 0.1, 10.0)
    assert erased[20, 20] == pytest.approx(0.1)
    assert erased[20, 26] == 0.5  # nearer to the next nucleus
    assert erased[40, 40] == 0.5
    assert (erased < 0.5).sum() * 4 < np.pi * 10.5**2  # not beyond 10 um
    assert picture.min() == 0.5
    assert without_nuclei(picture, 2.0, places_um, np.zeros(3, bool), 0.1, 10.0) is picture


def test_what_is_darker_than_between_nuclei_stays():
    picture = np.full((20, 20), 0.05, np.float32)
    erased = without_nuclei(picture, 2.0, np.array([[20.0, 20.0]]), np.array([True]), 0.1, 10.0)
    np.testing.assert_array_equal(erased, picture)
