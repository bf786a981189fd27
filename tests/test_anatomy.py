"""Compartments and junction of phantom sections against their truth."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from helpers import distance_to_line, on_two_cores
from histoquant import phantom
from histoquant.anatomy import DERMIS, EPIDERMIS, Compartments, find_compartments
from histoquant.junction import trace_junction
from histoquant.pipeline import quantify
from histoquant.settings import Settings
from histoquant.slides import open_slide
from histoquant.stains import StainModel, measure_white, optical_density, unmix
from histoquant.tissue import find_tissue, tissue_detail

SETTINGS = Settings()
WIDE, TALL = (0.95, 0.52), (0.52, 0.95)


@dataclass(frozen=True)
class Case:
    """One phantom: what it is, and how far its junction may be off (um: median, 95 %)."""

    name: str
    marker: str
    seed: int
    preset: str
    angle_deg: float
    size_mm: tuple[float, float]
    stray_um: tuple[float, float] = (2.0, 8.0)
    length_off: float = 0.05
    knobs: tuple[tuple[str, float], ...] = ()


HARD = (4.0, 15.0), 0.18  # less than 0.5 mm between two cut edges that lean
NO_COL7 = (("col7_peak_od", 0.0), ("col7_peak_floor_od", 0.0))
CASES = {
    case.name: case
    for case in (
        Case("easy p16 on its left", "p16", 31, "easy", 278.0, TALL),
        Case("typical p16 on its right", "p16", 33, "typical", 95.0, TALL),
        Case("typical col7 upside down", "col7", 34, "typical", 188.0, WIDE),
        Case("typical without col7", "col7", 34, "typical", 188.0, WIDE, knobs=NO_COL7),
        Case("hard p16 upright", "p16", 35, "hard", 352.0, WIDE, *HARD),
        Case("hard col7 on its right", "col7", 36, "hard", 75.0, TALL, *HARD),
    )
}
STAINED = [name for name in CASES if name != "typical without col7"]


def make(name, folder):
    """Write a phantom and measure it: path, truth, result."""
    case = CASES[name]
    path = folder / f"{name.replace(' ', '_')}.ome.tif"
    truth = phantom.write_slide(
        path,
        case.marker,
        case.seed,
        case.preset,
        size_mm=case.size_mm,
        angle_deg=case.angle_deg,
        **dict(case.knobs),
    )
    return path, truth, quantify(path, case.marker)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("anatomy")
    return dict(zip(CASES, on_two_cores(make, [(name, folder) for name in CASES]), strict=True))


def vertices(junction):
    return np.concatenate([stretch.points_um for stretch in junction.stretches])


def true_line(truth):
    return truth.junction[["y_px", "x_px"]].to_numpy() * truth.summary["mpp"]


@pytest.mark.parametrize("name", STAINED)
def test_the_junction_is_where_it_was_drawn(measured, name):
    _, truth, result = measured[name]
    median, most = CASES[name].stray_um
    found, drawn = vertices(result.junction_line), true_line(truth)
    stray = distance_to_line(found, drawn)
    assert np.median(stray) <= median
    assert np.quantile(stray, 0.95) <= most
    over = ~result.junction_line.locate(drawn).excluded
    missed = distance_to_line(drawn[over], found)
    assert np.median(missed) <= median
    assert np.quantile(missed, 0.95) <= most


@pytest.mark.parametrize("name", STAINED)
def test_sizes_are_those_drawn(measured, name):
    _, truth, result = measured[name]
    area = result.compartments.area_mm2(EPIDERMIS) * 1e6
    junction, drawn = result.junction_line, true_line(truth)
    whole = truth.summary["dej_length_um"]
    assert junction.length_um == pytest.approx(whole, rel=CASES[name].length_off)
    kept = ~junction.locate(drawn).excluded
    steps = np.hypot(*np.diff(drawn, axis=0).T)[kept[1:] & kept[:-1]]
    off = max(0.05, CASES[name].length_off / 2)
    assert junction.measured_length_um == pytest.approx(steps.sum(), rel=off)
    assert area == pytest.approx(truth.summary["epidermis_area_um2"], rel=0.08)


@pytest.mark.parametrize("name", STAINED)
def test_dermis_lies_on_the_right(measured, name):
    _, truth, result = measured[name]
    points = truth.nuclei[["y_um", "x_um"]].to_numpy()
    depth = truth.nuclei["dej_distance_um"].to_numpy()
    clear = (np.abs(depth) > 12) & (depth < 100)
    assert clear.sum() > 100
    found = result.junction_line.depth_um(points[clear])
    assert ((found > 0) == (depth[clear] > 0)).mean() > 0.97
    assert np.median(np.abs(found - depth[clear])) < CASES[name].stray_um[0]


@pytest.mark.parametrize("name", STAINED)
def test_compartments_overlap_the_drawn_ones(measured, name):
    _, truth, result = measured[name]
    found = result.compartments.labels == EPIDERMIS
    drawn = np.zeros(found.shape, np.uint8)
    for feature in truth.compartments["features"]:
        if feature["properties"]["classification"]["name"] == "epidermis":
            ring = np.array(feature["geometry"]["coordinates"][0]) * truth.summary["mpp"]
            fixed = np.rint((ring / result.compartments.mpp - 0.5) * 16).astype(np.int32)
            cv2.fillPoly(drawn, [fixed], 1, shift=4)
    both = (found & (drawn > 0)).sum()
    assert 2 * both / (found.sum() + drawn.sum()) > 0.93


def test_the_junction_does_not_need_its_collagen(measured):
    """The same tissue with and without a line: a junction found by collagen VII has no gaps."""
    (_, truth, with_line), (_, bare_truth, without) = (
        measured[name] for name in ("typical col7 upside down", "typical without col7")
    )
    np.testing.assert_array_equal(true_line(truth), true_line(bare_truth))
    assert with_line.summary["continuity_percent"] > 80
    # Judged every 1.5 um, noise crosses the threshold here and there.
    assert without.summary["continuity_percent"] < 10
    one, other = vertices(with_line.junction_line), vertices(without.junction_line)
    assert np.median(distance_to_line(one, other)) < 1
    assert np.median(distance_to_line(other, one)) < 1
    assert len(one) == pytest.approx(len(other), rel=0.03)


# --- no epidermis ----------------------------------------------------------------------------


def assert_no_epidermis(compartments, words):
    junction = trace_junction(compartments, SETTINGS.junction, SETTINGS.anatomy)
    assert not compartments.has_epidermis
    assert words in compartments.reason
    assert not (compartments.labels == EPIDERMIS).any()
    assert junction.reason == compartments.reason
    assert np.isnan([junction.length_um, junction.measured_length_um]).all()
    assert np.isnan(junction.depth_um(np.array([[10.0, 10.0]]))).all()


def test_glass_alone_has_no_tissue():
    noise = np.random.default_rng(3).normal(0, 0.004, (200, 220, 3)).astype(np.float32)
    nothing = np.zeros((200, 220), bool)
    assert_no_epidermis(find_compartments(noise, nothing, 2.0, SETTINGS.anatomy), "no tissue")


# --- the type --------------------------------------------------------------------------------


def test_compartments_look_up_points_and_sum_areas():
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    compartments = Compartments(labels, 2.0, np.zeros((2, 2), np.float32))
    points = np.array([[0.0, 0.0], [1.9, 2.0], [2.0, 1.9], [3.9, 3.9], [4.0, 1.0], [-0.1, 1.0]])
    assert compartments.at(points).tolist() == [0, 1, 2, 3, 0, 0]
    assert compartments.area_mm2(1) == pytest.approx(4e-6)
    assert compartments.area_mm2(1, 2, 3) == pytest.approx(12e-6)
    assert compartments.has_epidermis


def test_compartments_refuse_a_score_of_another_shape():
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        Compartments(np.zeros((2, 2), np.uint8), 2.0, np.zeros((2, 3), np.float32))


def overview(path):
    """Stains and tissue of a slide at 2 um/px."""
    with open_slide(path) as slide:
        coarse, fine = slide.overview(8.0), slide.overview(2.0)
    white = measure_white(coarse).values
    tissue = find_tissue(optical_density(coarse, white), 8.0, SETTINGS.tissue)
    od = optical_density(fine, white)
    stains = unmix(od, StainModel.preset("hdab", white))
    return stains, tissue_detail(od, tissue, 2.0, SETTINGS.tissue)


@pytest.mark.parametrize("second", ["marker", "nuclear_marker"])
@pytest.mark.parametrize("name", ["typical p16 on its right", "easy p16 on its left"])
def test_dermis_alone_has_no_epidermis(measured, name, second):
    """The same section cut 15 um below its junction."""
    path, _, result = measured[name]
    stains, tissue = overview(path)
    rows, columns = np.nonzero(tissue)
    points = (np.column_stack([rows, columns]) + 0.5) * 2.0
    deep = result.junction_line.depth_um(points) > 15
    dermis = np.zeros_like(tissue)
    dermis[rows[deep], columns[deep]] = True
    assert dermis.sum() * 4 > 1e5
    found = find_compartments(
        np.where(dermis[..., None], stains, 0).astype(np.float32),
        dermis,
        2.0,
        SETTINGS.anatomy,
        second,
    )
    assert_no_epidermis(found, "no epidermis found")
    assert (found.labels[dermis] == DERMIS).all()


def evenly(per_mm2):
    """What finds nuclei as if so many lay on every mm2, wherever it looks."""

    def find(blocks):
        rng = np.random.default_rng(5)
        places = [
            (np.array([b.y, b.x]) + rng.random((round(per_mm2 * b.height * b.width * 4e-6), 2))
             * [b.height, b.width]) * 2.0
            for b in blocks
        ]  # fmt: skip
        found = np.concatenate([np.empty((0, 2)), *places])
        return found, np.full(len(found), 0.5)

    return find


def test_dense_stain_without_its_nuclei_is_no_epidermis(measured):
    """Epidermis as the stain shows it, but nuclei lie no closer there than in the dermis."""
    path, *_ = measured["typical p16 on its right"]
    stains, tissue = overview(path)
    divide = [stains, tissue, 2.0, SETTINGS.anatomy]
    assert find_compartments(*divide).has_epidermis
    found = find_compartments(*divide, nuclei=evenly(1000))
    assert_no_epidermis(found, "nuclei per mm2")
    # Nor does a dermis full of lymphocytes make epidermis of as many nuclei none.
    assert find_compartments(*divide, nuclei=evenly(4000)).has_epidermis
    # Where hardly any are found at all, they say nothing.
    assert find_compartments(*divide, nuclei=evenly(100)).has_epidermis
    assert find_compartments(*divide, nuclei=evenly(0)).has_epidermis


def test_even_tissue_has_no_epidermis():
    rng = np.random.default_rng(4)
    stains = cv2.GaussianBlur(rng.normal(0, 1, (300, 300, 3)).astype(np.float32), (0, 0), 2.0)
    tissue = np.zeros((300, 300), bool)
    tissue[40:-40, 40:-40] = True
    found = find_compartments(0.1 + 0.2 * stains, tissue, 2.0, SETTINGS.anatomy)
    assert_no_epidermis(found, "no epidermis found")
