"""Skin with follicles, glands, pigment and damage: the truth says what the picture shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely

from histoquant.errors import SettingsError
from histoquant.phantom.fluorescence import FluorescenceRenderer, fluorescence_recipe
from histoquant.phantom.incidents import MANY, SOME, Incidents
from histoquant.phantom.recipe import preset_recipe
from histoquant.phantom.render import Renderer
from histoquant.phantom.scene import make_scene
from histoquant.phantom.truth import make_truth

BUSY = replace(
    MANY, follicles_per_mm=3.0, open_share=1.0, glands_per_mm=5.0, missing_share=(0.12, 0.13),
    detached_share=(0.0, 0.0), folds_per_mm=0.0,
)  # fmt: skip


def scene_of(incidents, marker="col7", seed=3):
    recipe = preset_recipe("typical", incidents=incidents)
    return make_scene(marker, seed, "typical", recipe, 1.0, (1.2, 0.7), 0.0)


@pytest.fixture(scope="module")
def busy():
    scene = scene_of(BUSY)
    return scene, make_truth(scene, "busy")


def shapes(truth):
    found = {}
    for feature in truth.compartments["features"]:
        name = feature["properties"]["classification"]["name"]
        rings = feature["geometry"]["coordinates"]
        polygon = shapely.Polygon(rings[0], rings[1:]).buffer(0)
        found[name] = found.get(name, shapely.Polygon()).union(polygon)
    return found


def test_the_line_is_junction_of_surface_epidermis_only(busy):
    scene, truth = busy
    assert {"hair_follicle", "gland", "epidermis", "dermis"} <= set(shapes(truth))
    line = truth.junction[["x_px", "y_px"]].to_numpy()
    follicles = shapes(truth)["hair_follicle"].buffer(-3)
    assert not shapely.contains_xy(follicles, line).any()
    whole = scene.junction.length_um
    assert truth.junction["stretch"].nunique() >= 3
    assert 0.4 * whole < truth.summary["dej_length_um"] < 0.9 * whole
    ((low, high),) = scene.extras.damage.missing
    s, _ = scene.section.frame.to_tissue(line[:, 1] * scene.mpp, line[:, 0] * scene.mpp)
    assert not ((s > low + 1) & (s < high - 1)).any()


def test_appendages_have_a_lining_and_nuclei_of_their_own(busy):
    scene, truth = busy
    kinds = truth.nuclei.groupby("compartment").size()
    assert kinds["adnexa"] > 100
    own = truth.nuclei[truth.nuclei["compartment"] == "adnexa"]
    both = shapes(truth)["hair_follicle"].union(shapes(truth)["gland"])
    assert shapely.contains_xy(both.buffer(3), own[["x_px", "y_px"]].to_numpy()).mean() > 0.98
    picture = Renderer(scene).render(0, 0, *scene.shape)
    blue = -np.log10(np.maximum(picture[..., 2], 1) / scene.scanner.white[2])
    on, beside = rim_and_beside(truth, scene.shape)
    assert blue[on].mean() > blue[beside].mean() + 0.15


def rim_and_beside(truth, shape):
    """Pixels on the outline of the glands, and some 10 px outside of it."""
    gland = shapes(truth)["gland"]
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    rim = gland.exterior if hasattr(gland, "exterior") else gland.boundary
    return tuple(
        shapely.contains_xy(where, x, y)
        for where in (rim.buffer(1.0), gland.buffer(14).difference(gland.buffer(8)))
    )


def test_in_fluorescence_linings_shine_and_pigment_takes_light(busy):
    scene, truth = busy
    top, left, height, width = 200, 200, 260, 420
    part = np.s_[top : top + height, left : left + width]
    recipe = fluorescence_recipe("hard_skin")

    def light(drawn):
        renderer = FluorescenceRenderer(drawn, recipe)
        return renderer.render_channels(top, left, height, width).astype(float)

    def inside(points):
        rows, columns = (points - [top, left]).astype(int).T
        kept = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return rows[kept], columns[kept]

    grey = light(scene)
    on, beside = (mask[part] for mask in rim_and_beside(truth, scene.shape))
    assert grey[1][on].mean() > 1.3 * grey[1][beside].mean()
    own = truth.nuclei[truth.nuclei["compartment"] == "adnexa"]
    nuclei = grey[0][inside(own[["y_px", "x_px"]].to_numpy())]
    assert len(nuclei) > 50
    assert np.median(nuclei) > 3 * np.median(grey[0][beside])

    bare = replace(scene, extras=replace(scene.extras, pigment=scene.extras.pigment[:0]))
    clear = light(bare)
    y, x = inside(scene.extras.pigment[:, :2] / scene.mpp)
    assert len(y) > 3
    assert np.mean(grey[:, y, x] / clear[:, y, x]) < 0.9
    assert np.mean(grey[:, beside] == clear[:, beside]) > 0.9


def test_without_epidermis_there_is_glass(busy):
    scene, _ = busy
    ((low, high),) = scene.extras.damage.missing
    s = np.linspace(low + 12, high - 12, 40)
    y, x = scene.section.frame.to_slide(s, scene.section.junction(s) - 15)
    picture = Renderer(scene).render(0, 0, *scene.shape)
    assert picture[y.astype(int), x.astype(int)].min() > 215


def test_pixels_with_incidents_do_not_depend_on_tiles(busy):
    scene, _ = busy
    whole = Renderer(scene).render(200, 300, 120, 160)
    part = Renderer(scene).render(240, 350, 50, 60)
    assert (whole[40:90, 50:110] == part).all()


def test_plain_skin_has_neither_incidents_nor_their_columns():
    scene = scene_of(None)
    assert scene.extras is None
    truth = make_truth(scene, "plain")
    assert "stretch" not in truth.junction
    assert "incidents" not in truth.summary["recipe"]
    recipe = preset_recipe("hard_skin")
    assert recipe.incidents == MANY
    assert preset_recipe("typical_skin").as_dict()["incidents"]["glands_per_mm"] == pytest.approx(
        SOME.glands_per_mm
    )


def test_incidents_that_make_no_sense_are_refused():
    with pytest.raises(SettingsError, match="missing_share"):
        Incidents(missing_share=(0.2, 0.9))
    with pytest.raises(SettingsError, match="glands_per_mm"):
        Incidents(glands_per_mm=-1)
