"""What a study must survive: tables edited or alone, extreme values, odd names, a wrong plan."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from histoquant.errors import ResultError, StudyError
from histoquant.printable import printable
from histoquant.rundir import RunDirectory
from histoquant.study.lock import default_lock_path, lock_plan, read_lock
from histoquant.study.plan import content_sha256, read_plan
from histoquant.study.power import Question
from histoquant.study.run import plan_next, run_study
from study_cohort import LEDGER, LEFT, RIGHT, ledger_row, nuclei

PLAN = 'primary = ["p16:positive_percent"]\n'
Table = Callable[[int, bool], float]
"""(person, treated) -> percent positive."""


def plain(i: int, treated: bool) -> float:
    return (12.0 if treated else 20.0) + 1.3 * i + 0.7 * (i % 3) * treated


def write_pairs(
    folder: Path,
    value: Table = plain,
    people: int = 6,
    arms: tuple[str, str] = ("cream", "placebo"),
    plan: str = PLAN,
) -> Path:
    """``markers.csv`` of two sites a person, design and plan; returns the results directory."""
    rows, design = [], []
    for i in range(people):
        for j, site in enumerate((LEFT, RIGHT)):
            treated = (i + j) % 2 == 0
            design.append([f"P{i}", site, "month_8", arms[0] if treated else arms[1]])
            rows.append([f"P{i}", site, "month_8", "p16", repr(float(value(i, treated)))])
    results = folder / "results"
    results.mkdir(parents=True)
    _csv(results / "markers.csv", ["person", "site", "visit", "marker", "positive_percent"], rows)
    _csv(folder / "design.csv", ["person", "site", "visit", "arm"], design)
    (folder / "plan.toml").write_text(plan, encoding="utf-8")
    return results


def _csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def add_slides(results: Path, people: int = 6) -> None:
    """A ledger and a measured slide of every sample, as the table says."""
    table = pd.read_csv(results / "markers.csv")
    rows = []
    for k, row in table.iterrows():
        done = ledger_row(row["person"], row["site"])
        directory = results / "slides" / done["slide_id"]
        directory.mkdir(parents=True)
        summary = {"positive_percent": row["positive_percent"], "n_positive": 20, "n_nuclei": 200}
        record = {"format": 1, "marker": "p16", "summary": summary, "reasons": {}, "provenance": {}}
        (directory / "result.json").write_text(json.dumps(record), encoding="utf-8")
        nuclei(int(str(k))).to_parquet(directory / "nuclei.parquet")
        rows.append([done[name] for name in LEDGER])
    _csv(results / "ledger.csv", list(LEDGER), rows)


def page(results: Path) -> str:
    return (results / "study" / "study.html").read_text(encoding="utf-8")


# The marker table


def test_a_table_without_a_ledger_is_analysed_and_the_page_says_so(tmp_path: Path) -> None:
    results = write_pairs(tmp_path)
    found = run_study(results, tmp_path / "design.csv")
    assert found.outcomes[0].pairs.n == 6
    assert "There is no ledger.csv beside markers.csv" in page(results)
    assert sorted(p.name for p in results.iterdir()) == ["markers.csv", "study"]


def test_a_table_that_differs_from_the_slides_is_analysed_as_it_is_and_said(
    tmp_path: Path,
) -> None:
    results = write_pairs(tmp_path)
    add_slides(results)
    assert run_study(results, tmp_path / "design.csv").warnings == ()
    assert "differs from the slides" not in page(results)
    table = pd.read_csv(results / "markers.csv")
    table.loc[2, "positive_percent"] = np.nan
    table["positive_percent"] += np.where(table.index == 5, 1e-3, 0.0)
    table = table.drop(index=8)
    table.to_csv(results / "markers.csv", index=False)
    before = (results / "markers.csv").read_bytes()
    found = run_study(results, tmp_path / "design.csv")
    assert found.outcomes[0].pairs.n == 4
    (warning,) = found.warnings
    assert "in 3 sample(s), first P1 left_hand month_8 p16: positive_percent is missing" in warning
    assert "differs from the slides" in page(results)
    assert (results / "markers.csv").read_bytes() == before
    facts = json.loads((results / "study" / "study.json").read_text(encoding="utf-8"))
    assert facts["warnings"] == [warning]


def test_a_table_written_again_with_other_digits_does_not_differ(tmp_path: Path) -> None:
    results = write_pairs(tmp_path, lambda i, t: plain(i, t) / 3)
    add_slides(results)
    pd.read_csv(results / "markers.csv").to_csv(
        results / "markers.csv", index=False, float_format="%.10g"
    )
    assert run_study(results, tmp_path / "design.csv").warnings == ()


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_slide_without_its_nuclei_is_named(tmp_path: Path, damage: str) -> None:
    results = write_pairs(tmp_path)
    add_slides(results)
    table = next(iter(sorted((results / "slides").iterdir()))) / "nuclei.parquet"
    if damage == "gone":
        table.unlink()
    else:
        table.write_bytes(table.read_bytes()[:100])
    word = "is missing" if damage == "gone" else "is damaged"
    with pytest.raises(ResultError, match=rf"nuclei\.parquet {word}.*copy the whole results"):
        run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert not (tmp_path / "plan.lock.json").exists()


def test_sections_without_their_junction_are_named(tmp_path: Path) -> None:
    results = tmp_path / "results"
    rows = []
    for section in ("1", "2"):
        done = ledger_row("P1", LEFT, marker="col7", section=section)
        directory = results / "slides" / done["slide_id"]
        directory.mkdir(parents=True)
        record = {"format": 1, "marker": "col7", "reasons": {}, "provenance": {},
                  "summary": {"integrated_od_um_mean": 1.0, "peak_od_mean": 0.2}}  # fmt: skip
        (directory / "result.json").write_text(json.dumps(record), encoding="utf-8")
        rows.append([done[name] for name in LEDGER])
    _csv(results / "ledger.csv", list(LEDGER), rows)
    with pytest.raises(ResultError, match=r"junction\.parquet.* is missing"):
        RunDirectory(results).marker_rows()


def test_a_file_in_the_place_of_the_study_is_left_alone(tmp_path: Path) -> None:
    results = write_pairs(tmp_path)
    (results / "study").write_text("mine")
    with pytest.raises(StudyError, match="is a file"):
        run_study(results, tmp_path / "design.csv")
    assert (results / "study").read_text() == "mine"


def test_what_a_system_leaves_in_folders_stops_nothing(tmp_path: Path) -> None:
    results = write_pairs(tmp_path)
    run_study(results, tmp_path / "design.csv")
    (results / "study" / ".DS_Store").write_text("")
    (results / "study" / "figures" / "Thumbs.db").write_text("")
    run_study(results, tmp_path / "design.csv")


# The plan


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PLAN + '[margin]\n"p16:positive_percnt" = 1.1\n', "a margin for p16:positive_percnt"),
        (PLAN + '[margin]\n"p16:h_score" = 1.1\n', "a margin for p16:h_score"),
        ('[margin]\n"p16:h_scor" = 1.1\n', "a margin for p16:h_scor"),
        ('[direction]\n"p16:h_scor" = "lower"\n', "'p16:h_scor' is no outcome"),
        (PLAN + '[direction]\n"p16:h_score" = "lower"\n', "which is no outcome of the plan"),
    ],
)
def test_margins_and_directions_of_nothing_are_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    results = write_pairs(tmp_path, plan=text)
    with pytest.raises(StudyError, match=words):
        run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert not (tmp_path / "plan.lock.json").exists()


def test_a_direction_without_declared_outcomes_holds(tmp_path: Path) -> None:
    text = '[direction]\n"p16:positive_percent" = "higher"\n'
    results = write_pairs(tmp_path, plan=text)
    found = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert [(o.outcome.direction, o.outcome.role) for o in found.outcomes] == [
        ("higher", "exploratory")
    ]


def test_an_analysis_that_fails_has_shown_nobody_the_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = write_pairs(tmp_path)
    plan = tmp_path / "plan.toml"
    lock_plan(read_plan(plan), default_lock_path(plan))

    def fail(*_: object) -> None:
        raise StudyError("it cannot be analysed")

    for step in ("run.correct", "illustrate.ratio_forest"):
        with monkeypatch.context() as patch:
            patch.setattr(f"histoquant.study.{step}", fail)
            with pytest.raises(StudyError, match="cannot be analysed"):
                run_study(results, tmp_path / "design.csv", plan)
        assert read_lock(default_lock_path(plan)).unblinded_at == ""
    plan.write_text("alpha = 0.1\n" + PLAN)
    found = run_study(results, tmp_path / "design.csv", plan)
    assert found.lock is not None
    assert [a.after_unblinding for a in found.lock.amendments] == [False]
    assert found.lock.unblinded_at


def test_planning_takes_level_and_seed_of_the_plan(tmp_path: Path) -> None:
    results = write_pairs(tmp_path, plan=PLAN + "alpha = 0.001\nseed = 7\n")
    asked = Question(effect=0.8, n_simulations=200)
    found, _ = plan_next(results, tmp_path / "design.csv", tmp_path / "plan.toml", "", asked)
    assert (found.question.alpha, found.question.seed) == (0.001, 7)
    usual, _ = plan_next(results, tmp_path / "design.csv", None, "p16:positive_percent", asked)
    sizes = [study.curves[0].smallest or 0 for study in (usual, found)]
    assert 0 < sizes[0] < sizes[1]


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop("time"),
        lambda e: e.update(event="opened"),
        lambda e: e.update(plan=[]),
        lambda e: e.update(after_unblinding="yes"),
    ],
)
def test_an_entry_that_is_sealed_and_still_wrong_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    write_pairs(tmp_path)
    path = tmp_path / "plan.lock.json"
    lock_plan(read_plan(tmp_path / "plan.toml"), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    (entry,) = content["entries"]
    change(entry)
    entry.pop("seal")
    content["head"] = entry["seal"] = content_sha256(entry)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(StudyError, match="lock"):
        read_lock(path)


@pytest.mark.parametrize("more", ["x", {}, None, 3])
def test_a_lock_with_something_else_in_it_is_refused(tmp_path: Path, more: object) -> None:
    write_pairs(tmp_path)
    path = tmp_path / "plan.lock.json"
    lock_plan(read_plan(tmp_path / "plan.toml"), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["entries"].append(more)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(StudyError, match="is not the lock of a plan, or damaged"):
        read_lock(path)


# No interval, no corrected P


def test_without_an_interval_no_p_is_corrected(tmp_path: Path) -> None:
    results = write_pairs(tmp_path, lambda i, treated: 5.0 if treated else 10.0)
    found = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    row = found.outcomes[0].row
    assert row["p_signed_rank"] == row["p_sign_flip"] == 2 / 2**6
    assert all(np.isnan(float(str(row[name]))) for name in ("p_t", "p_holm", "p_bh"))
    assert "no P is corrected" in str(row["note"])
    assert "no P is corrected" in str(row["p_reason"])


def test_with_the_interval_of_the_ranks_their_p_is_corrected(tmp_path: Path) -> None:
    results = write_pairs(tmp_path, lambda i, treated: (i + 1) * (1.0 if treated else 2.0))
    row = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml").outcomes[0].row
    assert np.isnan(float(str(row["p_t"])))
    assert row["p_holm"] == row["p_signed_rank"] == 2 / 2**6
    assert "that of the signed-rank test" in str(row["note"])


# Extreme values and names


EXTREME: dict[str, Table] = {
    "huge": lambda i, t: (1e300 if t else 1e-300) if i < 4 else (1e308 if t else 1.0),
    "huge and near": lambda i, t: 1e308 if t else 1.7e308,
    "squares overflow": lambda i, t: (i + 1) * 1e200 if t else 2e200,
    "tiny": lambda i, t: (i + 1) * 1e-200 if t else 2e-200,
    "denormal": lambda i, t: 5e-324 * (1 + i * t),
    "huge with zeros": lambda i, t: 0.0 if t and i < 2 else 1e308 / (i + 1),
    "whole numbers without a gap": lambda i, t: 1e17 + 16 * i * t,
}


@pytest.mark.parametrize("case", EXTREME)
def test_extreme_numbers_are_analysed_without_a_warning(tmp_path: Path, case: str) -> None:
    results = write_pairs(tmp_path, EXTREME[case])
    found = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert found.outcomes[0].pairs.n == 6
    for figure in (results / "study" / "figures").iterdir():
        text = figure.read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert '"nan' not in text
        assert '"inf' not in text
    drawn = {p.stem for p in (results / "study" / "figures").iterdir()}
    assert ("pairs_p16_positive_percent" in drawn) == (case == "whole numbers without a gap")
    left_out = "The figure pairs_p16_positive_percent is left out: no axis can show values from"
    assert (left_out in page(results)) == (case != "whole numbers without a gap")


def test_a_scaled_table_gives_the_same_digits(tmp_path: Path) -> None:
    """Powers of two shift no digit: the arithmetic has the range it claims."""
    rows = []
    for name, unit in (("a", 1.0), ("b", 2.0**900), ("c", 2.0**-900)):
        results = write_pairs(tmp_path / name, lambda i, t, u=unit: plain(i, t) * u)  # type: ignore[misc]
        row = run_study(results, tmp_path / name / "design.csv").outcomes[0].row
        rows.append([row[k] for k in ("p_signed_rank", "p_sign_flip", "n_pairs")])
        shift = [float(str(row[k])) / unit for k in ("difference_low", "mean_difference_high")]
        rows[-1] += shift
    assert rows[0] == rows[1] == rows[2]


def test_values_whose_difference_is_no_number_are_named(tmp_path: Path) -> None:
    results = write_pairs(tmp_path, lambda i, t: 1.7e308 if t else -1.7e308)
    with pytest.raises(StudyError, match=r"1\.7e\+308 and -1\.7e\+308 cannot be compared"):
        run_study(results, tmp_path / "design.csv")


def test_control_characters_are_replaced_in_drawings_and_pages(tmp_path: Path) -> None:
    arms = ("rapa\x07<cream>", "placebo\u202e")
    results = write_pairs(tmp_path, arms=arms)
    found = run_study(results, tmp_path / "design.csv")
    assert found.design.terms.treated == arms[0]
    for path in (results / "study").rglob("*.*ml"):
        text = path.read_text(encoding="utf-8")
        assert not set("\x07\u202e") & set(text)
        assert "rapa\ufffd&lt;cream&gt;" in text
    for figure in (results / "study" / "figures").iterdir():
        text = figure.read_text(encoding="utf-8")
        ElementTree.fromstring(text)
        assert "\x07" not in text
    assert "\ufffd" in (results / "study" / "figures" / "forest.svg").read_text(encoding="utf-8")


def test_printable_keeps_what_people_write() -> None:
    kept = "Ψ verum µ, 10 %\n\ttab é 手 \u00a0"
    assert printable(kept) == kept
    assert printable("a\x00b\x85c\ud800d\uffff") == "a\ufffdb\ufffdc\ufffdd\ufffd"
