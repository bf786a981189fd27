"""Several sections on one slide: one picture, one scanner, one truth; and measured as one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
from scipy.spatial import cKDTree
from typer.testing import CliRunner

import histoquant as hq
from histoquant.cli import app
from histoquant.errors import SettingsError
from histoquant.phantom import preset_recipe, write_slide
from histoquant.phantom.tray import TrayRenderer, make_tray, tray_truth

PART = (0.6, 0.5)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A slide with two sections: path and truth."""
    path = tmp_path_factory.mktemp("pair") / "pair.ome.tif"
    return path, write_slide(path, "col7", 71, "easy", size_mm=PART, sections=2)


def test_the_first_section_is_that_of_a_slide_of_its_own(pair, tmp_path):
    _, both = pair
    alone = write_slide(tmp_path / "alone.ome.tif", "col7", 71, "easy", size_mm=PART)
    first = both.junction[both.junction["section"] == 0]
    for name in ("x_px", "y_px", "arc_um", "in_gap"):
        np.testing.assert_array_equal(first[name], alone.junction[name])
    np.testing.assert_array_equal(both.nuclei["x_px"][: len(alone.nuclei)], alone.nuclei["x_px"])


def test_sections_differ_but_for_the_scanner():
    tray = make_tray("p16", 5, "typical", preset_recipe("typical"), 0.5, PART, None, 3)
    assert len({scene.angle_deg for scene in tray.scenes}) == 3
    assert len({len(scene.nuclei) for scene in tray.scenes}) > 1
    assert all(scene.scanner is tray.first.scanner for scene in tray.scenes)


def test_windows_across_sections_are_cut_from_one_picture():
    tray = make_tray("p16", 5, "typical", preset_recipe("typical"), 0.5, PART, None, 2)
    renderer = TrayRenderer(tray)
    seam = tray.lefts_px[1]
    whole = renderer.render(300, seam - 100, 64, 200)
    np.testing.assert_array_equal(renderer.render(310, seam - 20, 32, 50), whole[10:42, 80:130])
    beside = whole[:, 90:110].astype(float)  # glass: no step where the parts meet
    assert abs(beside[:, :10].mean() - beside[:, 10:].mean()) < 0.4


def test_tables_of_all_sections_lie_on_the_slide_and_sum_up(pair):
    path, truth = pair
    with tifffile.TiffFile(path) as file:
        height, width = file.pages[0].shape[:2]
    assert (truth.summary["shape_px"], truth.summary["sections"]) == ([height, width], 2)
    half = width / 2
    for table in (truth.nuclei, truth.junction, truth.gaps):
        assert (table["x_px"] < half).any()
        assert (table["x_px"] > half).any()
        assert table["x_px"].between(0, width).all()
    lengths = truth.junction.groupby("section")[["x_px", "y_px"]].apply(
        lambda line: np.hypot(*np.diff(line.to_numpy(), axis=0).T).sum() * truth.summary["mpp"]
    )
    assert lengths.sum() == pytest.approx(truth.summary["dej_length_um"], rel=0.01)
    assert truth.junction["stretch"].nunique() == 2
    middle = truth.gaps["start_um"] / 2 + truth.gaps["end_um"] / 2
    at = np.abs(truth.junction["arc_um"].to_numpy() - middle.to_numpy()[:, None]).argmin(axis=1)
    assert truth.junction["in_gap"].to_numpy(bool)[at].all()
    assert truth.summary["n_nuclei"] == len(truth.nuclei)


def test_both_sections_are_measured(pair):
    path, truth = pair
    result = hq.quantify(path, "col7")
    assert len(result.junction_line.stretches) == 2
    line = truth.junction[["y_px", "x_px"]].to_numpy() * truth.summary["mpp"]
    points = np.concatenate([s.points_um for s in result.junction_line.stretches])
    away = cKDTree(points).query(line)[0]
    assert np.median(away) < 2
    assert np.quantile(away, 0.95) < 8
    assert result.summary["dej_length_mm"] * 1000 == pytest.approx(
        truth.summary["dej_length_um"], rel=0.04
    )


def test_the_command_line_draws_several_sections(tmp_path):
    run = CliRunner().invoke
    path = tmp_path / "two.ome.tif"
    arguments = ["phantom", str(path), "--sections", "2", "--size", "0.5", "0.45", "--mpp", "1"]
    assert run(app, arguments).exit_code == 0
    truth = json.loads((tmp_path / "truth" / "two_summary.json").read_text())
    assert truth["sections"] == 2
    assert truth["shape_px"] == [450, 1000]
    refused = run(app, [*arguments, "--fluorescence"])
    assert refused.exit_code != 0
    with pytest.raises(SettingsError, match="at least one"):
        write_slide(path, sections=0)


def test_skin_with_incidents_keeps_its_stretches_apart():
    recipe = preset_recipe("typical_skin")
    tray = make_tray("col7", 3, "typical_skin", recipe, 0.5, (0.9, 0.7), None, 2)
    table = tray_truth(tray, "both").junction
    per_section = table.groupby("section")["stretch"].unique()
    assert not set(per_section[0]) & set(per_section[1])
    assert table["hidden"].isin(["", "fold", "detached"]).all()
