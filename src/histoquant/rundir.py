"""A results directory: its lock, its ledger, and the tables made from what is on disk."""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pandas as pd

from histoquant import atomic, tables
from histoquant.errors import ResultError
from histoquant.manifest import Entry
from histoquant.results import csv_text, read_record, to_json
from histoquant.settings import Collagen7Settings, Marker

if TYPE_CHECKING:
    from histoquant.drift import Stain

Status = Literal["done", "failed", "excluded", "pending"]
STATUSES: tuple[Status, ...] = ("done", "failed", "excluded", "pending")

_HELD: set[Path] = set()
"""Locks of this process: a lock with our process number that is not here is an older process's."""

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

    def slide(self, slide_id: str) -> Path:
        """Directory of one slide."""
        return self.slides / slide_id

    def ledger(self) -> Ledger:
        """The ledger as it is on disk."""
        return Ledger.read(self.ledger_path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory against a second run.

        Raises
        ------
        ResultError
            When another run holds it, or it cannot be written.
        """
        lock = self.path / ".lock"
        try:
            self.slides.mkdir(parents=True, exist_ok=True)
            _take_lock(lock)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ResultError(f"cannot write results to {self.path}: {reason}") from None
        _HELD.add(lock)
        try:
            yield
        finally:
            _HELD.discard(lock)
            with suppress(OSError):
                lock.unlink(missing_ok=True)

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
        ``drift.csv`` when the manifest names staining batches.

        Raises
        ------
        ResultError
            When the directory has no ledger, or a slide that is done has no result.
        """
        from histoquant import pooling

        rows = self.marker_rows()
        atomic.write_text(self.path / "markers.csv", pooling.marker_csv(rows))
        parquet = pooling.marker_frame(rows).to_parquet(index=False)
        atomic.write_bytes(self.path / "markers.parquet", parquet)
        self._write_sweep()
        self._write_drift()
        atomic.write_text(self.path / "columns.json", to_json(tables.columns_json()))
        return rows

    def marker_rows(self) -> list[dict[str, object]]:
        """Rows of the marker table from the slides on disk; nothing is written.

        Raises
        ------
        ResultError
            When the directory has no ledger, or a slide that is done has no complete result.
        """
        from histoquant import pooling

        try:
            return pooling.marker_rows(self._sections())
        except FileNotFoundError as error:
            raise ResultError(
                f"{error.filename or error} is missing, and the sections of a sample cannot be "
                "pooled without it: copy the whole results directory, or run `histoquant batch` "
                "(or quantify) again"
            ) from None

    def _write_sweep(self) -> None:
        from histoquant.sweep import pool_sweeps

        records = ((row, read_record(self.slide(row["slide_id"])) or {}) for row in self.done())
        sweeps = [
            (row, record.get("provenance", {}).get("threshold_sweep", []))
            for row, record in records
        ]
        if not any(sweep for _, sweep in sweeps):
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
        if rows:
            text = csv_text((c.name for c in tables.DRIFT), rows)
            atomic.write_text(self.path / "drift.csv", text)

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

    def _sections(self) -> list[Any]:
        from histoquant.pooling import Section

        sections = []
        for row in self.done():
            directory = self.slide(row["slide_id"])
            record = read_record(directory)
            if record is None:
                raise ResultError(
                    f"the ledger says that {row['slide_id']} is done, but {directory} holds no "
                    "complete result: run `histoquant batch` (or quantify) again"
                )
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


def now() -> str:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _take_lock(lock: Path) -> None:
    """Create the lock file, taking the place of one whose process is gone."""
    content = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now()})
    for _ in range(2):
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _remove_if_stale(lock)
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        return
    raise ResultError(f"another run has just taken {lock.parent}; wait for it to end")


def _remove_if_stale(lock: Path) -> None:
    """Remove the lock of a process of this host that is gone; raise when it may be alive."""
    holder = read_record(lock.parent, lock.name) or {}
    host, pid = holder.get("host", "an unknown host"), holder.get("pid")
    if host == socket.gethostname() and lock not in _HELD and not _is_alive(pid):
        lock.unlink(missing_ok=True)
        return
    raise ResultError(
        f"{lock.parent} is in use by process {pid} on {host} since {holder.get('since', '?')}. "
        f"If that run is gone, remove {lock}"
    )


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
