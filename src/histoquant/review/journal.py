"""The journal of one reviewer on one slide: appended to, never rewritten.

``review.jsonl`` in the slide's directory belongs to the first reviewer of the slide, any other
gets ``review-<reviewer>.jsonl``. Each line is one JSON object::

    {"format": 1, "n": 3, "at": "2026-01-31T09:12:44.120Z", "who": "anna", "slide": "P01_left",
     "kind": "set_class", "what": {...}, "before": {...}, "after": {...}, "slide_sha256": "...",
     "settings_sha256": "...", "version": "0.2.0"}

``kind`` is one of `edits.KINDS`, or ``undo`` and ``redo`` (``what`` names the line), or ``lock``.
A line is flushed to the disk before its edit takes effect. What crashes leave at the end of the
file is skipped and reported; the next line begins on a line of its own and says in
``after_damage`` how many bytes it follows, so that damage anybody else does to the file is told
from a crash. Blank lines mean nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from histoquant import __version__
from histoquant.errors import ReviewError
from histoquant.review.edits import KINDS, Edit, edit_from_json, edit_to_json

FORMAT = 1
FIRST = "review.jsonl"
UNDO, REDO, LOCK = "undo", "redo", "lock"
RESERVED = ("program", "all readers")
"""Names that tables of agreement give to other than reviewers."""
_REVIEWER = re.compile(r"[^\W_][\w .-]{0,59}")
_MISSHAPEN = (KeyError, TypeError, ValueError)
_ATTEMPTS, _PAUSE_S = 40, 0.05  # 2 s: a directory is replaced by two renames


@dataclass(frozen=True)
class Binding:
    """What every line says of the slide and the measurement it was made on.

    Attributes
    ----------
    slide
        Name of the slide as the reviewer sees it: a code where the review is blinded.
    slide_sha256, settings_sha256
        Fingerprints of the slide's file and of the settings it was measured with.
    """

    slide: str
    slide_sha256: str
    settings_sha256: str


@dataclass(frozen=True)
class Entry:
    """One line of a journal.

    Attributes
    ----------
    n
        Number of the line's record, from 1.
    edit
        None for undo, redo and lock.
    content
        All of the line.
    """

    n: int
    at: str
    who: str
    kind: str
    edit: Edit | None
    content: Mapping[str, Any] = field(repr=False)

    @property
    def target(self) -> int:
        """Number of the record that an undo or redo is about."""
        return int(self.content["what"]["n"])


@dataclass(frozen=True)
class Journal:
    """What a journal's file holds.

    Attributes
    ----------
    path
        The file, which need not be there yet.
    reviewer
        Whose it is.
    entries
        The records, in order.
    damage
        What is wrong with the file, in words; empty when nothing is.
    size
        Bytes of the file when it was read.
    loose
        Bytes of an unfinished last line; 0 without one.
    ends_open
        Whether the last line lacks its line feed.
    """

    path: Path
    reviewer: str
    entries: tuple[Entry, ...] = ()
    damage: str = ""
    size: int = 0
    loose: int = 0
    ends_open: bool = False

    @property
    def locked(self) -> bool:
        """Whether the review was locked: nothing may be added."""
        return any(entry.kind == LOCK for entry in self.entries)

    @property
    def begun(self) -> bool:
        """Whether the reviewer wrote anything: a lock alone is written by unblinding."""
        return any(entry.kind != LOCK for entry in self.entries)

    @property
    def active(self) -> tuple[Entry, ...]:
        """Edits that hold, in order: made, and not undone or done again."""
        held, _ = _fold(self.entries)
        return tuple(held)

    @property
    def undone(self) -> tuple[Entry, ...]:
        """Edits that can be done again, the next one last."""
        _, undone = _fold(self.entries)
        return tuple(undone)


class JournalWriter:
    """Appends to one reviewer's journal; each record is on the disk before `append` returns.

    The file is opened anew for each record, by its name: where a slide's directory is replaced
    while a review is open, the next record goes to the file in its new place. Two writers on one
    journal are kept apart by the lock of the session, and, where that fails, by the length of
    the file: a journal that grew by another hand is not appended to.
    """

    def __init__(self, journal: Journal, binding: Binding, *, closed: bool = False) -> None:
        self.journal, self._closed = journal, closed
        self._binding = binding

    @property
    def closed(self) -> bool:
        """Whether nothing may be added: the review was unblinded."""
        return self._closed or self.journal.locked

    def lock(self) -> Entry:
        """Write the record after which nothing may be added, with the hash of all before it."""
        content = self.journal.path.read_bytes() if self.journal.path.exists() else b""
        digest = hashlib.sha256(content).hexdigest()
        return self.append(LOCK, {"bytes": len(content), "sha256": digest})

    def append(
        self,
        kind: str,
        what: Mapping[str, Any],
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Write one record.

        Raises
        ------
        ReviewError
            When it could not be written whole (nothing has changed then), the review is locked,
            or somebody else wrote to the journal.
        """
        journal = self.journal
        if self.closed:
            raise ReviewError(
                f"the review of {self._binding.slide} by {journal.reviewer} is locked since it "
                "was unblinded: its edits cannot be changed"
            )
        n = journal.entries[-1].n + 1 if journal.entries else 1
        record: dict[str, Any] = {
            "format": FORMAT,
            "n": n,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "who": journal.reviewer,
            "slide": self._binding.slide,
            "kind": kind,
            "what": dict(what),
            "before": dict(before or {}),
            "after": dict(after or {}),
            "slide_sha256": self._binding.slide_sha256,
            "settings_sha256": self._binding.settings_sha256,
            "version": __version__,
        }
        if journal.loose:
            record["after_damage"] = journal.loose
        size = self._write(record)
        entry = _entry(record)
        entries = (*journal.entries, entry)
        self.journal = Journal(journal.path, journal.reviewer, entries, size=size)
        return entry

    def append_edit(self, edit: Edit, before: Mapping[str, Any], after: Mapping[str, Any]) -> Entry:
        """Write one edit."""
        return self.append(edit.kind, edit_to_json(edit), before, after)

    def _write(self, record: Mapping[str, Any]) -> int:
        """Append a line, in whichever place the file is by now; its length after that."""
        try:
            for _ in range(_ATTEMPTS):
                size = self._write_once(record)
                if size is not None:
                    return size
                time.sleep(_PAUSE_S)
        except OSError as error:
            raise ReviewError(
                f"the edit was not saved: {error.strerror or error} ({self.journal.path.name}). "
                "Nothing has changed; make the edit again when the disk can be written"
            ) from None
        raise ReviewError(
            "the edit was not saved: the slide's directory is gone, or was replaced again and "
            "again. Nothing has changed; make the edit again"
        )

    def _write_once(self, record: Mapping[str, Any]) -> int | None:
        """Append and flush; None when the directory is being replaced just now."""
        journal = self.journal
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        content = ("\n" if journal.ends_open else "").encode() + line.encode("utf-8")
        try:
            file = journal.path.open("ab", buffering=0)
        except FileNotFoundError:
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            if size != journal.size:
                raise ReviewError(
                    f"{journal.path.name} was changed by another program or person since it was "
                    f"read ({journal.size} bytes then, {size} now): open the slide again"
                )
            _append_whole(file, content, size)
            after = size + len(content)
            return after if _is_in_place(file.fileno(), journal.path) else None


def find_journals(directory: Path) -> dict[str, Path]:
    """Reviewer -> journal of the slide in `directory`, by what the files say of themselves.

    Raises
    ------
    ReviewError
        When two files are by one reviewer, or one cannot be read.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.glob("review*.jsonl")):
        who = _owner(path)
        if who is None:
            continue
        if who in found:
            raise ReviewError(
                f"{directory.name}: {found[who].name} and {path.name} are both by {who}: put the "
                "one that is not wanted elsewhere"
            )
        found[who] = path
    return found


def journal_path(directory: Path, reviewer: str) -> Path:
    """Where the journal of `reviewer` lies or will lie.

    Raises
    ------
    ReviewError
        When the name cannot be that of a reviewer.
    """
    check_reviewer(reviewer)
    existing = find_journals(directory).get(reviewer)
    if existing is not None:
        return existing
    first = directory / FIRST
    if not first.exists() or _owner(first) is None:
        return first
    safe = re.sub(r"[^a-z0-9]+", "_", reviewer.casefold()).strip("_") or "reviewer"
    if safe != reviewer:
        safe += "_" + hashlib.sha256(reviewer.encode()).hexdigest()[:8]
    return directory / f"review-{safe}.jsonl"


def check_reviewer(reviewer: str) -> None:
    """Refuse what is no name: it goes into every line and, in part, into a file name."""
    if not _REVIEWER.fullmatch(reviewer):
        raise ReviewError(
            f"{reviewer!r} is no name for a reviewer: letters, digits, space, dot, hyphen and "
            "underscore, at most 60, beginning with a letter or digit"
        )
    if reviewer.casefold() in RESERVED:
        raise ReviewError(
            f"{reviewer!r} is no name for a reviewer: tables of agreement call other things so"
        )


def read_journal(path: Path, reviewer: str, slide_sha256: str = "") -> Journal:
    """Read a journal; one that is not there is empty.

    Parameters
    ----------
    slide_sha256
        Fingerprint that every line must have; not checked when empty.

    Raises
    ------
    ReviewError
        For a line that is damaged other than by a crash, was made on another slide, by a newer
        version, or contradicts the lines before it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Journal(path, reviewer)
    except OSError as error:
        raise ReviewError(f"cannot read {path.name}: {error.strerror or error}") from None
    entries: list[Entry] = []
    damage, loose = "", 0
    for number, record, size in _records(content, path):
        if record is None:
            loose = size
            damage = (
                f"{path.name}: the last line ({loose} bytes) is unfinished, as after a crash or "
                "a full disk; its edit is not there. Everything before it is whole"
            )
            break
        _check_record(record, number, path, reviewer, slide_sha256, len(entries) + 1)
        try:
            entries.append(_entry(record))
        except (ReviewError, ArithmeticError, *_MISSHAPEN) as error:
            raise ReviewError(f"{path.name}, line {number}: {_words(error)}") from None
    try:
        _fold(tuple(entries))
        for entry in entries:
            if entry.kind == LOCK:
                _check_lock(entry, entry is entries[-1], content, path)
    except _MISSHAPEN as error:
        raise ReviewError(f"{path.name}, a lock: {_words(error)}") from None
    ends_open = bool(content) and not content.endswith(b"\n")
    return Journal(path, reviewer, tuple(entries), damage, len(content), loose, ends_open)


def _check_lock(entry: Entry, last: bool, content: bytes, path: Path) -> None:
    """Refuse a journal that was changed after it was locked."""
    what = entry.content["what"]
    before = hashlib.sha256(content[: int(what["bytes"])]).hexdigest()
    if not last or before != what["sha256"]:
        raise ReviewError(
            f"{path.name} was changed after it was locked at {entry.at}: put back a copy from then"
        )


def _records(content: bytes, path: Path) -> Iterator[tuple[int, dict[str, Any] | None, int]]:
    """Line number and record of every line; None for an unfinished end, with its size.

    Damaged lines are passed over where the record after them says that it follows them.
    """
    lines = content.split(b"\n")
    complete = lines[-1] == b""
    records = [_parse(line) for line in lines]
    if not complete:
        records[-1] = None  # it may be whole, but nobody was told that it was saved
    passed: set[int] = set()
    for place, record in enumerate(records):
        if record is not None and isinstance(record.get("after_damage"), int):
            passed.update(_damage_before(lines, place, record["after_damage"]))
    end = len(lines)
    while end and records[end - 1] is None:  # blank, or what one crash or several left
        end -= 1
    for place, (line, record) in enumerate(zip(lines[:end], records, strict=False)):
        if place in passed or not line.strip():
            continue
        if record is None:
            raise ReviewError(
                f"{path.name}, line {place + 1} is damaged, and not by a crash: edits may be "
                "lost. Put back a copy from before, or remove the line if you know what it was"
            )
        yield place + 1, record, len(line)
    left = b"\n".join(lines[end:]).strip(b"\n")
    if left.strip():
        yield end + 1, None, len(left)


def _damage_before(lines: Sequence[bytes], place: int, size: int) -> range:
    """The lines before `place` that have `size` bytes together; none where no such lines end."""
    for first in range(place - 1, -1, -1):
        found = len(b"\n".join(lines[first:place]).strip(b"\n"))
        if found >= size:
            return range(first, place) if found == size else range(0)
    return range(0)


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _check_record(
    record: Mapping[str, Any],
    number: int,
    path: Path,
    reviewer: str,
    slide_sha256: str,
    expected: int,
) -> None:
    where = f"{path.name}, line {number}"
    version = record.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise ReviewError(
            f"{where} has format {version!r}, this version of histoquant reads {FORMAT}: update "
            "histoquant"
        )
    if record.get("who") != reviewer:
        raise ReviewError(f"{where} is by {record.get('who')!r}, the lines before by {reviewer!r}")
    if slide_sha256 and record.get("slide_sha256") != slide_sha256:
        raise ReviewError(
            f"{where} was made on another slide: its fingerprint is "
            f"{str(record.get('slide_sha256'))[:12]}..., this slide's {slide_sha256[:12]}... No "
            "edit is applied. Was the journal copied here, or the slide's file replaced?"
        )
    if record.get("n") != expected:
        raise ReviewError(
            f"{where} is number {record.get('n')!r}, {expected} was due: a line is missing or "
            "two programs wrote to the journal"
        )


def _entry(record: Mapping[str, Any]) -> Entry:
    kind, what = str(record["kind"]), record["what"]
    if not isinstance(what, Mapping):
        raise ReviewError(f"what was done is {what!r}, an object with fields was due")
    edit = None if kind in (UNDO, REDO, LOCK) else edit_from_json(kind, what)
    if kind in (UNDO, REDO):
        int(what["n"])
    return Entry(int(record["n"]), str(record["at"]), str(record["who"]), kind, edit, record)


def _fold(entries: tuple[Entry, ...]) -> tuple[list[Entry], list[Entry]]:
    """Edits that hold, and undone ones that can be done again."""
    held: list[Entry] = []
    undone: list[Entry] = []
    for entry in entries:
        if entry.kind in KINDS:
            held.append(entry)
            undone.clear()
        elif entry.kind == UNDO:
            _move(held, undone, entry)
        elif entry.kind == REDO:
            _move(undone, held, entry)
    return held, undone


def _move(source: list[Entry], to: list[Entry], entry: Entry) -> None:
    if not source or source[-1].n != entry.target:
        last = source[-1].n if source else "none"
        raise ReviewError(
            f"record {entry.n} takes record {entry.target} for the {entry.kind}, {last} was due: "
            "the journal contradicts itself"
        )
    to.append(source.pop())


def _owner(path: Path) -> str | None:
    """Who wrote the first whole line; None for a journal without any."""
    try:
        with path.open("rb") as file:
            for line in file:
                record = _parse(line)
                if record is not None and isinstance(record.get("who"), str):
                    return str(record["who"])
    except OSError as error:
        raise ReviewError(f"cannot read {path.name}: {error.strerror or error}") from None
    return None


def _append_whole(file: io.FileIO, content: bytes, size: int) -> None:
    """Append all of `content` and flush it, or leave the file as it was."""
    try:
        written = 0
        while written < len(content):
            written += file.write(content[written:])
        os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):  # our own unfinished line only
            file.truncate(size)
            os.fsync(file.fileno())
        raise


def _is_in_place(descriptor: int, path: Path) -> bool:
    """Whether what was written to an open file is in the file that has its name by now."""
    here = os.fstat(descriptor)
    for _ in range(_ATTEMPTS):
        try:
            there = path.stat()
        except FileNotFoundError:  # between the two renames that replace a directory
            time.sleep(_PAUSE_S)
            continue
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
    return False


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ReviewError) else f"{error!r} is missing or wrong"
