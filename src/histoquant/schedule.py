"""Where slides are measured: in this process, on a local cluster, or on one that is running.

One slide is one task. No more tasks are in flight than there are workers, so the scheduler
holds a bounded graph, and a worker that dies takes one slide with it. A slide whose worker
died is tried once more, then given up; the others go on.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from histoquant.errors import HistoquantError

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Value = TypeVar("Value")

_ATTEMPTS_AFTER_A_DEATH = 1
_ONE_THREAD = {
    f"distributed.nanny.pre-spawn-environ.{name}": 1
    for name in (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMBA_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
    )
}
# Ctrl-C reaches every process of the terminal; the parent alone decides what to do about it.
_LEAVE_CTRL_C = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


class SchedulerError(HistoquantError):
    """A scheduler that cannot be reached or whose workers cannot be used."""


@dataclass(frozen=True)
class Done(Generic[Task, Value]):
    """A task that came back: its value, or why there is none.

    Attributes
    ----------
    lost
        Empty, or what happened to the worker or the scheduler that had the task.
    """

    task: Task
    value: Value | None
    lost: str = ""


def run_on(
    client: Client, function: Callable[[Task], Value], tasks: Sequence[Task], in_flight: int
) -> Iterator[Done[Task, Value]]:
    """Do the tasks on a cluster, `in_flight` at a time, and yield them as they come back."""
    from distributed import as_completed

    waiting = iter(tasks)
    running: dict[Any, Task] = {}
    done = as_completed(loop=client.loop)

    def submit_next() -> None:
        for task in waiting:
            future = client.submit(function, task, pure=False, retries=0)
            running[future] = task
            done.add(future)
            return

    for _ in range(in_flight):
        submit_next()
    for future in done:
        task = running.pop(future)
        yield _outcome(future, task)
        future.release()
        submit_next()


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Start a cluster of `workers` single-threaded processes on this machine."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        **_ONE_THREAD,
        "distributed.scheduler.allowed-failures": _ATTEMPTS_AFTER_A_DEATH,
        "distributed.worker.profile.enabled": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            worker_dashboard_address=None,
            silence_logs=logging.CRITICAL,
            preload=[_LEAVE_CTRL_C],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def running_cluster(address: str, timeout_s: float = 10) -> Iterator[Client]:
    """Connect to a scheduler that is running, at ``tcp://HOST:PORT``.

    Raises
    ------
    SchedulerError
        When nobody answers, there is no worker, or a worker has another version of histoquant.
    """
    from distributed import Client

    try:
        client = Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SchedulerError(
            f"no scheduler answers at {address} ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        _check_workers(client, address)
        yield client


@contextmanager
def slurm_cluster(workers: int) -> Iterator[Client]:
    """Start `workers` single-threaded workers as SLURM jobs, through dask-jobqueue.

    Queue, wall time and memory come from dask's own configuration (``jobqueue.slurm``).

    Raises
    ------
    SchedulerError
        When dask-jobqueue is not installed.
    """
    try:
        jobqueue = import_module("dask_jobqueue")
    except ImportError:
        raise SchedulerError(
            "--scheduler slurm needs dask-jobqueue: pip install 'histoquant[cluster]'"
        ) from None
    import dask
    from distributed import Client

    memory = dask.config.get("jobqueue.slurm.memory", None) or "8GB"
    prologue = [f"export {name.rpartition('.')[2]}=1" for name in _ONE_THREAD]
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": _ATTEMPTS_AFTER_A_DEATH}),
        jobqueue.SLURMCluster(
            cores=1, processes=1, memory=memory, job_script_prologue=prologue
        ) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(workers)
        client.wait_for_workers(1)
        yield client


def pin_threads() -> None:
    """Keep the libraries of this worker to one thread: the cores are taken by other slides."""
    import cv2
    import numba

    cv2.setNumThreads(1)
    numba.set_num_threads(1)


def count_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_threads(client: Client) -> int:
    """Threads of all workers of a cluster, at least 1."""
    return max(1, int(sum(client.nthreads().values())))


def _outcome(future: Any, task: Task) -> Done[Task, Any]:
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return Done(task, future.result())
    if future.status == "cancelled":
        return Done(task, None, "the scheduler was lost")
    error = future.exception()
    if isinstance(error, KilledWorker):
        return Done(task, None, "its worker died twice: killed, or out of memory")
    return Done(task, None, f"the worker could not run it: {type(error).__name__}: {error}")


def _check_workers(client: Client, address: str) -> None:
    from histoquant import __version__

    versions = client.run(_version, on_error="return")
    if not versions:
        raise SchedulerError(f"the scheduler at {address} has no worker: start `dask worker`")
    other = {f"{at}: {found}" for at, found in versions.items() if found != __version__}
    if other:
        raise SchedulerError(
            f"workers of {address} do not have histoquant {__version__}: " + "; ".join(other)
        )


def _version() -> str:
    from histoquant import __version__

    return __version__
