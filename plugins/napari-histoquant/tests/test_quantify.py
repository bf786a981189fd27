"""The settings form and the measuring child, without Qt."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pandas as pd
import pytest

from histoquant import SettingsError
from histoquant.settings import Settings
from napari_histoquant import form
from napari_histoquant.job import Job


def test_the_form_has_every_setting_once() -> None:
    keys = [field.key for field in form.fields()]
    every = {
        (group, name)
        for group in Settings.model_fields
        if group not in ("batch", "slurm")  # for many slides
        for name in type(getattr(Settings(), group)).model_fields
    }
    assert len(set(keys)) == len(keys)
    hidden = every - set(keys)
    assert hidden == {("stains", "locked"), ("p16", "threshold_locked")}
    assert all(field.description for field in form.fields())


def test_the_form_follows_the_marker() -> None:
    assert "collagen7" not in form.groups("p16")
    assert "p16" not in form.groups("col7")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ()),
        ({("stains", "preset"): "haec"}, ("stains.preset=haec",)),
        ({("p16", "thresholds_od"): "[0.1, 0.3, 0.5]"}, ("p16.thresholds_od=[0.1, 0.3, 0.5]",)),
        ({("stains", "white"): "[240, 240, 240]"}, ("stains.white=[240, 240, 240]",)),
        ({("nuclei", "mpp"): "0.5"}, ()),  # the default
        ({("nuclei", "mpp"): " "}, ()),  # emptied: the default again
    ],
)
def test_only_changes_are_assigned(values: form.Values, expected: tuple[str, ...]) -> None:
    assert form.assignments(values) == expected
    Settings().with_values(expected)


def test_the_command_line_says_the_same() -> None:
    request = form.Request("my slide.svs", "p16", "out", ("stains.preset=haec",), mpp=0.25)
    assert shlex.split(request.command_line()) == [
        "histoquant", "quantify", "my slide.svs", "--marker", "p16", "--out", "out",
        "--set", "stains.preset=haec", "--mpp", "0.25",
    ]  # fmt: skip
    assert request.settings().stains.preset == "haec"


def test_a_bad_value_is_told() -> None:
    with pytest.raises(SettingsError, match="nuclei.mpp"):
        form.Request("s", "p16", "o", ("nuclei.mpp=7",)).settings()


def test_a_job_measures_like_the_command_line(
    drawn: dict[str, Path], measured: Path, tmp_path: Path
) -> None:
    job = Job(form.Request(str(drawn["col7"]), "col7", str(tmp_path / "out"), workers=1))
    stages = set()
    while job.poll() == "running":
        stages.add(job.stage)
        time.sleep(0.02)
    assert job.state == "done", job.message
    assert len(stages) >= 2
    assert job.fraction == 1
    assert job.result is not None
    ours = pd.read_csv(job.result / "summary.csv")
    theirs = pd.read_csv(measured / "slides" / job.result.name / "summary.csv")
    pd.testing.assert_frame_equal(ours, theirs)


def test_a_job_tells_why_it_failed(tmp_path: Path) -> None:
    job = Job(form.Request(str(tmp_path / "none.svs"), "p16", str(tmp_path / "out")))
    assert job.wait(60) == "failed"
    assert "none.svs" in job.message


def test_a_job_can_be_cancelled(drawn: dict[str, Path], tmp_path: Path) -> None:
    job = Job(form.Request(str(drawn["p16"]), "p16", str(tmp_path / "out")))
    job.cancel()
    assert job.wait(60) == "cancelled"
    assert not list((tmp_path / "out").glob("slides/*/result.json"))
