"""How long a review in napari makes one wait: xvfb-run python benchmarks/review_napari.py [C R]

A drawn section is measured once and laid out C times along and R times down (20 x 18: some
300,000 nuclei on a slide of 1.2 gigapixels), as a real pyramid on disk and a real results
directory. Every step is then done in a shown viewer. "Ours" is the wall time until the call
comes back: measuring, journal, layers, pixels read and decoded. "Drawn" is what the event loop
takes after it, which is OpenGL: on a graphics card some milliseconds, on Xvfb it is computed on
the processor (Mesa's llvmpipe). The line "the slide alone" is drawing with no measurement shown.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import napari
import numpy as np
import tifffile
from napari_histoquant._review_widget import ReviewWidget
from napari_histoquant.form import Request
from napari_histoquant.job import measure
from qtpy.QtWidgets import QApplication
from review import tiled

from histoquant import open_slide, phantom, read_result
from histoquant.results import write_result

TILE = 256


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
    """A results directory with one large slide."""
    small = place / "section.ome.tif"
    phantom.write_slide(small, "p16", 3, angle_deg=0.0)
    directory, _ = measure(
        Request(str(small), "p16", str(place / "run"), workers=2), lambda _: None
    )
    with open_slide(small) as slide:
        height, width = (n // 8 * 8 for n in slide.shape[:2])
        section, mpp = slide.region(0, 0, height, width), slide.mpp
    large_file = place / "large.ome.tif"
    write_large(large_file, section, columns, rows, mpp)
    large = tiled(read_result(directory), columns, rows)
    with open_slide(large_file) as slide:
        large.summary["slide_sha256"] = slide.fingerprint
        large.provenance["slide"] = {**large.provenance["slide"], "shape": list(slide.shape)}  # type: ignore[dict-item]
    write_result(large, directory)
    ledger = place / "run" / "ledger.csv"
    with ledger.open(newline="") as file:
        table = list(csv.DictReader(file))
    table[0] |= {"slide": str(large_file), "resolved_path": str(large_file)}
    with ledger.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return place / "run"


def timed(name: str, act: Callable[[], Any], times: int = 5) -> None:
    app, ours, drawn = QApplication.instance(), [], []
    assert app is not None
    for _ in range(times):
        app.processEvents()
        begun = time.perf_counter()
        act()
        done = time.perf_counter()
        app.processEvents()
        ours.append(done - begun)
        drawn.append(time.perf_counter() - done)
    print(
        f"| {name} | {np.median(ours):.3f} | {max(ours):.3f} | {np.median(drawn):.3f} "
        f"| {max(drawn):.3f} |",
        flush=True,
    )


def main() -> None:
    columns, rows = (int(v) for v in sys.argv[1:3]) if len(sys.argv) > 2 else (20, 18)
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(Path(scratch), columns, rows)
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1600, 1000)
        widget = ReviewWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Review")
        print("| step | ours s, median | worst | drawn s, median | worst |\n|---|---|---|---|---|")
        timed("open the slide, first in the session", lambda: widget.begin(run, "anna", False), 1)
        desk = widget.desk
        assert desk is not None
        assert desk.review is not None
        name = desk.review.name
        timed("open it again", lambda: widget.open(name), 2)
        walk(widget, viewer, desk)
        widget.close()
        viewer.close()


def walk(widget: ReviewWidget, viewer: Any, desk: Any) -> None:
    rng = np.random.default_rng(2)
    points = desk.review.points_um
    print(f"<!-- {len(points)} nuclei, {desk.review.shape_px} px -->")
    camera = viewer.scene.camera

    def zoom(factor: float) -> None:
        camera.zoom *= factor
        desk.refresh_view()

    def pan() -> None:
        step = 200 / camera.zoom * rng.uniform(-1, 1, 2)
        camera.center = (0.0, camera.center[1] + step[0], camera.center[2] + step[1])
        desk.refresh_view()

    def jump() -> None:
        camera.center = (0.0, *points[rng.integers(len(points))])
        desk.refresh_view()

    timed("pan, whole slide in view", pan)
    timed("zoom in one step", lambda: zoom(1.5), 10)
    camera.zoom = 2.0
    jump()
    timed("pan, nuclei in view", pan)
    timed("jump to another place", jump)
    timed("move the cursor: nearest nucleus", lambda: desk.review.nearest(points[7]))

    def judge(value: str) -> Callable[[], Any]:
        return lambda: desk.set_class(value, points[rng.integers(len(points))])

    timed("nucleus positive (key P), saved", judge("positive"))
    timed("nucleus is none (key X), saved", judge("not_a_nucleus"))
    timed("undo", desk.undo)

    def lasso() -> None:
        desk.choose_tool("negative")
        angle = np.linspace(0, 2 * np.pi, 60)
        desk.draw(points[rng.integers(len(points))] + 400 * np.c_[np.sin(angle), np.cos(angle)])

    timed("lasso, saved", lasso, 3)
    timed("start the queue", desk.start_queue, 2)
    timed("next in the queue", desk.next_doubt)

    def region() -> None:
        desk.choose_tool("exclude")
        angle = np.linspace(0, 2 * np.pi, 40)
        desk.draw(points[rng.integers(len(points))] + 60 * np.c_[np.sin(angle), np.cos(angle)])

    timed("first region left out, saved", region, 1)
    timed("another region", region, 3)
    desk.choose_tool("look")
    desk.show_measurements(False)
    timed("pan, the slide alone", pan)
    timed("leave the slide", desk.leave, 1)


if __name__ == "__main__":
    main()
