"""One slide under review: its state, its edits, its numbers as they follow.

An edit is measured, then written to the journal and flushed, and only then taken over: what the
reviewer sees is on the disk, and what could not be saved has not happened.

Measuring and writing (`carry_out`, `carry_out_undo`, ...) may run in one other thread than that
which shows the slide: they touch nothing that is shown, until `take_over` puts it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.anatomy import Compartments
from histoquant.errors import HistoquantError, ReviewError, SlideError
from histoquant.junction import Junction
from histoquant.review.edits import (
    AddNote,
    AddNucleus,
    Edit,
    ExcludeRegion,
    IncludeRegion,
    NucleusClass,
    Point,
    SetClass,
    SetCompartment,
    SetVerdict,
)
from histoquant.review.figures import Numbers, numbers_of
from histoquant.review.geometry import GEOMETRIC
from histoquant.review.journal import REDO, UNDO, Entry, Journal, JournalWriter
from histoquant.review.measuring import EditedSlide, Measured, finds_some
from histoquant.review.regions import points_inside
from histoquant.review.veil import VeiledSlide
from histoquant.review.words import describe
from histoquant.slides import Slide

Rows = npt.NDArray[np.int64]
Points = npt.NDArray[np.float64]
Hide = Callable[[str], str]

_QUEUE_OD = 0.1


@dataclass(frozen=True, eq=False)
class Change:
    """What an edit, undo or redo did: measured, and on the disk.

    Attributes
    ----------
    n, text
        Number of the journal's record, and what was done in words.
    rows
        Nuclei whose look changed.
    reload_nuclei
        Whether the table of nuclei has other rows now.
    geometry
        Whether junction, bins, compartments or regions changed.
    numbers
        The slide's row after it.
    after, journal
        The slide and its journal after it.
    """

    n: int
    text: str
    rows: Rows
    reload_nuclei: bool
    geometry: bool
    numbers: Numbers
    after: Measured
    journal: Journal


@dataclass(frozen=True)
class HistoryLine:
    """One edit of the journal in words; `active` when it holds."""

    n: int
    at: str
    text: str
    active: bool


class SlideReview:
    """One slide that is open for review by one person.

    Made by `ReviewSession.slide`; holds the journal's lock until `close`.

    Parameters
    ----------
    slide
        The automatic result.
    writer
        Appends to the reviewer's journal.
    name
        As the reviewer sees it: a code where the review is blinded.
    open_pixels
        Opens the slide.
    hide
        Takes what a blinded reviewer may not see out of a text.
    lock
        Held until `close`.
    """

    def __init__(
        self,
        slide: EditedSlide,
        writer: JournalWriter,
        name: str,
        open_pixels: Callable[[], Slide],
        hide: Hide = str,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        self._slide, self._writer, self._open, self._hide = slide, writer, open_pixels, hide
        self._lock = ExitStack()
        self._damage = writer.journal.damage
        self.name = name
        if lock is not None:
            self._lock.push(lock.__exit__)
        self._measured = self._latest = slide.measure(_numbered(writer.journal.active))
        self._journal = writer.journal
        self._numbers = numbers_of(slide, self._measured)

    def __enter__(self) -> SlideReview:
        """The review itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the review."""
        self.close()

    def close(self) -> None:
        """Give the journal free for others; everything is on the disk already."""
        self._lock.close()

    @property
    def marker(self) -> str:
        """p16 or col7."""
        return self._slide.automatic.marker

    @property
    def reviewer(self) -> str:
        """Whose journal it is."""
        return self._journal.reviewer

    @property
    def locked(self) -> bool:
        """Whether the review was unblinded: nothing can be edited any more."""
        return self._journal.locked

    @property
    def mpp(self) -> float:
        """Size of a level-0 pixel in um."""
        return self._slide.mpp

    @cached_property
    def shape_px(self) -> tuple[int, int]:
        """Height and width of the slide in level-0 pixels."""
        provenance: Any = self._slide.automatic.provenance
        height, width = provenance["slide"]["shape"][:2]
        return int(height), int(width)

    @property
    def measured(self) -> Measured:
        """The slide with all that was measured of it, as it stands."""
        return self._measured

    @property
    def threshold_od(self) -> float:
        """First threshold of positivity."""
        settings = self._slide.settings
        return settings.p16.thresholds_od[0] if self.marker == "p16" else (
            settings.collagen7.threshold_od
        )  # fmt: skip

    @property
    def nuclei(self) -> pd.DataFrame | None:
        """p16: the nuclei as they stand, added ones last; None for col7."""
        return self._measured.nuclei

    @cached_property
    def automatic_nuclei(self) -> pd.DataFrame | None:
        """The nuclei as the program had them."""
        return self._slide.automatic.nuclei

    @property
    def points_um(self) -> Points:
        """(n, 2) centres of the rows of `nuclei`."""
        if self.nuclei is None:
            return np.empty((0, 2))
        return self.nuclei[["y_um", "x_um"]].to_numpy(np.float64)

    @property
    def compartments(self) -> Compartments:
        """Compartments as they stand."""
        return self._measured.geometry.compartments

    @property
    def junction(self) -> Junction:
        """Junction as it stands."""
        return self._measured.geometry.junction

    @property
    def bins(self) -> pd.DataFrame:
        """Bins of the junction as they stand."""
        return self._measured.bins

    @property
    def straightened(self) -> npt.NDArray[np.float32] | None:
        """col7: the junction as the program traced it, laid straight."""
        return self._slide.automatic.straightened

    @property
    def straightened_info(self) -> Mapping[str, Any]:
        """Steps and depths of `straightened`."""
        info: Any = self._slide.automatic.provenance.get("straightened", {})
        return dict(info)

    @property
    def regions(self) -> tuple[ExcludeRegion | IncludeRegion, ...]:
        """Regions that hold, in order."""
        return tuple(e for _, e in self._edits() if isinstance(e, ExcludeRegion | IncludeRegion))

    @property
    def compartment_edits(self) -> tuple[SetCompartment, ...]:
        """Painted polygons that hold, in order."""
        return tuple(e for _, e in self._edits() if isinstance(e, SetCompartment))

    @property
    def notes(self) -> tuple[AddNote, ...]:
        """Notes that hold."""
        return tuple(e for _, e in self._edits() if isinstance(e, AddNote))

    @property
    def verdict(self) -> str:
        """open, accepted or rejected."""
        return verdict_of(self._journal.active).value

    @property
    def verdict_reason(self) -> str:
        """Why it was accepted or rejected."""
        return verdict_of(self._journal.active).reason

    @property
    def history(self) -> list[HistoryLine]:
        """Every edit ever made, in order, in words."""
        active = {entry.n for entry in self._journal.active}
        return [
            HistoryLine(e.n, e.at, describe(e.edit), e.n in active)
            for e in self._journal.entries
            if e.edit is not None
        ]

    @property
    def problems(self) -> tuple[str, ...]:
        """What the reviewer must know: damage that a crash left, edits that find no object."""
        texts = {e.n: describe(e.edit) for e in self._journal.entries if e.edit is not None}
        lost = (f"edit {n} ({texts[n]}): {why}" for n, why in self._measured.lost.items())
        return tuple(self._hide(text) for text in (self._damage, *lost) if text)

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to take back."""
        return bool(self._journal.active) and not self.locked

    @property
    def can_redo(self) -> bool:
        """Whether there is an edit to do again."""
        return bool(self._journal.undone) and not self.locked

    def numbers(self) -> Numbers:
        """The slide's row as it stands, with the automatic one."""
        return self._numbers

    def apply(self, edit: Edit) -> Change:
        """Make an edit.

        Raises
        ------
        ReviewError
            When it finds no object, or could not be saved; nothing has changed then.
        """
        change = self.carry_out(edit)
        self.take_over(change)
        return change

    def undo(self) -> Change | None:
        """Take the last edit back; None when there is none."""
        return self._taken_over(self.carry_out_undo())

    def redo(self) -> Change | None:
        """Do again what was undone last; None when there is nothing, or an edit came after it."""
        return self._taken_over(self.carry_out_redo())

    def read_line(self) -> Change | None:
        """Measure collagen VII of a junction drawn anew; None when nothing waits for it.

        Raises
        ------
        SlideError
            When the slide cannot be read.
        """
        shown = self._measured
        if not shown.pending:
            return None
        return self._taken_over(self.carry_out_line(shown, self.profiles_of(shown)))

    def carry_out(self, edit: Edit) -> Change:
        """Measure an edit and write it down; nothing that is shown changes until `take_over`.

        Raises
        ------
        ReviewError
            As `apply`.
        """
        journal = self._writer.journal
        n = journal.entries[-1].n + 1 if journal.entries else 1
        after = self._slide.measure([*_numbered(journal.active), (n, edit)])
        if not finds_some(edit, after.lost.get(n, "")):
            raise ReviewError(self._hide(f"nothing was changed: {after.lost[n]}"))
        before_words, after_words = self._before_and_after(edit, after)
        self._writer.append_edit(edit, before_words, after_words)
        return self._done(n, edit, after, describe(edit))

    def carry_out_undo(self) -> Change | None:
        """As `undo`, until `take_over` without a change to what is shown."""
        return self._step(UNDO, self._writer.journal.active)

    def carry_out_redo(self) -> Change | None:
        """As `redo`, until `take_over` without a change to what is shown."""
        return self._step(REDO, self._writer.journal.undone)

    @property
    def waiting(self) -> Measured | None:
        """The slide as it is shown, where its junction was drawn anew and has to be read."""
        return self._measured if self._measured.pending else None

    def profiles_of(
        self, measured: Measured, progress: Callable[[str], None] | None = None
    ) -> pd.DataFrame:
        """Collagen VII along a junction drawn anew, read from the slide; in any thread.

        Parameters
        ----------
        progress
            Called with each step; what it raises ends the reading.

        Raises
        ------
        SlideError
            When the slide cannot be read.
        """
        from histoquant.review.pixels import read_line_anew

        try:
            with self._open() as pixels:
                return read_line_anew(pixels, self._slide, measured.geometry, progress).junction
        except (HistoquantError, OSError) as error:
            raise SlideError(self._hide(str(error))) from None

    def carry_out_line(self, of: Measured, profiles: pd.DataFrame) -> Change | None:
        """Take what `profiles_of` read into the figures; None when the line is another by now."""
        self._slide.learn(of.geometry, profiles)
        journal = self._writer.journal
        after = self._slide.measure(_numbered(journal.active))
        if not self._latest.pending or after.pending:
            return None
        text = "collagen VII was read along the new line"
        return self._done(journal.entries[-1].n, None, after, text)

    def take_over(self, change: Change) -> None:
        """Show what was carried out; changes are taken over in the order they were made."""
        self._measured, self._journal = change.after, change.journal
        self._numbers = change.numbers

    def nearest(self, point_um: Sequence[float], within_um: float = 6.0) -> int | None:
        """Row of the nucleus nearest to a point; None when none is within `within_um`."""
        points = self.points_um
        near = np.flatnonzero((np.abs(points - point_um) <= within_um).all(axis=1))
        if not len(near):
            return None
        distance = np.hypot(*(points[near] - point_um).T)
        best = int(np.argmin(distance))
        return int(near[best]) if distance[best] <= within_um else None

    def inside(self, polygon_um: Sequence[Sequence[float]]) -> Rows:
        """Rows of the nuclei in a polygon."""
        return np.flatnonzero(points_inside(self.points_um, polygon_um))

    def set_class(
        self, rows: Sequence[int] | Rows, value: NucleusClass, intensity_class: int = 0
    ) -> SetClass:
        """The edit that calls the nuclei in `rows` `value`; `apply` makes it."""
        points = self.points_um[np.asarray(rows, np.int64)]
        return SetClass(tuple((float(y), float(x)) for y, x in points), value, intensity_class)

    def queue(self, limit: int | None = None) -> Rows:
        """What is nearest to the threshold, most uncertain first, less what was reviewed.

        Rows of `nuclei` (p16) or of `bins` (col7).
        """
        if self.nuclei is not None:
            distance = _doubt_of_nuclei(self.nuclei, self._slide)
        else:
            peak = self.bins["peak_od"].to_numpy(np.float64)
            out = self.bins["excluded"].to_numpy(bool)
            distance = np.where(out, np.nan, np.abs(peak - self.threshold_od))
        rows = np.flatnonzero(distance <= _QUEUE_OD)
        return rows[np.argsort(distance[rows], kind="stable")][:limit]

    def open_slide(self) -> Slide:
        """The slide's pixels.

        Raises
        ------
        SlideError
            When the file is not where it was, or cannot be read.
        """
        try:
            return VeiledSlide.of(self._open(), self._hide)
        except (HistoquantError, OSError) as error:
            raise SlideError(self._hide(str(error))) from None

    def _edits(self) -> list[tuple[int, Edit]]:
        return _numbered(self._journal.active)

    def _step(self, kind: str, of: Sequence[Entry]) -> Change | None:
        if not of:
            return None
        target = of[-1]
        if target.edit is None:
            raise AssertionError("only edits are undone")
        held = list(self._writer.journal.active)
        held = held[:-1] if kind == UNDO else [*held, target]
        after = self._slide.measure(_numbered(tuple(held)))
        entry = self._writer.append(kind, {"n": target.n})
        return self._done(entry.n, target.edit, after, f"{kind}: {describe(target.edit)}")

    def _done(self, n: int, edit: Edit | None, after: Measured, text: str) -> Change:
        before, self._latest = self._latest, after
        rows, reload_nuclei = _changed_rows(before.nuclei, after.nuclei)
        geometry = edit is None or isinstance(edit, GEOMETRIC)
        numbers = numbers_of(self._slide, after)
        journal = self._writer.journal
        return Change(n, text, rows, reload_nuclei, geometry, numbers, after, journal)

    def _taken_over(self, change: Change | None) -> Change | None:
        if change is not None:
            self.take_over(change)
        return change

    def _before_and_after(self, edit: Edit, after: Measured) -> tuple[dict[str, Any], ...]:
        """What the journal says of an edit's object before and after it."""
        if isinstance(edit, SetVerdict):
            said = verdict_of(self._writer.journal.active)
            return {"value": said.value, "reason": said.reason}, {}
        if isinstance(edit, SetClass | AddNucleus):
            points = edit.points_um if isinstance(edit, SetClass) else (edit.point_um,)
            return self._states(self._latest.nuclei, points), self._states(after.nuclei, points)
        if isinstance(edit, GEOMETRIC):
            return _lengths(self._latest), _lengths(after)
        return {}, {}

    def _states(self, nuclei: pd.DataFrame | None, points: Sequence[Point]) -> dict[str, Any]:
        """Class (0-3) of the nucleus at each point; -1 when excluded, None without one."""
        if nuclei is None:
            return {"classes": [None] * len(points)}
        rows = self._slide.rows_at(nuclei, np.asarray(points, np.float64))
        levels = nuclei["intensity_class"].to_numpy()
        out = nuclei["excluded"].to_numpy(bool)
        found = (None if r < 0 else -1 if out[r] else levels[r] for r in rows)
        return {"classes": [None if pd.isna(level) else int(level) for level in found]}


def verdict_of(entries: Sequence[Entry]) -> SetVerdict:
    """The last verdict of the edits that hold."""
    said = [entry.edit for entry in entries if isinstance(entry.edit, SetVerdict)]
    return said[-1] if said else SetVerdict("open")


def _numbered(entries: Sequence[Entry]) -> list[tuple[int, Edit]]:
    return [(entry.n, entry.edit) for entry in entries if entry.edit is not None]


def _changed_rows(
    before: pd.DataFrame | None, after: pd.DataFrame | None
) -> tuple[Rows, bool]:  # fmt: skip
    if before is None or after is None:
        return np.empty(0, np.int64), False
    if len(before) != len(after):
        return np.arange(len(after)), True
    differs = np.zeros(len(after), np.bool_)
    for name in ("positive", "intensity_class", "excluded", "compartment"):
        old, new = before[name], after[name]
        if name == "compartment":
            differs |= old.cat.codes.to_numpy() != new.cat.codes.to_numpy()
        else:
            differs |= (old != new).fillna(False).to_numpy(bool)
    return np.flatnonzero(differs), False


def _lengths(measured: Measured) -> dict[str, Any]:
    names = ("dej_length_mm", "measured_length_mm", "excluded_area_mm2")
    return {name: measured.summary[name] for name in names}


def _doubt_of_nuclei(nuclei: pd.DataFrame, slide: EditedSlide) -> Points:
    """How far (OD) each nucleus is from being called otherwise; NaN for what is not in doubt."""
    p16 = slide.settings.p16
    dab = nuclei["dab_od_mean"].to_numpy(np.float64)
    over_ring = dab - nuclei["ring_dab_od_mean"].to_numpy(np.float64)
    distance = np.abs(dab - p16.thresholds_od[0])
    by_haze = (dab >= p16.thresholds_od[0]) & (dab < p16.haze_below_od)
    haze = np.where(by_haze, np.abs(over_ring - p16.min_over_ring_od), np.inf)
    distance = np.fmin(distance, haze)
    settled = nuclei["excluded"].to_numpy(bool)
    if "reviewed_class" in nuclei:
        settled = settled | (nuclei["reviewed_class"].to_numpy(np.int64) >= 0)
    return np.where(settled, np.nan, distance)
