"""A marker that stains a whole compartment, as keratins do the epidermis.

A line or a nucleus that is brown says nothing about where the epidermis is, and must not: the
junction would follow what is measured along it. Brown that is broader than any line and any
nucleus is another thing. It is the epidermis, or the stratum corneum on it. Which of them is
told by what lies under it: corneum has an epidermis below, found by its hematoxylin.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from histoquant.epithelium import clean
from histoquant.evidence import Coarse
from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, open_glass, opened

Mask = npt.NDArray[np.bool_]

_BROAD_UM = 8.0  # radius: no line and no nucleus is as wide
_GAP_UM = 8.0  # nuclei are paler holes in brown cytoplasm
_BELOW_UM = 16.0
_MIN_BELOW = 0.5  # of the rim of brown that faces tissue: epithelium lies under it
_MAX_LAYER = 0.5  # of the other tissue: an epidermis is the lesser part of it


def broad_brown(fields: Sequence[Coarse], settings: AnatomySettings) -> list[Mask]:
    """Where the marker is strong on a whole compartment, bool (h, w) of each field."""
    return [_broad(field, settings) for field in fields]


def _broad(field: Coarse, settings: AnatomySettings) -> Mask:
    strong = field.tissue & (field.hidden > 0.5)
    broad = opened(strong, _BROAD_UM, field.mpp)
    if not broad.any():
        return broad
    whole = closed(broad, _GAP_UM, field.mpp) & field.tissue
    return clean(whole, field.mpp, settings)


def stands_without(
    fields: Sequence[Coarse], brown: Sequence[Mask], epithelium: Sequence[Mask]
) -> bool:
    """Whether `epithelium`, found without the marker, is the epidermis: brown is not.

    It is, if `brown` lies on top of it, or is the smaller of the two, as a pool of blood is.
    """
    layer = other = covered = rim = area = 0
    for field, b, e in zip(fields, brown, epithelium, strict=True):
        apart = e & ~b
        layer += int(apart.sum())
        area += int(b.sum())
        other += int((field.tissue & ~b).sum())
        deep = _deep_rim(field, b)
        rim += int(deep.sum())
        covered += int((deep & (distance_um(apart, field.mpp) <= _BELOW_UM)).sum())
    below = covered >= _MIN_BELOW * max(rim, 1)
    return 0 < layer < _MAX_LAYER * other and (below or layer >= area)


def _deep_rim(field: Coarse, brown: Mask) -> Mask:
    """The part of the border of brown that does not face glass."""
    glass = open_glass(field.tissue, field.mpp)
    rim = brown & (distance_um(~brown, field.mpp) <= 1.5 * field.mpp)
    return rim & (distance_um(glass, field.mpp) > 3 * _BELOW_UM / 2)
