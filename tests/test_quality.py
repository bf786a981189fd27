"""What is not fit to be measured: found where it was painted, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile

import histoquant as hq
from helpers import SAMPLES, on_two_cores
from histoquant import pipeline
from histoquant.anatomy import DERMIS, EPIDERMIS, Compartments
from histoquant.artefacts import BLUR, COVERSLIP, FOLD, NAMES, PEN, REASONS
from histoquant.geojson import feature_collection
from histoquant.junction import Junction
from histoquant.morphometry import measure_morphometry
from histoquant.phantom.artefacts import paint_artefact
from histoquant.pooling import Section, marker_rows
from histoquant.quality import Artefacts, judge, leave_out, mark
from histoquant.quality.outlines import find_outlines
from histoquant.settings import Settings

from helpers import straight_junction  # isort: skip

SETTINGS = Settings()
QUALITY = SETTINGS.quality
SYNTHETIC = SAMPLES / "synthetic"
GOOD = {
    "artefact_percent": 1.0,
    "focus_score": 0.4,
    "dej_length_mm": 2.0,
    "measured_length_mm": 1.8,
    "tissue_saturated_percent": 0.1,
    "damaged_tiles": 0,
}


def write(path, rgb, mpp=0.5):
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", compression="jpeg",
        compressionargs={"level": 90}, ome=True,
        metadata={"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp},
    )  # fmt: skip
    return path


def measure_with(name, kind, seed, path):
    """Result of a sample slide with one artefact painted over it, and where that lies."""
    marker = name.rsplit("_", 1)[1]
    with hq.open_slide(SYNTHETIC / f"{name}.ome.tif") as slide:
        rgb = slide.read(slide.mpp, 0, 0, *slide.shape[:2])
        white = hq.quantify(slide, marker).summary if kind is None else None
    if kind is None:
        return white, None, None, None
    picture, mask = paint_artefact(rgb, kind, 0.5, seed, (244, 244, 244))
    result = hq.quantify(write(path, picture), marker)
    size = result.compartments.labels.shape
    truth = np.zeros(size, bool)
    rows, columns = (np.minimum((np.arange(n) * 4) + 2, m - 1)
                     for n, m in zip(size, mask.shape, strict=True))  # fmt: skip
    truth[:] = mask[rows[:, None], columns[None, :]]
    codes = result.compartments.artefacts
    return result.summary, codes, truth, (result.junction, result.nuclei)


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("painted")
    jobs = [
        ("P01_left_hand_p16", "fold", 0),
        ("P02_right_hand_col7", "blur", 1),
        ("P02_right_hand_col7", "pen blue", 1),
        ("P01_left_hand_p16", "bubble", 0),
        ("P02_right_hand_col7", "blood", 1),
        ("P01_left_hand_p16", "debris", 0),
    ]
    results = on_two_cores(
        measure_with, [(*job, folder / f"{i}.ome.tif") for i, job in enumerate(jobs)]
    )
    return {job[1]: result for job, result in zip(jobs, results, strict=True)}


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("fold", 0.9), ("blur", 0.5), ("pen blue", 0.9),
        ("bubble", 0.9), ("blood", 0.8), ("debris", 0.6),
    ],
)  # fmt: skip
def test_a_painted_artefact_is_found_where_it_is(painted, kind, least):
    summary, codes, truth, (bins, nuclei) = painted[kind]
    own = {name: code for code, name in NAMES.items()}[kind.split()[0]]
    assert (codes[truth] == own).mean() >= least
    outside = ((codes > 0) & ~truth).sum()
    assert outside < 1.2 * truth.sum()
    name = NAMES[own]
    assert summary[f"excluded_{name}_mm2"] == pytest.approx((codes == own).sum() * 4e-6)
    assert summary["excluded_area_mm2"] > 0.8 * (codes == own).sum() * 4e-6
    for table in (bins, nuclei):
        if table is None:
            continue
        inside = table["exclusion_reason"] == REASONS[own]
        assert table.loc[inside, "excluded"].all()
        at = (table[["y_px", "x_px"]].to_numpy() / 4).astype(int)
        at = np.minimum(at, np.array(codes.shape) - 1)
        hit = codes[at[:, 0], at[:, 1]] > 0
        assert table.loc[hit, "excluded"].all()
        assert not inside[~hit].any() or table is bins


def test_the_sample_slides_are_clean():
    names = ["P04_right_hand_col7", "P04_left_hand_p16"]
    for summary, *_ in on_two_cores(measure_with, [(n, None, 0, None) for n in names]):
        assert summary["artefact_percent"] == 0
        assert (summary["quality"], summary["quality_reasons"]) == ("ok", "none")


# --- the parts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "verdict", "word"),
    [
        ({}, "ok", None),
        ({"artefact_percent": 12.0}, "review", "12 % of the tissue"),
        ({"artefact_percent": 60.0}, "reject", "artefacts"),
        ({"focus_score": 0.08}, "review", "out of focus"),
        ({"focus_score": 0.01}, "reject", "out of focus"),
        ({"dej_length_mm": float("nan")}, "review", "no junction"),
        ({"measured_length_mm": 0.2}, "review", "0.20 mm of junction"),
        ({"tissue_saturated_percent": 9.0}, "review", "saturated"),
        ({"damaged_tiles": 3}, "review", "3 unreadable"),
        ({"focus_score": None}, "ok", None),  # missing is no reason of its own
    ],
)
def test_the_verdict_says_why(figures, verdict, word):
    found, reasons = judge(GOOD | figures, QUALITY)
    assert found == verdict
    assert (word is None) == (not reasons)
    assert word is None or word in reasons[0]


def test_the_worst_verdict_wins_and_every_reason_is_told():
    found, reasons = judge(GOOD | {"artefact_percent": 70, "damaged_tiles": 1}, QUALITY)
    assert found == "reject"
    assert len(reasons) == 2


def test_junction_in_an_artefact_is_excluded_with_its_reason():
    codes = np.zeros((50, 150), np.uint8)
    codes[:, 50:75] = BLUR  # 200 to 300 um
    labels = np.full((50, 150), 3, np.uint8)
    compartments = Compartments(labels, 4.0, np.ones(labels.shape, np.float32), artefacts=codes)
    stretch = leave_out(straight_junction(600), compartments).stretches[0]
    x = stretch.points_um[:, 1]
    inside = (x >= 200) & (x < 300)
    assert (stretch.excluded == inside).all()
    assert set(stretch.reasons[inside]) == {REASONS[BLUR]}
    assert set(stretch.reasons[~inside]) == {""}


def test_artefacts_are_drawn_with_area_and_reason():
    codes = np.zeros((50, 150), np.uint8)
    codes[10:20, 50:75], codes[30:35, 5:15] = PEN, FOLD
    labels = np.full((100, 300), 3, np.uint8)
    plain = Compartments(labels, 2.0, np.full(labels.shape, -1, np.float32), "none")
    marked = mark(plain, Artefacts(codes, 4.0))
    features = feature_collection(marked, Junction((), "none"), 0.5)["features"]
    found = {
        f["properties"]["metadata"]["reason"]: f["properties"]["measurements"]["Area mm^2"]
        for f in features
        if f["properties"]["name"] == "Excluded"
    }
    assert found == {
        REASONS[PEN]: pytest.approx(250 * 16e-6, rel=0.05),
        REASONS[FOLD]: pytest.approx(50 * 16e-6, rel=0.1),
    }
    summary, _ = measure_morphometry(marked, Junction((), "none"), SETTINGS)
    assert summary["excluded_pen_mm2"] == pytest.approx(250 * 16e-6)
    assert summary["excluded_area_mm2"] == pytest.approx(300 * 16e-6)
    assert summary["artefact_percent"] == pytest.approx(100 * 300 * 16e-6 / (30000 * 4e-6))
    assert not mark(plain, Artefacts(np.zeros_like(codes), 4.0)).artefacts.any()


def test_artefacts_and_labels_must_agree():
    labels = np.zeros((4, 4), np.uint8)
    plain = Compartments(labels, 2.0, np.zeros((4, 4), np.float32), "none")
    with pytest.raises(ValueError, match="differ"):
        replace(plain, artefacts=np.zeros((2, 2), np.uint8))


def test_sections_pool_to_the_worst_verdict():
    def section(name, quality):
        summary = {"quality": quality, "excluded_pen_mm2": 0.1}
        sample = {"person": "A", "site": "hand", "visit": "1", "control": "none"}
        return Section(name, "p16", sample, summary, {}, lambda: None)

    (row,) = marker_rows([section("a", "ok"), section("b", "reject"), section("c", "review")])
    assert row["quality"] == "reject"
    assert row["excluded_pen_mm2"] == pytest.approx(0.3)


def test_ink_on_glass_alone_is_no_artefact_of_the_tissue():
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 10:60] = 3
    compartments = Compartments(labels, 2.0, np.zeros((60, 80), np.int8))
    codes = np.zeros((60, 80), np.uint8)
    codes[45:55, 20:40] = PEN  # a dot on the label's side
    assert not mark(compartments, Artefacts(codes, 2.0)).artefacts.any()
    codes[5:12, 50:70] = PEN  # reaches over the tissue's corner
    kept = mark(compartments, Artefacts(codes, 2.0)).artefacts
    assert (kept[5:12, 50:70] == PEN).all()
    assert not kept[45:55].any()


@pytest.mark.parametrize(("on_glass", "found"), [(True, True), (False, False)])
def test_the_edge_of_a_coverslip_does_not_end_with_the_tissue(on_glass, found):
    """A line of collagen VII along flat skin is as thin, as straight, and nearly as grey."""
    od = np.zeros((300, 420, 3), np.float32)  # 4 um/px
    od[60:240, 60:360] = (0.12, 0.17, 0.10)
    od += np.random.default_rng(2).normal(0, 0.004, od.shape).astype(np.float32)
    rows = slice(5, 295) if on_glass else slice(62, 238)
    od[rows, 200:202] += 0.45
    codes = find_outlines(od, 4.0)
    assert bool((codes[rows, 200:202] == COVERSLIP).mean() > 0.9) == found
    assert found or not codes.any()


@pytest.mark.parametrize("survives", [True, False])
def test_folds_that_would_take_all_of_the_epidermis_are_none(monkeypatch, survives):
    """They were the skin itself: what was found without them stays, and nothing is left out."""
    tissue = np.ones((60, 80), bool)
    labels = np.where(np.arange(60)[:, None] < 20, EPIDERMIS, DERMIS).astype(np.uint8)
    labels = np.broadcast_to(labels, tissue.shape)
    score = np.where(labels == EPIDERMIS, 9, -9).astype(np.int8)
    found = Compartments(labels, 2.0, score)
    gone = Compartments(np.full(tissue.shape, DERMIS, np.uint8), 2.0, score, "no epidermis found")
    folds = np.zeros((30, 40), np.uint8)
    folds[:10, 5:20] = FOLD
    none = Artefacts(np.zeros_like(folds), 4.0)
    monkeypatch.setattr(pipeline, "before_anatomy", lambda *_: none)
    monkeypatch.setattr(pipeline, "after_anatomy", lambda *_: Artefacts(folds, 4.0))

    def find(tissue, unread=None):
        return found if unread is None or survives else gone

    result = pipeline._without_artefacts(find, tissue, 2.0, None, None, Settings())
    assert result.has_epidermis
    assert (result.artefacts == FOLD).any() == survives
