"""Cutting a slide into blocks, and running a function over them.

Ownership: the cores of the blocks tile the analysis grid, half-open, without overlap. Whatever
is measured in a block is read with a halo around the core, and an object belongs to the one
block whose core holds its centroid. A function whose support is finite and covered by the halo
then gives the same objects however the grid was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Generic, Self, TypeVar

import numpy as np
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray

Result = TypeVar("Result")


@dataclass(frozen=True, order=True)
class Block:
    """The core of a block: rows `y` to `y + height`, columns `x` to `x + width`, half-open.

    In pixels of the analysis grid.
    """

    y: int
    x: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.y < 0 or self.x < 0 or self.height < 1 or self.width < 1:
            raise ValueError(f"a block needs a corner >= 0 and a size >= 1, found {self}")

    def owns(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (n, 2), continuous (y, x) of the analysis grid, lie in the core.

        Every point of the grid lies in the core of exactly one block of a plan.
        """
        y, x = points[:, 0], points[:, 1]
        inside_y = (y >= self.y) & (y < self.y + self.height)
        return inside_y & (x >= self.x) & (x < self.x + self.width)


def plan_blocks(
    grid_shape: tuple[int, int],
    block_px: int,
    mask: NDArray[np.bool_] | None = None,
    margin_px: int = 0,
) -> list[Block]:
    """Cut a grid into blocks, leaving out those without tissue.

    Parameters
    ----------
    grid_shape
        Rows and columns of the analysis grid (analysis pixels).
    block_px
        Side of a block (analysis pixels); blocks at the far edges are smaller.
    mask
        Where there is tissue: bool (y, x) over the whole grid at any coarser, even anisotropic
        scale (its corners are the grid's corners). A block is kept when any mask pixel that
        touches it is set. `None` keeps all blocks.
    margin_px
        A block is kept, too, when tissue lies within this distance of it (analysis pixels).

    Returns
    -------
    blocks
        In raster order.
    """
    height, width = grid_shape
    if height < 1 or width < 1 or block_px < 1:
        raise ValueError(f"cannot cut a grid of {height} x {width} into blocks of {block_px} px")
    blocks = [
        Block(y, x, min(block_px, height - y), min(block_px, width - x))
        for y in range(0, height, block_px)
        for x in range(0, width, block_px)
    ]
    if mask is None:
        return blocks
    return [b for b in blocks if _touches(b, mask, grid_shape, margin_px)]


def blocks_within(box: Block, block_px: int) -> list[Block]:
    """Cut a box of the grid into blocks of at most `block_px` a side, in raster order."""
    return [
        Block(box.y + b.y, box.x + b.x, b.height, b.width)
        for b in plan_blocks((box.height, box.width), block_px)
    ]


def _touches(
    block: Block, mask: NDArray[np.bool_], grid_shape: tuple[int, int], margin_px: int
) -> bool:
    rows = _span(block.y, block.height, margin_px, mask.shape[0] / grid_shape[0])
    columns = _span(block.x, block.width, margin_px, mask.shape[1] / grid_shape[1])
    return bool(mask[rows, columns].any())


def _span(start: int, length: int, margin: int, scale: float) -> slice:
    """Find the mask pixels that touch a stretch of the grid."""
    first = int(np.floor((start - margin) * scale))
    last = int(np.ceil((start + length + margin) * scale))
    return slice(max(first, 0), max(last, 1))


def map_blocks(
    function: Callable[[Block], Result], blocks: Iterable[Block], workers: int = 1
) -> list[Result]:
    """Run `function` on every block in threads; results in the order of `blocks`.

    At most `workers` blocks are in memory at once. The function must not change anything it
    shares with other calls. An error in one block stops the run and is raised here.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, found {workers}")
    todo: Sequence[Block] = list(blocks)
    if workers == 1 or len(todo) < 2:
        return [function(block) for block in todo]
    tasks = [delayed(function, pure=False)(block) for block in todo]
    results = compute(*tasks, scheduler="threads", num_workers=workers)  # type: ignore[no-untyped-call]
    return list(results)


class Ahead(Generic[Result]):
    """Blocks that helpers work on while whoever made this does something else.

    As a context manager: on leaving it, no further block is begun. No result depends on how many
    helpers there are.

    Parameters
    ----------
    function, blocks
        As in `map_blocks`.
    helpers
        Threads that begin at once; none is fine, then all is done in `results`.
    """

    def __init__(
        self, function: Callable[[Block], Result], blocks: Iterable[Block], helpers: int
    ) -> None:
        self._function, self._blocks = function, list(blocks)
        self._found: dict[int, Result] = {}
        self._begun, self._lock, self._stopped = 0, Lock(), False
        self._pool = ThreadPoolExecutor(max(helpers, 1))
        self._helpers = [self._pool.submit(self._work) for _ in range(helpers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._pool.shutdown()

    def results(self, workers: int = 1) -> list[Result]:
        """Help until all is done, with `workers` threads in all; results in the order of blocks.

        An error in one block stops the run and is raised here.
        """
        more = max(0, min(workers - 1, len(self._blocks)) - len(self._helpers))
        with ThreadPoolExecutor(max(more, 1)) as pool:
            others = [pool.submit(self._work) for _ in range(more)]
            self._work()
            for helper in (*self._helpers, *others):
                helper.result()
        return [self._found[index] for index in range(len(self._blocks))]

    def _work(self) -> None:
        while not self._stopped:
            with self._lock:
                index = self._begun
                self._begun += 1
            if index >= len(self._blocks):
                return
            try:
                self._found[index] = self._function(self._blocks[index])
            except BaseException:
                self._stopped = True
                raise
