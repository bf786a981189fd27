"""Edits beside the screen: their order, what is shown meanwhile, and that none is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from histoquant.review import ReviewSession, remeasure
from napari_histoquant.desk import Desk
from napari_histoquant.worker import Background


class Waited:
    """A worker whose results are handed over when the test says so."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.inner = Background(lambda: None)

    @property
    def busy(self) -> bool:
        return self.inner.busy

    def submit(self, work: Any, then: Any, failed: Any) -> None:
        def late() -> Any:
            assert self.gate.wait(60)
            return work()

        self.inner.submit(late, then, failed)

    def stop(self) -> None:
        self.gate.set()
        self.inner.stop()

    def settle(self) -> None:
        """Until everything is done and shown."""
        self.gate.set()
        while self.busy:
            self.inner.deliver()
            time.sleep(0.002)


@pytest.fixture
def worker() -> Waited:
    return Waited()


@pytest.fixture
def desk(results: Path, worker: Waited) -> Iterator[Desk]:
    desk = Desk(ViewerModel(), ReviewSession(results, "anna"), worker, Waited())
    desk.start()
    worker.settle()
    desk.open(_named(desk, "p16"))
    worker.settle()
    yield desk
    desk.close()


def _named(desk: Desk, marker: str) -> str:
    return next(item.name for item in desk.items if item.marker == marker)


def test_results_come_in_the_order_of_the_work() -> None:
    worker, seen = Background(lambda: None), list[Any]()
    worker.submit(lambda: time.sleep(0.05) or "slow", seen.append, seen.append)
    worker.submit(lambda: 1 / 0, seen.append, lambda error: seen.append(type(error)))
    worker.submit(lambda: "quick", seen.append, seen.append)
    assert (worker.busy, seen) == (True, [])
    while worker.busy:
        worker.deliver()
    worker.stop()
    assert seen == ["slow", ZeroDivisionError, "quick"]


def test_edits_wait_in_line_and_nothing_half_done_is_shown(desk: Desk, worker: Waited) -> None:
    review = desk.review
    assert review is not None
    before, colours = review.numbers(), desk.layers["nuclei"].border_color.copy()
    worker.gate.clear()
    for row in (0, 1, 2):
        desk.set_class("not_a_nucleus", review.points_um[row])
    desk.undo()
    assert (desk.busy, review.numbers(), review.history) == (True, before, [])
    np.testing.assert_array_equal(desk.layers["nuclei"].border_color, colours)
    worker.settle()
    assert [line.active for line in review.history] == [True, True, False]
    assert review.numbers()["n_nuclei"].delta == -2
    assert (np.abs(desk.layers["nuclei"].border_color - colours).max(axis=1) > 0).sum() == 2


def test_leaving_a_slide_finishes_its_edits_first(
    desk: Desk, worker: Waited, results: Path
) -> None:
    review = desk.review
    assert review is not None
    worker.gate.clear()
    desk.set_class("not_a_nucleus", review.points_um[0])
    desk.open(_named(desk, "col7"))
    assert desk.opening
    desk.undo()  # while nothing is open
    assert "Wait until the slide is open" in desk.message
    worker.settle()
    assert desk.review is not None
    assert desk.review.marker == "col7"
    desk.close()
    ((report,),) = ([r for r in remeasure(results, "anna") if r.slide_id == review.name],)
    assert report.n_edits == 1


def test_the_slide_that_was_asked_for_last_is_the_one_that_opens(
    desk: Desk, worker: Waited
) -> None:
    worker.gate.clear()
    p16, col7 = _named(desk, "p16"), _named(desk, "col7")
    for name in (col7, p16, col7, p16):
        desk.open(name)
    worker.settle()
    assert desk.review is not None
    assert desk.review.name == p16
    assert [layer.name for layer in desk.viewer.layers].count("Slide") == 1
    desk.set_class("not_a_nucleus", desk.review.points_um[0])
    worker.settle()
    assert len(desk.review.history) == 1


def test_a_refused_edit_does_not_stop_those_behind_it(desk: Desk, worker: Waited) -> None:
    review = desk.review
    assert review is not None
    worker.gate.clear()
    desk.choose_tool("cut")
    desk.draw(np.array([[-900.0, -900.0], [-950.0, -900.0]]))  # there is no junction
    desk.set_class("not_a_nucleus", review.points_um[0])
    worker.settle()
    assert len(review.history) == 1
    assert review.numbers()["n_nuclei"].delta == -1


def test_collagen_is_read_while_edits_go_on(results: Path, worker: Waited) -> None:
    reader = Waited()
    desk = Desk(ViewerModel(), ReviewSession(results, "anna"), worker, reader)
    desk.start()
    worker.settle()
    desk.open(_named(desk, "col7"))
    worker.settle()
    assert desk.review is not None
    line = desk.review.junction.stretches[0].points_um
    reader.gate.clear()
    desk.choose_tool("redraw")
    desk.draw(line[60:120] + [3.0, 0.0])
    worker.settle()
    assert desk.reading
    assert "Reading collagen VII" in desk.waiting_words
    assert desk.review.numbers()["continuity_percent"].value is None
    desk.note("meanwhile")
    worker.settle()
    assert desk.review.notes[0].text == "meanwhile"
    reader.settle()
    worker.settle()
    assert (desk.waiting_words, desk.reading) == ("", False)
    now = desk.review.numbers()["continuity_percent"].value
    assert now is not None
    name = desk.review.name
    desk.close()
    remeasure(results, "anna")
    import pandas as pd

    table = pd.read_csv(results / "slides" / name / "summary.csv").iloc[0]
    assert table["continuity_percent"] == pytest.approx(now, rel=1e-8)
