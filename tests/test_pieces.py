"""Pieces by their runs are the pieces that OpenCV finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoquant.pieces import drop_small, touching


def picture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 90, 2)
    noise = cv2.GaussianBlur(rng.random(shape), (0, 0), rng.uniform(0.3, 3))
    return noise > np.quantile(noise, rng.random())


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000), least=st.integers(1, 200))
def test_small_pieces_go_and_touched_ones_stay(seed: int, least: int) -> None:
    mask = picture(seed)
    count, numbers = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    sizes = np.bincount(numbers.ravel(), minlength=count)
    sizes[0] = 0
    assert (drop_small(mask, least) == (sizes >= least)[numbers]).all()
    seeds = np.random.default_rng(seed + 1).random(mask.shape) < 0.02
    wanted = np.isin(numbers, numbers[seeds & mask]) & mask
    assert (touching(mask, seeds) == wanted).all()


def test_more_runs_than_there_is_room_for_at_first() -> None:
    mask = np.zeros((200, 200), np.bool_)
    mask[:, ::2] = True  # 20,000 runs in 100 pieces
    mask[0, 0] = False
    assert (drop_small(mask, 200) == mask & (np.arange(200) > 0)).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1)])
def test_nothing_has_no_pieces(shape: tuple[int, int]) -> None:
    nothing = np.zeros(shape, np.bool_)
    assert not drop_small(nothing, 1).any()
    assert touching(nothing, nothing).shape == shape
