"""The figures of an edited slide, from the code that measured it, and only what changed.

What was measured from pixels (nuclei with their colours, profiles of bins) is on disk; what
follows from places and classes is measured again here by `histoquant.p16`, `morphometry` and
`collagen7`. A change of class takes the counts again, a region the places too, a new line all.
With no edits every figure is the automatic one, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant import tables
from histoquant.anatomy import ADNEXA, EPIDERMIS
from histoquant.collagen7 import PROFILE_COLUMNS, missing_collagen7, summarise_collagen7
from histoquant.errors import ReviewError
from histoquant.morphometry import junction_bins, measure_morphometry
from histoquant.p16 import (
    count_p16,
    leave_out,
    measured_sizes,
    place_nuclei,
    threshold_sweep,
    warn_of_field,
)
from histoquant.results import SlideResult, missing_reasons
from histoquant.review.edits import AddNote, Edit, SetClass, SetVerdict
from histoquant.review.geometry import GEOMETRIC, Geometry, as_measured, edited
from histoquant.review.marks import MATCH_UM, NOT_A_NUCLEUS, Finder, Marks, Rows, marks_of
from histoquant.settings import Settings

Numbered = tuple[int, Edit]
Figures = tuple[dict[str, object], dict[str, str]]

NEEDS_PIXELS = (
    "the junction was drawn anew and its collagen VII has to be read from the slide: remeasure"
)
_PLACED = ("compartment", "dej_distance_um", "beside_measured_junction", "excluded",
           "exclusion_reason")  # fmt: skip
_GRADED = ("positive", "intensity_class", "haze_suspected", "pigment_score", "pigment_suspected",
           "block_positive")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Measured:
    """An edited slide.

    Attributes
    ----------
    nuclei
        p16: the program's nuclei, then added ones; else None.
    bins
        Bins of the junction.
    summary, reasons
        All figures of the slide, as `tables.conform_summary` gives them, and why some are missing.
    geometry
        Compartments, junction and regions.
    n_edits
        Edits that hold and change figures.
    lost
        Number of an edit -> why it (or part of it) found no object.
    pending
        Why some figures wait for the slide's pixels; empty for none.
    warnings
        What a reader of the figures must know.
    """

    nuclei: pd.DataFrame | None
    bins: pd.DataFrame
    summary: dict[str, object]
    reasons: dict[str, str]
    geometry: Geometry
    n_edits: int
    lost: dict[int, str] = field(default_factory=dict)
    pending: str = ""
    warnings: tuple[str, ...] = ()


class EditedSlide:
    """Measures one slide under edits; remembers what further edits do not change.

    Parameters
    ----------
    automatic
        The slide as the program measured it.

    Raises
    ------
    ReviewError
        When the result does not hold what measuring anew needs.
    """

    def __init__(self, automatic: SlideResult) -> None:
        if automatic.compartments is None or automatic.junction_line is None:
            raise ReviewError(
                f"the result of {automatic.slide_id} holds no compartments (it was written by an "
                "older version): measure the slide again, then review it"
            )
        self.automatic = automatic
        try:
            self.settings = Settings.model_validate(automatic.provenance["settings"])
        except (KeyError, ValueError) as error:
            why = str(error).splitlines()[0]
            raise ReviewError(
                f"the result of {automatic.slide_id} does not hold settings that this version "
                f"knows ({why}): measure the slide again, then review it"
            ) from None
        self.geometry = as_measured(automatic.compartments, automatic.junction_line)
        self._shapes: dict[tuple[Numbered, ...], _Shape] = {}

    @property
    def has_marker(self) -> bool:
        """Whether nuclei or bins can be positive."""
        return not tables.is_missing(self.automatic.summary.get("positive_threshold_od"))

    @property
    def mpp(self) -> float:
        """Size of a level-0 pixel in um."""
        return float(str(self.automatic.summary["mpp"]))

    @cached_property
    def finder(self) -> Finder:
        """Finds the program's nuclei by place."""
        return Finder(self.own_nuclei)

    @cached_property
    def own_nuclei(self) -> pd.DataFrame:
        """The program's nuclei: what was measured from pixels."""
        table = self.automatic.nuclei
        if table is None:
            return pd.DataFrame({"y_um": [], "x_um": [], "dab_od_mean": []})
        known = table.drop(columns=[c for c in (*_PLACED, *_GRADED) if c in table])
        for name in ("dab_od_sd", "red_blue_ratio"):
            if name not in known:
                raise ReviewError(
                    f"the nuclei of {self.automatic.slide_id} lack {name} (an older version wrote "
                    "them): measure the slide again, then review it"
                )
        return known

    def rows_at(self, nuclei: pd.DataFrame, points_um: npt.NDArray[np.float64]) -> Rows:
        """Row of the nucleus of an edited table that each point is about; -1 where none is."""
        rows = self.finder.nearest(points_um, MATCH_UM)
        n = len(self.finder.points_um)
        added = nuclei[["y_um", "x_um"]].to_numpy(np.float64)[n:]
        for place in np.flatnonzero(rows < 0) if len(added) else ():
            distance = np.hypot(*(added - points_um[place]).T)
            nearest = int(np.argmin(distance))
            rows[place] = n + nearest if distance[nearest] <= MATCH_UM else -1
        return rows

    def marks(self, edits: Sequence[Numbered]) -> Marks:
        """What the edits say of each nucleus."""
        dab = self.own_nuclei["dab_od_mean"].to_numpy(np.float64)
        return marks_of(self.finder, edits, dab, self.settings.p16)

    def shape(self, edits: Sequence[Numbered]) -> _Shape:
        """What follows from the geometric edits alone; the last two are remembered."""
        key = tuple(item for item in edits if isinstance(item[1], GEOMETRIC))
        if key not in self._shapes:
            while len(self._shapes) > 1:
                del self._shapes[next(iter(self._shapes))]
            self._shapes[key] = _Shape(self, edited(self.geometry, key, self.settings))
        return self._shapes[key]

    def measure(self, edits: Sequence[Numbered]) -> Measured:
        """Every figure of the slide under `edits`, which hold in this order."""
        shape = self.shape(edits)
        lost = dict(shape.geometry.lost)
        nuclei, pending = None, ""
        if self.automatic.marker == "p16":
            marks = self.marks(edits)
            lost |= marks.lost
            nuclei, figures = self._count(shape, marks)
            bins = shape.bins
        else:
            bins, figures, pending = shape.profiles
        n_edits = count_edits(edits, lost)
        again = {**figures[0], **shape.morphometry[0], "n_edits": n_edits}
        warnings = self._warnings(again, lost)
        again["warnings"] = "; ".join(warnings) or "none"
        summary, reasons = self._merge(again, shape.morphometry[1] | figures[1])
        return Measured(
            nuclei,
            bins,
            summary,
            reasons,
            shape.geometry,
            n_edits,
            lost,
            pending,
            tuple(warnings),
        )

    def with_profiles(self, measured: Measured, anew: SlideResult) -> Measured:
        """`measured` with the profiles of bins that were read from the slide anew."""
        profile = anew.junction[list(PROFILE_COLUMNS)].reset_index(drop=True)
        bins = measured.bins.drop(columns=list(PROFILE_COLUMNS))
        table, again, why = summarise_collagen7(
            pd.concat([bins.reset_index(drop=True), profile], axis=1), self.settings.collagen7
        )
        merged = tables.conform_summary({**measured.summary, **again}, "col7")
        kept = {k: v for k, v in measured.reasons.items() if k not in again}
        reasons = missing_reasons(merged, kept | why)
        return replace(measured, bins=table, summary=merged, reasons=reasons, pending="")

    def sweep(self, measured: Measured) -> list[dict[str, Any]]:
        """The threshold sweep of an edited p16 slide."""
        if measured.nuclei is None:
            return []
        rows = threshold_sweep(measured.nuclei, self.settings.p16).to_dict("records")
        return [{str(name): value for name, value in row.items()} for row in rows]

    def _count(self, shape: _Shape, marks: Marks) -> tuple[pd.DataFrame, Figures]:
        placed = shape.placed_with(marks.added_um)
        number, reasons = shape.left_out_with(marks.added_um)
        words = (*reasons, NOT_A_NUCLEUS)
        number = np.where(marks.not_nucleus, len(reasons), number)
        if (number > 0).any():
            placed = leave_out(placed, number, words)
        if (marks.reviewed_class >= 0).any() or len(marks.added_um):
            added = np.arange(len(placed)) >= len(self.own_nuclei)
            placed = placed.assign(reviewed_class=marks.reviewed_class, added=added)
        compartments, junction = shape.geometry.compartments, shape.geometry.junction
        table, summary, why = count_p16(
            placed,
            shape.sizes,
            junction,
            self.settings,
            has_marker=self.has_marker,
            missing_anatomy=compartments.reason or junction.reason,
        )
        return table, (summary, why)

    def _merge(self, again: dict[str, object], reasons: dict[str, str]) -> Figures:
        """The automatic figures with those that were measured again in their place."""
        merged = {**self.automatic.summary, **again}
        whole = tables.conform_summary(merged, self.automatic.marker)
        kept = {k: v for k, v in self.automatic.reasons.items() if k not in again}
        return whole, missing_reasons(whole, kept | reasons)

    def _warnings(self, summary: dict[str, object], lost: dict[int, str]) -> list[str]:
        told = cast(list[str], list(cast(Any, self.automatic.provenance.get("warnings", []))))
        if self.automatic.marker == "p16" and self.has_marker:
            before = warn_of_field(self.automatic.summary, self.settings)
            told = [w for w in told if w not in before] + warn_of_field(summary, self.settings)
        if lost:
            told.append(f"{len(lost)} reviewer's edit(s) no longer find their object")
        return told


class _Shape:
    """What follows from compartments, junction and regions; each thing when it is asked for."""

    def __init__(self, slide: EditedSlide, geometry: Geometry) -> None:
        self._slide, self.geometry = slide, geometry

    @cached_property
    def morphometry(self) -> Figures:
        """Lengths, areas and ridges; regions count as excluded area."""
        geometry = self.geometry
        summary, reasons = measure_morphometry(
            geometry.compartments, geometry.junction, self._slide.settings
        )
        if geometry.left_out is not None:
            more = self._excluded_um2(geometry.left_out) / 1e6
            summary["excluded_area_mm2"] = float(str(summary["excluded_area_mm2"])) + more
        return summary, reasons

    def _excluded_um2(self, left_out: npt.NDArray[np.bool_]) -> float:
        """Tissue in regions that is not excluded already, as adnexa or beside the junction."""
        compartments = self.geometry.compartments
        rows, columns = np.nonzero(left_out)
        labels = compartments.labels[rows, columns]
        own = labels == EPIDERMIS
        pixels = np.column_stack([rows[own], columns[own]]).astype(np.float64)
        centres = (pixels + 0.5) * compartments.mpp
        counted = int(self.geometry.junction.locate(centres).excluded.sum())
        out = np.count_nonzero(labels) - np.count_nonzero(labels == ADNEXA) - counted
        return float(out) * compartments.mpp**2

    @cached_property
    def sizes(self) -> dict[str, float]:
        """What counts are divided by."""
        geometry = self.geometry
        return measured_sizes(
            geometry.compartments,
            geometry.junction,
            self._slide.settings,
            float(str(self.morphometry[0]["surface_length_mm"])),
            geometry.left_out,
        )

    @cached_property
    def bins(self) -> pd.DataFrame:
        """Bins of the junction; a region's reason is that of its bins."""
        slide, geometry = self._slide, self.geometry
        bins = junction_bins(geometry.junction, slide.mpp, slide.settings)
        middle = bins[["y_px", "x_px"]].to_numpy(np.float64) * slide.mpp
        number, words = geometry.reasons_at(middle)
        ours = (number > 0) & bins["excluded"].to_numpy(bool)
        if ours.any():
            reason = np.where(ours, np.asarray(words, object)[number], bins["exclusion_reason"])
            bins = bins.assign(exclusion_reason=reason.astype(str))
        return bins

    @cached_property
    def profiles(self) -> tuple[pd.DataFrame, Figures, str]:
        """Collagen VII of the bins; of a junction drawn anew, that it has to be read first."""
        slide, bins = self._slide, self.bins
        known = slide.automatic.junction
        if self.geometry.junction.reason or not slide.has_marker:
            why = self.geometry.junction.reason or slide.automatic.reasons["continuity_percent"]
            table, summary, reasons = missing_collagen7(bins, why)
            return table, (summary, reasons), ""
        if self.geometry.needs_pixels:
            table, summary, reasons = missing_collagen7(bins, NEEDS_PIXELS)
            return table, (summary, reasons), NEEDS_PIXELS
        rows = _rows_of(known, bins, self.geometry, slide.settings.collagen7.bin_um)
        profile = known[list(PROFILE_COLUMNS)].iloc[rows].reset_index(drop=True)
        whole = pd.concat([bins.reset_index(drop=True), profile.astype(PROFILE_COLUMNS)], axis=1)
        table, summary, reasons = summarise_collagen7(whole, slide.settings.collagen7)
        return table, (summary, reasons), ""

    @cached_property
    def _placed(self) -> pd.DataFrame:
        return self._place(self._slide.own_nuclei)

    @cached_property
    def _left_out(self) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        return self.geometry.reasons_at(self._slide.finder.points_um)

    def placed_with(self, added_um: npt.NDArray[np.float64]) -> pd.DataFrame:
        """The program's nuclei in their places, then added ones in theirs."""
        if not len(added_um):
            return self._placed
        mpp = self._slide.mpp
        added = pd.DataFrame(
            {
                "nucleus_id": [f"added_{y:.1f}_{x:.1f}" for y, x in added_um],
                "x_um": added_um[:, 1],
                "y_um": added_um[:, 0],
                "x_px": added_um[:, 1] / mpp,
                "y_px": added_um[:, 0] / mpp,
            }
        )
        added = self._place(added.reindex(columns=self._slide.own_nuclei.columns))
        return pd.concat([self._placed, added], ignore_index=True)

    def left_out_with(
        self, added_um: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        """Which region's reason leaves out each nucleus, 0 for none; and the reasons."""
        number, words = self._left_out
        return np.concatenate([number, self.geometry.reasons_at(added_um)[0]]), words

    def _place(self, nuclei: pd.DataFrame) -> pd.DataFrame:
        geometry = self.geometry
        return place_nuclei(nuclei, geometry.compartments, geometry.junction, self._slide.settings)


def count_edits(edits: Sequence[Numbered], lost: Mapping[int, str] | None = None) -> int:
    """Edits that change figures: notes, verdicts and what finds no object (`lost`) do not."""
    return sum(
        not isinstance(edit, AddNote | SetVerdict) and finds_some(edit, (lost or {}).get(n, ""))
        for n, edit in edits
    )


def finds_some(edit: Edit, lost: str) -> bool:
    """Whether an edit of which `lost` is told finds an object: some points of a lasso may."""
    return not lost or (
        isinstance(edit, SetClass) and not lost.startswith(f"{len(edit.points_um)} of")
    )


def _rows_of(
    known: pd.DataFrame, bins: pd.DataFrame, geometry: Geometry, bin_um: float
) -> npt.NDArray[np.int64]:
    """Row of the automatic table that each bin was, by stretch and arc length of its origin."""
    origins = [piece.origin for piece in geometry.pieces]
    traced = np.array([o.stretch if o else -1 for o in origins], np.int64)
    begin = np.array([o.arc_um if o else 0.0 for o in origins])
    own = bins["stretch"].to_numpy(np.int64)
    arc = bins["arc_start_um"].to_numpy(np.float64) + begin[own]
    first = known.groupby("stretch").head(1)
    start = pd.Series(first.index.to_numpy(), index=first["stretch"].to_numpy())
    rows = start.loc[traced[own]].to_numpy() + np.rint(arc / bin_um).astype(np.int64)
    return np.asarray(np.minimum(rows, len(known) - 1), np.int64)
