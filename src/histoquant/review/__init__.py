"""Review without a screen: edits, the journal that keeps them, and the numbers that follow.

A session opens a results directory for one person; a slide of it is edited, and the figures
follow from the code that measured it. ``histoquant remeasure`` does the same from the journal.
Nothing here knows of napari or Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from histoquant.review.figures import NumberRow as NumberRow
    from histoquant.review.figures import Numbers as Numbers
    from histoquant.review.measuring import Measured as Measured
    from histoquant.review.remeasuring import SlideReport as SlideReport
    from histoquant.review.remeasuring import remeasure as remeasure
    from histoquant.review.session import Change as Change
    from histoquant.review.session import HistoryLine as HistoryLine
    from histoquant.review.session import SlideReview as SlideReview
    from histoquant.review.unblinding import unblind as unblind
    from histoquant.review.worklist import ReviewSession as ReviewSession
    from histoquant.review.worklist import WorkItem as WorkItem

_HOMES = {
    "Change": "session",
    "HistoryLine": "session",
    "Measured": "measuring",
    "NumberRow": "figures",
    "Numbers": "figures",
    "ReviewSession": "worklist",
    "SlideReport": "remeasuring",
    "SlideReview": "session",
    "WorkItem": "worklist",
    "remeasure": "remeasuring",
    "unblind": "unblinding",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
