"""Many slides into one results directory: steps are carried out, and their fates kept.

One slide is the unit of work, here or on a cluster; whoever measures it writes its directory.
A slide that fails does so alone. What the slides of a staining batch share is found on the way:
stain vectors before any slide is measured, thresholds once the negative controls are.
"""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from histoquant import __version__, atomic, locks, schedule
from histoquant.errors import HistoquantError
from histoquant.manifest import Entry
from histoquant.results import write_failure, write_result
from histoquant.resume import Action, Key, Step, make_key, plan
from histoquant.rundir import Ledger, RunDirectory, Status, now
from histoquant.settings import Marker

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Fate", "Outcome", "Step", "measure", "plan", "run"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fate:
    """What became of one slide in this run."""

    entry: Entry
    status: Status
    reason: str = ""
    seconds: float | None = None
    lacking: str = ""
    """Why a slide that is done has no junction, and so no figure that rests on it."""


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
    scheduler: str = "local",
    workers: int = 1,
    one_by_one: bool = False,
    about: dict[str, object] | None = None,
    on_fate: Callable[[Fate], None] | None = None,
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
    scheduler
        ``local``, ``slurm`` or ``tcp://HOST:PORT``.
    workers
        How many cores. On the local scheduler they are processes with a slide each.
    one_by_one
        Measure the slides one after the other in this process, with `workers` threads each.
        A single slide, or a single worker, is measured so anyway.
    about
        More entries for ``run.json``.
    on_fate
        Called as each slide finishes.
    progress
        Called with each stage of a slide, where slides are measured in this process.
    """
    started, clock = now(), time.monotonic()
    ledger = _open_ledger(directory, steps, bad, exclude_others)
    todo = [step for step in steps if step.action == "measure"]
    if any(locks.needs_vectors(step.settings) for step in todo):
        members = [(step.entry, step.settings) for step in steps]
        locks.lock_vectors(members, directory, progress or (lambda stage: None))
        todo = [_with_vectors(step, directory) for step in todo]
    for step in todo:
        atomic.recover(directory.slide(step.entry.slide_id))
    if one_by_one or (scheduler == "local" and min(workers, len(todo)) <= 1):
        coming = _measure_here(_phases(todo, steps, directory), directory, workers, progress)
    else:
        phases = _phases(todo, steps, directory)
        coming = _measure_on_cluster(phases, len(todo), directory, scheduler, workers)
    fates: list[Fate] = []
    run_json: dict[str, object] = {
        "version": __version__,
        "host": socket.gethostname(),
        "started": started,
        "scheduler": scheduler,
        "workers": workers,
        **(about or {}),
    }
    directory.write_run(run_json)
    try:
        for fate in coming:
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
    run_json |= {"finished": now(), "seconds": round(time.monotonic() - clock, 1)}
    run_json["slides"] = {s: ledger.count(s) for s in ("done", "failed", "excluded", "pending")}
    directory.write_run(run_json)
    return Outcome(tuple(fates), len(steps) - len(todo), ledger, markers)


def measure(
    step: Step, directory: RunDirectory, workers: int = 1, progress: Progress | None = None
) -> Fate:
    """Measure one slide and write its directory, its result or why there is none.

    Never raises for what is wrong with the slide: that becomes a failed `Fate`.
    """
    from histoquant import pipeline
    from histoquant.slides import open_slide

    entry, clock = step.entry, time.monotonic()
    key = make_key(entry, step.settings)
    try:
        damaged = step.settings.slides.damaged_tiles
        with open_slide(entry.path, mpp=entry.given_mpp, on_damage=damaged) as slide:
            key["slide_sha256"] = slide.fingerprint
            result = pipeline.quantify(
                slide,
                cast(Marker, entry.marker),
                step.settings,
                workers=workers,
                progress=progress,
                slide_id=entry.slide_id,
            )
        seconds = round(time.monotonic() - clock, 2)
        record: dict[str, object] = {
            "key": key,
            "written": now(),
            "seconds": seconds,
        }
        write_result(result, directory.slide(entry.slide_id), record)
    except Exception as error:
        return _failed(step, directory, key, error, time.monotonic() - clock)
    return Fate(entry, "done", "", seconds, lacking=result.reasons.get("dej_length_mm", ""))


def _failed(
    step: Step, directory: RunDirectory, key: Key, error: Exception, seconds: float
) -> Fate:
    """Put a failure on record; `passing` ones come from outside the slide."""
    known = isinstance(error, HistoquantError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    record = {
        "slide_id": step.entry.slide_id,
        "reason": reason,
        "error": type(error).__name__,
        "passing": _is_passing(error),
        "key": key,
        "written": now(),
        "seconds": round(seconds, 2),
    }
    log = "".join(traceback.format_exception(error))
    with suppress(OSError):  # a full disk: the ledger still tells
        write_failure(directory.slide(step.entry.slide_id), record, log)
    return Fate(step.entry, "failed", reason, round(seconds, 2))


def _is_passing(error: BaseException | None) -> bool:
    """Whether a disk or the memory is to blame, at first hand or behind a `SlideError`.

    An OSError without a number comes from a codec, and is the file's fault.
    """
    if error is None:
        return False
    by_system = isinstance(error, OSError) and error.errno is not None
    return by_system or isinstance(error, MemoryError) or _is_passing(error.__cause__)


def _open_ledger(
    directory: RunDirectory, steps: Sequence[Step], bad: Sequence[Entry], exclude_others: bool
) -> Ledger:
    """The ledger with every slide received, before any is measured."""
    old = directory.ledger()
    ledger = Ledger(directory.ledger_path)
    present = {step.entry.slide_id for step in steps} | {entry.slide_id for entry in bad}
    others = [row for row in old.rows if row["slide_id"] not in present]
    if not exclude_others:
        ledger.rows = [_still_done(row, directory) for row in others]
    status: dict[Action, Status] = {"measure": "pending", "keep": "done", "leave": "failed"}
    received = [(s.entry, status[s.action], s.why, s.seconds) for s in steps]
    received += [(entry, "failed", entry.problem, None) for entry in bad]
    for entry, fate, why, seconds in sorted(received, key=lambda item: item[0].row):
        ledger.record(entry, fate, "" if fate == "done" else why, seconds)
    if exclude_others:
        for row in others:
            ledger.rows.append({**row, "status": "excluded", "reason": "not in the manifest"})
    ledger.save()
    return ledger


def _still_done(row: dict[str, str], directory: RunDirectory) -> dict[str, str]:
    """A row of the ledger as it is, or pending when its result has been removed."""
    if row["status"] != "done" or directory.has_result(row["slide_id"]):
        return row
    return {**row, "status": "pending", "reason": "its result was removed", "seconds": ""}


def _with_vectors(step: Step, directory: RunDirectory) -> Step:
    return replace(step, settings=locks.with_vectors(step.entry, step.settings, directory))


def _phases(
    todo: Sequence[Step], steps: Sequence[Step], directory: RunDirectory
) -> Iterator[list[Step]]:
    """Steps that can be taken at once, then those that wait for a negative control.

    The second list is made when it is asked for, which is when the first is done.
    """
    waiting = [step for step in todo if _waits(step)]
    taken = [step for step in todo if not _waits(step)]
    controls = [step.entry for step in steps if locks.is_control(step.entry)]
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


def _measure_on_cluster(
    phases: Iterator[list[Step]],
    count: int,
    directory: RunDirectory,
    scheduler: str,
    workers: int,
) -> Iterator[Fate]:
    with _cluster(scheduler, min(workers, count)) as client:
        in_flight = max(schedule.total_threads(client), 1 if scheduler == "local" else workers)
        task = partial(_measure_in_worker, directory=directory.path)
        for phase in phases:
            for done in schedule.run_on(client, task, phase, in_flight):
                yield _fate(done, directory)


def _cluster(scheduler: str, workers: int) -> AbstractContextManager[Client]:
    if scheduler == "local":
        return schedule.local_cluster(workers)
    if scheduler == "slurm":
        return schedule.slurm_cluster(workers)
    return schedule.running_cluster(scheduler)


def _measure_in_worker(step: Step, directory: Path) -> Fate:
    schedule.pin_threads()
    return measure(step, RunDirectory(directory))


def _fate(done: schedule.Done[Step, Fate], directory: RunDirectory) -> Fate:
    """The fate a worker sent, or that of a slide whose worker or scheduler was lost."""
    if done.value is not None:
        return done.value
    step = done.task
    if "scheduler" in done.lost:
        return Fate(step.entry, "pending", done.lost)
    record: dict[str, Any] = {
        "slide_id": step.entry.slide_id,
        "reason": done.lost,
        "error": "lost",
        "passing": True,
        "key": make_key(step.entry, step.settings),
        "written": now(),
    }
    with suppress(OSError):
        write_failure(directory.slide(step.entry.slide_id), record, done.lost + "\n")
    return Fate(step.entry, "failed", done.lost)
