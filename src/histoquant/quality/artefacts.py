"""Where a slide is not fit to be measured, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from histoquant.junction import Junction

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

NONE, PEN, DEBRIS, BUBBLE, COVERSLIP, BLOOD, FOLD, BLUR = range(8)
NAMES = {
    PEN: "pen",
    DEBRIS: "debris",
    BUBBLE: "bubble",
    COVERSLIP: "coverslip",
    BLOOD: "blood",
    FOLD: "fold",
    BLUR: "blur",
}
REASONS = {
    PEN: "pen or ink",
    DEBRIS: "debris",
    BUBBLE: "air bubble",
    COVERSLIP: "edge of the coverslip",
    BLOOD: "blood",
    FOLD: "fold",
    BLUR: "out of focus",
}
OPAQUE = (PEN, DEBRIS, BLOOD, FOLD)
"""What hides the tissue or passes for another one: no compartment is looked for there."""


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

    def at(self, points_um: Points) -> Codes:
        """Code at each of (n, 2) points (y, x) in um; `NONE` off the picture."""
        index = np.floor(np.asarray(points_um, np.float64) / self.mpp).astype(np.int64)
        height, width = self.codes.shape
        valid = (index >= 0).all(axis=1) & (index[:, 0] < height) & (index[:, 1] < width)
        codes = np.zeros(len(index), np.uint8)
        codes[valid] = self.codes[index[valid, 0], index[valid, 1]]
        return codes

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


def leave_out(junction: Junction, artefacts: Artefacts) -> Junction:
    """The junction with the vertices that lie in an artefact excluded."""
    if not junction.stretches or not artefacts.codes.any():
        return junction
    stretches = tuple(
        replace(s, excluded=s.excluded | (artefacts.at(s.points_um) != NONE))
        for s in junction.stretches
    )
    return replace(junction, stretches=stretches)


def reasons_at(artefacts: Artefacts, points_um: Points) -> npt.NDArray[np.object_]:
    """Why each of (n, 2) points (y, x) in um is left out; empty where it is not."""
    words = np.array([REASONS.get(code, "") for code in range(len(NAMES) + 1)], dtype=object)
    return np.asarray(words[artefacts.at(points_um)])
