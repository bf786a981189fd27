"""From a section to a slide."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

from quilt.appendages import some_appendages
from quilt.border import Anatomy, anatomy_of, smoothed, top_of_epidermis
from quilt.cells import Cells, cells_of
from quilt.chance import happens
from quilt.layout import lay_out
from quilt.light import Stain, exposed, folded, some_colours, some_stain, stained_od
from quilt.line import collagen7
from quilt.p16 import stained_p16
from quilt.skin import MARKERS, PRESETS, Drawn, Marker, Mask, Preset, Table
from quilt.tissue import Tissue, tissue_of


@dataclass(frozen=True)
class Slide:
    """What is asked for."""

    preset: Preset
    marker: Marker
    mpp: float


@dataclass(frozen=True)
class Painted:
    """The picture, and the truth of its marker."""

    rgb: NDArray[np.uint8]
    nuclei: Table
    line: list[Table]


def _painted(
    anatomy: Anatomy, tissue: Tissue, cells: Cells, slide: Slide, rng: np.random.Generator
) -> Painted:
    """Stain a section and take its picture."""
    preset, mpp = slide.preset, slide.mpp
    colours, strength = some_colours(rng), some_stain(preset, rng)
    hematoxylin, nuclei, line = tissue.densities[..., 0], cells.nuclei, list[Table]()
    if slide.marker == "p16":
        p16 = stained_p16(cells, tissue, preset, strength, mpp, rng)
        dab, nuclei, hematoxylin = p16.dab, p16.nuclei, hematoxylin * p16.hematoxylin_left
    else:
        dab, line = collagen7(anatomy, tissue, preset, rng)
    stain = Stain(strength * hematoxylin, dab)
    od = stained_od(tissue.densities, stain, colours, preset, mpp, rng)
    if happens(rng, preset.fold_chance):
        od = folded(od, anatomy.section, rng)
    return Painted(exposed(od, preset, mpp, rng), nuclei, line)


def areas_of(mask: Mask, mpp: float) -> MultiPolygon:
    """Pixels of a mask as polygons."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, first = np.nonzero(edges > 0)
    _, last = np.nonzero(edges < 0)
    runs = shapely.box(*(np.stack([first, row, last, row + 1]) * mpp))
    return MultiPolygon(list(shapely.get_parts(shapely.union_all(runs))))


def viable_part(anatomy: Anatomy) -> Mask:
    """Pixels of interfollicular epidermis below the corneum."""
    section, lumen = anatomy.section, anatomy.appendages.lumen_um < 0
    return anatomy.epidermis & (section.down_um > 0) & (section.tissue_um > 0) & ~lumen


def draw(name: str, marker: Marker, seed: int, mpp: float = 0.5) -> Drawn:
    """Draw one slide; the same arguments give the same picture and truth.

    Parameters
    ----------
    name
        One of `PRESETS`.
    mpp
        um per pixel. The textures have 0.5: smaller pixels show no more.
    """
    preset = PRESETS[name]
    seeds = [seed, list(PRESETS).index(name) + 1, MARKERS.index(marker) + 1]
    rng = np.random.default_rng(seeds)
    section = lay_out(preset, mpp, rng)
    anatomy = anatomy_of(section, some_appendages(section, preset, rng))
    tissue = tissue_of(anatomy, preset, rng)
    cells = cells_of(anatomy, tissue)
    painted = _painted(anatomy, tissue, cells, Slide(preset, marker, mpp), rng)
    return Drawn(
        rgb=painted.rgb,
        marker=marker,
        mpp=mpp,
        junctions=[smoothed(line) for line in anatomy.surface],
        surface=top_of_epidermis(section),
        viable=areas_of(viable_part(anatomy), mpp),
        nuclei=painted.nuclei,
        line=painted.line,
        jpeg=preset.jpeg,
    )


def write(path: str | PathLike[str], drawn: Drawn) -> None:
    """Write a tiled JPEG OME-TIFF with its scale."""
    metadata = {
        "axes": "YXS", "PhysicalSizeX": drawn.mpp, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": drawn.mpp, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    tifffile.imwrite(
        path, drawn.rgb, photometric="rgb", tile=(256, 256), compression="jpeg",
        compressionargs={"level": drawn.jpeg}, ome=True, metadata=metadata,
    )  # fmt: skip
