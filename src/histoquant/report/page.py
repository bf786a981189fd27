"""``report.html``: a results directory as one page that opens offline."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from histoquant import __version__, atomic, tables
from histoquant.printable import finalize
from histoquant.report.figures import HEADLINES, show, show_rate
from histoquant.results import read_record
from histoquant.rundir import RunDirectory, now
from histoquant.settings import MARKERS, Marker
from histoquant.tables import Column

_SIDES = ((24, 1600), (100, 1000), (10**9, 640))
"""Longest side of an overlay (px) up to a number of slides: keeps the page's size sane."""
_QUALITY = 80
_PROVENANCE = (
    "mpp",
    "mpp_source",
    "white_r",
    "white_g",
    "white_b",
    "hematoxylin_vector",
    "dab_vector",
    "stain_source",
    "slide_sha256",
    "settings_sha256",
    "version",
    "n_edits",
)

Row = Mapping[str, Any]


def write_report(directory: Path | str, *, rewrite_tables: bool = True) -> Path:
    """Write ``report.html`` from what is in a results directory, and return its path.

    Parameters
    ----------
    rewrite_tables
        Whether the marker tables are written again from the slides too.

    Raises
    ------
    ResultError
        When the directory is no results directory.
    """
    run = RunDirectory(directory)
    markers = run.write_tables() if rewrite_tables else run.marker_rows()
    rows = run.ledger().rows
    side = next(side for most, side in _SIDES if len(rows) <= most)
    page = _template().render(
        title=run.path.name,
        version=__version__,
        written=now(),
        run=run.read_run(),
        counts={status: _count(rows, status) for status in ("done", "failed", "excluded",
                                                            "pending")},
        marker_tables=[t for marker in MARKERS if (t := _marker_table(marker, markers))],
        ledger=rows,
        ledger_columns=[
            c
            for c in tables.LEDGER
            if c.name != "resolved_path" and any(row[c.name] for row in rows)
        ],
        slides=[_slide(run, row, side) for row in rows if row["status"] == "done"],
        study=_study(run.path),
    )  # fmt: skip
    path = run.path / "report.html"
    atomic.write_text(path, page)
    return path


def _study(directory: Path) -> dict[str, Any] | None:
    """The study's page as it lies in the results, and whether the marker table is still its own.

    The page is a fragment of our own making, whose texts are escaped; it is put in as it is.
    """
    page = directory / "study" / "section.html"
    record = read_record(directory / "study", "study.json")
    if record is None or not page.exists():
        return None
    table = hashlib.sha256((directory / "markers.csv").read_bytes()).hexdigest()
    return {
        "html": Markup(page.read_text(encoding="utf-8")),
        "outdated": record.get("markers_sha256") != table,
    }


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("histoquant.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    return environment.get_template("page.html")


def _count(rows: Sequence[Row], status: str) -> int:
    return sum(row["status"] == status for row in rows)


def _marker_table(marker: Marker, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Columns and cells of one marker's samples; the headlines first, all others behind them."""
    own = [row for row in rows if row["marker"] == marker]
    if not own:
        return None
    names = ("person", "site", "visit", "n_sections", "control")
    keys = [c for c in tables.SAMPLE if c.name in names and any(row.get(c.name) for row in own)]
    figures = _figures(marker)
    return {
        "marker": marker,
        "columns": [*keys, *figures],
        "n_first": len(keys) + len(HEADLINES[marker]),
        "rows": [
            [*(_cell(row, c) for c in keys), *(_cell(row, c) for c in figures)] for row in own
        ],
    }


def _figures(marker: Marker) -> list[Column]:
    """Numeric columns of a marker without limits and provenance, headlines first."""
    columns = {
        c.name: c
        for c in tables.measured_columns(marker)
        if not c.name.endswith(("_low", "_high")) and c.name not in _PROVENANCE
    }
    first = [columns[name] for name in HEADLINES[marker]]
    return [*first, *(c for c in columns.values() if c not in first)]


def _cell(row: Row, column: Column) -> dict[str, str]:
    """What a cell shows and what it sorts by."""
    value = row.get(column.name)
    sort = "" if tables.is_missing(value) else str(value)
    return {"text": show_rate(row, column), "sort": sort}


def _slide(run: RunDirectory, row: Row, side: int) -> dict[str, Any]:
    """One slide's section; the directory was read when the tables were made."""
    directory = run.slide(row["slide_id"])
    record = read_record(directory) or {}
    marker: Marker = record["marker"]
    summary, reasons = record["summary"], record["reasons"]
    columns = {c.name: c for c in tables.measured_columns(marker)}
    return {
        "id": row["slide_id"],
        "row": row,
        "marker": marker,
        "overlay": _overlay(directory / "overlay.png", side),
        "figures": [(c, _cell(summary, c)["text"]) for c in _figures(marker)],
        "n_first": len(HEADLINES[marker]),
        "reasons": [
            (name, reason)
            for name, reason in reasons.items()
            if not name.endswith(("_low", "_high"))
        ],
        "provenance": [(columns[name], show(summary.get(name))) for name in _PROVENANCE],
    }


def _overlay(path: Path, side: int) -> str:
    """The overlay as a data URI, made smaller; empty where there is none."""
    if not path.exists():
        return ""
    out = io.BytesIO()
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        small.save(out, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")
