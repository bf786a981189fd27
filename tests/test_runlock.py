"""The lock: one holder at a time, and none that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from histoquant import runlock
from histoquant.errors import ResultError

HOLD = """
import sys, time
from pathlib import Path
from histoquant import runlock
with runlock.held(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with (
        runlock.held(path, "making tables"),
        pytest.raises(ResultError, match=f"making tables: process {os.getpid()} on"),
        runlock.held(path, "a run"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert runlock.holder(path) is not None
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with runlock.held(path, "a run"):
        pass


def test_waiting_for_a_lock(tmp_path: Path) -> None:
    path, inside = tmp_path / ".lock", []

    def enter(number: int) -> None:
        with runlock.held(path, "a turn", wait_s=30):
            inside.append(number)
            assert len(inside) == 1
            time.sleep(0.01)
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(24)))
    assert not path.exists()


def test_heart_beats_and_tells_others_that_a_run_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    monkeypatch.setattr(runlock, "HEARTBEAT_S", 0.05)
    with runlock.held(path, "a run"):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.02)
        monkeypatch.setattr(runlock, "_machine", lambda: "elsewhere")
        assert runlock.holder(path) is not None


def test_run_that_lost_its_lock_stops_and_leaves_the_other_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with runlock.held(path, "a run") as lock:
        lock.check()
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "token": "another's"}))
        with pytest.raises(ResultError, match="not this run's any more"):
            lock.check()
    assert path.exists()


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / ".lock"
    with (
        runlock.held(path, "a run"),
        pytest.raises(ResultError, match="in use"),
        runlock.held(path, "a run"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_stale_lock_is_not_taken_from_who_took_it_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with runlock.held(path, "a run") as lock:
        runlock._put_away(path, {"token": "the stale one"})
        lock.check()
