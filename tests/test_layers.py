"""Names of drawn pieces: epidermis, what opens onto it, corneum, what lies deep."""

import numpy as np
import pytest

from histoquant.layers import (
    ADNEXA,
    DERMIS,
    EPIDERMIS,
    STRATUM_CORNEUM,
    name_layers,
    spread_labels,
)

MPP = 4.0
SIZE = (240, 420)
TOP, BASE, BOTTOM = 200.0, 280.0, 800.0  # um: skin surface, junction, lower cut


def drawn():
    """Epithelium, tissue and the places (um) of a section with rete ridges; y points down."""
    y, x = (np.mgrid[: SIZE[0], : SIZE[1]] + 0.5) * MPP
    tissue = (y > TOP) & (y < BOTTOM) & (x > 150) & (x < 1530)
    epithelium = tissue & (y < BASE + 25 * np.sin(x / 20))
    return epithelium, tissue, y, x


def label(epithelium, tissue):
    return name_layers(epithelium, np.zeros_like(tissue), tissue, MPP)


def share(labels, where, code):
    return (labels[where] == code).mean()


def test_rete_ridges_are_epidermis():
    epithelium, tissue, _, _ = drawn()
    labels = label(epithelium, tissue)
    assert share(labels, epithelium, EPIDERMIS) == 1
    assert share(labels, tissue & ~epithelium, DERMIS) == 1


@pytest.mark.parametrize("lumen_um", [0.0, 25.0])
@pytest.mark.parametrize("tilt", [0.0, 0.5])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_follicle_that_opens_is_adnexa_from_the_base_of_the_epidermis_on(lumen_um, tilt, turns):
    epithelium, tissue, y, x = drawn()
    along = np.abs(x - 800 - tilt * (y - TOP))
    follicle = (along < 45) & (y > TOP) & (y < 560)
    lumen = (along < lumen_um) & (y < 450)
    epithelium, tissue = (epithelium | follicle) & ~lumen, tissue & ~lumen
    labels = np.rot90(
        label(*(np.ascontiguousarray(np.rot90(m, turns)) for m in (epithelium, tissue))), -turns
    )
    deep = follicle & ~lumen & (y > BASE + 50)
    assert share(labels, deep, ADNEXA) > 0.98
    beside = epithelium & ~follicle & (np.abs(x - 800) > 150)
    assert share(labels, beside, EPIDERMIS) == 1
    assert share(labels, epithelium & (y < BASE - 40), EPIDERMIS) > 0.99


@pytest.mark.parametrize("side", ["left", "right"])
def test_dermis_between_a_ridge_and_the_cut_edge_is_no_corneum(side):
    """A ridge that leans over the last 40 um; corneum ends at the same cut edge."""
    epithelium, tissue, y, x = drawn()
    end = x - 150 if side == "left" else 1530 - x
    ridge = (y > TOP) & (y < BASE + 70) & (end > 40) & (end < 110)
    corneum = (y > TOP - 25) & (y <= TOP) & (end > 0) & (x > 150) & (x < 1530)
    labels = label(epithelium | ridge, tissue | corneum)
    corner = tissue & (y > BASE + 30) & (y < BASE + 110) & (end < 40) & (end > 4)
    assert share(labels, corner & ~epithelium, DERMIS) > 0.95
    assert share(labels, corneum & (end > 12), STRATUM_CORNEUM) > 0.95


def test_thick_epidermis_is_not_sunken():
    """Acral skin: twice as thick, its ridges deep, with no follicles."""
    epithelium, tissue, y, x = drawn()
    epithelium = tissue & (y < TOP + 150 + 70 * np.sin(x / 25))
    assert share(label(epithelium, tissue), epithelium, EPIDERMIS) == 1


def test_a_gland_in_the_dermis_is_adnexa_and_a_flake_on_top_corneum():
    epithelium, tissue, y, x = drawn()
    gland = np.hypot(y - 550, x - 600) < 70
    flake = (y > TOP - 25) & (y <= TOP) & (np.abs(x - 900) < 300)
    labels = label(epithelium | gland, tissue | flake)
    assert share(labels, gland, ADNEXA) == 1
    assert share(labels, flake, STRATUM_CORNEUM) > 0.95
    assert share(labels, epithelium, EPIDERMIS) == 1


def test_without_glass_in_view_nothing_is_sunken():
    epithelium = np.zeros(SIZE, bool)
    epithelium[:60] = True
    labels = label(epithelium, np.ones(SIZE, bool))
    assert not (labels == EPIDERMIS).any()  # no free surface
    assert share(labels, epithelium, ADNEXA) == 1


def test_spread_labels_takes_the_nearest():
    labels = np.zeros((21, 21), np.uint8)
    labels[3, 3], labels[17, 17] = 2, 3
    spread = spread_labels(labels, labels > 0)
    y, x = np.mgrid[:21, :21]
    assert (spread[x + y < 18] == 2).all()
    assert (spread[x + y > 22] == 3).all()
    assert not spread_labels(labels, np.zeros_like(labels, bool)).any()
