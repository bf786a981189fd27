"""Where ``histoquant review`` enters napari."""

from __future__ import annotations

from pathlib import Path

import napari
from napari.viewer import Viewer

from napari_histoquant._review_widget import ReviewWidget


def review(directory: Path, reviewer: str, blind: bool) -> None:
    """Open a review in napari, and return when its window is closed.

    Parameters
    ----------
    directory
        The results directory.
    reviewer
        Whose review it is.
    blind
        Whether slides go by code names.
    """
    viewer = napari.Viewer(title="Review")
    add_review(viewer, directory, reviewer, blind)
    napari.run()


def add_review(viewer: Viewer, directory: Path, reviewer: str, blind: bool) -> ReviewWidget:
    """Dock the Review widget and begin.

    Returns
    -------
    The widget; where the review cannot begin, it says why.
    """
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review", area="right")
    if reviewer:
        widget.reviewer.setText(reviewer)
    if not blind:
        widget.directory.setText(str(directory))
    widget.begin(directory, widget.reviewer.text(), blind)
    return widget
