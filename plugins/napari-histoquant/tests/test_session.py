"""A whole review by a script in a shown viewer that is killed half-way, against its journals."""

from __future__ import annotations

import filecmp
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import player
from histoquant.review import remeasure
from napari_histoquant.form import Request
from napari_histoquant.job import measure

SAMPLES = Path(__file__).parents[3] / "sample_slides" / "synthetic"
SLIDES = ("P01_left_hand_p16", "P02_left_hand_p16", "P01_left_hand_col7")
KILL_AT = 19  # edits; the last of them may be half done


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("session") / "results"
    for name in SLIDES:
        marker = name.rpartition("_")[2]
        slide = SAMPLES / f"{name}.ome.tif"
        measure(Request(str(slide), marker, str(out), workers=2), lambda stage: None)  # type: ignore[arg-type]
    return out


def start(results: Path, numbers: Path) -> subprocess.Popen[str]:
    program = [sys.executable, str(Path(player.__file__)), str(results), str(numbers)]
    return subprocess.Popen(program, stderr=subprocess.PIPE, text=True)


def done(results: Path) -> int:
    return sum(player.lines(slide) for slide in (results / "slides").iterdir())


def test_a_session_that_is_killed_and_finished(automatic: Path, tmp_path: Path) -> None:
    results, numbers = tmp_path / "results", tmp_path / "numbers.json"
    shutil.copytree(automatic, results)
    killed = start(results, numbers)
    deadline = time.monotonic() + 240
    while done(results) < KILL_AT:
        assert killed.poll() is None, killed.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    kept = done(results)
    assert KILL_AT <= kept < 40
    again = start(results, numbers)
    assert again.wait(300) == 0, again.communicate()[1]
    kinds = [
        json.loads(line)["kind"]
        for journal in results.glob("slides/*/review.jsonl")
        for line in journal.read_text().splitlines()
    ]
    assert len(kinds) >= 40
    assert set(kinds) == {
        "set_class", "add_nucleus", "redraw_junction", "delete_junction", "exclude_region",
        "include_region", "set_compartment", "set_verdict", "add_note", "undo", "redo",
    }  # fmt: skip

    remeasure(results, player.REVIEWER)
    said = json.loads(numbers.read_text())
    for name in SLIDES:
        table = pd.read_csv(results / "slides" / name / "summary.csv").iloc[0]
        for figure, value in said[name].items():
            if value is None:
                assert pd.isna(table[figure]), (name, figure)
            else:
                assert math.isclose(table[figure], value, rel_tol=1e-9), (name, figure)

    # The journals alone, carried to where nobody ever opened a viewer.
    headless = tmp_path / "headless"
    shutil.copytree(automatic, headless)
    for name in SLIDES:
        shutil.copy(results / "slides" / name / "review.jsonl", headless / "slides" / name)
    remeasure(headless, player.REVIEWER)
    for table in ("markers.csv", *(f"slides/{name}/summary.csv" for name in SLIDES)):
        assert filecmp.cmp(results / table, headless / table, shallow=False), table
    assert not filecmp.cmp(results / "markers.csv", automatic / "markers.csv", shallow=False)
