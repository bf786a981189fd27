"""Kill a run at random moments, resume it, and compare its tables with an undisturbed run's.

    python benchmarks/faults.py [--rounds 30] [--seed 1] [--slides 8]

A round begins the study anew, on this machine's cores, as three shards, or on a Dask scheduler of
its own; does one to three things to it at random moments (kill -9 of the process that measures a
slide, of a Dask worker, of the scheduler, of the run or of everything at once; Ctrl-C; SIGTERM,
as when a SLURM job is cancelled); then calls the same command until it ends well. Every round
checks what is on disk after the faults, and that the tables in the end are the same to the byte.
"""

from __future__ import annotations

import argparse
import csv
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import tifffile

import histoquant as hq

SAMPLES = Path(__file__).parents[1] / "sample_slides" / "synthetic"
SHARDS, WORKERS, MOST_CALLS = 3, 2, 6
LONGEST_PAUSE_S = 2.0
"""From the slide that a fault waits for to the fault: about what a slide takes."""
TABLES = ("markers.csv", "markers.parquet", "sweep.csv", "columns.json")
PER_SLIDE = ("summary.csv", "junction.parquet", "nuclei.parquet", "sweep.csv", "overlay.png")
COMMAND = [sys.executable, "-c", "from histoquant.cli import main; main()"]
MODES = ("cores", "shards", "scheduler")


@dataclass(frozen=True)
class Study:
    """A study of small slides, and what an undisturbed run makes of it."""

    manifest: Path
    reference: Path
    names: tuple[str, ...]
    seconds: float


def make_study(folder: Path, slides: int) -> Study:
    """Cut small slides out of the sample slides and measure them undisturbed."""
    rows, names = ["slide,marker,person,site,visit"], []
    for number, path in enumerate(sorted(SAMPLES.glob("*.ome.tif"))[:slides]):
        marker = path.name.split(".")[0].rpartition("_")[2]
        with hq.open_slide(path) as slide:
            height, width = (min(n, 1200) for n in slide.shape[:2])
            top, left = (slide.shape[0] - height) // 2, (slide.shape[1] - width) // 2
            pixels = slide.region(top, left, height, width)
            mpp = slide.mpp
        names.append(f"s{number}_{marker}")
        cut = folder / f"{names[-1]}.ome.tif"
        scale = {"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
        tifffile.imwrite(cut, pixels, ome=True, tile=(256, 256), photometric="rgb", metadata=scale)
        rows.append(f"{cut.name},{marker},P{number // 2},left_hand,month_8")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(rows) + "\n")
    clock = time.monotonic()
    start("batch", str(manifest), "--out", str(folder / "ref"), "--workers", str(WORKERS)).end(0)
    return Study(manifest, folder / "ref", tuple(names), time.monotonic() - clock)


class Program:
    """A program in a process group of its own; what it says goes into a file."""

    def __init__(self, command: Sequence[str]) -> None:
        with tempfile.NamedTemporaryFile(suffix=".log", delete=False) as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._log = Path(log.name)

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def end(self, *statuses: int, timeout_s: float = 300) -> int:
        """Wait for the end; the status must be one of `statuses` if any are given."""
        status = self.process.wait(timeout_s)
        said = self._log.read_text(errors="replace")
        self._log.unlink()
        if statuses and status not in statuses:
            raise AssertionError(f"exit status {status}:\n{said}")
        return status


def start(*arguments: str) -> Program:
    return Program([*COMMAND, *arguments])


class Disturbed:
    """A run that is about to be disturbed: its processes, by what they do."""

    def __init__(self, mode: str, study: Study, out: Path) -> None:
        self.mode, self.study, self.out = mode, study, out
        self.helpers: list[Program] = []
        self.address = self._start_scheduler() if mode == "scheduler" else ""
        self.runs = [start(*arguments) for arguments in self.commands()]

    def commands(self) -> list[list[str]]:
        one = ["batch", str(self.study.manifest), "--out", str(self.out)]
        if self.mode == "shards":
            parts = range(1, SHARDS + 1)
            return [[*one, "--shard", f"{i}/{SHARDS}", "--workers", "1"] for i in parts]
        if self.mode == "scheduler":
            return [[*one, "--scheduler", self.address]]
        return [[*one, "--workers", str(WORKERS)]]

    @property
    def over(self) -> bool:
        return all(program.over for program in self.runs)

    def everyone(self) -> list[psutil.Process]:
        found = []
        for program in [*self.runs, *self.helpers]:
            with suppress(psutil.Error):
                parent = psutil.Process(program.process.pid)
                found += [parent, *parent.children(recursive=True)]
        return found

    def measuring(self) -> list[psutil.Process]:
        return [p for p in self.everyone() if "histoquant.isolation" in command_line(p)]

    def workers(self) -> list[psutil.Process]:
        return [p for p in self.everyone() if "spawn_main" in command_line(p)]

    def stop(self) -> None:
        """End what is left, hard."""
        kill(self.everyone())
        for program in [*self.runs, *self.helpers]:
            program.end()

    def _start_scheduler(self) -> str:
        file = self.out.with_suffix(".scheduler.json")
        self._dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                   "--scheduler-file", str(file))  # fmt: skip
        wait_until(file.exists)
        address = str(json.loads(file.read_text())["address"])
        self._dask("worker", address, "--nworkers", str(WORKERS), "--nthreads", "1",
                   "--no-dashboard", "--death-timeout", "10")  # fmt: skip
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=60)
        return address

    def _dask(self, *arguments: str) -> None:
        self.helpers.append(Program([sys.executable, "-m", "dask", *arguments]))


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def wait_until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("nothing happened")
        time.sleep(0.05)


def kill_measuring(run: Disturbed, rng: random.Random) -> None:
    kill(run.measuring()[:1])


def kill_worker(run: Disturbed, rng: random.Random) -> None:
    found = run.workers()
    kill([rng.choice(found)] if found else [])


def kill_run(run: Disturbed, rng: random.Random) -> None:
    rng.choice(run.runs).process.kill()


def kill_all(run: Disturbed, rng: random.Random) -> None:
    kill(run.everyone())


def kill_scheduler(run: Disturbed, rng: random.Random) -> None:
    for program in run.helpers[:1]:
        program.process.kill()


def interrupt(run: Disturbed, rng: random.Random) -> None:
    for program in run.runs:  # Ctrl-C reaches the whole group of a terminal
        with suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGINT)


def cancel(run: Disturbed, rng: random.Random) -> None:
    for process in run.everyone():
        with suppress(psutil.Error):
            process.terminate()


FAULTS: dict[str, Callable[[Disturbed, random.Random], None]] = {
    "kill measuring process": kill_measuring,
    "kill worker": kill_worker,
    "kill run": kill_run,
    "kill everything": kill_all,
    "kill scheduler": kill_scheduler,
    "Ctrl-C": interrupt,
    "SIGTERM to all": cancel,
}


def play(study: Study, out: Path, seed: int, mode: str = "") -> str:
    """One round: disturb, check, resume, compare. Returns what was done, in words."""
    rng = random.Random(seed)
    mode = mode or rng.choice(MODES)
    possible = [n for n in FAULTS if mode == "scheduler" or n != "kill scheduler"]
    count = len(study.names)
    planned = [
        (done, rng.uniform(0, LONGEST_PAUSE_S), rng.choice(possible))
        for done in sorted(rng.randrange(count) for _ in range(rng.randint(1, 3)))
    ]
    run, told = Disturbed(mode, study, out), []
    try:
        for at_least, wait_s, name in planned:
            wait_until(lambda least=at_least: run.over or finished(study, out) >= least, 300)
            time.sleep(wait_s)
            told.append(f"{name}" + (" (too late)" if run.over else ""))
            told[-1] += f" with {finished(study, out)} done"
            FAULTS[name](run, rng)
        wait_until(lambda: run.over, 300)
    finally:
        run.stop()
    check_whole(out)
    kept = finished(study, out)
    calls = resume(study, out, mode)
    check_same(study, out)
    return f"{mode}: {'; '.join(told)}; {kept} kept, {calls} call(s) to the end"


def finished(study: Study, out: Path) -> int:
    return sum((out / "slides" / name / "result.json").exists() for name in study.names)


def resume(study: Study, out: Path, mode: str) -> int:
    """Call the same again until it ends well; with `mode` "scheduler", on the cores."""
    one = ["batch", str(study.manifest), "--out", str(out)]
    for calls in range(1, MOST_CALLS):
        if mode == "shards":
            parts = range(1, SHARDS + 1)
            shards = [start(*one, "--shard", f"{i}/{SHARDS}", "--workers", "1") for i in parts]
            statuses = [program.end(0, 1) for program in shards]
            statuses.append(start("tables", str(out)).end(0, 1))
        else:
            statuses = [start(*one, "--workers", str(WORKERS)).end(0, 1)]
        if not any(statuses):
            return calls
    raise AssertionError(f"not done after {MOST_CALLS} calls")


def check_whole(out: Path) -> None:
    """What looks like a result is one; the ledger can be read and promises nothing in vain."""
    for place in (out / "slides").glob("[!.]*"):
        record = place / "result.json"
        if record.exists():
            listed = json.loads(record.read_text())["files"]
            missing = [name for name in listed if not (place / name).exists()]
            assert not missing, f"{place} lacks {missing}"
        else:
            assert (place / "failure.json").exists(), f"{place} is neither done nor failed"
    if (out / "ledger.csv").exists():
        for row in ledger(out):
            done = (out / "slides" / row["slide_id"] / "result.json").exists()
            assert row["status"] != "done" or done, f"the ledger is wrong about {row}"


def check_same(study: Study, out: Path) -> None:
    """Every table is the undisturbed run's to the byte; nothing lost, doubled or left over."""
    rows = ledger(out)
    assert sorted(row["slide_id"] for row in rows) == sorted(study.names), rows
    assert {row["status"] for row in rows} == {"done"}, rows
    for name in TABLES:
        same = filecmp.cmp(out / name, study.reference / name, shallow=False)
        assert same, f"{out / name} differs"
    for slide in study.names:
        for name in PER_SLIDE:
            mine, theirs = (d / "slides" / slide / name for d in (out, study.reference))
            assert mine.exists() == theirs.exists(), mine
            assert not mine.exists() or filecmp.cmp(mine, theirs, shallow=False), mine
    left = [path.name for path in out.rglob(".*") if path.is_dir() or "lock" in path.name]
    assert not left, f"left over: {left}"


def ledger(out: Path) -> list[dict[str, str]]:
    with (out / "ledger.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slides", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), options.slides)
        print(f"{options.slides} slides, undisturbed in {study.seconds:.1f} s", flush=True)
        for number in range(options.rounds):
            out = Path(folder) / f"round{number}"
            mode = MODES[number % len(MODES)]
            told = play(study, out, options.seed * 1000 + number, mode)
            print(f"{number + 1:3} same tables after: {told}", flush=True)
            shutil.rmtree(out)
    print(f"{options.rounds} rounds: tables the same to the byte, nothing lost, nothing doubled")


if __name__ == "__main__":
    main()
