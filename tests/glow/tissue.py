"""Light that is no stain: what tissue shines by itself, and dirt."""

from __future__ import annotations

import cv2
import numpy as np
from shapely.geometry import MultiPolygon

from glow.lines import blob
from glow.plan import Plan
from glow.raster import coarsened, distance_to, enlarged, texture
from woven.grid import Grid
from woven.skin import Array, Mask, Plane


def _fibres(grid: Grid, rng: np.random.Generator) -> Plane:
    """Bundles of collagen in three directions, 0 to about 1.5, with clefts near 0."""
    bundles = np.zeros(grid.shape, np.float32)
    side = int(np.hypot(*grid.shape)) + 4
    for _ in range(3):
        straight = texture(Grid(grid.mpp, (side, side)), rng, 25, 1.6)
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(0, 180), 1.0)
        turn[0, 2] -= (side - grid.shape[1]) / 2
        turn[1, 2] -= (side - grid.shape[0]) / 2
        bundles = np.maximum(bundles, cv2.warpAffine(straight, turn, grid.shape[::-1]))
    swing = [18 / grid.mpp * texture(grid, rng, 35) for _ in "xy"]
    x, y = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in grid.shape[::-1]))
    wavy = cv2.remap(
        bundles, x + swing[0], y + swing[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    cleft = texture(grid, rng, 9, 4) + 0.6 * texture(grid, rng, 40) > 2.2
    soft = cv2.GaussianBlur(cleft.astype(np.float32), (0, 0), 0.6 / grid.mpp)
    return np.asarray(np.clip(0.6 + 0.22 * wavy, 0.1, 2) * (1 - 0.85 * soft))


def _lamellae(plan: Plan, grid: Grid, rng: np.random.Generator) -> Plane:
    """Sheets of the corneum, along the surface."""
    up = enlarged(distance_to(plan.surface, coarsened(grid)), grid)
    sheets = np.sin(up * rng.uniform(1.2, 2.2) + 1.5 * texture(grid, rng, 12))
    uneven = np.clip(0.8 + 0.5 * sheets + 0.2 * texture(grid, rng, 2), 0.05, 3)
    return np.asarray(grid.mask(plan.corneum) * uneven)


def own_light(plan: Plan, grid: Grid, rng: np.random.Generator) -> tuple[Array, Plane]:
    """Return autofluorescence, about 1 in the mean of the tissue, and collagen alone."""
    solid = [ring for ring in plan.rings if ring.kind != "vessel"]
    adnexa = grid.mask(MultiPolygon([ring.whole for ring in solid]))
    epithelium = (grid.mask(plan.viable) | adnexa).astype(np.float32)
    tissue = grid.mask(plan.tissue).astype(np.float32)
    collagen = _fibres(grid, rng) * np.clip(tissue - epithelium, 0, 1)
    lamellae = _lamellae(plan, grid, rng)
    cells = 1 + 0.15 * texture(grid, rng, 1.5) + 0.15 * texture(grid, rng, 5)
    canals = MultiPolygon([ring.lumen for ring in plan.rings if ring.kind == "follicle"])
    hair = grid.mask(canals) * rng.choice([0.2, 0.8, 2.5])
    stroma = collagen * rng.uniform(0.8, 1.4)
    light = stroma + epithelium * tissue * cells * rng.uniform(0.7, 1.2)
    hollow = grid.mask(MultiPolygon([ring.lumen for ring in plan.rings])).astype(np.float32)
    light = light * (1 - 0.8 * hollow) + lamellae * rng.choice([0.7, 2.0, 4.0]) + hair
    return light, collagen


def grains(plan: Plan, grid: Grid, rng: np.random.Generator) -> Mask:
    """Lipofuscin and the like: where a grain lies in the tissue."""
    return np.asarray((texture(grid, rng, 0.5) > 3.3) & grid.mask(plan.tissue))


def dirt(grid: Grid, count: int, electrons: float, rng: np.random.Generator) -> Plane:
    """Bright specks, and some lint; half to three times `electrons` each."""
    light = np.zeros(grid.shape, np.float32)
    for _ in range(count):
        centre = rng.random(2) * grid.shape[::-1] * grid.mpp
        bright = float(electrons * rng.uniform(0.5, 3))
        speck = blob(rng, centre, (rng.uniform(0.7, 4.0), rng.uniform(0.7, 4.0)), 0.0)
        if rng.random() < 0.1:
            heading = np.cumsum(rng.normal(0, 0.06, 120))
            lint = centre + np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1), axis=0)
            width = max(int(2 / grid.mpp), 1)
            cv2.polylines(light, [(lint / grid.mpp).astype(np.int32)], False, [bright * 0.5], width)
        else:
            cv2.fillPoly(light, [(speck / grid.mpp).astype(np.int32)], [bright])
    return light
