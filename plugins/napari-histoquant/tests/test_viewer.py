"""A real viewer on a real canvas: what is seen, and what keys and buttons do."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QLineEdit, QWidget

from napari_histoquant._quantify_widget import QuantifyWidget
from napari_histoquant._review_widget import ReviewWidget
from showing import open_slide, press, settle


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    """A shown viewer that the tests share: making one takes longer than most of them."""
    import napari

    viewer = napari.Viewer(show=True)
    yield viewer
    viewer.close()


@pytest.fixture
def viewer(window: Any) -> Iterator[Any]:
    """The shown viewer, empty; what a test leaves in it is taken out."""
    own = list(window.mouse_drag_callbacks), list(window.mouse_move_callbacks)
    yield window
    for dock in list(window.window.dock_widgets.values()):
        window.window.remove_dock_widget(dock)
        dock.close()
    window.layers.clear()
    assert (list(window.mouse_drag_callbacks), list(window.mouse_move_callbacks)) == own


@pytest.fixture
def review(viewer: Any, results: Path) -> Iterator[ReviewWidget]:
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    assert widget.begin(results, "anna", blind=False)
    open_slide(widget, "p16")
    yield widget
    widget.close()


def _canvas(viewer: Any) -> np.ndarray:
    settle()
    return viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def _near(picture: np.ndarray, colour: tuple[int, int, int], within: int = 40) -> int:
    return int((np.abs(picture - np.array(colour)) <= within).all(axis=-1).sum())


def test_a_slide_opens_where_it_lies(viewer: Any, drawn: dict[str, Path]) -> None:
    (layer,) = viewer.open(drawn["p16"], plugin="napari-histoquant")
    assert layer.multiscale
    np.testing.assert_allclose(layer.extent.world[0], 0.25, atol=0.3)
    np.testing.assert_allclose(layer.extent.world[1], [500, 700], rtol=0.01)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 2
    picture = _canvas(viewer)
    assert _near(picture, (240, 240, 240), 20) > 10_000  # glass
    assert (picture.min(axis=-1) < 150).sum() > 500  # stained tissue


def test_results_open_over_the_slide(viewer: Any, measured: Path) -> None:
    place = next(p for p in (measured / "slides").iterdir() if "col7" in p.name)
    layers = viewer.open(place, plugin="napari-histoquant")
    assert [layer.name for layer in layers] == ["Slide", "Compartments", "Junction", "Collagen VII"]
    picture = _canvas(viewer)
    assert _near(picture, (86, 180, 233)) > 100  # collagen VII found
    assert _near(picture, (0, 0, 0)) > 100  # the junction


def test_samples_open_from_the_menu(viewer: Any) -> None:
    (layer,) = viewer.open_sample("napari-histoquant", "p16")
    assert layer.rgb
    assert _near(_canvas(viewer), (240, 240, 240), 25) > 10_000


def test_quantify_measures_the_open_slide(
    viewer: Any, drawn: dict[str, Path], tmp_path: Path
) -> None:
    viewer.open(drawn["col7"], plugin="napari-histoquant")
    _, widget = viewer.window.add_plugin_dock_widget("napari-histoquant", "Quantify")
    assert isinstance(widget, QuantifyWidget)
    widget.marker.setCurrentText("col7")
    widget.out.setText(str(tmp_path / "out"))
    widget.inputs["collagen7", "bin_um"].setText("20")
    assert "--set collagen7.bin_um=20" in widget.command.toPlainText()
    widget.start()
    assert widget.cancel_button.isEnabled()
    deadline = time.monotonic() + 90
    while widget.job is not None and widget.job.state == "running":
        assert time.monotonic() < deadline
        settle()
    assert widget.job is not None
    assert widget.job.state == "done", widget.status.text()
    assert {"Junction", "Collagen VII"} <= {layer.name for layer in viewer.layers}


def test_quantify_says_what_is_wrong(viewer: Any, drawn: dict[str, Path]) -> None:
    _, widget = viewer.window.add_plugin_dock_widget("napari-histoquant", "Quantify")
    widget.start()
    assert "Open a slide" in widget.status.text()
    viewer.open(drawn["p16"], plugin="napari-histoquant")
    widget.inputs["nuclei", "mpp"].setText("9")
    widget.start()
    assert "nuclei.mpp" in widget.status.text()


def test_keys_make_edits(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    assert desk.review.nuclei is not None
    table = desk.review.nuclei
    row = int(np.flatnonzero(~table["positive"].fillna(False) & ~table["excluded"])[3])
    point = desk.review.points_um[row]
    press(review, "P", point)
    assert desk.review.numbers()["n_positive"].delta == 1
    assert "change" in review.numbers.horizontalHeaderItem(3).text()
    assert review.numbers.item(1, 3).text() == "+1"
    press(review, "X", point)
    assert desk.review.numbers()["n_nuclei"].delta == -1
    press(review, "Control-Z")
    press(review, "Control-Z")
    assert desk.review.numbers().changed == ()
    press(review, "Control-Shift-Z")
    assert desk.review.numbers()["n_positive"].delta == 1
    press(review, "A", point + 30)
    assert desk.review.numbers()["n_positive"].delta == 2


def test_keys_work_whatever_layer_is_at_hand(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    for number, layer in enumerate(desk.layers.values()):
        review.viewer.layers.selection.active = layer
        press(review, "N", desk.review.points_um[number])
        assert len(desk.review.history) == number + 1, layer.name


def test_an_edit_is_seen_on_the_canvas(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    assert desk.review.nuclei is not None
    table = desk.review.nuclei
    row = int(np.flatnonzero((table["intensity_class"] == 0) & ~table["excluded"])[3])
    camera = review.viewer.scene.camera
    camera.zoom = 12
    camera.center = (0.0, *desk.review.points_um[row])
    press(review, "H")
    press(review, "H")
    before = _near(_canvas(review.viewer), (230, 159, 0))
    press(review, "P", desk.review.points_um[row])
    assert _near(_canvas(review.viewer), (230, 159, 0)) > before + 100


def test_edits_of_what_is_hidden_are_seen_when_it_is_shown(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    place = desk.review.junction.stretches[0].points_um[80]
    ring = place + 30 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])
    desk.choose_tool("exclude")
    for _ in range(2):
        desk.draw(ring)
    review.settle()
    assert len(desk.layers["regions"].data) == 8
    press(review, "H")
    press(review, "Control-Z")
    press(review, "N", desk.review.points_um[0])
    press(review, "H")
    assert desk.layers["regions"].visible
    assert len(desk.layers["regions"].data) == 4
    assert len(desk.review.history) == 3
    assert _near(_canvas(review.viewer), (0, 0, 0)) > 100  # the junction


def test_the_queue_centres_on_a_marked_nucleus(review: ReviewWidget) -> None:
    press(review, "Q")
    picture = _canvas(review.viewer)
    height, width = picture.shape[:2]
    middle = picture[height // 4 : -height // 4, width // 4 : -width // 4]
    assert _near(middle, (240, 0, 255)) > 100
    press(review, "Escape")
    assert _near(_canvas(review.viewer), (240, 0, 255)) == 0


def test_tools_and_pages_by_key(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    for key, tool in (("E", "exclude"), ("J", "redraw"), ("Shift-P", "positive")):
        press(review, key)
        assert desk.tool == tool
        assert review.tools[tool].isChecked()  # type: ignore[index]
    press(review, "Escape")
    assert desk.tool == "look"
    name = desk.review.name
    press(review, "PageUp")
    press(review, "PageDown")
    seen = {name, desk.review.name}
    press(review, "PageUp")
    assert seen | {desk.review.name} == {i.name for i in desk.session.worklist()}


def test_the_strip_follows_the_cursor(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    assert desk.straightener is not None
    line = desk.review.junction.stretches[0]
    review.strip.follow(desk.straightener, tuple(line.points_um[50]))
    review.strip.settle()
    assert review.strip.strip is not None
    assert review.strip.strip.arc_um[review.strip.strip.centre] == pytest.approx(
        line.arc_um[50], abs=1
    )


def test_reject_needs_a_reason(review: ReviewWidget) -> None:
    desk = review.desk
    assert desk is not None
    assert desk.review is not None
    review.reject()
    review.settle()
    assert "words are needed" in review.message.text()
    review.words.setText("torn")
    review.reject()
    review.settle()
    assert (desk.review.verdict, desk.review.verdict_reason) == ("rejected", "torn")
    assert "✗" in {review.worklist.item(r, 0).text() for r in range(review.worklist.rowCount())}


def test_a_review_that_cannot_begin_says_why(viewer: Any, tmp_path: Path) -> None:
    widget = ReviewWidget(viewer)
    assert not widget.begin(tmp_path, "anna", blind=False)
    assert "no results directory" in widget.start_message.text()
    widget.close()


def test_blinded_nothing_on_the_screen_tells_the_slide(viewer: Any, results: Path) -> None:
    from napari_histoquant.launch import add_review

    viewer.title = "SECRET_p16"  # of a review before
    widget = add_review(viewer, results, "anna", blind=True)
    assert widget.desk is not None
    seen: list[str] = [viewer.title]
    for item in widget.desk.session.worklist():
        widget.open(item.name)
        widget.settle()
        press(widget, "P", np.array([200.0, 300.0]))
        seen += _texts(viewer.window._qt_window)  # noqa: SLF001
        seen += [
            viewer.title,
            viewer.status if isinstance(viewer.status, str) else str(viewer.status),
        ]
        seen += [f"{layer.name} {layer.source} {layer.metadata}" for layer in viewer.layers]
    text = " ".join(seen)
    for secret in ("SECRET", "rapamycin", str(results), "ome.tif"):
        assert secret not in text
    assert len(seen) > 50
    widget.close()


def test_blinded_logs_tell_no_names(
    viewer: Any, results: Path, drawn: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    widget = ReviewWidget(viewer)
    assert widget.begin(results, "anna", blind=True)
    log = logging.getLogger("tifffile")
    log.error("%s is damaged", drawn["p16"])
    try:
        raise ValueError(str(drawn["p16"]))
    except ValueError:
        log.exception("cannot read")
    widget.settle()
    widget.close()
    assert "is damaged" in caplog.text
    assert "cannot read (ValueError)" in caplog.text
    assert "SECRET" not in caplog.text
    log.error("%s again", drawn["p16"])
    assert "SECRET" in caplog.text  # the review is over


def test_a_blinded_review_begins_in_an_empty_window(
    viewer: Any, results: Path, drawn: dict[str, Path]
) -> None:
    viewer.open(drawn["p16"], plugin="napari-histoquant")
    widget = ReviewWidget(viewer)
    assert not widget.begin(results, "anna", blind=True)
    assert "close them" in widget.start_message.text()
    widget.close()


def _texts(window: QWidget) -> list[str]:
    """Every text and tip of a window and what is in it."""
    found = [window.windowTitle()]
    for widget in window.findChildren(QWidget):
        found += [widget.toolTip(), widget.windowTitle()]
        if isinstance(widget, QLabel | QLineEdit):
            found.append(widget.text())
        if hasattr(widget, "rowCount") and hasattr(widget, "item"):
            for row in range(widget.rowCount()):
                for column in range(widget.columnCount()):
                    if (cell := widget.item(row, column)) is not None:
                        found += [cell.text(), cell.toolTip()]
    return [text for text in found if text]
