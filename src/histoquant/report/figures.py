"""Numbers as people read them: which come first, and with how many digits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from histoquant.settings import Marker
from histoquant.tables import Column, is_missing

HEADLINES: dict[Marker, tuple[str, ...]] = {
    "p16": (
        "n_nuclei",
        "positive_percent",
        "epidermis_positive_percent",
        "positive_per_mm_dej",
        "papillary_positive_per_mm2",
        "dej_length_mm",
    ),
    "col7": (
        "continuity_percent",
        "n_gaps",
        "integrated_od_um_mean",
        "peak_od_mean",
        "fwhm_um_median",
        "dej_length_mm",
    ),
}
"""The figures of a marker that are shown first."""

PROVENANCE = (
    "mpp",
    "mpp_source",
    "white_r",
    "white_g",
    "white_b",
    "white_source",
    "hematoxylin_vector",
    "dab_vector",
    "stain_source",
    "positive_threshold_od",
    "threshold_source",
    "slide_sha256",
    "settings_sha256",
    "version",
    "n_edits",
)
"""Columns that say where the figures of a slide come from."""

MISSING = "–"


def in_unit(column: Column, marker_units: Iterable[str]) -> Column:
    """`column` in what the marker was measured in: OD, or in fluorescence grey levels."""
    named = " or ".join(sorted({unit for unit in marker_units if unit})) or "OD"
    if "OD" not in column.unit.split() or named == "OD":
        return column
    return replace(column, unit=column.unit.replace("OD", named))


def show(value: Any) -> str:
    """A value for people: four significant digits, a dash where it is missing."""
    if is_missing(value):
        return MISSING
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def show_rate(row: Mapping[str, Any], column: Column) -> str:
    """A figure with its 95 % limits where it has them: ``12.3 [9.8-15.1]``."""
    text = show(row.get(column.name))
    low, high = row.get(f"{column.name}_low"), row.get(f"{column.name}_high")
    if not column.pool.has_limits or text == MISSING or is_missing(low) or is_missing(high):
        return text
    return f"{text} [{show_short(low)}–{show_short(high)}]"


def show_short(value: Any) -> str:
    """A limit: three significant digits."""
    return MISSING if is_missing(value) else f"{value:.3g}"
