"""Quality control: what of a slide a pathologist would leave out, and whether to trust the rest."""

from __future__ import annotations

from histoquant.quality.artefacts import (
    NAMES,
    NONE,
    REASONS,
    Artefacts,
    leave_out,
    reasons_at,
)
from histoquant.quality.survey import (
    Overview,
    after_anatomy,
    before_anatomy,
    opaque,
    overview_of,
)
from histoquant.quality.verdict import ORDER, Verdict, judge

__all__ = [
    "NAMES",
    "NONE",
    "ORDER",
    "REASONS",
    "Artefacts",
    "Overview",
    "Verdict",
    "after_anatomy",
    "before_anatomy",
    "judge",
    "leave_out",
    "opaque",
    "overview_of",
    "reasons_at",
]
