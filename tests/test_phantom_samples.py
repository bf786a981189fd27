"""The sample cohort in the repository is what the code makes today."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from histoquant.phantom import Truth, plan_cohort, preset_recipe
from histoquant.phantom.render import Renderer
from histoquant.phantom.scene import make_scene
from histoquant.phantom.truth import make_truth

SAMPLES = Path(__file__).parent.parent / "sample_slides"
SEED = 2019


@pytest.fixture(scope="module")
def manifest():
    return pd.read_csv(SAMPLES / "manifest.csv")


@pytest.mark.parametrize("number", [0, 13], ids=["p16", "col7"])
def test_a_sample_slide_can_be_made_again(number):
    plan = plan_cohort(4, SEED)[number]
    path = SAMPLES / plan["slide"]
    stem = path.name.split(".")[0]
    old = Truth.load(SAMPLES / "truth", stem)
    height, width = old.summary["shape_px"]
    recipe = preset_recipe("typical", **plan["overrides"])
    scene = make_scene(
        plan["marker"],
        plan["seed"],
        "typical",
        recipe,
        old.summary["mpp"],
        (width * 0.5e-3, height * 0.5e-3),
        plan["angle_deg"],
    )
    new = make_truth(scene, stem)
    pd.testing.assert_frame_equal(old.nuclei, new.nuclei, atol=0.02)
    pd.testing.assert_frame_equal(old.junction, new.junction, atol=0.02, check_dtype=False)
    pd.testing.assert_frame_equal(old.gaps, new.gaps, atol=0.02, check_dtype=False)
    for key in ("n_nuclei", "positive_percent", "dej_length_um", "epidermis_area_um2"):
        assert old.summary[key] == pytest.approx(new.summary[key], rel=1e-4), key
    middle = new.junction.iloc[len(new.junction) // 2]
    y, x = int(middle["y_px"]) - 128, int(middle["x_px"]) - 128
    made = Renderer(scene).render(y, x, 256, 256).astype(float)
    kept = tifffile.imread(path)[y : y + 256, x : x + 256].astype(float)
    # JPEG at quality 80 costs about three grey levels; another seed would cost twenty.
    assert np.abs(made - kept).mean() < 5
    assert np.abs((made - kept).mean(axis=(0, 1))).max() < 1


def test_effect_of_the_cohort_is_as_drawn(manifest):
    design = pd.read_csv(SAMPLES / "design.csv")
    table = manifest.merge(design, on=["person", "site", "visit"])
    assert len(table) == len(manifest) == 16
    assert table.groupby(["person", "marker"])["arm"].nunique().eq(2).all()
    summaries = [
        Truth.load(SAMPLES / "truth", Path(slide).name.split(".")[0]).summary
        for slide in table["slide"]
    ]
    for name in ("epidermis_positive_percent", "integrated_od_um_mean", "continuity_percent"):
        table[name] = [summary.get(name) for summary in summaries]
    p16 = table[table["marker"] == "p16"].groupby("arm")["epidermis_positive_percent"]
    assert p16.min()["placebo"] > 14
    assert p16.max()["placebo"] < 18
    assert p16.min()["rapamycin"] > 7
    assert p16.max()["rapamycin"] < 10
    col7 = table[table["marker"] == "col7"].pivot(
        index="person", columns="arm", values=["integrated_od_um_mean", "continuity_percent"]
    )
    for name in ("integrated_od_um_mean", "continuity_percent"):
        assert (col7[name]["rapamycin"] > col7[name]["placebo"]).all()


def test_samples_stay_small_and_complete(manifest):
    for slide in manifest["slide"]:
        assert (SAMPLES / slide).stat().st_size < 640_000
        with tifffile.TiffFile(SAMPLES / slide) as tiff:
            assert len(tiff.series[0].levels) >= 3
    total = sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file())
    assert total < 20e6
    credits = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for path in (SAMPLES / "real").iterdir():
        assert path.name in credits
