"""A slide's directory: what is in it, that it reads back, and that it is whole or not there."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import zarr

from fakes import MPP, PNG, make_compartments, make_junction, make_result
from histoquant import atomic, geojson, results
from histoquant.anatomy import EPIDERMIS
from histoquant.errors import ResultError
from histoquant.results import read_result, write_result
from histoquant.rundir import RunDirectory


@pytest.mark.parametrize(
    ("marker", "files"),
    [
        (
            "p16",
            "anatomy.npz compartments.geojson junction.parquet nuclei.parquet overlay.png "
            "result.json summary.csv",
        ),
        (
            "col7",
            "anatomy.npz compartments.geojson junction.parquet overlay.png result.json "
            "straightened.zarr summary.csv",
        ),
    ],
)
def test_files_of_a_slide(tmp_path: Path, marker: str, files: str) -> None:
    write_result(make_result(marker), tmp_path / "a")
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == files.split()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert sum(p.is_file() for p in (tmp_path / "a").rglob("*")) <= 15


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_round_trip(tmp_path: Path, marker: str) -> None:
    result = make_result(marker)
    back = read_result(write_result(result, tmp_path / "a"))
    assert (back.slide_id, back.marker, back.overlay) == ("slide", marker, PNG)
    assert list(back.summary) == list(result.summary)
    assert back.summary["mpp"] == MPP
    pd.testing.assert_frame_equal(
        back.junction[["bin", "arc_end_um"]], result.junction[["bin", "arc_end_um"]]
    )
    if marker == "col7":
        np.testing.assert_array_equal(back.straightened, result.straightened)
        assert back.nuclei is None
    else:
        assert len(back.nuclei) == 5
        assert back.straightened is None


def test_missing_figures_are_empty_and_have_reasons(tmp_path: Path) -> None:
    result = make_result(h_score=math.nan, positive_percent=np.nan, positive_percent_low=None)
    result = replace(result, reasons={"positive_percent": "no nuclei"})
    write_result(result, tmp_path / "a")
    table = pd.read_csv(tmp_path / "a" / "summary.csv")
    assert len(table) == 1
    assert table[["h_score", "positive_percent", "positive_percent_low"]].isna().all(axis=None)
    assert table.loc[0, "reasons"] == "positive_percent: no nuclei; h_score: not measured"
    record = json.loads((tmp_path / "a" / "result.json").read_text())
    assert record["summary"]["h_score"] is None
    assert record["reasons"]["positive_percent_low"] == "no nuclei"


def test_straightened_is_one_zarr_v3_array_with_units(tmp_path: Path) -> None:
    write_result(make_result("col7"), tmp_path / "a")
    array = zarr.open_array(tmp_path / "a" / "straightened.zarr", mode="r")
    assert (array.metadata.zarr_format, array.dtype, array.shape) == (3, np.float32, (40, 7))
    assert array.attrs["arc_step_um"] == 0.5
    assert array.metadata.dimension_names == ("arc", "depth")


def test_straightened_may_be_empty(tmp_path: Path) -> None:
    result = replace(make_result("col7"), straightened=np.empty((0, 71), np.float32))
    back = read_result(write_result(result, tmp_path / "a"))
    assert back.straightened.shape == (0, 71)


def test_unregistered_column_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    result = make_result()
    with pytest.raises(ResultError, match="shininess"):
        write_result(replace(result, nuclei=result.nuclei.assign(shininess=1.0)), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", ["_write_tables", "_write_pictures", "to_json"])
@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_failure_while_writing_leaves_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, before: bool
) -> None:
    place = tmp_path / "a"
    if before:
        write_result(make_result(n_nuclei=1), place)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, broken, fail)
    with pytest.raises(OSError, match="No space"):
        write_result(make_result(n_nuclei=2), place)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == (["a"] if before else [])
    if before:
        assert read_result(place).summary["n_nuclei"] == 1


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_killed_while_replacing_is_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """As after kill -9 between the renames: no clean-up of ours runs."""
    place = tmp_path / "a"
    write_result(make_result(n_nuclei=1), place)
    (place / "review.jsonl").write_text("an edit\n")
    rename, left = Path.rename, [renames]

    def dying(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise SystemExit
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dying)
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda *_, **__: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        write_result(make_result(n_nuclei=2), place)
    monkeypatch.undo()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slides").mkdir()
    for path in list(tmp_path.glob("*a*")):
        path.rename(tmp_path / "out" / "slides" / path.name)
    place = tmp_path / "out" / "slides" / "a"
    with RunDirectory(tmp_path / "out").locked():  # whatever command comes next
        assert [p.name for p in place.parent.iterdir()] == ["a"]
    assert read_result(place).summary["n_nuclei"] == (2 if renames == 3 else 1)
    assert (place / "review.jsonl").read_text() == "an edit\n"


@pytest.mark.parametrize("renames", [1, 2])
def test_interrupted_while_replacing_is_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    place = write_result(make_result(n_nuclei=1), tmp_path / "a")
    (place / "review.jsonl").write_text("an edit\n")
    rename, left = Path.rename, [renames]

    def interrupted(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_result(make_result(n_nuclei=2), place)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert read_result(place).summary["n_nuclei"] == 1
    assert (place / "review.jsonl").read_text() == "an edit\n"


def test_an_edit_made_while_a_result_is_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the first one, and where another's file cannot be linked; owner and file stay."""
    place = write_result(make_result(), tmp_path / "a")
    old = place / "review.jsonl"
    old.write_text("an edit\n")
    number = old.stat().st_ino
    write_pictures = results._write_pictures

    def reviewed_meanwhile(*arguments: Any) -> None:
        (place / "review-bob.jsonl").write_text("a first edit\n")
        old.write_text("an edit\nanother\n")
        write_pictures(*arguments)

    monkeypatch.setattr(results, "_write_pictures", reviewed_meanwhile)
    monkeypatch.setattr(results.os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))
    write_result(make_result(n_nuclei=3), place)
    assert (place / "review-bob.jsonl").read_text() == "a first edit\n"
    assert (old.read_text(), old.stat().st_ino) == ("an edit\nanother\n", number)
    files = json.loads((place / "result.json").read_text())["files"]
    assert sorted([*files, "result.json"]) == sorted(p.name for p in place.iterdir())


def test_edits_survive_a_new_result_and_a_failure(tmp_path: Path) -> None:
    place = write_result(make_result(), tmp_path / "a")
    with (place / "review.jsonl").open("a") as journal:
        journal.write("first\n")
        journal.flush()
        write_result(make_result(n_nuclei=3), place)
        journal.write("written while the result was replaced\n")
    results.write_failure(place, {"reason": "gone"}, "trace")
    assert (place / "review.jsonl").read_text().count("\n") == 2
    assert sorted(p.name for p in place.iterdir()) == ["error.log", "failure.json", "review.jsonl"]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda place: (place / "result.json").unlink(), "no complete result"),
        (lambda place: (place / "result.json").write_text('{"format": 1'), "no complete result"),
        (lambda place: (place / "result.json").write_text('{"format": 99}'), "format 99"),
        (lambda place: (place / "junction.parquet").write_bytes(b"PAR1"), "damaged"),
    ],
)
def test_damaged_directories_are_errors(tmp_path: Path, damage: object, word: str) -> None:
    place = write_result(make_result(), tmp_path / "a")
    damage(place)  # type: ignore[operator]
    with pytest.raises(ResultError, match=word):
        read_result(place)


def _features(name: str) -> list[dict[str, object]]:
    collection = geojson.feature_collection(make_compartments(), make_junction(), MPP)
    assert collection["type"] == "FeatureCollection"
    return [f for f in collection["features"] if f["properties"]["classification"]["name"] == name]


@pytest.mark.parametrize("name", ["Tissue", "Stratum corneum", "Epidermis", "Dermis"])
def test_regions_are_valid_polygons(name: str) -> None:
    (feature,) = _features(name)
    polygon = shapely.geometry.shape(feature["geometry"])
    assert polygon.is_valid
    assert feature["properties"]["objectType"] == "annotation"


def test_epidermis_lies_in_level_0_pixels_with_its_hole() -> None:
    (feature,) = _features("Epidermis")
    polygon = shapely.geometry.shape(feature["geometry"])
    scale = 2.0 / MPP
    expected_px = (4 * scale, 10 * scale, 76 * scale, 25 * scale)
    assert polygon.bounds == pytest.approx(expected_px, abs=0.5 * scale)
    expected = make_compartments().area_mm2(EPIDERMIS)
    assert feature["properties"]["measurements"]["Area mm^2"] == pytest.approx(expected, rel=0.03)
    assert len(polygon.interiors) == 1
    assert not polygon.contains(shapely.Point(35 * scale, 16.5 * scale))


def test_nested_islands_keep_their_nesting() -> None:
    mask = np.zeros((30, 40), bool)
    mask[2:28, 2:38] = True
    mask[6:24, 6:30] = False
    mask[10:20, 10:26] = True
    mask[14:16, 14:16] = False
    area = geojson.outlines(mask, 1.0, tolerance=0.0)
    assert area.is_valid
    assert len(area.geoms) == 2
    assert sorted(len(p.interiors) for p in area.geoms) == [1, 1]
    assert area.area == pytest.approx(mask.sum(), rel=0.02)


def test_outline_of_noise_is_valid_and_keeps_its_area() -> None:
    mask = np.random.default_rng(3).random((60, 60)) > 0.5
    area = geojson.outlines(mask, 1.0, tolerance=0.0)
    assert area.is_valid
    assert area.area == pytest.approx(mask.sum(), rel=0.2)


def test_junction_lines_split_where_exclusion_begins() -> None:
    excluded, measured = _features("DEJ")
    assert excluded["properties"]["metadata"]["reason"] == "within the cut edge"
    assert measured["properties"]["metadata"]["excluded"] == "false"
    lengths = [f["properties"]["measurements"]["Length um"] for f in (excluded, measured)]
    junction = make_junction()
    assert sum(lengths) == pytest.approx(junction.length_um)
    assert lengths[1] == pytest.approx(junction.measured_length_um)
    assert excluded["geometry"]["coordinates"][0] == pytest.approx((300.0, 100.0))


def test_geojson_is_the_same_every_time(tmp_path: Path) -> None:
    for name in "ab":
        write_result(make_result(), tmp_path / name)
    a, b = ((tmp_path / n / "compartments.geojson").read_bytes() for n in "ab")
    assert a == b


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_output_is_an_error_that_names_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write_result(make_result(), tmp_path / "a")
    tmp_path.chmod(0o700)


def test_a_threshold_sweep_is_a_table_of_its_own(tmp_path: Path) -> None:
    row = {"threshold_od": 0.2, "compartment": "all", "n_nuclei": 4, "n_positive": 1}
    row |= {"positive_percent": 25.0, "positive_percent_low": 4.6, "positive_percent_high": 69.9}
    result = replace(make_result(), provenance={"threshold_sweep": [row]})
    write_result(result, tmp_path / "a")
    table = pd.read_csv(tmp_path / "a" / "sweep.csv")
    assert table.to_dict("records") == [row]
    assert not (write_result(make_result(), tmp_path / "b") / "sweep.csv").exists()
