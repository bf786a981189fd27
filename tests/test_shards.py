"""Shards of a study: the same tables as one run, and a ledger that is right at any time."""

from __future__ import annotations

import csv
import json
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fakes import FakePipeline, write_tiny_slide
from histoquant import batch, resume, shards
from histoquant.errors import ResultError, SettingsError
from histoquant.manifest import read_manifest
from histoquant.results import read_result
from histoquant.review.store import write_reviewed
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.shards import Shard

HERE = batch.Crew(one_by_one=True)
CONTROL = ["p16.threshold_source=negative_control"]
HEADER = "slide,marker,person,site,visit,batch,control"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Seven slides in two staining batches, each with a control, and a row that is wrong."""
    rows = [HEADER]
    for number in range(7):
        name = f"s{number}.ome.tif"
        write_tiny_slide(tmp_path / name, seed=number)
        control = "negative" if number in (3, 6) else "none"
        rows.append(f"{name},p16,P{number},left,m8,B{number % 2},{control}")
    rows.append("gone.ome.tif,p16,P9,left,m8,B0,none")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "manifest.csv"


def _shard(manifest: Path, text: str, settings: Settings | None = None) -> batch.Outcome:
    read = read_manifest(manifest)
    directory, shard = RunDirectory(manifest.parent / "out"), Shard.parse(text)
    settings = settings or Settings()
    with directory.locked_for_shard(shard.number, shard.of):
        shards.write_received(directory, read.entries, settings, {"command": "batch"})
        steps = batch.plan(read.usable, directory, settings)
        return batch.run_shard(shard, steps, directory, crew=HERE)


def _merge(manifest: Path) -> dict[str, tuple[str, str]]:
    directory = RunDirectory(manifest.parent / "out")
    with directory.locked(beside_shards=True):
        assert shards.merge(directory)
        directory.write_tables()
    return _ledger(manifest)


def _ledger(manifest: Path, out: str = "out") -> dict[str, tuple[str, str]]:
    with (manifest.parent / out / "ledger.csv").open(newline="") as file:
        return {row["slide_id"]: (row["status"], row["reason"]) for row in csv.DictReader(file)}


def _whole_run(manifest: Path, settings: Settings | None = None) -> None:
    read, directory = read_manifest(manifest), RunDirectory(manifest.parent / "whole")
    with directory.locked():
        steps = batch.plan(read.usable, directory, settings or Settings())
        batch.run(steps, directory, bad=read.bad, exclude_others=True, crew=HERE)


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/3", "1/0", "-1/3", "1/3/5"])
def test_what_is_no_shard(text: str) -> None:
    with pytest.raises(SettingsError, match="not i/n"):
        Shard.parse(text)


@pytest.mark.parametrize("assignments", [[], CONTROL])
@pytest.mark.parametrize("of", [1, 2, 3, 10])
def test_every_slide_is_in_one_shard(manifest: Path, of: int, assignments: list[str]) -> None:
    settings = Settings().with_values(assignments)
    directory = RunDirectory(manifest.parent / "out")
    steps = batch.plan(read_manifest(manifest).usable, directory, settings)
    parts = [[s.entry for s in Shard(i, of).own(steps)] for i in range(1, of + 1)]
    assert sorted(e.slide_id for part in parts for e in part) == [f"s{i}" for i in range(7)]
    if assignments:  # slides stay with the control that their threshold comes from
        assert all(
            len([p for p in parts if any(e.batch == b for e in p)]) == 1 for b in ["B0", "B1"]
        )


@pytest.mark.parametrize("assignments", [[], CONTROL])
def test_shards_make_the_tables_of_one_run(
    manifest: Path, fake_pipeline: FakePipeline, assignments: list[str]
) -> None:
    settings = Settings().with_values(assignments)
    _whole_run(manifest, settings)
    fake_pipeline.measured.clear()
    for part in ("2/3", "3/3", "1/3"):
        _shard(manifest, part, settings)
    assert sorted(fake_pipeline.measured) == [f"s{i}.ome.tif" for i in range(7)]
    assert _merge(manifest) == _ledger(manifest, "whole")
    for name in ("markers.csv", "markers.parquet", "columns.json"):
        mine, theirs = (manifest.parent / out / name for out in ("out", "whole"))
        assert mine.read_bytes() == theirs.read_bytes()
    run = json.loads((manifest.parent / "out" / "run.json").read_text())
    assert (run["scheduler"], run["slides"]["done"], run["slides"]["failed"]) == ("shards", 7, 1)
    assert list((manifest.parent / "out" / "shards").iterdir()) == []
    fake_pipeline.measured.clear()
    for part in ("1/2", "2/2"):  # another division finds all done
        assert _shard(manifest, part, settings).fates == ()


def test_ledger_in_the_middle(manifest: Path, fake_pipeline: FakePipeline) -> None:
    directory = RunDirectory(manifest.parent / "out")
    with directory.locked_for_shard(2, 2):
        _shard(manifest, "1/2")
        found = _merge(manifest)
        assert [status for status, _ in found.values()].count("pending") == 3
        assert "start its shard again" in found["s1"][1]
        assert found["gone"][0] == "failed"
        assert len(pd.read_csv(manifest.parent / "out" / "markers.csv")) == 4
    _shard(manifest, "2/2")
    assert [status for status, _ in _merge(manifest).values()].count("done") == 7


def test_failed_slide_of_a_shard(manifest: Path, fake_pipeline: FakePipeline) -> None:
    (manifest.parent / "s0.ome.tif").rename(manifest.parent / "blank.ome.tif")
    manifest.write_text(manifest.read_text().replace("s0.ome", "blank.ome"))
    assert _shard(manifest, "1/1").failed == 1
    assert _merge(manifest)["blank"] == ("failed", "blank.ome.tif: no tissue was found")


def test_slide_without_epidermis_in_a_shard(manifest: Path, fake_pipeline: FakePipeline) -> None:
    (manifest.parent / "s0.ome.tif").rename(manifest.parent / "barren.ome.tif")
    manifest.write_text(manifest.read_text().replace("s0.ome", "barren.ome"))
    why = ("failed", "no figure along the junction: no epidermis found")
    for _ in range(2):
        assert _shard(manifest, "1/1").failed == 1
        assert _merge(manifest)["barren"] == why


def test_rejected_slide_of_a_shard(manifest: Path, fake_pipeline: FakePipeline) -> None:
    _shard(manifest, "1/1")
    place = manifest.parent / "out" / "slides" / "s4"
    review = {"reviewer": "anna", "verdict": "rejected", "reason": "torn"}
    write_reviewed(read_result(place), place, review, [])
    assert _shard(manifest, "1/1").ledger.count("excluded") == 1
    assert _merge(manifest)["s4"] == ("excluded", "rejected in review by anna: torn")
    run = json.loads((manifest.parent / "out" / "run.json").read_text())
    assert (run["slides"]["done"], run["slides"]["excluded"]) == (6, 1)


def test_result_of_other_settings_does_not_count(
    manifest: Path, fake_pipeline: FakePipeline
) -> None:
    _whole_run(manifest)
    shutil.copytree(manifest.parent / "whole", manifest.parent / "out")
    _shard(manifest, "1/2", Settings().with_values(["nuclei.min_area_um2=20"]))
    assert [status for status, _ in _merge(manifest).values()].count("pending") == 3


def test_slide_that_changed_does_not_count_until_measured(
    manifest: Path, fake_pipeline: FakePipeline
) -> None:
    _shard(manifest, "1/1")
    write_tiny_slide(manifest.parent / "s4.ome.tif", seed=99)
    assert _merge(manifest)["s4"][0] == "pending"
    _shard(manifest, "1/1")
    assert _merge(manifest)["s4"][0] == "done"


def test_tables_need_neither_slides_nor_the_same_version(
    manifest: Path, fake_pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    _shard(manifest, "1/1")
    for slide in manifest.parent.glob("s*.ome.tif"):
        slide.unlink()
    monkeypatch.setattr(resume, "__version__", "99")
    assert [status for status, _ in _merge(manifest).values()].count("done") == 7


def test_slides_of_an_earlier_run_are_excluded(manifest: Path, fake_pipeline: FakePipeline) -> None:
    _shard(manifest, "1/1")
    _merge(manifest)
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(lines[:3] + lines[4:]) + "\n")
    _shard(manifest, "1/1")
    assert _merge(manifest)["s2"] == ("excluded", "not in the manifest")


def test_who_may_work_beside_whom(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "out")
    with ExitStack() as stack:
        stack.enter_context(directory.locked_for_shard(1, 3))
        stack.enter_context(directory.locked_for_shard(2, 3))
        for other in (
            directory.locked_for_shard(2, 3),  # the same
            directory.locked_for_shard(1, 4),  # another division
            directory.locked(),  # a whole run
        ):
            with pytest.raises(ResultError, match="in use by shard"), other:
                pass
        with directory.locked("making tables", beside_shards=True):
            pass
    with directory.locked():
        pass


def test_shard_waits_for_tables_only_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "out")
    monkeypatch.setattr("histoquant.rundir._TABLES_S", 0.1)
    with (
        directory.locked(),
        pytest.raises(ResultError, match="in use by a run"),
        directory.locked_for_shard(1, 2),
    ):
        pass
    with directory.locked_for_shard(1, 2):
        pass


def test_shard_may_start_while_tables_are_made(
    manifest: Path, fake_pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its lock by the time the tables are done, and still has it then."""
    _shard(manifest, "1/2")
    directory, begun = RunDirectory(manifest.parent / "out"), threading.Event()
    wait, kept = RunDirectory._wait_for_tables, []

    def waiting(self: RunDirectory) -> None:
        begun.set()
        wait(self)

    def shard() -> None:
        with directory.locked_for_shard(2, 2) as lock:
            lock.check()
            shards.write_received(directory, read_manifest(manifest).entries, Settings(), {})
            kept.append(shards.are_there(directory))

    other = threading.Thread(target=shard)

    def starting(*arguments: Any) -> Any:  # merge has asked who is at work by now
        other.start()
        assert begun.wait(10)
        return fates(*arguments)

    fates = shards._fates
    monkeypatch.setattr(RunDirectory, "_wait_for_tables", waiting)
    monkeypatch.setattr(shards, "_fates", starting)
    with RunDirectory(manifest.parent / "out").locked(beside_shards=True):
        assert shards.merge(directory)
    other.join()
    assert kept == [True]


def test_whole_run_takes_over_from_shards(manifest: Path, fake_pipeline: FakePipeline) -> None:
    _shard(manifest, "1/2")
    fake_pipeline.measured.clear()
    shutil.move(manifest.parent / "out", manifest.parent / "whole")
    _whole_run(manifest)
    assert len(fake_pipeline.measured) == 3
    assert list((manifest.parent / "whole" / "shards").iterdir()) == []


def test_what_shards_left_is_damaged(manifest: Path, fake_pipeline: FakePipeline) -> None:
    _shard(manifest, "1/1")
    (manifest.parent / "out" / "shards" / "received.json").write_text("{")
    with pytest.raises(ResultError, match="start a shard again"):
        _merge(manifest)
