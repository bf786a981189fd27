"""Glands are rings of nuclei; heaps of lymphocytes and vessels are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from histoquant.blocks import Block
from histoquant.evidence import weigh
from histoquant.layers import DERMIS, EPIDERMIS
from histoquant.tubules import find_tubules

MPP = 2.0
SHAPE = (420, 700)
NUCLEUS_PX = 2
WHOLE = (Block(0, 0, *SHAPE),)


def ring(y, x, radius_px, count):
    turn = np.arange(count) * 2 * np.pi / count
    return np.column_stack([y + radius_px * np.sin(turn), x + radius_px * np.cos(turn)])


def heap(y, x, radius_px, count, seed=0):
    rng = np.random.default_rng(seed)
    turn, out = rng.uniform(0, 2 * np.pi, count), radius_px * np.sqrt(rng.uniform(0, 1, count))
    return np.column_stack([y + out * np.sin(turn), x + out * np.cos(turn)])


def section(*groups, lumens=()):
    """Epidermis over dermis with groups of nuclei (n, 2) in it: picture and labels."""
    rng = np.random.default_rng(1)
    labels = np.full(SHAPE, DERMIS, np.uint8)
    labels[:40] = EPIDERMIS
    stain = np.where(labels == EPIDERMIS, 0.11, 0.06).astype(np.float32)
    cells = [(y, x) for y in range(3, 38, 5) for x in range(3, SHAPE[1], 5)]
    scattered = np.column_stack([rng.uniform(50, 415, 150), rng.uniform(5, 695, 150)])
    for y, x, radius in lumens:
        cv2.circle(stain, (x, y), radius, 0.0, cv2.FILLED)
    for y, x in np.concatenate([cells, scattered, *groups]):
        cv2.circle(stain, (round(x), round(y)), NUCLEUS_PX, 0.45, cv2.FILLED)
    stain += rng.normal(0, 0.01, SHAPE).astype(np.float32)
    picture = np.zeros((*SHAPE, 3), np.float32)
    picture[..., 0] = stain
    return picture, labels


def found_in(picture, labels, boxes=WHOLE, workers=1):
    tissue = np.ones(SHAPE, bool)
    evidence = weigh(picture, tissue, "marker", boxes, MPP, 1)
    mask = np.zeros(SHAPE, bool)
    for piece in find_tubules(evidence, labels, MPP, boxes, workers):
        mask[tuple(piece.T)] = True
    return mask


@pytest.mark.parametrize(("radius_px", "count"), [(8, 11), (9, 12), (10, 14)])
def test_a_ring_of_nuclei_around_a_lumen_is_a_gland(radius_px, count):
    nuclei = ring(200, 300, radius_px, count)
    mask = found_in(*section(nuclei, lumens=[(200, 300, radius_px - 4)]))
    at = np.rint(nuclei).astype(int)
    assert mask[tuple(at.T)].all()
    assert mask.sum() < 1.6 * np.pi * (radius_px + 4) ** 2


@pytest.mark.parametrize("count", [40, 90, 160])
def test_lymphocytes_that_crowd_are_no_gland(count):
    assert not found_in(*section(heap(220, 300, 18, count))).any()


def test_a_vessel_with_a_few_flat_cells_is_no_gland():
    nuclei = ring(200, 300, 12, 6)
    assert not found_in(*section(nuclei, lumens=[(200, 300, 10)])).any()


def test_bundles_of_collagen_about_a_gap_are_no_gland():
    """A ring, little darker than what lies around it, and pale in the middle."""
    picture, labels = section()
    plane = np.ascontiguousarray(picture[..., 0])
    plane[60:] += 0.10
    for start in range(0, 360, 60):
        cv2.ellipse(plane, (300, 200), (9, 9), 0, start, start + 20, 0.26, 4)
    cv2.circle(plane, (300, 200), 5, 0.0, cv2.FILLED)
    picture[..., 0] = plane
    assert not found_in(picture, labels).any()


def test_glands_do_not_depend_on_where_the_work_is_cut():
    nuclei = [ring(y, x, 9, 12) for y, x in [(256, 256), (300, 512), (130, 250), (255, 400)]]
    picture, labels = section(*nuclei, lumens=[(256, 256, 5), (300, 512, 5), (130, 250, 5)])
    whole = found_in(picture, labels)
    halves = (Block(0, 0, SHAPE[0], 256), Block(0, 256, SHAPE[0], SHAPE[1] - 256))
    assert whole.sum() > 3 * np.pi * 9**2
    np.testing.assert_array_equal(found_in(picture, labels, halves, 2), whole)
