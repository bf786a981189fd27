"""Work in a process of its own, which can be killed whatever its native code is doing.

`OwnProcess` keeps one process and hands it one call after the other. The process dies with its
parent, leaves Ctrl-C and SIGTERM to it, and keeps its libraries to one thread. It is started as
a plain program, because a Dask worker is a daemon and may have no `multiprocessing` children.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Literal

Progress = Callable[[str], None]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
"""What keeps BLAS, numba and OpenCV to so many threads, if it is set before they are loaded."""

_POLL_S = 0.5
_START_S = 600.0
_PR_SET_PDEATHSIG = 1


class LostError(Exception):
    """A call that came to no end.

    Attributes
    ----------
    kind
        ``died`` (the process is gone), ``time`` or ``memory`` (it went over a limit).
    stage
        What it was doing, as it said last.
    """

    def __init__(self, kind: Literal["died", "time", "memory"], reason: str, stage: str) -> None:
        super().__init__(reason + (f" (while: {stage})" if stage else ""))
        self.kind, self.stage = kind, stage


class OwnProcess:
    """A process that runs a function of an importable module, call after call.

    Parameters
    ----------
    function
        As ``module:name``. Arguments and value are pickled. Its last argument is a function
        that takes the name of a stage.
    preload
        Modules to import before the first call, so that their loading is in no call's time.
    """

    def __init__(self, function: str, preload: Sequence[str] = ()) -> None:
        self._function, self._preload = function, tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._said: queue.Queue[tuple[str, Any]] = queue.Queue()

    @property
    def pid(self) -> int | None:
        """Number of the process, None when there is none."""
        return None if self._process is None else self._process.pid

    def call(
        self,
        *arguments: object,
        time_limit_s: float | None = None,
        memory_limit_mb: float | None = None,
        progress: Progress | None = None,
    ) -> Any:
        """Call the function in the process, which is started if there is none.

        Raises
        ------
        LostError
            When the process died or was killed for going over a limit.
        RuntimeError
            When the function raised; the text is its traceback.
        """
        process = self._ready()
        limit = float("inf") if time_limit_s is None else time_limit_s
        deadline, stage = time.monotonic() + max(limit, _START_S), "starting"
        try:
            assert process.stdin is not None
            with suppress(OSError):  # a process that is gone says so below
                pickle.dump(arguments, process.stdin)
                process.stdin.flush()
            while True:
                kind, value = self._next(deadline, memory_limit_mb, stage)
                if kind == "value":
                    return value
                if kind == "error":
                    raise RuntimeError(value)
                if kind == "begun":  # the start of the process is not in the call's time
                    deadline, stage = time.monotonic() + limit, ""
                    continue
                stage = value
                if progress is not None:
                    progress(stage)
        except RuntimeError:
            raise
        except BaseException:  # Ctrl-C too: what the process is doing is not wanted any more
            self.close()
            raise

    def close(self) -> None:
        """Kill the process, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process = None

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._said = queue.Queue()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from {__name__} import serve; serve({self._function!r}, {self._preload!r})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")},
        )
        assert self._process.stdout is not None
        listener = threading.Thread(
            target=_listen, args=(self._process.stdout, self._said), daemon=True
        )
        listener.start()
        return self._process

    def _next(self, deadline: float, memory_limit_mb: float | None, stage: str) -> tuple[str, Any]:
        """What the process says next; raises where it is gone or goes over a limit first."""
        while True:
            wait = min(_POLL_S, deadline - time.monotonic())
            if wait <= 0:
                raise LostError("time", "it took longer than the time limit", stage)
            with suppress(queue.Empty):
                kind, value = self._said.get(timeout=wait)
                if kind == "gone":
                    raise LostError("died", self._obituary(), stage)
                return kind, value
            if memory_limit_mb is not None and self._memory_mb() > memory_limit_mb:
                raise LostError(
                    "memory", f"it needed more than {memory_limit_mb:.0f} MB of memory", stage
                )

    def _memory_mb(self) -> float:
        import psutil

        try:
            return float(psutil.Process(self.pid).memory_info().rss) / 2**20
        except psutil.Error:
            return 0.0

    def _obituary(self) -> str:
        """Why the process is gone, in words."""
        assert self._process is not None
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its process closed its ear"
        if code == -signal.SIGKILL:
            return "its process was killed: out of memory, or ended from outside"
        if code < 0:
            return f"its process crashed in native code ({signal.Signals(-code).name})"
        return f"its process ended with status {code}"


def serve(function: str, preload: Sequence[str]) -> None:
    """Be the process: answer calls until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    calls: queue.Queue[tuple[Any, ...]] = queue.Queue()
    threading.Thread(target=_take_calls, args=(calls,), daemon=True).start()
    for name in preload:
        importlib.import_module(name)
    pin_threads()
    module, _, name = function.partition(":")
    work = getattr(importlib.import_module(module), name)

    def say(kind: str, value: object) -> None:
        pickle.dump((kind, value), answers)
        answers.flush()

    while True:
        arguments = calls.get()
        say("begun", None)
        try:
            value = work(*arguments, lambda stage: say("stage", stage))
        except Exception:
            say("error", traceback.format_exc())
        else:
            say("value", value)


def pin_threads() -> None:
    """Keep the libraries of this process to one thread: the cores are taken by other slides."""
    import cv2
    import numba

    cv2.setNumThreads(1)
    numba.set_num_threads(1)


def _take_calls(calls: queue.Queue[tuple[Any, ...]]) -> None:
    """Hear what the parent asks for; end at once when it is gone, in the middle of a call too."""
    while True:
        try:
            calls.put(pickle.load(sys.stdin.buffer))
        except Exception:
            os._exit(1)


def _die_with_parent() -> None:
    """Have Linux kill this process with its parent, even where native code holds on to it."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(answers: BinaryIO, said: queue.Queue[tuple[str, Any]]) -> None:
    with answers:
        while True:
            try:
                said.put(pickle.load(answers))
            except Exception:
                said.put(("gone", None))
                return
