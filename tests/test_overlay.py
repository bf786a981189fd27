"""The picture to judge a measurement by."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import PaintedSlide, Skin, sine
from histoquant.anatomy import Compartments
from histoquant.junction import Junction, trace_junction
from histoquant.morphometry import junction_bins
from histoquant.overlay import draw_overlay
from histoquant.settings import Settings

SETTINGS = Settings()
SKIN = Skin(sine(15, 120), length_um=500.0, plate_um=60.0, dermis_um=150.0, side_um=700.0)
GLASS = (243, 242, 241)
BLUE, VERMILION, SKY, GREY, BLACK = (
    (0, 114, 178), (213, 94, 0), (86, 180, 233), (150, 150, 150), (0, 0, 0),
)  # fmt: skip
MPP = 0.5


@pytest.fixture(scope="module")
def section():
    """A slide of even colour, its compartments and its junction."""
    slide = PaintedSlide((1400, 1400), MPP, lambda y, x: GLASS)
    compartments = SKIN.draw()
    junction = trace_junction(compartments, SETTINGS.junction, SETTINGS.anatomy)
    return slide, compartments, junction


def decode(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def origin_of(compartments):
    """Top left corner of the picture, um: the tissue less a margin of 50 um."""
    rows, columns = np.nonzero(compartments.labels)
    return np.maximum(np.array([rows.min(), columns.min()]) * compartments.mpp - 50, 0)


def colour_near(image, point_um, compartments, colour, reach=2):
    """Whether a pixel within `reach` of a point has the colour, or most of it over glass."""
    y, x = np.floor((np.asarray(point_um) - origin_of(compartments)) / MPP).astype(int)
    window = image[y - reach : y + reach + 1, x - reach : x + reach + 1] - np.array(GLASS)
    ink = np.array(colour) - GLASS
    cover = (window @ ink / (ink @ ink))[..., None]
    return ((cover[..., 0] > 0.4) & (np.abs(window - cover * ink).max(axis=-1) < 15)).any()


def is_glass(image, point_um, compartments):
    y, x = np.floor((np.asarray(point_um) - origin_of(compartments)) / MPP).astype(int)
    return (image[y, x] == GLASS).all()


def nuclei_at(points, positive, excluded):
    frame = pd.DataFrame(points, columns=["y_um", "x_um"])
    return frame.assign(positive=positive, excluded=excluded)


@pytest.mark.parametrize("missing", [False, True])
def test_nuclei_are_ringed_in_their_colours(section, missing):
    slide, compartments, junction = section
    points = np.array([[430.0, 250.0], [430, 350], [430, 450], [410, 300]])
    positive = pd.array([True, False, True, False], dtype="boolean")
    if missing:
        positive = pd.array([pd.NA] * 4, dtype="boolean")
    nuclei = nuclei_at(points, positive, [False, False, True, False])
    image = decode(draw_overlay(slide, compartments, junction, nuclei, pd.DataFrame()))
    rings = [(VERMILION, 4.0), (BLUE, 2.5), (GREY, 2.5), (BLUE, 2.5)]
    if missing:  # without a marker stain no nucleus is positive or negative
        rings = [(SKY, 2.5), (SKY, 2.5), (GREY, 2.5), (SKY, 2.5)]
    for point, (colour, radius) in zip(points, rings, strict=True):
        for direction in ([1, 0], [-1, 0], [0, 1], [0, -1]):
            rim = point + radius * np.array(direction)
            assert colour_near(image, rim, compartments, colour), (point, colour)
        assert is_glass(image, point, compartments)  # a ring, not a disc


def test_the_junction_is_drawn_where_it_runs(section):
    slide, compartments, junction = section
    nuclei = nuclei_at(np.empty((0, 2)), pd.array([], dtype="boolean"), np.empty(0, bool))
    image = decode(draw_overlay(slide, compartments, junction, nuclei, pd.DataFrame()))
    stretch = junction.stretches[0]
    for point, excluded in zip(stretch.points_um[2::10], stretch.excluded[2::10], strict=True):
        assert colour_near(image, point, compartments, GREY if excluded else BLACK)


@pytest.mark.parametrize("present", [True, False])
def test_collagen7_is_marked_beside_the_junction_on_its_dermal_side(section, present):
    slide, compartments, junction = section
    bins = junction_bins(junction, MPP, SETTINGS).assign(positive=present)
    image = decode(draw_overlay(slide, compartments, junction, None, bins))
    stretch = junction.stretches[0]
    beside = stretch.points_um + 12 * stretch.normals
    measured = (stretch.arc_um > 65) & (stretch.arc_um < stretch.length_um - 65)
    colour, other = (SKY, VERMILION) if present else (VERMILION, SKY)
    for point in beside[measured][::10]:
        assert colour_near(image, point, compartments, colour)
        assert not colour_near(image, point, compartments, other)
    for point in beside[stretch.arc_um < 30][::5]:
        assert not colour_near(image, point, compartments, colour)


def test_the_picture_is_cropped_to_the_tissue_with_a_legend_below(section):
    slide, compartments, junction = section
    image = decode(draw_overlay(slide, compartments, junction, None, pd.DataFrame()))
    rows, columns = np.nonzero(compartments.labels)
    height, width = ((np.ptp(axis) + 1) * 2 + 100 for axis in (rows, columns))
    assert image.shape[1] == pytest.approx(width / MPP, abs=2)
    strip = image[round(height / MPP) :]
    assert 20 <= len(strip) <= 120
    assert (strip[0] == 255).all()
    assert (strip == BLACK).all(axis=-1).any()  # scale bar and words
    assert (np.abs(strip - (0, 158, 115)).max(axis=-1) < 5).any()  # viable epidermis
    assert (image[5, 5] == GLASS).all()


def test_a_large_slide_is_drawn_at_most_4000_pixels_wide():
    labels = np.zeros((500, 3000), np.uint8)
    labels[10:-10, 10:-10] = 3
    reason = "no epidermis found: for a test"
    wide = Compartments(labels, 2.0, np.full(labels.shape, -1, np.float32), reason)
    slide = PaintedSlide((2000, 12000), MPP, lambda y, x: GLASS)
    image = decode(draw_overlay(slide, wide, Junction((), reason), None, pd.DataFrame()))
    assert 3900 <= image.shape[1] <= 4001


@pytest.mark.parametrize("tissue", [True, False])
def test_a_slide_without_epidermis_carries_the_reason(tissue):
    labels = np.zeros((400, 400), np.uint8)
    if tissue:
        labels[50:-50, 50:-50] = 3
    slide = PaintedSlide((1600, 1600), MPP, lambda y, x: GLASS)
    images = []
    for reason in ("no epidermis found: torn", "no epidermis found: the densest regions are few"):
        none = Compartments(labels, 2.0, np.full(labels.shape, -1, np.float32), reason)
        images.append(decode(draw_overlay(slide, none, Junction((), reason), None, pd.DataFrame())))
    ink = [(np.abs(image - VERMILION).max(axis=-1) < 5).sum() for image in images]
    assert min(ink) > 30  # the swatch of the note
    dark = [(image.max(axis=-1) < 100).sum() for image in images]
    assert dark[1] > dark[0]  # more words, more ink
