"""A study from tables to page: what is written, what it says, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histoquant import tables
from histoquant.errors import DesignError, ResultError, StudyError
from histoquant.phantom import Course, Trial, plan_trial
from histoquant.study.columns import TABLES, table_csv
from histoquant.study.means import number
from histoquant.study.outcomes import declared_outcomes
from histoquant.study.plan import read_plan
from histoquant.study.power import Question
from histoquant.study.run import StudyResult, plan_next, run_study

# The contract: other people's scripts rely on these names, in this order.
CONTRASTS = [
    "marker", "outcome", "role", "n_enrolled", "n_pairs", "treated_median", "placebo_median",
    "ratio", "ratio_low", "ratio_high", "difference_hl", "difference_low", "difference_high",
    "p_signed_rank", "p_sign_flip", "p_t", "p_floor", "p_holm", "p_bh", "dz",
]  # fmt: skip
REVERSAL = [
    "outcome", "treated_change", "placebo_change", "difference_in_differences", "did_low",
    "did_high", "p", "reading",
]  # fmt: skip
FILES = {"contrasts.csv", "flow.csv", "missing.csv", "sensitivity.csv", "adequacy.csv",
         "columns.json", "section.html", "study.html", "study.json"}  # fmt: skip
SITES = ("left_hand", "right_hand")
PLAN = """
primary = ["p16:positive_percent"]
secondary = ["col7:integrated_od_um_mean"]
exploratory = ["p16:positive_per_mm_dej", "col7:peak_od_median"]
[arms]
treated = "cream"
placebo = "vehicle"
"""
Value = Callable[[int, str, str, bool], float | None]
"""(person, marker, visit, treated) -> value, None where there is no sample."""


def write_study(
    folder: Path,
    people: int,
    value: Value,
    visits: Sequence[str] = ("month_8",),
    markers: Sequence[str] = ("p16", "col7"),
    plan: str = PLAN,
) -> Path:
    """``markers.csv``, design and plan of a study without slides; returns the results directory."""
    rows, design = [], ["person,site,visit,arm,reason"]
    for i in range(people):
        for visit in visits:
            for j, site in enumerate(SITES):
                treated = (i + j) % 2 == 0
                arm = "cream" if treated else "vehicle"
                gone = all(value(i, m, visit, t) is None for m in markers for t in (True, False))
                design.append(f"P{i:02d},{site},{visit},{arm},{'withdrew <&' if gone else ''}")
                for marker in markers:
                    own = value(i, marker, visit, treated)
                    if own is not None:
                        rows.append(_sample(f"P{i:02d}", site, visit, marker, own))
    results = folder / "results"
    results.mkdir(parents=True)
    columns = [c.name for c in tables.marker_columns()]
    pd.DataFrame(rows, columns=columns).to_csv(results / "markers.csv", index=False)
    (folder / "design.csv").write_text("\n".join(design) + "\n")
    (folder / "plan.toml").write_text(plan)
    return results


def _sample(person: str, site: str, visit: str, marker: str, own: float) -> dict[str, object]:
    row = {"person": person, "site": site, "visit": visit, "marker": marker, "n_sections": 1}
    row |= {"control": "none", "n_edits": 0}
    if marker == "col7":
        return row | {"integrated_od_um_mean": own, "peak_od_median": own / 3}
    return row | {
        "positive_percent": own,
        "n_nuclei": 1000,
        "n_positive": round(10 * own) if np.isfinite(own) else 0,
        "positive_per_mm_dej": 5 * own,
        "n_epidermis_positive_measured": round(5 * own) if np.isfinite(own) else 0,
        "measured_length_mm": 1.0,
        "positive_percent_without_pigment": 0.9 * own,
    }


def effects(n: int, mean: float, spread: float, seed: int) -> np.ndarray:
    """(n,) log ratios with exactly this mean and standard deviation."""
    x = np.random.default_rng(seed).standard_normal(n)
    return mean + spread * (x - x.mean()) / x.std(ddof=1)


def model_trial(i: int, marker: str, visit: str, treated: bool) -> float | None:
    """36 people: p16 of 8, collagen VII of 17; published strength."""
    kept, log = (8, P16) if marker == "p16" else (17, COL7)
    if i >= kept:
        return None
    start = (18.0 if marker == "p16" else 1.7) * np.exp(0.1 * np.sin(7.0 * i))
    return float(start * np.exp(log[i] * (0.5 if treated else -0.5)))


P16, COL7 = effects(8, np.log(0.55), 0.2, 1), effects(17, np.log(1.25), 0.3, 2)


def baselines(i: int, marker: str, visit: str, treated: bool) -> float | None:
    """12 people, 4 lost: p16 goes back on the treated hand, collagen VII falls on both."""
    if visit == "month_8" and i >= 8:
        return None
    start = (18.0 if marker == "p16" else 1.7) * np.exp(0.1 * np.cos(5.0 * i))
    if visit == "baseline":
        return float(start * np.exp(0.02 * np.sin(3.0 * i + treated)))
    change = {("p16", True): 0.55, ("p16", False): 1.1, ("col7", True): 0.88}.get(
        (marker, treated), 0.7
    )
    return float(start * change * np.exp(0.05 * np.sin(11.0 * i + 2 * treated)))


class Page(HTMLParser):
    """The words of a page, and every address and tag in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.addresses, self.tags = "", list[str](), list[str]()
        self.feed(html)
        self.words = re.sub(r"\s+", " ", self.words)

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def read(result: StudyResult, name: str) -> pd.DataFrame:
    return pd.read_csv(result.directory / name)


def line(table: pd.DataFrame, outcome: str) -> pd.Series:
    (row,) = [r for _, r in table.iterrows() if r["outcome"] == outcome]
    return row


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("model")
    results = write_study(folder, 36, model_trial)
    return run_study(results, folder / "design.csv", folder / "plan.toml")


@pytest.fixture(scope="module")
def with_baselines(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("baselines")
    results = write_study(folder, 12, baselines, visits=("baseline", "month_8"))
    return run_study(results, folder / "design.csv", folder / "plan.toml")


# What is written


def test_files_and_columns_are_those_of_the_contract(model: StudyResult) -> None:
    names = {p.name for p in model.directory.iterdir()}
    assert names == FILES | {"figures"}
    assert list(read(model, "contrasts.csv").columns)[: len(CONTRASTS)] == CONTRASTS
    for name in ("contrasts.csv", "flow.csv", "missing.csv", "sensitivity.csv"):
        assert list(read(model, name).columns) == [c.name for c in TABLES[name]]
        assert len(read(model, name)) > 0
    figures = {p.name for p in (model.directory / "figures").iterdir()}
    assert {"flow.svg", "forest.svg", "pairs_p16_positive_percent.svg",
            "pairs_col7_integrated_od_um_mean.svg", "agreement_pigment.svg"} == figures  # fmt: skip


def test_every_column_has_a_unit_and_a_meaning(model: StudyResult) -> None:
    told = json.loads((model.directory / "columns.json").read_text(encoding="utf-8"))
    assert set(told) == set(TABLES)
    for name, columns in TABLES.items():
        assert [c["name"] for c in told[name]] == [c.name for c in columns]
        assert all(len(c["meaning"]) > 5 for c in told[name])
        assert all(c["unit"] for c in told[name] if c["dtype"] != "string")
    with pytest.raises(ResultError, match="unregistered"):
        table_csv("flow.csv", [dict.fromkeys([c.name for c in TABLES["flow.csv"]], 1) | {"x": 1}])


def test_reversal_is_written_where_there_are_baselines(
    model: StudyResult, with_baselines: StudyResult
) -> None:
    assert not (model.directory / "reversal.csv").exists()
    columns = list(read(with_baselines, "reversal.csv").columns)
    assert [c for c in columns if c in REVERSAL] == REVERSAL
    assert columns == [c.name for c in TABLES["reversal.csv"]]


def test_writing_again_replaces_all_of_it_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = write_study(tmp_path, 6, model_trial)
    run_study(results, tmp_path / "design.csv")
    before = {p.name: p.read_bytes() for p in (results / "study").iterdir() if p.is_file()}
    (results / "study" / "figures" / "stale.svg").write_text("old")

    def fail(*_: object) -> str:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("histoquant.study.page.whole", fail)
        with pytest.raises(OSError, match="full"):
            run_study(results, tmp_path / "design.csv")
    assert (results / "study" / "figures" / "stale.svg").exists()
    run_study(results, tmp_path / "design.csv")
    assert not (results / "study" / "figures" / "stale.svg").exists()
    again = {p.name: p.read_bytes() for p in (results / "study").iterdir() if p.is_file()}
    dated = ("study.json", "section.html", "study.html")
    assert {n: b for n, b in again.items() if n not in dated} == {
        n: b for n, b in before.items() if n not in dated
    }
    assert [p.name for p in results.iterdir() if p.name.startswith(".")] == []


def test_what_others_keep_in_the_study_folder_is_never_deleted(tmp_path: Path) -> None:
    results = write_study(tmp_path, 6, model_trial)
    run_study(results, tmp_path / "design.csv")
    kept = results / "study" / "my_notes.txt"
    kept.write_text("mine")
    with pytest.raises(StudyError, match=r"my_notes\.txt"):
        run_study(results, tmp_path / "design.csv")
    assert kept.read_text() == "mine"
    kept.unlink()
    inside = results / "study" / "design.csv"
    inside.write_bytes((tmp_path / "design.csv").read_bytes())
    with pytest.raises(StudyError, match="move it out"):
        run_study(results, inside)
    assert inside.exists()


def test_the_marker_table_that_is_there_is_the_one_analysed(tmp_path: Path) -> None:
    results = write_study(tmp_path, 6, model_trial)
    before = (results / "markers.csv").read_bytes()
    run_study(results, tmp_path / "design.csv")
    assert (results / "markers.csv").read_bytes() == before


# What it finds


def test_the_model_trial_is_found_with_its_published_strength(model: StudyResult) -> None:
    table = read(model, "contrasts.csv")
    p16, col7 = line(table, "positive_percent"), line(table, "integrated_od_um_mean")
    assert (p16["n_enrolled"], p16["n_pairs"], col7["n_pairs"]) == (36, 8, 17)
    assert p16["ratio"] == pytest.approx(0.55)
    assert col7["ratio"] == pytest.approx(1.25)
    assert p16["ratio_low"] < 0.55 < p16["ratio_high"] < 1
    assert p16["p_signed_rank"] == p16["p_floor"] == 2 / 2**8
    assert col7["p_t"] == pytest.approx(0.0074, abs=1e-4)
    assert 0.002 < col7["p_signed_rank"] < 0.02
    assert (p16["role"], col7["role"]) == ("primary", "secondary")
    assert col7["p_holm"] == pytest.approx(col7["p_t"])
    assert table.loc[table["role"] == "exploratory", "p_bh"].notna().all()
    assert table.loc[table["role"] == "exploratory", "p_holm"].isna().all()


def test_the_default_trial_of_phantoms_has_this_strength() -> None:
    """The slides of the example are drawn with what the test above analyses."""
    courses = Trial().courses
    assert courses["p16"] == Course(treated=0.55, spread=0.2, n_people=8)
    assert courses["col7"] == Course(treated=1.25, spread=0.3)


@pytest.mark.parametrize(("name", "slides"), [("model_trial", 50), ("with_baselines", 80)])
def test_the_example_has_valid_plans_and_trials(name: str, slides: int) -> None:
    folder = Path(__file__).parents[1] / "examples" / "model_trial"
    spec = importlib.util.spec_from_file_location("model_trial_example", folder / "run.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = example  # dataclasses look their module up
    spec.loader.exec_module(example)
    own = example.EXAMPLES[name]
    plan = read_plan(folder / f"{name}.toml")
    outcomes = {o.key: o.role for o in declared_outcomes(plan.roles, plan.direction)}
    assert outcomes["p16:positive_percent"] == "primary"
    assert {f"{m}:{figure}" for m, figure in example.FIGURES.items()} <= set(outcomes)
    assert bool(plan.visits.baseline) == own.trial.baseline == bool(own.readings)
    assert len(plan_trial(own.trial, 2019)) == slides


def test_reversal_and_slowed_progression_are_told_apart(with_baselines: StudyResult) -> None:
    table = read(with_baselines, "reversal.csv")
    assert line(table, "positive_percent")["reading"] == "reversal"
    assert line(table, "integrated_od_um_mean")["reading"] == "slowed progression"
    at_the_end = read(with_baselines, "contrasts.csv")
    col7 = line(at_the_end, "integrated_od_um_mean")
    assert col7["ratio_low"] > 1  # at follow-up alone it would look like an improvement
    assert line(table, "integrated_od_um_mean")["treated_high"] < 1


def test_flow_counts_everyone_once(model: StudyResult) -> None:
    flow = read(model, "flow.csv")
    for outcome, n in (("positive_percent", 8), ("integrated_od_um_mean", 17)):
        own = flow[flow["outcome"] == outcome].set_index("stage")
        assert own.loc["enrolled", "people"] == 36
        assert own.loc["analysed", "people"] == n
        lost = flow[(flow["outcome"] == outcome) & (flow["stage"] == "lost")]
        assert lost["people"].sum() == 36 - n
        assert lost["sites"].sum() == 72 - 2 * n
    drawn = (model.directory / "figures" / "flow.svg").read_text(encoding="utf-8")
    for words in (
        "36 people, 72 sites",
        "No pair at month_8: 19 people, 38 sites",
        "19: withdrew &lt;&amp;",
        "8 people, 16 sites",
        "17 people, 34 sites",
    ):
        assert words in drawn


def test_lost_people_can_overturn_the_weaker_result(model: StudyResult) -> None:
    missing = read(model, "missing.csv").set_index(["outcome", "analysis"])
    tip = missing.loc[("integrated_od_um_mean", "tipping point"), "estimate"]
    assert 1 < tip < 1.25
    worst = missing.loc[("integrated_od_um_mean", "every missing pair as the lowest seen")]
    assert worst["estimate"] < 1
    strong = missing.loc[("positive_percent", "every missing pair as the highest seen")]
    assert strong["high"] < 1


# What the page says


def test_the_page_stands_alone(model: StudyResult, with_baselines: StudyResult) -> None:
    for result in (model, with_baselines):
        html = (result.directory / "study.html").read_text(encoding="utf-8")
        page = Page(html)
        assert not re.search(r"https?://|url\(|@import", html)
        assert page.addresses == []
        assert not {"script", "link", "img", "iframe"} & set(page.tags)
        assert "default-src 'none'" in html
        assert page.tags.count("svg") == len(list((result.directory / "figures").iterdir()))
        assert "nan" not in page.words.lower().split()


@pytest.mark.parametrize(
    "words",
    [
        "8 people of 36 enrolled: cream / vehicle 0.550 (95 % interval",
        "exact signed-rank P = 0.0078, the least possible being 0.0078",
        "Carry-across", "cannot estimate this",
        "n is people. Nuclei, bins of junction and sections of one person resemble each other",
        "With 8 pairs no exact two-sided P can be below 0.00781.",
        "There is no baseline in this design", "nothing here should be read as reversal",
        "The plan was locked", "It has no amendment", "It was locked by the analysis itself",
        "Hodges-Lehmann", "Pratt", "tipping point", "withdrew <&",
        "scipy", "statsmodels", "histoquant 0.1.0 with numpy",
        "leaving out one person at a time", "negative binomial model clustered by person",
    ],
)  # fmt: skip
def test_the_page_says(model: StudyResult, words: str) -> None:
    assert words in Page((model.directory / "study.html").read_text(encoding="utf-8")).words


def test_the_methods_are_those_that_were_used(
    model: StudyResult, with_baselines: StudyResult
) -> None:
    words = Page((model.directory / "study.html").read_text()).words
    assert "negative binomial model fitted by generalised estimating equations" in words
    assert "repeated without each person in turn" in words
    assert "with the standard error of the completers" in words
    for unused in ("linear mixed model", "bootstrap", "ANCOVA the difference"):
        assert unused not in words
    assert (
        "ANCOVA the difference" in Page((with_baselines.directory / "study.html").read_text()).words
    )


def test_the_page_reads_the_baselines(with_baselines: StudyResult) -> None:
    words = Page((with_baselines.directory / "study.html").read_text(encoding="utf-8")).words
    assert "Against baseline: reversal." in words
    assert "Against baseline: slowed progression." in words
    assert "intersection-union" in words
    assert "There is no baseline" not in words
    assert "completers against lost at baseline" in words


def test_hashes_and_versions_are_kept(model: StudyResult) -> None:
    facts = json.loads((model.directory / "study.json").read_text(encoding="utf-8"))
    assert set(facts["libraries"]) == {"numpy", "scipy", "statsmodels", "pandas"}
    words = Page((model.directory / "study.html").read_text(encoding="utf-8")).words
    for name in ("design_sha256", "markers_sha256", "plan_sha256"):
        assert re.fullmatch(r"[0-9a-f]{64}", facts[name])
        assert facts[name] in words


def test_an_amendment_after_unblinding_is_on_the_page(tmp_path: Path) -> None:
    results = write_study(tmp_path, 8, model_trial)
    plan = tmp_path / "plan.toml"
    run_study(results, tmp_path / "design.csv", plan)
    plan.write_text("alpha = 0.1\n" + PLAN)
    result = run_study(results, tmp_path / "design.csv", plan)
    words = Page((result.directory / "study.html").read_text(encoding="utf-8")).words
    assert "after unblinding" in words
    assert "alpha: 0.05 -> 0.1" in words
    assert "90 % interval" in words


# Never a P without an interval, never a wrong one


def no_bare_p(result: StudyResult) -> None:
    """Every P has an interval beside it, or words that say why there is none."""
    table = read(result, "contrasts.csv")
    for _, row in table.iterrows():
        t_interval = ["ratio_low"] if row["scale"] == "ratio" else ["mean_difference_low"]
        if pd.notna(row["p_t"]):
            assert row[t_interval].notna().all(), row["outcome"]
        if pd.notna(row["p_signed_rank"]) and pd.isna(row["difference_low"]):
            assert isinstance(row["difference_reason"], str), row["outcome"]
        if pd.isna(row["p_t"]):
            assert isinstance(row["p_reason"], str), row["outcome"]
        for name in ("p_t", "p_signed_rank", "p_sign_flip"):
            assert pd.isna(row[name]) or 0 < row[name] <= 1
        for name in ("p_signed_rank", "p_sign_flip"):
            assert pd.isna(row[name]) or row[name] >= row["p_floor"] * (1 - 1e-12)
    for name, effect in (("missing.csv", "low"), ("sensitivity.csv", "low")):
        own = read(result, name)
        assert own.loc[own["p"].notna(), effect].notna().all()
    words = Page((result.directory / "study.html").read_text(encoding="utf-8")).words
    assert "Traceback" not in words
    assert len(words) > 3000


def test_an_outcome_with_zeros_shows_the_interval_of_its_p(tmp_path: Path) -> None:
    results = write_study(tmp_path, 6, DEGENERATE["a zero on one arm"])
    result = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    row = line(read(result, "contrasts.csv"), "positive_percent")
    words = Page((result.directory / "study.html").read_text(encoding="utf-8")).words
    low, high = (number(row[f"mean_difference_{end}"]) for end in ("low", "high"))
    assert f"{low} to {high}mean difference" in words
    assert "cream less vehicle" in words


def test_no_p_stands_alone(model: StudyResult, with_baselines: StudyResult) -> None:
    no_bare_p(model)
    no_bare_p(with_baselines)


DEGENERATE: dict[str, Value] = {
    "no pair": lambda i, m, v, t: 10.0 if t else None,
    "one pair": lambda i, m, v, t: 10.0 + t if i < 1 else None,
    "two pairs": lambda i, m, v, t: 10.0 + t + i if i < 2 else None,
    "three pairs": lambda i, m, v, t: 10.0 + t * i if i < 3 else None,
    "all equal": lambda i, m, v, t: 10.0,
    "all zero": lambda i, m, v, t: 0.0,
    "same difference": lambda i, m, v, t: 10.0 + i + 2 * t,
    "a zero on one arm": lambda i, m, v, t: 0.0 if t and i == 0 else 5.0 + i,
    "not a number": lambda i, m, v, t: float("nan") if i == 0 else 5.0 + i + t,
    "infinite": lambda i, m, v, t: float("inf") if i == 0 and t else 5.0 + i + t,
    "one marker": lambda i, m, v, t: 5.0 + i + t if m == "p16" else None,
}


@pytest.mark.parametrize(
    ("case", "plan"),
    [*((case, True) for case in DEGENERATE), ("no pair", False), ("a zero on one arm", False)],
)
def test_degenerate_studies_say_what_can_be_said(tmp_path: Path, case: str, plan: bool) -> None:
    results = write_study(tmp_path, 6, DEGENERATE[case])
    design = tmp_path / "design.csv"
    result = run_study(results, design, tmp_path / "plan.toml" if plan else None)
    no_bare_p(result)
    table = read(result, "contrasts.csv")
    p16 = line(table[table["marker"] == "p16"], "positive_percent")
    n = {"no pair": 0, "one pair": 1, "two pairs": 2, "three pairs": 3}.get(case)
    n = n if n is not None else (5 if case in ("not a number", "infinite") else 6)
    assert p16["n_pairs"] == n
    words = Page((result.directory / "study.html").read_text()).words
    if case == "one pair":
        assert "1 person of 6 enrolled: cream / vehicle 1.10, without an interval (1 pair:" in words
        assert "0.05 in an exact test." in words
        assert "The t test can" not in words
    if case == "all equal":
        assert "cream / vehicle 1.00, without an interval (6 of 6 pairs" in words
    if case in ("two pairs", "three pairs"):
        assert "in an exact test. The t test can, but it leans on normality" in words
    assert re.search(r"\b1 (pairs|people)\b|pair\(s\)", words) is None
    if n < 2 or case in ("all equal", "all zero"):
        assert pd.isna(p16["p_t"])
        assert isinstance(p16["note"], str)
    if case == "a zero on one arm":
        assert pd.isna(p16["ratio"])
        assert p16["scale"] == "difference"
        assert pd.notna(p16["mean_difference_low"])


def test_baselines_with_one_pair_are_undecided(tmp_path: Path) -> None:
    def value(i: int, marker: str, visit: str, treated: bool) -> float | None:
        return 5.0 + treated if i == 0 or visit == "baseline" else None

    results = write_study(tmp_path, 4, value, visits=("baseline", "month_8"))
    result = run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert set(read(result, "reversal.csv")["reading"]) == {"undecided"}
    no_bare_p(result)


# What it refuses


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["nucleus_id", "person", "site", "visit", "marker"], "its rows are nuclei"),
        (["arc_start_um", "person", "site", "visit", "marker"], "its rows are bins"),
        (["slide_id", "person", "site", "visit", "marker"], "its rows are sections"),
    ],
)
def test_nuclei_bins_and_sections_are_no_n(tmp_path: Path, columns: list[str], words: str) -> None:
    results = write_study(tmp_path, 4, model_trial)
    pd.DataFrame([["x"] * 5], columns=columns).to_csv(results / "markers.csv", index=False)
    with pytest.raises(StudyError, match=words) as error:
        run_study(results, tmp_path / "design.csv")
    assert "looks like" in str(error.value) or "look like" in str(error.value)
    assert not (results / "study").exists()


def test_a_wrong_design_leaves_no_study_and_no_lock(tmp_path: Path) -> None:
    results = write_study(tmp_path, 4, model_trial)
    text = (tmp_path / "design.csv").read_text().replace("P01,left_hand,month_8,vehicle,", "")
    (tmp_path / "design.csv").write_text(text)
    with pytest.raises(DesignError, match="P01"):
        run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert not (results / "study").exists()
    assert not (tmp_path / "plan.lock.json").exists()


def test_a_misspelt_outcome_is_found_before_anything_is_locked(tmp_path: Path) -> None:
    plan = PLAN.replace("positive_percent", "positive_procent", 1)
    results = write_study(tmp_path, 4, model_trial, plan=plan)
    with pytest.raises(StudyError, match="positive_procent"):
        run_study(results, tmp_path / "design.csv", tmp_path / "plan.toml")
    assert not (tmp_path / "plan.lock.json").exists()


def test_a_directory_without_tables_says_what_to_do(tmp_path: Path) -> None:
    write_study(tmp_path, 2, model_trial)
    with pytest.raises(StudyError, match="histoquant tables"):
        run_study(tmp_path, tmp_path / "design.csv")


# Planning


def test_the_next_study_is_planned_from_the_primary_outcome(tmp_path: Path) -> None:
    results = write_study(tmp_path, 20, model_trial)
    asked = Question(effect=0.8, n_simulations=400)
    found, _ = plan_next(results, tmp_path / "design.csv", tmp_path / "plan.toml", "", asked)
    assert found.n_pilot == 8
    lossy = Question(effect=0.8, drop_out=0.5, n_simulations=400)
    worse, _ = plan_next(results, tmp_path / "design.csv", None, "p16:positive_percent", lossy)
    sizes = [curve.smallest for study in (found, worse) for curve in study.curves[:1]]
    assert None not in sizes
    assert sizes[1] > 1.5 * sizes[0]  # type: ignore[operator]
    with pytest.raises(StudyError, match="--outcome"):
        plan_next(results, tmp_path / "design.csv", None, "", asked)
