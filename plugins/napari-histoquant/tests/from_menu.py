"""Open every sample from napari's menu, as a user does; for an environment of wheels alone.

    python from_menu.py

It is not part of the tests of the source: `make test-wheels` runs it where nothing but the built
wheels and what they require is installed.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import napari
from qtpy.QtWidgets import QApplication, QMenu

import histoquant
import napari_histoquant

PATH = ("File", "Open Sample", "histoquant")


def find_menu(window: Any) -> QMenu:
    """The menu that lists the samples, opened on the way as a mouse does."""
    here = window.menuBar()
    for name in PATH:
        found = {a.text().strip().replace("&", ""): a.menu() for a in here.actions()}
        here = found[name]
        here.aboutToShow.emit()
    return here


def main() -> None:
    for package in (histoquant, napari_histoquant):
        assert "site-packages" in str(package.__file__), package.__file__
    viewer = napari.Viewer(show=True)
    samples = find_menu(viewer.window._qt_window).actions()  # noqa: SLF001
    assert len(samples) == 3, [action.text() for action in samples]
    for action in samples:
        viewer.layers.clear()
        action.trigger()
        deadline = time.monotonic() + 60
        while not len(viewer.layers) and time.monotonic() < deadline:
            QApplication.processEvents()
        names = [layer.name for layer in viewer.layers]
        picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
        assert names, action.text()
        assert picture.std() > 5, f"{action.text()}: nothing is seen"
        sys.stdout.write(f"{action.text()}: {', '.join(names)}\n")
    viewer.close()


if __name__ == "__main__":
    main()
