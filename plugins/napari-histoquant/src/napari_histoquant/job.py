"""Measuring a slide in a process of its own, so that the viewer stays quick and can cancel.

The child is this module run as a script: it does what ``histoquant quantify`` does, through the
same functions, and tells about it in lines of JSON. The parent reads them whenever it likes.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import IO, Any, Literal

from napari_histoquant.form import Request

State = Literal["running", "done", "failed", "cancelled"]
STAGES = ("looking over the slide", "finding epidermis and junction", "measuring", "drawing")


class Job:
    """One measurement under way.

    Attributes
    ----------
    state
        running, done, failed or cancelled; `poll` brings it up to date.
    stage
        What is being done, in words.
    message
        How it ended, in words.
    result
        Directory of the slide's result, once done.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.state: State = "running"
        self.stage, self.message = "starting", ""
        self.result: Path | None = None
        self._cancelled = False
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "napari_histoquant.job", json.dumps(asdict(request))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        self._readers = [
            _read_lines(self._process.stdout, self._lines.put),
            _read_lines(self._process.stderr, self._errors.append),
        ]

    @property
    def fraction(self) -> float:
        """How far it is, 0-1, by the stages it has passed."""
        if self.state == "done":
            return 1.0
        passed = [i for i, name in enumerate(STAGES) if self.stage.startswith(name)]
        return (passed[0] + 0.5) / len(STAGES) if passed else 0.0

    def cancel(self) -> None:
        """Stop it; what was there before stays as it was."""
        self._cancelled = True
        self._process.terminate()

    def poll(self) -> State:
        """Take in what it has told since, and say how it stands."""
        ended = self._process.poll() is not None
        if ended:
            for reader in self._readers:
                reader.join(timeout=5)
        while not self._lines.empty():
            self._take(self._lines.get())
        if ended and self.state == "running":
            self._end()
        return self.state

    def wait(self, timeout: float | None = None) -> State:
        """Wait until it has ended."""
        self._process.wait(timeout)
        return self.poll()

    def _take(self, line: str) -> None:
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            return  # a library talks on stdout; it is none of ours
        self.stage = told.get("stage", self.stage)
        if "failed" in told:
            self.state, self.message = "failed", told["failed"]
        elif "result" in told:
            self.state, self.result = "done", Path(told["result"])
            self.message = told["message"]

    def _end(self) -> None:
        if self._cancelled:
            self.state, self.message = "cancelled", "Cancelled. Nothing was changed."
            return
        last = "\n".join(self._errors[-3:]) or "without a word"
        self.state = "failed"
        self.message = (
            f"The measurement ended unexpectedly (exit status {self._process.returncode}): {last}"
        )


def measure(request: Request, tell: Callable[[str], None]) -> tuple[Path, str]:
    """Measure as ``histoquant quantify`` does.

    Parameters
    ----------
    request
        What to measure.
    tell
        Called with each stage.

    Returns
    -------
    The slide's directory and a sentence on what became of it.

    Raises
    ------
    histoquant.HistoquantError
        When the slide cannot be measured; the message says why.
    """
    from histoquant import ResultError, batch
    from histoquant.manifest import describe_bad, slide_entries
    from histoquant.report import write_report
    from histoquant.rundir import RunDirectory
    from histoquant.schedule import count_cores

    run = RunDirectory(request.out)
    entries = slide_entries([request.slide], request.marker, request.mpp, run.ledger().rows)
    if any(entry.problem for entry in entries):
        raise ResultError(describe_bad(entries))
    settings = request.settings()
    with run.locked():
        steps = batch.plan(entries, run, settings, retry_failed=True)
        todo = [step for step in steps if step.action == "measure"]
        outcome = batch.run(
            steps,
            run,
            crew=batch.Crew(workers=request.workers or count_cores(), one_by_one=True),
            progress=tell,
            about={"command": "quantify", "settings": settings.model_dump(mode="json")},
        )
        write_report(run.path)
    for fate in outcome.fates:
        if fate.status != "done":
            raise ResultError(fate.reason)
    said = "measured" if todo else "was up to date: same slide, same settings"
    return run.slide(entries[0].slide_id), f"{entries[0].slide_id} {said}"


def _read_lines(stream: IO[str] | None, take: Callable[[str], Any]) -> threading.Thread:
    def read() -> None:
        assert stream is not None
        with stream:
            for line in stream:
                take(line.rstrip("\n"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def main(argument: str) -> int:
    """The child: measure, telling about it on stdout."""
    from histoquant import HistoquantError

    def tell(**what: str) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)  # so that locks go, and the ledger is right
    values = json.loads(argument)
    request = Request(**{**values, "assignments": tuple(values["assignments"])})
    try:
        directory, message = measure(request, lambda stage: tell(stage=stage))
    except (HistoquantError, OSError) as error:
        tell(failed=str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    tell(result=str(directory), message=message)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
