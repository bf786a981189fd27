"""Real slides, real processes: what goes wrong with one slide, or with the disk, stays there."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

import histoquant
from benchmarked import load_benchmark
from helpers import SAMPLES
from histoquant.cli import app

bad_slides = load_benchmark("bad_slides")
HEADER = "slide,marker,person,site,visit,mpp"
SOURCE = Path(histoquant.__file__).parents[1]
PYTHONPATH = os.pathsep.join([str(Path(__file__).parent / "hanging"), str(SOURCE)])
COMMAND = [sys.executable, "-c", "from histoquant.cli import main; main()"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small slides cut out of the samples."""
    folder, paths = tmp_path_factory.mktemp("good"), []
    for name in ("P01_left_hand_p16", "P01_left_hand_col7"):
        pixels = tifffile.imread(SAMPLES / "synthetic" / f"{name}.ome.tif")[200:1300, 300:1500]
        paths.append(folder / f"{name}.ome.tif")
        _write(paths[-1], pixels, 0.5)
    return paths


def _write(path: Path, pixels: np.ndarray, mpp: float) -> None:
    scale = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    tifffile.imwrite(path, pixels, ome=True, tile=(256, 256), photometric="rgb", metadata=scale)


def _manifest(folder: Path, *rows: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def _row(path: Path, number: int = 0, mpp: str = "") -> str:
    marker = "col7" if "col7" in path.name else "p16"
    return f"{path},{marker},P{number},left,m8,{mpp}"


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PYTHONPATH},
        # A shell's background job ignores Ctrl-C, and so would what is begun from there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _run(*arguments: object) -> tuple[int, str, str]:
    process = _start(*arguments)
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def _ledger(out: Path) -> dict[str, tuple[str, str]]:
    with (out / "ledger.csv").open(newline="") as file:
        return {
            row["slide"].split("/")[-1]: (row["status"], row["reason"])
            for row in csv.DictReader(file)
        }


def test_bad_slides_among_good_ones(tmp_path: Path) -> None:
    """Every kind of benchmarks/bad_slides.py fails alone, with a reason; the good ones are done."""
    study = bad_slides.make_study(tmp_path, n_good=2, each=1)
    os.mkfifo(tmp_path / "pipe.ome.tif")
    with study.manifest.open("a") as file:
        file.write("pipe.ome.tif,p16,PX,left,m8\n")
    study = replace(study, expected=(*study.expected, "neither a file nor a folder"))
    out = tmp_path / "out"
    status, said, _ = _run("batch", study.manifest, "--out", out, "--workers", 2)
    assert f"slides: 2 done, {len(bad_slides.KINDS) + 1} failed" in said
    bad_slides.check(study, out, status)
    for place in (out / "slides").iterdir():
        assert sum(path.is_file() for path in place.rglob("*")) <= 15


def test_hanging_slide_is_stopped_and_the_next_is_looked_at(
    good: list[Path], tmp_path: Path
) -> None:
    """Opening it hangs in native code that no Python thread can interrupt."""
    hanging, glass = tmp_path / "hanging.ome.tif", tmp_path / "glass.ome.tif"
    hanging.write_bytes(good[0].read_bytes())
    _write(glass, np.full((600, 600, 3), 243, np.uint8), 0.5)
    manifest, out = _manifest(tmp_path, _row(hanging, 1), _row(glass, 2)), tmp_path / "out"
    limit = ("--set", "batch.time_limit_min=0.3")
    status, _, err = _run("batch", manifest, "--out", out, "--workers", 1, *limit)
    assert status == 1, err
    found = _ledger(out)
    assert "longer than the time limit, 0.3 min" in found["hanging.ome.tif"][1]
    assert "tissue" in found["glass.ome.tif"][1]
    status, _, err = _run("batch", manifest, "--out", out, *limit)
    assert status == 1
    assert "2 slides failed before and are left" in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a disk of its own needs Linux and the right to mount one")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_full_disk(good: list[Path], tmp_path: Path, small_disk: Path) -> None:
    """What does not fit fails, nothing half-written looks whole, and space mends it."""
    manifest, out = _manifest(tmp_path, *(_row(path) for path in good)), small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * ((8 << 20) - 100_000))
    status, _, err = _run("batch", manifest, "--out", out, "--workers", 1)
    assert status in (1, 2)
    assert "No space left" in err
    assert not list(out.glob("slides/*/result.json"))
    filler.unlink()
    assert _run("batch", manifest, "--out", out, "--workers", 1)[0] == 0
    assert {status for status, _ in _ledger(out).values()} == {"done"}
    assert not list(out.glob("slides/.*"))


def test_disk_that_is_too_full_for_the_ledger(
    good: list[Path], tmp_path: Path, small_disk: Path
) -> None:
    manifest, out = _manifest(tmp_path, *(_row(path) for path in good)), small_disk / "out"
    (small_disk / "filler").write_bytes(b"x" * (8 << 20))
    status, _, err = _run("batch", manifest, "--out", out, "--workers", 1)
    assert status == 2
    assert "cannot write results" in err
    assert "No space left" in err


def test_slide_that_goes_away_meanwhile(good: list[Path], tmp_path: Path) -> None:
    """The first slide is not opened until the second is gone."""
    gate, going = tmp_path / "waiting.ome.tif", tmp_path / "going_p16.ome.tif"
    for path in (gate, going):
        path.write_bytes(good[0].read_bytes())
    (tmp_path / "wait").touch()
    manifest = _manifest(tmp_path, _row(gate, 1), _row(going, 2), _row(good[1], 3))
    out = tmp_path / "out"
    process = _start("batch", manifest, "--out", out, "--workers", 1)
    _wait_for(out / "ledger.csv")
    going.unlink()
    (tmp_path / "wait").unlink()
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    found = _ledger(out)
    assert found["going_p16.ome.tif"][0] == "failed"
    assert "going_p16" in found["going_p16.ome.tif"][1]
    assert found[good[1].name][0] == "done"


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)])
def test_interrupted_run_says_so_and_goes_on_later(
    good: list[Path], tmp_path: Path, number: signal.Signals, workers: int
) -> None:
    waiting = tmp_path / "waiting.ome.tif"
    waiting.write_bytes(good[0].read_bytes())
    (tmp_path / "wait").touch()
    manifest = _manifest(tmp_path, *(_row(path) for path in good), _row(waiting))
    out = tmp_path / "out"
    process = _start("batch", manifest, "--out", out, "--workers", workers)
    for path in good:
        _wait_for(out / "slides" / path.name.split(".")[0] / "result.json")
    time.sleep(0.5)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on where it stopped" in err
    assert not (out / ".lock").exists()
    assert _ledger(out)["waiting.ome.tif"][0] == "pending"
    assert len(pd.read_csv(out / "markers.csv")) == 2
    (tmp_path / "wait").unlink()
    status, said, err = _run("batch", manifest, "--out", out, "--workers", workers)
    assert status == 0, err
    assert "2 of 3 slides are up to date" in err


def test_dry_run_says_what_why_and_how_long(good: list[Path], tmp_path: Path) -> None:
    manifest, out = _manifest(tmp_path, *(_row(p) for p in good)), tmp_path / "out"

    def dry_run(*more: str) -> str:
        command = ["batch", str(manifest), "--out", str(out), "--dry-run", *more]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0
        return result.stdout

    said = dry_run()
    assert not out.exists()
    assert "from the tissue seen on 2 slide(s)" in said
    assert said.count(": new") == 2
    assert _run("batch", manifest, "--out", out, "--workers", 1)[0] == 0
    before = (out / "run.json").read_bytes()
    change = ("--set", "nuclei.min_area_um2=21")
    said = dry_run(*change)
    assert said.count("changed: settings (nuclei.min_area_um2)") == 2
    assert "from 2 measured slide(s) of this study" in said
    assert (out / "run.json").read_bytes() == before


def _wait_for(path: Path, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)
