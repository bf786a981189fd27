"""Tissue against glass, and the small tools it is found with."""

import cv2
import numpy as np
import pytest

from histoquant.settings import TissueSettings
from histoquant.tissue import (
    closed,
    distance_um,
    drop_small,
    find_tissue,
    focus_score,
    open_glass,
    opened,
    tissue_detail,
)

SETTINGS = TissueSettings()
MPP = 8.0


def disc(shape, centre, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def glass_of(shape=(120, 160), *, noise=0.004, vignette=0.0, seed=0):
    """OD of glass: noise, and up to `vignette` darker in the corners."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    far = np.hypot(y / shape[0] - 0.5, x / shape[1] - 0.5) ** 2 * 2
    od = np.random.default_rng(seed).normal(0, noise, (*shape, 3)) + vignette * far[..., None]
    return od.astype(np.float32)


# --- finding tissue --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("od", "channel"),
    [(0.6, None), (0.04, None), (0.05, 1), (0.05, 2)],
    ids=["dark", "pale", "pale in green only", "pale in blue only"],
)
def test_tissue_is_found_however_pale(od, channel):
    picture = glass_of(vignette=0.01)
    truth = disc(picture.shape[:2], (60, 80), 35)
    channels = slice(None) if channel is None else slice(channel, channel + 1)
    picture[..., channels][truth] += od
    found = find_tissue(picture, MPP, SETTINGS)
    assert found.dtype == bool
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95


@pytest.mark.parametrize("vignette", [0.0, 0.015])
def test_uneven_noisy_glass_is_no_tissue(vignette):
    assert not find_tissue(glass_of(vignette=vignette), MPP, SETTINGS).any()


@pytest.mark.parametrize(("radius", "kept"), [(6, False), (14, True)])
def test_small_pieces_are_debris(radius, kept):
    """0.02 mm2 is a disc of 10 pixels' radius."""
    picture = glass_of()
    picture[disc(picture.shape[:2], (60, 40), radius)] += 0.4
    assert find_tissue(picture, MPP, SETTINGS).any() == kept


@pytest.mark.parametrize(("radius", "filled"), [(3, True), (12, False)])
def test_only_small_holes_count_as_tissue(radius, filled):
    picture = glass_of()
    shape = picture.shape[:2]
    hole = disc(shape, (60, 80), radius)
    picture[disc(shape, (60, 80), 40) & ~hole] += 0.4
    assert find_tissue(picture, MPP, SETTINGS)[60, 80] == filled


def test_detail_cuts_clefts_but_not_chinks():
    """At 2 um/px: a cleft of 24 um opens, a chink of 10 um diameter and the palest fibres stay."""
    od = np.full((300, 300, 3), 0.2, np.float32)
    cleft, chink = np.s_[140:152, 50:250], disc((300, 300), (60, 60), 2.5)
    pale = np.s_[200:240, 200:240]
    od[cleft], od[chink], od[pale] = 0.0, 0.0, 0.018
    tissue = np.ones((75, 75), bool)
    tissue[:10] = False
    found = tissue_detail(od, tissue, 2.0, SETTINGS)
    assert found.shape == (300, 300)
    assert not found[144:148, 60:240].any()
    assert found[chink].all()
    assert found[pale].all()
    assert not found[:40].any()  # outside what the overview called tissue
    assert found[41:].mean() > 0.9


# --- small tools -----------------------------------------------------------------------------


def test_opened_drops_what_a_disc_does_not_fit_into():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:30], mask[28:31, 30:55] = True, True
    found = opened(mask, 10.0, 2.0)
    assert not found[:, 32:].any()
    assert found[12:48, 14:26].all()
    assert not (found & ~mask).any()


def test_closed_fills_what_a_disc_cannot_reach():
    mask = np.ones((60, 60), bool)
    mask[:, 28:32], mask[:20] = False, False
    found = closed(mask, 10.0, 2.0)
    assert found[30:, 28:32].all()
    assert not found[:18].any()
    assert not (mask & ~found).any()


@pytest.mark.parametrize(("least", "sizes"), [(1, [1, 2, 9]), (2, [2, 9]), (9, [9]), (10, [])])
def test_drop_small_counts_pixels_of_touching_pieces(least, sizes):
    mask = np.zeros((12, 12), bool)
    mask[1, 1] = True
    mask[4, 4] = mask[5, 5] = True  # corners touch: one piece
    mask[8:11, 8:11] = True
    assert drop_small(mask, least).sum() == sum(sizes)


def test_distance_is_in_um_to_the_nearest_true_pixel():
    mask = np.zeros((40, 40), bool)
    mask[10, 10] = True
    found = distance_um(mask, 2.0)
    y, x = np.mgrid[:40, :40]
    assert found == pytest.approx(2.0 * np.hypot(y - 10, x - 10), rel=0.03, abs=1e-6)
    assert np.isinf(distance_um(np.zeros((3, 3), bool), 2.0)).all()


@pytest.mark.parametrize(("width_um", "is_open"), [(30, False), (60, True)])
def test_glass_is_open_where_it_is_wider_than_a_cleft(width_um, is_open):
    tissue = np.ones((200, 200), bool)
    columns = slice(100, 100 + width_um // 2)
    tissue[:, columns] = False
    found = open_glass(tissue, 2.0)
    assert found[:, columns].any() == is_open
    assert not (found & tissue).any()


def test_glass_at_the_edge_of_the_picture_may_go_on():
    tissue = np.ones((100, 100), bool)
    tissue[:, :6] = False
    assert open_glass(tissue, 2.0)[:, :6].all()


# --- focus -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def field():
    """Round nuclei of 8 um on pale cytoplasm, at 0.5 um/px."""
    rng = np.random.default_rng(7)
    od = np.full((256, 256), 0.1, np.float32)
    for y, x in rng.uniform(0, 256, (150, 2)):
        od[disc(od.shape, (y, x), 8)] = rng.uniform(0.3, 0.7)
    return np.repeat(od[..., None], 3, axis=2)


def test_focus_falls_with_blur(field):
    blurred = [cv2.GaussianBlur(field, (0, 0), sigma) for sigma in (0.6, 1.2, 2.4, 4.8)]
    scores = [focus_score(picture) for picture in (field, *blurred)]
    assert all(a > 1.1 * b for a, b in zip(scores, scores[1:], strict=False)), scores


@pytest.mark.parametrize("factor", [0.4, 2.0])
def test_focus_does_not_depend_on_the_strength_of_the_stain(field, factor):
    assert focus_score(factor * field) == pytest.approx(focus_score(field), rel=1e-4)


def test_an_empty_field_has_a_finite_focus():
    assert focus_score(np.zeros((64, 64, 3), np.float32)) == 0
