"""Phantoms in fluorescence, from file to figures, against their truth; and the phantoms."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.spatial import cKDTree

from helpers import REAL
from histoquant.anatomy import ADNEXA, DERMIS, EPIDERMIS
from histoquant.errors import SettingsError, StainError
from histoquant.phantom import write_fluorescence
from histoquant.phantom.fluorescence import FluorescenceRenderer, fluorescence_recipe
from histoquant.phantom.recipe import preset_recipe
from histoquant.phantom.scene import make_scene
from histoquant.pipeline import quantify
from histoquant.results import read_result, write_result
from histoquant.settings import Settings
from histoquant.slides import open_slide

SIZE = (0.9, 0.45)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Slide and truth of a phantom of each marker."""
    folder = tmp_path_factory.mktemp("fluorescence")
    return {
        marker: (folder / f"{marker}.ome.tif",
                 write_fluorescence(folder / f"{marker}.ome.tif", marker, 11, size_mm=SIZE,
                                    angle_deg=0))
        for marker in ("col7", "p16")
    }  # fmt: skip


@pytest.fixture(scope="session")
def measured(drawn):
    return {marker: quantify(path, marker) for marker, (path, _) in drawn.items()}


def line_of(truth):
    return truth.junction[["y_px", "x_px"]].to_numpy() * truth.summary["mpp"]


@pytest.mark.parametrize("marker", ["col7", "p16"])
def test_the_junction_is_found_by_the_nuclear_stain(drawn, measured, marker):
    truth, result = drawn[marker][1], measured[marker]
    away = np.abs(result.junction_line.depth_um(line_of(truth)))
    vertices = np.concatenate([s.points_um for s in result.junction_line.stretches])
    assert np.median(away) < 2
    assert (away < 15).mean() > 0.97
    assert (cKDTree(line_of(truth)).query(vertices)[0] > 15).mean() < 0.12
    thickness = result.summary["epidermis_thickness_um_mean"]
    assert thickness == pytest.approx(truth.summary["epidermis_thickness_um_mean"], rel=0.2)


def test_collagen_7_is_measured_in_grey_levels(drawn, measured):
    truth, found = drawn["col7"][1].summary, measured["col7"].summary
    assert found["marker_unit"] == "grey levels (16 bit)"
    assert found["integrated_od_um_mean"] == pytest.approx(truth["integrated_od_um_mean"], rel=0.2)
    assert found["continuity_percent"] == pytest.approx(truth["continuity_percent"], abs=15)
    assert found["saturated_percent"] == 0
    assert found["white_r"] is None
    assert "own line" in found["threshold_source"]
    assert "compare continuity" in found["warnings"]


def test_p16_nuclei_are_counted(drawn, measured):
    truth, found = drawn["p16"][1].summary, measured["p16"].summary
    assert found["n_nuclei"] == pytest.approx(truth["n_nuclei"], rel=0.06)
    assert found["positive_percent"] == pytest.approx(truth["positive_percent"], abs=4)
    reasons = measured["p16"].reasons
    for name in ("n_pigment_suspected", "n_without_pigment", "positive_percent_without_pigment"):
        assert np.isnan(float(found[name])), name  # no colours, so nothing is known of melanin
        assert "no colours" in reasons[name]
    for name in ("artefact_percent", "excluded_fold_mm2", "excluded_blur_mm2"):
        assert np.isnan(found[name]), name
        assert reasons[name] == "artefacts were not looked for"
    assert "own nuclei" in found["threshold_source"]


def test_the_junction_does_not_look_at_the_marker(drawn, measured, tmp_path):
    """p16 and collagen VII of one seed are one tissue: DAPI alone draws the same line."""
    lines = [measured[m].junction_line.stretches[0].points_um for m in ("col7", "p16")]
    away = cKDTree(lines[0]).query(lines[1])[0]
    assert np.median(away) < 1
    assert len(lines[0]) == pytest.approx(len(lines[1]), rel=0.05)


def test_a_threshold_from_the_settings_is_used_and_said(drawn):
    settings = Settings().with_values(["fluorescence.col7_threshold=900"])
    found = quantify(drawn["col7"][0], "col7", settings).summary
    assert found["positive_threshold_od"] == 900
    assert found["threshold_source"] == "settings, grey levels (16 bit)"
    assert found["warnings"] == "none"
    assert found["settings_sha256"] == settings.sha256


def test_no_block_size_and_no_number_of_workers_shows(drawn, measured):
    small = Settings().with_values(["compute.block_px=300"])
    again = quantify(drawn["p16"][0], "p16", small, workers=2)
    assert again.nuclei.equals(measured["p16"].nuclei)
    assert repr(again.summary) == repr(measured["p16"].summary)  # nan is not equal to itself


def test_a_slide_coarser_than_the_analysis_has_its_junction(tmp_path):
    path = tmp_path / "coarse.ome.tif"
    truth = write_fluorescence(path, "col7", 3, "easy", mpp=1.25, size_mm=(0.7, 0.5), angle_deg=0.0)
    result = quantify(path, "col7")
    away = np.abs(result.junction_line.depth_um(line_of(truth)))
    assert np.median(away) < 4
    assert (away < 15).mean() > 0.95


def test_swapped_channels_are_suspected(drawn):
    settings = Settings().with_values(
        ['fluorescence.nuclear="Alexa 594"', "fluorescence.marker=DAPI"]
    )
    found = quantify(drawn["col7"][0], "col7", settings)
    assert "are they swapped?" in found.summary["warnings"]


def test_a_channel_that_is_not_there_is_an_error_that_lists_them(drawn):
    settings = Settings().with_values(["fluorescence.marker=Cy5"])
    with pytest.raises(StainError, match="0 'DAPI', 1 'Alexa 594'"):
        quantify(drawn["col7"][0], "col7", settings)


def test_a_result_is_written_and_read_like_any_other(measured, tmp_path):
    for marker, result in measured.items():
        write_result(result, tmp_path / marker)
        again = read_result(tmp_path / marker)
        assert again.provenance["fluorescence"]["channel_names"] == ["DAPI", "Alexa 594"]
        used = Settings.model_validate(again.provenance["settings"])
        threshold = again.summary["positive_threshold_od"]
        assert threshold in (used.collagen7.threshold_od, used.p16.thresholds_od[0])
    assert (tmp_path / "p16" / "sweep.csv").exists()


def test_the_overlay_is_in_false_colour_on_black(measured):
    picture = np.asarray(Image.open(io.BytesIO(measured["col7"].overlay)))
    assert np.median(picture[:60].max(axis=-1)) < 40  # glass
    yellow = (np.abs(picture.astype(int) - (240, 228, 66)).max(axis=-1) < 30).sum()
    assert yellow > 200  # the junction


def test_the_real_pair_has_its_epithelia_and_their_junction():
    """DAPI of a mucosa: both epithelia, no nerve or vessel among them."""
    with open_slide(REAL / "skin-if-TRITC.ndpi", nuclear=REAL / "skin-if-DAPI.ndpi") as slide:
        result = quantify(slide, "col7")
    labels = result.compartments
    for point, code in [
        ((300.0, 110.0), EPIDERMIS),  # (y, x) um: the epithelium at the left
        ((760.0, 640.0), EPIDERMIS),  # basal layers of that below
        ((300.0, 250.0), DERMIS),
        ((600.0, 600.0), DERMIS),
        ((140.0, 755.0), ADNEXA),  # a nerve
    ]:
        assert labels.at(np.array([point]))[0] == code, point
    border = np.array([(250.0, 182.0), (400.0, 148.0), (695.0, 420.0), (765.0, 720.0)])
    assert np.abs(result.junction_line.depth_um(border)).max() < 12
    assert result.summary["marker_unit"] == "grey levels (8 bit)"
    assert "hardly a line" in result.summary["warnings"]  # its TRITC is no collagen VII


def test_a_phantom_is_the_same_whatever_window_is_rendered():
    scene = make_scene("col7", 3, "typical", preset_recipe("typical"), 0.5, (0.5, 0.4), 0)
    renderer = FluorescenceRenderer(scene, fluorescence_recipe("typical"))
    whole = renderer.render_channels(0, 0, 300, 400)
    np.testing.assert_array_equal(
        whole[:, 70:190, 33:250], renderer.render_channels(70, 33, 120, 217)
    )
    assert whole.dtype == np.uint16


def test_light_adds_up_so_blur_keeps_the_line(drawn):
    """The truth's integral is in the pixels, summed over all of the picture."""
    path, truth = drawn["col7"]
    with open_slide(path) as slide:
        assert slide.channels == ("DAPI", "Alexa 594")
        assert len(slide.levels) >= 2
        marker = slide.overview(0.5)[..., 1].astype(np.float64)
    line = line_of(truth)
    y, x = np.mgrid[: marker.shape[0], : marker.shape[1]]
    near = cKDTree(line).query(np.column_stack([y.ravel(), x.ravel()]) * 0.5 + 0.25)[0]
    near = near.reshape(marker.shape)
    beside = marker[(near > 8) & (near < 10)].mean()
    total = (marker[near < 6] - beside).sum() * 0.25
    expected = truth.summary["integrated_od_um_mean"] * truth.summary["dej_length_um"]
    assert total == pytest.approx(expected, rel=0.12)  # uneven light, and cytoplasm on one side


def test_knobs_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="no such knob in fluorescence: colour"):
        fluorescence_recipe("easy", colour=1)
    with pytest.raises(SettingsError, match="phantom preset 'odd'"):
        fluorescence_recipe("odd")
    with pytest.raises(SettingsError, match="phantom marker 'he'"):
        write_fluorescence(tmp_path / "a.ome.tif", "he")
