"""A process of its own is killed whatever it does, and nobody else is harmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from histoquant.isolation import LostError, OwnProcess

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def process() -> Iterator[OwnProcess]:
    with closing(OwnProcess("isolation_targets:work")) as process:
        yield process


def test_calls_are_answered_by_one_process(process: OwnProcess) -> None:
    stages: list[str] = []
    first = process.call("double", 21, progress=stages.append)
    assert first == (42, process.pid)
    assert process.call("double", 1) == (2, process.pid)
    assert stages == ["doubling"]


def test_hanging_native_code_is_killed_in_time(process: OwnProcess) -> None:
    process.call("double", 1)
    pid, clock = process.pid, time.monotonic()
    with pytest.raises(LostError, match="longer than the time limit .while: matching.") as lost:
        process.call("hang", None, time_limit_s=1)
    assert lost.value.kind == "time"
    assert time.monotonic() - clock < 10
    assert pid is not None
    assert not psutil.pid_exists(pid)
    assert process.call("double", 2)[0] == 4  # by a new one


def test_too_much_memory_is_stopped(process: OwnProcess) -> None:
    process.call("double", 1)
    with pytest.raises(LostError, match="more than 500 MB") as lost:
        process.call("hog", 900, time_limit_s=60, memory_limit_mb=500)
    assert lost.value.kind == "memory"


@pytest.mark.parametrize(
    ("what", "words"), [("crash", "crashed in native code .SIGSEGV."), ("die_first", "was killed")]
)
def test_death_is_told_with_its_cause(
    process: OwnProcess, tmp_path: Path, what: str, words: str
) -> None:
    with pytest.raises(LostError, match=words):
        process.call(what, str(tmp_path / "flag"))
    assert process.call("double", 3)[0] == 6


def test_process_that_was_killed_between_calls_is_replaced(process: OwnProcess) -> None:
    process.call("double", 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(process.pid)], timeout=10)
    assert process.call("double", 5)[0] == 10


def test_error_in_the_function_keeps_the_process(process: OwnProcess) -> None:
    process.call("double", 1)
    pid = process.pid
    with pytest.raises(RuntimeError, match="ValueError: as asked"):
        process.call("fail", None)
    assert process.call("double", 1)[1] == pid


def test_libraries_have_one_thread(process: OwnProcess) -> None:
    assert process.call("threads", None) == ("1", 1, 1)


def test_signals_to_the_group_are_left_to_the_parent(process: OwnProcess) -> None:
    _, pid = process.call("double", 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    assert process.call("double", 1)[1] == pid


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
def test_hanging_process_dies_with_its_killed_parent() -> None:
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r}); import isolation_targets as t"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{code}; t.orphan()"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone, alive = psutil.wait_procs([child], timeout=20)
    assert gone
    assert not alive
