"""From the marker table to pairs: keys, outcomes, who is lost and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histoquant.errors import StudyError
from histoquant.study import outcomes, samples
from histoquant.study.design import Design, read_design
from histoquant.study.outcomes import declared_outcomes, default_outcomes
from histoquant.study.pairs import Pairs, make_pairs, pairs_from_arrays, site_values
from histoquant.study.samples import read_markers, reasons_of

PER_MM = "p16:positive_per_mm_dej"


def outcome(text: str = PER_MM) -> outcomes.Outcome:
    return declared_outcomes({"primary": [text]})[0]


def write_markers(folder: Path, rows: list[dict[str, object]]) -> Path:
    base = {"visit": "month_8", "marker": "p16", "n_sections": 2, "control": "none"}
    frame = pd.DataFrame([base | row for row in rows])
    frame.to_csv(folder / "markers.csv", index=False)
    return folder


def design_of(folder: Path, people: list[str], visits: tuple[str, ...] = ("month_8",)) -> Design:
    rows = [
        f"{person},{site},{visit},{arm},"
        for person in people
        for visit in visits
        for site, arm in (("left", "placebo"), ("right", "drug"))
    ]
    path = folder / "design.csv"
    path.write_text("person,site,visit,arm,reason\n" + "\n".join(rows), encoding="utf-8")
    return read_design(path)


def sample(person: str, site: str, value: object, **more: object) -> dict[str, object]:
    return {"person": person, "site": site, "positive_per_mm_dej": value} | more


def test_names_stay_text_and_numbers_are_numbers(tmp_path: Path) -> None:
    folder = write_markers(tmp_path, [sample("007", "left", 3.5), sample("NA", "right", "")])
    table = read_markers(folder)
    assert list(table["person"]) == ["007", "NA"]
    assert table["positive_per_mm_dej"].dtype == np.float64
    assert np.isnan(table["positive_per_mm_dej"][1])


def test_a_table_that_is_none_of_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no marker table .* run `histoquant tables`"):
        read_markers(tmp_path)
    (tmp_path / "markers.csv").write_text("nucleus_id,positive\na,1\n", encoding="utf-8")
    with pytest.raises(StudyError, match="its rows are nuclei, not samples"):
        read_markers(tmp_path)
    folder = write_markers(tmp_path, [sample("P01", "left", "many")])
    with pytest.raises(
        StudyError, match="not numbers: positive_per_mm_dej 'many' of P01, left, month_8"
    ):
        read_markers(folder)


def test_pairs_and_the_lost(tmp_path: Path) -> None:
    rows = [
        sample("P01", "left", 10.0),
        sample("P01", "right", 7.0),
        sample("P02", "left", 12.0),
        sample("P03", "left", 9.0),
        sample("P03", "right", "", reasons="positive_per_mm_dej: no nuclei; h_score: no nuclei"),
        sample("P04", "left", "inf"),
        sample("P04", "right", 3.0),
    ]
    markers = read_markers(write_markers(tmp_path, rows))
    design = design_of(tmp_path, ["P01", "P02", "P03", "P04", "P05"])
    pairs = make_pairs(design, markers, outcome())
    assert (pairs.people, pairs.n, pairs.n_enrolled) == (("P01",), 1, 5)
    assert (pairs.treated[0], pairs.placebo[0], pairs.difference[0]) == (7.0, 10.0, -3.0)
    assert pairs.lost == {
        "P02": "right (drug): no p16 sample at month_8",
        "P03": "right (drug): no nuclei",
        "P04": "left (placebo): positive_per_mm_dej is infinite",
        "P05": "no p16 sample at month_8",
    }
    assert pairs.baseline_treated is None
    assert np.isnan(pairs.numerators).all()  # the table lacks the counts


def test_the_designs_reason_comes_first(tmp_path: Path) -> None:
    markers = read_markers(write_markers(tmp_path, [sample("P01", "left", 10.0)]))
    path = tmp_path / "design.csv"
    path.write_text(
        "person,site,visit,arm,reason\nP01,left,month_8,placebo,\nP01,right,month_8,drug,bruised\n",
        encoding="utf-8",
    )
    pairs = make_pairs(read_design(path, markers), markers, outcome())
    assert pairs.lost == {"P01": "right (drug): bruised"}


def test_one_arm_missing_leaves_no_pair_and_says_why(tmp_path: Path) -> None:
    rows = [sample(p, "left", 1.0) for p in ("P01", "P02")]
    markers = read_markers(write_markers(tmp_path, rows))
    pairs = make_pairs(design_of(tmp_path, ["P01", "P02"]), markers, outcome())
    assert pairs.n == 0
    assert set(pairs.lost.values()) == {"right (drug): no p16 sample at month_8"}


def test_counts_and_baselines_travel_with_the_pairs(tmp_path: Path) -> None:
    counts = {"n_epidermis_positive_measured": 40, "measured_length_mm": 4.0}
    rows = [sample("P01", s, 10.0, **counts) for s in ("left", "right")]
    rows += [sample("P02", s, 10.0, **counts) for s in ("left", "right")]
    rows += [sample("P01", s, 5.0, visit="baseline") for s in ("left", "right")]
    rows += [sample("P02", "left", 6.0, visit="baseline")]
    markers = read_markers(write_markers(tmp_path, rows))
    design = design_of(tmp_path, ["P01", "P02"], ("baseline", "month_8"))
    pairs = make_pairs(design, markers, outcome())
    np.testing.assert_array_equal(pairs.numerators, np.full((2, 2), 40.0))
    np.testing.assert_array_equal(pairs.denominators, np.full((2, 2), 4.0))
    np.testing.assert_array_equal(pairs.baseline_placebo, [5.0, 6.0])
    np.testing.assert_array_equal(pairs.baseline_treated, [5.0, np.nan])
    assert pairs.baseline_missing == {"P02": "right (drug): no p16 sample at baseline"}
    before = make_pairs(design, markers, outcome(), "baseline")
    assert before.people == ("P01",)
    assert before.baseline_treated is None


def test_site_values_hold_everyone(tmp_path: Path) -> None:
    markers = read_markers(write_markers(tmp_path, [sample("P01", "right", 2.0)]))
    found = site_values(design_of(tmp_path, ["P01", "P02"]), markers, outcome(), "month_8")
    np.testing.assert_array_equal(found.values, [[2.0, np.nan], [np.nan, np.nan]])
    assert not found.complete.any()
    assert found.reasons["P01", 1] == "no p16 sample at month_8"


def test_a_visit_that_is_not_planned_for_someone(tmp_path: Path) -> None:
    markers = read_markers(write_markers(tmp_path, [sample("P01", "right", 2.0)]))
    pairs = make_pairs(design_of(tmp_path, ["P01"]), markers, outcome(), "month_6")
    assert pairs.lost == {"P01": "not in the design at month_6"}


def test_a_person_counts_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="nuclei, bins and sections are pooled"):
        Pairs(outcome(), "", ("P01", "P01"), np.ones(2), np.ones(2), 2)
    with pytest.raises(StudyError, match="differ in number"):
        Pairs(outcome(), "", ("P01",), np.ones(2), np.ones(2), 2)
    with pytest.raises(StudyError, match="not finite"):
        Pairs(outcome(), "", ("P01",), np.ones(1), np.array([np.nan]), 2)
    rows = [sample("P01", "left", 1.0)] * 2
    markers = read_markers(write_markers(tmp_path, rows))
    with pytest.raises(StudyError, match="p16 of P01, left, month_8 has 2 rows"):
        make_pairs(design_of(tmp_path, ["P01"]), markers, outcome())


def test_a_table_without_the_outcome(tmp_path: Path) -> None:
    markers = read_markers(write_markers(tmp_path, [sample("P01", "left", 1.0)]))
    with pytest.raises(StudyError, match="no column h_score"):
        make_pairs(design_of(tmp_path, ["P01"]), markers, outcome("p16:h_score"))


def test_pairs_from_plain_values() -> None:
    pairs = pairs_from_arrays(outcome(), [1, np.nan, 3], [4, 5, np.inf])
    assert (pairs.n, pairs.n_enrolled) == (1, 3)
    assert pairs.lost == {"002": "a value is not finite", "003": "a value is not finite"}
    with pytest.raises(StudyError, match="2 treated and 1 placebo"):
        pairs_from_arrays(outcome(), [1, 2], [1])


def test_reasons_with_semicolons_inside() -> None:
    text = "h_score: no nuclei; see the overlay; mpp: sections differ: 0.25, 0.5"
    assert reasons_of(text) == {
        "h_score": "no nuclei; see the overlay",
        "mpp": "sections differ: 0.25, 0.5",
    }
    assert reasons_of(np.nan) == {}


def test_without_a_plan_everything_is_exploratory() -> None:
    found = default_outcomes(["p16", "col7"])
    assert {o.role for o in found} == {"exploratory"}
    assert len({o.key for o in found}) == len(found)
    by_key = {o.key: o for o in found}
    assert by_key[PER_MM].direction == "lower"
    assert by_key["col7:continuity_percent"].direction == "higher"
    assert by_key["p16:epidermis_thickness_um_mean"].marker == "p16"
    assert {o.marker for o in default_outcomes(["col7"])} == {"col7"}


def test_roles_directions_and_counts_of_declared_outcomes() -> None:
    roles = {"secondary": ["continuity_percent"], "primary": [PER_MM, "p16:h_score"]}
    found = declared_outcomes(roles, {"p16:h_score": "higher"})
    assert [(o.key, o.role) for o in found] == [
        (PER_MM, "primary"),
        ("p16:h_score", "primary"),
        ("col7:continuity_percent", "secondary"),
    ]
    assert found[1].direction == "higher"
    assert (found[0].numerator, found[0].denominator) == (
        "n_epidermis_positive_measured",
        "measured_length_mm",
    )
    assert found[0].is_rate
    assert not found[0].is_percent
    assert outcome("p16:positive_percent").is_percent
    assert not found[1].is_rate


def test_every_wrong_outcome_is_named() -> None:
    roles = {"main": ["h_score"], "primary": ["nonsense", "ridges_per_mm", "p16:h_score"],
             "secondary": ["h_score", "p16:slides"]}  # fmt: skip
    directions = {"p16:h_score": "up", "continuity_percent": "lower"}
    with pytest.raises(StudyError) as caught:
        declared_outcomes(roles, directions)
    text = str(caught.value)
    for words in (
        "role 'main' is not one of",
        "'nonsense' is no outcome",
        "write p16:ridges_per_mm or col7:ridges_per_mm",
        "p16:h_score is declared twice",
        "'p16:slides' is no outcome",
        "direction 'up' of p16:h_score",
        "a direction is given for col7:continuity_percent",
    ):
        assert words in text


def test_limits_are_no_outcomes() -> None:
    assert not [n for n in outcomes.numeric_columns("p16") if n.endswith(("_low", "_high"))]
    assert set(samples.KEYS) == {"person", "site", "visit", "marker"}
