"""DAB of collagen VII: a line along the border of all epithelium, with gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quilt.border import APART_UM, Anatomy, Walk
from quilt.chance import Wave
from quilt.raster import looked_up
from quilt.skin import LINE, Array, Mask, Plane, Preset, Table
from quilt.tissue import Tissue

FWHM_SIGMAS = 2.355  # full width at half maximum of a Gaussian, in its sigmas
BELOW_UM = 0.4  # how far the line lies in the dermis
GAP_UM = 20.0, 100.0
BETWEEN_GAPS_UM = 25.0  # at least
GAP_EDGE_UM = 2.0  # over which the line fades
TRIES = 200  # to place gaps
ROW_UM = 10.0  # of the truth
GLAND_UM = 190.0  # outlines of glands' tubes are shorter
OF_GLANDS = 0.25  # a gland has that much of a follicle's line


@dataclass(frozen=True)
class _Strength:
    """The line along the walk's table: peak, sigma, and whether it is there (1) or not (0)."""

    peak_od: Array
    sigma_um: Array
    present: Array


def _around(walk: Walk, start_um: float, end_um: float, margin_um: float) -> Mask:
    """Rows of the walk's table from a margin before a stretch to one after it."""
    table = walk.table_um
    return (table > start_um - margin_um) & (table < end_um + margin_um)


def _with_gaps(walk: Walk, preset: Preset, rng: np.random.Generator) -> Array:
    """Draw gaps until enough of the junction is without a line, or no more fit in."""
    table, ends = walk.table_um, walk.epidermal_ends_um
    present, missing_um = np.ones(len(table)), 0.0
    wanted_um = rng.uniform(*preset.gaps) * sum(end - start for start, end in ends)
    for _ in range(TRIES):
        if missing_um >= wanted_um:
            break
        start, end = ends[rng.integers(len(ends))]
        gap_um = rng.uniform(*GAP_UM)
        if end - start < 3 * gap_um:  # a gap is no large part of a stretch
            continue
        first = start + rng.uniform(0, end - start - gap_um)
        if (present[_around(walk, first, first + gap_um, BETWEEN_GAPS_UM)] < 0.5).any():
            continue
        inside = np.minimum(table - first + 1, first + gap_um + 1 - table)
        present *= 1 - np.clip(inside / GAP_EDGE_UM, 0, 1)
        missing_um += gap_um
    return present


def _of_adnexa(walk: Walk, rng: np.random.Generator) -> Array:
    """Strength of the line relative to that of the epidermis: less in adnexa."""
    relative, count = np.ones(len(walk.table_um)), walk.stretch.max() + 1
    if count == walk.epidermal:
        return relative
    of_follicles = rng.uniform(0.5, 0.9)
    for stretch in range(walk.epidermal, count):
        start, end = walk.ends_um(stretch)
        size = OF_GLANDS if end - start < GLAND_UM else 1
        relative[_around(walk, start, end, APART_UM / 2)] *= of_follicles * size
    return relative


def _some_strength(walk: Walk, preset: Preset, rng: np.random.Generator) -> _Strength:
    table = walk.table_um
    peak_od, fwhm_um = rng.uniform(*preset.line_od), rng.uniform(1.8, 3.2)
    strong, wide = Wave(rng, shortest_um=25), Wave(rng, shortest_um=40)
    grainy = Wave(rng, shortest_um=3, count=40, span=4)
    uneven = np.clip(1 + 0.22 * strong(table) + 0.16 * grainy(table), 0.4, 1.7)
    sigma_um = fwhm_um / FWHM_SIGMAS * np.clip(1 + 0.15 * wide(table), 0.6, 1.5)
    present = _with_gaps(walk, preset, rng)
    return _Strength(peak_od * uneven * _of_adnexa(walk, rng), sigma_um, present)


def _rows(walk: Walk, stretch: int, strength: _Strength) -> Table:
    """Truth of one stretch, each row the mean over its 10 um."""
    table, on_it = walk.table_um, walk.stretch == stretch
    start, end = walk.ends_um(stretch)
    half = ROW_UM / 2
    middles = np.arange(start + half, end - 2, ROW_UM)  # the last may lack 3 um
    index = np.searchsorted(walk.at_um[on_it], middles).clip(0, on_it.sum() - 1)
    od_um = strength.peak_od * strength.present * strength.sigma_um
    rows = np.zeros(len(middles), LINE)
    rows["x"], rows["y"] = walk.points[on_it][index].T
    for row, middle in zip(rows, middles, strict=True):
        near = (table >= middle - half) & (table < middle + half)
        row["present"] = strength.present[near].mean() > 0.5
        row["od_um"] = od_um[near].mean() * np.sqrt(2 * np.pi)
    return rows


def collagen7(
    anatomy: Anatomy, tissue: Tissue, preset: Preset, rng: np.random.Generator
) -> tuple[Plane, list[Table]]:
    """Draw the line, and its truth for each stretch of the junction."""
    walk = anatomy.walk
    strength = _some_strength(walk, preset, rng)
    peak = looked_up(walk.table_um, strength.peak_od * strength.present, anatomy.at_um)
    sigma = looked_up(walk.table_um, strength.sigma_um, anatomy.at_um)
    across = np.exp(-0.5 * ((anatomy.depth_um + BELOW_UM) / sigma) ** 2)
    dab = (peak * across * anatomy.near * tissue.whole).astype(np.float32)
    return dab, [_rows(walk, stretch, strength) for stretch in range(walk.epidermal)]
