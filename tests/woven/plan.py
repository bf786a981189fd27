"""Outlines of a section: flat, then bent and turned into the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely
from scipy.ndimage import gaussian_filter1d
from shapely import affinity
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.ops import linemerge, unary_union

from woven.skin import MARGIN_UM, Array, Plan, Skin


def wave(rng: np.random.Generator, size: int, scale: float) -> Array:
    """Smooth noise of unit variance; `scale` in samples."""
    wide = gaussian_filter1d(rng.standard_normal(size + int(8 * scale)), scale)
    return np.asarray(wide[int(4 * scale) :][:size] / (wide.std() + 1e-12))


def ribbon(axis: Array, half: Array) -> Array:
    """Outline (2n, 2) of a band around `axis` (n, 2) of half width `half` (n,)."""
    along = np.gradient(axis, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.linalg.norm(along, axis=1)[:, None]
    return np.concatenate([axis + normal * half[:, None], (axis - normal * half[:, None])[::-1]])


def resampled(line: Array, step: float) -> Array:
    """Points every `step` um along `line`."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = np.arange(0.0, arc[-1], step)
    return np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1)


def parts_of(geometry: BaseGeometry, kind: type[Any]) -> list[Any]:
    """Return the members of type `kind` in a geometry of any type."""
    members: Sequence[Any] = getattr(geometry, "geoms", [geometry])
    return [part for part in members if isinstance(part, kind) and not part.is_empty]


def _stretches(geometry: BaseGeometry) -> list[Array]:
    """Open lines of at least 20 um, each from left to right, in steps of 1 um."""
    merged = linemerge(geometry) if geometry.geom_type == "MultiLineString" else geometry
    lines = [np.asarray(part.coords) for part in parts_of(merged, LineString) if part.length >= 20]
    lines = [line if line[0, 0] <= line[-1, 0] else line[::-1] for line in lines]
    return sorted((resampled(line, 1.0) for line in lines), key=lambda line: float(line[0, 0]))


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
    piece = max(parts_of(soft, Polygon), key=lambda part: float(part.area))
    return piece if islands else Polygon(piece.exterior)


def _follicle(
    skin: Skin, rng: np.random.Generator, mouth: Array
) -> tuple[BaseGeometry, BaseGeometry, BaseGeometry, list[Array]]:
    """Return the outer wall, canal, sebaceous lobule and keratin lamellae of one follicle."""
    down = np.linspace(0, 1, 40)
    reach, lean = rng.uniform(0.55, 0.75) * skin.depth, rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
    axis = mouth + np.stack([lean * reach * down**1.3, reach * down - 25 * (1 - down) ** 6], 1)
    outer = 34 + 24 * np.exp(-down / 0.08) - 8 * down + 3 * wave(rng, 40, 4)
    canal = np.clip(8 + 19 * np.exp(-down / 0.1) - 9 * (down / 0.8) ** 3, 0.3, None)
    lamellae = []
    for share in rng.permutation(np.linspace(-0.95, 0.95, 26)):
        part = np.sort(rng.choice(34, 2, replace=False)) + [0, 5]
        wobble = 0.10 * wave(rng, 40, 3)
        lamellae.append(ribbon(axis, canal * (share + wobble))[:40][part[0] : part[1]])
    body, lobule = _tube(axis, outer), Polygon()
    if skin.sebum:
        centre = axis[18] + [np.sign(lean) * -58, 8]
        lobes = [Point(*(centre + rng.normal(0, 22, 2))).buffer(rng.uniform(26, 40)) for _ in "123"]
        # Closed and filled, or islets of dermis would remain between lobes and wall.
        lobule = _rounded(unary_union([body, *lobes]), 9.0, islands=False)
    return body, Polygon(ribbon(axis, canal)).buffer(0), lobule, lamellae


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
        axis = np.stack([start + lean * deep + 7 * wave(rng, 60, 5), deep], 1)
        half = rng.uniform(8, 20) * (1 - np.linspace(0, 1, 60) ** 2) * (1 + 0.3 * wave(rng, 60, 2))
        slit = Polygon(ribbon(axis, np.abs(half) + 0.3)).segmentize(2.0)
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
    shared = wave(rng, s.size, 9)
    lift = np.clip(wave(rng, s.size, 120), 0, None) * skin.flaking * 12
    for rank in np.linspace(0.03, 1, count):
        swing = 1.1 / count * wave(rng, s.size, rng.uniform(6, 14)) + 0.10 * rank * shared
        height = skin.corneum * (rank + skin.basket * swing) + lift * rank**3
        lost = wave(rng, s.size, 40) < -2.4 + 3.2 * skin.flaking * (0.25 + rank)
        runs = np.split(np.arange(s.size), np.flatnonzero(np.diff(lost)) + 1)
        lines += [
            LineString(np.stack([s[run], top[run] - np.clip(height[run], 0.4, None)], 1))
            for run in runs if run.size > 12 and not lost[run[0]]
        ]  # fmt: skip
    return lines


def _relief(skin: Skin, rng: np.random.Generator, s: Array) -> Array:
    top = skin.relief * wave(rng, s.size, 70) + 0.25 * skin.relief * wave(rng, s.size, 14)
    for start in np.arange(0, skin.length, 230):
        furrow, width = start + rng.uniform(0, 180), rng.uniform(10, 22)
        top += rng.uniform(1, 4) * skin.relief * np.exp(-(((s - furrow) / width) ** 2))
    return top


def _frame(skin: Skin, rng: np.random.Generator, s: Array, top: Array) -> Polygon:
    """Return the cut tissue: uneven sides and bottom, the skin surface on top."""
    rows = np.arange(-40.0, skin.depth)
    left, right = (7 * wave(rng, rows.size, 30) + 1.6 * wave(rng, rows.size, 2) for _ in "12")
    deep = skin.depth + 14 * wave(rng, s.size, 40) + 3 * wave(rng, s.size, 6)
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
    base = gaussian_filter1d(top, 25) + skin.thickness * (1 + 0.07 * wave(rng, s.size, 16))
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
            *(np.asarray(p.coords) for p in parts_of(lamellae, LineString) if p.length > 15),
            *(line for parts in grown for line in parts[3]),
        ],
    )


def _fold(skin: Skin, rng: np.random.Generator, place: float) -> BaseGeometry:
    """Band across the section, near the given share of its length."""
    down = np.linspace(-80, skin.depth + 80, 50)
    start = np.clip(place + rng.uniform(-0.15, 0.15), 0.1, 0.9) * skin.length
    lean = rng.normal(0, 0.15)
    axis = np.stack([start + lean * down + 9 * wave(rng, 50, 6), down], 1)
    half = rng.uniform(16, 30) * np.clip(1 + 0.3 * wave(rng, 50, 4), 0.3, None)
    return shapely.transform(Polygon(ribbon(axis, half)).segmentize(3.0), _ripple(rng)).buffer(0)


def _curl(skin: Skin, turn: float) -> Callable[[Array], Array]:
    """Return the map from flat coordinates to a bent and turned section around the origin."""
    kappa = np.radians(skin.bend if abs(skin.bend) > 1e-3 else 1e-3) / skin.length
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))

    def curl(points: Array) -> Array:
        phi, radius = kappa * (points[:, 0] - skin.length / 2), 1 / kappa - points[:, 1]
        bent = np.stack([np.sin(phi) * radius, 1 / kappa - np.cos(phi) * radius], 1)
        return np.asarray(bent @ np.array([[cos, sin], [-sin, cos]]))

    return curl


def place_sections(skin: Skin, rng: np.random.Generator) -> tuple[list[Plan], tuple[int, int]]:
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
