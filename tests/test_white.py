"""The white level: tinted, vignetted, overexposed, painted, or no glass at all."""

import cv2
import numpy as np
import pytest

from histoquant.errors import StainError
from histoquant.white import measure_white, white_field


def picture_of(glass, tissue=(150, 110, 140), *, share=0.5, painted=0.0, seed=3):
    """Tissue of `share` of the width, then glass; the last rows painted white by the scanner."""
    rng = np.random.default_rng(seed)
    picture = np.empty((200, 240, 3))
    split = round(share * 240)
    picture[:, split:] = glass
    picture[:, :split] = np.array(tissue) + rng.normal(0, 12, (200, split, 3))
    picture += rng.normal(0, 1, picture.shape)
    picture = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if painted:
        picture[-round(painted * 200) :] = 255
    return picture


@pytest.mark.parametrize(
    ("glass", "share", "painted"),
    [
        ((242, 240, 238), 0.5, 0.0),
        ((235, 244, 228), 0.5, 0.0),  # tinted
        ((235, 240, 228), 0.5, 0.0),
        ((200, 210, 180), 0.5, 0.0),  # strongly
        ((224, 222, 226), 0.9, 0.0),  # dim, and little of it
        ((238, 240, 236), 0.5, 0.4),  # never scanned areas are painted 255
        ((238, 240, 236), 0.9, 0.6),
    ],
)
def test_white_is_the_median_of_the_glass(glass, share, painted):
    white = measure_white(picture_of(glass, share=share, painted=painted))
    assert white.source == "glass"
    assert white.values == pytest.approx(glass, abs=1)
    assert white.field == ()
    assert white.warning == ""
    assert white.glass_fraction == pytest.approx((1 - share) * (1 - painted), abs=0.04)


def test_what_compression_leaves_beside_painted_areas_is_no_glass():
    """Grey levels just below 255 all along their edge: brighter than the glass, and flat."""
    picture = picture_of((237, 239, 235))
    for row in range(0, 200, 10):  # a staircase, as a scanner's fields are
        picture[row : row + 10, 120 + row // 2 :] = 255
    beside = cv2.dilate((picture == 255).all(axis=-1).astype(np.uint8), np.ones((7, 7))) > 0
    picture[beside & (picture < 255).any(axis=-1) & (picture > 200).all(axis=-1)] = 254
    white = measure_white(picture)
    assert white.source == "glass"
    assert white.values == pytest.approx((237, 239, 235), abs=1)


def test_overexposed_glass_is_glass():
    white = measure_white(picture_of((262, 262, 262)))
    assert white.source == "glass"
    assert white.values == (255, 255, 255)


def test_without_glass_the_brightest_stands_in():
    white = measure_white(picture_of((0, 0, 0), (190, 150, 180), share=1.0))
    assert white.source == "brightest"
    assert white.glass_fraction < 0.005
    assert white.values == pytest.approx((218, 178, 208), abs=3)
    assert "no glass in view" in white.warning
    assert np.isnan(white.uneven_percent)


@pytest.mark.parametrize(
    ("name", "bright"), [("dark", (30, 30, 30)), ("blue only", (20, 30, 230)), ("black", (0, 0, 0))]
)
def test_fluorescence_has_no_optical_density(name, bright):
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[30:70, 30:70] = bright
    with pytest.raises(StainError, match="fluorescence.*stains.white"):
        measure_white(picture)


# --- uneven light ----------------------------------------------------------------------------


def framed(glass=(240, 240, 240), seed=5):
    """Tissue in the middle, glass all around: 240 x 300."""
    rng = np.random.default_rng(seed)
    picture = np.full((240, 300, 3), glass, float)
    picture[70:170, 80:220] = np.array((170, 120, 160)) + rng.normal(0, 12, (100, 140, 3))
    return picture + rng.normal(0, 1, picture.shape)


def light(shape, loss, centre=(0.0, 0.0)):
    """Light that falls off from its centre to the corners by the share `loss`."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    radius = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return 1 - loss * radius[..., None] / radius.max()


def lit(loss, centre=(0.0, 0.0), glass=(240, 240, 240)):
    picture = framed(glass) * light((240, 300), loss, centre)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("glass", [(240, 240, 240), (235, 240, 228)])
@pytest.mark.parametrize(("loss", "centre"), [(0.10, (0, 0)), (0.10, (0.4, -0.5)), (0.2, (0, 0))])
def test_vignetting_is_followed(glass, loss, centre):
    white = measure_white(lit(loss, centre, glass))
    true = np.array(glass) * light((240, 300), loss, centre)
    error = np.log10(white_field(white, (240, 300)) / true)
    assert np.abs(error).max() < 0.008
    assert white.source == "glass"
    assert white.uneven_percent == pytest.approx(100 * loss, rel=0.45)
    assert "uneven light" in white.warning
    middle = np.median(true[70:170, 80:220], axis=(0, 1))
    assert white.values == pytest.approx(tuple(middle), rel=0.02)


def test_a_little_unevenness_is_left_alone():
    white = measure_white(lit(0.02))
    assert white.field == ()
    assert 0.5 < white.uneven_percent < 3
    assert white.values == pytest.approx((238, 238, 238), abs=3)


def test_glass_on_one_side_says_nothing_about_the_other():
    """A gradient seen on a strip cannot be told from what lies beyond it."""
    picture = picture_of((240, 240, 240), share=0.75).astype(float)
    picture *= light((200, 240), 0.1, (0, 1))
    white = measure_white(np.rint(picture).astype(np.uint8))
    assert white.field == ()
    assert white.source == "glass"


def test_the_field_is_the_same_at_every_scale():
    white = measure_white(lit(0.1))
    fine, coarse = white_field(white, (480, 600)), white_field(white, (48, 60))
    means = fine.reshape(48, 10, 60, 10, 3).mean(axis=(1, 3))
    assert means == pytest.approx(coarse, abs=0.1)


def test_the_same_picture_gives_the_same_bits():
    picture = lit(0.1)
    assert measure_white(picture) == measure_white(picture.copy())


def test_what_was_never_scanned_is_no_light() -> None:
    """A reader paints such areas white; in a dark field they would pass for glass."""
    overview = np.full((80, 120, 3), 20, np.uint8)
    overview[:, 60:] = 255
    known = np.zeros((80, 120), np.bool_)
    known[:, :60] = True
    with pytest.raises(StainError, match="fluorescence"):
        measure_white(overview, known)
    overview[:, :60] = (228, 231, 226)
    white = measure_white(overview, known)
    assert white.source == "glass"
    assert white.values == pytest.approx((228, 231, 226))
