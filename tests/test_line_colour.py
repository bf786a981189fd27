"""Stain vectors taken from the line: drawn with known ones, beside nuclei of another stain."""

import numpy as np
import pytest

from helpers import DEPTH, FWHM_SIGMAS, lined
from histoquant.collagen7 import measure_collagen7
from histoquant.line_colour import colour_of_line, in_own_colour
from histoquant.settings import Settings
from histoquant.stains import PRESETS, StainModel, angle_deg, unmix
from histoquant.straightening import Straightened, channel_od, unmixed_again

SETTINGS = Settings()
COL7 = SETTINGS.collagen7
WHITE = (240.0, 240.0, 240.0)
PRESET = StainModel.preset("hdab", WHITE)
_, HEMATOXYLIN, DAB = PRESETS["hdab"]


def towards(vector, other, degrees):
    """`vector` turned by degrees towards `other`."""
    v, o = np.asarray(vector), np.asarray(other)
    across = o - (o @ v) / (v @ v) * v
    angle = np.deg2rad(degrees)
    turned = np.cos(angle) * v / np.linalg.norm(v) + np.sin(angle) * across / np.linalg.norm(across)
    return tuple(turned)


def drawn(dab=DAB, hematoxylin=HEMATOXYLIN, strength=1.0, length_um=400.0, noise=0.008, blur=0.0):
    """A line of `dab` under basal nuclei of `hematoxylin`, unmixed with the preset; its bins."""
    plain, bins = lined(0.7 * strength, 2.4, 0.5, 0.0, length_um=length_um)
    rng = np.random.default_rng(5)
    arc, rows = plain.arc_um, len(plain.arc_um)
    brown = plain.od * (1 + 0.2 * np.sin(arc / 9)[:, None]) + 0.02
    centres = np.cumsum(rng.uniform(6, 12, rows))
    centres = centres[centres < length_um]
    nuclei = np.exp(-(((arc[:, None] - centres) / 2.2) ** 4)).sum(axis=1)
    blue = np.outer(nuclei, 0.4 * np.exp(-(((DEPTH + 5) / 3.2) ** 4)))
    blue += (
        0.35
        * (rng.random((rows // 10 + 1, 12)).repeat(10, 0)[:rows].repeat(6, 1) > 0.7)[
            :, : len(DEPTH)
        ]
        * (DEPTH < -8)
    )  # the layers above
    blue += 0.08 - 0.02 * np.tanh(DEPTH - 0.5)  # epidermis a little bluer than dermis
    od = brown[..., None] * np.asarray(dab) + blue[..., None] * np.asarray(hematoxylin)
    if blur:
        from scipy.ndimage import gaussian_filter1d

        od = -np.log10(gaussian_filter1d(10.0**-od, blur / plain.step_um, axis=1, mode="nearest"))
    od = (od + rng.normal(0, noise, od.shape)).astype(np.float32)
    stains = unmix(od, PRESET)
    found = Straightened(
        stains[..., 1], stains[..., 0], plain.saturated, plain.stretch, arc, DEPTH,
        stains[..., 2], channel_od(PRESET),
    )  # fmt: skip
    return found, bins


def colour(found, bins):
    table, *_ = measure_collagen7(found, bins, COL7)
    return colour_of_line(found, table, PRESET, COL7)


def integral(found, bins):
    _, summary, _ = measure_collagen7(found, bins, COL7)
    return summary["integrated_od_um_mean"]


TRUE = 0.7 * 2.4 / FWHM_SIGMAS * np.sqrt(2 * np.pi)


@pytest.mark.parametrize("degrees", [-5.0, 0.0, 5.0])
def test_the_lines_own_vector_is_found_and_measures_its_density(degrees):
    own = towards(DAB, HEMATOXYLIN, degrees)
    found, bins = drawn(own)
    got = colour(found, bins)
    assert not got.refused
    assert angle_deg(got.marker, own) < 1.0
    again, model, told = in_own_colour(found, PRESET, bins, SETTINGS)
    assert told["line_colour"]["refused"] == ""
    assert model.vectors[1] == pytest.approx(got.marker, abs=1e-4)
    assert "the slide's own line" in model.source
    no_optics = COL7.model_copy(update={"optics_fwhm_um": 0.0})
    _, summary, _ = measure_collagen7(again, bins, no_optics)
    off = abs(summary["integrated_od_um_mean"] / TRUE - 1)
    assert off < 0.03
    if degrees:
        _, plain, _ = measure_collagen7(found, bins, no_optics)
        assert abs(plain["integrated_od_um_mean"] / TRUE - 1) > off + 0.05


def test_a_weaker_line_has_the_same_colour():
    own = towards(DAB, HEMATOXYLIN, 4)
    strong, weak = (colour(*drawn(own, strength=s)) for s in (1.0, 0.3))
    assert not weak.refused
    assert angle_deg(strong.marker, weak.marker) < 1.0


def test_hematoxylin_that_is_not_the_presets_is_no_collagen():
    """Nuclei whose blue passes for DAB, and hides it, change the integral by little."""
    values = []
    for degrees in (-4, 0, 4):
        found, bins = drawn(hematoxylin=towards(HEMATOXYLIN, DAB, degrees))
        again, *_ = in_own_colour(found, PRESET, bins, SETTINGS)
        values.append(integral(again, bins))
    assert max(values) / min(values) < 1.02


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"strength": 0.0}, "only 0 bins"),
        ({"length_um": 100.0}, "15 are needed"),
        ({"dab": HEMATOXYLIN}, "degrees away|bins hold"),
        ({"dab": (0.07, 0.99, 0.1)}, "degrees away|bins hold"),
    ],
)
def test_without_a_line_of_dab_the_preset_stays(how, why):
    import re

    found, bins = drawn(**how)
    again, model, told = in_own_colour(found, PRESET, bins, SETTINGS)
    assert again is found
    assert model.vectors[:2] == PRESET.vectors[:2]
    assert "refused" in model.source
    assert re.search(why, told["line_colour"]["refused"])


def test_a_line_beside_what_is_as_brown_keeps_the_preset(monkeypatch):
    """A false line along brown corneum: the two vectors would be one, and the slide would fail."""
    monkeypatch.setattr("histoquant.line_colour._follows_hematoxylin", lambda *_: 3.0)
    found, bins = drawn()
    told = colour(found, bins)
    assert "degrees from it" in told.refused
    assert (told.hematoxylin, told.marker) == PRESET.vectors[:2]
    measured, model, _ = in_own_colour(found, PRESET, bins, SETTINGS)
    assert measured is found
    assert "degrees from it" in model.source


@pytest.mark.parametrize(
    "changed",
    [
        {"collagen7": {"vectors": "stains"}},
        {"stains": {"second": DAB}},
        {"stains": {"source": "slide"}},
    ],
)
def test_vectors_that_were_asked_for_hold(changed):
    found, bins = drawn(towards(DAB, HEMATOXYLIN, 4))
    settings = Settings.model_validate(changed)
    assert in_own_colour(found, PRESET, bins, settings) == (found, PRESET, {})


def test_unmixing_again_is_unmixing_with_the_other_vectors():
    found, _ = drawn()
    other = StainModel.preset("hdab", WHITE, second=towards(DAB, HEMATOXYLIN, 5))
    stains = np.stack([found.hematoxylin, found.od, found.residual], axis=-1)
    od = (stains.astype(float) @ np.asarray(PRESET.vectors)).astype(np.float32)
    again = unmixed_again(found, PRESET, other)
    wanted = unmix(od, other)
    for k, plane in enumerate((again.hematoxylin, again.od, again.residual)):
        np.testing.assert_allclose(plane, wanted[..., k], atol=1e-5)
    back = unmixed_again(again, other, PRESET)
    np.testing.assert_allclose(back.od, found.od, atol=1e-5)


def test_what_optics_take_from_the_integral_is_given_back():
    """Blurred light: most of what is lost comes back, and nothing of a line of light."""
    fwhm = COL7.optics_fwhm_um
    sharp, bins = drawn(noise=0.0)
    blurred, _ = drawn(noise=0.0, blur=fwhm / FWHM_SIGMAS)
    plain = COL7.model_copy(update={"optics_fwhm_um": 0.0})
    true = measure_collagen7(sharp, bins, plain)[1]["integrated_od_um_mean"]
    lost = measure_collagen7(blurred, bins, plain)[1]["integrated_od_um_mean"]
    back = measure_collagen7(blurred, bins, COL7)[1]["integrated_od_um_mean"]
    assert lost < 0.98 * true
    assert abs(back - true) < 0.35 * abs(lost - true)
    light = Straightened(
        blurred.od, blurred.hematoxylin, blurred.saturated, blurred.stretch, blurred.arc_um, DEPTH
    )
    for settings in (plain, COL7):
        _, summary, _ = measure_collagen7(light, bins, settings)
        assert summary["integrated_od_um_mean"] == pytest.approx(lost, rel=1e-6)
