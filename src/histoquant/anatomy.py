"""Epidermis, stratum corneum, dermis and adnexa, from the counterstain alone.

The marker's own signal is never looked at: a dermal-epidermal junction that were found by its
collagen VII would have no gaps. Which pixels are epithelium is decided on a coarse scale over
all tissue (`histoquant.epithelium`), and what its pieces are called (`histoquant.layers`); the
border is then drawn on a fine scale where there is one (`histoquant.border`). Glass costs next
to nothing, and no step holds floats of the fine scale for more than a few windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block
from histoquant.border import FULL, sharpen
from histoquant.cellularity import FindNuclei
from histoquant.epithelium import find_crowds, without
from histoquant.evidence import Coarse, Evidence, Looks, SecondStain, average, weigh
from histoquant.layers import (
    ADNEXA as ADNEXA,
)
from histoquant.layers import (
    BACKGROUND as BACKGROUND,
)
from histoquant.layers import (
    CROWDED,
    dense_keratin,
    name_layers,
    spread_labels,
)
from histoquant.layers import (
    DERMIS as DERMIS,
)
from histoquant.layers import (
    EPIDERMIS as EPIDERMIS,
)
from histoquant.layers import (
    STRATUM_CORNEUM as STRATUM_CORNEUM,
)
from histoquant.second_stain import Found, Search, find_by_stains
from histoquant.settings import AnatomySettings
from histoquant.tissue import distance_um, drop_small
from histoquant.tubules import find_tubules
from histoquant.viable import end_at_nuclei
from histoquant.windowed import Windowed, boxes_around, coarsen, enlarge, window_of

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

NAMES = {
    BACKGROUND: "background",
    STRATUM_CORNEUM: "stratum_corneum",
    EPIDERMIS: "epidermis",
    DERMIS: "dermis",
    ADNEXA: "adnexa",
}

_MARGIN_UM = 200.0  # glass around the tissue that the work looks at; no step looks further
_COARSE_UM = 4.0
_MIN_DERMIS_UM2 = 10_000.0  # smaller pieces have no border worth sharpening
_LEAST_SCORE = 2  # of FULL


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
        float32 or int8 (h, w): epidermis (above 0) against the rest; its zero line is the
        border of the epidermis with sub-pixel accuracy.
    reason
        Why there is no epidermis; empty when there is.
    separation
        Distance between epidermis and dermis in the discriminant, in standard deviations.
    """

    labels: npt.NDArray[np.uint8]
    mpp: float
    score: npt.NDArray[Any]
    reason: str = ""
    separation: float = float("nan")
    artefacts: npt.NDArray[np.uint8] | None = None
    """uint8 (h, w): what is left out at each pixel, by the codes of `histoquant.artefacts`.

    None where artefacts were not looked for: that none were found is an array of `NONE`.
    """

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
        return sum(np.count_nonzero(self.labels == code) for code in codes) * self.mpp**2 / 1e6

    def centres_um(self, code: int) -> Points:
        """Centres (n, 2) in um of the pixels of one compartment."""
        pixels = np.argwhere(self.labels == code).astype(np.float64)
        return (pixels + 0.5) * self.mpp

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
    stains: Windowed,
    tissue: Mask,
    mpp: float,
    settings: AnatomySettings,
    second: SecondStain = "marker",
    *,
    unread: Mask | None = None,
    nuclei: FindNuclei | None = None,
    workers: int = 1,
) -> Compartments:
    """Divide a section into epidermis, stratum corneum, dermis and adnexal epithelium.

    Parameters
    ----------
    stains
        Signed ODs (h, w, 3) float32: hematoxylin, second stain, residual, at `mpp` um/px. An
        array, or what gives its windows one by one.
    tissue
        bool (h, w), fine: clefts and glass are False.
    second
        What the second stain may be used for. ``marker``: nothing, it may lie along the very
        border that is looked for, unless it stains a whole compartment (`histoquant.brown`).
        ``nuclear_marker``: its strong signal is in nuclei, which are nuclei whatever their colour,
        with the same exception. ``counterstain`` (eosin): to tell epithelium from dermis.
        ``nuclei``: it is the nuclear stain itself, which places the border; the first then is
        where nuclei lie close together (fluorescence).
    unread
        bool (h, w): tissue that an artefact hides, such as a fold. It is taken for what lies
        beside it.
    nuclei
        Finds nuclei one by one. Beside a marker pieces that hold no more of them than what is
        around are no epithelium, and such as hold far more are, however little their stain keeps
        apart; and they tell a marker of the whole epidermis from haze. Without it the stain alone
        decides.
    workers
        Threads. The answer does not depend on it.

    Returns
    -------
    Compartments. Without epidermis all tissue is dermis, and `reason` says what was seen.
    """
    if not tissue.any():
        return _only_dermis(tissue, mpp, "")
    boxes = boxes_around(tissue, int(np.ceil(_MARGIN_UM / mpp)))
    factor = max(1, round(_COARSE_UM / mpp))

    def read(evidence: Evidence) -> list[Coarse]:
        return [average(evidence, box, factor, mpp, workers) for box in boxes]

    def look(use: SecondStain, through_haze: bool = True) -> tuple[Evidence, list[Coarse]]:
        evidence = weigh(stains, tissue, use, boxes, mpp, workers, unread, through_haze)
        return evidence, read(evidence)

    search = Search(look, read, tissue, mpp, settings, nuclei, workers)
    found = find_by_stains(search, second)
    if found.why:
        return _only_dermis(tissue, mpp, found.why)
    evidence, sheets, separation = found.evidence, found.sheets, found.told.separation
    named, looks = _name_coarsely(found, settings, workers)
    del found  # floats and masks of all of a large slide: they need not be kept for the rest
    if not any((labels == EPIDERMIS).any() for labels in named):
        return _only_dermis(tissue, mpp, "no dense region has a free surface")
    rough = _refine([_with_body(n, k.mpp) for n, k in zip(named, looks, strict=True)],
                    boxes, tissue, factor)  # fmt: skip
    sharp, score = sharpen(evidence, rough, mpp, settings, boxes, workers)
    sharp |= rough == ADNEXA
    del rough
    coarse = [
        coarsen(sharp[window_of(box)], factor) & look.tissue
        for box, look in zip(boxes, looks, strict=True)
    ]
    if not any(mask.any() for mask in coarse):
        return _only_dermis(tissue, mpp, "the dense regions dissolve when looked at closely")
    # By nuclei alone epidermis ends short of the cut edge, and corneum would join dermis there.
    before = named if evidence.second == "nuclei" else None
    named = _name(looks, coarse, sheets, evidence, workers, before)
    labels = _draw(named, coarse, sharp, boxes, tissue, factor)
    if evidence.has_marker:
        for piece in find_tubules(evidence, labels, mpp, boxes, workers):
            own = piece[labels[tuple(piece.T)] == DERMIS]
            labels[tuple(own.T)] = ADNEXA
        end_at_nuclei(evidence, labels, mpp, boxes, workers)
    # Where the two disagree the score must follow the labels, or contours stray.
    inside = labels == EPIDERMIS
    np.maximum(score, np.int8(_LEAST_SCORE), out=score, where=inside)
    np.minimum(score, np.int8(-_LEAST_SCORE), out=score, where=~inside)
    return Compartments(labels, mpp, score, "", separation)


def _name_coarsely(
    found: Found, settings: AnatomySettings, workers: int
) -> tuple[list[Labels], list[Looks]]:
    """Coarse labels, with dermis that is crowded with cells apart, and what they were named by."""
    looks = [field.looks() for field in found.fields]
    name = partial(_name, looks, sheets=found.sheets, evidence=found.evidence, workers=workers)
    named = name(found.told.epithelium)
    if not found.evidence.has_marker:
        return named, looks
    below = [_below(labels, look.mpp) for labels, look in zip(named, looks, strict=True)]
    crowds = find_crowds(found.fields, found.told.epithelium, below)
    if not any(crowd.any() for crowd in crowds):
        return named, looks
    named = name([
        without(e, crowd, look.mpp, settings)
        for e, crowd, look in zip(found.told.epithelium, crowds, looks, strict=True)
    ])  # fmt: skip
    for labels, crowd in zip(named, crowds, strict=True):
        labels[crowd & (labels == DERMIS)] = CROWDED
    return named, looks


def _only_dermis(tissue: Mask, mpp: float, why: str) -> Compartments:
    labels = tissue.astype(np.uint8) * np.uint8(DERMIS)
    reason = "no tissue found" if not tissue.any() else f"no epidermis found: {why}"
    return Compartments(labels, mpp, np.full(tissue.shape, -FULL, np.int8), reason)


def _name(
    looks: Sequence[Looks],
    epithelium: Sequence[Mask],
    sheets: Sequence[Mask],
    evidence: Evidence,
    workers: int,
    before: Sequence[Labels] | None = None,
) -> list[Labels]:
    keratin = list(sheets)
    if evidence.second != "compartment":  # brown hides how dense the hematoxylin is beneath it
        dense = dense_keratin(looks, epithelium, evidence.has_marker)
        keratin = [d | sheet for d, sheet in zip(dense, sheets, strict=True)]

    def name(look: Looks, own: Mask, dense: Mask, old: Labels | None) -> Labels:
        # By nuclei alone sparse epithelium looks as dermis does, and with eosin keratin may.
        telling = look if evidence.has_marker else None
        return name_layers(own, dense, look.tissue, look.mpp, telling, old)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(name, looks, epithelium, keratin, before or [None] * len(looks)))


def _below(labels: Labels, mpp: float) -> Mask:
    """Epithelium nearer to dermis than to corneum and glass."""
    outside = (labels == STRATUM_CORNEUM) | (labels == BACKGROUND)
    return distance_um(labels == DERMIS, mpp) < distance_um(outside, mpp)


def _with_body(labels: Labels, mpp: float) -> Labels:
    """The labels without dermis too small to have a border worth sharpening."""
    body = labels.copy()
    dermis = (labels == DERMIS) | (labels == CROWDED)
    body[dermis & ~drop_small(dermis, _MIN_DERMIS_UM2 / mpp**2)] = BACKGROUND
    return body


def _refine(coarse: Sequence[Labels], boxes: Sequence[Block], tissue: Mask, factor: int) -> Labels:
    """Coarse labels on the fine grid: each pixel of tissue takes the nearest one."""
    fine = np.zeros(tissue.shape, np.uint8)
    for labels, box in zip(coarse, boxes, strict=True):
        fine[window_of(box)] = enlarge(spread_labels(labels, labels > 0), box, factor)
    fine[~tissue] = BACKGROUND
    return fine


def _draw(
    coarse: Sequence[Labels],
    inside: Sequence[Mask],
    sharp: Mask,
    boxes: Sequence[Block],
    tissue: Mask,
    factor: int,
) -> Labels:
    """Fine labels: names from the coarse ones, and the border of epithelium as it is drawn."""
    fine = np.zeros(tissue.shape, np.uint8)
    for labels, epithelium, box in zip(coarse, inside, boxes, strict=True):
        window = window_of(box)
        within = spread_labels(labels, epithelium)
        without = spread_labels(labels, ~epithelium & (labels > 0))
        fine[window] = np.where(
            sharp[window], enlarge(within, box, factor), enlarge(without, box, factor)
        )
    fine[~tissue] = BACKGROUND
    return fine
