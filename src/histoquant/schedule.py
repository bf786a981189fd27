"""Dask clusters that slides are measured on: this machine's cores, SLURM jobs, or one that runs.

One slide is one task. No more tasks are in flight than there are workers, so the scheduler
holds a bounded graph. A slide whose worker died is given to another, and, if that one dies too,
tried last and alone: while workers restart, slides wait for the same one, and whose fault its
death was cannot be told. Only a slide that loses its workers alone is given up.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from histoquant.errors import HistoquantError
from histoquant.isolation import THREAD_VARIABLES
from histoquant.running_settings import SlurmSettings

if TYPE_CHECKING:
    from distributed import Client

Task = TypeVar("Task")
Value = TypeVar("Value")

_DEATHS_FORGIVEN = 1  # of workers, in company and again alone
_ENDED = ("finished", "error", "cancelled")  # of the states of a future
_BOUNDS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": _DEATHS_FORGIVEN,
    "distributed.worker.profile.enabled": False,
    # What adaptive scaling reckons with before the first slide is done.
    "distributed.scheduler.unknown-task-duration": "60s",
}
# Dask gives up a worker of a local cluster that is away 15 s after it died. On a loaded machine a
# restart takes longer than that, and a run without workers would wait for ever.
_NEVER_GIVE_UP = {"distributed.deploy.lost-worker-timeout": "1000h"}
_ONE_THREAD = {f"distributed.nanny.pre-spawn-environ.{name}": 1 for name in THREAD_VARIABLES}
# A worker leaves a job this long before its wall time, and up to as much earlier again, so that
# not all jobs end at once.
_MARGIN_MIN, _MARGIN_SHARE = 1.0, 0.05
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


@dataclass(frozen=True)
class _Attempt(Generic[Task]):
    """A task on its way: whether nothing else runs beside it, and workers it lost before."""

    task: Task
    alone: bool = False
    deaths: int = 0


def run_on(
    client: Client,
    function: Callable[[Task], Value],
    tasks: Sequence[Task],
    in_flight: Callable[[], int],
) -> Iterator[Done[Task, Value]]:
    """Do the tasks on a cluster, `in_flight()` at a time, and yield them as they come back."""
    from distributed import as_completed

    waiting = iter(tasks)
    suspects: deque[_Attempt[Task]] = deque()
    running: dict[Any, _Attempt[Task]] = {}
    done = as_completed(loop=client.loop)

    def submit(attempt: _Attempt[Task]) -> None:
        future = client.submit(function, attempt.task, pure=False, retries=0)
        running[future] = attempt
        done.add(future)

    def keep_busy() -> None:
        while len(running) < in_flight() and (task := next(waiting, None)) is not None:
            submit(_Attempt(task))
        if not running and suspects:
            submit(suspects.popleft())

    keep_busy()
    for future in done:
        if future.status not in _ENDED:
            done.add(future)  # its value died with a worker before it was fetched: it runs again
            continue
        attempt = running.pop(future)
        outcome, deaths = _outcome(future, attempt)
        suspected = deaths > 0 and not attempt.alone
        if suspected:
            suspects.append(_Attempt(attempt.task, alone=True, deaths=deaths))
        future.release()
        keep_busy()  # before the outcome is dealt with: the worker is waiting
        if not suspected:
            yield outcome


@contextmanager
def local_cluster(workers: int) -> Iterator[Client]:
    """Start a cluster of `workers` single-threaded processes on this machine."""
    import dask
    from distributed import Client, LocalCluster

    with (
        dask.config.set({**_ONE_THREAD, **_BOUNDS, **_NEVER_GIVE_UP}),
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
def slurm_cluster(
    workers: int, settings: SlurmSettings, threads_per_slide: int = 1
) -> Iterator[Client]:
    """Start up to `workers` workers in SLURM jobs, through dask-jobqueue, as there is work.

    Workers end themselves before the wall time, not all at once, and hand their slide back;
    jobs that have nothing to do end. What the settings leave open comes from dask's own
    configuration (``jobqueue.slurm``).

    Raises
    ------
    SchedulerError
        When dask-jobqueue or SLURM is not installed, or the settings contradict themselves.
    """
    if shutil.which("sbatch") is None:
        raise SchedulerError("--scheduler slurm: there is no sbatch here; start it on a login node")
    try:
        jobqueue = import_module("dask_jobqueue")
    except ImportError:
        raise SchedulerError(
            "--scheduler slurm needs dask-jobqueue: pip install 'histoquant[cluster]'"
        ) from None
    import dask
    from distributed import Client

    per_job = max(1, settings.cores // threads_per_slide)
    jobs = -(-workers // per_job)
    with (
        dask.config.set(_BOUNDS),
        jobqueue.SLURMCluster(**_job(settings, per_job)) as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(
            minimum_jobs=min(settings.min_jobs, jobs), maximum_jobs=jobs, target_duration="10s"
        )
        yield client


def _job(settings: SlurmSettings, per_job: int) -> dict[str, Any]:
    """What `SLURMCluster` is told of a job: `per_job` workers with a slide each."""
    margin = max(_MARGIN_MIN, _MARGIN_SHARE * settings.walltime_min)
    given = {
        "queue": settings.queue,
        "account": settings.account,
        "interface": settings.interface,
        "log_directory": settings.log_directory,
    }
    threads = [f"export {name}=1" for name in THREAD_VARIABLES]
    return {
        # Dask's threads are slides; a slide's own threads are in `cores` of the job only.
        "cores": per_job,
        "job_cpu": settings.cores,
        "processes": per_job,
        "memory": f"{settings.memory_gb:g}GB",
        "walltime": f"{settings.walltime_min // 60:02d}:{settings.walltime_min % 60:02d}:00",
        "worker_extra_args": [
            "--lifetime",
            f"{round(60 * (settings.walltime_min - 1.5 * margin))}s",
            "--lifetime-stagger",
            f"{round(30 * margin)}s",
        ],
        "job_extra_directives": [line.removeprefix("#SBATCH").strip() for line in settings.lines],
        "job_script_prologue": [*threads, *settings.prologue],
        **{name: value for name, value in given.items() if value},
    }


def count_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_threads(client: Client) -> int:
    """Threads of all workers of a cluster, at least 1."""
    return max(1, int(sum(client.nthreads().values())))


def _outcome(future: Any, attempt: _Attempt[Task]) -> tuple[Done[Task, Any], int]:
    """Return what became of a task that ended, and how many workers it lost in this attempt."""
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    deaths, task = 0, attempt.task
    try:  # a value may be lost even now: then this waits until it is computed again
        return Done(task, future.result()), deaths
    except CancelledError:
        lost = "the scheduler was lost"
    except KilledWorker as error:
        deaths = error.allowed_failures + 1
        lost = f"its worker died {attempt.deaths + deaths} times: killed, or out of memory"
    except Exception as error:
        lost = f"the worker could not run it: {type(error).__name__}: {error}"
    return Done(task, None, lost), deaths


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
