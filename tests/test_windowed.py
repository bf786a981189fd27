"""Windows of a picture, boxes around what is on it, and what must not depend on either."""

import cv2
import numpy as np
import pytest

from histoquant.anatomy import EPIDERMIS, find_compartments
from histoquant.blocks import Block
from histoquant.brown import broad_brown
from histoquant.evidence import average, weigh
from histoquant.settings import Settings, TissueSettings
from histoquant.stains import StainModel, WhiteLevel, field_density, unmix
from histoquant.tissue import tissue_detail
from histoquant.windowed import Lazy, boxes_around, density_of, stains_of, widened, window_of

ANATOMY = Settings().anatomy
EVEN = WhiteLevel((240.0, 238.0, 236.0), 0.5, "glass")
SLOPE = tuple((float(v),) * 3 for v in (236.0, 6.0, -4.0, 1.0, 2.0, -1.0))
UNEVEN = WhiteLevel((240.0, 238.0, 236.0), 0.5, "glass", field=SLOPE)


def smooth_noise(shape, sigma, seed):
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
    return blurred / blurred.std()


@pytest.mark.parametrize("white", [EVEN, UNEVEN], ids=["even light", "uneven light"])
def test_a_window_is_a_part_of_the_whole(white):
    rgb = np.random.default_rng(1).integers(0, 256, (90, 70, 3), np.uint8)
    density = density_of(rgb, white, 1.9)
    whole = np.minimum(field_density(rgb, white), np.float32(1.9))
    model = StainModel.preset("hdab", white.values)
    window = np.s_[13:57, 22:69]
    assert density.shape == (90, 70)
    np.testing.assert_allclose(density[window], whole[window], atol=1e-6)
    np.testing.assert_array_equal(
        stains_of(density, model)[window], unmix(density[0:90, 0:70], model)[window]
    )


@pytest.mark.parametrize(
    ("block", "margin", "outer", "inner"),
    [
        (Block(20, 30, 10, 12), 5, np.s_[15:35, 25:47], np.s_[5:15, 5:17]),
        (Block(0, 30, 10, 12), 5, np.s_[0:15, 25:47], np.s_[0:10, 5:17]),
        (Block(90, 88, 10, 12), 50, np.s_[40:100, 38:100], np.s_[50:60, 50:62]),
    ],
)
def test_a_halo_ends_at_the_picture(block, margin, outer, inner):
    assert widened(block, margin, (100, 100)) == (outer, inner)
    assert (
        window_of(block) == np.s_[block.y : block.y + block.height, block.x : block.x + block.width]
    )


@pytest.mark.parametrize("margin", [0, 20, 70])
def test_boxes_hold_everything_and_do_not_overlap(margin):
    rng = np.random.default_rng(margin)
    for _ in range(20):
        mask = np.zeros((500, 430), bool)
        for y, x in rng.integers(0, 400, (rng.integers(0, 7), 2)):
            mask[y : y + 60, x : x + 30] = True
        count = np.zeros(mask.shape, int)
        for box in boxes_around(mask, margin):
            assert box.y % 16 == 0
            assert box.x % 16 == 0
            count[window_of(box)] += 1
        reach = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
        near = cv2.dilate(mask.astype(np.uint8), reach) > 0
        assert (count[near] == 1).all()
        assert count.max(initial=0) <= 1


def test_detail_is_the_same_cut_into_blocks(monkeypatch):
    od = 0.02 + 0.01 * np.repeat(smooth_noise((700, 660), 2.0, 3)[..., None], 3, axis=2)
    tissue = np.ones((175, 165), bool)
    tissue[:30, :40] = False
    whole = tissue_detail(od, tissue, 2.0, TissueSettings())
    assert 0.3 < whole.mean() < 0.98
    monkeypatch.setattr("histoquant.tissue._BLOCK_PX", 137)
    cut = tissue_detail(od, tissue, 2.0, TissueSettings(), workers=2)
    np.testing.assert_array_equal(cut, whole)


def test_averages_weigh_by_what_can_be_read():
    stains = np.zeros((32, 32, 3), np.float32)
    stains[::2, :, 0], stains[1::2, :, 0] = 0.1, 0.3
    stains[3, :, 1] = 0.9  # the marker hides a row that is part of the second coarse one
    tissue = np.ones((32, 32), bool)
    tissue[:, 20:] = False
    box = Block(0, 0, 32, 32)
    evidence = weigh(stains, tissue, "marker", [box], 2.0, 1)
    coarse = average(evidence, box, 2, 2.0, 1)
    assert evidence.second == "marker"
    assert coarse.mpp == 4.0
    assert coarse.tissue[:, :10].all()
    assert not coarse.tissue[:, 10:].any()
    assert coarse.hematoxylin[:, :10] == pytest.approx(np.full((16, 10), 0.2))
    assert coarse.legible[1, :10] == pytest.approx(np.full(10, 0.5))
    assert coarse.capped[0][1, :10] == pytest.approx(np.full(10, 0.1), abs=1e-3)


@pytest.mark.parametrize(("width_px", "broad"), [(60, True), (3, False)], ids=["layer", "line"])
def test_a_marker_on_a_whole_compartment_is_told_from_a_line(width_px, broad):
    stains = np.full((128, 128, 3), 0.05, np.float32)
    stains[40 : 40 + width_px, :, 1] = 0.6
    box = Block(0, 0, 128, 128)
    evidence = weigh(stains, np.ones((128, 128), bool), "marker", [box], 2.0, 1)
    field = average(evidence, box, 2, 2.0, 1)
    (brown,) = broad_brown([field], ANATOMY)
    assert brown.any() == broad
    if broad:
        assert brown[22:48].all()
        assert not brown[:19].any()


# --- several sections on one slide -----------------------------------------------------------


def skin(seed, height=260, width=420):
    """Stains (h, w, 3) and tissue of a drawn piece: glass, epidermis, dermis, at 2 um/px."""
    y, x = np.mgrid[:height, :width]
    top, junction = 40 + 0 * x, 75 + 8 * np.sin(x / 14 + seed)
    within = (y >= top) & (y < height - 40) & (x >= 40) & (x < width - 40)
    epidermis = within & (y < junction)
    hematoxylin = np.where(epidermis, 0.30, 0.08) * within
    hematoxylin += 0.05 * smooth_noise((height, width), 1.5, seed) * within
    stains = np.zeros((height, width, 3), np.float32)
    stains[..., 0] = hematoxylin
    return stains, within


def laid_out(places, shape=(1500, 1300)):
    """Pieces on one slide, at (y, x): stains and tissue."""
    stains, tissue = np.zeros((*shape, 3), np.float32), np.zeros(shape, bool)
    for seed, (y, x) in places.items():
        piece, within = skin(seed)
        stains[y : y + 260, x : x + 420], tissue[y : y + 260, x : x + 420] = piece, within
    return stains, tissue


HERE = {1: (32, 64), 2: (640, 32), 3: (1104, 512)}
THERE = {1: (1104, 512), 2: (32, 64), 3: (640, 32)}


def test_sections_do_not_depend_on_their_order_on_the_slide():
    one, other = (find_compartments(*laid_out(p), 2.0, ANATOMY) for p in (HERE, THERE))
    assert one.has_epidermis
    for number in HERE:
        (y, x), (v, u) = HERE[number], THERE[number]
        found = one.labels[y : y + 260, x : x + 420]
        assert (found == EPIDERMIS).sum() > 8000
        np.testing.assert_array_equal(found, other.labels[v : v + 260, u : u + 420])
        np.testing.assert_array_equal(
            one.score[y : y + 260, x : x + 420], other.score[v : v + 260, u : u + 420]
        )


@pytest.mark.parametrize(("workers", "block_px"), [(2, 256), (1, 97)])
def test_compartments_do_not_depend_on_threads_or_blocks(monkeypatch, workers, block_px):
    stains, tissue = laid_out(HERE)
    plain = find_compartments(stains, tissue, 2.0, ANATOMY)
    monkeypatch.setattr("histoquant.border._BLOCK_PX", block_px)
    monkeypatch.setattr("histoquant.evidence._BLOCK_PX", 2 * block_px)
    lazy = Lazy(tissue.shape, lambda window: stains[window])
    cut = find_compartments(lazy, tissue, 2.0, ANATOMY, workers=workers)
    np.testing.assert_array_equal(cut.labels, plain.labels)
    np.testing.assert_array_equal(cut.score, plain.score)
