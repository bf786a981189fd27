"""The study's part of the page: accountability, samples, staining batches, quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from markupsafe import Markup

from histoquant import drift, tables
from histoquant.drift import Stain
from histoquant.report import charts
from histoquant.report.figures import HEADLINES, PROVENANCE, in_unit, show, show_rate
from histoquant.rundir import STATUSES
from histoquant.settings import Marker
from histoquant.study.svg import Drawing
from histoquant.tables import Column

Row = Mapping[str, Any]
_MOST_NAMES = 12
_RANKS = {"reject": 0, "review": 1, "ok": 2, "not judged": 3}


def fate_counts(ledger: Sequence[Row]) -> dict[str, int]:
    """Status -> how many slides have it."""
    counts = Counter(row["status"] for row in ledger)
    return {status: counts[status] for status in STATUSES}


def lost_slides(ledger: Sequence[Row]) -> list[dict[str, Any]]:
    """Slides without figures, those with the same reason together; the commonest first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in ledger:
        if row["status"] != "done":
            groups.setdefault((row["status"], _common(row)), []).append(row["slide_id"] or
                                                                        row["slide"])  # fmt: skip
    return [
        {"status": status, "reason": reason, "n": len(names), "which": names[:_MOST_NAMES],
         "n_more": max(len(names) - _MOST_NAMES, 0)}
        for (status, reason), names in sorted(
            groups.items(), key=lambda item: (STATUSES.index(item[0][0]), -len(item[1]))
        )
    ]  # fmt: skip


def _common(row: Row) -> str:
    """A reason without the slide's own name, so that like reasons are alike."""
    reason = str(row["reason"]) or "no reason given"
    slide = str(row["slide"])
    for name in (row["resolved_path"], slide, slide.rsplit("/", 1)[-1]):
        if name:
            reason = reason.replace(str(name), "…")
    return reason


def marker_table(marker: Marker, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Columns, cells and drawings of one marker's samples; None without any."""
    own = [row for row in rows if row["marker"] == marker]
    if not own:
        return None
    names = ("person", "site", "visit", "n_sections", "control")
    keys = [c for c in tables.SAMPLE if c.name in names and any(row.get(c.name) for row in own)]
    if all(row.get("control") in ("none", "") for row in own):
        keys = [c for c in keys if c.name != "control"]
    if not any(row.get("person") for row in own):
        keys.insert(0, next(c for c in tables.SAMPLE if c.name == "slides"))
    units = [str(row.get("marker_unit") or "") for row in own]
    figures = [in_unit(column, units) for column in figure_columns(marker)]
    headlines = figures[: len(HEADLINES[marker])]
    drawings = (_strip(column, own) for column in headlines)
    return {
        "marker": marker,
        "columns": [*keys, *figures],
        "n_first": len(keys) + len(headlines),
        "has_controls": any(_is_control(row) for row in own),
        "strips": [Markup(d.inline()) for d in drawings if d is not None],
        "rows": [[*(cell(row, c) for c in keys), *(cell(row, c) for c in figures)] for row in own],
    }


def figure_columns(marker: Marker) -> list[Column]:
    """Columns of a marker without limits and provenance, headlines first."""
    columns = {
        c.name: c
        for c in tables.measured_columns(marker)
        if not c.name.endswith(("_low", "_high")) and c.name not in PROVENANCE
    }
    first = [columns[name] for name in HEADLINES[marker]]
    return [*first, *(c for c in columns.values() if c not in first)]


def cell(row: Row, column: Column) -> dict[str, str]:
    """What a cell shows and what it sorts by."""
    value = row.get(column.name)
    sort = "" if tables.is_missing(value) else str(value)
    return {"text": show_rate(row, column), "sort": sort}


def _strip(column: Column, rows: Sequence[Row]) -> Drawing | None:
    known = [row for row in rows if not tables.is_missing(row.get(column.name))]
    points = [
        charts.Point(sample_name(row), float(row[column.name]), _is_control(row)) for row in known
    ]
    n_missing = sum(not _is_control(row) for row in rows) - sum(not p.control for p in points)
    return charts.strip(column, points, n_missing)


def sample_name(row: Row) -> str:
    """Person, site and visit of a sample; its slides where it has no person."""
    named = [str(row[name]) for name in ("person", "site", "visit") if row.get(name)]
    return ", ".join(named) or str(row.get("slides", ""))


def _is_control(row: Row) -> bool:
    return row.get("control") in ("negative", "positive")


def drift_section(stains: Sequence[Stain]) -> dict[str, Any] | None:
    """Staining batches: drawings, table and a verdict in words; None without batches."""
    rows = drift.drift_rows(stains)
    if not rows:
        return None
    filled = (c for c in tables.DRIFT if any(not _empty(row[c.name]) for row in rows))
    columns = [c for c in filled if c.name != "slides"]
    return {
        "rule": drift.RULE,
        "verdict": _drift_verdict(rows),
        "charts": [Markup(d.inline()) for d in _drift_charts(stains, rows)],
        "columns": columns,
        "rows": [
            [
                {"text": _flag(row[c.name]) if c.name == "flagged" else show(row[c.name]),
                 "sort": "" if _empty(row[c.name]) else str(row[c.name])}
                for c in columns
            ]
            for row in rows
        ],
    }  # fmt: skip


def _empty(value: object) -> bool:
    return tables.is_missing(value) or value == ""


def _flag(value: object) -> str:
    return {True: "! flagged", False: "✓ within"}.get(value, "not judged")  # type: ignore[call-overload,no-any-return]


def _drift_verdict(rows: Sequence[Row]) -> str:
    flagged = [row for row in rows if row["flagged"]]
    judged = [row for row in rows if row["flagged"] is not None]
    if flagged:
        named = ", ".join(
            f"{row['batch']} ({row['marker']}, {row['control']} control)" for row in flagged
        )
        return f"{len(flagged)} of {len(judged)} batches of control slides flagged: {named}."
    if judged:
        return f"None of {len(judged)} batches of control slides is flagged."
    if any(row["control"] != "none" for row in rows):
        return "The control slides come from one batch each: there is nothing to compare."
    return (
        "There are no control slides, so no batch can be judged. The study slides are drawn; they "
        "differ by people and treatment as well as by staining."
    )


def _drift_charts(stains: Sequence[Stain], rows: Sequence[Row]) -> Iterable[Drawing]:
    """Controls where a marker has them, else its study slides; each stain that was measured."""
    for marker, group in groupby(rows, key=lambda row: str(row["marker"])):
        own = list(group)
        kinds = [
            kind for kind in ("positive", "negative") if any(r["control"] == kind for r in own)
        ]
        for kind in kinds or ["none"]:
            kept = [row for row in own if row["control"] == kind]
            slides = [s for s in stains if (s.marker, s.control) == (marker, kind) and s.batch]
            what = "study slides" if kind == "none" else f"{kind} controls"
            for name, words in (("marker_od", "DAB"), ("hematoxylin_od", "hematoxylin")):
                if any(getattr(s, name) is not None for s in slides):
                    yield charts.staining(f"{marker}, {what}: {words}", slides, kept, name)


def verdict_of(record: Row) -> tuple[str, list[str]]:
    """The verdict on a slide's quality, and what a reader of its figures must know."""
    summary = record.get("summary", {})
    warnings = record.get("provenance", {}).get("warnings")
    if not isinstance(warnings, list):
        told = summary.get("warnings")
        warnings = [] if told in (None, "", "none") else [told]
    reasons = str(summary.get("quality_reasons") or "")
    remarks = [*(part for part in reasons.split("; ") if part and part != "none"),
               *(str(w) for w in warnings)]  # fmt: skip
    remarks = list(dict.fromkeys(remarks))
    given = summary.get("quality")
    if isinstance(given, str) and given:
        return given, remarks
    lacking = record.get("reasons", {}).get("dej_length_mm")
    if lacking:
        remarks.append(f"no figure along the junction: {lacking}")
    return ("review" if remarks else "ok"), remarks


def quality_section(records: Mapping[str, Row]) -> dict[str, Any] | None:
    """Slides that somebody should look at, worst first; None without slides."""
    if not records:
        return None
    judged = {name: verdict_of(record) for name, record in records.items()}
    counts = Counter(verdict for verdict, _ in judged.values())
    rows = [
        {"id": name, "verdict": verdict, "remarks": remarks, "rank": _RANKS.get(verdict, 9)}
        for name, (verdict, remarks) in judged.items()
        if remarks or verdict != "ok"
    ]
    told = ", ".join(f"{counts[v]} {v}" for v in ("ok", "review", "reject") if counts[v])
    word = "slide" if len(judged) == 1 else "slides"
    return {
        "told": f"{len(judged)} measured {word}: {told}."
        + ("" if rows else " There is nothing to remark."),
        "rows": sorted(rows, key=lambda row: (row["rank"], row["id"])),
    }
