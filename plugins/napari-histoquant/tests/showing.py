"""What tests do to a shown review: open a slide, press keys, let the viewer catch up."""

from __future__ import annotations

import time

import numpy as np
from qtpy.QtWidgets import QApplication

from napari_histoquant._review_widget import ReviewWidget


def open_slide(widget: ReviewWidget, marker: str) -> None:
    """The slide of the worklist with this marker, shown."""
    widget.settle()
    assert widget.desk is not None
    widget.open(next(item.name for item in widget.desk.items if item.marker == marker))
    widget.settle()
    settle()


def press(widget: ReviewWidget, key: str, at: np.ndarray | None = None) -> None:
    """Press a key as napari does: through the keymap of the layer at hand, then the viewer's."""
    viewer = widget.viewer
    if at is not None:
        viewer.cursor.position = tuple(float(v) for v in at)
    handler = viewer.window._qt_viewer.canvas._key_map_handler  # noqa: SLF001
    handler.press_key(key)
    widget.settle()
    settle()


def settle() -> None:
    """Let timers and drawing take their turn."""
    for _ in range(4):
        QApplication.processEvents()
        time.sleep(0.02)
