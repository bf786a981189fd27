"""The threshold sweep of a slide, and of the sections of a sample together."""

import pandas as pd
import pytest

from histoquant import rates
from histoquant.columns import SAMPLE_SWEEP, SWEEP
from histoquant.settings import P16Settings
from histoquant.sweep import pool_sweeps, threshold_sweep
from histoquant.tables import conform

SETTINGS = P16Settings(sweep_od=(0.1, 0.2, 0.6))


def nuclei(dab, compartment="epidermis_basal", ring=0.0, excluded=False):
    return pd.DataFrame(
        {
            "dab_od_mean": dab,
            "ring_dab_od_mean": ring,
            "compartment": compartment,
            "excluded": excluded,
        }
    )


def test_percent_falls_with_the_threshold_and_haze_is_never_positive():
    table = pd.concat(
        [
            nuclei([0.05, 0.15, 0.25, 0.45]),
            nuclei([0.7], "dermis_papillary"),
            nuclei([0.3], ring=0.28),
            nuclei([0.9], excluded=True),
        ]
    )
    sweep = threshold_sweep(table, SETTINGS)
    conform(sweep, SWEEP, "sweep.csv")
    every = sweep[sweep["compartment"] == "all"]
    assert every["n_nuclei"].tolist() == [6, 6, 6]
    assert every["n_positive"].tolist() == [4, 3, 1]
    low, high = rates.percent(3, 6)[1:]
    row = every.iloc[1]
    assert (row["positive_percent_low"], row["positive_percent_high"]) == pytest.approx((low, high))
    basal = sweep[sweep["compartment"] == "epidermis_basal"]
    assert basal["n_positive"].tolist() == [3, 2, 0]


def test_no_nuclei_no_rows():
    assert threshold_sweep(nuclei([]), SETTINGS).empty


def about(slide_id, person="P1", site="left", control="none"):
    keys = {"person": person, "site": site, "visit": "m8", "marker": "p16", "control": control}
    return keys | {"slide_id": slide_id}


def rows(table, sweep_od=(0.1, 0.2, 0.6)):
    return threshold_sweep(table, P16Settings(sweep_od=sweep_od)).to_dict("records")


def test_sections_pool_by_counts():
    one, two = nuclei([0.15, 0.25, 0.0]), nuclei([0.7, 0.0], "dermis_papillary")
    pooled = pool_sweeps([(about("b"), rows(two)), (about("a"), rows(one))])
    conform(pooled, SAMPLE_SWEEP, "sweep.csv")
    assert (pooled["n_sections"] == 2).all()
    every = pooled[pooled["compartment"] == "all"]
    assert every["threshold_od"].tolist() == [0.1, 0.2, 0.6]
    assert every["n_nuclei"].tolist() == [5, 5, 5]
    assert every["n_positive"].tolist() == [3, 2, 1]
    assert every["positive_percent"].tolist() == pytest.approx([60, 40, 20])
    basal = pooled[pooled["compartment"] == "epidermis_basal"]
    assert basal["n_nuclei"].tolist() == [3, 3, 3]


def test_samples_controls_and_nameless_slides_stay_apart():
    sweep = rows(nuclei([0.15, 0.25]))
    given = [about("a"), about("b", site="right"), about("c", control="negative")]
    given += [about("d", person=""), about("e", person="")]
    pooled = pool_sweeps([(sample, sweep) for sample in given])
    assert len(pooled[pooled["compartment"] == "all"]) == 5 * 3
    assert (pooled["n_sections"] == 1).all()


def test_only_thresholds_that_every_section_has_are_pooled():
    table = nuclei([0.15, 0.25])
    pooled = pool_sweeps([(about("a"), rows(table)), (about("b"), rows(table, (0.2, 0.3)))])
    assert set(pooled["threshold_od"]) == {0.2}


def test_sections_without_a_sweep_are_left_out():
    assert pool_sweeps([(about("a"), [])]).empty
    pooled = pool_sweeps([(about("a"), rows(nuclei([0.3]))), (about("b"), [])])
    assert (pooled["n_sections"] == 1).all()
