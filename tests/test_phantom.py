"""Phantom slides: the picture is what the truth says, and depends on nothing but its seed."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from histoquant.errors import SettingsError
from histoquant.phantom import Truth, preset_recipe, write_cohort, write_slide
from histoquant.phantom.render import Renderer
from histoquant.phantom.scene import make_scene

SMALL = (0.50, 0.36)
TINY = (0.38, 0.34)


@pytest.fixture(scope="module")
def easy(tmp_path_factory):
    """An easy slide of each marker: path and truth."""
    folder = tmp_path_factory.mktemp("easy")
    slides = {}
    for marker, angle in (("p16", 17.0), ("col7", 196.0)):
        path = folder / f"{marker}.ome.tif"
        slides[marker] = (
            path,
            write_slide(path, marker, 11, "easy", size_mm=SMALL, angle_deg=angle, jpeg_quality=98),
        )
    return slides


def stain_od(path, truth):
    """Pixels to OD of hematoxylin and DAB with the slide's own white and vectors."""
    white = np.array(truth.summary["white"])
    first, second = (np.array(truth.summary[f"{name}_vector"]) for name in ("hematoxylin", "dab"))
    third = np.cross(first, second)
    third /= np.linalg.norm(third)
    od = -np.log10(np.maximum(tifffile.imread(path), 1) / white)
    return od @ np.linalg.inv(np.array([first, second, third]))


# --- the picture against the truth -----------------------------------------------------------


def test_nuclei_have_the_dab_that_the_truth_says(easy):
    path, truth = easy["p16"]
    dab = stain_od(path, truth)[..., 1]
    nuclei = truth.nuclei[~truth.nuclei["kind"].isin(["fibroblast", "endothelial"])]
    measured = []
    y, x = np.mgrid[: dab.shape[0], : dab.shape[1]] + 0.5
    for row in nuclei.itertuples():
        radius = 0.75 * np.sqrt(row.area_um2 / np.pi) / truth.summary["mpp"]
        box = np.s_[
            int(row.y_px) - 12 : int(row.y_px) + 13, int(row.x_px) - 12 : int(row.x_px) + 13
        ]
        disc = np.hypot(y[box] - row.y_px, x[box] - row.x_px) < radius
        measured.append(dab[box][disc].mean())
    measured, positive = np.array(measured), nuclei["positive"].to_numpy()
    error = measured - nuclei["dab_od"].to_numpy()
    assert positive.sum() >= 10
    assert abs(np.median(error[~positive])) < 0.02
    assert abs(np.median(error[positive] / nuclei["dab_od"].to_numpy()[positive])) < 0.08
    assert np.corrcoef(measured, nuclei["dab_od"])[0, 1] > 0.98
    assert ((measured > 0.15) == positive).mean() > 0.98


def test_collagen_line_has_the_integrated_od_that_the_truth_says(easy):
    path, truth = easy["col7"]
    mpp, dab = truth.summary["mpp"], stain_od(path, truth)[..., 1]
    line = truth.junction[["x_px", "y_px"]].to_numpy()
    along = np.gradient(line, axis=0)
    along /= np.hypot(*along.T)[:, None]
    depth = np.arange(-5, 6.01, 0.25)
    # The dermis is to the right on the screen, walking along the table.
    across = np.column_stack([-along[:, 1], along[:, 0]])
    at = line[:, None] + depth[None, :, None] / mpp * across[:, None] - 0.5
    profile = cv2.remap(
        dab.astype(np.float32), *np.moveaxis(at, -1, 0).astype(np.float32), cv2.INTER_LINEAR
    )
    background = np.median(profile[:, np.abs(depth) > 4.4], axis=1)
    measured = (profile - background[:, None]).sum(axis=1) * 0.25
    inner = slice(10, -10)
    expected = truth.junction["integrated_od_um"].to_numpy()
    in_gap = truth.junction["in_gap"].to_numpy()[inner]
    assert measured[inner].mean() == pytest.approx(expected[inner].mean(), rel=0.07)
    assert np.corrcoef(measured[inner], expected[inner])[0, 1] > 0.93
    assert in_gap.any()
    assert measured[inner][in_gap].mean() < 0.25 * measured[inner][~in_gap].mean()


def test_glass_is_white_and_layers_are_where_the_polygons_are(easy):
    path, truth = easy["p16"]
    image = tifffile.imread(path)
    assert np.abs(image[:30, :30].reshape(-1, 3).mean(axis=0) - truth.summary["white"]).max() < 0.6
    hematoxylin = stain_od(path, truth)[..., 0]
    levels = {}
    for feature in truth.compartments["features"]:
        ring = np.array(feature["geometry"]["coordinates"][0])
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.rint(ring * 16 - 8).astype(np.int32)], 1, shift=4)
        name = feature["properties"]["classification"]["name"]
        levels[name] = np.median(hematoxylin[mask > 0])
        if name == "epidermis":
            area = mask.sum() * truth.summary["mpp"] ** 2
            assert area == pytest.approx(truth.summary["epidermis_area_um2"], rel=0.02)
    assert levels["epidermis"] > 1.5 * levels["dermis"] > levels["stratum_corneum"] > 0


# --- the truth against itself ----------------------------------------------------------------


def ring_of(truth, name):
    for feature in truth.compartments["features"]:
        if feature["properties"]["classification"]["name"] == name:
            return np.array(feature["geometry"]["coordinates"][0], np.float32)
    raise AssertionError(name)


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_nuclei_lie_in_their_compartment(easy, marker):
    truth = easy[marker][1]
    rings = {name: ring_of(truth, name) for name in ("epidermis", "dermis")}
    assert len(truth.nuclei) > 100
    for row in truth.nuclei.itertuples():
        inside = cv2.pointPolygonTest(
            rings[row.compartment.split("_")[0]], (row.x_px, row.y_px), measureDist=False
        )
        assert inside > 0, row
        deep = row.dej_distance_um
        assert {
            "epidermis_basal": -17 < deep < 0,
            "epidermis_suprabasal": deep < -9,
            "dermis_papillary": 0 < deep <= 100,
            "dermis_reticular": deep > 100,
        }[row.compartment], row


def test_positive_nuclei_are_those_with_dab(easy):
    truth = easy["p16"][1]
    positive = truth.nuclei["positive"]
    assert truth.nuclei.loc[positive, "dab_od"].between(0.22, 1.0).all()
    assert truth.nuclei.loc[~positive, "dab_od"].between(0, 0.08).all()
    basal = truth.nuclei["compartment"] == "epidermis_basal"
    assert truth.summary["epidermis_basal_positive_percent"] == pytest.approx(
        100 * positive[basal].mean(), abs=1e-3
    )
    assert not easy["col7"][1].nuclei["positive"].any()


def test_collagen_truth_adds_up(easy):
    truth = easy["col7"][1]
    table, summary = truth.junction, truth.summary
    area = np.sqrt(np.pi / (4 * np.log(2))) * table["peak_od"] * table["fwhm_um"]
    assert np.allclose(table["integrated_od_um"], area, atol=2e-3)
    lost = truth.gaps["length_um"].sum()
    assert 0.10 * summary["dej_length_um"] - 15.1 < lost < 0.10 * summary["dej_length_um"] + 0.1
    assert truth.gaps["length_um"].between(14.99, 120).all()
    share = 100 * (1 - lost / summary["dej_length_um"])
    assert summary["continuity_percent"] == pytest.approx(share, abs=0.1)
    assert 2 * table["in_gap"].sum() == pytest.approx(lost, abs=2 * len(truth.gaps) + 1)
    assert table.loc[~table["in_gap"], "peak_od"].min() > 0.1
    assert table["fwhm_um"].between(1.5, 3.5).all()


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_junction_is_a_line_in_steps_of_two_um(easy, marker):
    truth = easy[marker][1]
    points = truth.junction[["x_px", "y_px"]].to_numpy() * truth.summary["mpp"]
    steps = np.hypot(*np.diff(points, axis=0).T)
    assert steps.max() < 2.01
    assert steps.sum() == pytest.approx(truth.summary["dej_length_um"], abs=0.1)
    assert truth.summary["dej_length_um"] > truth.summary["surface_length_um"]
    dermis = ring_of(truth, "dermis")
    along = np.gradient(points, axis=0)
    right = points + 3 * np.column_stack([-along[:, 1], along[:, 0]]) / 2
    inside = [
        cv2.pointPolygonTest(dermis, tuple(map(float, p / truth.summary["mpp"])), False) > 0
        for p in right[5:-5]
    ]
    assert np.mean(inside) > 0.97
    assert truth.junction["peak_od"].isna().all() == (marker == "p16")


def test_truth_survives_the_disk(easy, tmp_path):
    for _, truth in easy.values():
        truth.save(tmp_path)
        again = Truth.load(tmp_path, truth.stem)
        pd.testing.assert_frame_equal(again.nuclei, truth.nuclei)
        pd.testing.assert_frame_equal(again.junction, truth.junction, check_dtype=False)
        assert again.summary == json.loads(json.dumps(truth.summary))
        assert again.compartments == truth.compartments


# --- the picture depends on the seed only ----------------------------------------------------


@pytest.mark.parametrize("marker", ["p16", "col7"])
def test_pixels_do_not_depend_on_the_tiles_they_were_rendered_in(marker):
    recipe = preset_recipe("hard", dust_per_mm2=60.0)
    scene = make_scene(marker, 5, "hard", recipe, 0.5, TINY, 30.0)
    renderer = Renderer(scene)
    height, width = scene.shape
    whole = renderer.render(0, 0, height, width)
    for tile in (157, 256) if marker == "col7" else (211,):
        parts = np.zeros_like(whole)
        for y in range(0, height, tile):
            for x in range(0, width, tile):
                high, wide = min(tile, height - y), min(tile, width - x)
                parts[y : y + high, x : x + wide] = renderer.render(y, x, high, wide)
        assert np.array_equal(parts, whole)
    assert whole.std() > 15


def test_same_seed_same_file_other_seed_other_file(tmp_path):
    files = []
    for seed in (1, 1):
        truth = write_slide(tmp_path / "a.ome.tif", "p16", seed, size_mm=TINY, angle_deg=0.0)
        files.append(((tmp_path / "a.ome.tif").read_bytes(), len(truth.nuclei)))
    assert files[0] == files[1]
    one, other = (
        make_scene("p16", seed, "", preset_recipe("typical"), 0.5, TINY, 0.0) for seed in (1, 2)
    )
    assert len(one.nuclei) == files[0][1]
    assert one.nuclei != other.nuclei
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.tif"]


def test_two_scanners_see_the_same_tissue():
    recipe = preset_recipe("typical")
    coarse, fine = (make_scene("p16", 3, "", recipe, mpp, TINY, 75.0) for mpp in (0.5, 0.25))
    assert coarse.nuclei == fine.nuclei
    assert np.array_equal(coarse.junction.points, fine.junction.points)
    a = Renderer(coarse).render(150, 250, 64, 64).astype(float)
    b = Renderer(fine).render(300, 500, 128, 128).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(a - b).mean() < 2.0


def test_marker_changes_no_tissue():
    recipe = preset_recipe("typical")
    one, other = (make_scene(marker, 3, "", recipe, 0.5, TINY, 5.0) for marker in ("p16", "col7"))
    assert [(n.y, n.x, n.hematoxylin) for n in one.nuclei] == [
        (n.y, n.x, n.hematoxylin) for n in other.nuclei
    ]


# --- the file, the arguments, the package ----------------------------------------------------


def test_file_is_a_pyramid_with_its_scale(easy):
    path, _ = easy["col7"]
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert [level.shape for level in levels] == [(720, 1000, 3), (360, 500, 3)]
        assert all(level.pages[0].tile == (256, 256) for level in levels)
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
        full, half = (level.asarray().astype(float) for level in levels[:2])
    mean = full.reshape(360, 2, 500, 2, 3).mean(axis=(1, 3))
    assert np.abs(mean - half).mean() < 1.5


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"marker": "ki67"}, "ki67"),
        ({"preset": "impossible"}, "impossible"),
        ({"ridge_hight_um": (1, 2)}, "ridge_hight_um"),
        ({"ridge_height_um": (9.0, 2.0)}, "ridge_height_um"),
        ({"p16_basal_fraction": 1.5}, "share"),
        ({"mpp": 0.0}, "um/px"),
        ({"size_mm": (0.1, 0.1)}, "does not fit"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, arguments, word):
    with pytest.raises(SettingsError, match=word):
        write_slide(tmp_path / "x.ome.tif", **arguments)
    assert not list(tmp_path.iterdir())


def test_shares_of_positives_are_met(tmp_path):
    recipe = preset_recipe("typical", p16_basal_fraction=0.5, p16_suprabasal_fraction=0.25)
    scene = make_scene("p16", 4, "", recipe, 0.5, SMALL, 0.0)
    for kind, share in (("basal", 0.5), ("suprabasal", 0.25)):
        positive = [n.positive for n in scene.nuclei if n.kind == kind]
        assert sum(positive) == round(share * len(positive))


def test_cohort_has_a_manifest_without_arms_and_a_design_with_them(tmp_path, monkeypatch):
    monkeypatch.setattr("histoquant.phantom.slide.write_pyramid", lambda path, _: path.touch())
    truths = write_cohort(tmp_path, people=1, seed=3, preset="easy", size_mm=TINY)
    manifest, design = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("manifest", "design"))
    assert len(truths) == len(manifest) == 4
    assert all((tmp_path / slide).is_file() for slide in manifest["slide"])
    assert "arm" not in manifest
    assert sorted(design["arm"]) == ["placebo", "rapamycin"]
    share = {
        row.site: truth.summary["epidermis_positive_percent"]
        for row, truth in zip(manifest.itertuples(), truths, strict=True)
        if row.marker == "p16"
    }
    arms = dict(zip(design["arm"], design["site"], strict=True))
    assert share[arms["rapamycin"]] < share[arms["placebo"]]
    assert len(list((tmp_path / "truth").iterdir())) == 4 * 5


def test_phantom_shares_no_code_with_what_it_tests():
    code = (
        "import sys, histoquant.phantom\n"
        "names = [n for n in sys.modules if n.startswith('histoquant.')]\n"
        "print([n for n in names if not n.startswith('histoquant.phantom')])\n"
        "print([n for n in ('cv2', 'scipy', 'pandas', 'tifffile') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["['histoquant.errors']", "[]"]
