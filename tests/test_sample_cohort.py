"""The sample cohort, measured, against what is known about it."""

import json

import pandas as pd
import pytest

from helpers import SAMPLES, on_two_cores
from histoquant.pipeline import quantify

# Figure, where it stands in the truth, factor from its unit to the truth's, how far off it may
# be, and of what the distance is taken.
P16 = [
    ("n_nuclei", "n_nuclei", 1, 0.10, "relative"),
    ("positive_percent", "positive_percent", 1, 3.0, "points"),
    ("epidermis_positive_percent", "epidermis_positive_percent", 1, 3.0, "points"),
    ("dej_length_mm", "dej_length_um", 1e3, 0.05, "relative"),
    ("epidermis_thickness_um_mean", "epidermis_thickness_um_mean", 1, 0.08, "relative"),
]
COL7 = [
    ("continuity_percent", "continuity_percent", 1, 5.0, "points"),
    ("integrated_od_um_mean", "integrated_od_um_mean", 1, 0.12, "relative"),
    ("dej_length_mm", "dej_length_um", 1e3, 0.05, "relative"),
    ("epidermis_thickness_um_mean", "epidermis_thickness_um_mean", 1, 0.08, "relative"),
]


def measure(slide, marker):
    result = quantify(SAMPLES / slide, marker)
    truth = json.loads((SAMPLES / "truth" / f"{result.slide_id}_summary.json").read_text())
    return {"slide": slide, **result.summary} | {f"true_{k}": v for k, v in truth.items()}


@pytest.fixture(scope="session")
def cohort():
    """One row a slide: every figure, the design, and the truth in columns ``true_*``."""
    slides = pd.read_csv(SAMPLES / "manifest.csv").merge(
        pd.read_csv(SAMPLES / "design.csv"), on=["person", "site", "visit"]
    )
    rows = on_two_cores(measure, list(slides[["slide", "marker"]].itertuples(index=False)))
    return slides.merge(pd.DataFrame(rows), on="slide")


@pytest.mark.parametrize(
    ("marker", "figure", "truth", "factor", "limit", "kind"),
    [("p16", *row) for row in P16] + [("col7", *row) for row in COL7],
)
def test_every_slide_is_close_to_its_truth(cohort, marker, figure, truth, factor, limit, kind):
    table = cohort.loc[cohort["marker"] == marker, ["slide", figure, f"true_{truth}"]].copy()
    assert len(table) == 8
    table["measured"], table["true"] = factor * table.pop(figure), table.pop(f"true_{truth}")
    table["off"] = table["measured"] - table["true"]
    if kind == "relative":
        table["off"] /= table["true"]
    assert (table["off"].abs() <= limit).all(), "\n" + table.to_string()
    # What is off one way on one slide and the other way on the next is noise, not bias.
    assert abs(table["off"].mean()) <= limit / 2, "\n" + table.to_string()


@pytest.mark.parametrize(
    ("marker", "figure", "sign"),
    [
        ("p16", "positive_percent", -1),
        ("p16", "epidermis_positive_percent", -1),
        ("p16", "positive_per_mm_dej", -1),
        ("p16", "h_score", -1),
        ("col7", "integrated_od_um_mean", 1),
        ("col7", "peak_od_median", 1),
        ("col7", "continuity_percent", 1),
    ],
)
def test_the_treated_hand_stands_out_in_every_person(cohort, marker, figure, sign):
    arms = cohort[cohort["marker"] == marker].pivot(index="person", columns="arm", values=figure)
    assert len(arms) == 4
    assert (sign * (arms["rapamycin"] - arms["placebo"]) > 0).all(), "\n" + arms.to_string()
