"""Nuclei drawn as discs and ellipses are found whole; things that are no nuclei are not."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import numpy as np
import pytest
from numpy.typing import NDArray

from histoquant import nuclei as module
from histoquant.errors import SettingsError
from histoquant.nuclei import measure_nuclei, segment_nuclei
from histoquant.settings import NucleiSettings

MPP = 0.5
SETTINGS = NucleiSettings()


def canvas(size_um: float = 60.0, mpp: float = MPP) -> NDArray[np.float32]:
    side = round(size_um / mpp)
    return np.zeros((side, side, 3), np.float32)


def draw(
    stains: NDArray[np.float32],
    centre_um: tuple[float, float],
    semi_um: tuple[float, float],
    od: tuple[float, float],
    angle_deg: float = 0.0,
    mpp: float = MPP,
) -> NDArray[np.bool_]:
    """Put a soft-edged ellipse into `stains`; its mask."""
    y, x = (np.indices(stains.shape[:2]) + 0.5) * mpp
    cosine, sine = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    v = cosine * (y - centre_um[0]) + sine * (x - centre_um[1])
    u = -sine * (y - centre_um[0]) + cosine * (x - centre_um[1])
    radius = np.sqrt((v / semi_um[0]) ** 2 + (u / semi_um[1]) ** 2)
    soft = np.clip((1 - radius) * min(semi_um) / mpp + 0.5, 0, 1).astype(np.float32)
    for channel, value in enumerate(od):
        stains[..., channel] = np.maximum(stains[..., channel], soft * value)
    return radius <= 1


def measure(stains: NDArray[np.float32], mpp: float = MPP) -> dict[str, NDArray[np.float64]]:
    return measure_nuclei(segment_nuclei(stains, mpp, SETTINGS), stains, mpp, SETTINGS)


@pytest.mark.parametrize(
    ("semi_um", "od"),
    [
        pytest.param((4, 4), (0.15, 0.0), id="pale blue"),
        pytest.param((4, 4), (0.7, 0.0), id="dark blue"),
        pytest.param((4, 4), (0.1, 0.25), id="pale brown"),
        pytest.param((4, 4), (0.3, 1.5), id="dark brown"),
        pytest.param((1.6, 7.5), (0.4, 0.0), id="spindle fibroblast"),
        pytest.param((6, 3), (0.4, 0.4), id="basal, upright"),
    ],
)
@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.7])
def test_one_nucleus_is_found_whole(
    semi_um: tuple[float, float], od: tuple[float, float], mpp: float
) -> None:
    stains = canvas(mpp=mpp)
    draw(stains, (30.3, 29.1), semi_um, od, angle_deg=20, mpp=mpp)
    found = measure(stains, mpp)
    assert len(found["label"]) == 1
    assert found["y_px"] * mpp == pytest.approx(30.3, abs=0.3)
    assert found["x_px"] * mpp == pytest.approx(29.1, abs=0.3)
    assert found["area_um2"] == pytest.approx(np.pi * semi_um[0] * semi_um[1], rel=0.35)


def test_touching_nuclei_are_split_and_a_pale_one_beside_a_dark_one_is_found() -> None:
    stains = canvas(80)
    draw(stains, (20, 20), (4, 4), (0.4, 0.0))
    draw(stains, (20, 28.5), (4, 4), (0.4, 0.0))
    draw(stains, (55, 40), (4, 4), (0.2, 0.9))
    draw(stains, (55, 48.5), (4.5, 4.5), (0.2, 0.0))
    found = measure(stains)
    centres = np.column_stack((found["y_px"], found["x_px"])) * MPP
    for truth in ((20, 20), (20, 28.5), (55, 40), (55, 48.5)):
        assert np.hypot(*(centres - truth).T).min() < 1.5
    assert len(centres) == 4


def test_what_is_no_nucleus() -> None:
    stains = canvas(120)
    draw(stains, (20, 20), (0.5, 0.5), (0.4, 0.4))  # granule
    stains[100:103, :, 1] = 0.6  # a line right across, as collagen VII
    draw(stains, (85, 85), (24, 24), (0.3, 0.3))  # far larger than a nucleus
    draw(stains, (30, 70), (4, 4), (0.02, 0.0))  # fainter than the least contrast
    assert measure(stains)["label"].size == 0


def test_eosin_is_not_nuclear_and_has_no_dab_columns() -> None:
    stains = canvas()
    draw(stains, (15, 15), (4, 4), (0.5, 0.1))
    draw(stains, (40, 40), (4, 4), (0.0, 0.8))
    labels = segment_nuclei(stains, MPP, SETTINGS, second_is_marker=False)
    found = measure_nuclei(labels, stains, MPP, SETTINGS, second_is_marker=False)
    assert len(found["label"]) == 1
    assert np.isnan([found["dab_od_mean"], found["ring_dab_od_mean"]]).all()


def test_ring_is_background_around_the_nucleus_only() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:20, 5:15] = 7
    labels[10:20, 17:27] = 3  # two background columns between them: one for each ring
    stains = np.zeros((40, 40, 3), np.float32)
    stains[labels == 7, 1] = 0.8
    stains[labels == 3, 1] = 0.3
    stains[labels == 0, 1] = 0.1
    stains[:, 15, 1] = 0.5
    found = measure_nuclei(labels, stains, MPP, SETTINGS)
    assert found["label"].tolist() == [3, 7]
    assert found["dab_od_mean"] == pytest.approx([0.3, 0.8])
    assert found["dab_od_median"] == pytest.approx([0.3, 0.8])
    assert found["area_um2"].tolist() == [25, 25]
    assert found["ring_dab_od_mean"][0] == pytest.approx(0.1)
    assert 0.1 < found["ring_dab_od_mean"][1] < 0.2
    walled = np.ones((6, 6), np.int32)
    assert np.isnan(measure_nuclei(walled, stains[:6, :6], MPP, SETTINGS)["ring_dab_od_mean"])


def test_saturation_and_colour_ratio() -> None:
    labels = np.zeros((10, 10), np.int32)
    labels[2:6, 2:6] = 1
    od = np.full((10, 10, 3), 0.5, np.float32)
    od[2, 2:6] = 2.5
    od[..., 2] = 1.0
    found = measure_nuclei(labels, od, MPP, SETTINGS, od=od, max_od=2.5)
    assert found["saturated_fraction"].tolist() == [0.25]
    assert found["red_blue_ratio"] == pytest.approx([1.0])


@pytest.mark.parametrize("mpp", [0.27, 0.5, 0.6, 0.7])
def test_no_nucleus_is_longer_than_the_halo_provides_for(mpp: float) -> None:
    stains = canvas(200, mpp=mpp)
    for k, length_um in enumerate(np.linspace(23.5, 26.5, 11)):
        draw(stains, (15 + 16 * k, 100), (2.2, length_um / 2), (0.5, 0.0), mpp=mpp)
    found = measure(stains, mpp)
    assert len(found["label"]) > 2
    assert ((found["right_px"] - found["left_px"]) * mpp).max() <= module.MAX_EXTENT_UM


def test_no_nuclei_is_no_error() -> None:
    found = measure(canvas(10))
    assert {v.shape for v in found.values()} == {(0,)}


@pytest.mark.parametrize("offset", [(0, 0), (3, 7), (41, 18)])
def test_a_window_does_not_show(offset: tuple[int, int]) -> None:
    """What lies further from the window's end than the halo is the same, bit for bit."""
    rng = np.random.default_rng(4)
    stains = rng.normal(0, 0.02, (640, 640, 3)).astype(np.float32)
    for y, x in rng.uniform(0, 320, (500, 2)):
        semi = tuple(rng.uniform(2, 5, 2))
        od = (rng.uniform(0.1, 0.6), rng.choice([0.0, 0.5]))
        corner = int(max(y * 2 - 20, 0)), int(max(x * 2 - 20, 0))
        patch = stains[corner[0] : corner[0] + 40, corner[1] : corner[1] + 40]
        draw(patch, (y - corner[0] / 2, x - corner[1] / 2), semi, od, rng.uniform(0, 180))
    top, left = offset
    window = np.ascontiguousarray(stains[top : top + 560, left : left + 580])
    whole, part = measure(stains), measure(window)
    names = [n for n in whole if n not in ("label", "y_px", "x_px")]
    halo = round(module.HALO_UM / MPP)

    def rows(found: dict[str, NDArray[np.float64]], y0: int, x0: int) -> set[tuple[float, ...]]:
        y = found["top_px"] + y0 + found["from_top_px"]
        x = found["left_px"] + x0 + found["from_left_px"]
        inside = (y >= 41 + halo) & (y < 560 - halo) & (x >= 18 + halo) & (x < 580 - halo)
        keep = [n for n in names if not n.endswith("_px") or n.startswith("from")]
        return set(
            zip(
                y[inside],
                x[inside],
                *(np.nan_to_num(found[n][inside], nan=-9) for n in keep),
                strict=True,
            )
        )

    expected = rows(whole, 0, 0)
    assert len(expected) > 20
    assert rows(part, top, left) == expected


def test_another_segmenter_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints([EntryPoint("ones", "numpy:ones_like", module.SEGMENTER_GROUP)])
    monkeypatch.setattr(module, "entry_points", lambda group: points.select(group=group))
    assert module.find_segmenter("ones") is np.ones_like
    with pytest.raises(SettingsError, match="'nobody' is not installed; found classical, ones"):
        segment_nuclei(canvas(5), MPP, NucleiSettings(segmenter="nobody"))
