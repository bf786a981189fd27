"""Microns per pixel: every tag that states them, and every one that must be refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile

from histoquant.errors import ScaleError
from histoquant.slides import open_slide
from histoquant.slides.scale import openslide_claims, resolve_scale
from slide_writers import write_scn

IMAGE = np.zeros((40, 50, 3), np.uint8)


def write_ome(path, **physical):
    tifffile.imwrite(path, IMAGE, ome=True, photometric="rgb", metadata={"axes": "YXS", **physical})
    return path


def write_svs(path, description):
    tifffile.imwrite(
        path, IMAGE, tile=(16, 16), photometric="rgb", metadata=None, description=description
    )
    return path


def write_tagged(path, x, y, unit):
    tifffile.imwrite(
        path, IMAGE, photometric="rgb", metadata=None, resolution=(x, y), resolutionunit=unit
    )
    return path


@pytest.mark.parametrize(
    ("size", "unit", "mpp"),
    [
        (0.25, "µm", 0.25),
        (0.25, "\u03bcm", 0.25),  # Greek mu beside the micro sign
        (250, "nm", 0.25),
        (0.00025, "mm", 0.25),
        (0.000025, "cm", 0.25),
        (2.5e-7, "m", 0.25),
        (0.25, None, 0.25),  # the standard's default is um
    ],
)
def test_ome_units(tmp_path, size, unit, mpp):
    units = {} if unit is None else {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    path = write_ome(tmp_path / "a.ome.tif", PhysicalSizeX=size, PhysicalSizeY=size, **units)
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(mpp)
        assert slide.mpp_source == "OME PhysicalSize"


@pytest.mark.parametrize(
    ("x", "unit", "mpp"),
    [(40000, 3, 0.25), (50800, 2, 0.5), (43826, 3, 0.2281751)],
)
def test_resolution_tags(tmp_path, x, unit, mpp):
    with open_slide(write_tagged(tmp_path / "a.tif", x, x, unit)) as slide:
        assert slide.mpp == pytest.approx(mpp)
        assert slide.mpp_source == "TIFF resolution"


@pytest.mark.parametrize(
    ("x", "unit"),
    [(72, 2), (96, 2), (300, 2), (28, 3), (40000, 1), (1, 1), (10**7, 3), (0, 3)],
)
def test_resolutions_that_are_no_scale(tmp_path, x, unit):
    path = write_tagged(tmp_path / "a.tif", x, x, unit)
    with pytest.raises(ScaleError, match=f"(?s){re.escape(str(path))}.*found.*--mpp.*column mpp"):
        open_slide(path)


@pytest.mark.parametrize(
    ("description", "mpp"),
    [
        ("Aperio Image Library v12\r\n50x40|AppMag = 40|MPP = 0.2520|Left = 25", 0.252),
        ("Aperio Leica Biosystems GT450 v1|MPP=0.263", 0.263),
        ("Aperio Image Library v11|MPP = 0,4990", 0.499),  # written under a comma locale
    ],
)
def test_aperio_tag(tmp_path, description, mpp):
    with open_slide(write_svs(tmp_path / "a.svs", description)) as slide:
        assert (slide.mpp, slide.mpp_source) == (pytest.approx(mpp), "Aperio MPP tag")


@pytest.mark.parametrize("text", ["0", "0.0", "-0.25", "25", "nan", "inf", "unknown", ""])
def test_absurd_aperio_tag(tmp_path, text):
    path = write_svs(tmp_path / "a.svs", f"Aperio Image Library v12|MPP = {text}|AppMag = 40")
    with pytest.raises(ScaleError, match=f"MPP = {text} .*0.05-20.0 um/px.*--mpp"):
        open_slide(path)


def test_magnification_is_no_scale(tmp_path):
    path = write_svs(tmp_path / "a.svs", "Aperio Image Library v12|AppMag = 20")
    with pytest.raises(ScaleError, match="no MPP in the Aperio description"):
        open_slide(path)


@pytest.mark.parametrize(
    ("physical", "found"),
    [
        ({}, "no OME PhysicalSize"),
        ({"PhysicalSizeX": 0.25}, "PhysicalSizeY = None"),
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeXUnit": "pixel"}, "pixel"),
        ({"PhysicalSizeX": 250.0, "PhysicalSizeY": 250.0}, "PhysicalSizeX = 250.0 um"),
    ],
)
def test_unusable_ome_scale(tmp_path, physical, found):
    with pytest.raises(ScaleError, match=found):
        open_slide(write_ome(tmp_path / "a.ome.tif", **physical))


@pytest.mark.parametrize(("y", "fits"), [(0.2523, True), (0.2526, False), (0.2473, False)])
def test_pixels_must_be_square_within_one_percent(tmp_path, y, fits):
    path = write_ome(tmp_path / "a.ome.tif", PhysicalSizeX=0.25, PhysicalSizeY=y)
    if fits:
        with open_slide(path) as slide:
            assert slide.mpp == pytest.approx((0.25 + y) / 2)
    else:
        with pytest.raises(ScaleError, match=r"not square: 0\.25 um in x, 0\.2.* um in y"):
            open_slide(path)


def test_given_scale_wins_over_any_tag(tmp_path):
    paths = [
        write_svs(tmp_path / "a.svs", "Aperio Image Library v12|MPP = 0"),
        write_ome(tmp_path / "b.ome.tif", PhysicalSizeX=0.25, PhysicalSizeY=0.5),
        write_tagged(tmp_path / "c.tif", 72, 72, 2),
    ]
    for path in paths:
        with open_slide(path, mpp=0.4) as slide:
            assert (slide.mpp, slide.mpp_source) == (0.4, "given")


@pytest.mark.parametrize("mpp", [0, -1, 40, float("nan"), float("inf")])
def test_absurd_given_scale(tmp_path, mpp):
    path = write_tagged(tmp_path / "a.tif", 40000, 40000, 3)
    with pytest.raises(ScaleError, match="given scale of .* not a magnification"):
        open_slide(path, mpp=mpp, require_scale=False)


def properties(y, x):
    return {"openslide.mpp-y": y, "openslide.mpp-x": x}


# What OpenSlide takes from the tags of vendors, and what becomes of it.
STATED = {
    "square": ("mirax", properties("0.2325", "0.2325"), 0.2325),
    "square within 1 %": ("mirax", properties("0.2325", "0.2330"), 0.23275),
    "resolution tags of a slide": ("generic-tiff", properties("0.5", "0.5"), 0.5),
    "x and y differ": ("leica", properties("0.25", "0.5"), "not square: 0.5 um in x, 0.25 um in y"),
    "one is missing": ("ventana", {"openslide.mpp-x": "0.25"}, "openslide.mpp-y = None"),
    "absurd": ("hamamatsu", properties("250", "250"), "expected 0.05-20.0 um/px"),
    "no number": ("philips", properties("x", "0.25"), "openslide.mpp-y = x"),
    "72 per inch": ("generic-tiff", properties("352.8", "352.8"), "which is no scale of a slide"),
    "none": ("trestle", {}, "no pixel size in the SCANNER file"),
}


@pytest.mark.parametrize("case", STATED)
def test_scale_that_openslide_tells(tmp_path, case):
    vendor, found, expected = STATED[case]
    claims = tuple(openslide_claims("SCANNER", vendor, found))
    if isinstance(expected, float):
        scale = resolve_scale(tmp_path, claims, None)
        assert scale.mpp == pytest.approx(expected)
        assert scale.source == "SCANNER pixel size"
    else:
        with pytest.raises(ScaleError, match=re.escape(expected)):
            resolve_scale(tmp_path, claims, None)


@pytest.mark.parametrize(("unit", "per_um"), [("INCH", 25400), ("CENTIMETER", 10000)])
def test_resolution_units_of_an_scn(tmp_path, unit, per_um):
    parts = [(0, 0, np.zeros((64, 64, 3), np.uint8))]
    path = write_scn(tmp_path / "a.scn", parts, (100, 100), um=0.5, unit=(unit, per_um)).path
    with open_slide(path) as slide:
        assert slide.mpp == pytest.approx(0.5, rel=1e-5)


def test_scn_whose_resolution_has_no_unit_states_no_scale(tmp_path):
    parts = [(0, 0, np.zeros((64, 64, 3), np.uint8))]
    path = write_scn(tmp_path / "a.scn", parts, (100, 100), unit=("NONE", 10000)).path
    with pytest.raises(ScaleError, match="does not state its scale"):
        open_slide(path)
