"""The colours of one slide: where its vectors come from, and the figures of its fields."""

import numpy as np
import pytest

from histoquant.errors import SettingsError, SlideError
from histoquant.settings import Settings
from histoquant.slides import open_slide
from histoquant.staining import field_figures, find_model, stained_pixels, survey_slide
from histoquant.stains import PRESETS, StainModel, angle_deg
from painted import BLUE, BROWN, write_painted


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    with open_slide(write_painted(tmp_path_factory.mktemp("painted") / "a.ome.tif")) as opened:
        yield opened


def model_of(slide, *assignments):
    settings = Settings().with_values(assignments)
    return find_model(slide, survey_slide(slide, settings), settings)


def test_the_survey_finds_glass_and_tissue(slide):
    survey = survey_slide(slide, Settings())
    assert survey.white.values == pytest.approx((240, 242, 238), abs=1)
    assert survey.tissue.mean() == pytest.approx(400 * 400 / (600 * 640), abs=0.1)


def test_a_slide_of_glass_is_refused(tmp_path):
    path = write_painted(tmp_path / "glass.ome.tif", brown_share=0)
    with open_slide(path) as opened, pytest.raises(SlideError, match="no tissue found.*min_od"):
        survey_slide(opened, Settings().with_values(["tissue.min_od=0.99"]))


def test_vectors_of_the_preset_and_of_the_settings(slide):
    assert model_of(slide).source == "preset hdab; white: glass"
    given = ["stains.hematoxylin=[0.6, 0.7, 0.3]", "stains.second=[0.3, 0.6, 0.7]"]
    model = model_of(slide, *given, "stains.source=settings")
    assert model.source == "preset hdab, hematoxylin and dab given; white: glass"
    assert angle_deg(model.vectors[1], (0.3, 0.6, 0.7)) < 1e-3


def test_vectors_estimated_on_the_slide(slide):
    model = model_of(slide, "stains.source=slide")
    assert model.source.startswith("estimated on the slide (")
    assert model.source.endswith("; white: glass")
    assert angle_deg(model.vectors[0], BLUE) < 2
    assert angle_deg(model.vectors[1], BROWN) < 2
    assert model == model_of(slide, "stains.source=slide")


def test_a_refused_estimate_falls_back_and_says_so(tmp_path):
    with open_slide(write_painted(tmp_path / "b.ome.tif", brown_share=0)) as opened:
        model = model_of(opened, "stains.source=slide")
    assert "preset hdab (estimate on the slide refused: both vectors lie on one stain" in (
        model.source
    )
    assert angle_deg(model.vectors[1], PRESETS["hdab"][2]) < 1e-3


def test_a_batch_nobody_locked_is_refused(slide):
    with pytest.raises(SettingsError, match="histoquant batch.*column batch"):
        model_of(slide, "stains.source=batch")
    locked = ["stains.source=batch", "stains.locked=batch run_1", "stains.second=[0.3, 0.6, 0.7]"]
    model = model_of(slide, *locked)
    assert model.source == "batch run_1; white: glass"
    assert angle_deg(model.vectors[1], (0.3, 0.6, 0.7)) < 1e-3


def test_a_given_white_is_used_for_the_estimate(slide):
    settings = Settings().with_values(["stains.white=[240, 242, 238]"])
    given = stained_pixels(slide, survey_slide(slide, settings), settings)
    measured = stained_pixels(slide, survey_slide(slide, Settings()), Settings())
    np.testing.assert_allclose(given.mean(axis=0), measured.mean(axis=0), atol=0.005)


def test_the_residual_tells_wrong_vectors(slide):
    survey = survey_slide(slide, Settings())
    right = StainModel.preset("hdab", survey.white.values, hematoxylin=BLUE, second=BROWN)
    wrong = StainModel.preset("he", survey.white.values)
    ours, other = (field_figures(slide, survey, m, Settings()) for m in (right, wrong))
    assert ours.residual_od < 0.02 < 0.1 < other.residual_od
    assert ours.focus_score == other.focus_score
    assert ours.saturated_percent == 0


def test_saturated_tissue_is_counted(slide):
    low = Settings().with_values(["stains.max_od=0.51"])
    survey = survey_slide(slide, low)
    figures = field_figures(slide, survey, StainModel.preset("hdab", survey.white.values), low)
    assert 1 < figures.saturated_percent < 6
