"""A whole study unattended: time, use of the cores, memory, and what a slide costs beside itself.

    python benchmarks/batch.py [--study FOLDER] [--people 36] [--slides 10 144] [--workers 2]

Without `--study` a cohort of `--people` x 2 hands x 2 markers of small phantoms is drawn first
(a few seconds each). For every number of `--slides` the first so many are measured into a new
directory, on a local cluster as by `histoquant batch`. Printed, of all its processes together:

- wall time, and CPU seconds as a share of what the cores could give;
- busy: the share of the workers' time, from the first slide done to the last, with a slide in
  hand (on a machine with other work on it this says more than the CPU share does);
- CPU seconds per slide, all in, and of the run's own process alone (scheduler, ledger, client);
- gap: how long a worker is without a slide, from one to the next, with writing the result;
- peak memory: of all processes together, and of the largest.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from histoquant import batch, phantom
from histoquant.manifest import read_manifest
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

SIZE_MM = (0.7, 0.6)


class Watch:
    """CPU seconds and memory of this process and all below it, looked at twice a second."""

    def __init__(self) -> None:
        self.cpu: dict[int, float] = {}
        self.peak_mb = self.largest_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while True:
            sizes = []
            for process in [me, *me.children(recursive=True)]:
                with suppress(psutil.Error):
                    times = process.cpu_times()
                    self.cpu[process.pid] = times.user + times.system
                    sizes.append(process.memory_info().rss / 2**20)
            self.peak_mb = max(self.peak_mb, sum(sizes))
            self.largest_mb = max(self.largest_mb, *sizes)
            if self._over.wait(0.5):
                return


def measure(manifest: Path, slides: int, workers: int, out: Path) -> None:
    entries = read_manifest(manifest).usable[:slides]
    directory, settings, ends = RunDirectory(out), Settings(), []
    own = before = time.process_time()  # drawing the cohort, too, took this process's time
    clock = time.monotonic()
    watch = Watch()
    with directory.locked():
        steps = batch.plan(entries, directory, settings)
        outcome = batch.run(
            steps,
            directory,
            crew=batch.Crew(workers=workers),
            on_fate=lambda fate: ends.append((time.monotonic(), fate)),
        )
    wall = time.monotonic() - clock
    watch.stop()
    own = time.process_time() - own
    cpu = sum(watch.cpu.values()) - before
    assert outcome.ledger.count("done") == slides, [f.reason for f in outcome.fates if f.reason]
    # From the moment that every worker has had its first slide: its start is not counted.
    rest = ends[workers:]
    inside = sum(fate.seconds or 0.0 for _, fate in rest)
    span = workers * (ends[-1][0] - ends[workers - 1][0])
    record = json.loads((directory.slide(entries[0].slide_id) / "result.json").read_text())
    print(
        f"{slides:4} slides, {workers} workers: {wall:7.1f} s wall"
        f" | CPU {cpu / wall / workers:5.1%} of the cores | busy {inside / span:5.1%}"
        f" | CPU per slide {cpu / slides:5.2f} s, run itself {own / slides:5.3f} s"
        f" | gap {(span - inside) / len(rest):5.2f} s"
        f" | memory {watch.peak_mb:5.0f} MB together, {watch.largest_mb:4.0f} MB the largest"
        f" ({record['peak_memory_mb']} MB by the first slide's record)",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", type=Path, help="folder of a drawn cohort")
    parser.add_argument("--people", type=int, default=36)
    parser.add_argument("--slides", type=int, nargs="+", default=[10, 144])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = options.study
        if study is None:
            study = Path(folder) / "study"
            phantom.write_cohort(study, options.people, 6, "easy", size_mm=SIZE_MM)
        for number in options.slides:
            out = Path(folder) / f"out{number}"
            measure(study / "manifest.csv", number, options.workers, out)


if __name__ == "__main__":
    main()
