"""Where a slide is not fit to be measured, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.anatomy import BACKGROUND, Compartments
from histoquant.artefacts import NONE, OPAQUE
from histoquant.border import FULL
from histoquant.junction import Junction
from histoquant.pieces import touching

Codes = npt.NDArray[np.uint8]

_BESIDE_UM = 10.0  # an artefact this near to tissue may hide some


@dataclass(frozen=True, eq=False)
class Artefacts:
    """What every pixel of the slide suffers from.

    Attributes
    ----------
    codes
        uint8 (h, w) over the whole slide: `NONE` or one of `NAMES`.
    mpp
        Pixel size in um; pixel (i, j) covers ``[i, i + 1) x [j, j + 1)`` times `mpp`.
    """

    codes: Codes
    mpp: float

    def on_grid(self, shape: tuple[int, int], mpp: float) -> Codes:
        """Codes (h, w) on a grid of the whole slide at `mpp` um/px, nearest pixel."""
        rows, columns = (
            np.minimum(((np.arange(n) + 0.5) * mpp / self.mpp).astype(np.int64), limit - 1)
            for n, limit in zip(shape, self.codes.shape, strict=True)
        )
        return np.asarray(self.codes[rows[:, None], columns[None, :]])

    def area_mm2(self, *codes: int) -> float:
        """Area of the regions `codes` together, in mm2."""
        return float(np.isin(self.codes, codes).sum()) * self.mpp**2 / 1e6


def mark(compartments: Compartments, artefacts: Artefacts) -> Compartments:
    """The compartments with the artefacts on their grid, all `NONE` where none were found.

    Compartments without any grid of artefacts say that none were looked for.
    """
    codes = artefacts.on_grid(compartments.labels.shape, compartments.mpp)
    return replace(compartments, artefacts=_touching_tissue(codes, compartments))


def _touching_tissue(codes: Codes, compartments: Compartments) -> Codes:
    """`codes` without the pieces that lie on glass alone: a dot of ink there hides nothing."""
    if not codes.any():
        return codes
    reach = 2 * round(_BESIDE_UM / compartments.mpp) + 1
    near = cv2.dilate((compartments.labels > 0).astype(np.uint8), np.ones((reach, reach), np.uint8))
    beside = touching(codes != NONE, near > 0)
    return np.where(beside, codes, np.uint8(NONE))


def hide(compartments: Compartments) -> Compartments:
    """The compartments without what an artefact hides: there is tissue of a kind no one can see."""
    if compartments.artefacts is None:
        return compartments
    hidden = np.isin(compartments.artefacts, OPAQUE)
    if not hidden.any():
        return compartments
    labels, score = compartments.labels.copy(), compartments.score.copy()
    labels[hidden], score[hidden] = BACKGROUND, -FULL
    return replace(compartments, labels=labels, score=score)


def leave_out(junction: Junction, compartments: Compartments) -> Junction:
    """The junction with the vertices that lie in an artefact excluded, and which it is."""
    if compartments.artefacts is None:
        return junction
    stretches = []
    for stretch in junction.stretches:
        codes = compartments.artefact_at(stretch.points_um)
        stretches.append(
            replace(stretch, excluded=stretch.excluded | (codes != NONE), artefacts=codes)
        )
    return replace(junction, stretches=tuple(stretches))
