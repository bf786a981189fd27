"""Many slides: what is done again and why, what survives, and the ledger of it all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pandas as pd
import pytest
from dask.utils import parse_timedelta

from fakes import FakePipeline, write_tiny_slide
from histoquant import batch, measuring, runlock, schedule
from histoquant.errors import ManifestError, ResultError
from histoquant.manifest import Entry, read_manifest, slide_entries
from histoquant.results import RESULT, read_result
from histoquant.review.store import write_reviewed
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

HEADER = "slide,marker,person,site,visit"
HERE = batch.Crew(one_by_one=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A manifest of three tiny slides."""
    for i in range(3):
        write_tiny_slide(tmp_path / "slides" / f"s{i}.ome.tif", seed=i)
    rows = [f"slides/s{i}.ome.tif,p16,P{i},left_hand,month_8" for i in range(3)]
    return _manifest(tmp_path, *rows)


def _manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def _run(manifest: Path, settings: Settings | None = None, **choices: Any) -> batch.Outcome:
    read = read_manifest(manifest)
    directory = RunDirectory(manifest.parent / "out")
    retry = choices.pop("retry_failed", False)
    choices.setdefault("crew", HERE)
    with directory.locked():
        steps = batch.plan(read.usable, directory, settings or Settings(), retry)
        return batch.run(steps, directory, bad=read.bad, exclude_others=True, **choices)


def _why(manifest: Path, settings: Settings | None = None) -> dict[str, tuple[str, str]]:
    read = read_manifest(manifest)
    directory = RunDirectory(manifest.parent / "out")
    steps = batch.plan(read.usable, directory, settings or Settings())
    return {s.entry.slide_id: (s.action, s.why) for s in steps}


def _ledger(manifest: Path) -> list[dict[str, str]]:
    with (manifest.parent / "out" / "ledger.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_first_run_does_all_second_run_nothing(study: Path, fake_pipeline: FakePipeline) -> None:
    outcome = _run(study)
    assert (len(outcome.fates), outcome.kept, outcome.failed) == (3, 0, 0)
    markers = (study.parent / "out" / "markers.csv").read_bytes()
    outcome = _run(study)
    assert (len(outcome.fates), outcome.kept) == (0, 3)
    assert fake_pipeline.measured == [f"s{i}.ome.tif" for i in range(3)]
    assert (study.parent / "out" / "markers.csv").read_bytes() == markers
    assert [row["status"] for row in _ledger(study)] == ["done"] * 3
    assert all(float(row["seconds"]) >= 0 for row in _ledger(study))


def test_files_of_a_results_directory(study: Path, fake_pipeline: FakePipeline) -> None:
    _run(study)
    out = study.parent / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "columns.json", "ledger.csv", "markers.csv", "markers.parquet", "run.json", "slides",
    ]  # fmt: skip
    markers = pd.read_csv(out / "markers.csv")
    assert markers["person"].tolist() == ["P0", "P1", "P2"]
    assert list(markers.columns) == list(pd.read_parquet(out / "markers.parquet").columns)
    run = json.loads((out / "run.json").read_text())
    assert {"version", "host", "started", "finished", "scheduler", "slides"} <= set(run)
    assert read_result(out / "slides" / "s1").slide_id == "s1"


def _change_slide(study: Path) -> None:
    write_tiny_slide(study.parent / "slides" / "s1.ome.tif", seed=99)


def _touch_slide(study: Path) -> None:
    os.utime(study.parent / "slides" / "s1.ome.tif", (1, 1))


def _lose_result(study: Path) -> None:
    (study.parent / "out" / "slides" / "s1" / RESULT).unlink()


def _cut_result(study: Path) -> None:
    path = study.parent / "out" / "slides" / "s1" / RESULT
    path.write_text(path.read_text()[:50])


def _lose_directory(study: Path) -> None:
    shutil.rmtree(study.parent / "out" / "slides" / "s1")


def _older_version(study: Path) -> None:
    path = study.parent / "out" / "slides" / "s1" / RESULT
    record = json.loads(path.read_text())
    record["key"]["version"] = "0.0.1"
    path.write_text(json.dumps(record))


def _give_scale(study: Path) -> None:
    lines = study.read_text().splitlines()
    lines = [
        f"{line},{'mpp' if i == 0 else '0.4' if i == 2 else ''}" for i, line in enumerate(lines)
    ]
    study.write_text("\n".join(lines))


def _give_stains(study: Path) -> None:
    lines = study.read_text().splitlines()
    lines = [
        f"{line},{'stains' if i == 0 else 'he' if i == 2 else ''}" for i, line in enumerate(lines)
    ]
    study.write_text("\n".join(lines))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_change_slide, "changed: slide file"),
        (_touch_slide, None),
        (_lose_result, "no result.json: it was interrupted"),
        (_cut_result, "no result.json: it was interrupted"),
        (_lose_directory, "new"),
        (_older_version, "changed: version"),
        (_give_scale, "changed: given mpp"),
        (_give_stains, "changed: settings (stains.preset)"),
    ],
)
def test_only_what_is_missing_or_changed_is_done(
    study: Path,
    fake_pipeline: FakePipeline,
    change: Any,
    why: str | None,
) -> None:
    _run(study)
    change(study)
    plan = _why(study)
    assert plan.pop("s1") == (("measure", why) if why else ("keep", "up to date"))
    assert set(plan.values()) == {("keep", "up to date")}
    fake_pipeline.measured.clear()
    _run(study)
    assert fake_pipeline.measured == (["s1.ome.tif"] if why else [])
    assert {action for action, _ in _why(study).values()} == {"keep"}


def test_changed_setting_redoes_all_and_names_it(
    study: Path,
    fake_pipeline: FakePipeline,
) -> None:
    _run(study)
    changed = Settings().with_values(["nuclei.min_area_um2=20"])
    whys = set(_why(study, changed).values())
    assert whys == {("measure", "changed: settings (nuclei.min_area_um2)")}
    assert {
        a for a, _ in _why(study, Settings().with_values(["compute.block_px=512"])).values()
    } == {"keep"}


def test_failures_are_told_and_left_until_retried(
    tmp_path: Path,
    fake_pipeline: FakePipeline,
) -> None:
    for name in ("blank", "bug", "fine"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif")
    manifest = _manifest(tmp_path, *(f"{n}.ome.tif,p16,P,left,m" for n in ("blank", "bug", "fine")))
    assert _run(manifest).failed == 2
    reasons = {row["slide_id"]: (row["status"], row["reason"]) for row in _ledger(manifest)}
    assert reasons["blank"] == ("failed", "blank.ome.tif: no tissue was found")
    assert reasons["bug"] == ("failed", "ZeroDivisionError: a bug")
    assert reasons["fine"] == ("done", "")
    log = tmp_path / "out" / "slides" / "bug" / "error.log"
    assert "Traceback" in log.read_text()
    assert len(pd.read_csv(tmp_path / "out" / "markers.csv")) == 1
    outcome = _run(manifest)
    assert (outcome.fates, outcome.failed) == ((), 2)
    assert [f.entry.slide_id for f in _run(manifest, retry_failed=True).fates] == ["blank", "bug"]
    changed = Settings().with_values(["nuclei.min_area_um2=20"])
    assert len(_run(manifest, changed).fates) == 3


def test_a_persons_slide_without_epidermis_fails_and_keeps_its_result(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    """It is in no table until a reviewer draws the epidermis; a control may be any tissue."""
    for name in ("barren", "barren_control", "skin"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif")
    manifest = _manifest(
        tmp_path, "barren.ome.tif,p16,P1,left,m,", "barren_control.ome.tif,p16,C,-,-,positive",
        "skin.ome.tif,p16,P1,left,m,", header=f"{HEADER},control",
    )  # fmt: skip
    why = "no figure along the junction: no epidermis found"
    fates = [("failed", why), ("done", why), ("done", "")]
    assert _run(manifest).failed == 1
    out = tmp_path / "out"
    for _ in range(2):  # kept without being measured again
        assert [(row["status"], row["reason"]) for row in _ledger(manifest)] == fates
        assert pd.read_csv(out / "markers.csv")["slides"].tolist() == ["barren_control", "skin"]
        outcome = _run(manifest)
        assert (outcome.fates, outcome.failed) == ((), 1)
    assert [f.entry.slide_id for f in _run(manifest, retry_failed=True).fates] == ["barren"]
    result = read_result(out / "slides" / "barren")
    result.summary["dej_length_mm"] = 1.0
    review = {"reviewer": "anna", "verdict": "accepted", "reason": ""}
    write_reviewed(result, out / "slides" / "barren", review, [])
    RunDirectory(out).write_tables()
    assert [row["status"] for row in _ledger(manifest)] == ["done"] * 3
    assert len(pd.read_csv(out / "markers.csv")) == 2
    automatic = pd.read_csv(out / "markers_automatic.csv")
    assert automatic["slides"].tolist() == ["barren_control", "skin"]


def test_slide_that_now_fails_loses_its_old_result(
    study: Path,
    fake_pipeline: FakePipeline,
) -> None:
    _run(study)
    (study.parent / "slides" / "s1.ome.tif").write_bytes(b"no slide any more")
    _run(study)
    assert [row["status"] for row in _ledger(study)] == ["done", "failed", "done"]
    assert not (study.parent / "out" / "slides" / "s1" / RESULT).exists()
    assert len(pd.read_csv(study.parent / "out" / "markers.csv")) == 2


def test_full_disk_is_tried_again_without_asking(
    study: Path,
    fake_pipeline: FakePipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(measuring, "write_result", full)
        assert _run(study).failed == 3
    assert "No space left" in _ledger(study)[0]["reason"]
    assert _run(study).failed == 0


def test_interrupted_run_leaves_a_consistent_directory(
    study: Path,
    fake_pipeline: FakePipeline,
) -> None:
    def interrupt(fate: batch.Fate) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(study, on_fate=interrupt)
    assert [row["status"] for row in _ledger(study)] == ["done", "pending", "pending"]
    assert len(pd.read_csv(study.parent / "out" / "markers.csv")) == 1
    assert not (study.parent / "out" / ".lock").exists()
    assert len(_run(study).fates) == 2


def test_slide_gone_from_the_manifest_is_excluded_and_comes_back(
    study: Path,
    fake_pipeline: FakePipeline,
) -> None:
    whole = study.read_text()
    _run(study)
    study.write_text("\n".join(whole.splitlines()[:-1]) + "\n")
    _run(study)
    assert [(r["slide_id"], r["status"]) for r in _ledger(study)][-1] == ("s2", "excluded")
    assert len(pd.read_csv(study.parent / "out" / "markers.csv")) == 2
    study.write_text(whole)
    assert _run(study).fates == ()
    assert len(pd.read_csv(study.parent / "out" / "markers.csv")) == 3


def test_corrected_person_needs_no_measuring(study: Path, fake_pipeline: FakePipeline) -> None:
    _run(study)
    study.write_text(study.read_text().replace("P1", "P7"))
    assert _run(study).fates == ()
    people = pd.read_csv(study.parent / "out" / "markers.csv")["person"].tolist()
    assert people == ["P0", "P2", "P7"]


def test_two_sections_of_a_sample_are_one_row(study: Path, fake_pipeline: FakePipeline) -> None:
    study.write_text(study.read_text().replace("P1", "P0"))
    _run(study)
    markers = pd.read_csv(study.parent / "out" / "markers.csv")
    assert markers[["person", "n_sections", "n_nuclei"]].values.tolist() == [
        ["P0", 2, 200],
        ["P2", 1, 100],
    ]


# Manifest


def test_all_bad_rows_at_once_and_the_good_one_is_done(
    tmp_path: Path,
    fake_pipeline: FakePipeline,
) -> None:
    write_tiny_slide(tmp_path / "good.ome.tif")
    write_tiny_slide(tmp_path / "other.ome.tif")
    manifest = _manifest(
        tmp_path,
        "good.ome.tif,p16,P1,left,m8,",
        "gone.ome.tif,p16,P1,left,m8,",
        "other.ome.tif,p61,,left,m8,zero",
        "good.ome.tif,p16,P1,left,m8,",
        header=HEADER + ",mpp",
    )
    read = read_manifest(manifest)
    problems = {entry.row: entry.problem for entry in read.bad}
    assert "no such file" in problems[3]
    for words in ("marker 'p61'", "person is empty", "mpp 'zero'"):
        assert words in problems[4]
    assert problems[5] == "the same slide and marker as on line 2"
    _run(manifest)
    assert [row["status"] for row in _ledger(manifest)] == ["done", "failed", "failed", "failed"]
    assert [row["row"] for row in _ledger(manifest)] == ["2", "3", "4", "5"]


def test_same_slide_for_two_people_is_used_for_neither(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif")
    rows = ("a.ome.tif,p16,P1,left,m8", "a.ome.tif,p16,P2,left,m8", "b.ome.tif,p16,P3,left,m8")
    read = read_manifest(_manifest(tmp_path, *rows))
    assert [e.row for e in read.bad] == [2, 3]
    assert "different samples on lines 2, 3" in read.bad[0].problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"slide,marker\na.svs,p16\n", "missing column.* person, site, visit"),
        (b"", "missing column"),
        (HEADER.encode(), "no rows"),
        (HEADER.encode() + b"\nno.svs,p16,P,l,v\n", "(?s)no row can be used.*line 2"),
        (b"\xff\xfe\x00s", "UTF-8"),
        (HEADER.encode() + b",slide\na,p16,P,l,v,b\n", "slide appear more than once"),
        (HEADER.encode() + b'\n"a,p16,P,l,v\n', "not a CSV"),
    ],
)
def test_unusable_manifests(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=words):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_spreadsheets_of_other_countries(tmp_path: Path, separator: str) -> None:
    write_tiny_slide(tmp_path / "a.ome.tif")
    text = f"{HEADER},note\na.ome.tif,p16,P 1,left,m8,x\n\n".replace(",", separator)
    (tmp_path / "m.csv").write_text(text, encoding="utf-8-sig")
    read = read_manifest(tmp_path / "m.csv")
    assert [e.person for e in read.usable] == ["P 1"]
    assert read.ignored == ("note",)


def test_comma_in_a_name_is_noticed(tmp_path: Path) -> None:
    write_tiny_slide(tmp_path / "a.ome.tif")
    rows = ("a.ome.tif,p16,P1,left,m8", "a.ome.tif,col7,Doe, Jane,left,m8")
    (bad,) = read_manifest(_manifest(tmp_path, *rows)).bad
    assert "6 fields under 5 columns" in bad.problem


def test_identifiers_are_safe_unique_and_stable(tmp_path: Path) -> None:
    names = ["a/x.ome.tif", "b/x.ome.tif", "c/X.svs", "d/Läsion 3 (b).tif", "e/..hidden.tif"]
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    rows = [f"{name},p16,P,l,v" for name in names]
    ids = [e.slide_id for e in read_manifest(_manifest(tmp_path, *rows)).usable]
    assert ids[0] == "x"
    assert ids[3:] == ["L_sion_3_b", "hidden"]
    assert len({i.casefold() for i in ids}) == 5
    assert ids[1].startswith("x-")
    longer = read_manifest(_manifest(tmp_path, *rows, "a/x.ome.tif,col7,P,l,v")).usable
    assert [e.slide_id for e in longer][:5] == ids
    assert all("/" not in i and not i.startswith(".") for i in ids)


def test_slides_added_by_hand_do_not_take_each_others_names(
    tmp_path: Path,
    fake_pipeline: FakePipeline,
) -> None:
    directory = RunDirectory(tmp_path / "out")
    ids = []
    for folder in ("a", "b", "a"):
        slide = write_tiny_slide(tmp_path / folder / "x.ome.tif")
        entries = slide_entries([slide, slide], "p16", None, directory.ledger().rows)
        with directory.locked():
            batch.run(batch.plan(entries, directory, Settings()), directory, crew=HERE)
        ids.append(entries[0].slide_id)
    assert ids[0] == ids[2] == "x"
    assert ids[1] != "x"
    assert directory.ledger().count("done") == 2


# Lock


def test_second_run_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "out")
    with directory.locked(), pytest.raises(ResultError, match=f"process {os.getpid()} on"):
        directory.locked().__enter__()
    with directory.locked():
        pass


@pytest.mark.parametrize(
    ("machine", "pid", "age_s", "free"),
    [
        pytest.param(runlock._machine(), 2**22 + 1, 0, True, id="dead"),
        pytest.param(runlock._machine(), os.getpid(), 0, True, id="our number, older process"),
        pytest.param(runlock._machine(), os.getppid(), 0, True, id="a number used again"),
        pytest.param("another", 2**22 + 1, 0, False, id="elsewhere, beating"),
        pytest.param("another", 2**22 + 1, runlock.STALE_S + 60, True, id="elsewhere, silent"),
    ],
)
def test_locks_of_other_processes(
    tmp_path: Path, machine: str, pid: int, age_s: float, free: bool
) -> None:
    host = "there"
    directory = RunDirectory(tmp_path)
    content = {"host": host, "machine": machine, "pid": pid, "since": "then"}
    (tmp_path / ".lock").write_text(json.dumps(content))
    os.utime(tmp_path / ".lock", (time.time() - age_s,) * 2)
    if free:
        with directory.locked():
            pass
        return
    with pytest.raises(ResultError, match=f"process {pid} on {host} since then"):
        directory.locked().__enter__()
    assert (tmp_path / ".lock").exists()


def test_tables_need_a_results_directory(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no results directory"):
        RunDirectory(tmp_path).write_tables()


def test_lost_result_of_a_done_slide_is_an_error(
    study: Path,
    fake_pipeline: FakePipeline,
) -> None:
    _run(study)
    _lose_result(study)
    with pytest.raises(ResultError, match="s1 is done"):
        RunDirectory(study.parent / "out").write_tables()


def _reject(study: Path, slide_id: str) -> Path:
    place = study.parent / "out" / "slides" / slide_id
    review = {"reviewer": "anna", "verdict": "rejected", "reason": "torn"}
    write_reviewed(read_result(place), place, review, [])
    return place


def test_a_rejected_slide_is_excluded_at_every_moment_of_a_run(
    study: Path, fake_pipeline: FakePipeline
) -> None:
    _run(study)
    _reject(study, "s1")
    (study.parent / "slides" / "s2.ome.tif").write_bytes(b"no slide any more")
    seen = []
    outcome = _run(study, on_fate=lambda _: seen.append([r["status"] for r in _ledger(study)]))
    assert seen == [["done", "excluded", "failed"]]
    assert [row["status"] for row in outcome.ledger.rows] == seen[0]
    assert outcome.ledger.rows == RunDirectory(study.parent / "out").ledger().rows
    assert outcome.ledger.rows[1]["reason"] == "rejected in review by anna: torn"
    counts = json.loads((study.parent / "out" / "run.json").read_text())["slides"]
    assert counts == {"done": 1, "failed": 1, "excluded": 1, "pending": 0}


def test_a_verdict_that_comes_with_the_new_result_is_the_slides_fate(
    study: Path, fake_pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reject(entry: Entry, _: object) -> str:
        _reject(study, entry.slide_id)
        return ""

    monkeypatch.setattr(measuring, "_reapply", reject)
    outcome = _run(study)
    assert {fate.status for fate in outcome.fates} == {"excluded"}
    assert outcome.ledger.count("excluded") == 3


def test_a_rejected_slide_whose_directory_was_removed_is_pending(
    study: Path, fake_pipeline: FakePipeline
) -> None:
    _run(study)
    place = _reject(study, "s1")
    RunDirectory(study.parent / "out").write_tables()
    assert _ledger(study)[1]["status"] == "excluded"
    shutil.rmtree(place)
    assert len(RunDirectory(study.parent / "out").write_tables()) == 2
    row = _ledger(study)[1]
    assert (row["status"], row["reason"]) == ("pending", "its result was removed")


def test_edits_that_meet_a_programming_error_leave_the_new_result(
    study: Path, fake_pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(measuring, "_reapply", fail)
    assert _run(study).failed == 0
    words = "the reviewer's edits are not applied: ZeroDivisionError: a bug"
    assert [(row["status"], row["reason"]) for row in _ledger(study)] == [("done", words)] * 3
    assert len(pd.read_csv(study.parent / "out" / "markers.csv")) == 3


# Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with schedule.local_cluster(2) as client:
        yield client


@pytest.fixture
def client(cluster: Any) -> Any:
    cluster.wait_for_workers(2, timeout=120)  # a test before may have killed some
    return cluster


def test_tasks_of_a_dying_worker_fail_alone(client: Any, tmp_path: Path) -> None:
    def task(number: int) -> int:
        with (tmp_path / str(number)).open("a") as file:
            file.write("x")
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 5:
            raise ValueError("five")
        return number * number

    done = {d.task: d for d in schedule.run_on(client, task, list(range(8)), lambda: 2)}
    assert sorted(done) == list(range(8))
    good = {n: d.value for n, d in done.items() if n not in (3, 5)}
    assert good == {n: n * n for n in (0, 1, 2, 4, 6, 7)}
    assert "its worker died 4 times" in done[3].lost
    assert "ValueError: five" in done[5].lost
    assert len((tmp_path / "3").read_text()) == 4


def test_neighbours_of_a_dying_worker_are_not_given_up(client: Any, tmp_path: Path) -> None:
    """More tasks in flight than workers: all that wait for a worker die with it."""

    def task(number: int) -> int:
        with (tmp_path / str(number)).open("a") as file:
            file.write("x")
        time.sleep(0.05)
        if number in (0, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    done = {d.task: d for d in schedule.run_on(client, task, list(range(12)), lambda: 8)}
    assert {n for n, d in done.items() if d.lost} == {0, 1}
    assert [done[n].value for n in range(2, 12)] == list(range(2, 12))
    assert all(len((tmp_path / str(n)).read_text()) >= 2 for n in (0, 1))  # alone, at least


def test_a_value_that_dies_with_its_worker_is_computed_again(client: Any, tmp_path: Path) -> None:
    """Between the end of a task and the fetching of its value its worker may die of another."""

    def task(number: int) -> int:
        first = not (tmp_path / str(number)).exists()
        (tmp_path / str(number)).touch()
        if number == 1 and first:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(2 if number == 1 and not first else 0)
        return number * number

    values = {}
    for done in schedule.run_on(client, task, list(range(6)), lambda: 2):
        assert done.lost == ""
        values[done.task] = done.value
        time.sleep(1 if len(values) == 1 else 0)  # the ledger is written, slowly
    assert values == {n: n * n for n in range(6)}


def test_a_worker_that_restarts_slowly_is_waited_for(client: Any) -> None:
    del client  # while it stands
    timeout = dask.config.get("distributed.deploy.lost-worker-timeout")
    assert parse_timedelta(timeout) > 3600


def test_workers_are_single_threaded_and_leave_ctrl_c_alone(client: Any) -> None:
    def look() -> tuple[str | None, bool]:
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        return os.environ.get("NUMBA_NUM_THREADS"), ignored

    client.wait_for_workers(2, timeout=60)  # those that died in the tests before are started again
    assert set(client.run(look).values()) == {("1", True)}
    assert set(client.nthreads().values()) == {1}


def test_lost_worker_is_told_in_the_ledger_and_tried_again(
    study: Path,
    fake_pipeline: FakePipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lose(_: Any, function: Any, tasks: list[batch.Step], in_flight: Any) -> Iterator[Any]:
        for i, task in enumerate(tasks):
            lost = "its worker died" if i == 1 else ""
            yield schedule.Done(task, None if lost else batch.measure(task, directory), lost)

    directory = RunDirectory(study.parent / "out")
    with monkeypatch.context() as patch:
        patch.setattr(schedule, "local_cluster", _no_cluster)
        patch.setattr(schedule, "run_on", lose)
        _run(study, crew=batch.Crew(workers=2))
    assert [(r["status"], r["reason"]) for r in _ledger(study)][1] == ("failed", "its worker died")
    assert _run(study).failed == 0


def _no_cluster(workers: int) -> Any:
    from contextlib import nullcontext
    from unittest.mock import Mock

    return nullcontext(Mock(nthreads=lambda: dict.fromkeys(range(workers), 1)))


def test_no_scheduler_at_the_address() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(schedule.SchedulerError, match="no scheduler answers"),
        schedule.running_cluster(address, timeout_s=1),
    ):
        pass


def test_slide_of_another_stain_set_keeps_the_other_settings() -> None:
    common = Settings().with_values(["nuclei.min_area_um2=20"])
    settings = Entry("a", Path("a"), "p16", stains="he").settings(common)
    assert (settings.stains.preset, settings.nuclei.min_area_um2) == ("he", 20)


def test_sweeps_of_a_study_are_one_table(study: Path, fake_pipeline: FakePipeline) -> None:
    _run(study)
    out = study.parent / "out"
    assert not (out / "sweep.csv").exists()  # the fake pipeline makes none
    for number in range(3):
        path = out / "slides" / f"s{number}" / RESULT
        record = json.loads(path.read_text())
        counts = {"compartment": "all", "n_nuclei": 10, "n_positive": number}
        record["provenance"]["threshold_sweep"] = [{"threshold_od": 0.2, **counts}]
        path.write_text(json.dumps(record))
    RunDirectory(out).write_tables()
    table = pd.read_csv(out / "sweep.csv")
    assert table["person"].tolist() == ["P0", "P1", "P2"]
    assert table["positive_percent"].tolist() == [0, 10, 20]
    described = json.loads((out / "columns.json").read_text())
    assert [c["name"] for c in described["sweep.csv"]] == list(table.columns)
    for number in range(3):
        _reject(study, f"s{number}")
    (out / "drift.csv").write_text("of slides that are gone\n")
    RunDirectory(out).write_tables()
    assert not (out / "sweep.csv").exists()
    assert not (out / "drift.csv").exists()
