"""The tables of a results directory as one workbook for people who open it in Excel.

Every sheet has the names of its columns in the first row and their units in the second, both
frozen; the sheet ``columns`` says what each column means. Text is written as text: nothing from
a manifest can become a formula.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histoquant import __version__, atomic, tables
from histoquant.export.needs import load
from histoquant.printable import printable
from histoquant.rundir import RunDirectory, now
from histoquant.settings import MARKERS
from histoquant.tables import Column

if TYPE_CHECKING:
    from openpyxl.cell import WriteOnlyCell

Row = Mapping[str, object]
_LONGEST = 32_767
"""Characters that a cell of Excel holds."""
_MOST_ROWS = 1_048_576
_CUT = " … (cut: the whole text is in the CSV)"


def write_workbook(run: RunDirectory, path: Path, rows: Sequence[Row] | None = None) -> Path:
    """Write the tables of `run` as an Excel workbook.

    Parameters
    ----------
    path
        The ``.xlsx`` to write.
    rows
        Rows of the marker table; read from the slides when left out.

    Raises
    ------
    ResultError
        When the directory is no results directory.
    ExportError
        When openpyxl is not installed.
    """
    openpyxl = load("openpyxl", "excel", "xlsx")
    rows = run.marker_rows() if rows is None else rows
    book = openpyxl.Workbook(write_only=True)
    written: dict[str, Sequence[Column]] = {}
    for name, columns, content in _sheets(run, rows):
        _fill(book.create_sheet(name), columns, content)
        written[name] = columns
    _fill(book.create_sheet("columns"), _DICTIONARY, _dictionary(written))
    _fill(book.create_sheet("about"), _ABOUT, _about(run))
    out = io.BytesIO()
    book.save(out)
    atomic.write_bytes(path, out.getvalue())
    return path


def _sheets(run: RunDirectory, rows: Sequence[Row]) -> Iterable[tuple[str, Sequence[Column], Any]]:
    for marker in MARKERS:
        own = [row for row in rows if row["marker"] == marker]
        measured = tables.measured_columns(marker)
        if own:
            yield f"markers {marker}", (*tables.SAMPLE, *measured, tables.REASONS), own
    yield "ledger", tables.LEDGER, run.ledger().rows
    for name, path, columns in _tables_on_disk(run.path):
        content = _read(path)
        if content:
            yield name, columns, content


def _tables_on_disk(directory: Path) -> Iterable[tuple[str, Path, Sequence[Column]]]:
    """Sheet, file and columns of the tables that a results directory may hold."""
    from histoquant.study.columns import TABLES

    yield "sweep", directory / "sweep.csv", tables.SAMPLE_SWEEP
    yield "drift", directory / "drift.csv", tables.DRIFT
    for name, columns in TABLES.items():
        yield f"study {Path(name).stem}", directory / "study" / name, columns


def _read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV of this directory; none when it has no such table."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


_DICTIONARY = (
    Column("sheet", "string", "", "Sheet of this workbook."),
    Column("column", "string", "", "Column of that sheet."),
    Column("unit", "string", "", "Unit of its values."),
    Column("meaning", "string", "", "What is in it."),
)
_ABOUT = (
    Column("what", "string", "", "What is told."),
    Column("value", "string", "", "Its value."),
)


def _dictionary(sheets: Mapping[str, Sequence[Column]]) -> list[dict[str, str]]:
    own = {**sheets, "columns": _DICTIONARY, "about": _ABOUT}
    return [
        {"sheet": sheet, "column": c.name, "unit": c.unit, "meaning": c.meaning}
        for sheet, columns in own.items()
        for c in columns
    ]


def _about(run: RunDirectory) -> list[dict[str, str]]:
    record = run.read_run()
    facts = {
        "results": run.path.name,
        "measured by histoquant": record.get("version", "unknown"),
        "measured on": record.get("started", "unknown"),
        "workbook written by histoquant": __version__,
        "workbook written on": now(),
        "rows": "The first row of a sheet holds names, the second units. An empty cell is a "
        "missing value; the column reasons says why it is missing.",
        "pooling": "Ratios of pooled sections come from summed numerators and denominators.",
    }
    return [{"what": what, "value": str(value)} for what, value in facts.items()]


def _fill(sheet: Any, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    """Header, units and rows; widths follow the longest short text."""
    from openpyxl.utils import get_column_letter

    last = get_column_letter(len(columns))
    sheet.freeze_panes = "B3"
    sheet.auto_filter.ref = f"A2:{last}2"
    rows = list(rows)
    if len(rows) > _MOST_ROWS - 2:
        raise ValueError(f"{sheet.title}: {len(rows)} rows do not fit into a sheet")
    for number, column in enumerate(columns, start=1):
        letter = get_column_letter(number)
        sheet.column_dimensions[letter].width = _width(column, rows)
    sheet.append([_styled(sheet, c.name, bold=True) for c in columns])
    sheet.append([_styled(sheet, "" if c.unit == "1" else c.unit) for c in columns])
    for row in rows:
        sheet.append([_cell(sheet, row.get(c.name), c) for c in columns])
    sheet.auto_filter.ref = f"A2:{last}{len(rows) + 2}"


def _width(column: Column, rows: Sequence[Row]) -> float:
    longest = max([len(column.name), *(len(str(row.get(column.name, ""))) for row in rows[:200])])
    return min(max(longest + 2, 8), 60 if column.name in ("reason", "reasons", "meaning") else 34)


def _styled(sheet: Any, text: str, *, bold: bool = False) -> WriteOnlyCell:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font, PatternFill

    cell = WriteOnlyCell(sheet, value=text)
    cell.font = Font(bold=bold, italic=not bold, color="1D2430" if bold else "5B6472")
    cell.fill = PatternFill("solid", fgColor="F4F6F9")
    return cell


def _cell(sheet: Any, value: object, column: Column) -> Any:
    from openpyxl.cell import WriteOnlyCell

    value = _typed(value, column)
    if not isinstance(value, str):
        return value
    cell = WriteOnlyCell(sheet, value="")
    cell.value = _fitting(value)
    cell.data_type = "s"  # openpyxl takes a leading "=" for a formula
    return cell


def _typed(value: object, column: Column) -> object:
    """A value in the type of its column; text of a CSV is read, missing ones are None."""
    if tables.is_missing(value) or value == "":
        return None
    if column.dtype == "string":
        return str(value)
    if column.dtype == "bool":
        return value if isinstance(value, bool) else str(value) == "True"
    number = float(str(value))
    if not math.isfinite(number):
        return None
    return int(number) if column.dtype == "int64" else number


def _fitting(text: str) -> str:
    """Text without control characters, and no longer than a cell."""
    text = printable(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(_CUT)] + _CUT
