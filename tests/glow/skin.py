"""What to draw, what comes of it, and the tables they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

from woven.skin import Array, Table

Marker = Literal["col7", "p16"]

NUCLEUS = np.dtype([
    ("x", "f8"), ("y", "f8"), ("area_um2", "f8"), ("compartment", "U9"), ("kind", "U11"),
    ("positive", "?"), ("marker", "f8"), ("long_um", "f8"), ("short_um", "f8"), ("angle", "f8"),
    ("light", "f8"),
])  # fmt: skip
LINE = np.dtype([
    ("x", "f8"), ("y", "f8"), ("present", "?"), ("light_um", "f8"), ("even_light_um", "f8"),
    ("fwhm_um", "f8"),
])  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """What sets an easy slide apart from a hard one.

    Pairs are the ends of a range. Light is in photo-electrons, widths of blur are sigmas.
    """

    nuclear_electrons: float = 700.0  # mean nucleus in DAPI
    marker_electrons: float = 200.0  # peak of the col7 line, or a mean positive nucleus of p16
    tissue_electrons: float = 35.0  # autofluorescence
    glass_electrons: float = 20.0
    bleed: float = 0.015  # share of DAPI in the marker; half of it the other way
    haze: float = 0.35  # light from outside the focal plane, as a share of that within
    defocus: float = 0.3  # largest share of a blur of 1.5 um, varying over the slide
    shading: float = 0.15  # largest deviation of the illumination from its mean
    thickness_um: tuple[float, float] = (35.0, 55.0)  # viable epidermis between ridges
    ridge_um: tuple[float, float] = (20.0, 55.0)
    ridge_pitch_um: tuple[float, float] = (70.0, 150.0)
    gaps: float = 0.18  # share of every basement membrane without col7
    positive_basal: float = 0.07  # share of nuclei with p16
    positive_epithelial: float = 0.02  # of all others in epithelium
    positive_dermal: float = 0.05
    fibroblasts_per_mm2: float = 650.0
    clusters: int = 4  # of lymphocytes, anywhere in the dermis
    hugging: int = 1  # clusters along the junction
    follicles: int = 1  # cut lengthwise; about as many cut across
    glands: int = 1
    leaving: float = 0.5  # chance that the section runs out of the picture
    debris: int = 10


PRESETS = {
    "easy": Preset(
        nuclear_electrons=1500.0, marker_electrons=450.0, tissue_electrons=20.0,
        glass_electrons=12.0, bleed=0.005, haze=0.15, defocus=0.0, shading=0.06,
        thickness_um=(40.0, 60.0), ridge_um=(15.0, 35.0), ridge_pitch_um=(90.0, 160.0), gaps=0.10,
        positive_basal=0.08, fibroblasts_per_mm2=350.0, clusters=2, hugging=0, follicles=0,
        glands=0, leaving=0.0, debris=3,
    ),
    "typical": Preset(),
    "hard": Preset(
        nuclear_electrons=220.0, marker_electrons=80.0, tissue_electrons=40.0,
        glass_electrons=30.0, bleed=0.03, haze=0.8, defocus=0.6, shading=0.25,
        thickness_um=(28.0, 50.0), ridge_um=(50.0, 120.0), ridge_pitch_um=(60.0, 120.0), gaps=0.28,
        positive_basal=0.06, fibroblasts_per_mm2=900.0, clusters=8, hugging=5, follicles=2,
        glands=2, leaving=0.7, debris=25,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A picture and its truth, in um of picture coordinates.

    Attributes
    ----------
    counts
        uint16 (channel, y, x): DAPI, then the marker.
    junctions, surface
        One (n, 2) array of x, y per stretch of interfollicular epidermis in the picture: its
        lower bound, and the top of its viable part.
    viable
        Interfollicular epidermis without the corneum.
    adnexa
        Follicles and glands, with canal and lumen.
    nuclei
        x, y, area_um2, compartment, kind, positive, marker (p16 only: mean counts above the
        background), axes and angle. Those below the focal plane are not listed.
    line
        col7 only, one table per junction, a row every 2 um: x, y, whether the line is present,
        its light across (counts * um) as the illumination leaves it and if that were even, and
        the full width at half maximum before the optics.
    """

    counts: NDArray[np.uint16]
    marker: Marker
    mpp: float
    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    adnexa: MultiPolygon
    nuclei: Table
    line: list[Table]
