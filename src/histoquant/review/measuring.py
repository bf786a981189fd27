"""The figures of an edited slide, from the code that measured it, and only what changed.

What was measured from pixels (nuclei with their colours, profiles of bins) is on disk; what
follows from places and classes is measured again here by `histoquant.p16`, `morphometry` and
`collagen7`. A change of class takes the counts again, a region the places too, a new line all.
With no edits every figure is the automatic one, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant import tables
from histoquant.collagen7 import PROFILE_COLUMNS, summarise_collagen7
from histoquant.errors import ReviewError
from histoquant.p16 import (
    count_p16,
    leave_out,
    places_of,
    threshold_sweep,
    warn_of_field,
)
from histoquant.quality import judge
from histoquant.results import SlideResult, missing_reasons
from histoquant.review.areas import Bands
from histoquant.review.edits import AddNote, Edit, SetClass, SetVerdict
from histoquant.review.geometry import GEOMETRIC, Edits, Geometry, as_measured
from histoquant.review.marks import MATCH_UM, NOT_A_NUCLEUS, Finder, Marks, Rows, marks_of
from histoquant.review.shapes import Figures, Shape, shape_of
from histoquant.settings import Settings

Numbered = tuple[int, Edit]
_REMEMBERED = 4  # lines drawn anew whose collagen VII was read
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
    anew
        Measure what no edit changes too, instead of taking it from the result: on a large slide
        that is nearly all there is to do.

    Raises
    ------
    ReviewError
        When the result does not hold what measuring anew needs.
    """

    def __init__(self, automatic: SlideResult, *, anew: bool = False) -> None:
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
        self._anew = anew
        self._edits = Edits(self.geometry, self.settings)
        self._read: dict[bytes, pd.DataFrame] = {}
        self._shapes: dict[tuple[Numbered, ...], Shape] = {}

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

    def shape(self, edits: Sequence[Numbered]) -> Shape:
        """What follows from the geometric edits alone; the last two are remembered."""
        key = tuple(item for item in edits if isinstance(item[1], GEOMETRIC))
        shape = self._shapes.pop(key, None) or shape_of(
            self, self._edits.geometry(key), anew=self._anew
        )
        while len(self._shapes) > 1:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[key] = shape
        return shape

    def learn(self, geometry: Geometry, profiles: pd.DataFrame) -> None:
        """Remember what was read along the lines of a geometry; exclusions do not change it."""
        self._read[_lines_of(geometry)] = profiles[list(PROFILE_COLUMNS)].reset_index(drop=True)
        while len(self._read) > _REMEMBERED:
            del self._read[next(iter(self._read))]
        for shape in self._shapes.values():
            shape.forget_profiles()

    def learned(self, geometry: Geometry) -> pd.DataFrame | None:
        """Collagen VII along these lines, bin by bin, where it was read from the slide."""
        return self._read.get(_lines_of(geometry))

    @cached_property
    def known_places(self) -> dict[str, Any] | None:
        """p16: where the program found its nuclei to lie, by column; None when not all is known."""
        table = self.automatic.nuclei
        return None if table is None else places_of(table)

    @cached_property
    def bands(self) -> Bands:
        """p16: finds the areas of the dermal bands under regions."""
        return Bands(self.geometry, self.settings.anatomy.papillary_depth_um)

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

    def _count(self, shape: Shape, marks: Marks) -> tuple[pd.DataFrame, Figures]:
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
        if not tables.is_missing(self.automatic.summary.get("quality")):  # older: never judged
            verdict, doubts = judge(merged, self.settings.quality)
            merged |= {"quality": verdict, "quality_reasons": "; ".join(doubts) or "none"}
        whole = tables.conform_summary(merged, self.automatic.marker)
        kept = {k: v for k, v in self.automatic.reasons.items() if k not in again}
        return whole, missing_reasons(whole, kept | reasons)

    def _warnings(self, summary: dict[str, object], lost: dict[int, str]) -> list[str]:
        told = cast(list[str], list(cast(Any, self.automatic.provenance.get("warnings", []))))
        if self.automatic.marker == "p16" and self.has_marker:
            unit = str(self.automatic.summary.get("marker_unit") or "OD")
            before = warn_of_field(self.automatic.summary, self.settings, unit)
            told = [w for w in told if w not in before]
            told += warn_of_field(summary, self.settings, unit)
        if lost:
            told.append(f"{len(lost)} reviewer's edit(s) no longer find their object")
        return told


def _lines_of(geometry: Geometry) -> bytes:
    """What tells the lines of a junction from others."""
    digest = hashlib.blake2b(digest_size=16)
    for stretch in geometry.junction.stretches:
        digest.update(f"{len(stretch.points_um)};".encode())
        digest.update(np.ascontiguousarray(stretch.points_um).tobytes())
    return digest.digest()


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
