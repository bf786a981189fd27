"""What passes for epithelium, a follicle or a fold, and must not."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.anatomy import DERMIS, EPIDERMIS
from histoquant.evidence import ground_of, weigh
from histoquant.layers import _sunken
from histoquant.nuclear_anatomy import _sparse_epithelium
from histoquant.quality.folds import find_folds
from histoquant.windowed import boxes_around

Y, X = np.mgrid[:240, :400]
ALL = np.ones(Y.shape, bool)


def test_epidermis_is_no_fold_for_standing_out_from_glass_and_dermis():
    """A fold lies across it, twice as dense; the epidermis along both sides of it does not."""
    mpp = 4.0
    tissue, dense = Y >= 60, (Y >= 60) & (Y < 80)
    stain = np.where(dense, 0.2, 0.06) * np.where(abs(X - 200) < 6, 2.2, 1.0)
    stain = np.where(tissue, stain, 0).astype(np.float32)
    folds = find_folds(stain, dense, tissue, mpp, 1.5, np.zeros_like(tissue))
    assert folds[dense & (abs(X - 200) < 5)].mean() > 0.9
    assert not folds[dense & (abs(X - 200) > 20)].any()


@pytest.mark.parametrize("neck_um", [12.0, 60.0])
def test_full_pieces_that_hang_on_the_dermis_by_a_neck_are_epithelium(neck_um):
    mpp = 2.0
    labels = np.where(Y < 60, EPIDERMIS, DERMIS).astype(np.uint8)
    wedge = (Y >= 20) & (Y < 50) & (abs(X - 200) < 30)
    neck = (Y >= 50) & (Y < 60) & (abs(X - 200) * 2 * mpp < neck_um)
    labels[wedge | neck] = DERMIS
    nuclei = (Y % 5 < 3) & (X % 5 < 3) & (Y < 60)
    taken = _sparse_epithelium(labels, nuclei, mpp)
    assert taken[wedge].mean() > 0.9 if neck_um < 20 else not taken.any()


def test_brown_counts_for_a_nucleus_only_over_blue():
    """Corneum is brown with hardly any blue beneath, a positive nucleus has both."""
    picture = np.zeros((*Y.shape, 3), np.float32)
    nucleus, corneum = (X < 100), (X > 300)
    picture[nucleus, :2] = (0.3, 0.7)
    picture[corneum, :2] = (0.05, 0.7)
    evidence = weigh(picture, ALL, "nuclear_marker", boxes_around(ALL, 2), 1)
    (stain,) = evidence.read((slice(0, 240), slice(0, 400))).stains
    assert stain[nucleus].mean() == pytest.approx(0.6)
    assert stain[corneum].mean() == pytest.approx(0.1)


def test_between_crowded_cells_lies_dermis_and_between_keratinocytes_cytoplasm():
    nuclei = ((Y % 6 < 3) & (X % 6 < 3)).astype(np.float32)
    cells = np.where(X < 200, 0.12, 0.04).astype(np.float32)
    stain = np.maximum(cells, 0.5 * nuclei)
    ground = ground_of(stain, ALL, 2.0)
    assert ground[20:-20, 20:180] == pytest.approx(0.12)
    assert ground[20:-20, 220:380] == pytest.approx(0.04)
    hidden = ALL.copy()
    hidden[:, 198:202] = False  # a line of collagen, whose pixels say nothing
    stain[~hidden] = -0.1
    assert ground_of(stain, hidden, 2.0)[20:-20, 20:380].min() == pytest.approx(0.04)


@pytest.mark.parametrize(("deep_um", "wide_um", "sunken"), [(94, 40, False), (300, 60, True)])
def test_a_ridge_with_a_vessel_at_its_tip_is_no_follicle(deep_um, wide_um, sunken):
    mpp = 4.0
    outside, epidermis = Y < 20, (Y >= 20) & (Y < 39)
    part = (abs(X - 200) * 2 * mpp < wide_um) & (Y >= 39) & ((Y - 39) * mpp < deep_um)
    surface = epidermis | part
    found = _sunken(surface, outside, np.zeros_like(surface), ~surface & ~outside, mpp)
    assert found[part].any() == sunken
    assert not found[epidermis].any()
