"""Slides to samples: the sections of a biopsy pooled into one row of the marker table.

Numerators and denominators are summed and every rate and limit is computed from the sums;
ratios are never averaged. A section that lacks a figure's numerator or denominator is left out
of that figure, and the row's ``reasons`` say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant import rates, tables
from histoquant.gaps import gap_lengths, positive_fraction
from histoquant.quality import ORDER
from histoquant.results import csv_text, missing_reasons, reasons_text
from histoquant.settings import Marker
from histoquant.tables import Column

NOTHING = "none"
"""What a column of warnings or reasons says where there are none."""

Row = dict[str, object]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Section:
    """One measured slide and the sample it belongs to.

    Attributes
    ----------
    sample
        Columns ``person, site, visit, control``. Without a person the slide is its own sample.
    summary, reasons
        From the slide's ``result.json``.
    junction
        Loads the slide's junction table: pooled medians need the bins.
    min_gap_um
        Least gap of the settings the slide was measured with.
    """

    slide_id: str
    marker: Marker
    sample: Mapping[str, str]
    summary: Mapping[str, object]
    reasons: Mapping[str, str]
    junction: Callable[[], pd.DataFrame]
    min_gap_um: float = float("nan")

    @property
    def key(self) -> tuple[str, ...]:
        """What the sections of one sample share; sorts the table."""
        person, site, visit = (self.sample.get(name, "") for name in ("person", "site", "visit"))
        control = self.sample.get("control", "none").removeprefix("none")
        return person, site, visit, self.marker, control, "" if person else self.slide_id


def marker_rows(sections: Iterable[Section]) -> list[Row]:
    """Rows of ``markers.csv``: one per sample, ordered by person, site, visit and marker."""
    ordered = sorted(sections, key=lambda s: (s.key, s.slide_id))
    return [_row(list(group)) for _, group in groupby(ordered, key=lambda s: s.key)]


def marker_csv(rows: Iterable[Row]) -> str:
    """Rows of `marker_rows` as the text of ``markers.csv``."""
    return csv_text((c.name for c in tables.marker_columns()), rows)


def marker_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of `marker_rows` as the table of ``markers.parquet``."""
    columns = tables.marker_columns()
    frame = pd.DataFrame(list(rows), columns=[c.name for c in columns], dtype=object)
    return tables.conform(frame, columns, "markers.parquet")


def _row(sections: list[Section]) -> Row:
    first = sections[0]
    row: Row = {name: first.sample.get(name, "") for name in ("person", "site", "visit")}
    row |= {
        "marker": first.marker,
        "n_sections": len(sections),
        "slides": "; ".join(s.slide_id for s in sections),
        "control": first.sample.get("control", "none"),
    }
    if len(sections) == 1:
        return row | dict(first.summary) | {"reasons": reasons_text(first.reasons)}
    values, notes = _pool(sections)
    return row | values | {"reasons": _pooled_reasons(values, notes, sections)}


def _pool(sections: list[Section]) -> tuple[Row, dict[str, str]]:
    """Pooled values of every measured column, and notes on what they leave out."""
    values: Row = {}
    notes: dict[str, str] = {}
    for column in tables.measured_columns(sections[0].marker):
        if column.name in values:
            continue  # limits, set with their rate
        result, note = _POOLS[column.pool.how](column, sections)
        values |= result
        if note:
            notes[column.name] = note
    order = [c.name for c in tables.measured_columns(sections[0].marker)]
    return {name: values[name] for name in order}, notes


def _pooled_reasons(values: Row, notes: Mapping[str, str], sections: list[Section]) -> str:
    given = {
        name: notes.get(name) or _first_reason(name, sections)
        for name, value in values.items()
        if tables.is_missing(value)
    }
    return reasons_text(dict(notes) | missing_reasons(values, given))


def _first_reason(name: str, sections: Iterable[Section]) -> str:
    return next((s.reasons[name] for s in sections if name in s.reasons), "")


def _measured(
    sections: list[Section], *names: str
) -> tuple[list[Section], list[tuple[float, ...]], str]:
    """Sections that have every one of `names`, their values, and a note on the others."""
    kept = [s for s in sections if not any(tables.is_missing(s.summary.get(n)) for n in names)]
    rows = [tuple(float(cast(float, s.summary[n])) for n in names) for s in kept]
    left_out = [s.slide_id for s in sections if s not in kept]
    note = f"without {', '.join(left_out)}" if left_out and kept else ""
    return kept, rows, note


def _same(column: Column, sections: list[Section]) -> tuple[Row, str]:
    values = list(_distinct(s.summary.get(column.name) for s in sections))
    if len(values) == 1:
        return {column.name: values[0]}, ""
    return {column.name: None}, "sections differ" if values else ""


def _joined(column: Column, sections: list[Section]) -> tuple[Row, str]:
    values = [str(v) for v in _distinct(s.summary.get(column.name) for s in sections)]
    told = [v for v in values if v != NOTHING] or values
    return {column.name: "; ".join(told) or None}, ""


def _largest(column: Column, sections: list[Section]) -> tuple[Row, str]:
    kept, rows, note = _measured(sections, column.name)
    return {column.name: max(value for (value,) in rows) if kept else None}, note


def _worst(column: Column, sections: list[Section]) -> tuple[Row, str]:
    found = [str(v) for v in _distinct(s.summary.get(column.name) for s in sections)]
    known = [verdict for verdict in ORDER if verdict in found]
    return {column.name: known[-1] if known else None}, ""


def _distinct(values: Iterable[object]) -> Iterator[object]:
    return iter(dict.fromkeys(v for v in values if not tables.is_missing(v)))


def _sum(column: Column, sections: list[Section]) -> tuple[Row, str]:
    # A length beside which nothing could be counted is no denominator, in the rate or out of it.
    kept, rows, note = _measured(sections, column.name, *_rates_over(column, sections[0].marker))
    if not kept:
        kept, rows, note = _measured(sections, column.name)
    total = math.fsum(row[0] for row in rows)
    if not kept:
        return {column.name: None}, ""
    return {column.name: round(total) if column.dtype == "int64" else total}, note


def _rates_over(column: Column, marker: Marker) -> list[str]:
    """Rates of counts whose denominator the column is."""
    pools = ((c.name, c.pool) for c in tables.measured_columns(marker))
    return [name for name, pool in pools if pool.how == "rate" and pool.bottom == column.name]


def _rate(column: Column, sections: list[Section]) -> tuple[Row, str]:
    pool, name = column.pool, column.name
    if pool.how == "percent":
        _, rows, note = _measured(sections, pool.top, pool.bottom)
    else:  # where no nuclei were found, there is a length or area and still no rate
        _, rows, note = _measured(sections, pool.top, pool.bottom, name)
    top = math.fsum(row[0] for row in rows)
    bottom = math.fsum(row[1] for row in rows)
    if pool.how == "percent":
        rate = rates.percent(round(top), round(bottom))
    else:
        rate = rates.per_unit(round(top), bottom)
    return _limited(name, rate), note


def _limited(name: str, rate: rates.Rate) -> Row:
    return {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}


def _weighted(column: Column, sections: list[Section]) -> tuple[Row, str]:
    _, rows, note = _measured(sections, column.name, column.pool.bottom)
    weight = math.fsum(w for _, w in rows)
    if not weight > 0:
        return {column.name: None}, ""
    return {column.name: math.fsum(v * w for v, w in rows) / weight}, note


def _bins(column: Column, sections: list[Section]) -> tuple[Row, str]:
    units = list(_distinct(s.summary.get("marker_unit") for s in sections))
    if "OD" in column.unit and len(units) > 1:
        return {column.name: None}, f"sections are in different units: {', '.join(map(str, units))}"
    kept, _, note = _measured(sections, column.name)
    values = np.concatenate([_kept_bins(s, column.pool.top) for s in kept] or [np.empty(0)])
    if not values.size:
        return {column.name: None}, ""
    return {column.name: _STATISTICS[column.pool.statistic](values)}, note


def _kept_bins(section: Section, name: str) -> Floats:
    table = section.junction()
    table = table[~table["excluded"].astype(bool)]
    if name == "positive_fraction":
        values = positive_fraction(table)  # a result of an earlier version has whole bins only
    else:
        values = table[name].to_numpy(np.float64, na_value=np.nan)
    return values[np.isfinite(values)]


def _quartile_range(values: Floats) -> float:
    low, high = np.percentile(values, [25, 75])
    return float(high - low)


_STATISTICS: dict[str, Callable[[Floats], float]] = {
    "mean": lambda values: float(values.mean()),
    "percent": lambda values: 100 * float(values.mean()),
    "median": lambda values: float(np.median(values)),
    "iqr": _quartile_range,
}


def _gaps(column: Column, sections: list[Section]) -> tuple[Row, str]:
    kept, _, note = _measured(sections, "n_gaps")
    lengths = [gap_lengths(s.junction(), s.min_gap_um) for s in kept]
    found = np.concatenate(lengths or [np.empty(0)])
    return {column.name: float(np.median(found)) if found.size else None}, note


def _h_score(column: Column, sections: list[Section]) -> tuple[Row, str]:
    names = ("n_1plus", "n_2plus", "n_3plus", "n_nuclei")
    _, rows, note = _measured(sections, *names)
    counts = np.asarray(rows, np.float64).reshape(-1, 4).sum(axis=0).astype(int)
    graded = counts[:3]
    classes = np.repeat([0, 1, 2, 3], [counts[3] - graded.sum(), *graded])
    return _limited(column.name, rates.h_score(classes)), note


def _apart(column: Column, sections: list[Section]) -> tuple[Row, str]:
    missing = all(tables.is_missing(s.summary.get(column.name)) for s in sections)
    return {column.name: None}, "" if missing else "not pooled over sections: see their summaries"


_POOLS: dict[str, Callable[[Column, list[Section]], tuple[Row, str]]] = {
    "same": _same,
    "joined": _joined,
    "worst": _worst,
    "largest": _largest,
    "sum": _sum,
    "percent": _rate,
    "rate": _rate,
    "weighted": _weighted,
    "bins": _bins,
    "gaps": _gaps,
    "h_score": _h_score,
    "apart": _apart,
}
