"""A marker that stains a whole compartment, as keratins do the epidermis.

A line or a nucleus that is brown says nothing about where the epidermis is, and must not: the
junction would follow what is measured along it. Brown that is broader than any line and any
nucleus is another thing. It is the epidermis, or the stratum corneum on it. Which of them is
told by what lies under it: corneum has an epidermis below, found by its hematoxylin. Thinner
sheets of brown along the surface are corneum, too (`brown_surface`).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
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
_SHEET_SHARE = 0.4  # of a pixel in which the marker is strong
_SHEET_GAP_UM = 6.0  # half of what may lie between lamellae
_BUMP_UM = 16.0  # half the width of the widest bump on a sheet
_MIN_SHEET_UM2, _SHEET_BROWN = 2000.0, 0.5  # area, and its brown share
_SHEET_REACH_UM = 30.0  # most of it lies this near to epithelium
_MOST_BLUE, _USUAL_BLUE = 1.5, 1.15  # of the epithelium: in a pixel of corneum, in most of it
_MOST_IN_NUCLEI = 0.65  # corneum holds 0.3 to 0.4 times as much stain in nuclei as epithelium
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


def brown_surface(fields: Sequence[Coarse], epithelium: Sequence[Mask]) -> tuple[list[Mask], float]:
    """Sheets of strong marker along the free surface: stratum corneum.

    Unlike positive nuclei it is brown with no more blue than most of the `epithelium` has, and
    unlike epithelium in a haze it holds few nuclei.

    Returns
    -------
    sheets
        Of each field, bool (h, w).
    most_od
        Hematoxylin (OD) above which brown is that of a nucleus.
    """
    values = [f.hematoxylin[e] for f, e in zip(fields, epithelium, strict=True)]
    if not any(map(len, values)):
        return [np.zeros_like(e) for e in epithelium], 0.0
    usual = float(np.median(np.concatenate(values)))
    nuclei = float(np.mean(np.concatenate(
        [_in_nuclei(f)[e] for f, e in zip(fields, epithelium, strict=True)]
    )))  # fmt: skip
    sheets = [_sheets(f, e, usual, nuclei) for f, e in zip(fields, epithelium, strict=True)]
    return sheets, _MOST_BLUE * usual


def _in_nuclei(field: Coarse) -> npt.NDArray[np.float32]:
    """What of the stain lies in nuclei (OD)."""
    return np.asarray(field.capped[0] - field.ground, np.float32)


def _sheets(field: Coarse, epithelium: Mask, usual_od: float, usual_in_nuclei_od: float) -> Mask:
    strong = (
        field.tissue & (field.hidden > _SHEET_SHARE) & (field.hematoxylin <= _MOST_BLUE * usual_od)
    )
    glass = open_glass(field.tissue, field.mpp)
    # Positive nuclei below a sheet are bumps on it, narrower than the sheet is long.
    outside = opened(closed(strong | glass, _SHEET_GAP_UM, field.mpp), _BUMP_UM, field.mpp)
    sheets = outside & field.tissue & (distance_um(strong, field.mpp) <= _SHEET_GAP_UM)
    count, numbers = cv2.connectedComponents(sheets.astype(np.uint8), connectivity=8)
    pieces = np.asarray(numbers, np.int32).ravel()
    area = np.bincount(pieces, minlength=count)
    brown = np.bincount(pieces, strong.ravel(), minlength=count)
    pale = strong & (field.hematoxylin <= _USUAL_BLUE * usual_od)
    most = np.bincount(pieces, pale.ravel(), minlength=count) >= brown / 2
    chosen = most & (area * field.mpp**2 >= _MIN_SHEET_UM2) & (brown >= _SHEET_BROWN * area)
    beside = distance_um(glass, field.mpp).ravel() <= 2 * _SHEET_GAP_UM
    chosen &= np.bincount(pieces, beside, minlength=count) > 0  # not within a follicle
    under = distance_um(epithelium, field.mpp).ravel() <= _SHEET_REACH_UM
    chosen &= np.bincount(pieces, under, minlength=count) >= area / 2  # not a pool of blood
    # Nuclei as in the epithelium: it is epithelium, in a blotch of haze.
    held = np.bincount(pieces, _in_nuclei(field).ravel(), minlength=count)
    chosen &= held <= _MOST_IN_NUCLEI * usual_in_nuclei_od * area
    chosen[0] = False
    return np.asarray(chosen[numbers])


def _deep_rim(field: Coarse, brown: Mask) -> Mask:
    """The part of the border of brown that does not face glass."""
    glass = open_glass(field.tissue, field.mpp)
    rim = brown & (distance_um(~brown, field.mpp) <= 1.5 * field.mpp)
    return rim & (distance_um(glass, field.mpp) > 3 * _BELOW_UM / 2)
