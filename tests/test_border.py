"""The border of the epidermis, pulled taut: what gives way, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from histoquant.blocks import Block, plan_blocks
from histoquant.border import FULL, _tauten
from histoquant.windowed import window_of

MPP = 2.0
SHAPE, BORDER = (160, 300), 60
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def taut(epithelium, tissue=None, blocks=None, evidence=None):
    """Epithelium and score, drawn anew block by block; `evidence` (0-1) is full unless told."""
    tissue = np.ones(SHAPE, bool) if tissue is None else tissue
    edges = np.where(epithelium & tissue, FULL, -FULL) * (1.0 if evidence is None else evidence)
    mask, score = np.zeros(SHAPE, bool), np.zeros(SHAPE, np.int8)
    for block in blocks or [Block(0, 0, *SHAPE)]:
        window = window_of(block)
        mask[window], score[window] = _tauten(edges.astype(np.int8), tissue, tissue, MPP, block)
    return mask, score


def depth(mask):
    """Row of the border in every column."""
    return mask.sum(axis=0)


def test_a_straight_border_stays_where_it_is():
    mask, score = taut(Y < BORDER)
    assert (depth(mask) == BORDER).all()
    assert (score[: BORDER - 1] > 0).all()
    assert (score[BORDER + 1 :] < 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_bumps_and_notches_of_a_cell_stay_only_with_evidence(sign):
    disc = np.hypot(Y - BORDER - sign * 2, X - 150) < 3.5  # 14 um across
    picture = (Y < BORDER) | disc if sign > 0 else (Y < BORDER) & ~disc

    def left(evidence):
        mask, _ = taut(picture, evidence=np.where(disc, evidence, 1.0))
        before, after = (np.abs(depth(m) - BORDER).sum() for m in (picture, mask))
        return after / before

    assert left(0.05) < 0.4
    assert left(1.0) > 2 / 3


def test_ridges_and_papillae_keep_their_shape():
    course = BORDER + 15 * np.sin(2 * np.pi * X / 50)  # 60 um deep, every 100 um
    mask, _ = taut(course > Y)
    off = (depth(mask) - course[0])[10:-10]
    assert np.abs(off).max() <= 2.5
    assert np.abs(off).mean() < 0.7


def test_a_border_runs_straight_into_a_cut_edge():
    tissue = X < 200
    mask, _ = taut(Y < BORDER, tissue)
    assert (depth(mask)[:200] == BORDER).all()
    assert not mask[:, 200:].any()


def test_blocks_do_not_show():
    course = BORDER + 12 * np.sin(X / 9.0) + 6 * np.sin(X / 3.0)
    whole = taut(course > Y)
    parts = taut(course > Y, blocks=plan_blocks(SHAPE, 64))
    assert (whole[0] == parts[0]).all()
    assert np.abs(whole[1].astype(int) - parts[1]).max() <= 1
