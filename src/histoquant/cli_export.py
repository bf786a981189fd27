"""The command ``histoquant export``: results in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from histoquant.errors import ExportError

SOME_FAILED = 1


def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.")],
    to: Annotated[
        str,
        typer.Option(metavar="FORMAT", help="geojson, spatialdata, anndata, xlsx or ome-zarr."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to; DIR/export/FORMAT if not given.")
    ] = None,
    slide: Annotated[
        list[str] | None, typer.Option(help="One slide, by its name; may be repeated.")
    ] = None,
    outlines: Annotated[
        bool,
        typer.Option(
            "--outlines",
            help="geojson, spatialdata: nuclei as outlined, found again in the slides, "
            "instead of points and circles.",
        ),
    ] = False,
    compress: Annotated[bool, typer.Option("--gzip", help="geojson: compressed.")] = False,
) -> None:
    """Write what was measured for QuPath, scanpy and squidpy, Excel, or OME viewers."""
    from histoquant.export import FORMATS, export_results

    if to not in FORMATS:
        raise ExportError(f"--to {to!r} is none of {', '.join(FORMATS)}")
    done = export_results(
        directory,
        to,
        out=out,
        slides=slide or (),
        with_outlines=outlines,
        compress=compress,
    )
    for path in done.paths:
        typer.echo(str(path))
    for name, reason in done.failed.items():
        typer.echo(f"error: {name}: not exported: {reason}", err=True)
    if done.failed:
        raise typer.Exit(SOME_FAILED)
