"""A reviewer who goes by a script: three slides, 42 edits of every kind, in a shown viewer.

    python player.py RESULTS NUMBERS.json

Slides are gone through in the order of their names. Every step of `SCRIPTS` is one line of the
slide's journal, and where to step depends on the automatic result alone, so that a player that
was killed goes on where the journals end. At the end what the screen said of every slide is
written to NUMBERS.json.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np

from histoquant import read_result
from histoquant.results import automatic_place
from napari_histoquant._review_widget import ReviewWidget
from showing import press, settle

REVIEWER = "anna"


class Places:
    """Where the steps of a slide go to, in um."""

    def __init__(self, slide: Path) -> None:
        kept = automatic_place(slide)
        result = read_result(kept if kept.exists() else slide)
        assert result.junction_line is not None
        self.line = result.junction_line.stretches[0].points_um
        table = result.nuclei
        if table is not None:
            counted = table[~table["excluded"]]
            points = counted[["y_um", "x_um"]].to_numpy(np.float64)
            positive = counted["positive"].fillna(False).to_numpy(bool)
            self.positive, self.negative = points[positive], points[~positive]

    def on_line(self, share: float) -> np.ndarray:
        return self.line[int(share * (len(self.line) - 1))]

    def ring(self, centre: np.ndarray, half: float) -> np.ndarray:
        return centre + half * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]])


Step = Callable[[ReviewWidget, Places], object]


def judge(key: str, kind: str, number: int) -> Step:
    """Press a key over a nucleus."""
    return lambda w, at: press(w, key, getattr(at, kind)[number])


def drawn(tool: str, share: float, half: float) -> Step:
    """Draw a square around a place of the junction."""

    def step(widget: ReviewWidget, at: Places) -> None:
        widget.take(tool)  # type: ignore[arg-type]
        widget.desk_do(lambda desk: desk.draw(at.ring(at.on_line(share), half)))

    return step


def along(tool: str, first: float, last: float, aside: float) -> Step:
    """Draw along the junction."""

    def step(widget: ReviewWidget, at: Places) -> None:
        count = len(at.line) - 1
        widget.take(tool)  # type: ignore[arg-type]
        part = at.line[int(first * count) : int(last * count)] + [aside, 0.0]
        widget.desk_do(lambda desk: desk.draw(part))

    return step


def written(words: str, act: str) -> Step:
    """Type words and press a button that takes them."""

    def step(widget: ReviewWidget, at: Places) -> None:
        widget.words.setText(words)
        getattr(widget, act)()

    return step


def missing(aside: float) -> Step:
    """A nucleus that the program missed."""
    return lambda w, at: press(w, "A", at.on_line(0.45) + [aside, aside])


def key(name: str) -> Step:
    return lambda w, at: press(w, name)


def verdict(value: str) -> Step:
    return lambda w, at: w.desk_do(lambda desk: desk.judge(value))


P16: list[Step] = [
    judge("P", "negative", 3), judge("P", "negative", 9), judge("N", "positive", 0),
    judge("X", "negative", 20), missing(31.0), key("Control-Z"), key("Control-Shift-Z"),
    drawn("positive", 0.3, 22.0), drawn("exclude", 0.6, 45.0), drawn("include", 0.6, 20.0),
    drawn("compartment", 0.75, 12.0), along("redraw", 0.4, 0.5, 4.0), judge("N", "negative", 40),
    written("a fold beside it", "note"), verdict("accepted"),
]  # fmt: skip
OTHER: list[Step] = [
    judge("X", "negative", 5), judge("P", "negative", 30), drawn("negative", 0.5, 25.0),
    drawn("not_a_nucleus", 0.2, 15.0), along("cut", 0.35, 0.45, 0.0), key("Control-Z"),
    along("cut", 0.55, 0.65, 0.0), missing(-28.0), written("too pale", "note"),
    drawn("exclude", 0.8, 30.0), key("Control-Z"), drawn("exclude", 0.15, 30.0),
    written("stain failed", "reject"), verdict("open"),
]  # fmt: skip
COL7: list[Step] = [
    drawn("exclude", 0.25, 30.0), along("redraw", 0.5, 0.6, 5.0), drawn("exclude", 0.55, 25.0),
    key("Control-Z"), key("Control-Shift-Z"), along("cut", 0.7, 0.8, 0.0),
    drawn("include", 0.25, 15.0), drawn("compartment", 0.4, 10.0), key("Control-Z"),
    written("blister?", "note"), written("seen twice", "note"), key("Control-Z"),
    verdict("accepted"),
]  # fmt: skip
SCRIPTS = {"col7": [COL7], "p16": [P16, OTHER]}


def scripts(results: Path) -> dict[str, list[Step]]:
    """Slide -> its steps."""
    names = sorted(path.name for path in (results / "slides").iterdir())
    left = {marker: list(steps) for marker, steps in SCRIPTS.items()}
    return {name: left[name.rpartition("_")[2]].pop(0) for name in names}


def lines(slide: Path) -> int:
    """How much of a slide's script is in its journal, whole lines only."""
    journal = slide / "review.jsonl"
    if not journal.exists():
        return 0
    found = 0
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            found += "kind" in json.loads(line)
        except ValueError:
            continue
    return found


def main() -> None:
    results, said = Path(sys.argv[1]), {}
    viewer = napari.Viewer(show=True)
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    assert widget.begin(results, REVIEWER, blind=False)
    widget.settle()
    for name, steps in scripts(results).items():
        slide = results / "slides" / name
        places = Places(slide)
        widget.open(name)
        widget.settle()
        settle()
        for number in range(lines(slide), len(steps)):
            steps[number](widget, places)
            widget.settle()
            widget.put_down()
            assert widget.desk is not None
            assert lines(slide) == number + 1, f"{name}, step {number}: {widget.desk.message}"
        assert widget.desk is not None
        assert widget.desk.review is not None
        said[name] = {row.name: row.value for row in widget.desk.review.numbers().rows}
    Path(sys.argv[2]).write_text(json.dumps(said))
    widget.close()
    viewer.close()


if __name__ == "__main__":
    main()
