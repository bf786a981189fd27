"""The page: self-contained, complete, and of a sane size."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from PIL import Image

from fakes import FakePipeline, make_result, write_tiny_slide
from histoquant import batch, tables
from histoquant.drift import Stain
from histoquant.errors import ResultError
from histoquant.export import export_results
from histoquant.manifest import read_manifest
from histoquant.report import HEADLINES, write_report
from histoquant.report.charts import Point, strip
from histoquant.report.figures import show, show_rate
from histoquant.report.overview import drift_section, lost_slides, verdict_of
from histoquant.report.pictures import PAGE_BYTES, fitting_uri, slide_budget
from histoquant.results import write_result
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.study.run import run_study

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


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
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert not re.search(r"https?://|@import|url\(", text)


def test_page_shows_ledger_tables_reasons_and_provenance(results: Path) -> None:
    shown = "".join(Page(write_report(results).read_text(encoding="utf-8")).text)
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


def test_a_ledger_without_slides_and_a_folder_nobody_knows(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "empty")
    run.slides.mkdir(parents=True)
    run.ledger().save()
    (run.slides / "who?").mkdir()
    text = write_report(run.path).read_text(encoding="utf-8")
    assert Page(text).open == []
    assert "Slides received: 0" in text
    assert "who?" not in text


def test_large_overlays_are_made_smaller(results: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3000, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(results / "slides" / "a" / "overlay.png")
    text = write_report(results).read_text(encoding="utf-8")
    images = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", text)
    largest = max((base64.b64decode(image) for image in images), key=len)
    assert 0.5 * slide_budget(3) < len(largest) <= slide_budget(3)
    assert Image.open(io.BytesIO(largest)).size[1] > 600


def test_the_pictures_of_a_page_share_a_budget() -> None:
    assert slide_budget(1) == slide_budget(20)
    assert 300 * slide_budget(300) <= PAGE_BYTES
    rng = np.random.default_rng(1)
    smooth = Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).resize((3000, 2000))
    for budget in (40_000, 150_000, 300_000):
        content = base64.b64decode(fitting_uri(smooth, budget).partition(",")[2])
        assert len(content) <= budget
    noise = Image.fromarray(rng.integers(0, 255, (900, 900, 3), dtype=np.uint8))
    least = base64.b64decode(fitting_uri(noise, 1000).partition(",")[2])
    assert Image.open(io.BytesIO(least)).size == (360, 360)


def test_a_damaged_picture_costs_only_itself(results: Path) -> None:
    (results / "slides" / "a" / "overlay.png").write_bytes(b"\x89PNG no")
    shutil.rmtree(results / "slides" / "c" / "straightened.zarr")
    (results / "slides" / "c" / "straightened.zarr").mkdir()
    shown = " ".join(Page(write_report(results).read_text(encoding="utf-8")).text)
    assert "The overlay cannot be read" in shown
    assert "The straightened junction cannot be read" in shown


def test_reasons_that_differ_by_the_slides_name_are_one(tmp_path: Path) -> None:
    rows = [
        {
            "status": "failed",
            "slide": f"in/{n}.svs",
            "slide_id": n,
            "resolved_path": f"/x/in/{n}.svs",
            "reason": f"/x/in/{n}.svs: no tissue was found",
        }
        for n in "abc"
    ]
    rows += [rows[0] | {"status": "excluded", "slide_id": "d", "reason": ""}]
    assert lost_slides(rows) == [
        {
            "status": "failed",
            "reason": "…: no tissue was found",
            "n": 3,
            "which": ["a", "b", "c"],
            "n_more": 0,
        },
        {"status": "excluded", "reason": "no reason given", "n": 1, "which": ["d"], "n_more": 0},
    ]
    many = [rows[0] | {"slide_id": f"s{n}", "reason": "lost"} for n in range(40)]
    (group,) = lost_slides(many)
    assert (len(group["which"]), group["n_more"]) == (12, 28)


def test_a_flagged_batch_is_told_in_words_and_drawn() -> None:
    stains = [Stain(f"s{n}", "p16", "positive", f"run <{n}>", od, 0.3, 0.1)
              for n, od in enumerate((0.5, 0.5, 0.52, 0.9))]  # fmt: skip
    section = drift_section(stains)
    assert section is not None
    assert section["verdict"] == (
        "1 of 4 batches of control slides flagged: run <3> (p16, positive control)."
    )
    (dab, hematoxylin) = section["charts"]
    assert dab.count(">flagged<") == 1
    assert ">flagged<" not in hematoxylin
    assert "run &lt;3&gt;" in dab
    assert drift_section([]) is None


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ({"summary": {"warnings": "none"}, "reasons": {}}, ("ok", [])),
        ({"summary": {"warnings": "no glass"}, "reasons": {}}, ("review", ["no glass"])),
        ({"provenance": {"warnings": ["a", "b"]}, "reasons": {}}, ("review", ["a", "b"])),
        ({"summary": {}, "reasons": {"dej_length_mm": "no epidermis"}},
         ("review", ["no figure along the junction: no epidermis"])),
        ({"summary": {"quality": "reject", "quality_reasons": "out of focus; pen"}},
         ("reject", ["out of focus", "pen"])),
    ],
)  # fmt: skip
def test_verdicts(record: dict[str, object], verdict: tuple[str, list[str]]) -> None:
    assert verdict_of(record) == verdict


def test_figures_that_are_all_missing_draw_nothing(results: Path) -> None:
    for slide in "ab":
        empty = dict.fromkeys((c.name for c in tables.measured_columns("p16")
                               if c.dtype != "string"), float("nan"))  # fmt: skip
        write_result(
            make_result(slide_id=slide, **empty | {"mpp": 0.5}), results / "slides" / slide
        )
    text = write_report(results).read_text(encoding="utf-8")
    assert Page(text).open == []
    assert "nan" not in re.sub(r'data:[^"]+', "", text.partition("<script>")[0]).lower()


def test_strips_keep_dots_apart_and_name_them() -> None:
    column = next(c for c in tables.measured_columns("p16") if c.name == "positive_percent")
    points = [Point(f"<P{n}>", 5.0 + n % 3, control=n == 0) for n in range(12)]
    drawing = strip(column, points, 2)
    assert drawing is not None
    svg = drawing.inline()
    assert "&lt;P3&gt;: 5 (%)" in svg
    assert "11 samples, median 6, 2 missing" in svg
    places = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
    assert len(set(places)) == 12
    assert strip(column, [Point("a", float("nan"))], 1) is None
    extreme = strip(column, [Point("a", 1e300), Point("b", 1.0)], 0)
    assert extreme is not None
    assert "no axis can show" in extreme.inline()


def test_dots_shrink_until_none_hides_another() -> None:
    column = next(c for c in tables.measured_columns("col7") if c.name == "n_gaps")
    points = [Point(f"P{n}", float(n % 3)) for n in range(72)]
    drawing = strip(column, points, 0)
    assert drawing is not None
    svg = drawing.inline()
    assert "72 samples, median 1" in svg
    dots = np.array(re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', svg), float)
    assert len(dots) == 72
    away = np.hypot(*(dots[:, None, k] - dots[None, :, k] for k in (0, 1)))
    np.fill_diagonal(away, np.inf)
    assert away.min() >= 1.99 * dots[0, 2]
    assert dots[:, 1].min() > 45  # below the words
    assert dots[:, 1].max() < 126  # above the axis


def test_a_slide_without_epidermis_is_shown_and_in_no_table(results: Path) -> None:
    result = make_result(slide_id="b", dej_length_mm=None)
    result.reasons["dej_length_mm"] = "no epidermis found"
    write_result(result, results / "slides" / "b")
    text = write_report(results).read_text(encoding="utf-8")
    assert "slide-b" in Page(text).ids
    shown = " ".join(Page(text).text)
    assert "In no table: failed: no figure along the junction: no epidermis found" in shown
    table = text.partition('id="markers-p16"')[2].partition("</table>")[0]
    assert "P2" not in table
    received = text.partition('id="received"')[2].partition("</section>")[0]
    assert '<a href="#slide-b">b</a>' in received


def test_grey_levels_are_not_called_od(results: Path) -> None:
    unit = "grey levels (16 bit)"
    write_result(make_result("col7", "c", marker_unit=unit), results / "slides" / "c")
    text = write_report(results).read_text(encoding="utf-8")
    table = text.partition('id="markers-col7"')[2].partition("</thead>")[0]
    assert f"<small>{unit} um</small>" in table
    assert "<small>OD" not in table
    page = text.partition('id="slide-c"')[2].partition("Where it comes from")[0]
    assert f'<td class="soft keep">{unit} um</td>' in page
    assert '<td class="soft keep">OD' not in page


def test_a_missing_rate_has_no_limits() -> None:
    column = next(c for c in tables.measured_columns("p16") if c.name == "positive_percent")
    row = {"positive_percent": None, "positive_percent_low": 9.87, "positive_percent_high": 15.0}
    assert show_rate(row, column) == "–"


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
    assert all(link.startswith(("data:", "#")) for link in page.links)
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


def test_the_tables_of_the_study_are_explained_and_in_the_workbook(study: Path) -> None:
    told = json.loads((study / "study" / "columns.json").read_text(encoding="utf-8"))
    written = sorted((study / "study").glob("*.csv"))
    assert written
    for path in written:
        header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
        assert header == [column["name"] for column in told[path.name]]
        assert all(column["meaning"] for column in told[path.name])
    (path,) = export_results(study, "xlsx").paths
    sheet = openpyxl.load_workbook(path)["study contrasts"]
    assert [cell.value for cell in sheet[1]] == [c["name"] for c in told["contrasts.csv"]]


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
