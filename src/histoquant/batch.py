"""Many slides into one results directory: steps are carried out, and their fates kept.

One slide is the unit of work, here or on a cluster; whoever measures it writes its directory.
A slide that fails does so alone. What the slides of a staining batch share is found on the way:
stain vectors before any slide is measured, thresholds once the negative controls are.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from histoquant import __version__, atomic, locks, schedule, shards
from histoquant.errors import HistoquantError
from histoquant.isolation import OwnProcess
from histoquant.manifest import Entry
from histoquant.measuring import Fate, lost, measure, measure_apart, slide_process
from histoquant.results import JOURNALS, read_record, standing
from histoquant.resume import Step, plan
from histoquant.rundir import Ledger, RunDirectory, Status, now
from histoquant.running_settings import BatchSettings, SlurmSettings

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Crew", "Fate", "Outcome", "Step", "measure", "plan", "run", "run_shard"]

Progress = Callable[[str], None]
OnFate = Callable[[Fate], None]


@dataclass(frozen=True)
class Crew:
    """Who measures the slides.

    Attributes
    ----------
    scheduler
        ``local``, ``slurm`` or ``tcp://HOST:PORT``.
    workers
        How many slides side by side. On ``tcp://`` it is as many as there are threads.
    one_by_one
        Measure the slides one after the other in this process, with `workers` threads each.
    limits, slurm
        From the settings.
    """

    scheduler: str = "local"
    workers: int = 1
    one_by_one: bool = False
    limits: BatchSettings = BatchSettings()
    slurm: SlurmSettings = SlurmSettings()


@dataclass(frozen=True)
class Outcome:
    """A run in numbers, and its marker table."""

    fates: tuple[Fate, ...]
    kept: int
    ledger: Ledger
    markers: list[dict[str, object]] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Slides of the ledger that are failed."""
        return self.ledger.count("failed")


def run(
    steps: Sequence[Step],
    directory: RunDirectory,
    *,
    bad: Sequence[Entry] = (),
    exclude_others: bool = False,
    crew: Crew | None = None,
    about: Mapping[str, object] | None = None,
    on_fate: OnFate | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Carry out `steps` and write the ledger, the tables and ``run.json``.

    Parameters
    ----------
    steps
        From `plan`. The caller holds ``directory.locked()``.
    bad
        Rows of the manifest that cannot be used: they go into the ledger as failed.
    exclude_others
        Whether slides of an earlier ledger that are in neither `steps` nor `bad` are excluded
        (a manifest says what the study is) or stay (slides are added to a directory).
    crew
        Who measures; by default this process and one more.
    about
        More entries for ``run.json``.
    on_fate
        Called as each slide finishes.
    progress
        Called with each stage of a slide, where there is only one at a time.
    """
    crew = crew or Crew()
    started, clock = now(), time.monotonic()
    ledger = _open_ledger(directory, steps, bad, exclude_others)
    shards.forget(directory)
    run_json: dict[str, object] = {
        "version": __version__,
        "host": socket.gethostname(),
        "started": started,
        "scheduler": crew.scheduler,
        "workers": crew.workers,
        **(about or {}),
    }
    directory.write_run(run_json)
    fates: list[Fate] = []
    try:
        controls = locks.controls_of([step.entry for step in steps], directory, exclude_others)
        with closing(_carry_out(steps, steps, controls, directory, crew, progress)) as coming:
            for fate in coming:
                directory.check_lock()
                fates.append(fate)
                ledger.record(fate.entry, fate.status, fate.reason, fate.seconds)
                ledger.save()
                if on_fate is not None:
                    on_fate(fate)
    except BaseException:
        with suppress(Exception):  # what is done so far; the error itself matters more
            directory.write_tables()
        raise
    markers = directory.write_tables()
    ledger = directory.ledger()  # a verdict may have been given or taken back
    run_json |= {"finished": now(), "seconds": round(time.monotonic() - clock, 1)}
    run_json["slides"] = {s: ledger.count(s) for s in ("done", "failed", "excluded", "pending")}
    directory.write_run(run_json)
    return Outcome(tuple(fates), _kept(steps), ledger, markers)


def run_shard(
    shard: shards.Shard,
    steps: Sequence[Step],
    directory: RunDirectory,
    *,
    crew: Crew | None = None,
    on_fate: OnFate | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Carry out the shard's own of `steps`; the ledger and the tables are made by `shards.merge`.

    The caller holds ``directory.locked_for_shard()`` and has called `shards.write_received`.
    The outcome's ledger is of the shard's own slides and is nowhere on disk.
    """
    own = shard.own(steps)
    ledger = Ledger(directory.ledger_path)
    for step in own:
        ledger.record(step.entry, *_status_before(step, directory))
    fates = []
    controls = [step.entry for step in steps if locks.is_control(step.entry)]
    crew = crew or Crew()
    with closing(_carry_out(own, steps, controls, directory, crew, progress)) as coming:
        for fate in coming:
            fates.append(fate)
            ledger.record(fate.entry, fate.status, fate.reason, fate.seconds)
            if on_fate is not None:
                on_fate(fate)
    return Outcome(tuple(fates), _kept(own), ledger)


def _kept(steps: Sequence[Step]) -> int:
    return sum(step.action != "measure" for step in steps)


def _status_before(step: Step, directory: RunDirectory) -> tuple[Status, str, float | None]:
    if step.action == "keep":
        record = read_record(directory.slide(step.entry.slide_id)) or {}
        return *standing(record, step.entry.sample), step.seconds
    return "pending" if step.action == "measure" else "failed", step.why, step.seconds


def _open_ledger(
    directory: RunDirectory, steps: Sequence[Step], bad: Sequence[Entry], exclude_others: bool
) -> Ledger:
    """The ledger with every slide received, before any is measured."""
    old = directory.ledger()
    ledger = Ledger(directory.ledger_path)
    if not exclude_others:
        present = {step.entry.slide_id for step in steps} | {entry.slide_id for entry in bad}
        others = [row for row in old.rows if row["slide_id"] not in present]
        ledger.rows = [_still_done(row, directory) for row in others]
    received = [(step.entry, *_status_before(step, directory)) for step in steps]
    received += [(entry, "failed", entry.problem, None) for entry in bad]
    for entry, fate, why, seconds in sorted(received, key=lambda item: item[0].row):
        ledger.record(entry, fate, why, seconds)
    if exclude_others:
        ledger.exclude_others(old.rows)
    ledger.save()
    return ledger


def _still_done(row: dict[str, str], directory: RunDirectory) -> dict[str, str]:
    """A row of the ledger as it is, or pending when its result has been removed."""
    if row["status"] != "done" or directory.has_result(row["slide_id"]):
        return row
    return {**row, "status": "pending", "reason": "its result was removed", "seconds": ""}


def _carry_out(
    own: Sequence[Step],
    steps: Sequence[Step],
    controls: Sequence[Entry],
    directory: RunDirectory,
    crew: Crew,
    progress: Progress | None,
) -> Generator[Fate]:
    """Measure what is to be measured of `own`, with what all `steps` of the run share."""
    todo = [step for step in own if step.action == "measure"]
    if any(locks.needs_vectors(step.settings) for step in todo):
        members = [(step.entry, step.settings) for step in steps]
        locks.lock_vectors(members, directory, progress or (lambda stage: None))
        todo = [_with_vectors(step, directory) for step in todo]
    for step in todo:
        atomic.recover(directory.slide(step.entry.slide_id), JOURNALS)
    phases = _phases(todo, controls, directory)
    if crew.one_by_one:
        yield from _measure_here(phases, directory, crew.workers, progress)
    elif crew.scheduler == "local" and min(crew.workers, len(todo)) <= 1:
        yield from _measure_apart(phases, directory, progress)
    else:
        yield from _measure_on_cluster(phases, len(todo), directory, crew)


def _with_vectors(step: Step, directory: RunDirectory) -> Step:
    return replace(step, settings=locks.with_vectors(step.entry, step.settings, directory))


def _phases(
    todo: Sequence[Step], controls: Sequence[Entry], directory: RunDirectory
) -> Iterator[list[Step]]:
    """Steps that can be taken at once, then those that wait for a negative control.

    The second list is made when it is asked for, which is when the first is done.
    """
    waiting = [step for step in todo if _waits(step)]
    taken = [step for step in todo if not _waits(step)]
    if taken:
        yield [_with_threshold(step, [], directory) for step in taken]
    if waiting:
        yield [_with_threshold(step, controls, directory) for step in waiting]


def _waits(step: Step) -> bool:
    needs = locks.needs_threshold(step.entry, step.settings)
    return needs and not locks.is_control(step.entry)


def _with_threshold(step: Step, controls: Sequence[Entry], directory: RunDirectory) -> Step:
    own = locks.with_threshold(step.entry, step.settings, controls, directory, record=True)
    return replace(step, settings=own)


def _measure_here(
    phases: Iterator[list[Step]],
    directory: RunDirectory,
    workers: int,
    progress: Progress | None,
) -> Iterator[Fate]:
    for phase in phases:
        for step in phase:
            yield measure(step, directory, workers, progress)


def _measure_apart(
    phases: Iterator[list[Step]], directory: RunDirectory, progress: Progress | None
) -> Iterator[Fate]:
    with closing(slide_process()) as process:
        for phase in phases:
            for step in phase:
                yield measure_apart(step, directory, process, progress)


def _measure_on_cluster(
    phases: Iterator[list[Step]], count: int, directory: RunDirectory, crew: Crew
) -> Iterator[Fate]:
    workers = min(crew.workers, count)
    task = partial(_measure_in_worker, directory=directory.path, version=__version__)
    with _cluster(crew, workers) as client:
        elsewhere = crew.scheduler not in ("local", "slurm")
        in_flight = partial(schedule.total_threads, client) if elsewhere else lambda: workers
        for phase in phases:
            for done in schedule.run_on(client, task, phase, in_flight):
                yield _fate(done, directory)


def _cluster(crew: Crew, workers: int) -> AbstractContextManager[Client]:
    if crew.scheduler == "local":
        return schedule.local_cluster(workers)
    if crew.scheduler == "slurm":
        return schedule.slurm_cluster(workers, crew.slurm, crew.limits.threads_per_slide)
    return schedule.running_cluster(crew.scheduler)


_worker = threading.local()
"""The process that measures for a thread of a Dask worker; it lives as long as the worker."""


def _measure_in_worker(step: Step, directory: Path, version: str) -> Fate:
    if version != __version__:
        raise HistoquantError(f"the worker has histoquant {__version__}, the run {version}")
    process: OwnProcess | None = getattr(_worker, "process", None)
    if process is None:
        process = _worker.process = slide_process()
    return measure_apart(step, RunDirectory(directory), process)


def _fate(done: schedule.Done[Step, Fate], directory: RunDirectory) -> Fate:
    """The fate a worker sent, or that of a slide whose worker or scheduler was lost."""
    if done.value is not None:
        return done.value
    if "scheduler" in done.lost:
        return Fate(done.task.entry, "pending", done.lost)
    return lost(done.task, directory, done.lost)
