"""How sure the junction is, bin by bin, from what it was found by: never from collagen VII.

The border was drawn on a score of the counterstain, above 0 in epidermis. Where it is seen
clearly, the score is high a few um above the line and low a few um below it; where a line was led
on without a border, or runs through one kind of tissue, it is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.anatomy import Compartments
from histoquant.border import FULL
from histoquant.junction import Junction
from histoquant.polyline import sample

Floats = npt.NDArray[np.float64]

UNSEEN = "no border is seen here"

_BESIDE_UM = np.array([3.0, 5.0, 7.0, 9.0])
_STEP_UM = 2.0


def with_confidence(
    bins: pd.DataFrame,
    junction: Junction,
    compartments: Compartments,
    least: float | npt.NDArray[np.float64],
) -> pd.DataFrame:
    """Bins with their ``confidence``; those below `least` are excluded, with the reason.

    Parameters
    ----------
    bins
        From `morphometry.junction_bins`.
    least
        One limit, or one for each bin: a line that a person drew needs none.

    Returns
    -------
    `bins` with ``confidence``: 0 where the counterstain shows no border between epidermis and
    dermis, 1 where it leaves no doubt; NaN without a junction.
    """
    found = np.full(len(bins), np.nan)
    for number, stretch in enumerate(junction.stretches):
        own = (bins["stretch"] == number).to_numpy(bool)
        start, end = (bins.loc[own, f"arc_{name}_um"].to_numpy(float) for name in ("start", "end"))
        inner = np.arange(_STEP_UM / 2, float((end - start).max(initial=_STEP_UM)), _STEP_UM)
        arc = start[:, None] + inner
        points, normals = (
            np.stack([np.interp(arc, stretch.arc_um, line[:, k]) for k in (0, 1)], axis=-1)
            for line in (stretch.points_um, stretch.normals)
        )
        above, below = (
            sample(
                compartments.score,
                points[:, :, None] + side * _BESIDE_UM[:, None] * normals[:, :, None],
                compartments.mpp,
            ).mean(axis=(1, 2))
            for side in (-1, 1)
        )
        found[own] = np.clip(np.minimum(above, -below) / FULL, 0, 1)
    unseen = (found < least) & ~bins["excluded"].to_numpy(bool)
    reason = np.where(unseen, UNSEEN, bins["exclusion_reason"].to_numpy(object))
    return bins.assign(
        confidence=found,
        excluded=bins["excluded"].to_numpy(bool) | unseen,
        exclusion_reason=reason,
    )
