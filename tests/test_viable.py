"""Where viable epidermis ends: by nuclei where corneum is as blue as cytoplasm."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.anatomy import BACKGROUND, DERMIS, EPIDERMIS, STRATUM_CORNEUM
from histoquant.evidence import weigh
from histoquant.viable import end_at_nuclei
from histoquant.windowed import boxes_around

MPP = 2.0
Y, X = np.mgrid[:200, :400] * MPP
GLASS_UM, SURFACE_UM, JUNCTION_UM = 60.0, 90.0, 160.0
TISSUE = Y >= GLASS_UM
EITHER = TISSUE & (Y < JUNCTION_UM)
CYTOPLASM_OD, NUCLEUS_OD = 0.12, 0.4


def skin(surface_um=SURFACE_UM, nuclei=True, lamellae=True, seed=0):
    """Hematoxylin (h, w) at 2 um/px: what lies above `surface_um` is corneum, as blue as cells."""
    rng = np.random.default_rng(seed)
    stain = np.where(EITHER, CYTOPLASM_OD, 0.04)
    if lamellae:
        lines = np.sin(2 * np.pi * Y / 10.0 + 0.02 * X) > 0.6
        stain[EITHER & (surface_um > Y) & lines] = NUCLEUS_OD
    if nuclei:
        for y in np.arange(surface_um + 5, JUNCTION_UM - 3, 13):
            for x in np.arange(4, X.max(), 13):
                shift = rng.uniform(-2, 2, 2)
                stain[np.hypot(Y - y - abs(shift[0]), X - x - shift[1]) < 3.5] = NUCLEUS_OD
    stain += 0.01 * rng.standard_normal(Y.shape)
    return np.where(TISSUE, stain, 0).astype(np.float32)


def ended(stain, labels, workers=1):
    """The labels after `end_at_nuclei`."""
    boxes = boxes_around(TISSUE, 50)
    stains = np.dstack([stain, np.zeros_like(stain), np.zeros_like(stain)])
    evidence = weigh(stains, TISSUE, "marker", boxes, MPP, workers)
    after = labels.copy()
    end_at_nuclei(evidence, after, MPP, boxes, workers)
    return after


def thickness_um(labels):
    return np.count_nonzero(labels == EPIDERMIS) * MPP / Y.shape[1]


TAKEN = np.where(EITHER, EPIDERMIS, np.where(TISSUE, DERMIS, BACKGROUND)).astype(np.uint8)
"""All corneum taken for epidermis."""


@pytest.mark.parametrize("lamellae", [False, True])
def test_what_has_no_nuclei_is_corneum_however_blue(lamellae):
    after = ended(skin(lamellae=lamellae), TAKEN)
    assert (after[EITHER & (Y < SURFACE_UM - 8)] == STRATUM_CORNEUM).all()
    assert (after[EITHER & (Y > SURFACE_UM + 8)] == EPIDERMIS).all()
    assert thickness_um(after) == pytest.approx(JUNCTION_UM - SURFACE_UM, abs=5.0)
    assert (after[~EITHER] == TAKEN[~EITHER]).all()


def test_of_corneum_that_was_found_too_deep_some_is_given_back():
    """The stain tells it, against the odds of the first line."""
    labels = TAKEN.copy()
    labels[EITHER & (Y < SURFACE_UM + 8)] = STRATUM_CORNEUM
    stain = skin(lamellae=False)
    stain[EITHER & (Y < SURFACE_UM)] = 0.02
    after = ended(stain, labels)
    assert thickness_um(after) > thickness_um(labels) + 1.5
    assert (after[EITHER & (Y < SURFACE_UM)] == STRATUM_CORNEUM).all()


def test_where_corneum_is_lost_epidermis_reaches_to_the_glass():
    after = ended(skin(surface_um=GLASS_UM), TAKEN)
    assert (after == TAKEN).all()


def test_without_nuclei_nothing_is_changed():
    after = ended(skin(nuclei=False), TAKEN)
    assert (after == TAKEN).all()


def test_the_answer_does_not_depend_on_threads():
    stain = skin()
    assert (ended(stain, TAKEN) == ended(stain, TAKEN, workers=3)).all()


@pytest.mark.parametrize(("wide_um", "stays"), [(0, False), (120, True)])
def test_what_rises_into_corneum_like_nuclei_must_be_wide(wide_um, stays):
    """A column of dark bits one above the other is no row of nuclei."""
    stain = skin(lamellae=False)
    middle = 400.0
    for y in np.arange(66.0, SURFACE_UM, 11):
        for x in np.arange(middle - wide_um / 2, middle + wide_um / 2 + 1, 11):
            stain[np.hypot(Y - y, X - x) < 3.5] = NUCLEUS_OD
    after = ended(stain, TAKEN)
    risen = (Y > 64) & (Y < 72) & (np.abs(X - middle) < 4)
    assert (after[risen] == (EPIDERMIS if stays else STRATUM_CORNEUM)).all()
