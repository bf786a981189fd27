"""``histoquant agreement``: readers against each other and against the program."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histoquant.anatomy import DERMIS
from histoquant.cli import app
from histoquant.errors import ReviewError
from histoquant.readers import agreement
from histoquant.results import read_record
from histoquant.review import SlideReview, remeasure
from histoquant.review.edits import (
    AddNote,
    AddNucleus,
    ExcludeRegion,
    RedrawJunction,
    SetVerdict,
)
from reviewed import COL7, OTHER_P16, P16, fresh_results, opened


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return fresh_results(tmp_path)


def counted(review: SlideReview) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    assert review.nuclei is not None
    return np.flatnonzero(~review.nuclei["excluded"])


def free_place(review: SlideReview) -> tuple[float, float]:
    """A place in the dermis with no nucleus near."""
    stretch = review.junction.stretches[0]
    for point in stretch.points_um[80:] + 50 * stretch.normals[80:]:
        if review.nearest(point, 6.0) is None and review.compartments.at(point[None]) == DERMIS:
            return float(point[0]), float(point[1])
    raise AssertionError("no free place")


def read_both(results: Path) -> dict[str, int]:
    """anna and bob on two p16 slides, with known agreement by hand on the first."""
    with opened(results, P16, "anna") as review:
        rows = counted(review)
        assert review.nuclei is not None
        n, positive = len(rows), int(review.nuclei["positive"].iloc[rows].sum())
        free = rows[~review.nuclei["positive"].iloc[rows].to_numpy(bool)]
        review.apply(review.set_class(free[:30], "positive"))
        review.apply(review.set_class(free[30:50], "negative"))
        review.apply(AddNucleus(free_place(review), "negative"))
    with opened(results, P16, "bob") as review:
        review.apply(review.set_class(free[:20], "positive"))
        review.apply(review.set_class(free[20:50], "negative"))
    for who, count in (("anna", 3), ("bob", 5)):
        with opened(results, OTHER_P16, who) as review:
            review.apply(review.set_class(counted(review)[:count], "positive"))
    return {"n": n, "positive": positive}


def test_kappa_per_nucleus(results: Path) -> None:
    read_both(results)
    table = pd.DataFrame(agreement(results).nuclei).set_index(["first", "second", "nuclei"])
    judged = table.loc[("anna", "bob", "judged")]
    # By hand: 20 both positive, 10 only by anna, 20 both negative, and 3 positive on the other.
    both, only, neither = 20 + 3, 10, 20
    n = both + only + neither
    expected = ((both + only) * both + neither * (neither + only)) / n**2
    kappa = ((both + neither) / n - expected) / (1 - expected)
    assert judged["n"] == n
    assert judged["kappa"] == pytest.approx(kappa, rel=1e-9)
    assert judged["kappa_low"] < kappa < judged["kappa_high"]
    assert judged["agree_percent"] == pytest.approx(100 * (both + neither) / n)
    everything = table.loc[("anna", "bob", "all")]
    assert everything["kappa"] > judged["kappa"]
    assert everything["n"] > 100
    one_more = table.loc[("program", "anna", "all"), "n"]
    assert one_more == table.loc[("program", "bob", "all"), "n"] + 1  # anna's added nucleus


def test_figures_per_sample_are_those_of_remeasure(results: Path) -> None:
    read_both(results)
    values = pd.DataFrame(agreement(results).values)
    own = values[values["outcome"] == "positive_percent"].set_index(["reader", "slides"])["value"]
    for who in ("anna", "bob"):
        remeasure(results, who)
        for name in (P16, OTHER_P16):
            record = read_record(results / "slides" / name)
            assert record is not None
            assert own[who, name] == record["summary"]["positive_percent"]
    automatic = read_record(results / "slides" / P16 / "automatic")
    assert automatic is not None
    assert own["program", P16] == automatic["summary"]["positive_percent"]
    assert set(values["slides"]) == {P16, OTHER_P16}  # nobody read the third


def test_bias_and_icc_per_sample(results: Path) -> None:
    read_both(results)
    found = agreement(results)
    values = pd.DataFrame(found.values)
    own = values[values["outcome"] == "positive_percent"]
    wide = own.pivot(index="slides", columns="reader", values="value")
    table = pd.DataFrame(found.samples)
    row = table[
        (table["outcome"] == "positive_percent") & (table["first"] == "anna")
    ].iloc[0]  # fmt: skip
    assert (row["second"], row["n"]) == ("bob", 2)
    difference = wide["anna"] - wide["bob"]
    assert row["bias"] == pytest.approx(difference.mean())
    assert row["sd"] == pytest.approx(difference.std(ddof=1))
    assert row["upper_limit"] == pytest.approx(difference.mean() + 1.96 * difference.std(ddof=1))
    rows, columns = wide[["anna", "bob"]].mean(axis=1), wide[["anna", "bob"]].mean()
    grand = rows.mean()
    msr = 2 * ((rows - grand) ** 2).sum()
    msc = 2 * ((columns - grand) ** 2).sum()
    rest = ((wide[["anna", "bob"]] - rows.to_numpy()[:, None] - columns + grand) ** 2).sum().sum()
    assert row["icc21"] == pytest.approx((msr - rest) / (msr + rest + (msc - rest)))


def test_what_is_written(results: Path) -> None:
    read_both(results)
    command = CliRunner().invoke(app, ["agreement", str(results)])
    assert command.exit_code == 0, command.output
    assert "anna and bob" in command.stdout
    assert "kappa" in command.stdout
    place = results / "agreement"
    meanings = json.loads((place / "columns.json").read_text())
    for name in ("per_nucleus.csv", "per_sample.csv"):
        assert list(pd.read_csv(place / name).columns) == list(meanings[name])
    drawings = sorted(place.glob("*.svg"))
    assert any("positive_percent_anna" in path.name for path in drawings)
    for path in drawings:
        text = "".join(ElementTree.fromstring(path.read_text()).itertext())
        assert "limit" in text
        assert "2 samples" in text
    once = {path.name: path.read_bytes() for path in place.iterdir()}
    agreement(results)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == once
    only = CliRunner().invoke(app, ["agreement", str(results), "--outcome", "h_score"])
    assert only.exit_code == 0
    assert set(pd.read_csv(place / "per_sample.csv")["outcome"]) == {"h_score"}


def test_three_readers_have_an_icc_of_all(results: Path) -> None:
    read_both(results)
    for name in (P16, OTHER_P16):
        with opened(results, name, "carl") as review:
            review.apply(AddNote("as it is"))
    table = pd.DataFrame(agreement(results).samples)
    row = table[(table["first"] == "all readers") & (table["outcome"] == "positive_percent")]
    assert (len(row), row["n"].iloc[0]) == (1, 2)
    assert -1 <= row["icc21"].iloc[0] <= 1


def test_what_was_left_out_is_not_compared(results: Path) -> None:
    read_both(results)
    before = pd.DataFrame(agreement(results).nuclei).set_index(["first", "second", "nuclei"])["n"]
    with opened(results, P16, "bob") as review:
        y, x = review.junction.stretches[0].points_um[80].tolist()
        region = ((y - 40, x - 40), (y - 40, x + 40), (y + 40, x + 40), (y + 40, x - 40))
        lost = len(np.intersect1d(review.inside(region), counted(review)))
        review.apply(ExcludeRegion(region, "fold"))
    with opened(results, OTHER_P16, "anna") as review:
        own = len(counted(review))
        review.apply(SetVerdict("rejected", "no"))
    found = agreement(results)
    after = pd.DataFrame(found.nuclei).set_index(["first", "second", "nuclei"])["n"]
    assert lost > 5
    pair = ("anna", "bob", "all")
    assert after[pair] == before[pair] - lost - own
    assert found.notes == [f"anna: {OTHER_P16} is left out: rejected"]


def test_a_slide_that_one_reader_did_not_read_is_no_agreement(results: Path) -> None:
    with opened(results, P16, "anna") as review:
        review.apply(AddNote("read"))
    with opened(results, COL7, "bob") as review:
        review.apply(AddNote("read"))
    table = pd.DataFrame(agreement(results).samples)
    between = table[(table["first"] == "anna") & (table["second"] == "bob")]
    assert (between["n"] == 0).all()
    assert between["bias"].isna().all()
    assert between["reason"].str.contains("no sample").all()
    alone = table[(table["first"] == "program") & (table["outcome"] == "continuity_percent")]
    assert alone.set_index("second")["n"].to_dict() == {"anna": 0, "bob": 1}


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((), "nobody can agree"),
        (("nonsense",), "no figure of markers.csv is called nonsense"),
    ],
)
def test_what_cannot_be_compared_is_told(
    results: Path, outcomes: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ReviewError, match=words):
        agreement(results, outcomes)


def test_a_journal_that_cannot_be_used_is_left_out_with_a_note(results: Path) -> None:
    read_both(results)
    place = results / "slides"
    shutil.copy(place / P16 / "review.jsonl", place / COL7 / "review.jsonl")
    found = agreement(results)
    assert any(f"anna: {COL7} is left out" in n and "another slide" in n for n in found.notes)
    assert not math.isnan(float(str(found.nuclei[0]["kappa"])))


def redraw(results: Path, reviewer: str) -> None:
    with opened(results, COL7, reviewer) as review:
        points = review.junction.stretches[0].points_um[::5]
        review.apply(RedrawJunction(tuple((float(y), float(x)) for y, x in points)))


def test_a_junction_drawn_anew_has_the_figures_of_remeasure(results: Path) -> None:
    redraw(results, "anna")
    found = agreement(results)
    values = pd.DataFrame(found.values)
    own = values[values["reader"] == "anna"].set_index("outcome")["value"]
    program = values[values["reader"] == "program"].set_index("outcome")["value"]
    assert not [note for note in found.notes if COL7 in note]
    remeasure(results, "anna")
    record = read_record(results / "slides" / COL7)
    assert record is not None
    for outcome in ("continuity_percent", "integrated_od_um_mean"):
        assert own[outcome] == record["summary"][outcome]
    assert own["integrated_od_um_mean"] != program["integrated_od_um_mean"]


def test_a_junction_drawn_anew_on_a_slide_that_is_gone_has_a_reason(results: Path) -> None:
    redraw(results, "anna")
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace(f"{COL7}.ome.tif", "gone.ome.tif"))
    found = agreement(results)
    (note,) = [note for note in found.notes if COL7 in note]
    assert "drawn anew, and the slide cannot be read" in note
    values = pd.DataFrame(found.values)
    own = values[values["reader"] == "anna"].set_index("outcome")["value"]
    assert math.isnan(float(own["continuity_percent"] or "nan"))
