"""What a staining batch shares: locked once, in every key, and said in every result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import FakePipeline
from histoquant import batch
from histoquant.errors import ManifestError
from histoquant.manifest import read_manifest, slide_entries
from histoquant.results import read_result
from histoquant.review.store import write_reviewed
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.stains import angle_deg
from painted import BLUE, BROWN, write_painted

HEADER = "slide,marker,person,site,visit,batch,control"
BY_BATCH = Settings().with_values(["stains.source=batch"])
BY_CONTROL = Settings().with_values(["p16.threshold_source=negative_control"])
LINE_BY_CONTROL = Settings().with_values(["collagen7.threshold_source=negative_control"])


def write_study(folder: Path, *rows: str) -> Path:
    """A manifest of ``slide marker batch control`` rows; slides that are not there are painted."""
    lines = [HEADER]
    for number, row in enumerate(rows):
        slide, marker, run, control = (*row.split(), "", "")[:4]
        path = folder / f"{slide}.ome.tif"
        if not path.exists():
            write_painted(path, seed=number)
        run = "" if run == "-" else run
        lines.append(f"{path.name},{marker},P{number},left,m8,{run},{control}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def plan(manifest: Path, settings: Settings) -> list[batch.Step]:
    directory = RunDirectory(manifest.parent / "out")
    known = directory.ledger().rows if directory.ledger_path.exists() else ()
    return batch.plan(
        read_manifest(manifest, known).usable, directory, settings, exclude_others=True
    )


def run(manifest: Path, settings: Settings, **choices: Any) -> batch.Outcome:
    directory = RunDirectory(manifest.parent / "out")
    with directory.locked():
        return batch.run(plan(manifest, settings), directory, exclude_others=True, **choices)


def actions(manifest: Path, settings: Settings) -> dict[str, tuple[str, str]]:
    return {s.entry.slide_id: (s.action, s.why) for s in plan(manifest, settings)}


def lock_of(manifest: Path, name: str = "run_1") -> dict[str, Any]:
    path = manifest.parent / "out" / "stains" / f"{name}.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# --- vectors ---------------------------------------------------------------------------------


def test_a_batch_is_estimated_once_and_locked(tmp_path: Path, fake_pipeline: FakePipeline) -> None:
    study = write_study(tmp_path, "a p16 run_1", "b p16 run_1", "c p16 run_2")
    assert all("estimated first" in why for _, why in actions(study, BY_BATCH).values())
    stages: list[str] = []
    assert run(study, BY_BATCH, progress=stages.append).failed == 0
    assert [s for s in stages if "run_1" in s] == [
        "estimating the stain vectors of batch run_1 (p16 hdab)"
    ]
    lock = lock_of(study)["vectors"]["p16 hdab"]
    assert list(lock["slides"]) == ["a", "b"]
    used = {s.stains.locked: s.stains for s in fake_pipeline.settings}
    assert len(used) == 2
    stains = used[lock["source"]]
    assert "batch run_1, 2 slide(s)" in stains.locked
    assert list(stains.second) == lock["estimate"]["second"]
    assert angle_deg(stains.hematoxylin, BLUE) < 2
    assert angle_deg(stains.second, BROWN) < 2
    assert {action for action, _ in actions(study, BY_BATCH).values()} == {"keep"}


def test_a_slide_that_comes_later_is_measured_with_what_is_locked(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    run(write_study(tmp_path, "a p16 run_1"), BY_BATCH)
    write_painted(tmp_path / "b.ome.tif", brown=(0.35, 0.55, 0.75))
    study = write_study(tmp_path, "a p16 run_1", "b p16 run_1")
    assert actions(study, BY_BATCH) == {"a": ("keep", "up to date"), "b": ("measure", "new")}
    run(study, BY_BATCH)
    first, second = fake_pipeline.settings
    assert first.sha256 == second.sha256
    assert list(lock_of(study)["vectors"]["p16 hdab"]["slides"]) == ["a"]


def test_without_its_lock_a_batch_is_estimated_anew(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a p16 run_1")
    run(study, BY_BATCH)
    (study.parent / "out" / "stains" / "run_1.json").unlink()
    assert actions(study, BY_BATCH)["a"][0] == "measure"
    other = BY_BATCH.with_values(["tissue.min_od=0.03"])  # other pixels, another estimate
    assert "estimated first" in actions(study, other)["a"][1]


def test_markers_of_a_batch_are_estimated_apart(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a p16 run_1", "b col7 run_1")
    run(study, BY_BATCH)
    assert sorted(lock_of(study)["vectors"]) == ["col7 hdab", "p16 hdab"]


def test_a_batch_without_brown_falls_back_to_the_preset_and_says_so(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    write_painted(tmp_path / "a.ome.tif", brown_share=0)
    (tmp_path / "b.ome.tif").write_bytes(b"no slide")
    study = write_study(tmp_path, "a p16 run_1", "b p16 run_1")
    run(study, BY_BATCH)
    lock = lock_of(study)["vectors"]["p16 hdab"]
    assert "no slide" not in lock["source"]
    assert list(lock["left_out"]) == ["b"]
    stains = fake_pipeline.settings[0].stains
    assert stains.locked.startswith("preset hdab (estimate on batch run_1, 1 slide(s) refused: ")
    assert stains.second is None


@pytest.mark.parametrize("settings", [BY_BATCH, BY_CONTROL])
def test_slides_without_a_batch_are_named(tmp_path: Path, settings: Settings) -> None:
    study = write_study(tmp_path, "a p16 run_1", "b p16 -")
    with pytest.raises(ManifestError, match="1 name.s. none: b.ome.tif.*column batch"):
        plan(study, settings)


@pytest.mark.parametrize("name", ["Run 1", "run/1", "../run_1", "Lauf ä"])
def test_any_name_of_a_batch_is_a_safe_file(
    tmp_path: Path, name: str, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a p16 BATCH")
    study.write_text(study.read_text().replace("BATCH", name), encoding="utf-8")
    run(study, BY_BATCH)
    (file,) = (tmp_path / "out" / "stains").iterdir()
    assert json.loads(file.read_text(encoding="utf-8"))["batch"] == name
    assert actions(study, BY_BATCH)["a"][0] == "keep"


# --- thresholds ------------------------------------------------------------------------------

WITH_CONTROL = ("a p16 run_1", "n p16 run_1 negative", "b p16 run_1 positive", "c col7 run_1")


def test_controls_are_measured_first_and_give_the_threshold(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, *WITH_CONTROL)
    why = actions(study, BY_CONTROL)
    assert "negative control of batch run_1 is measured first" in why["a"][1]
    assert why["n"] == why["c"] == ("measure", "new")
    assert run(study, BY_CONTROL).failed == 0
    assert fake_pipeline.measured[:2] == ["n.ome.tif", "c.ome.tif"]
    used = dict(zip(fake_pipeline.measured, fake_pipeline.settings, strict=True))
    # the fake pipeline's nuclei have DAB OD 0, 1/3, ... 4/3: their 99th percentile is 1.32
    assert used["a.ome.tif"].p16.thresholds_od == pytest.approx((1.32, 2.64, 3.96))
    assert used["a.ome.tif"] == used["b.ome.tif"]
    assert used["a.ome.tif"].p16.threshold_locked == (
        "negative control of batch run_1: percentile 99 of 5 nuclei on n: 1.32 OD"
        " (above the settings' 2+: is the control negative?)"
    )
    assert used["n.ome.tif"].p16.thresholds_od == Settings().p16.thresholds_od
    assert "own thresholds" in used["n.ome.tif"].p16.threshold_locked
    assert used["c.ome.tif"].p16.threshold_locked == ""  # col7 has no such threshold
    assert lock_of(study)["threshold"]["controls"] == {"n": 5}
    assert {action for action, _ in actions(study, BY_CONTROL).values()} == {"keep"}


def test_a_slide_measured_alone_takes_the_threshold_of_the_control_in_the_directory(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    """As `histoquant quantify` does: the control is not among the slides it is given."""
    study = write_study(tmp_path, *WITH_CONTROL)
    run(study, BY_CONTROL)
    lock = lock_of(study)
    directory = RunDirectory(tmp_path / "out")
    (alone,) = slide_entries([tmp_path / "a.ome.tif"], "p16", known=directory.ledger().rows)
    assert [s.action for s in batch.plan([alone], directory, BY_CONTROL)] == ["keep"]
    changed = BY_CONTROL.with_values(["p16.block_run=4"])
    with directory.locked():
        (step,) = batch.plan([alone], directory, changed)
        assert "p16.block_run" in step.why
        assert "thresholds_od" not in step.why
        batch.run([step], directory, crew=batch.Crew(one_by_one=True))
    assert fake_pipeline.settings[-1].p16.thresholds_od == pytest.approx((1.32, 2.64, 3.96))
    assert lock_of(study) == lock
    assert directory.ledger().count("done") == 4


def test_a_control_that_left_the_manifest_gives_no_threshold(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    run(write_study(tmp_path, "a p16 run_1", "n p16 run_1 negative"), BY_CONTROL)
    study = write_study(tmp_path, "a p16 run_1")
    assert run(study, BY_CONTROL).ledger.count("excluded") == 1
    assert fake_pipeline.measured[-1] == "a.ome.tif"
    assert "batch run_1 has none" in fake_pipeline.settings[-1].p16.threshold_locked


def test_review_of_a_control_moves_no_threshold_but_a_rejected_one_gives_none(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a p16 run_1", "n p16 run_1 negative")
    run(study, BY_CONTROL)
    place = study.parent / "out" / "slides" / "n"
    result = read_result(place)
    assert result.nuclei is not None
    edited = result.nuclei.assign(excluded=result.nuclei["dab_od_mean"] > 0.5)
    review = {"reviewer": "anna", "verdict": "accepted"}
    write_reviewed(replace(result, nuclei=edited), place, review, [])
    assert {action for action, _ in actions(study, BY_CONTROL).values()} == {"keep"}
    write_reviewed(result, place, {**review, "verdict": "rejected", "reason": "stained"}, [])
    assert actions(study, BY_CONTROL)["a"][0] == "measure"
    run(study, BY_CONTROL)
    p16 = fake_pipeline.settings[-1].p16
    assert p16.thresholds_od == Settings().p16.thresholds_od
    assert "(n: rejected in review by anna: stained)" in p16.threshold_locked


def test_another_percentile_is_another_result(tmp_path: Path, fake_pipeline: FakePipeline) -> None:
    study = write_study(tmp_path, "a p16 run_1", "n p16 run_1 negative")
    run(study, BY_CONTROL)
    run(study, BY_CONTROL.with_values(["p16.control_percentile=50"]))
    assert fake_pipeline.measured == ["n.ome.tif", "a.ome.tif"] * 2
    assert fake_pipeline.settings[-1].p16.thresholds_od[0] == pytest.approx(0.6667)


def test_a_batch_without_a_control_keeps_the_thresholds_and_says_so(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a p16 run_2", "n p16 run_1 negative", "bad p16 run_3 negative",
                        "d p16 run_3")  # fmt: skip
    (tmp_path / "bad.ome.tif").rename(tmp_path / "blank.ome.tif")  # the fake fails on "blank"
    study.write_text(study.read_text().replace("bad.", "blank."))
    run(study, BY_CONTROL)
    used = dict(zip(fake_pipeline.measured, fake_pipeline.settings, strict=True))
    for name, words in (("a", "batch run_2 has none"), ("d", "none has nuclei (blank)")):
        p16 = used[f"{name}.ome.tif"].p16
        assert p16.thresholds_od == Settings().p16.thresholds_od
        assert words in p16.threshold_locked
    assert actions(study, BY_CONTROL)["d"] == ("keep", "up to date")


def test_a_clean_control_does_not_make_noise_positive(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    settings = BY_CONTROL.with_values(["p16.min_control_threshold_od=1.5"])
    run(write_study(tmp_path, "a p16 run_1", "n p16 run_1 negative"), settings)
    p16 = fake_pipeline.settings[-1].p16
    assert p16.thresholds_od[0] == 1.5
    assert "1.5 OD, raised from 1.32" in p16.threshold_locked


def test_the_line_has_a_threshold_of_its_own_control(
    tmp_path: Path, fake_pipeline: FakePipeline
) -> None:
    study = write_study(tmp_path, "a col7 run_1", "n col7 run_1 negative", "m p16 run_1 negative",
                        "b p16 run_1", "c col7 run_2")  # fmt: skip
    assert "negative control of batch run_1" in actions(study, LINE_BY_CONTROL)["a"][1]
    run(study, LINE_BY_CONTROL)
    used = dict(zip(fake_pipeline.measured, fake_pipeline.settings, strict=True))
    order = fake_pipeline.measured
    assert order.index("n.ome.tif") < order.index("a.ome.tif")
    line, own = used["a.ome.tif"].collagen7, Settings().collagen7
    # the fake pipeline's bins have peaks of 0, 1/3, 2/3, ...
    peaks = read_result(study.parent / "out" / "slides" / "n").junction
    kept = peaks.loc[~peaks["excluded"], "peak_od"]
    assert line.threshold_od == pytest.approx(np.percentile(kept, 99), abs=1e-4)
    assert line.threshold_locked == (
        f"negative control of batch run_1: percentile 99 of {len(kept)} bins on n: "
        f"{line.threshold_od:g} OD (above twice the settings' own: is the control negative?)"
    )
    assert used["n.ome.tif"].collagen7.threshold_od == own.threshold_od
    assert used["b.ome.tif"] == LINE_BY_CONTROL  # p16 has its own
    assert used["c.ome.tif"].collagen7.threshold_od == own.threshold_od
    assert "batch run_2 has none" in used["c.ome.tif"].collagen7.threshold_locked
    assert lock_of(study)["col7_threshold"]["controls"] == {"n": len(kept)}
    assert {action for action, _ in actions(study, LINE_BY_CONTROL).values()} == {"keep"}


def test_a_plan_writes_nothing(tmp_path: Path, fake_pipeline: FakePipeline) -> None:
    study = write_study(tmp_path, *WITH_CONTROL)
    plan(study, BY_CONTROL)
    plan(study, BY_BATCH)
    assert not (tmp_path / "out").exists()


def test_a_batch_of_which_no_slide_could_be_read_is_estimated_again(tmp_path: Path) -> None:
    manifest = write_study(tmp_path, "a p16 run_1", "b p16 run_1")
    whole = {path: path.read_bytes() for path in tmp_path.glob("*.ome.tif")}
    for path, content in whole.items():  # the copy is still under way
        path.write_bytes(content[:4000])
    run(manifest, BY_BATCH)
    assert not lock_of(manifest)["vectors"]["p16 hdab"]["slides"]
    for path, content in whole.items():
        path.write_bytes(content)
    assert {why for _, why in actions(manifest, BY_BATCH).values()} == {
        "the stain vectors of batch run_1 are estimated first"
    }
    run(manifest, BY_BATCH)
    assert len(lock_of(manifest)["vectors"]["p16 hdab"]["slides"]) == 2
    assert {action for action, _ in actions(manifest, BY_BATCH).values()} == {"keep"}
