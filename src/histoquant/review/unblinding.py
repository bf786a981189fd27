"""Unblinding: the review is locked first, then the code names are opened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from histoquant.errors import ReviewError
from histoquant.results import automatic_place, read_record
from histoquant.review import blinding
from histoquant.review.journal import (
    LOCK,
    Binding,
    Journal,
    JournalWriter,
    journal_path,
    read_journal,
)
from histoquant.rundir import RunDirectory, now


@dataclass(frozen=True)
class Unblinded:
    """What unblinding left.

    Attributes
    ----------
    path
        ``blinding/<reviewer>.csv``: what each code stands for, and the hash of each journal.
    rows
        Its rows.
    """

    path: Path
    rows: tuple[dict[str, object], ...]


def unblind(directory: Path | str, reviewer: str) -> Unblinded:
    """Lock the journals of a blinded reviewer, then say which code is which slide.

    Doing it again changes nothing. A journal that was changed after it was locked is refused
    from then on.

    Raises
    ------
    ReviewError
        When the reviewer's review is not blinded, a slide of it is open, or a journal cannot be
        read or written; what could be locked stays locked, and no name is given away.
    """
    run = RunDirectory(directory)
    run.done()
    key = blinding.read_key(run.path, reviewer)
    if key is None:
        raise ReviewError(f"the review by {reviewer} in {run.path} is not blinded")
    rows = []
    with run.locked("unblinding"):
        for slide_id, code in sorted(key.codes.items(), key=lambda item: item[1]):
            journal = _lock_journal(run, slide_id, code, reviewer)
            rows.append(_row(code, slide_id, journal))
        try:
            if not key.unblinded:
                blinding.write_key(replace(key, unblinded=now()))
            path = blinding.write_opened(key, rows)
        except OSError as error:
            raise ReviewError(f"the key cannot be written: {error}") from None
    return Unblinded(path, tuple(rows))


def _lock_journal(run: RunDirectory, slide_id: str, code: str, reviewer: str) -> Journal | None:
    """The reviewer's journal of a slide, locked; None where there is no result to review.

    A slide without a journal gets one that holds the lock alone: it may be open in a window that
    has written nothing yet.
    """
    place = run.slide(slide_id)
    try:
        with blinding.slide_lock(run.path, slide_id, reviewer):
            record = read_record(automatic_place(place)) if place.exists() else None
            path = journal_path(place, reviewer)
            if record is None and not path.exists():
                return None
            summary = (record or {}).get("summary", {})
            binding = Binding(
                code, str(summary.get("slide_sha256")), str(summary.get("settings_sha256"))
            )
            journal = read_journal(path, reviewer)
            if journal.locked:
                return journal
            writer = JournalWriter(journal, binding)
            writer.lock()
            return writer.journal
    except ReviewError as error:
        raise ReviewError(f"{code} cannot be locked, nothing is unblinded: {error}") from None
    except OSError as error:
        why = error.strerror or error
        raise ReviewError(f"{code} cannot be locked, nothing is unblinded: {why}") from None


def _row(code: str, slide_id: str, journal: Journal | None) -> dict[str, object]:
    row: dict[str, object] = {"code": code, "slide": slide_id, "edits": 0}
    if journal is None:
        return row
    lock = next(entry for entry in journal.entries if entry.kind == LOCK)
    return row | {
        "edits": len(journal.active),
        "journal": journal.path.name,
        "sha256": lock.content["what"]["sha256"],
    }
