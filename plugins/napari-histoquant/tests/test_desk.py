"""The reviewer's desk on napari's model of a viewer: no Qt, no screen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from histoquant.review import ReviewSession, remeasure
from napari_histoquant.desk import Desk
from napari_histoquant.layers import GREY, VERMILION, _rgba  # noqa: PLC2701


def _desk(results: Path, *, blind: bool = False) -> Desk:
    return Desk(ViewerModel(), ReviewSession(results, "anna", blind=blind))


def _open(desk: Desk, marker: str) -> Desk:
    name = next(item.name for item in desk.session.worklist() if item.marker == marker)
    desk.start()
    desk.open(name)
    assert desk.review is not None, desk.message
    return desk


@pytest.fixture
def p16(results: Path):  # noqa: ANN201
    desk = _open(_desk(results), "p16")
    yield desk
    desk.close()


@pytest.fixture
def col7(results: Path):  # noqa: ANN201
    desk = _open(_desk(results), "col7")
    yield desk
    desk.close()


def _square(centre: np.ndarray, half: float) -> np.ndarray:
    return centre + half * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])


def _state(desk: Desk) -> list[float | None]:
    assert desk.review is not None
    return [row.value for row in desk.review.numbers().rows]


def _row(desk: Desk, positive: bool) -> int:
    assert desk.review is not None
    table = desk.review.nuclei
    assert table is not None
    fits = (table["positive"].fillna(False) == positive) & ~table["excluded"]
    return int(np.flatnonzero(fits)[0])


def test_a_slide_opens_with_all_its_layers(p16: Desk) -> None:
    assert [layer.name for layer in p16.viewer.layers] == [
        "Slide", "Compartments", "Regions", "Junction", "Nuclei", "Here", "Drawing",
    ]  # fmt: skip
    assert p16.review is not None
    np.testing.assert_array_equal(p16.layers["nuclei"].data, p16.review.points_um)
    assert not any(layer.editable for layer in p16.viewer.layers)


@pytest.mark.parametrize(
    ("value", "positive", "colour"),
    [("positive", False, "#e69f00"), ("negative", True, "#0072b2"), ("not_a_nucleus", True, GREY)],
)
def test_judging_a_nucleus_changes_its_number_and_its_colour(
    p16: Desk, value: str, positive: bool, colour: str
) -> None:
    assert p16.review is not None
    before = _state(p16)
    row = _row(p16, positive)
    p16.set_class(value, p16.review.points_um[row] + 1.0)
    assert p16.last is not None
    drawn = p16.layers["nuclei"].border_color[row]
    np.testing.assert_allclose(drawn, _rgba(colour), atol=0.01)
    assert _state(p16) != before
    p16.undo()
    assert _state(p16) == before
    p16.redo()
    assert _state(p16) != before
    p16.set_class("automatic", p16.review.points_um[row])
    assert p16.last is not None
    assert _state(p16) == before


def test_a_click_with_a_tool_judges_one_nucleus(p16: Desk) -> None:
    assert p16.review is not None
    row = _row(p16, positive=True)
    p16.choose_tool("negative")
    _drag(p16, p16.review.points_um[row][None])
    assert p16.last is not None
    assert p16.review.numbers()["n_positive"].delta == -1


def test_a_lasso_is_one_edit(p16: Desk) -> None:
    assert p16.review is not None
    centre = p16.review.points_um[_row(p16, positive=False)]
    p16.choose_tool("positive")
    p16.draw(_square(centre, 40.0))
    change = p16.last
    assert change is not None
    assert len(change.rows) > 1
    assert len(p16.review.history) == 1
    p16.undo()
    assert p16.review.numbers().changed == ()


def test_a_nucleus_can_be_added_and_taken_back(p16: Desk) -> None:
    assert p16.review is not None
    count = len(p16.layers["nuclei"].data)
    at = p16.review.points_um[:].mean(axis=0)
    p16.add_nucleus(at)
    assert p16.last is not None
    assert len(p16.layers["nuclei"].data) == count + 1
    p16.undo()
    assert len(p16.layers["nuclei"].data) == count


@pytest.mark.parametrize("tool", ["exclude", "compartment"])
def test_regions_change_the_numbers(p16: Desk, tool: str) -> None:
    assert p16.review is not None
    before = _state(p16)
    p16.compartment, p16.reason = "dermis", "fold"
    p16.choose_tool(tool)  # type: ignore[arg-type]
    centre = p16.review.junction.stretches[0].points_um[80]
    p16.draw(_square(centre, 50.0))
    assert p16.last is not None, p16.message
    assert _state(p16) != before
    if tool == "exclude":
        assert len(p16.layers["regions"].data) == 4
        p16.choose_tool("include")
        p16.draw(_square(centre, 50.0))
        assert p16.last is not None, p16.message
        p16.undo()
    p16.undo()
    assert _state(p16) == before
    assert len(p16.layers["regions"].data) == 0


def test_the_junction_can_be_cut_and_drawn_anew(col7: Desk) -> None:
    assert col7.review is not None
    line = col7.review.junction.stretches[0].points_um
    before = _state(col7)
    col7.choose_tool("cut")
    col7.draw(line[60:120])
    assert col7.last is not None, col7.message
    shorter = col7.review.numbers()["dej_length_mm"]
    assert shorter.delta is not None
    assert shorter.delta < -0.05
    col7.undo()
    assert _state(col7) == before
    col7.choose_tool("redraw")
    col7.draw(line[60:120] + [5.0, 0.0])
    assert col7.last is not None, col7.message
    assert _state(col7) != before
    col7.undo()
    assert _state(col7) == before


def test_what_finds_no_object_is_refused_in_words(p16: Desk) -> None:
    assert p16.review is not None
    p16.set_class("positive", (-500.0, -500.0))
    assert p16.last is None
    assert "No nucleus" in p16.message
    p16.choose_tool("positive")
    p16.draw(_square(np.array([-500.0, -500.0]), 5))
    assert p16.last is None
    assert "No nuclei" in p16.message
    p16.undo()
    assert p16.last is None
    assert "nothing to undo" in p16.message
    p16.judge("rejected", " ")
    assert p16.last is None
    assert "words are needed" in p16.message
    assert p16.review.history == []


def test_the_queue_goes_from_doubt_to_doubt(p16: Desk) -> None:
    assert p16.review is not None
    assert p16.start_queue()
    assert p16.queue is not None
    first = p16.queue[0]
    np.testing.assert_allclose(p16.layers["focus"].data[0], p16.review.points_um[first])
    p16.set_class("positive")
    assert p16.last is not None
    assert p16.at == 1
    assert p16.review.nuclei is not None
    assert p16.review.nuclei["positive"].iloc[first]
    p16.stop_queue()
    assert len(p16.layers["focus"].data) == 0


def test_verdict_note_and_worklist(p16: Desk) -> None:
    p16.note("melanin here", (10.0, 10.0))
    assert p16.last is not None
    p16.judge("accepted", "clear")
    assert p16.last is not None
    assert p16.review is not None
    own = next(i for i in p16.session.worklist() if i.name == p16.review.name)
    assert (own.status, p16.review.notes[0].text) == ("accepted", "melanin here")
    names = [item.name for item in p16.session.worklist()]
    p16.open(names[0])
    p16.step(1)
    assert p16.review.name == names[1]
    p16.step(1)
    assert p16.review.name == names[1]
    assert "last" in p16.message


def test_a_slide_without_its_file_can_be_reviewed(results: Path) -> None:
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace("SECRET_p16_rapamycin.ome.tif", "gone.tif"))
    desk = _open(_desk(results), "p16")
    assert "cannot be shown" in desk.message
    assert desk.review is not None
    desk.set_class("positive", desk.review.points_um[_row(desk, False)])
    assert desk.last is not None
    desk.close()


def test_a_blinded_desk_names_nothing(results: Path) -> None:
    desk = _desk(results, blind=True)
    seen = []
    for item in desk.session.worklist():
        desk.open(item.name)
        assert desk.review is not None
        seen += [desk.message, desk.viewer.title, item.name, item.sample, *item.doubts, item.reason]
        for layer in desk.viewer.layers:
            seen += [layer.name, str(layer.metadata), repr(layer.source), str(layer.help)]
        desk.viewer.cursor.position = (200.0, 300.0)
        seen.append(str(desk.viewer.layers["Slide"].get_status((200.0, 300.0), world=True)))
    desk.close()
    text = " ".join(seen)
    for secret in ("SECRET", "rapamycin", str(results), "ome.tif"):
        assert secret not in text


_CRASH = """
import os, sys
from histoquant.review import ReviewSession
from napari.components import ViewerModel
from napari_histoquant.desk import Desk
desk = Desk(ViewerModel(), ReviewSession(sys.argv[1], "anna"))
desk.open(next(i.name for i in desk.session.worklist() if i.marker == "p16"))
for row in range(5):
    desk.set_class("not_a_nucleus", desk.review.points_um[row])
desk.note("before the crash")
os.kill(os.getpid(), 9)
"""


def test_nothing_is_lost_when_the_viewer_is_killed(results: Path) -> None:
    subprocess.run([sys.executable, "-c", _CRASH, str(results)], check=False, timeout=120)
    desk = _open(_desk(results), "p16")
    assert desk.review is not None
    assert len(desk.review.history) == 6
    assert desk.review.notes[0].text == "before the crash"
    now = {row.name: row.value for row in desk.review.numbers().rows}
    name = desk.review.name
    desk.close()
    remeasure(results, "anna")
    import pandas as pd

    table = pd.read_csv(results / "slides" / name / "summary.csv").iloc[0]
    for column in ("n_nuclei", "n_positive", "positive_percent", "h_score"):
        assert table[column] == pytest.approx(now[column], rel=1e-9)


def test_a_drag_with_a_tool_draws(p16: Desk) -> None:
    assert p16.review is not None
    corners = _square(p16.review.points_um[_row(p16, False)], 30.0)
    p16.choose_tool("positive")
    assert p16.viewer.scene.camera.mouse_pan is False
    seen = _drag(p16, corners)
    np.testing.assert_allclose(seen[-1], _rgba(VERMILION), atol=0.01)
    assert len(p16.layers["drawing"].data) == 0
    assert len(p16.review.history) == 1
    p16.choose_tool("look")
    assert p16.viewer.scene.camera.mouse_pan is True


def _drag(desk: Desk, places: np.ndarray) -> list[np.ndarray]:
    """Press, move and release the mouse; the colour of the line that is shown meanwhile."""

    class Event:
        button, handled, type = 1, False, "mouse_press"
        position: tuple[float, ...] = (0.0, 0.0)

    event, seen = Event(), []
    event.position = tuple(places[0])
    gesture = desk._on_drag(desk.viewer, event)  # noqa: SLF001
    next(gesture)
    for place in places[1:]:
        event.type, event.position = "mouse_move", tuple(place)
        next(gesture)
        seen.append(desk.layers["drawing"].edge_color[0])
    event.type = "mouse_release"
    with pytest.raises(StopIteration):
        next(gesture)
    return seen
