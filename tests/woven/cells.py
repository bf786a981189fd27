"""Cells of the epithelia, and the stain they take up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree
from shapely.geometry import Polygon
from shapely.geometry.polygon import orient
from shapely.ops import unary_union

from woven.grid import Scene
from woven.plan import parts_of, resampled
from woven.skin import DERMIS, EPIDERMIS, GLAND, NUCLEUS, SEBUM, WALL, Array, Mask, Table


@dataclass(frozen=True)
class Rim:
    """The border of all epithelium with dermis, in steps of about 0.5 um."""

    points: Array
    inward: Array
    arc: Array  # um, running on over the rings


def rim_of(scene: Scene) -> Rim:
    points, inward, arc, start = [], [], [], 0.0
    for plan in scene.plans:
        epithelium = unary_union([plan.viable, plan.wall, plan.gland, plan.sebum]).buffer(0.05)
        for part in parts_of(epithelium, Polygon):
            solid = orient(part, 1.0)  # inside lies to the left, holes included
            for ring in (solid.exterior, *solid.interiors):
                line = resampled(np.asarray(ring.coords), 0.5)
                along = gaussian_filter1d(np.gradient(line, axis=0), 3, axis=0, mode="wrap")
                normal = np.stack([-along[:, 1], along[:, 0]], 1)
                normal /= np.linalg.norm(normal, axis=1)[:, None] + 1e-9
                faces = scene.grid.at(scene.kind, line - 1.6 * normal) == DERMIS
                points.append(line[faces])
                inward.append(normal[faces])
                arc.append(start + np.flatnonzero(faces) * 0.5)
                start += len(line) * 0.5 + 100
    return Rim(np.concatenate(points), np.concatenate(inward), np.concatenate(arc))


def thinned(points: Array, radius: Array) -> NDArray[np.intp]:
    """Indices kept when points, first come first served, claim a disc each."""
    pairs = cKDTree(points).query_pairs(float(radius.max()), output_type="ndarray")
    apart = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    pairs = pairs[apart < 0.5 * (radius[pairs[:, 0]] + radius[pairs[:, 1]])]
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    keep = np.ones(len(points), bool)
    for early, late in pairs:
        if keep[early]:
            keep[late] = False
    return np.flatnonzero(keep)


def _lifted(scene: Scene, points: Array) -> Array:
    """Add a third coordinate that grows away from keratin, so that cells flatten towards it."""
    flat = min(16.0, scene.skin.thickness / 3.4)
    depth = scene.grid.at(scene.to_keratin, points).astype(float)
    surface = np.isin(scene.grid.at(scene.kind, points), (EPIDERMIS, WALL))
    lift = np.where(surface, 4.6 * flat * (1 - np.exp(-depth / flat)), 0)
    return np.column_stack([points, lift])


def _seeds(scene: Scene, rim: Rim, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return cell centres, the basal row along the rim first, and the normals of that row."""
    steps = np.cumsum(np.clip(rng.normal(6.0, 0.8, int(rim.arc[-1] / 4)), 4, 9))
    basal = np.unique(np.searchsorted(rim.arc, steps[steps < rim.arc[-1]]))
    offset = rng.normal(5.6, 0.7, len(basal))[:, None]
    row, normal = rim.points[basal] + offset * rim.inward[basal], rim.inward[basal]
    fits = (scene.grid.at(scene.kind, row) > DERMIS) & (scene.grid.at(scene.to_dermis, row) > 3.5)
    row, normal = row[fits], normal[fits]
    kept = thinned(row, np.full(len(row), 4.6))
    row, normal = row[kept], normal[kept]

    room = (scene.kind > DERMIS) & (scene.to_dermis > 10)
    pool = scene.grid.centres(room)
    pool = rng.permutation(pool)[: int(len(pool) * scene.skin.mpp**2 / 5)]
    pool = pool + rng.uniform(-0.5, 0.5, pool.shape) * scene.skin.mpp
    flat = min(16.0, scene.skin.thickness / 3.4)
    radius = 8.9 * (1 + 0.85 * np.exp(-scene.grid.at(scene.to_keratin, pool) / flat))
    code = scene.grid.at(scene.kind, pool)
    radius = np.where(code == GLAND, 8.5, np.where(code == SEBUM, 15.0, radius))
    return np.concatenate([row, pool[thinned(_lifted(scene, pool), radius)]]), normal


def table_of(count: int, **columns: Any) -> Table:
    table = np.zeros(count, NUCLEUS)
    table["cell"] = -1
    for name, value in columns.items():
        table[name] = value
    return table


def _cut(rng: np.random.Generator, count: int) -> Array:
    """Shrink factors of spheres cut at random; one in ten cells shows no nucleus (0)."""
    factor = np.sqrt(1 - rng.uniform(0, 0.97, count) ** 2)
    return np.asarray(np.where(rng.random(count) < 0.1, 0, factor))


def epithelium_cells(scene: Scene, rim: Rim, rng: np.random.Generator) -> Table:
    """Paint cytoplasm and cell borders; return the nuclei."""
    skin, grid = scene.skin, scene.grid
    seeds, normal = _seeds(scene, rim, rng)
    where = scene.kind > DERMIS
    pixels = grid.centres(where)
    wobble = np.column_stack([grid.noise(rng, 2.0)[where], grid.noise(rng, 2.0)[where]]) * 0.5
    lifted = _lifted(scene, pixels)
    lifted[:, :2] += wobble
    near, cells = (np.asarray(found) for found in cKDTree(_lifted(scene, seeds)).query(lifted, 2))
    cell = cells[:, 0]

    nuclei = _keratinocytes(scene, seeds, normal, rng)
    stain_p16(scene, nuclei, rng)
    code, up, down = scene.kind[where], scene.to_dermis[where], scene.to_keratin[where]
    surface = np.isin(code, (EPIDERMIS, WALL))
    border = np.exp(-(((near[:, 1] - near[:, 0]) / 1.1) ** 2))
    tone = 1 + 0.16 * rng.standard_normal(len(seeds))[cell] + 0.10 * grid.noise(rng, 0.7)[where]
    h = 0.115 * tone + 0.05 * np.exp(-((up / 9) ** 2)) - 0.055 * border
    grains = np.clip(grid.noise(rng, 0.45)[where] - 0.3, 0, None)
    h += np.where(surface, 0.13 * grains * np.exp(-(((down - 5) / 4) ** 2)), 0)
    foam = 0.05 + 0.06 * np.clip(grid.noise(rng, 1.0)[where], -0.8, 1.5)
    scene.h[where] = np.clip(np.where(code == SEBUM, foam + 0.05 * border, h), 0.01, None)
    inside = np.zeros(len(seeds))
    inside[nuclei["cell"]] = 0.3 * nuclei["dab"]
    scene.dab[where] += inside[cell] * (1 - 0.6 * border) * (1 + 0.25 * grains)
    _caps(scene, where, cell, len(normal), rng)
    nuclei["h"] *= skin.counterstain
    kept: Table = nuclei[nuclei["a"] * nuclei["b"] > 2.5]  # less is no nucleus to anybody
    return kept


def _keratinocytes(scene: Scene, seeds: Array, normal: Array, rng: np.random.Generator) -> Table:
    """Nuclei of all epithelial cells: upright in the basal row, lying down towards the surface."""
    grid, count, basal = scene.grid, len(seeds), np.arange(len(seeds)) < len(normal)
    flat = min(16.0, scene.skin.thickness / 3.4)
    code, depth = grid.at(scene.kind, seeds), grid.at(scene.to_keratin, seeds)
    smooth = cv2.GaussianBlur(np.minimum(scene.to_keratin, 80), (0, 0), 3 / grid.mpp)
    slope = np.stack([grid.at(np.gradient(smooth, axis=axis), seeds) for axis in (1, 0)], 1)
    squeeze = np.where(np.isin(code, (EPIDERMIS, WALL)), np.exp(-depth / flat), 0)
    lying = np.arctan2(slope[:, 1], slope[:, 0]) + np.pi / 2
    theta = np.where(squeeze > 0.1, lying, rng.uniform(0, np.pi, count))
    theta[basal] = np.arctan2(normal[:, 1], normal[:, 0])
    size, cut = rng.lognormal(0, 0.1, count), _cut(rng, count)
    size *= np.where(code == SEBUM, 0.75, 1) * np.where(basal & (cut > 0), cut**0.5, cut)
    a = np.where(basal, 4.3, 4.0 + 1.6 * squeeze) * size
    b = np.where(basal, 2.6, 3.4 * (1 - 0.78 * squeeze)) * size
    dense = np.clip(np.where(basal, 0.5, 0.2) + 0.15 * rng.standard_normal(count), 0, 1)
    tiny = rng.random(count) < 0.03  # pyknotic
    a, b, dense = np.where(tiny, 0.55 * a, a), np.where(tiny, 0.6 * b, b), np.where(tiny, 1, dense)
    h = (0.75 + 0.25 * cut + 0.15 * basal + 0.5 * tiny) * rng.lognormal(0, 0.12, count)
    gone = squeeze > 0.72
    return table_of(
        count, x=seeds[:, 0], y=seeds[:, 1], a=np.where(gone, 0, a), b=b, h=h, dense=dense,
        theta=theta + rng.normal(0, 0.2, count), basal=basal, cell=np.arange(count),
    )  # fmt: skip


def _caps(
    scene: Scene, where: Mask, cell: NDArray[np.intp], basal: int, rng: np.random.Generator
) -> None:
    """Melanin: granules over the nucleus of some basal cells."""
    amount = np.where(rng.random(int(cell.max()) + 1) < scene.skin.melanin, rng.uniform(0.3, 1), 0)
    amount[basal:] *= 0.15
    amount *= rng.lognormal(0, 0.3, amount.size)
    grains = np.clip(scene.grid.noise(rng, 0.4)[where] + 0.2, 0, 2)
    site = np.exp(-(((scene.to_dermis[where] - 8.5) / 3.5) ** 2))
    site = np.where(np.isin(scene.kind[where], (EPIDERMIS, WALL)), site, 0)
    scene.melanin[where] += 0.55 * amount[cell] * grains * site


def stain_p16(scene: Scene, nuclei: Table, rng: np.random.Generator) -> None:
    """Choose positive nuclei, in loose groups, and set their DAB."""
    skin = scene.skin
    if skin.marker != "p16":
        return
    spots = np.stack([nuclei["x"], nuclei["y"]], 1)
    where = scene.grid.at(scene.kind, spots)
    share = np.where(nuclei["basal"], 1.0, 0.25) * skin.positive_epidermis
    share = np.where(where == DERMIS, skin.positive_dermis, share)
    groups = np.exp(0.7 * scene.grid.at(scene.grid.noise(rng, 40.0), spots) - 0.25)
    chosen = (rng.random(len(nuclei)) < share * groups) & (nuclei["a"] > 1.2)
    nuclei["dab"] = np.where(chosen, skin.stain * rng.lognormal(0, 0.35, len(nuclei)), 0)
