"""Outlines of a section: flat, then bent and turned into the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely import make_valid, unary_union
from shapely.geometry import LineString, MultiPolygon, Polygon

from glow.lines import areas_of, even, lines_of, normals, wave
from glow.skin import Preset
from woven.skin import Array


@dataclass(frozen=True)
class Ring:
    """An epithelium or vessel that a basement membrane surrounds.

    Attributes
    ----------
    outline
        Its border with the dermis: closed, or of a follicle cut lengthwise from skin to skin.
    whole, lumen
        All of it, and the part without nuclei.
    membranes
        What of the outline carries collagen VII.
    strength
        Their collagen VII, as a share of the junction's.
    """

    kind: Literal["follicle", "gland", "vessel"]
    outline: Array
    whole: Polygon
    lumen: Polygon
    membranes: list[Array]
    strength: float


@dataclass(frozen=True)
class Plan:
    """Outlines of one section, in um of the picture, and beyond its edges."""

    junctions: list[Array]
    surface: list[Array]
    viable: MultiPolygon
    tissue: Polygon
    corneum: Polygon
    rings: list[Ring]


@dataclass(frozen=True)
class Frame:
    """How a flat section lies in a picture of `size_um` (x, y)."""

    size_um: Array
    angle: float
    length_um: float
    depth_um: float
    sag_um: float
    swing_um: float
    phase: float

    def place(self, flat: Array) -> Array:
        """Bend and turn points (n, 2) of u, v."""
        u = flat[:, 0]
        bent = flat[:, 1] + self.sag_um * ((2 * u / self.length_um) ** 2 - 0.3)
        bent = bent + self.swing_um * np.sin(u / 70 + self.phase)
        v = bent - self.depth_um / 2
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned = np.stack([cos * u - sin * v, sin * u + cos * v], 1)
        return np.asarray(turned + self.size_um / 2)

    @property
    def reach_um(self) -> float:
        """How far from its middle the section can be seen."""
        return min(self.length_um, _span(self.size_um, self.angle)) / 2


def _span(size_um: Array, angle: float) -> float:
    """Length of the line through the middle of the picture."""
    cos, sin = max(abs(np.cos(angle)), 1e-6), max(abs(np.sin(angle)), 1e-6)
    return float(min(size_um[0] / cos, size_um[1] / sin))


def _frame(preset: Preset, size_um: Array, rng: np.random.Generator) -> Frame:
    angle = rng.uniform(0, 2 * np.pi)
    share = 1.35 if rng.random() < preset.leaving else rng.uniform(0.74, 0.84)
    depth = min(size_um) * rng.uniform(0.52, 0.66)
    return Frame(
        size_um, angle, _span(size_um, angle) * share, depth,
        sag_um=rng.uniform(-0.08, 0.12) * depth, swing_um=rng.uniform(4, 14),
        phase=rng.uniform(0, 6.3),
    )  # fmt: skip


def _mouths(count: int, reach_um: float, rng: np.random.Generator) -> list[float]:
    """Where follicles open, along the skin."""
    at = np.linspace(-0.55, 0.55, count) if count > 1 else rng.uniform(-0.4, 0.4, count)
    return sorted(at * reach_um + rng.uniform(-0.08, 0.08, count) * reach_um)


def _ridges(
    preset: Preset, u: Array, mouths: list[float], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Depth of the junction below the surface, and the sideways lean of its ridges; um."""
    thin = rng.uniform(*preset.thickness_um)
    depth, lean = np.zeros_like(u), np.zeros_like(u)
    at, slant = u[0] + rng.uniform(0, 60), rng.normal(0, 0.12)
    while at < u[-1]:
        pitch = rng.uniform(*preset.ridge_pitch_um)
        high = rng.uniform(*preset.ridge_um) * (rng.random() > 0.12)
        width = pitch * rng.uniform(0.17, 0.27)
        bump = high * np.exp(-(np.abs((u - at) / width) ** rng.uniform(2.0, 3.2)))
        depth, lean = depth + bump, lean + bump * rng.normal(slant, 0.03)
        at += pitch * rng.uniform(0.8, 1.2)
    for mouth in mouths:
        depth *= 1 - np.exp(-(((u - mouth) / 90) ** 2))
    rough = wave(rng, len(u), 6.0) * 0.7 + wave(rng, len(u), 60.0) * thin * 0.06
    return np.maximum(thin + depth + rough, 20.0), lean


def _surface(u: Array, rng: np.random.Generator) -> Array:
    """Top of the viable epidermis (n, 2), flat, with furrows."""
    furrows = sum(
        rng.uniform(4, 20) * np.exp(-(np.abs((u - at) / rng.uniform(9, 22)) ** 1.5))
        for at in rng.uniform(u[0], u[-1], 8)
    )
    return np.stack([u, furrows + 2 * wave(rng, len(u), 25.0)], 1)


def _between(line: Array, u: Array, mouths: list[float], half: Array) -> list[Array]:
    """Parts of `line` (n, 2), at `u` along the skin, `half` and more from the nearest mouths."""
    ends = zip(pairwise([-np.inf, *mouths, np.inf]), pairwise(half), strict=True)
    return [line[(u > left + a) & (u < right - b)] for (left, right), (a, b) in ends]


def _girth(mouth: float, down: Array, rng: np.random.Generator) -> Array:
    """Half widths of a follicle, from its mouth `down` to the bulb, um."""
    stem, bulb = rng.uniform(24, 34), rng.uniform(6, 16)
    half = stem + (mouth - stem) * np.exp(-down / 0.06)
    half = half + bulb * np.exp(-(((down - 0.88) / 0.09) ** 2))
    return np.asarray(half * np.sqrt(1 - np.clip((down - 0.9) / 0.1, 0, 1) ** 2))


def _follicle(
    junctions: tuple[Array, Array],
    surface: tuple[Array, Array],
    frame: Frame,
    rng: np.random.Generator,
) -> Ring:
    """Return the follicle between two flat stretches of epidermis, cut lengthwise."""
    left, right = junctions[0][-1], junctions[1][0]
    skin_left, skin_right = surface[0][-1], surface[1][0]
    down = np.linspace(0, 1, 160)
    length, tilt, sag = rng.uniform(250, 480), rng.uniform(-0.5, 0.5), rng.uniform(-60, 60)
    aside = (length * np.sin(tilt) + sag) * down**2
    axis = (left + right) / 2 + np.stack([aside, length * down * np.cos(tilt)], 1)
    half = _girth(np.hypot(*(right - left)) / 2, down, rng)
    sides = [axis + sign * normals(axis) * half[:, None] for sign in (1, -1)]
    sides.sort(key=lambda side: float(np.hypot(*(side[0] - left))))
    outline = np.concatenate([[left], sides[0][3:], sides[1][3:][::-1], [right]])
    canal = np.concatenate([[(skin_left + skin_right) / 2], axis[:140]])
    wall = normals(canal) * rng.uniform(3, 6)
    return Ring(
        "follicle",
        frame.place(outline),
        Polygon(frame.place(np.concatenate([[skin_left], outline, [skin_right]]))),
        Polygon(frame.place(np.concatenate([canal + wall, (canal - wall)[::-1]]))),
        [],
        rng.uniform(0.5, 0.9),
    )


def _block(surface: Array, frame: Frame, rng: np.random.Generator) -> Array:
    """Outline of all tissue below the flat surface, with uneven cuts."""
    half, deep = frame.length_um / 2, frame.depth_um
    cut = even(np.array([[half, 0], [half, deep], [-half, deep], [-half, 0]]), 3.0)
    cut[:, 1] += np.where(cut[:, 1] > 1, wave(rng, len(cut), 8.0) * 9, 0)
    cut[:, 0] += np.clip((cut[:, 1] - 120) / 60, 0, 1) * wave(rng, len(cut), 10.0) * 8
    return np.concatenate([surface, cut])


def _corneum(surface: Array, rng: np.random.Generator) -> Array:
    """Outline of the corneum, which has come off the flat surface in places."""
    size, up = len(surface), np.array([0, -1])
    thick = np.clip(rng.uniform(8, 22) + 7 * wave(rng, size, 40.0), 0, 60)
    lift = np.clip(wave(rng, size, 70.0) - 0.8, 0, 2) * 9
    low, high = surface + np.outer(lift, up), surface + np.outer(lift + thick, up)
    return np.concatenate([low, high[::-1]])


def _parted(plan: Plan) -> Plan:
    """Fuse follicles with ridges that they meet: no border remains inside either."""
    tubes = unary_union([make_valid(ring.whole) for ring in plan.rings])
    layer = unary_union([make_valid(area) for area in plan.viable.geoms])
    # A border that both share must survive the cut, so each is cut by a little less than all.
    inner_tubes, inner_layer = tubes.buffer(-1e-3), layer.buffer(-1e-3)
    rings = [
        replace(ring, membranes=lines_of([LineString(ring.outline).difference(inner_layer)]))
        for ring in plan.rings
    ]
    return replace(
        plan,
        junctions=lines_of(LineString(line).difference(inner_tubes) for line in plan.junctions),
        viable=areas_of(make_valid(area).difference(tubes) for area in plan.viable.geoms),
        rings=rings,
    )


def lay_out(preset: Preset, size_um: Array, rng: np.random.Generator) -> Plan:
    """Draw the section flat and place it in a picture of `size_um` (x, y)."""
    frame = _frame(preset, size_um, rng)
    mouths = _mouths(preset.follicles, frame.reach_um, rng)
    u = np.arange(-frame.length_um / 2, frame.length_um / 2, 1.0)
    depth, lean = _ridges(preset, u, mouths, rng)
    skin = _surface(u, rng)
    base = np.stack([u + lean, gaussian_filter1d(skin[:, 1], 30.0) + depth], 1)
    half = np.array([0.0, *(rng.uniform(30, 42) for _ in mouths), 0.0])
    junctions = _between(base, u, mouths, half)
    surface = _between(skin, u, mouths, 0.6 * half)
    gaps = zip(pairwise(junctions), pairwise(surface), strict=True)
    rings = [_follicle(*gap, frame, rng) for gap in gaps]
    block = _block(skin, frame, rng)
    bands = [
        np.concatenate([low, high[::-1]]) for low, high in zip(junctions, surface, strict=True)
    ]
    plan = Plan(
        junctions=[frame.place(line) for line in junctions],
        surface=[frame.place(line) for line in surface],
        viable=MultiPolygon([Polygon(frame.place(band)) for band in bands]),
        tissue=Polygon(frame.place(block)),
        corneum=Polygon(frame.place(_corneum(skin, rng))),
        rings=rings,
    )
    return _parted(plan)
