"""Which part of a slide has pixels, from the boxes that have none."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # top, left, height, width

_SHARE_CELLS = 2048


def outside(boxes: Iterable[Box], shape: tuple[int, int], factor: float) -> NDArray[np.bool_]:
    """Tell what no box touches: bool `shape`, at `factor` times the px of the boxes."""
    mask = np.ones(shape, dtype=np.bool_)
    for top, left, height, width in boxes:
        rows = slice(int(top * factor), math.ceil((top + height) * factor))
        mask[rows, int(left * factor) : math.ceil((left + width) * factor)] = False
    return mask


def percent_inside(boxes: Iterable[Box], shape: tuple[int, int]) -> float:
    """Measure the part of `shape` that boxes cover, to a 2048th of its longer side."""
    factor = min(1.0, _SHARE_CELLS / max(shape))
    mask = np.zeros([math.ceil(side * factor) for side in shape], dtype=np.bool_)
    for top, left, height, width in boxes:
        rows = slice(round(top * factor), round((top + height) * factor))
        mask[rows, round(left * factor) : round((left + width) * factor)] = True
    return 100 * float(mask.mean())
