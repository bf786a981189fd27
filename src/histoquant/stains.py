"""White level, optical density and stain separation, all in plain NumPy.

Values are base-10 optical densities (OD) and stay signed: clipping the negatives that noise
makes would bias every mean upwards. Vectors are unit length, and the third is the residual
orthogonal to the first two, so that what a stain pair cannot explain shows up there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.errors import StainError

FloatArray = npt.NDArray[np.float32]
RgbArray = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]
Preset = Literal["hdab", "he"]

# Ruifrok & Johnston 2001, as QuPath rounds them.
PRESETS: dict[Preset, tuple[str, Triple, Triple]] = {
    "hdab": ("dab", (0.650, 0.704, 0.286), (0.268, 0.570, 0.776)),
    "he": ("eosin", (0.650, 0.704, 0.286), (0.072, 0.990, 0.105)),
}

_MIN_ANGLE_DEG = 10.0
_FLAT_SD = 2.5  # grey levels; camera noise on glass lies near 1
_GLASS_RANGE = 14.0  # grey levels below the brightest flat pixels that still are glass
_MIN_GLASS_FRACTION = 0.005
_DARK_FIELD = 90.0  # grey level; no bright-field scanner exposes glass this low


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
    """

    values: Triple
    glass_fraction: float
    source: Literal["glass", "brightest", "given"]


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
    ) -> StainModel:
        """Model from a stain set, with single vectors replaced where they are given."""
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
        vectors_source = f"preset {name}" + (f", {' and '.join(given)} given" if given else "")
        return cls(
            names=names,
            vectors=(first, other, _unit(tuple(np.cross(first, other)))),
            white=white,
            source=f"{vectors_source}; white: {white_source}",
        )

    @property
    def has_marker(self) -> bool:
        """Whether the second stain is a marker (DAB) that positivity can be read from."""
        return self.names[1] == "dab"


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
    levels = np.maximum(np.arange(256, dtype=np.float64), 1.0)
    table = -np.log10(levels[:, None] / np.asarray(white, np.float64)).astype(np.float32)
    od = np.empty(rgb.shape, np.float32)
    for channel in range(3):
        od[..., channel] = table[rgb[..., channel], channel]
    return od


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
    inverse = np.linalg.inv(np.asarray(model.vectors, np.float64)).astype(np.float32)
    red, green, blue = (od[..., channel] for channel in range(3))
    stains = np.empty_like(od)
    for stain in range(3):
        # Sums spelled out: a matrix product may round a pixel by its place in the array, and
        # then a result would depend on how the slide was cut into blocks.
        stains[..., stain] = red * inverse[0, stain]
        stains[..., stain] += green * inverse[1, stain]
        stains[..., stain] += blue * inverse[2, stain]
    return stains


def measure_white(overview: RgbArray) -> WhiteLevel:
    """White level of a bright-field slide from its own glass.

    Glass is flat and among the brightest: the median of such pixels is taken. Areas a scanner
    never visited are painted exactly (255, 255, 255); they are left out where real glass remains.
    Without glass in view the 99th percentile of each channel stands in, and says so.

    Parameters
    ----------
    overview
        RGB at about 4-16 um/px, shape (h, w, 3), uint8.

    Raises
    ------
    StainError
        When even the brightest pixels are dark: a fluorescence slide, or no light.
    """
    brightest = np.percentile(overview.reshape(-1, 3), 99, axis=0)
    if brightest.min() < _DARK_FIELD:
        levels = ", ".join(f"{level:.0f}" for level in brightest)
        raise StainError(
            f"the brightest pixels are at grey levels ({levels}): this looks like fluorescence, "
            "not a bright-field stain; optical density has no meaning here. If it is bright "
            "field, set stains.white."
        )
    painted = (overview == 255).all(axis=-1)
    glass = _flat_bright(overview, ~painted)
    if glass.mean() < 4 * _MIN_GLASS_FRACTION:  # no glass but what is at 255: overexposed
        glass = _flat_bright(overview, np.ones_like(painted))
    fraction = float(glass.mean())
    if fraction >= _MIN_GLASS_FRACTION:
        return WhiteLevel(_triple(np.median(overview[glass], axis=0)), fraction, "glass")
    return WhiteLevel(_triple(np.maximum(brightest, 1)), fraction, "brightest")


def angle_deg(a: Triple, b: Triple) -> float:
    """Angle between two OD vectors in degrees."""
    cosine = float(np.dot(_unit(a), _unit(b)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _flat_bright(rgb: RgbArray, among: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels of `among` with little local variation, all channels near the brightest such."""
    grey = rgb.astype(np.float32)
    mean = cv2.blur(grey, (5, 5))
    variance = cv2.blur(grey * grey, (5, 5)) - mean * mean
    flat = (variance < _FLAT_SD**2).all(axis=-1) & among
    if not flat.any():
        return flat
    top = np.percentile(mean[flat], 99, axis=0)
    bright = (mean >= top - _GLASS_RANGE).all(axis=-1)
    # Evenly stained tissue is flat too; glass is nearly colourless.
    colourless = np.ptp(top) < 0.25 * top.max()
    return flat & bright if colourless and top.min() > _DARK_FIELD else np.zeros_like(flat)


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
    return _triple(values / length)


def _triple(values: npt.NDArray[np.floating]) -> Triple:
    r, g, b = (float(v) for v in values)
    return r, g, b
