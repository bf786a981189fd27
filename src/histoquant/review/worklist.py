"""A results directory under review by one person: its worklist, and its slides one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from histoquant.errors import HistoquantError, ReviewError
from histoquant.results import REJECTED, automatic_place, read_record
from histoquant.review import blinding
from histoquant.review.doubt import Doubt, doubt_of
from histoquant.review.journal import (
    Binding,
    Journal,
    JournalWriter,
    check_reviewer,
    find_journals,
    journal_path,
    read_journal,
)
from histoquant.review.measuring import EditedSlide, count_edits
from histoquant.review.pixels import open_pixels
from histoquant.review.session import SlideReview, verdict_of
from histoquant.review.store import read_automatic
from histoquant.rundir import RunDirectory

if TYPE_CHECKING:
    from histoquant.review.remeasuring import SlideReport

Row = Mapping[str, str]


@dataclass(frozen=True)
class WorkItem:
    """One slide of the worklist.

    Attributes
    ----------
    name
        What `ReviewSession.slide` takes: the slide's id, or its code.
    sample
        Person, site and visit; empty where the review is blinded.
    status
        new, started, accepted, rejected or failed (it was not measured, and cannot be reviewed).
    quality
        The program's verdict on the slide: ok, review or reject; empty where there is none.
    doubt, doubts
        How much speaks for looking at it, and what, in words.
    reason
        Why it failed, or was accepted or rejected.
    """

    name: str
    marker: str
    sample: str
    status: str
    quality: str
    doubt: float
    doubts: tuple[str, ...]
    n_edits: int
    reason: str = ""


class ReviewSession:
    """A results directory that one person reviews.

    Parameters
    ----------
    directory
        The results directory.
    reviewer
        Who reviews.
    blind
        Whether slides go by code names, in shuffled order.

    Raises
    ------
    ReviewError
        When it holds no results, cannot be written, or the reviewer's review is blinded and
        `blind` is not asked for, or the other way round.
    """

    def __init__(self, directory: Path | str, reviewer: str, *, blind: bool = False) -> None:
        check_reviewer(reviewer)
        self.directory, self.reviewer = Path(directory).absolute(), reviewer
        self._run = RunDirectory(self.directory)
        self._rows = _reviewable(self._run)
        key = blinding.read_key(self.directory, reviewer)
        self.unblinded = bool(key is not None and key.unblinded)
        self.blind = blind and not self.unblinded
        if key is not None and not blind and not self.unblinded:
            raise ReviewError(
                f"the review by {reviewer} is blinded: open it with --blind, or unblind it first "
                "(that locks it)"
            )
        if self.blind and key is None:
            self._refuse_seen()
        self._codes: Mapping[str, str] = {}
        if self.blind:
            done = [row["slide_id"] for row in self._rows if self._is_measured(row)]
            try:
                self._codes = blinding.extended(self.directory, reviewer, done).codes
            except OSError as error:
                raise _unwritable(error, blind=True) from None
            # A slide that is finished from here on gets its code in the next session.
            self._rows = [row for row in self._rows if row["slide_id"] in self._codes]
        rows = self._run.ledger().rows
        self._hidden = blinding.names_to_hide(self.directory, rows, self._codes)

    @classmethod
    def open(cls, directory: Path | str, reviewer: str, *, blind: bool = False) -> ReviewSession:
        """As the constructor."""
        return cls(directory, reviewer, blind=blind)

    def __enter__(self) -> ReviewSession:
        """The session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to do: slides are closed one by one."""

    def worklist(self) -> list[WorkItem]:
        """Slides to look at, the most doubtful first; in the shuffled order where blinded."""
        items = [self._item(row) for row in self._rows]
        if self.blind:
            known = [item for item in items if item.status != "failed"]
            return sorted(known, key=lambda item: item.name)
        return sorted(items, key=lambda item: (-item.doubt, item.name))

    def next_after(self, name: str) -> str | None:
        """The slide after `name` in the worklist, None at its end; failed ones are passed over."""
        return self._beside(name, 1)

    def previous_before(self, name: str) -> str | None:
        """The slide before `name` in the worklist, None at its start."""
        return self._beside(name, -1)

    def slide(self, name: str) -> SlideReview:
        """Open a slide for review; close it when done with it.

        Raises
        ------
        ReviewError
            When there is no such slide, somebody else reviews it under this name, the journal
            cannot be used, or its result does not hold what a review needs.
        """
        row = self._row(name)
        try:
            return self._open_slide(row, name)
        except HistoquantError as error:
            raise ReviewError(self.hide(str(error))) from None
        except OSError as error:
            raise _unwritable(error, blind=self.blind) from None

    def hide(self, text: str) -> str:
        """`text` without what a blinded reviewer may not see; as it is where not blinded."""
        return blinding.hidden(text, self._hidden) if self.blind else text

    def remeasure(self) -> list[SlideReport]:
        """Write the tables again with this reviewer's edits; see `remeasure.remeasure`."""
        from histoquant.review.remeasuring import blinded, remeasure

        try:
            reports = remeasure(self.directory, self.reviewer)
            return blinded(self.directory, reports) or reports
        except HistoquantError as error:
            raise ReviewError(self.hide(str(error))) from None

    def close(self) -> None:
        """Nothing is left to do: slides are closed one by one."""

    def _open_slide(self, row: Row, name: str) -> SlideReview:
        place = self._run.slide(row["slide_id"])
        lock = blinding.slide_lock(self.directory, row["slide_id"], self.reviewer)
        lock.__enter__()
        try:
            edited = EditedSlide(read_automatic(place))
            journal = self._journal(row)
            binding = Binding(
                name,
                str(edited.automatic.summary["slide_sha256"]),
                str(edited.automatic.summary["settings_sha256"]),
            )
            opened = blinding.read_key(self.directory, self.reviewer)  # it may be open by now
            closed = bool(opened is not None and opened.unblinded)
            writer = JournalWriter(journal, binding, closed=closed)
            key = (read_record(automatic_place(place)) or {}).get("key")
            pixels = partial(open_pixels, row, edited, key)
            return SlideReview(edited, writer, name, pixels, self.hide, lock)
        except BaseException:
            lock.__exit__(None, None, None)
            raise

    def _journal(self, row: Row) -> Journal:
        place = self._run.slide(row["slide_id"])
        record = read_record(automatic_place(place)) or {}
        fingerprint = str(record.get("summary", {}).get("slide_sha256", ""))
        return read_journal(journal_path(place, self.reviewer), self.reviewer, fingerprint)

    def _item(self, row: Row) -> WorkItem:
        name = self._codes.get(row["slide_id"], row["slide_id"])
        sample = "" if self.blind else " ".join(
            row[k] for k in ("person", "site", "visit") if row[k]
        )  # fmt: skip
        if not self._is_measured(row):
            reason = self.hide(row["reason"] or f"{row['status']}: not measured")
            return WorkItem(name, row["marker"], sample, "failed", "", -1.0, (), 0, reason)
        place = automatic_place(self._run.slide(row["slide_id"]))
        doubt = doubt_of(read_record(place) or {})
        try:
            journal = self._journal(row)
        except ReviewError as error:
            doubt = Doubt(doubt.amount + 100, (f"journal: {error}", *doubt.words), doubt.quality)
            journal = Journal(place, self.reviewer)
        verdict = verdict_of(journal.active)
        status = verdict.value if verdict.value != "open" else "started"
        edits = [(entry.n, entry.edit) for entry in journal.active if entry.edit is not None]
        return WorkItem(
            name,
            row["marker"],
            sample,
            status if journal.begun else "new",
            doubt.quality,
            doubt.amount,
            tuple(self.hide(word) for word in doubt.words),
            count_edits(edits),
            self.hide(verdict.reason),
        )

    def _beside(self, name: str, step: int) -> str | None:
        names = [item.name for item in self.worklist() if item.status != "failed"]
        place = names.index(name) + step if name in names else -1
        return names[place] if 0 <= place < len(names) else None

    def _row(self, name: str) -> Row:
        names = {self._codes.get(row["slide_id"], row["slide_id"]): row for row in self._rows}
        if name not in names:
            raise ReviewError(f"there is no slide {name!r} in the worklist")
        if not self._is_measured(names[name]):
            raise ReviewError(f"{name} was not measured: there is nothing to review")
        return names[name]

    def _is_measured(self, row: Row) -> bool:
        return self._run.has_result(row["slide_id"])

    def _refuse_seen(self) -> None:
        for row in self._rows:
            place = self._run.slide(row["slide_id"])
            if place.exists() and self.reviewer in find_journals(place):
                raise ReviewError(
                    f"{self.reviewer} has reviewed slides here with their names in sight: a "
                    "blinded review needs another reviewer, or another results directory"
                )


def _reviewable(run: RunDirectory) -> list[Row]:
    """Rows of the ledger that a reviewer is shown."""
    run.done()  # raises where there is no results directory
    rows: list[Row] = [
        row
        for row in run.ledger().rows
        if row["status"] != "excluded" or row["reason"].startswith(REJECTED)
    ]
    if not any(run.has_result(row["slide_id"]) for row in rows):
        raise ReviewError(
            f"{run.path} holds no measured slide: `histoquant batch` or `histoquant quantify` "
            "measures them"
        )
    return rows


def _unwritable(error: OSError, *, blind: bool) -> ReviewError:
    where = "" if blind or not error.filename else f" ({error.filename})"
    return ReviewError(
        f"the results directory cannot be written: {error.strerror or error}{where}. A review "
        "keeps its journals there: make it writable, or copy it"
    )
