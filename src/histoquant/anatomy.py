"""Epidermis, stratum corneum, dermis and adnexa, from the counterstain alone.

The marker's own signal is never looked at: a dermal-epidermal junction that were found by its
collagen VII would have no gaps. `histoquant.epithelium` says which pixels are epithelium; here
its pieces get their anatomical names, by what they border on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.epithelium import find_epithelium, sharpen, smooth_within
from histoquant.settings import AnatomySettings
from histoquant.tissue import distance_um, drop_small, open_glass, opened

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
SecondStain = Literal["marker", "nuclear_marker", "counterstain", "nuclei"]

BACKGROUND, STRATUM_CORNEUM, EPIDERMIS, DERMIS, ADNEXA = range(5)
NAMES = {
    BACKGROUND: "background",
    STRATUM_CORNEUM: "stratum_corneum",
    EPIDERMIS: "epidermis",
    DERMIS: "dermis",
    ADNEXA: "adnexa",
}

_MARGIN_UM = 200.0  # glass around the tissue that the work looks at; no step looks further
_BACKGROUND_DAB_OD = 0.1
_HIDING_OD = 0.25
_MIN_LEGIBLE = 0.7  # of the tissue; a stain on whole compartments hides no detail within them
_CORNEUM_UM = 45.0  # thickest layer between viable epidermis and glass called stratum corneum
_LOOK_THROUGH_UM = 300.0  # epithelium thicker than this is no epidermis to look through
_KERATIN_UM, _KERATIN_RATIO = 5.0, 1.5  # keratin: evenly this much denser than the epidermis
_MIN_KERATIN_UM2 = 2000.0
_RIM_UM = 5.0  # tissue not twice as wide is a blurred rim or a strand
_FLAKES_UM = 150.0  # keratin farther from epithelium than this is debris
_MIN_DERMIS_SHARE = 0.5  # of the area of the epidermis that it carries
_MIN_DERMIS_UM2 = 10_000.0  # smaller pieces have no border worth sharpening
_MIN_SURFACE_UM = 60.0  # epithelium with less free surface is a follicle or a gland
_MIN_SEPARATION = 3.5  # standard deviations; noise in dermis alone comes to some 3, skin to 4-9


@dataclass(frozen=True, eq=False)
class Compartments:
    """What every pixel of the section is.

    Attributes
    ----------
    labels
        uint8 (h, w): `BACKGROUND`, `STRATUM_CORNEUM`, `EPIDERMIS`, `DERMIS`, `ADNEXA`.
    mpp
        Pixel size in um; pixel (i, j) covers ``[i, i + 1) x [j, j + 1)`` times `mpp`.
    score
        float32 (h, w) in [-1, 1]: epidermis (above 0) against the rest; its zero line is the
        border of the epidermis with sub-pixel accuracy.
    reason
        Why there is no epidermis; empty when there is.
    separation
        Distance between epidermis and dermis in the discriminant, in standard deviations.
    """

    labels: npt.NDArray[np.uint8]
    mpp: float
    score: FloatArray
    reason: str = ""
    separation: float = float("nan")
    artefacts: npt.NDArray[np.uint8] | None = None
    """uint8 (h, w): what is left out at each pixel, by the codes of `histoquant.artefacts`."""

    def __post_init__(self) -> None:
        if self.labels.shape != self.score.shape:
            raise ValueError(f"labels {self.labels.shape} and score {self.score.shape} differ")
        if self.artefacts is not None and self.artefacts.shape != self.labels.shape:
            raise ValueError(
                f"labels {self.labels.shape} and artefacts {self.artefacts.shape} differ"
            )

    @property
    def has_epidermis(self) -> bool:
        """Whether any surface epidermis was found."""
        return not self.reason

    def area_mm2(self, *codes: int) -> float:
        """Area of the compartments `codes` together, in mm2."""
        return float(np.isin(self.labels, codes).sum()) * self.mpp**2 / 1e6

    def at(self, points_um: Points) -> npt.NDArray[np.uint8]:
        """Compartment code at each of (n, 2) points (y, x) in um; background off the picture."""
        return self._looked_up(self.labels, points_um)

    def artefact_at(self, points_um: Points) -> npt.NDArray[np.uint8]:
        """Artefact code at each of (n, 2) points (y, x) in um; 0 where nothing is left out."""
        if self.artefacts is None:
            return np.zeros(len(points_um), np.uint8)
        return self._looked_up(self.artefacts, points_um)

    def holds(self, points_um: Points) -> Mask:
        """Whether each of (n, 2) points (y, x) in um lies in tissue or in an artefact on it."""
        return np.asarray((self.at(points_um) > 0) | (self.artefact_at(points_um) > 0))

    def _looked_up(self, codes: npt.NDArray[np.uint8], points_um: Points) -> npt.NDArray[np.uint8]:
        index = np.floor(np.asarray(points_um, np.float64) / self.mpp).astype(np.int64)
        height, width = codes.shape
        valid = (index >= 0).all(axis=1) & (index[:, 0] < height) & (index[:, 1] < width)
        found = np.zeros(len(index), np.uint8)
        found[valid] = codes[index[valid, 0], index[valid, 1]]
        return found


def find_compartments(
    stains: FloatArray,
    tissue: Mask,
    mpp: float,
    settings: AnatomySettings,
    second: SecondStain = "marker",
) -> Compartments:
    """Divide a section into epidermis, stratum corneum, dermis and adnexal epithelium.

    Parameters
    ----------
    stains
        Signed ODs (h, w, 3) float32: hematoxylin, second stain, residual, at `mpp` um/px.
    tissue
        bool (h, w), fine: clefts and glass are False.
    second
        What the second stain may be used for. ``marker``: nothing, it may lie along the very
        border that is looked for. ``nuclear_marker``: its strong signal is in nuclei, which are
        nuclei whatever their colour. ``counterstain`` (eosin): to tell epithelium from dermis.
        ``nuclei``: it is the nuclear stain itself, which places the border; the first then is
        where nuclei lie close together (fluorescence).

    Returns
    -------
    Compartments. Without epidermis all tissue is dermis, and `reason` says what was seen.
    """
    if not tissue.any():
        return _only_dermis(tissue, mpp, "")
    box = _tissue_box(tissue, mpp)
    found = _divide(stains[box], tissue[box], mpp, settings, second)
    labels = np.zeros(tissue.shape, np.uint8)
    score = np.full(tissue.shape, -1, np.float32)
    labels[box], score[box] = found.labels, found.score
    return replace(found, labels=labels, score=score)


def _tissue_box(tissue: Mask, mpp: float) -> tuple[slice, slice]:
    """Rows and columns that hold the tissue and the glass around it that is looked at."""
    margin = int(np.ceil(_MARGIN_UM / mpp))
    rows, columns = (np.flatnonzero(tissue.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def _divide(
    stains: FloatArray, tissue: Mask, mpp: float, settings: AnatomySettings, second: SecondStain
) -> Compartments:
    """The work of `find_compartments`, on as much of the slide as there is tissue."""
    counterstains, legible = _readable(stains, tissue, second)
    hematoxylin = counterstains[0]
    epithelium, separation = find_epithelium(counterstains, tissue, legible, mpp, settings)
    if not epithelium.any():
        return _only_dermis(tissue, mpp, "no large region is denser in hematoxylin than the rest")
    if separation < _MIN_SEPARATION:
        return _only_dermis(
            tissue,
            mpp,
            f"the densest regions lie only {separation:.1f} standard deviations of "
            f"hematoxylin from the rest (at least {_MIN_SEPARATION} for epidermis)",
        )
    labels = _label(epithelium, hematoxylin, tissue, mpp)
    if not (labels == EPIDERMIS).any():
        return _only_dermis(tissue, mpp, "no dense region has a free surface")
    body = drop_small(labels == DERMIS, _MIN_DERMIS_UM2 / mpp**2)
    around = body | (labels == STRATUM_CORNEUM)
    fine = counterstains[-1] if second == "nuclei" else hematoxylin
    sharp, score = sharpen(fine, labels == EPIDERMIS, around, tissue, legible, mpp, settings)
    labels = _label(sharp | (labels == ADNEXA), hematoxylin, tissue, mpp)
    # Where the two disagree the score must follow the labels, or contours stray.
    agreed = np.where(labels == EPIDERMIS, np.maximum(score, 0.02), np.minimum(score, -0.02))
    return Compartments(labels, mpp, agreed.astype(np.float32), "", separation)


def _only_dermis(tissue: Mask, mpp: float, why: str) -> Compartments:
    labels = _dermis(tissue)
    reason = "no tissue found" if not tissue.any() else f"no epidermis found: {why}"
    return Compartments(labels, mpp, np.full(tissue.shape, -1, np.float32), reason)


def _readable(
    stains: FloatArray, tissue: Mask, second: SecondStain
) -> tuple[list[FloatArray], Mask]:
    """Stains that tell epithelium from dermis, and the tissue in which they can be read."""
    hematoxylin, other = (np.ascontiguousarray(stains[..., k]) for k in (0, 1))
    if second in ("counterstain", "nuclei"):
        return [hematoxylin, other], tissue
    if second == "nuclear_marker":
        return [hematoxylin + np.maximum(other - _BACKGROUND_DAB_OD, 0)], tissue
    return [hematoxylin], _legible(other, tissue)


def _legible(marker: FloatArray, tissue: Mask) -> Mask:
    """Tissue whose counterstain the marker does not hide, where that is most of it.

    Under strong DAB hematoxylin is what is left of two large numbers. Such pixels take no side,
    so that a line of collagen VII does not move the border it lies on.
    """
    legible = tissue & (marker < _HIDING_OD)
    return legible if legible.sum() >= _MIN_LEGIBLE * tissue.sum() else tissue


def _dermis(tissue: Mask) -> npt.NDArray[np.uint8]:
    return tissue.astype(np.uint8) * np.uint8(DERMIS)


def _label(
    epithelium: Mask, hematoxylin: FloatArray, tissue: Mask, mpp: float
) -> npt.NDArray[np.uint8]:
    glass = open_glass(tissue, mpp)
    keratin = _keratin(hematoxylin, epithelium, tissue, glass, mpp)
    epithelium = epithelium & ~keratin
    corneum = keratin | _corneum(tissue & ~epithelium & ~keratin, epithelium, glass, mpp)
    corneum |= _flakes(tissue & ~epithelium & ~corneum, corneum | glass, epithelium, mpp)
    surface, adnexa = _split_adnexa(epithelium, corneum | glass, mpp)
    labels = _dermis(tissue)
    labels[corneum] = STRATUM_CORNEUM
    labels[adnexa] = ADNEXA
    labels[surface] = EPIDERMIS
    return labels


def _corneum(rest: Mask, epithelium: Mask, glass: Mask, mpp: float) -> Mask:
    """Thin layers between epithelium and glass, on the side away from the dermis.

    Thinness alone would take in the dermis in the corner of a cut edge. So each pixel looks
    through the epithelium: stratum corneum has dermis behind it, dermis has the surface.
    """
    near = rest & (distance_um(epithelium, mpp) + distance_um(glass, mpp) <= _CORNEUM_UM)
    pixels = np.argwhere(near)
    if not len(pixels):
        return near
    entry = _nearest(epithelium, near)
    way = (entry - pixels) / np.maximum(np.hypot(*(entry - pixels).T), 1e-6)[:, None]
    body, limit = rest & ~near, np.array(rest.shape) - 1
    votes = np.zeros(rest.shape, np.float32)
    waiting = np.ones(len(pixels), bool)
    for step in np.arange(2, _LOOK_THROUGH_UM / mpp, 2):
        at = np.clip(np.round(entry + step * way).astype(int), 0, limit)
        out = waiting & ~epithelium[at[:, 0], at[:, 1]]
        behind = np.where(body[at[out, 0], at[out, 1]], 1.0, -1.0)
        votes[pixels[out, 0], pixels[out, 1]] = behind
        waiting &= ~out
    blur = 2 * round(_CORNEUM_UM / 2 / mpp) + 1
    return np.asarray(near & (cv2.blur(votes, (blur, blur)) > 0))


def _nearest(mask: Mask, where: Mask) -> npt.NDArray[np.int64]:
    """Pixel (n, 2) of `mask` nearest to each True pixel of `where`, in raster order."""
    inverse = (~mask).astype(np.uint8)
    _, numbers = cv2.distanceTransformWithLabels(
        inverse, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    pixels = np.argwhere(mask)
    numbered = np.zeros((len(pixels) + 1, 2), np.int64)
    numbered[numbers[mask]] = pixels
    return np.asarray(numbered[numbers[where]])


def _keratin(
    hematoxylin: FloatArray, epithelium: Mask, tissue: Mask, glass: Mask, mpp: float
) -> Mask:
    """Dense layers without nuclei at a free surface: keratin that takes up the counterstain."""
    smooth = smooth_within(hematoxylin, tissue, _KERATIN_UM / mpp)
    dense = (smooth > _KERATIN_RATIO * np.median(smooth[epithelium])) & tissue
    dense = drop_small(dense, _MIN_KERATIN_UM2 / mpp**2)
    count, pieces = cv2.connectedComponents(dense.astype(np.uint8))
    at_surface = np.zeros(count, bool)
    at_surface[np.unique(pieces[distance_um(glass, mpp) <= _CORNEUM_UM])] = True
    at_surface[0] = False
    return np.asarray(at_surface[pieces])


def _flakes(rest: Mask, outside: Mask, epithelium: Mask, mpp: float) -> Mask:
    """Tissue on the free side of the epithelium: far smaller than a dermis under it would be.

    Pieces hang together only by more than `_RIM_UM`: the blurred rim that runs around all
    epithelium would join them to the dermis.
    """
    thick = opened(rest, _RIM_UM, mpp)
    count, pieces = cv2.connectedComponents(thick.astype(np.uint8), connectivity=4)
    area = np.bincount(pieces.ravel(), minlength=count)
    carried = _largest_neighbour(np.asarray(pieces, np.int32), count, epithelium, mpp)
    near = thick & (distance_um(outside, mpp) <= 2 * _RIM_UM)
    free = np.bincount(pieces[near], minlength=count)
    dermal = (free == 0) | (area >= _MIN_DERMIS_SHARE * carried)
    dermal[0] = False
    away = distance_um(dermal[pieces], mpp) > 2 * _RIM_UM
    return rest & away & (distance_um(epithelium, mpp) <= _FLAKES_UM)


def _largest_neighbour(
    pieces: npt.NDArray[np.int32], count: int, epithelium: Mask, mpp: float
) -> npt.NDArray[np.int64]:
    """Pixels of the largest epithelium that borders on each of `count` numbered pieces."""
    _, epithelia, stats, _ = cv2.connectedComponentsWithStats(epithelium.astype(np.uint8))
    areas = np.where(epithelium, stats[epithelia, cv2.CC_STAT_AREA], 0).astype(np.float32)
    reach = 2 * round(2 * _RIM_UM / mpp) + 1
    around = cv2.dilate(areas, np.ones((reach, reach), np.uint8)).astype(np.int64)
    largest = np.zeros(count, np.int64)
    np.maximum.at(largest, pieces.ravel(), around.ravel())
    return largest


def _split_adnexa(epithelium: Mask, outside: Mask, mpp: float) -> tuple[Mask, Mask]:
    """Surface epidermis, and epithelium that hardly touches the outside: follicles, glands."""
    count, pieces = cv2.connectedComponents(epithelium.astype(np.uint8), connectivity=8)
    rim = epithelium & (distance_um(outside, mpp) <= 1.5 * mpp)
    free_um = np.bincount(pieces[rim], minlength=count) * mpp
    surface = free_um >= _MIN_SURFACE_UM
    surface[0] = False
    return surface[pieces], epithelium & ~surface[pieces]
