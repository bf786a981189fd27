"""How long a run will take and how much memory, before it is begun.

Where slides of the study are measured already, their seconds and memory are carried over to the
others by the size of their files, which follows the tissue on them: glass compresses to little.
Otherwise a few slides are looked at from afar for their tissue, and the figures of
docs/cluster.md are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from histoquant.errors import HistoquantError
from histoquant.results import read_record
from histoquant.resume import Step, make_key
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

SECONDS_PER_SLIDE, SECONDS_PER_MM2 = 0.5, 1.6
"""Of one core, for a slide and for every mm2 of tissue on it."""

MEMORY_MB, MEMORY_MB_PER_MM2 = 450.0, 22.5
"""Of a process that measures, and for every mm2 of tissue on the largest slide."""

_MOST_LOOKED_AT = 8


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes
    ----------
    core_seconds
        Of one core, all slides together.
    memory_mb
        Of the process that measures the largest slide; there are as many as workers.
    basis
        What the figures rest on, in words.
    """

    core_seconds: float
    memory_mb: float
    basis: str


def estimate(steps: Sequence[Step], directory: RunDirectory) -> Estimate | None:
    """Estimate what the steps that measure will take; None when nothing is known of them.

    Slides may be read (from afar), nothing is written.
    """
    todo = [step for step in steps if step.action == "measure"]
    sizes = [_bytes(step) for step in todo]
    if not any(sizes):
        return None
    measured = _measured(directory)
    if measured:
        return _by_measured(todo, sizes, measured)
    return _by_tissue(todo, sizes)


def _bytes(step: Step) -> int:
    found = make_key(step.entry, step.settings).get("slide_bytes", 0)
    return found if isinstance(found, int) else 0


def _measured(directory: RunDirectory) -> list[Mapping[str, Any]]:
    """Records of slides that are done, with what an estimate needs."""
    if not directory.ledger_path.exists():
        return []
    records = [read_record(directory.slide(row["slide_id"])) or {} for row in directory.done()]
    return [r for r in records if r.get("seconds") and r.get("key", {}).get("slide_bytes")]


def _by_measured(
    todo: Sequence[Step], sizes: Sequence[int], measured: Sequence[Mapping[str, Any]]
) -> Estimate:
    seconds = 0.0
    for step, size in zip(todo, sizes, strict=True):
        like = [r for r in measured if r.get("marker") == step.entry.marker] or measured
        per_byte = sum(r["seconds"] for r in like) / sum(r["key"]["slide_bytes"] for r in like)
        seconds += size * per_byte
    larger = max(1.0, max(sizes) / max(r["key"]["slide_bytes"] for r in measured))
    peak = max([r.get("peak_memory_mb") or 0.0 for r in measured])
    memory = max(peak, MEMORY_MB) + max(0.0, peak - MEMORY_MB) * (larger - 1)
    return Estimate(seconds, memory, f"{len(measured)} measured slide(s) of this study")


def _by_tissue(todo: Sequence[Step], sizes: Sequence[int]) -> Estimate | None:
    """From the tissue of up to 8 slides, carried over to the others by the files' sizes."""
    order = np.argsort(sizes, kind="stable")
    chosen = np.unique(np.linspace(0, len(order) - 1, _MOST_LOOKED_AT).round().astype(int))
    seen = {}
    for number in order[chosen]:
        area = _tissue_mm2(todo[number])
        if area is not None and sizes[number]:
            seen[int(number)] = area
    if not seen:
        return None
    per_byte = sum(seen.values()) / sum(sizes[number] for number in seen)
    areas = [seen.get(number, size * per_byte) for number, size in enumerate(sizes)]
    return Estimate(
        SECONDS_PER_SLIDE * len(todo) + SECONDS_PER_MM2 * sum(areas),
        MEMORY_MB + MEMORY_MB_PER_MM2 * max(areas),
        f"the tissue seen on {len(seen)} slide(s), {sum(areas):.3g} mm2 in all, and "
        f"{SECONDS_PER_MM2:g} s of a core per mm2",
    )


def _tissue_mm2(step: Step) -> float | None:
    """Tissue of a slide by its overview; None where that cannot be told."""
    from histoquant.slides import open_slide
    from histoquant.staining import survey_slide

    settings: Settings = step.settings
    try:
        damaged = settings.slides.damaged_tiles
        with open_slide(step.entry.path, mpp=step.entry.given_mpp, on_damage=damaged) as slide:
            mpp = max(settings.tissue.overview_um, slide.mpp)
            return float(survey_slide(slide, settings).tissue.sum()) * mpp**2 / 1e6
    except (HistoquantError, OSError):
        return None
