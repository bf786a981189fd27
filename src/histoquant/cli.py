"""The command line. Every command loads what it needs when it runs, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from histoquant import __version__
from histoquant.cli_export import export
from histoquant.cli_review import agreement, remeasure, review
from histoquant.cli_run import INTERRUPTED, SOME_FAILED, WRONG_USE, run_slides
from histoquant.cli_study import study
from histoquant.errors import HistoquantError, SettingsError

if TYPE_CHECKING:
    from histoquant.settings import Settings


class _Group(TyperGroup):
    """Turns errors raised on purpose into one message and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except HistoquantError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(WRONG_USE) from None
        except KeyboardInterrupt:
            typer.echo("interrupted; the same command goes on where it stopped", err=True)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Whole-slide skin biopsies in, p16INK4A and collagen VII numbers out.",
    epilog="Exit status: 0 all slides done, 1 some slide failed, 2 wrong usage or input.",
)

MarkerOption = Annotated[str, typer.Option(help="p16 or col7.", metavar="p16|col7")]
OutOption = Annotated[Path, typer.Option(help="Results directory; made, or added to.")]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", help="TOML file; see `histoquant settings`.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="One setting, as group.key=value; may be repeated."),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="How many cores to use; all of them if not given.")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Also measure slides again that failed before.")
]
DryOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and why; write nothing.")
]
LabelsOption = Annotated[
    bool,
    typer.Option("--labels", help="Also keep nuclei and compartments as OME-Zarr labels."),
]
DirectoryArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")]


@app.callback(invoke_without_command=True)
def _global(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"histoquant {__version__}")
        raise typer.Exit


@app.command(epilog="Example: histoquant info biopsy.svs --json")
def info(
    slide: Annotated[
        str, typer.Argument(help="A slide: a file, a folder or the URL of an OME-Zarr.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what a slide is: format, size, levels, scale and where it came from, white level."""
    import json

    from histoquant import console

    facts = console.describe_slide(slide)
    if as_json:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        console.show_facts(facts)


@app.command(epilog="Example: histoquant quantify biopsy.svs --marker p16 --out results")
def quantify(
    slides: Annotated[list[str], typer.Argument(help="One or more slides.", metavar="SLIDE...")],
    marker: MarkerOption,
    out: OutOption,
    settings: SettingsOption = None,
    changes: SetOption = None,
    mpp: Annotated[
        float | None, typer.Option(min=0.01, help="um/px, instead of what the files say.")
    ] = None,
    nuclear_slide: Annotated[
        str | None,
        typer.Option(help="Fluorescence with a file per stain: that of the nuclear stain (DAPI)."),
    ] = None,
    workers: WorkersOption = None,
    retry_failed: RetryOption = False,
    labels: LabelsOption = False,
    dry_run: DryOption = False,
) -> None:
    """Measure one or more slides and put the results into a directory."""
    from histoquant.manifest import slide_entries
    from histoquant.rundir import RunDirectory
    from histoquant.settings import MARKERS

    if marker not in MARKERS:
        raise SettingsError(f"--marker {marker!r} is not one of {', '.join(MARKERS)}")
    directory = RunDirectory(out)
    entries = slide_entries(slides, marker, mpp, directory.ledger().rows, nuclear_slide)
    run_slides(
        directory,
        entries,
        _settings(settings, changes, labels),
        retry_failed=retry_failed,
        dry_run=dry_run,
        one_by_one=True,
        workers=workers,
        about={"command": "quantify"},
    )


@app.command(epilog="Example: histoquant batch manifest.csv --out results --workers 4")
def batch(
    manifest: Annotated[Path, typer.Argument(help="CSV with slide, marker, person, site, visit.")],
    out: OutOption,
    settings: SettingsOption = None,
    changes: SetOption = None,
    scheduler: Annotated[
        str, typer.Option(help="local, slurm, or tcp://HOST:PORT of a running one.")
    ] = "local",
    shard: Annotated[
        str | None,
        typer.Option(
            help="Only part i of n, as in a job array; `histoquant tables` joins the parts.",
            metavar="i/n",
        ),
    ] = None,
    workers: WorkersOption = None,
    retry_failed: RetryOption = False,
    labels: LabelsOption = False,
    dry_run: DryOption = False,
) -> None:
    """Measure a whole study; a second call does only what is missing or changed."""
    from histoquant.manifest import read_manifest
    from histoquant.rundir import RunDirectory

    if scheduler not in ("local", "slurm") and not scheduler.startswith(("tcp://", "tls://")):
        raise SettingsError(f"--scheduler {scheduler!r} is not local, slurm or tcp://HOST:PORT")
    if shard is not None and scheduler != "local":
        raise SettingsError("--shard needs no scheduler: leave --scheduler out")
    directory = RunDirectory(out)
    read = read_manifest(manifest, directory.ledger().rows)
    if read.ignored:
        typer.echo(f"note: {manifest}: columns not read: {', '.join(read.ignored)}", err=True)
    run_slides(
        directory,
        read.entries,
        _settings(settings, changes, labels),
        retry_failed=retry_failed,
        dry_run=dry_run,
        exclude_others=True,
        scheduler=scheduler,
        shard=shard,
        workers=workers,
        about={"command": "batch", "manifest": str(manifest)},
    )


@app.command(epilog="Example: histoquant tables results")
def tables(directory: DirectoryArgument) -> None:
    """Write the per-sample marker tables again from what is on disk, and show them.

    Joins what the shards of a run have done so far.
    """
    from histoquant import console, shards
    from histoquant.export import tables_as_workbook
    from histoquant.rundir import RunDirectory

    run = RunDirectory(directory)
    if not shards.are_there(run):
        run.done()  # before anything is made: a directory that is none stays untouched
    with run.locked("making tables", beside_shards=True):
        merged = shards.merge(run)
        rows = run.write_tables()
        ledger = run.ledger()
        tables_as_workbook(run, rows)
    console.show_markers(rows)
    console.show_fates(ledger)
    if merged and (ledger.count("failed") or ledger.count("pending")):
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example: histoquant report results")
def report(directory: DirectoryArgument) -> None:
    """Write one self-contained HTML page about the study and its slides."""
    from histoquant.report import write_report
    from histoquant.rundir import RunDirectory

    run = RunDirectory(directory)
    run.done()
    with run.locked("writing the report", beside_shards=True):
        typer.echo(str(write_report(directory)))


app.command(epilog="Example: histoquant study results --design design.csv --plan plan.toml")(study)
app.command(epilog="Example: histoquant export results --to geojson")(export)


app.command(epilog="Example: histoquant review results --reviewer anna --blind")(review)
app.command(epilog="Example: histoquant remeasure results")(remeasure)
app.command(epilog="Example: histoquant agreement results --outcome positive_percent")(agreement)


@app.command("settings", epilog="Example: histoquant settings > my.toml")
def settings_command(
    file: Annotated[
        Path | None, typer.Argument(help="A TOML file to check, instead of printing.")
    ] = None,
) -> None:
    """Print the commented default settings, or check a file of your own."""
    from histoquant.settings import default_toml, read_settings

    if file is None:
        typer.echo(default_toml(), nl=False)
        return
    settings = read_settings(file)
    typer.echo(f"{file}: valid, sha256 {settings.sha256}")


@app.command(epilog="Example: histoquant doctor")
def doctor() -> None:
    """Show versions, codecs, cores, memory and schedulers: what works and what to install."""
    from histoquant import console
    from histoquant.doctor import examine

    checks = examine()
    console.show_checks(checks)
    if any(check.needed and not check.ok for check in checks):
        raise typer.Exit(SOME_FAILED)


@app.command(epilog="Example: histoquant phantom study --cohort 4 --seed 2019")
def phantom(
    out: Annotated[Path, typer.Argument(help="Slide to write, or directory of a cohort.")],
    marker: MarkerOption = "p16",
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    preset: Annotated[
        str, typer.Option(help="easy, typical or hard; with _skin: follicles, damage.")
    ] = "typical",
    mpp: Annotated[float, typer.Option(help="Pixel size in um.")] = 0.5,
    size: Annotated[
        tuple[float, float], typer.Option(help="Width and height in mm.", metavar="W H")
    ] = (1.1, 0.75),
    cohort: Annotated[
        int | None, typer.Option(min=1, help="A whole study of this many people.")
    ] = None,
    sections: Annotated[
        int, typer.Option(min=1, help="Sections side by side; --size is of each.")
    ] = 1,
    fluorescence: Annotated[
        bool, typer.Option("--fluorescence", help="16 bit, a channel per stain: DAPI, marker.")
    ] = False,
) -> None:
    """Draw synthetic slides with known truth, which is written beside them."""
    from histoquant import phantom as drawing

    choices: dict[str, Any] = {"seed": seed, "preset": preset, "mpp": mpp, "size_mm": size}
    if cohort is not None and fluorescence:
        raise SettingsError("--cohort draws bright-field slides; leave out --fluorescence")
    if cohort is not None and sections > 1:
        raise SettingsError("--cohort draws one section per slide; leave out --sections")
    if cohort is not None:
        truths = drawing.write_cohort(out, people=cohort, **choices)
        typer.echo(f"{len(truths)} slides of {cohort} people: {out / 'manifest.csv'}")
        return
    if fluorescence and sections > 1:
        raise SettingsError("--fluorescence draws one section; leave out --sections")
    path = out if out.suffix.lower() in (".tif", ".tiff") else out / f"{marker}_{seed}.ome.tif"
    if fluorescence:
        truth = drawing.write_fluorescence(path, marker, **choices)  # type: ignore[arg-type]
    else:
        truth = drawing.write_slide(path, marker, sections=sections, **choices)  # type: ignore[arg-type]
    truth.save(path.parent / "truth")
    typer.echo(f"{path}, truth in {path.parent / 'truth'}")


def main() -> None:
    """Entry point of the ``histoquant`` command."""
    app(prog_name="histoquant")


def _settings(file: Path | None, changes: Sequence[str] | None, labels: bool = False) -> Settings:
    from histoquant.settings import read_settings

    flags = ["batch.labels=true"] if labels else []
    return read_settings(file).with_values([*(changes or ()), *flags])
