"""Bundles of collagen, vessels, fibroblasts and lymphocytes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from woven.cells import table_of, thinned
from woven.grid import Grid, Scene
from woven.plan import ribbon, wave
from woven.skin import DERMIS, UINT8_PER_OD, Array, Plan, Skin, Table


def _threads(rng: np.random.Generator, start: Array, span: Sequence[float], turn: Array) -> Array:
    """Wavy axes (n, 20, 2) around `start` (n, 2), of a length within `span`, at angle `turn`."""
    count = len(start)
    along = np.linspace(-0.5, 0.5, 20) * rng.uniform(span[0], span[1], (count, 1))
    wavelength = rng.uniform(0.45, 1.1, (count, 1)) * min(span[1], 70)
    height = wavelength * rng.uniform(0.02, 0.09, (count, 1))
    swing = height * np.sin(2 * np.pi * along / wavelength + rng.uniform(0, 6.3, (count, 1)))
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return start[:, None] + np.stack([along * cos - swing * sin, along * sin + swing * cos], 2)


def _scattered(rng: np.random.Generator, skin: Skin, count: float, deep: float) -> Array:
    return rng.uniform([-20, -10], [skin.length + 20, deep], (int(count), 2))


def _bundle(
    grid: Grid,
    image: NDArray[np.uint8],
    plan: Plan,
    body: tuple[Array, float],
    rng: np.random.Generator,
) -> None:
    """Draw one collagen bundle (axis, half width) with strands over those before; leave a cleft."""
    axis, width = body
    taper = width * np.sqrt(1 - np.linspace(-0.98, 0.98, 20) ** 4) + 0.3
    outline, od = plan.move(ribbon(axis, taper)), rng.normal(0.105, 0.018)
    cv2.fillPoly(image, [grid.fixed(outline)], [round(od * UINT8_PER_OD)], cv2.LINE_AA, 4)
    for offset in np.arange(-0.8, 0.8, 1.3 / width):
        strand = plan.move(ribbon(axis, taper * offset)[:20])
        run = strand[rng.integers(0, 6) : rng.integers(12, 20)]
        grid.strokes(image, [run], od + rng.normal(0, 0.025), 0.6)
    if rng.random() < 0.8:
        first = rng.integers(0, 9)
        wide = rng.lognormal(-0.3, 0.6) * np.sqrt(1 - np.linspace(-1, 1, 11) ** 2) + 0.05
        slit = ribbon(outline[first : first + 11], wide)
        cv2.fillPoly(image, [grid.fixed(slit)], [2], cv2.LINE_AA, 4)


def _fibres(scene: Scene, plan: Plan, rng: np.random.Generator) -> tuple[NDArray[np.uint8], ...]:
    """Draw reticular bundles, painter's fashion with clefts between, and fine papillary fibres."""
    skin, grid = scene.skin, scene.grid
    coarse = np.full(grid.shape, round(0.035 * UINT8_PER_OD), np.uint8)
    fine = np.full(grid.shape, round(0.055 * UINT8_PER_OD), np.uint8)
    area, deep = skin.length * skin.depth, skin.depth + 20

    start = _scattered(rng, skin, area / 420, deep)
    count = len(start)
    lie = rng.normal(0, np.where(rng.random(count) < 0.7, 0.3, 0.9))
    half = rng.lognormal(np.log(3.2), 0.5, count) * (0.55 + 0.9 * start[:, 1] / skin.depth)
    for axis, width in zip(_threads(rng, start, (50, 170), lie), half, strict=True):
        _bundle(grid, coarse, plan, (axis, width), rng)

    deep = skin.thickness + 1.9 * skin.ridge_depth + 140
    start = _scattered(rng, skin, skin.length * deep / 8, deep)
    axes = _threads(rng, start, (12, 60), rng.normal(0, 0.8, len(start)))
    axes = plan.move(axes.reshape(-1, 2)).reshape(axes.shape)
    tones = np.resize([0.045, 0.075, 0.03, 0.09, 0.055], 25)
    for od, group in zip(tones, np.array_split(axes, 25), strict=True):
        grid.strokes(fine, list(group), od, rng.choice([0.5, 1.0, 1.5]))
    return coarse, fine


def fill_dermis(scene: Scene, rng: np.random.Generator) -> list[Table]:
    """Paint the dermis and its vessels; return all nuclei in it."""
    grid, inside = scene.grid, scene.kind == DERMIS
    nuclei = []
    for plan in scene.plans:
        coarse, fine = _fibres(scene, plan, rng)
        vessels = _vessels(scene, plan, (coarse, fine), rng)
        border = 55 + 14 * grid.noise(rng, 25.0)
        share = np.clip((scene.to_epidermis - border) / 40, 0, 1)
        lumpy = 1 + (1 - share) * 0.16 * grid.noise(rng, 1.6)
        mixed = (share * coarse + (1 - share) * fine) * lumpy / np.float32(UINT8_PER_OD)
        own = inside & grid.mask(plan.tissue)
        scene.h[own] = mixed[own]
        nuclei += [vessels, _spindles(scene, plan, rng), _lymphocytes(scene, plan, rng)]
    patchy = 1 + 0.12 * grid.noise(rng, 60.0) + 0.08 * grid.noise(rng, 0.6)
    scene.h[inside] = (scene.h * patchy)[inside]
    return nuclei


def _spindles(scene: Scene, plan: Plan, rng: np.random.Generator) -> Table:
    """Fibroblasts, along the bundles; denser near the epidermis."""
    skin = scene.skin
    start = _scattered(rng, skin, skin.fibroblasts * skin.length * skin.depth / 1e6, skin.depth)
    start[::3, 1] *= 0.45
    turn = rng.normal(0, 0.45, len(start))
    ends = start + 3 * np.stack([np.cos(turn), np.sin(turn)], 1)
    here, there = plan.move(start), plan.move(ends)
    along, count = there - here, len(start)
    plump = rng.random(count) < 0.2
    cut = np.sqrt(1 - rng.uniform(0, 0.9, count) ** 2)
    return table_of(
        count, x=here[:, 0], y=here[:, 1], theta=np.arctan2(along[:, 1], along[:, 0]),
        a=np.where(plump, rng.uniform(4, 5.5, count), rng.uniform(4.5, 9, count)) * cut,
        b=np.where(plump, rng.uniform(2, 2.8, count), rng.uniform(1.0, 1.8, count)) * cut**0.5,
        h=rng.lognormal(0.1, 0.2, count), dense=np.where(plump, 0.3, 0.8),
    )  # fmt: skip


def _round_cells(spots: Array, rng: np.random.Generator) -> Table:
    """Lymphocytes: small, dark, none upon another."""
    spots = spots[thinned(spots, np.full(len(spots), 5.6))] if len(spots) > 1 else spots
    count, size = len(spots), rng.normal(3.0, 0.3, len(spots))
    return table_of(
        count, x=spots[:, 0], y=spots[:, 1], a=size * rng.uniform(1, 1.25, count), b=size,
        theta=rng.uniform(0, 3.2, count), h=rng.lognormal(0.3, 0.15, count), dense=0.9,
    )  # fmt: skip


def _lymphocytes(scene: Scene, plan: Plan, rng: np.random.Generator) -> Table:
    """Infiltrate that hugs the junction, in patches."""
    line = np.concatenate([*plan.junctions, np.zeros((0, 2))])
    if not scene.skin.infiltrate or not len(line):
        return table_of(0)
    patches = np.clip(1 + 0.8 * wave(rng, len(line), 60), 0.05, None)
    count = int(scene.skin.infiltrate * len(line) / 1000)
    spots = line[rng.choice(len(line), count, p=patches / patches.sum())]
    return _round_cells(spots + rng.normal(0, 22, spots.shape), rng)


def _vessels(
    scene: Scene, plan: Plan, canvas: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> Table:
    """Cuts through small vessels; every other one lies in the superficial plexus."""
    skin = scene.skin
    centres = _scattered(rng, skin, skin.vessels * skin.length * skin.depth / 1e6, skin.depth)
    plexus = centres[::2]
    plexus[:, 1] = skin.thickness + skin.ridge_depth * rng.uniform(0, 1, len(plexus)) + 30
    placed = plan.move(centres)
    placed = placed[scene.grid.at(scene.to_epidermis, placed) > 20]
    return np.concatenate([table_of(0), *(_vessel(scene, at, canvas, rng) for at in placed)])


def _vessel(
    scene: Scene, centre: Array, canvas: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> Table:
    """Draw lumen and wall; return endothelium and the lymphocytes around."""
    a, b, turn = rng.uniform(4, 14), rng.uniform(2.5, 6), rng.uniform(0, np.pi)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    circle = np.linspace(0, 2 * np.pi, 40)
    for extra, od in ((2.6, 0.11), (1.6, 0.15), (0.0, 0.005)):
        ring = np.stack([(a + extra) * np.cos(circle), (b + extra) * np.sin(circle)], 1) @ turned
        outline, value = scene.grid.fixed(centre + ring), round(od * UINT8_PER_OD)
        for image in canvas:
            cv2.fillPoly(image, [outline], [value], cv2.LINE_AA, 4)
    at = np.arange(0, 2 * np.pi, rng.uniform(1.1, 2.2)) + rng.uniform(0, 1)
    spots = centre + np.stack([(a + 1) * np.cos(at), (b + 1) * np.sin(at)], 1) @ turned
    along = np.stack([-a * np.sin(at), b * np.cos(at)], 1) @ turned
    endothelium = table_of(
        len(at), x=spots[:, 0], y=spots[:, 1], theta=np.arctan2(along[:, 1], along[:, 0]),
        a=rng.uniform(3, 5, len(at)), b=rng.uniform(1.2, 1.9, len(at)), h=1.1, dense=0.7,
    )  # fmt: skip
    far = rng.normal(0, 1, (rng.poisson(scene.skin.perivascular), 2))
    far *= (a + rng.uniform(5, 16, len(far)))[:, None] / np.linalg.norm(far, axis=1)[:, None]
    return np.concatenate([endothelium, _round_cells(centre + far, rng)])
