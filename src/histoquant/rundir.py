"""A results directory: its locks, its ledger, and the tables made from what is on disk."""

from __future__ import annotations

import csv
import errno
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from histoquant import atomic, runlock, tables
from histoquant.errors import ResultError
from histoquant.manifest import Entry
from histoquant.results import (
    AUTOMATIC,
    JOURNALS,
    LACKING,
    REJECTED,
    csv_text,
    read_record,
    standing,
    to_json,
)
from histoquant.settings import Collagen7Settings, Marker

if TYPE_CHECKING:
    from histoquant.drift import Stain

Status = Literal["done", "failed", "excluded", "pending"]
STATUSES: tuple[Status, ...] = ("done", "failed", "excluded", "pending")

SHARDS = "shards"
"""Folder of what shards of a run leave until the tables are made."""

CHOICE = "review.json"
"""Which reviewer's edits the tables rest on, and whether every slide has them."""

_TABLES_S = 60.0
_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

_LEDGER = tuple(c.name for c in tables.LEDGER)
_ENTRY_FIELDS = (
    "slide",
    "slide_id",
    "marker",
    "person",
    "site",
    "visit",
    "section",
    "batch",
    "control",
    "mpp",
    "stains",
    "nuclear_slide",
    "resolved_path",
)


class Ledger:
    """Every slide received and its fate; the file follows each change, atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """The ledger at `path`, empty when there is none.

        Raises
        ------
        ResultError
            When the file is there and is not a ledger.
        """
        ledger = cls(path)
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (FileNotFoundError, NotADirectoryError):
            return ledger
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ResultError(f"cannot read the ledger {path}: {error}") from None
        if any(row.get("status") not in STATUSES for row in rows):
            raise ResultError(f"{path} is not a ledger of histoquant: a status is unknown")
        ledger.rows = [{name: row.get(name) or "" for name in _LEDGER} for row in rows]
        return ledger

    def record(
        self, entry: Entry, status: Status, reason: str = "", seconds: float | None = None
    ) -> None:
        """Set the fate of `entry`, which gets a row if it has none. `save` writes it."""
        row = {name: str(getattr(entry, name)) for name in _ENTRY_FIELDS}
        row |= {
            "row": str(entry.row) if entry.row else "",
            "status": status,
            "reason": reason,
            "seconds": "" if seconds is None else f"{seconds:.1f}",
        }
        for old in self.rows:
            if (old["slide_id"], old["row"]) == (row["slide_id"], row["row"]):
                old.update(row)
                return
        self.rows.append(row)

    def exclude_others(self, rows: Iterable[Mapping[str, str]]) -> None:
        """Take over `rows` of slides that are not in this ledger, as excluded."""
        present = {row["slide_id"] for row in self.rows}
        for row in rows:
            if row["slide_id"] not in present:
                excluded = {"status": "excluded", "reason": "not in the manifest"}
                self.rows.append({**row, **excluded})

    def save(self) -> None:
        """Write the ledger; readers see the old one or the new one."""
        atomic.write_text(self.path, csv_text(_LEDGER, self.rows))

    def count(self, status: Status) -> int:
        """How many slides have the fate `status`."""
        return sum(row["status"] == status for row in self.rows)


class RunDirectory:
    """``DIR``: where things lie in it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.slides = self.path / "slides"
        self.ledger_path = self.path / "ledger.csv"
        self.lock: runlock.Lock | None = None

    def slide(self, slide_id: str) -> Path:
        """Directory of one slide."""
        return self.slides / slide_id

    def check_lock(self) -> None:
        """Make sure that the directory is still ours, if it is held; see `runlock.Lock.check`."""
        if self.lock is not None:
            self.lock.check()

    def ledger(self) -> Ledger:
        """The ledger as it is on disk."""
        return Ledger.read(self.ledger_path)

    @contextmanager
    def locked(self, what: str = "a run", *, beside_shards: bool = False) -> Iterator[runlock.Lock]:
        """Hold the directory against a second run.

        Parameters
        ----------
        what
            What holds it, as others are told.
        beside_shards
            Whether shards of a run may be at work meanwhile, as for making tables.

        Raises
        ------
        ResultError
            When another run holds it, or it cannot be written.
        """
        with self._writable(), runlock.held(self.path / ".lock", what) as lock:
            others = self.shards_at_work()
            if others and not beside_shards:
                raise ResultError(runlock.in_use(self.path / SHARDS, others[0]))
            if not others:  # nobody is replacing a directory now: what is half done, died
                self._recover()
            self.lock = lock
            try:
                yield lock
            finally:
                self.lock = None

    def _recover(self) -> None:
        """Bring back slides whose directory a process was replacing when it died."""
        for leftover in list(self.slides.glob(".*~old~*")):
            slide_id = leftover.name[1:].rpartition("~old~")[0]
            atomic.recover(self.slide(slide_id), JOURNALS)

    @contextmanager
    def locked_for_shard(self, number: int, of: int) -> Iterator[runlock.Lock]:
        """Hold one shard of `of`; the others may be held by others.

        Raises
        ------
        ResultError
            When the shard is held, a run that is no shard holds the directory, shards of
            another division are at work, or it cannot be written.
        """
        name, folder = _shard_name(number, of), self.path / SHARDS
        with self._writable():
            folder.mkdir(exist_ok=True)
            with runlock.held(folder / f"{name}.lock", f"shard {number} of {of}") as lock:
                # Our lock is there: who comes now sees it. Now see who was there before.
                for other in self.shards_at_work():
                    if other.get("what", "").rpartition(" ")[2] != str(of):
                        raise ResultError(runlock.in_use(folder, other))
                self._wait_for_tables()
                lock.check()
                yield lock

    def shards_at_work(self) -> list[runlock.Holder]:
        """Who holds shards of the directory now."""
        locks = sorted((self.path / SHARDS).glob("*.lock"))
        return [found for lock in locks if (found := runlock.holder(lock)) is not None]

    def _wait_for_tables(self) -> None:
        """Wait until nobody holds the whole directory; making tables takes a moment only."""
        deadline = time.monotonic() + _TABLES_S
        while other := runlock.holder(self.path / ".lock"):
            if time.monotonic() >= deadline:
                raise ResultError(runlock.in_use(self.path / ".lock", other))
            time.sleep(0.2)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Make the directory; a disk that cannot be written to becomes a `ResultError`."""
        made = False
        try:
            self.slides.mkdir(parents=True, exist_ok=True)
            made = True
            yield
        except OSError as error:
            if made and error.errno not in _UNWRITABLE:
                raise
            reason = error.strerror or str(error)
            raise ResultError(
                f"cannot write results to {self.path}: {reason}. What is finished there is kept; "
                "the same command goes on where it stopped"
            ) from error

    def write_run(self, content: Mapping[str, object]) -> None:
        """Write ``run.json`` and ``columns.json``."""
        atomic.write_text(self.path / "columns.json", to_json(tables.columns_json()))
        atomic.write_text(self.path / "run.json", to_json(content))

    def read_run(self) -> dict[str, Any]:
        """Content of ``run.json``, empty when there is none."""
        return read_record(self.path, "run.json") or {}

    def write_tables(self) -> list[dict[str, object]]:
        """Write ``markers.csv`` and ``.parquet``, ``sweep.csv`` and ``drift.csv`` from the slides.

        Returns the rows of ``markers.csv``. ``sweep.csv`` is there when a slide has a sweep,
        ``drift.csv`` when the manifest names staining batches, and ``markers_automatic.csv``, the
        table as it was before any review, when a slide was reviewed.

        Raises
        ------
        ResultError
            When the directory has no ledger, a slide that is done has no result, or slides hold
            edits of other reviewers than the one who was chosen.
        """
        from histoquant import pooling

        self._check_review()
        self._settle_verdicts()
        rows = self.marker_rows()
        atomic.write_text(self.path / "markers.csv", pooling.marker_csv(rows))
        self._write_automatic()
        parquet = pooling.marker_frame(rows).to_parquet(index=False)
        atomic.write_bytes(self.path / "markers.parquet", parquet)
        self._write_sweep()
        self._write_drift()
        atomic.write_text(self.path / "columns.json", to_json(tables.columns_json()))
        return rows

    def marker_rows(self, *, automatic: bool = False) -> list[dict[str, object]]:
        """Rows of the marker table from the slides on disk; nothing is written.

        Parameters
        ----------
        automatic
            Whether to take every slide as it was before any review, rejected ones too.

        Raises
        ------
        ResultError
            When the directory has no ledger, or a slide that is done has no complete result.
        """
        from histoquant import pooling

        try:
            return pooling.marker_rows(self._sections(automatic))
        except FileNotFoundError as error:
            raise ResultError(
                f"{error.filename or error} is missing, and the sections of a sample cannot be "
                "pooled without it: copy the whole results directory, or run `histoquant batch` "
                "(or quantify) again"
            ) from None

    def _write_automatic(self) -> None:
        """Write ``markers_automatic.csv`` where a slide was reviewed, and remove it elsewhere."""
        from histoquant import pooling

        path = self.path / "markers_automatic.csv"
        if any((self.slide(row["slide_id"]) / AUTOMATIC).exists() for row in self.measured()):
            atomic.write_text(path, pooling.marker_csv(self.marker_rows(automatic=True)))
        else:
            path.unlink(missing_ok=True)

    def _check_review(self) -> None:
        """Refuse to pool slides that hold different reviewers' edits, as a stop leaves them."""
        choice = read_record(self.path, CHOICE) or {}
        records = (read_record(self.slide(row["slide_id"])) or {} for row in self.measured())
        found = {str(r["review"]["reviewer"]) for r in records if r.get("review")}
        chosen = choice.get("reviewer")
        mixed = len(found | ({chosen} if chosen else set())) > 1
        if mixed or not choice.get("complete", True):
            raise ResultError(
                f"the slides in {self.path} do not all hold the edits of one reviewer "
                f"({', '.join(sorted(found)) or 'none'} by now, {chosen or 'nobody'} was chosen): "
                "`histoquant remeasure` was stopped, or slides were copied here. Run `histoquant "
                f"remeasure {self.path} --reviewer {chosen or 'NAME'}`, which makes the tables"
            )

    def _settle_verdicts(self) -> None:
        """Have the ledger say what became of measured slides by now; see `results.standing`.

        A review rejects slides and takes that back; it draws an epidermis that was not found.

        Raises
        ------
        ResultError
            When the directory has no ledger.
        """
        self.done()
        ledger = self.ledger()
        for row in ledger.rows:
            settled = row["reason"].startswith((REJECTED, LACKING))
            if row["status"] != "done" and not settled:
                continue
            record = read_record(self.slide(row["slide_id"]))
            if record is None:
                if row["status"] != "done":
                    row |= {"status": "pending", "reason": "its result was removed", "seconds": ""}
                continue
            status, why = standing(record, row)
            row["status"] = status
            noted = bool(why) and row["reason"].startswith(why)  # with what else was to tell
            if (settled or status != "done") and not noted:
                row["reason"] = why
        if ledger.rows != self.ledger().rows:
            ledger.save()

    def measured(self) -> list[dict[str, str]]:
        """Rows of the ledger whose slides have a result, whatever it or a reviewer says."""
        told = (REJECTED, LACKING)
        return [
            row
            for row in self.ledger().rows
            if row["status"] == "done" or row["reason"].startswith(told)
        ]

    def _write_sweep(self) -> None:
        from histoquant.sweep import pool_sweeps

        records = ((row, read_record(self.slide(row["slide_id"])) or {}) for row in self.done())
        sweeps = [
            (row, record.get("provenance", {}).get("threshold_sweep", []))
            for row, record in records
        ]
        if not any(sweep for _, sweep in sweeps):
            (self.path / "sweep.csv").unlink(missing_ok=True)
            return
        rows = pool_sweeps(sweeps).to_dict("records")
        named = [{str(name): value for name, value in row.items()} for row in rows]
        text = csv_text((c.name for c in tables.SAMPLE_SWEEP), named)
        atomic.write_text(self.path / "sweep.csv", text)

    def stains(self) -> list[Stain]:
        """How strongly each slide that is done, and has a staining batch, took its stains."""
        from histoquant.drift import slide_stain

        rows = [row for row in self.done() if row["batch"]]
        records = [(row, read_record(self.slide(row["slide_id"]))) for row in rows]
        return [
            slide_stain(row, record["summary"], self.slide(row["slide_id"]))
            for row, record in records
            if record is not None
        ]

    def _write_drift(self) -> None:
        from histoquant.drift import drift_rows

        rows = drift_rows(self.stains())
        path = self.path / "drift.csv"
        if rows:
            atomic.write_text(path, csv_text((c.name for c in tables.DRIFT), rows))
        else:
            path.unlink(missing_ok=True)

    def done(self) -> list[dict[str, str]]:
        """Rows of the ledger whose slides are done.

        Raises
        ------
        ResultError
            When the directory has no ledger.
        """
        if not self.ledger_path.exists():
            raise ResultError(
                f"{self.path} is no results directory: it has no ledger.csv. "
                "`histoquant batch` or `histoquant quantify` makes one"
            )
        return [row for row in self.ledger().rows if row["status"] == "done"]

    def has_result(self, slide_id: str) -> bool:
        """Whether the slide has a complete result."""
        return read_record(self.slide(slide_id)) is not None

    def _sections(self, automatic: bool = False) -> list[Any]:
        from histoquant.pooling import Section

        sections = []
        rows = self.done()
        for row in self.measured() if automatic else rows:
            directory = self.slide(row["slide_id"])
            if automatic and (directory / AUTOMATIC).exists():
                directory /= AUTOMATIC
            record = read_record(directory)
            if record is None:
                raise ResultError(
                    f"the ledger says that {row['slide_id']} is done, but {directory} holds no "
                    "complete result: run `histoquant batch` (or quantify) again"
                )
            if automatic and standing(record, row)[0] == "failed":
                continue
            sections.append(
                Section(
                    slide_id=row["slide_id"],
                    marker=cast(Marker, row["marker"]),
                    sample=row,
                    summary=record["summary"],
                    reasons=record["reasons"],
                    junction=partial(pd.read_parquet, directory / "junction.parquet"),
                    min_gap_um=_min_gap_um(record),
                )
            )
        return sections


def _min_gap_um(record: Mapping[str, Any]) -> float:
    given = record.get("provenance", {}).get("settings", {}).get("collagen7", {}).get("min_gap_um")
    return Collagen7Settings().min_gap_um if given is None else float(given)


def _shard_name(number: int, of: int) -> str:
    return f"{number:0{len(str(of))}}-of-{of}"


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
