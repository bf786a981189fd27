"""Follicles that open on the skin, and cut edges: which epithelium there is no epidermis."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.cut_edges import beside_cut_edges
from histoquant.follicles import find_sunken
from histoquant.layers import ADNEXA, EPIDERMIS, name_layers
from histoquant.tissue import distance_um

MPP = 4.0
Y, X = np.mgrid[:260, :400]
NOTHING = np.zeros(Y.shape, bool)


def sunken(surface, outside=Y < 20, cut=NOTHING):
    dermis = ~surface & ~outside
    return find_sunken(surface, outside, cut, NOTHING, dermis, MPP)


def strip(x, deep_um, wide_um, lean=0.0, top=39):
    """A part of epithelium below a plate: its middle at the top, its depth, its width."""
    return (
        (np.abs(X - x - lean * (Y - top)) * 2 * MPP < wide_um)
        & (top <= Y)
        & ((Y - top) * MPP < deep_um)
    )


PLATE = (Y >= 20) & (Y < 39)


@pytest.mark.parametrize(("deep_um", "wide_um", "sinks"), [(94, 40, False), (300, 60, True)])
def test_a_ridge_with_a_vessel_at_its_tip_is_no_follicle(deep_um, wide_um, sinks):
    part = strip(200, deep_um, wide_um)
    found = sunken(PLATE | part)
    assert found[part].any() == sinks
    assert not found[PLATE].any()


def test_walls_of_follicles_do_not_draw_the_level_down():
    """Two long follicles in a short section are most of its border, and still cut off high up."""
    short = (X > 120) & (X < 280)
    follicles = strip(160, 640, 60) | strip(240, 640, 60)
    found = sunken((PLATE | follicles) & short, outside=(Y < 20) | ~short)
    assert found[follicles & (Y > 55)].all()
    assert not found[PLATE].any()


def test_a_ridge_that_has_grown_together_with_a_follicle_stays():
    follicle = strip(200, 500, 60)
    ridge = (Y >= 39) & (Y < 49) & (X >= 200) & (X < 250)
    ridges = np.logical_or.reduce([strip(x, 30, 40) for x in range(20, 400, 30) if x < 170])
    found = sunken(PLATE | follicle | ridge | ridges)
    assert found[follicle & (Y > 60)].all()
    assert not found[ridge & (X > 235)].any()


def section(epithelium, tissue):
    return name_layers(epithelium & tissue, np.zeros_like(tissue), tissue, MPP)


# 600 um of skin with a straight cut edge on either side, at 4 um/px.
TISSUE = (Y >= 20) & (Y < 240) & (X >= 60) & (X < 340)


def test_a_follicle_laid_open_along_a_cut_edge_is_no_epidermis():
    skin = TISSUE & (Y < 38)
    wall = TISSUE & (X >= 322) & (Y >= 60) & (Y < 140)
    labels = section(skin | wall, TISSUE)
    assert (labels[wall & (Y > 80)] == ADNEXA).mean() > 0.95
    assert (labels[skin & (X < 300)] == EPIDERMIS).all()


def test_epidermis_on_both_sides_of_a_gap_or_round_a_bend_is_skin():
    gap = (X > 150) & (X < 220)
    skin = TISSUE & (Y < 38) & ~gap
    assert (section(skin, TISSUE)[skin] == EPIDERMIS).all()
    # Bent to half a circle of 700 um, with a gap of 41 degrees and a bare end: no sharp corner.
    away, angle = np.hypot(Y - 240.0, X - 200.0), np.arctan2(240.0 - Y, X - 200.0)
    bent = (away < 175) & (Y < 240)
    rim = bent & (away > 157) & (np.abs(angle - 2.0) > 0.36) & (angle < np.pi - 0.2)
    labels = section(rim, bent)
    assert (labels[rim] == EPIDERMIS).mean() > 0.99


def test_the_end_of_the_skin_is_no_cut_edge_of_its_own():
    assert not beside_cut_edges(TISSUE, TISSUE & (Y < 38), MPP).any()
    assert not beside_cut_edges(TISSUE, NOTHING, MPP).any()


@pytest.mark.parametrize("follicles", [1, 3])
def test_a_smaller_part_of_the_skin_with_a_follicle_is_skin(follicles):
    y, x = np.mgrid[:300, :900]
    tissue = (y >= 20) & (y < 280) & (x >= 40) & (x < 860)
    skin = tissue & (y < 38) & ((x < 600) | (x >= 660))
    own = np.zeros_like(tissue)
    for middle in [740, 150, 300, 450][: follicles + 1]:
        own |= (np.abs(x - middle) < 8) & (y >= 38) & (y < 188)
    labels = section(skin | own, tissue)
    assert (labels[skin] == EPIDERMIS).mean() > 0.99
    assert (labels[own & (y > 70)] == ADNEXA).all()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("high_um", [132, 212])
@pytest.mark.parametrize("taper", [0.0, -0.2])
def test_skin_beyond_a_papilloma_is_skin(high_um, taper, mirror):
    """On slanted ends a flank and what lies beyond it turn as a cut edge does."""
    y, x = np.mgrid[:420, :1180]
    tissue = (y >= 150) & (y < 400) & (x >= 40) & (x < 840 + (y - 150))
    tissue |= (np.abs(x - 590) < 50 + taper * (y - 150)) & (y >= 150 - high_um / 4) & (y <= 150)
    sky = ~tissue & (y < 151) & (x >= 40) & (x < 840)
    skin = tissue & (distance_um(sky, MPP) <= 76)
    if mirror:
        tissue, skin, x = (np.ascontiguousarray(m[:, ::-1]) for m in (tissue, skin, x))
    labels = section(skin, tissue)
    assert (labels[skin & (x > 660)] == EPIDERMIS).mean() > 0.99


def test_skin_as_long_on_two_sides_of_an_edge_is_skin():
    skin = TISSUE & ((Y < 38) | ((X >= 322) & (Y < 220)))
    assert (section(skin, TISSUE)[skin] == EPIDERMIS).all()


def test_epithelium_all_round_or_on_both_sides_has_no_cut_edge():
    inner = (Y >= 38) & (Y < 222) & (X >= 78) & (X < 322)
    gap = (X >= 322) & (np.abs(Y - 130) < 30)
    assert not beside_cut_edges(TISSUE, TISSUE & ~inner & ~gap, MPP).any()
    # An ear: two sides that meet in a sharp tip, one far shorter than the other.
    ear = (Y >= 20) & (Y < 20 + 0.35 * (X - 20)) & (X >= 20) & (X < 380)
    rim = ear & ((Y < 36) | ((Y > 4 + 0.35 * (X - 20)) & (X < 200)))
    assert not beside_cut_edges(ear, rim, MPP).any()


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_edges_are_cut_whichever_way_the_section_lies(turn, mirror):
    skin = TISSUE & (Y < 38) | (TISSUE & (X >= 322) & (Y >= 60) & (Y < 140))
    plain = beside_cut_edges(TISSUE, skin, MPP)

    def laid(mask):
        return np.ascontiguousarray(np.rot90(mask[:, ::-1] if mirror else mask, turn))

    again = beside_cut_edges(laid(TISSUE), laid(skin), MPP)
    assert (again == laid(plain)).mean() > 0.98
