"""A picture of a fluorescence slide for the eye: nuclei blue, the marker red, on black."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from histoquant.fluorescence import FluorescenceModel
from histoquant.planes import NUCLEAR_LEVEL, PlaneModel

Image = npt.NDArray[np.uint8]
Colours = Callable[[npt.NDArray[Any]], Image]

_BLUE, _RED = (0.25, 0.45, 1.0), (1.0, 0.25, 0.15)  # light enough to be seen on black
_GAMMA = 0.75
_BRIGHT_PERCENT, _LEAST_SIGNAL = 99.5, 0.05  # of the picture; of full scale


def false_colours(model: PlaneModel) -> Colours | None:
    """What turns pixels of the slide into a picture; None where they are one already.

    For the eye only: a root brings dim and bright together, and the marker is scaled to the
    brightest of the picture, but never so that noise fills it.
    """
    if not isinstance(model, FluorescenceModel):
        return None

    def compose(pixels: npt.NDArray[Any]) -> Image:
        stains = model.planes(pixels, 1.0).stains
        marker = stains[..., 1]
        least = _LEAST_SIGNAL * model.full_scale
        top = max(float(np.percentile(marker, _BRIGHT_PERCENT)) if marker.size else 0.0, least)
        parts = ((stains[..., 0], 1.2 * NUCLEAR_LEVEL, _BLUE), (marker, top, _RED))
        picture = np.zeros((*pixels.shape[:2], 3), np.float32)
        for plane, full, colour in parts:
            bright = np.clip(plane / np.float32(full), 0, 1) ** np.float32(_GAMMA)
            picture += bright[..., None] * np.asarray(colour, np.float32)
        return np.asarray(np.rint(255 * np.minimum(picture, 1)), np.uint8)

    return compose
