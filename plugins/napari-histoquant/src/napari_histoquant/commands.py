"""Commands of the plugin: what napari's command palette offers beside widgets and readers."""

from __future__ import annotations

from typing import Any

from napari.viewer import Viewer

from histoquant import HistoquantError


def review_sample(viewer: Viewer) -> None:
    """Open the review of the sample slides: something to try the keys on."""
    from napari_histoquant.launch import add_review
    from napari_histoquant.samples import measured

    add_review(viewer, measured(), reviewer="", blind=False)


def copy_command_line(viewer: Viewer) -> str:
    """Copy the command that measures the open slide, and say it."""
    from napari.utils.notifications import show_info
    from qtpy.QtWidgets import QApplication

    from napari_histoquant.form import Request

    paths = [
        path
        for layer in viewer.layers
        if (path := layer.metadata.get("histoquant", {}).get("slide"))
    ]
    if not paths:
        raise HistoquantError("No slide is open: drop its file on the viewer first.")
    line = Request(paths[0], "p16", "results").command_line()
    clipboard: Any = QApplication.clipboard()
    clipboard.setText(line)
    show_info(line)
    return line
