"""Quality control: what of a slide a pathologist would leave out, and whether to trust the rest."""

from __future__ import annotations

from histoquant.quality.artefacts import Artefacts, hide, leave_out, mark
from histoquant.quality.survey import Overview, after_anatomy, before_anatomy, opaque, overview_of
from histoquant.quality.verdict import ORDER, Verdict, judge

__all__ = [
    "ORDER",
    "Artefacts",
    "Overview",
    "Verdict",
    "after_anatomy",
    "before_anatomy",
    "hide",
    "judge",
    "leave_out",
    "mark",
    "opaque",
    "overview_of",
]
