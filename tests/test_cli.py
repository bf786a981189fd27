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
from fakes import FakePipeline, make_result, write_tiny_slide
from histoquant import console, phantom
from histoquant.cli import app
from histoquant.results import read_result, write_result
from histoquant.settings import default_toml

COMMANDS = (
    "info", "quantify", "batch", "tables", "study", "report", "settings", "doctor", "phantom"
)  # fmt: skip
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


@pytest.mark.parametrize(
    "arguments", [["--help"], ["batch", "--help"], ["study", "--help"], ["--version"]]
)
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
        pytest.param(["study", "out"], "--design", id="no design"),
        pytest.param(["study", "out", "--design", "d.csv"], "no results directory",
                     id="no results to study"),
        pytest.param(["study", "out", "--lock-plan"], "--plan", id="no plan to lock"),
        pytest.param(["study", "out", "--lock-plan", "--power"], "one at a time",
                     id="two things at once"),
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


# Statistics

PLAN = 'primary = ["p16:positive_percent"]\n'


@pytest.fixture
def measured(tmp_path: Path, fake_pipeline: FakePipeline) -> Path:
    """Five people with both hands measured, of whom one has no partner; design and plan."""
    rows, design = ["slide,marker,person,site,visit"], ["person,site,visit,arm"]
    for i in range(5):
        for site, arm in (("left", "cream"), ("right", "placebo")):
            name = f"{i}_{site}"
            write_tiny_slide(tmp_path / f"{name}.ome.tif", seed=i)
            if name != "4_right":
                rows.append(f"{name}.ome.tif,p16,P{i},{site},month_8")
            design.append(f"P{i},{site},month_8,{arm}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    (tmp_path / "design.csv").write_text("\n".join(design))
    (tmp_path / "plan.toml").write_text(PLAN)
    assert _batch(tmp_path).exit_code == 0
    for i in range(5):
        for site, value in (("left", 10.0 + i), ("right", 20.0 + 3 * i)):
            slide = tmp_path / "out" / "slides" / f"{i}_{site}"
            if slide.exists():
                write_result(make_result(slide_id=slide.name, positive_percent=value), slide)
    assert invoke("tables", tmp_path / "out").exit_code == 0
    return tmp_path


def _study(folder: Path, *more: object) -> Result:
    return invoke("study", folder / "out", *more)


def test_study_from_plan_to_report(measured: Path) -> None:
    plan = ["--plan", measured / "plan.toml"]
    locked = _study(measured, *plan, "--lock-plan")
    assert locked.exit_code == 0
    assert "The plan was locked" in locked.stdout
    assert (measured / "plan.lock.json").exists()
    assert not (measured / "out" / "study").exists()
    result = _study(measured, "--design", measured / "design.csv", *plan)
    assert result.exit_code == 0, result.stderr
    assert "p16:positive_percent (primary): 4 people of 5 enrolled: cream / placebo 0.4" in (
        result.stdout
    )
    assert "reversal cannot be told from slowed progression" in result.stdout
    table = pd.read_csv(measured / "out" / "study" / "contrasts.csv")
    assert table["n_pairs"].tolist() == [4]
    assert "Carry-across" in (measured / "out" / "report.html").read_text(encoding="utf-8")


def test_study_without_a_plan_warns(measured: Path) -> None:
    result = _study(measured, "--design", measured / "design.csv")
    assert result.exit_code == 0, result.stderr
    assert "warning: no plan was given" in result.stderr


def test_study_plans_the_next_one(measured: Path) -> None:
    result = _study(
        measured, "--design", measured / "design.csv", "--power",
        "--outcome", "p16:positive_percent", "--effect", 0.9, "--drop-out", 0.5,
        "--curve", measured / "power.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "To find a ratio of 0.900 with 80 % power" in result.stdout
    assert "50 % of them lost" in result.stdout
    curve = pd.read_csv(measured / "power.csv")
    assert set(curve["marker"] + ":" + curve["outcome"]) == {"p16:positive_percent"}
    for _, own in curve.groupby("spread"):
        assert own["power"].iloc[-1] > max(0.8, own["power"].iloc[0])
    assert not (measured / "out" / "study").exists()


def test_an_amended_plan_needs_no_reason_but_can_have_one(measured: Path) -> None:
    plan = ["--plan", measured / "plan.toml", "--lock-plan"]
    _study(measured, *plan)
    (measured / "plan.toml").write_text("alpha = 0.01\n" + PLAN)
    result = _study(measured, *plan, "--why", "asked by the ethics board")
    assert result.exit_code == 0
    assert "before unblinding (asked by the ethics board): alpha: 0.05 -> 0.01" in result.stdout


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("design.csv", "person,site,visit,arm\nP0,left,month_8,cream\n", "problem(s)"),
        ("design.csv", "person,site\nP0,left\n", "missing column(s) visit, arm"),
        ("plan.toml", 'primary = ["p16:positiv"]\n', "positiv"),
        ("plan.toml", "primary = 3 4\n", "not TOML"),
    ],
)
def test_wrong_input_of_a_study_exits_with_2(
    measured: Path, name: str, text: str, words: str
) -> None:
    (measured / name).write_text(text)
    plan = measured / "plan.toml"
    result = _study(measured, "--design", measured / "design.csv", "--plan", plan)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (measured / "out" / "study").exists()
    assert not (measured / "out" / ".lock").exists()
    if name == "plan.toml":
        assert _study(measured, "--plan", plan, "--lock-plan").exit_code == 2
        assert not (measured / "plan.lock.json").exists()


def test_nothing_but_the_study_opens_a_design(measured: Path) -> None:
    """The arms lie where a measuring command could read them, as a directory: opening fails."""
    (measured / "design.csv").unlink()
    (measured / "design.csv").mkdir()
    assert _batch(measured, "--set", "nuclei.min_area_um2=20").exit_code == 0
    assert invoke("tables", measured / "out").exit_code == 0
    assert _study(measured, "--design", measured / "design.csv").exit_code == 2


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
