"""The junction as a line: geometry on formulas, and tracing on drawn skin."""

from dataclasses import replace

import numpy as np
import pytest

from helpers import Skin, distance_to_line, junction_of, length, sine
from histoquant.anatomy import ADNEXA, DERMIS, EPIDERMIS, Compartments
from histoquant.junction import (
    Junction,
    Stretch,
    _runs,
    trace_junction,
    trace_surface,
    with_own_junction,
)
from histoquant.polyline import resample, right_normals, smooth_course, smooth_line
from histoquant.settings import Settings

JUNCTION, ANATOMY = Settings().junction, Settings().anatomy


def straight():
    x = np.arange(0, 401, 2.0)
    return np.column_stack([np.full_like(x, 100.0), x])


def arc(radius=150.0):
    """A quarter circle about (0, 0); walking it, the outside lies to the right."""
    angle = np.linspace(np.pi / 2, 0, 120)
    return radius * np.column_stack([np.sin(angle), np.cos(angle)])[::-1]


def wave():
    x = np.arange(0, 801, 1.0)
    return resample(np.column_stack([300 + sine(25, 130)(x), x]), 2.0)


LINES = {"straight": straight, "arc": arc, "wave": wave}


# --- geometry of a line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "true", "towards"),
    [
        (straight(), 400.0, lambda p: np.array([1.0, 0.0]) + 0 * p),
        (straight()[::-1], 400.0, lambda p: np.array([-1.0, 0.0]) + 0 * p),
        (arc(), 150 * np.pi / 2, lambda p: -p / 150),
        (arc()[::-1], 150 * np.pi / 2, lambda p: p / 150),
    ],
    ids=["rightwards", "leftwards", "arc", "arc backwards"],
)
def test_length_and_normals_of_a_line(line, true, towards):
    stretch = junction_of(line).stretches[0]
    assert stretch.length_um == pytest.approx(true, rel=1e-4)
    assert stretch.arc_um[[0, -1]] == pytest.approx([0, true], rel=1e-4)
    assert stretch.normals == pytest.approx(towards(line), abs=0.02)
    assert np.hypot(*stretch.normals.T) == pytest.approx(np.ones(len(line)))


@pytest.mark.parametrize("name", LINES)
def test_depth_is_the_signed_distance_to_the_line(name):
    line = LINES[name]()
    low, high = line.min(axis=0) - 60, line.max(axis=0) + 60
    points = np.random.default_rng(11).uniform(low, high, (3000, 2))
    depth = junction_of(line).depth_um(points)
    assert np.abs(depth) == pytest.approx(distance_to_line(points, line), abs=1e-6)
    if name == "arc":
        expected = 150 - np.hypot(*points.T)  # dermis inside
        beside = (points > 0).all(axis=1)
    else:
        above = 100.0 if name == "straight" else 300 + sine(25, 130)(points[:, 1])
        expected = points[:, 0] - above
        beside = (points[:, 1] > 5) & (points[:, 1] < line[:, 1].max() - 5)
    clear = beside & (np.abs(depth) > 0.5)
    assert clear.sum() > 1000
    assert (np.sign(depth) == np.sign(expected))[clear].all()


def test_depth_is_to_the_nearer_of_two_stretches():
    upper, lower = straight(), straight() + [80.0, 0.0]
    junction = junction_of(upper, lower[::-1])  # dermis between them
    depth = junction.depth_um(np.array([[90.0, 50], [110, 50], [170, 50], [190, 50]]))
    assert depth == pytest.approx([-10, 10, 10, -10])
    assert junction.length_um == pytest.approx(800)


@pytest.mark.parametrize("undulation", [0.0, 30.0])
def test_excluded_is_seen_from_the_smooth_course(undulation):
    """A ridge leans over the border of what is measured; the course decides, not the ridge."""
    course = straight()
    line = course + np.column_stack([sine(undulation, 90)(course[:, 1]), 0 * course[:, 1]])
    junction = junction_of(line, excluded=np.s_[:40], course=course)
    points = np.random.default_rng(12).uniform([20, 0], [180, 400], (500, 2))
    points = points[np.abs(points[:, 1] - 79) > 2]
    located = junction.locate(points)
    np.testing.assert_array_equal(located.excluded, points[:, 1] < 79)
    np.testing.assert_array_equal(located.depth_um, junction.depth_um(points))


def test_measured_length_leaves_out_what_is_excluded():
    stretch = junction_of(straight(), excluded=np.s_[50:60]).stretches[0]
    assert stretch.length_um == pytest.approx(400)
    assert stretch.measured_length_um == pytest.approx(400 - 11 * 2)


def test_undulation_is_positive_in_ridges():
    course = straight()
    line = course + np.column_stack([sine(20, 100)(course[:, 1]), 0 * course[:, 1]])
    stretch = junction_of(line, course=course).stretches[0]
    assert stretch.undulation_um == pytest.approx(sine(20, 100)(course[:, 1]), abs=1e-9)


@pytest.mark.parametrize("sigma", [1.5, 20.0, 400.0])
@pytest.mark.parametrize("name", LINES)
def test_smoothing_keeps_the_ends_and_spaces_evenly(name, sigma):
    line = LINES[name]()
    smooth = smooth_line(line, 2.0, sigma)
    assert smooth[[0, -1]] == pytest.approx(line[[0, -1]], abs=1e-6)
    steps = np.hypot(*np.diff(smooth, axis=0).T)
    assert steps == pytest.approx(np.full(len(steps), 2.0), rel=0.05)
    assert length(smooth) <= length(line) * 1.001


def test_a_straight_line_stays_straight_when_smoothed():
    assert smooth_line(straight(), 2.0, 50.0)[:, 0] == pytest.approx(np.full(201, 100.0))


def test_smoothing_takes_noise_but_keeps_waves():
    line = wave()
    rough = line + np.random.default_rng(13).normal(0, 0.7, line.shape)
    assert length(rough) > 1.1 * length(line)
    assert length(smooth_line(rough, 2.0, 4.0)) == pytest.approx(length(line), rel=0.02)


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.array([[0.0, 0.0], [0.0, 5.9]])])
def test_a_line_shorter_than_three_steps_is_none(points):
    assert resample(points, 2.0) is None


def test_right_normals_point_right_on_the_screen():
    """Walking right, right is down; walking down, right is left."""
    assert right_normals(np.array([[0.0, 0], [0, 1], [0, 2]])) == pytest.approx(
        np.array([[1.0, 0]] * 3)
    )
    assert right_normals(np.array([[0.0, 0], [1, 0], [2, 0]])) == pytest.approx(
        np.array([[0.0, -1]] * 3)
    )


@pytest.mark.parametrize(
    ("points", "flags", "course"),
    [
        (np.zeros((1, 2)), 1, 1),
        (np.zeros((5, 3)), 5, 5),
        (np.zeros((5, 2)), 4, 5),
        (np.zeros((5, 2)), 5, 4),
    ],
)
def test_a_stretch_refuses_arrays_that_do_not_fit(points, flags, course):
    with pytest.raises(ValueError, match="found|exclusions"):
        Stretch(points, np.zeros(flags, bool), np.zeros((course, 2)))


def test_an_empty_junction_needs_a_reason_and_measures_nothing():
    with pytest.raises(ValueError, match="needs a reason"):
        Junction(())
    empty = Junction((), "cut too deep")
    assert np.isnan([empty.length_um, empty.measured_length_um]).all()
    located = empty.locate(np.zeros((3, 2)))
    assert np.isnan(located.depth_um).all()
    assert not located.excluded.any()


# --- tracing ---------------------------------------------------------------------------------


def trace(compartments, **changes):
    return trace_junction(compartments, JUNCTION.model_copy(update=changes), ANATOMY)


def assert_dermis_on_the_right(junction, compartments):
    for stretch in junction.stretches:
        inner = stretch.points_um[15:-15], stretch.normals[15:-15]
        for side, code in ((1, DERMIS), (-1, EPIDERMIS)):
            assert (compartments.at(inner[0] + side * 8 * inner[1]) == code).all()


WAVY = Skin(sine(15, 120))


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("angle", [0, 37, 90, 155, 180, 251, 300])
def test_turned_and_mirrored_skin_has_the_same_junction(angle, mirror):
    skin = replace(WAVY, angle_deg=float(angle), mirror=mirror)
    compartments = skin.draw()
    junction = trace(compartments)
    assert len(junction.stretches) == 1
    points = junction.stretches[0].points_um
    assert junction.length_um == pytest.approx(trace(WAVY.draw()).length_um, rel=0.01)
    assert junction.length_um == pytest.approx(length(skin.line), rel=0.02)
    stray = distance_to_line(points, skin.line[::8])
    assert np.median(stray) < 0.3
    assert np.quantile(stray, 0.95) < 1
    assert_dermis_on_the_right(junction, compartments)


def test_ends_are_excluded_and_spacing_is_even():
    junction = trace(WAVY.draw())
    stretch = junction.stretches[0]
    steps = np.diff(stretch.arc_um)
    assert steps == pytest.approx(np.full(len(steps), JUNCTION.step_um), rel=0.05)
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(stretch.course_um, axis=0).T))])
    margin = min(ANATOMY.cut_edge_um, ANATOMY.cut_edge_share * along[-1])
    assert 40 < margin < 50  # a sixteenth of a course of some 700 um
    np.testing.assert_array_equal(stretch.excluded, np.minimum(along, along[-1] - along) < margin)
    assert stretch.exclusion == "within the cut edge"


def test_150_um_are_excluded_at_the_ends_of_a_long_stretch():
    skin = Skin(sine(0, 120), length_um=3000.0, side_um=3300.0)
    stretch = trace(skin.draw()).stretches[0]
    assert stretch.length_um == pytest.approx(3000, abs=30)
    kept = stretch.arc_um[~stretch.excluded]
    assert kept[0] == pytest.approx(150, abs=3)
    assert kept[-1] == pytest.approx(stretch.length_um - 150, abs=3)


@pytest.mark.parametrize("end_um", [0.0, 45.0])
def test_a_ridge_at_the_end_does_not_turn_the_course(end_um):
    x = np.arange(0, 1001, 2.0)
    line = np.column_stack([100 + sine(20, 180)(x - end_um), x])
    course = smooth_course(line, 50.0)
    assert np.abs(course[:, 0] - 100).max() < 13
    slope = np.gradient(course[:, 0], x)
    assert np.abs(slope).max() < 0.12
    straight_line = straight()
    assert smooth_course(straight_line, 50.0) == pytest.approx(straight_line, abs=1e-9)


def test_skin_that_leaves_the_picture_ends_at_its_border():
    skin = replace(WAVY, length_um=2000.0)
    stretch = trace(skin.draw()).stretches[0]
    x = np.sort(stretch.points_um[[0, -1], 1])
    assert x[0] < 10
    assert x[1] > 990
    assert stretch.excluded[[0, -1]].all()


def cut(compartments, rows, columns, code):
    """Relabel a box given in um; what is no longer epidermis loses its score."""
    labels, score = compartments.labels.copy(), compartments.score.copy()
    box = tuple(slice(round(a / 2), round(b / 2)) for a, b in (rows, columns))
    labels[box] = code
    score[box] = np.where(code == EPIDERMIS, 1, -1)
    return Compartments(labels, compartments.mpp, score)


def test_a_wide_tear_makes_two_stretches_the_longer_first():
    torn = cut(WAVY.draw(), (0, 1000), (300, 400), 0)
    junction = trace(torn)
    assert len(junction.stretches) == 2
    assert junction.stretches[0].length_um > junction.stretches[1].length_um + 150
    assert_dermis_on_the_right(junction, torn)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("width", "stretches"), [(30, 1), (60, 2)])
def test_only_a_narrow_cleft_beside_the_epidermis_is_bridged(width, stretches, turned):
    """Wherever on the closed outline of the epidermis the cleft lies."""
    flat = replace(WAVY, border=lambda u: 0 * u, angle_deg=180.0)
    torn = cut(flat.draw(), (280, 500), (480, 480 + width), 0)
    if turned:
        labels, score = (np.ascontiguousarray(a[::-1, ::-1]) for a in (torn.labels, torn.score))
        torn = replace(torn, labels=labels, score=score)
    junction = trace(torn)
    assert len(junction.stretches) == stretches
    assert junction.length_um == pytest.approx(700 - width * (stretches - 1), abs=8)


def test_papillae_cut_across_are_not_traced():
    """An island of dermis within the epidermis is no junction of the surface."""
    y, x = (np.mgrid[:500, :500] + 0.5) * 2
    skin = replace(WAVY, plate_um=120.0).draw()
    island = 15 - np.hypot(y - 430, x - 500)
    score = np.minimum(skin.score, np.clip(-island / 4, -1, 1)).astype(np.float32)
    labels = np.where((island > 0) & (skin.labels == EPIDERMIS), DERMIS, skin.labels)
    holed = Compartments(labels.astype(np.uint8), 2.0, score)
    assert trace(holed, min_length_um=20).length_um == pytest.approx(
        trace(skin, min_length_um=20).length_um, rel=1e-6
    )


@pytest.mark.parametrize("first", [True, False])
def test_of_a_closed_line_the_last_vertex_is_the_first(first):
    """They may be judged differently; the line is without a break all the same, or has one."""
    turn = np.linspace(0, 2 * np.pi, 41)
    ring = 50 * np.column_stack([np.sin(turn), np.cos(turn)])
    chosen = np.ones(len(ring), bool)
    chosen[0], chosen[-1] = first, not first
    runs = list(_runs(ring, chosen))
    assert [len(run) for run in runs] == ([] if first else [39])


def test_epidermis_with_dermis_all_round_has_no_junction():
    y, x = (np.mgrid[:300, :300] + 0.5) * 2
    inside = 80 - np.hypot(y - 300, x - 300)
    labels = np.where(inside > 0, EPIDERMIS, DERMIS).astype(np.uint8)
    ball = Compartments(labels, 2.0, np.clip(inside / 4, -1, 1).astype(np.float32))
    junction = trace(ball)
    assert not junction.stretches
    assert "less than 150 um" in junction.reason


@pytest.mark.parametrize(("least", "found"), [(150, True), (2000, False)])
def test_short_stretches_are_left_out_with_a_reason(least, found):
    junction = trace(WAVY.draw(), min_length_um=float(least))
    assert bool(junction.stretches) == found
    assert ("less than 2000 um" in junction.reason) != found


def test_without_epidermis_the_reason_is_passed_on():
    nothing = Compartments(np.zeros((9, 9), np.uint8), 2.0, -np.ones((9, 9), np.float32), "torn")
    assert trace(nothing).reason == "torn"
    assert trace_surface(nothing, 10.0) == []


@pytest.mark.parametrize("angle", [0, 63, 200])
def test_the_surface_runs_over_the_epidermis(angle):
    skin = replace(WAVY, angle_deg=float(angle))
    lines = trace_surface(skin.draw(), 10.0)
    longest = max(lines, key=length)
    u = np.arange(-350, 351, 2.0)
    surface = skin.place(np.full_like(u, -60.0), u)
    assert np.median(distance_to_line(surface, longest)) < 2
    assert sum(map(length, lines)) == pytest.approx(700 + 2 * 60, rel=0.06)  # the cut sides too


# --- whose epidermis it is ---------------------------------------------------------------------


def test_epidermis_without_junction_of_its_own_is_left_out():
    compartments = Skin(sine(10.0, 200.0)).draw()
    junction = trace(compartments)
    assert with_own_junction(compartments, junction) is compartments
    labels = compartments.labels.copy()
    rows, columns = slice(40, 60), slice(150, 350)
    assert not labels[rows, columns].any()
    labels[rows, columns] = EPIDERMIS  # a strip that came off, over the skin
    with_strip = replace(compartments, labels=labels)
    found = with_own_junction(with_strip, junction)
    assert (found.labels[rows, columns] == ADNEXA).all()
    labels[rows, columns] = ADNEXA
    np.testing.assert_array_equal(found.labels, labels)
    nothing = Junction((), "no epidermis")
    assert with_own_junction(with_strip, nothing) is with_strip
