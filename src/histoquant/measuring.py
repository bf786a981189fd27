"""One slide measured, its directory written, and its fate told."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from histoquant.errors import HistoquantError
from histoquant.isolation import LostError, OwnProcess
from histoquant.manifest import Entry
from histoquant.results import (
    JOURNALS,
    SlideResult,
    read_record,
    standing,
    write_failure,
    write_result,
)
from histoquant.resume import Key, Step, make_key
from histoquant.rundir import RunDirectory, Status, now
from histoquant.settings import Marker, Settings

if TYPE_CHECKING:
    from histoquant.slides import Slide

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Fate:
    """What became of one slide in this run.

    Attributes
    ----------
    reason
        Why it is not done; where it is done, what it lacks (`results.standing`).
    """

    entry: Entry
    status: Status
    reason: str = ""
    seconds: float | None = None


def measure(
    step: Step, directory: RunDirectory, threads: int = 1, progress: Progress | None = None
) -> Fate:
    """Measure one slide and write its directory, its result or why there is none.

    Never raises for what is wrong with the slide: that becomes a failed `Fate`.
    """
    from histoquant import pipeline
    from histoquant.slides import open_slide

    entry, clock = step.entry, time.monotonic()
    key = make_key(entry, step.settings)
    _forget_peak_memory()
    try:
        damaged = step.settings.slides.damaged_tiles
        with open_slide(
            entry.path,
            mpp=entry.given_mpp,
            on_damage=damaged,
            nuclear=entry.nuclear_path,
        ) as slide:
            key["slide_sha256"] = slide.fingerprint
            result = pipeline.quantify(
                slide,
                cast(Marker, entry.marker),
                step.settings,
                workers=threads,
                progress=progress,
                slide_id=entry.slide_id,
            )
            seconds = round(time.monotonic() - clock, 2)
            record: dict[str, object] = {
                "key": key,
                "written": now(),
                "seconds": seconds,
                "peak_memory_mb": _peak_memory_mb(),
            }
            labels = _labels(result, slide, step.settings)
            write_result(result, directory.slide(entry.slide_id), record, more=labels)
    except Exception as error:
        known = isinstance(error, HistoquantError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        log = "".join(traceback.format_exception(error))
        record = {"error": type(error).__name__, "passing": _is_passing(error)}
        return _failed(step, directory, key, reason, log, record, time.monotonic() - clock)
    note = _apply_review(entry, directory)
    status, why = standing(read_record(directory.slide(entry.slide_id)) or {}, entry.sample)
    return Fate(entry, status, "; ".join(filter(None, (why, note))), seconds)


def _labels(result: SlideResult, slide: Slide, settings: Settings) -> Callable[[Path], None] | None:
    """What writes the labels of a result, where they are asked for."""
    if not settings.batch.labels:
        return None
    from histoquant.labels import write_labels

    return partial(write_labels, result, slide, settings)


def _apply_review(entry: Entry, directory: RunDirectory) -> str:
    """Apply a reviewer's edits to the new result; in words what of them could not be.

    Never raises: the result that was just written is good without them.
    """
    try:
        return _reapply(entry, directory)
    except Exception as error:
        return f"the reviewer's edits are not applied: {type(error).__name__}: {error}"


def _reapply(entry: Entry, directory: RunDirectory) -> str:
    if not any(directory.slide(entry.slide_id).glob(JOURNALS)):
        return ""
    from histoquant.review.remeasuring import reapply

    names = ("resolved_path", "mpp", "nuclear_slide")
    row = {name: str(getattr(entry, name)) for name in names}
    report = reapply(directory, entry.slide_id, row)
    if report is None:
        return ""
    if report.problem:
        return f"the reviewer's edits are not applied: {report.problem}"
    return f"{len(report.lost)} reviewer's edit(s) find no object any more" if report.lost else ""


def measure_apart(
    step: Step, directory: RunDirectory, process: OwnProcess, progress: Progress | None = None
) -> Fate:
    """`measure` in a process of its own, within the limits of the settings.

    A slide over its time or memory fails. One whose process dies is begun again, as often as
    the settings say, and then fails; it is tried again by the next run.
    """
    limits, clock = step.settings.batch, time.monotonic()
    memory = limits.memory_limit_gb
    for attempt in range(limits.attempts):
        try:
            fate = process.call(
                step,
                directory.path,
                limits.threads_per_slide,
                time_limit_s=60 * limits.time_limit_min,
                memory_limit_mb=None if memory is None else 1000 * memory,
                progress=progress,
            )
        except LostError as error:
            if error.kind == "died" and attempt + 1 < limits.attempts:
                continue
            return lost(step, directory, _words(error, step, attempt + 1), error.kind, clock)
        return cast(Fate, fate)
    raise AssertionError("there is at least one attempt")


def slide_process() -> OwnProcess:
    """A process for `measure_apart`."""
    return OwnProcess(f"{__name__}:_serve", preload=("histoquant.pipeline",))


def lost(
    step: Step, directory: RunDirectory, reason: str, kind: str = "died", clock: float | None = None
) -> Fate:
    """Put on record that nobody came back from measuring a slide."""
    seconds = None if clock is None else time.monotonic() - clock
    record = {"error": f"lost ({kind})", "passing": kind != "time"}
    key = make_key(step.entry, step.settings)
    return _failed(step, directory, key, reason, reason + "\n", record, seconds)


def _serve(step: Step, directory: Path, threads: int, progress: Progress) -> Fate:
    return measure(step, RunDirectory(directory), threads, progress)


def _words(error: LostError, step: Step, attempts: int) -> str:
    limits = step.settings.batch
    if error.kind == "time":
        return (
            f"stopped: {error}, {limits.time_limit_min:g} min (batch.time_limit_min); "
            "--retry-failed tries it again"
        )
    if error.kind == "memory":
        return f"stopped: {error} (batch.memory_limit_gb)"
    return f"{error}; {attempts} attempt(s)"


def _failed(
    step: Step,
    directory: RunDirectory,
    key: Key,
    reason: str,
    log: str,
    record: dict[str, object],
    seconds: float | None,
) -> Fate:
    """Put a failure on record; `passing` ones come from outside the slide."""
    took = None if seconds is None else round(seconds, 2)
    content = {
        "slide_id": step.entry.slide_id,
        "reason": reason,
        **record,
        "key": key,
        "written": now(),
        "seconds": took,
    }
    with suppress(OSError):  # a full disk: the ledger still tells
        write_failure(directory.slide(step.entry.slide_id), content, log)
    return Fate(step.entry, "failed", reason, took)


def _is_passing(error: BaseException | None) -> bool:
    """Whether a disk or the memory is to blame, at first hand or behind a `SlideError`.

    An OSError without a number comes from a codec, and is the file's fault.
    """
    if error is None:
        return False
    by_system = isinstance(error, OSError) and error.errno is not None
    return by_system or isinstance(error, MemoryError) or _is_passing(error.__cause__)


def _forget_peak_memory() -> None:
    """Have Linux count the most memory this process holds anew."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory_mb() -> float | None:
    """The most memory (MB) this process held since `_forget_peak_memory`; None if unknown."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return round(int(found[1]) / 1024) if found else None
