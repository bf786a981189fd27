"""Nobody disappears: enrolled is lost, without a partner, or analysed, in people and in sites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from histoquant.study.flow import COLUMNS, UNPAIRED, Step, flow, flow_table
from study_cohort import LEFT, RIGHT, ledger_row, markers, outcome, write_design

PER_MM = outcome("p16:positive_per_mm_dej")
PEOPLE = ["P1", "P2", "P3", "P4", "P5", "P6"]
VISIT = "month_8"


def rows(*given: tuple[str, str, float]) -> list[tuple[str, str, str, float]]:
    return [(person, site, VISIT, value) for person, site, value in given]


def add_up(steps: Sequence[Step]) -> None:
    by_stage = {
        stage: [step for step in steps if step.stage == stage]
        for stage in ("enrolled", "lost", "unpaired", "analysed")
    }
    (enrolled,), (analysed,) = by_stage["enrolled"], by_stage["analysed"]
    gone = by_stage["lost"] + by_stage["unpaired"]
    for name in ("people", "sites", "treated_sites", "placebo_sites"):
        total = sum(getattr(step, name) for step in [*gone, analysed])
        assert total == getattr(enrolled, name), name


def test_each_loss_is_in_one_box_with_its_reason(tmp_path: Path) -> None:
    design = write_design(
        tmp_path / "design.csv", PEOPLE, lost={("P6", s, VISIT): "withdrew" for s in (LEFT, RIGHT)}
    )
    table = markers(
        rows(("P1", LEFT, 3.0), ("P1", RIGHT, 4.0), ("P2", LEFT, 1.0), ("P3", LEFT, np.nan),
             ("P3", RIGHT, 2.0), ("P4", RIGHT, 5.0)),
        PER_MM.name,
    )  # fmt: skip
    table.loc[3, "reasons"] = "positive_per_mm_dej: no junction was found"
    ledger = [
        *(ledger_row(p, s) for p, s in (("P1", LEFT), ("P1", RIGHT), ("P2", LEFT), ("P3", LEFT),
                                        ("P3", RIGHT), ("P4", RIGHT))),
        ledger_row("P2", RIGHT, "failed", reason="tile 3 is damaged"),
        ledger_row("P4", LEFT, "excluded", reason="listed twice"),
        ledger_row("P5", LEFT, "done", control="negative"),
    ]  # fmt: skip
    steps = flow(design, table, PER_MM, ledger)
    add_up(steps)
    found = {s.reason: (s.people, s.treated_sites, s.placebo_sites) for s in steps if s.reason}
    # P1, P3, P5 are treated on the left; P2, P4, P6 on the right.
    assert found == {
        "slide failed": (1, 1, 0),
        "slide excluded": (1, 0, 1),
        "no junction was found": (1, 1, 0),
        "no p16 sample at month_8: no slide received": (1, 1, 1),
        "withdrew": (1, 1, 1),
        UNPAIRED: (0, 1, 2),
    }
    who = {s.reason: s.who for s in steps}
    assert who["slide failed"] == (f"P2 {RIGHT} (tile 3 is damaged)",)
    assert who[UNPAIRED] == ("P2", "P3", "P4")
    assert steps[-1].who == ("P1",)


def test_two_reasons_of_one_person_are_one_person(tmp_path: Path) -> None:
    design = write_design(tmp_path / "design.csv", ["P1"])
    ledger = [ledger_row("P1", LEFT, "failed"), ledger_row("P1", RIGHT, "pending")]
    steps = flow(design, markers([], PER_MM.name), PER_MM, ledger)
    add_up(steps)
    lost = {s.reason: (s.people, s.sites) for s in steps if s.stage == "lost"}
    assert lost == {
        "not measured yet and slide failed": (1, 0),
        "not measured yet": (0, 1),
        "slide failed": (0, 1),
    }


def test_without_a_ledger_nothing_is_said_about_slides(tmp_path: Path) -> None:
    design = write_design(tmp_path / "design.csv", ["P1", "P2"])
    steps = flow(design, markers([], PER_MM.name), PER_MM)
    add_up(steps)
    assert [s.reason for s in steps if s.stage == "lost"] == ["no p16 sample at month_8"]
    assert steps[-1].people == 0


def test_a_failed_section_beside_a_measured_one_is_no_loss(tmp_path: Path) -> None:
    design = write_design(tmp_path / "design.csv", ["P1"])
    table = markers(rows(("P1", LEFT, 3.0), ("P1", RIGHT, 4.0)), PER_MM.name)
    ledger = [ledger_row("P1", s) for s in (LEFT, RIGHT)]
    ledger += [ledger_row("P1", LEFT, "failed", section="2")]
    steps = flow(design, table, PER_MM, ledger)
    assert [s.stage for s in steps] == ["enrolled", "analysed"]
    add_up(steps)


@pytest.mark.parametrize("seed", range(20))
def test_it_adds_up_whatever_is_lost(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    people = [f"P{i:02}" for i in range(12)]
    design = write_design(tmp_path / "design.csv", people, visits=("baseline", VISIT))
    sites = [(p, s) for p in people for s in (LEFT, RIGHT)]
    kept = [site for site in sites if rng.random() < 0.6]
    table = markers(
        [(p, s, v, 1.0 if rng.random() < 0.8 else np.nan) for p, s in kept
         for v in ("baseline", VISIT)],
        PER_MM.name,
    )  # fmt: skip
    statuses = ["done", "failed", "excluded", "pending"]
    ledger = [ledger_row(p, s, str(rng.choice(statuses))) for p, s in sites if rng.random() < 0.8]
    table = table[rng.random(len(table)) < 0.9]
    for visit in ("baseline", VISIT):
        add_up(flow(design, table, PER_MM, ledger, visit))
    written = flow_table(design, table, [PER_MM], ledger)
    assert {row["visit"] for row in written} == {"baseline", VISIT}
    assert all(set(row) == set(COLUMNS) for row in written)
