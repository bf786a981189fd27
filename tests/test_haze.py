"""Haze of the marker: it hides nothing, unlike a line, and makes no nucleus brown."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from histoquant.anatomy import EPIDERMIS, find_compartments
from histoquant.blocks import Block
from histoquant.evidence import weigh
from histoquant.settings import AnatomySettings

Y, X = np.mgrid[:240, :400]
ALL = np.ones(Y.shape, bool)
BOX = Block(0, 0, *Y.shape)


def test_a_line_hides_what_is_below_it_and_haze_does_not():
    """Haze with gaps where nuclei are, on half of the picture, and a line on each half."""
    line = (np.abs(X - 100) < 2) | (np.abs(X - 300) < 2)
    haze = (X > 200) & ~((Y % 6 < 3) & (X % 6 < 3))
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[..., 1] = np.where(haze, 0.3, 0.05) + np.where(line, 0.4, 0)
    evidence = weigh(picture, ALL, "marker", [BOX], 2.0, 1)
    strict = replace(evidence, through_haze=False)
    assert not strict.read((slice(0, 240), slice(0, 400))).legible[haze].any()
    whole = evidence.read((slice(0, 240), slice(0, 400)))
    assert not whole.legible[line].any()
    assert whole.legible[~line & (np.abs(X - 200) > 10) & (X < 390)].all()
    assert whole.hidden[haze].all()
    window = (slice(50, 130), slice(280, 333))
    assert (evidence.read(window).legible == whole.legible[window]).all()
    corneum = replace(evidence, keratin=ALL, keratin_od=0.3)
    assert corneum.read((slice(0, 240), slice(0, 400))).legible.all()


@pytest.mark.parametrize("width_px", [2, 3, 4])
def test_a_line_beside_a_cleft_hides_what_is_below_it(width_px):
    """Glass is no haze that the line could be part of."""
    tissue = (Y < 100) | (Y >= 120)
    line = (Y >= 120) & (120 + width_px > Y)
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[..., 1] = np.where(line, 0.4, 0.05) * tissue
    evidence = weigh(picture, tissue, "marker", [BOX], 2.0, 1)
    reading = evidence.read((slice(0, 240), slice(0, 400)))
    assert reading.hidden[line].all()
    assert not reading.legible[line].any()


def test_stain_below_haze_is_capped_by_all_that_is_read():
    """Epithelium below haze is denser than anything else: its nuclei must not be cut off."""
    nucleus = (Y < 100) & (Y % 8 < 4) & (X % 8 < 4)
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[..., 0] = np.select([nucleus, Y < 100], [0.9, 0.5], 0.2)
    picture[..., 1] = np.where(Y < 100, 0.35, 0.02)
    (cap,) = weigh(picture, ALL, "marker", [BOX], 2.0, 1).caps
    assert cap > 0.85
    (strict,) = weigh(picture, ALL, "marker", [BOX], 2.0, 1, through_haze=False).caps
    assert strict < 0.25


def test_haze_is_no_marker_in_nuclei():
    """On most of the slide haze lies over cytoplasm; nuclei in it are brown on top of that."""
    nucleus = (Y % 20 < 4) & (X % 20 < 4)
    haze = X < 360
    picture = np.zeros((*Y.shape, 3), np.float32)
    picture[..., 0] = np.where(nucleus, 0.4, 0.15)
    picture[..., 1] = np.where(haze, 0.3, 0.02) + np.where(nucleus & (Y < 100), 0.5, 0)
    evidence = weigh(picture, ALL, "nuclear_marker", [BOX], 2.0, 1)
    whole = evidence.read((slice(0, 240), slice(0, 400))).stains[0]
    inner = (X < 340) & (Y > 10) & (Y < 230)
    np.testing.assert_allclose(whole[inner & ~nucleus], 0.15, atol=0.03)  # 0.3 with its haze
    assert (whole[inner & nucleus & (Y < 90)] > 0.7).all()
    window = (slice(50, 130), slice(280, 333))
    assert (evidence.read(window).stains[0] == whole[window]).all()
    clear = weigh(picture * [1, 0.2, 1], ALL, "nuclear_marker", [BOX], 2.0, 1)
    assert evidence.hazy
    assert not clear.hazy


def section(seed, dab_of):
    """Stains at 2 um/px of a section with epidermis on top, its tissue, epidermis and nuclei.

    `dab_of` gives the marker from the epidermis and a smooth random field.
    """
    rng = np.random.default_rng(seed)
    height, width = 300, 700
    y, x = np.mgrid[:height, :width]
    tissue = (y >= 40) & (y < 280) & (x >= 30) & (x < 670)
    epidermis = tissue & (y < 75 + 12 * np.sin(x / 25))
    picture = np.zeros((height, width, 3), np.float32)
    picture[..., 0] = np.where(epidermis, 0.22, 0.14)
    places = []
    for per_mm2, where in ((7000, epidermis), (900, tissue & ~epidermis)):
        pixels = np.argwhere(where)
        for row, column in rng.permutation(pixels)[: int(per_mm2 * 4e-6 * len(pixels))]:
            picture[row - 2 : row + 2, column - 2 : column + 2, 0] = 0.6
            places.append((2 * row, 2 * column))
    field = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 16)
    picture[..., 1] = dab_of(epidermis, field)
    picture += rng.normal(0, 0.03, picture.shape).astype(np.float32)
    picture[~tissue] = 0
    return cv2.GaussianBlur(picture, (0, 0), 0.7), tissue, epidermis, np.array(places, np.float64)


def epidermis_found(picture, tissue, places_um):
    od = np.full(len(places_um), 0.6)
    found = find_compartments(
        picture, tissue, 2.0, AnatomySettings(), "nuclear_marker", nuclei=lambda _: (places_um, od)
    )
    return found.labels == EPIDERMIS


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_blotches_of_haze_are_no_epidermis(share):
    """They keep far apart in brown, but hold no more nuclei than other dermis does."""
    picture, tissue, epidermis, places_um = section(
        0, lambda _, field: np.where(field > np.quantile(field, 1 - share), 0.4, 0.05)
    )
    found = epidermis_found(picture, tissue, places_um)
    assert (found & epidermis).sum() > 0.8 * epidermis.sum()
    assert (found & ~epidermis).sum() < 0.05 * epidermis.sum()


INFILTRATE = (slice(150, 220), slice(200, 400))


def infiltrate(picture, places_um, where):
    """Cells that crowd in the dermis, and their places with the others."""
    rows, columns = (a.ravel() for a in np.mgrid[where][:, ::7, ::7])
    picture[..., 0][where] = np.maximum(picture[..., 0][where], 0.3)
    for row, column in zip(rows, columns, strict=True):
        picture[row - 2 : row + 2, column - 2 : column + 2, 0] = 0.6
    return np.concatenate([places_um, 2.0 * np.stack([rows, columns], axis=1)])


@pytest.mark.parametrize("heap", ["none", "in the dermis", "about vessels", "at a cut edge"])
def test_brown_that_hides_nuclei_is_the_epidermis(heap):
    """As a strong keratin stain does. Cells that crowd in the dermis are the only ones seen."""
    picture, tissue, epidermis, places_um = section(
        1, lambda epidermis, _: np.where(epidermis, 1.2, 0.05)
    )
    places_um = places_um[~epidermis[tuple(places_um.astype(int).T // 2)]]
    picture[..., 0][epidermis] = 0.12
    if heap != "none":
        where = (slice(120, 240), slice(32, 110)) if heap == "at a cut edge" else INFILTRATE
        places_um = infiltrate(picture, places_um, where)
    if heap == "about vessels":
        for column in (230, 270, 310, 350):
            tissue[170:200, column : column + 8] = False
        picture[~tissue] = 0
    found = epidermis_found(picture, tissue, places_um)
    assert (found & epidermis).sum() > 0.9 * epidermis.sum()
    assert (found & ~epidermis).sum() < 0.1 * epidermis.sum()
