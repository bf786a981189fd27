"""The page: self-contained, complete, and of a sane size."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fakes import FakePipeline, make_result, write_tiny_slide
from histoquant import batch, tables
from histoquant.errors import ResultError
from histoquant.manifest import read_manifest
from histoquant.report import HEADLINES, write_report
from histoquant.report.figures import show, show_rate
from histoquant.results import write_result
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.study.run import run_study

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the page shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [v for k in ("src", "href") if (v := given.get(k))]
        self.ids += [v for k in ("id",) if (v := given.get(k))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def results(tmp_path: Path, fake_pipeline: FakePipeline) -> Path:
    """Three slides done, one with a missing figure, and one failed; a name that is markup."""
    for name in ("a", "b", "c", "blank"):
        write_tiny_slide(tmp_path / f"{name}.ome.tif")
    rows = ["a.ome.tif,p16,<b>Ann</b>,left,m8", "b.ome.tif,p16,P2,left,m8",
            "c.ome.tif,col7,P2,left,m8", "blank.ome.tif,p16,P3,left,m8"]  # fmt: skip
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("\n".join(["slide,marker,person,site,visit", *rows]))
    directory = RunDirectory(tmp_path / "out")
    with directory.locked():
        steps = batch.plan(read_manifest(manifest).usable, directory, Settings())
        batch.run(steps, directory)
    result = make_result(slide_id="b", surface_length_mm=None)
    result.reasons["surface_length_mm"] = "no skin surface & no junction"
    write_result(result, directory.slide("b"))
    return directory.path


def test_page_is_whole_and_loads_nothing(results: Path) -> None:
    text = write_report(results).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?://|@import|url\(", text)


def test_page_shows_ledger_tables_reasons_and_provenance(results: Path) -> None:
    shown = " ".join(Page(write_report(results).read_text(encoding="utf-8")).text)
    for words in (
        "blank.ome.tif: no tissue was found",
        "no skin surface & no junction",
        "<b>Ann</b>",
        "settings_sha256",
        *HEADLINES["p16"],
        *HEADLINES["col7"],
    ):
        assert words in shown


def test_headings_explain_themselves(results: Path) -> None:
    text = write_report(results).read_text(encoding="utf-8")
    assert 'title="Positive nuclei of all nuclei. (%)"' in text


def test_a_study_without_a_single_success_has_a_page(
    tmp_path: Path,
    fake_pipeline: FakePipeline,
) -> None:
    write_tiny_slide(tmp_path / "blank.ome.tif")
    (tmp_path / "m.csv").write_text("slide,marker,person,site,visit\nblank.ome.tif,p16,P,l,v\n")
    directory = RunDirectory(tmp_path / "out")
    with directory.locked():
        steps = batch.plan(read_manifest(tmp_path / "m.csv").usable, directory, Settings())
        batch.run(steps, directory)
    assert "No slide is done" in write_report(directory.path).read_text(encoding="utf-8")


def test_large_overlays_are_made_smaller(results: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3000, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(results / "slides" / "a" / "overlay.png")
    text = write_report(results).read_text(encoding="utf-8")
    images = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", text)
    sizes = [Image.open(io.BytesIO(base64.b64decode(image))).size for image in images]
    assert max(max(size) for size in sizes) == 1600
    assert len(text) < 6_000_000


@pytest.fixture
def study(results: Path) -> Path:
    """The results with a study of their own: two people, of whom one has a pair."""
    design = ["person,site,visit,arm", "<b>Ann</b>,left,m8,cream", "<b>Ann</b>,right,m8,placebo",
              "P2,left,m8,placebo", "P2,right,m8,cream", "P3,left,m8,cream",
              "P3,right,m8,placebo"]  # fmt: skip
    (results.parent / "design.csv").write_text("\n".join(design))
    RunDirectory(results).write_tables()
    run_study(results, results.parent / "design.csv")
    return results


def test_the_study_is_part_of_the_page(study: Path) -> None:
    text = write_report(study).read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert "study" in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith(("data:image/webp;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|@import|url\(", text)
    shown = " ".join(page.text)
    for words in ("Carry-across", "n is people", "<b>Ann</b>", "No plan was given"):
        assert words in shown
    assert "The marker table has changed" not in shown


def test_a_study_of_an_older_marker_table_is_marked(study: Path) -> None:
    write_result(make_result(slide_id="b", positive_percent=50.0), study / "slides" / "b")
    shown = " ".join(Page(write_report(study).read_text(encoding="utf-8")).text)
    assert "The marker table has changed since the statistics below were made" in shown
    RunDirectory(study).write_tables()
    run_study(study, study.parent / "design.csv")
    shown = " ".join(Page(write_report(study).read_text(encoding="utf-8")).text)
    assert "The marker table has changed" not in shown


def test_half_a_study_is_not_shown(study: Path) -> None:
    (study / "study" / "study.json").unlink()
    assert "Carry-across" not in write_report(study).read_text(encoding="utf-8")


def test_no_results_no_page(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no results directory"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (0.123456, "0.1235"), (12345.6, "12346"), (7, "7"),
     ("x", "x"), (0.0, "0")],
)  # fmt: skip
def test_numbers_for_people(value: object, text: str) -> None:
    assert show(value) == text


def test_rates_show_their_limits() -> None:
    column = next(c for c in tables.measured_columns("p16") if c.name == "positive_percent")
    row = {"positive_percent": 12.3456, "positive_percent_low": 9.87, "positive_percent_high": 15.0}
    assert show_rate(row, column) == "12.35 [9.87–15]"
    assert show_rate({"positive_percent": None}, column) == "–"
