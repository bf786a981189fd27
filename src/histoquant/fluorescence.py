"""Fluorescence: which channel is what, its background, and where the tissue is.

Everything is linear: a plane is the channel less its background, the marker in grey levels of the
camera, so that any figure can be checked in Fiji. The nuclear stain is scaled so that a typical
bright nucleus becomes 0.5, as dense as a well stained one in OD, which the rules for nuclei and
for epithelium are made for. The marker's channel takes no part in finding nuclei or epithelium;
its autofluorescence helps to tell tissue from empty glass.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.errors import SlideError, StainError
from histoquant.evidence import standing_out
from histoquant.planes import NUCLEAR_LEVEL, Planes
from histoquant.settings import FluorescenceSettings, Settings
from histoquant.slides import Slide
from histoquant.staining import FieldFigures, tissue_fields
from histoquant.tissue import find_tissue, focus_score, tissue_detail

Pixels = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Pair = tuple[float, float]

_DNA = ("nuclear", "dapi", "hoechst", "draq", "sytox", "topro", "propidium", "dna", "nuclei")
_DARK_PERCENT = 10.0  # of the overview, the darkest: background where there is any glass
_MIN_NOISE_SDS = 6.0
# Of what typical tissue shines above background, in the nuclear channel and the marker's: nuclei
# are so bright that their haze reaches far beyond the tissue's edge.
_TISSUE_SHARES = (0.5, 0.25)
_DEGREES = (0, 1, 1, 2, 2, 2)  # of the surface that follows the light on glass, step by step
_LEAST_GLASS = 0.02  # of the overview, to follow it on
_HOT_PX = 5
_MOST_ABOVE = np.float32(4.0)  # times the floor: nothing counts more when tissue is told
_MIN_SPAN = 4.0  # grey levels; a channel that spans less holds nothing
_PADDING = 0.01  # of the pixels: so many at the minimum, with a gap above them, are no picture
_PADDING_GAP = 8.0  # times the usual distance from one value that occurs to the next
_CAMERAS = (1023.0, 4095.0, 16383.0)
_PILE = 20  # pixels of the fields at the very brightest value: a camera's end
_FIELDS = 32
_SPAN_UM, _SPAN_BLUR_PX = 1.0, 0.7  # um/px at which typical nuclei are looked for; against noise
_AROUND_NUCLEUS_UM = 3.0


@dataclass(frozen=True)
class FluorescenceModel:
    """Planes of a fluorescence slide: two of its channels, background subtracted.

    Attributes
    ----------
    channels
        Numbers of the nuclear channel and of the marker's.
    channel_names
        What the file calls them.
    background
        Grey levels of the two where there is no tissue.
    nuclear_span
        Grey levels from background to a typical nucleus.
    full_scale
        Greatest grey level of the camera.
    bits
        Bits of a stored pixel.
    bleed
        Share of the nuclear channel that shows in the marker's, subtracted.
    """

    channels: tuple[int, int]
    channel_names: tuple[str, str]
    background: Pair
    nuclear_span: float
    full_scale: float
    bits: int
    bleed: float = 0.0

    def __post_init__(self) -> None:
        if not (self.nuclear_span > 0 and self.full_scale > 0):
            raise StainError(
                f"the span of the nuclear channel ({self.nuclear_span:g}) and the full scale "
                f"({self.full_scale:g}) must be above 0"
            )

    names = ("nuclear", "marker", "residual")
    has_marker = True
    marker_in_nuclei = False

    @property
    def unit(self) -> str:
        """Grey levels, of how many bits."""
        return f"grey levels ({self.bits} bit)"

    @property
    def source(self) -> str:
        """The channels and their background, in words."""
        (nuclear, marker), (first, second) = self.channel_names, self.background
        return (
            f"fluorescence: nuclear {nuclear} (channel {self.channels[0]}, background {first:.1f}, "
            f"nuclei {self.nuclear_span:.0f} above it), marker {marker} (channel "
            f"{self.channels[1]}, background {second:.1f}), full scale {self.full_scale:.0f}"
            + (f", {100 * self.bleed:g} % bleed subtracted" if self.bleed else "")
        )

    def planes(self, pixels: Pixels, max_od: float) -> Planes:
        """Planes of pixels (h, w, c); the residual is 0: two channels explain themselves."""
        shape = (*pixels.shape[:2], 3)
        stains, end = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        scales = NUCLEAR_LEVEL / self.nuclear_span, 1.0
        for plane, (channel, dark, scale) in enumerate(
            zip(self.channels, self.background, scales, strict=True)
        ):
            values = pixels[..., channel].astype(np.float32)
            stains[..., plane] = (values - np.float32(dark)) * np.float32(scale)
        if self.bleed:
            stains[..., 1] -= stains[..., 0] * np.float32(self.bleed / scales[0])
        end[pixels[..., self.channels[1]] >= self.full_scale, 0] = np.float32(max_od)
        return Planes(stains, end, np.float32(max_od))


@dataclass(frozen=True, eq=False)
class Look:
    """What the overview of a fluorescence slide tells.

    Attributes
    ----------
    channels
        Numbers of the nuclear channel and of the marker's.
    background
        Of the two: grey levels without tissue, over all of the slide.
    glow
        float32 (h, w, 2), on the grid of the overview: grey levels without tissue there.
    floor
        Of the two: grey levels above it from which on there is tissue.
    tissue
        bool (h, w), on the grid of the overview.
    """

    channels: tuple[int, int]
    background: Pair
    glow: FloatArray
    floor: Pair
    tissue: Mask

    def above(self, pixels: Pixels, unit: float) -> FloatArray:
        """Light above background (h, w, 2): `unit` where tissue begins.

        `pixels` (h, w, c) may be larger than the overview, over the same area.
        """
        height, width = pixels.shape[:2]
        planes = np.empty((height, width, 2), np.float32)
        for plane, (channel, floor) in enumerate(zip(self.channels, self.floor, strict=True)):
            dark = cv2.resize(np.ascontiguousarray(self.glow[..., plane]), (width, height))
            np.subtract(pixels[..., channel], dark, out=planes[..., plane])
            planes[..., plane] *= np.float32(1 / floor)
        # Blurred, a nucleus or keratin would carry the edge of the tissue outwards.
        return np.multiply(np.minimum(planes, _MOST_ABOVE, out=planes), np.float32(unit))


def choose_channels(names: Sequence[str], settings: FluorescenceSettings) -> tuple[int, int]:
    """Choose the nuclear channel and the marker's.

    Parameters
    ----------
    names
        Of the slide's channels.
    settings
        What was asked for, by name or number; empty to go by the names.

    Raises
    ------
    StainError
        When a channel is not there or cannot be told; the message lists those there are.
    """
    listed = ", ".join(f"{number} {name!r}" for number, name in enumerate(names))
    if len(names) < 2:
        raise StainError(
            f"the slide has one channel ({listed}); fluorescence needs two, the nuclear stain and "
            "the marker. Where each is a file of its own, name the nuclear one (--nuclear-slide, "
            "or the manifest's column nuclear_slide)."
        )
    nuclear = _asked("nuclear", settings.nuclear, names, listed)
    marker = _asked("marker", settings.marker, names, listed)
    if nuclear is None:
        known = [k for k, name in enumerate(names) if _is_dna(name) and k != marker]
        first = [k for k in known if names[k].lower().startswith("nuclear")] or known
        if len(first) != 1:
            what = "no channel is" if not first else f"{len(first)} channels are"
            raise StainError(
                f"{what} named like a nuclear stain (DAPI, Hoechst ...); the slide has {listed}. "
                "Set fluorescence.nuclear to one of them, by name or number."
            )
        nuclear = first[0]
    if marker is None:
        others = [k for k in range(len(names)) if k != nuclear]
        if len(others) > 1:
            raise StainError(
                f"any of {len(others)} channels may be the marker; the slide has {listed}. Set "
                "fluorescence.marker to one of them, by name or number."
            )
        marker = others[0]
    if nuclear == marker:
        raise StainError(
            f"the nuclear stain and the marker are both channel {nuclear} ({names[nuclear]}); "
            f"the slide has {listed}."
        )
    return nuclear, marker


def _asked(role: str, asked: str | int, names: Sequence[str], listed: str) -> int | None:
    """The channel asked for: by its whole name, by a part of one name only, or by number."""
    text = str(asked).strip().casefold()
    if not text:
        return None
    whole = [k for k, name in enumerate(names) if name.casefold() == text]
    part = [k for k, name in enumerate(names) if text in name.casefold()]
    for found in (whole, part):
        if len(found) == 1:
            return found[0]
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    what = f"fits {len(part)} channels" if len(part) > 1 else "is no channel"
    raise StainError(f"fluorescence.{role} = {asked!r} {what}; the slide has {listed}.")


def _is_dna(name: str) -> bool:
    """Whether a channel is named after a dye of DNA."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return any(dye in plain for dye in _DNA)


def look_over(slide: Slide, settings: Settings) -> Look:
    """Find the channels, their background and the tissue on the overview.

    Background is the median of the darkest tenth of the pixels; a slide that tissue fills has
    none in view, and its darkest tissue stands in. Tissue shines in either channel: everything
    does a little, collagen and keratin more.

    Raises
    ------
    StainError
        When a channel is not there or holds nothing.
    SlideError
        When there is no tissue.
    """
    channels = choose_channels(slide.channels, settings.fluorescence)
    if slide.dtype.kind != "u":
        raise StainError(
            f"{slide.path}: pixels of type {slide.dtype}; fluorescence is measured in unsigned "
            "grey levels. Export the slide as 8 or 16 bit."
        )
    mpp = max(settings.tissue.overview_um, slide.mpp)
    overview, known = slide.overview(mpp), slide.known(mpp)
    padding = np.logical_and.reduce([_padding(overview[..., c], known) for c in channels])
    known = known & ~padding
    levels = [
        _levels(overview[..., c], known, share, slide.channels[c])
        for c, share in zip(channels, _TISSUE_SHARES, strict=True)
    ]
    darks, glows, floors = zip(*levels, strict=True)
    look = Look(channels, darks, np.stack(glows, axis=-1), floors, known)
    unit = settings.tissue.min_od
    tissue = find_tissue(look.above(overview, unit), mpp, settings.tissue) & known
    if not tissue.any():
        raise SlideError(
            f"{slide.path}: no tissue found: no piece of at least "
            f"{settings.tissue.min_area_mm2:g} mm2 shines above the background of channels "
            f"{slide.channels[channels[0]]} and {slide.channels[channels[1]]}."
        )
    return replace(look, tissue=tissue)


def _padding(values: Pixels, known: Mask) -> Mask:
    """Where a channel was not scanned: stitched slides are padded with zeros.

    Padding is a plateau with an empty gap above it; a camera's background has noise, whose
    values follow each other, and an offset.
    """
    levels, counts = np.unique(values[known], return_counts=True)
    if len(levels) < 3 or levels[0] or counts[0] <= _PADDING * counts.sum():
        return np.zeros(values.shape, np.bool_)
    gaps = np.diff(levels.astype(np.int64))
    if gaps[0] < max(_MIN_SPAN, _PADDING_GAP * float(np.median(gaps[1:]))):
        return np.zeros(values.shape, np.bool_)
    return np.asarray(values == levels[0])


def _levels(
    values: Pixels, known: Mask, share: float, name: str
) -> tuple[float, FloatArray, float]:
    """Background of a channel (h, w), all over and place by place, and what tissue has above it."""
    own = values[known]
    if own.size == 0 or int(own.max()) - int(own.min()) < _MIN_SPAN:
        found = f"all at {int(own.min())}" if own.size else "none"
        raise StainError(
            f"channel {name} holds nothing (grey levels {found}): it was not exposed, or it is "
            "not the channel that was meant"
        )
    darkest = np.sort(own)[: max(1, int(own.size * _DARK_PERCENT / 100))].astype(np.float64)
    dark, noise = float(np.median(darkest)), max(float(darkest.std()), 0.25)
    calm = np.asarray(cv2.medianBlur(values.astype(np.float32), _HOT_PX), np.float32)
    glow, floor = np.full(values.shape, dark, np.float32), _MIN_NOISE_SDS * noise
    for degree in _DEGREES:
        shining = (own - glow[known])[own > glow[known] + floor]
        typical = float(np.median(shining)) if shining.size else 0.0
        floor = max(_MIN_NOISE_SDS * noise, share * typical)
        glass = known & (np.abs(calm - glow) < floor)
        if glass.mean() < _LEAST_GLASS:
            break
        glow = _smooth_surface(calm, glass, degree)
    return dark, glow, floor


def _smooth_surface(values: FloatArray, where: Mask, degree: int) -> FloatArray:
    """The polynomial of two variables nearest to `values` (h, w) where `where` is True.

    Elsewhere it is kept within what it is there.
    """
    y, x = np.meshgrid(
        *(np.linspace(-1, 1, n, dtype=np.float32) for n in values.shape), indexing="ij"
    )
    terms = [y**j * x**i for j in range(degree + 1) for i in range(degree + 1 - j)]
    rows = np.stack([term[where] for term in terms], axis=-1).astype(np.float64)
    weights, *_ = np.linalg.lstsq(rows, values[where].astype(np.float64), rcond=None)
    surface = np.tensordot(weights.astype(np.float32), np.stack(terms), axes=1)
    return np.asarray(np.clip(surface, surface[where].min(), surface[where].max()), np.float32)


def measure_model(slide: Slide, look: Look, settings: Settings) -> FluorescenceModel:
    """Levels of one slide, from fields spread over its tissue.

    Raises
    ------
    StainError
        When the nuclear channel holds no signal.
    """
    fields = _fields(slide, look.tissue, settings.nuclei.mpp)
    marker = np.concatenate([f[..., look.channels[1]].ravel() for f in fields])
    names = slide.channels[look.channels[0]], slide.channels[look.channels[1]]
    mpp = max(settings.nuclei.mpp, slide.mpp)
    span = _nuclear_span(fields, look.channels[0], look.background[0], mpp)
    if span < _MIN_SPAN:
        raise StainError(
            f"channel {names[0]} holds no nuclear signal: nothing in its tissue stands out as "
            f"nuclei do ({max(span, 0):.1f} grey levels above its background of "
            f"{look.background[0]:.0f}); it was not exposed, is saturated, or is another stain"
        )
    full = settings.fluorescence.full_scale or _full_scale(marker)
    bits = 8 * slide.dtype.itemsize
    bleed = settings.fluorescence.bleed
    return FluorescenceModel(look.channels, names, look.background, span, full, bits, bleed)


def _fields(slide: Slide, tissue: Mask, mpp: float) -> list[Pixels]:
    return list(tissue_fields(slide, tissue, max(mpp, slide.mpp), _FIELDS))


def _nuclear_span(fields: Sequence[Pixels], channel: int, dark: float, mpp: float) -> float:
    """From background to a typical nucleus, in fields (h, w, c) at `mpp` um/px.

    Otsu's rule on a square root parts nuclei from what lies around them. Where collagen shines and
    nuclei are few it would part collagen from its gaps: it sees only the surroundings of what is
    compact and stands out, by the same rule.
    """
    planes = [np.maximum(f[..., channel].astype(np.float32) - np.float32(dark), 0) for f in fields]
    shrink = max(1, round(_SPAN_UM / mpp))
    compact = [standing_out(_shrunk(plane, shrink), mpp * shrink) for plane in planes]
    limit = _upper_of_two(np.concatenate([c.ravel() for c in compact]))
    size = 2 * round(_AROUND_NUCLEUS_UM / (mpp * shrink)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    near = [cv2.dilate((c > limit).astype(np.uint8), disc) for c in compact]
    values = np.concatenate([
        plane[cv2.resize(mask, plane.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0]
        for plane, mask in zip(planes, near, strict=True)
    ])  # fmt: skip
    bright = values[values > _upper_of_two(values)]
    return float(np.median(bright)) if bright.size else 0.0


def _shrunk(plane: FloatArray, shrink: int) -> FloatArray:
    small = cv2.resize(plane, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _SPAN_BLUR_PX), np.float32)


def _upper_of_two(values: FloatArray) -> float:
    """From which value on the upper of two classes begins, by Otsu's rule on a square root."""
    root = np.sqrt(np.maximum(values, 0))
    top = float(root.max(initial=0))
    if top <= 0:
        return 0.0
    grey = np.round(root / top * 255).astype(np.uint8)
    limit, _ = cv2.threshold(grey.reshape(1, -1), 0, 255, cv2.THRESH_OTSU)
    return float(((limit + 0.5) / 255 * top) ** 2)


def _full_scale(values: Pixels) -> float:
    """End of the camera: where pixels pile up at the greatest value of 10, 12 or 14 bits."""
    top = float(values.max())
    if top in _CAMERAS and int((values == values.max()).sum()) >= _PILE:
        return top
    return float(np.iinfo(values.dtype).max)


def nuclear_picture(
    slide: Slide, look: Look, model: FluorescenceModel, settings: Settings
) -> tuple[FloatArray, Mask, float]:
    """What epithelium is found by: the nuclear plane (h, w), tissue (h, w), um/px."""
    mpp = max(settings.anatomy.mpp, slide.mpp)
    pixels = slide.overview(mpp)
    above = look.above(pixels, settings.tissue.min_od)
    tissue = tissue_detail(above, look.tissue, mpp, settings.tissue) & slide.known(mpp)
    return model.planes(pixels, settings.stains.max_od).stains[..., 0], tissue, mpp


def field_figures(
    slide: Slide, look: Look, model: FluorescenceModel, settings: Settings
) -> FieldFigures:
    """Sharpness of the nuclear stain, and how much of the marker's tissue is saturated."""
    scores, shining, full = [], 0, 0
    floor = look.floor[1]
    for field in _fields(slide, look.tissue, settings.nuclei.mpp)[::2]:
        planes = model.planes(field, settings.stains.max_od)
        scores.append(focus_score(planes.stains[..., :1]))
        saturated = planes.saturated
        shining += int(((planes.stains[..., 1] >= floor) | saturated).sum())
        full += int(saturated.sum())
    percent = 100 * full / shining if shining else float("nan")
    return FieldFigures(float(np.median(scores)), percent, float("nan"))


def swapped(model: FluorescenceModel) -> str:
    """Why the channels may have been swapped, by their names; empty for no reason to think so."""
    nuclear, marker = model.channel_names
    if not _is_dna(marker.removeprefix("marker ")) or _is_dna(nuclear.removeprefix("nuclear ")):
        return ""
    return (
        f"the marker's channel is named {marker}, like a nuclear stain, and the nuclear one "
        f"{nuclear}: are they swapped?"
    )
