"""Optical density and stain separation.

Values are base-10 optical densities (OD) and stay signed: clipping the negatives that noise
makes would bias every mean upwards. Vectors are unit length, and the third is the residual
orthogonal to the first two, so that what a stain pair cannot explain shows up there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from histoquant.errors import StainError
from histoquant.planes import Planes
from histoquant.white import Triple, WhiteLevel, measure_white, triple, white_field

__all__ = [
    "MARKERS",
    "PRESETS",
    "Preset",
    "StainModel",
    "WhiteLevel",
    "angle_deg",
    "field_density",
    "measure_white",
    "optical_density",
    "unmix",
]

FloatArray = npt.NDArray[np.float32]
RgbArray = npt.NDArray[np.uint8]
Preset = Literal["hdab", "he", "haec"]

# Ruifrok & Johnston 2001, as QuPath rounds them; AEC from G. Landini's "H AEC" (Fiji's Colour
# Deconvolution; the same numbers in scikit-image's rgb_from_hax).
_HEMATOXYLIN = (0.650, 0.704, 0.286)
PRESETS: dict[Preset, tuple[str, Triple, Triple]] = {
    "hdab": ("dab", _HEMATOXYLIN, (0.268, 0.570, 0.776)),
    "he": ("eosin", _HEMATOXYLIN, (0.072, 0.990, 0.105)),
    "haec": ("aec", _HEMATOXYLIN, (0.2743, 0.6796, 0.6803)),
}
MARKERS = ("dab", "aec")
"""Second stains that say whether a nucleus is positive."""

_MIN_ANGLE_DEG = 10.0
_BLEND_BITS = 6  # of a step below the whole ones, while stains are blended


@dataclass(frozen=True)
class StainModel:
    """How colours of one slide split into stains.

    Attributes
    ----------
    names
        Names of the three stains; the last is ``residual``.
    vectors
        Unit OD vectors (R, G, B), one row a stain; the third is orthogonal to the others.
    white
        Grey levels R, G, B that mean OD 0.
    source
        Where vectors and white level came from, for the result.
    """

    names: tuple[str, str, str]
    vectors: tuple[Triple, Triple, Triple]
    white: Triple
    source: str

    def __post_init__(self) -> None:
        _check_apart(self.names, self.vectors[0], self.vectors[1])
        if min(self.white) <= 0:
            raise StainError(f"white level {self.white} must be above 0 in every channel")

    @classmethod
    def preset(
        cls,
        name: Preset,
        white: Triple,
        *,
        hematoxylin: Triple | None = None,
        second: Triple | None = None,
        white_source: str = "given",
        vectors_source: str = "",
    ) -> StainModel:
        """Model from a stain set, with single vectors replaced where they are given.

        Parameters
        ----------
        name
            The stain set.
        white
            Grey levels R, G, B that mean OD 0.
        hematoxylin, second
            OD vectors of any length instead of the set's.
        white_source, vectors_source
            Where they came from, for `source`; by default, what of the set was replaced.

        Raises
        ------
        StainError
            When the vectors cannot be told apart, or are none.
        """
        if name not in PRESETS:
            raise StainError(f"stain set {name!r} is none of {', '.join(get_args(Preset))}")
        second_name, *defaults = PRESETS[name]
        first = _unit(hematoxylin or defaults[0])
        other = _unit(second or defaults[1])
        given = [
            label
            for label, vector in (("hematoxylin", hematoxylin), (second_name, second))
            if vector
        ]
        names = ("hematoxylin", second_name, "residual")
        _check_apart(names, first, other)
        if not vectors_source:
            vectors_source = f"preset {name}" + (f", {' and '.join(given)} given" if given else "")
        return cls(
            names=names,
            vectors=(first, other, _unit(tuple(np.cross(first, other)))),
            white=white,
            source=f"{vectors_source}; white: {white_source}",
        )

    @property
    def has_marker(self) -> bool:
        """Whether the second stain is a marker (DAB, AEC) that positivity can be read from."""
        return self.names[1] in MARKERS

    @property
    def marker_in_nuclei(self) -> bool:
        """Nuclear density counts DAB in: under it hematoxylin cannot be seen."""
        return self.has_marker

    @property
    def unit(self) -> str:
        """Unit of the stains."""
        return "OD"

    def planes(self, pixels: RgbArray, max_od: float) -> Planes:
        """Stain ODs of RGB pixels (h, w, 3) uint8; channels are capped at `max_od`."""
        top = np.float32(max_od)
        table = np.minimum(_density_table(self.white), top)
        flat = np.ascontiguousarray(pixels).reshape(-1, 3)
        stains, od = np.empty((2, *flat.shape), np.float32)
        _look_up_and_weigh(flat, table, _weights(self), stains, od)
        return Planes(stains.reshape(pixels.shape), od.reshape(pixels.shape), top)

    def blend(
        self, pixels: RgbArray, max_od: float, shares: tuple[float, float], floor_od: float,
        steps: int,
    ) -> npt.NDArray[np.uint16]:  # fmt: skip
        """Shares of the first two stains, summed, in whole `steps` per OD above `floor_od`.

        Parameters
        ----------
        pixels
            RGB (h, w, 3), uint8; channels are capped at `max_od` as in `planes`.

        Returns
        -------
        uint16 (h, w). In one pass over the pixels, without floats of them.
        """
        table = np.minimum(_density_table(self.white).astype(np.float64), max_od)
        weights = np.linalg.inv(np.asarray(self.vectors, np.float64))[:, :2] @ np.asarray(shares)
        parts = np.rint(table * weights * (steps << _BLEND_BITS)).astype(np.int32)
        offset = round(-floor_od * (steps << _BLEND_BITS))
        blended = np.empty(pixels.shape[:2], np.uint16)
        _look_up_and_add(np.ascontiguousarray(pixels), parts, offset, blended)
        return blended

    def to_preset_deg(self, name: Preset) -> tuple[float, float]:
        """Angles of the first and the second vector to those of a stain set, in degrees."""
        _, first, second = PRESETS[name]
        return angle_deg(self.vectors[0], first), angle_deg(self.vectors[1], second)


def optical_density(rgb: RgbArray, white: Triple) -> FloatArray:
    """Optical density of each channel, ``-log10(max(I, 1) / white)``.

    Parameters
    ----------
    rgb
        Intensities, shape (..., 3), uint8.
    white
        Grey levels R, G, B that mean OD 0.

    Returns
    -------
    float32, the shape of `rgb`. Signed: brighter than white is negative.
    """
    pixels = np.ascontiguousarray(rgb).reshape(-1, 1, 3)
    if not pixels.size:
        return np.zeros(rgb.shape, np.float32)
    table = _density_table(white)[None]
    od: FloatArray = np.asarray(cv2.LUT(pixels, table), np.float32).reshape(rgb.shape)
    return od


def _density_table(white: Triple) -> FloatArray:
    """Optical density of every grey level (256, 3) of red, green and blue."""
    levels = np.maximum(np.arange(256, dtype=np.float64), 1.0)
    return np.asarray(-np.log10(levels[:, None] / np.asarray(white, np.float64)), np.float32)


def unmix(od: FloatArray, model: StainModel) -> FloatArray:
    """Split optical densities into stains by inverting the model's vectors.

    Parameters
    ----------
    od
        Optical densities, shape (..., 3), float32.

    Returns
    -------
    float32, the shape of `od`: OD of `model.names`, signed.
    """
    flat = np.ascontiguousarray(od, np.float32).reshape(-1, 3)
    stains = np.empty_like(flat)
    _weigh(flat, _weights(model), stains)
    return stains.reshape(od.shape)


def _weights(model: StainModel) -> FloatArray:
    """Weights (channel, stain) that split densities into the stains of `model`."""
    return np.linalg.inv(np.asarray(model.vectors, np.float64)).astype(np.float32)


@njit(cache=True, nogil=True)
def _weigh(od: FloatArray, weights: FloatArray, stains: FloatArray) -> None:
    """Sum the channels of each pixel with the weights (channel, stain).

    Spelled out: a matrix product may round a pixel by its place in the array, and then a result
    would depend on how the slide was cut into blocks.
    """
    for i in range(od.shape[0]):
        for stain in range(3):
            stains[i, stain] = (od[i, 0] * weights[0, stain] + od[i, 1] * weights[1, stain]) + od[
                i, 2
            ] * weights[2, stain]


@njit(cache=True, nogil=True)
def _look_up_and_weigh(
    pixels: RgbArray,
    table: FloatArray,
    weights: FloatArray,
    stains: FloatArray,
    od: FloatArray,
) -> None:
    """Set stains (n, 3) and densities (n, 3) of pixels (n, 3) in one pass, as one by one.

    NumPy gives large memory in huge pages: fresh from numba it would cost twice this loop.
    """
    for i in range(pixels.shape[0]):
        red, green, blue = table[pixels[i, 0], 0], table[pixels[i, 1], 1], table[pixels[i, 2], 2]
        od[i, 0], od[i, 1], od[i, 2] = red, green, blue
        for stain in range(3):
            stains[i, stain] = (red * weights[0, stain] + green * weights[1, stain]) + (
                blue * weights[2, stain]
            )


@njit(cache=True, nogil=True, error_model="numpy")
def _look_up_and_add(
    pixels: RgbArray, parts: npt.NDArray[np.int32], offset: int, blended: npt.NDArray[np.uint16]
) -> None:
    """Sum of what each channel (256, 3) adds, as integers: no order of adding can show."""
    red, green, blue = parts[:, 0].copy(), parts[:, 1].copy(), parts[:, 2].copy()
    start = np.int32(offset)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            total = start + red[pixels[y, x, 0]] + green[pixels[y, x, 1]] + blue[pixels[y, x, 2]]
            blended[y, x] = min(max(total >> np.int32(_BLEND_BITS), 0), 65535)


def field_density(rgb: RgbArray, white: WhiteLevel) -> FloatArray:
    """Optical density of a picture of the whole slide, unevenness of the light taken off.

    Parameters
    ----------
    rgb
        The whole slide, shape (h, w, 3), uint8, at any scale.
    white
        Of the slide.

    Returns
    -------
    float32 (h, w, 3). The same as `optical_density` where the light is even.
    """
    if not white.field:
        return optical_density(rgb, white.values)
    od = optical_density(rgb, (1.0, 1.0, 1.0))
    light: FloatArray = np.log10(white_field(white, (rgb.shape[0], rgb.shape[1])))
    return np.asarray(od + light, np.float32)


def angle_deg(a: Triple, b: Triple) -> float:
    """Angle between two OD vectors in degrees."""
    cosine = float(np.dot(_unit(a), _unit(b)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _check_apart(names: tuple[str, ...], first: Triple, second: Triple) -> None:
    """Refuse two vectors that describe one stain."""
    angle = angle_deg(first, second)
    if not _MIN_ANGLE_DEG <= angle <= 180 - _MIN_ANGLE_DEG:
        shown = [tuple(round(v, 3) for v in vector) for vector in (first, second)]
        raise StainError(
            f"the vectors of {names[0]} {shown[0]} and {names[1]} {shown[1]} are {angle:.1f} "
            "degrees apart: both describe one stain. Set stains.hematoxylin and stains.second, "
            "or use the preset."
        )


def _unit(vector: tuple[float, ...]) -> Triple:
    values = np.asarray(vector, np.float64)
    length = np.linalg.norm(values)
    if values.shape != (3,) or not length > 0:
        raise StainError(f"a stain vector needs three numbers, not all zero; found {vector}")
    return triple(values / length)
