"""Slides of two files, a stain each, and stains that are colours of one picture."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from helpers import REAL
from histoquant.cli import app
from histoquant.errors import DarkFieldError, ManifestError, SlideError
from histoquant.manifest import read_manifest, slide_entries
from histoquant.pipeline import quantify
from histoquant.resume import make_key
from histoquant.review import ReviewSession
from histoquant.settings import Settings
from histoquant.slides import open_slide
from histoquant.slides.fingerprint import fingerprint
from histoquant.staining import survey_slide
from histoquant.white import measure_white
from test_fluorescence import cells, write

DAPI, TRITC = REAL / "skin-if-DAPI.ndpi", REAL / "skin-if-TRITC.ndpi"


def picture_file(path: Path, picture, mpp=0.5) -> Path:
    """A TIFF of (h, w) grey or (h, w, 3) colour levels."""
    per_cm = 1e4 / mpp
    kind = "rgb" if picture.ndim == 3 else "minisblack"
    scale = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, picture, photometric=kind, tile=(128, 128), **scale)
    return path


def false_colour(grey, channel):
    """A stain as a scanner shows it: one colour, with a little of it in the others."""
    picture = np.zeros((*grey.shape, 3), np.uint8)
    picture[..., channel] = grey
    picture[..., 1] = np.maximum(picture[..., 1], grey // 10)
    return picture


@pytest.fixture
def stains(tmp_path):
    """Nuclear stain and marker in 8 bit, and their files in false colour."""
    picture, *_ = cells(np.uint8, (10, 12), 180, 150, noise=1.0, own=12)
    names = [("a_DAPI.tif", 2), ("a_TRITC.tif", 0)]
    files = [
        picture_file(tmp_path / name, false_colour(picture[..., k], channel))
        for k, (name, channel) in enumerate(names)
    ]
    return picture, *files


def test_two_files_are_two_channels_of_one_slide(stains):
    picture, nuclear, marker = stains
    with open_slide(marker, nuclear=nuclear) as slide:
        assert slide.channels == ("nuclear a_DAPI", "marker a_TRITC")
        assert not slide.is_colour
        assert slide.shape == (480, 480, 2)
        np.testing.assert_array_equal(slide.read(0.5, 0, 0, 480, 480), picture)
        assert (slide.read(0.5, -4, -4, 4, 4) == 0).all()  # a dark field is not filled with white
        again = pickle.loads(pickle.dumps(slide))
        np.testing.assert_array_equal(again.overview(2.0), slide.overview(2.0))
        again.close()


def test_the_fingerprint_is_of_both_files(stains):
    _, nuclear, marker = stains
    with open_slide(marker, nuclear=nuclear) as slide:
        own = slide.fingerprint
    assert own == fingerprint(marker, nuclear)
    assert len({own, fingerprint(marker), fingerprint(nuclear), fingerprint(nuclear, marker)}) == 4


def test_grey_files_of_sixteen_bits_pair_too(tmp_path):
    picture, *_ = cells()
    files = [picture_file(tmp_path / f"{k}.tif", picture[..., k]) for k in range(2)]
    with open_slide(files[1], nuclear=files[0]) as slide:
        np.testing.assert_array_equal(slide.read(0.5, 0, 0, 480, 480), picture)


def test_files_that_are_no_pair_are_refused(stains, tmp_path):
    picture, nuclear, marker = stains
    small = picture_file(tmp_path / "small.tif", false_colour(picture[:300, :300, 0], 2))
    coarse = picture_file(tmp_path / "coarse.tif", false_colour(picture[..., 0], 2), mpp=0.6)
    deep = picture_file(tmp_path / "deep.tif", picture[..., 0].astype(np.uint16))
    glass = picture_file(tmp_path / "glass.tif", 255 - false_colour(picture[..., 0], 2) // 2)
    merged = false_colour(picture[..., 0], 2)
    merged[..., 0] = picture[..., 1]
    merged = picture_file(tmp_path / "merged.tif", merged)
    three = tmp_path / "three.ome.tif"
    write(three, np.zeros((480, 480, 3), np.uint8), ("a", "b", "c"))
    cases = [
        (small, "their size differs.*300 x 300 px"),
        (coarse, "their um/px differs"),
        (deep, "their type differs"),
        (glass, "this is a bright-field slide"),
        (merged, "show different things.*fluorescence.nuclear"),
        (three, "3 channels.*leave nuclear_slide out"),
    ]
    for other, words in cases:
        with pytest.raises(SlideError, match=words):
            open_slide(marker, nuclear=other)


def test_the_real_pair_lies_in_one_place_and_says_its_filters():
    with open_slide(TRITC, nuclear=DAPI) as slide:
        assert slide.channels == ("nuclear DAPI 2 (387)", "marker TRITC 2 (560)")
        picture = slide.overview(4.0)
    assert np.percentile(picture[..., 0], 95) > 100  # nuclei
    assert np.percentile(picture[..., 1], 95) < 90  # the marker is dim


def test_a_dark_picture_in_colours_is_told_from_bright_field(stains, tmp_path):
    picture, nuclear, _ = stains
    with open_slide(nuclear) as slide, pytest.raises(DarkFieldError, match="nuclear_slide"):
        survey_slide(slide, Settings())
    merged = np.zeros((200, 200, 3), np.uint8)
    merged[50:150, 50:150] = 255  # all colours bright somewhere, the background black
    with pytest.raises(DarkFieldError, match="looks like fluorescence"):
        measure_white(merged)


def test_stains_that_are_colours_of_one_picture_are_named_in_the_settings(stains, tmp_path):
    picture, *_ = stains
    merged = false_colour(picture[..., 0], 2)
    merged[..., 0] = picture[..., 1]
    file = picture_file(tmp_path / "merged.tif", merged)
    with pytest.raises(DarkFieldError, match='fluorescence.nuclear = "blue"'):
        quantify(file, "p16")
    settings = Settings().with_values(["fluorescence.nuclear=blue", "fluorescence.marker=red"])
    result = quantify(file, "p16", settings)
    assert result.summary["marker_unit"] == "grey levels (8 bit)"
    assert result.summary["n_nuclei"] >= 80
    assert result.summary["positive_percent"] == pytest.approx(45, abs=12)


def manifest(folder: Path, **row: str) -> Path:
    fields = {"slide": "a_TRITC.tif", "marker": "p16", "person": "P1", "site": "left",
              "visit": "1", "nuclear_slide": "a_DAPI.tif", **row}  # fmt: skip
    file = folder / "manifest.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, fields)
        writer.writeheader()
        writer.writerow(fields)
    return file


def test_a_manifest_names_the_file_of_the_nuclear_stain(stains, tmp_path):
    _, nuclear, _ = stains
    (entry,) = read_manifest(manifest(tmp_path)).entries
    assert not entry.problem
    assert entry.nuclear_path == nuclear
    with pytest.raises(ManifestError, match="nuclear_slide: no such file"):
        read_manifest(manifest(tmp_path, nuclear_slide="none.tif"))


def test_a_change_of_either_file_is_a_change_of_the_slide(stains, tmp_path):
    picture, nuclear, _ = stains
    (entry,) = read_manifest(manifest(tmp_path)).entries
    before = make_key(entry, Settings())
    picture_file(nuclear, false_colour(picture[..., 0] // 2, 2))
    after = make_key(entry, Settings())
    assert before["slide_mtime_ns"] != after["slide_mtime_ns"]


def test_one_nuclear_file_is_for_one_slide(stains):
    _, nuclear, marker = stains
    (entry,) = slide_entries([marker], "p16", nuclear=nuclear)
    assert entry.nuclear_path == nuclear
    with pytest.raises(ManifestError, match="for 2 slides"):
        slide_entries([marker, nuclear], "p16", nuclear=nuclear)
    with pytest.raises(ManifestError, match="no such file"):
        slide_entries([marker], "p16", nuclear="none.tif")


def test_a_pair_goes_from_the_command_line_to_tables_and_is_kept(stains, tmp_path):
    _, nuclear, marker = stains
    out = tmp_path / "out"
    command = ["quantify", str(marker), "--marker", "p16", "--out", str(out), "--workers", "1"]
    run = CliRunner()
    first = run.invoke(app, [*command, "--nuclear-slide", str(nuclear)])
    assert first.exit_code == 0, first.output
    (row,) = csv.DictReader((out / "ledger.csv").read_text().splitlines())
    assert row["nuclear_slide"] == str(nuclear)
    (sample,) = csv.DictReader((out / "markers.csv").read_text().splitlines())
    assert sample["marker_unit"] == "grey levels (8 bit)"
    assert sample["stain_source"].startswith("fluorescence: nuclear nuclear a_DAPI")
    assert sample["white_r"] == ""
    again = run.invoke(app, [*command, "--nuclear-slide", str(nuclear), "--dry-run"])
    assert "0 of 1 slides to measure" in again.output
    with ReviewSession(out, "anna").slide(row["slide_id"]) as review, review.open_slide() as slide:
        assert len(slide.channels) == 2


def test_info_of_a_fluorescence_slide_says_that_it_has_no_white_level(tmp_path):
    file = write(tmp_path / "a.ome.tif", cells()[0])
    shown = CliRunner().invoke(app, ["info", str(file)])
    assert "DAPI, FITC (uint16)" in shown.output
    assert "fluorescence has none" in shown.output
