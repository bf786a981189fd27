"""Readers: a slide, or a results directory of histoquant, dropped on napari."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from histoquant import HistoquantError
from napari_histoquant.layers import LayerData

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
ReaderFunction = Callable[[Paths], list[LayerData]]

_SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".tif", ".tiff", ".zarr",
    ".dcm", ".svslide",
)  # fmt: skip


def get_slide_reader(path: Paths) -> ReaderFunction | None:
    """A reader when `path` is a slide that histoquant opens, or should; else None."""
    paths = _as_list(path)
    if not paths or any(_is_result(Path(p)) or _is_run(Path(p)) for p in paths):
        return None
    return read_slide if all(_may_be_slide(p) for p in paths) else None


def get_result_reader(path: Paths) -> ReaderFunction | None:
    """A reader when `path` is a results directory, or the directory of one of its slides."""
    paths = _as_list(path)
    mine = [_is_result(Path(p)) or _is_run(Path(p)) for p in paths]
    return read_results if mine and all(mine) else None


def read_slide(path: Paths) -> list[LayerData]:
    """Layers of one or more slides: lazy levels, placed in um.

    Raises
    ------
    histoquant.SlideError
        When the file is no slide, or damaged; the message says what was found.
    """
    from histoquant import open_slide
    from napari_histoquant.layers import slide_layers

    layers = []
    for one in _as_list(path):
        slide = open_slide(one, require_scale=False, on_damage="missing")
        if slide.mpp is None:
            _warn(
                f"{one}: the file does not say how large its pixels are, so it is shown in "
                "pixels, not in um. Measuring it needs its um/px (Quantify: um per pixel)."
            )
        layers += slide_layers(slide, Path(one).name.split(".")[0] or "Slide")
    return layers


def read_results(path: Paths) -> list[LayerData]:
    """Layers of the measured slides in a results directory; of a whole run, the first slide."""
    layers: list[LayerData] = []
    for one in _as_list(path):
        directory = Path(one)
        layers += _result_layers(directory if _is_result(directory) else _first_slide(directory))
    return layers


def _result_layers(directory: Path) -> list[LayerData]:
    from napari_histoquant.results import read_layers

    layers, problems = read_layers(directory)
    for problem in problems:
        _warn(problem)
    return layers


def _first_slide(run: Path) -> Path:
    slides = sorted(p for p in (run / "slides").iterdir() if _is_result(p))
    if not slides:
        raise HistoquantError(
            f"{run} holds no measured slide yet: see its ledger.csv for what became of each"
        )
    if len(slides) > 1:
        _warn(
            f"{len(slides)} slides lie in {run.name}; the first is shown. Plugins > histoquant > "
            "Review goes through all of them, and a folder of slides/ can be dropped by itself."
        )
    return slides[0]


def _is_result(path: Path) -> bool:
    return (path / "result.json").is_file()


def _is_run(path: Path) -> bool:
    return (path / "slides").is_dir() and (
        (path / "ledger.csv").is_file() or (path / "run.json").is_file()
    )


def _may_be_slide(path: str) -> bool:
    """By its name, or for a folder and a plain TIFF by looking inside."""
    from histoquant import open_slide

    given = Path(path)
    known = given.name.lower().endswith(_SLIDE_SUFFIXES) or "://" in path
    plain = given.suffix.lower() in (".tif", ".tiff") and ".ome." not in given.name.lower()
    if known and not plain:
        return True
    if not (known or given.is_dir()):
        return False
    try:
        with open_slide(path, require_scale=False):
            return True
    except (HistoquantError, OSError):
        return False  # some other picture: napari's other readers may know it


def _as_list(path: Paths) -> list[str]:
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    return [os.fspath(p) for p in paths]


def _warn(message: str) -> None:
    from napari.utils.notifications import show_warning

    show_warning(message)
