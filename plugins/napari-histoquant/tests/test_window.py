"""Which nuclei are drawn, and the straightened junction; no viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from histoquant import open_slide, read_result
from napari_histoquant.strip import Straightener
from napari_histoquant.window import choose


def _cloud(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.uniform(0, 1000, (n, 2)), rng.random(n) < 0.1


def test_few_nuclei_are_all_drawn() -> None:
    points, first = _cloud(500)
    shown = choose(points, first, (0, 0, 10, 10), most=500)
    assert shown.complete
    assert len(shown.rows) == 500
    assert shown.covers((-1e9, -1e9, 1e9, 1e9))


def test_what_is_in_view_is_drawn() -> None:
    points, first = _cloud(5000)
    view = (200.0, 300.0, 300.0, 400.0)
    shown = choose(points, first, view, most=1000)
    inside = ((points >= view[:2]) & (points <= view[2:])).all(axis=1)
    assert shown.complete
    assert set(np.flatnonzero(inside)) <= set(shown.rows)
    assert shown.covers(view)
    assert not shown.covers((0.0, 0.0, 100.0, 100.0))


def test_too_many_are_thinned_positives_last_to_go() -> None:
    points, first = _cloud(5000)
    shown = choose(points, first, (0, 0, 1000, 1000), most=1000)
    assert not shown.complete
    assert len(shown.rows) == 1000
    assert set(np.flatnonzero(first)) <= set(shown.rows)
    again = choose(points, first, (0, 0, 1000, 1000), most=1000)
    np.testing.assert_array_equal(shown.rows, again.rows)
    assert not shown.covers((400, 400, 500, 500))  # zoomed in: there is room for more


def test_the_strip_lies_along_the_junction(measured: Path, drawn: dict[str, Path]) -> None:
    place = next(p for p in (measured / "slides").iterdir() if "col7" in p.name)
    junction = read_result(place).junction_line
    assert junction is not None
    stretch = junction.stretches[0]
    middle = stretch.points_um[len(stretch.points_um) // 2]
    with open_slide(drawn["col7"]) as slide:
        straight = Straightener(slide, junction)
        strip = straight.around(tuple(middle))
    assert strip is not None
    assert strip.pixels.shape == (len(strip.depth_um), len(strip.arc_um), 3)
    assert straight.point_at(strip, strip.centre) == pytest.approx(tuple(middle), abs=2)
    # collagen VII is brown, and lies on the junction: blue is least there
    blue = np.median(strip.pixels[..., 2].astype(float), axis=1)
    assert abs(strip.depth_um[int(np.argmin(blue))]) < 3
