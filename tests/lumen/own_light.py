"""What tissue shines by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from shapely import affinity
from shapely.geometry import Point
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from lumen.cells import Cells
from lumen.chance import Lots, texture
from lumen.corneum import corneum, keratin
from lumen.nuclear import Nuclear
from lumen.raster import Shape, blur, enlarged, soft_mask
from lumen.section import Section
from lumen.skin import MPP, Plane
from lumen.stamps import STAMP, add_ovals
from lumen.stroma import Stroma, stroma_of

CORNEUM = (2.0, 4.5)  # range of its light, relative
BORDERS = (-0.28, 0.35)  # light of the borders between cells of epithelium, relative to the cells


@dataclass(frozen=True)
class OwnLight:
    """Light in the marker and in DAPI, and what middling dermis shines in the marker."""

    marker: Plane
    dapi: Plane
    level: float


@dataclass(frozen=True)
class Cover:
    """How much of each pixel is of a compartment."""

    viable: Plane
    dermis: Plane
    adnexa: Plane


def own_light(section: Section, cells: Cells, nuclear: Nuclear, lots: Lots) -> OwnLight:
    """Draw the autofluorescence of a section."""
    rng, plan = lots.rng, section.plan
    shape = plan.shape
    cover = Cover(
        viable=soft_mask(plan.viable, shape),
        dermis=soft_mask(section.dermis, shape, 1.5),
        adnexa=soft_mask(section.adnexa, shape),
    )
    stroma = stroma_of(section.maps, cells.grain, shape, lots)
    horny = corneum(plan, cover.viable, lots)
    canals = keratin(plan, section.appendages, lots)
    epithelium = _epithelium(section, cells, lots)
    red_cells = _red_cells(cells.vessels, shape, lots)
    vessels = soft_mask(unary_union(cells.vessels), shape)
    dermis = cover.dermis * (1 - 0.75 * vessels)
    dermis_light = lots.within(lots.preset.dermis)
    horny_light = lots.within(CORNEUM) * 0.36
    epithelium_light = rng.uniform(0.08, 0.34)
    fibres = 0.75 * stroma.collagen + 0.6 * stroma.elastic_share * stroma.elastic
    light = (
        dermis_light * (dermis * fibres + 0.7 * _frayed(section, stroma))
        + red_cells * vessels * rng.uniform(0.5, 1.5)
        + epithelium_light * (cover.viable * epithelium + 1.2 * cover.adnexa * epithelium)
        + horny_light * horny
        + horny_light * 0.7 * canals * (1 - cover.viable)
    )
    light *= 1 - 0.35 * nuclear.cover
    light *= 1 + 0.05 * texture(rng, shape, 2)
    if section.cleft.area > 0:
        light += soft_mask(section.cleft, shape, 1.5) * 0.05
    in_dapi = dermis_light * dermis * stroma.collagen / 0.5 + 3.0 * horny + canals
    in_dapi = in_dapi + 0.5 * cover.viable + 0.4 * cover.adnexa
    level = np.median(light[::4, ::4][cover.dermis[::4, ::4] > 0.9])
    return OwnLight(light, in_dapi, float(level))


def _frayed(section: Section, stroma: Stroma) -> Plane:
    """Fibres that stand out from the cut edges of the dermis."""
    plan = section.plan
    below = affinity.translate(plan.below, 0, 12)
    fringe = plan.outline.buffer(14).difference(plan.outline).intersection(below)
    bundles = np.clip(stroma.bundles - 0.12, 0, None)
    return np.asarray(soft_mask(fringe, plan.shape, 2) * bundles * 1.1)


def _epithelium(section: Section, cells: Cells, lots: Lots) -> Plane:
    """Cells with borders between their nuclei, brighter towards the surface, and foamy glands."""
    rng, maps, shape = lots.rng, section.maps, section.plan.shape
    light = np.zeros(maps.shape, np.float32)
    centres = np.array([n[:2] for n in cells.nuclei if n.compartment != "dermis"])
    rows, columns = np.nonzero(maps.viable | maps.adnexa)
    if len(centres) > 4:
        found = cKDTree(centres).query(np.c_[columns + 0.5, rows + 0.5], k=2)
        nearest, next_um = np.asarray(found[0]).T
        border = np.exp(-(((next_um - nearest) / 2.2) ** 2))
        light[rows, columns] = 1 + rng.choice(BORDERS) * border
    up = np.clip(maps.to_junction / (maps.to_junction + maps.to_surface + 1e-3), 0, 1)
    light *= 0.75 + 0.6 * np.clip((up - 0.5) * 2, 0, 1)
    fine = blur(enlarged(light, shape), 1.2)
    fine = fine * (1 + 0.1 * texture(rng, shape, 4) + 0.12 * texture(rng, shape, 60))
    fine = fine.clip(0)
    glands = [one.outer for one in section.appendages if one.kind == "sebaceous"]
    if glands:
        share = soft_mask(unary_union(glands), shape)
        foam = 0.9 + 0.5 * np.abs(texture(rng, shape, 3.5))
        fine = fine * (1 - share) + share * foam
    return fine


def _red_cells(vessels: list[BaseGeometry], shape: Shape, lots: Lots) -> Plane:
    """Draw red cells in about half of all vessels."""
    rng = lots.rng
    ovals: list[tuple[float, ...]] = []
    for vessel in vessels:
        if not lots.happens(0.55):
            continue
        left, top, right, bottom = vessel.bounds
        for _ in range(int(vessel.area / 22)):
            x, y = rng.uniform(left, right), rng.uniform(top, bottom)
            if vessel.contains(Point(x, y)):
                axes = rng.uniform(2.2, 3.3), rng.uniform(1.5, 3)
                ovals.append((x, y, *axes, rng.uniform(0, 3), rng.uniform(0.6, 1.2)))
    stamps = np.zeros(len(ovals), STAMP)
    if ovals:
        x, y, long, short, stamps["angle"], stamps["light"] = np.array(ovals).T
        stamps["x"], stamps["y"] = x / MPP - 0.5, y / MPP - 0.5
        stamps["long"], stamps["short"], stamps["edge"] = long / MPP, short / MPP, 1.5
    light = np.zeros(shape, np.float32)
    add_ovals(light, np.zeros_like(light), np.ones_like(light), stamps)
    return light
