"""The white level of a bright-field slide, from its own glass.

Glass is flat, nearly colourless and among the brightest. Where the light falls off towards the
edges of the slide (vignetting) no one level is right: a smooth field is fitted to the glass, so
that dim glass is not taken for tissue, and the level is that of the field where the tissue lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.errors import DarkFieldError
from histoquant.planes import over_channels

FloatArray = npt.NDArray[np.float32]
RgbArray = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
_WHOLE = (slice(None), slice(None))
Triple = tuple[float, float, float]
Coefficients = tuple[Triple, ...]

_FLAT_SD = 2.5  # grey levels; camera noise on glass lies near 1
_GLASS_RANGE = 14.0  # grey levels below the brightest flat pixels that still are glass
_MIN_GLASS_FRACTION = 0.005
_DARK_FIELD = 90.0  # grey level; no bright-field scanner exposes glass this low
_BLACK = 25.0  # grey level of the brightest channel; a quarter of a bright field is never so dark
_UNEVEN_PERCENT = 3.0  # 0.013 OD, below what the least OD of tissue allows for
_RINGING_PX = (7, 7)
_FIELD_STEP = 4.0  # grey levels off the field that still are glass
_FIELD_ROUNDS = 12
_MIN_FIELD_FRACTION = 0.02
_MOST_FIELD_PERCENT = 30.0


@dataclass(frozen=True)
class WhiteLevel:
    """What unstained light looks like on one slide.

    Attributes
    ----------
    values
        Grey levels R, G, B (0-255).
    glass_fraction
        Part of the picture that is glass (0-1).
    source
        ``glass``: median of bright, flat pixels. ``brightest``: no glass in view, the 99th
        percentile of each channel instead. ``given``: from the settings.
    field
        Coefficients (6, 3) of the quadratic fitted to uneven glass (see `white_field`); empty
        where one level serves the whole slide.
    uneven_percent
        How far the light on the glass varies over the slide, in percent of its middle, from the
        5th to the 95th percentile; NaN without glass enough to tell.
    """

    values: Triple
    glass_fraction: float
    source: Literal["glass", "brightest", "given"]
    field: Coefficients = ()
    uneven_percent: float = float("nan")

    @property
    def warning(self) -> str:
        """What a reader of the figures must know; empty for an even white from glass."""
        if self.source == "brightest":
            return (
                "no glass in view: the brightest pixels stand in for white, and optical "
                "densities are too low by that of the palest tissue"
            )
        if self.source == "glass" and min(self.values) >= 255:
            return (
                "the only glass in view is at grey level 255: overexposed, or never scanned; "
                "optical densities may be too high by 0.04. If the white is known, set stains.white"
            )
        if self.field:
            return (
                f"uneven light: the glass varies by {self.uneven_percent:.0f} %; white is that "
                f"of the middle, and optical densities are off by up to "
                f"{np.log10(1 + self.uneven_percent / 200):.3f} at the ends"
            )
        return ""


def measure_white(overview: RgbArray, known: npt.NDArray[np.bool_] | None = None) -> WhiteLevel:
    """White level of a bright-field slide from its own glass.

    Glass is flat and among the brightest: the median of such pixels is taken. Areas a scanner
    never visited are painted exactly (255, 255, 255); they are left out where real glass remains.
    Without glass in view the 99th percentile of each channel stands in, and says so. Where the
    light on the glass varies by more than 3 % over the slide, `WhiteLevel.field` follows it and
    the values are those of the field over what is not glass.

    Parameters
    ----------
    overview
        RGB at about 4-16 um/px, shape (h, w, 3), uint8.
    known
        Where the file holds data, bool (h, w); what is painted in elsewhere is no light. All of
        it when `None`.

    Raises
    ------
    DarkFieldError
        When even the brightest pixels are dark, or a quarter of all is black: a fluorescence
        slide, or no light.
    """
    seen = overview[known] if known is not None and known.any() else overview.reshape(-1, 3)
    brightest = np.percentile(seen, 99, axis=0)
    if brightest.min() < _DARK_FIELD or np.percentile(over_channels(np.maximum, seen), 25) < _BLACK:
        levels = ", ".join(f"{level:.0f}" for level in brightest)
        raise DarkFieldError(
            f"the brightest pixels are at grey levels ({levels}): this looks like fluorescence, "
            "not a bright-field stain; optical density has no meaning here. If the file holds one "
            "stain of several, give the file with the nuclear stain, too (--nuclear-slide, or the "
            "manifest's column nuclear_slide). If all stains are in it as colours, name them: "
            'fluorescence.nuclear = "blue" and fluorescence.marker. If it is bright field, set '
            "stains.white."
        )
    unknown = np.zeros(overview.shape[:2], np.bool_) if known is None else ~known
    # Compression leaves pixels near 255 all along what is painted, brighter than any glass.
    at_255 = over_channels(np.logical_and, overview == 255).astype(np.uint8)
    painted = (cv2.dilate(at_255, np.ones(_RINGING_PX, np.uint8)) > 0) | unknown
    mean, flat = _local_mean(overview)
    glass = _flat_bright(mean, flat & ~painted)
    if glass.mean() < 4 * _MIN_GLASS_FRACTION:  # no glass but what is at 255: overexposed
        painted = unknown
        glass = _flat_bright(mean, flat & ~painted)
    fraction = float(glass.mean())
    if fraction < _MIN_GLASS_FRACTION:
        return WhiteLevel(triple(np.maximum(brightest, 1)), fraction, "brightest")
    values = triple(np.median(overview[glass], axis=0))
    field, grown = _grow(mean, flat & ~painted, glass)
    percent = _unevenness(field, grown)
    if not _UNEVEN_PERCENT <= percent <= _MOST_FIELD_PERCENT:
        return WhiteLevel(values, fraction, "glass", (), percent)
    lit = _evaluate(field, glass.shape)
    values = triple(np.median(lit[~grown] if not grown.all() else lit[grown], axis=0))
    coefficients = tuple(triple(row) for row in field)
    return WhiteLevel(values, float(grown.mean()), "glass", coefficients, percent)


def white_field(
    white: WhiteLevel, shape: tuple[int, int], window: tuple[slice, slice] = _WHOLE
) -> FloatArray:
    """Grey levels of unstained light everywhere on a picture of the whole slide.

    Parameters
    ----------
    white
        Of the slide; even light gives the same value everywhere.
    shape
        Rows and columns of the picture.
    window
        Rows and columns of the part that is wanted; all of it by default.

    Returns
    -------
    float32 (h, w, 3), the size of the window.
    """
    if not white.field:
        rows, columns = (len(range(n)[part]) for n, part in zip(shape, window, strict=True))
        return np.broadcast_to(np.asarray(white.values, np.float32), (rows, columns, 3))
    return _evaluate(np.asarray(white.field), shape, window)


def triple(values: npt.NDArray[np.floating]) -> Triple:
    """Three Python floats."""
    r, g, b = (float(v) for v in values)
    return r, g, b


def _local_mean(rgb: RgbArray) -> tuple[FloatArray, Mask]:
    """Mean of 5 x 5 px, and where the picture is flat."""
    grey = rgb.astype(np.float32)
    mean = cv2.blur(grey, (5, 5))
    variance = cv2.blur(grey * grey, (5, 5)) - mean * mean
    flat = over_channels(np.logical_and, variance < _FLAT_SD**2)
    return np.asarray(mean, np.float32), np.asarray(flat, np.bool_)


def _flat_bright(mean: FloatArray, flat: Mask) -> Mask:
    """Pixels of `flat` of which all channels are near the brightest such."""
    if not flat.any():
        return flat
    top = np.percentile(mean[flat], 99, axis=0)
    bright = over_channels(np.logical_and, mean >= top - _GLASS_RANGE)
    # Evenly stained tissue is flat too; glass is nearly colourless.
    colourless = np.ptp(top) < 0.25 * top.max()
    return flat & bright if colourless and top.min() > _DARK_FIELD else np.zeros_like(flat)


def _unevenness(field: npt.NDArray[np.float64], glass: Mask) -> float:
    """Percent by which the light on the glass varies; NaN with too little glass to tell."""
    if glass.mean() < _MIN_FIELD_FRACTION or not _surrounds(glass):
        return float("nan")
    lit = _evaluate(field, glass.shape)
    low, high = np.percentile(lit[glass].mean(axis=1), [5, 95])
    return float(200 * (high - low) / (high + low))


def _grow(mean: FloatArray, flat: Mask, glass: Mask) -> tuple[npt.NDArray[np.float64], Mask]:
    """Fit the field to the glass, take in the flat pixels that lie on it, and fit again."""
    grown = glass
    field = _fit(mean, grown)
    for _ in range(_FIELD_ROUNDS):
        on = _lies_on(field, mean)
        wider = flat & (on | glass)
        if (wider == grown).all():
            break
        grown, field = wider, _fit(mean, wider)
    return field, flat & _lies_on(field, mean)


def _lies_on(field: npt.NDArray[np.float64], mean: FloatArray) -> Mask:
    """Which pixels differ from the field by no more than noise, in any channel."""
    off = np.abs(mean - _evaluate(field, mean.shape[:2]))
    return np.asarray(over_channels(np.maximum, off) <= _FIELD_STEP)


def _surrounds(glass: Mask) -> bool:
    """Whether there is glass in at least three quarters of the picture: else it is guesswork."""
    least = 0.02 * glass.size / 4
    rows, columns = (n // 2 for n in glass.shape)
    parts = [part for half in (glass[:rows], glass[rows:])
             for part in (half[:, :columns], half[:, columns:])]  # fmt: skip
    return sum(bool(part.sum() >= least) for part in parts) >= 3


def _fit(mean: FloatArray, glass: Mask) -> npt.NDArray[np.float64]:
    """Coefficients (6, 3) of the least-squares quadratic through the glass."""
    rows, columns = np.nonzero(glass)
    step = max(1, len(rows) // 20_000)
    y, x = _unit_axes(glass.shape)
    terms = np.column_stack(list(_terms(y[rows[::step]], x[columns[::step]])))
    solution = np.linalg.lstsq(terms, mean[rows[::step], columns[::step]], rcond=None)[0]
    # Rounded, so that the last bits of a solver are in no result.
    return np.asarray(np.round(solution, 4), np.float64)


def _evaluate(
    field: npt.NDArray[np.float64],
    shape: tuple[int, ...],
    window: tuple[slice, slice] = _WHOLE,
) -> FloatArray:
    y, x = (axis[part] for axis, part in zip(_unit_axes(shape), window, strict=True))
    size = (len(y), len(x))
    lit = np.zeros((*size, 3), np.float32)
    for term, coefficients in zip(_terms(y[:, None], x[None, :]), field, strict=True):
        lit += (term * np.ones(size))[..., None].astype(np.float32) * coefficients.astype(
            np.float32
        )
    return np.clip(lit, 1, 255)


def _unit_axes(
    shape: tuple[int, ...],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centres of rows and columns, from -1 to 1 over the picture."""
    y, x = ((np.arange(n) + 0.5) / n * 2 - 1 for n in shape[:2])
    return y, x


def _terms(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64]
) -> Iterator[npt.NDArray[np.float64]]:
    yield from (np.ones_like(y * x), y + 0 * x, x + 0 * y, y * y + 0 * x, x * x + 0 * y, y * x)
