"""Counted again from the nuclei, the numbers are the tables'; under other rules, those of hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from histoquant import atomic, tables
from histoquant.errors import ResultError
from histoquant.results import csv_text, to_json
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.study import sensitivity
from histoquant.study.recount import Rule, recounted, threshold_of
from histoquant.study.samples import read_markers
from histoquant.study.sections import NUCLEUS_COLUMNS, Section, read_sections
from histoquant.study.sensitivity import COLUMNS, Study
from study_cohort import LEFT, RIGHT, ledger_row, nuclei, outcome, write_design

PERCENT = outcome("p16:positive_percent")
BASAL = outcome("p16:basal_positive_percent")
PER_MM = outcome("p16:positive_per_mm_dej")
PER_MM2 = outcome("p16:papillary_positive_per_mm2")
CLEAR = outcome("p16:positive_percent_without_pigment")
SETTINGS = Settings().model_dump(mode="json")
PEOPLE = ["P1", "P2", "P3", "P4"]


def counts(table: pd.DataFrame) -> dict[str, float]:
    """The figures of a slide, counted plainly."""
    own = table[~table["excluded"]]
    epidermis = own["compartment"].str.startswith("epidermis")
    beside, positive = own["beside_measured_junction"], own["positive"]
    papillary = own["compartment"] == "dermis_papillary"
    basal = own["compartment"] == "epidermis_basal"
    clear = ~own["pigment_suspected"]
    figures: dict[str, float] = {
        "n_nuclei": len(own), "n_positive": positive.sum(),
        "n_basal": basal.sum(), "n_basal_positive": (basal & positive).sum(),
        "n_epidermis_positive_measured": (epidermis & beside & positive).sum(),
        "n_papillary_positive_measured": (papillary & beside & positive).sum(),
        "n_without_pigment": clear.sum(), "n_positive_without_pigment": (clear & positive).sum(),
        "n_pigment_suspected": (~clear).sum(),
        "measured_length_mm": 1.25, "papillary_area_mm2": 0.4, "n_edits": 0,
    }  # fmt: skip
    for one in (PERCENT, BASAL, PER_MM, PER_MM2, CLEAR):
        top, bottom = figures[one.numerator], figures[one.denominator]
        figures[one.name] = (100 if one.is_percent else 1) * top / bottom
    return {name: float(value) for name, value in figures.items()}


def section(
    seed: int, person: str = "P1", site: str = LEFT, batch: str = "", **change: Any
) -> Section:
    table = change.pop("table", None)
    table = nuclei(seed) if table is None else table
    summary = counts(table) | {"positive_threshold_od": SETTINGS["p16"]["thresholds_od"][0]}
    given: Mapping[str, Any] = change.pop("settings", SETTINGS)
    return Section(
        slide_id=f"{person}_{site}_{seed}", marker="p16", person=person, site=site,
        visit="month_8", batch=batch, summary=summary | change, settings=given,
        nuclei=lambda: table, junction=pd.DataFrame,
    )  # fmt: skip


def cohort(batches: Mapping[str, tuple[str, str]] | None = None) -> list[Section]:
    """Two sections a site of four people; the treated site (left in P1) has fewer positives."""
    out = []
    for i, person in enumerate(PEOPLE):
        for side, site in enumerate((LEFT, RIGHT)):
            treated = side == i % 2
            for part in (0, 1):
                table = nuclei(100 * i + 10 * side + part, positive=0.15 if treated else 0.25)
                batch = (batches or {}).get(person, ("", ""))[side]
                out.append(section(100 * i + 10 * side + part, person, site, batch, table=table))
    return out


def pooled(sections: list[Section], *names: str) -> pd.DataFrame:
    """The marker table, summed plainly."""
    rows = []
    for person in PEOPLE:
        for site in (LEFT, RIGHT):
            own = [s for s in sections if s.sample[:2] == (person, site)]
            row: dict[str, Any] = {"person": person, "site": site, "visit": "month_8"}
            for one in map(outcome, names):
                top = sum(s.number(one.numerator) for s in own)
                bottom = sum(s.number(one.denominator) for s in own)
                row[one.name] = (100 if one.is_percent else 1) * top / bottom if own else np.nan
                row |= {one.numerator: top, one.denominator: bottom}
            rows.append(row | {"marker": "p16", "reasons": "", "n_edits": 0.0})
    return pd.DataFrame(rows)


KEYS = ["p16:" + o.name for o in (PERCENT, BASAL, PER_MM, PER_MM2, CLEAR)]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    design = write_design(tmp_path / "design.csv", PEOPLE)
    return Study(design, pooled(cohort(), *KEYS))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("rule", [Rule(), Rule(SETTINGS["p16"]["thresholds_od"][0])])
def test_counted_again_by_the_same_rule_nothing_changes(study: Study, key: str, rule: Rule) -> None:
    one = outcome(key)
    (table,) = recounted(cohort(), one, [rule])
    names = [one.name, one.numerator, one.denominator]
    keys = ["person", "site", "visit"]
    found, wanted = (t.set_index(keys).sort_index()[names] for t in (table, study.markers))
    np.testing.assert_allclose(found, wanted.loc[found.index], rtol=1e-12)
    assert len(found) == 8


def test_another_cut_off_is_counted_by_hand() -> None:
    sections = [section(1), section(2)]
    (table,) = recounted(sections, BASAL, [Rule(0.35)])
    kept = [t[~t["excluded"] & (t["compartment"] == "epidermis_basal")]
            for t in (nuclei(1), nuclei(2))]  # fmt: skip
    top = sum(int((t["dab_od_mean"] >= 0.35).sum()) for t in kept)
    assert table[BASAL.name].item() == pytest.approx(100 * top / sum(map(len, kept)))


def test_nuclei_in_haze_are_positive_at_no_cut_off() -> None:
    table = nuclei(1).assign(ring_dab_od_mean=lambda t: t["dab_od_mean"] - 0.01)
    one = section(1, table=table)
    (found,) = recounted([one], PERCENT, [Rule(0.1)])
    own = table[~table["excluded"]]
    strong = (own["dab_od_mean"] >= SETTINGS["p16"]["haze_below_od"]).mean()
    assert found[PERCENT.name].item() == pytest.approx(100 * strong)
    old = {"p16": {"thresholds_od": [0.2, 0.4, 0.6]}}  # settings from before the rule
    (found,) = recounted([section(1, table=table, settings=old)], PERCENT, [Rule(0.1)])
    assert found[PERCENT.name].item() == pytest.approx(100 * (own["dab_od_mean"] >= 0.1).mean())


@pytest.mark.parametrize(
    ("one", "missing"),
    [
        (PERCENT, {"n_positive": None}),  # no DAB
        (PER_MM, {"measured_length_mm": math.nan}),
        (PER_MM, {"positive_per_mm_dej": None}),  # a length, and no nuclei
        (PER_MM2, {"papillary_area_mm2": None}),
    ],
)
def test_a_section_that_lacks_a_figure_stays_out(one: Any, missing: dict[str, Any]) -> None:
    (both,) = recounted([section(1), section(2, **missing)], one, [Rule()])
    (alone,) = recounted([section(1)], one, [Rule()])
    pd.testing.assert_frame_equal(both, alone)
    (none,) = recounted([section(2, **missing)], one, [Rule()])
    assert none.empty


def test_a_table_from_before_junction_was_excluded_has_no_rate_per_mm() -> None:
    table = nuclei(1)
    old = section(1, table=table)
    old = Section(
        **{**old.__dict__, "nuclei": lambda: table.drop(columns="beside_measured_junction")}
    )
    assert recounted([old], PER_MM, [Rule()])[0].empty
    assert len(recounted([old], PERCENT, [Rule()])[0]) == 1


def test_the_sweep_shows_every_cut_off_and_marks_the_one_used(study: Study) -> None:
    lines = sensitivity.by_threshold(study, PERCENT, cohort())
    cuts = [float(line.level) for line in lines]
    first = SETTINGS["p16"]["thresholds_od"][0]
    assert cuts == sorted({*SETTINGS["p16"]["sweep_od"], first})
    (used,) = [line for line in lines if line.note == sensitivity.USED]
    assert float(used.level) == first
    as_is = study.line("", "", study.pairs(PERCENT))
    assert used.mean.estimate == pytest.approx(as_is.mean.estimate)
    assert used.mean.p == pytest.approx(as_is.mean.p)
    assert used.mean.n == 4
    assert used.mean.high < 0  # treated sites have fewer


def test_slides_with_their_own_cut_offs_are_also_shown_as_used(study: Study) -> None:
    sections = cohort()
    sections[0] = section(0, table=nuclei(0, positive=0.15), positive_threshold_od=0.17)
    lines = sensitivity.by_threshold(study, PERCENT, sections)
    assert lines[0].level == "as used"
    assert "from 0.17 to 0.2 OD" in lines[0].note
    assert all(sensitivity.USED not in line.note for line in lines[1:])


def test_sweeps_that_differ_are_shown_where_they_meet(study: Study) -> None:
    other = {"p16": SETTINGS["p16"] | {"sweep_od": [0.1, 0.3, 0.7]}}
    none = {"p16": SETTINGS["p16"] | {"sweep_od": [0.7]}}
    lines = sensitivity.by_threshold(study, PERCENT, [*cohort(), section(1, settings=other)])
    assert [line.level for line in lines] == ["0.1", "0.2", "0.3"]
    assert all("slides differ in their sweep" in line.note for line in lines)
    lost = [section(1, settings=none, positive_threshold_od=0.3), *cohort()]
    lines = sensitivity.by_threshold(study, PERCENT, lost)
    assert [line.level for line in lines] == ["as used", "none"]


def test_what_is_no_rate_of_nuclei_has_no_sweep(study: Study) -> None:
    for key in ("p16:h_score", "col7:continuity_percent", "col7:integrated_od_um_mean"):
        assert sensitivity.by_threshold(study, outcome(key), cohort()) == []
        assert sensitivity.by_pigment(study, outcome(key), cohort()) == []
    assert sensitivity.by_pigment(study, CLEAR, cohort()) == []
    assert sensitivity.by_threshold(study, PERCENT, []) == []


def test_without_pigment_is_the_columns_own_figure(study: Study) -> None:
    _, without = sensitivity.by_pigment(study, PERCENT, cohort())
    column = study.line("", "", study.pairs(CLEAR))
    assert without.mean.estimate == pytest.approx(column.mean.estimate)
    total = sum(s.number("n_pigment_suspected") for s in cohort())
    assert without.note == f"nuclei suspected on 16 slides: {total:.0f}"
    assert total > 0


def test_a_sample_with_a_section_rejected_is_an_edited_one(study: Study) -> None:
    automatic = study.markers.assign(slides="a; b", n_sections=2)
    now = automatic.copy()
    now.loc[0, ["slides", "n_sections"]] = ["a", 1]
    now.loc[0, PERCENT.name] = 50.0
    lines = sensitivity.by_edits(Study(study.design, now), PERCENT, automatic)
    assert lines[0].note == "1 of 8 samples have edits"
    assert (lines[2].level, lines[2].mean.n) == ("unedited samples", 3)


def test_edits_are_said_to_be_none(study: Study) -> None:
    (line,) = sensitivity.by_edits(study, PERCENT)
    assert (line.level, line.note) == ("as measured", "no sample has a reviewer's edits")
    old = Study(study.design, study.markers.drop(columns="n_edits"))
    (line,) = sensitivity.by_edits(old, PERCENT)
    assert "does not say" in line.note


def test_edited_and_automatic_results_are_compared(study: Study) -> None:
    automatic = study.markers.copy()
    edited = study.markers.copy()
    edited.loc[0, [PERCENT.name, "n_edits"]] = [50.0, 3.0]
    now = Study(study.design, edited)
    with_edits, without, unedited = sensitivity.by_edits(now, PERCENT, automatic)
    assert with_edits.note == "1 of 8 samples have edits"
    assert with_edits.mean.estimate > without.mean.estimate
    assert without.mean == study.line("", "", study.pairs(PERCENT)).mean
    assert (unedited.mean.n, with_edits.mean.n) == (3, 4)
    lost = sensitivity.by_edits(now, PERCENT)[1]
    assert lost.mean.n == 0
    assert "not kept" in lost.note
    assert lost.row()["note"]


def test_batches_are_compared_within_without_and_across(study: Study) -> None:
    batches = {"P1": ("run_1", "run_1"), "P2": ("run_1", "run_1"), "P3": ("run_2", "run_2"),
               "P4": ("run_1", "run_2")}  # fmt: skip
    lines = {x.level: x for x in sensitivity.by_batch(study, PERCENT, cohort(batches))}
    sizes = {level: line.mean.n for level, line in lines.items()}
    assert sizes == {
        "run_1": 2, "run_2": 1, "without run_1": 2, "without run_2": 3,
        "split over batches": 1, "pairs within a batch": 3,
    }  # fmt: skip
    assert "confounded" in lines["split over batches"].note
    assert math.isnan(lines["run_2"].mean.p)
    pairs = study.pairs(PERCENT)
    own = np.log(pairs.treated[:2] / pairs.placebo[:2])
    assert lines["run_1"].mean.estimate == pytest.approx(own.mean())


def test_a_site_in_two_batches_is_a_split_pair(study: Study) -> None:
    sections = cohort(dict.fromkeys(PEOPLE, ("run_1", "run_1")))
    extra = section(1, "P1", LEFT, "run_2")
    levels = {x.level: x.mean.n for x in sensitivity.by_batch(study, PERCENT, [*sections, extra])}
    assert levels == {"run_1": 3, "split over batches": 1, "pairs within a batch": 3}


def test_a_study_without_batches_says_so(study: Study) -> None:
    (line,) = sensitivity.by_batch(study, PERCENT, cohort())
    assert (line.level, line.mean.n) == ("all", 4)
    assert "no staining batch" in line.note


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 7.0])
def test_degenerate_values_get_a_sentence(study: Study, value: float) -> None:
    table = study.markers.assign(**{PERCENT.name: value, "n_edits": 1.0})
    given = Study(study.design, table)
    lines = list(sensitivity.sensitivity_lines(given, PERCENT, []))
    assert lines
    for line in lines:
        assert math.isnan(line.mean.p)
        assert set(line.row()) | {"marker", "outcome"} == set(COLUMNS)
        assert line.row()["note"]


def test_sections_are_read_from_a_results_directory(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "results")
    table = nuclei(3).assign(area_um2=30.0)
    rows = [
        ledger_row("P1", LEFT, batch="run_1"),
        ledger_row("P1", RIGHT, "failed"),
        ledger_row("P2", LEFT, control="negative"),
        ledger_row("", "", slide_id="loose"),
    ]
    for row in rows:
        directory = run.slide(row["slide_id"])
        directory.mkdir(parents=True)
        table.to_parquet(directory / "nuclei.parquet")
        record = {"summary": {"n_nuclei": 5, "h_score": None}, "reasons": {},
                  "provenance": {"settings": SETTINGS}}  # fmt: skip
        atomic.write_text(directory / "result.json", to_json(record))
    names = [c.name for c in tables.LEDGER]
    atomic.write_text(run.ledger_path, csv_text(names, rows))
    (one,) = read_sections(run.path, "p16")
    assert (one.sample, one.batch) == (("P1", LEFT, "month_8"), "run_1")
    assert one.number("n_nuclei") == 5
    assert math.isnan(one.number("h_score"))
    assert threshold_of(Section(**{**one.__dict__, "summary": {"n_positive": 1}})) == 0.2
    assert list(one.nuclei().columns) == [n for n in NUCLEUS_COLUMNS if n in table]
    assert read_sections(run.path, "col7") == []
    (run.slide(rows[0]["slide_id"]) / "result.json").unlink()
    with pytest.raises(ResultError, match="holds no complete result"):
        read_sections(run.path)


def test_markers_from_a_table_on_disk_do_as_well(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "markers.csv"
    study.markers.to_csv(path, index=False)
    read = Study(study.design, read_markers(path))
    again = sensitivity.by_edits(read, PERCENT)[0].mean.estimate
    assert again == pytest.approx(sensitivity.by_edits(study, PERCENT)[0].mean.estimate)
