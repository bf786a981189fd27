"""Designs: what is an error, what is a note, and that all errors come at once."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from histoquant.errors import DesignError, HistoquantError, StudyError
from histoquant.study.design import Design, read_design
from histoquant.study.terms import Terms

SAMPLE = Path(__file__).parent.parent / "sample_slides" / "design.csv"

GOOD = [
    "P01,left,month_8,rapamycin",
    "P01,right,month_8,placebo",
    "P02,left,month_8,placebo",
    "P02,right,month_8,rapamycin",
]


def write(folder: Path, rows: list[str], header: str = "person,site,visit,arm") -> Path:
    path = folder / "design.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def markers(*rows: str) -> pd.DataFrame:
    names = ("person", "site", "visit", "marker")
    return pd.DataFrame([dict(zip(names, r.split(","), strict=True)) for r in rows], columns=names)


def problems(path: Path, table: pd.DataFrame | None = None, terms: Terms | None = None) -> str:
    with pytest.raises(DesignError) as caught:
        read_design(path, table, terms)
    return str(caught.value)


def test_the_sample_design() -> None:
    design = read_design(SAMPLE)
    assert (design.terms.treated, design.terms.placebo) == ("rapamycin", "placebo")
    assert design.people == ("P01", "P02", "P03", "P04")
    assert design.sites["P01"] == ("right_hand", "left_hand")
    assert design.arm("P01", "right_hand") == "rapamycin"
    assert design.arm("P01", "forehead") == ""
    assert (design.baseline, design.primary_visit, design.n_enrolled) == ("", "month_8", 4)
    assert "treated site: left_hand in 2, right_hand in 2 of 4 people" in design.notes
    assert any("taken for the placebo by its name: placebo" in n for n in design.notes)


def test_all_contradictions_come_at_once(tmp_path: Path) -> None:
    rows = [
        *GOOD,
        "P03,left,month_8,rapamycin",
        "P03,right,month_8,rapamycin",  # both hands in one arm
        "P04,left,month_8,placebo",  # one hand
        "P02,left,month_8,placebo",  # twice
        "P05,left,month_6,placebo",
        "P05,right,month_6,rapamycin",
        "P05,left,month_8,placebo",  # no partner at this visit
        "P06,left,month_8,rapamicin",  # unknown arm
        "P06,right,month_8,placebo",
        "P07,left,,placebo",  # blank
        "P08,left,month_6,placebo",
        "P08,right,month_6,rapamycin",
        "P08,left,month_8,rapamycin",  # changes its arm
        "P08,right,month_8,placebo",
    ]
    table = markers("P01,left,month_8,p16", "P99,left,month_8,p16", "P01,nose,month_8,p16")
    text = problems(write(tmp_path, rows), table, Terms("rapamycin", "placebo"))
    for words in (
        "P03: left and right are both in the arm rapamycin",
        "P04 has one site (left)",
        "P02, left, month_8 is on lines 4, 9",
        "P05, month_8: left has no partner",
        "unknown arm 'rapamicin' on line(s) 13",
        "line 15: visit is empty",
        "P08: left, right changes its arm",
        "person P99 was measured and is not in the design",
        "the sample of P01, nose, month_8 is measured and has no row in the design",
    ):
        assert words in text
    assert "9 problem(s)" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "it has a header and no rows"),
        (["P01,left,month_8,placebo"], "P01 has one site"),
        ([*GOOD, "P03,left,month_8,other", "P03,right,month_8,placebo"], "two arms are compared"),
        ([r.replace("placebo", "blue").replace("rapamycin", "red") for r in GOOD], "cannot tell"),
        ([*GOOD, GOOD[0]], "P01, left, month_8 is on lines 2, 6"),
        ([*GOOD, "P01,left,month_8,placebo"], "in different arms"),
        ([*GOOD, " , ,month_8,placebo"], "line 6: person, site is empty"),
        ([GOOD[0], GOOD[0].replace("left", "right")], "two arms are compared"),
    ],
)
def test_each_contradiction(tmp_path: Path, rows: list[str], words: str) -> None:
    assert words in problems(write(tmp_path, rows))


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        (Terms(treated="cream", placebo="placebo"), "no row has the arm 'cream'"),
        (Terms(visits=("month_6",)), "visit 'month_8' is not among the plan's"),
        (Terms(baseline="month_0"), "the plan's baseline 'month_0' is no visit"),
        (Terms(primary_visit="month_9"), "the plan's primary visit 'month_9' is no visit"),
    ],
)
def test_the_plan_and_the_design_must_agree(tmp_path: Path, terms: Terms, words: str) -> None:
    assert words in problems(write(tmp_path, GOOD), None, terms)


def test_a_missing_column_and_a_missing_file(tmp_path: Path) -> None:
    text = problems(write(tmp_path, ["P01,left"], "person,site"))
    assert "missing column(s) visit, arm" in text
    with pytest.raises(StudyError, match="cannot read the design"):
        read_design(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes(b"person,site,visit,arm\nM\xfcller,left,v,placebo\n")
    with pytest.raises(StudyError, match="not a CSV file in UTF-8"):
        read_design(tmp_path / "latin.csv")
    with pytest.raises(StudyError, match="more fields than columns on line\\(s\\) 3"):
        read_design(write(tmp_path, [GOOD[0], GOOD[1] + ",x,y"]))
    with pytest.raises(StudyError, match="arm appear more than once"):
        read_design(write(tmp_path, GOOD, "person,site,visit,arm,arm"))
    assert issubclass(DesignError, StudyError)
    assert issubclass(StudyError, HistoquantError)


def test_spreadsheets_of_other_countries(tmp_path: Path) -> None:
    path = tmp_path / "design.csv"
    rows = ["person;site;visit;arm", *(r.replace(",", " ; ") for r in GOOD), ";;;"]
    path.write_text("\r\n".join(rows), encoding="utf-8-sig")
    assert read_design(path).people == ("P01", "P02")


def test_lost_people_are_data(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [*(f"{r},,x" for r in GOOD), "P03,left,month_8,placebo,withdrew,x",
         "P03,right,month_8,rapamycin,withdrew,x"],
        "person,site,visit,arm,reason,age",
    )  # fmt: skip
    design = read_design(path, markers("P01,left,month_8,p16"))
    assert design.n_enrolled == 3
    assert design.reasons["P03", "left", "month_8"] == "withdrew"
    assert "enrolled and never measured: P02, P03" in design.notes
    assert "columns not read: age" in design.notes


def test_controls_and_slides_without_a_person_need_no_arm(tmp_path: Path) -> None:
    table = markers("P01,left,month_8,p16", "tonsil,left,month_8,p16", ",,,p16")
    table["control"] = ["none", "positive", "none"]
    assert read_design(write(tmp_path, GOOD), table).n_enrolled == 2


def test_a_sample_measured_twice_is_refused(tmp_path: Path) -> None:
    text = problems(write(tmp_path, GOOD), markers(*["P01,left,month_8,p16"] * 2))
    assert "p16 of P01, left, month_8 has 2 rows: a sample counts once" in text


def over_time(folder: Path, visits: list[str], terms: Terms | None = None) -> Design:
    rows = [r.replace("month_8", v) for v in visits for r in GOOD]
    return read_design(write(folder, rows), None, terms)


@pytest.mark.parametrize(
    ("visits", "ordered", "baseline"),
    [
        (["month_12", "baseline", "month_8"], ("baseline", "month_8", "month_12"), "baseline"),
        (["month 8", "week 2", "day_0"], ("day_0", "week 2", "month 8"), "day_0"),
        (["month_6", "month_8"], ("month_6", "month_8"), ""),
        (["late", "Baseline"], ("Baseline", "late"), "Baseline"),
        (["baseline"], ("baseline",), ""),  # the only visit is compared
    ],
)
def test_visits_by_their_names(
    tmp_path: Path, visits: list[str], ordered: tuple[str, ...], baseline: str
) -> None:
    design = over_time(tmp_path, visits)
    assert design.terms.visits == ordered
    assert design.baseline == baseline
    assert design.primary_visit == ordered[-1]
    assert design.follow_ups == tuple(v for v in ordered if v != baseline)


def test_visits_as_the_plan_has_them(tmp_path: Path) -> None:
    terms = Terms(visits=("first", "second"), baseline="first", primary_visit="second")
    design = over_time(tmp_path, ["second", "first"], terms)
    assert design.terms.visits == ("first", "second")
    assert (design.baseline, design.primary_visit) == ("first", "second")
    assert not any("visit" in note for note in design.notes)


def test_other_arms_and_sites_are_left_out_and_said(tmp_path: Path) -> None:
    rows = [*GOOD, "P01,neck,month_8,untouched", "P02,neck,month_8,untouched"]
    terms = Terms("rapamycin", "placebo", other_arms=("untouched",))
    design = read_design(write(tmp_path, rows), markers("P01,neck,month_8,p16"), terms)
    assert design.sites["P01"] == ("left", "right")
    assert "arm untouched is in no comparison" in design.notes


def test_one_side_for_everyone_is_noted(tmp_path: Path) -> None:
    rows = [r.replace("P01", p) for p in ("P01", "P02", "P03") for r in GOOD[:2]]
    notes = read_design(write(tmp_path, rows)).notes
    assert "the same site is treated in everyone: arm and side cannot be told apart" in notes


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["nucleus_id", "positive"], "its rows are nuclei"),
        (["bin", "arc_start_um"], "its rows are bins of the junction"),
        (["slide_id", "marker"], "its rows are sections"),
        (["person", "site"], r"missing column\(s\) visit, marker"),
    ],
)
def test_nuclei_bins_and_sections_are_not_people(
    tmp_path: Path, columns: list[str], words: str
) -> None:
    with pytest.raises(StudyError, match=words):
        read_design(write(tmp_path, GOOD), pd.DataFrame(columns=columns))


def test_visits_whose_order_in_time_cannot_be_read_are_asked_for(tmp_path: Path) -> None:
    """The row order of a file is no time: the last visit may be the one before treatment."""
    with pytest.raises(DesignError, match="cannot tell the order in time of the visits"):
        over_time(tmp_path, ["start", "end"])


@pytest.mark.parametrize(
    ("treated", "other"), [("controlled-release rapamycin", "dummy"), ("rapamycin shampoo", "base")]
)
def test_a_word_inside_a_word_makes_no_placebo(tmp_path: Path, treated: str, other: str) -> None:
    path = tmp_path / "design.csv"
    rows = [f"P{k},{site},m8,{arm}" for k in range(4)
            for site, arm in (("left", treated), ("right", other))]  # fmt: skip
    path.write_text("person,site,visit,arm\n" + "\n".join(rows) + "\n")
    with pytest.raises(DesignError):
        read_design(path, None, Terms())
