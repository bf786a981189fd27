"""Exporting a results directory: which slides, where to, and what could not be exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from histoquant import atomic
from histoquant.errors import ExportError, HistoquantError
from histoquant.export.kept import KeptSlide, kept_slides
from histoquant.rundir import RunDirectory

Format = Literal["geojson", "spatialdata", "anndata", "xlsx", "ome-zarr"]
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass
class Exported:
    """What an export left on disk, and which slides it could not.

    Attributes
    ----------
    paths
        Files and folders written.
    failed
        Name of a slide -> why it is not among them.
    """

    paths: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def export_results(
    directory: Path | str,
    to: Format,
    *,
    out: Path | None = None,
    slides: Sequence[str] = (),
    with_outlines: bool = False,
    compress: bool = False,
    on_slide: Callable[[str], None] | None = None,
) -> Exported:
    """Export what is on disk of a results directory.

    Parameters
    ----------
    directory
        The results; nothing in it changes but what is written below ``export/``.
    to
        ``xlsx`` gives one workbook, the others a file or folder per slide.
    out
        Folder to write to; ``DIR/export/<to>`` by default.
    slides
        Names of slides; all that are done when empty.
    with_outlines
        geojson, spatialdata: nuclei as they were outlined, found again in the slides.
    compress
        geojson: gzipped, as ``.geojson.gz``.
    on_slide
        Called with the name of each slide as it begins.

    Raises
    ------
    ResultError
        When there is nothing to export, or a name of `slides` is none.
    ExportError
        For a format that is unknown or whose library is not installed.
    """
    if to not in FORMATS:
        raise ExportError(f"--to {to!r} is none of {', '.join(FORMATS)}")
    run = RunDirectory(directory)
    folder = out or run.path / "export" / to
    if to == "xlsx":
        if slides:
            raise ExportError("--slide: the workbook holds the tables of all slides")
        return Exported([_workbook(run, folder)])
    kept = kept_slides(run, slides)
    write = _writer(to, with_outlines, compress)
    exported = Exported()
    folder.mkdir(parents=True, exist_ok=True)
    for slide in kept:
        if on_slide is not None:
            on_slide(slide.slide_id)
        try:
            exported.paths.append(write(slide, folder))
        except ExportError:
            raise
        except (HistoquantError, OSError, ValueError, KeyError) as error:
            exported.failed[slide.slide_id] = str(error)
    return exported


def _workbook(run: RunDirectory, folder: Path) -> Path:
    from histoquant.export.workbook import write_workbook

    run.done()  # before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    return write_workbook(run, folder / "markers.xlsx")


def _writer(to: Format, with_outlines: bool, compress: bool) -> Callable[[KeptSlide, Path], Path]:
    """What writes one slide into a folder, its library loaded: without it, no slide is begun."""
    from histoquant.export import needs

    if to == "anndata":
        needs.load("anndata", "spatialdata", to)
        return _write_anndata
    if to == "spatialdata":
        needs.load("spatialdata", "spatialdata", to)
        return lambda slide, folder: _write_spatialdata(slide, folder, with_outlines)
    if to == "ome-zarr":
        return _write_ome_zarr
    return lambda slide, folder: _write_geojson(slide, folder, with_outlines, compress)


def _write_geojson(slide: KeptSlide, folder: Path, with_outlines: bool, compress: bool) -> Path:
    from histoquant.export.qupath import qupath_collection, to_bytes

    path = folder / f"{slide.slide_id}.geojson{'.gz' if compress else ''}"
    collection = qupath_collection(slide, with_outlines=with_outlines)
    atomic.write_bytes(path, to_bytes(collection, compress=compress))
    return path


def _write_anndata(slide: KeptSlide, folder: Path) -> Path:
    from histoquant.export.scverse import to_anndata

    path = folder / f"{slide.slide_id}.h5ad"
    return _through_file(to_anndata(slide).write_h5ad, path)


def _write_spatialdata(slide: KeptSlide, folder: Path, with_outlines: bool) -> Path:
    from histoquant.export.scverse import to_spatialdata

    path = folder / f"{slide.slide_id}.spatialdata.zarr"
    data = to_spatialdata(slide, with_outlines=with_outlines)
    with TemporaryDirectory(prefix=f".{path.stem}~", dir=folder) as own:
        part = Path(own) / path.name
        data.write(part)
        with atomic.new_directory(path) as new:
            new.rmdir()
            part.rename(new)
    return path


def _write_ome_zarr(slide: KeptSlide, folder: Path) -> Path:
    from histoquant.export.ngff import write_ome_zarr

    path = folder / f"{slide.slide_id}.ome.zarr"
    with atomic.new_directory(path) as new:
        write_ome_zarr(slide, new)
    return path


def _through_file(write: Callable[[Path], Any], path: Path) -> Path:
    """Have a library write `path`, which appears when it is whole."""
    with TemporaryDirectory(prefix=f".{path.stem}~", dir=path.parent) as folder:
        part = Path(folder) / path.name
        write(part)
        part.replace(path)
    return path
