"""What to draw, what comes of it, and the tables and codes they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon

Array = NDArray[np.float64]
Plane = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int_]
Table = NDArray[np.void]
Range = tuple[float, float]
Marker = Literal["p16", "col7"]

MARKERS: tuple[Marker, ...] = ("p16", "col7")
GLASS, EPIDERMIS, DERMIS, ADNEXA = range(4)
COMPARTMENTS = np.array(["", "epidermis", "dermis", "adnexa"])
NUCLEUS = np.dtype([("x", "f8"), ("y", "f8"), ("compartment", "U9"), ("positive", "?")])
LINE = np.dtype([("x", "f8"), ("y", "f8"), ("present", "?"), ("od_um", "f8")])


@dataclass(frozen=True)
class Preset:
    """What sets an easy slide apart from a hard one.

    Pairs are the ends of a range from which each slide draws; what says "chance" is the chance
    that a slide has such a thing.
    """

    depth_um: Range = (320.0, 680.0)  # of the section, from the surface to the deep cut
    quarter_turns: bool = False  # the skin lies nearly along an edge of the picture
    ridge_um: Range = (0.0, 75.0)
    torn_chance: float = 0.0  # cut ends of the section
    follicle_chance: float = 0.45  # one that opens at the surface
    cut_follicles_chance: float = 0.5  # one or two cut across
    glands_chance: float = 0.5
    infiltrate: Range = (0.15, 1.0)  # the higher, the more of the dermis is full of lymphocytes
    pigment: Range = (1.2, 2.2)  # melanin, relative to the real section
    pigmented_chance: float = 0.75  # prefer basal layers that hold melanin
    mirrored_corneum_chance: float = 0.5
    cleft_chance: float = 0.0  # the epidermis has come off the dermis in places
    detached_chance: float = 0.0  # a bit of epidermis lies on the glass
    fold_chance: float = 0.0
    stain: tuple[Range, ...] = ((0.85, 1.2),)  # hematoxylin, relative; one of these ranges
    uneven_stain: float = 0.08  # its standard deviation over the slide
    weakest_od: float = 0.35  # DAB of the weakest positive nuclei
    cytoplasm: float = 0.5  # most that a positive cell's cytoplasm takes up, of its nucleus
    line_od: Range = (0.35, 0.9)  # peak of the line of collagen VII
    gaps: Range = (0.05, 0.3)  # share of the junction without it
    background_od: Range = (0.0, 0.05)  # DAB that all tissue takes up
    blur_um: Range = (0.0, 0.2)  # sigma of the optics, beyond that of the real section
    uneven_light: float = 0.03
    haze: Range = (0.0, 0.0)  # share of light scattered from all around
    noise: float = 1.3  # grey levels
    jpeg: int = 85


PRESETS = {
    "easy": Preset(
        depth_um=(300.0, 520.0), quarter_turns=True, ridge_um=(10.0, 45.0), follicle_chance=0.0,
        cut_follicles_chance=0.0, glands_chance=0.0, infiltrate=(0.0, 0.0), pigment=(0.0, 0.0),
        pigmented_chance=0.0, mirrored_corneum_chance=0.0, stain=((1.0, 1.0),), uneven_stain=0.0,
        weakest_od=0.45, cytoplasm=0.0, line_od=(0.5, 0.85), gaps=(0.05, 0.15),
        background_od=(0.0, 0.0), blur_um=(0.0, 0.0), uneven_light=0.0, noise=0.8, jpeg=92,
    ),
    "typical": Preset(),
    "hard": Preset(
        torn_chance=0.5, follicle_chance=0.5, infiltrate=(0.3, 1.3), cleft_chance=0.5,
        detached_chance=0.5, fold_chance=0.4, stain=((0.45, 0.65), (1.35, 1.7)), weakest_od=0.28,
        line_od=(0.3, 0.6), background_od=(0.0, 0.09), blur_um=(0.5, 0.75), uneven_light=0.08,
        haze=(0.03, 0.10), jpeg=70,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A picture and its truth, in um of picture coordinates.

    Attributes
    ----------
    rgb
        uint8 (y, x, 3).
    junctions
        One (n, 2) array of x, y per stretch of interfollicular epidermis: its lower bound. They
        end at follicles and at cut edges.
    surface
        Lines x, y of the top of the viable epidermis; they run on over the mouths of follicles.
    viable
        Interfollicular epidermis without the corneum: its pixels as polygons.
    nuclei
        x, y, compartment, positive. A nucleus is what a texture shows as one. In a fold, and where
        epidermis lies loose on the glass, nuclei are listed as anywhere else.
    line
        col7 only, one table per junction, a row every 10 um: x, y, whether the line is present,
        and od_um, its DAB along a normal before the optics and without the background.
    jpeg
        Quality at which `write` stores the picture.
    """

    rgb: NDArray[np.uint8]
    marker: Marker
    mpp: float
    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    nuclei: Table
    line: list[Table]
    jpeg: int
