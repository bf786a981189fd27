"""The whole way of one slide: nothing depends on how the work is cut, real slides, refusals."""

import numpy as np
import pandas as pd
import pytest

from fakes import write_tiny_slide
from helpers import REAL, SAMPLES, distance_to_line, on_two_cores
from histoquant import __version__
from histoquant.anatomy import ADNEXA, EPIDERMIS
from histoquant.errors import SlideError, StainError
from histoquant.phantom import write_slide
from histoquant.pipeline import quantify
from histoquant.settings import Settings
from histoquant.slides import open_slide

P16_SLIDE = SAMPLES / "synthetic" / "P02_left_hand_p16.ome.tif"
COL7_SLIDE = SAMPLES / "synthetic" / "P02_left_hand_col7.ome.tif"
NO_DAB = "the slide's stain set has no DAB"


def measure(path, marker, assignments=(), workers=1):
    return quantify(path, marker, Settings().with_values(assignments), workers=workers)


# --- one result, however the work is cut -----------------------------------------------------

CUTS = [(4096, 1), (256, 2), (700, 1), (4096, 2)]


@pytest.fixture(scope="module")
def cuts():
    """The p16 slide measured with every block size and number of workers of `CUTS`."""
    jobs = [(P16_SLIDE, "p16", (f"compute.block_px={px}",), workers) for px, workers in CUTS]
    return on_two_cores(measure, jobs)


def assert_same(one, other):
    assert one.reasons == other.reasons
    for table in ("nuclei", "junction"):
        a, b = getattr(one, table), getattr(other, table)
        assert (a is None) == (b is None)
        if a is not None:
            pd.testing.assert_frame_equal(a, b, check_exact=True)
    pd.testing.assert_series_equal(
        pd.Series(one.summary, dtype=object), pd.Series(other.summary, dtype=object)
    )
    np.testing.assert_array_equal(one.compartments.labels, other.compartments.labels)
    assert one.overlay == other.overlay


@pytest.mark.parametrize("number", range(1, len(CUTS)), ids=[f"{c}" for c in CUTS[1:]])
def test_blocks_and_workers_do_not_change_a_bit(cuts, number):
    assert len(cuts[0].nuclei) > 500
    assert_same(cuts[0], cuts[number])
    sweep = [cut.provenance["threshold_sweep"] for cut in (cuts[0], cuts[number])]
    assert sweep[0] == sweep[1]


def test_collagen7_is_the_same_every_time():
    one = measure(COL7_SLIDE, "col7")
    other = measure(COL7_SLIDE, "col7", ("compute.block_px=256",), workers=2)
    assert_same(one, other)
    np.testing.assert_array_equal(one.straightened, other.straightened)
    about = one.provenance["straightened"]
    assert sum(about["samples_of_stretch"]) == len(one.straightened)
    assert about["first_depth_um"] == -15
    assert one.straightened.shape[1] * about["step_um"] == pytest.approx(35.5)
    assert one.nuclei is None
    steps = []
    with open_slide(COL7_SLIDE) as slide:
        given = quantify(slide, "col7", progress=steps.append, slide_id="mine")
    assert given.slide_id == "mine"
    assert given.summary["slide_sha256"] == one.summary["slide_sha256"]
    assert len(steps) == len(set(steps)) >= 3


def test_provenance_says_how_the_figures_came_about(cuts):
    result = cuts[0]
    said, summary = result.provenance, result.summary
    assert result.slide_id == "P02_left_hand_p16"
    assert said["version"] == summary["version"] == __version__
    assert said["slide"]["shape"][2] == 3
    assert said["slide"]["mpp"] == summary["mpp"] == 0.5
    assert said["slide"]["mpp_source"] == summary["mpp_source"]
    assert said["slide"]["format"]
    assert said["slide"]["missing_tiles"] == 0
    assert said["white"]["source"] == "glass"
    assert 0 < said["white"]["glass_fraction"] < 1
    assert said["white"]["values"] == tuple(summary[f"white_{c}"] for c in "rgb")
    assert said["stains"]["names"] == ("hematoxylin", "dab", "residual")
    assert said["stains"]["vectors"][1] == summary["dab_vector"]
    assert said["stains"]["source"] == summary["stain_source"] == "preset hdab; white: glass"
    assert said["anatomy"]["stretches"] == len(result.junction_line.stretches)
    assert said["anatomy"]["separation_sd"] > 1.5
    assert Settings.model_validate(said["settings"]).sha256 == summary["settings_sha256"]
    with open_slide(P16_SLIDE) as slide:
        assert summary["slide_sha256"] == slide.fingerprint
    sweep = pd.DataFrame(said["threshold_sweep"])
    every = sweep[sweep["compartment"] == "all"].set_index("threshold_od")["positive_percent"]
    assert every.is_monotonic_decreasing
    assert every[0.2] == summary["positive_percent"]
    assert summary["positive_threshold_od"] == 0.2
    assert summary["threshold_source"] == "QuPath's convention, 0.2/0.4/0.6"
    assert summary["white_source"] == "glass"
    assert 0 < summary["glass_percent"] == 100 * said["white"]["glass_fraction"]
    assert 0 <= summary["white_uneven_percent"] < 3
    assert summary["hematoxylin_angle_deg"] == summary["marker_angle_deg"] == 0
    assert 0 < summary["residual_od"] < 0.1
    assert 0 <= summary["tissue_saturated_percent"] < 1
    assert (summary["damaged_tiles"], summary["warnings"]) == (0, "none")


# --- real slides -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    """H&E skin with a torn follicle, and Ki67 H-DAB without any epidermis."""
    jobs = [
        (REAL / "CMU-1-Small-Region.svs", "p16", ("stains.preset=he",)),
        (REAL / "OS-2-ndpi.ome.tif", "p16", ()),
    ]
    return dict(zip(("cmu", "os2"), on_two_cores(measure, jobs), strict=True))


def assert_missing(result, names, words):
    assert names
    for name in names:
        assert pd.isna(result.summary[name]), name
        assert words in result.reasons[name], name


def test_without_dab_there_are_nuclei_but_no_positives(real):
    result = real["cmu"]
    assert 2500 < result.summary["n_nuclei"] < 4500
    positives = [n for n in result.summary if "positive" in n or n == "h_score"]
    assert_missing(result, positives, NO_DAB)
    assert result.summary["dab_vector"] is None
    assert result.reasons["dab_vector"] == NO_DAB
    assert result.nuclei["positive"].isna().all()
    assert result.provenance["threshold_sweep"] == []
    known = [n for n in result.summary if n not in result.reasons]
    assert not any(isinstance(v := result.summary[n], float) and np.isnan(v) for n in known)


# Seen on the slide, (x, y) in um: the intact wall of the infundibulum and its lower tip.
WALL = [(574, 582), (538, 885), (588, 1234), (675, 1118), (704, 990)]


def test_the_infundibulum_of_the_hne_slide_is_followed(real):
    junction = real["cmu"].junction_line
    longest = junction.stretches[0]
    assert longest.length_um > 550
    mouth = np.array(WALL[:1], float)[:, ::-1]
    assert distance_to_line(mouth, longest.points_um).max() < 15
    epithelium, dermis = np.array([[700.0, 620.0]]), np.array([[699.0, 489.0], [1200.0, 680.0]])
    assert (junction.depth_um(epithelium) < -20).all()
    assert (junction.depth_um(dermis) > 20).all()
    assert (real["cmu"].compartments.at(epithelium) == EPIDERMIS).all()


def test_the_follicle_below_it_is_adnexa_and_has_no_junction(real):
    below = np.array(WALL[2:], float)[:, ::-1]
    for stretch in real["cmu"].junction_line.stretches:
        assert distance_to_line(below, stretch.points_um).min() > 15
    deep = np.array([[1048.0, 605.0]])
    assert (real["cmu"].compartments.at(deep) == ADNEXA).all()


def test_without_epidermis_nuclei_are_counted_and_the_rest_is_missing(real):
    result = real["os2"]
    assert 900 <= result.summary["n_nuclei"] <= 1500
    assert 10 <= result.summary["positive_percent"] <= 22
    assert not result.compartments.has_epidermis
    assert not result.junction_line.stretches
    assert result.junction.empty
    groups = "epidermis", "basal", "papillary", "reticular", "dej", "surface", "ridge", "measured"
    lost = [n for n in result.summary if any(g in n for g in groups)]
    assert len(lost) > 30
    assert_missing(result, lost, "no epidermis found")


# --- slides that cannot be measured ----------------------------------------------------------


@pytest.fixture(scope="module")
def coarse(tmp_path_factory):
    """The skin of a phantom at 1.25 um/px."""
    path = tmp_path_factory.mktemp("coarse") / "coarse.ome.tif"
    write_slide(path, "col7", 3, "easy", mpp=1.25, size_mm=(0.7, 0.5), angle_deg=0.0)
    return path


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_a_slide_coarser_than_the_analysis_is_refused(coarse, marker):
    with pytest.raises(
        SlideError, match=r"coarse\.ome\.tif.*1\.25 um/px is too coarse.*0\.5 um/px"
    ):
        quantify(coarse, marker)


def test_a_coarse_slide_can_be_measured_at_a_coarser_scale(coarse):
    coarser = ["collagen7.depth_step_um=1.0", "nuclei.mpp=1.0"]
    result = quantify(coarse, "col7", Settings().with_values(coarser))
    assert result.summary["continuity_percent"] > 50


def write_plain(path, level):
    """A slide of one grey level with sensor noise, 0.5 um/px."""
    import tifffile

    noise = np.random.default_rng(1).normal(level, 1, (600, 640, 3)).round().clip(0, 255)
    tifffile.imwrite(
        path,
        noise.astype(np.uint8),
        photometric="rgb",
        ome=True,
        metadata={"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    return path


@pytest.mark.parametrize(
    ("level", "error", "words"),
    [
        (240, SlideError, "no tissue found.*tissue.min_od"),
        (20, StainError, "fluorescence"),
    ],
)
def test_a_slide_without_tissue_or_light_is_refused(tmp_path, level, error, words):
    with pytest.raises(error, match=words):
        quantify(write_plain(tmp_path / "plain.ome.tif", level), "p16")


def test_an_unknown_marker_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'ki67' is none of"):
        quantify(write_tiny_slide(tmp_path / "tiny.ome.tif"), "ki67")


def test_a_given_white_level_is_taken_and_named():
    settings = Settings().with_values(["stains.white=[255, 255, 255]"])
    result = quantify(COL7_SLIDE, "col7", settings)
    assert [result.summary[f"white_{c}"] for c in "rgb"] == [255, 255, 255]
    assert result.summary["stain_source"] == "preset hdab; white: given"
    for name in ("glass_percent", "white_uneven_percent"):
        assert_missing(result, [name], "given by stains.white")


def test_collagen7_on_a_slide_without_dab_is_missing_with_a_reason():
    settings = Settings().with_values(["stains.preset=he"])
    result = quantify(REAL / "CMU-1-Small-Region.svs", "col7", settings)
    assert_missing(result, ["continuity_percent", "integrated_od_um_mean"], NO_DAB)


def test_a_fluorescence_slide_whose_channels_have_no_names_is_refused(tmp_path):
    import tifffile

    planes = np.zeros((2, 300, 300), np.uint16)
    meta = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "f.ome.tif", planes, ome=True, metadata=meta)
    with pytest.raises(StainError, match="no channel is named like a nuclear stain.*channel 1"):
        quantify(tmp_path / "f.ome.tif", "p16")


# --- stain vectors, thresholds and light -----------------------------------------------------


def test_a_refused_estimate_is_a_warning(cuts):
    """The brown of p16 lies on blue nuclei: its vector cannot be seen alone."""
    result = measure(P16_SLIDE, "p16", ("stains.source=slide",))
    source = result.summary["stain_source"]
    assert "preset hdab (estimate on the slide refused: dab found" in source
    assert "nearer to hematoxylin" in result.summary["warnings"]
    assert result.summary["positive_percent"] == cuts[0].summary["positive_percent"]


def test_an_estimate_is_used_and_its_angle_is_in_the_result():
    result = measure(COL7_SLIDE, "col7", ("stains.source=slide",))
    assert result.summary["threshold_source"] == "settings"
    assert result.summary["stain_source"].startswith("estimated on the slide (")
    assert 0 < result.summary["marker_angle_deg"] < 8
    assert result.summary["warnings"] == "none"
    assert result.summary["positive_threshold_od"] == Settings().collagen7.threshold_od


def vignetted(path):
    """The sample slide under light that loses 10 % towards the corners."""
    import tifffile

    with open_slide(P16_SLIDE) as slide:
        rgb = slide.region(0, 0, *slide.shape[:2])
    y, x = (np.linspace(-1, 1, n) for n in rgb.shape[:2])
    light = 1 - 0.05 * (y[:, None, None] ** 2 + x[None, :, None] ** 2)
    meta = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(
        path, np.rint(rgb * light).astype(np.uint8), tile=(256, 256), photometric="rgb",
        compression="deflate", ome=True, metadata=meta,
    )  # fmt: skip
    return path


def test_vignetting_hardly_changes_a_result(cuts, tmp_path):
    even = cuts[0].summary
    result = quantify(vignetted(tmp_path / "v.ome.tif"), "p16").summary
    assert "uneven light: the glass varies by" in result["warnings"]
    assert 5 < result["white_uneven_percent"] < 10
    for name, tolerance in (("tissue_area_mm2", 0.03), ("n_nuclei", 0.05), ("dej_length_mm", 0.03)):
        assert result[name] == pytest.approx(even[name], rel=tolerance), name
    assert result["positive_percent"] == pytest.approx(even["positive_percent"], abs=1)


# --- unreadable tiles ------------------------------------------------------------------------


class Damaged:
    """A source some of whose tiles cannot be read; they are found when they are read."""

    def __init__(self, source, boxes):
        self._source, self._boxes, self._found = source, boxes, []

    def __getattr__(self, name):
        return getattr(self._source, name)

    def region(self, level, y, x, height, width, fill):
        pixels = self._source.region(level, y, x, height, width, fill).copy()
        for box in self._boxes if level == 0 else ():
            top, left, h, w = box
            if top < y + height and y < top + h and left < x + width and x < left + w:
                pixels[max(top - y, 0) : max(top + h - y, 0),
                       max(left - x, 0) : max(left + w - x, 0)] = fill  # fmt: skip
                if box not in self._found:
                    self._found.append(box)
        return pixels

    def damaged_boxes(self):
        return list(self._found)


@pytest.fixture
def damage(monkeypatch):
    """Two unreadable tiles of the sample slide: one in tissue, one in a corner of glass."""
    from histoquant.slides import slide as module

    true_open = module.open_source
    boxes = [(700, 460, 200, 200), (0, 0, 40, 40)]

    def open_damaged(path, *, on_damage):
        assert on_damage == "missing"
        return Damaged(true_open(path), boxes)

    monkeypatch.setattr(module, "open_source", open_damaged)
    return boxes


def test_what_unreadable_tiles_cover_is_no_tissue(damage, cuts):
    steps = []
    settings = Settings().with_values(["slides.damaged_tiles=missing", "compute.block_px=256"])
    result = quantify(P16_SLIDE, "p16", settings, progress=steps.append)
    assert "again, without 2 unreadable tiles" in steps
    assert result.summary["damaged_tiles"] == 1  # the one in the corner of the glass cost nothing
    assert "1 unreadable tile(s)" in result.summary["warnings"]
    lost = cuts[0].summary["tissue_area_mm2"] - result.summary["tissue_area_mm2"]
    assert lost == pytest.approx((200 * 0.5) ** 2 / 1e6, rel=0.3)
    top, left, height, width = damage[0]
    x, y = result.nuclei["x_px"], result.nuclei["y_px"]
    inside = y.between(top + 8, top + height - 8) & x.between(left + 8, left + width - 8)
    assert not inside.any()
    assert len(result.nuclei) > 400


def test_unreadable_tiles_are_the_same_however_the_work_is_cut(damage):
    missing = "slides.damaged_tiles=missing"
    one, other = (
        measure(P16_SLIDE, "p16", (missing, f"compute.block_px={px}")) for px in (300, 4096)
    )
    assert_same(one, other)
