"""Skin as a third author draws it: cells, bundles of collagen, basket-weave corneum, damage.

Synthetic bright-field slides (H-DAB) with known truth. No code is shared with `histoquant.phantom`,
`tests/sketched.py`, nor with what measures them.

The outlines of a section are laid out in flat coordinates (``s`` along the skin, ``t`` down from
its surface, both in um), bent and turned into the picture, and only there filled with cells,
fibres and stain. Bending therefore never stretches a nucleus, and truth is exact vector geometry.

Every position is in um from the outer corner of the first pixel: the centre of pixel ``i`` lies
at ``(i + 0.5) * mpp``. Optical densities are log10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, Literal

import cv2
import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree
from shapely import affinity
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient
from shapely.ops import linemerge, unary_union

__all__ = ["LOOKS", "Drawn", "Skin", "draw", "write"]

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


# ------------------------------------------------------------------- outlines, flat coordinates


def _wave(rng: np.random.Generator, size: int, scale: float) -> Array:
    """Smooth noise of unit variance; `scale` in samples."""
    wide = gaussian_filter1d(rng.standard_normal(size + int(8 * scale)), scale)
    return np.asarray(wide[int(4 * scale) :][:size] / (wide.std() + 1e-12))


def _ribbon(axis: Array, half: Array) -> Array:
    """Outline (2n, 2) of a band around `axis` (n, 2) of half width `half` (n,)."""
    along = np.gradient(axis, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    return np.concatenate([axis + normal * half[:, None], (axis - normal * half[:, None])[::-1]])


def _resampled(line: Array, step: float) -> Array:
    """Points every `step` um along `line`."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0.0, arc[-1], step)
    return np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1)


def _parts(geometry: BaseGeometry, kind: type[Any]) -> list[Any]:
    """Return the members of type `kind` in a geometry of any type."""
    members: Sequence[Any] = getattr(geometry, "geoms", [geometry])
    return [part for part in members if isinstance(part, kind) and not part.is_empty]


def _stretches(geometry: BaseGeometry) -> list[Array]:
    """Open lines of at least 20 um, each from left to right, in steps of 1 um."""
    merged = linemerge(geometry) if geometry.geom_type == "MultiLineString" else geometry
    lines = [np.asarray(part.coords) for part in _parts(merged, LineString) if part.length >= 20]
    lines = [line if line[0, 0] <= line[-1, 0] else line[::-1] for line in lines]
    return sorted((_resampled(line, 1.0) for line in lines), key=lambda line: float(line[0, 0]))


def _ripple(rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return a gentle warp of the plane that takes the regularity out of any outline."""
    wavelength = np.geomspace(7.0, 110.0, 9)
    heading, shift = rng.uniform(0, 2 * np.pi, (2, 9))
    push = 0.022 * wavelength[:, None] * rng.standard_normal((9, 2))

    def warp(points: Array) -> Array:
        phase = points @ np.stack([np.cos(heading), np.sin(heading)]) * (2 * np.pi / wavelength)
        return np.asarray(points + np.sin(phase + shift) @ push)

    return warp


def _tube(axis: Array, half: Array) -> BaseGeometry:
    """Union of the hulls of neighbouring discs: a limb with rounded ends and uneven girth."""
    discs = [Point(*p).buffer(max(h, 1.0)) for p, h in zip(axis, half, strict=True)]
    pairs = zip(discs, discs[1:], strict=False)
    return unary_union([unary_union(pair).convex_hull for pair in pairs])


def _ridge(rng: np.random.Generator, foot: Array, reach: float, half: float) -> BaseGeometry:
    steps = np.linspace(0.0, 1.0, 7)
    sway = rng.normal(0, 0.18) * reach * steps + 0.06 * reach * np.sin(4 * steps + foot[0])
    girth = half * (1.2 - 0.6 * steps) * (1 + 0.12 * rng.standard_normal(7))
    # The tip disc ends at `reach`; a blunt limb shorter than its own girth would bulge.
    drop = np.maximum(reach - girth[-1], 0.0) * steps
    return _tube(foot + np.stack([sway, drop], 1), np.minimum(girth, reach * 0.9 + 2))


def _ridges(skin: Skin, rng: np.random.Generator, floor: Callable[[float], float]) -> BaseGeometry:
    limbs, at = [], -80.0
    while at < skin.length + 80:
        half = 0.23 * skin.ridge_spacing * rng.lognormal(0, 0.2)
        reach = skin.ridge_depth * np.clip(rng.lognormal(-0.05, 0.35), 0.25, 1.7)
        limbs.append(_ridge(rng, np.array([at, floor(at)]), reach, half))
        if rng.random() < skin.branching:
            fork = np.array([at, floor(at) + 0.45 * reach])
            aside = _ridge(rng, fork, 0.5 * reach, 0.5 * half)
            turn = rng.choice([-1, 1]) * rng.uniform(35, 60)
            limbs.append(affinity.rotate(aside, turn, origin=tuple(fork)))
        at += max(skin.ridge_spacing * rng.lognormal(0, 0.28), 2 * half + 10)
    return unary_union(limbs)


def _rounded(shape: BaseGeometry, radius: float, islands: bool) -> BaseGeometry:
    """Round corners both ways, keep the largest piece, fill its holes unless they are wanted."""
    soft = shape.buffer(-0.4 * radius).buffer(1.4 * radius).buffer(-radius)
    piece = max(_parts(soft, Polygon), key=lambda part: float(part.area))
    return piece if islands else Polygon(piece.exterior)


def _follicle(
    skin: Skin, rng: np.random.Generator, mouth: Array
) -> tuple[BaseGeometry, BaseGeometry, BaseGeometry, list[Array]]:
    """Return the outer wall, canal, sebaceous lobule and keratin lamellae of one follicle."""
    down = np.linspace(0, 1, 40)
    reach, lean = rng.uniform(0.55, 0.75) * skin.depth, rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
    axis = mouth + np.stack([lean * reach * down**1.3, reach * down - 25 * (1 - down) ** 6], 1)
    outer = 34 + 24 * np.exp(-down / 0.08) - 8 * down + 3 * _wave(rng, 40, 4)
    canal = np.clip(8 + 19 * np.exp(-down / 0.1) - 9 * (down / 0.8) ** 3, 0.3, None)
    lamellae = []
    for share in rng.permutation(np.linspace(-0.95, 0.95, 26)):
        part = np.sort(rng.choice(34, 2, replace=False)) + [0, 5]
        wobble = 0.10 * _wave(rng, 40, 3)
        lamellae.append(_ribbon(axis, canal * (share + wobble))[:40][part[0] : part[1]])
    body, lobule = _tube(axis, outer), Polygon()
    if skin.sebum:
        centre = axis[18] + [np.sign(lean) * -58, 8]
        lobes = [Point(*(centre + rng.normal(0, 22, 2))).buffer(rng.uniform(26, 40)) for _ in "123"]
        # Closed and filled, or islets of dermis would remain between lobes and wall.
        lobule = _rounded(unary_union([body, *lobes]), 9.0, islands=False)
    return body, Polygon(_ribbon(axis, canal)).buffer(0), lobule, lamellae


def _coil(skin: Skin, rng: np.random.Generator) -> list[tuple[BaseGeometry, BaseGeometry]]:
    """Return (tube, lumen) of the cuts through one sweat gland: secretory part and ducts."""
    low = skin.thickness + skin.ridge_depth + 170
    centre = np.array([rng.uniform(0.15, 0.85) * skin.length, rng.uniform(low, skin.depth - 70)])
    cuts: list[tuple[BaseGeometry, BaseGeometry]] = []
    for trial in range(60):
        duct = trial % 4 == 3
        arc = rng.uniform(0, 2 * np.pi) + np.linspace(0, rng.uniform(0.1, 1.9), 8)
        spread = rng.normal(0, [55, 38])
        path = centre + spread + rng.uniform(18, 38) * np.stack([np.cos(arc), np.sin(arc)], 1)
        tube = _tube(path, np.full(8, 12.5 if duct else rng.uniform(17, 22)))
        lumen = _tube(path, np.full(8, 3.0 if duct else rng.uniform(3, 7)))
        if len(cuts) < 11 and all(tube.distance(other) > 3 for other, _ in cuts):
            cuts.append((tube, lumen))
    return cuts


def _voids(skin: Skin, rng: np.random.Generator, block: BaseGeometry) -> BaseGeometry:
    holes: list[BaseGeometry] = []
    for index in range(skin.tears):
        deep = np.linspace(-60, rng.uniform(0.3, 0.75) * skin.depth, 60)
        if index % 2:
            deep = skin.depth + 60 - (deep + 60) * 0.8
        start = rng.uniform(0.12, 0.88) * skin.length
        lean = rng.normal(0, 0.4)
        axis = np.stack([start + lean * deep + 7 * _wave(rng, 60, 5), deep], 1)
        half = rng.uniform(8, 20) * (1 - np.linspace(0, 1, 60) ** 2) * (1 + 0.3 * _wave(rng, 60, 2))
        slit = Polygon(_ribbon(axis, np.abs(half) + 0.3)).segmentize(2.0)
        holes.append(shapely.transform(slit, _ripple(rng)).buffer(0))
    for _ in range(skin.missing):
        start = rng.uniform(0.1, 0.75) * skin.length
        width, slope = rng.uniform(80, 190), rng.uniform(-25, 25, 2)
        low = 2 * (skin.thickness + skin.ridge_depth) + 60
        wedge = [(start - slope[0], -90), (start + width + slope[1], -90),
                 (start + width - slope[1], low), (start + slope[0], low)]  # fmt: skip
        rough = shapely.transform(Polygon(wedge).segmentize(2), _ripple(rng))
        holes.append(rough.intersection(block.buffer(1.5)))
    return unary_union(holes)


def _lamellae(skin: Skin, rng: np.random.Generator, s: Array, top: Array) -> list[LineString]:
    """Corneum as sheets that part and meet again; the outer ones are the first to come off."""
    lines: list[LineString] = []
    count = max(3, round(skin.corneum / (2.6 - 1.5 * (1 - skin.basket))))
    shared = _wave(rng, s.size, 9)
    lift = np.clip(_wave(rng, s.size, 120), 0, None) * skin.flaking * 12
    for rank in np.linspace(0.03, 1, count):
        swing = 1.1 / count * _wave(rng, s.size, rng.uniform(6, 14)) + 0.10 * rank * shared
        height = skin.corneum * (rank + skin.basket * swing) + lift * rank**3
        lost = _wave(rng, s.size, 40) < -2.4 + 3.2 * skin.flaking * (0.25 + rank)
        runs = np.split(np.arange(s.size), np.flatnonzero(np.diff(lost)) + 1)
        lines += [
            LineString(np.stack([s[run], top[run] - np.clip(height[run], 0.4, None)], 1))
            for run in runs if run.size > 12 and not lost[run[0]]
        ]  # fmt: skip
    return lines


def _relief(skin: Skin, rng: np.random.Generator, s: Array) -> Array:
    top = skin.relief * _wave(rng, s.size, 70) + 0.25 * skin.relief * _wave(rng, s.size, 14)
    for start in np.arange(0, skin.length, 230):
        furrow, width = start + rng.uniform(0, 180), rng.uniform(10, 22)
        top += rng.uniform(1, 4) * skin.relief * np.exp(-(((s - furrow) / width) ** 2))
    return top


def _frame(skin: Skin, rng: np.random.Generator, s: Array, top: Array) -> Polygon:
    """Return the cut tissue: uneven sides and bottom, the skin surface on top."""
    rows = np.arange(-40.0, skin.depth)
    left, right = (7 * _wave(rng, rows.size, 30) + 1.6 * _wave(rng, rows.size, 2) for _ in "12")
    deep = skin.depth + 14 * _wave(rng, s.size, 40) + 3 * _wave(rng, s.size, 6)
    sides = np.concatenate([
        np.stack([left, rows], 1)[::-1], np.stack([skin.length + right, rows], 1),
    ])  # fmt: skip
    below = Polygon([*np.stack([s, top], 1), *np.stack([s, deep], 1)[::-1]]).buffer(0)
    column = Polygon(sides).buffer(0).union(box(20, -40, skin.length - 20, 2 * skin.depth))
    return column.intersection(below)


def _plan(skin: Skin, rng: np.random.Generator) -> Plan:
    """Lay out one section in flat coordinates."""
    s = np.arange(-120.0, skin.length + 120)
    top = _relief(skin, rng, s)
    frame = _frame(skin, rng, s, top)
    base = gaussian_filter1d(top, 25) + skin.thickness * (1 + 0.07 * _wave(rng, s.size, 16))
    ridges = _ridges(skin, rng, lambda at: float(np.interp(at, s, base)) - 6)
    block = unary_union([Polygon([*np.stack([s, base], 1), (s[-1], -300), (s[0], -300)]), ridges])
    block = shapely.transform(block.segmentize(1.5), _ripple(rng)).buffer(0)

    slots = np.arange(skin.follicles) + rng.uniform(0.3, 0.7, skin.follicles)
    mouths = slots / max(skin.follicles, 1) * skin.length
    grown = [_follicle(skin, rng, np.array([at, np.interp(at, s, top)])) for at in mouths]
    outer, canal, lobes = (unary_union([parts[i] for parts in grown]) for i in range(3))
    block = _rounded(block.union(outer), 11.0, skin.islands)
    void = _voids(skin, rng, block)
    cuts = [cut for _ in range(skin.glands) for cut in _coil(skin, rng)]
    tubes, lumens = (unary_union([cut[i] for cut in cuts]) for i in range(2))

    tissue = frame.difference(unary_union([void, canal, lumens]))
    sheet = LineString(np.stack([s, top], 1))
    bare = unary_union([void.buffer(0.8), outer.buffer(2.0)])
    window = box(4, -200, skin.length - 4, 300).difference(
        unary_union([void, canal.buffer(3), affinity.translate(canal, 0, -25)])
    )
    lamellae = unary_union(_lamellae(skin, rng, s, top)).intersection(window)
    band = np.stack([s, top], 1)
    # Rounding leaves slivers of block along the follicles: these are no epidermis.
    viable = frame.intersection(block).difference(unary_union([outer, void]))
    return Plan(
        tissue=tissue,
        viable=viable.intersection(viable.buffer(-1.5).buffer(3.0)),
        wall=frame.intersection(outer).difference(unary_union([canal, void])),
        gland=tissue.intersection(tubes).difference(block),
        sebum=tissue.intersection(lobes).difference(block),
        keratin=unary_union([canal, Polygon([*band, *(band - [0, 60])[::-1]]).buffer(0)]),
        void=void.intersection(frame),
        fold=unary_union([_fold(skin, rng, (i + 0.5) / skin.folds) for i in range(skin.folds)]),
        junctions=_stretches(block.boundary.intersection(frame).difference(bare)),
        surface=_stretches(sheet.intersection(frame.buffer(0.01)).difference(bare)),
        lamellae=[
            *(np.asarray(p.coords) for p in _parts(lamellae, LineString) if p.length > 15),
            *(line for parts in grown for line in parts[3]),
        ],
    )


def _fold(skin: Skin, rng: np.random.Generator, place: float) -> BaseGeometry:
    """Band across the section, near the given share of its length."""
    down = np.linspace(-80, skin.depth + 80, 50)
    start = np.clip(place + rng.uniform(-0.15, 0.15), 0.1, 0.9) * skin.length
    lean = rng.normal(0, 0.15)
    axis = np.stack([start + lean * down + 9 * _wave(rng, 50, 6), down], 1)
    half = rng.uniform(16, 30) * np.clip(1 + 0.3 * _wave(rng, 50, 4), 0.3, None)
    return shapely.transform(Polygon(_ribbon(axis, half)).segmentize(3.0), _ripple(rng)).buffer(0)


def _curl(skin: Skin, turn: float) -> Callable[[Array], Array]:
    """Return the map from flat coordinates to a bent and turned section around the origin."""
    kappa = np.radians(skin.bend if abs(skin.bend) > 1e-3 else 1e-3) / skin.length
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))

    def curl(points: Array) -> Array:
        phi, radius = kappa * (points[:, 0] - skin.length / 2), 1 / kappa - points[:, 1]
        bent = np.stack([np.sin(phi) * radius, 1 / kappa - np.cos(phi) * radius], 1)
        return np.asarray(bent @ np.array([[cos, sin], [-sin, cos]]))

    return curl


def _placed(skin: Skin, rng: np.random.Generator) -> tuple[list[Plan], tuple[int, int]]:
    """Lay out all sections below one another; return them and the picture's shape."""
    plans, low, right = [], MARGIN_UM, 0.0
    for _ in range(skin.sections):
        plan = _plan(skin, rng).moved(_curl(skin, skin.angle + rng.normal(0, 2)))
        hull = plan.tissue.union(unary_union([LineString(line) for line in plan.lamellae]))
        x0, y0, x1, y1 = hull.bounds
        shift = np.array([MARGIN_UM - x0, low - y0])
        plans.append(plan.moved(lambda points, shift=shift: points + shift))  # type: ignore[misc]
        low, right = low + y1 - y0 + MARGIN_UM, max(right, x1 - x0)
    return plans, (round(low / skin.mpp), round((right + 2 * MARGIN_UM) / skin.mpp))


# ------------------------------------------------------------------------------- the pixel grid


@dataclass(frozen=True)
class Grid:
    """A picture's pixels, and how lengths and positions in um reach them."""

    mpp: float
    shape: tuple[int, int]

    def fixed(self, points: Array) -> NDArray[np.int32]:
        """Positions as OpenCV draws them: 1/16 pixel, whole numbers at pixel centres."""
        return np.round((points / self.mpp - 0.5) * 16).astype(np.int32)

    def paint(self, image: NDArray[np.uint8], geometry: BaseGeometry, value: int) -> None:
        """Fill polygons, holes left out."""
        for part in _parts(geometry, Polygon):
            rings = [self.fixed(np.asarray(r.coords)) for r in (part.exterior, *part.interiors)]
            cv2.fillPoly(image, rings, [value], shift=4)

    def mask(self, geometry: BaseGeometry) -> Mask:
        """Pixels whose centre lies inside."""
        image = np.zeros(self.shape, np.uint8)
        self.paint(image, geometry, 1)
        return image > 0

    def strokes(
        self, image: NDArray[np.uint8], lines: Sequence[Array], od: float, um: float
    ) -> None:
        """Draw open lines of width `um` and the given OD."""
        fixed = [self.fixed(line) for line in lines]
        value, width = round(np.clip(od, 0, 0.63) * UINT8_PER_OD), max(1, round(um / self.mpp))
        cv2.polylines(image, fixed, False, [value], width, cv2.LINE_AA, 4)

    def pixels(self, points: Array) -> NDArray[np.intp]:
        """(n, 2) row and column, clipped to the picture."""
        index = np.floor(points[:, ::-1] / self.mpp).astype(np.intp)
        return np.clip(index, 0, np.array(self.shape) - 1)

    def at(self, image: NDArray[Any], points: Array) -> NDArray[Any]:
        """Values of `image` at points."""
        rows, columns = self.pixels(points).T
        return np.asarray(image[rows, columns])

    def centres(self, mask: Mask) -> Array:
        """(n, 2) x, y of the pixels in `mask`, in um."""
        return np.asarray((np.argwhere(mask)[:, ::-1] + 0.5) * self.mpp)

    def noise(self, rng: np.random.Generator, scale: float) -> Plane:
        """Smooth noise of unit variance with a grain of `scale` um."""
        sigma = scale / self.mpp
        step = max(1.0, sigma / 2)
        small = (int(self.shape[0] / step) + 8, int(self.shape[1] / step) + 8)
        raw = rng.standard_normal(small, np.float32)
        soft = np.asarray(cv2.GaussianBlur(raw, (0, 0), sigma / step), np.float32)
        if step > 1:
            large = (self.shape[1] + 8, self.shape[0] + 8)
            soft = np.asarray(cv2.resize(soft, large, interpolation=cv2.INTER_CUBIC), np.float32)
        return np.asarray(soft[: self.shape[0], : self.shape[1]] / soft.std(), np.float32)

    def distance(self, mask: Mask) -> Plane:
        """Distance to the nearest pixel in `mask`, um."""
        far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
        return np.asarray(far * self.mpp, np.float32)


@dataclass(frozen=True)
class Scene:
    """What all painters share."""

    skin: Skin
    grid: Grid
    plans: list[Plan]
    kind: NDArray[np.uint8]
    to_dermis: Plane
    to_keratin: Plane
    to_epidermis: Plane
    h: Plane  # hematoxylin, DAB, melanin and dirt: OD of each
    dab: Plane
    melanin: Plane
    dirt: Plane


def _scene(skin: Skin, rng: np.random.Generator) -> Scene:
    plans, shape = _placed(skin, rng)
    grid, kind = Grid(skin.mpp, shape), np.zeros(shape, np.uint8)
    for plan in plans:
        for name, code in (("tissue", DERMIS), ("viable", EPIDERMIS), ("wall", WALL),
                           ("gland", GLAND), ("sebum", SEBUM)):  # fmt: skip
            grid.paint(kind, getattr(plan, name), code)
    keratin = grid.mask(unary_union([plan.keratin for plan in plans]))
    planes = [np.zeros(shape, np.float32) for _ in range(4)]
    fields = (grid.distance(where) for where in (kind == DERMIS, keratin, kind == EPIDERMIS))
    return Scene(skin, grid, plans, kind, *fields, *planes)


# --------------------------------------------------------------------------------------- cells


@dataclass(frozen=True)
class Rim:
    """The border of all epithelium with dermis, in steps of about 0.5 um."""

    points: Array
    inward: Array
    arc: Array  # um, running on over the rings


def _rim(scene: Scene) -> Rim:
    points, inward, arc, start = [], [], [], 0.0
    for plan in scene.plans:
        epithelium = unary_union([plan.viable, plan.wall, plan.gland, plan.sebum]).buffer(0.05)
        for part in _parts(epithelium, Polygon):
            solid = orient(part, 1.0)  # inside lies to the left, holes included
            for ring in (solid.exterior, *solid.interiors):
                line = _resampled(np.asarray(ring.coords), 0.5)
                along = gaussian_filter1d(np.gradient(line, axis=0), 3, axis=0, mode="wrap")
                normal = np.stack([-along[:, 1], along[:, 0]], 1)
                normal /= np.linalg.norm(normal, axis=1)[:, None] + 1e-9
                faces = scene.grid.at(scene.kind, line - 1.6 * normal) == DERMIS
                points.append(line[faces])
                inward.append(normal[faces])
                arc.append(start + np.flatnonzero(faces) * 0.5)
                start += len(line) * 0.5 + 100
    return Rim(np.concatenate(points), np.concatenate(inward), np.concatenate(arc))


def _thinned(points: Array, radius: Array) -> NDArray[np.intp]:
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
    kept = _thinned(row, np.full(len(row), 4.6))
    row, normal = row[kept], normal[kept]

    room = (scene.kind > DERMIS) & (scene.to_dermis > 10)
    pool = scene.grid.centres(room)
    pool = rng.permutation(pool)[: int(len(pool) * scene.skin.mpp**2 / 5)]
    pool = pool + rng.uniform(-0.5, 0.5, pool.shape) * scene.skin.mpp
    flat = min(16.0, scene.skin.thickness / 3.4)
    radius = 8.9 * (1 + 0.85 * np.exp(-scene.grid.at(scene.to_keratin, pool) / flat))
    code = scene.grid.at(scene.kind, pool)
    radius = np.where(code == GLAND, 8.5, np.where(code == SEBUM, 15.0, radius))
    return np.concatenate([row, pool[_thinned(_lifted(scene, pool), radius)]]), normal


def _table(count: int, **columns: Any) -> Table:
    table = np.zeros(count, NUCLEUS)
    table["cell"] = -1
    for name, value in columns.items():
        table[name] = value
    return table


def _cut(rng: np.random.Generator, count: int) -> Array:
    """Shrink factors of spheres cut at random; one in ten cells shows no nucleus (0)."""
    factor = np.sqrt(1 - rng.uniform(0, 0.97, count) ** 2)
    return np.asarray(np.where(rng.random(count) < 0.1, 0, factor))


def _epithelium(scene: Scene, rim: Rim, rng: np.random.Generator) -> Table:
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
    _stain_p16(scene, nuclei, rng)
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
    return _table(
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


def _stain_p16(scene: Scene, nuclei: Table, rng: np.random.Generator) -> None:
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


# -------------------------------------------------------------------------------------- dermis


def _threads(rng: np.random.Generator, start: Array, span: Sequence[float], turn: Array) -> Array:
    """Wavy axes (n, 20, 2) around `start` (n, 2), of a length within `span`, at angle `turn`."""
    count = len(start)
    along = np.linspace(-0.5, 0.5, 20) * rng.uniform(span[0], span[1], (count, 1))
    wavelength = rng.uniform(0.45, 1.1, (count, 1)) * min(span[1], 70)
    height = wavelength * rng.uniform(0.02, 0.09, (count, 1))
    swing = height * np.sin(2 * np.pi * along / wavelength + rng.uniform(0, 6.3, (count, 1)))
    cos, sin = np.cos(turn)[:, None], np.sin(turn)[:, None]
    return start[:, None] + np.stack([along * cos - swing * sin, along * sin + swing * cos], 2)


def _scattered(rng: np.random.Generator, skin: Skin, count: float, deep: float) -> Array:
    return rng.uniform([-20, -10], [skin.length + 20, deep], (int(count), 2))


def _bundle(
    grid: Grid,
    image: NDArray[np.uint8],
    plan: Plan,
    body: tuple[Array, float],
    rng: np.random.Generator,
) -> None:
    """Draw one collagen bundle (axis, half width) with strands over those before; leave a cleft."""
    axis, width = body
    taper = width * np.sqrt(1 - np.linspace(-0.98, 0.98, 20) ** 4) + 0.3
    outline, od = plan.move(_ribbon(axis, taper)), rng.normal(0.105, 0.018)
    cv2.fillPoly(image, [grid.fixed(outline)], [round(od * UINT8_PER_OD)], cv2.LINE_AA, 4)
    for offset in np.arange(-0.8, 0.8, 1.3 / width):
        strand = plan.move(_ribbon(axis, taper * offset)[:20])
        run = strand[rng.integers(0, 6) : rng.integers(12, 20)]
        grid.strokes(image, [run], od + rng.normal(0, 0.025), 0.6)
    if rng.random() < 0.8:
        first = rng.integers(0, 9)
        wide = rng.lognormal(-0.3, 0.6) * np.sqrt(1 - np.linspace(-1, 1, 11) ** 2) + 0.05
        slit = _ribbon(outline[first : first + 11], wide)
        cv2.fillPoly(image, [grid.fixed(slit)], [2], cv2.LINE_AA, 4)


def _fibres(scene: Scene, plan: Plan, rng: np.random.Generator) -> tuple[NDArray[np.uint8], ...]:
    """Draw reticular bundles, painter's fashion with clefts between, and fine papillary fibres."""
    skin, grid = scene.skin, scene.grid
    coarse = np.full(grid.shape, round(0.035 * UINT8_PER_OD), np.uint8)
    fine = np.full(grid.shape, round(0.055 * UINT8_PER_OD), np.uint8)
    area, deep = skin.length * skin.depth, skin.depth + 20

    start = _scattered(rng, skin, area / 420, deep)
    count = len(start)
    lie = rng.normal(0, np.where(rng.random(count) < 0.7, 0.3, 0.9))
    half = rng.lognormal(np.log(3.2), 0.5, count) * (0.55 + 0.9 * start[:, 1] / skin.depth)
    for axis, width in zip(_threads(rng, start, (50, 170), lie), half, strict=True):
        _bundle(grid, coarse, plan, (axis, width), rng)

    deep = skin.thickness + 1.9 * skin.ridge_depth + 140
    start = _scattered(rng, skin, skin.length * deep / 8, deep)
    axes = _threads(rng, start, (12, 60), rng.normal(0, 0.8, len(start)))
    axes = plan.move(axes.reshape(-1, 2)).reshape(axes.shape)
    tones = np.resize([0.045, 0.075, 0.03, 0.09, 0.055], 25)
    for od, group in zip(tones, np.array_split(axes, 25), strict=True):
        grid.strokes(fine, list(group), od, rng.choice([0.5, 1.0, 1.5]))
    return coarse, fine


def _dermis(scene: Scene, rng: np.random.Generator) -> list[Table]:
    """Paint the dermis and its vessels; return all nuclei in it."""
    grid, inside = scene.grid, scene.kind == DERMIS
    nuclei = []
    for plan in scene.plans:
        coarse, fine = _fibres(scene, plan, rng)
        vessels = _vessels(scene, plan, (coarse, fine), rng)
        border = 55 + 14 * grid.noise(rng, 25.0)
        share = np.clip((scene.to_epidermis - border) / 40, 0, 1)
        lumpy = 1 + (1 - share) * 0.16 * grid.noise(rng, 1.6)
        mixed = (share * coarse + (1 - share) * fine) * lumpy / np.float32(UINT8_PER_OD)
        own = inside & grid.mask(plan.tissue)
        scene.h[own] = mixed[own]
        nuclei += [vessels, _spindles(scene, plan, rng), _lymphocytes(scene, plan, rng)]
    patchy = 1 + 0.12 * grid.noise(rng, 60.0) + 0.08 * grid.noise(rng, 0.6)
    scene.h[inside] = (scene.h * patchy)[inside]
    return nuclei


def _spindles(scene: Scene, plan: Plan, rng: np.random.Generator) -> Table:
    """Fibroblasts, along the bundles; denser near the epidermis."""
    skin = scene.skin
    start = _scattered(rng, skin, skin.fibroblasts * skin.length * skin.depth / 1e6, skin.depth)
    start[::3, 1] *= 0.45
    turn = rng.normal(0, 0.45, len(start))
    ends = start + 3 * np.stack([np.cos(turn), np.sin(turn)], 1)
    here, there = plan.move(start), plan.move(ends)
    along, count = there - here, len(start)
    plump = rng.random(count) < 0.2
    cut = np.sqrt(1 - rng.uniform(0, 0.9, count) ** 2)
    return _table(
        count, x=here[:, 0], y=here[:, 1], theta=np.arctan2(along[:, 1], along[:, 0]),
        a=np.where(plump, rng.uniform(4, 5.5, count), rng.uniform(4.5, 9, count)) * cut,
        b=np.where(plump, rng.uniform(2, 2.8, count), rng.uniform(1.0, 1.8, count)) * cut**0.5,
        h=rng.lognormal(0.1, 0.2, count), dense=np.where(plump, 0.3, 0.8),
    )  # fmt: skip


def _round_cells(spots: Array, rng: np.random.Generator) -> Table:
    """Lymphocytes: small, dark, none upon another."""
    spots = spots[_thinned(spots, np.full(len(spots), 5.6))] if len(spots) > 1 else spots
    count, size = len(spots), rng.normal(3.0, 0.3, len(spots))
    return _table(
        count, x=spots[:, 0], y=spots[:, 1], a=size * rng.uniform(1, 1.25, count), b=size,
        theta=rng.uniform(0, 3.2, count), h=rng.lognormal(0.3, 0.15, count), dense=0.9,
    )  # fmt: skip


def _lymphocytes(scene: Scene, plan: Plan, rng: np.random.Generator) -> Table:
    """Infiltrate that hugs the junction, in patches."""
    line = np.concatenate([*plan.junctions, np.zeros((0, 2))])
    if not scene.skin.infiltrate or not len(line):
        return _table(0)
    patches = np.clip(1 + 0.8 * _wave(rng, len(line), 60), 0.05, None)
    count = int(scene.skin.infiltrate * len(line) / 1000)
    spots = line[rng.choice(len(line), count, p=patches / patches.sum())]
    return _round_cells(spots + rng.normal(0, 22, spots.shape), rng)


def _vessels(
    scene: Scene, plan: Plan, canvas: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> Table:
    """Cuts through small vessels; every other one lies in the superficial plexus."""
    skin = scene.skin
    centres = _scattered(rng, skin, skin.vessels * skin.length * skin.depth / 1e6, skin.depth)
    plexus = centres[::2]
    plexus[:, 1] = skin.thickness + skin.ridge_depth * rng.uniform(0, 1, len(plexus)) + 30
    placed = plan.move(centres)
    placed = placed[scene.grid.at(scene.to_epidermis, placed) > 20]
    return np.concatenate([_table(0), *(_vessel(scene, at, canvas, rng) for at in placed)])


def _vessel(
    scene: Scene, centre: Array, canvas: Sequence[NDArray[np.uint8]], rng: np.random.Generator
) -> Table:
    """Draw lumen and wall; return endothelium and the lymphocytes around."""
    a, b, turn = rng.uniform(4, 14), rng.uniform(2.5, 6), rng.uniform(0, np.pi)
    turned = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    circle = np.linspace(0, 2 * np.pi, 40)
    for extra, od in ((2.6, 0.11), (1.6, 0.15), (0.0, 0.005)):
        ring = np.stack([(a + extra) * np.cos(circle), (b + extra) * np.sin(circle)], 1) @ turned
        outline, value = scene.grid.fixed(centre + ring), round(od * UINT8_PER_OD)
        for image in canvas:
            cv2.fillPoly(image, [outline], [value], cv2.LINE_AA, 4)
    at = np.arange(0, 2 * np.pi, rng.uniform(1.1, 2.2)) + rng.uniform(0, 1)
    spots = centre + np.stack([(a + 1) * np.cos(at), (b + 1) * np.sin(at)], 1) @ turned
    along = np.stack([-a * np.sin(at), b * np.cos(at)], 1) @ turned
    endothelium = _table(
        len(at), x=spots[:, 0], y=spots[:, 1], theta=np.arctan2(along[:, 1], along[:, 0]),
        a=rng.uniform(3, 5, len(at)), b=rng.uniform(1.2, 1.9, len(at)), h=1.1, dense=0.7,
    )  # fmt: skip
    far = rng.normal(0, 1, (rng.poisson(scene.skin.perivascular), 2))
    far *= (a + rng.uniform(5, 16, len(far)))[:, None] / np.linalg.norm(far, axis=1)[:, None]
    return np.concatenate([endothelium, _round_cells(centre + far, rng)])


# ------------------------------------------------------------------------------ stain and nuclei


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


def _nuclei(scene: Scene, rim: Rim, rng: np.random.Generator) -> Table:
    """Draw all cells; return the truth about their nuclei."""
    epithelial = _epithelium(scene, rim, rng)
    dermal = np.concatenate(_dermis(scene, rng))
    spots = np.stack([dermal["x"], dermal["y"]], 1)
    free = scene.grid.distance(scene.kind > DERMIS)
    room = 0.5 * dermal["a"] + dermal["b"]
    fits = (scene.grid.at(scene.kind, spots) == DERMIS) & (scene.grid.at(free, spots) > room)
    fits &= dermal["a"] * dermal["b"] > 2.5
    dermal = dermal[fits]
    dermal = dermal[_thinned(spots[fits], np.full(len(dermal), 4.5))]
    _stain_p16(scene, dermal, rng)
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
    uneven = np.exp(0.18 * _wave(rng, size, 12) + 0.16 * _wave(rng, size, 90))
    open_, at = np.ones(size), 0.0
    while skin.gaps > 0:
        gap = rng.uniform(10, 80)
        at += rng.exponential(gap * (1 - skin.gaps) / skin.gaps) + 4
        if at >= rim.arc[-1]:
            break
        open_[int(at * 2) : int((at + gap) * 2)] = 0
        at += gap
    amount = skin.line * uneven * gaussian_filter1d(open_, 1.6)
    sigma = np.clip(skin.line_width / 2.355 * np.exp(0.15 * _wave(rng, size, 20)), 0.3, None)
    index = np.clip((rim.arc / 0.5).astype(int), 0, size - 1)
    return amount[index], sigma[index]


def _collagen7(scene: Scene, rim: Rim, rng: np.random.Generator) -> list[Table]:
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
        points = _resampled(line, 2.0)
        table = np.zeros(len(points), LINE)
        table["x"], table["y"] = points.T
        table["od_um"] = amount[cKDTree(rim.points).query(points)[1]]
        table["present"] = table["od_um"] > 0.25 * scene.skin.line
        tables.append(table)
    return tables


def _corneum(scene: Scene, rng: np.random.Generator) -> None:
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


def _haze(scene: Scene, rng: np.random.Generator) -> None:
    """Stain that belongs nowhere: over all tissue, and more along cut edges."""
    skin, tissue = scene.skin, scene.kind > GLASS
    cloud = 1 + 0.35 * scene.grid.noise(rng, 70.0) + 0.12 * scene.grid.noise(rng, 0.8)
    cloud = np.clip(cloud, 0.1, None)
    fibres = np.clip(scene.h / 0.09, 0.2, 1.6)  # stroma takes it up where there is matter
    matter = np.where(scene.kind == DERMIS, fibres, 1.15)
    rest = np.exp(-scene.grid.distance(~tissue & (scene.to_keratin > 0)) / 9)
    scene.dab[tissue] += ((skin.haze * cloud + skin.edge_stain * rest) * matter)[tissue]


def _folded(scene: Scene, plan: Plan, rng: np.random.Generator) -> None:
    """In each fold the tissue lies twice: add its mirror image and lose focus."""
    for part in _parts(plan.fold, Polygon):
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


def _debris(scene: Scene, rng: np.random.Generator) -> None:
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


# ----------------------------------------------------------------------------------- the picture


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def _light(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Beer-Lambert, lamp, optics and sensor."""
    skin, grid = scene.skin, scene.grid
    h, dab = (_unit(v + rng.normal(0, skin.vector_jitter, 3)) for v in (HEMATOXYLIN, DAB))
    pigment, grey = _unit(0.34 * HEMATOXYLIN + 0.71 * DAB), np.full(3, 0.577)
    white = skin.white + rng.normal([0.5, 0, -1.5], 0.8)
    x, y = np.linspace(-1, 1, grid.shape[1]), np.linspace(-1, 1, grid.shape[0])[:, None]
    tilt = rng.normal(0, 0.3, 2)
    lamp = 1 - skin.vignette * (0.5 * (x**2 + y**2) + tilt[0] * x + tilt[1] * y)
    far = np.clip(0.5 + 0.9 * grid.noise(rng, 150.0), 0, 1) if skin.defocus else None
    rgb = np.empty((*grid.shape, 3), np.uint8)
    for c in range(3):
        od = scene.h * h[c] + scene.dab * dab[c] + scene.melanin * pigment[c] + scene.dirt * grey[c]
        light = cv2.GaussianBlur(np.exp(np.float32(-np.log(10)) * od), (0, 0), skin.blur / grid.mpp)
        if far is not None:
            out = cv2.GaussianBlur(light, (0, 0), skin.defocus / grid.mpp)
            light = light + far * (out - light)
        grain = rng.standard_normal(grid.shape, np.float32) * np.sqrt(light) * skin.noise
        rgb[..., c] = np.clip(white[c] * lamp * light + grain + 0.5, 0, 255)
    return rgb


def _multi(geometry: BaseGeometry) -> MultiPolygon:
    return MultiPolygon(_parts(geometry, Polygon))


def draw(skin: Skin) -> Drawn:
    """Draw one slide; the same settings give the same picture and truth."""
    rng = np.random.default_rng(skin.seed)
    scene = _scene(skin, rng)
    rim = _rim(scene)
    truth = _nuclei(scene, rim, rng)
    line = _collagen7(scene, rim, rng) if skin.marker == "col7" else []
    _haze(scene, rng)
    _corneum(scene, rng)
    for plan in scene.plans:
        _folded(scene, plan, rng)
    _debris(scene, rng)
    plans = scene.plans
    return Drawn(
        rgb=_light(scene, rng),
        mpp=skin.mpp,
        junctions=[stretch for plan in plans for stretch in plan.junctions],
        surface=[stretch for plan in plans for stretch in plan.surface],
        viable=_multi(unary_union([plan.viable for plan in plans])),
        adnexa=_multi(unary_union([g for p in plans for g in (p.wall, p.gland, p.sebum)])),
        nuclei=truth,
        line=line,
        artefacts={
            "fold": _multi(unary_union([plan.fold.intersection(plan.tissue) for plan in plans])),
            "void": _multi(unary_union([plan.void for plan in plans])),
        },
        jpeg=skin.jpeg,
    )


def write(path: str | PathLike[str], drawn: Drawn) -> None:
    """Write a tiled JPEG TIFF with its scale (pixels per cm) and one level of half the size."""
    rows, columns = (size // 2 * 2 for size in drawn.rgb.shape[:2])
    whole = drawn.rgb[:rows, :columns]
    half = cv2.resize(whole, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for level, image in enumerate((drawn.rgb, half)):
            density = 1e4 / (drawn.mpp * 2**level)
            tiff.write(
                image, tile=(256, 256), photometric="rgb", compression="jpeg",
                compressionargs={"level": drawn.jpeg}, subsampling=(2, 2), subfiletype=level,
                resolution=(density, density), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip


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
