"""What to draw, what comes of it, and the tables and codes they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon
from shapely.geometry.base import BaseGeometry

Array = NDArray[np.float64]
Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Table = NDArray[np.void]

GLASS, DERMIS, EPIDERMIS, WALL, GLAND, SEBUM = range(6)
COMPARTMENTS = np.array(["", "dermis", "epidermis", "adnexa", "adnexa", "adnexa"])
NUCLEUS = np.dtype([
    ("x", "f8"), ("y", "f8"), ("a", "f8"), ("b", "f8"), ("theta", "f8"),
    ("h", "f8"), ("dab", "f8"), ("dense", "f8"), ("basal", "?"), ("cell", "i4"),
])  # fmt: skip
TRUTH = np.dtype([
    ("x", "f8"), ("y", "f8"), ("area_um2", "f8"), ("compartment", "U9"), ("positive", "?"),
])  # fmt: skip
LINE = np.dtype([("x", "f8"), ("y", "f8"), ("od_um", "f8"), ("present", "?")])
HEMATOXYLIN, DAB = np.array([0.650, 0.704, 0.286]), np.array([0.268, 0.570, 0.776])
MARGIN_UM = 70.0
UINT8_PER_OD = 400.0  # fibres are drawn by OpenCV with anti-aliasing, which needs 8 bits


@dataclass(frozen=True)
class Skin:
    """Everything that decides a picture; lengths in um, strengths in OD unless said otherwise."""

    seed: int = 1
    mpp: float = 0.5
    length: float = 1200.0  # of skin surface in one section
    depth: float = 560.0  # from the surface to the deep cut
    angle: float = 6.0  # degrees, of the whole section in the picture
    bend: float = 14.0  # degrees between the two ends; positive: the surface is convex
    sections: int = 1
    marker: Literal["p16", "col7"] = "p16"

    thickness: float = 52.0  # viable epidermis between ridges
    ridge_depth: float = 42.0
    ridge_spacing: float = 95.0
    branching: float = 0.2  # share of ridges that fork
    islands: bool = False  # keep papillae that forks and oblique cuts enclose
    relief: float = 4.0  # unevenness of the skin surface
    corneum: float = 20.0  # thickness of the stratum corneum
    basket: float = 0.8  # 0 compact to 1 basket weave
    flaking: float = 0.3  # share of the corneum that has come off
    corneum_stain: float = 0.08  # DAB that the corneum takes up
    follicles: int = 0
    glands: int = 0  # sweat gland coils
    sebum: bool = False  # a sebaceous lobule at each follicle
    vessels: float = 40.0  # per mm2 of dermis
    perivascular: float = 3.0  # lymphocytes per vessel
    infiltrate: float = 0.0  # lymphocytes per mm of junction
    fibroblasts: float = 1000.0  # per mm2 of dermis
    melanin: float = 0.08  # share of basal cells with pigment caps

    counterstain: float = 0.50  # hematoxylin in an average nucleus
    stain: float = 0.65  # DAB in an average positive nucleus
    positive_epidermis: float = 0.04  # share of basal nuclei; a quarter of it higher up
    positive_dermis: float = 0.03
    line: float = 0.85  # col7: integrated OD of the line, OD * um
    line_width: float = 1.4  # full width at half maximum
    gaps: float = 0.15  # share of the junction without col7
    haze: float = 0.035  # diffuse DAB
    edge_stain: float = 0.03  # DAB that cut edges take up
    vector_jitter: float = 0.012  # deviation of the stain vectors

    tears: int = 0
    missing: int = 0  # stretches bare of epidermis
    folds: int = 0
    debris: int = 12
    vignette: float = 0.02  # share of light lost in the corners
    blur: float = 0.4  # sigma of the optics
    defocus: float = 0.0  # further sigma where the slide is out of focus
    noise: float = 1.6  # grey levels at full light
    white: float = 240.0
    jpeg: int = 85  # quality; colour is stored at half resolution, as scanners do


@dataclass(frozen=True)
class Drawn:
    """A picture and its truth, in um of picture coordinates.

    Attributes
    ----------
    rgb
        uint8 (y, x, 3).
    junctions, surface
        One (n, 2) array of x, y per stretch of surface epidermis: its lower bound, and the top of
        its viable part. They end at follicles, bare stretches, tears and cut edges.
    viable
        Interfollicular epidermis without the corneum. A follicle is cut off along its outer wall.
    adnexa
        Follicle walls, sebaceous lobules, glands and ducts, without canal and lumen.
    nuclei
        x, y, area_um2, compartment, positive. In a fold only the lower layer is listed.
    line
        col7 only, one table per junction, a row every 2 um: x, y, od_um (stain along a normal,
        haze left out) and whether the line is present. This is the stain in the tissue: the
        optics average light, not OD, so about 0.9 of it can be read off the default picture.
    artefacts
        Outlines of 'fold' and 'void' (tears and bare stretches).
    """

    rgb: NDArray[np.uint8]
    mpp: float
    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    adnexa: MultiPolygon
    nuclei: Table
    line: list[Table]
    artefacts: dict[str, MultiPolygon]
    jpeg: int = 85


@dataclass(frozen=True)
class Plan:
    """Outlines of one section; in flat coordinates until `moved`."""

    tissue: BaseGeometry
    viable: BaseGeometry
    wall: BaseGeometry
    gland: BaseGeometry
    sebum: BaseGeometry
    keratin: BaseGeometry  # what cells flatten towards: outside the surface, follicle canals
    void: BaseGeometry
    fold: BaseGeometry
    junctions: list[Array]
    surface: list[Array]
    lamellae: list[Array]
    move: Callable[[Array], Array] = field(default=lambda points: points)

    def moved(self, move: Callable[[Array], Array]) -> Plan:
        """Return the plan in the coordinates that `move` leads to."""
        parts: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, list):
                parts[name] = [move(line) for line in value]
            elif isinstance(value, BaseGeometry):
                parts[name] = shapely.transform(value.segmentize(2.0), move).buffer(0)
        before = self.move
        return Plan(**parts, move=lambda points: move(before(points)))


LOOKS: dict[str, dict[str, Any]] = {
    "plain": {
        "debris": 0, "flaking": 0.0, "vignette": 0.0, "branching": 0.0, "melanin": 0.0,
        "edge_stain": 0.0, "haze": 0.015, "bend": 0.0, "angle": 0.0, "corneum": 12.0,
    },
    "realistic": {"follicles": 1, "glands": 1, "infiltrate": 60.0, "defocus": 0.5, "debris": 25},
    "thin_aged": {"thickness": 35.0, "ridge_depth": 7.0, "ridge_spacing": 120.0, "corneum": 14.0},
    "psoriasiform": {
        "thickness": 60.0, "ridge_depth": 170.0, "ridge_spacing": 88.0, "branching": 0.35,
        "corneum": 34.0, "basket": 0.2, "infiltrate": 220.0, "depth": 640.0,
    },
    "basket_weave": {"corneum": 46.0, "basket": 1.0, "flaking": 0.55},
    "weak_stain": {"stain": 0.30, "line": 0.35, "counterstain": 0.32, "haze": 0.02},
    "strong_haze": {"haze": 0.16, "edge_stain": 0.15, "corneum_stain": 0.25},
    "infiltrate": {"infiltrate": 650.0, "perivascular": 10.0},
    "glands": {"glands": 3, "depth": 700.0},
    "follicle": {"follicles": 2, "sebum": True, "depth": 640.0},
    "torn": {"tears": 4, "missing": 2, "debris": 40},
    "folded": {"folds": 2},
    "curled": {"bend": 125.0, "length": 1500.0, "depth": 430.0, "angle": -20.0},
    "two_sections": {"sections": 2, "length": 1100.0, "depth": 420.0},
    "dark_corneum": {"corneum": 26.0, "corneum_stain": 0.6, "basket": 0.5},
    "melanin": {"melanin": 0.65},
}  # fmt: skip
