"""``histoquant agreement``: readers against each other and against the program.

Per nucleus by Cohen's kappa, per sample by ICC(2,1) and limits of agreement (Bland and Altman).
A reader's figures are those of their own edits alone, measured as ``remeasure`` does. A slide
that a reader has no journal of was not read by them, and one they rejected has no figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from histoquant import atomic, pooling, tables
from histoquant.errors import HistoquantError, ReviewError
from histoquant.results import csv_text, to_json
from histoquant.review.blinding import safe_name
from histoquant.review.journal import find_journals, read_journal
from histoquant.review.marks import MATCH_UM, NOT_A_NUCLEUS
from histoquant.review.measuring import EditedSlide, Measured
from histoquant.review.pixels import read_pending
from histoquant.review.session import verdict_of
from histoquant.review.store import read_automatic
from histoquant.rundir import RunDirectory
from histoquant.settings import Marker
from histoquant.study import figures
from histoquant.study.agreement import BlandAltman, Interval, bland_altman, cohens_kappa, icc21
from histoquant.study.svg import Drawing

PROGRAM = "program"
OUTCOMES: dict[str, tuple[str, ...]] = {
    "p16": ("positive_percent", "epidermis_positive_percent", "positive_per_mm_dej"),
    "col7": ("continuity_percent", "integrated_od_um_mean"),
}
CLASSES = ("negative", "positive", "not a nucleus")
_NONE = CLASSES.index("not a nucleus")

NUCLEUS_COLUMNS = {
    "first": "A reader, or program.",
    "second": "A reader, or program.",
    "nuclei": "all: whoever said nothing of a nucleus agrees with the program; judged: nuclei that "
    "every reader of the pair gave a class by hand.",
    "n": "Nuclei compared.",
    "agree_percent": "Nuclei of the same class (%).",
    "kappa": "Cohen's kappa of negative, positive and not a nucleus.",
    "kappa_low": "Lower 95 % limit.",
    "kappa_high": "Upper 95 % limit.",
    "reason": "Why a value is missing.",
}
SAMPLE_COLUMNS = {
    "marker": "p16 or col7.",
    "outcome": "Column of markers.csv.",
    "first": "A reader, or program; all readers for the ICC of all of them.",
    "second": "A reader, or program.",
    "n": "Samples that both have a figure of.",
    "icc21": "ICC(2,1): absolute agreement of single readings.",
    "icc21_low": "Lower 95 % limit.",
    "icc21_high": "Upper 95 % limit.",
    "bias": "Mean of first - second, in the outcome's unit.",
    "bias_low": "Lower 95 % limit.",
    "bias_high": "Upper 95 % limit.",
    "sd": "Standard deviation of the differences.",
    "lower_limit": "Lower limit of agreement.",
    "upper_limit": "Upper limit of agreement.",
    "reason": "Why a value is missing.",
}

Row = dict[str, object]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Reading:
    """One reader's slides: classes of nuclei, and what was measured.

    Attributes
    ----------
    measured
        slide_id -> the slide under the reader's edits.
    min_gap_um
        slide_id -> least gap of the settings it was measured with.
    notes
        What is to be known of it: slides left out, and why.
    """

    reader: str
    measured: dict[str, Measured] = field(default_factory=dict)
    min_gap_um: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Agreement:
    """What was found, as it is written to ``DIR/agreement``.

    Attributes
    ----------
    nuclei, samples
        Rows of ``per_nucleus.csv`` and ``per_sample.csv``.
    values
        Rows of ``values.csv``: every reader's figure of every sample.
    drawings
        File name -> Bland-Altman plot.
    notes
        What is to be known, in words.
    """

    directory: Path
    nuclei: list[Row]
    samples: list[Row]
    values: list[Row]
    drawings: dict[str, Drawing]
    notes: list[str]


def agreement(directory: Path | str, outcomes: Sequence[str] = ()) -> Agreement:
    """Compare all readers of a results directory, and write ``DIR/agreement``.

    Parameters
    ----------
    outcomes
        Columns of ``markers.csv`` to compare; `OUTCOMES` when empty.

    Raises
    ------
    ReviewError
        When nobody has reviewed it, or an outcome is no figure.
    ResultError
        When it is no results directory.
    """
    run = RunDirectory(directory)
    run.done()
    chosen = _outcomes(outcomes)
    with run.locked("agreement"):
        readings = _read(run)
        rows = run.ledger().rows
        samples, values, drawings = _compare_samples(readings, rows, chosen)
        notes = [f"{r.reader}: {note}" for r in readings for note in r.notes]
        found = Agreement(
            run.path / "agreement", _compare_nuclei(readings), samples, values, drawings, notes
        )
        _write(found)
    return found


def _outcomes(asked: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not asked:
        return OUTCOMES
    known = {
        marker: [c.name for c in tables.measured_columns(cast(Marker, marker)) if _is_figure(c)]
        for marker in OUTCOMES
    }
    wrong = [name for name in asked if not any(name in names for names in known.values())]
    if wrong:
        raise ReviewError(f"no figure of markers.csv is called {', '.join(wrong)}")
    return {m: tuple(name for name in asked if name in names) for m, names in known.items()}


def _is_figure(column: tables.Column) -> bool:
    return column.dtype in ("int64", "float64")


def _read(run: RunDirectory) -> list[Reading]:
    """The program's reading first, then each reader's."""
    program = Reading(PROGRAM)
    readers: dict[str, Reading] = {}
    for row in run.ledger().rows:
        place, name = run.slide(row["slide_id"]), row["slide_id"]
        if not run.has_result(name):
            continue
        try:
            journals = find_journals(place)
            if not journals:
                continue
            slide = EditedSlide(read_automatic(place))
            program.measured[name] = slide.measure([])
        except HistoquantError as error:
            program.notes.append(f"{name} is left out: {error}")
            continue
        program.min_gap_um[name] = slide.settings.collagen7.min_gap_um
        for who, path in journals.items():
            _read_one(slide, row, path, readers.setdefault(who, Reading(who)))
    readers = {who: read for who, read in readers.items() if read.measured or read.notes}
    if not readers:
        raise ReviewError(f"{run.path} holds no review: nobody can agree or disagree yet")
    return [program, *(readers[who] for who in sorted(readers))]


def _read_one(slide: EditedSlide, row: Mapping[str, str], path: Path, reading: Reading) -> None:
    name = row["slide_id"]
    try:
        fingerprint = str(slide.automatic.summary["slide_sha256"])
        journal = read_journal(path, reading.reader, fingerprint)
        edits = [(entry.n, entry.edit) for entry in journal.active if entry.edit is not None]
        measured = slide.measure(edits)
    except HistoquantError as error:
        reading.notes.append(f"{name} is left out: {error}")
        return
    if not journal.begun:
        return
    if verdict_of(journal.active).value == "rejected":
        reading.notes.append(f"{name} is left out: rejected")
        return
    if measured.pending:
        try:
            measured = read_pending(row, slide, measured)
        except (HistoquantError, OSError) as error:
            reading.notes.append(
                f"{name} has no collagen VII figures: the junction was drawn anew, and the slide "
                f"cannot be read: {error}"
            )
    reading.measured[name] = measured
    reading.min_gap_um[name] = slide.settings.collagen7.min_gap_um


def _compare_nuclei(readings: Sequence[Reading]) -> list[Row]:
    rows: list[Row] = []
    for first, second in combinations(readings, 2):
        shared = [n for n in first.measured if n in second.measured]
        both = [_paired(first, second, n) for n in shared if first.measured[n].nuclei is not None]
        if not both:
            continue
        one, other, judged = (np.concatenate(parts) for parts in zip(*both, strict=True))
        for kind, keep in (("all", np.ones(len(one), bool)), ("judged", judged)):
            known = keep & (one >= 0) & (other >= 0)
            rows.append(
                {"first": first.reader, "second": second.reader, "nuclei": kind}
                | _kappa(one[known], other[known])
            )
    return rows


def _kappa(one: Codes, other: Codes) -> Row:
    found = cohens_kappa([CLASSES[k] for k in one], [CLASSES[k] for k in other], categories=CLASSES)
    same = 100 * float((one == other).mean()) if len(one) else math.nan
    return {
        "n": len(one),
        "agree_percent": same,
        "kappa": found.estimate,
        "kappa_low": found.low,
        "kappa_high": found.high,
        "reason": found.reason,
    }


def _paired(
    first: Reading, second: Reading, slide_id: str
) -> tuple[Codes, Codes, npt.NDArray[np.bool_]]:
    """Class of every nucleus for either, -1 where one left it out, and which were judged by hand.

    The program's nuclei are the same rows for both; added ones are paired by place, and whoever
    did not add one holds that there is no nucleus.
    """
    tables_of = [cast(pd.DataFrame, r.measured[slide_id].nuclei) for r in (first, second)]
    readers = [t for t, r in zip(tables_of, (first, second), strict=True) if r.reader != PROGRAM]
    n = int(min((~_added(t)).sum() for t in tables_of))
    by_hand = np.logical_and.reduce([_reviewed(t)[:n] for t in readers])
    mine, theirs = _pair_added(*(t.iloc[n:] for t in tables_of))
    alone = (mine == _NONE) | (theirs == _NONE)
    judged = np.concatenate([by_hand, ~alone if len(readers) == 2 else np.ones(len(mine), bool)])
    one, other = (_classes(t)[:n] for t in tables_of)
    return np.concatenate([one, mine]), np.concatenate([other, theirs]), judged


def _pair_added(one: pd.DataFrame, other: pd.DataFrame) -> tuple[Codes, Codes]:
    mine, theirs = _classes(one), _classes(other)
    partner = np.full(len(one), -1)
    if len(one) and len(other):
        tree = cKDTree(other[["y_um", "x_um"]].to_numpy(np.float64))
        distance, row = tree.query(
            one[["y_um", "x_um"]].to_numpy(np.float64), distance_upper_bound=MATCH_UM
        )
        partner = np.where(np.isfinite(distance), row, -1)
    alone = np.setdiff1d(np.arange(len(other)), partner)
    answer = np.where(partner >= 0, np.append(theirs, _NONE)[partner], _NONE)
    return (
        np.concatenate([mine, np.full(len(alone), _NONE)]),
        np.concatenate([answer, theirs[alone]]),
    )


def _classes(nuclei: pd.DataFrame) -> Codes:
    """Index into `CLASSES`; -1 for a nucleus that is left out for its place."""
    positive = nuclei["positive"].fillna(False).to_numpy(bool)
    gone = (nuclei["exclusion_reason"] == NOT_A_NUCLEUS).to_numpy(bool)
    out = nuclei["excluded"].to_numpy(bool) & ~gone
    return np.select([out, gone, positive], [-1, 2, 1], 0).astype(np.int64)


def _reviewed(nuclei: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which nuclei a reader gave a class by hand."""
    said = _classes(nuclei) == _NONE
    if "reviewed_class" in nuclei:
        said = said | (nuclei["reviewed_class"].to_numpy(np.int64) >= 0)
    return np.asarray(said, np.bool_)


def _added(nuclei: pd.DataFrame) -> npt.NDArray[np.bool_]:
    if "added" not in nuclei:
        return np.zeros(len(nuclei), np.bool_)
    return nuclei["added"].to_numpy(np.bool_)


def _compare_samples(
    readings: Sequence[Reading],
    ledger: Sequence[Mapping[str, str]],
    outcomes: Mapping[str, Sequence[str]],
) -> tuple[list[Row], list[Row], dict[str, Drawing]]:
    table = _values(readings, ledger)
    rows: list[Row] = []
    drawings: dict[str, Drawing] = {}
    for marker, names in outcomes.items():
        for outcome in names:
            own = {
                r.reader: {k: v[outcome] for k, v in table[r.reader].items() if k[3] == marker}
                for r in readings
            }
            keys = sorted({key for values in own.values() for key in values})
            if not keys:
                continue
            read = {
                who: np.array([_number(values.get(key)) for key in keys])
                for who, values in own.items()
            }
            rows += _sample_rows(marker, outcome, read)
            drawings |= _drawings(marker, outcome, read)
    return rows, list(_value_rows(table, outcomes)), drawings


def _values(
    readings: Sequence[Reading], ledger: Sequence[Mapping[str, str]]
) -> dict[str, dict[tuple[str, ...], Row]]:
    """Reader -> sample -> its row of the marker table, from the slides that the reader read."""
    found: dict[str, dict[tuple[str, ...], Row]] = {}
    for reading in readings:
        sections = [_section(row, reading) for row in ledger if row["slide_id"] in reading.measured]
        rows = pooling.marker_rows(sections)
        found[reading.reader] = {
            (*(str(r[k]) for k in ("person", "site", "visit", "marker")), str(r["slides"])): r
            for r in rows
        }
    return found


def _section(row: Mapping[str, str], reading: Reading) -> pooling.Section:
    measured = reading.measured[row["slide_id"]]
    return pooling.Section(
        slide_id=row["slide_id"],
        marker=cast(Marker, row["marker"]),
        sample=row,
        summary=measured.summary,
        reasons=measured.reasons,
        junction=lambda: measured.bins,
        min_gap_um=reading.min_gap_um[row["slide_id"]],
    )


def _value_rows(
    table: Mapping[str, Mapping[tuple[str, ...], Row]], outcomes: Mapping[str, Sequence[str]]
) -> Iterator[Row]:
    for reader, samples in table.items():
        for (person, site, visit, marker, slides), row in samples.items():
            for outcome in outcomes.get(marker, ()):
                yield {
                    "marker": marker,
                    "outcome": outcome,
                    "person": person,
                    "site": site,
                    "visit": visit,
                    "slides": slides,
                    "reader": reader,
                    "value": row[outcome],
                }


def _sample_rows(marker: str, outcome: str, read: Mapping[str, Any]) -> Iterator[Row]:
    who = {"marker": marker, "outcome": outcome}
    readers = [name for name in read if name != PROGRAM]
    if len(readers) > 2:
        found = icc21(np.column_stack([read[name] for name in readers]))
        yield who | {"first": "all readers", "n": found.n, **_icc(found), "reason": found.reason}
    for first, second in combinations(read, 2):
        icc = icc21(np.column_stack([read[first], read[second]]))
        limits = bland_altman(read[first], read[second])
        reasons = dict.fromkeys(filter(None, (icc.reason, limits.bias.reason)))
        yield {
            **who,
            "first": first,
            "second": second,
            "n": limits.n,
            **_icc(icc),
            "bias": limits.bias.estimate,
            "bias_low": limits.bias.low,
            "bias_high": limits.bias.high,
            "sd": limits.sd,
            "lower_limit": limits.lower.estimate,
            "upper_limit": limits.upper.estimate,
            "reason": "; ".join(reasons),
        }


def _icc(found: Interval) -> Row:
    return {"icc21": found.estimate, "icc21_low": found.low, "icc21_high": found.high}


def _drawings(marker: str, outcome: str, read: Mapping[str, Any]) -> dict[str, Drawing]:
    """A Bland-Altman plot of each pair that has limits to draw."""
    unit = next(c.unit for c in tables.marker_columns() if c.name == outcome)
    made = {}
    for first, second in combinations(read, 2):
        both = np.isfinite(read[first]) & np.isfinite(read[second])
        one, other = read[first][both], read[second][both]
        found = bland_altman(one, other)
        if not math.isfinite(found.lower.low) or not found.sd > 0:
            continue
        name = f"{outcome}_{_safe(first)}_and_{_safe(second)}.svg"
        made[name] = _drawing(f"{marker}: {outcome}, {first} - {second}", unit, one, other, found)
    return made


def _drawing(
    title: str,
    unit: str,
    one: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    found: BlandAltman,
) -> Drawing:
    bias, lower, upper = (
        (line.estimate, line.low, line.high) for line in (found.bias, found.lower, found.upper)
    )
    text = f"{found.n} samples; bias and limits of agreement with 95 % intervals"
    return figures.bland_altman(title, unit, one, other, bias, (lower, upper), [text])


def _safe(reader: str) -> str:
    return reader if reader == PROGRAM else safe_name(reader)


def _number(value: object) -> float:
    return math.nan if tables.is_missing(value) else float(str(value))


def _write(found: Agreement) -> None:
    values = ("marker", "outcome", "person", "site", "visit", "slides", "reader", "value")
    with atomic.new_directory(found.directory) as new:
        for name, columns, rows in (
            ("per_nucleus.csv", NUCLEUS_COLUMNS, found.nuclei),
            ("per_sample.csv", SAMPLE_COLUMNS, found.samples),
            ("values.csv", values, found.values),
        ):
            (new / name).write_text(csv_text(columns, rows), encoding="utf-8")
        meanings = {"per_nucleus.csv": NUCLEUS_COLUMNS, "per_sample.csv": SAMPLE_COLUMNS}
        (new / "columns.json").write_text(to_json(meanings), encoding="utf-8")
        (new / "notes.txt").write_text("".join(f"{n}\n" for n in found.notes), encoding="utf-8")
        for name, drawing in found.drawings.items():
            (new / name).write_text(drawing.file(), encoding="utf-8")
