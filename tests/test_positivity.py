"""Haze, pigment and runs: what makes a brown nucleus doubtful."""

import numpy as np
import pandas as pd
import pytest

from helpers import junction_of
from histoquant.positivity import BASAL, SUPRABASAL, block_runs, grade, in_haze, pigment_score
from histoquant.settings import P16Settings

SETTINGS = P16Settings()


def nuclei(**columns):
    """A table of nuclei: basal, plain, and positive unless `columns` say otherwise."""
    n = max(len(np.atleast_1d(v)) for v in columns.values())
    plain = {
        "dab_od_mean": 0.3,
        "dab_od_sd": 0.05,
        "ring_dab_od_mean": 0.05,
        "red_blue_ratio": 0.8,
        "compartment": BASAL,
        "dej_distance_um": -6.0,
        "excluded": False,
        "x_um": np.arange(n) * 8.0 + 4,
        "y_um": 44.0,
    }
    return pd.DataFrame({k: np.broadcast_to(v, n) for k, v in {**plain, **columns}.items()})


# --- haze ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dab", "ring", "positive", "haze"),
    [
        (0.25, 0.05, True, False),
        (0.25, 0.20, False, True),  # as brown as what surrounds it
        (0.25, 0.185, True, False),  # 0.065 above it
        (0.39, 0.38, False, True),
        (0.40, 0.45, True, False),  # strong: p16 stains the cytoplasm, too
        (0.25, np.nan, True, False),  # no ring: nothing says otherwise
        (0.19, 0.18, False, False),  # below the threshold anyway
    ],
)
def test_a_nucleus_must_stand_out_from_its_cytoplasm(dab, ring, positive, haze):
    graded = grade(nuclei(dab_od_mean=dab, ring_dab_od_mean=ring), SETTINGS, has_marker=True)
    assert graded["positive"].tolist() == [positive]
    assert graded["haze_suspected"].tolist() == [haze]
    assert (graded["intensity_class"] > 0).tolist() == [positive]


def test_the_rule_can_be_turned_off():
    table = nuclei(dab_od_mean=0.25, ring_dab_od_mean=0.24)
    assert not in_haze(table, SETTINGS.model_copy(update={"min_over_ring_od": 0.0})).any()


def test_without_a_marker_nothing_is_doubtful():
    graded = grade(nuclei(dab_od_mean=np.nan), SETTINGS, has_marker=False)
    assert graded["positive"].isna().all()
    assert not graded["haze_suspected"].any()
    assert not graded["pigment_suspected"].any()


# --- pigment ---------------------------------------------------------------------------------


def test_pigment_takes_texture_colour_and_position():
    table = nuclei(
        dab_od_sd=[0.16, 0.05, 0.16, 0.16, 0.16, np.nan],
        red_blue_ratio=[1.06, 1.06, 0.8, 1.06, 1.06, 1.06],
        compartment=[BASAL, BASAL, BASAL, SUPRABASAL, SUPRABASAL, BASAL],
        dej_distance_um=[-6, -6, -6, -14, -45, -6],
    )
    assert pigment_score(table) == pytest.approx([1, 0, 0, 0.967, 0.5, 0], abs=0.01)


def test_without_colours_pigment_is_unknown():
    graded = grade(nuclei(dab_od_sd=0.15, red_blue_ratio=[np.nan] * 2), SETTINGS, has_marker=True)
    assert graded["pigment_score"].isna().all()
    assert not graded["pigment_suspected"].any()


def test_only_positive_nuclei_are_suspected():
    table = nuclei(dab_od_mean=[0.3, 0.1], dab_od_sd=[0.16, 0.06], red_blue_ratio=1.1)
    graded = grade(table, SETTINGS, has_marker=True)
    assert graded["pigment_suspected"].tolist() == [True, False]


# --- runs ------------------------------------------------------------------------------------

LINE = np.column_stack([np.full(401, 50.0), np.arange(401.0)])


def runs(positive, **columns):
    table = nuclei(positive=np.asarray(positive, bool), **columns)
    return block_runs(table, junction_of(LINE), SETTINGS)


def test_a_run_is_of_neighbours_along_the_junction():
    flagged, count = runs([0] * 3 + [1] * 8 + [0] + [1] * 7 + [0])
    assert flagged.tolist() == [False] * 3 + [True] * 8 + [False] * 9
    assert count == 1


def test_two_runs_and_their_order_in_the_table_does_not_matter():
    positive = np.array([1] * 9 + [0] + [1] * 8)
    flagged, count = runs(positive)
    assert count == 2
    order = np.random.default_rng(1).permutation(len(positive))
    x = np.arange(len(positive)) * 8.0 + 4
    shuffled, again = runs(positive[order], x_um=x[order])
    assert again == 2
    assert shuffled.tolist() == flagged[order].tolist()


def test_a_gap_ends_a_run():
    x = np.arange(10) * 8.0 + np.where(np.arange(10) < 5, 0, 30)
    assert runs([1] * 10, x_um=x)[1] == 0
    assert runs([1] * 10)[1] == 1


def test_excluded_and_suprabasal_nuclei_neither_count_nor_interrupt():
    positive = [1] * 4 + [0, 0] + [1] * 4
    compartment = [BASAL] * 4 + [SUPRABASAL, BASAL] + [BASAL] * 4
    excluded = [False] * 5 + [True] + [False] * 4
    x = [4, 12, 20, 28, 30, 32, 36, 44, 52, 60]
    flagged, count = runs(positive, compartment=compartment, excluded=excluded, x_um=x)
    assert count == 1
    assert flagged.tolist() == [bool(p) for p in positive]


def test_runs_do_not_cross_from_one_stretch_to_the_next():
    table = nuclei(positive=np.ones(10, bool), y_um=[44.0] * 5 + [244.0] * 5)
    two = junction_of(LINE, LINE + np.array([200.0, 0.0]))
    assert block_runs(table, two, SETTINGS)[1] == 0


def test_without_basal_nuclei_there_are_no_runs():
    assert runs([1] * 10, compartment=SUPRABASAL)[1] == 0
