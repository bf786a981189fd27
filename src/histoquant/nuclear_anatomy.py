"""Epidermis, corneum and dermis of a fluorescence slide, from its nuclear stain alone.

A nuclear stain says nothing of cytoplasm or collagen. What tells epithelium is how close its
nuclei lie: discs of 8 um that hold no nucleus find no room in it, and plenty in dermis. That
(`close_nuclei`) finds the epithelium, the nuclear stain itself then places the junction
(`anatomy.find_compartments`). Two things are set right afterwards (`amend`): layers of epithelium
whose nuclei lie too far apart for that, and keratin, which shines in every channel and has no
nuclei: epidermis ends where its outermost nuclei do.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.anatomy import DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments, find_compartments
from histoquant.planes import NUCLEAR_LEVEL
from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, drop_small, open_glass, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_NUCLEUS_SHARE = 0.35  # of a typical nucleus: its outline, and more than collagen shines
_OVER_SHARE = 0.20  # of it, above the darkest that a square too large for a nucleus holds
_AROUND_UM = 24.0
_VOID_UM = 8.0  # radius of a disc without nuclei that fits into dermis, not into epidermis
_WIDE_VOID_UM = 12.0  # into dermis, not into the upper layers of a mucosa
_MIN_FULL = 0.5  # of a piece without such voids: epithelium; dermis lies at 0.1-0.35
_MAX_PIECE = 0.5  # of all dermis: the larger part is dermis, whatever it looks like
_NOTCH_UM, _FULL_NOTCH = 20.0, 0.6  # half the width of the widest; least share without voids
_NECK_UM = 10.0  # half the width by which a piece may hang on the dermis
_SURFACE_UM = 60.0  # from glass inwards: where corneum may be
_JUNCTION_UM = 12.0  # from dermis: stays as it was found
_SUPRA_UM, _OUTER_UM = 10.0, 3.0  # gaps between granular nuclei; what lies above the outermost
_LAMELLA_UM, _LAMELLA_SHARE = 25.0, 0.65  # long and dimmer than nuclei: keratin
_MIN_HOLE_UM2 = 2000.0
_MIN_EPIDERMIS_UM2 = 10_000.0


def divide_by_nuclei(
    nuclear: FloatArray, tissue: Mask, mpp: float, settings: AnatomySettings
) -> Compartments:
    """Divide a section into epidermis, stratum corneum, dermis and adnexal epithelium.

    Parameters
    ----------
    nuclear
        Nuclear stain above background (h, w) float32, a typical nucleus at `NUCLEAR_LEVEL`.
    tissue
        bool (h, w).
    mpp
        um/px, some 2.

    Returns
    -------
    Compartments. Without epidermis all tissue is dermis, and `reason` says what was seen.
    """
    nuclear = np.ascontiguousarray(nuclear)
    nuclei = nuclei_mask(nuclear, mpp)
    stains = np.zeros((*nuclear.shape, 3), np.float32)
    stains[..., 0] = NUCLEAR_LEVEL * close_nuclei(nuclei, mpp)
    # The root brings dim nuclei and the brightest to about one level, so that none decides alone.
    root = np.sqrt(np.clip(nuclear, 0, NUCLEAR_LEVEL) / NUCLEAR_LEVEL)
    stains[..., 1] = NUCLEAR_LEVEL * root
    found = find_compartments(stains, tissue, mpp, settings, "nuclei")
    if not found.has_epidermis:
        reason = found.reason.replace("denser in hematoxylin", "denser in nuclei")
        return replace(found, reason=reason.replace("deviations of hematoxylin", "deviations"))
    return amend(found, nuclear, nuclei, tissue)


def nuclei_mask(nuclear: FloatArray, mpp: float) -> Mask:
    """Pixels of nuclei: as bright as one, and brighter than what is around them, bool (h, w)."""
    around = cv2.morphologyEx(nuclear, cv2.MORPH_OPEN, _disc(_AROUND_UM / 2, mpp))
    over = nuclear - around >= _OVER_SHARE * NUCLEAR_LEVEL
    return np.asarray(over & (nuclear >= _NUCLEUS_SHARE * NUCLEAR_LEVEL), np.bool_)


def close_nuclei(nuclei: Mask, mpp: float) -> Mask:
    """Where nuclei lie so close that no disc of 8 um radius fits between them; and nuclei."""
    return np.asarray(opened(closed(nuclei, _VOID_UM, mpp), _VOID_UM, mpp) | nuclei, np.bool_)


def amend(found: Compartments, nuclear: FloatArray, nuclei: Mask, tissue: Mask) -> Compartments:
    """Add epithelium with sparse nuclei to the epidermis, and end it at its outermost nuclei."""
    labels = found.labels.copy()
    labels[_sparse_epithelium(labels, nuclei, found.mpp)] = EPIDERMIS
    labels[_full_notches(labels, nuclei, found.mpp)] = EPIDERMIS
    labels[_notches(labels, found.mpp)] = EPIDERMIS
    _end_at_nuclei(labels, nuclear, nuclei, tissue, found.mpp)
    # Where the two disagree the score must follow the labels, or contours stray.
    least = np.int8(2)
    score = np.where(
        labels == EPIDERMIS, np.maximum(found.score, least), np.minimum(found.score, -least)
    )
    return replace(found, labels=labels, score=score)


def _sparse_epithelium(labels: npt.NDArray[np.uint8], nuclei: Mask, mpp: float) -> Mask:
    """Pieces called dermis, apart from the bulk of it, that hold no void as dermis does."""
    full = closed(nuclei, _WIDE_VOID_UM, mpp)
    pieces = opened(labels == DERMIS, _NECK_UM, mpp).astype(np.uint8)
    count, numbers = cv2.connectedComponents(pieces, connectivity=4)
    area = np.bincount(numbers.ravel(), minlength=count)
    share = np.bincount(numbers.ravel(), full.ravel(), count) / np.maximum(area, 1)
    taken = (share >= _MIN_FULL) & (area < _MAX_PIECE * area[1:].sum())
    taken[0] = False
    near = distance_um(taken[numbers], mpp) <= _NECK_UM + mpp
    return np.asarray(near & (labels == DERMIS), np.bool_)


def _full_notches(labels: npt.NDArray[np.uint8], nuclei: Mask, mpp: float) -> Mask:
    """Notches in the epidermis as wide as a papilla, in which nuclei lie as close as in epithelium.

    Where a few basal nuclei are dim the fine scale cuts the epidermis short above them.
    """
    dermis = labels == DERMIS
    tight = dermis & ~opened(dermis, _NOTCH_UM, mpp)
    _, numbers = cv2.connectedComponents(tight.astype(np.uint8), connectivity=4)
    area = np.bincount(numbers.ravel())
    full = closed(nuclei, _VOID_UM, mpp)
    share = np.bincount(numbers.ravel(), full.ravel(), len(area)) / np.maximum(area, 1)
    beside = tight & (distance_um(labels == EPIDERMIS, mpp) <= 1.5 * mpp)
    taken = np.bincount(numbers[beside], minlength=len(area)) > 0
    taken &= share >= _FULL_NOTCH
    taken[0] = False
    return np.asarray(taken[numbers], np.bool_)


def _notches(labels: npt.NDArray[np.uint8], mpp: float) -> Mask:
    """Dermis beside epidermis into which no disc of 8 um fits: notches, rims along cut edges.

    The rule that tells the two apart in the first place, for what the fine scale made of it.
    """
    dermis = labels == DERMIS
    tight = dermis & ~opened(dermis, _VOID_UM, mpp)
    _, numbers = cv2.connectedComponents(tight.astype(np.uint8), connectivity=4)
    beside = tight & (distance_um(labels == EPIDERMIS, mpp) <= 1.5 * mpp)
    touching = np.zeros(int(numbers.max()) + 1, np.bool_)
    touching[numbers[beside]] = True
    touching[0] = False
    near = distance_um(labels == EPIDERMIS, mpp) <= 2 * _VOID_UM
    return np.asarray(touching[numbers] & near, np.bool_)


def _end_at_nuclei(
    labels: npt.NDArray[np.uint8], nuclear: FloatArray, nuclei: Mask, tissue: Mask, mpp: float
) -> None:
    """Draw the border of epidermis and corneum anew, in place, along the outermost nuclei."""
    depth = distance_um(open_glass(tissue, mpp), mpp)
    body = np.isin(labels, (EPIDERMIS, STRATUM_CORNEUM))
    zone = body & (depth < _SURFACE_UM)
    zone &= distance_um(labels == DERMIS, mpp) > _JUNCTION_UM
    own = nuclei & ~_lamellae(nuclear, nuclei, depth, labels == EPIDERMIS, mpp)
    alive = distance_um(closed(own, _SUPRA_UM, mpp), mpp) <= _OUTER_UM
    epidermis = opened(np.where(zone, alive, labels == EPIDERMIS), 2 * mpp, mpp)
    epidermis = ~drop_small(~epidermis, _MIN_HOLE_UM2 / mpp**2)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(epidermis.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] * mpp**2 >= _MIN_EPIDERMIS_UM2
    large[0] = False
    labels[zone] = np.where(large[numbers[zone]], EPIDERMIS, STRATUM_CORNEUM)


def _lamellae(
    nuclear: FloatArray, nuclei: Mask, depth_um: FloatArray, epidermis: Mask, mpp: float
) -> Mask:
    """Which of the nuclei near the surface are sheets of keratin: long, and dimmer than nuclei."""
    deep = nuclei & epidermis & (depth_um >= _SURFACE_UM)
    typical = float(np.median(nuclear[deep])) if deep.any() else NUCLEAR_LEVEL
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(
        nuclei.astype(np.uint8), connectivity=4
    )
    capped = np.minimum(nuclear, NUCLEAR_LEVEL).ravel()
    mean = np.bincount(numbers.ravel(), capped, count) / stats[:, cv2.CC_STAT_AREA]
    innermost = np.zeros(count, np.float32)
    np.maximum.at(innermost, np.asarray(numbers, np.int64).ravel(), depth_um.ravel())
    side = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) * mpp
    sheets = (side > _LAMELLA_UM) & (innermost < _SURFACE_UM) & (mean < _LAMELLA_SHARE * typical)
    sheets[0] = False
    return np.asarray(sheets[numbers], np.bool_)


def _disc(radius_um: float, mpp: float) -> npt.NDArray[np.uint8]:
    side = 2 * int(np.ceil(radius_um / mpp)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(disc, np.uint8)
