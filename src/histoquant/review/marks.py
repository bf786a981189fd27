"""What reviewers said of single nuclei, found again by place.

The nucleus an edit is about is the one nearest to the edit's point, within `MATCH_UM`: a nucleus
has some 6 um across, and measured anew its centre moves by a small part of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

from histoquant.review.edits import AddNucleus, Edit, NucleusClass, SetClass
from histoquant.settings import P16Settings

Points = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

MATCH_UM = 4.0
SAME_UM = 2.0
"""A nucleus added this near to one that the program found by now, or to one added, is that one."""

NOT_A_NUCLEUS = "reviewer: not a nucleus"
_NO_NUCLEUS, _NOBODY = -2, -1


class Finder:
    """Finds nuclei by place; what it found for an edit is remembered."""

    def __init__(self, nuclei: pd.DataFrame) -> None:
        self.points_um = nuclei[["y_um", "x_um"]].to_numpy(np.float64)
        self._tree = cKDTree(self.points_um) if len(self.points_um) else None
        self._known: dict[Edit, Rows] = {}

    def rows(self, edit: Edit, points_um: Points, within_um: float) -> Rows:
        """Row of the nucleus nearest to each point of an edit, -1 where there is none."""
        if edit not in self._known:
            self._known[edit] = self.nearest(points_um, within_um)
        return self._known[edit]

    def nearest(self, points_um: Points, within_um: float) -> Rows:
        """Row of the nucleus nearest to each point, -1 where none is within `within_um`."""
        if self._tree is None:
            return np.full(len(points_um), -1, np.int64)
        distance, row = self._tree.query(points_um, distance_upper_bound=within_um)
        return np.where(np.isfinite(distance), row, -1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Marks:
    """What is said of each nucleus: first those of the program, then added ones.

    Attributes
    ----------
    reviewed_class
        int64: class 0-3; -1 where nobody said anything.
    not_nucleus
        bool: called no nucleus.
    added_um
        float64 (m, 2): centres of the added ones.
    lost
        Number of an edit -> which of its points find no nucleus, in words.
    """

    reviewed_class: npt.NDArray[np.int64]
    not_nucleus: npt.NDArray[np.bool_]
    added_um: Points
    lost: dict[int, str] = field(default_factory=dict)


def marks_of(
    finder: Finder, edits: Iterable[tuple[int, Edit]], dab_od: Points, settings: P16Settings
) -> Marks:
    """What edits say of each nucleus; the last word holds.

    Parameters
    ----------
    finder
        Of the program's nuclei.
    edits
        Numbered, in order; those that are not about nuclei are passed over.
    dab_od
        (n,) mean DAB OD of the program's nuclei, for the class of positive ones.
    """
    n = len(finder.points_um)
    said = np.full(n, _NOBODY, np.int64)
    added: list[tuple[float, float]] = []
    classes: list[int] = []
    own: list[int] = []
    lost: dict[int, str] = {}
    levels = np.maximum(np.searchsorted(settings.thresholds_od, dab_od, side="right"), 1)
    for number, edit in edits:
        if isinstance(edit, AddNucleus):
            (row,) = finder.rows(edit, np.asarray([edit.point_um]), SAME_UM)
            level = edit.intensity_class or 1 if edit.value == "positive" else 0
            if row >= 0:
                said[row] = max(level, 0)
                continue
            same = _nearest_added(np.asarray(edit.point_um), added, SAME_UM)
            if same >= 0:
                classes[same] = own[same] = level
                continue
            added.append(edit.point_um)
            classes.append(level)
            own.append(level)
        elif isinstance(edit, SetClass):
            points = np.asarray(edit.points_um, np.float64)
            rows = finder.rows(edit, points, MATCH_UM)
            found = rows[rows >= 0]
            said[found] = _code(edit.value, edit.intensity_class, levels[found])
            missed = _mark_added(points[rows < 0], edit, added, classes, own)
            if missed:
                lost[number] = f"{missed} of {len(points)} point(s) find no nucleus within " + (
                    f"{MATCH_UM:g} um"
                )
    every = np.concatenate([said, np.asarray(classes, np.int64)])
    places = np.asarray(added, np.float64).reshape(-1, 2)
    return Marks(np.maximum(every, -1), every == _NO_NUCLEUS, places, lost)


def _mark_added(
    points: Points,
    edit: SetClass,
    added: list[tuple[float, float]],
    classes: list[int],
    own: list[int],
) -> int:
    """Apply a change of class to added nuclei; how many points find none."""
    missed = 0
    for point in points:
        nearest = _nearest_added(point, added, MATCH_UM)
        if nearest < 0:
            missed += 1
        elif edit.value == "automatic":
            classes[nearest] = own[nearest]
        else:
            (classes[nearest],) = _code(edit.value, edit.intensity_class, np.ones(1, np.int64))
    return missed


def _nearest_added(point: Points, added: list[tuple[float, float]], within_um: float) -> int:
    """Which of the added nuclei is nearest to a point; -1 where none is within `within_um`."""
    distance = np.hypot(*(np.asarray(added, np.float64).reshape(-1, 2) - point).T)
    nearest = int(np.argmin(distance)) if len(distance) else -1
    return nearest if nearest >= 0 and distance[nearest] <= within_um else -1


def _code(value: NucleusClass, intensity_class: int, levels: npt.NDArray[np.int64]) -> Rows:
    """What is said of nuclei, as a number; `levels` are their classes by colour, at least 1."""
    if value == "positive":
        return np.full(len(levels), intensity_class) if intensity_class else levels
    code = {"negative": 0, "automatic": _NOBODY, "not_a_nucleus": _NO_NUCLEUS}[value]
    return np.full(len(levels), code, np.int64)
