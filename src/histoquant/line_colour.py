"""The slide's own stain vectors, taken where collagen VII stains alone: along the junction.

Lots and scanners turn the colour of DAB by a few degrees. Measured with the published vector, a
line whose colour lies 4 degrees nearer to hematoxylin loses a tenth of its density. Estimates
over the whole tissue (`histoquant.stain_estimate`) have to find pixels that hold one stain only;
along the junction place helps: DAB lies in a line a few um wide, hematoxylin does not.

- **DAB**: where no nucleus stands beside the line, hematoxylin changes slowly across it. What of
  the other planes follows the line's own profile, less a straight slope, is therefore DAB's. The
  strength of the line cancels out of this: a weaker line has the same colour.
- **Hematoxylin**: beside the line, in the epidermis, there is no line. What of the DAB plane
  follows hematoxylin there, from nuclei to the cytoplasm between them, is not collagen VII: the
  vector is turned until none does. Unspecific brown of the nuclei goes with it.

Both are directions of this slide, so any other program gets the same densities with them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.collagen7 import measure_collagen7
from histoquant.settings import Collagen7Settings, Settings
from histoquant.stains import PRESETS, Preset, StainModel, angle_deg
from histoquant.straightening import Straightened, unmixed_again
from histoquant.white import Triple, triple

Floats = npt.NDArray[np.float64]

_LINE_UM = 5.0  # half width in which a line stands out from a straight slope
_BESIDE_UM = (2.0, 7.0)  # from the line: where a nucleus would reach into it
_CLEAR_SHARE = 0.2  # of the normals: those with least hematoxylin beside the line
_WIDEST_UM = 5.0  # lines cut obliquely are as wide as what they are told from
_MOST_SATURATED = 0.02
_FEWEST_BINS = 15
_MOST_ERROR_DEG = 1.0  # standard error; 1 degree is about 3 % of the integral
_FURTHEST_DEG = 12.0  # lots and scanners turn a vector by 2-4 degrees; beyond, it is no DAB
_LEAST_APART_DEG = 15.0  # the two stains; published vectors are 37 degrees apart
_CLEAR_OF_LINE_UM = 2.0  # beyond the band in which the line is looked for
_BLEND_NORMALS = 4  # 2 um: much less than a nucleus
_OUTLIER = 3.0  # robust standard deviations: melanin, debris


@dataclass(frozen=True)
class LineColour:
    """Stain vectors taken along the junction, or why they cannot be.

    Attributes
    ----------
    hematoxylin, marker
        Unit OD vectors (R, G, B), to four decimals; those given where refused.
    angles_deg
        Of the two to those of the stain set; NaN where nothing was found.
    error_deg
        Standard error of the marker's direction, from bin to bin.
    n_bins
        Bins that hold a line to take it from.
    refused
        Why the given vectors are to be used instead; empty when the estimate holds.
    """

    hematoxylin: Triple
    marker: Triple
    angles_deg: tuple[float, float]
    error_deg: float
    n_bins: int
    refused: str = ""

    def describe(self, preset: Preset, name: str) -> str:
        """Where the vectors come from, for the result."""
        if self.refused:
            return f"preset {preset} (that of the slide's own line refused: {self.refused})"
        first, second = self.angles_deg
        return (
            f"the slide's own line ({self.n_bins} bins; {name} {second:.1f} +- "
            f"{self.error_deg:.1f}, hematoxylin {first:.1f} degrees from preset {preset})"
        )

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain values."""
        return asdict(self)


def in_own_colour(
    found: Straightened, model: StainModel, bins: pd.DataFrame, settings: Settings
) -> tuple[Straightened, StainModel, dict[str, object]]:
    """The straightened junction in the vectors of its own line, where they are to be taken.

    Not where `settings` sets or estimates others, or says that those of the stain set hold.

    Returns
    -------
    The straightened junction, the model it is unmixed with, and what the result tells of it.
    """
    stains = settings.stains
    asked = stains.source != "preset" or stains.hematoxylin or stains.second
    if settings.collagen7.vectors == "stains" or asked:
        return found, model, {}
    profiles, *_ = measure_collagen7(found, bins, settings.collagen7)
    colour = colour_of_line(found, profiles, model, settings.collagen7)
    told: dict[str, object] = {"line_colour": colour.as_json()}
    source = colour.describe(stains.preset, PRESETS[stains.preset][0])
    white = model.source.rpartition("; white: ")[2]
    if colour.refused:
        return found, replace(model, source=f"{source}; white: {white}"), told
    own = StainModel.preset(
        stains.preset,
        model.white,
        hematoxylin=colour.hematoxylin,
        second=colour.marker,
        white_source=white,
        vectors_source=source,
    )
    return unmixed_again(found, model, own), own, told


def colour_of_line(
    found: Straightened, profiles: pd.DataFrame, model: StainModel, settings: Collagen7Settings
) -> LineColour:
    """Take the directions of both stains from the straightened junction.

    Parameters
    ----------
    found
        Unmixed with `model`.
    profiles
        Bins with their profiles, measured with `model`.

    Returns
    -------
    LineColour. Refused, with the model's vectors, where fewer than 15 bins hold a clear line,
    the direction is not certain to 1 degree, it lies more than 12 degrees from the model's, or
    less than 15 from that of what lies beside the line.
    """
    given = model.vectors[0], model.vectors[1]
    nothing = (float("nan"), float("nan"))
    lines, bins = _lines(found, profiles)
    clear = _clear_of_nuclei(lines)
    n_bins = len(np.unique(bins[clear]))
    if n_bins < _FEWEST_BINS:
        why = f"only {n_bins} bins hold a clear line, {_FEWEST_BINS} are needed"
        return LineColour(*given, nothing, float("nan"), n_bins, why)
    slopes, error = _slopes(lines[clear], bins[clear])
    marker = _turned(model, 1, {0: slopes[0], 2: slopes[1]})
    spread = float(np.degrees(error * np.linalg.norm(np.cross(given[0], given[1]))))
    away = angle_deg(marker, given[1])
    why = ""
    if spread > _MOST_ERROR_DEG:
        why = f"its direction is certain to {spread:.1f} degrees only"
    elif away > _FURTHEST_DEG:
        why = f"found {away:.1f} degrees away"
    if why:
        return LineColour(*given, (float("nan"), away), spread, n_bins, why)
    again = _in_vectors(found, model, marker)
    hematoxylin = _turned(model, 0, {1: _follows_hematoxylin(again, found, profiles, settings)},
                          marker)  # fmt: skip
    angles = angle_deg(hematoxylin, given[0]), away
    apart = angle_deg(hematoxylin, marker)
    if apart < _LEAST_APART_DEG:  # the epidermis beside the line is as brown: it is none
        why = f"what is beside it is only {apart:.1f} degrees from it"
        return LineColour(*given, angles, spread, n_bins, why)
    return LineColour(hematoxylin, marker, angles, spread, n_bins)


def _lines(
    found: Straightened, profiles: pd.DataFrame
) -> tuple[Floats, npt.NDArray[np.int64]]:  # fmt: skip
    """Planes (normal, depth, 3) about the line of every bin with a clear one; the bins' numbers."""
    reach = _BESIDE_UM[1]
    at = np.arange(-reach, reach + found.step_um / 2, found.step_um)
    planes, numbers = [np.empty((0, len(at), 3))], [np.empty(0, np.int64)]
    good = profiles["positive"].to_numpy(bool) & ~profiles["excluded"].to_numpy(bool)
    good &= profiles["fwhm_um"].to_numpy(float) < _WIDEST_UM
    good &= profiles["saturated_fraction"].to_numpy(float) <= _MOST_SATURATED
    for row in profiles[good].itertuples():
        rows = found.rows_of(row)
        depth = at + float(str(row.depth_peak_um))
        whole = [
            [np.interp(depth, found.depth_um, normal, np.nan, np.nan) for normal in plane[rows]]
            for plane in _planes(found)
        ]
        block = np.moveaxis(np.asarray(whole, np.float64), 0, -1)
        block = block[np.isfinite(block).all(axis=(1, 2))] if block.size else np.empty((0,))
        if len(block):
            planes.append(block)
            numbers.append(np.full(len(block), int(str(row.bin)), np.int64))
    return np.concatenate(planes), np.concatenate(numbers)


def _planes(found: Straightened) -> tuple[npt.NDArray[np.float32], ...]:
    """Hematoxylin, marker and residual."""
    if found.residual is None:
        raise ValueError("a straightened junction without the residual stain has no colour")
    return found.hematoxylin, found.od, found.residual


def _offsets(lines: Floats) -> Floats:
    """Distances from the line of the samples of `_lines`."""
    return np.linspace(-_BESIDE_UM[1], _BESIDE_UM[1], lines.shape[1])


def _clear_of_nuclei(lines: Floats) -> npt.NDArray[np.bool_]:
    """Which normals have no nucleus beside the line: those with least hematoxylin there."""
    if not len(lines):
        return np.zeros(0, np.bool_)
    beside = np.abs(_offsets(lines)) >= _BESIDE_UM[0]
    most = lines[:, beside, 0].max(axis=1)
    return np.asarray(most <= np.quantile(most, _CLEAR_SHARE))


def _slopes(lines: Floats, bins: npt.NDArray[np.int64]) -> tuple[tuple[float, float], float]:
    """How much of hematoxylin and residual follows the marker across the line.

    And the standard error of the first, by leaving out bin after bin.
    """
    off = _offsets(lines)
    near = np.abs(off) <= _LINE_UM
    # Less a straight slope over the depth, normal by normal: what changes slowly says nothing.
    base = np.stack([np.ones(near.sum()), off[near]])
    base /= np.sqrt((base * base).sum(axis=1))[:, None]
    rest = lines[:, near].copy()
    for shape in base:
        rest -= (rest * shape[:, None]).sum(axis=1)[:, None] * shape[:, None]
    _, place = np.unique(bins, return_inverse=True)
    square = np.bincount(place, (rest[..., 1] ** 2).sum(axis=1))
    first, second = (np.bincount(place, (rest[..., k] * rest[..., 1]).sum(axis=1)) for k in (0, 2))
    total = float(square.sum())
    slope = float(first.sum()) / total
    error = float(np.sqrt(((first - slope * square) ** 2).sum())) / total
    return (slope, float(second.sum()) / total), error


def _turned(
    model: StainModel, stain: int, shares: dict[int, float], marker: Triple | None = None
) -> Triple:
    """One of the model's vectors with shares of the others added; to four decimals."""
    vectors = np.asarray(model.vectors, np.float64)
    if marker is not None:
        vectors[1] = marker
    turned = vectors[stain] + sum(share * vectors[k] for k, share in shares.items())
    return triple(np.round(turned / np.linalg.norm(turned), 4))


def _in_vectors(found: Straightened, model: StainModel, marker: Triple) -> tuple[Floats, Floats]:
    """Hematoxylin and marker (arc, depth) with another vector of the marker."""
    new = StainModel.preset("hdab", model.white, hematoxylin=model.vectors[0], second=marker)
    turn = np.asarray(model.vectors) @ np.linalg.inv(np.asarray(new.vectors))
    planes = [plane.astype(np.float64) for plane in _planes(found)]
    first, second = (sum(turn[k, s] * plane for k, plane in enumerate(planes)) for s in (0, 1))
    return np.asarray(first), np.asarray(second)


def _follows_hematoxylin(
    planes: tuple[Floats, Floats],
    found: Straightened,
    profiles: pd.DataFrame,
    settings: Collagen7Settings,
) -> float:
    """Slope of the marker on hematoxylin in the epidermis beside the line, outliers left out."""
    beside = found.depth_um <= -settings.band_um - _CLEAR_OF_LINE_UM
    blue, brown = [np.empty(0)], [np.empty(0)]
    for row in profiles[~profiles["excluded"].to_numpy(bool)].itertuples():
        rows = found.rows_of(row)
        x, y = (_blended(plane[rows][:, beside]) for plane in planes)
        known = np.isfinite(x) & np.isfinite(y)
        if known.any():  # bin by bin: background may change along the junction
            blue.append(x[known] - x[known].mean())
            brown.append(y[known] - np.median(y[known]))
    x, y = np.concatenate(blue), np.concatenate(brown)
    slope = 0.0
    for _ in range(3):
        rest = y - slope * x
        kept = np.abs(rest - np.median(rest)) <= _OUTLIER * _spread(rest)
        square = float((x[kept] ** 2).sum())
        if not square > 0:
            return 0.0
        slope = float((x[kept] * (y[kept] - y[kept].mean())).sum()) / square
    return slope


def _blended(plane: Floats) -> Floats:
    """Means of neighbouring normals: noise takes from one stain what it gives to the other."""
    count = len(plane) // _BLEND_NORMALS
    whole = plane[: count * _BLEND_NORMALS]
    return np.asarray(whole.reshape(count, _BLEND_NORMALS, -1).mean(axis=1))


def _spread(values: Floats) -> float:
    if not values.size:
        return 0.0
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
