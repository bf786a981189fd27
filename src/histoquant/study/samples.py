"""The marker table as statistics takes it: one row per person, site, visit and marker."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from histoquant import tables
from histoquant.errors import StudyError

KEYS = ("person", "site", "visit", "marker")
_MARKS = {
    "nucleus_id": ("nuclei", "nuclei of one person are not independent of each other"),
    "arc_start_um": ("bins of the junction", "bins of one junction are not independent"),
    "slide_id": ("sections", "sections of one biopsy are not independent of each other"),
}


def read_csv(path: Path | str, what: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and (line, row) pairs of a CSV file as text; cells stripped, empty lines left out.

    Commas, semicolons and tabs are understood, and a byte order mark.

    Raises
    ------
    StudyError
        When the file cannot be read, is not CSV, or names a column twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, [c.strip() for c in cells]) for cells in reader]
    except OSError as error:
        raise StudyError(f"cannot read the {what} {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"the {what} {path} is not a CSV file in UTF-8: {error}") from None
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise StudyError(f"{path}: column(s) {', '.join(repeated)} appear more than once")
    long = [line for line, cells in lines if any(cells[len(header) :])]
    if long:
        raise StudyError(f"{path}: more fields than columns on line(s) {_listed(long)}")
    padded = [(n, cells + [""] * (len(header) - len(cells))) for n, cells in lines if any(cells)]
    return header, [(n, dict(zip(header, cells, strict=False))) for n, cells in padded]


def read_markers(path: Path | str) -> pd.DataFrame:
    """Read ``markers.csv``: keys as text, measures as float64, missing ones NaN.

    Parameters
    ----------
    path
        The file, or the results directory that holds it.

    Returns
    -------
    DataFrame
        The rows of samples: those of controls, and slides without a person, are left out.

    Raises
    ------
    StudyError
        For a table whose rows are not samples, or cells that are not numbers.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "markers.csv"
    if not path.exists():
        raise StudyError(f"no marker table {path}: run `histoquant tables` on the directory first")
    header, rows = read_csv(path, "marker table")
    frame = pd.DataFrame([row for _, row in rows], columns=header, dtype=object)
    require_samples(frame.columns, str(path))
    text = {c.name for c in tables.marker_columns() if c.dtype == "string"}
    problems: list[str] = []
    for name in (n for n in header if n not in text):
        numbers = pd.to_numeric(frame[name].replace("", None), errors="coerce")
        wrong = numbers.isna() & ~frame[name].str.casefold().isin(("", "nan"))
        if _is_registered(name):
            problems += [
                f"{name} {row[name]!r} of {row['person']}, {row['site']}, {row['visit']}"
                for row in frame.loc[wrong].to_dict("records")
            ]
        if not wrong.any():
            frame[name] = numbers.astype("float64")
    if problems:
        raise StudyError(f"{path}: not numbers: {_listed(problems)}")
    return samples_only(frame)


def samples_only(markers: pd.DataFrame) -> pd.DataFrame:
    """Rows of `markers` that belong to a person and are no control."""
    keep = markers["person"].astype(str) != ""
    if "control" in markers:
        keep &= markers["control"].fillna("").astype(str).isin(("", "none"))
    return markers.loc[keep].reset_index(drop=True)


def require_samples(columns: Iterable[str], source: str) -> None:
    """Refuse a table whose rows are nuclei, bins or sections.

    Raises
    ------
    StudyError
        Which says what the rows are, and why they cannot be n.
    """
    names = set(columns)
    for mark, (rows, why) in _MARKS.items():
        if mark in names:
            raise StudyError(
                f"{source}: its rows are {rows}, not samples. {why[0].upper()}{why[1:]}: counting "
                "them as n makes chance look like an effect. Give markers.csv, one row per "
                "person, site and visit"
            )
    missing = [name for name in KEYS if name not in names]
    if missing:
        raise StudyError(
            f"{source}: missing column(s) {', '.join(missing)}. A marker table has one row per "
            "person, site, visit and marker, as `histoquant tables` writes it"
        )


def repeated_samples(markers: pd.DataFrame) -> list[str]:
    """A sentence for every sample that has more than one row."""
    counts = Counter(zip(*(markers[name].astype(str) for name in KEYS), strict=True))
    return [
        f"{marker} of {person}, {site}, {visit} has {n} rows: a sample counts once; sections of "
        "a biopsy are pooled before, see `histoquant tables`"
        for (person, site, visit, marker), n in sorted(counts.items())
        if n > 1
    ]


def reasons_of(text: object) -> Mapping[str, str]:
    """Column -> reason, from the text of the ``reasons`` column ("column: reason; ...")."""
    if not isinstance(text, str):
        return {}
    parts = re.split(r"; (?=[a-z][a-z0-9_]*: )", text)
    pairs = (part.partition(": ") for part in parts if part)
    return {name: reason for name, _, reason in pairs}


def _is_registered(name: str) -> bool:
    return any(c.name == name for c in tables.marker_columns())


def _listed(items: Iterable[object], most: int = 10) -> str:
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more
