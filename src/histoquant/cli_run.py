"""What `quantify` and `batch` share: plan, measure, write and show."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from histoquant.errors import ResultError

if TYPE_CHECKING:
    from histoquant.batch import Crew, Outcome, Step
    from histoquant.manifest import Entry
    from histoquant.rundir import RunDirectory
    from histoquant.settings import Settings
    from histoquant.shards import Shard

SOME_FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def run_slides(
    directory: RunDirectory,
    entries: Sequence[Entry],
    settings: Settings,
    *,
    retry_failed: bool,
    dry_run: bool,
    exclude_others: bool = False,
    one_by_one: bool = False,
    scheduler: str = "local",
    shard: str | None = None,
    workers: int | None = None,
    about: dict[str, Any],
) -> None:
    """Plan, measure, write and show; exits with 1 when a slide failed."""
    from histoquant.batch import Crew, plan
    from histoquant.manifest import describe_bad
    from histoquant.schedule import count_cores
    from histoquant.shards import Shard

    part = None if shard is None else Shard.parse(shard)
    usable = [e for e in entries if not e.problem]
    bad = [e for e in entries if e.problem]
    if bad:
        typer.echo(f"error: {len(bad)} slide(s) cannot be used:\n{describe_bad(bad)}", err=True)
    if not usable:
        raise typer.Exit(WRONG_USE)
    workers = workers or max(1, count_cores() // settings.batch.threads_per_slide)
    if dry_run:
        steps = plan(usable, directory, settings, retry_failed, exclude_others)
        _show_plan(steps if part is None else part.own(steps), bad, directory, workers)
        raise typer.Exit(SOME_FAILED if bad else 0)
    crew = Crew(scheduler, workers, one_by_one, settings.batch, settings.slurm)
    about = {**about, "settings": settings.model_dump(mode="json")}
    with _terminated_as_interrupted():
        if part is None:
            outcome = _run_all(
                directory, usable, bad, settings, retry_failed, crew, exclude_others, about
            )
        else:
            outcome = _run_shard(part, directory, entries, settings, retry_failed, crew, about)
    if outcome.failed or outcome.ledger.count("pending"):
        raise typer.Exit(SOME_FAILED)


def _show_plan(
    steps: Sequence[Step], bad: Sequence[Entry], directory: RunDirectory, workers: int
) -> None:
    from histoquant import console
    from histoquant.estimate import estimate

    console.show_plan(steps, bad, estimate(steps, directory), workers)


def _run_all(
    directory: RunDirectory,
    usable: Sequence[Entry],
    bad: Sequence[Entry],
    settings: Settings,
    retry_failed: bool,
    crew: Crew,
    exclude_others: bool,
    about: dict[str, Any],
) -> Outcome:
    from histoquant import batch, console
    from histoquant.export import tables_as_workbook
    from histoquant.report import write_report

    with directory.locked():
        steps = batch.plan(usable, directory, settings, retry_failed, exclude_others)
        with console.progress(steps) as shown:
            outcome = batch.run(
                steps,
                directory,
                bad=bad,
                exclude_others=exclude_others,
                crew=crew,
                about=about,
                on_fate=shown.on_fate,
                progress=shown.on_stage,
            )
        try:
            tables_as_workbook(directory, outcome.markers)
            write_report(directory.path)
        except OSError as error:
            raise ResultError(f"the results are whole, the report is not: {error}") from None
    console.show_markers(outcome.markers)
    told = {fate.entry.slide_id for fate in outcome.fates} | {entry.slide_id for entry in bad}
    console.show_fates(outcome.ledger, told)
    console.show_files(directory.path)
    return outcome


def _run_shard(
    shard: Shard,
    directory: RunDirectory,
    entries: Sequence[Entry],
    settings: Settings,
    retry_failed: bool,
    crew: Crew,
    about: dict[str, Any],
) -> Outcome:
    from histoquant import batch, console, shards

    with directory.locked_for_shard(shard.number, shard.of):
        shards.write_received(directory, entries, settings, about)
        usable = [entry for entry in entries if not entry.problem]
        steps = batch.plan(usable, directory, settings, retry_failed, exclude_others=True)
        with console.progress(shard.own(steps)) as shown:
            outcome = batch.run_shard(
                shard,
                steps,
                directory,
                crew=crew,
                on_fate=shown.on_fate,
                progress=shown.on_stage,
            )
    console.show_fates(outcome.ledger, {fate.entry.slide_id for fate in outcome.fates})
    typer.echo(
        f"shard {shard.number} of {shard.of} is done; when all are, "
        f"`histoquant tables {directory.path}` writes the ledger and the marker tables"
    )
    return outcome


class _terminated_as_interrupted:  # noqa: N801  (reads as a clause)
    """Treats SIGTERM as Ctrl-C: workers stop, the ledger is right, the lock goes."""

    def __enter__(self) -> None:
        self._before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(
            signal.SIGTERM, _interrupt
        )

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
