"""The page in a real browser: it shows, sorts, filters, zooms, prints, and asks for nothing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from browser import open_browser
from fakes import make_result
from histoquant.manifest import Entry
from histoquant.report import write_report
from histoquant.results import write_result
from histoquant.rundir import RunDirectory

EVIL = '<img src="http://192.0.2.1/x.png" onerror="document.title=`taken`">'


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight samples of p16 and two of col7, two batches of controls, three slides lost."""
    run = RunDirectory(tmp_path_factory.mktemp("page") / "Studie <Ünal>")
    run.slides.mkdir(parents=True)
    ledger = run.ledger()
    picture = _picture()
    for number, percent in enumerate((12.5, 3.0, None, 40.0, 9.0, 100.0, 7.5, 11.0)):
        entry = _entry(
            f"s{number}", "p16", {0: EVIL, 5: "long" * 1000}.get(number, f"P{number:02}")
        )
        result = make_result(slide_id=entry.slide_id, positive_percent=percent)
        result.provenance["threshold_sweep"] = _sweep()
        write_result(result, run.slide(entry.slide_id))
        (run.slide(entry.slide_id) / "overlay.png").write_bytes(picture)
        ledger.record(entry, "done", seconds=1.5)
    for number in range(2):
        entry = _entry(f"c{number}", "col7", f"P{number:02}")
        write_result(_col7(entry.slide_id), run.slide(entry.slide_id))
        (run.slide(entry.slide_id) / "overlay.png").write_bytes(picture)
        ledger.record(entry, "done", seconds=2.0)
    for number, status in enumerate(("failed", "failed", "excluded")):
        entry = _entry(f"lost{number}", "p16", "P90")
        ledger.record(entry, status, f"{entry.slide}: {EVIL}" if status == "failed" else "not in")  # type: ignore[arg-type]
    ledger.save()
    run.write_run({"version": "0", "host": EVIL, "started": "2026-01-02T03:04:05+00:00"})
    return write_report(run.path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    """The page, open; at the end it must have been quiet: no error, no request, no script run."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    opened = context.new_page()
    noise: list[str] = []
    opened.on("console", lambda message: noise.append(message.text))
    opened.on("pageerror", lambda error: noise.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    outside = [url for url in asked if not url.startswith("data:") and url != report.as_uri()]
    title = opened.title()
    context.close()
    assert noise == []
    assert outside == []
    assert title == "Studie <Ünal> – histoquant"


def column(page: Any, name: str) -> list[str]:
    heads = page.locator("#markers-p16 thead th button").all_text_contents()
    at = heads.index(name) + 1
    cells = page.locator(f"#markers-p16 tbody tr:not([hidden]) td:nth-child({at})")
    return list(cells.all_text_contents())


def test_it_shows_everything_once(page: Any) -> None:
    text = page.locator("body").inner_text()
    for words in ("Slides received: 13", "2 failed", "Staining, batch by batch", "10 measured"):
        assert words in text
    assert EVIL in text
    assert page.locator("main img[src^=http]").count() == 0
    drawn = page.locator("main svg").all()
    assert len(drawn) >= 14
    assert all(svg.bounding_box() is None or svg.bounding_box()["width"] > 50 for svg in drawn)
    pictures = "imgs => imgs.every(i => i.complete && i.naturalWidth > 0)"
    assert page.locator("main img").evaluate_all(pictures)


def test_sorting_goes_by_number_and_leaves_the_missing_last(page: Any) -> None:
    button = page.locator("#markers-p16 th button", has_text="positive_percent").first
    button.click()
    shown = [c.split(" ")[0] for c in column(page, "positive_percent")]
    assert shown == ["3", "7.5", "9", "11", "12.5", "40", "100", "–"]
    assert button.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    button.focus()
    page.keyboard.press("Enter")
    shown = [c.split(" ")[0] for c in column(page, "positive_percent")]
    assert shown == ["100", "40", "12.5", "11", "9", "7.5", "3", "–"]


def test_filtering_keeps_the_rows_that_match(page: Any) -> None:
    page.locator("input[data-for=markers-p16]").fill("p03")
    assert column(page, "person") == ["P03"]
    assert page.locator("#samples-p16 output").inner_text() == "1 of 8"
    page.locator("input[data-for=markers-p16]").fill("")
    assert len(column(page, "person")) == 8
    page.locator("input[data-for=all-slides]").fill("col7 P01")
    assert page.locator(".slides > details:visible").count() == 1


def test_all_columns_can_be_shown(page: Any) -> None:
    heads = page.locator("#markers-p16 thead th:visible")
    few = heads.count()
    page.get_by_role("button", name="Show all columns").first.click()
    assert heads.count() > few + 20


def test_a_link_opens_its_slide(page: Any) -> None:
    page.locator("#ledger-table a", has_text="c1").click()
    slide = page.locator("#slide-c1")
    assert slide.get_attribute("open") is not None
    assert slide.locator("svg").count() == 2
    assert slide.locator("svg image").count() == 1


def test_the_picture_zooms_and_pans_by_mouse_and_by_keyboard(page: Any) -> None:
    page.locator("#slide-s0 .zoomable").focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#zoom")
    page.wait_for_function("document.getElementById('zoom').dataset.scale !== undefined")
    fitted = float(dialog.get_attribute("data-scale"))
    page.keyboard.press("+")
    assert float(dialog.get_attribute("data-scale")) == pytest.approx(1.5 * fitted, rel=0.01)
    box = page.locator(".stage img").bounding_box()
    page.keyboard.press("ArrowRight")
    assert page.locator(".stage img").bounding_box()["x"] == pytest.approx(box["x"] - 60)
    page.mouse.move(640, 450)
    page.mouse.wheel(0, -400)
    page.wait_for_function("s => +document.getElementById('zoom').dataset.scale > s",
                           arg=2 * fitted)  # fmt: skip
    before = page.locator(".stage img").bounding_box()
    page.mouse.down()
    page.mouse.move(700, 500, steps=3)
    page.mouse.up()
    after = page.locator(".stage img").bounding_box()
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((60, 50), abs=1)
    page.get_by_role("button", name="Fit").click()
    assert float(dialog.get_attribute("data-scale")) == pytest.approx(fitted)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_the_legend_says_what_the_overlay_shows(page: Any) -> None:
    words = page.locator("#slide-s0 .legend li").all_text_contents()
    assert {"junction", "positive nucleus", "negative nucleus"} <= {w.strip() for w in words}
    page.locator("#ledger-table a", has_text="c1").click()
    words = page.locator("#slide-c1 .legend li").all_text_contents()
    assert {"collagen VII", "no collagen VII"} <= {w.strip() for w in words}
    swatches = page.locator(".legend i").evaluate_all(
        "all => all.filter(i => i.offsetParent).every(i => i.getBoundingClientRect().width > 5)"
    )
    assert swatches


def test_no_name_is_broken_inside_a_word(page: Any) -> None:
    """Lines of a table of figures end behind an underscore, or not at all."""
    lines = page.locator("#slide-s0 th[scope=row]").evaluate_all(
        """heads => heads.filter(h => h.offsetParent).map(h => {
          const range = document.createRange(), parts = [];
          for (const node of h.childNodes) if (node.nodeType === 3) {
            range.selectNodeContents(node);
            parts.push(range.getClientRects().length);
          }
          return Math.max(...parts);
        })"""
    )
    assert lines
    assert max(lines) == 1


def test_it_fits_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_prints(page: Any) -> None:
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 3
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator(".slides > details:visible").count() == 1


def test_without_scripts_everything_is_still_there(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(report.as_uri())
    assert opened.locator("#markers-p16 tbody tr").count() == 8
    assert opened.locator("#slide-s0 img").is_visible()
    context.close()


def _entry(name: str, marker: str, person: str) -> Entry:
    control = {"s6": "positive", "s7": "positive"}.get(name, "none")
    return Entry(
        slide=f"{name}.svs", path=f"/x/{name}.svs", marker=marker, slide_id=name, person=person,
        site="left", visit="m8", batch=f"run_{name[-1]}", control=control,
        resolved_path=f"/x/{name}.svs",
    )  # fmt: skip


def _picture() -> bytes:
    out = io.BytesIO()
    y, x = np.mgrid[:600, :900]
    Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)).save(
        out, "PNG"
    )
    return out.getvalue()


def _sweep() -> list[dict[str, Any]]:
    return [
        {"threshold_od": t, "compartment": name, "n_nuclei": 100, "n_positive": 10,
         "positive_percent": 20 - 30 * t, "positive_percent_low": 15 - 30 * t,
         "positive_percent_high": 26 - 30 * t}
        for t in (0.1, 0.2, 0.3, 0.4)
        for name in ("all", "epidermis_basal", "dermis_reticular")
    ]  # fmt: skip


def _col7(slide_id: str) -> Any:
    """A result whose straightened junction has a gap in the middle and a hole without pixels."""
    result = make_result("col7", slide_id, positive_threshold_od=0.1)
    depth = -15 + 0.5 * np.arange(71)
    od = np.tile(0.6 * np.exp(-(depth**2) / 8), (400, 1)).astype(np.float32)
    od[160:240] = 0.01
    od[300:310, :20] = np.nan
    bins = pd.concat([result.junction.iloc[[0]]] * 20, ignore_index=True).assign(
        bin=np.arange(20), stretch=0, arc_start_um=10.0 * np.arange(20),
        arc_end_um=10.0 * np.arange(1, 21), excluded=np.arange(20) < 2,
        peak_od=[0.01 if 8 <= n < 12 else 0.6 for n in range(20)],
        positive=[not 8 <= n < 12 for n in range(20)],
    )  # fmt: skip
    provenance = {"straightened": {"step_um": 0.5, "first_depth_um": -15.0,
                                   "samples_of_stretch": [400]}}  # fmt: skip
    from dataclasses import replace

    return replace(result, straightened=od, junction=bins, provenance=provenance)
