"""One interface from pixels to planes, whatever the slide is stained with.

What measures asks for planes of a picture: what is in nuclei, what the marker is, and what is
left. Bright-field stains give them as optical densities (`stains.StainModel`), fluorescence as
intensities above background (`fluorescence.FluorescenceModel`). The planes of a pixel depend on
that pixel alone, so that no result depends on how a slide was cut.
"""

from __future__ import annotations

from functools import reduce
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])

NUCLEAR_LEVEL = 0.5
"""What a typical nucleus of a fluorescence slide is in the nuclear plane: the hematoxylin OD of a
well stained one, which the rules for nuclei are made for."""


def over_channels(operation: np.ufunc, pixels: Pixels) -> Pixels:
    """`operation` from channel to channel, (h, w, c) to (h, w).

    What NumPy's `reduce` gives along so short an axis, in a tenth of the time.
    """
    return cast(Pixels, reduce(operation, np.moveaxis(pixels, -1, 0)))


class Planes(NamedTuple):
    """Planes of a picture.

    Attributes
    ----------
    stains
        float32 (h, w, 3): nuclear stain, marker, residual; signed. The marker in the unit of
        the model. The nuclear stain in OD; in fluorescence in a scale on which bright nuclei are
        as dense as well stained ones.
    od
        float32 (h, w, 3): optical densities of red, green and blue. In fluorescence they are 0,
        and `max_od` in red where the marker's channel is at the end of what the camera tells.
    max_od
        Optical density at which a channel counts as saturated.
    """

    stains: FloatArray
    od: FloatArray
    max_od: np.float32

    @property
    def saturated(self) -> npt.NDArray[np.bool_]:
        """Where any channel is at the end of what the camera tells, bool (h, w)."""
        return np.asarray(over_channels(np.logical_or, self.od >= self.max_od), np.bool_)


class PlaneModel(Protocol):
    """What turns the pixels of one slide into planes."""

    @property
    def names(self) -> tuple[str, str, str]:
        """Names of the planes."""
        ...

    @property
    def has_marker(self) -> bool:
        """Whether the second plane is a marker that positivity can be read from."""
        ...

    @property
    def marker_in_nuclei(self) -> bool:
        """Whether nuclei under the marker have lost their nuclear stain to it (DAB hides)."""
        ...

    @property
    def unit(self) -> str:
        """Unit of the marker's plane."""
        ...

    @property
    def source(self) -> str:
        """Where its numbers came from, for the result."""
        ...

    def planes(self, pixels: npt.NDArray[Any], max_od: float) -> Planes:
        """Planes of pixels (h, w, c) as the slide gives them.

        Parameters
        ----------
        max_od
            OD per channel at which a pixel counts as saturated and is capped.
        """
        ...
