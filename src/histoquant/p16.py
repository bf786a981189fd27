"""p16-positive nuclei: from a slide to one row per nucleus, and from rows to rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from histoquant.artefacts import REASONS as ARTEFACTS
from histoquant.detection import find_nuclei
from histoquant.faint import least_dermal_od
from histoquant.junction import Junction
from histoquant.positivity import BASAL, SUPRABASAL, block_runs, grade
from histoquant.settings import Settings
from histoquant.sweep import threshold_sweep

__all__ = [
    "count_p16",
    "find_nuclei",
    "leave_out",
    "measure_p16",
    "measured_sizes",
    "place_nuclei",
    "places_of",
    "threshold_sweep",
    "warn_of_field",
]

AREA_STRIDE = 4
"""Areas of the dermal bands are sampled on every so many-th pixel of the compartments."""

PAPILLARY, RETICULAR = "dermis_papillary", "dermis_reticular"
OTHER = "other"
NO_DAB = "the slide's stain set has no DAB"
NO_COLOURS = "fluorescence has no colours to tell pigment by"
_PLACES = (BASAL, SUPRABASAL, PAPILLARY, RETICULAR, OTHER)
_OUTSIDE = (BACKGROUND, STRATUM_CORNEUM, ADNEXA)
FAINT = "fainter than nuclei"
_REASONS = ("", *(NAMES[code].replace("_", " ") for code in _OUTSIDE), *ARTEFACTS[1:], FAINT)
_MANY_FAINT = 0.25  # of what was found in the dermis: worth a look
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
    sizes = measured_sizes(compartments, junction, settings, surface_length_mm)
    table, summary, reasons = count_p16(
        place_nuclei(nuclei, compartments, junction, settings),
        sizes,
        junction,
        settings,
        has_marker=has_marker,
        missing_anatomy=compartments.reason or junction.reason,
    )
    texts = {name: table[name].astype(str) for name in ("compartment", "exclusion_reason")}
    return table.assign(**texts), summary, reasons


def count_p16(
    placed: pd.DataFrame,
    sizes: dict[str, float],
    junction: Junction,
    settings: Settings,
    *,
    has_marker: bool = True,
    missing_anatomy: str = "",
) -> tuple[pd.DataFrame, dict[str, object], dict[str, str]]:
    """Grade nuclei whose places are known, and take the figures: what follows a change of class.

    What is too faint for a nucleus of the dermis is left out first.

    Parameters
    ----------
    placed
        From `place_nuclei`; a column `reviewed_class` overrides the colour (`positivity.grade`).
    sizes
        From `measured_sizes`.
    missing_anatomy
        Why there is no epidermis or junction; empty when there is.

    Returns
    -------
    As `measure_p16`, `compartment` as a categorical.
    """
    if has_marker:
        placed = _leave_out_faint(placed, settings.nuclei.least_dermal_share)
    table = grade(placed, settings.p16, has_marker)
    if has_marker:
        blocks, n_runs = block_runs(table, junction, settings.p16)
    else:
        blocks, n_runs = np.zeros(len(table), np.bool_), 0
    table = table.assign(block_positive=blocks)
    summary = _summarise(table, sizes, has_marker, n_runs)
    reasons = {
        name: _reason(name, has_marker, missing_anatomy, _has_nuclei(name, summary))
        if not (has_marker and "pigment" in name and not _has_colours(table))
        else NO_COLOURS
        for name, value in summary.items()
        if isinstance(value, float) and np.isnan(value)
    }
    return table, summary, reasons


def warn_of_field(summary: dict[str, object], settings: Settings, unit: str = "OD") -> list[str]:
    """What of the figures says that positivity means something else here, in words.

    `unit` is the marker's: OD, or grey levels in fluorescence.
    """
    warnings = []
    ring, first = _figure(summary["ring_dab_od_median"]), settings.p16.thresholds_od[0]
    if ring >= first:
        brown = unit == "OD"
        field, level = (
            ("brown", f"DAB OD {ring:.2f}") if brown else ("bright", f"{ring:.4g} {unit}")
        )
        warnings.append(
            f"the whole field is {field}: half of the nuclei lie in cytoplasm of {level} "
            f"or more (threshold {first:{'g' if brown else '.4g'}})"
        )
    share = _figure(summary["epidermis_positive_percent"])
    if share >= 100 * _BROWN:
        warnings.append(f"{share:.0f} % of the epidermal nuclei are positive")
    faint = _figure(summary.get("n_left_out_faint"))
    dermal = _figure(summary["n_nuclei"]) - _figure(summary["n_epidermis"])
    if faint >= _MANY_FAINT * (faint + dermal) > 0:
        warnings.append(
            f"{faint:.0f} of {faint + dermal:.0f} objects found in the dermis are far fainter than "
            "nuclei, as bits of collagen are, and were left out"
        )
    runs = summary["n_block_runs"]
    if isinstance(runs, int) and runs:
        warnings.append(
            f"block-positive: {runs} run(s) of at least {settings.p16.block_run} basal positive "
            f"nuclei side by side, {summary['n_block_positive']} nuclei in all"
        )
    return warnings


def _figure(value: object) -> float:
    """A figure of a summary that was measured, or read back with null for what is missing."""
    return float("nan") if value is None else float(str(value))


def place_nuclei(
    nuclei: pd.DataFrame, compartments: Compartments, junction: Junction, settings: Settings
) -> pd.DataFrame:
    """Say where each nucleus lies, and which lie where nothing is counted.

    Parameters
    ----------
    nuclei
        Columns ``x_um, y_um``.

    Returns
    -------
    `nuclei` with ``compartment``, ``dej_distance_um``, ``beside_measured_junction``,
    ``excluded`` and ``exclusion_reason``; the two texts as categoricals.
    """
    points = nuclei[["y_um", "x_um"]].to_numpy(dtype=np.float64)
    code, located = compartments.at(points), junction.locate(points)
    depth = located.depth_um
    with_line = compartments.has_epidermis and bool(junction.stretches)
    anatomy = settings.anatomy
    group = np.full(len(nuclei), _PLACES.index(OTHER), dtype=np.int8)
    if with_line:
        epidermis, dermis = code == EPIDERMIS, code == DERMIS
        group[epidermis] = _PLACES.index(SUPRABASAL)
        group[epidermis & (depth >= -anatomy.basal_depth_um)] = _PLACES.index(BASAL)
        group[dermis] = _PLACES.index(RETICULAR)
        group[dermis & (depth <= anatomy.papillary_depth_um)] = _PLACES.index(PAPILLARY)
    reason = np.zeros(len(nuclei), dtype=np.int8)
    for number, outside in enumerate(_OUTSIDE, 1):
        reason[code == outside] = number
    artefact = compartments.artefact_at(points)
    reason[artefact > 0] = len(_OUTSIDE) + artefact[artefact > 0].astype(np.int8)
    return nuclei.assign(
        compartment=_categorical(group, _PLACES),
        dej_distance_um=depth,
        beside_measured_junction=~located.excluded & with_line,
        excluded=reason > 0,
        exclusion_reason=_categorical(reason, _REASONS),
    )


def places_of(table: pd.DataFrame) -> dict[str, Any] | None:
    """The columns that `place_nuclei` gave to a written table of nuclei, texts as categoricals.

    None where an older version wrote the table, without all of them or in other words.
    """
    plain = ("dej_distance_um", "beside_measured_junction", "excluded")
    if not {*plain, "compartment", "exclusion_reason"} <= {*table}:
        return None
    place = pd.Categorical(table["compartment"], categories=_PLACES)
    reason = pd.Categorical(table["exclusion_reason"], categories=_REASONS)
    known = {name: table[name].to_numpy() for name in plain}
    if (place.codes < 0).any() or (reason.codes < 0).any():
        return None
    if any(known[name].dtype != np.bool_ for name in plain[1:]):
        return None
    return {
        "compartment": place,
        "dej_distance_um": known["dej_distance_um"],
        "beside_measured_junction": known["beside_measured_junction"],
        "excluded": known["excluded"],
        "exclusion_reason": reason,
    }


def leave_out(
    placed: pd.DataFrame, number: NDArray[np.integer[Any]], reasons: Sequence[str]
) -> pd.DataFrame:
    """`placed` with more nuclei excluded: those whose `number` is not 0, for ``reasons[number]``.

    Parameters
    ----------
    placed
        From `place_nuclei`.
    number
        (n,) index into `reasons`, the first of which stands for none.
    """
    known = placed["exclusion_reason"].cat
    words = [*known.categories, *(r for r in reasons[1:] if r not in known.categories)]
    codes = np.array([0, *(words.index(reason) for reason in reasons[1:])], np.int16)[number]
    return placed.assign(
        excluded=placed["excluded"].to_numpy(dtype=np.bool_) | (number > 0),
        exclusion_reason=_categorical(np.where(number > 0, codes, known.codes), words),
    )


def _leave_out_faint(placed: pd.DataFrame, least_share: float) -> pd.DataFrame:
    """Exclude what is much fainter than the slide's epidermal nuclei from those of the dermis.

    Bits of collagen are as compact as nuclei. What a person gave a class is a nucleus. In
    fluorescence, where there are no colours, a faint nucleus lies out of focus.
    """
    was = (placed["exclusion_reason"] == FAINT).to_numpy()
    counted = ~placed["excluded"].to_numpy(dtype=np.bool_) | was
    epidermal, dermal = (
        counted & placed["compartment"].isin(names).to_numpy()
        for names in (_GROUPS["epidermis"], (PAPILLARY, RETICULAR))
    )
    od = (placed["hematoxylin_od_mean"] + placed["dab_od_mean"].clip(lower=0)).to_numpy()
    faint = dermal & (od < least_dermal_od(od[epidermal], od[dermal], least_share))
    faint &= placed["red_blue_ratio"].notna().to_numpy()
    if "reviewed_class" in placed:
        faint &= placed["reviewed_class"].to_numpy() < 0
    known = placed["exclusion_reason"].cat
    cleared = placed.assign(
        excluded=~counted,
        exclusion_reason=_categorical(np.where(was, 0, known.codes), tuple(known.categories)),
    )
    return leave_out(cleared, faint.astype(np.int8), ("", FAINT))


def measured_sizes(
    compartments: Compartments,
    junction: Junction,
    settings: Settings,
    surface_length_mm: float = float("nan"),
    left_out: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Areas (mm2) and lengths (mm) that counts are divided by; NaN where there are none.

    Parameters
    ----------
    left_out
        bool, the shape of the compartments: pixels that are in no area.
    """
    return _areas(compartments, junction, settings, left_out) | {
        "measured_length_mm": junction.measured_length_um / 1000,
        "surface_length_mm": surface_length_mm,
    }


def _categorical(codes: NDArray[np.integer[Any]], words: Sequence[str]) -> Any:
    """Texts that repeat, as numbers: a slide has some 300,000 nuclei."""
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype([*words]))


def _areas(
    compartments: Compartments,
    junction: Junction,
    settings: Settings,
    left_out: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """Areas of epidermis and of the two bands of dermis (mm2), NaN without a junction.

    The papillary band leaves out what lies nearest to excluded junction, as the nuclei do.
    Sampled on every `AREA_STRIDE`-th pixel of the compartments: about one in 8 um.
    """
    if not (compartments.has_epidermis and junction.stretches):
        nothing = float("nan")
        return dict.fromkeys(
            ("epidermis_area_mm2", "papillary_area_mm2", "reticular_area_mm2"), nothing
        )
    stride = AREA_STRIDE
    rows, columns = np.nonzero(compartments.labels[::stride, ::stride] == DERMIS)
    centres = np.column_stack((rows, columns)) * stride + 0.5
    points = centres.astype(np.float64) * compartments.mpp
    papillary = junction.signed_distance(points) <= settings.anatomy.papillary_depth_um
    cell = (stride * compartments.mpp) ** 2 / 1e6
    epidermis = compartments.area_mm2(EPIDERMIS)
    kept = np.ones(len(points), np.bool_)
    if compartments.artefacts is not None:
        lost = compartments.artefacts > 0
        left_out = lost if left_out is None else lost | left_out
    if left_out is not None:
        kept = ~left_out[rows * stride, columns * stride]
        out = np.count_nonzero(compartments.labels[left_out] == EPIDERMIS)
        epidermis -= float(out) * compartments.mpp**2 / 1e6
    in_band = points[papillary & kept]
    return {
        "epidermis_area_mm2": epidermis,
        "papillary_area_mm2": float((~junction.excluded_at(in_band)).sum()) * cell,
        "reticular_area_mm2": float((~papillary & kept).sum()) * cell,
    }


def _summarise(
    table: pd.DataFrame, sizes: dict[str, float], has_marker: bool, n_runs: int
) -> dict[str, object]:
    """Take the p16 figures, by name."""
    flag = _Flags(table, has_marker)
    counted, positive = flag.counted, flag.positive
    with_line = not np.isnan(sizes["epidermis_area_mm2"])
    n: dict[str, float] = flag.counts("n_nuclei", "n_positive", counted)
    for group in _GROUPS:
        names = f"n_{group}", f"n_{group}_positive"
        own = flag.counts(*names, flag.within(group))
        n |= own if with_line else dict.fromkeys(names, np.nan)
    beside = table["beside_measured_junction"].to_numpy(dtype=np.bool_)
    for group in ("epidermis", "papillary"):
        rows = flag.within(group) & beside
        # Where no nucleus at all was found, that there are no positive ones says nothing.
        known = with_line and has_marker and bool(rows.any())
        n[f"n_{group}_positive_measured"] = int((rows & positive).sum()) if known else np.nan
    pigment = counted & table["pigment_suspected"].to_numpy(dtype=np.bool_)
    n |= flag.counts("n_without_pigment", "n_positive_without_pigment", counted & ~pigment)
    n["n_pigment_suspected"] = int(pigment.sum()) if has_marker else np.nan
    if has_marker and not _has_colours(table):
        n |= dict.fromkeys(_PIGMENT, np.nan)
    n["n_haze_suspected"] = flag.count("haze_suspected") if has_marker else np.nan
    faint = np.count_nonzero(table["exclusion_reason"] == FAINT)
    n["n_left_out_faint"] = int(faint) if has_marker else np.nan
    known = with_line and has_marker
    n["n_block_positive"] = flag.count("block_positive") if known else np.nan
    n["n_block_runs"] = n_runs if known else np.nan
    classes = table["intensity_class"].to_numpy(dtype=np.int64)[counted] if has_marker else None
    for level in (1, 2, 3):
        n[f"n_{level}plus"] = np.nan if classes is None else int((classes == level).sum())
    summary: dict[str, object] = {k: v for k, v in sizes.items() if k.endswith("_area_mm2")}
    summary |= n
    rings = table["ring_dab_od_mean"].to_numpy(dtype=np.float64)[counted]
    rings = rings[np.isfinite(rings)]
    summary["ring_dab_od_median"] = float(np.median(rings)) if rings.size else float("nan")
    h_score = rates.MISSING if classes is None else rates.h_score(classes)
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


_PIGMENT = ("n_without_pigment", "n_positive_without_pigment", "n_pigment_suspected")


def _has_colours(table: pd.DataFrame) -> bool:
    """Whether pigment was looked for, which takes colours; of no nuclei, nothing is unknown."""
    return table.empty or bool(table["pigment_score"].notna().any())


class _Flags:
    """Which nuclei count, where they lie, and which are positive: as arrays, for quick sums."""

    def __init__(self, table: pd.DataFrame, has_marker: bool) -> None:
        self._table, self._has_marker = table, has_marker
        self._place = pd.Categorical(table["compartment"], categories=_PLACES).codes
        self.counted = ~table["excluded"].to_numpy(dtype=np.bool_)
        nothing = np.zeros(len(table), np.bool_)
        self.positive = table["positive"].to_numpy(dtype=np.bool_) if has_marker else nothing

    def within(self, group: str) -> NDArray[np.bool_]:
        """Counted nuclei of a group of compartments."""
        members = [self._place == _PLACES.index(name) for name in _GROUPS[group]]
        return np.asarray(self.counted & np.logical_or.reduce(members))

    def counts(self, total: str, positive: str, rows: NDArray[np.bool_]) -> dict[str, float]:
        """How many nuclei, and how many positive ones, under these names."""
        count = int((rows & self.positive).sum()) if self._has_marker else np.nan
        return {total: int(rows.sum()), positive: count}

    def count(self, column: str) -> int:
        """Counted nuclei that have a flag."""
        return int((self.counted & self._table[column].to_numpy(dtype=np.bool_)).sum())


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
