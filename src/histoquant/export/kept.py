"""What a results directory keeps of a slide, loaded when an export asks for it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from histoquant import tables
from histoquant.errors import ResultError
from histoquant.geojson import Feature
from histoquant.results import RESULT, read_record
from histoquant.rundir import RunDirectory
from histoquant.settings import Marker

SAMPLE_KEYS = ("person", "site", "visit", "section", "batch", "control")
"""Columns of the ledger that say which sample a slide belongs to."""


@dataclass(frozen=True)
class KeptSlide:
    """One slide that is done.

    Attributes
    ----------
    directory
        ``slides/<slide_id>``.
    row
        Its row of the ledger.
    record
        Content of its ``result.json``.
    """

    directory: Path
    row: Mapping[str, str]
    record: Mapping[str, Any]

    @property
    def slide_id(self) -> str:
        """Its name in the results directory."""
        return self.row["slide_id"]

    @property
    def marker(self) -> Marker:
        """p16 or col7."""
        marker: Marker = self.record["marker"]
        return marker

    @property
    def summary(self) -> dict[str, Any]:
        """Column -> figure of the slide; None where it is missing."""
        return dict(self.record["summary"])

    @property
    def mpp(self) -> float:
        """Size of a level-0 pixel in um."""
        return float(self.summary["mpp"])

    @property
    def marker_unit(self) -> str:
        """What the marker is measured in: OD, or in fluorescence grey levels."""
        return str(self.summary.get("marker_unit") or "OD")

    @cached_property
    def nuclei(self) -> pd.DataFrame | None:
        """Rows of ``nuclei.parquet``; None for collagen VII."""
        return self._table("nuclei.parquet") if self.marker == "p16" else None

    @cached_property
    def junction(self) -> pd.DataFrame:
        """Rows of ``junction.parquet``."""
        return self._table("junction.parquet")

    @cached_property
    def features(self) -> list[Feature]:
        """Features of ``compartments.geojson``: tissue, compartments and junction."""
        path = self.directory / "compartments.geojson"
        try:
            collection = json.loads(path.read_text(encoding="utf-8"))
            return list(collection["features"])
        except FileNotFoundError:
            raise ResultError(f"{path} is missing: measure the slide again") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(f"{path} is damaged ({error}): measure the slide again") from None

    def about(self) -> dict[str, str]:
        """Slide and sample, by column: what tells its rows from those of other slides."""
        sample = {name: self.row.get(name, "") for name in SAMPLE_KEYS}
        return {"slide_id": self.slide_id, "marker": self.marker, **sample}

    def _table(self, name: str) -> pd.DataFrame:
        path = self.directory / name
        try:
            return pd.read_parquet(path)
        except FileNotFoundError:
            raise ResultError(f"{path} is missing: measure the slide again") from None
        except (OSError, ValueError) as error:
            raise ResultError(f"{path} is damaged ({error}): measure the slide again") from None


def kept_slides(run: RunDirectory, only: Sequence[str] = ()) -> list[KeptSlide]:
    """The slides of a results directory that are done, in the order of the ledger.

    Parameters
    ----------
    only
        Names of slides; all that are done when empty.

    Raises
    ------
    ResultError
        When the directory is no results directory, a name of `only` is none of its slides, a
        slide asked for is not done, or no slide is.
    """
    done = {row["slide_id"]: row for row in run.done()}
    if only:
        _check_names(only, run, done)
        done = {name: done[name] for name in dict.fromkeys(only)}
    if not done:
        raise ResultError(
            f"{run.path}: no slide is done, so there is nothing to export; ledger.csv says why"
        )
    return [_kept(run.slide(name), row) for name, row in done.items()]


def _check_names(only: Sequence[str], run: RunDirectory, done: Mapping[str, object]) -> None:
    ledger = {row["slide_id"]: row for row in run.ledger().rows}
    problems = []
    for name in only:
        if name in done:
            continue
        if name in ledger:
            row = ledger[name]
            problems.append(f"  {name}: {row['status']}: {row['reason'] or 'no reason given'}")
            continue
        near = difflib.get_close_matches(name, ledger, n=3)
        problems.append(
            f"  {name}: no slide of this directory has that name"
            + (f"; did you mean {', '.join(near)}?" if near else "")
        )
    if problems:
        raise ResultError(f"{run.path}: cannot be exported:\n" + "\n".join(problems))


def _kept(directory: Path, row: Mapping[str, str]) -> KeptSlide:
    record = read_record(directory)
    if record is None or not {"marker", "summary", "reasons", "provenance"} <= set(record):
        raise ResultError(
            f"the ledger says that {row['slide_id']} is done, but {directory / RESULT} is missing "
            "or damaged: run `histoquant batch` (or quantify) again"
        )
    return KeptSlide(directory, row, record)


def figures(kept: KeptSlide) -> dict[str, float]:
    """The slide's numbers that were measured, by column."""
    numeric = {c.name for c in tables.measured_columns(kept.marker) if c.dtype != "string"}
    return {
        name: float(value)
        for name, value in kept.summary.items()
        if name in numeric and not tables.is_missing(value)
    }
