"""What the command line shows: bars and tables on a terminal, plain lines in a log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from histoquant.errors import HistoquantError
from histoquant.settings import MARKERS

if TYPE_CHECKING:
    from histoquant.batch import Fate, Step
    from histoquant.doctor import Check
    from histoquant.estimate import Estimate
    from histoquant.manifest import Entry
    from histoquant.rundir import Ledger
    from histoquant.study.run import StudyResult

_MOST_PX = 50_000_000
_PLAIN_WIDTH = 200


class Shown:
    """Shows slides as they finish."""

    def __init__(self, console: Console, bar: Progress | None, total: int) -> None:
        self._console = console
        self._bar = bar
        self._total = total
        self._done = 0
        self._task = bar.add_task("measuring", total=total) if bar else None

    def on_fate(self, fate: Fate) -> None:
        """Count a slide; tell what became of it unless a bar shows that it went well."""
        self._done += 1
        name = fate.entry.slide_id
        if fate.status == "done":
            took = "" if fate.seconds is None else f" in {fate.seconds:.1f} s"
            line = f"[{self._done}/{self._total}] {name}: done{took}"
        else:
            kind = "note" if fate.status == "excluded" else "error"
            line = f"{kind}: {name}: {fate.status}: {fate.reason}"
        if self._bar is None or fate.status != "done":
            self._console.print(escape(line), soft_wrap=True)
        if fate.status == "done" and fate.reason:
            self._console.print(escape(f"warning: {name}: {fate.reason}"), soft_wrap=True)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, description="measuring")

    def on_stage(self, stage: str) -> None:
        """Show what is being done about the slide at hand."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=escape(stage))


@contextmanager
def progress(steps: Sequence[Step]) -> Iterator[Shown]:
    """Show the progress of the steps that measure; say what is kept and what is redone."""
    console = Console(stderr=True, highlight=False)
    todo = [step for step in steps if step.action == "measure"]
    for line in _plan_lines(steps):
        console.print(escape(line), soft_wrap=True)
    if not console.is_terminal or not todo:
        yield Shown(console, None, len(todo))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        yield Shown(console, bar, len(todo))


def show_plan(
    steps: Sequence[Step], bad: Sequence[Entry], estimate: Estimate | None, workers: int
) -> None:
    """Say for every slide what would be done, and why, and what that will take."""
    words = {"measure": "measure", "keep": "skip", "leave": "leave failed"}
    for step in steps:
        entry = step.entry
        _out(f"{words[step.action]}: {entry.slide_id} ({entry.marker}, {entry.slide}): {step.why}")
    for entry in bad:
        _out(f"cannot be used: {entry.slide or '(no slide)'}, line {entry.row}: {entry.problem}")
    todo = sum(step.action == "measure" for step in steps)
    _out(f"{todo} of {len(steps) + len(bad)} slides to measure")
    if estimate is not None:
        side = max(1, min(workers, todo))
        _out(
            f"estimate: {_duration(estimate.core_seconds / side)} with {side} slide(s) side by "
            f"side, {estimate.memory_mb / 1000:.1f} GB of memory for the largest, up to "
            f"{estimate.memory_mb / 1000 * side:.1f} GB together; from {estimate.basis}"
        )


def show_markers(rows: Sequence[Mapping[str, Any]]) -> None:
    """Show the headline figures of every sample, a table per marker."""
    from histoquant.report import HEADLINES
    from histoquant.report.figures import show, show_rate
    from histoquant.tables import measured_columns

    for marker in MARKERS:
        own = [row for row in rows if row["marker"] == marker]
        if not own:
            continue
        columns = {c.name: c for c in measured_columns(marker)}
        table = Table(title=marker, title_justify="left", box=rich.box.SIMPLE_HEAD)
        keys = ("person", "site", "visit") if any(row["person"] for row in own) else ("slides",)
        for name in keys:
            table.add_column(name, no_wrap=True)
        for name in HEADLINES[marker]:
            table.add_column(name, justify="right")
        for row in own:
            figures = [show_rate(row, columns[name]) for name in HEADLINES[marker]]
            table.add_row(*(escape(show(row[key])) for key in keys), *map(escape, figures))
        _console().print(table)


def show_fates(ledger: Ledger, told: Collection[str] = ()) -> None:
    """Say how many slides came to what, and why the failed ones not yet `told` of failed."""
    from histoquant.rundir import STATUSES

    counts = [f"{n} {status}" for status in STATUSES if (n := ledger.count(status))]
    _out(f"slides: {', '.join(counts) or 'none'}")
    for row in ledger.rows:
        if row["status"] in ("failed", "pending") and row["slide_id"] not in told:
            _err(f"  {row['status']}: {row['slide_id'] or row['slide']}: {row['reason']}")


def show_files(directory: Path) -> None:
    """Say where the results lie."""
    for name, what in (
        ("markers.csv", "marker table, columns explained in columns.json"),
        ("report.html", "report"),
        ("ledger.csv", "every slide received and its fate"),
        ("slides/*/overlay.png", "what was measured, drawn on the slides"),
    ):
        _out(f"{directory / name}: {what}")


def show_study(result: StudyResult) -> None:
    """Show what a study found: plan, every lead outcome in words, and what it warns of."""
    if result.lock is not None:
        for sentence in result.lock.sentences():
            _out(sentence)
    else:
        _err("warning: no plan was given, so every outcome is exploratory")
    for own in result.lead:
        _out(f"{own.outcome.key} ({own.outcome.role}): {result.sentence(own)}")
        if own.reversal is not None:
            _out(f"  {own.reversal.reason}")
    if not result.design.baseline:
        _out("No baseline: reversal cannot be told from slowed progression.")


def show_checks(checks: Sequence[Check]) -> None:
    """Show what was examined, one line each, and what to do."""
    for check in checks:
        mark = "ok" if check.ok else ("MISSING" if check.needed else "optional")
        advice = f"  -> {check.advice}" if check.advice else ""
        _out(f"{mark:9} {check.name:24} {check.found}{advice}")


def describe_slide(path: str | Path) -> dict[str, Any]:
    """Facts about a slide in JSON types; what cannot be known says why.

    Unreadable tiles are counted as far as the overview meets them.
    """
    from histoquant.slides import open_slide

    with open_slide(path, require_scale=False, on_damage="missing") as slide:
        white, white_source = _white(slide)
        facts = slide.info()  # after looking at the pixels, so that damage is known
        if not facts["mpp"]:
            facts["mpp_source"] = _scale_problem(path)
        facts["sha256"] = slide.fingerprint
        facts["white"], facts["white_source"] = white, white_source
    return facts


def show_facts(facts: Mapping[str, Any]) -> None:
    """Show the facts of `describe_slide` for people."""
    scale = f"{facts['mpp']:.4g} um/px" if facts["mpp"] else "unknown"
    white = " ".join(f"{v:.0f}" for v in facts["white"]) if facts["white"] else "unknown"
    lines = {
        "file": facts["path"],
        "format": facts["format"],
        "size": f"{facts['width']} x {facts['height']} px",
        "scale": f"{scale} ({facts['mpp_source']})",
        "channels": f"{', '.join(facts['channels'])} ({facts['dtype']})",
        "white level": f"{white} ({facts['white_source']})",
        "sha256": facts["sha256"],
        "ICC profile": "in the file, not applied" if facts["icc_profile"] else "none",
        "other images": ", ".join(facts["associated_images"]) or "none",
        "without data": _without_data(facts),
    }
    for name, value in lines.items():
        _out(f"{name:12} {value}")
    for number, level in enumerate(facts["levels"]):
        height, width = level["shape"]
        tile = " x ".join(map(str, level["tile"][::-1]))
        gaps = f", {level['missing_tiles']} tiles without data" if level["missing_tiles"] else ""
        _out(f"level {number:<6} {width} x {height} px, tiles {tile}{gaps}")


def _without_data(facts: Mapping[str, Any]) -> str:
    missing, damaged = facts["missing_percent"], facts["damaged_tiles"]
    known = "unknown" if missing is None else f"{missing:g} % of the frame"
    return f"{known}, {damaged} unreadable tiles" if damaged else known


def _scale_problem(path: str | Path) -> str:
    from histoquant.slides import open_slide

    try:
        open_slide(path).close()
    except HistoquantError as error:
        return str(error)
    return "unknown"


def _white(slide: Any) -> tuple[list[float] | None, str]:
    """White level as `quantify` measures it, or why there is none."""
    from histoquant.settings import Settings
    from histoquant.stains import measure_white

    if not slide.is_colour:
        return None, "fluorescence has none"
    try:
        if slide.mpp is not None:
            level = measure_white(slide.overview(max(Settings().tissue.overview_um, slide.mpp)))
        else:
            height, width = slide.levels[-1].shape
            if height * width > _MOST_PX:
                return None, "no small level and no scale to make one"
            level = measure_white(slide.region(0, 0, height, width, level=len(slide.levels) - 1))
    except (HistoquantError, ValueError) as error:
        return None, str(error)
    return [float(v) for v in level.values], level.source


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _plan_lines(steps: Sequence[Step]) -> Iterator[str]:
    kept = sum(step.action == "keep" for step in steps)
    if kept:
        yield f"{kept} of {len(steps)} slides are up to date"
    left = [step for step in steps if step.action == "leave"]
    if left:
        yield f"{len(left)} slides failed before and are left; --retry-failed tries them again"
    for step in steps:
        if step.action == "measure" and step.why != "new":
            yield f"again: {step.entry.slide_id}: {step.why}"


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)


def _out(line: str) -> None:
    Console(highlight=False).print(escape(line), soft_wrap=True)


def _err(line: str) -> None:
    Console(stderr=True, highlight=False).print(escape(line), soft_wrap=True)
