"""How many nuclei lie in what was taken for epithelium, and how many around it.

Bundles of collagen and blotches of haze may be as dense in hematoxylin as epidermis is, but there
are no more nuclei in them than in other dermis; epidermis holds 2.5 to nine times as many. They
are counted in a few cells of a grid of each piece, and in a few around, however large the slide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.blocks import Block
from histoquant.evidence import Coarse

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
FindNuclei = Callable[[Sequence[Block]], tuple[Floats, Floats]]
"""Of the nuclei in blocks of the fine picture: centroids (n, 2), (y, x) in um, and mean OD (n,)."""

_CELL_UM = 256.0
_CELLS_OF_PIECE, _CELLS_AROUND = 4, 16
_MOSTLY = 0.5  # of a cell around
_LEAST_MM2 = 0.002  # of a piece: less holds too few nuclei
_LEAST_OD = 0.75  # of the median nucleus in epithelium; collagen that passes for nuclei is paler


@dataclass(frozen=True, eq=False)
class Cellularity:
    """Nuclei per mm2.

    Attributes
    ----------
    numbers
        Of each field, int32 (h, w): which piece of epithelium each pixel is of, from 1 on through
        all fields; 0 for none.
    pieces
        (n,): of each piece, NaN for what is none, and where too little can be read to say.
    around
        The median of cells that are mostly other tissue; NaN where there are none.
    """

    numbers: list[Numbers]
    pieces: Floats
    around: float


@dataclass(frozen=True, eq=False)
class _Cell:
    """A cell of the grid: its block of the fine picture, and the pieces in it, coarse."""

    block: Block
    numbers: Numbers
    tissue: Mask
    mpp: float


def count_nuclei(
    fields: Sequence[Coarse],
    epithelium: Sequence[Mask],
    readable: Sequence[Mask],
    mpp: float,
    find: FindNuclei,
) -> Cellularity:
    """Count nuclei in the pieces of epithelium, and around them.

    Parameters
    ----------
    epithelium
        Of each field, bool (h, w).
    readable
        Of each field, bool (h, w): tissue in which nuclei can be seen.
    mpp
        Pixel size of the fine picture in um, that blocks are told in.
    """
    numbers = _number(epithelium)
    cells = [
        cell
        for field, number, mask in zip(fields, numbers, readable, strict=True)
        for cell in _cells(field, number, mask, mpp)
    ]
    inside, around = _of_pieces(cells), _beside(cells)
    chosen = [*dict.fromkeys((*inside, *around))]
    places_um, od = find([cells[i].block for i in chosen])
    count = 1 + max((int(n.max(initial=0)) for n in numbers), default=0)
    nuclei, area_mm2 = np.zeros(count), np.zeros(count)
    told = [_piece_of(cells[i], places_um, mpp) for i in chosen]
    own = np.concatenate([od[at][piece > 0] for at, piece in told] or [np.empty(0)])
    least = _LEAST_OD * float(np.median(own)) if own.size else 0.0
    densities = []
    for i, (at, piece) in zip(chosen, told, strict=True):
        cell = cells[i]
        found = np.bincount(piece[od[at] >= least], minlength=count)
        pixels = np.bincount(cell.numbers[cell.tissue], minlength=count) * cell.mpp**2 / 1e6
        nuclei += found
        area_mm2 += pixels
        if i in around:
            densities.append(found[0] / pixels[0])
    pieces = np.where(area_mm2 >= _LEAST_MM2, nuclei / np.maximum(area_mm2, 1e-9), np.nan)
    pieces[0] = np.nan
    return Cellularity(numbers, pieces, float(np.median(densities)) if densities else float("nan"))


def _number(epithelium: Sequence[Mask]) -> list[Numbers]:
    """Number the connected pieces of all fields."""
    numbers, first = [], 0
    for mask in epithelium:
        count, pieces = cv2.connectedComponents(mask.astype(np.uint8))
        own = np.asarray(pieces, np.int32)
        numbers.append(np.where(own > 0, own + np.int32(first), np.int32(0)))
        first += count - 1
    return numbers


def _cells(field: Coarse, numbers: Numbers, readable: Mask, mpp: float) -> list[_Cell]:
    """Cells of a field with tissue in them that can be read."""
    side, factor = max(1, round(_CELL_UM / field.mpp)), round(field.mpp / mpp)
    cells = []
    for y in range(0, numbers.shape[0], side):
        for x in range(0, numbers.shape[1], side):
            part = slice(y, y + side), slice(x, x + side)
            tissue = readable[part]
            if not tissue.any():
                continue
            block = Block(
                field.box.y + y * factor,
                field.box.x + x * factor,
                min(side * factor, field.box.height - y * factor),
                min(side * factor, field.box.width - x * factor),
            )
            cells.append(_Cell(block, numbers[part], tissue, field.mpp))
    return cells


def _of_pieces(cells: Sequence[_Cell]) -> list[int]:
    """The cells that hold most of each piece."""
    shares: dict[int, list[tuple[int, int]]] = {}
    for i, cell in enumerate(cells):
        for piece, pixels in enumerate(np.bincount(cell.numbers.ravel())):
            if piece and pixels:
                shares.setdefault(piece, []).append((-int(pixels), i))
    return [i for held in shares.values() for _, i in sorted(held)[:_CELLS_OF_PIECE]]


def _beside(cells: Sequence[_Cell]) -> list[int]:
    """Cells that are mostly tissue that is no epithelium, evenly thinned out."""
    outside = [cell.tissue & (cell.numbers == 0) for cell in cells]
    full = [i for i, mask in enumerate(outside) if mask.mean() >= _MOSTLY]
    every = max(1, -(-len(full) // _CELLS_AROUND))
    return full[::every]


def _piece_of(
    cell: _Cell, places_um: Floats, mpp: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which nuclei lie in a cell's tissue, and of which piece each is."""
    at = np.flatnonzero(cell.block.owns(places_um / mpp))
    corner = np.array([cell.block.y, cell.block.x]) * mpp
    last = np.array(cell.tissue.shape) - 1  # a centroid on the far edge may be rounded onto it
    pixel = tuple(np.minimum((places_um[at] - corner) / cell.mpp, last).astype(np.int64).T)
    kept = cell.tissue[pixel]
    return at[kept], cell.numbers[pixel][kept].astype(np.int64)
