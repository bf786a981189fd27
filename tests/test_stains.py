"""Optical density, stain separation and the white level."""

import numpy as np
import pytest

from histoquant.errors import StainError
from histoquant.stains import (
    PRESETS,
    StainModel,
    angle_deg,
    field_density,
    optical_density,
    unmix,
)
from histoquant.white import WhiteLevel

WHITE = (255.0, 255.0, 255.0)
HDAB = StainModel.preset("hdab", WHITE)
FIJI_HDAB = [
    [0.6500286, 0.704031, 0.2860126],
    [0.26814753, 0.57031375, 0.77642715],
    [0.7110272, 0.42318153, 0.5615672],
]


def rgb(*levels):
    return np.array([[levels]], np.uint8)


# --- optical density -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "white", "od"),
    [
        (255, 255, 0.0),
        (100, 200, 0.30103),
        (24, 240, 1.0),
        (250, 240, -0.017729),  # brighter than white: negative, not cut off
        (1, 255, 2.406540),
        (0, 255, 2.406540),  # black is taken for one count
        (235, 255, 0.035467),  # a white of 235 taken for 255
        (235, 235, 0.0),
    ],
)
def test_optical_density_is_the_logarithm_of_transmitted_light(level, white, od):
    found = optical_density(rgb(level, level, level), (white, white, white))
    assert found.dtype == np.float32
    assert found.shape == (1, 1, 3)
    assert found[0, 0] == pytest.approx([od] * 3, abs=1e-5)


def test_each_channel_has_its_own_white():
    found = optical_density(rgb(100, 100, 100), (200.0, 100.0, 50.0))
    assert found[0, 0] == pytest.approx([0.30103, 0.0, -0.30103], abs=1e-5)


def test_too_bright_a_white_adds_to_every_channel():
    picture = np.random.default_rng(0).integers(2, 236, (20, 20, 3), dtype=np.uint8)
    shift = optical_density(picture, WHITE) - optical_density(picture, (235.0,) * 3)
    assert shift == pytest.approx(np.full(shift.shape, 0.0355), abs=5e-5)


# --- stain vectors ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_the_published_vectors(name):
    model = StainModel.preset(name, WHITE)
    vectors = np.array(model.vectors)
    published = {
        "hdab": ("dab", [0.268, 0.570, 0.776]),
        "he": ("eosin", [0.072, 0.990, 0.105]),
        "haec": ("aec", [0.2743, 0.6796, 0.6803]),
    }
    second, values = published[name]
    assert model.names == ("hematoxylin", second, "residual")
    assert model.has_marker == (name != "he")
    assert model.to_preset_deg(name) == pytest.approx((0, 0), abs=1e-4)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1])
    assert angle_deg(model.vectors[0], (0.650, 0.704, 0.286)) == pytest.approx(0, abs=1e-4)
    assert angle_deg(model.vectors[1], tuple(values)) == pytest.approx(0, abs=1e-4)
    assert vectors[:2] @ vectors[2] == pytest.approx([0, 0], abs=1e-12)
    assert model.source == f"preset {name}; white: given"


def test_aec_is_the_one_of_other_programs():
    from skimage.color.colorconv import rgb_from_hax

    published = rgb_from_hax[:2] / np.linalg.norm(rgb_from_hax[:2], axis=1, keepdims=True)
    assert np.array(StainModel.preset("haec", WHITE).vectors[:2]) == pytest.approx(published)


def test_an_unknown_stain_set_is_named():
    with pytest.raises(StainError, match="'hrp' is none of hdab, he, haec"):
        StainModel.preset("hrp", WHITE)


@pytest.mark.parametrize("factor", [1, 0.1, 7])
def test_a_given_vector_may_have_any_length(factor):
    own = (0.30 * factor, 0.55 * factor, 0.78 * factor)
    model = StainModel.preset("hdab", WHITE, second=own, white_source="glass")
    assert model.vectors[1] == pytest.approx(
        StainModel.preset("hdab", WHITE, second=own).vectors[1]
    )
    assert np.linalg.norm(model.vectors[1]) == pytest.approx(1)
    assert model.vectors[0] == HDAB.vectors[0]
    assert model.source == "preset hdab, dab given; white: glass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"second": (0.650, 0.704, 0.290)}, "0.2 degrees apart"),
        ({"second": (0.650, 0.704, 0.286)}, "0.0 degrees apart"),
        ({"hematoxylin": (-0.268, -0.570, -0.776)}, "180.0 degrees apart"),
        ({"second": (0.66, 0.70, 0.25)}, "degrees apart.*stains.hematoxylin"),
        ({"hematoxylin": (-0.268, -0.570, -0.770)}, "179.8 degrees apart"),
        ({"second": (0.0, 0.0, 0.0)}, "not all zero"),
        ({"second": (0.5, 0.5)}, "three numbers"),
        ({"white": (240.0, 0.0, 240.0)}, "white level.*above 0"),
    ],
)
def test_vectors_that_cannot_separate_are_refused(changes, words):
    with pytest.raises(StainError, match=words):
        StainModel.preset(**{"name": "hdab", "white": WHITE, **changes})


# --- separation ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(PRESETS))
def test_what_was_mixed_comes_apart(name):
    model = StainModel.preset(name, WHITE)
    amounts = np.random.default_rng(1).uniform(-0.2, 1.5, (30, 40, 3)).astype(np.float32)
    od = (amounts @ np.array(model.vectors)).astype(np.float32)
    found = unmix(od, model)
    assert found.dtype == np.float32
    assert found == pytest.approx(amounts, abs=1e-5)


def test_a_colour_everybody_knows():
    """The third vector decides: thresholds do not carry over from one program to another."""
    od = optical_density(rgb(150, 110, 80), WHITE)
    assert unmix(od, HDAB)[0, 0, 1] == pytest.approx(0.609, abs=5e-4)
    fiji = od[0, 0] @ np.linalg.inv(FIJI_HDAB)
    assert fiji[1] == pytest.approx(0.564, abs=5e-4)


def test_fijis_third_vector_is_not_orthogonal():
    off = [90 - angle_deg(tuple(FIJI_HDAB[2]), tuple(FIJI_HDAB[k])) for k in (0, 1)]
    assert np.abs(off) == pytest.approx([67, 60], abs=1)  # 23 and 30 degrees from its neighbours


@pytest.mark.parametrize("level", [2, 24, 110, 250])
def test_fijis_stored_value_is_an_optical_density(level):
    """Fiji keeps ``-255 ln(I / 255) / ln 255`` as 8 bit: times 2.4065 / 255 it is log10 OD."""
    stored = round(-255 * np.log(level / 255) / np.log(255))
    od = optical_density(rgb(level, level, level), WHITE)[0, 0, 0]
    assert stored * 2.4065 / 255 == pytest.approx(od, abs=2.4065 / 255 / 2 + 1e-4)


def test_brighter_than_white_stays_negative():
    stains = unmix(optical_density(rgb(250, 250, 250), (240.0, 240.0, 240.0)), HDAB)
    assert stains[0, 0, 0] < 0
    assert stains[0, 0, 1] < 0


@pytest.mark.parametrize("crop", [np.s_[3:60, 5:90], np.s_[17:18, 1:100], np.s_[::2, ::3]])
def test_separation_is_the_same_bit_for_bit_in_any_crop(crop):
    picture = np.random.default_rng(2).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    whole = unmix(optical_density(picture, (241.0, 238.0, 236.0)), HDAB)
    part = unmix(optical_density(picture[crop], (241.0, 238.0, 236.0)), HDAB)
    np.testing.assert_array_equal(whole[crop], part)


# --- uneven light ----------------------------------------------------------------------------


def test_even_light_changes_nothing():
    picture = np.random.default_rng(4).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    white = WhiteLevel((240.0, 238.0, 236.0), 0.5, "glass")
    np.testing.assert_array_equal(
        field_density(picture, white), optical_density(picture, white.values)
    )


def test_the_field_of_light_is_taken_off_at_any_scale():
    """Light that falls from 240 in the middle to 200 at the left and right edge."""
    field = ((240.0,) * 3, *(((0.0,) * 3,) * 3), (-40.0,) * 3, (0.0,) * 3)
    white = WhiteLevel((230.0,) * 3, 0.5, "glass", field, 17.0)
    for width in (40, 400):
        x = (np.arange(width) + 0.5) / width * 2 - 1
        lit = np.broadcast_to((240 - 40 * x * x)[None, :, None], (8, width, 3))
        glass = np.rint(lit).astype(np.uint8)
        half = np.rint(lit / 2).astype(np.uint8)
        assert np.abs(field_density(glass, white)).max() < 0.002
        assert field_density(half, white) == pytest.approx(0.30103, abs=0.004)


def test_blended_stains_are_the_planes_in_whole_steps() -> None:
    model = StainModel.preset("hdab", (243.0, 241.0, 244.0))
    pixels = np.random.default_rng(5).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    stains = model.planes(pixels, 2.5).stains.astype(np.float64)
    expected = np.clip((stains[..., 0] + 0.5 * stains[..., 1] + 0.1) * 8000, 0, 65535)
    blended = model.blend(pixels, 2.5, (1.0, 0.5), -0.1, 8000)
    assert blended.dtype == np.uint16
    assert np.abs(blended - expected).max() <= 1.1
