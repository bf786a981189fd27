"""Which slide a row is about: paths, names, and what a ledger already knows of them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fakes import FakePipeline, write_tiny_slide
from histoquant import batch
from histoquant.manifest import Entry, read_manifest, slide_entries, with_ids
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

HEADER = "slide,marker,person,site,visit,section,batch,control,mpp,stains"


def _manifest(folder: Path, *rows: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join([HEADER, *(row + "," * (9 - row.count(",")) for row in rows)]))
    return path


def _measure(directory: RunDirectory, entries: Any, **choices: Any) -> batch.Outcome:
    usable = [e for e in entries if not e.problem]
    bad = [e for e in entries if e.problem]
    with directory.locked():
        steps = batch.plan(usable, directory, Settings())
        return batch.run(steps, directory, bad=bad, **choices)


def _study(directory: RunDirectory, manifest: Path) -> batch.Outcome:
    entries = read_manifest(manifest, directory.ledger().rows).entries
    return _measure(directory, entries, exclude_others=True)


def _by_hand(directory: RunDirectory, *paths: str, mpp: float | None = None) -> batch.Outcome:
    known = directory.ledger().rows
    return _measure(directory, slide_entries([Path(p) for p in paths], "p16", mpp, known))


def test_same_words_for_two_slides_are_two_slides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_pipeline: FakePipeline
) -> None:
    directory = RunDirectory(tmp_path / "out")
    for seed, folder in enumerate(("p1", "p2")):
        write_tiny_slide(tmp_path / folder / "slide.ome.tif", seed)
        monkeypatch.chdir(tmp_path / folder)
        _by_hand(directory, "slide.ome.tif")
    rows = directory.ledger().rows
    assert [row["slide"] for row in rows] == [
        str(tmp_path.resolve() / folder / "slide.ome.tif") for folder in ("p1", "p2")
    ]
    assert len({row["slide_id"] for row in rows}) == 2
    assert len(directory.write_tables()) == 2


def test_other_words_for_a_slide_are_the_same_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_pipeline: FakePipeline
) -> None:
    directory = RunDirectory(tmp_path / "out")
    slide = write_tiny_slide(tmp_path / "p1" / "slide.ome.tif")
    (tmp_path / "link").symlink_to(tmp_path / "p1")
    monkeypatch.chdir(tmp_path)
    for words in ("p1/slide.ome.tif", str(slide), "p1/../p1/slide.ome.tif", "link/slide.ome.tif"):
        _by_hand(directory, words)
    assert fake_pipeline.measured == ["slide.ome.tif"]
    assert len(directory.ledger().rows) == 1


def test_studies_with_the_same_relative_names_keep_their_slides_apart(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    directory = RunDirectory(tmp_path / "out")
    for seed, folder in enumerate(("p1", "p2")):
        slide = write_tiny_slide(tmp_path / folder / "s.ome.tif", seed)
        os.utime(slide, (1, 1))
        outcome = _study(directory, _manifest(tmp_path / folder, "s.ome.tif,p16,P1,l,v"))
        assert len(outcome.fates) == 1
    rows = directory.ledger().rows
    assert [row["status"] for row in rows] == ["done", "excluded"]
    assert rows[0]["slide_id"] != rows[1]["slide_id"] == "s"
    assert _study(directory, tmp_path / "p1" / "m.csv").kept == 1


def test_moved_study_keeps_its_results_and_its_names(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for seed, folder in enumerate("ab"):
        write_tiny_slide(old / folder / "s.ome.tif", seed)
    manifest = _manifest(old, "a/s.ome.tif,p16,P1,l,v", "b/s.ome.tif,p16,P2,l,v")
    _study(RunDirectory(old / "out"), manifest)
    old.rename(new)
    directory = RunDirectory(new / "out")
    outcome = _study(directory, new / "m.csv")
    assert (outcome.kept, outcome.fates) == (2, ())
    assert [row["status"] for row in directory.ledger().rows] == ["done", "done"]


def test_another_slide_of_the_same_size_and_time_is_no_moved_one(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    directory = RunDirectory(tmp_path / "out")
    for seed, folder in enumerate(("p1", "p2")):
        slide = write_tiny_slide(tmp_path / folder / "s.ome.tif", seed)
        os.utime(slide, (1, 1))
        _study(directory, _manifest(tmp_path / folder, "s.ome.tif,p16,P1,l,v"))
        slide.unlink()
    assert len(fake_pipeline.measured) == 2


def test_slide_of_a_study_measured_by_hand_keeps_its_sample(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    write_tiny_slide(tmp_path / "s.ome.tif")
    directory = RunDirectory(tmp_path / "out")
    manifest = _manifest(tmp_path, "s.ome.tif,p16,P1,left,m8,2,run3,negative,0.4,he")
    _study(directory, manifest)
    (before,) = directory.ledger().rows
    assert _by_hand(directory, str(tmp_path / "s.ome.tif")).kept == 1
    assert directory.ledger().rows == [before]
    _by_hand(directory, str(tmp_path / "s.ome.tif"), mpp=0.3)
    (after,) = directory.ledger().rows
    assert (after["mpp"], after["person"], after["row"]) == ("0.3", "P1", "2")


def test_wrong_rows_tell_nothing_about_a_slide_measured_by_hand(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    for name in ("twice", "wrong", "fine"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif")
    directory = RunDirectory(tmp_path / "out")
    rows = ("twice.ome.tif,p16,P1,l,v", "twice.ome.tif,p16,P2,l,v", "fine.ome.tif,p16,P3,l,v")
    _study(directory, _manifest(tmp_path, *rows, "wrong.ome.tif,p16,P4,l,v,,,,zero"))
    _by_hand(directory, str(tmp_path / "twice.ome.tif"), str(tmp_path / "wrong.ome.tif"))
    people = {row["slide_id"]: row["person"] for row in directory.ledger().rows}
    assert people == {"fine": "P3", "twice": "", "wrong": ""}
    assert directory.ledger().count("done") == 3


@pytest.mark.parametrize(
    ("slide", "words"),
    [
        ("~nosuchuser/x.svs", "no such file"),
        ("x" * 300 + ".svs", "cannot read"),
        ("good.ome.tif/x.svs", "no such file"),
        ("loop/x.svs", "cannot read"),
        ("locked/x.svs", "Permission denied"),
    ],
    ids=["user", "long", "below a file", "loop", "no permission"],
)
def test_path_that_leads_nowhere_is_its_rows_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slide: str, words: str
) -> None:
    write_tiny_slide(tmp_path / "good.ome.tif")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    stat = Path.stat

    def guarded(self: Path, **choices: Any) -> os.stat_result:
        if "locked" in self.parts:  # a folder's mode does not stop a superuser
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return stat(self, **choices)

    monkeypatch.setattr(Path, "stat", guarded)
    manifest = _manifest(tmp_path, "good.ome.tif,p16,P1,l,v", f"{slide},p16,P2,l,v")
    read = read_manifest(manifest)
    assert [e.slide for e in read.usable] == ["good.ome.tif"]
    assert words in read.bad[0].problem
    by_hand = slide_entries([tmp_path / "good.ome.tif", tmp_path / slide], "p16")
    assert [bool(e.problem) for e in by_hand] == [False, True]


def test_names_run_out_only_when_the_slide_is_the_same() -> None:
    """Studies that share a relative path share its digest: the third gets a longer one."""
    known: list[dict[str, str]] = []
    for folder in ("p1", "p2", "p3"):
        entry = Entry("s.svs", Path(folder, "s.svs"), "p16", resolved_path=f"/{folder}/s.svs")
        (named,) = with_ids([entry], known)
        row = {name: getattr(named, name) for name in ("slide_id", "marker", "resolved_path")}
        known.append(row)
    assert len({row["slide_id"] for row in known}) == 3
