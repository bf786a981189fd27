"""Nuclei as they are cut, collagen VII, corneum, haze, folds and debris."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree
from shapely.geometry import Polygon

from woven.cells import Rim, epithelium_cells, stain_p16, thinned
from woven.dermis import fill_dermis
from woven.grid import Grid, Scene
from woven.plan import parts_of, resampled, wave
from woven.skin import (
    COMPARTMENTS,
    DERMIS,
    GLASS,
    LINE,
    TRUTH,
    UINT8_PER_OD,
    Array,
    Plan,
    Skin,
    Table,
)


def _stamp(scene: Scene, nuclei: Table, rng: np.random.Generator) -> Array:
    """Draw nuclei of uneven outline, with rim and chromatin; return their areas in um2."""
    mpp, (rows, columns) = scene.grid.mpp, scene.grid.shape
    grain = Grid(mpp, (256, 256))
    chromatin = 0.7 * grain.noise(rng, 0.45) + 0.5 * grain.noise(rng, 0.9)
    swing = rng.normal(0, [[0.05], [0.06], [0.045]], (3, len(nuclei)))
    phase = rng.uniform(0, 2 * np.pi, (3, len(nuclei)))
    for index, n in enumerate(nuclei):
        reach = int(2.0 * max(n["a"], n["b"]) / mpp) + 3
        x0, y0 = int(n["x"] / mpp) - reach, int(n["y"] / mpp) - reach
        if min(x0, y0) < 0 or x0 + 2 * reach >= columns or y0 + 2 * reach >= rows:
            continue
        window = np.s_[y0 : y0 + 2 * reach, x0 : x0 + 2 * reach]
        offset = (np.arange(2 * reach) + 0.5) * mpp
        dx, dy = (x0 * mpp + offset - n["x"])[None], (y0 * mpp + offset - n["y"])[:, None]
        cos, sin = np.cos(n["theta"]), np.sin(n["theta"])
        u, v = (dx * cos + dy * sin) / n["a"], (dy * cos - dx * sin) / n["b"]
        polar = np.arctan2(v, u)
        waves = (swing[k, index] * np.cos((k + 2) * polar + phase[k, index]) for k in range(3))
        edge = 1 + sum(waves)
        rho = np.hypot(u, v) / edge
        cover = np.clip((1 - rho) * min(n["a"], n["b"]) / mpp + 0.5, 0, 1)
        y1, x1 = rng.integers(0, 256 - 2 * reach, 2)
        clumps = chromatin[y1 : y1 + 2 * reach, x1 : x1 + 2 * reach]
        rim = np.exp(-(((rho - 0.86) / 0.16) ** 2))
        body = 0.66 + 0.26 * n["dense"] + 0.30 * rim + (0.22 - 0.08 * n["dense"]) * clumps
        scene.h[window] = np.maximum(scene.h[window], cover * np.clip(n["h"] * body, 0.05, None))
        if n["dab"] > 0:
            _brown(scene, window, n, cover * (0.9 + 0.14 * clumps), rho)
    return np.asarray(np.pi * nuclei["a"] * nuclei["b"] * (1 + 0.5 * (swing**2).sum(0)))


def _brown(scene: Scene, window: tuple[slice, slice], n: Table, cover: Array, rho: Array) -> None:
    """Stain a positive nucleus, and in the dermis a wisp of its cytoplasm."""
    scene.dab[window] = np.maximum(scene.dab[window], cover * n["dab"])
    if n["cell"] < 0:
        wisp = 0.3 * n["dab"] * np.exp(-np.clip(rho - 1, 0, None) / 0.25)
        scene.dab[window] = np.maximum(scene.dab[window], wisp)


def all_nuclei(scene: Scene, rim: Rim, rng: np.random.Generator) -> Table:
    """Draw all cells; return the truth about their nuclei."""
    epithelial = epithelium_cells(scene, rim, rng)
    dermal = np.concatenate(fill_dermis(scene, rng))
    spots = np.stack([dermal["x"], dermal["y"]], 1)
    free = scene.grid.distance(scene.kind > DERMIS)
    room = 0.5 * dermal["a"] + dermal["b"]
    fits = (scene.grid.at(scene.kind, spots) == DERMIS) & (scene.grid.at(free, spots) > room)
    fits &= dermal["a"] * dermal["b"] > 2.5
    dermal = dermal[fits]
    dermal = dermal[thinned(spots[fits], np.full(len(dermal), 4.5))]
    stain_p16(scene, dermal, rng)
    dermal["h"] *= scene.skin.counterstain
    nuclei = np.concatenate([epithelial, dermal])
    spots = np.stack([nuclei["x"], nuclei["y"]], 1)
    whole = scene.grid.distance((scene.kind == GLASS) & (scene.to_keratin > 0))
    nuclei = nuclei[scene.grid.at(whole, spots) > 2]
    truth = np.zeros(len(nuclei), TRUTH)
    truth["area_um2"] = _stamp(scene, nuclei, rng)
    truth["x"], truth["y"], truth["positive"] = nuclei["x"], nuclei["y"], nuclei["dab"] > 0
    spots = np.stack([nuclei["x"], nuclei["y"]], 1)
    truth["compartment"] = COMPARTMENTS[scene.grid.at(scene.kind, spots)]
    return truth


def _strength(skin: Skin, rim: Rim, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the integrated OD of the collagen VII line, and its sigma, at each rim point."""
    size = int(rim.arc[-1] / 0.5) + 1
    uneven = np.exp(0.18 * wave(rng, size, 12) + 0.16 * wave(rng, size, 90))
    open_, at = np.ones(size), 0.0
    while skin.gaps > 0:
        gap = rng.uniform(10, 80)
        at += rng.exponential(gap * (1 - skin.gaps) / skin.gaps) + 4
        if at >= rim.arc[-1]:
            break
        open_[int(at * 2) : int((at + gap) * 2)] = 0
        at += gap
    amount = skin.line * uneven * gaussian_filter1d(open_, 1.6)
    sigma = np.clip(skin.line_width / 2.355 * np.exp(0.15 * wave(rng, size, 20)), 0.3, None)
    index = np.clip((rim.arc / 0.5).astype(int), 0, size - 1)
    return amount[index], sigma[index]


def stain_collagen7(scene: Scene, rim: Rim, rng: np.random.Generator) -> list[Table]:
    """Paint the line along every border with dermis; return the truth along the junctions."""
    amount, sigma = _strength(scene.skin, rim, rng)
    centre = rim.points - 0.4 * rim.inward  # anchoring fibrils lie on the dermal side
    close = (scene.to_dermis < 5) & (scene.grid.distance(scene.kind > DERMIS) < 5)
    close &= scene.kind > GLASS
    away, near = cKDTree(centre).query(scene.grid.centres(close))
    profile = np.exp(-0.5 * (away / sigma[near]) ** 2) / (np.sqrt(2 * np.pi) * sigma[near])
    grain = 1 + 0.08 * scene.grid.noise(rng, 0.5)[close]
    scene.dab[close] += amount[near] * profile * grain

    tables = []
    for line in (line for plan in scene.plans for line in plan.junctions):
        points = resampled(line, 2.0)
        table = np.zeros(len(points), LINE)
        table["x"], table["y"] = points.T
        table["od_um"] = amount[cKDTree(rim.points).query(points)[1]]
        table["present"] = table["od_um"] > 0.25 * scene.skin.line
        tables.append(table)
    return tables


def stain_corneum(scene: Scene, rng: np.random.Generator) -> None:
    """Draw the sheets of the corneum and the keratin in follicles."""
    skin, image = scene.skin, np.zeros(scene.grid.shape, np.uint8)
    lines = [line for plan in scene.plans for line in plan.lamellae]
    for group in (lines[k::7] for k in range(7)):
        width = rng.choice([0.7, 1.0, 1.5]) + 1.2 * (1 - skin.basket)
        scene.grid.strokes(image, group, rng.uniform(0.10, 0.22), width)
    sheets = image / np.float32(UINT8_PER_OD)
    sheets *= 1 + 0.15 * scene.grid.noise(rng, 1.0)
    scene.h[:] = np.maximum(scene.h, 0.75 * sheets)
    patchy = np.clip(1 + 0.3 * scene.grid.noise(rng, 15.0), 0, None)
    scene.dab[:] += sheets / 0.16 * skin.corneum_stain * patchy


def add_haze(scene: Scene, rng: np.random.Generator) -> None:
    """Stain that belongs nowhere: over all tissue, and more along cut edges."""
    skin, tissue = scene.skin, scene.kind > GLASS
    cloud = 1 + 0.35 * scene.grid.noise(rng, 70.0) + 0.12 * scene.grid.noise(rng, 0.8)
    cloud = np.clip(cloud, 0.1, None)
    fibres = np.clip(scene.h / 0.09, 0.2, 1.6)  # stroma takes it up where there is matter
    matter = np.where(scene.kind == DERMIS, fibres, 1.15)
    rest = np.exp(-scene.grid.distance(~tissue & (scene.to_keratin > 0)) / 9)
    scene.dab[tissue] += ((skin.haze * cloud + skin.edge_stain * rest) * matter)[tissue]


def fold_over(scene: Scene, plan: Plan, rng: np.random.Generator) -> None:
    """In each fold the tissue lies twice: add its mirror image and lose focus."""
    for part in parts_of(plan.fold, Polygon):
        ring = np.asarray(part.exterior.coords) / scene.grid.mpp
        along = ring[len(ring) // 2 - 2] - ring[1]
        along /= np.hypot(*along)
        turn = 2 * np.outer(along, along) - np.eye(2)
        middle = ring.mean(0) + 40 / scene.grid.mpp * np.array([along[1], -along[0]])
        mirror = np.column_stack([turn, middle - turn @ middle])
        soft = scene.grid.mask(part).astype(np.float32)
        soft = np.asarray(cv2.GaussianBlur(soft, (0, 0), 1.2 / scene.grid.mpp), np.float32)
        for plane in (scene.h, scene.dab, scene.melanin):
            other = cv2.warpAffine(plane, mirror, plane.shape[::-1])
            twice = cv2.GaussianBlur(plane + 1.1 * other, (0, 0), 1.0 / scene.grid.mpp)
            plane += soft * (twice - plane)
        rim = np.clip(soft * (1 - soft) * 4, 0, 1)
        rim *= scene.grid.mask(plan.tissue) * (1 + 0.3 * scene.grid.noise(rng, 8.0))
        scene.h[:] += 0.10 * rim


def add_debris(scene: Scene, rng: np.random.Generator) -> None:
    """Specks and lint, grey to brown, a little out of focus."""
    image, (rows, columns) = np.zeros(scene.grid.shape, np.uint8), scene.grid.shape
    for index in range(scene.skin.debris):
        centre = rng.uniform(0, [columns, rows]) * scene.grid.mpp
        turn = np.sort(rng.uniform(0, 2 * np.pi, 9))
        speck = centre + rng.lognormal(0.9, 0.5) * np.stack([np.cos(turn), np.sin(turn)], 1)
        od = rng.uniform(0.1, 0.5)
        if index % 5 == 4:
            lint = centre + np.cumsum(rng.normal(0, 1.5, (60, 2)) + rng.normal(0, 1.2, 2), 0)
            scene.grid.strokes(image, [lint], 0.4 * od, 1.5)
        else:
            scene.grid.paint(image, Polygon(speck), round(od * UINT8_PER_OD))
    soft = cv2.GaussianBlur(image, (0, 0), 0.9 / scene.grid.mpp).astype(np.float32) / UINT8_PER_OD
    scene.dirt[:] += soft
