"""What passes for epithelium, a follicle or a fold, and must not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from histoquant.anatomy import ADNEXA, BACKGROUND, DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.artefacts import BLUR, FOLD
from histoquant.blocks import Block
from histoquant.border import FULL, sharpen
from histoquant.brown import brown_surface
from histoquant.epithelium import find_crowds, find_epithelium
from histoquant.evidence import Coarse, Looks, average, ground_of, weigh
from histoquant.layers import CROWDED, dense_keratin, name_layers
from histoquant.nuclear_anatomy import (
    Nuclei,
    _corners,
    _end_at_nuclei,
    _full_notches,
    _rows,
    divide_by_nuclei,
)
from histoquant.quality import hide
from histoquant.quality.folds import find_folds
from histoquant.settings import AnatomySettings
from histoquant.windowed import boxes_around

Y, X = np.mgrid[:240, :400]
ALL = np.ones(Y.shape, bool)
BOX = Block(0, 0, *Y.shape)
COARSE_UM = 4.0


def coarse(hematoxylin, ground=None, hidden=None, tissue=ALL):
    """Evidence at 4 um/px as `average` would give it."""
    hematoxylin, ground, hidden = (
        np.asarray(np.zeros(Y.shape) if layer is None else layer, np.float32)
        for layer in (hematoxylin, ground, hidden)
    )
    legible = tissue.astype(np.float32)
    return Coarse(BOX, COARSE_UM, tissue, legible, hidden, hematoxylin, [hematoxylin], ground)


def skin_with_double(double, seed=0):
    """Density, epidermis and tissue at 4 um/px: epidermis 80 um thick, `double` lies twice."""
    grain = 1 + 0.25 * np.random.default_rng(seed).standard_normal(Y.shape)
    tissue, dense = Y >= 60, (Y >= 60) & (Y < 80)
    stain = np.where(dense, 0.2, 0.06) * np.where(double, 2.0, 1.0) * grain
    return np.where(tissue, stain, 0).astype(np.float32), dense, tissue


@pytest.mark.parametrize("lean_deg", [0, -25, 40])
@pytest.mark.parametrize("passes_for_keratin", [False, True])
def test_a_fold_is_followed_through_the_dermis_and_not_along_the_epidermis(
    lean_deg, passes_for_keratin
):
    """Where it lies in the epidermis it is as long as wide: no direction is seen in it alone."""
    fold = np.abs((X - 200) * np.cos(np.radians(lean_deg))
                  + (Y - 70) * np.sin(np.radians(lean_deg))) < 9  # fmt: skip
    stain, dense, tissue = skin_with_double(fold)
    keratin = fold & dense & passes_for_keratin
    folds = find_folds(stain, dense & ~keratin, tissue, 4.0, 1.5, keratin)
    assert folds[fold & tissue].mean() > 0.85
    beside = ~np.roll(fold, 6, axis=1) & ~np.roll(fold, -6, axis=1) & ~fold
    assert folds[tissue & beside].mean() < 0.005


def test_epidermis_that_was_taken_for_keratin_is_no_fold():
    """It lies along the surface, and what is called epidermis is half as dense."""
    stain, dense, tissue = skin_with_double(np.zeros(Y.shape, bool))
    wrong = (Y >= 120) & (Y < 150) & (X > 100) & (X < 200)
    stain[wrong] = 0.11
    assert not find_folds(stain, wrong, tissue, 4.0, 1.5, dense).any()


def test_a_heap_of_lymphocytes_is_no_fold_however_dense():
    heap = np.hypot(Y - 130, X - 200) < 14
    stain, dense, tissue = skin_with_double(np.zeros_like(heap))
    stain[heap] = 0.4
    assert not find_folds(stain, dense, tissue, 4.0, 1.5).any()


def test_a_small_piece_of_dermis_beside_corneum_is_none():
    labels = np.where(Y < 60, EPIDERMIS, DERMIS).astype(np.uint8)
    labels[Y < 30] = STRATUM_CORNEUM
    corner, island = (Y < 50) & (X < 20), (abs(Y - 50) < 4) & (abs(X - 200) < 4)
    labels[corner | island] = DERMIS
    np.testing.assert_array_equal(_corners(labels, 2.0), corner)
    labels[80:] = BACKGROUND  # a shave: there is no other dermis
    labels[:, 60:] = BACKGROUND
    assert not _corners(labels, 2.0).any()


@pytest.mark.parametrize("sheet", [False, True])
def test_by_nuclei_epidermis_ends_above_the_outermost_but_not_at_bits_of_keratin(sheet):
    mpp = 2.0
    labels = np.where(Y < 70, EPIDERMIS, DERMIS).astype(np.uint8)
    labels[Y < 20] = BACKGROUND
    y, x = (grid.ravel() for grid in np.mgrid[45:70:6, 3:398:6])
    nuclear = np.zeros(Y.shape, np.float32)
    nuclear[y, x] = 0.5
    if sheet:  # and what passed for nuclei in it
        nuclear[30] = 0.5
        y, x = np.r_[y, np.full(40, 30)], np.r_[x, np.arange(5, 400, 10)]
    places_um = (np.stack([y, x], axis=1) + 0.5) * mpp
    nothing = np.zeros(Y.shape, bool)
    _end_at_nuclei(labels, nuclear, nothing, places_um, labels > 0, mpp)
    top = (labels == EPIDERMIS).argmax(axis=0)[20:-20]
    # Row 45, its radius of 3 um and 3 um of cytoplasm, each a whole pixel of 2 um.
    assert abs(top - 43).max() <= 1
    assert (labels[20:40] == STRATUM_CORNEUM).all()
    assert (labels[50:70] == EPIDERMIS).all()


def test_collagen_that_shines_as_much_as_dim_nuclei_is_dermis():
    mpp = 2.0
    tissue, skin = (Y >= 20) & (Y < 180), (Y >= 20) & (Y < 60)
    rng = np.random.default_rng(0)
    fibres = cv2.GaussianBlur(rng.normal(0, 1, Y.shape).astype(np.float32), (0, 0), 1.5)
    nuclear = np.where(tissue, 0.2 + 0.12 * fibres / fibres.std(), 0).astype(np.float32)
    nuclear[skin] = 0.2
    places = [(y, x) for y in range(23, 60, 5) for x in range(3, 398, 5)]
    places += [tuple(p) for p in rng.integers((64, 4), (176, 396), (60, 2))]
    for y, x in places:
        cv2.circle(nuclear, (int(x), int(y)), 1, 0.7, cv2.FILLED)
    places_um, area_um2 = (np.array(places) + 0.5) * mpp, np.full(len(places), 30.0)
    settings = AnatomySettings()
    nuclei = Nuclei(places_um, area_um2, np.zeros(len(places_um), bool))
    found = divide_by_nuclei(nuclear, tissue, mpp, (0.2, 0.7), nuclei, settings)
    assert found.has_epidermis, found.reason
    assert (found.labels[90:175, 20:-20] == DERMIS).mean() > 0.98
    assert (found.labels[30:52, 20:-20] == EPIDERMIS).mean() > 0.98


def test_basal_nuclei_that_lie_apart_are_epidermis_where_looks_are_sure():
    labels = np.full((100, 100), DERMIS, np.uint8)
    labels[:40] = EPIDERMIS
    x_um = np.array([40.0, 60.0, 80.0, 140.0, 160.0])
    y_um = np.array([86.0, 86.0, 86.0, 86.0, 120.0])
    sure = np.array([True, True, True, False, True])
    nuclei = Nuclei(np.stack([y_um, x_um], 1), np.full(5, 50.0), sure)
    added = _rows(labels, nuclei, 2.0)
    assert added[43, [20, 30, 40]].all()
    assert not added[:, 60:].any()  # unsure, and too far below
    assert not added[:40].any()
    assert (added.any(axis=1).nonzero()[0] < 50).all()
    assert not _rows(labels, nuclei.of(~sure), 2.0).any()


def test_by_too_few_nuclei_the_end_of_epidermis_stays():
    labels = np.where(Y < 70, EPIDERMIS, DERMIS).astype(np.uint8)
    labels[Y < 20] = BACKGROUND
    before = labels.copy()
    nuclear = np.zeros(Y.shape, np.float32)
    for places_um in (np.zeros((0, 2)), np.array([[120.0, 100.0], [120.0, 600.0]])):
        _end_at_nuclei(labels, nuclear, nuclear > 0, places_um, labels > 0, 2.0)
        np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("spacing_px", [5, 14])
def test_a_notch_full_of_nuclei_is_epidermis_and_a_papilla_is_not(spacing_px):
    mpp = 2.0
    labels = np.where(Y < 60, EPIDERMIS, DERMIS).astype(np.uint8)
    notch = (Y >= 52) & (Y < 60) & (abs(X - 200) < 9)
    labels[notch] = DERMIS
    dermis = (Y >= 52) & (Y % spacing_px < 3) & (X % spacing_px < 3)
    nuclei = np.where((Y < 52) | notch, dermis | ((Y % 5 < 3) & (X % 5 < 3) & (Y < 52)), False)
    taken = _full_notches(labels, nuclei, mpp)
    assert taken[notch].mean() > 0.5 if spacing_px == 5 else not taken.any()
    assert not taken[~notch].any()


def test_brown_counts_for_a_nucleus_only_over_blue():
    """Corneum is brown with hardly any blue beneath, a positive nucleus has both."""
    picture = np.zeros((*Y.shape, 3), np.float32)
    nucleus, corneum = (X < 40), (X > 370)
    picture[nucleus, :2] = (0.3, 0.7)
    picture[corneum, :2] = (0.05, 0.7)
    evidence = weigh(picture, ALL, "nuclear_marker", boxes_around(ALL, 2), 2.0, 1)
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


# Epidermis of 72 um under corneum of 16 um, at 4 um/px.
GLASS, CORNEUM, EPITHELIUM = Y < 20, (Y >= 20) & (Y < 24), (Y >= 24) & (Y < 42)
NO_KERATIN = np.zeros_like(ALL)


def test_a_follicle_that_opens_is_no_epidermis_and_a_papilla_is_no_follicle():
    beside = np.abs(X - 200)
    canal = (beside < 4) & (Y >= 20) & (Y < 100)
    walls = (beside >= 4) & (beside < 9) & (Y >= 24) & (Y < 100)
    papilla = (np.abs(X - 100) < 4) & (Y >= 32) & (Y < 42)
    epithelium = (EPITHELIUM & ~canal & ~papilla) | walls
    looks = coarse(np.where(epithelium, 0.2, 0.05), tissue=~GLASS).looks()
    labels = name_layers(epithelium, NO_KERATIN, ~GLASS, COARSE_UM, looks)
    assert (labels[canal & (Y < 95)] == STRATUM_CORNEUM).all()
    assert (labels[walls & (Y > 34)] == ADNEXA).all()
    assert (labels[papilla] == DERMIS).all()
    assert (labels[EPITHELIUM & ~papilla & (beside > 14)] == EPIDERMIS).all()
    assert (labels[CORNEUM] == STRATUM_CORNEUM).all()


def test_a_canal_with_little_keratin_is_one():
    """Lamellae bridge it every now and then, and the rest is empty."""
    beside = np.abs(X - 200)
    canal = (beside < 4) & (Y >= 20) & (Y < 100)
    walls = (beside >= 4) & (beside < 9) & (Y >= 24) & (Y < 100)
    epithelium = (EPITHELIUM & ~canal) | walls
    tissue = ~GLASS & ~(canal & (Y % 3 > 0))
    looks = coarse(np.where(epithelium, 0.2, 0.05), tissue=tissue).looks()
    labels = name_layers(epithelium, NO_KERATIN, tissue, COARSE_UM, looks)
    assert (labels[walls & (Y > 34)] == ADNEXA).all()
    assert (labels[EPITHELIUM & (beside > 14)] == EPIDERMIS).all()


def test_epidermis_beside_a_crack_stays_epidermis():
    beside = np.abs(X - 200)
    tissue = ~GLASS & ~((beside < 3) & (Y < 41))
    looks = coarse(np.where(EPITHELIUM, 0.2, 0.05), tissue=tissue).looks()
    labels = name_layers(EPITHELIUM & tissue, NO_KERATIN, tissue, COARSE_UM, looks)
    assert (labels[EPITHELIUM & tissue] == EPIDERMIS).all()


def test_gaps_between_lamellae_of_corneum_bring_no_ridge_nearer_to_a_follicle():
    """A ridge of 80 um: if a gap above it were no surface, it would lie 240 um deep."""
    ridge = (np.abs(X - 200) < 12) & (Y >= 42) & (Y < 62)
    epithelium = EPITHELIUM | ridge
    gap = (Y >= 18) & (Y < 22) & (np.abs(X - 200) < 60)
    tissue = (Y >= 16) & ~gap
    looks = coarse(np.where(epithelium, 0.2, 0.05), tissue=tissue).looks()
    labels = name_layers(epithelium, NO_KERATIN, tissue, COARSE_UM, looks)
    assert (labels[epithelium] == EPIDERMIS).all()


def test_the_inside_of_thin_epidermis_is_no_keratin():
    """Half of it is a rim that blur made pale; a follicle's keratin is denser than its inside."""
    thin = (Y >= 24) & (Y < 34)
    rim = thin & ((Y < 27) | (Y >= 31))
    stain = np.where(thin, np.where(rim, 0.1, 0.26), 0.05)
    looks = coarse(np.where(GLASS, 0, stain), tissue=~GLASS).looks()
    (found,) = dense_keratin([looks], [thin], beside_marker=True)
    assert not found.any()
    plug = thin & (X > 100) & (X < 130)
    stain = np.where(plug, 0.9, stain)
    ground = np.where(plug, 0.8, 0.5) * stain
    looks = coarse(np.where(GLASS, 0, stain), ground=ground, tissue=~GLASS).looks()
    (found,) = dense_keratin([looks], [thin], beside_marker=True)
    assert found[plug & ~rim].all()


def test_lymphocytes_that_crowd_at_a_cut_edge_are_no_keratin():
    """As dense as a plug of keratin, which is dense between the nuclei, too."""
    plug = EPITHELIUM & (X > 100) & (X < 130)
    crowd = (Y >= 40) & (X > 300) & (X < 330)
    stain = np.where(plug | crowd, 0.4, np.where(EPITHELIUM, 0.2, 0.05))
    ground = np.where(crowd, 0.05, np.where(plug, 0.38, np.where(EPITHELIUM, 0.12, 0.04)))
    looks = coarse(stain, ground=ground, tissue=~GLASS).looks()
    (found,) = dense_keratin([looks], [EPITHELIUM], beside_marker=True)
    assert found[plug & (X > 106) & (X < 124) & (Y > 26) & (Y < 36)].all()
    assert not found[crowd].any()


def test_flakes_that_look_as_dermis_does_are_corneum_for_lying_free():
    flake = (Y >= 8) & (Y < 22) & (X > 120) & (X < 280)
    bridge = (Y >= 22) & (Y < 24) & (X > 190) & (X < 196)
    tissue = (Y >= 24) | flake | bridge
    looks = coarse(np.where(tissue, np.where(EPITHELIUM, 0.2, 0.05), 0), tissue=tissue).looks()
    labels = name_layers(EPITHELIUM, NO_KERATIN, tissue, COARSE_UM, looks)
    assert (labels[flake] == STRATUM_CORNEUM).mean() > 0.95
    assert (labels[Y > 60] == DERMIS).all()


def test_keratin_that_fills_a_wide_canal_is_corneum_for_not_looking_as_dermis_does():
    """A ball of flakes, 160 um wide, in the mouth of a follicle."""
    away = np.hypot(Y - 30, X - 200)
    flakes = (away < 20) & (Y >= 14)
    wall = (away >= 20) & (away < 32) & (Y >= 20)
    epithelium = ((EPITHELIUM & (away >= 20)) | wall) & ~flakes
    tissue = ~GLASS | flakes
    stain = np.where(epithelium, 0.2, np.where(flakes, 0.1, 0.06)).astype(np.float32)
    nuclei = np.where(flakes, 0.08, 0.03)
    half = (layer.astype(np.float16) for layer in (nuclei, np.zeros(Y.shape)))
    looks = Looks(BOX, COARSE_UM, tissue, stain, *half)
    labels = name_layers(epithelium, NO_KERATIN, tissue, COARSE_UM, looks)
    assert (labels[flakes & (away < 17)] == STRATUM_CORNEUM).all()
    assert (labels[Y > 80] == DERMIS).all()


def test_corneum_stays_corneum_beside_an_epidermis_that_was_drawn_shorter():
    """Beyond the end of the epidermis it hangs together with the dermis."""
    corneum = (Y >= 20) & (Y < 32)
    wide = (Y >= 32) & (Y < 50)
    short = wide & (Y >= 35) & (X < 340)
    before = name_layers(wide, NO_KERATIN, ~GLASS, COARSE_UM)
    assert (before[corneum] == STRATUM_CORNEUM).mean() > 0.95
    alone, told = (
        name_layers(short, NO_KERATIN, ~GLASS, COARSE_UM, before=old) for old in (None, before)
    )
    kept = corneum & (X < 330)
    assert (told[kept] == STRATUM_CORNEUM).mean() > 0.95
    assert (told[short] == EPIDERMIS).all()
    assert (alone[Y > 80] == DERMIS).all()


def dense_dermis():
    """Epidermis, and bundles of collagen in the depth and at the lower edge nearly as dense."""
    rng = np.random.default_rng(8)
    bundles = ((Y >= 90) & (Y < 140) & (X > 60) & (X < 180)) | ((Y >= 190) & (X > 200))
    mean = np.where(EPITHELIUM, 0.20, np.where(bundles, 0.125, 0.06))
    ground = np.where(EPITHELIUM, 0.10, np.where(bundles, 0.07, 0.03))
    noise = [cv2.GaussianBlur(rng.normal(0, 1, Y.shape), (0, 0), 0.8) for _ in range(2)]
    tissue = ~GLASS & (Y < 230)
    layers = (np.where(tissue, m + 0.02 * n, 0) for m, n in zip((mean, ground), noise, strict=True))
    return coarse(*layers, tissue=tissue), bundles


def test_bundles_of_collagen_neither_teach_nor_are_epithelium():
    field, bundles = dense_dermis()
    told = find_epithelium([field], AnatomySettings(), beside_marker=True)
    (found,) = told.epithelium
    assert found[EPITHELIUM].mean() > 0.9
    assert not found[bundles].any()
    assert told.nuclei_ratio > 1.5


@pytest.mark.parametrize(("brown", "name"), [(0.0, DERMIS), (0.6, STRATUM_CORNEUM)])
def test_dermis_beyond_a_follicle_is_told_by_its_looks(brown, name):
    """It lies between glass and epithelium, thin, and smaller than what is left of the dermis."""
    follicle = (np.abs(X - 250) < 8) & (Y >= 42) & (Y < 60)
    tissue = ~GLASS & (np.where(X > 250, 60, 160) > Y) & (X < 380)
    beyond = tissue & (X >= 260) & (Y >= 42)
    stain = np.where(EPITHELIUM | follicle, 0.2, 0.05).astype(np.float32)
    shares = np.where(beyond, brown, 0.0)
    half = (layer.astype(np.float16) for layer in (stain / 4, shares))
    looks = Looks(BOX, COARSE_UM, tissue, stain, *half)
    epithelium = tissue & (EPITHELIUM | follicle)
    labels = name_layers(epithelium, NO_KERATIN, tissue, COARSE_UM, looks)
    inner = beyond & (Y > 46) & (Y < 56) & (X > 265) & (X < 370)
    assert (labels[inner] == name).mean() > 0.95


def test_a_few_cells_apart_in_the_epidermis_are_no_crowd():
    """Paler between them than most of it, as real crowds are, but so few that it may be chance."""
    for right, found in ((130, False), (250, True)):
        rng = np.random.default_rng(3)
        below = (Y >= 42) & (Y < 50) & (X > 100) & (right > X)
        ground = np.where(EPITHELIUM, 0.13, np.where(below, 0.09, 0.05))
        ground = ground + rng.normal(0, 0.005, Y.shape)
        stain = np.where(EPITHELIUM | below, 0.2, 0.08) + rng.normal(0, 0.005, Y.shape)
        field = coarse(np.where(GLASS, 0, stain), np.where(GLASS, 0, ground), tissue=~GLASS)
        (crowd,) = find_crowds([field], [EPITHELIUM | below], [Y >= 33])
        assert crowd.any() == found, right


@pytest.mark.parametrize("between", [0.05, 0.13])
def test_cells_are_a_crowd_when_dermis_lies_between_them(between):
    """As dense as epithelium; what lies between them is cytoplasm, or it is not."""
    rng = np.random.default_rng(3)
    below = (Y >= 42) & (Y < 52) & (X > 100) & (X < 250)
    whole = EPITHELIUM | below
    spread = rng.normal(0, 0.02, (3, *Y.shape))
    ground = np.where(EPITHELIUM, 0.13, np.where(below, between, 0.05)) + spread[0]
    stain = np.where(whole, 0.2, 0.08) + spread[1]
    field = coarse(np.where(GLASS, 0, stain), np.where(GLASS, 0, ground), tissue=~GLASS)
    (crowd,) = find_crowds([field], [whole], [Y >= 33])
    assert crowd[below & (X > 104) & (X < 246) & (Y > 43)].mean() > (0.9 if between < 0.1 else -1)
    assert crowd[EPITHELIUM & (Y < 38)].mean() < 0.02
    assert crowd.any() == (between < 0.1)


def test_a_crowd_does_not_run_on_along_the_blurred_rim_of_epithelium():
    """The rim is as pale as a crowd, and hangs together with it."""
    rng = np.random.default_rng(3)
    crowd = (Y >= 42) & (Y < 52) & (X > 100) & (X < 160)
    rim = (Y >= 42) & (Y < 44) & (X >= 160) & (X < 340)
    whole = EPITHELIUM | crowd | rim
    spread = rng.normal(0, 0.02, (2, *Y.shape))
    ground = np.where(EPITHELIUM, 0.13, 0.05) + spread[0]
    stain = np.where(whole, 0.2, 0.08) + spread[1]
    field = coarse(np.where(GLASS, 0, stain), np.where(GLASS, 0, ground), tissue=~GLASS)
    (found,) = find_crowds([field], [whole], [Y >= 33])
    assert found[crowd & (X > 104) & (X < 156)].mean() > 0.9
    assert not found[X > 170].any()


@pytest.mark.parametrize(
    ("rows", "apart", "found"), [(14, 0, True), (5, 0, False), (14, 12, False)]
)
def test_a_wide_crowd_need_not_be_as_pale(rows, apart, found):
    """A row of basal cells is narrow; glands lie apart from the surface."""
    rng = np.random.default_rng(3)
    top = 42 + apart
    below = (top <= Y) & (top + rows > Y) & (X > 100) & (X < 150)
    ground = np.where(EPITHELIUM, 0.13, np.where(below, 0.1, 0.05))
    ground = ground + rng.normal(0, 0.005, Y.shape)
    stain = np.where(EPITHELIUM | below, 0.2, 0.08) + rng.normal(0, 0.005, Y.shape)
    field = coarse(np.where(GLASS, 0, stain), np.where(GLASS, 0, ground), tissue=~GLASS)
    (crowd,) = find_crowds([field], [EPITHELIUM | below], [Y >= 33])
    assert crowd.any() == found
    assert not crowd[~below & (Y < 38)].any()


def test_the_border_with_a_crowd_runs_where_cytoplasm_ends():
    """Nuclei lie as close on both sides of it, and the first guess is 10 um off."""
    border = 100
    stain = np.where(border > Y, 0.14, 0.03).astype(np.float32)
    stain[(Y % 5 < 2) & (X % 5 < 2)] = 0.5
    stain[Y >= 160] = 0.03
    picture = np.dstack([stain, np.zeros_like(stain), np.zeros_like(stain)])
    labels = np.select([border + 5 > Y, Y < 160], [EPIDERMIS, CROWDED], DERMIS).astype(np.uint8)
    evidence = weigh(picture, ALL, "marker", [BOX], 2.0, 1)
    inside, _ = sharpen(evidence, labels, 2.0, AnatomySettings(), [BOX])
    off = inside[:, 20:-20].sum(axis=0) - border
    assert np.abs(off).max() <= 2


def test_corneum_is_brown_along_the_surface_with_no_more_blue_than_epithelium():
    sheet = CORNEUM & (X < 200)
    nuclei = (Y >= 24) & (Y < 27) & (X >= 200)  # a row of positive ones under corneum
    pool = np.hypot(Y - 100, X - 300) < 30
    brown = sheet | nuclei | pool
    blue = np.where(EPITHELIUM, 0.15, 0.05) + np.where(nuclei, 0.25, 0)
    field = coarse(np.where(GLASS, 0, blue), hidden=brown, tissue=~GLASS)
    (found,), most_od = brown_surface([field], [EPITHELIUM])
    assert found[sheet & (X < 195)].all()
    assert not found[nuclei | pool | (EPITHELIUM & (Y > 26))].any()
    assert 0.15 < most_od < 0.4
    assert not brown_surface([field], [NO_KERATIN])[0][0].any()


def test_in_a_brown_corneum_brown_tells_against_epithelium_but_not_over_blue():
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[X < 100, :2] = (0.1, 0.5)  # corneum
    picture[X > 300, :2] = (0.4, 0.5)  # a positive nucleus beside it
    plain = weigh(picture, ALL, "nuclear_marker", [BOX], 2.0, 1)
    window = (slice(0, 240), slice(0, 400))
    against = replace(plain, keratin=ALL, keratin_od=0.3).read(window).stains[0]
    assert (against[X < 100] == 0).all()
    assert (against[X > 300] == plain.read(window).stains[0][X > 300]).all()


def test_epithelium_in_a_blotch_of_haze_is_no_corneum():
    """As brown as corneum and as far out, but it holds nuclei as other epithelium does."""
    blotch = EPITHELIUM & (X > 250)
    sheet = CORNEUM & (X < 200)
    ground = np.where(EPITHELIUM, 0.1, 0.05)
    blue = np.where(EPITHELIUM, 0.15, 0.05)
    field = coarse(np.where(GLASS, 0, blue), np.where(GLASS, 0, ground),
                   hidden=sheet | blotch | (CORNEUM & (X > 250)), tissue=~GLASS)  # fmt: skip
    (found,), _ = brown_surface([field], [EPITHELIUM])
    assert found[sheet & (X < 195)].all()
    assert not found[blotch].any()


def test_what_a_fold_hides_is_taken_for_what_lies_beside_it():
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[..., 0] = np.where(Y < 120, 0.3, 0.1)
    fold = np.abs(X - 200) < 20
    picture[fold] *= 3
    evidence = weigh(picture, ALL, "marker", [BOX], 2.0, 1, fold)
    field = average(evidence, BOX, 2, 2.0, 1)
    assert evidence.caps[0] == pytest.approx(0.3, abs=0.01)
    assert field.capped[0][:55] == pytest.approx(0.3, abs=0.01)
    assert field.hematoxylin[65:] == pytest.approx(0.1, abs=0.01)
    assert not evidence.read((slice(0, 240), slice(0, 400))).legible[fold].any()


def test_hidden_tissue_has_no_compartment_and_blurred_tissue_keeps_its_own():
    labels = np.full(Y.shape, EPIDERMIS, np.uint8)
    codes = np.where(X < 50, FOLD, np.where(X > 350, BLUR, 0)).astype(np.uint8)
    whole = Compartments(labels, 2.0, np.full(Y.shape, FULL, np.int8), artefacts=codes)
    shown = hide(whole)
    assert (shown.labels == np.where(X < 50, BACKGROUND, EPIDERMIS)).all()
    assert (shown.score == np.where(X < 50, -FULL, FULL)).all()
    assert (whole.labels == EPIDERMIS).all()
    bare = replace(whole, artefacts=None)
    assert hide(bare) is bare
