"""A slide under review: every edit, its numbers, undo, and what a reviewer is told."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from scipy.spatial import cKDTree

from histoquant import tables
from histoquant.anatomy import DERMIS, EPIDERMIS, NAMES
from histoquant.errors import ResultError, ReviewError, SlideError
from histoquant.gaps import positive_fraction
from histoquant.results import RESULT, read_result, write_result
from histoquant.review import ReviewSession, SlideReview
from histoquant.review.edits import (
    AddNote,
    AddNucleus,
    DeleteJunction,
    Edit,
    ExcludeRegion,
    IncludeRegion,
    RedrawJunction,
    SetClass,
    SetCompartment,
    SetVerdict,
)
from histoquant.review.marks import Finder, marks_of
from histoquant.review.measuring import EditedSlide, Measured, count_edits
from histoquant.settings import P16Settings
from reviewed import COL7, OTHER_P16, P16, fresh_results, opened


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return fresh_results(tmp_path)


@pytest.fixture
def review(results: Path) -> SlideReview:
    return opened(results)


def value(review: SlideReview, name: str) -> float:
    found = review.numbers()[name].value
    assert found is not None
    return found


def square(y: float, x: float, half: float) -> tuple[tuple[float, float], ...]:
    return ((y - half, x - half), (y - half, x + half), (y + half, x + half), (y + half, x - half))


def vertex(review: SlideReview, share: float) -> tuple[float, float]:
    """A point of the longest stretch, `share` of its way along."""
    points = review.junction.stretches[0].points_um
    y, x = points[int(share * (len(points) - 1))]
    return float(y), float(x)


def edits_of_every_kind(review: SlideReview) -> list[Edit]:
    """One of each for a p16 slide, all of which change something."""
    y, x = vertex(review, 0.3)
    points = review.junction.stretches[0].points_um
    line = points[int(0.6 * len(points)) :][:30].copy()
    line[4:-4] += 6 * review.junction.stretches[0].normals[int(0.6 * len(points)) :][4:26]
    assert review.nuclei is not None
    positive = np.flatnonzero(review.nuclei["positive"])
    return [
        review.set_class([int(positive[0])], "negative"),
        review.set_class([int(positive[1])], "not_a_nucleus"),
        AddNucleus((y - 30.0, x), "positive", 2),
        ExcludeRegion(square(y, x, 40.0), "fold"),
        IncludeRegion(square(y, x, 15.0), "no fold here"),
        DeleteJunction(vertex(review, 0.45), vertex(review, 0.5), "a follicle"),
        RedrawJunction(tuple((float(a), float(b)) for a, b in line)),
        SetCompartment(square(y - 20, x + 10, 8.0), "adnexa"),
        SetVerdict("accepted", "looks right"),
        AddNote("see the left end", (y, x)),
    ]


# The same numbers


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("slide", [P16, COL7])
def test_without_edits_every_figure_is_the_automatic_one_to_the_bit(
    results: Path, slide: str, anew: bool
) -> None:
    automatic = read_result(results / "slides" / slide)
    measured = EditedSlide(automatic, anew=anew).measure([])
    assert measured.summary == automatic.summary
    assert measured.reasons == automatic.reasons
    columns = tables.junction_columns(automatic.marker)
    again = tables.conform(measured.bins, columns, "bins")
    pd.testing.assert_frame_equal(again, tables.conform(automatic.junction, columns, "bins"))
    if automatic.nuclei is not None:
        again, before = (
            tables.conform(t, tables.NUCLEI, "nuclei")
            for t in (measured.nuclei, automatic.nuclei)
            if t is not None
        )
        pd.testing.assert_frame_equal(again, before, check_exact=True)


def test_what_is_taken_from_the_result_is_what_would_be_measured_again(
    results: Path, review: SlideReview
) -> None:
    known = EditedSlide(read_result(results / "slides" / P16))
    anew = EditedSlide(known.automatic, anew=True)
    edits = list(enumerate(edits_of_every_kind(review), 1))
    for count in range(1, len(edits) + 1):
        same_figures(known.measure(edits[:count]), anew.measure(edits[:count]))


@pytest.mark.parametrize("seed", range(6))
def test_areas_under_many_regions_are_those_measured_again(
    results: Path, review: SlideReview, seed: int
) -> None:
    known = EditedSlide(read_result(results / "slides" / P16))
    anew = EditedSlide(known.automatic, anew=True)
    rng = np.random.default_rng(seed)
    edits: list[tuple[int, Edit]] = []
    for n in range(1, 6):
        y, x = vertex(review, rng.uniform(0, 1))
        corners = square(y + rng.normal(0, 60), x + rng.normal(0, 60), rng.uniform(10, 120))
        edits.append((n, ExcludeRegion(corners, "f") if n % 3 else IncludeRegion(corners, "g")))
        same_figures(known.measure(edits), anew.measure(edits))
    same_figures(known.measure(edits[:2]), anew.measure(edits[:2]))


def same_figures(one: Measured, other: Measured) -> None:
    assert one.summary == other.summary
    assert one.reasons == other.reasons
    assert one.nuclei is not None
    assert other.nuclei is not None
    pd.testing.assert_frame_equal(one.nuclei, other.nuclei, check_exact=True)
    pd.testing.assert_frame_equal(one.bins, other.bins, check_exact=True)


def test_the_anatomy_on_disk_is_what_was_measured(results: Path, tmp_path: Path) -> None:
    kept = read_result(results / "slides" / P16)
    assert kept.compartments is not None
    assert kept.junction_line is not None
    again = read_result(write_result(kept, tmp_path / "again"))
    assert again.compartments is not None
    assert again.junction_line is not None
    np.testing.assert_array_equal(again.compartments.labels, kept.compartments.labels)
    np.testing.assert_array_equal(again.compartments.score, kept.compartments.score)
    assert again.compartments.separation == kept.compartments.separation
    for new, old in zip(again.junction_line.stretches, kept.junction_line.stretches, strict=True):
        np.testing.assert_array_equal(new.points_um, old.points_um)
        np.testing.assert_array_equal(new.course_um, old.course_um)
        np.testing.assert_array_equal(new.excluded, old.excluded)


def test_a_damaged_anatomy_is_told(results: Path) -> None:
    path = results / "slides" / P16 / "anatomy.npz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ReviewError, match="anatomy is damaged.*measure the slide again"):
        opened(results)


# Nuclei


def test_classes_count(review: SlideReview) -> None:
    assert review.nuclei is not None
    before = {n: value(review, n) for n in ("n_nuclei", "n_positive", "n_1plus", "h_score")}
    own = ~review.nuclei["excluded"].to_numpy(bool)
    negative = np.flatnonzero(own & ~review.nuclei["positive"].to_numpy(bool))[:4]
    change = review.apply(review.set_class(negative, "positive"))
    assert set(change.rows) == set(negative)
    assert (value(review, "n_positive"), value(review, "n_1plus")) == (
        before["n_positive"] + 4,
        before["n_1plus"] + 4,
    )
    assert value(review, "h_score") == pytest.approx(
        before["h_score"] + 400 / before["n_nuclei"], rel=1e-12
    )
    delta = change.numbers["n_positive"].delta
    assert delta == 4
    assert review.nuclei.loc[negative, "intensity_class"].eq(1).all()
    review.apply(review.set_class(negative[:1], "positive", 3))
    assert review.nuclei.loc[negative[0], "intensity_class"] == 3
    review.apply(review.set_class(negative[:2], "not_a_nucleus"))
    assert value(review, "n_nuclei") == before["n_nuclei"] - 2
    assert review.nuclei.loc[negative[0], "exclusion_reason"] == "reviewer: not a nucleus"
    review.apply(review.set_class(negative, "automatic"))
    assert {n: value(review, n) for n in before} == before
    assert review.numbers().n_edits == 4


def test_a_positive_nucleus_keeps_its_class_by_colour(review: SlideReview) -> None:
    assert review.nuclei is not None
    strong = np.flatnonzero(review.nuclei["intensity_class"] == 3)[:1]
    review.apply(review.set_class(strong, "negative"))
    assert review.nuclei.loc[strong[0], "intensity_class"] == 0
    review.apply(review.set_class(strong, "positive"))
    assert review.nuclei.loc[strong[0], "intensity_class"] == 3


def test_the_sweep_holds_what_was_called_at_every_cut_off(results: Path) -> None:
    automatic = read_result(results / "slides" / P16)
    slide = EditedSlide(automatic)
    assert automatic.nuclei is not None
    counted = automatic.nuclei[~automatic.nuclei["excluded"]]
    place = tuple(float(v) for v in counted.iloc[0][["y_um", "x_um"]])
    rows = {}
    for word in ("positive", "negative"):
        edit = SetClass((place,), word)  # type: ignore[arg-type]
        sweep = pd.DataFrame(slide.sweep(slide.measure([(1, edit)])))
        rows[word] = sweep[sweep["compartment"] == "all"].set_index("threshold_od")["n_positive"]
    assert (rows["positive"] - rows["negative"]).eq(1).all()


def test_an_added_nucleus_counts_where_it_lies(review: SlideReview) -> None:
    stretch = review.junction.stretches[0]
    places = (stretch.points_um - 6 * stretch.normals)[20:-20]
    room_um = cKDTree(review.points_um).query(places)[0]
    place = places[np.argmax(room_um)]
    before = {n: value(review, n) for n in ("n_nuclei", "n_basal", "n_basal_positive", "n_2plus")}
    rows = len(review.points_um)
    change = review.apply(AddNucleus((float(place[0]), float(place[1])), "positive", 2))
    assert review.nuclei is not None
    assert change.reload_nuclei
    assert len(review.nuclei) == rows + 1
    assert review.nuclei["added"].tolist() == [False] * rows + [True]
    assert math.isnan(review.nuclei["dab_od_mean"].iloc[-1])
    assert {n: value(review, n) - before[n] for n in before} == dict.fromkeys(before, 1.0)
    assert review.nearest(place) == rows
    review.apply(review.set_class([rows], "not_a_nucleus"))
    assert value(review, "n_nuclei") == before["n_nuclei"]


def test_a_nucleus_added_twice_counts_once_in_its_last_class() -> None:
    table = pd.DataFrame({"y_um": [0.0], "x_um": [0.0]})
    edits = [AddNucleus((50.0, 50.0), "positive", 2), AddNucleus((51.0, 50.5), "negative")]
    found = marks_of(Finder(table), list(enumerate(edits, 1)), np.zeros(1), P16Settings())
    assert found.added_um.tolist() == [[50.0, 50.0]]
    assert found.reviewed_class.tolist() == [-1, 0]


def test_edits_that_find_nothing_are_not_counted() -> None:
    far = ((0.0, 0.0), (9.0, 9.0))
    edits = [(1, SetClass(far, "negative")), (2, SetClass(far, "negative")), (3, AddNote("x"))]
    words = "point(s) find no nucleus"
    assert count_edits(edits) == 2
    assert count_edits(edits, {1: f"2 of 2 {words}", 2: f"1 of 2 {words}"}) == 1
    line = DeleteJunction((0.0, 0.0), (1.0, 1.0))
    assert count_edits([(1, line)], {1: "no junction lies there"}) == 0


def test_a_lasso_is_one_edit(review: SlideReview) -> None:
    polygon = square(*vertex(review, 0.5), 50.0)
    rows = review.inside(polygon)
    inside = shapely.contains_xy(shapely.Polygon(polygon), *review.points_um.T)
    np.testing.assert_array_equal(rows, np.flatnonzero(inside))
    assert len(rows) > 20
    change = review.apply(review.set_class(rows, "not_a_nucleus"))
    assert review.numbers().n_edits == 1
    assert change.text == f"{len(rows)} nuclei: not a nucleus"
    review.undo()
    assert review.numbers().changed == ()


def test_the_queue_has_the_most_uncertain_first(review: SlideReview) -> None:
    assert review.nuclei is not None
    queue = review.queue()
    distance = (review.nuclei["dab_od_mean"] - review.threshold_od).abs().to_numpy()
    assert len(queue) >= 2
    assert distance[queue[0]] == distance[~review.nuclei["excluded"].to_numpy(bool)].min()
    review.apply(review.set_class(queue[:1], "positive"))
    np.testing.assert_array_equal(review.queue(), queue[1:])
    assert len(review.queue(1)) == min(1, len(queue) - 1)


def test_bins_near_the_threshold_are_the_queue_of_collagen(results: Path) -> None:
    review = opened(results, COL7)
    distance = (review.bins["peak_od"] - review.threshold_od).abs().to_numpy()
    queue = review.queue()
    assert (np.diff(distance[queue]) >= 0).all()
    assert not review.bins["excluded"].to_numpy(bool)[queue].any()


# Regions, lines, compartments


def test_an_excluded_region_takes_nuclei_areas_and_junction(review: SlideReview) -> None:
    middle = vertex(review, 0.5)
    region = square(*middle, 60.0)
    lost = review.inside(region)
    assert review.nuclei is not None
    was = ~review.nuclei["excluded"].to_numpy(bool)
    labels, mpp = review.compartments.labels, review.compartments.mpp
    rows, columns = np.indices(labels.shape)
    centres = np.column_stack([rows.ravel(), columns.ravel()]) * mpp + mpp / 2
    inside = shapely.contains_xy(shapely.Polygon(region), *centres.T).reshape(labels.shape)
    stretch = review.junction.stretches[0]
    within = shapely.contains_xy(shapely.Polygon(region), *stretch.points_um.T)
    before = {
        n: value(review, n)
        for n in ("n_nuclei", "epidermis_area_mm2", "measured_length_mm", "dej_length_mm",
                  "reticular_area_mm2", "papillary_area_mm2", "excluded_area_mm2")
    }  # fmt: skip
    review.apply(ExcludeRegion(region, "fold"))
    assert value(review, "n_nuclei") == before["n_nuclei"] - was[lost].sum()
    assert value(review, "dej_length_mm") == before["dej_length_mm"]
    assert before["measured_length_mm"] - value(review, "measured_length_mm") == pytest.approx(
        within.sum() * 2e-3, abs=4.1e-3
    )
    epidermis = ((labels == EPIDERMIS) & inside).sum() * mpp**2 / 1e6
    assert before["epidermis_area_mm2"] - value(review, "epidermis_area_mm2") == pytest.approx(
        epidermis, rel=1e-9
    )
    dermis = ((labels == DERMIS) & inside).sum() * mpp**2 / 1e6
    papillary = before["papillary_area_mm2"] - value(review, "papillary_area_mm2")
    assert papillary >= 0.9 * dermis  # of the region, and below the junction that it excludes
    assert value(review, "excluded_area_mm2") > before["excluded_area_mm2"]
    reasons = set(review.nuclei.loc[lost[was[lost]], "exclusion_reason"])
    assert reasons == {"reviewer: fold"}
    own = review.bins["exclusion_reason"] == "reviewer: fold"
    assert own.sum() * 10 == pytest.approx(within.sum() * 2, abs=20)


def test_an_included_region_takes_back_what_was_excluded(review: SlideReview) -> None:
    everything = square(*vertex(review, 0.5), 2000.0)
    assert value(review, "measured_length_mm") < value(review, "dej_length_mm")
    review.apply(IncludeRegion(everything, "the cut edges are fine"))
    assert value(review, "measured_length_mm") == pytest.approx(value(review, "dej_length_mm"))
    review.apply(ExcludeRegion(everything, "on second thoughts, no"))
    numbers = review.numbers()
    assert numbers["n_nuclei"].value == 0
    assert numbers["positive_percent"].value is None
    assert numbers["positive_percent"].reason
    assert numbers["positive_percent"].delta is None


def test_deleted_junction_is_in_no_length_and_measures_no_depth(review: SlideReview) -> None:
    whole = review.junction.length_um
    ends = vertex(review, 0.4), vertex(review, 0.6)
    review.apply(DeleteJunction(*ends))
    assert len(review.junction.stretches) == 2
    gone = whole - review.junction.length_um
    assert gone == pytest.approx(0.2 * whole, abs=25)
    assert gone / 10 == pytest.approx(round(gone / 10), abs=1e-6)
    left, right = (s.points_um for s in review.junction.stretches)
    np.testing.assert_allclose(
        left[:-1], review._slide.geometry.junction.stretches[0].points_um[: len(left) - 1]
    )
    assert len(right) > 10
    review.apply(DeleteJunction(vertex(review, 0.0), vertex(review, 1.0)))
    review.apply(DeleteJunction(vertex(review, 0.0), vertex(review, 1.0)))
    assert review.junction.stretches == ()
    assert review.numbers()["positive_per_mm_dej"].reason.startswith("a reviewer deleted all")
    for _ in range(3):
        review.undo()
    assert review.numbers().changed == ()


def test_a_drawn_line_takes_the_place_of_what_lies_between_its_ends(review: SlideReview) -> None:
    stretch = review.junction.stretches[0]
    n = len(stretch.points_um)
    first, last = int(0.4 * n), int(0.6 * n)
    ends = stretch.points_um[first], stretch.points_um[last]
    middle = stretch.points_um[(first + last) // 2] + 25 * stretch.normals[(first + last) // 2]
    drawn = tuple((float(y), float(x)) for y, x in (ends[1], middle, ends[0]))  # backwards
    epidermis = (review.compartments.labels == EPIDERMIS).sum()
    review.apply(RedrawJunction(drawn))
    (now,) = review.junction.stretches
    assert np.hypot(*(now.points_um - middle).T).min() < 3
    np.testing.assert_allclose(now.points_um[[0, -1]], stretch.points_um[[0, -1]], atol=1e-6)
    np.testing.assert_allclose(np.hypot(*np.diff(now.points_um, axis=0).T), 2, atol=0.6)
    assert (review.compartments.labels == EPIDERMIS).sum() > epidermis  # it was drawn deeper
    depth = review.junction.depth_um(np.array([middle + 12 * stretch.normals[(first + last) // 2]]))
    assert depth[0] > 0


def test_a_line_drawn_by_itself_is_a_stretch_with_dermis_to_its_right(review: SlideReview) -> None:
    review.apply(DeleteJunction(vertex(review, 0.0), vertex(review, 1.0)))
    assert review.junction.stretches == ()
    points = review._slide.geometry.junction.stretches[0].points_um[20:-20]
    for drawn in (points[::6], points[::-6]):
        review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in drawn)))
        (stretch,) = review.junction.stretches
        ahead = review.compartments.at(stretch.points_um + 8 * stretch.normals)
        assert (ahead == DERMIS).mean() > 0.9
        review.undo()


def test_painted_epidermis_moves_the_junction(review: SlideReview) -> None:
    points = review.junction.stretches[0].points_um
    middle = len(points) // 2
    normal = review.junction.stretches[0].normals[middle]
    centre = points[middle] + 20 * normal
    before = review.junction
    review.apply(SetCompartment(square(*centre.tolist(), 30.0), "epidermis"))
    assert review.compartments.at(centre[None])[0] == EPIDERMIS
    assert review.junction.depth_um(centre[None])[0] < 0
    assert before.depth_um(centre[None])[0] > 0
    far = points[np.hypot(*(points - centre).T) > 90]
    distance = np.abs(review.junction.depth_um(far))
    assert distance.max() < 1.0  # elsewhere the line lies where it lay
    review.undo()
    assert review.junction.length_um == before.length_um


@pytest.mark.parametrize("name", sorted(set(NAMES.values()) - {"epidermis", "dermis"}))
def test_painting_within_the_dermis_leaves_the_junction(review: SlideReview, name: str) -> None:
    stretch = review.junction.stretches[0]
    middle = len(stretch.points_um) // 2
    deep = stretch.points_um[middle] + 110 * stretch.normals[middle]
    assert review.compartments.at(deep[None])[0] == DERMIS
    lines = [s.points_um.tobytes() for s in review.junction.stretches]
    review.apply(SetCompartment(square(*deep.tolist(), 15.0), name))
    assert [s.points_um.tobytes() for s in review.junction.stretches] == lines
    assert NAMES[int(review.compartments.at(deep[None])[0])] == name


def test_collagen_follows_cuts_and_regions_from_its_bins(results: Path) -> None:
    review = opened(results, COL7)
    own = review.bins.copy()
    review.apply(ExcludeRegion(square(*vertex(review, 0.3), 30.0), "fold"))
    review.apply(DeleteJunction(vertex(review, 0.6), vertex(review, 0.7)))
    now = review.bins
    assert not review.numbers().pending
    place = {
        (round(x, 6), round(y, 6)): peak
        for x, y, peak in own[["x_px", "y_px", "peak_od"]].itertuples(index=False)
    }
    same = [
        place.get((round(x, 6), round(y, 6)))
        for x, y in now[["x_px", "y_px"]].itertuples(index=False)
    ]
    np.testing.assert_array_equal(now["peak_od"], np.array(same, float))
    assert 5 < len(own) - len(now) < 12
    kept = now[~now["excluded"].astype(bool)]
    assert (now["exclusion_reason"] == "reviewer: fold").sum() >= 4
    assert value(review, "continuity_percent") == pytest.approx(
        100 * positive_fraction(kept).mean()
    )
    assert value(review, "peak_od_mean") == pytest.approx(kept["peak_od"].mean())


def test_collagen_of_a_drawn_junction_waits_for_the_slide(results: Path) -> None:
    review = opened(results, COL7)
    points = review.junction.stretches[0].points_um[::20]
    review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in points)))
    numbers = review.numbers()
    assert "remeasure" in numbers.pending
    assert numbers["continuity_percent"].value is None
    assert numbers["continuity_percent"].reason == numbers.pending
    assert numbers["dej_length_mm"].value is not None
    review.undo()
    assert review.numbers().changed == ()


def test_collagen_of_a_drawn_junction_is_read_once_and_then_known(results: Path) -> None:
    review = opened(results, COL7)
    assert review.read_line() is None  # nothing waits
    points = review.junction.stretches[0].points_um[::20]
    drawn = RedrawJunction(tuple((float(y), float(x)) for y, x in points))
    review.apply(drawn)
    waiting = review.waiting
    assert waiting is not None
    assert review.read_line() is not None
    read = review.numbers()
    assert (read.pending, read["continuity_percent"].reason) == ("", "")
    assert value(review, "continuity_percent") > 50
    review.apply(ExcludeRegion(square(*vertex(review, 0.3), 30.0), "fold"))
    assert review.numbers().pending == ""  # exclusions change no profile
    assert value(review, "measured_length_mm") < read["measured_length_mm"].value  # type: ignore[operator]
    review.undo()
    assert review.numbers() == read
    review.undo()
    assert review.numbers().changed == ()
    profiles = review.profiles_of(waiting)
    assert review.carry_out_line(waiting, profiles) is None  # too late: the line is gone
    assert review.numbers().changed == ()
    review.redo()
    assert review.numbers() == read


def test_a_slide_that_is_gone_leaves_the_drawn_junction_waiting(results: Path) -> None:
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace(f"{COL7}.ome.tif", "gone.ome.tif"))
    review = opened(results, COL7)
    points = review.junction.stretches[0].points_um[::20]
    review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in points)))
    with pytest.raises(SlideError, match=r"gone\.ome\.tif"):
        review.read_line()
    assert "remeasure" in review.numbers().pending


def test_what_is_carried_out_is_on_the_disk_before_it_is_shown(
    results: Path, review: SlideReview
) -> None:
    before = review.numbers()
    first = review.carry_out(review.set_class([0], "not_a_nucleus"))
    second = review.carry_out(review.set_class([1], "not_a_nucleus"))
    (path,) = (results / "slides" / P16).glob("review*.jsonl")
    assert len(path.read_text().splitlines()) == 2
    assert (review.numbers(), review.history, review.can_undo) == (before, [], False)
    review.take_over(first)
    assert value(review, "n_nuclei") == before["n_nuclei"].value - 1  # type: ignore[operator]
    assert len(review.history) == 1
    review.take_over(second)
    assert value(review, "n_nuclei") == before["n_nuclei"].value - 2  # type: ignore[operator]
    back = review.carry_out_undo()
    assert back is not None
    review.take_over(back)
    assert review.numbers() == first.numbers


# Undo, the journal, what is told


def test_everything_can_be_undone_and_done_again(review: SlideReview) -> None:
    seen = [review.numbers()]
    for edit in edits_of_every_kind(review):
        review.apply(edit)
        seen.append(review.numbers())
    assert len({json.dumps([r.value for r in n.rows]) for n in seen}) >= 9
    for expected in seen[-2::-1]:
        assert review.can_undo
        review.undo()
        assert review.numbers() == expected
    assert review.undo() is None
    assert not review.can_undo
    for expected in seen[1:]:
        review.redo()
        assert review.numbers() == expected
    assert review.redo() is None
    assert [line.active for line in review.history] == [True] * 10


def test_a_review_goes_on_where_it_ended(results: Path) -> None:
    with opened(results) as first:
        for edit in edits_of_every_kind(first):
            first.apply(edit)
        first.undo()
        numbers, history = first.numbers(), first.history
    with opened(results) as second:
        assert second.numbers() == numbers
        assert second.history == history
        assert second.verdict == "accepted"
        assert second.can_redo
        assert [region.reason for region in second.regions] == ["fold", "no fold here"]
        assert [edit.compartment for edit in second.compartment_edits] == ["adnexa"]
        second.redo()
        assert second.notes[0].text == "see the left end"


def test_an_edit_that_finds_nothing_is_refused_and_not_written(
    results: Path, review: SlideReview
) -> None:
    nowhere: Sequence[Edit] = (
        SetClass(((-50.0, -50.0),), "positive"),
        DeleteJunction((-500.0, 0.0), (0.0, 0.0)),
        ExcludeRegion(square(-500.0, -500.0, 20.0), "off the slide"),
        SetCompartment(square(-500.0, -500.0, 20.0), "dermis"),
        RedrawJunction(((0.0, 0.0), (0.0, 1.0))),
    )
    for edit in nowhere:
        with pytest.raises(ReviewError, match="nothing was changed"):
            review.apply(edit)
    assert not (results / "slides" / P16 / "review.jsonl").exists()
    assert review.numbers().changed == ()
    review.apply(AddNote("still alive"))


def test_before_and_after_are_in_the_journal(results: Path, review: SlideReview) -> None:
    assert review.nuclei is not None
    row = int(np.flatnonzero(review.nuclei["intensity_class"] == 2)[0])
    review.apply(review.set_class([row], "negative"))
    review.apply(ExcludeRegion(square(*vertex(review, 0.5), 30.0), "fold"))
    lines = (results / "slides" / P16 / "review.jsonl").read_text().splitlines()
    first, second = (json.loads(line) for line in lines)
    assert (first["before"], first["after"]) == ({"classes": [2]}, {"classes": [0]})
    assert second["after"]["measured_length_mm"] < second["before"]["measured_length_mm"]
    summary = json.loads((results / "slides" / P16 / RESULT).read_text())["summary"]
    for name in ("slide_sha256", "settings_sha256", "version"):
        assert first[name] == summary[name]
    assert (first["who"], first["slide"]) == ("anna", P16)


def test_edits_find_their_nuclei_when_the_slide_was_measured_again(results: Path) -> None:
    """Other numbers, other order, centres a little off, one nucleus gone."""
    place = results / "slides" / P16
    with opened(results) as review:
        assert review.nuclei is not None
        own = review.nuclei[~review.nuclei["excluded"] & ~review.nuclei["positive"]].index[:6]
        points = review.points_um[own]
        review.apply(review.set_class(own, "positive"))
        n = value(review, "n_positive")
    result = read_result(place)
    assert result.nuclei is not None
    rng = np.random.default_rng(0)
    moved = result.nuclei.drop(index=own[2]).sample(frac=1, random_state=1)
    moved[["y_um", "x_um"]] += rng.uniform(-0.7, 0.7, (len(moved), 2))
    moved["nucleus_id"] = [f"other{i}" for i in range(len(moved))]
    write_result(replace(result, nuclei=moved.reset_index(drop=True)), place)
    with opened(results) as review:
        (problem,) = review.problems
        assert "1 of 6 point(s) find no nucleus" in problem
        assert value(review, "n_positive") == n - 1
        for point in np.delete(points, 2, axis=0):
            row = review.nearest(point)
            assert row is not None
            assert review.nuclei is not None
            assert review.nuclei["reviewed_class"].iloc[row] == 1


def test_a_nucleus_that_the_program_finds_by_now_is_not_counted_twice(results: Path) -> None:
    with opened(results) as review:
        there = review.points_um[10]
        before = value(review, "n_nuclei")
        review.apply(AddNucleus((float(there[0]) + 0.5, float(there[1])), "positive"))
        assert value(review, "n_nuclei") == before


def test_what_a_crash_left_is_told(results: Path) -> None:
    with opened(results) as review:
        review.apply(AddNote("one"))
    with (results / "slides" / P16 / "review.jsonl").open("ab") as file:
        file.write(b'{"format": 1, "kind"')
    with opened(results) as review:
        assert "unfinished" in review.problems[0]
        assert [note.text for note in review.notes] == ["one"]
        review.apply(AddNote("two"))
    with opened(results) as review:
        assert review.problems == ()


def test_one_reviewer_opens_a_slide_once(results: Path, review: SlideReview) -> None:
    with pytest.raises(ReviewError, match="open for review by anna already"):
        opened(results)
    with opened(results, reviewer="bob") as other:
        other.apply(AddNote("by bob"))
    assert review.notes == ()
    review.close()
    opened(results).close()


def test_a_journal_of_another_slide_is_refused(results: Path) -> None:
    with opened(results, OTHER_P16) as other:
        other.apply(AddNote("on the other slide"))
    journal = results / "slides" / OTHER_P16 / "review.jsonl"
    journal.rename(results / "slides" / P16 / "review.jsonl")
    with pytest.raises(ReviewError, match="made on another slide"):
        opened(results)
    (item,) = (i for i in ReviewSession(results, "anna").worklist() if i.name == P16)
    assert "made on another slide" in item.doubts[0]


def test_the_pixels_of_another_file_are_refused(results: Path, review: SlideReview) -> None:
    with review.open_slide() as slide:
        assert slide.shape[:2] == review.shape_px
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace(f"{P16}.ome.tif", f"{OTHER_P16}.ome.tif"))
    with opened(results, reviewer="bob") as other, pytest.raises(SlideError, match="not the file"):
        other.open_slide()
    ledger.write_text(ledger.read_text().replace(f"{OTHER_P16}.ome.tif", "gone.ome.tif"))
    with opened(results, reviewer="eve") as other, pytest.raises(SlideError, match=r"gone\.ome"):
        other.open_slide()


# The worklist


def test_a_slide_is_read_through_only_when_its_size_or_time_changed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = pd.read_csv(results / "ledger.csv", dtype=str).set_index("slide_id")
    file = Path(ledger.loc[P16, "resolved_path"])
    record = results / "slides" / P16 / RESULT
    content = json.loads(record.read_text())
    key = {"slide_bytes": file.stat().st_size, "slide_mtime_ns": file.stat().st_mtime_ns}
    record.write_text(json.dumps(content | {"key": key}))
    read: list[Path] = []
    monkeypatch.setattr(
        "histoquant.slides.slide.fingerprint",
        lambda path, nuclear=None: read.append(path) or content["summary"]["slide_sha256"],
    )
    with opened(results) as review, review.open_slide():
        assert not read
    key["slide_mtime_ns"] -= 1
    record.write_text(json.dumps(content | {"key": key}))
    with opened(results) as review, review.open_slide():
        assert read == [file]


def test_the_worklist_has_what_is_doubtful_first(results: Path) -> None:
    record = json.loads((results / "slides" / COL7 / RESULT).read_text())
    record["summary"]["warnings"] = "the white level is a guess"
    (results / "slides" / COL7 / RESULT).write_text(json.dumps(record))
    session = ReviewSession(results, "anna")
    first, *rest = session.worklist()
    assert (first.name, first.status, first.sample) == (COL7, "new", "P01 left_hand month_6")
    assert "the white level is a guess" in first.doubts
    assert [first.doubt, *(i.doubt for i in rest)] == sorted(
        (i.doubt for i in session.worklist()), reverse=True
    )
    assert session.previous_before(first.name) is None
    assert session.next_after(first.name) == rest[0].name
    assert session.next_after(rest[-1].name) is None


def test_the_worklist_says_how_far_the_review_is(results: Path) -> None:
    with opened(results) as review:
        review.apply(AddNote("begun"))
    with opened(results, OTHER_P16) as review:
        review.apply(SetVerdict("rejected", "no epidermis"))
    found = {item.name: item for item in ReviewSession(results, "anna").worklist()}
    assert {n: item.status for n, item in found.items()} == {
        P16: "started", OTHER_P16: "rejected", COL7: "new",
    }  # fmt: skip
    assert found[OTHER_P16].reason == "no epidermis"
    assert {item.status for item in ReviewSession(results, "bob").worklist()} == {"new"}


@pytest.mark.parametrize("wrong", [{"kind": "undo", "what": {"n": 7}}, {"what": ["x"]}])
def test_a_journal_with_a_bad_line_is_told_in_the_worklist(
    results: Path, wrong: dict[str, Any]
) -> None:
    with opened(results) as review:
        review.apply(AddNote("x"))
    path = results / "slides" / P16 / "review.jsonl"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}) + "\n")
    items = {item.name: item for item in ReviewSession(results, "anna").worklist()}
    assert items[P16].doubts[0].startswith("journal: ")
    assert items[OTHER_P16].status == "new"


def test_slides_that_failed_are_listed_and_not_opened(results: Path) -> None:
    ledger = results / "ledger.csv"
    text = ledger.read_text().replace(
        "P02_left_p16.ome.tif,done,,", "P02_left_p16.ome.tif,failed,no glass,"
    )
    ledger.write_text(text)
    (results / "slides" / OTHER_P16 / RESULT).unlink()
    session = ReviewSession(results, "anna")
    item = session.worklist()[-1]
    assert (item.name, item.status, item.reason) == (OTHER_P16, "failed", "no glass")
    with pytest.raises(ReviewError, match="not measured"):
        session.slide(OTHER_P16)
    with pytest.raises(ReviewError, match="no slide 'nonsense'"):
        session.slide("nonsense")


@pytest.mark.parametrize("kind", ["nothing", "empty ledger", "older result"])
def test_what_is_no_reviewable_directory_is_told(tmp_path: Path, results: Path, kind: str) -> None:
    expected: Any = ReviewError
    if kind == "nothing":
        results, expected, words = tmp_path / "nothing", ResultError, "no results directory"
    elif kind == "empty ledger":
        header = (results / "ledger.csv").read_text().splitlines()[0]
        (results / "ledger.csv").write_text(header + "\n")
        words = "holds no measured slide"
    else:
        (results / "slides" / P16 / "anatomy.npz").unlink()
        words = "holds no compartments.*measure the slide again"
    with pytest.raises(expected, match=words):
        opened(results)
