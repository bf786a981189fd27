"""Slides and results that are drawn and measured once per test run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small slide of each marker."""
    from histoquant import phantom

    folder = tmp_path_factory.mktemp("slides")
    paths = {}
    for marker in ("p16", "col7"):
        paths[marker] = folder / f"SECRET_{marker}_rapamycin.ome.tif"
        phantom.write_slide(paths[marker], marker, seed=7, size_mm=(0.7, 0.5), angle_deg=0.0)
    return paths


@pytest.fixture(scope="session")
def measured(drawn: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory of both slides. Nobody writes into it: see `results`."""
    from napari_histoquant.form import Request
    from napari_histoquant.job import measure

    out = tmp_path_factory.mktemp("measured")
    for marker, path in drawn.items():
        measure(Request(str(path), marker, str(out), workers=1), lambda stage: None)
    return out


@pytest.fixture
def results(measured: Path, tmp_path: Path) -> Path:
    """A copy of the results directory that a test may review."""
    import shutil

    return Path(shutil.copytree(measured, tmp_path / "results"))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Samples are drawn into a directory of the test run."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.getbasetemp() / "cache")
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before
