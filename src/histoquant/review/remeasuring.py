"""``histoquant remeasure``: the tables again with a reviewer's edits, without a screen.

Every slide starts from its automatic result, so that the answer depends on that and on the
journal alone: measuring twice, or with edits made in between and undone, gives the same tables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from histoquant import __version__, atomic
from histoquant.errors import HistoquantError, ReviewError
from histoquant.results import (
    SlideResult,
    automatic_place,
    missing_reasons,
    read_record,
    to_json,
)
from histoquant.review import blinding, store
from histoquant.review.annotations import region_features
from histoquant.review.edits import Edit
from histoquant.review.journal import Journal, find_journals, read_journal
from histoquant.review.measuring import EditedSlide, Measured
from histoquant.review.session import verdict_of
from histoquant.review.shapes import NEEDS_PIXELS
from histoquant.rundir import CHOICE, RunDirectory

if TYPE_CHECKING:
    from histoquant.slides import Slide

Row = Mapping[str, str]
Progress = Callable[[str], None]
Numbered = list[tuple[int, Edit]]


@dataclass(frozen=True)
class SlideReport:
    """What became of one slide's edits.

    Attributes
    ----------
    n_edits
        Edits applied that change figures.
    verdict, reason
        open, accepted or rejected, and why.
    lost
        Edits that find no object any more (or only in part), in words.
    notes
        What else is to be known: damage that a crash left, an overlay that is not drawn anew.
    problem
        Why the edits could not be applied at all; empty when they were.
    """

    slide_id: str
    n_edits: int = 0
    verdict: str = "open"
    reason: str = ""
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


def remeasure(
    directory: Path | str, reviewer: str | None = None, progress: Progress | None = None
) -> list[SlideReport]:
    """Apply a reviewer's edits to every slide, and write the tables again.

    Parameters
    ----------
    directory
        The results directory.
    reviewer
        Whose edits; the one that was chosen before, or the only one, when None. The choice is
        kept in ``review.json``.
    progress
        Called with each slide.

    Returns
    -------
    A report of every slide that was measured.

    Raises
    ------
    ReviewError
        When it is not clear whose edits are meant, or there are none.
    ResultError
        When it is no results directory, or another run holds it.
    """
    run = RunDirectory(directory)
    run.done()
    with run.locked("remeasure"):
        who = _choose(run, reviewer)
        rows = [row for row in run.ledger().rows if run.has_result(row["slide_id"])]
        reports = []
        _keep_choice(run, who, complete=False)
        for row in rows:
            if progress is not None:
                progress(row["slide_id"])
            reports.append(apply_edits(run, row, who))
        _keep_choice(run, who, complete=True)
        run.write_tables()
    return reports


def blinded(directory: Path | str, reports: Sequence[SlideReport]) -> list[SlideReport] | None:
    """Reports as a reviewer may see them whose blinded review is not unblinded yet.

    Slides go by their codes, in the order of these. None where names may be shown: the reviewer
    who was chosen is not blinded.
    """
    run = RunDirectory(directory)
    chosen = (read_record(run.path, CHOICE) or {}).get("reviewer")
    key = blinding.read_key(run.path, str(chosen)) if chosen else None
    if key is None or key.unblinded:
        return None
    names = blinding.names_to_hide(run.path, run.ledger().rows, key.codes)
    shown = [
        replace(
            report,
            slide_id=key.codes.get(report.slide_id, "a slide without a code"),
            reason=blinding.hidden(report.reason, names),
            problem=blinding.hidden(report.problem, names),
            lost=tuple(blinding.hidden(text, names) for text in report.lost),
            notes=tuple(blinding.hidden(text, names) for text in report.notes),
        )
        for report in reports
    ]
    return sorted(shown, key=lambda report: report.slide_id)


def reapply(run: RunDirectory, slide_id: str, row: Row) -> SlideReport | None:
    """Apply the chosen reviewer's edits to a slide that was measured anew.

    None where no review was ever applied to the directory, or nobody edited the slide.
    """
    chosen = (read_record(run.path, CHOICE) or {}).get("reviewer")
    if not chosen or not list(run.slide(slide_id).glob("review*.jsonl")):
        return None
    return apply_edits(run, {**row, "slide_id": slide_id}, str(chosen))


def apply_edits(run: RunDirectory, row: Row, reviewer: str) -> SlideReport:
    """Apply the edits of one slide; what is wrong with them is in the report, never raised.

    A slide whose edits cannot be applied stays as it was, unless it held another reviewer's.
    """
    place = run.slide(row["slide_id"])
    try:
        return _apply(place, row, reviewer)
    except Exception as error:  # one slide must not keep the others from being measured
        before = (read_record(place) or {}).get("review", {}).get("reviewer", reviewer)
        if before != reviewer:
            store.restore_automatic(place)
        known = isinstance(error, HistoquantError)
        problem = str(error) if known else f"{type(error).__name__}: {error}"
        return SlideReport(row["slide_id"], problem=problem)


def reviewers(run: RunDirectory) -> dict[str, int]:
    """Reviewer -> how many slides they have a journal of."""
    found: dict[str, int] = {}
    for row in run.ledger().rows:
        place = run.slide(row["slide_id"])
        try:
            journals = find_journals(place)
        except ReviewError:  # the slide's own report says what is wrong
            continue
        for who, path in journals.items():
            if _is_begun(path, who):
                found[who] = found.get(who, 0) + 1
    return found


def _keep_choice(run: RunDirectory, reviewer: str, *, complete: bool) -> None:
    """Write whose edits the tables rest on, and whether every slide has them."""
    content = {"reviewer": reviewer, "complete": complete, "version": __version__}
    atomic.write_text(run.path / CHOICE, to_json(content))


def _is_begun(path: Path, reviewer: str) -> bool:
    """Whether a journal holds more than the lock of an unblinded review, as far as is known."""
    try:
        return read_journal(path, reviewer).begun
    except ReviewError:
        return True


def _choose(run: RunDirectory, reviewer: str | None) -> str:
    known = reviewers(run)
    chosen = reviewer or (read_record(run.path, CHOICE) or {}).get("reviewer")
    if chosen is None and len(known) == 1:
        (chosen,) = known
    if chosen is None and known:
        names = ", ".join(f"{who} ({n} slides)" for who, n in sorted(known.items()))
        raise ReviewError(f"several people reviewed {run.path}: {names}. Say whose edits: "
                          "--reviewer NAME")  # fmt: skip
    if chosen not in known:
        who = f"by {chosen} " if chosen else ""
        there = f"; there are some by {', '.join(sorted(known))}" if known else ""
        raise ReviewError(f"{run.path} holds no edits {who}to apply{there}")
    return str(chosen)


def _apply(place: Path, row: Row, reviewer: str) -> SlideReport:
    path = find_journals(place).get(reviewer)
    source = read_record(automatic_place(place)) or {}
    if path is None:
        store.restore_automatic(place)
        return SlideReport(row["slide_id"])
    fingerprint = str(source.get("summary", {}).get("slide_sha256", ""))
    journal = read_journal(path, reviewer, fingerprint)
    notes = (journal.damage,) if journal.damage else ()
    edits = [(entry.n, entry.edit) for entry in journal.active if entry.edit is not None]
    if not edits:
        store.restore_automatic(place)
        return SlideReport(row["slide_id"], notes=notes)
    verdict = verdict_of(journal.active)
    slide = EditedSlide(store.read_automatic(place))
    measured, result, more = _measure(slide, edits, row)
    lost = tuple(f"edit {n}: {why}" for n, why in sorted(measured.lost.items()))
    review = {
        "reviewer": reviewer,
        "journal": path.name,
        "journal_sha256": _fingerprint(journal),
        "n_edits": measured.n_edits,
        "verdict": verdict.value,
        "reason": verdict.reason,
        "lost": list(lost),
        "notes": [*notes, *more],
        "version": __version__,
    }
    features = region_features(measured.geometry.regions, slide.mpp)
    store.write_reviewed(result, place, review, features)
    return SlideReport(
        row["slide_id"],
        measured.n_edits,
        verdict.value,
        verdict.reason,
        lost,
        (*notes, *more),
    )


def _measure(
    slide: EditedSlide, edits: Numbered, row: Row
) -> tuple[Measured, SlideResult, tuple[str, ...]]:
    """The edited slide as a result; its pixels are read where it takes them."""
    measured = slide.measure(edits)
    automatic = slide.automatic
    result = replace(
        automatic,
        summary=measured.summary,
        reasons=measured.reasons,
        nuclei=measured.nuclei,
        junction=measured.bins,
        compartments=measured.geometry.compartments,
        junction_line=measured.geometry.junction,
        provenance={
            **automatic.provenance,
            "warnings": measured.warnings,
            **({"threshold_sweep": slide.sweep(measured)} if automatic.marker == "p16" else {}),
        },
    )
    if not measured.n_edits:
        return measured, result, ()
    from histoquant.review.pixels import open_pixels

    return measured, *_with_pixels(slide, measured, result, partial(open_pixels, row, slide))


def _with_pixels(
    slide: EditedSlide, measured: Measured, result: SlideResult, opened: Callable[[], Slide]
) -> tuple[SlideResult, tuple[str, ...]]:
    """`result` with what needs the slide: a new profile, and the overlay."""
    from histoquant.review.pixels import measure_line_anew, redraw_overlay

    try:
        with opened() as pixels:
            if measured.pending:
                result = measure_line_anew(pixels, slide, measured, result)
            if not pixels.is_colour:
                return result, ("the overlay is that from before the review: fluorescence",)
            return redraw_overlay(pixels, result), ()
    except (HistoquantError, OSError) as error:
        if not measured.pending:
            return result, (f"the overlay is that from before the review: {error}",)
        why = f"the junction was drawn anew, and the slide cannot be read: {error}"
        reasons = {k: why if v == NEEDS_PIXELS else v for k, v in result.reasons.items()}
        reasons = missing_reasons(result.summary, reasons)
        result = replace(result, reasons=reasons, straightened=None, line_picture=None)
        return result, (why,)


def _fingerprint(journal: Journal) -> str:
    return hashlib.sha256(journal.path.read_bytes()).hexdigest()
