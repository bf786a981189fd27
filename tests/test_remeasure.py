"""``histoquant remeasure``: tables from the journal, without a screen, and what stays beside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree
from typer.testing import CliRunner, Result

import histoquant
from histoquant.cli import app
from histoquant.errors import ResultError, ReviewError
from histoquant.results import read_record, read_result
from histoquant.review import ReviewSession, SlideReview, remeasure
from histoquant.review.edits import (
    AddNote,
    AddNucleus,
    DeleteJunction,
    ExcludeRegion,
    RedrawJunction,
    SetVerdict,
)
from histoquant.review.journal import find_journals
from histoquant.rundir import RunDirectory
from histoquant.study.samples import read_markers
from reviewed import COL7, OTHER_P16, P16, fresh_results, opened

TABLES = ("markers.csv", "markers.parquet", "sweep.csv", "markers_automatic.csv")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return fresh_results(tmp_path)


def run(*arguments: object) -> Result:
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def edit_some(results: Path, reviewer: str = "anna") -> dict[str, Any]:
    """A few edits on the first p16 slide; the figures that the session then shows."""
    with opened(results, reviewer=reviewer) as review:
        assert review.nuclei is not None
        positive = np.flatnonzero(review.nuclei["positive"])
        review.apply(review.set_class(positive[:5], "negative"))
        y, x = review.junction.stretches[0].points_um[60].tolist()
        review.apply(AddNucleus((y - 25, x), "positive", 2))
        review.apply(
            ExcludeRegion(((y - 20, x), (y + 20, x), (y + 20, x + 30), (y - 20, x + 30)), "fold")
        )
        return {row.name: row.value for row in review.numbers().rows}


def contents(results: Path) -> dict[str, bytes]:
    """Every table and every slide's files, less what tells the time."""
    return {
        str(path.relative_to(results)): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.name not in ("review.json", "report.html", "run.json")
    }


def test_remeasure_gives_the_numbers_of_the_session(results: Path) -> None:
    shown = edit_some(results)
    reports = {report.slide_id: report for report in remeasure(results)}
    assert (reports[P16].n_edits, reports[P16].problem, reports[COL7].n_edits) == (3, "", 0)
    record = read_record(results / "slides" / P16)
    assert record is not None
    assert {name: record["summary"][name] for name in shown} == shown
    assert record["summary"]["n_edits"] == 3
    assert record["review"]["reviewer"] == "anna"
    markers = pd.read_csv(results / "markers.csv").set_index("slides")
    assert markers.loc[P16, "n_edits"] == 3
    assert markers.loc[P16, "n_positive"] == shown["n_positive"]
    before = pd.read_csv(results / "markers_automatic.csv").set_index("slides")
    assert before.loc[P16, "n_edits"] == 0
    assert before.loc[P16, "n_positive"] > shown["n_positive"]
    nuclei = pd.read_parquet(results / "slides" / P16 / "nuclei.parquet")
    assert nuclei["added"].sum() == 1
    assert (nuclei["reviewed_class"] >= 0).sum() == 6
    features = json.loads((results / "slides" / P16 / "compartments.geojson").read_text())
    reasons = [f["properties"].get("metadata", {}).get("reason") for f in features["features"]]
    assert "reviewer: fold" in reasons


def test_remeasure_again_changes_nothing(results: Path) -> None:
    edit_some(results)
    remeasure(results)
    once = contents(results)
    remeasure(results)
    assert contents(results) == once
    assert not list(results.rglob("*~*"))


def test_the_automatic_result_is_kept_whole_and_comes_back(results: Path) -> None:
    before = contents(results)
    edit_some(results)
    remeasure(results)
    kept = results / "slides" / P16 / "automatic"
    same = [name for name in before if name.startswith(f"slides/{P16}/")]
    assert same
    for name in same:
        assert (kept / Path(name).name).read_bytes() == before[name]
    assert read_result(kept).summary["n_edits"] == 0
    with opened(results) as review:
        while review.undo():
            pass
    remeasure(results)
    after = contents(results)
    after.pop(f"slides/{P16}/review.jsonl")
    assert after == before
    assert not (results / "markers_automatic.csv").exists()


def test_the_overlay_shows_the_edits(results: Path) -> None:
    before = (results / "slides" / P16 / "overlay.png").read_bytes()
    edit_some(results)
    (report, *_) = remeasure(results)
    assert report.notes == ()
    assert (results / "slides" / P16 / "overlay.png").read_bytes() != before


def test_a_drawn_junction_is_read_from_the_slide(results: Path) -> None:
    with opened(results, COL7) as review:
        before = review.bins.copy()
        points = review.junction.stretches[0].points_um
        review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in points[::5])))
        review.apply(ExcludeRegion(_around(points[len(points) // 2], 25.0), "fold"))
        assert review.numbers().pending
    reports = {report.slide_id: report for report in remeasure(results)}
    assert (reports[COL7].problem, reports[COL7].notes) == ("", ())
    bins = pd.read_parquet(results / "slides" / COL7 / "junction.parquet")
    assert (bins["exclusion_reason"] == "reviewer: fold").sum() >= 4
    # Drawn where the program had it, the line has the same collagen.
    kept = bins[~bins["excluded"]]
    distance, row = cKDTree(before[["x_px", "y_px"]]).query(kept[["x_px", "y_px"]])
    same = before.iloc[row[distance < 20]]["integrated_od_um"].mean()
    assert kept.loc[distance < 20, "integrated_od_um"].mean() == pytest.approx(same, rel=0.03)
    record = read_record(results / "slides" / COL7)
    assert record is not None
    assert record["summary"]["integrated_od_um_mean"] == kept["integrated_od_um"].mean()
    found = read_result(results / "slides" / COL7)
    assert found.straightened is not None
    steps = found.provenance["straightened"]
    assert sum(steps["samples_of_stretch"]) == len(found.straightened)  # type: ignore[index]


def test_a_drawn_junction_whose_slide_is_gone_is_missing_with_the_reason(results: Path) -> None:
    with opened(results, COL7) as review:
        points = review.junction.stretches[0].points_um[::5]
        review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in points)))
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace(f"{COL7}.ome.tif", "gone.ome.tif"))
    reports = {report.slide_id: report for report in remeasure(results)}
    assert "cannot be read" in reports[COL7].notes[0]
    record = read_record(results / "slides" / COL7)
    assert record is not None
    assert record["summary"]["continuity_percent"] is None
    assert "the slide cannot be read" in record["reasons"]["continuity_percent"]
    assert record["summary"]["dej_length_mm"] > 0


def _around(point: np.ndarray[Any, Any], half: float) -> tuple[tuple[float, float], ...]:
    y, x = point.tolist()
    return ((y - half, x - half), (y - half, x + half), (y + half, x + half), (y + half, x - half))


# Verdicts and tables


def test_a_rejected_slide_is_in_no_table_and_says_why(results: Path) -> None:
    with opened(results) as review:
        review.apply(SetVerdict("rejected", "cut obliquely"))
    remeasure(results)
    markers = pd.read_csv(results / "markers.csv")
    assert P16 not in set(markers["slides"])
    assert P16 in set(pd.read_csv(results / "markers_automatic.csv")["slides"])
    rows = {row["slide_id"]: row for row in RunDirectory(results).ledger().rows}
    assert (rows[P16]["status"], rows[P16]["reason"]) == (
        "excluded",
        "rejected in review by anna: cut obliquely",
    )
    assert run("tables", results).exit_code == 0
    assert P16 not in set(pd.read_csv(results / "markers.csv")["slides"])
    with opened(results) as review:
        review.apply(SetVerdict("open"))
    remeasure(results)
    assert P16 in set(pd.read_csv(results / "markers.csv")["slides"])
    rows = {row["slide_id"]: row for row in RunDirectory(results).ledger().rows}
    assert (rows[P16]["status"], rows[P16]["reason"]) == ("done", "")


def test_notes_and_acceptance_change_no_figure(results: Path) -> None:
    before = read_markers(results)
    with opened(results) as review:
        review.apply(AddNote("well cut"))
        review.apply(SetVerdict("accepted"))
    remeasure(results)
    pd.testing.assert_frame_equal(read_markers(results), before)


def test_two_reviewers_need_a_choice_that_is_kept(results: Path) -> None:
    edit_some(results)
    with opened(results, OTHER_P16, "bob") as review:
        assert review.nuclei is not None
        review.apply(review.set_class(np.flatnonzero(review.nuclei["positive"])[:1], "negative"))
    with pytest.raises(ReviewError, match=r"anna \(1 slides\), bob \(1 slides\).*--reviewer"):
        remeasure(results)
    (results / "markers.xlsx").write_text("of before")
    assert run("remeasure", results, "--reviewer", "bob").exit_code == 0
    book = pd.read_excel(results / "markers.xlsx", "markers p16").set_index("slides")
    assert book.loc[OTHER_P16, "n_edits"] == 1
    edits = pd.read_csv(results / "markers.csv").set_index("slides")["n_edits"]
    assert (edits[P16], edits[OTHER_P16]) == (0, 1)
    remeasure(results)  # the choice holds
    assert pd.read_csv(results / "markers.csv").set_index("slides")["n_edits"][OTHER_P16] == 1
    remeasure(results, "anna")
    edits = pd.read_csv(results / "markers.csv").set_index("slides")["n_edits"]
    assert (edits[P16], edits[OTHER_P16]) == (3, 0)
    assert not (results / "slides" / OTHER_P16 / "automatic").exists()


def both_edit(results: Path) -> None:
    """Anna and bob call nuclei of both p16 slides negative; anna's edits are in the tables."""
    for who, n in (("anna", 2), ("bob", 1)):
        for slide in (P16, OTHER_P16):
            with opened(results, slide, who) as review:
                assert review.nuclei is not None
                rows = np.flatnonzero(review.nuclei["positive"])[:n]
                review.apply(review.set_class(rows, "negative"))
    remeasure(results, "anna")


def test_a_stop_half_way_mixes_no_reviewers_in_the_tables(results: Path) -> None:
    both_edit(results)
    before = (results / "markers.csv").read_bytes()

    def stop(slide_id: str) -> None:
        if slide_id == OTHER_P16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remeasure(results, "bob", stop)
    with pytest.raises(ResultError, match=r"anna, bob by now, bob was chosen.*--reviewer bob"):
        RunDirectory(results).write_tables()
    assert (results / "markers.csv").read_bytes() == before
    remeasure(results)
    RunDirectory(results).write_tables()
    assert (results / "markers.csv").read_bytes() != before


def test_a_slide_whose_edits_fail_keeps_nobody_elses(results: Path) -> None:
    both_edit(results)
    journal = find_journals(results / "slides" / P16)["bob"]
    journal.write_text(journal.read_text().replace('"set_class"', '"rotate_slide"'))
    problems = {r.slide_id: r.problem for r in remeasure(results, "bob")}
    assert "'rotate_slide'" in problems[P16]
    record = read_record(results / "slides" / P16)
    assert record is not None
    assert "review" not in record
    assert record["summary"]["n_edits"] == 0


def test_settings_of_another_version_fail_their_slide_alone(results: Path) -> None:
    edit_some(results)
    path = results / "slides" / P16 / "result.json"
    record = json.loads(path.read_text())
    record["provenance"]["settings"]["gone_since"] = 3
    path.write_text(json.dumps(record))
    problems = {r.slide_id: r.problem for r in remeasure(results)}
    assert "settings that this version knows" in problems.pop(P16)
    assert set(problems.values()) == {""}


@pytest.mark.parametrize("who", [None, "eve"])
def test_no_edits_to_apply_is_told(results: Path, who: str | None) -> None:
    if who:
        edit_some(results)
    found = run("remeasure", results, *(["--reviewer", who] if who else []))
    assert found.exit_code == 2
    assert "holds no edits" in found.stderr


def test_a_journal_that_cannot_be_used_fails_alone(results: Path) -> None:
    edit_some(results)
    with opened(results, OTHER_P16) as review:
        review.apply(AddNote("on the other"))
    path = results / "slides" / OTHER_P16 / "review.jsonl"
    path.write_text(path.read_text().replace('"add_note"', '"rotate_slide"'))
    before = contents(results)[f"slides/{OTHER_P16}/result.json"]
    found = run("remeasure", results)
    assert found.exit_code == 1
    assert "'rotate_slide' are unknown to this version" in found.stderr
    assert contents(results)[f"slides/{OTHER_P16}/result.json"] == before
    assert pd.read_csv(results / "markers.csv").set_index("slides")["n_edits"][P16] == 3


def test_a_slide_measured_again_gets_its_edits_again(results: Path) -> None:
    shown = edit_some(results)
    remeasure(results)
    ledger = {row["slide_id"]: row for row in RunDirectory(results).ledger().rows}
    slide = ledger[P16]["resolved_path"]
    found = run("quantify", slide, "--marker", "p16", "--out", results)
    assert found.exit_code == 0
    record = read_record(results / "slides" / P16)
    assert record is not None
    kept = {name: record["summary"][name] for name in shown}
    assert kept == shown
    threshold = ["--set", "p16.thresholds_od=[0.3, 0.5, 0.7]"]
    found = run("quantify", slide, "--marker", "p16", "--out", results, *threshold)
    assert found.exit_code == 0
    record = read_record(results / "slides" / P16)
    assert record is not None
    assert record["summary"]["n_edits"] == 3
    assert record["summary"]["positive_threshold_od"] == 0.3
    automatic = read_result(results / "slides" / P16 / "automatic")
    assert automatic.summary["positive_threshold_od"] == 0.3
    assert automatic.summary["n_edits"] == 0


def test_the_study_can_leave_the_edits_out(results: Path) -> None:
    from histoquant.study.run import run_study

    edit_some(results)
    remeasure(results)
    markers = pd.read_csv(results / "markers.csv")
    before = pd.read_csv(results / "markers_automatic.csv")
    _as_hands(markers).to_csv(results / "markers.csv", index=False)
    _as_hands(before).to_csv(results / "markers_automatic.csv", index=False)
    design = results / "design.csv"
    rows = [f"P{n:02d},{site},month_6,{arm}" for n in range(1, 5)
            for site, arm in (("left_hand", "treated"), ("right_hand", "placebo"))]  # fmt: skip
    design.write_text("person,site,visit,arm\n" + "\n".join(rows) + "\n")
    run_study(results, design)
    table = pd.read_csv(results / "study" / "sensitivity.csv")
    own = table[(table["analysis"] == "edits") & (table["outcome"] == "positive_percent")]
    if own.empty:
        own = table[table["analysis"] == "edits"]
    levels = own.drop_duplicates("level").set_index("level")
    assert {"with edits", "without edits", "unedited samples"} <= set(levels.index)
    assert levels.loc["without edits", "n_pairs"] == 4
    assert "1 of 8 samples have edits" in str(levels.loc["with edits", "note"])
    effects = levels.loc[["with edits", "without edits"], "effect"]
    assert effects.iloc[0] != effects.iloc[1]


def _as_hands(markers: pd.DataFrame) -> pd.DataFrame:
    """Four people with two hands each from the one p16 sample that was edited and the other."""
    edited, other = (markers[markers["slides"] == name].iloc[0] for name in (P16, OTHER_P16))
    rng = np.random.default_rng(5)
    rows = []
    for person in range(1, 5):
        for site, row in (("left_hand", edited), ("right_hand", other)):
            own = row.copy()
            own["person"], own["site"], own["slides"] = f"P{person:02d}", site, f"s{person}{site}"
            if person > 1:
                own["n_edits"] = 0
                factor = rng.uniform(0.8, 1.2)
                own["n_positive"] = round(float(other["n_positive"]) * factor)
                own["positive_percent"] = float(other["positive_percent"]) * factor
                own["epidermis_positive_percent"] = (
                    float(other["epidermis_positive_percent"]) * factor
                )
                own["positive_per_mm_dej"] = float(other["positive_per_mm_dej"]) * factor
            rows.append(own)
    return pd.DataFrame(rows)


# A whole review, killed in the middle

SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_remeasure import review_all
review_all(Path(sys.argv[1]), int(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def review_all(results: Path, until: int = 10**6) -> dict[str, dict[str, Any]]:
    """Forty edits on three slides, going on after those that are in the journals already."""
    made, shown = 0, {}
    for name in (P16, OTHER_P16, COL7):
        with ReviewSession(results, "anna").slide(name) as review:
            done = len(review._writer.journal.entries)
            for number, step in enumerate(_steps(name)):
                if made == until:
                    return shown
                if number >= done:
                    step(review)
                made += 1
            review.read_line()  # collagen VII along the line that was drawn
            shown[name] = {row.name: row.value for row in review.numbers().rows}
    return shown


def _steps(name: str) -> list[Any]:
    """What is done to a slide: 15 edits on p16 ones, 10 on col7, of every kind, some undone."""

    def place(review: SlideReview, share: float) -> tuple[float, float]:
        points = review.junction.stretches[0].points_um
        y, x = points[int(share * (len(points) - 1))].tolist()
        return y, x

    def nuclei(value: Any, first: int, count: int) -> Any:
        def step(review: SlideReview) -> None:
            assert review.nuclei is not None
            rows = np.flatnonzero(~review.nuclei["excluded"])[first : first + count]
            review.apply(review.set_class(rows, value))

        return step

    def line(first: float, last: float) -> Any:
        def step(review: SlideReview) -> None:
            points = review.junction.stretches[0].points_um
            part = points[int(first * len(points)) : int(last * len(points)) : 4] + [1.5, 0]
            review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in part)))

        return step

    from histoquant.review.edits import IncludeRegion, SetCompartment

    common = [
        lambda r: r.apply(ExcludeRegion(_around(np.array(place(r, 0.25)), 25.0), "fold")),
        lambda r: r.apply(IncludeRegion(_around(np.array(place(r, 0.25)), 9.0), "not a fold")),
        lambda r: r.apply(DeleteJunction(place(r, 0.5), place(r, 0.56), "a follicle")),
        lambda r: r.undo(),
        lambda r: r.redo(),
        lambda r: r.apply(SetCompartment(_around(np.array(place(r, 0.1)), 8.0), "adnexa")),
        lambda r: r.apply(AddNote("hm", place(r, 0.1))),
        lambda r: r.apply(SetVerdict("accepted", "fine")),
    ]
    if name == COL7:
        return [*common, line(0.3, 0.6), lambda r: r.apply(AddNote("drawn"))]
    return [
        nuclei("negative", 0, 1),
        nuclei("positive", 3, 1),
        nuclei("not_a_nucleus", 10, 12),
        lambda r: r.apply(AddNucleus((place(r, 0.3)[0] - 30, place(r, 0.3)[1]), "positive", 3)),
        lambda r: r.apply(AddNucleus((place(r, 0.6)[0] + 30, place(r, 0.6)[1]), "negative")),
        *common,
        line(0.3, 0.6),
        nuclei("automatic", 0, 4),
    ]


@pytest.mark.parametrize("killed_after", [7, 23])
def test_a_killed_review_ends_in_the_tables_that_its_journals_give(
    results: Path, tmp_path: Path, killed_after: int
) -> None:
    whole = tmp_path / "at_once"
    shutil.copytree(results, whole)
    source = str(Path(histoquant.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(results), str(killed_after), str(Path(__file__).parent)],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    lines = sum(len(p.read_text().splitlines()) for p in results.rglob("review*.jsonl"))
    assert lines == killed_after
    shown = review_all(results)  # opened again, finished
    lines = sum(len(p.read_text().splitlines()) for p in results.rglob("review*.jsonl"))
    assert lines == 40
    assert review_all(whole) == shown  # the same as in one sitting
    assert [report.problem for report in remeasure(results)] == ["", "", ""]
    remeasure(whole)
    for name in TABLES:
        assert (results / name).read_bytes() == (whole / name).read_bytes()
    for name, figures in shown.items():
        record = read_record(results / "slides" / name)
        assert record is not None
        assert {k: record["summary"][k] for k in figures} == figures
    assert shown[COL7]["continuity_percent"] > 50  # read anew from the slide
