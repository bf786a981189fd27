"""What to draw, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

Array = NDArray[np.float64]
Plane = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Table = NDArray[np.void]
Range = tuple[float, float]
Angle = float | np.float32  # radians; in single precision where it comes of a map
Marker = Literal["col7"]

MPP = 0.5  # um per pixel of every picture
LINE = np.dtype([("x", "f8"), ("y", "f8"), ("present", "?"), ("od_um", "f8")])


@dataclass(frozen=True)
class Preset:
    """What sets an easy slide apart from a hard one.

    Pairs are the ends of a range from which each slide draws; what says "chance" is the chance
    that a slide has such a thing. Light is relative to a mean nucleus in DAPI, and to dermis of
    middling brightness in the marker.
    """

    length_um: Range = (1300, 2100)  # of the section, along the skin
    depth_um: Range = (450, 1000)  # from the surface to the deep cut
    contrast: Range = (3.0, 5.5)  # peak of the line of collagen VII above the dermis
    dermis: Range = (0.9, 1.1)
    fwhm_um: Range = (1.7, 3.0)  # of the line
    line_unevenness: float = 0.32  # about the standard deviation of the logarithm of its light
    gaps: Range = (0.12, 0.4)  # share of the junction without the line
    infiltrates: Range = (3, 9)  # around vessels
    crowding: Range = (0.7, 1.2)  # of lymphocytes
    blurred_nuclei: float = 0.2  # share that lies out of focus
    haze: Range = (0.1, 0.2)  # light of the marker from outside the focal plane
    dapi_haze: Range = (0.1, 0.2)
    psf_um: Range = (0.4, 0.6)  # sigma of the optics
    uneven_focus: bool = False  # parts of the picture are out of focus
    electrons: Range = (150, 450)  # photo-electrons of a bright place
    dapi: Range = (0.8, 1.1)  # strength of the counterstain
    dapi_own: Range = (0.03, 0.07)  # what tissue shines by itself in DAPI
    exposure: float = 1.0  # of the marker, relative
    vignetting: Range = (0.12, 0.28)
    opening_chance: float = 0.45  # mouths of follicles
    missing_chance: float = 0.25  # a stretch without epidermis
    follicle_chance: float = 0.5  # follicles cut in depth
    sebaceous_chance: float = 0.45
    eccrine_chance: float = 0.5
    band_chance: float = 0.3  # an infiltrate along the junction
    fibroblast_chance: float = 0.6  # fibroblasts along the junction
    cleft_chance: float = 0.25  # of clefts below the junction, and again of cracks in the dermis
    fold_chance: float = 0.15
    debris_chance: float = 0.5
    specks_chance: float = 0.3  # debris that saturates the camera
    bleaching_chance: float = 0.2
    tiles_chance: float = 0.2  # shading that repeats with the fields of view


PRESETS = {
    "easy": Preset(
        length_um=(1200, 1600), depth_um=(400, 700), contrast=(5.5, 9), dermis=(0.8, 1.0),
        line_unevenness=0.22, gaps=(0.08, 0.25), infiltrates=(1, 4), crowding=(0.5, 0.8),
        blurred_nuclei=0.12, haze=(0.05, 0.1), dapi_haze=(0.06, 0.1), psf_um=(0.3, 0.45),
        electrons=(500, 1200), dapi=(1.0, 1.2), dapi_own=(0.02, 0.04), vignetting=(0.05, 0.15),
        opening_chance=0.3, missing_chance=0.15, follicle_chance=0.4, sebaceous_chance=0.3,
        eccrine_chance=0.4, band_chance=0.1, fibroblast_chance=0.5, cleft_chance=0, fold_chance=0,
        debris_chance=0.3, specks_chance=0, bleaching_chance=0, tiles_chance=0,
    ),
    "typical": Preset(),
    "hard": Preset(
        length_um=(1400, 2500), depth_um=(500, 1200), contrast=(0.8, 2.0), dermis=(1.0, 1.2),
        fwhm_um=(2.2, 3.2), line_unevenness=0.36, gaps=(0.2, 0.5), infiltrates=(6, 16),
        crowding=(0.9, 1.5), blurred_nuclei=0.3, haze=(0.2, 0.38), dapi_haze=(0.2, 0.32),
        psf_um=(0.65, 1.0), uneven_focus=True, electrons=(30, 140), dapi=(0.4, 0.75),
        dapi_own=(0.07, 0.14), exposure=0.6, vignetting=(0.2, 0.4), opening_chance=0.55,
        missing_chance=0.35, follicle_chance=0.55, sebaceous_chance=0.5, eccrine_chance=0.5,
        band_chance=0.6, fibroblast_chance=0.75, cleft_chance=0.55, fold_chance=0.6,
        debris_chance=0.7, specks_chance=0.8, bleaching_chance=0.8, tiles_chance=0.4,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """Light of both channels, (y, x) each."""

    dapi: Plane
    marker: Plane


@dataclass(frozen=True)
class Drawn:
    """A picture and its truth, in um of picture coordinates.

    Attributes
    ----------
    planes
        uint16 (channel, y, x): DAPI, then collagen VII.
    junctions, surface
        One (n, 2) array of x, y per stretch of interfollicular epidermis, a point every 0.5 um:
        its lower bound, and the top of its viable part. They end at the mouths of follicles, where
        epidermis is missing, and 5 um before cut edges.
    viable
        Interfollicular epidermis without the corneum.
    nuclei
        x, y, compartment (epidermis, dermis or adnexa), positive (never). In a fold nuclei are
        listed once; those out of focus are listed as any others.
    line
        One table per junction, a row per point of it: x, y, whether the line is present, and
        od_um, its light across in counts * um as the illumination leaves it.
    features
        What there is to see beyond plain skin, sorted.
    preset, marker, seed
        What was asked for.
    meta
        What was drawn by lot: ``bits`` and ``offset`` (counts) of the camera, ``gain`` (counts per
        unit of light of the marker), ``fwhm`` (um) and ``gap_frac`` of the line, its ``contrast``,
        ``line_peak`` and ``dermis_level`` (counts, in even light), ``psf_sigma`` (um), ``rete``
        (kind of ridges), ``rotation_deg`` and whether it is ``mirrored``.
    """

    planes: NDArray[np.uint16]
    mpp: float
    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    nuclei: pd.DataFrame
    line: list[Table]
    features: list[str]
    preset: str
    marker: Marker
    seed: int
    meta: dict[str, Any]
