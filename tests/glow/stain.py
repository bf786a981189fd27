"""Light of nuclei and of collagen VII, in perfect focus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from glow.lines import even, wave
from glow.plan import Plan
from glow.raster import coarsened, distance_to, enlarged, texture
from glow.skin import LINE, Preset
from woven.grid import Grid
from woven.skin import Array, Mask, Plane, Table

STEP_UM = 0.25  # along a membrane
PER_ROW = 8  # steps in a row of the truth
FWHM_UM = 1.5  # of the line, in the mean
CHROMATIN_PX = 512
SIGMAS_PER_FWHM = 2.355


def nuclear_light(
    grid: Grid,
    nuclei: Table,
    electrons: Array,
    rng: np.random.Generator,
    grain: float,
    cytoplasm_um: float = 0.0,
) -> Plane:
    """Add up nuclei.

    Parameters
    ----------
    electrons
        Light of each, a photo-electron being the unit.
    grain
        How uneven their chromatin is, as a share of its light.
    cytoplasm_um
        How far a dim cytoplasm reaches; 0 for none.

    Returns
    -------
    (y, x), photo-electrons.
    """
    light = np.zeros(grid.shape, np.float32)
    chromatin = grain * texture(Grid(grid.mpp, (CHROMATIN_PX, CHROMATIN_PX)), rng, 0.55)
    for nucleus, bright in zip(nuclei, electrons, strict=True):
        reach = int((nucleus["long_um"] * 0.65 + cytoplasm_um * 2 + 1) / grid.mpp) + 1
        column, row = nucleus["x"] / grid.mpp - 0.5, nucleus["y"] / grid.mpp - 0.5
        columns, rows = _span(column, reach, grid.shape[1]), _span(row, reach, grid.shape[0])
        if columns.size and rows.size:
            radius = _radius(nucleus, (columns - column) * grid.mpp, (rows - row) * grid.mpp)
            top, left = rng.integers(0, CHROMATIN_PX - 2 * reach, 2)
            clumps = chromatin[top : top + rows.size, left : left + columns.size]
            outside_um = (radius - 1) * (nucleus["short_um"] / 2)
            body = np.clip(0.5 - outside_um / grid.mpp, 0, 1)
            patch = body * (1 + clumps) * (0.85 + 0.25 * radius * radius)
            if cytoplasm_um:
                patch += _cytoplasm(outside_um, cytoplasm_um) * (1 - body)
            light[np.ix_(rows, columns)] += (bright * np.maximum(patch, 0)).astype(np.float32)
    return light


def _cytoplasm(outside_um: Array, reach_um: float) -> Array:
    """Light around a nucleus, whose own is 1."""
    return np.asarray(0.25 * np.exp(-0.5 * (np.maximum(outside_um, 0) / reach_um) ** 2))


def _span(centre: float, reach: int, size: int) -> NDArray[np.intp]:
    """Pixels within `reach` of `centre`, as far as the picture goes."""
    return np.arange(max(int(centre) - reach, 0), min(int(centre) + reach, size))


def _radius(nucleus: Table, dx: Array, dy: Array) -> Array:
    """Distance from the centre, 1 on the uneven outline; (len(dy), len(dx))."""
    turned = (dx[None] + 1j * dy[:, None]) * np.exp(-1j * nucleus["angle"])
    long, short = nucleus["long_um"] / 2, nucleus["short_um"] / 2
    unit = turned.real / long + 1j * turned.imag / short
    return np.asarray(np.abs(unit) / (1 + 0.05 * np.cos(3 * np.angle(unit) + nucleus["x"])))


@dataclass(frozen=True)
class Membrane:
    """Points (n, 2) of x, y in um every `STEP_UM`, and the stain there.

    `light` is in photo-electrons * um, summed across the line.
    """

    points: Array
    present: Mask
    light: Array
    fwhm_um: Array

    def rows(self) -> Table:
        """The truth, a row every 2 um."""
        light = _in_rows(self.light)
        table = np.zeros(len(light), LINE)
        middle = self.points[PER_ROW // 2 :: PER_ROW][: len(light)]
        table["x"], table["y"] = middle.T
        table["present"] = _in_rows(self.present) > 0.5
        table["light_um"] = table["even_light_um"] = light
        table["fwhm_um"] = _in_rows(self.fwhm_um)
        return table


def _in_rows(values: NDArray[Any]) -> Array:
    """Mean of every `PER_ROW` steps; what is left over at the end belongs to no row."""
    count = (len(values) - 1) // PER_ROW
    return np.asarray(values[: count * PER_ROW].reshape(count, PER_ROW).mean(axis=1))


def _present(size: int, gaps: float, rng: np.random.Generator) -> Mask:
    """Leave out runs of 10 to 80 um until about a share of `gaps` is missing."""
    present = np.ones(size, bool)
    while (~present).mean() < gaps:
        start = int(rng.integers(0, size))
        present[start : start + int(rng.uniform(10, 80) / STEP_UM)] = False
    return present


def _membrane(line: Array, preset: Preset, strength: float, rng: np.random.Generator) -> Membrane:
    """Stain a line unevenly, `strength` times as much as the junction in the mean."""
    points = even(line, STEP_UM)
    size = len(points)
    present = _present(size, preset.gaps, rng)
    fwhm = np.clip(FWHM_UM + 0.3 * wave(rng, size, 80.0), 1.0, 2.0)
    uneven = np.exp(0.35 * wave(rng, size, 40.0)) * np.exp(0.15 * wave(rng, size, 8.0))
    # A Gaussian of 1.5 um at half its height is as much light as its peak over 1.6 um.
    light = preset.marker_electrons * 1.6 * strength * np.clip(uneven, 0.4, 2.5) * present
    return Membrane(points, present, light, fwhm)


def _add_membrane(light: Plane, membrane: Membrane, mpp: float) -> None:
    """Add a line that is Gaussian across."""
    pixels = np.round(membrane.points / mpp - 0.5).astype(np.int32)
    corner = pixels.min(axis=0) - int(6 / mpp)
    band = np.zeros((pixels.max(axis=0) - corner + int(6 / mpp))[::-1], np.uint8)
    cv2.polylines(band, [pixels - corner], False, [1], int(8 / mpp))
    near = np.argwhere(band)[:, ::-1] + corner
    near = near[(near >= 0).all(axis=1) & (near < light.shape[::-1]).all(axis=1)]
    found = cKDTree(membrane.points).query((near + 0.5) * mpp, distance_upper_bound=4.5)
    away, index = (np.asarray(value) for value in found)
    reached = np.isfinite(away)
    (x, y), away, index = near[reached].T, away[reached], index[reached]
    sigma = membrane.fwhm_um[index] / SIGMAS_PER_FWHM
    profile = np.exp(-0.5 * (away / sigma) ** 2)
    light[y, x] += membrane.light[index] * profile / (sigma * np.sqrt(2 * np.pi))


def collagen7(
    grid: Grid, plan: Plan, junctions: list[Array], preset: Preset, rng: np.random.Generator
) -> tuple[Plane, list[Table]]:
    """Draw the line at every basement membrane; return it, and the truth along `junctions`."""
    light = np.zeros(grid.shape, np.float32)
    lines = [(line, 1.0) for line in junctions]
    lines += [(line, ring.strength) for ring in plan.rings for line in ring.membranes]
    membranes = [_membrane(line, preset, strength, rng) for line, strength in lines]
    for membrane in membranes:
        _add_membrane(light, membrane, grid.mpp)
    return light, [membrane.rows() for membrane in membranes[: len(junctions)]]


def diffuse_collagen7(grid: Grid, plan: Plan, collagen: Plane, preset: Preset) -> Plane:
    """Stain that dermis takes up, most below the junction."""
    near = np.exp(-distance_to(plan.junctions, coarsened(grid)) / 60).astype(np.float32)
    share = 0.04 + 0.06 * enlarged(near, grid)
    return np.asarray(preset.marker_electrons * collagen * share)
