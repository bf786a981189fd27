"""p16-positive nuclei: from a slide to one row per nucleus, and from rows to rates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from histoquant import rates
from histoquant.anatomy import (
    ADNEXA,
    BACKGROUND,
    DERMIS,
    EPIDERMIS,
    NAMES,
    STRATUM_CORNEUM,
    Compartments,
)
from histoquant.detection import find_nuclei
from histoquant.junction import Junction
from histoquant.positivity import BASAL, SUPRABASAL, block_runs, grade
from histoquant.settings import Settings
from histoquant.sweep import threshold_sweep

__all__ = ["find_nuclei", "measure_p16", "threshold_sweep", "warn_of_field"]

PAPILLARY, RETICULAR = "dermis_papillary", "dermis_reticular"
OTHER = "other"
NO_DAB = "the slide's stain set has no DAB"
_BROWN = 0.9  # of the epidermal nuclei: a stain on all of them marks nothing

_GROUPS = {
    "epidermis": (BASAL, SUPRABASAL),
    "basal": (BASAL,),
    "suprabasal": (SUPRABASAL,),
    "papillary": (PAPILLARY,),
    "reticular": (RETICULAR,),
}


def measure_p16(
    nuclei: pd.DataFrame,
    compartments: Compartments,
    junction: Junction,
    settings: Settings,
    *,
    surface_length_mm: float = float("nan"),
    has_marker: bool = True,
) -> tuple[pd.DataFrame, dict[str, object], dict[str, str]]:
    """Classify nuclei and take the figures of the slide.

    Parameters
    ----------
    nuclei
        From `find_nuclei`.
    compartments, junction
        Where epidermis and dermis are, and the line between them.
    settings
        Depths (`anatomy`) and thresholds (`p16`).
    surface_length_mm
        Skin surface over the measured junction; NaN when there is none.
    has_marker
        False when the second stain is not DAB: nothing is positive or negative then.

    Returns
    -------
    nuclei
        The table for ``nuclei.parquet``.
    summary
        The p16 columns of the summary, rates with 95 % limits; NaN where missing.
    reasons
        Why, for each missing figure.
    """
    table = _place(nuclei, compartments, junction, settings)
    table = grade(table, settings.p16, has_marker)
    if has_marker:
        blocks, n_runs = block_runs(table, junction, settings.p16)
    else:
        blocks, n_runs = np.zeros(len(table), np.bool_), 0
    table = table.assign(block_positive=blocks)
    areas = _areas(compartments, junction, settings)
    lengths = {
        "measured_length_mm": junction.measured_length_um / 1000,
        "surface_length_mm": surface_length_mm,
    }
    summary = _summarise(table, areas | lengths, has_marker, n_runs)
    missing_anatomy = compartments.reason or junction.reason
    reasons = {
        name: _reason(name, has_marker, missing_anatomy, _has_nuclei(name, summary))
        for name, value in summary.items()
        if isinstance(value, float) and np.isnan(value)
    }
    return table.drop(columns=["dab_od_sd", "red_blue_ratio"]), summary, reasons


def warn_of_field(summary: dict[str, object], settings: Settings) -> list[str]:
    """What of the figures says that positivity means something else here, in words."""
    warnings = []
    ring, first = float(str(summary["ring_dab_od_median"])), settings.p16.thresholds_od[0]
    if ring >= first:
        warnings.append(
            f"the whole field is brown: half of the nuclei lie in cytoplasm of DAB OD {ring:.2f} "
            f"or more (threshold {first:g})"
        )
    share = float(str(summary["epidermis_positive_percent"]))
    if share >= 100 * _BROWN:
        warnings.append(f"{share:.0f} % of the epidermal nuclei are positive")
    runs = summary["n_block_runs"]
    if isinstance(runs, int) and runs:
        warnings.append(
            f"block-positive: {runs} run(s) of at least {settings.p16.block_run} basal positive "
            f"nuclei side by side, {summary['n_block_positive']} nuclei in all"
        )
    return warnings


def _place(
    nuclei: pd.DataFrame, compartments: Compartments, junction: Junction, settings: Settings
) -> pd.DataFrame:
    """Add `compartment`, `dej_distance_um`, `beside_measured_junction` and the exclusions."""
    points = nuclei[["y_um", "x_um"]].to_numpy(dtype=np.float64)
    code, located = compartments.at(points), junction.locate(points)
    depth = located.depth_um
    with_line = compartments.has_epidermis and bool(junction.stretches)
    anatomy = settings.anatomy
    compartment = np.full(len(nuclei), OTHER, dtype=object)
    if with_line:
        epidermis, dermis = code == EPIDERMIS, code == DERMIS
        compartment[epidermis] = SUPRABASAL
        compartment[epidermis & (depth >= -anatomy.basal_depth_um)] = BASAL
        compartment[dermis] = RETICULAR
        compartment[dermis & (depth <= anatomy.papillary_depth_um)] = PAPILLARY
    reason = np.full(len(nuclei), "", dtype=object)
    for outside in (BACKGROUND, STRATUM_CORNEUM, ADNEXA):
        reason[code == outside] = NAMES[outside].replace("_", " ")
    return nuclei.assign(
        compartment=compartment.astype(str),
        dej_distance_um=depth,
        beside_measured_junction=~located.excluded & with_line,
        excluded=reason != "",
        exclusion_reason=reason.astype(str),
    )


def _areas(compartments: Compartments, junction: Junction, settings: Settings) -> dict[str, float]:
    """Areas of epidermis and of the two bands of dermis (mm2), NaN without a junction.

    The papillary band leaves out what lies nearest to excluded junction, as the nuclei do.
    Sampled on every fourth pixel of the compartments: about one in 8 um.
    """
    if not (compartments.has_epidermis and junction.stretches):
        nothing = float("nan")
        return dict.fromkeys(
            ("epidermis_area_mm2", "papillary_area_mm2", "reticular_area_mm2"), nothing
        )
    stride = 4
    rows, columns = np.nonzero(compartments.labels[::stride, ::stride] == DERMIS)
    centres = np.column_stack((rows, columns)) * stride + 0.5
    points = centres.astype(np.float64) * compartments.mpp
    located = junction.locate(points)
    papillary = located.depth_um <= settings.anatomy.papillary_depth_um
    cell = (stride * compartments.mpp) ** 2 / 1e6
    return {
        "epidermis_area_mm2": compartments.area_mm2(EPIDERMIS),
        "papillary_area_mm2": float((papillary & ~located.excluded).sum()) * cell,
        "reticular_area_mm2": float((~papillary).sum()) * cell,
    }


def _summarise(
    table: pd.DataFrame, sizes: dict[str, float], has_marker: bool, n_runs: int
) -> dict[str, object]:
    """Take the p16 figures, by name."""
    counted = table[~table["excluded"]]
    n: dict[str, float] = _counts(counted, "n_nuclei", "n_positive", has_marker)
    with_line = not np.isnan(sizes["epidermis_area_mm2"])
    for group, members in _GROUPS.items():
        rows = counted[counted["compartment"].isin(members)]
        names = f"n_{group}", f"n_{group}_positive"
        n |= _counts(rows, *names, has_marker) if with_line else dict.fromkeys(names, np.nan)
    beside = counted[counted["beside_measured_junction"]]
    for group in ("epidermis", "papillary"):
        rows = beside[beside["compartment"].isin(_GROUPS[group])]
        name = f"n_{group}_positive_measured"
        # Where no nucleus at all was found, that there are no positive ones says nothing.
        known = with_line and has_marker and len(rows) > 0
        n[name] = int(rows["positive"].sum()) if known else np.nan
    clear = counted[~counted["pigment_suspected"]]
    n |= _counts(clear, "n_without_pigment", "n_positive_without_pigment", has_marker)
    n["n_pigment_suspected"] = len(counted) - len(clear) if has_marker else np.nan
    n["n_haze_suspected"] = int(counted["haze_suspected"].sum()) if has_marker else np.nan
    known = with_line and has_marker
    n["n_block_positive"] = int(counted["block_positive"].sum()) if known else np.nan
    n["n_block_runs"] = n_runs if known else np.nan
    classes = counted["intensity_class"]
    for level in (1, 2, 3):
        n[f"n_{level}plus"] = int((classes == level).sum()) if has_marker else np.nan
    summary: dict[str, object] = {k: v for k, v in sizes.items() if k.endswith("_area_mm2")}
    summary |= n
    summary["ring_dab_od_median"] = float(counted["ring_dab_od_mean"].median())
    h_score = rates.h_score(classes) if has_marker else rates.MISSING
    summary |= {"h_score": h_score.value, "h_score_low": h_score.low, "h_score_high": h_score.high}
    tops = dict(n)
    if not n["n_reticular"]:
        tops["n_reticular_positive"] = np.nan
    for name, (top, bottom) in _RATES.items():
        summary |= _rate(name, tops[top], n.get(bottom, sizes.get(bottom, np.nan)), bottom in n)
    return summary


_RATES = {
    "positive_percent": ("n_positive", "n_nuclei"),
    "epidermis_positive_percent": ("n_epidermis_positive", "n_epidermis"),
    "basal_positive_percent": ("n_basal_positive", "n_basal"),
    "suprabasal_positive_percent": ("n_suprabasal_positive", "n_suprabasal"),
    "positive_per_mm_dej": ("n_epidermis_positive_measured", "measured_length_mm"),
    "positive_per_mm_surface": ("n_epidermis_positive_measured", "surface_length_mm"),
    "papillary_positive_percent": ("n_papillary_positive", "n_papillary"),
    "papillary_positive_per_mm2": ("n_papillary_positive_measured", "papillary_area_mm2"),
    "reticular_positive_percent": ("n_reticular_positive", "n_reticular"),
    "reticular_positive_per_mm2": ("n_reticular_positive", "reticular_area_mm2"),
    "block_positive_percent": ("n_block_positive", "n_basal"),
    "positive_percent_without_pigment": ("n_positive_without_pigment", "n_without_pigment"),
}


def _counts(rows: pd.DataFrame, total: str, positive: str, has_marker: bool) -> dict[str, float]:
    count = int(rows["positive"].sum()) if has_marker else np.nan
    return {total: len(rows), positive: count}


def _rate(name: str, top: float, bottom: float, of_nuclei: bool) -> dict[str, float]:
    """Give a rate and its limits under their column names."""
    if np.isnan(top) or np.isnan(bottom):
        rate = rates.MISSING
    else:
        rate = (
            rates.percent(int(top), int(bottom)) if of_nuclei else rates.per_unit(int(top), bottom)
        )
    return {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}


def _reason(name: str, has_marker: bool, missing_anatomy: str, has_nuclei: bool) -> str:
    """Why the figure `name` is missing."""
    by_anatomy = any(word in name for word in ("_mm", "block", *_GROUPS))
    if by_anatomy and missing_anatomy:
        return missing_anatomy
    if not has_marker and "area" not in name:
        return NO_DAB
    if "_per_mm" in name and has_nuclei:
        return "no junction, surface or area was measured to divide by"
    return "no nuclei were found"


def _has_nuclei(name: str, summary: dict[str, object]) -> bool:
    """Whether any nucleus was found in the compartment that a figure is about."""
    group = name.split("_")[0] if name.split("_")[0] in _GROUPS else "epidermis"
    return summary[f"n_{group}"] not in (0, np.nan)
