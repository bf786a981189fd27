"""Trials of phantoms: who is enrolled and lost, and that the effects asked for are in the plan."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from histoquant.errors import SettingsError
from histoquant.phantom import Course, Trial, plan_trial, write_trial
from histoquant.phantom.recipe import Marker

KNOB: dict[Marker, str] = {"p16": "p16_basal_fraction", "col7": "col7_peak_od"}


def levels(trial: Trial, marker: Marker, visit: str) -> dict[str, dict[str, float]]:
    """Arm -> person -> level put into the recipe."""
    out: dict[str, dict[str, float]] = {"rapamycin": {}, "placebo": {}}
    for plan in plan_trial(trial, seed=7):
        if (plan["marker"], plan["visit"]) == (marker, visit):
            out[plan["arm"]][plan["person"]] = plan["overrides"][KNOB[marker]]
    return out


def logs(first: dict[str, float], second: dict[str, float]) -> np.ndarray:
    assert first.keys() == second.keys()
    return np.array([np.log(first[p] / second[p]) for p in first])


def test_the_model_trial_loses_whom_it_should() -> None:
    plans = plan_trial(Trial(), seed=7)
    people = {m: {p["person"] for p in plans if p["marker"] == m} for m in ("p16", "col7")}
    assert (len(people["p16"]), len(people["col7"])) == (8, 17)
    assert people["p16"] < people["col7"]
    assert len(plans) == 2 * (8 + 17)
    assert len({p["seed"] for p in plans}) == len({p["slide"] for p in plans}) == len(plans)


@pytest.mark.parametrize(("marker", "n"), [("p16", 8), ("col7", 17)])
def test_people_have_exactly_the_effect_and_spread_asked_for(marker: Marker, n: int) -> None:
    course = Trial().courses[marker]
    arms = levels(Trial(), marker, "month_8")
    effects = logs(arms["rapamycin"], arms["placebo"])
    assert effects.size == n
    assert np.exp(effects.mean()) == pytest.approx(course.ratio)
    assert effects.std(ddof=1) == pytest.approx(course.spread)


def test_baselines_are_equal_in_both_hands_and_changes_are_those_asked_for() -> None:
    course = Course(placebo=0.7, treated=0.9, spread=0.2)
    trial = Trial(people=9, lost=3, baseline=True, courses={"col7": course})
    before, after = levels(trial, "col7", "baseline"), levels(trial, "col7", "month_8")
    assert len(before["placebo"]) == 9
    assert len(after["placebo"]) == 6
    assert before["rapamycin"] == before["placebo"]
    for arm, change in (("placebo", 0.7), ("rapamycin", 0.9)):
        own = {p: v for p, v in before[arm].items() if p in after[arm]}
        assert np.exp(logs(after[arm], own).mean()) == pytest.approx(change)


def test_a_plan_follows_from_its_seed_and_hides_the_arm() -> None:
    assert plan_trial(Trial(), 3) == plan_trial(Trial(), 3)
    assert plan_trial(Trial(), 3) != plan_trial(Trial(), 4)
    assert not any(
        "rapamycin" in p["slide"] or "placebo" in p["slide"] for p in plan_trial(Trial(), 3)
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"people": 3, "lost": 4}, "3 people cannot lose 4"),
        ({"people": 0, "lost": 0}, "0 people"),
        ({"courses": {"ki67": Course()}}, "ki67"),
        ({"courses": {"p16": Course(treated=0.0)}}, "above 0"),
        ({"courses": {"p16": Course(n_people=18)}}, "17 were not lost"),
    ],
)
def test_impossible_trials_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Trial(**given)  # type: ignore[arg-type]


def test_a_trial_on_disk(tmp_path: Path) -> None:
    """One person with one marker is drawn, one is lost with a reason, nobody is left out."""
    trial = Trial(people=2, lost=1, courses={"col7": Course()})
    truths = write_trial(tmp_path, trial, seed=5, workers=1)
    manifest, design = (
        list(csv.DictReader((tmp_path / name).read_text(encoding="utf-8").splitlines()))
        for name in ("manifest.csv", "design.csv")
    )
    assert len(truths) == len(manifest) == 2
    assert all((tmp_path / row["slide"]).stat().st_size > 10_000 for row in manifest)
    assert "arm" not in manifest[0]
    assert {row["person"] for row in design} == {"P01", "P02"}
    (lost,) = {row["person"] for row in design} - {row["person"] for row in manifest}
    assert all(bool(row["reason"]) == (row["person"] == lost) for row in design)
    for person in ("P01", "P02"):
        arms = {row["arm"] for row in design if row["person"] == person}
        assert arms == {"rapamycin", "placebo"}
