"""The command line: help, exit status, messages, and the whole way of a real small slide."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import histoquant
from fakes import FakePipeline, write_tiny_slide
from histoquant import console, phantom
from histoquant.cli import app
from histoquant.results import read_result
from histoquant.settings import default_toml

COMMANDS = ("info", "quantify", "batch", "tables", "report", "settings", "doctor", "phantom")
TRUNCATED = "truncated.ome.tif"


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    source = Path(histoquant.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


MAIN = "from histoquant.cli import main; main()"


# Start-up


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import histoquant; "
        "print(time.perf_counter() - t, *sys.modules)"
    )
    runs = [run_python(code).stdout.split() for _ in range(5)]
    assert min(float(run[0]) for run in runs) < 0.5
    heavy = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "matplotlib", "distributed",
             "statsmodels", "dask", "pandas", "numba", "cv2"}  # fmt: skip
    assert not heavy & set(runs[0][1:])


@pytest.mark.parametrize("arguments", [["--help"], ["batch", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import atexit, sys; from histoquant.cli import main\n"
        "heavy = {'numpy', 'pandas', 'dask', 'distributed', 'numba', 'cv2', 'matplotlib'}\n"
        "atexit.register(lambda: print('heavy:', *sorted(heavy & set(sys.modules))))\nmain()"
    )
    done = run_python(code, *arguments)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("heavy:")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert f"Example: histoquant {command}" in result.output


# Settings, doctor


def test_settings_print_and_check(tmp_path: Path) -> None:
    printed = invoke("settings").stdout
    assert printed == default_toml()
    (tmp_path / "my.toml").write_text(printed)
    assert "valid" in invoke("settings", tmp_path / "my.toml").stdout
    (tmp_path / "my.toml").write_text("[p16]\nthreshold = 1\n")
    result = invoke("settings", tmp_path / "my.toml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "p16.threshold" in result.stderr


def test_doctor_knows_this_machine() -> None:
    result = invoke("doctor")
    assert result.exit_code == 0
    for word in ("python", "codec JPEG", "cores", "memory", "scheduler local", "Qt"):
        assert word in result.stdout


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["quantify", "no.svs", "--marker", "p16", "--out", "out"], "no such file",
                     id="no such slide"),
        pytest.param(["quantify", "s.ome.tif", "--marker", "ki67", "--out", "out"], "ki67",
                     id="unknown marker"),
        pytest.param(["quantify", "s.ome.tif", "--out", "out"], "--marker", id="no marker"),
        pytest.param(["quantify", "s.ome.tif", "--marker", "p16", "--out", "out", "--set", "a.b=1"],
                     "Extra inputs", id="unknown setting"),
        pytest.param(["quantify", "s.ome.tif", "--marker", "p16", "--out", "s.ome.tif"],
                     "cannot write results", id="output is a file"),
        pytest.param(["batch", "no.csv", "--out", "out"], "cannot read the manifest",
                     id="no manifest"),
        pytest.param(["batch", "s.ome.tif", "--out", "out"], "CSV", id="manifest is a slide"),
        pytest.param(["batch", "m.csv", "--out", "out", "--scheduler", "moon"], "moon",
                     id="unknown scheduler"),
        pytest.param(["tables", "out"], "no results directory", id="no results"),
        pytest.param(["report", "out"], "no results directory", id="no results to report"),
        pytest.param(["info", "no.svs"], "no.svs", id="info of nothing"),
        pytest.param(["info", "text.svs"], "text.svs", id="info of a text file"),
        pytest.param(["flatter"], "flatter", id="unknown command"),
    ],
)  # fmt: skip
def test_wrong_use_exits_with_2_and_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_tiny_slide(tmp_path / "s.ome.tif")
    (tmp_path / "text.svs").write_text("not a slide")
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


# Many slides, invented measurements


@pytest.fixture
def study(tmp_path: Path, fake_pipeline: FakePipeline) -> Path:
    for name in ("a", "b", "blank"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif", seed=len(name))
    _write_manifest(tmp_path, "a", "b")
    return tmp_path


def _write_manifest(folder: Path, *names: str) -> None:
    rows = [f"{name}.ome.tif,p16,{name},left_hand,month_8" for name in names]
    text = "\n".join(["slide,marker,person,site,visit", *rows])
    (folder / "manifest.csv").write_text(text + "\n")


def _batch(study: Path, *more: str) -> Result:
    return invoke("batch", study / "manifest.csv", "--out", study / "out", "--workers", 1, *more)


def test_batch_does_all_then_nothing(study: Path, fake_pipeline: FakePipeline) -> None:
    result = _batch(study)
    assert result.exit_code == 0
    assert "[2/2] b: done" in result.stderr
    assert "slides: 2 done" in result.stdout
    result = _batch(study)
    assert result.exit_code == 0
    assert "2 of 2 slides are up to date" in result.stderr
    assert len(fake_pipeline.measured) == 2
    assert (study / "out" / "report.html").exists()


def test_changed_setting_says_what_is_done_again(study: Path) -> None:
    _batch(study)
    result = _batch(study, "--set", "nuclei.min_area_um2=20")
    assert "again: a: changed: settings (nuclei.min_area_um2)" in result.stderr


def test_dry_run_says_it_all_and_writes_nothing(study: Path) -> None:
    result = _batch(study, "--dry-run")
    assert result.exit_code == 0
    assert "measure: a (p16, a.ome.tif): new" in result.stdout
    assert not (study / "out").exists()
    _batch(study)
    assert "skip: a (p16, a.ome.tif): up to date" in _batch(study, "--dry-run").stdout


def test_failed_slides_exit_with_1_until_they_are_right(study: Path) -> None:
    _write_manifest(study, "a", "blank", "gone")
    result = _batch(study)
    assert result.exit_code == 1
    assert "no tissue was found" in result.stderr
    assert "line 4: gone.ome.tif: no such file" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(pd.read_csv(study / "out" / "markers.csv")) == 1
    result = _batch(study)
    assert result.exit_code == 1
    assert "--retry-failed" in result.stderr
    _write_manifest(study, "a", "b")
    assert _batch(study).exit_code == 0


def test_manifest_without_a_usable_row_exits_with_2(study: Path) -> None:
    _write_manifest(study, "gone", "gone_too")
    result = _batch(study)
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert "line 3" in result.stderr


def test_ctrl_c_is_one_line(
    study: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_pipeline: FakePipeline,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(console.Shown, "on_fate", interrupt)
        result = _batch(study)
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert not (study / "out" / ".lock").exists()
    assert _batch(study).exit_code == 0
    assert fake_pipeline.measured == ["a.ome.tif", "b.ome.tif"]


def test_tables_again(study: Path) -> None:
    _batch(study)
    table = study / "out" / "markers.csv"
    before = table.read_bytes()
    table.unlink()
    result = invoke("tables", study / "out")
    assert result.exit_code == 0
    assert table.read_bytes() == before


def test_quantify_adds_to_a_directory(study: Path) -> None:
    out = ["--marker", "p16", "--out", study / "out"]
    assert invoke("quantify", study / "a.ome.tif", *out).exit_code == 0
    assert invoke("quantify", study / "b.ome.tif", study / "no.svs", *out).exit_code == 1
    markers = pd.read_csv(study / "out" / "markers.csv")
    assert markers["slides"].tolist() == ["a", "b"]
    assert markers["person"].isna().all()


def test_removed_result_of_another_slide_does_not_stop_quantify(study: Path) -> None:
    out = ["--marker", "p16", "--out", study / "out"]
    invoke("quantify", study / "a.ome.tif", *out)
    shutil.rmtree(study / "out" / "slides" / "a")
    result = invoke("quantify", study / "b.ome.tif", *out)
    assert result.exit_code == 1
    assert "pending: a: its result was removed" in result.stderr
    assert pd.read_csv(study / "out" / "markers.csv")["slides"].tolist() == ["b"]
    assert invoke("quantify", study / "a.ome.tif", *out).exit_code == 0
    assert pd.read_csv(study / "out" / "markers.csv")["slides"].tolist() == ["a", "b"]


def test_quantify_in_the_directory_of_a_study_keeps_the_sample(study: Path) -> None:
    _batch(study)
    out = ["--marker", "p16", "--out", study / "out"]
    assert invoke("quantify", study / "b.ome.tif", *out).exit_code == 0
    assert pd.read_csv(study / "out" / "markers.csv")["person"].tolist() == ["a", "b"]


# Real slides


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small phantom of each marker, a slide without scale, and damaged ones."""
    folder = tmp_path_factory.mktemp("real")
    for marker in ("p16", "col7"):
        phantom.write_slide(
            folder / f"{marker}.ome.tif", marker, seed=3, preset="easy", size_mm=(0.5, 0.4)
        )
    write_tiny_slide(folder / "no_scale.ome.tif", mpp=None)
    content = (folder / "p16.ome.tif").read_bytes()
    (folder / TRUNCATED).write_bytes(content[: len(content) // 3])
    (folder / "text.svs").write_text("not a slide")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_quantify_a_phantom(real: Path, tmp_path: Path, marker: str) -> None:
    slide = real / f"{marker}.ome.tif"
    result = invoke("quantify", slide, "--marker", marker, "--out", tmp_path, "--workers", 1)
    assert (result.exit_code, result.stderr.count("error")) == (0, 0)
    kept = read_result(tmp_path / "slides" / marker)
    assert kept.summary["dej_length_mm"] > 0.2
    assert (kept.overlay or b"").startswith(b"\x89PNG")
    for name, reason in kept.reasons.items():
        assert reason != "not measured", name
    geojson = json.loads((tmp_path / "slides" / marker / "compartments.geojson").read_text())
    classes = {f["properties"]["classification"]["name"] for f in geojson["features"]}
    assert {"Tissue", "Epidermis", "Dermis", "DEJ"} <= classes


def test_batch_on_a_local_cluster(real: Path, tmp_path: Path) -> None:
    """Two processes with a slide each give what one process gives, byte for byte."""
    rows = [f"{real / name},{name[:3]},P1,left_hand,month_8" for name in ("p16.ome.tif",)]
    rows += [f"{real}/col7.ome.tif,col7,P1,left_hand,month_8", f"{real}/{TRUNCATED},p16,P2,l,v"]
    (tmp_path / "m.csv").write_text("\n".join(["slide,marker,person,site,visit", *rows]))
    tables = []
    for workers in (1, 2):
        out = tmp_path / f"out{workers}"
        result = invoke("batch", tmp_path / "m.csv", "--out", out, "--workers", workers)
        assert result.exit_code == 1, result.stderr
        assert "truncated: failed" in result.stderr
        tables.append((out / "markers.csv").read_bytes())
    assert tables[0] == tables[1]
    assert len(pd.read_csv(tmp_path / "out2" / "markers.csv")) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [("no_scale.ome.tif", "--mpp"), (TRUNCATED, "truncated"), ("text.svs", "text.svs")],
)
def test_bad_slides_fail_with_a_reason(real: Path, tmp_path: Path, name: str, words: str) -> None:
    done = run_python(MAIN, "quantify", str(real / name), "--marker", "p16", "--out", str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    ledger = pd.read_csv(tmp_path / "ledger.csv")
    assert ledger["status"].tolist() == ["failed"]
    assert words in ledger["reason"][0]


def test_info(real: Path) -> None:
    text = invoke("info", real / "p16.ome.tif").stdout
    for words in ("1000 x 800 px", "0.5 um/px", "white level", "level 0"):
        assert words in text
    facts = json.loads(invoke("info", real / "p16.ome.tif", "--json").stdout)
    assert (facts["width"], facts["mpp"], len(facts["white"])) == (1000, 0.5, 3)


def test_info_of_a_slide_without_scale(real: Path) -> None:
    result = invoke("info", real / "no_scale.ome.tif")
    assert result.exit_code == 0
    assert "unknown" in result.stdout


def test_phantom_writes_slide_and_truth(tmp_path: Path) -> None:
    result = invoke("phantom", tmp_path / "x.ome.tif", "--seed", 1, "--size", 0.5, 0.4)
    assert result.exit_code == 0
    assert (tmp_path / "x.ome.tif").exists()
    assert any((tmp_path / "truth").iterdir())


def test_phantom_refuses_nonsense(tmp_path: Path) -> None:
    result = invoke("phantom", tmp_path / "x.ome.tif", "--preset", "impossible")
    assert result.exit_code == 2
    assert "impossible" in result.stderr


def test_a_slide_without_epidermis_is_done_with_a_warning(tmp_path: Path) -> None:
    field = Path(__file__).parents[1] / "sample_slides" / "real" / "OS-2-ndpi.ome.tif"
    result = invoke("quantify", field, "--marker", "p16", "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "warning: OS-2-ndpi: no figure along the junction: no epidermis found" in result.stderr
    row = pd.read_csv(tmp_path / "out" / "markers.csv").iloc[0]
    assert 900 <= row["n_nuclei"] <= 1500
    assert pd.isna(row["positive_per_mm_dej"])
    assert "positive_per_mm_dej: no epidermis found" in row["reasons"]
