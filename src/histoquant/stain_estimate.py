"""Stain vectors from pixels, and when not to trust them.

The pixels are those QuPath takes ("Estimate stain vectors": every channel at least 0.05 OD, the
length of the vector at most 1), the vectors the 1st and 99th percentile of the angle in the plane
of the two largest principal components (Macenko et al. 2009, ISBI, 1107-1110). QuPath takes the
pixel at the percentile; here the direction in the plane is taken, which the noise of one pixel
does not move.

The ends of the angles are stains only where some pixels hold one stain alone. In a nuclear
marker the brown lies on blue nuclei: the estimate of DAB is then a mixture, some 10 degrees
nearer to hematoxylin than DAB is, and every DAB density measured with it is wrong. Such estimates
are refused, and so are those where a stain is too rare to be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from histoquant.stains import PRESETS, FloatArray, Preset, angle_deg
from histoquant.white import Triple, triple

Floats = npt.NDArray[np.float64]

LEAST_OD, GREATEST_OD, PERCENTILE = 0.05, 1.0, 1.0
_MIN_PIXELS = 5000  # 50 beyond each percentile
_MIN_APART_DEG = 15.0  # hematoxylin and DAB lie 37 degrees apart, AEC 32
_TOLERANCE_DEG = (25.0, 6.0)  # from the preset; nearer to the other stain than the preset's
"""Lots and scanners turn a vector by 2-4 degrees, blue by up to 17; a mixture leans by 8 on."""
_EOSIN_TOLERANCE_DEG = (40.0, 12.0)  # QuPath's eosin lies 30 degrees from Ruifrok's, and leans 9
_MIN_SHARE = 0.01  # of the pixels nearer to a stain than to the other: PERCENTILE needs as many


@dataclass(frozen=True)
class Estimate:
    """Stain vectors estimated from pixels, or why they cannot be.

    Attributes
    ----------
    preset
        The stain set they were compared with.
    hematoxylin, second
        Unit OD vectors (R, G, B), to four decimals; of the preset where refused.
    angles_deg
        What was found, in degrees from the preset's two vectors; NaN where nothing was.
    n_pixels
        Pixels they rest on.
    refused
        Why the preset is to be used instead; empty when the estimate holds.
    """

    preset: Preset
    hematoxylin: Triple
    second: Triple
    angles_deg: tuple[float, float]
    n_pixels: int
    refused: str = ""

    def describe(self, where: str) -> str:
        """Where the vectors come from, for the result; `where` says what was looked at."""
        if self.refused:
            return f"preset {self.preset} (estimate on {where} refused: {self.refused})"
        first, second = self.angles_deg
        return (
            f"estimated on {where} ({self.n_pixels} px; hematoxylin {first:.1f}, "
            f"{PRESETS[self.preset][0]} {second:.1f} degrees from preset {self.preset})"
        )

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain values."""
        return asdict(self)


def usable_pixels(od: FloatArray) -> FloatArray:
    """Pixels (n, 3) of `od` (..., 3) that are stained, and not so densely that they clip."""
    pixels = od.reshape(-1, 3)
    length = np.sqrt((pixels * pixels).sum(axis=1))
    kept = (pixels >= LEAST_OD).all(axis=1) & (length <= GREATEST_OD)
    return np.asarray(pixels[kept], np.float32)


def estimate_vectors(pixels: Sequence[FloatArray], preset: Preset) -> Estimate:
    """Estimate the two stain vectors of one slide, or of the slides of a batch together.

    Parameters
    ----------
    pixels
        Optical densities (n, 3), float32, from `usable_pixels`: one array a slide. Each slide
        weighs as much as the pixels it gives.
    preset
        Which stains are looked for.

    Returns
    -------
    Estimate. Refused, with the preset's vectors, where there are too few pixels, the second stain
    is rare, both ends lie on one stain, one lies more than 25 degrees (eosin 40) from the preset,
    or one leans towards the other by more than 6 (eosin 12): then no pixel holds it alone.
    """
    _, *known = PRESETS[preset]
    od = np.concatenate([np.empty((0, 3), np.float32), *pixels]).astype(np.float64)
    nothing = (float("nan"), float("nan"))
    if len(od) < _MIN_PIXELS:
        why = f"only {len(od)} stained pixels, {_MIN_PIXELS} are needed"
        return Estimate(preset, known[0], known[1], nothing, len(od), why)
    ends = _ends(od)
    swapped = angle_deg(ends[0], known[0]) + angle_deg(ends[1], known[1]) > angle_deg(
        ends[1], known[0]
    ) + angle_deg(ends[0], known[1])
    first, second = ends[::-1] if swapped else ends
    angles = angle_deg(first, known[0]), angle_deg(second, known[1])
    why = _refusal(od, first, second, preset)
    if why:
        first, second = known
    return Estimate(preset, first, second, angles, len(od), why)


def _ends(od: Floats) -> tuple[Triple, Triple]:
    """Directions at both ends of the angles in the principal plane, to four decimals."""
    # Sums, not a matrix product: that may round by the number of threads.
    moments = [[float((od[:, i] * od[:, j]).sum()) for j in range(3)] for i in range(3)]
    _, axes = np.linalg.eigh(np.array(moments))
    main, other = axes[:, 2], axes[:, 1]
    main = main if main.sum() > 0 else -main
    along = od[:, 0] * main[0] + od[:, 1] * main[1] + od[:, 2] * main[2]
    across = od[:, 0] * other[0] + od[:, 1] * other[1] + od[:, 2] * other[2]
    low, high = np.percentile(np.arctan2(across, along), [PERCENTILE, 100 - PERCENTILE])
    one, two = (np.cos(angle) * main + np.sin(angle) * other for angle in (low, high))
    return triple(np.round(one, 4)), triple(np.round(two, 4))


def _refusal(od: Floats, first: Triple, second: Triple, preset: Preset) -> str:
    """Why an estimate is not to be used."""
    name, *known = PRESETS[preset]
    apart = angle_deg(first, second)
    if apart < _MIN_APART_DEG:
        return f"both vectors lie on one stain, {apart:.1f} degrees apart"
    share = _share_of_second(od, known[0], known[1])
    for stain, part in ((name, share), ("hematoxylin", 1 - share)):
        if part < _MIN_SHARE:
            return f"{stain} is too sparse: {100 * part:.1f} % of the stained pixels"
    pairs = (("hematoxylin", first, known, name), (name, second, known[::-1], "hematoxylin"))
    for stain, found, (own, others), other in pairs:
        furthest, most = _EOSIN_TOLERANCE_DEG if stain == "eosin" else _TOLERANCE_DEG
        away = angle_deg(found, own)
        if away > furthest:
            return f"{stain} found {away:.1f} degrees from the preset"
        lean = angle_deg(own, others) - angle_deg(found, others)
        if lean > most:
            return (
                f"{stain} found {lean:.1f} degrees nearer to {other} than the preset's: no "
                f"pixels hold {stain} alone"
            )
    return ""


def _share_of_second(od: Floats, first: Triple, second: Triple) -> float:
    """Part of the pixels whose colour is nearer to the second stain than to the first."""
    near = (od * (np.asarray(second) - np.asarray(first))).sum(axis=1) > 0
    return float(near.mean())
