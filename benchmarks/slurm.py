"""One cohort on this machine's cores, through dask-jobqueue and as a job array: the same tables?

    python benchmarks/slurm.py [--study FOLDER] [--people 36] [--tasks 4]

Without `--study` a cohort of `--people` x 2 hands x 2 markers of small phantoms is drawn first.
A real SLURM of one node is started (as root, with slurm-wlm and munge) and ended again. Printed
for each way: wall time, and whether every table and every file of every slide is, byte for byte,
that of the run on the cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faults
from slurm_node import slurm_node, why_not

from histoquant import phantom
from histoquant.manifest import read_manifest

SIZE_MM = (0.7, 0.6)
Measure = Callable[[faults.Study, Path], None]
ARRAY = Path(__file__).parents[1] / "examples" / "cluster" / "array.sbatch"
JOBS = """[slurm]
interface = "lo"
memory_gb = 2.0
queue = "main"
walltime_min = 60
log_directory = "{folder}"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, help="folder of a drawn cohort")
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--tasks", type=int, default=4, help="of the job array")
    options = parser.parse_args()
    if why_not():
        sys.exit(why_not())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = options.study
        if source is None:
            source = folder / "study"
            phantom.write_cohort(source, options.people, 6, "easy", size_mm=SIZE_MM)
        study = on_cores(source / "manifest.csv", folder / "cores")
        print(f"{len(study.names)} slides on the cores: {study.seconds:.0f} s", flush=True)
        put_on_path(folder / "bin")
        os.chdir(folder)
        with slurm_node(folder, cores=2):
            compare("dask-jobqueue", study, through_dask, folder / "dask")
            compare("job array", study, lambda s, out: as_array(s, out, options.tasks),
                    folder / "array")  # fmt: skip


def on_cores(manifest: Path, out: Path) -> faults.Study:
    names = tuple(entry.slide_id for entry in read_manifest(manifest).usable)
    clock = time.monotonic()
    faults.start("batch", str(manifest), "--out", str(out), "--workers", "2").end(0, timeout_s=3600)
    return faults.Study(manifest, out, names, time.monotonic() - clock)


def put_on_path(folder: Path) -> None:
    """A `histoquant` command for the jobs, with this Python."""
    folder.mkdir()
    command = folder / "histoquant"
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from histoquant.cli import main; main()" "$@"\n'
    )
    command.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def through_dask(study: faults.Study, out: Path) -> None:
    settings = Path("slurm.toml")
    settings.write_text(JOBS.format(folder=Path.cwd()))
    faults.start(
        "batch", str(study.manifest), "--out", str(out), "--scheduler", "slurm",
        "--workers", "2", "--settings", str(settings),
    ).end(0, timeout_s=3600)  # fmt: skip


def as_array(study: faults.Study, out: Path, tasks: int) -> None:
    array = ["sbatch", "--wait", f"--array=1-{tasks}", str(ARRAY), str(study.manifest), str(out)]
    subprocess.run(array, check=True, stdout=subprocess.DEVNULL)
    faults.start("tables", str(out)).end(0, timeout_s=600)


def compare(way: str, study: faults.Study, measure: Measure, out: Path) -> None:
    clock = time.monotonic()
    measure(study, out)
    seconds = time.monotonic() - clock
    faults.check_same(study, out)
    print(f"{way}: {seconds:.0f} s, all tables and slides the same to the byte", flush=True)


if __name__ == "__main__":
    main()
