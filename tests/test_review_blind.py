"""Blinded review: no name where it can be seen, and no way back once the names are open."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histoquant.cli import app
from histoquant.errors import ReviewError, SlideError
from histoquant.review import ReviewSession, blinding, remeasure, unblind
from histoquant.review.blinding import hidden, read_key
from histoquant.review.edits import AddNote, ExcludeRegion, SetVerdict
from histoquant.review.remeasuring import reviewers
from histoquant.rundir import Ledger, RunDirectory
from histoquant.slides import Slide
from reviewed import COL7, OTHER_P16, P16, fresh_results, opened

NAMES = (P16, OTHER_P16, COL7, "P01", "P02", "left_hand", "month_6", "ome.tif")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return fresh_results(tmp_path)


def blind(results: Path, reviewer: str = "anna") -> ReviewSession:
    return ReviewSession(results, reviewer, blind=True)


def review_one(results: Path, reviewer: str = "anna") -> str:
    """A few edits on the first p16 slide of the worklist; its code."""
    session = blind(results, reviewer)
    code = next(item.name for item in session.worklist() if item.marker == "p16")
    with session.slide(code) as review:
        review.apply(review.set_class(np.arange(3), "not_a_nucleus"))
        y, x = review.junction.stretches[0].points_um[40].tolist()
        review.apply(ExcludeRegion(((y, x), (y + 20, x), (y + 20, x + 20), (y, x + 20)), "fold"))
        review.apply(SetVerdict("accepted", "good"))
    return code


def exposed(results: Path) -> list[str]:
    """Every text that a blinded session shows of its worklist and slides."""
    session = blind(results)
    shown: list[str] = []
    for item in session.worklist():
        shown += [str(value) for value in dataclasses.astuple(item)]
        with session.slide(item.name) as review:
            shown += [review.name, review.marker, review.reviewer, review.verdict, *review.problems]
            shown += [str(line) for line in review.history]
            shown += [str(row) for row in review.numbers().rows]
            shown += [str(review.regions), str(review.straightened_info), review.verdict_reason]
    return shown


def test_codes_are_all_that_is_shown(results: Path) -> None:
    record = results / "slides" / P16 / "result.json"
    content = json.loads(record.read_text())
    content["summary"]["warnings"] = f"threshold: percentile 99 of {P16} of P01, left_hand"
    record.write_text(json.dumps(content))
    review_one(results)
    session = blind(results)
    assert sorted(item.name for item in session.worklist()) == [
        "Slide 001",
        "Slide 002",
        "Slide 003",
    ]
    text = "\n".join(exposed(results))
    assert "percentile 99" in text
    assert [name for name in NAMES if name.casefold() in text.casefold()] == []
    assert str(results) not in text


def test_the_journal_shows_the_code_and_no_name(results: Path) -> None:
    code = review_one(results)
    (journal,) = results.rglob("review.jsonl")
    for line in journal.read_text().splitlines():
        assert json.loads(line)["slide"] == code
        assert [name for name in NAMES if name in line] == []


def test_errors_show_no_name(results: Path) -> None:
    ledger = results / "ledger.csv"
    session = blind(results)
    codes = [item.name for item in session.worklist()]
    for path in results.parent.glob("*.ome.tif"):
        path.unlink()
    ledger.write_text(ledger.read_text().replace(".ome.tif", ".gone.tif"))
    session = blind(results)
    for code in codes:
        with session.slide(code) as review, pytest.raises(SlideError) as failure:
            review.open_slide()
        assert [name for name in NAMES if name in str(failure.value)] == []
        assert str(results.parent) not in str(failure.value)
    (results / "slides" / COL7 / "anatomy.npz").unlink()
    told = []
    for code in codes:
        try:
            session.slide(code).close()
        except ReviewError as error:
            told.append(str(error))
    assert len(told) == 1
    assert "measure the slide again" in told[0]
    assert [name for name in NAMES if name in told[0]] == []


def test_a_slide_that_breaks_while_it_is_open_shows_no_name(results: Path) -> None:
    session = blind(results)
    with session.slide("Slide 001") as review, review.open_slide() as slide:
        assert isinstance(slide, Slide)
        assert "Slide 001" in repr(slide)
        assert slide.read(slide.mpp, 0, 0, 4, 4).shape[:2] == (4, 4)
        told = []
        for fail in (
            lambda: slide.region(-5, 0, 9, 9),
            lambda: slide.associated("label"),
            lambda: slide.region(0, 0, 4, 4, 99),
            lambda: slide.pixels(slide.mpp / 9).compute(),
        ):
            with pytest.raises(SlideError) as failure:
                fail()
            told.append(str(failure.value))
    text = "\n".join(told).casefold()
    assert [name for name in NAMES if name.casefold() in text] == []
    assert str(results.parent).casefold() not in text


def test_remeasuring_shows_codes_while_the_key_is_sealed(results: Path) -> None:
    code = review_one(results)
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace(".ome.tif", ".gone.tif"))
    found = CliRunner().invoke(app, ["remeasure", str(results), "--reviewer", "anna"])
    assert f"{code}: 2 edit(s) applied, accepted (good)" in found.output
    assert "overlay is that from before" in found.output
    assert [name for name in NAMES if name in found.output] == []
    assert {r.slide_id for r in blind(results).remeasure()} == {f"Slide 00{k}" for k in (1, 2, 3)}
    unblind(results, "anna")
    found = CliRunner().invoke(app, ["remeasure", str(results)])
    assert any(f"{name}: 2 edit(s)" in found.output for name in (P16, OTHER_P16, COL7))


def test_the_order_is_shuffled_and_stays(results: Path) -> None:
    orders = {
        tuple(read.codes[name] for name in (P16, OTHER_P16, COL7))
        for who in "abcdefghijklmnopqrst"
        if blind(results, who) and (read := read_key(results, who))
    }
    assert len(orders) > 1  # 20 readers with one order among 6: 1 in 10^15
    assert [i.name for i in blind(results, "a").worklist()] == [
        "Slide 001", "Slide 002", "Slide 003",
    ]  # fmt: skip
    key = read_key(results, "a")
    assert key is not None
    blind(results, "a")
    again = read_key(results, "a")
    assert again is not None
    assert again.codes == key.codes


def test_two_windows_make_one_key(results: Path) -> None:
    ids = [P16, OTHER_P16, COL7]
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: blinding.extended(results, "anna", ids).codes, range(8)))
    assert all(codes == keys[0] for codes in keys)
    assert [path.suffix for path in (results / "blinding").iterdir()] == [".key"]


def test_the_key_is_sealed_in_a_file_of_its_own(results: Path) -> None:
    blind(results)
    (path,) = (results / "blinding").iterdir()
    text = path.read_text()
    assert [name for name in NAMES if name in text] == []
    path.write_text(text.replace('"sealed": "', '"sealed": "0'))
    with pytest.raises(ReviewError, match="key of the blinded review.*is damaged"):
        blind(results)


def test_a_slide_that_came_later_gets_a_code_too(results: Path) -> None:
    ledger = results / "ledger.csv"
    whole = ledger.read_text()
    kept = [line for line in whole.splitlines(keepends=True) if COL7 not in line]
    ledger.write_text("".join(kept))
    assert len(blind(results).worklist()) == 2
    ledger.write_text(whole)
    session = blind(results)
    assert [item.marker for item in session.worklist()] == ["p16", "p16", "col7"]
    assert session.worklist()[-1].name == "Slide 003"


def test_a_slide_finished_during_a_session_is_not_shown_by_its_name(results: Path) -> None:
    place = results / "slides" / COL7
    place.rename(results / "later")
    session = blind(results)
    (results / "later").rename(place)
    assert [item.name for item in session.worklist()] == ["Slide 001", "Slide 002"]
    assert session.next_after("Slide 002") is None
    with pytest.raises(ReviewError, match="there is no slide"):
        session.slide(COL7)
    assert len(blind(results).worklist()) == 3


def test_names_of_excluded_slides_and_of_nuclear_slides_are_hidden(results: Path) -> None:
    ledger = Ledger.read(results / "ledger.csv")
    extra = {"slide_id": "P77_back", "person": "P77", "status": "excluded", "reason": "control",
             "nuclear_slide": "", "resolved_path": "/data/P77_back.svs"}  # fmt: skip
    ledger.rows[0]["nuclear_slide"] = "stained/P01_dapi.tif"
    ledger.rows.append(dict.fromkeys(ledger.rows[0], "") | extra)
    ledger.save()
    session = blind(results)
    text = session.hide("P77 of P77_back.svs beside P01_dapi and stained/P01_dapi.tif")
    assert [n for n in ("P77", "back", "P01", "dapi") if n in text] == []


def test_a_review_is_blinded_from_its_beginning_to_its_end(results: Path) -> None:
    with opened(results) as review:
        review.apply(AddNote("seen with its name"))
    with pytest.raises(ReviewError, match="names in sight"):
        blind(results)
    review_one(results, "bob")
    with pytest.raises(ReviewError, match="blinded: open it with --blind, or unblind it first"):
        ReviewSession(results, "bob")


def test_unblinding_locks_first_and_then_tells(results: Path) -> None:
    code = review_one(results)
    key = read_key(results, "anna")
    assert key is not None
    (slide_id,) = (name for name, own in key.codes.items() if own == code)
    opened_key = unblind(results, "anna")
    table = pd.read_csv(opened_key.path).set_index("code")
    assert dict(table["slide"]) == {own: name for name, own in key.codes.items()}
    assert table.loc[code, "edits"] == 3
    assert len(str(table.loc[code, "sha256"])) == 64
    with ReviewSession(results, "anna").slide(slide_id) as review:
        assert review.locked
        assert not review.can_undo
        with pytest.raises(ReviewError, match="locked"):
            review.apply(AddNote("after the fact"))
    other = next(name for name in key.codes if name != slide_id)
    with (
        ReviewSession(results, "anna").slide(other) as review,
        pytest.raises(ReviewError, match="locked"),
    ):
        review.apply(AddNote("on a slide that had no journal"))
    before = opened_key.path.read_bytes()
    assert unblind(results, "anna").path.read_bytes() == before  # again: nothing changes
    assert [report.problem for report in remeasure(results)] == ["", "", ""]


def test_a_locked_journal_that_was_changed_is_not_measured(results: Path) -> None:
    review_one(results)
    (journal,) = results.rglob("review.jsonl")
    unblind(results, "anna")
    journal.write_text(journal.read_text().replace("fold", "tear"))
    problems = [report.problem for report in remeasure(results)]
    assert sum("changed after it was locked" in problem for problem in problems) == 1


def test_a_window_that_wrote_nothing_yet_is_closed_by_unblinding_too(results: Path) -> None:
    review_one(results)
    early = blind(results)
    codes = {item.name: item for item in early.worklist()}
    (unread,) = [name for name, item in codes.items() if item.marker == "col7"]
    with early.slide(unread), pytest.raises(ReviewError, match="nothing is unblinded"):
        unblind(results, "anna")
    unblind(results, "anna")
    with early.slide(unread) as review, pytest.raises(ReviewError, match="locked"):
        review.apply(SetVerdict("rejected", "now I know"))
    key = read_key(results, "anna")
    assert key is not None
    (slide_id,) = [name for name, code in key.codes.items() if code == unread]
    path = results / "slides" / slide_id / "review.jsonl"
    assert [json.loads(line)["kind"] for line in path.read_text().splitlines()] == ["lock"]
    assert reviewers(RunDirectory(results)) == {"anna": 1}  # a lock alone is no reading
    assert [i.status for i in ReviewSession(results, "anna").worklist()].count("new") == 2


def test_names_are_not_given_away_while_a_slide_is_open(results: Path) -> None:
    code = review_one(results)
    with (
        blind(results).slide(code),
        pytest.raises(ReviewError, match=f"{code} cannot be locked, nothing is unblinded"),
    ):
        unblind(results, "anna")
    key = read_key(results, "anna")
    assert key is not None
    assert not key.unblinded
    assert not key.path.with_suffix(".csv").exists()


def test_the_commands(results: Path) -> None:
    review_one(results)

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    found = run("review", results, "--unblind", "--reviewer", "bob")
    assert found.exit_code == 2
    assert "is not blinded" in found.stderr
    found = run("review", results, "--blind", "--unblind")
    assert found.exit_code == 2
    found = run("review", results, "--unblind", "--reviewer", "anna")
    assert found.exit_code == 0, found.stderr
    assert "3 edit(s)" in found.stdout
    assert P16 in found.stdout


def test_review_without_the_plugin_says_what_to_install(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("histoquant.cli_review.PLUGIN", "napari_histoquant_is_not_here")
    found = CliRunner().invoke(app, ["review", str(results), "--reviewer", "anna"])
    assert found.exit_code == 2
    assert "pip install 'histoquant[napari]'" in found.stderr
    found = CliRunner().invoke(app, ["review", str(results / "nowhere"), "--reviewer", "anna"])
    assert found.exit_code == 2
    assert "no results directory" in found.stderr


def test_names_are_hidden_whatever_their_case() -> None:
    names = {"P01_left": "Slide 001", "P01": "...", "/data/P01_left.svs": "Slide 001"}
    text = "cannot read /data/p01_left.svs: P01_LEFT of p01"
    assert hidden(text, names) == "cannot read Slide 001: Slide 001 of ..."


def test_hiding_names_leaves_codes_and_numbers() -> None:
    names = {"001": "...", "12": "...", "de": "...", "Slide 001": "Slide 001", "12_a": "Slide 001"}
    text = "Slide 001: edit 312 at 1200 um of the model; 12_a.svs by DE, 12_b"
    assert hidden(text, names) == (
        "Slide 001: edit 312 at 1200 um of the model; Slide 001.svs by ..., ..._b"
    )
