"""What follows from compartments, junction and regions: lengths, areas, bins, places of nuclei.

What no edit changed is taken from the automatic result: on a large slide measuring it again takes
many seconds, and gives the same to the bit.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant import tables
from histoquant.anatomy import ADNEXA, EPIDERMIS
from histoquant.artefacts import NONE
from histoquant.collagen7 import PROFILE_COLUMNS, missing_collagen7, summarise_collagen7
from histoquant.confidence import with_confidence
from histoquant.morphometry import junction_bins, measure_morphometry
from histoquant.p16 import measured_sizes, place_nuclei
from histoquant.review.geometry import Geometry

if TYPE_CHECKING:
    from histoquant.review.measuring import EditedSlide

Figures = tuple[dict[str, object], dict[str, str]]

NEEDS_PIXELS = (
    "the junction was drawn anew and its collagen VII has to be read from the slide: remeasure"
)
_SIZES = ("epidermis_area_mm2", "papillary_area_mm2", "reticular_area_mm2", "measured_length_mm",
          "surface_length_mm")  # fmt: skip


def shape_of(slide: EditedSlide, geometry: Geometry, *, anew: bool = False) -> Shape:
    """The shape of an edited slide, by as little measuring as the edits allow; all if `anew`."""
    base, automatic = slide.geometry, slide.automatic
    if anew or geometry.pieces is not base.pieces or geometry.compartments is not base.compartments:
        return Shape(slide, geometry)
    if automatic.nuclei is not None and (
        slide.known_places is None or not automatic.summary.keys() >= {*_SIZES}
    ):
        return Shape(slide, geometry)
    return RegionShape(slide, geometry) if geometry.regions else KnownShape(slide, geometry)


class Shape:
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
        """Tissue in regions not excluded already: artefact, adnexa or beside the junction."""
        compartments = self.geometry.compartments
        if compartments.artefacts is not None:
            left_out = left_out & (compartments.artefacts == NONE)
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
        least = slide.settings.junction.min_confidence
        drawn = np.array([piece.origin is None for piece in geometry.pieces], np.bool_)
        limits = np.where(drawn[bins["stretch"].to_numpy(np.int64)], 0.0, least)
        bins = with_confidence(bins, geometry.junction, geometry.compartments, limits)
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
            read = slide.learned(self.geometry)
            if read is None:
                table, summary, reasons = missing_collagen7(bins, NEEDS_PIXELS)
                return table, (summary, reasons), NEEDS_PIXELS
            profile = read
        else:
            rows = _rows_of(known, bins, self.geometry, slide.settings.collagen7.bin_um)
            profile = known[list(PROFILE_COLUMNS)].iloc[rows].reset_index(drop=True)
        whole = pd.concat([bins.reset_index(drop=True), profile.astype(PROFILE_COLUMNS)], axis=1)
        table, summary, reasons = summarise_collagen7(whole, slide.settings.collagen7)
        return table, (summary, reasons), ""

    def forget_profiles(self) -> None:
        """Ask for collagen VII again: more of it is known by now."""
        self.__dict__.pop("profiles", None)

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


class KnownShape(Shape):
    """What the program measured, where no edit changed the geometry: nothing is measured again."""

    @cached_property
    def morphometry(self) -> Figures:
        """None: every figure is the automatic one."""
        return {}, {}

    @cached_property
    def sizes(self) -> dict[str, float]:
        """What counts are divided by, from the summary."""
        return known_sizes(self._slide)

    @cached_property
    def _placed(self) -> pd.DataFrame:
        return self._slide.own_nuclei.assign(**(self._slide.known_places or {}))


class RegionShape(Shape):
    """Regions on a slide whose junction and compartments are as the program found them."""

    @cached_property
    def sizes(self) -> dict[str, float]:
        """What counts are divided by: the program's areas less what regions take."""
        slide, junction = self._slide, self.geometry.junction
        known = known_sizes(slide)
        if not np.isnan(known["epidermis_area_mm2"]):
            known |= slide.bands.areas(known, self.geometry)
        return known | {
            "measured_length_mm": junction.measured_length_um / 1000,
            "surface_length_mm": float(str(self.morphometry[0]["surface_length_mm"])),
        }

    @cached_property
    def _placed(self) -> pd.DataFrame:
        """The program's places; which junction is measured beside them follows the regions."""
        slide, geometry = self._slide, self.geometry
        placed = slide.own_nuclei.assign(**(slide.known_places or {}))
        with_line = geometry.compartments.has_epidermis and bool(geometry.junction.stretches)
        beside = ~geometry.junction.excluded_at(slide.finder.points_um) & with_line
        return placed.assign(beside_measured_junction=beside)


def known_sizes(slide: EditedSlide) -> dict[str, float]:
    """What the program divided counts by, from its summary; NaN where there is none."""
    summary = slide.automatic.summary
    return {
        name: float("nan") if tables.is_missing(summary[name]) else float(str(summary[name]))
        for name in _SIZES
    }


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
