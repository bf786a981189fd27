"""One run at a time on a results directory: a lock that outlives no holder.

A lock is a small file that appears whole or not at all (a hard link to a finished file), which
network file systems keep where ``flock`` and ``fcntl`` locks may be lost. Its holder says who it
is and touches it every `HEARTBEAT_S` seconds. A lock is stale

- when its holder ran on this very machine (same boot, same container) and is gone: at once;
- when nobody has touched it for `STALE_S` seconds, by the clock of the file server: that is how
  a run on another machine is known to be gone.

A holder that was stopped for so long (a laptop that slept) has lost its lock and finds out
before it writes again, by `Lock.check`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from histoquant.errors import ResultError

HEARTBEAT_S = 15.0
STALE_S = 300.0
_WAIT_STEP_S = 0.2

Holder = Mapping[str, Any]


class Lock:
    """A lock that is held."""

    def __init__(self, path: Path, token: str) -> None:
        self.path, self._token = path, token
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def check(self) -> None:
        """Make sure that the lock is still ours.

        Raises
        ------
        ResultError
            When it was taken over or removed.
        """
        if not self._is_ours():
            raise ResultError(
                f"{self.path} is not this run's any more: another run took it over, or it was "
                "removed. This run stops; what it has finished is kept"
            )

    def release(self) -> None:
        """Give the lock up."""
        self._released.set()
        self._heart.join()
        if self._is_ours():
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        return _read(self.path).get("token") == self._token

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            with suppress(OSError):
                if self._is_ours():
                    os.utime(self.path)


@contextmanager
def held(path: Path, what: str, wait_s: float = 0.0) -> Iterator[Lock]:
    """Hold the lock at `path` in the block, after waiting up to `wait_s` for it.

    Parameters
    ----------
    path
        The lock's file; its folder is there.
    what
        What the lock is for, as others are told.

    Raises
    ------
    ResultError
        When somebody else holds it.
    OSError
        When it cannot be written.
    """
    token, deadline = secrets.token_hex(8), time.monotonic() + wait_s
    while not _take(path, token, what):
        other = holder(path)
        if other is not None and time.monotonic() >= deadline:
            raise ResultError(in_use(path, other))
        time.sleep(_WAIT_STEP_S if other is not None else 0)
    lock = Lock(path, token)
    try:
        yield lock
    finally:
        lock.release()


def holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`; None when nobody does. A stale lock is put away."""
    found = _read(path)
    if not found and not path.exists():
        return None
    if _is_alive(found) if found.get("machine") == _machine() else _age_s(path) < STALE_S:
        return found
    _put_away(path, found)
    return None


def in_use(path: Path, other: Holder) -> str:
    """Words for a lock that somebody else holds."""
    job = f", SLURM job {other['slurm_job']}" if other.get("slurm_job") else ""
    return (
        f"{path.parent} is in use by {other.get('what', 'a run')}: process "
        f"{other.get('pid', '?')} on {other.get('host', 'an unknown host')}{job} since "
        f"{other.get('since', '?')}. If that run is gone, wait {STALE_S / 60:.0f} minutes "
        f"or remove {path}"
    )


def _take(path: Path, token: str, what: str) -> bool:
    """Make the lock's file unless there is one."""
    content = {
        "token": token,
        "what": what,
        "pid": os.getpid(),
        "started": _start_of(os.getpid()),
        "host": socket.gethostname(),
        "machine": _machine(),
        "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    finished = path.with_name(f"{path.name}~{token}")
    try:
        finished.write_text(json.dumps(content), encoding="utf-8")
        try:
            os.link(finished, path)
        except FileExistsError:
            return False
        except OSError:  # no hard links here: an exclusive create is the next best
            return _create(path, content)
    finally:
        with suppress(OSError):
            finished.unlink(missing_ok=True)
    return True


def _create(path: Path, content: Holder) -> bool:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content))
    except FileExistsError:
        return False
    return True


def _put_away(path: Path, stale: Holder) -> None:
    """Remove a stale lock, but not one that somebody has taken meanwhile."""
    aside = path.with_name(f"{path.name}~{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside).get("token") != stale.get("token"):
        with suppress(OSError):
            os.link(aside, path)
    with suppress(OSError):
        aside.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(found: Holder) -> bool:
    """Whether a process of this machine is there and is the one that took the lock."""
    pid = found.get("pid")
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return bool(found.get("started") == _start_of(pid))


def _start_of(pid: int) -> str:
    """When a process began, as the system counts: tells it from a later one of its number."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "ended" if fields[0] == "Z" else fields[19]
    return ""


def _machine() -> str:
    """The machine since it was switched on, and the container on it: where a pid means one."""
    if sys.platform == "linux":
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
            return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _age_s(path: Path) -> float:
    """How long ago a lock was touched, by the clock of whoever keeps the file."""
    probe = path.with_name(f"{path.name}~{secrets.token_hex(4)}")
    try:
        touched = path.stat().st_mtime
        probe.touch()
        return probe.stat().st_mtime - touched
    except FileNotFoundError:
        return 0.0
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
