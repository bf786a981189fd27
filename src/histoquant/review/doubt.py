"""Which slides to look at first: what the program itself doubts of its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoquant import tables

_NEAR_OD = 0.05
_VERDICTS = {"reject": 10.0, "review": 5.0}


@dataclass(frozen=True)
class Doubt:
    """How much speaks for looking at a slide, what in words, and the program's verdict."""

    amount: float
    words: tuple[str, ...]
    quality: str = ""


def doubt_of(record: Mapping[str, Any]) -> Doubt:
    """Doubts about a slide, from its ``result.json``."""
    summary = record.get("summary", {})
    quality = str(summary.get("quality") or summary.get("quality_verdict") or "")
    found: list[tuple[float, str]] = []
    if quality in _VERDICTS:
        why = summary.get("quality_reasons")
        found.append((_VERDICTS[quality], f"quality: {quality}" + (f" ({why})" if why else "")))
    why = record.get("reasons", {}).get("dej_length_mm")
    if why:
        found.append((4.0, f"no junction: {why}"))
    warnings = summary.get("warnings") or "none"
    if warnings != "none":
        found += [(2.0, text) for text in str(warnings).split("; ")]
    share = _share_near_threshold(record)
    if share > 0:
        found.append((10 * share, f"{100 * share:.1f} % of the nuclei lie near the threshold"))
    share = _share_excluded(summary)
    if share > 0.25:
        found.append((share, f"{100 * share:.0f} % of the junction is not measured"))
    return Doubt(sum(amount for amount, _ in found), tuple(text for _, text in found), quality)


def _share_near_threshold(record: Mapping[str, Any]) -> float:
    """Nuclei that cut-offs a little lower and higher tell apart, from the slide's sweep."""
    threshold = record.get("summary", {}).get("positive_threshold_od")
    rows = record.get("provenance", {}).get("threshold_sweep") or []
    counts = {
        float(row["threshold_od"]): row["n_positive"] for row in rows if row["compartment"] == "all"
    }
    total = next((row["n_nuclei"] for row in rows if row["compartment"] == "all"), 0)
    if not counts or not total or tables.is_missing(threshold):
        return 0.0
    below = min(counts, key=lambda cut: abs(cut - (float(threshold) - _NEAR_OD)))
    above = min(counts, key=lambda cut: abs(cut - (float(threshold) + _NEAR_OD)))
    return float(abs(counts[below] - counts[above]) / total)


def _share_excluded(summary: Mapping[str, Any]) -> float:
    whole, measured = summary.get("dej_length_mm"), summary.get("measured_length_mm")
    if tables.is_missing(whole) or tables.is_missing(measured) or not float(str(whole)) > 0:
        return 0.0
    return 1 - float(str(measured)) / float(str(whole))
