"""Small stand-ins for what is slow: slides of a few pixels, and a pipeline that invents."""

from __future__ import annotations

import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

import histoquant
from histoquant import batch, columns, measuring, tables
from histoquant.anatomy import DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.errors import StainError
from histoquant.junction import Junction, Stretch
from histoquant.results import SlideResult
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

MPP = 0.5
_TOTALS = {c.pool.bottom for c in columns.P16 if c.pool.how == "percent"}


def write_tiny_slide(path: Path, seed: int = 0, mpp: float | None = MPP) -> Path:
    """An RGB OME-TIFF of 96 x 128 px."""
    rgb = np.random.default_rng(seed).integers(150, 250, (96, 128, 3), dtype=np.uint8)
    scale: dict[str, Any] = {}
    if mpp is not None:
        scale = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path, rgb, tile=(64, 64), photometric="rgb", ome=True, metadata={"axes": "YXS", **scale}
    )
    return path


def table_of(names: tuple[columns.Column, ...], rows: int) -> pd.DataFrame:
    """A table with the required columns and `rows` rows of something of the right kind."""
    kinds: dict[str, list[Any]] = {
        "string": [f"s{i}" for i in range(rows)],
        "float64": [i / 3 for i in range(rows)],
        "int64": list(range(rows)),
        "bool": [i % 2 == 0 for i in range(rows)],
    }
    frame = pd.DataFrame({c.name: kinds[c.dtype] for c in names if c.required})
    return frame.assign(excluded=False) if "excluded" in frame else frame


def make_compartments() -> Compartments:
    """Stratum corneum over epidermis with a hole over dermis, 2 um/px, 60 x 80 px."""
    labels = np.zeros((60, 80), np.uint8)
    labels[5:10, 4:76] = STRATUM_CORNEUM
    labels[10:25, 4:76] = EPIDERMIS
    labels[25:55, 4:76] = DERMIS
    labels[15:18, 30:40] = 0
    return Compartments(labels, 2.0, np.where(labels == EPIDERMIS, 1, -1).astype(np.float32))


def make_junction() -> Junction:
    """A straight line at 50 um depth from right to left, its first 20 um excluded."""
    x = np.arange(150.0, 9.0, -2.0)
    points = np.column_stack([np.full_like(x, 50.0), x])
    return Junction((Stretch(points, np.arange(len(x)) <= 10, course_um=points),))


def make_result(
    marker: str = "p16", slide_id: str = "slide", settings: Settings | None = None, **summary: Any
) -> SlideResult:
    """A result with every table; what is not named in `summary` is 1, or 100 nuclei."""
    values: dict[str, Any] = {
        c.name: "x" if c.dtype == "string" else 100 if c.name in _TOTALS else 1
        for c in tables.measured_columns(marker)  # type: ignore[arg-type]
    }
    values |= {
        "mpp": MPP,
        "marker_unit": "OD",
        "settings_sha256": (settings or Settings()).sha256,
        **summary,
    }
    col7 = marker == "col7"
    return SlideResult(
        slide_id=slide_id,
        marker=marker,  # type: ignore[arg-type]
        summary=values,
        reasons={},
        nuclei=None if col7 else table_of(columns.NUCLEI, 5),
        junction=table_of(tables.junction_columns(marker), 4),  # type: ignore[arg-type]
        straightened=np.linspace(0, 1, 40 * 7, dtype=np.float32).reshape(40, 7) if col7 else None,
        compartments=make_compartments(),
        junction_line=make_junction(),
        provenance={"straightened": {"arc_step_um": 0.5, "unit": "OD"}, "levels": (1, 2)},
        overlay=PNG,
    )


def _png() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 6), (200, 150, 100)).save(out, "PNG")
    return out.getvalue()


PNG = _png()


class FakePipeline(types.ModuleType):
    """Takes the place of `histoquant.pipeline`; remembers what it measured.

    A slide whose name holds "blank" has no glass, one with "bug" meets a programming error, one
    with "barren" has no epidermis.
    """

    def __init__(self) -> None:
        super().__init__("histoquant.pipeline")
        self.measured: list[str] = []
        self.settings: list[Settings] = []

    def quantify(
        self,
        slide: Any,
        marker: str,
        settings: Settings,
        *,
        workers: int = 1,
        progress: Any = None,
        slide_id: str = "",
    ) -> SlideResult:
        name = slide.path.name
        self.measured.append(name)
        self.settings.append(settings)
        if "blank" in name:
            raise StainError(f"{name}: no tissue was found")
        if "bug" in name:
            raise ZeroDivisionError("a bug")
        result = make_result(marker, slide_id, settings, slide_sha256=slide.fingerprint)
        if "barren" in name:
            result.summary["dej_length_mm"] = None
            result.reasons["dej_length_mm"] = "no epidermis found"
        return replace(result, provenance={"settings": settings.model_dump(mode="json")})


class _ThisProcess:
    """Takes the place of a process of its own, which would not see the fake pipeline."""

    def call(self, step: Any, directory: Path, threads: int, **limits: Any) -> Any:
        return measuring.measure(step, RunDirectory(directory), threads)

    def close(self) -> None:
        pass


@pytest.fixture
def fake_pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(sys.modules, "histoquant.pipeline", fake)
    monkeypatch.setattr(histoquant, "pipeline", fake, raising=False)
    monkeypatch.setattr(batch, "slide_process", _ThisProcess)
    return fake
