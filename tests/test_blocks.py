"""Blocks tile the grid, keep to tissue, and give results in order."""

from __future__ import annotations

import threading
from threading import Event, Timer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histoquant.blocks import Ahead, Block, map_blocks, plan_blocks


@given(height=st.integers(1, 400), width=st.integers(1, 400), block=st.integers(1, 450))
def test_every_pixel_has_one_owner(height: int, width: int, block: int) -> None:
    if (height / block) * (width / block) > 400:
        block = 40
    owners = np.zeros((height, width), int)
    for b in plan_blocks((height, width), block):
        owners[b.y : b.y + b.height, b.x : b.x + b.width] += 1
    assert (owners == 1).all()


def test_points_on_a_seam_belong_to_the_later_block() -> None:
    first, second = plan_blocks((10, 20), 10)
    seam = np.array([[5.0, 10.0], [5.0, np.nextafter(10.0, 0)]])
    assert first.owns(seam).tolist() == [False, True]
    assert second.owns(seam).tolist() == [True, False]


@pytest.mark.parametrize(
    ("margin", "kept"),
    [
        (0, [(0, 100)]),
        (60, [(0, 0), (0, 100), (0, 200), (100, 0), (100, 100), (100, 200)]),
    ],
)
def test_blocks_without_tissue_are_left_out(margin: int, kept: list[tuple[int, int]]) -> None:
    mask = np.zeros((10, 30), bool)  # a tenth of the grid's scale
    mask[4:7, 14:16] = True
    blocks = plan_blocks((100, 300), 100, mask)
    assert [(b.y, b.x) for b in blocks] == [(0, 100)]
    tall = np.vstack((mask, np.zeros((10, 30), bool)))
    found = plan_blocks((200, 300), 100, tall, margin)
    assert [(b.y, b.x) for b in found] == kept


def test_no_tissue_no_blocks() -> None:
    assert plan_blocks((100, 100), 50, np.zeros((5, 5), bool)) == []


@pytest.mark.parametrize("values", [(-1, 0, 5, 5), (0, 0, 0, 5)])
def test_a_block_checks_itself(values: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="a block needs"):
        Block(*values)


@pytest.mark.parametrize("bad", [((0, 5), 5), ((5, 5), 0)])
def test_nothing_to_cut(bad: tuple[tuple[int, int], int]) -> None:
    with pytest.raises(ValueError, match="cannot cut"):
        plan_blocks(*bad)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_never_more_at_once_than_workers(workers: int) -> None:
    running, most, lock = 0, 0, threading.Lock()
    pause = threading.Event()

    def corner(block: Block) -> tuple[int, int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.002)
        with lock:
            running -= 1
        return block.y, block.x

    blocks = plan_blocks((60, 50), 10)
    assert map_blocks(corner, blocks, workers) == [(b.y, b.x) for b in blocks]
    assert most <= workers


def test_an_error_in_a_block_is_raised() -> None:
    def fail(block: Block) -> None:
        raise RuntimeError(f"block {block.x}")

    with pytest.raises(RuntimeError, match="block"):
        map_blocks(fail, plan_blocks((10, 30), 10), workers=2)


def test_workers_must_be_positive() -> None:
    with pytest.raises(ValueError, match="workers"):
        map_blocks(lambda b: b, [], workers=0)


@pytest.mark.parametrize("helpers", [0, 1, 3])
def test_helpers_begin_at_once_and_results_keep_their_order(helpers):
    blocks = plan_blocks((100, 90), 20)
    begun = Event()

    def work(block):
        begun.set()
        return block

    with Ahead(work, blocks, helpers) as ahead:
        if helpers:
            assert begun.wait(30)
        assert ahead.results(workers=2) == blocks


@pytest.mark.parametrize("helpers", [0, 2])
def test_an_error_of_a_block_is_raised_where_results_are_asked_for(helpers):
    def work(block):
        if block.y:
            raise ValueError("no luck")
        return block

    with (
        Ahead(work, plan_blocks((100, 90), 20), helpers) as ahead,
        pytest.raises(ValueError, match="no luck"),
    ):
        ahead.results()


def test_what_nobody_waits_for_is_not_begun():
    gate, begun = Event(), []

    def work(block):
        begun.append(block)
        gate.wait(30)

    blocks = plan_blocks((100, 90), 20)
    with Ahead(work, blocks, 1):
        Timer(0.2, gate.set).start()
    assert len(begun) <= 1
