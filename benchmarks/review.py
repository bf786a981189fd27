"""How long an edit takes with some 300,000 nuclei: python benchmarks/review.py [COLUMNS ROWS].

Small drawn sections are measured once and laid side by side, until there are as many nuclei and
as much junction as asked for. Times are of the logic alone, without a screen: what napari takes
to draw is measured with the plugin. Processor time and wall time of single edits, the median and
the worst of several.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoquant import phantom
from histoquant.anatomy import Compartments
from histoquant.junction import Junction
from histoquant.pipeline import quantify
from histoquant.results import SlideResult, read_result, write_result
from histoquant.review.edits import (
    AddNucleus,
    DeleteJunction,
    ExcludeRegion,
    RedrawJunction,
    SetCompartment,
)
from histoquant.review.journal import Binding, JournalWriter, read_journal
from histoquant.review.measuring import EditedSlide
from histoquant.review.session import SlideReview


def tiled(result: SlideResult, columns: int, rows: int) -> SlideResult:
    """`result` laid out `columns` times along and `rows` times down.

    Only the first row keeps its junction and epidermis: a section has one surface.
    """
    compartments, junction, nuclei = result.compartments, result.junction_line, result.nuclei
    assert compartments is not None
    assert junction is not None
    assert nuclei is not None
    dermis = np.where(compartments.labels > 0, 3, 0).astype(np.uint8)
    size = np.array(compartments.labels.shape) * compartments.mpp
    labels = np.vstack(
        [np.tile(compartments.labels, (1, columns)), np.tile(dermis, (rows - 1, columns))]
    )
    score = np.full(labels.shape, compartments.score.min(), compartments.score.dtype)
    score[: compartments.labels.shape[0]] = np.tile(compartments.score, (1, columns))
    stretches, tables = [], []
    for row in range(rows):
        for column in range(columns):
            offset = size * (row, column)
            own = nuclei.assign(y_um=nuclei["y_um"] + offset[0], x_um=nuclei["x_um"] + offset[1])
            tables.append(own)
            if row == 0:
                stretches += [
                    replace(s, points_um=s.points_um + offset, course_um=s.course_um + offset)
                    for s in junction.stretches
                ]
    large = Compartments(labels, compartments.mpp, score, separation=compartments.separation)
    line = Junction(tuple(stretches))
    result = replace(
        result,
        nuclei=pd.concat(tables, ignore_index=True),
        compartments=large,
        junction_line=line,
    )
    measured = EditedSlide(result, anew=True).measure([])
    return replace(
        result, summary=measured.summary, reasons=measured.reasons, nuclei=measured.nuclei,
        junction=measured.bins,
    )  # fmt: skip


def timed(name: str, action: Callable[[int], Any], times: int = 5) -> None:
    wall, cpu = [], []
    for number in range(times):
        begun, spent = time.perf_counter(), time.process_time()
        action(number)
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - spent)
    print(
        f"| {name} | {np.median(cpu):.3f} | {max(cpu):.3f} | {np.median(wall):.3f} "
        f"| {max(wall):.3f} |"
    )


def main() -> None:
    columns, rows = (int(v) for v in sys.argv[1:3]) if len(sys.argv) > 2 else (20, 18)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        phantom.write_slide(place / "p16.ome.tif", "p16", 3)
        large = tiled(quantify(place / "p16.ome.tif", "p16"), columns, rows)
        write_result(large, place / "slide")
        assert large.nuclei is not None
        assert large.compartments is not None
        assert large.junction_line is not None
        height, width = large.compartments.labels.shape
        print(
            f"{len(large.nuclei)} nuclei, {height * 2 / 1000:.1f} x {width * 2 / 1000:.1f} mm, "
            f"{large.junction_line.length_um / 1000:.1f} mm of junction\n"
        )
        print("| | CPU s, median | worst | wall s, median | worst |")
        print("|---|---|---|---|---|")
        timed("read the result", lambda _: read_result(place / "slide"), 3)
        result = read_result(place / "slide")
        timed("measure it first", lambda _: EditedSlide(result).measure([]), 2)
        journal = read_journal(place / "slide" / "review.jsonl", "anna")
        writer = JournalWriter(journal, Binding("slide", "s", "s"))
        review = SlideReview(EditedSlide(result), writer, "slide", lambda: None)  # type: ignore[arg-type,return-value]
        edit_all(review)


def edit_all(review: SlideReview) -> None:
    rng = np.random.default_rng(1)
    free = rng.permutation(len(review.points_um))
    stretch = review.junction.stretches[3]
    y, x = stretch.points_um[len(stretch.points_um) // 2].tolist()

    def near(number: int, half: float) -> tuple[tuple[float, float], ...]:
        a, b = y + 15 * number, x
        return (
            (a - half, b - half),
            (a - half, b + half),
            (a + half, b + half),
            (a + half, b - half),
        )

    def line(number: int) -> RedrawJunction:
        points = stretch.points_um[60 + number : 120 : 5] + [2.0, 0.0]
        return RedrawJunction(tuple((float(a), float(b)) for a, b in points))

    apply = review.apply
    timed("one nucleus positive", lambda n: apply(review.set_class(free[n : n + 1], "positive")))
    timed(
        "one nucleus is none",
        lambda n: apply(review.set_class(free[9 + n : 10 + n], "not_a_nucleus")),
    )
    timed(
        "lasso of 1,000 nuclei",
        lambda n: apply(review.set_class(free[100 + 1000 * n :][:1000], "negative")),
    )
    timed("add a nucleus", lambda n: apply(AddNucleus((y + 90 + 7 * n, x), "positive")))
    timed("undo", lambda _: review.undo(), 5)
    timed("queue of uncertain nuclei", lambda _: review.queue())
    timed("first region", lambda n: apply(ExcludeRegion(near(n, 60.0), "fold")), 1)
    timed("region", lambda n: apply(ExcludeRegion(near(n + 1, 60.0), "fold")))
    timed("undo a region", lambda _: review.undo())
    timed("cut the junction", lambda n: apply(DeleteJunction(*near(n, 15.0)[:1] * 2)), 2)
    timed("draw junction", lambda n: apply(line(n)), 2)
    timed("paint a compartment", lambda n: apply(SetCompartment(near(n, 20.0), "epidermis")), 2)


if __name__ == "__main__":
    main()
