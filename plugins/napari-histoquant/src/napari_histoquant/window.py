"""Which of a slide's nuclei are drawn: those in view, and no more than a screen can show.

Drawing time grows with the number of points, whether they are on the screen or not. So only what
is in view is handed to napari; where that is still too much, a sample of it that leans towards
positives, the same one every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Box = tuple[float, float, float, float]

MOST = 12_000
"""Points drawn at a time."""
_AHEAD = 0.35  # of the view on every side, so that small pans draw nothing new


@dataclass(frozen=True, eq=False)
class Shown:
    """What is drawn: rows of the table, the box (um) they fill, and whether it is all of them."""

    rows: Rows
    box: Box
    complete: bool

    def covers(self, view: Box) -> bool:
        """Whether the view is still inside, and not so small that more could be shown."""
        inside = (
            view[0] >= self.box[0]
            and view[1] >= self.box[1]
            and view[2] <= self.box[2]
            and view[3] <= self.box[3]
        )
        return inside and (self.complete or _area(view) > _area(self.box) / 8)


def choose(points_um: Floats, first: npt.NDArray[np.bool_], view: Box, most: int = MOST) -> Shown:
    """Choose the nuclei to draw.

    Parameters
    ----------
    points_um
        (n, 2) centres, (y, x).
    first
        (n,) nuclei that are drawn before others: positive ones, and those that were reviewed.
    view
        Top, left, bottom, right of what is on the screen (um).
    most
        How many may be drawn.
    """
    if len(points_um) <= most:
        everywhere = (-np.inf, -np.inf, np.inf, np.inf)
        return Shown(np.arange(len(points_um)), everywhere, True)
    height, width = view[2] - view[0], view[3] - view[1]
    box = (
        view[0] - _AHEAD * height,
        view[1] - _AHEAD * width,
        view[2] + _AHEAD * height,
        view[3] + _AHEAD * width,
    )
    y, x = points_um.T
    rows = np.flatnonzero((y >= box[0]) & (y <= box[2]) & (x >= box[1]) & (x <= box[3]))
    if len(rows) <= most:
        return Shown(rows, box, True)
    # Knuth's multiplicative hash: a sample that does not depend on what else is in view.
    order = (rows * 2654435761 % 2**32).astype(np.int64) - first[rows] * 2**33
    kept = rows[np.argpartition(order, most)[:most]]
    return Shown(np.sort(kept), box, False)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
