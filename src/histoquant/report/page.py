"""``report.html``: a results directory as one page that opens offline."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from histoquant import __version__, atomic, tables
from histoquant.printable import finalize
from histoquant.report import charts
from histoquant.report.overview import (
    drift_section,
    fate_counts,
    lost_slides,
    marker_table,
    quality_section,
)
from histoquant.report.pictures import slide_budget
from histoquant.report.slide_section import slide_section
from histoquant.results import read_record
from histoquant.rundir import RunDirectory, now
from histoquant.settings import MARKERS
from histoquant.tables import Column

Row = Mapping[str, Any]
_UNSHOWN = ("resolved_path",)


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
    ledger = run.ledger().rows
    done = [row for row in ledger if row["status"] == "done"]
    records = {row["slide_id"]: _record(run, row) for row in done}
    shown = [
        row for row in run.measured() if row["status"] == "done" or run.has_result(row["slide_id"])
    ]
    budget = slide_budget(len(shown))
    counts = fate_counts(ledger)
    page = _template().render(
        title=run.path.name,
        version=__version__,
        written=now(),
        run=run.read_run(),
        n_received=len(ledger),
        n_controls=sum(row["control"] in ("negative", "positive") for row in ledger),
        fates=Markup(charts.fates(counts).inline()) if ledger else "",
        counts=counts,
        fate_colours=charts.FATES,
        lost=lost_slides(ledger),
        marker_tables=[t for marker in MARKERS if (t := marker_table(marker, markers))],
        drift=drift_section(run.stains()),
        quality=quality_section(records),
        shown={row["slide_id"] for row in shown},
        # One at a time: the pictures of all slides need not be in memory twice.
        slides=(slide_section(run, row, _record(run, row), budget) for row in shown),
        ledger=ledger,
        ledger_columns=_ledger_columns(ledger),
        study=_study(run.path),
    )  # fmt: skip
    path = run.path / "report.html"
    atomic.write_text(path, page)
    return path


def _record(run: RunDirectory, row: Row) -> dict[str, Any]:
    return read_record(run.slide(row["slide_id"])) or {}


def _ledger_columns(ledger: Sequence[Row]) -> list[Column]:
    """Columns of the ledger that any slide fills."""
    filled = (c for c in tables.LEDGER if any(row[c.name] for row in ledger))
    return [c for c in filled if c.name not in _UNSHOWN]


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
    environment.filters["day"] = _day
    environment.filters["breakable"] = _breakable
    return environment.get_template("page.html")


def _breakable(name: str) -> Markup:
    """The name of a column, which lines may break behind its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def _day(moment: str) -> str:
    """``2026-11-21T07:52:42+00:00`` as ``2026-11-21, 07:52 UTC``; anything else as it is."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d, %H:%M} UTC"
    except (TypeError, ValueError):
        return str(moment)
