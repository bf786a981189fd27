"""The slides behind a sample, for analyses that need more than the marker table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from histoquant import tables
from histoquant.errors import ResultError
from histoquant.results import read_record
from histoquant.rundir import RunDirectory

NUCLEUS_COLUMNS = (
    "x_px",
    "y_px",
    "dab_od_mean",
    "ring_dab_od_mean",
    "positive",
    "compartment",
    "pigment_suspected",
    "excluded",
    "beside_measured_junction",
    "reviewed_class",
)
"""What the study reads of a nucleus: a table may have some 300,000 rows and 20 columns."""


@dataclass(frozen=True)
class Section:
    """One measured slide of a person's biopsy.

    Attributes
    ----------
    slide_id, marker, person, site, visit, batch
        From the ledger.
    summary
        Column -> value, as in the slide's ``result.json``.
    settings
        The settings it was measured with, as in its provenance.
    nuclei
        Loads `NUCLEUS_COLUMNS` of the slide's nuclei, those that the table has.
    junction
        Loads the slide's bins of junction.
    """

    slide_id: str
    marker: str
    person: str
    site: str
    visit: str
    batch: str
    summary: Mapping[str, Any]
    settings: Mapping[str, Any]
    nuclei: Callable[[], pd.DataFrame]
    junction: Callable[[], pd.DataFrame]

    @property
    def sample(self) -> tuple[str, str, str]:
        """Person, site and visit: what the sections of one biopsy share."""
        return self.person, self.site, self.visit

    def number(self, name: str) -> float:
        """A figure of the summary; NaN where it is missing."""
        value = self.summary.get(name)
        return float("nan") if tables.is_missing(value) else float(value)  # type: ignore[arg-type]


def read_sections(directory: Path | str, marker: str = "") -> list[Section]:
    """Every slide that is done, belongs to a person and is no control.

    Parameters
    ----------
    directory
        A results directory.
    marker
        p16 or col7; both when empty.

    Raises
    ------
    ResultError
        When it is no results directory, or a slide that is done has no complete result.
    """
    run = RunDirectory(directory)
    rows = [
        row
        for row in run.done()
        if row["person"]
        and row["control"] in ("", "none")
        and (not marker or row["marker"] == marker)
    ]
    return [_section(run, row) for row in sorted(rows, key=lambda r: r["slide_id"])]


def _section(run: RunDirectory, row: Mapping[str, str]) -> Section:
    directory = run.slide(row["slide_id"])
    record = read_record(directory)
    if record is None:
        raise ResultError(
            f"the ledger says that {row['slide_id']} is done, but {directory} holds no complete "
            "result: run `histoquant batch` (or quantify) again"
        )
    return Section(
        **{n: row[n] for n in ("slide_id", "marker", "person", "site", "visit", "batch")},
        summary=record["summary"],
        settings=record.get("provenance", {}).get("settings", {}),
        nuclei=partial(_read_columns, directory / "nuclei.parquet", NUCLEUS_COLUMNS),
        junction=partial(_read_columns, directory / "junction.parquet"),
    )


def _read_columns(path: Path, names: tuple[str, ...] | None = None) -> pd.DataFrame:
    """Some columns of a slide's table, those that it has; all of them without `names`."""
    try:
        there = pq.read_schema(path).names
        kept = [name for name in names if name in there] if names else None
        return pd.read_parquet(path, columns=kept)
    except (OSError, pa.ArrowException) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"is damaged ({error})"
        raise ResultError(
            f"{path} {what}, and the analyses of sensitivity and adequacy read it: copy the whole "
            "results directory, or run `histoquant batch` (or quantify) again. A directory with "
            "markers.csv alone, without ledger.csv, is analysed without them"
        ) from None
