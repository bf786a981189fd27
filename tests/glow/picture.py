"""From a section to a slide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import cv2
import numpy as np
import tifffile
from shapely import make_valid
from shapely.geometry import LineString, box

from glow.camera import expose
from glow.cells import all_nuclei, stained_p16
from glow.lines import areas_of, lines_of
from glow.plan import Plan, lay_out
from glow.raster import COARSE_UM, extent_um, grid_over
from glow.rings import with_cuts
from glow.skin import PRESETS, Drawn, Marker, Preset
from glow.stain import collagen7, diffuse_collagen7, nuclear_light
from glow.tissue import dirt, grains, own_light
from woven.grid import Grid
from woven.skin import Array, Plane, Table


@dataclass(frozen=True)
class Scene:
    """A section before any light; `nuclei` reach beyond the picture, `junctions` do not."""

    preset: Preset
    marker: Marker
    grid: Grid
    plan: Plan
    junctions: list[Array]
    nuclei: Table


@dataclass(frozen=True)
class Painted:
    """Light of DAPI and of the marker in photo-electrons, and the truth in the same unit."""

    dapi: Plane
    marker: Plane
    nuclei: Table
    line: list[Table]


def _stained(scene: Scene, collagen: Plane, rng: np.random.Generator) -> Painted:
    """Paint nuclei and the marker, sharp and on black."""
    preset, grid, nuclei = scene.preset, scene.grid, scene.nuclei
    line: list[Table] = []
    bright = preset.nuclear_electrons * nuclei["light"]
    dapi = nuclear_light(grid, nuclei, bright, rng, grain=0.22) + _ghosts(scene, rng)
    if scene.marker == "col7":
        marker, line = collagen7(grid, scene.plan, scene.junctions, preset, rng)
        marker = marker + diffuse_collagen7(grid, scene.plan, collagen, preset)
    else:
        nuclei = stained_p16(nuclei, preset, rng)
        marker = nuclear_light(grid, nuclei, nuclei["marker"], rng, grain=0.12, cytoplasm_um=1.5)
    return Painted(dapi, marker, nuclei, line)


def _ghosts(scene: Scene, rng: np.random.Generator) -> Plane:
    """Nuclei below the focal plane: dim, blurred, and not among the truth."""
    preset, nuclei = scene.preset, scene.nuclei
    below = nuclei[rng.random(len(nuclei)) < preset.haze]
    below["x"] += rng.normal(0, 4, len(below))
    bright = preset.nuclear_electrons * 0.45 * below["light"]
    light = nuclear_light(scene.grid, below, bright, rng, grain=0.0)
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 2.0 / scene.grid.mpp), np.float32)


def _painted(scene: Scene, rng: np.random.Generator) -> Painted:
    """Paint all that shines."""
    preset, grid, plan = scene.preset, scene.grid, scene.plan
    own, collagen = own_light(plan, grid, rng)
    stained = _stained(scene, collagen, rng)
    grain = grains(plan, grid, rng) * preset.tissue_electrons
    dapi = stained.dapi + preset.tissue_electrons * rng.uniform(0.5, 1.0) * own
    dapi = dapi + dirt(grid, preset.debris, preset.nuclear_electrons, rng)
    marker = stained.marker + preset.tissue_electrons * own + 3 * grain
    marker = marker + dirt(grid, preset.debris, preset.marker_electrons, rng)
    return replace(stained, dapi=dapi.astype(np.float32), marker=marker.astype(np.float32))


def _inside(nuclei: Table, grid: Grid) -> Table:
    """Nuclei whose centre lies in the picture."""
    centres = np.stack([nuclei["x"], nuclei["y"]], 1)
    inside: Table = nuclei[((centres > 0) & (centres < extent_um(grid))).all(axis=1)]
    return inside


def _scaled(table: Table, **factors: Array | float) -> Table:
    scaled = table.copy()
    for column, factor in factors.items():
        scaled[column] *= factor
    return scaled


def draw(
    name: str,
    marker: Marker,
    seed: int,
    mpp: float = 0.325,
    size_um: tuple[float, float] = (1400.0, 1100.0),
) -> Drawn:
    """Draw one slide; the same arguments give the same picture and truth.

    Parameters
    ----------
    name
        One of `PRESETS`.
    mpp
        um per pixel.
    size_um
        Of the picture, (x, y). Sections fill it: the smaller, the shorter is the junction.
    """
    preset, size = PRESETS[name], np.array(size_um)
    rng = np.random.default_rng([seed, *name.encode(), marker == "p16"])
    grid, coarse = grid_over(size, mpp), grid_over(size, COARSE_UM)
    plan = with_cuts(lay_out(preset, size, rng), preset, coarse, rng)
    nuclei = all_nuclei(plan, preset, coarse, rng)
    picture = box(0, 0, *extent_um(grid))
    junctions = lines_of(LineString(line).intersection(picture) for line in plan.junctions)
    painted = _painted(Scene(preset, marker, grid, plan, junctions, nuclei), rng)
    exposed = expose(painted.dapi, painted.marker, preset, grid, rng)
    nuclei = _inside(painted.nuclei, grid)
    solid = [ring.whole for ring in plan.rings if ring.kind != "vessel"]
    return Drawn(
        counts=exposed.counts,
        marker=marker,
        mpp=mpp,
        junctions=junctions,
        surface=lines_of(LineString(line).intersection(picture) for line in plan.surface),
        viable=areas_of(make_valid(area).intersection(picture) for area in plan.viable.geoms),
        adnexa=areas_of(make_valid(area).intersection(picture) for area in solid),
        nuclei=_scaled(nuclei, marker=exposed.worth(nuclei)),
        line=[
            _scaled(table, light_um=exposed.worth(table), even_light_um=exposed.gain)
            for table in painted.line
        ],
    )


def write(path: str | PathLike[str], drawn: Drawn) -> None:
    """Write a tiled OME-TIFF with its scale, its channels' names and two smaller levels."""
    names = ["DAPI", "Collagen VII" if drawn.marker == "col7" else "p16"]
    metadata = {
        "axes": "CYX", "Channel": {"Name": names}, "PhysicalSizeX": drawn.mpp,
        "PhysicalSizeY": drawn.mpp,
    }  # fmt: skip
    how: dict[str, Any] = {
        "tile": (256, 256), "photometric": "minisblack", "compression": "zlib",
        "compressionargs": {"level": 1},
    }  # fmt: skip
    height, width = drawn.counts.shape[1:]
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as tiff:
        tiff.write(drawn.counts, subifds=2, metadata=metadata, **how)
        for factor in (2, 4):
            size = (width // factor, height // factor)
            small = [cv2.resize(c, size, interpolation=cv2.INTER_AREA) for c in drawn.counts]
            tiff.write(np.stack(small), subfiletype=1, **how)
