"""The same study on this machine's cores, through dask-jobqueue and as a job array: one table."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import histoquant
from benchmarked import load_benchmark
from histoquant.running_settings import SlurmSettings
from histoquant.schedule import SchedulerError, _job, slurm_cluster
from test_faults import faults

ARRAY = Path(__file__).parents[1] / "examples" / "cluster" / "array.sbatch"
SNAKEFILE = ARRAY.with_name("Snakefile")
SNAKEMAKE = shutil.which("snakemake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
node = load_benchmark("slurm_node")
needs_slurm = pytest.mark.skipif(bool(node.why_not()), reason=node.why_not() or "-")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> faults.Study:
    return faults.make_study(tmp_path_factory.mktemp("study"), slides=4)


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with node.slurm_node(tmp_path_factory.mktemp("slurm"), cores=2):
        yield


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `histoquant` command on the path that runs this source, and nothing else changed."""
    command = tmp_path / "bin" / "histoquant"
    command.parent.mkdir()
    source = Path(histoquant.__file__).parents[1]
    code = "from histoquant.cli import main; main()"
    command.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -c "{code}" "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(source))
    monkeypatch.chdir(tmp_path)
    return command


@needs_slurm
def test_jobs_of_dask_jobqueue(
    study: faults.Study, slurm: None, on_path: Path, tmp_path: Path
) -> None:
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "my.toml").write_text(
        '[slurm]\ninterface = "lo"\nmemory_gb = 2.0\nqueue = "main"\nwalltime_min = 10\n'
        f'log_directory = "{tmp_path}"\n'
    )
    out = tmp_path / "out"
    faults.start(
        "batch", str(study.manifest), "--out", str(out), "--scheduler", "slurm",
        "--workers", "2", "--settings", str(tmp_path / "my.toml"),
    ).end(0)  # fmt: skip
    faults.check_same(study, out)
    _wait_until_idle()


@needs_slurm
def test_job_array_cancelled_and_sent_again(
    study: faults.Study, slurm: None, on_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    array = ["sbatch", "--parsable", "--array=1-3", str(ARRAY), str(study.manifest), str(out)]
    job = subprocess.run(array, check=True, capture_output=True, text=True).stdout.strip()
    faults.wait_until(lambda: faults.finished(study, out) >= 1, 200)
    subprocess.run(["scancel", job], check=True)
    _wait_until_idle()
    faults.check_whole(out)
    assert faults.start("tables", str(out)).end(0, 1) in (0, 1)
    kept = faults.finished(study, out)
    assert sum(row["status"] == "done" for row in faults.ledger(out)) == kept
    done = subprocess.run([*array[:1], "--wait", *array[1:]], check=False, capture_output=True)
    assert done.returncode == 0, "".join(p.read_text() for p in tmp_path.glob("*.log"))
    faults.start("tables", str(out)).end(0)
    faults.check_same(study, out)


def _wait_until_idle() -> None:
    def idle() -> bool:
        queue = subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True)
        return not queue.stdout.strip()

    deadline = time.monotonic() + 120
    while not idle():
        assert time.monotonic() < deadline, "jobs are left"
        time.sleep(0.5)


def test_a_job_ends_itself_before_its_wall_time() -> None:
    job = _job(SlurmSettings(walltime_min=100, cores=4, queue="long", lines=("#SBATCH --x",)), 2)
    assert (job["walltime"], job["cores"], job["job_cpu"]) == ("01:40:00", 2, 4)
    words = job["worker_extra_args"]
    lifetime, stagger = (float(words[i].removesuffix("s")) for i in (1, 3))
    assert words[::2] == ["--lifetime", "--lifetime-stagger"]
    assert 0.9 * 6000 < lifetime + stagger <= 6000 - 5 * 60
    assert job["queue"] == "long"
    assert "interface" not in job
    assert job["job_extra_directives"] == ["--x"]
    assert "export OMP_NUM_THREADS=1" in job["job_script_prologue"]


def test_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SchedulerError, match="no sbatch"), slurm_cluster(1, SlurmSettings()):
        pass


@pytest.mark.skipif(SNAKEMAKE is None, reason="no snakemake here")
def test_snakemake(study: faults.Study, on_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [str(SNAKEMAKE), "-s", str(SNAKEFILE), "--cores", "2", "--config",
         f"manifest={study.manifest}", f"results={out}", "shards=2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shutil.rmtree(out / "snakemake")
    faults.check_same(study, out)


def test_example_scripts_are_there_and_readable() -> None:
    subprocess.run(["bash", "-n", str(ARRAY)], check=True)
    assert "--shard" in SNAKEFILE.read_text()
