"""One slide's part of the page: its pictures, its figures, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from histoquant import tables
from histoquant.overlay import legend
from histoquant.report import charts
from histoquant.report.figures import HEADLINES, PROVENANCE, in_unit, show
from histoquant.report.overview import cell, figure_columns, verdict_of
from histoquant.report.pictures import overlay_uri
from histoquant.report.straight import course, profile, read_straightened
from histoquant.rundir import RunDirectory
from histoquant.settings import Marker

Row = Mapping[str, Any]
_UNREADABLE = (OSError, ValueError, KeyError, TypeError)


def slide_section(run: RunDirectory, row: Row, record: Row, budget: int) -> dict[str, Any]:
    """What ``slide.html`` shows of a slide that has a result.

    Parameters
    ----------
    row
        Of the ledger.
    record
        Content of its ``result.json``.
    budget
        Bytes for its pictures.
    """
    directory = run.slide(row["slide_id"])
    marker: Marker = record["marker"]
    summary = record["summary"]
    columns = {c.name: c for c in tables.measured_columns(marker)}
    verdict, remarks = verdict_of(record)
    sample = [row[name] for name in ("person", "site", "visit", "section", "batch") if row[name]]
    if summary.get("n_edits"):
        sample.append(f"reviewed, edits: {summary['n_edits']}")
    overlay, no_overlay = _overlay(directory / "overlay.png", budget)
    drawn = _drawings(marker, directory, record)
    return {
        "id": row["slide_id"],
        "marker": marker,
        "sample": sample,
        "find": " ".join([row["slide_id"], marker, verdict, *sample]),
        "verdict": verdict,
        "remarks": remarks,
        "fate": "" if row["status"] == "done" else f"{row['status']}: {row['reason']}",
        "legend": legend(marker, on_black="fluorescence" in record.get("provenance", {})),
        "overlay": overlay,
        "no_overlay": no_overlay,
        "figures": [
            (in_unit(c, [str(summary.get("marker_unit") or "")]), cell(summary, c)["text"])
            for c in figure_columns(marker)
        ],
        "n_first": len(HEADLINES[marker]),
        "reasons": _grouped_reasons(record["reasons"]),
        "provenance": [
            (columns[name], show(summary.get(name))) for name in PROVENANCE if name in columns
        ],
        **drawn,
    }


def _overlay(path: Path, budget: int) -> tuple[str, str]:
    """The overlay, and where there is none, why."""
    try:
        return overlay_uri(path, budget), "No overlay was kept."
    except _UNREADABLE as error:
        return "", f"The overlay cannot be read: {error}"


def _drawings(marker: Marker, directory: Path, record: Row) -> dict[str, Any]:
    """Threshold sweep (p16), or straightened junction with its profile (col7)."""
    drawn: dict[str, Any] = {"course": "", "chart": "", "notes": []}
    summary = record["summary"]
    if marker == "p16":
        rows = record.get("provenance", {}).get("threshold_sweep") or ()
        unit = str(summary.get("marker_unit") or "OD")
        sweep = charts.sweep(rows, summary.get("positive_threshold_od"), unit)
        drawn["chart"] = Markup(sweep.inline()) if sweep else ""
        return drawn
    try:
        junction = read_straightened(directory, summary)
    except _UNREADABLE as error:
        return drawn | {"notes": [f"The straightened junction cannot be read: {error}"]}
    if junction is None:
        return drawn
    across = profile(junction)
    return drawn | {
        "course": Markup(course(junction).inline()),
        "chart": Markup(across.inline()) if across else "",
    }


def _grouped_reasons(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Columns that are missing for the same reason, together; limits go with their rate."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        if not name.endswith(("_low", "_high")):
            groups.setdefault(str(reason), []).append(name)
    return [(", ".join(names), reason) for reason, names in groups.items()]
