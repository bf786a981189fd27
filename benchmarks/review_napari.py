"""Whether a review in napari ever holds one up.

    xvfb-run python benchmarks/review_napari.py [COLUMNS ROWS [DIRECTORY]]

A drawn section is measured once and laid out COLUMNS times along and ROWS times down (20 x 18:
some 300,000 nuclei on a slide of 1.2 gigapixels), as a real pyramid on disk and a real results
directory with two such slides and a collagen VII slide of common size; it is kept in DIRECTORY for
another time, where one is given. A session is then played in a shown viewer: load, pan, zoom,
every kind of edit, undo, next slide.

Meanwhile a timer beats every 5 ms in the viewer's event loop. "Done" is the wall time until what
was asked for is on the disk, measured and shown. "Stall" is the longest time between two beats:
for so long no key and no mouse were heard. "CPU" is the processor time that the viewer's own
thread spent in its worst stall, which other programs on the machine do not change. Drawing counts
as well: on Xvfb the processor does it (Mesa's llvmpipe), on a graphics card it takes milliseconds;
the line "the slide alone" is drawing with no measurement shown.
"""

from __future__ import annotations

import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import napari
import numpy as np
import tifffile
from napari_histoquant._review_widget import ReviewWidget
from napari_histoquant.desk import Desk, Tool
from napari_histoquant.form import Request
from napari_histoquant.job import measure
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from review import tiled

from histoquant import open_slide, phantom, read_result
from histoquant.results import write_result
from histoquant.review import SlideReview

TILE, OTHER = 256, "large_2"


def write_large(path: Path, section: np.ndarray, columns: int, rows: int, mpp: float) -> None:
    """A pyramid of `section` laid out side by side, tile by tile."""
    levels = [section]
    while len(levels) < 3:
        height, width = (n // 2 for n in levels[-1].shape[:2])
        levels.append(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA))
    whole = np.tile(levels[2], (rows, columns, 1))
    small = [whole]
    for _ in range(3):
        height, width = (n // 2 for n in small[-1].shape[:2])
        small.append(cv2.resize(small[-1], (width, height), interpolation=cv2.INTER_AREA))
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for number in range(6):
            picture = levels[number] if number < 2 else small[number - 2]
            along, down = (columns, rows) if number < 2 else (1, 1)
            shape = picture.shape[0] * down, picture.shape[1] * along, 3
            tiff.write(
                _tiles(picture, along, down), shape=shape, dtype=np.uint8, tile=(TILE, TILE),
                photometric="rgb", compression="jpeg", subifds=5 if number == 0 else None,
                subfiletype=1 if number else 0, maxworkers=2,
                metadata={"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp}
                if number == 0 else None,
            )  # fmt: skip


def _tiles(picture: np.ndarray, along: int, down: int) -> Iterator[np.ndarray]:
    rows, columns = picture.shape[0] * down, picture.shape[1] * along
    for y in range(0, rows, TILE):
        band = picture[np.arange(y, min(y + TILE, rows)) % picture.shape[0]]
        for x in range(0, columns, TILE):
            tile = band[:, np.arange(x, min(x + TILE, columns)) % picture.shape[1]]
            missing = (0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0)
            yield np.pad(tile, missing, mode="edge")


def make_run(place: Path, columns: int, rows: int) -> Path:
    """A results directory with two large slides, and a collagen VII slide of common size."""
    run, large_file = place / "run", place / "large.ome.tif"
    for marker in ("p16", "col7"):
        phantom.write_slide(place / f"{marker}.ome.tif", marker, 3, angle_deg=0.0)
        request = Request(str(place / f"{marker}.ome.tif"), marker, str(run), workers=2)
        directory, _ = measure(request, lambda _: None)
        if marker == "p16":
            small = directory
    with open_slide(place / "p16.ome.tif") as slide:
        height, width = (n // 8 * 8 for n in slide.shape[:2])
        section, mpp = slide.region(0, 0, height, width), slide.mpp
    write_large(large_file, section, columns, rows, mpp)
    large = tiled(read_result(small), columns, rows)
    with open_slide(large_file) as slide:
        large.summary["slide_sha256"] = slide.fingerprint
        large.provenance["slide"] = {**large.provenance["slide"], "shape": list(slide.shape)}  # type: ignore[dict-item]
    write_result(large, small)
    write_result(replace(large, slide_id=OTHER), small.parent / OTHER)
    ledger = run / "ledger.csv"
    with ledger.open(newline="") as file:
        table = list(csv.DictReader(file))
    first = next(row for row in table if row["slide_id"] == small.name)
    first |= {"slide": str(large_file), "resolved_path": str(large_file)}
    table.append(first | {"slide_id": OTHER})
    with ledger.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return run


class Heart:
    """Beats in the event loop, and knows the longest time it could not."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.timeout.connect(self.beat)
        self._timer.start(5)
        self.reset()

    def reset(self) -> None:
        self.stall = self.cpu = 0.0
        self._at, self._spent = time.perf_counter(), time.thread_time()

    def beat(self) -> None:
        now, spent = time.perf_counter(), time.thread_time()
        self.stall = max(self.stall, now - self._at)
        self.cpu = max(self.cpu, spent - self._spent)
        self._at, self._spent = now, spent


class Stage:
    """A shown viewer with a review, and what every step of it took."""

    def __init__(self, viewer: Any, widget: ReviewWidget) -> None:
        self.viewer, self.widget, self.heart = viewer, widget, Heart()
        self.worst = 0.0

    @property
    def desk(self) -> Desk:
        assert self.widget.desk is not None
        return self.widget.desk

    @property
    def review(self) -> SlideReview:
        assert self.desk.review is not None
        return self.desk.review

    def step(self, name: str, act: Callable[[], Any], times: int = 5) -> None:
        """Do something, as often as told, and print what it took."""
        done, stall, cpu = [], [], []
        for _ in range(times):
            self.breathe(0.3)
            self.heart.reset()
            begun = time.perf_counter()
            act()
            self.wait()
            done.append(time.perf_counter() - begun)
            self.breathe(0.3)  # drawing, and timers that a move of the view set
            self.heart.beat()
            stall.append(self.heart.stall)
            cpu.append(self.heart.cpu)
        self.worst = max(self.worst, *stall)
        print(
            f"| {name} | {np.median(done):.2f} | {max(done):.2f} | {np.median(stall):.2f} "
            f"| {max(stall):.2f} | {max(cpu):.2f} |",
            flush=True,
        )

    def wait(self) -> None:
        """Until nothing is on its way any more."""
        QApplication.processEvents()
        while self.desk.busy or self.desk.reading:
            QApplication.processEvents()
            time.sleep(0.001)

    def breathe(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            QApplication.processEvents()
            time.sleep(0.001)


def main() -> None:
    columns, rows = (int(v) for v in sys.argv[1:3]) if len(sys.argv) > 2 else (20, 18)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(sys.argv[3] if len(sys.argv) > 3 else scratch)
        made = place / "run"
        if not made.exists():
            place.mkdir(exist_ok=True)
            made = make_run(place, columns, rows)
        if "--make" in sys.argv:
            return
        run = Path(scratch) / "reviewed"  # without the edits of the time before
        shutil.copytree(made, run)
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1600, 1000)
        widget = ReviewWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Review")
        stage = Stage(viewer, widget)
        print("| step | done s, median | worst | stall s, median | worst | CPU s |")
        print("|---|---|---|---|---|---|")
        begin = partial(widget.begin, run, "anna", False)
        stage.step("open the first slide of the session", begin, 1)
        walk_large(stage)
        walk_collagen(stage)
        print(f"\nlongest stall: {stage.worst:.2f} s")
        widget.close()
        viewer.close()


def walk_large(stage: Stage) -> None:
    viewer, camera, rng = stage.viewer, stage.viewer.scene.camera, np.random.default_rng(2)
    desk, widget = stage.desk, stage.widget
    large = [item.name for item in desk.items if item.marker == "p16"]
    stage.step("open a large slide", lambda: widget.open(large[0]), 2)
    points = stage.review.points_um
    print(f"<!-- {len(points)} nuclei, {stage.review.shape_px} px -->")

    def move(y: float, x: float) -> None:
        camera.center = (0.0, y, x)

    def pan() -> None:
        step = 200 / camera.zoom * rng.uniform(-1, 1, 2)
        move(camera.center[1] + step[0], camera.center[2] + step[1])

    def zoom() -> None:
        camera.zoom *= 1.5

    def nucleus() -> np.ndarray:
        return points[rng.integers(len(points))]

    def ring(radius: float, about: np.ndarray, corners: int = 40) -> np.ndarray:
        angle = np.linspace(0, 2 * np.pi, corners)
        return about + radius * np.c_[np.sin(angle), np.cos(angle)]

    def draw(tool: Tool, line: Callable[[], np.ndarray]) -> Callable[[], None]:
        def act() -> None:
            desk.choose_tool(tool)
            desk.draw(line())

        return act

    stage.step("pan, whole slide in view", pan)
    stage.step("zoom in one step", zoom, 10)
    camera.zoom = 2.0
    move(*nucleus())
    stage.step("pan, nuclei in view", pan)
    stage.step("jump to another place", lambda: move(*nucleus()))
    stage.step("nucleus positive (P), saved", lambda: desk.set_class("positive", nucleus()))
    stage.step("nucleus is none (X), saved", lambda: desk.set_class("not_a_nucleus", nucleus()))
    stage.step("add a nucleus (A), saved", lambda: desk.add_nucleus(nucleus() + 9.0), 3)
    stage.step("undo", desk.undo)
    stage.step("redo", desk.redo, 3)
    stage.step("lasso of 400 um, saved", draw("negative", lambda: ring(400, nucleus())), 3)
    stage.step("start the queue", desk.start_queue, 2)
    stage.step("next in the queue", desk.next_doubt)
    stage.step("judge in the queue", lambda: desk.set_class("positive"))
    desk.stop_queue()
    stage.step("first region left out, saved", draw("exclude", lambda: ring(60, nucleus())), 1)
    stage.step("another region", draw("exclude", lambda: ring(60, nucleus())), 3)
    stage.step("undo a region", desk.undo, 2)
    line = stage.review.junction.stretches[-1].points_um
    at = iter((60, 200, 120, 160))

    def redrawn() -> np.ndarray:
        start = next(at)
        return line[start : start + 40] + [3.0, 0.0]

    stage.step("junction drawn anew (J)", draw("redraw", redrawn), 2)
    stage.step("nucleus positive after it", lambda: desk.set_class("positive", nucleus()), 3)
    stage.step("undo of it", lambda: [desk.undo() for _ in range(4)], 1)
    stage.step("junction cut (K)", draw("cut", lambda: line[300:330]), 1)
    tissue = line[400] + [40.0, 0.0]
    stage.step("compartment painted (C)", draw("compartment", lambda: ring(30, tissue)), 1)
    stage.step("undo of both", lambda: [desk.undo(), desk.undo()], 1)
    desk.choose_tool("look")
    stage.step("note, saved", lambda: desk.note("a note"), 2)
    desk.easel.show_measurements(False)
    stage.step("pan, the slide alone", pan)
    desk.easel.show_measurements(True)
    stage.step("accept, saved", lambda: desk.judge("accepted"), 1)
    stage.step("next slide (PageDown)", lambda: widget.open(large[1]), 1)
    viewer.reset_view()


def walk_collagen(stage: Stage) -> None:
    desk = stage.desk
    name = next(item.name for item in desk.items if item.marker == "col7")
    stage.step("open a collagen VII slide", lambda: desk.open(name), 1)
    line = stage.review.junction.stretches[0].points_um

    def redraw() -> None:
        desk.choose_tool("redraw")
        desk.draw(line[100:160] + [4.0, 0.0])

    stage.step("its junction drawn anew, collagen VII read again", redraw, 1)
    assert not stage.review.numbers().pending, desk.message
    stage.step("region left out after it", lambda: _leave_out(desk, line[60]), 2)


def _leave_out(desk: Desk, about: np.ndarray) -> None:
    desk.choose_tool("exclude")
    desk.draw(about + 40 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]))


if __name__ == "__main__":
    main()
