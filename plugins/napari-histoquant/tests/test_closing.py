"""A review is closed: nothing is lost, and nothing is left behind.

In a module of its own: napari's fixture looks for viewers that others left.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_histoquant._review_widget import KEYS, ReviewWidget
from showing import open_slide, press


def test_closing_loses_nothing(make_napari_viewer: Callable[..., Any], results: Path) -> None:
    viewer = make_napari_viewer(show=True)
    first = ReviewWidget(viewer)
    assert first.begin(results, "anna", blind=False)
    open_slide(first, "p16")
    assert first.desk is not None
    assert first.desk.review is not None
    points = first.desk.review.points_um
    press(first, "N", points[0])
    viewer.cursor.position = tuple(points[1])
    first.set_class("not_a_nucleus")  # and not waited for
    first.close()
    assert list(viewer.layers) == []
    assert not set(KEYS) & {str(key) for key in viewer.keymap}
    again = ReviewWidget(viewer)
    assert again.begin(results, "anna", blind=False)
    open_slide(again, "p16")
    assert again.desk is not None
    assert again.desk.review is not None
    assert len(again.desk.review.history) == 2
    again.close()
