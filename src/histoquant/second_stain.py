"""What the second stain of a slide is good for, and the epithelium found by it.

Beside a marker hematoxylin alone tells epithelium from dermis, unless the marker stains the whole
epidermis. Brown that is broader than lines and nuclei is one of three: it lies on the epidermis
(brown stratum corneum), it is the epidermis, or it is haze. What hematoxylin finds below it tells
the first, nuclei the other two apart. They are counted one by one (`histoquant.cellularity`), and
decide, too, what of the epithelium the stain keeps too little apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from histoquant.brown import broad_brown, brown_surface, stands_without
from histoquant.cellularity import Cellularity, FindNuclei, count_nuclei
from histoquant.epithelium import Told, find_epithelium
from histoquant.evidence import Coarse, Evidence, SecondStain
from histoquant.settings import AnatomySettings
from histoquant.tissue import distance_um, open_glass
from histoquant.windowed import coarsen, enlarge, window_of

Mask = npt.NDArray[np.bool_]
Seen = tuple[Evidence, list[Coarse]]
Look = Callable[..., Seen]

_MIN_SEPARATION = 3.5  # standard deviations; noise in dermis alone comes to some 3, skin to 4-9
# Where only sure pieces teach noise comes to 3.9, bundles of collagen to 4.2; but bundles hold 0.8
# to 1.1 times as much stain in nuclei as what is around them, epithelium 1.2 to 3.3 times.
_MIN_BESIDE_MARKER = (1.5, 3.5), (1.15, 3.9), (0.0, 4.7)  # from such a ratio on
_MIN_UNDER_BROWN = 2.9  # where brown corneum lies on it, too
_MIN_WITH_NUCLEI = 2.5  # where nuclei say that it is epithelium
# Epithelium holds 3.6 to 9 times as many nuclei as what is around it, 2.5 times in one real slide;
# bundles of collagen 0.8 to 2.4 times.
_SURE_RATIO, _SURE_NUCLEI_PER_MM2 = 4.0, 2000.0  # epithelium that the stain does not keep apart
# Epidermis holds 3.5 to 8.5 times as many nuclei as haze on drawn slides, and a quarter or more of
# what haze has within so far of glass. Haze holds 0.9 to 2 times as many as what is around; what
# hides its nuclei hardly any.
_MORE_THAN_HAZE, _HIDDEN_RATIO = 2.0, 0.5
_OF_SURFACE, _SURFACE_UM = 0.15, 30.0
_BARE_RATIO, _FEW_NUCLEI_PER_MM2 = 1.3, 300.0  # none, unless too few are found to say
_NO_DOUBT = 7.5  # standard deviations from which on nuclei cannot speak against it
_BARE_SHARE = 0.3  # of the fullest piece; epidermis beside a heap of lymphocytes comes to 0.5
_SHEET_RIM_UM = 8.0  # brown on both sides of the edge of a sheet is read alike


@dataclass(frozen=True, eq=False)
class Found:
    """Epithelium on the coarse scale, field by field, and what it was told by.

    `sheets` are brown stratum corneum; `why` there is none, or empty.
    """

    evidence: Evidence
    fields: list[Coarse]
    told: Told
    sheets: list[Mask]
    why: str

    @property
    def is_worth_counting(self) -> bool:
        """Whether nuclei may decide what it is."""
        told = self.told
        return told.separation >= _MIN_WITH_NUCLEI and any(mask.any() for mask in told.epithelium)


@dataclass(frozen=True, eq=False)
class Search:
    """How to look at a section.

    Attributes
    ----------
    look
        The evidence, and its fields, by a use of the second stain; with ``through_haze`` False a
        strong marker hides all that is below it.
    read
        The fields of evidence.
    tissue, mpp
        bool (h, w), fine, and its pixel size in um.
    settings
        Of the anatomy.
    nuclei
        Finds nuclei one by one; None where the stain alone is to decide.
    workers
        Threads. The answer does not depend on it.
    """

    look: Look
    read: Callable[[Evidence], list[Coarse]]
    tissue: Mask
    mpp: float
    settings: AnatomySettings
    nuclei: FindNuclei | None
    workers: int

    def epithelium(
        self, fields: Sequence[Coarse], seeds: Sequence[Mask] | None = None, beside: bool = False
    ) -> Told:
        """Epithelium in `fields`, as `find_epithelium` tells it."""
        return find_epithelium(fields, self.settings, self.workers, seeds, beside)

    def count(self, found: Found) -> Cellularity | None:
        """Nuclei in what was found, and around it; None where there is nothing to count."""
        if self.nuclei is None or not found.is_worth_counting:
            return None
        unread = found.evidence.unread
        readable = [field.tissue for field in found.fields]
        if unread is not None:
            readable = [
                mask & ~coarsen(unread[window_of(field.box)], round(field.mpp / self.mpp))
                for mask, field in zip(readable, found.fields, strict=True)
            ]
        own = found.told.epithelium
        return count_nuclei(found.fields, own, readable, self.mpp, self.nuclei)


def find_by_stains(search: Search, second: SecondStain) -> Found:
    """Find epithelium by what the second stain turns out to be good for on this slide.

    Parameters
    ----------
    second
        What it may be used for, as in `histoquant.anatomy.find_compartments`.
    """
    plain = search.look("marker" if second == "nuclear_marker" else second)
    evidence, fields = plain
    if not evidence.has_marker:
        told = search.epithelium(fields)
        return Found(evidence, fields, told, _none(fields), _no_epithelium(told, _MIN_SEPARATION))
    brown = broad_brown(fields, search.settings)
    if not any(mask.any() for mask in brown):
        return _decided(*_beside_marker(search, second, plain))
    if _lies_on_top(search, fields, brown):
        return _decided(*_beside_marker(search, "marker", plain, _MIN_UNDER_BROWN))
    stained = _stained(search, brown)
    if not stained.why and search.nuclei is None:
        return stained
    found, cells = _beside_marker(search, second, plain)
    if not stained.why and not _is_haze(search, stained, found, cells):
        return stained
    return _decided(found, cells)


def _lies_on_top(search: Search, fields: Sequence[Coarse], brown: Sequence[Mask]) -> bool:
    """Whether brown lies on an epidermis, told by what is not brown."""
    bare = search.look("marker", through_haze=False)[1]
    told = search.epithelium(bare, beside=True)
    if _no_epithelium(told, _MIN_UNDER_BROWN):
        return False
    return stands_without(fields, brown, told.epithelium)


def _stained(search: Search, brown: Sequence[Mask]) -> Found:
    """Epithelium by a marker of whole compartments."""
    evidence, fields = search.look("compartment")
    told = search.epithelium(fields, brown)
    return Found(evidence, fields, told, _none(fields), _no_epithelium(told, _MIN_SEPARATION))


def _beside_marker(
    search: Search, second: SecondStain, plain: Seen, least: float | None = None
) -> tuple[Found, Cellularity | None]:
    """Epithelium by hematoxylin, and its nuclei.

    Parameters
    ----------
    plain
        What is seen where brown counts for nothing, which is the use ``marker``.
    least
        Least separation; None leaves it to how much of the stain lies in nuclei.
    """
    evidence, fields = plain if second == "marker" else search.look(second)
    told = search.epithelium(fields, beside=True)
    sheets, most_od = brown_surface(plain[1], told.epithelium)
    if any(sheet.any() for sheet in sheets):
        around = _around(sheets, fields, search)
        evidence = replace(evidence, keratin=around, keratin_od=most_od)
        fields = search.read(evidence)
        told = search.epithelium(fields, beside=True)
    why = _no_epithelium(told, _least_beside_marker(told) if least is None else least)
    found = Found(evidence, fields, told, sheets, why)
    return found, search.count(found)


def _none(fields: Sequence[Coarse]) -> list[Mask]:
    return [np.zeros_like(field.tissue) for field in fields]


def _is_haze(search: Search, stained: Found, found: Found, cells: Cellularity | None) -> bool:
    """Whether what is `stained` is haze, and epidermis what was `found` beside it.

    Haze has the nuclei of what it lies on, mostly dermis. A marker that is in the epidermis may
    hide its nuclei: then what holds more of them is an infiltrate, and lies in the dermis.
    """
    if cells is None or not _is_full(cells):
        return False
    full = [
        mask & (cells.pieces >= _sure_per_mm2(cells))[numbers]
        for mask, numbers in zip(found.told.epithelium, cells.numbers, strict=True)
    ]
    free = _rim_px(full, found)
    if not free or free < _OF_SURFACE * _rim_px(stained.told.epithelium, stained):
        return False
    brown_cells = search.count(stained)
    if brown_cells is None:
        return False
    brown = _mean_per_mm2(brown_cells)  # of nothing that can be read NaN, which is no haze
    hidden = _HIDDEN_RATIO * cells.around
    return hidden <= brown <= _mean_per_mm2(cells) / _MORE_THAN_HAZE


def _sure_per_mm2(cells: Cellularity) -> float:
    """So many nuclei are epithelium, whatever its stain."""
    return max(_SURE_NUCLEI_PER_MM2, _SURE_RATIO * cells.around)


def _is_full(cells: Cellularity) -> bool:
    if np.isnan(cells.around) or np.isnan(cells.pieces).all():
        return False
    return bool(np.nanmax(cells.pieces) >= _sure_per_mm2(cells))


def _mean_per_mm2(cells: Cellularity) -> float:
    """Nuclei in all pieces together; NaN where nothing can be read."""
    numbers = np.concatenate([n.ravel() for n in cells.numbers])
    area = np.bincount(numbers, minlength=len(cells.pieces))
    known = np.isfinite(cells.pieces)
    if not known.any():
        return float("nan")
    return float(np.average(cells.pieces[known], weights=area[known]))


def _rim_px(masks: Sequence[Mask], found: Found) -> int:
    """Pixels near glass; clefts and lumina are none."""
    return sum(
        int(np.count_nonzero(mask & (_from_glass_um(field) <= _SURFACE_UM)))
        for mask, field in zip(masks, found.fields, strict=True)
    )


def _from_glass_um(field: Coarse) -> npt.NDArray[np.float32]:
    return distance_um(open_glass(field.tissue, field.mpp), field.mpp)


def _decided(found: Found, cells: Cellularity | None) -> Found:
    """What was found, less pieces with too few nuclei; or why there is nothing."""
    told = found.told
    if cells is None or np.isnan(cells.around) or np.isnan(cells.pieces).all():
        return found
    most = float(np.nanmax(cells.pieces))
    if not _is_full(cells) and (found.why or cells.around < _FEW_NUCLEI_PER_MM2):
        return found  # too few are found to say
    least = max(_BARE_RATIO * cells.around, _BARE_SHARE * most)
    bare = cells.pieces < min(least, _SURE_NUCLEI_PER_MM2)
    if not bare[1:].all():
        own = [mask & ~bare[n] for mask, n in zip(told.epithelium, cells.numbers, strict=True)]
        return replace(found, told=replace(told, epithelium=own), why="")
    if told.separation >= _NO_DOUBT:
        return found
    why = (
        f"the regions densest in hematoxylin hold {most:.0f} nuclei per mm2, what is around them "
        f"{cells.around:.0f}; at least {_BARE_RATIO} times as many are needed for epidermis"
    )
    return replace(found, why=why)


def _least_beside_marker(told: Told) -> float:
    """Least separation of epithelium, the greater the fewer nuclei it holds."""
    return next(least for ratio, least in _MIN_BESIDE_MARKER if told.nuclei_ratio >= ratio)


def _no_epithelium(told: Told, least: float) -> str:
    """Why nothing found can be epidermis; empty when it can."""
    if not any(mask.any() for mask in told.epithelium):
        return "no large region is denser in hematoxylin than the rest"
    if told.separation < least:
        return (
            f"the densest regions lie only {told.separation:.1f} standard deviations of "
            f"hematoxylin from the rest (at least {least} for epidermis with "
            f"{told.nuclei_ratio:.1f} times as much stain in nuclei)"
        )
    return ""


def _around(sheets: Sequence[Mask], fields: Sequence[Coarse], search: Search) -> Mask:
    """The sheets and what is within `_SHEET_RIM_UM` of them, on the fine grid."""
    fine = np.zeros_like(search.tissue)
    for sheet, field in zip(sheets, fields, strict=True):
        wide = distance_um(sheet, field.mpp) <= _SHEET_RIM_UM
        fine[window_of(field.box)] = enlarge(wide, field.box, round(field.mpp / search.mpp))
    return fine
