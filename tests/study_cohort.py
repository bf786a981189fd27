"""A study on disk: a design, measured slides, a ledger and the tables made from them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoquant.settings import Settings
from histoquant.study.design import Design, read_design
from histoquant.study.outcomes import Outcome, declared_outcomes
from histoquant.study.terms import Terms

TERMS = Terms(treated="rapamycin", placebo="placebo")
LEFT, RIGHT = "left_hand", "right_hand"
LEDGER = ("slide", "status", "reason", "seconds", "slide_id", "marker", "person", "site", "visit",
          "section", "batch", "control", "mpp", "stains", "row", "resolved_path")  # fmt: skip


def outcome(name: str) -> Outcome:
    return declared_outcomes({"primary": [name]})[0]


def write_design(
    path: Path, people: Iterable[str], visits: Iterable[str] = ("month_8",), lost: Mapping[
        tuple[str, str, str], str] | None = None
) -> Design:  # fmt: skip
    """Left is treated in every other person; `lost` gives reasons by (person, site, visit)."""
    rows = []
    for i, person in enumerate(people):
        for visit in visits:
            for site in (LEFT, RIGHT):
                treated = (site == LEFT) == (i % 2 == 0)
                reason = (lost or {}).get((person, site, visit), "")
                rows.append([person, site, visit, "rapamycin" if treated else "placebo", reason])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["person", "site", "visit", "arm", "reason"], *rows])
    return read_design(path, terms=TERMS)


def markers(rows: Iterable[tuple[Any, ...]], name: str, marker: str = "p16") -> pd.DataFrame:
    """A marker table of one column from (person, site, visit, value)."""
    frame = pd.DataFrame(list(rows), columns=["person", "site", "visit", name])
    return frame.assign(marker=marker, reasons="", n_edits=0.0)


def ledger_row(person: str, site: str, status: str = "done", **more: str) -> dict[str, str]:
    row = dict.fromkeys(LEDGER, "")
    row |= {"marker": "p16", "person": person, "site": site, "visit": "month_8",
            "control": "none", "status": status}  # fmt: skip
    row |= more
    row["slide_id"] = row["slide_id"] or "_".join([person, site, row["marker"], row["section"]])
    return row


def nuclei(seed: int, n: int = 200, positive: float = 0.3) -> pd.DataFrame:
    """Nuclei with the columns of ``nuclei.parquet`` that statistics reads, and one more."""
    rng = np.random.default_rng(seed)
    thresholds = Settings().p16.thresholds_od
    dab = rng.gamma(4.0, thresholds[0] * positive, n)
    own = dab >= thresholds[0]
    names = ["epidermis_basal", "epidermis_suprabasal", "dermis_papillary", "dermis_reticular"]
    return pd.DataFrame(
        {
            "nucleus_id": [f"{seed}_{i}" for i in range(n)],
            "x_px": rng.uniform(0, 2000, n),
            "y_px": rng.uniform(0, 20, n),
            "dab_od_mean": dab,
            "positive": own,
            "compartment": rng.choice(names, n),
            "pigment_suspected": own & (rng.random(n) < 0.2),
            "excluded": rng.random(n) < 0.1,
            "beside_measured_junction": rng.random(n) < 0.8,
        }
    )
