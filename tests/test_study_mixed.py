"""The mixed model is the t test where they compute the same, and gives way with a reason."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histoquant.study import mixed
from histoquant.study.analyse import Material, analyse
from histoquant.study.mixed import (
    mixed_contrast,
    on_scale,
    person_contrasts,
    sample_table,
    section_table,
)
from histoquant.study.plan import Plan
from histoquant.study.sections import Section
from study_cohort import LEFT, RIGHT, markers, outcome, write_design

SUMMARY = "person-level summary"


def cohort(
    seed: int, n: int = 12, visits: str = "a", sections: int = 1, effect: float = 0.0, **sd: float
) -> pd.DataFrame:
    """Both hands of `n` people, `sections` rows a sample; the effect is there from visit b on."""
    rng = np.random.default_rng(seed)
    size = {"person": 0.5, "hand": 0.4, "visit": 0.3, "sample": 0.3, "response": 0.0, "rest": 0.2}
    size |= sd
    rows = []
    for i in range(n):
        person, response = rng.normal(0, size["person"]), rng.normal(0, size["response"])
        hands = rng.normal(0, size["hand"], 2)
        for v in visits:
            at = rng.normal(0, size["visit"])
            for side in (0, 1):
                sample = rng.normal(0, size["sample"])
                treated = side == i % 2
                gain = (effect + response) * treated * (v != visits[0] or len(visits) == 1)
                for _ in range(sections):
                    value = person + hands[side] + at + sample + gain + rng.normal(0, size["rest"])
                    rows.append((f"P{i:02}", "LR"[side], v, treated, value))
    return pd.DataFrame(rows, columns=list(mixed.COLUMNS))


def test_with_balanced_sections_the_model_is_the_paired_t_test() -> None:
    table = cohort(1, sections=3, effect=0.4)
    found = mixed_contrast(table)
    assert (found.method, found.reason) == ("mixed model", "")
    means = table.groupby(["person", "treated"])["value"].mean().unstack()
    test = stats.ttest_rel(means[True], means[False])
    limits = test.confidence_interval()
    assert found.summary.p == pytest.approx(test.pvalue, rel=1e-9)
    got = (found.effect.estimate, found.effect.low, found.effect.high, found.effect.p)
    wanted = ((means[True] - means[False]).mean(), limits.low, limits.high, test.pvalue)
    assert got == pytest.approx(wanted, rel=1e-3)  # REML stops near its optimum
    assert got[0] == pytest.approx(wanted[0], rel=1e-9)
    assert (found.n_people, found.n_rows, found.effect.df) == (12, 72, 11)


@pytest.mark.parametrize("seed", range(4))
def test_with_balanced_visits_the_model_is_the_t_test_of_the_changes(seed: int) -> None:
    table = cohort(seed, n=20, visits="ab", effect=-0.5)
    found = mixed_contrast(table, "a")
    if found.method == "mixed model":
        assert found.effect.se == pytest.approx(found.summary.se, rel=0.02)
    assert found.effect.estimate == pytest.approx(found.summary.estimate, rel=1e-9)


def test_variance_components_are_found_again() -> None:
    table = cohort(2, n=150, visits="ab", sections=2, hand=0.6, visit=0.5, sample=0.4, rest=0.3)
    found = mixed_contrast(table, "a")
    assert found.method == "mixed model"
    wanted = {"person": 0.25, "hand": 0.36, "visit": 0.25, "sample": 0.16, "residual": 0.09}
    assert found.variances == pytest.approx(wanted, abs=0.08)


def test_values_may_be_of_any_size() -> None:
    table = cohort(3, visits="ab", sections=2, effect=0.4)
    small = mixed_contrast(table.assign(value=table["value"] * 1e-4), "a")
    found = mixed_contrast(table, "a")
    assert small.method == found.method == "mixed model"
    assert small.effect.estimate == pytest.approx(1e-4 * found.effect.estimate, rel=1e-6)
    assert small.effect.p == pytest.approx(found.effect.p, rel=1e-2)


def test_sections_and_visits_are_not_people() -> None:
    """Ten times the sections: the interval of six people stays one of six people."""
    few, many = (mixed_contrast(cohort(5, n=6, sections=s, rest=0.01)) for s in (2, 20))
    assert many.effect.df == few.effect.df == 5
    width = [f.effect.high - f.effect.low for f in (few, many)]
    assert width[1] > 0.5 * width[0]


def test_people_with_one_hand_are_used_and_not_counted() -> None:
    table = cohort(6, n=12, sections=3)
    one_hand = table[(table["person"] != "P00") | table["treated"]]
    found = mixed_contrast(one_hand)
    assert found.n_people == 12
    assert found.effect.df == 10
    assert found.summary.n == 11


def test_a_singular_model_gives_way_with_the_component_named() -> None:
    found = mixed_contrast(cohort(8, sections=4, hand=0.0, sample=0.0))
    assert found.method == SUMMARY
    assert found.reason == "singular: no variance was found of hand"
    assert found.effect == found.summary
    assert found.variances["hand"] < 1e-3


@pytest.mark.parametrize("failure", ["raises", "does not converge"])
def test_a_model_that_cannot_be_fitted_gives_way(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    from statsmodels.regression.mixed_linear_model import MixedLM

    real = MixedLM.fit

    def fit(self: Any, **kwargs: Any) -> Any:
        warnings.warn("a warning of statsmodels\nin two lines", UserWarning, stacklevel=1)
        if failure == "raises":
            raise np.linalg.LinAlgError("Singular matrix")
        result = real(self, **kwargs)
        result.converged = False
        return result

    monkeypatch.setattr(MixedLM, "fit", fit)
    found = mixed_contrast(cohort(1, sections=3))
    assert found.method == SUMMARY
    assert ("Singular matrix" if failure == "raises" else "did not converge") in found.reason
    assert "a warning of statsmodels" in found.messages
    assert math.isfinite(found.effect.p)


@pytest.mark.parametrize(
    ("table", "baseline", "word"),
    [
        (cohort(1, n=0), "", "0 people"),
        (cohort(1, n=1, sections=3), "", "1 person"),
        (cohort(1, n=2, sections=3), "", "2 people"),
        (cohort(1), "", "one value per hand"),
        (cohort(1, sections=3).query("treated"), "", "one of the arms"),
        (cohort(1, sections=3), "z", "no value at the baseline z"),
        (cohort(1, sections=3), "a", "no value after the baseline"),
        (cohort(1, sections=3).assign(value=2.0), "", "all values are the same"),
        (cohort(1, sections=3).assign(value=0.0), "", "all values are the same"),
        (cohort(1, sections=3).assign(value=np.nan), "", "0 people"),
        (cohort(1, sections=3).assign(value=np.inf), "", "0 people"),
        (cohort(1, visits="ab").query("treated or visit == 'a'"), "", "a visit has one arm"),
    ],
)
def test_what_takes_no_model_gets_a_sentence(table: pd.DataFrame, baseline: str, word: str) -> None:
    found = mixed_contrast(table, baseline)
    assert word in found.reason
    assert found.method in (SUMMARY, "none")
    assert found.effect == found.summary
    if found.method == "none":
        assert found.summary.reason in found.reason


def test_contrasts_of_people_by_hand() -> None:
    rows = [
        ("P1", "L", "a", True, 1.0), ("P1", "R", "a", False, 2.0),
        ("P1", "L", "b", True, 4.0), ("P1", "L", "b", True, 6.0), ("P1", "R", "b", False, 3.0),
        ("P1", "L", "c", True, 7.0), ("P1", "R", "c", False, 3.0),
        ("P2", "L", "a", False, 1.0), ("P2", "R", "a", True, 1.0),
        ("P2", "L", "b", False, 2.0),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(mixed.COLUMNS))
    # P1: -1 at a, 2 at b, 4 at c. P2: 0 at a, alone at b.
    assert list(person_contrasts(table)) == pytest.approx([(-1 + 2 + 4) / 3, 0])
    assert list(person_contrasts(table, "a")) == pytest.approx([3 - -1])


def test_samples_of_all_visits_become_a_table(tmp_path: Path) -> None:
    per_mm = outcome("p16:positive_per_mm_dej")
    design = write_design(tmp_path / "design.csv", ["P1", "P2"], visits=("baseline", "month_8"))
    given = [("P1", "left_hand", "baseline", 2.0), ("P1", "right_hand", "month_8", 4.0),
             ("P2", "left_hand", "month_8", np.nan)]  # fmt: skip
    table, scale = sample_table(design, markers(given, per_mm.name), per_mm)
    assert scale == "log"
    assert table["value"].tolist() == pytest.approx(np.log([2, 4]))
    assert table["treated"].tolist() == [True, False]
    zero, scale = on_scale(table.assign(value=[0.0, 1.0]))
    assert (scale, zero["value"].tolist()) == ("linear", [0.0, 1.0])
    empty, _ = sample_table(design, markers([], per_mm.name), per_mm)
    assert mixed_contrast(empty).method == "none"


def test_a_table_without_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        mixed_contrast(pd.DataFrame({"person": ["P1"]}))


def slide_of(person: str, site: str, value: float | None, marker: str = "p16") -> Section:
    return Section(
        slide_id=f"{person}{site}", marker=marker, person=person, site=site, visit="month_8",
        batch="", summary={"positive_percent": value}, settings={}, nuclei=pd.DataFrame,
        junction=pd.DataFrame,
    )  # fmt: skip


def test_sections_become_rows_of_their_own(tmp_path: Path) -> None:
    design = write_design(tmp_path / "design.csv", ["P1", "P2"])
    slides = [
        slide_of("P1", LEFT, 2.0), slide_of("P1", LEFT, 4.0), slide_of("P1", RIGHT, 8.0),
        slide_of("P2", LEFT, 1.0), slide_of("P2", RIGHT, None), slide_of("P9", LEFT, 1.0),
        slide_of("P2", RIGHT, 3.0, marker="col7"),
    ]  # fmt: skip
    table, scale = section_table(design, slides, outcome("p16:positive_percent"))
    assert scale == "log"
    rows = list(table.itertuples(index=False, name=None))
    assert rows == [
        ("P1", LEFT, "month_8", True, math.log(2)),
        ("P1", LEFT, "month_8", True, math.log(4)),
        ("P1", RIGHT, "month_8", False, math.log(8)),
        ("P2", LEFT, "month_8", False, 0.0),
    ]


def test_repeated_sections_are_modelled_as_sections(tmp_path: Path) -> None:
    """Three sections a hand: the model's P is that of the people's means, not of 3 n rows."""
    people = [f"P{i}" for i in range(8)]
    design = write_design(tmp_path / "design.csv", people)
    rng = np.random.default_rng(4)
    slides, samples = [], []
    for i, person in enumerate(people):
        own_level = rng.normal(3, 0.5)
        for site in (LEFT, RIGHT):
            treated = (site == LEFT) == (i % 2 == 0)
            hand = rng.normal(-0.3 * treated, 0.3)
            values = np.exp(own_level + hand + rng.normal(0, 0.15, 3))
            slides += [slide_of(person, site, float(v)) for v in values]
            samples.append((person, site, "month_8", float(values.mean())))
        slides.append(slide_of(person, LEFT, None))
    table = markers(samples, "positive_percent")
    own = outcome("p16:positive_percent")
    material = Material(design, table, Plan(), None, slides)
    (text,) = (t for t in analyse(material, own, lead=True).more if "over all" in t)
    assert text.startswith("over all 48 sections, by mixed model: 0.")
    assert text.endswith("8 people")
    frame, _ = section_table(design, slides, own)
    means = frame.groupby(["person", "treated"])["value"].mean().unstack()
    p = stats.ttest_rel(means[True], means[False]).pvalue
    assert f"P = {p:.2g}" in text
    single = list({(s.person, s.site): s for s in slides[:-1]}.values())
    once = Material(design, table, Plan(), None, single)
    assert not any("over all" in t for t in analyse(once, own, lead=True).more)
