"""Staining batches against each other: what is flagged, and what is not judged."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pandas as pd
import pytest

from fakes import FakePipeline, write_tiny_slide
from histoquant import batch, tables
from histoquant.drift import LEAST_OD, Stain, drift_rows, slide_stain
from histoquant.manifest import read_manifest
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings


def stain(
    run: str,
    od: float | None,
    *,
    control: str = "positive",
    marker: str = "p16",
    hematoxylin: float | None = 0.3,
) -> Stain:
    return Stain(f"{run}_{od}", marker, control, run, od, hematoxylin, 0.05)


def flags(stains: list[Stain]) -> dict[object, object]:
    return {row["batch"]: row["flagged"] for row in drift_rows(stains)}


def test_a_batch_that_is_off_is_flagged_and_the_others_are_not() -> None:
    stains = [stain(f"run_{n}", od) for n, od in enumerate((0.50, 0.52, 0.51, 0.49, 0.75))]
    assert flags(stains) == {"run_0": False, "run_1": False, "run_2": False, "run_3": False,
                             "run_4": True}  # fmt: skip
    row = drift_rows(stains)[4]
    assert row["expected_marker_od"] == pytest.approx(0.505)
    assert "marker_od 0.75, +0.24 from the other batches" in str(row["reason"])


@pytest.mark.parametrize(
    ("difference", "flagged"),
    [(LEAST_OD, False), (LEAST_OD + 0.001, True), (-LEAST_OD - 0.001, True), (0.0, False)],
)
def test_two_batches_differ_by_more_than_the_least(difference: float, flagged: bool) -> None:
    assert flags([stain("a", 0.5), stain("b", 0.5 + difference)]) == {"a": flagged, "b": flagged}


def test_the_limit_grows_with_the_scatter_of_the_others() -> None:
    values = (0.3, 0.4, 0.5, 0.6, 0.7)
    rows = drift_rows([*(stain(f"r{v}", v) for v in values), stain("z", 0.95)])
    last = rows[-1]
    assert last["limit_marker_od"] == pytest.approx(3.5 * 1.4826 * 0.1)
    assert last["flagged"] is False


def test_the_counterstain_is_judged_too() -> None:
    stains = [stain("a", 0.5), stain("b", 0.5), stain("c", 0.5, hematoxylin=0.6)]
    assert flags(stains) == {"a": False, "b": False, "c": True}


def test_markers_and_kinds_of_control_are_not_mixed() -> None:
    stains = [
        stain("a", 0.1, control="negative"),
        stain("b", 0.1, control="negative"),
        stain("a", 0.6),
        stain("b", 0.6),
        stain("a", 0.9, marker="col7"),
    ]
    rows = drift_rows(stains)
    assert [r["flagged"] for r in rows if r["marker"] == "p16"] == [False] * 4
    (alone,) = (r for r in rows if r["marker"] == "col7")
    assert alone["flagged"] is None
    assert "nothing to compare" in str(alone["reason"])


def test_study_slides_are_tabled_and_never_judged() -> None:
    rows = drift_rows([stain("a", 0.1, control="none"), stain("b", 0.9, control="none")])
    assert [row["flagged"] for row in rows] == [None, None]
    assert "not judged" in str(rows[0]["reason"])


def test_missing_stains_are_missing() -> None:
    rows = drift_rows([stain("a", None, hematoxylin=None), stain("b", 0.5)])
    assert rows[0]["marker_od"] is None
    assert [row["flagged"] for row in rows] == [None, None]
    assert drift_rows([]) == []
    assert drift_rows([stain("", 0.5)]) == []


def test_slides_of_a_batch_count_by_their_median() -> None:
    (row,) = drift_rows([stain("a", 0.2), stain("a", 0.3), stain("a", 0.9)])
    assert row["n_slides"] == 3
    assert row["marker_od"] == 0.3


def test_nuclei_that_are_excluded_do_not_count(tmp_path: Path) -> None:
    pd.DataFrame(
        {
            "dab_od_mean": [0.1, 0.2, 0.3, 9.0],
            "hematoxylin_od_mean": [0.5] * 4,
            "excluded": [False, False, False, True],
        }
    ).to_parquet(tmp_path / "nuclei.parquet")
    row = {"slide_id": "s", "marker": "p16", "control": "positive", "batch": "a"}
    found = slide_stain(row, {"ring_dab_od_median": math.nan}, tmp_path)
    assert (found.marker_od, found.hematoxylin_od, found.background_od) == (0.2, 0.5, None)
    gone = slide_stain(row, {}, tmp_path / "nowhere")
    assert gone.marker_od is None


def test_fluorescence_has_no_optical_density(tmp_path: Path) -> None:
    row = {"slide_id": "s", "marker": "col7", "control": "positive", "batch": "a"}
    figures = {"peak_od_median": 812.0, "background_od_mean": 90.0}
    assert slide_stain(row, figures, tmp_path).marker_od == 812.0
    glowing = slide_stain(row, figures | {"marker_unit": "grey levels (16 bit)"}, tmp_path)
    assert (glowing.marker_od, glowing.background_od) == (None, None)


def test_the_table_is_written_with_registered_columns(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    rows = ["slide,marker,person,site,visit,batch,control"]
    for run in ("run_1", "run_2"):
        for marker in ("p16", "col7"):
            name = f"{run}_{marker}.ome.tif"
            write_tiny_slide(tmp_path / name, seed=len(rows))
            rows.append(f"{name},{marker},control,block,{run},{run},positive")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    directory = RunDirectory(tmp_path / "out")
    with directory.locked():
        batch.run(batch.plan(read_manifest(tmp_path / "m.csv").usable, directory, Settings()),
                  directory)  # fmt: skip
    with (directory.path / "drift.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [name for name in table[0]] == [c.name for c in tables.DRIFT]
    assert {row["flagged"] for row in table} == {"False"}
