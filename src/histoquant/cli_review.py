"""The commands ``review``, ``remeasure`` and ``agreement``."""

from __future__ import annotations

import getpass
import math
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from histoquant.errors import ReviewError

if TYPE_CHECKING:
    from histoquant.review import SlideReport

PLUGIN = "napari_histoquant.launch"

DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")]
ReviewerOption = Annotated[
    str | None, typer.Option(help="Your name, as the journal says; else the system's user name.")
]
WhoseOption = Annotated[
    str | None,
    typer.Option("--reviewer", help="Whose edits; needed once, where several people reviewed."),
]
OutcomeOption = Annotated[
    list[str] | None,
    typer.Option(help="A figure to compare, such as positive_percent; may be repeated."),
]
BlindOption = Annotated[
    bool, typer.Option("--blind", help="Code names in shuffled order; no names, paths or labels.")
]
UnblindOption = Annotated[
    bool, typer.Option("--unblind", help="Lock the blinded review, then say which slide is which.")
]


def review(
    directory: DirectoryArgument,
    reviewer: ReviewerOption = None,
    blind: BlindOption = False,
    unblind: UnblindOption = False,
) -> None:
    """Open the results in napari: look at them, correct them, and see the numbers follow.

    Needs the plugin (pip install 'histoquant[napari]'). With --unblind nothing is opened: the
    journals of the blinded review are locked, and blinding/NAME.csv says what each code was.
    """
    if blind and unblind:
        raise ReviewError("--blind and --unblind are two things: ask for one at a time")
    who = reviewer or _user()
    if unblind:
        _unblind(directory, who)
        return
    from histoquant.review import ReviewSession

    ReviewSession(directory, who, blind=blind).close()  # what is wrong is said before napari starts
    try:
        launch = import_module(PLUGIN)
    except ImportError as error:
        raise ReviewError(
            f"review needs napari and its plugin, and {error.name or error} is not installed "
            "here: pip install 'histoquant[napari]' (`histoquant doctor` says what works)"
        ) from None
    launch.review(directory, who, blind)


def remeasure(directory: DirectoryArgument, reviewer: WhoseOption = None) -> None:
    """Apply the review's edits with the code that measured the slides; write the tables again."""
    from histoquant import console
    from histoquant.export import tables_as_workbook
    from histoquant.review import remeasure as apply
    from histoquant.review.remeasuring import blinded
    from histoquant.rundir import RunDirectory

    reports = apply(directory, reviewer)
    coded = blinded(directory, reports)
    reports = coded or reports
    for report in reports:
        _tell(report)
    run = RunDirectory(directory)
    rows = run.marker_rows()
    tables_as_workbook(run, rows)
    if coded:
        typer.echo("the tables are written; they name the slides, so they are not shown: the "
                   "review is blinded")  # fmt: skip
    else:
        console.show_markers(rows)
    failed = [report.slide_id for report in reports if report.problem]
    if failed:
        typer.echo(
            f"error: the edits of {len(failed)} slide(s) are not applied, see above; the tables "
            "hold these slides as they were",
            err=True,
        )
        raise typer.Exit(1)


def agreement(directory: DirectoryArgument, outcome: OutcomeOption = None) -> None:
    """Compare readers with each other and with the program: kappa, ICC(2,1), Bland-Altman."""
    from histoquant.readers import agreement as compare

    found = compare(directory, outcome or ())
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    for row in found.nuclei:
        typer.echo(
            f"{row['first']} and {row['second']}, {row['n']} nuclei ({row['nuclei']}): "
            f"kappa {_value(row, 'kappa')}"
        )
    for row in found.samples:
        pair = " and ".join(str(row[k]) for k in ("first", "second") if row.get(k))
        typer.echo(
            f"{row['outcome']}: {pair}, {row['n']} samples: ICC(2,1) {_value(row, 'icc21')}"
            + (f", bias {_value(row, 'bias')}" if "bias" in row else "")
        )
    typer.echo(f"{found.directory}: the tables, and {len(found.drawings)} Bland-Altman plot(s)")


def _value(row: Mapping[str, object], name: str) -> str:
    """A figure with its limits, or why there is none."""
    value, low, high = (float(str(row[f"{name}{end}"])) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return f"none ({row['reason']})"
    return f"{value:.3g}" + ("" if math.isnan(low) else f" ({low:.3g} to {high:.3g})")


def _tell(report: SlideReport) -> None:
    if report.problem:
        typer.echo(f"{report.slide_id}: not applied: {report.problem}", err=True)
        return
    if report.n_edits or report.verdict != "open":
        verdict = "" if report.verdict == "open" else f", {report.verdict}"
        reason = f" ({report.reason})" if report.reason else ""
        typer.echo(f"{report.slide_id}: {report.n_edits} edit(s) applied{verdict}{reason}")
    for text in (*report.lost, *report.notes):
        typer.echo(f"{report.slide_id}: {text}", err=True)


def _unblind(directory: Path, who: str) -> None:
    from histoquant.review import unblind

    opened = unblind(directory, who)
    for row in opened.rows:
        typer.echo(f"{row['code']}  {row['slide']}  {row['edits']} edit(s)")
    typer.echo(f"{opened.path}: the codes, and the hash of each journal as it was locked")


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    raise ReviewError("who reviews? Give --reviewer NAME")
