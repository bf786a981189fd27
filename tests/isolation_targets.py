"""What `OwnProcess` is made to run in its tests."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str], None]


def work(what: str, argument: object, say: Say) -> object:
    return globals()[what](argument, say)


def double(number: int, say: Say) -> tuple[int, int]:
    sys.stdout.write("a library that prints\n")
    say("doubling")
    return 2 * number, os.getpid()


def hang(_: object, say: Say) -> None:
    """Native code that never returns and never lets another thread of Python run."""
    say("matching")
    re.match(r"(a+)+$", "a" * 60 + "b")


def hog(megabytes: int, say: Say) -> None:
    say("hoarding")
    held = b"x" * (megabytes << 20)
    time.sleep(60)
    del held


def crash(_: object, say: Say) -> None:
    ctypes.string_at(0)


def die_first(flag: str, say: Say) -> str:
    if not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def fail(_: object, say: Say) -> None:
    raise ValueError("as asked")


def threads(_: object, say: Say) -> tuple[str, int, int]:
    import cv2
    import numba

    return os.environ["OPENBLAS_NUM_THREADS"], cv2.getNumThreads(), numba.get_num_threads()


def orphan() -> None:
    """Be a parent whose child hangs; its number is printed."""
    from threading import Thread

    from histoquant.isolation import OwnProcess

    process = OwnProcess("isolation_targets:work")
    process.call("double", 1)
    Thread(target=process.call, args=("hang", None), daemon=True).start()
    time.sleep(0.5)
    sys.stdout.write(f"{process.pid}\n")
    sys.stdout.flush()
    subprocess.run(["sleep", "60"], check=False)
