"""Slides that lack something: what is not there is not measured, and never reads as a zero."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

import histoquant as hq
from histoquant.collagen7 import gap_lengths

SAMPLES = Path(__file__).parents[1] / "sample_slides"
SLIDE = SAMPLES / "synthetic" / "P01_left_hand_col7.ome.tif"


def junction_points():
    truth = pd.read_csv(SAMPLES / "truth" / "P01_left_hand_col7_junction.csv")
    return truth[["y_px", "x_px"]].to_numpy()


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """The slide without the level-0 tile in the middle of its junction, and that tile's box."""
    path = tmp_path_factory.mktemp("gappy") / SLIDE.name
    shutil.copy(SLIDE, path)
    y, x = junction_points()[len(junction_points()) // 2].astype(int)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        row, column = y // page.tilelength, x // page.tilewidth
        index = row * -(-page.imagewidth // page.tilewidth) + column
        counts = page.tags["TileByteCounts"]
        size = counts.dtype.name.startswith("LONG8") and 8 or 4
        at, side = counts.valueoffset + index * size, page.tilelength
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(size))
    return path, (row * side, column * side, side)


def test_a_tile_without_data_ends_the_junction_instead_of_making_a_gap(gappy):
    path, (top, left, side) = gappy
    whole, lacking = hq.quantify(SLIDE, "col7"), hq.quantify(path, "col7")
    assert lacking.provenance["slide"]["missing_tiles"] == 1
    bins = lacking.junction[~lacking.junction["excluded"]]
    inside = bins["y_px"].between(top, top + side) & bins["x_px"].between(left, left + side)
    assert not inside.any()
    assert lacking.summary["dej_length_mm"] < whole.summary["dej_length_mm"] - 0.05
    assert lacking.summary["integrated_od_um_mean"] == pytest.approx(
        whole.summary["integrated_od_um_mean"], rel=0.15
    )
    assert lacking.summary["n_gaps"] <= whole.summary["n_gaps"]


def test_known_marks_the_tile_on_any_grid(gappy):
    path, (top, left, side) = gappy
    with hq.open_slide(path) as slide:
        known = slide.known(2.0)
        assert known.shape == slide.grid_shape(2.0)
        expected = np.ones(known.shape, bool)
        expected[top // 4 : (top + side) // 4, left // 4 : (left + side) // 4] = False
        assert (known == expected).all()
    with hq.open_slide(SLIDE) as slide:
        assert slide.known(2.0).all()


def test_a_grey_slide_is_refused(tmp_path):
    grey = tifffile.imread(SLIDE).mean(axis=-1).astype(np.uint8)
    path = tmp_path / "grey.ome.tif"
    scale = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, grey, photometric="minisblack", tile=(256, 256), metadata=scale)
    with pytest.raises(hq.SlideError, match="red, green and blue"):
        hq.quantify(path, "p16")


def test_saturated_stain_is_reported(tmp_path):
    pixels = tifffile.imread(SLIDE)
    points = junction_points()[100:400]
    for y, x in points.astype(int):
        pixels[y - 2 : y + 3, x - 2 : x + 3] = (2, 1, 0)
    path = tmp_path / "saturated.ome.tif"
    scale = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), metadata=scale)
    plain, black = hq.quantify(SLIDE, "col7"), hq.quantify(path, "col7")
    assert plain.summary["saturated_percent"] == 0
    assert black.summary["saturated_percent"] > 5


@pytest.mark.parametrize(
    ("signs", "lengths"),
    [
        ("++---+++", [30]),
        ("++-x-+++", [30]),  # not measured within a gap: one gap, not two
        ("++-x++++", []),  # not measured beside it: 10 um are seen
        ("xx---x++", [30]),
        ("++--x--++-", [50]),
        ("xxxxxxxx", []),
    ],
)
def test_gaps_go_on_where_a_bin_is_not_measured(signs, lengths):
    start = np.arange(len(signs)) * 10.0
    table = pd.DataFrame(
        {
            "stretch": 0,
            "arc_start_um": start,
            "arc_end_um": start + 10,
            "positive": [s == "+" for s in signs],
            "excluded": [s == "x" for s in signs],
        }
    )
    assert gap_lengths(table, 20.0).tolist() == lengths
