"""What the stains say about epithelium, read window by window or averaged to a coarse scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block, blocks_within, map_blocks
from histoquant.tissue import from_nearest
from histoquant.windowed import FloatArray, Window, Windowed, widened, window_of

Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
SecondStain = Literal["marker", "nuclear_marker", "counterstain", "nuclei", "compartment"]

_BACKGROUND_DAB_OD = 0.1
_BACKGROUND_SHARE = 0.25  # of the tissue: the marker's background lies at this quantile
_HIDING_OD, _MOST_HIDING_OD = 0.12, 0.30  # above background a marker hides the counterstain
# Half the width of what may stand out, and what is evened out first: nuclei are gaps in haze.
_NARROW_UM, _HAZE_BLUR_UM = 12.0, 4.0
_HAZY_SHARE = 0.75  # of the tissue; a marker in nuclei alone takes up less than the rest
_HIDDEN_SHARE = 0.05  # of the tissue: more than lines make up
_HAZE_OD = 0.05  # above background; less is no haze
_CAP_QUANTILE = 0.95  # of the stain in the tissue
_LEAST_OD, _MOST_OD, _LEVELS = -0.1, 4.0, 4100
_MARKER_STEP_OD, _MARKER_STEPS = 0.01, 64
_GROUND_UM = 4.0  # radius: of a nucleus, less than of what lies between two in a crowd
LONG_UM = 24.0
"""No nucleus is as long; lamellae of corneum and bundles of collagen are."""
_DIRECTIONS = 12
_BLOCK_PX = 1024


@dataclass(frozen=True)
class Reading:
    """The evidence in one window.

    Attributes
    ----------
    stains
        Signed OD (h, w) of what tells epithelium from dermis, hematoxylin first.
    tissue, legible
        bool (h, w): tissue, and tissue in which the counterstain can be read. Where a strong
        marker hides it pixels take no side, so that a line of collagen VII does not move the
        border it lies on.
    """

    stains: list[FloatArray]
    tissue: Mask
    legible: Mask
    hidden: Mask
    """bool (h, w): tissue in which the marker is strong, whether or not it is left out."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where to read the evidence, and how far to trust it.

    Attributes
    ----------
    picture
        Stains (h, w, 3): hematoxylin, second stain, residual.
    tissue
        bool (h, w), fine: clefts and glass are False.
    second
        What the second stain is used for, as in `find_compartments`.
    caps
        OD above which a stain says no more: the darkest nuclei and keratin must not set the
        scale.
    mpp
        Pixel size of the picture in um.
    hiding_od
        OD from which on a marker hides the counterstain, where it stands out from its haze.
    unread
        bool (h, w): tissue that an artefact hides. It tells nothing; None for none of it.
    keratin
        bool (h, w): stratum corneum that took up the marker, about. There brown tells against
        epithelium. None for none of it.
    keratin_od
        Hematoxylin above which brown is that of a nucleus there, too.
    through_haze
        Whether a strong marker hides the counterstain only where it stands out from what is
        around it, as a line does. A marker of whole compartments hides all of them.
    hazy
        Whether there is haze, that must not be taken for a marker in nuclei.
    """

    picture: Windowed
    tissue: Mask
    second: SecondStain
    caps: tuple[float, ...]
    mpp: float
    hiding_od: float = np.inf
    unread: Mask | None = None
    keratin: Mask | None = None
    keratin_od: float = np.inf
    through_haze: bool = True
    hazy: bool = False

    @property
    def placing(self) -> int:
        """Which of the stains places the border: the second where it tells more than the first."""
        return -1 if self.second in ("nuclei", "compartment") else 0

    @property
    def has_marker(self) -> bool:
        """Whether hematoxylin tells epithelium from dermis, beside a marker."""
        return self.second in ("marker", "nuclear_marker")

    def read(self, window: Window) -> Reading:
        """Stains, tissue and what is legible of it in a window."""
        reading = _read(self.picture, self.tissue, self.second, self.hiding_od, window)
        if self.second == "marker" and self.through_haze and reading.hidden.any():
            hiding = self._stands_out(window) & reading.hidden
            reading = replace(reading, legible=reading.tissue & ~hiding)
        elif self.second == "nuclear_marker" and self.hazy:
            stain = _nuclear(
                self.picture[window], np.maximum(self._haze(window), _BACKGROUND_DAB_OD)
            )
            reading = replace(reading, stains=[stain])
        if self.keratin is not None and self.keratin[window].any():
            pixels = self.picture[window]
            own = self.keratin[window] & (pixels[..., 0] <= self.keratin_od)
            reading = _against_keratin(reading, pixels, own)
        if self.unread is None:
            return reading
        return replace(reading, legible=reading.legible & ~self.unread[window])

    def _stands_out(self, window: Window) -> Mask:
        """Where the marker stands out from what is around it, as a line or a nucleus does.

        Haze is as strong, and hides nothing.
        """
        haze, marker = self._haze(window), self.picture[window][..., 1]
        hazy = haze >= self.hiding_od - _HIDING_OD + _HAZE_OD
        return np.asarray(~hazy | (marker - haze >= _HIDING_OD))

    def _haze(self, window: Window) -> FloatArray:
        """The marker (OD) that is left where lines and nuclei are taken off."""
        sigma, half = _HAZE_BLUR_UM / self.mpp, round(_NARROW_UM / self.mpp)
        margin = 2 * half + int(np.ceil(4 * sigma)) + 1
        block = Block(window[0].start, window[1].start, *(w.stop - w.start for w in window))
        wide, core = widened(block, margin, self.tissue.shape)
        marker, here = np.ascontiguousarray(self.picture[wide][..., 1]), self.tissue[wide]
        weight = here.astype(np.float32)
        total = cv2.GaussianBlur(marker * weight, (0, 0), sigma)
        share = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), np.float32(1e-3))
        smooth = np.where(here, total / share, np.float32(0))  # beside a cleft lies no haze
        square = np.ones((2 * half + 1, 2 * half + 1), np.uint8)
        return np.asarray(cv2.morphologyEx(smooth, cv2.MORPH_OPEN, square)[core])

    def capped(self, reading: Reading) -> list[FloatArray]:
        """The stains of a reading without their extremes."""
        return [
            np.clip(stain, np.float32(_LEAST_OD), np.float32(cap))
            for stain, cap in zip(reading.stains, self.caps, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Looks:
    """How tissue looks on the coarse scale: what its layers are named by.

    Attributes
    ----------
    box, mpp, tissue
        As in `Coarse`.
    stain
        float32 (h, w): mean OD of hematoxylin.
    nuclei, brown
        float16 (h, w): what of it lies in nuclei, and the share in which a marker is strong.
    """

    box: Block
    mpp: float
    tissue: Mask
    stain: FloatArray
    nuclei: npt.NDArray[np.float16]
    brown: npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Coarse:
    """The evidence in one box, averaged to a coarse scale.

    Attributes
    ----------
    box
        Where it lies on the fine picture.
    mpp
        Of the coarse pixels, in um.
    tissue
        bool (h, w): pixels at least half of which is tissue.
    legible, hidden
        float32 (h, w): share of each pixel that can be read, and in which a marker is strong.
    hematoxylin
        float32 (h, w): mean OD over the tissue of each pixel, uncapped.
    capped
        Of each stain, float32 (h, w): mean over what is legible of each pixel, capped.
    ground
        float32 (h, w): the same of the stain between nuclei (`ground_of`).
    """

    box: Block
    mpp: float
    tissue: Mask
    legible: FloatArray
    hidden: FloatArray
    hematoxylin: FloatArray
    capped: list[FloatArray]
    ground: FloatArray

    def looks(self) -> Looks:
        """What the layers are named by, in less than half of the memory."""
        nuclei, brown = (self.capped[0] - self.ground), self.hidden
        half = (layer.astype(np.float16) for layer in (nuclei, brown))
        return Looks(self.box, self.mpp, self.tissue, self.hematoxylin, *half)


def weigh(
    picture: Windowed,
    tissue: Mask,
    second: SecondStain,
    boxes: Sequence[Block],
    mpp: float,
    workers: int,
    unread: Mask | None = None,
    through_haze: bool = True,
) -> Evidence:
    """Look over the tissue in `boxes`: what is legible of it, and how dense its stains get."""
    blocks = [b for box in boxes for b in blocks_within(box, _BLOCK_PX)]
    read = tissue if unread is None else tissue & ~unread
    if second != "marker":
        counts = map_blocks(partial(_count, picture, read, second), blocks, workers)
        levels = np.sum([count[0] for count in counts], axis=0)
        marker = np.sum([count[1] for count in counts], axis=0)
        caps = tuple(quantile(stain, _CAP_QUANTILE) for stain in levels)
        hiding_od = _hiding_step(marker) * _MARKER_STEP_OD
        below = np.cumsum(marker) / max(marker.sum(), 1)
        hazy = float(np.searchsorted(below, _HAZY_SHARE)) * _MARKER_STEP_OD > _BACKGROUND_DAB_OD
        evidence = Evidence(picture, tissue, second, caps, mpp, hiding_od, unread, hazy=hazy)
        through = second == "nuclear_marker" and hazy
        return _capped_as_read(evidence, blocks, workers) if through else evidence
    joint = np.sum(map_blocks(partial(_count_jointly, picture, read), blocks, workers), axis=0)
    hiding = _hiding_step(joint.sum(axis=1))
    cap = quantile(joint[:hiding].sum(axis=0), _CAP_QUANTILE)
    hiding_od = hiding * _MARKER_STEP_OD
    evidence = Evidence(picture, tissue, second, (cap,), mpp, hiding_od, unread,
                        through_haze=through_haze)  # fmt: skip
    through = through_haze and joint[hiding:].sum() >= _HIDDEN_SHARE * joint.sum()
    return _capped_as_read(evidence, blocks, workers) if through else evidence


def _capped_as_read(evidence: Evidence, blocks: Sequence[Block], workers: int) -> Evidence:
    """The evidence with caps of what is legible of it, where haze is seen through."""

    def count(block: Block) -> Counts:
        reading = evidence.read(window_of(block))
        return histograms(reading.stains, reading.legible)

    levels = np.sum(map_blocks(count, blocks, workers), axis=0)
    return replace(evidence, caps=tuple(quantile(stain, _CAP_QUANTILE) for stain in levels))


def _count(
    picture: Windowed, tissue: Mask, second: SecondStain, block: Block
) -> tuple[Counts, Counts]:
    """Histograms of what is read, and of the second stain in steps of a marker."""
    window = window_of(block)
    reading = _read(picture, tissue, second, np.inf, window)
    steps = _marker_steps(picture[window][..., 1][reading.tissue])
    marker = np.bincount(steps, minlength=_MARKER_STEPS)
    return histograms(reading.stains, reading.tissue), np.asarray(marker, np.int64)


def _marker_steps(od: FloatArray) -> npt.NDArray[np.int64]:
    return np.asarray(np.clip(od / _MARKER_STEP_OD, 0, _MARKER_STEPS - 1), np.int64)


def _count_jointly(picture: Windowed, tissue: Mask, block: Block) -> Counts:
    """Histograms of the counterstain, one for each step of the marker."""
    window = window_of(block)
    pixels, here = picture[window], tissue[window]
    steps = _marker_steps(pixels[..., 1][here])
    joint = np.bincount(steps * _LEVELS + _levels(pixels[..., 0][here]),
                        minlength=_MARKER_STEPS * _LEVELS)  # fmt: skip
    return np.asarray(joint.reshape(_MARKER_STEPS, _LEVELS), np.int64)


def _hiding_step(counts: Counts) -> int:
    """The step of the marker's histogram from which on it hides the counterstain."""
    below = np.cumsum(counts) / max(counts.sum(), 1)
    background = float(np.searchsorted(below, _BACKGROUND_SHARE)) * _MARKER_STEP_OD
    return round(min(background + _HIDING_OD, _MOST_HIDING_OD) / _MARKER_STEP_OD)


def average(evidence: Evidence, box: Block, factor: int, mpp: float, workers: int) -> Coarse:
    """Average the evidence in a box over `factor` x `factor` pixels of `mpp` um."""
    rows, columns = -(-box.height // factor), -(-box.width // factor)
    layers = 5 + len(evidence.caps)
    totals = [np.zeros((rows, columns), np.float32) for _ in range(layers)]

    halo = 2 * _ground_px(mpp)

    def fill(block: Block) -> None:
        window, core = widened(block, halo, evidence.tissue.shape)
        reading = evidence.read(window)
        tissue, legible = reading.tissue.astype(np.float32), reading.legible.astype(np.float32)
        hidden = reading.hidden.astype(np.float32)
        parts = [tissue, legible, hidden, reading.stains[0] * tissue]
        capped = evidence.capped(reading)
        ground = ground_of(capped[evidence.placing], reading.legible, mpp)
        parts += [stain * legible for stain in (*capped, np.maximum(ground, _LEAST_OD))]
        top, left = (block.y - box.y) // factor, (block.x - box.x) // factor
        for total, part in zip(totals, parts, strict=True):
            small = _block_mean(np.ascontiguousarray(part[core]), factor)
            total[top : top + small.shape[0], left : left + small.shape[1]] = small

    map_blocks(fill, blocks_within(box, _BLOCK_PX), workers)
    tissue, legible, hidden, hematoxylin, *capped = totals
    hematoxylin /= np.maximum(tissue, 1e-6)
    for stain in capped:
        stain /= np.maximum(legible, 1e-6)
    if evidence.unread is not None:
        gone = _block_mean(evidence.unread[window_of(box)].astype(np.float32), factor) > 0
        known = (tissue >= 0.5) & ~gone
        for layer in (legible, hidden, hematoxylin, *capped):
            # What an artefact hides is most likely what lies beside it.
            np.copyto(layer, from_nearest(layer, known), where=gone)
    *capped, ground = capped
    return Coarse(box, mpp * factor, tissue >= 0.5, legible, hidden, hematoxylin, capped, ground)


def _read(
    picture: Windowed, tissue: Mask, second: SecondStain, hiding_od: float, window: Window
) -> Reading:
    pixels, here = picture[window], tissue[window]
    hematoxylin, other = (np.ascontiguousarray(pixels[..., k]) for k in (0, 1))
    hidden = here & (other >= hiding_od)
    if second in ("counterstain", "nuclei", "compartment"):
        return Reading([hematoxylin, other], here, here, hidden)
    if second == "nuclear_marker":
        return Reading([_nuclear(pixels, _BACKGROUND_DAB_OD)], here, here, hidden)
    return Reading([hematoxylin], here, here & ~hidden, hidden)


def _nuclear(pixels: FloatArray, background_od: FloatArray | float) -> FloatArray:
    """Hematoxylin, and as much of the marker as may be in a nucleus."""
    hematoxylin = pixels[..., 0]
    # Brown with no blue under it is no nucleus: it is corneum, or melanin.
    brown = np.minimum(pixels[..., 1] - np.float32(background_od), hematoxylin)
    return np.ascontiguousarray(hematoxylin + np.maximum(brown, 0))


def _against_keratin(reading: Reading, pixels: FloatArray, keratin: Mask) -> Reading:
    brown = np.maximum(pixels[..., 1] - np.float32(_BACKGROUND_DAB_OD), 0)
    stain = np.where(keratin, np.maximum(pixels[..., 0] - brown, 0), reading.stains[0])
    legible = reading.legible | (keratin & reading.tissue)
    return replace(reading, stains=[stain, *reading.stains[1:]], legible=legible)


def ground_of(stain: FloatArray, legible: Mask, mpp: float) -> FloatArray:
    """The stain between nuclei: cytoplasm in epithelium, the palest about a cell in dermis.

    Cells that crowd below the junction are as dense as epithelium, with dermis between them.
    """
    high = np.float32(9)
    size = 2 * _ground_px(mpp) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    least = cv2.erode(np.where(legible, stain, high), disc)
    return np.asarray(cv2.dilate(np.where(least < high, least, -high), disc))


def standing_out(stain: FloatArray, mpp: float) -> FloatArray:
    """By how much a stain (h, w) exceeds what is left of it in long, thin pieces.

    What stays is compact: nuclei, whether they lie in epithelium, collagen or keratin.
    """
    half, long = int(LONG_UM / mpp / 2), np.zeros_like(stain)
    for angle in np.arange(_DIRECTIONS) * np.pi / _DIRECTIONS:
        line = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
        x, y = round(half * np.cos(angle)), round(half * np.sin(angle))
        cv2.line(line, (half - x, half - y), (half + x, half + y), 1)
        np.maximum(long, cv2.morphologyEx(stain, cv2.MORPH_OPEN, line), out=long)
    return stain - long


def _ground_px(mpp: float) -> int:
    return max(1, round(_GROUND_UM / mpp))


def histograms(stains: Sequence[FloatArray], where: Mask) -> Counts:
    """How many pixels of `where` have each OD, stain by stain, for `quantile`."""
    counts = np.zeros((len(stains), _LEVELS), np.int64)
    for row, stain in zip(counts, stains, strict=True):
        row += np.bincount(_levels(stain[where]), minlength=_LEVELS)
    return counts


def _levels(od: FloatArray) -> npt.NDArray[np.int32]:
    levels = (od - _LEAST_OD) * (_LEVELS / (_MOST_OD - _LEAST_OD))
    return np.asarray(np.clip(levels, 0, _LEVELS - 1), np.int32)


def quantile(counts: Counts, share: float) -> float:
    """The OD below which `share` of the counted pixels lie."""
    if not counts.sum():
        return _MOST_OD
    below = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(share, below, np.linspace(_LEAST_OD, _MOST_OD, _LEVELS + 1)))


def _block_mean(values: FloatArray, factor: int) -> FloatArray:
    height, width = (-(-n // factor) * factor for n in values.shape)
    whole = values
    if (height, width) != values.shape:
        whole = np.zeros((height, width), np.float32)
        whole[: values.shape[0], : values.shape[1]] = values
    size = (width // factor, height // factor)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)
