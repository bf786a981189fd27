"""Epidermis, corneum and dermis of a fluorescence slide, from its nuclear stain alone.

A nuclear stain says nothing of cytoplasm or collagen. What tells epithelium is how close its
nuclei lie: discs that hold no nucleus find little room in it, and plenty in dermis. How small they
must be (`closeness`) finds the epithelium, by a rule that every slide teaches itself; the nuclear
stain then places the junction (`anatomy.find_compartments`). Two things are set right afterwards:
what the fine scale made of places where basal nuclei are dim, and keratin, which shines in every
channel and has no nuclei: epidermis ends where its outermost nuclei do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.anatomy import DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments, find_compartments
from histoquant.evidence import standing_out
from histoquant.layers import Labels
from histoquant.pieces import touching
from histoquant.planes import NUCLEAR_LEVEL
from histoquant.settings import AnatomySettings
from histoquant.tissue import closed, distance_um, drop_small, open_glass, opened, pixels_of
from histoquant.viable import under_the_ball

FloatArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Of a typical nucleus: how bright its outline is at least, and how far above the darkest that a
# square too large for a nucleus holds. Bright ones are more than collagen shines.
_DIM, _BRIGHT = (0.2, 0.12), (0.55, 0.3)
_AROUND_UM = 24.0
_VOIDS_UM = (6.0, 8.0, 10.0, 12.0, 14.0)  # radii of discs: some 8 fit into dermis, not epidermis
_CROWD_UM, _CROWD_REACH_UM = 9.0, 60.0  # the thinnest crowd, half; what lies around it
_VOID_UM = 8.0  # radius of a disc without nuclei that fits into dermis, not into epidermis
_BESIDE_UM, _CYTOPLASM_UM = 9.0, 6.0  # from epidermis to the centre of a nucleus; around it
_NOTCH_UM, _FULL_NOTCH = 20.0, 0.6  # half the width of the widest; least share without voids
_SURFACE_UM = 60.0  # from glass inwards: where corneum may be
_JUNCTION_UM = 12.0  # from dermis: stays as it was found
_NUCLEUS_UM, _OUTER_UM = 3.0, 3.0  # radius of the flattest; what lies above the outermost
_LEAST_PER_MM2 = 500.0  # nuclei of epidermis; there are thousands where they are found
_LEAST_CONTRAST = 0.1  # of nuclei; less is noise
_CLUMP_UM = 5.0  # from their outline: no single nucleus is as wide
_COMPACT = 0.35  # of the usual nucleus: how far one stands out from what is long, at least
_MIN_HOLE_UM2 = 2000.0
_MAX_CORNER_UM2 = 20_000.0
_SHIFT = 4  # bits of a pixel's fraction that discs are drawn with
_SUBPIXELS = 1 << _SHIFT
_MIN_EPIDERMIS_UM2 = 10_000.0


@dataclass(frozen=True, eq=False)
class Nuclei:
    """Nuclei found one by one.

    Attributes
    ----------
    places_um, area_um2
        Centroids (n, 2), y and x, and areas (n,).
    sure
        Which of them surely are in epithelium, bool (n,).
    """

    places_um: Floats
    area_um2: Floats
    sure: Mask

    def of(self, chosen: Mask) -> Nuclei:
        """Some of them."""
        return Nuclei(self.places_um[chosen], self.area_um2[chosen], self.sure[chosen])


def divide_by_nuclei(
    nuclear: FloatArray,
    tissue: Mask,
    mpp: float,
    levels: tuple[float, float],
    found_nuclei: Nuclei,
    settings: AnatomySettings,
) -> Compartments:
    """Divide a section into epidermis, stratum corneum, dermis and adnexal epithelium.

    Parameters
    ----------
    nuclear
        Nuclear stain above background (h, w) float32, a typical nucleus at `NUCLEAR_LEVEL`.
        Without lymphocytes in heaps, which lie as close as in epithelium.
    tissue
        bool (h, w).
    mpp
        um/px, some 2.
    levels
        What the nuclear stain is between nuclei of dermis, and in a typical nucleus.
    found_nuclei
        Those in what is `crowded`, but for nuclei of the dermis as far as they are told.

    Returns
    -------
    Compartments. Without epidermis all tissue is dermis, and `reason` says what was seen.
    """
    # Where nuclei touch each other they are not found one by one, but they are bright.
    # Where tissue shines by itself they must stand out from that.
    between, typical = levels
    scale = NUCLEAR_LEVEL / max(typical - between, _LEAST_CONTRAST)
    clumps = _nuclei((nuclear - np.float32(between)) * np.float32(scale), mpp, _BRIGHT)
    nuclei = _discs(found_nuclei, nuclear.shape, mpp) | clumps
    stains = np.zeros((*nuclear.shape, 3), np.float32)
    stains[..., 0] = closeness(nuclei, mpp)
    stains[..., 0] *= np.float32(NUCLEAR_LEVEL)
    # The root brings dim nuclei and the brightest to about one level, so that none decides alone.
    root = np.sqrt(np.clip(nuclear, 0, NUCLEAR_LEVEL) / NUCLEAR_LEVEL)
    stains[..., 1] = NUCLEAR_LEVEL * root
    found = find_compartments(stains, tissue, mpp, settings, "nuclei")
    if not found.has_epidermis:
        reason = found.reason.replace("denser in hematoxylin", "denser in nuclei")
        return replace(found, reason=reason.replace("deviations of hematoxylin", "deviations"))
    return _amend(found, nuclear, nuclei, clumps, tissue, found_nuclei)


def _nuclei(nuclear: FloatArray, mpp: float, least: tuple[float, float]) -> Mask:
    """Pixels as bright as a nucleus, and brighter than what is around them, bool (h, w)."""
    around = cv2.morphologyEx(nuclear, cv2.MORPH_OPEN, _disc(_AROUND_UM / 2, mpp))
    bright, over = (share * NUCLEAR_LEVEL for share in least)
    return np.asarray((nuclear >= bright) & (nuclear - around >= over), np.bool_)


def _discs(nuclei: Nuclei, shape: tuple[int, ...], mpp: float) -> Mask:
    """Discs as large as nuclei, bool (h, w)."""
    drawn = np.zeros(shape, np.uint8)
    centres = np.rint((nuclei.places_um[:, ::-1] / mpp - 0.5) * _SUBPIXELS).astype(np.int64)
    radii = np.rint(np.sqrt(nuclei.area_um2 / np.pi) / mpp * _SUBPIXELS).astype(np.int64)
    for (x, y), radius in zip(centres.tolist(), radii.tolist(), strict=True):
        cv2.circle(drawn, (x, y), radius, 1, cv2.FILLED, shift=_SHIFT)
    return drawn > 0


def closeness(nuclei: Mask, mpp: float) -> FloatArray:
    """Share of the sizes of discs that find no room between nuclei, float32 (h, w); 1 in nuclei."""
    share = np.zeros(nuclei.shape, np.float32)
    for radius in _VOIDS_UM:
        share += closed(nuclei, radius, mpp)
    share /= np.float32(len(_VOIDS_UM))
    return share


def crowded(nuclear: FloatArray, tissue: Mask, mpp: float) -> Mask:
    """Where nuclei lie as close as in epithelium, and what is around that, bool (h, w)."""
    close = closed(_nuclei(nuclear, mpp, _DIM), _CROWD_UM, mpp)
    core = opened(close, _CROWD_UM, mpp)
    return np.asarray(tissue & (distance_um(core, mpp) <= _CROWD_REACH_UM), np.bool_)


def dermal_ground(nuclear: FloatArray, tissue: Mask, mpp: float) -> float:
    """What the nuclear stain is between nuclei of a typical place in tissue."""
    between = tissue & ~_nuclei(nuclear, mpp, _DIM)
    return float(np.median(nuclear[between])) if between.any() else 0.0


def _amend(
    found: Compartments,
    nuclear: FloatArray,
    nuclei: Mask,
    clumps: Mask,
    tissue: Mask,
    found_nuclei: Nuclei,
) -> Compartments:
    """Add epithelium with sparse nuclei to the epidermis, and end it at its outermost nuclei."""
    labels = found.labels.copy()
    labels[_rows(labels, found_nuclei, found.mpp)] = EPIDERMIS
    labels[_full_notches(labels, nuclei, found.mpp)] = EPIDERMIS
    labels[_notches(labels, found.mpp)] = EPIDERMIS
    labels[_corners(labels, found.mpp)] = STRATUM_CORNEUM
    _end_at_nuclei(labels, nuclear, clumps, found_nuclei.places_um, tissue, found.mpp)
    # Where the two disagree the score must follow the labels, or contours stray.
    least = np.int8(2)
    score = np.where(
        labels == EPIDERMIS, np.maximum(found.score, least), np.minimum(found.score, -least)
    )
    return replace(found, labels=labels, score=score)


def _rows(labels: Labels, nuclei: Nuclei, mpp: float) -> Mask:
    """Dermis around nuclei that surely are epidermal, and lie beside epidermis.

    Where basal nuclei lie apart the fine scale may cut off a few of them.
    """
    at = pixels_of(nuclei.places_um, mpp, labels.shape)
    beside = distance_um(labels == EPIDERMIS, mpp)[at] <= _BESIDE_UM
    cut_off = _discs(nuclei.of(nuclei.sure & beside & (labels[at] == DERMIS)), labels.shape, mpp)
    if not cut_off.any():
        return cut_off
    joined = closed((labels == EPIDERMIS) | cut_off, _VOID_UM, mpp)
    near = distance_um(cut_off, mpp) <= _CYTOPLASM_UM
    return np.asarray(joined & near & (labels == DERMIS))


def _full_notches(labels: Labels, nuclei: Mask, mpp: float) -> Mask:
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


def _notches(labels: Labels, mpp: float) -> Mask:
    """Dermis beside epidermis into which no disc of 8 um fits: notches, rims along cut edges.

    The rule that tells the two apart in the first place, for what the fine scale made of it.
    """
    dermis = labels == DERMIS
    tight = dermis & ~opened(dermis, _VOID_UM, mpp)
    away = distance_um(labels == EPIDERMIS, mpp)
    return touching(tight, tight & (away <= 1.5 * mpp)) & (away <= 2 * _VOID_UM)


def _corners(labels: Labels, mpp: float) -> Mask:
    """Small pieces called dermis that lie beside corneum: the upper layers where a section ends.

    Not in a section that has no other dermis.
    """
    dermis = labels == DERMIS
    large = drop_small(dermis, _MAX_CORNER_UM2 / mpp**2)
    small = dermis & ~large & touching(labels > 0, large)
    return touching(small, small & (distance_um(labels == STRATUM_CORNEUM, mpp) <= 1.5 * mpp))


def _end_at_nuclei(
    labels: Labels, nuclear: FloatArray, clumps: Mask, places_um: Floats, tissue: Mask, mpp: float
) -> None:
    """Draw the border of epidermis and corneum anew, in place: a ball rolls over the nuclei.

    Where far too few were found to show where epidermis ends, it stays.
    """
    body = np.isin(labels, (EPIDERMIS, STRATUM_CORNEUM))
    zone = body & (distance_um(open_glass(tissue, mpp), mpp) < _SURFACE_UM)
    zone &= distance_um(labels == DERMIS, mpp) > _JUNCTION_UM
    centres = np.zeros(labels.shape, np.bool_)
    centres[pixels_of(places_um, mpp, labels.shape)] = True
    epidermal = labels == EPIDERMIS
    least = _LEAST_PER_MM2 * np.count_nonzero(epidermal) * mpp**2 / 1e6
    if np.count_nonzero(centres & epidermal) < least:
        return
    # Where nuclei touch each other they are not found one by one, but they are bright.
    centres |= distance_um(~clumps, mpp) > _CLUMP_UM
    # Sheets of keratin shine as nuclei do, and bits of them pass for nuclei; but they are long.
    apart = cv2.dilate(standing_out(nuclear, mpp), np.ones((3, 3)))
    inner = centres & epidermal
    if inner.any():
        centres &= apart >= _COMPACT * np.median(apart[inner])
    solid = body & (distance_um(centres, mpp) <= _NUCLEUS_UM)
    solid |= (labels == DERMIS) | ((labels == EPIDERMIS) & ~zone)
    alive = distance_um(under_the_ball(solid, body, mpp), mpp) <= _OUTER_UM
    epidermis = opened(np.where(zone, alive, labels == EPIDERMIS), 2 * mpp, mpp)
    epidermis = ~drop_small(~epidermis, _MIN_HOLE_UM2 / mpp**2)
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(epidermis.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] * mpp**2 >= _MIN_EPIDERMIS_UM2
    large[0] = False
    labels[zone] = np.where(large[numbers[zone]], EPIDERMIS, STRATUM_CORNEUM)


def _disc(radius_um: float, mpp: float) -> npt.NDArray[np.uint8]:
    side = 2 * int(np.ceil(radius_um / mpp)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(disc, np.uint8)
