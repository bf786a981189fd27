"""What the junction gives for free: thickness, undulation, rete ridges, and its bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import find_peaks

from histoquant.anatomy import (
    ADNEXA,
    BACKGROUND,
    DERMIS,
    EPIDERMIS,
    STRATUM_CORNEUM,
    Compartments,
)
from histoquant.artefacts import NAMES, NONE
from histoquant.junction import Junction, Stretch, trace_surface
from histoquant.settings import JunctionSettings, Settings

Floats = npt.NDArray[np.float64]

_SURFACE_SMOOTHING_UM = 10.0  # about one cell: follows the skin, not single squames
RIDGE, PAPILLA, FLANK = "ridge", "papilla", "flank"
_WHOLE = (STRATUM_CORNEUM, EPIDERMIS, DERMIS, ADNEXA)


def measure_morphometry(
    compartments: Compartments, junction: Junction, settings: Settings
) -> tuple[dict[str, object], dict[str, str]]:
    """Lengths, areas, thickness and rete ridges of one slide.

    Viable epidermal thickness is area over surface length (Turin 2018). All but
    `dej_length_mm`, `tissue_area_mm2` and `excluded_area_mm2` leave out what lies nearest to
    excluded junction.

    Returns
    -------
    summary
        By column name; NaN where missing.
    reasons
        Why, for each missing figure.
    """
    epidermis_um2, excluded_um2 = _epidermis_areas(compartments, junction)
    surface_um = _surface_length(compartments, junction)
    heights = np.concatenate([ridge_heights(s, settings.junction) for s in junction.stretches])\
        if junction.stretches else np.empty(0)  # fmt: skip
    measured_um = junction.measured_length_um
    summary: dict[str, object] = {
        "dej_length_mm": junction.length_um / 1e3,
        "measured_length_mm": measured_um / 1e3,
        "surface_length_mm": surface_um / 1e3,
        "epidermis_thickness_um_mean": epidermis_um2 / surface_um,
        "interdigitation_index": measured_um / surface_um,
        "ridges_per_mm": len(heights) / (surface_um / 1e3),
        "ridge_height_um_median": float(np.median(heights)) if len(heights) else float("nan"),
        "tissue_area_mm2": compartments.area_mm2(*_WHOLE),
        "excluded_area_mm2": excluded_um2 / 1e6 + compartments.area_mm2(ADNEXA),
        **_artefact_areas(compartments),
    }
    summary["excluded_area_mm2"] = float(str(summary["excluded_area_mm2"])) + _added_mm2(
        compartments, junction
    )
    why = junction.reason or "no skin surface lies over the measured junction"
    reasons = {name: why for name, value in summary.items() if np.isnan(value)}  # type: ignore[call-overload]
    if compartments.artefacts is None:
        reasons |= dict.fromkeys(_ARTEFACT_FIGURES, _NOT_LOOKED_FOR)
    elif _SHARE in reasons:
        reasons[_SHARE] = "there is no tissue"
    if junction.stretches and not len(heights):
        reasons["ridge_height_um_median"] = (
            f"no rete ridge reaches {settings.junction.min_ridge_um:g} um"
        )
    return summary, reasons


def junction_bins(junction: Junction, mpp: float, settings: Settings) -> pd.DataFrame:
    """Cut the junction into bins of `settings.collagen7.bin_um` along its arc.

    A bin's `feature` is ridge or papilla where the line lies more than half
    `junction.min_ridge_um` below or above its own smooth course, flank in between.

    Parameters
    ----------
    mpp
        Size of a level-0 pixel in um.

    Returns
    -------
    One row a bin: the geometric columns of ``junction.parquet``.
    """
    frames = [
        _bins(number, stretch, mpp, settings) for number, stretch in enumerate(junction.stretches)
    ]
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _BIN_COLUMNS.items()})
    table = pd.concat(frames, ignore_index=True)
    table.insert(0, "bin", np.arange(len(table), dtype=np.int64))
    return table


def ridge_heights(stretch: Stretch, settings: JunctionSettings) -> Floats:
    """Heights (um) of the rete ridges of one stretch above the papillae beside them."""
    peaks, properties = find_peaks(stretch.undulation_um, prominence=settings.min_ridge_um)
    return np.asarray(properties["prominences"][~stretch.excluded[peaks]], np.float64)


_BIN_COLUMNS = {
    "bin": "int64",
    "stretch": "int64",
    "arc_start_um": "float64",
    "arc_end_um": "float64",
    "x_px": "float64",
    "y_px": "float64",
    "feature": "object",
    "excluded": "bool",
    "exclusion_reason": "object",
}


def _bins(number: int, stretch: Stretch, mpp: float, settings: Settings) -> pd.DataFrame:
    size = settings.collagen7.bin_um
    count = max(1, int(stretch.length_um // size))  # a last part of a bin is left out
    start = np.arange(count) * size
    middle = start + size / 2
    offset = np.interp(middle, stretch.arc_um, stretch.undulation_um)
    half = settings.junction.min_ridge_um / 2
    excluded = np.interp(middle, stretch.arc_um, stretch.excluded.astype(float)) > 0
    return pd.DataFrame(
        {
            "stretch": np.full(count, number, np.int64),
            "arc_start_um": start,
            "arc_end_um": start + size,
            "x_px": np.interp(middle, stretch.arc_um, stretch.points_um[:, 1]) / mpp,
            "y_px": np.interp(middle, stretch.arc_um, stretch.points_um[:, 0]) / mpp,
            "feature": np.select([offset > half, offset < -half], [RIDGE, PAPILLA], FLANK),
            "excluded": excluded,
            "exclusion_reason": np.where(excluded, _reasons_at(stretch, middle), ""),
        }
    )


def _reasons_at(stretch: Stretch, arc_um: npt.NDArray[Any]) -> npt.NDArray[np.object_]:
    """Why the junction is excluded at arc lengths: the reason of an excluded vertex beside."""
    after = np.clip(np.searchsorted(stretch.arc_um, arc_um), 1, len(stretch.arc_um) - 1)
    before, following = stretch.reasons[after - 1], stretch.reasons[after]
    return np.asarray(np.where(before != "", before, following), object)


def _artefact_areas(compartments: Compartments) -> dict[str, float]:
    """Area (mm2) of each kind of artefact, and their share of the tissue (%)."""
    codes, pixel_mm2 = compartments.artefacts, compartments.mpp**2 / 1e6
    if codes is None:
        return dict.fromkeys(_ARTEFACT_FIGURES, float("nan"))
    areas = {
        _area_of(name): float(np.count_nonzero(codes == code)) * pixel_mm2
        for code, name in NAMES.items()
    }
    lost, whole = int(np.count_nonzero(codes)), int(np.count_nonzero(compartments.labels))
    whole += int(np.count_nonzero((codes != NONE) & (compartments.labels == BACKGROUND)))
    return areas | {_SHARE: 100 * lost / whole if whole else float("nan")}


def _area_of(artefact: str) -> str:
    return f"excluded_{artefact}_mm2"


_SHARE = "artefact_percent"
_ARTEFACT_FIGURES = (*(_area_of(name) for name in NAMES.values()), _SHARE)
_NOT_LOOKED_FOR = "artefacts were not looked for"


def _added_mm2(compartments: Compartments, junction: Junction) -> float:
    """Area (mm2) of the artefacts that is not excluded already, as adnexa or beside junction."""
    codes = compartments.artefacts
    if codes is None:
        return 0.0
    own = (codes != NONE) & (compartments.labels != ADNEXA)
    epidermis = np.argwhere(own & (compartments.labels == EPIDERMIS)).astype(np.float64)
    beside = junction.locate((epidermis + 0.5) * compartments.mpp).excluded
    count = np.count_nonzero(own) - np.count_nonzero(beside)
    return float(count) * compartments.mpp**2 / 1e6


def _surface_length(compartments: Compartments, junction: Junction) -> float:
    """Length (um) of the surface that lies over measured junction; NaN without any."""
    total = 0.0
    for line in trace_surface(compartments, _SURFACE_SMOOTHING_UM) if junction.stretches else ():
        kept = ~junction.excluded_at(line)
        steps = np.hypot(*np.diff(line, axis=0).T)
        total += float(steps[kept[1:] & kept[:-1]].sum())
    return total or float("nan")


def _epidermis_areas(compartments: Compartments, junction: Junction) -> tuple[float, float]:
    """Viable epidermis over measured and over excluded junction, in um2."""
    if not junction.stretches:
        return float("nan"), 0.0
    excluded = junction.excluded_at(compartments.centres_um(EPIDERMIS))
    pixel_um2 = compartments.mpp**2
    return float((~excluded).sum()) * pixel_um2, float(excluded.sum()) * pixel_um2
