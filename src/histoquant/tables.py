"""The tables: which columns they have, in which order, and whether a table keeps to them.

The tables on disk, ``columns.json`` and the tooltips of the report are all made from the
registry in `histoquant.columns`. A table with a column that is not there is an error
(`conform`), so no number can reach a user without its unit and its meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from histoquant.columns import (
    BOTH,
    COL7,
    DRIFT,
    IDENTITY,
    JUNCTION,
    LEDGER,
    NUCLEI,
    P16,
    PROFILE,
    REASONS,
    SAMPLE,
    SAMPLE_SWEEP,
    SWEEP,
    Column,
)
from histoquant.errors import ResultError
from histoquant.settings import MARKERS, Marker

__all__ = [
    "DRIFT",
    "LEDGER",
    "NUCLEI",
    "REASONS",
    "SAMPLE",
    "SAMPLE_SWEEP",
    "SWEEP",
    "Column",
    "all_tables",
    "columns_json",
    "conform",
    "conform_summary",
    "is_missing",
    "junction_columns",
    "marker_columns",
    "measured_columns",
    "summary_columns",
    "with_limits",
]


def with_limits(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Columns with ``_low`` and ``_high`` after every rate of counts."""
    out: list[Column] = []
    for column in columns:
        out.append(column)
        if column.pool.has_limits:
            out += [
                replace(column, name=f"{column.name}_{end}", meaning=f"{column.meaning} {word}.")
                for end, word in (
                    ("low", "Lower 95 % confidence limit"),
                    ("high", "Upper 95 % confidence limit"),
                )
            ]
    return tuple(out)


def measured_columns(marker: Marker) -> tuple[Column, ...]:
    """What is measured on one slide of `marker`, limits included, in the order of the tables."""
    return with_limits(_own(marker) + BOTH)


def summary_columns(marker: Marker) -> tuple[Column, ...]:
    """Columns of ``summary.csv`` for `marker`."""
    return (*IDENTITY, *measured_columns(marker), REASONS)


def junction_columns(marker: Marker) -> tuple[Column, ...]:
    """Columns of ``junction.parquet``: the profile's are there for col7 only."""
    if marker == "p16":
        return JUNCTION
    geometry = [c for c in JUNCTION if c.required and c.name not in ("feature", "excluded")]
    rest = [c for c in JUNCTION if c not in geometry]
    return (*geometry, *PROFILE, *rest)


def marker_columns() -> tuple[Column, ...]:
    """Columns of ``markers.csv``: every marker's, each once."""
    merged = {c.name: c for marker in MARKERS for c in with_limits(_own(marker))}
    both = {c.name: c for c in with_limits(BOTH)}
    return (*SAMPLE, *merged.values(), *both.values(), REASONS)


def all_tables() -> dict[str, tuple[Column, ...]]:
    """Every table that is written, with its columns."""
    return {
        "markers.csv": marker_columns(),
        "ledger.csv": LEDGER,
        "sweep.csv": SAMPLE_SWEEP,
        "drift.csv": DRIFT,
        "nuclei.parquet": NUCLEI,
        "sweep.csv (slide)": SWEEP,
        "junction.parquet (p16)": junction_columns("p16"),
        "junction.parquet (col7)": junction_columns("col7"),
        "summary.csv (p16)": summary_columns("p16"),
        "summary.csv (col7)": summary_columns("col7"),
    }


def columns_json() -> dict[str, list[dict[str, str]]]:
    """Content of ``columns.json``: table -> columns with dtype, unit and meaning."""
    return {name: [c.as_json() for c in columns] for name, columns in all_tables().items()}


def conform(frame: pd.DataFrame, columns: Iterable[Column], table: str) -> pd.DataFrame:
    """`frame` with the registry's columns in the registry's order and dtypes.

    Raises
    ------
    ResultError
        For a column that is not registered, a required one that is missing, or values that
        do not fit the column's dtype.
    """
    columns = tuple(columns)
    known = {c.name for c in columns}
    unknown = [str(name) for name in frame.columns if name not in known]
    missing = [c.name for c in columns if c.required and c.name not in frame.columns]
    if unknown or missing:
        raise ResultError(
            f"{table}: unregistered columns {unknown}, missing columns {missing}; "
            "every column is declared once, in columns.py"
        )
    kept = [c for c in columns if c.name in frame.columns]
    return pd.DataFrame({c.name: _cast(frame[c.name], c, table) for c in kept})


def conform_summary(summary: Mapping[str, object], marker: Marker) -> dict[str, object]:
    """A slide's figures in the registry's order, as Python values; missing ones are None.

    Raises
    ------
    ResultError
        For a figure that is not registered.
    """
    columns = measured_columns(marker)
    unknown = [name for name in summary if name not in {c.name for c in columns}]
    if unknown:
        raise ResultError(
            f"summary of a {marker} slide: unregistered columns {unknown}; "
            "every column is declared once, in columns.py"
        )
    return {c.name: _plain(summary.get(c.name), c) for c in columns}


def is_missing(value: object) -> bool:
    """Whether `value` stands for no measurement: None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _own(marker: Marker) -> tuple[Column, ...]:
    return {"p16": P16, "col7": COL7}[marker]


def _plain(value: object, column: Column) -> object:
    """`value` as the Python type of the column's dtype."""
    if hasattr(value, "item"):
        value = value.item()
    if is_missing(value):
        return None
    if column.dtype == "string":
        return value if isinstance(value, str) else _words(value)
    return {"int64": int, "float64": float, "bool": bool}[column.dtype](value)


def _words(value: object) -> str:
    """A vector as ``0.650 0.704 0.286``; anything else as `str` says."""
    if isinstance(value, Iterable):
        return " ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in value)
    return str(value)


def _cast(series: pd.Series[Any], column: Column, table: str) -> pd.Series[Any]:
    """`series` in the column's dtype; integers and flags with gaps become nullable ones."""
    dtype: str = column.dtype
    if dtype in ("int64", "bool") and series.isna().any():
        dtype = {"int64": "Int64", "bool": "boolean"}[dtype]
    try:
        return series.astype(dtype)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError) as error:
        raise ResultError(f"{table}: column {column.name} is not {dtype}: {error}") from None
