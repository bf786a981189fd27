"""A quilted section in fluorescence: what hematoxylin shows of nuclei, as light of DAPI."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike

import numpy as np
import tifffile
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

from quilt.appendages import some_appendages
from quilt.border import anatomy_of, smoothed, top_of_epidermis
from quilt.cells import cells_of
from quilt.chance import within
from quilt.layout import lay_out
from quilt.line import collagen7
from quilt.p16 import stained_p16
from quilt.picture import areas_of, viable_part
from quilt.raster import blurred
from quilt.skin import MARKERS, PRESETS, Array, Marker, Plane, Range, Table
from quilt.tissue import tissue_of

STREAM = 77  # apart from what the section is drawn with in bright field
CYTOPLASM_OD = (0.16, 0.24)  # hematoxylin that is no nucleus
STRAY, OFFSET, READ_NOISE = 60.0, (150.0, 400.0), 10.0
SCATTER_UM = 12.0  # sigma of light from outside the focal plane


@dataclass(frozen=True)
class Light:
    """How bright a section is, in grey levels; pairs are the ends of a range."""

    nuclear: Range  # of DAPI, per OD of hematoxylin
    marker: Range  # per OD of DAB
    tissue: Range  # what everything shines by itself
    bleed: float
    blur_um: Range
    scattered: float  # share of the light
    shading: float
    grey_per_photon: float


LIGHTS = {
    "easy": Light((6e3, 12e3), (5e3, 9e3), (100, 200), 0.0, (0.2, 0.3), 0.05, 0.0, 1.0),
    "typical": Light((3e3, 8e3), (3e3, 6e3), (200, 400), 0.01, (0.3, 0.6), 0.15, 0.08, 4.0),
}


@dataclass(frozen=True)
class Glowing:
    """As `Drawn`, but for the picture: uint16 (channel, y, x), DAPI and the marker.

    The line's `od_um` is in grey levels times um, under even light.
    """

    counts: NDArray[np.uint16]
    mpp: float
    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    nuclei: Table
    line: list[Table]


def draw_glowing(name: str, marker: Marker, seed: int, mpp: float = 0.5) -> Glowing:
    """Draw one slide without infiltrate; the same arguments give the same picture and truth.

    Lymphocytes of the real section differ from its epidermis by what lies between them, which DAPI
    does not show.
    """
    rng = np.random.default_rng([
        seed, list(PRESETS).index(name) + 1, MARKERS.index(marker) + 1, STREAM
    ])  # fmt: skip
    preset = replace(PRESETS[name], infiltrate=(0.0, 0.0), pigment=(0.0, 0.0))
    section = lay_out(preset, mpp, rng)
    anatomy = anatomy_of(section, some_appendages(section, preset, rng))
    tissue = tissue_of(anatomy, preset, rng)
    cells = cells_of(anatomy, tissue)
    nuclei, line = cells.nuclei, list[Table]()
    if marker == "p16":
        p16 = stained_p16(cells, tissue, preset, 1.0, mpp, rng)
        dab, nuclei = p16.dab, p16.nuclei
    else:
        dab, line = collagen7(anatomy, tissue, preset, rng)
    light = LIGHTS[name]
    dapi = np.clip(tissue.densities[..., 0] - within(rng, CYTOPLASM_OD), 0, None)
    dapi = dapi * within(rng, light.nuclear)
    gain = within(rng, light.marker)
    for table in line:
        table["od_um"] *= gain
    own = within(rng, light.tissue) * np.tanh(2.5 * tissue.densities[..., 1])
    channels = dapi + own, gain * dab + 1.5 * own + light.bleed * dapi
    return Glowing(
        counts=np.stack([_exposed(channel, light, mpp, rng) for channel in channels]),
        mpp=mpp,
        junctions=[smoothed(border) for border in anatomy.surface],
        surface=top_of_epidermis(section),
        viable=areas_of(viable_part(anatomy), mpp),
        nuclei=nuclei,
        line=line,
    )


def _exposed(emitted: Plane, light: Light, mpp: float, rng: np.random.Generator) -> Plane:
    """What the camera counts of emitted light (y, x)."""
    emitted = blurred(emitted.astype(np.float32), within(rng, light.blur_um) / mpp)
    scattered = blurred(emitted, SCATTER_UM / mpp)
    seen = (1 - light.scattered) * emitted + light.scattered * scattered + STRAY
    y, x = (np.linspace(-1, 1, n) for n in seen.shape)
    seen = seen * (1 - light.shading * (y[:, None] ** 2 + x**2) / 2)
    deviation = np.sqrt(np.maximum(seen, 0) * light.grey_per_photon + READ_NOISE**2)
    counts = seen + deviation * rng.normal(0, 1, seen.shape) + within(rng, OFFSET)
    return np.clip(counts + 0.5, 0, 65535).astype(np.uint16)


def write_glowing(path: str | PathLike[str], drawn: Glowing) -> None:
    """Write a tiled OME-TIFF of two channels with its scale."""
    metadata = {
        "axes": "CYX", "Channel": {"Name": ["DAPI", "Cy5"]},
        "PhysicalSizeX": drawn.mpp, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": drawn.mpp, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    tifffile.imwrite(
        path, drawn.counts, photometric="minisblack", tile=(256, 256), compression="zlib",
        ome=True, metadata=metadata,
    )  # fmt: skip
