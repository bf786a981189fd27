"""Review of slides on which quality control found artefacts, and of fluorescence slides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from histoquant import measuring, phantom
from histoquant.anatomy import DERMIS, EPIDERMIS, Compartments
from histoquant.artefacts import BLUR, NONE, PEN, REASONS
from histoquant.errors import ResultError
from histoquant.junction import trace_junction
from histoquant.manifest import Entry
from histoquant.pipeline import quantify
from histoquant.quality import Artefacts, leave_out, mark
from histoquant.results import SlideResult, read_result
from histoquant.review import remeasure, remeasuring, store
from histoquant.review.edits import (
    AddNote,
    DeleteJunction,
    Edit,
    ExcludeRegion,
    IncludeRegion,
    Line,
    RedrawJunction,
    SetCompartment,
)
from histoquant.review.geometry import Edits, as_measured
from histoquant.review.measuring import EditedSlide, Measured
from histoquant.review.pixels import measure_line_anew, open_pixels
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.slides import open_slide
from reviewed import COL7, OTHER_P16, P16, fresh_results, opened

HALF_UM = 40.0


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SlideResult:
    """A p16 slide without artefacts."""
    return read_result(fresh_results(tmp_path_factory.mktemp("plain")) / "slides" / P16)


@pytest.fixture(scope="module")
def blurred(plain: SlideResult) -> EditedSlide:
    """The same slide, out of focus around the middle of its junction."""
    y, x = middle(plain)
    return with_artefact(plain, BLUR, (y - HALF_UM, x - HALF_UM), (y + HALF_UM, x + HALF_UM))


def middle(result: SlideResult) -> tuple[float, float]:
    assert result.junction_line is not None
    points = result.junction_line.stretches[0].points_um
    y, x = points[len(points) // 2]
    return float(y), float(x)


def with_artefact(
    result: SlideResult, code: int, low: tuple[float, float], high: tuple[float, float]
) -> EditedSlide:
    """The slide as the pipeline would hand it over with an artefact from corner to corner."""
    assert result.compartments is not None
    assert result.junction_line is not None
    mpp = result.compartments.mpp
    codes = np.zeros(result.compartments.labels.shape, np.uint8)
    (top, left), (bottom, right) = (np.rint(np.array(c) / mpp).astype(int) for c in (low, high))
    codes[max(top, 0) : bottom, max(left, 0) : right] = code
    marked = mark(result.compartments, Artefacts(codes, mpp))
    line = leave_out(result.junction_line, marked)
    slide = EditedSlide(replace(result, compartments=marked, junction_line=line), anew=True)
    found = slide.measure([])
    automatic = replace(
        slide.automatic, summary=found.summary, nuclei=found.nuclei, junction=found.bins
    )
    return EditedSlide(automatic)


def square(y: float, x: float, half: float) -> Line:
    return ((y - half, x - half), (y - half, x + half), (y + half, x + half), (y + half, x - half))


def measured(slide: EditedSlide, *edits: Edit) -> Measured:
    found = slide.measure(list(enumerate(edits, 1)))
    assert found.lost == {}
    return found


def drawn(slide: EditedSlide, reach_um: float) -> Line:
    """The junction once more, `reach_um` to either side of the middle of the slide."""
    stretch = slide.geometry.junction.stretches[0]
    arc = stretch.arc_um - stretch.arc_um[len(stretch.arc_um) // 2]
    return tuple((float(y), float(x)) for y, x in stretch.points_um[np.abs(arc) <= reach_um][::3])


def an_edit(slide: EditedSlide, kind: str) -> Edit:
    """An edit of a kind, beside the artefact or through it."""
    points = slide.geometry.junction.stretches[0].points_um
    y, x = middle(slide.automatic)
    ends = [(float(a), float(b)) for a, b in points[[len(points) // 6, len(points) // 5]]]
    if kind == "delete":
        return DeleteJunction(ends[0], ends[1])
    if kind == "redraw":
        return RedrawJunction(drawn(slide, 120.0))
    return SetCompartment(square(y + 15, x + HALF_UM, 12.0), "epidermis")


@pytest.mark.parametrize("kind", ["delete", "redraw", "paint"])
def test_an_edited_junction_stays_left_out_in_an_artefact(blurred: EditedSlide, kind: str) -> None:
    before, after = measured(blurred), measured(blurred, an_edit(blurred, kind))
    compartments = after.geometry.compartments
    n_blurred = 0
    for stretch in after.geometry.junction.stretches:
        codes = compartments.artefact_at(stretch.points_um)
        np.testing.assert_array_equal(stretch.artefacts, codes)
        assert stretch.excluded[codes != NONE].all()
        assert (stretch.reasons[codes == BLUR] == REASONS[BLUR]).all()
        n_blurred += int((codes == BLUR).sum())
    assert n_blurred > 20
    out = [(m.bins["exclusion_reason"] == REASONS[BLUR]).sum() for m in (before, after)]
    assert out[0] >= 7
    assert abs(out[1] - out[0]) <= 3
    if kind == "redraw":
        again, length = (float(str(m.summary["measured_length_mm"])) for m in (after, before))
        assert again == pytest.approx(length, rel=0.03)


def test_painting_a_part_of_a_large_slide_keeps_its_artefact() -> None:
    """The junction is traced anew in a window that is smaller than the slide."""
    settings, labels = Settings(), np.zeros((600, 1200), np.uint8)
    labels[200:250, 100:1100], labels[250:500, 100:1100] = EPIDERMIS, DERMIS
    codes = np.zeros_like(labels)
    codes[180:280, 720:760] = BLUR
    score = np.where(labels == EPIDERMIS, 127, -127).astype(np.int8)
    marked = mark(Compartments(labels, 2.0, score), Artefacts(codes, 2.0))
    line = trace_junction(marked, settings.junction, settings.anatomy)
    base = as_measured(marked, leave_out(line, marked))
    painted = SetCompartment(square(505.0, 1500.0, 25.0), "epidermis")
    found = Edits(base, settings).geometry(((1, painted),))
    assert found.lost == {}
    assert found.compartments.artefacts is marked.artefacts
    (stretch,) = found.junction.stretches
    assert (stretch.points_um[:, 0] > 520).any()
    blurred = (np.abs(stretch.points_um[:, 1] - 1480) < 39) & (stretch.points_um[:, 0] < 560)
    assert blurred.sum() > 30
    assert stretch.excluded[blurred].all()
    assert (stretch.reasons[blurred] == REASONS[BLUR]).all()


def test_an_included_region_takes_an_artefact_back_for_all_figures(
    plain: SlideResult, blurred: EditedSlide
) -> None:
    y, x = middle(plain)
    everywhere = IncludeRegion(square(y, x, HALF_UM + 10), "sharp enough")
    before, after = measured(blurred), measured(blurred, everywhere)
    names = ("measured_length_mm", "epidermis_area_mm2", "n_epidermis", "excluded_area_mm2",
             "papillary_area_mm2", "artefact_percent")  # fmt: skip
    for name in names:
        assert before.summary[name] != plain.summary[name], name
        assert after.summary[name] == pytest.approx(plain.summary[name]), name
    assert after.summary["excluded_blur_mm2"] == 0
    assert not (after.bins["exclusion_reason"] == REASONS[BLUR]).any()
    # The slide as it was measured keeps its artefact.
    assert measured(blurred).summary == before.summary


def test_half_an_artefact_can_be_taken_back(plain: SlideResult, blurred: EditedSlide) -> None:
    y, x = middle(plain)
    half: Line = ((y - 99, x), (y - 99, x + 99), (y + 99, x + 99), (y + 99, x))
    before, after = measured(blurred), measured(blurred, IncludeRegion(half, "sharp enough"))
    nuclei, kept = after.nuclei, before.nuclei
    assert nuclei is not None
    assert kept is not None
    was = (kept["exclusion_reason"] == REASONS[BLUR]).to_numpy()
    left = was & (kept["x_um"] < x - 2).to_numpy()
    right = was & (kept["x_um"] > x + 2).to_numpy()
    assert left.sum() > 5
    assert right.sum() > 5
    assert (nuclei["exclusion_reason"][left] == REASONS[BLUR]).all()
    assert not nuclei["excluded"][right].any()


def test_a_region_in_an_artefact_excludes_no_area_twice(
    plain: SlideResult, blurred: EditedSlide
) -> None:
    y, x = middle(plain)
    within = ExcludeRegion(square(y, x, HALF_UM - 10), "fold")
    before, after = measured(blurred), measured(blurred, within)
    area = "excluded_area_mm2"
    assert after.summary[area] == pytest.approx(before.summary[area], rel=1e-9)


def test_the_verdict_on_the_slide_follows_the_edits(plain: SlideResult) -> None:
    smeared = with_artefact(plain, PEN, (0, 0), (1e4, 1e4))
    before = measured(smeared)
    assert before.summary["quality"] == "reject"
    assert "lies in artefacts" in str(before.summary["quality_reasons"])
    after = measured(smeared, IncludeRegion(square(0, 0, 1e4), "clean"))
    assert after.summary["quality"] == plain.summary["quality"]
    assert after.summary["quality_reasons"] == plain.summary["quality_reasons"]
    cut = measured(smeared, IncludeRegion(square(0, 0, 1e4), "clean"),
                   ExcludeRegion(square(0, 0, 1e4), "all of it"))  # fmt: skip
    assert "only 0.00 mm of junction" in str(cut.summary["quality_reasons"])


def test_an_error_of_one_slide_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = fresh_results(tmp_path)
    for name in (P16, OTHER_P16):
        with opened(results, name) as review:
            y, x = middle(read_result(results / "slides" / name))
            review.apply(ExcludeRegion(square(y, x, 20.0), "fold"))
    read = store.read_automatic

    def broken(place: Path) -> SlideResult:
        if place.name == P16:
            raise IndexError("index 7 is out of bounds")
        return read(place)

    monkeypatch.setattr(store, "read_automatic", broken)
    reports = {report.slide_id: report for report in remeasure(results)}
    assert reports[P16].problem == "IndexError: index 7 is out of bounds"
    assert read_result(results / "slides" / P16).summary["n_edits"] == 0
    assert (reports[OTHER_P16].problem, reports[OTHER_P16].n_edits) == ("", 1)
    assert read_result(results / "slides" / OTHER_P16).summary["n_edits"] == 1
    assert reports[COL7].problem == ""


# Fluorescence


def test_a_slide_of_two_files_is_opened_with_both(tmp_path: Path, plain: SlideResult) -> None:
    random = np.random.default_rng(0)
    for name in ("dapi", "marker"):
        tifffile.imwrite(
            tmp_path / f"{name}.ome.tif",
            random.integers(0, 500, (300, 300)).astype(np.uint16),
            tile=(128, 128),
            metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
        )
    nuclear, marker = (str(tmp_path / f"{name}.ome.tif") for name in ("dapi", "marker"))
    with open_slide(marker, nuclear=nuclear) as slide:
        summary = {**plain.summary, "slide_sha256": slide.fingerprint}
    edited = EditedSlide(replace(plain, summary=summary))
    row = {"slide_id": P16, "resolved_path": marker, "nuclear_slide": nuclear, "mpp": ""}
    with open_pixels(row, edited) as slide:
        assert slide.shape == (300, 300, 2)
    with pytest.raises(ResultError, match="fingerprint differs"):
        open_pixels({**row, "nuclear_slide": ""}, edited)


def test_edits_on_a_slide_measured_anew_know_its_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = fresh_results(tmp_path)
    with opened(results) as review:
        review.apply(AddNote("see the left end"))
    seen: list[Any] = []
    monkeypatch.setattr(remeasuring, "reapply", lambda run, name, row: seen.append(row))
    entry = Entry("a.tif", Path("a.tif"), "p16", P16, nuclear_slide="dapi.tif", resolved_path="a")
    measuring._apply_review(entry, RunDirectory(results))
    assert seen == [{"resolved_path": "a", "mpp": "", "nuclear_slide": "dapi.tif"}]


def test_a_line_drawn_anew_keeps_the_threshold_of_its_fluorescence_slide(tmp_path: Path) -> None:
    path = tmp_path / "line.ome.tif"
    phantom.write_fluorescence(path, "col7", 11, size_mm=(0.6, 0.45), angle_deg=0)
    automatic = quantify(path, "col7")
    assert float(str(automatic.summary["continuity_percent"])) > 50
    provenance: Any = automatic.provenance
    settings = provenance["settings"]
    high = {**settings, "collagen7": {**settings["collagen7"], "threshold_od": 60000.0}}
    edited = EditedSlide(replace(automatic, provenance={**provenance, "settings": high}))
    found = measured(edited, RedrawJunction(drawn(edited, 100.0)))
    assert found.pending
    with open_slide(path) as slide:
        anew = measure_line_anew(slide, edited, found, automatic)
    assert anew.summary["continuity_percent"] == 0
    assert not anew.junction["positive"].any()
    assert float(str(anew.summary["peak_od_mean"])) > 100
    assert anew.line_picture != automatic.line_picture
