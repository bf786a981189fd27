"""The command ``histoquant study``: analyse, lock a plan, or plan the next study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histoquant.errors import StudyError

if TYPE_CHECKING:
    from histoquant.study.power import Question

DesignOption = Annotated[
    Path | None, typer.Option(help="CSV with person, site, visit, arm; reason where it is known.")
]
PlanOption = Annotated[
    Path | None, typer.Option(help="TOML with arms, visits and declared outcomes.")
]
LockOption = Annotated[
    bool, typer.Option("--lock-plan", help="Lock the plan, before the arms are known, and stop.")
]
WhyOption = Annotated[str, typer.Option(help="With --lock-plan: the reason of an amendment.")]
PowerOption = Annotated[
    bool, typer.Option("--power", help="Take DIR for a pilot: how many people a study needs.")
]
OutcomeOption = Annotated[
    str, typer.Option(help="With --power: outcome, as marker:column; else the primary one.")
]
EffectOption = Annotated[
    float | None,
    typer.Option(help="With --power: effect worth finding, a ratio such as 0.8."),
]
LossOption = Annotated[
    float, typer.Option("--drop-out", min=0, max=0.99, help="With --power: share expected lost.")
]
CurveOption = Annotated[
    Path | None, typer.Option("--curve", help="With --power: write power against size as CSV.")
]
TargetOption = Annotated[
    float, typer.Option("--target", min=0.01, max=0.999, help="With --power: power wanted.")
]


def study(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")],
    design: DesignOption = None,
    plan: PlanOption = None,
    lock_plan: LockOption = False,
    why: WhyOption = "",
    power: PowerOption = False,
    outcome: OutcomeOption = "",
    effect: EffectOption = None,
    drop_out: LossOption = 0.0,
    target: TargetOption = 0.8,
    curve: CurveOption = None,
) -> None:
    """Compare the treated with the placebo site of each person; write DIR/study and the report.

    DIR/markers.csv is analysed as it is; where there is none it is made from the slides.
    With --lock-plan the plan is hashed and dated beside itself, and no design is opened. With
    --power the results are a pilot from which the size of a study is simulated.
    """
    if lock_plan and power:
        raise StudyError("--lock-plan and --power are two things: ask for one at a time")
    if lock_plan:
        _lock(directory, plan, why)
        return
    if design is None:
        raise StudyError("who got what? Give --design design.csv (person, site, visit, arm)")
    if power:
        from histoquant.study.power import Question

        question = Question(effect=effect, drop_out=drop_out, target=target)
        _power(directory, design, plan, outcome, question, curve)
        return
    _analyse(directory, design, plan)


def _analyse(directory: Path, design: Path, plan: Path | None) -> None:
    from histoquant import console
    from histoquant.report import write_report
    from histoquant.rundir import RunDirectory
    from histoquant.study.run import run_study

    run = RunDirectory(directory)
    table = run.path / "markers.csv"
    measured, slides = run.ledger_path.exists(), run.slides.exists()
    if not (measured or table.exists()):
        run.done()  # says what is missing
    with run.locked():
        if not slides:
            run.slides.rmdir()  # made by the lock
        if not table.exists():
            run.write_tables()
        result = run_study(directory, design, plan)
        made = [write_report(directory, rewrite_tables=False)] if measured else []
    for sentence in result.warnings:
        typer.echo(f"warning: {sentence}", err=True)
    console.show_study(result)
    for path in (result.directory / "contrasts.csv", result.directory / "study.html", *made):
        typer.echo(str(path))
    if not measured:
        typer.echo("report.html: not written, there is no ledger.csv")


def _lock(directory: Path, plan: Path | None, why: str) -> None:
    from histoquant.study.lock import default_lock_path, lock_plan
    from histoquant.study.origin import keep_files_of_others
    from histoquant.study.outcomes import planned_outcomes
    from histoquant.study.plan import read_plan

    if plan is None:
        raise StudyError("--lock-plan needs the plan: --plan plan.toml")
    keep_files_of_others(directory.absolute() / "study", plan)
    content = read_plan(plan)
    # A misspelt one is found before the lock.
    planned_outcomes(content.roles, content.direction, content.margin)
    seen = (directory / "study").exists()
    lock = lock_plan(content, default_lock_path(plan), seen=seen, why=why)
    for sentence in lock.sentences():
        typer.echo(sentence)
    typer.echo(f"{lock.path}: keep it with the plan, and quote the hash where others keep it")


def _power(
    directory: Path,
    design: Path,
    plan: Path | None,
    outcome: str,
    question: Question,
    curve: Path | None,
) -> None:
    from histoquant import atomic
    from histoquant.study.columns import power_csv
    from histoquant.study.run import plan_next

    found, chosen = plan_next(directory, design, plan, outcome, question)
    for sentence in found.sentences:
        typer.echo(sentence)
    if found.reason:
        raise StudyError("no size can be simulated from this pilot")
    if curve:
        who = {"marker": chosen.marker, "outcome": chosen.name}
        atomic.write_text(curve, power_csv(who | row for row in found.rows()))
        typer.echo(str(curve))
