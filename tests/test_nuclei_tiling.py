"""However a slide is cut and whoever measures the blocks, the table is the same bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histoquant import open_slide
from histoquant.blocks import Block, plan_blocks
from histoquant.detection import find_nuclei
from histoquant.settings import Settings
from histoquant.stains import StainModel

SAMPLES = Path(__file__).parents[1] / "sample_slides"
FIELDS = {
    "phantom": SAMPLES / "synthetic" / "P02_right_hand_p16.ome.tif",
    "Ki67": SAMPLES / "real" / "OS-2-ndpi.ome.tif",
}
MODEL = StainModel.preset("hdab", (243.0, 243.0, 243.0))
WHOLE = 10**6


def measured(field: str, blocks: Sequence[Block], workers: int = 1) -> pd.DataFrame:
    with open_slide(FIELDS[field]) as slide:
        return find_nuclei(slide, MODEL, blocks, Settings(), workers)


def plan(field: str, block_px: int) -> list[Block]:
    with open_slide(FIELDS[field]) as slide:
        return plan_blocks(slide.grid_shape(Settings().nuclei.mpp), block_px)


def digest(table: pd.DataFrame) -> str:
    """Hash of the rows, sorted, to the last bit."""
    rows = sorted(map(repr, table.itertuples(index=False, name=None)))
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


@cache
def whole(field: str) -> str:
    table = measured(field, plan(field, WHOLE))
    assert len(table) > 500
    return digest(table)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(("block_px", "workers"), [(256, 4), (500, 1), (1024, 4), (4096, 1)])
def test_block_size_and_threads_do_not_show(field: str, block_px: int, workers: int) -> None:
    assert digest(measured(field, plan(field, block_px), workers)) == whole(field)


@st.composite
def cuts(draw: st.DrawFn, height: int, width: int) -> list[Block]:
    """A guillotine of the grid: every row of blocks has its own height and its own cuts."""
    edges = [0, *sorted(draw(st.sets(st.integers(1, height - 1), max_size=3))), height]
    out = []
    for top, bottom in zip(edges, edges[1:], strict=False):
        own = [0, *sorted(draw(st.sets(st.integers(1, width - 1), max_size=2))), width]
        out += [
            Block(top, left, bottom - top, right - left)
            for left, right in zip(own, own[1:], strict=False)
        ]
    return out


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_seams_and_corners_may_lie_anywhere(field: str, data: st.DataObject) -> None:
    with open_slide(FIELDS[field]) as slide:
        blocks = data.draw(cuts(*slide.grid_shape(Settings().nuclei.mpp)))
    assert digest(measured(field, blocks, 2)) == whole(field)


def test_processes_do_not_show() -> None:
    blocks = plan("Ki67", 500)
    parts = [blocks[::2], blocks[1::2]]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        tables = pool.map(measured, ["Ki67", "Ki67"], parts)
        assert digest(pd.concat(tables)) == whole("Ki67")


def test_the_hash_tells_tables_apart() -> None:
    table = measured("Ki67", plan("Ki67", WHOLE))
    assert digest(table.iloc[::-1]) == whole("Ki67")
    assert digest(table.iloc[1:]) != whole("Ki67")
    table.loc[3, "dab_od_mean"] += 1e-15
    assert digest(table) != whole("Ki67")
