"""Nuclei of the dermis beside epithelium, told by what they look like on the slide itself."""

import numpy as np
import pandas as pd

from histoquant.nuclear_looks import tell_by_looks

GLASS_UM, JUNCTION_UM, WIDTH_UM = 20.0, 100.0, 600.0  # y of the surface, and of the junction


def kind(rng, places_um, eccentricity, area_um2=40.0, light=1.0):
    """A table of nuclei, each a little different."""
    n = len(places_um)
    return pd.DataFrame({
        "y_um": places_um[:, 0],
        "x_um": places_um[:, 1],
        "area_um2": area_um2 * np.exp(rng.normal(0, 0.2, n)),
        "eccentricity": np.clip(rng.normal(eccentricity, 0.05, n), 0, 0.995),
        "hematoxylin_od_mean": light * np.exp(rng.normal(0, 0.15, n)),
    })  # fmt: skip


def epidermis(rng, eccentricity=0.6, flat=0):
    """Nuclei 11 um apart; the `flat` rows at the surface are long."""
    y, x = np.mgrid[GLASS_UM + 4 : JUNCTION_UM - 3 : 11.0, 5:WIDTH_UM:11.0]
    places_um = np.stack([y.ravel(), x.ravel()], 1) + rng.normal(0, 1.0, (y.size, 2))
    own = kind(rng, places_um, eccentricity)
    upper = places_um[:, 0] < GLASS_UM + 11.0 * flat
    own.loc[upper, "eccentricity"] = np.clip(rng.normal(0.95, 0.02, upper.sum()), 0, 0.995)
    return own.assign(kind=np.where(upper, "flat", "epidermal"))


def dermis(rng, eccentricity=0.95):
    """Some 1,000 per mm2, and such as crowd against the junction."""
    n = int(1000 * WIDTH_UM * 300 * 1e-6)
    deep = np.stack([rng.uniform(JUNCTION_UM + 15, JUNCTION_UM + 315, n),
                     rng.uniform(0, WIDTH_UM, n)], 1)  # fmt: skip
    x = np.arange(6, WIDTH_UM, 14.0)
    against = np.stack([np.full(x.size, JUNCTION_UM + 5.0), x], 1)
    return pd.concat([
        kind(rng, deep, eccentricity).assign(kind="deep"),
        kind(rng, against, eccentricity).assign(kind="against"),
    ])  # fmt: skip


def told(*tables):
    """Share of each kind that is told to be of the dermis."""
    nuclei = pd.concat(tables, ignore_index=True)
    free_um = nuclei["y_um"].to_numpy() - GLASS_UM
    found, _ = tell_by_looks(nuclei.drop(columns="kind"), free_um)
    return pd.Series(found).groupby(nuclei["kind"]).mean()


def test_fibroblasts_against_the_junction_are_told_and_keratinocytes_are_not():
    rng = np.random.default_rng(0)
    share = told(epidermis(rng), dermis(rng))
    assert share["against"] > 0.6
    assert share["epidermal"] < 0.01


def test_what_is_sure_is_epidermal():
    rng = np.random.default_rng(0)
    nuclei = pd.concat([epidermis(rng), dermis(rng)], ignore_index=True)
    _, sure = tell_by_looks(nuclei, nuclei["y_um"].to_numpy() - GLASS_UM)
    assert sure[(nuclei["kind"] == "epidermal").to_numpy()].mean() > 0.9
    assert not sure[(nuclei["kind"] != "epidermal").to_numpy()].any()


def test_the_flat_nuclei_of_the_upper_epidermis_are_none():
    rng = np.random.default_rng(1)
    share = told(epidermis(rng, flat=2), dermis(rng))
    assert share["against"] > 0.5
    assert share["flat"] == 0


def test_the_flat_nuclei_below_a_thick_corneum_are_none():
    """Bits of keratin in it lie alone, far from glass."""
    rng = np.random.default_rng(7)
    corneum_um = 100.0
    places_um = np.stack(
        [rng.uniform(GLASS_UM - 60, GLASS_UM - 10, 30), rng.uniform(0, WIDTH_UM, 30)], 1
    )
    bits = kind(rng, places_um, 0.95).assign(kind="keratin")
    nuclei = pd.concat([epidermis(rng, flat=2), dermis(rng), bits], ignore_index=True)
    found, _ = tell_by_looks(
        nuclei.drop(columns="kind"), nuclei["y_um"].to_numpy() - GLASS_UM + corneum_um
    )
    share = pd.Series(found).groupby(nuclei["kind"]).mean()
    assert share["flat"] == 0
    assert share["against"] > 0.5


def test_a_bit_of_keratin_is_no_witness_of_dermis():
    """It lies alone, far enough from glass, with flat nuclei nearer to it than to the dermis."""
    rng = np.random.default_rng(2)
    bit = kind(rng, np.array([[GLASS_UM - 18.0, 300.0]]), 0.95).assign(kind="keratin")
    nuclei = pd.concat([epidermis(rng, flat=2), dermis(rng), bit], ignore_index=True)
    free_um = nuclei["y_um"].to_numpy() - GLASS_UM + 25.0
    free_um[-1] = 45.0  # corneum is folded there
    found, _ = tell_by_looks(nuclei.drop(columns="kind"), free_um)
    assert not found[(nuclei["kind"] == "flat").to_numpy()].any()


def test_where_both_kinds_look_alike_nobody_is_told():
    rng = np.random.default_rng(3)
    assert not told(epidermis(rng, eccentricity=0.9), dermis(rng, eccentricity=0.92)).any()


def test_too_few_do_not_teach():
    rng = np.random.default_rng(4)
    below = dermis(rng)
    few = pd.concat([below[below["kind"] == "deep"].iloc[:10], below[below["kind"] == "against"]])
    assert not told(epidermis(rng), few).any()
    assert not told(epidermis(rng).iloc[:5]).any()


def test_without_glass_nobody_is_told():
    rng = np.random.default_rng(8)
    nuclei = pd.concat([epidermis(rng, flat=2), dermis(rng)], ignore_index=True)
    strange, sure = tell_by_looks(nuclei, np.full(len(nuclei), np.inf))
    assert not strange.any()
    assert not sure.any()


def test_bits_of_keratin_do_not_teach():
    """They lie alone and are long, but at the surface."""
    rng = np.random.default_rng(6)
    below = dermis(rng)
    few = pd.concat([below[below["kind"] == "deep"].iloc[:10], below[below["kind"] == "against"]])
    places_um = np.stack([np.full(40, GLASS_UM - 25.0), np.linspace(0, WIDTH_UM, 40)], 1)
    assert not told(epidermis(rng), few, kind(rng, places_um, 0.95).assign(kind="keratin")).any()


def test_brightness_and_order_do_not_matter():
    rng = np.random.default_rng(5)
    nuclei = pd.concat([epidermis(rng), dermis(rng)], ignore_index=True)
    free_um = nuclei["y_um"].to_numpy() - GLASS_UM
    found, sure = tell_by_looks(nuclei, free_um)
    assert found.any()
    order = rng.permutation(len(nuclei))
    brighter = nuclei.assign(hematoxylin_od_mean=7 * nuclei["hematoxylin_od_mean"]).iloc[order]
    for again, first in zip(tell_by_looks(brighter, free_um[order]), (found, sure), strict=True):
        np.testing.assert_array_equal(again, first[order])
