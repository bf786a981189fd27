"""Skin as another author would draw it: waves, flat tints, ellipses. It shares no code with
`histoquant.phantom` nor with what measures it.

The section is a strip of skin in its own coordinates, ``s`` along and ``d`` down, turned by any
angle. Every compartment is one flat optical density with pixel noise; nuclei are plain ellipses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import shapely
import tifffile
from scipy.spatial import cKDTree

HEMATOXYLIN = np.array([0.65, 0.70, 0.29])
DAB = np.array([0.27, 0.57, 0.78])
EOSIN = np.array([0.07, 0.99, 0.11])


@dataclass(frozen=True)
class Skin:
    """What to draw; lengths in um, hematoxylin and DAB in OD."""

    seed: int = 0
    mpp: float = 0.5
    length_um: float = 800.0
    dermis_um: float = 260.0
    angle_deg: float = 0.0
    mirror: bool = False
    margin_um: tuple[float, float] = (80.0, 80.0)
    """Glass above and below, and at the sides; negative: it runs out of the picture there."""
    thickness_um: float = 70.0
    ridge_um: float = 35.0
    """From a papilla's top to a ridge's tip."""
    period_um: float = 100.0
    ridges: str = "sine"
    """sine, blunt (broad ridges, narrow papillae) or ragged (several waves)."""
    surface_um: float = 4.0
    corneum_um: float = 15.0
    corneum: tuple[float, float] = (0.06, 0.03)
    """Hematoxylin and DAB."""
    epidermis: tuple[float, float] = (0.12, 0.02)
    dermis: tuple[float, float] = (0.05, 0.02)
    texture: float = 0.0
    """Relative spread of a cloudy texture of the dermis."""
    nucleus: float = 0.45
    cell_um: float = 10.0
    """Distance between nuclei in the epidermis."""
    basal_um: float | None = 6.5
    """Distance between nuclei of a basal row; None: there is none."""
    dermal_per_mm2: float = 700.0
    infiltrate_per_mm2: float = 0.0
    """Round nuclei within 40 um under the junction."""
    melanin: float = 0.0
    """Share of the basal row that is capped by brown."""
    line: float = 0.0
    """Peak DAB of collagen VII."""
    keratin_dab: float = 0.0
    """DAB in the whole epidermis."""
    nuclear_dab: float = 0.0
    """Share of epidermal nuclei that are brown."""
    holes: tuple[tuple[float, float], ...] = ()
    """Stretches of s without epidermis."""
    glands: int = 0
    follicle: bool = False
    stained: float = 1.0
    eosin: bool = False
    """Eosin in place of DAB, in all compartments."""
    white: tuple[float, float, float] = (243.0, 241.0, 244.0)
    blur_um: float = 0.45
    noise: float = 1.5
    jpeg: int = 85
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sketch:
    """The picture (h, w, 3) uint8 and what is true of it; lines (n, 2) (y, x) in um."""

    picture: np.ndarray
    junction: list[np.ndarray]
    surface: list[np.ndarray]
    thickness_um: float
    appendages: np.ndarray
    """bool (h, w): follicles and glands."""

    @property
    def length_um(self) -> float:
        return sum(_length(line) for line in self.junction)

    @property
    def surface_um(self) -> float:
        return sum(_length(line) for line in self.surface)


def sketch(skin: Skin) -> Sketch:
    """Draw a strip of skin."""
    rng = np.random.default_rng([skin.seed, 77])
    half = skin.length_um / 2
    s = np.arange(-half, half + 0.5, 0.5)
    top = skin.surface_um * np.sin(2 * np.pi * s / 310 + rng.uniform(0, 6))
    bottom = top + skin.thickness_um + skin.ridge_um * _waves(s, skin, rng)
    deep = skin.thickness_um + skin.ridge_um + skin.dermis_um
    kept = np.ones(len(s), bool)
    for low, high in skin.holes:
        kept &= (s < low) | (s > high)
    place = _Placed(skin, half, deep)
    maps = _Canvas(place.shape, skin.mpp)
    upper = np.where(kept, top, bottom)
    maps.fill(place, s, upper - np.where(kept, skin.corneum_um, 0), np.full_like(s, deep), "tissue")
    maps.fill(place, s, upper, np.full_like(s, deep), "below corneum")
    maps.fill(place, s, bottom, np.full_like(s, deep), "dermis")
    tissue, alive, dermis = (maps.mask[k] for k in ("tissue", "below corneum", "dermis"))
    epidermis = alive & ~dermis
    appendages = _appendages(skin, place, s, bottom, deep, rng, maps)
    od = _tints(skin, tissue, epidermis, dermis, appendages, rng)
    lines = [place.at(s[run], bottom[run]) for run in _runs(kept)]
    tree = cKDTree(np.concatenate([np.full((1, 2), -1e6), *(_even(line, 0.5) for line in lines)]))
    _nuclei(skin, place, s, top, bottom, deep, epidermis & ~appendages, dermis & ~appendages,
            appendages, tree, od, rng)  # fmt: skip
    if skin.line:
        near = np.argwhere(cv2.dilate(epidermis.astype(np.uint8), np.ones((41, 41))) > 0)
        away = tree.query((near + 0.5) * skin.mpp, distance_upper_bound=8)[0]
        od[1][near[:, 0], near[:, 1]] += skin.line * np.exp2(-4 * (away / 2.4) ** 2)
    picture = _scan(skin, od, rng)
    inside = [_clip(line, place.shape, skin.mpp) for line in lines]
    surface = [_clip(place.at(s[run], top[run]), place.shape, skin.mpp) for run in _runs(kept)]
    area = float((epidermis & ~appendages).sum()) * skin.mpp**2
    long = sum(_length(line) for line in surface)
    return Sketch(picture, inside, surface, area / max(long, 1.0), appendages)


def write(path: Path, skin: Skin) -> Sketch:
    """Draw a strip of skin into a tiled JPEG TIFF that states its scale."""
    drawn = sketch(skin)
    per_cm = 1e4 / skin.mpp
    tifffile.imwrite(path, drawn.picture, tile=(256, 256), photometric="rgb", compression="jpeg",
                     compressionargs={"level": skin.jpeg}, resolution=(per_cm, per_cm),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return drawn


def _waves(s: np.ndarray, skin: Skin, rng: np.random.Generator) -> np.ndarray:
    phase = 2 * np.pi * s / skin.period_um + rng.uniform(0, 6)
    if skin.ridges == "blunt":
        return (1 + np.tanh(2.2 * np.sin(phase)) / np.tanh(2.2)) / 2
    if skin.ridges == "ragged":
        other = np.sin(phase / 2.6 + 1) * 0.3 + np.sin(phase * 2.3) * 0.12
        return (1 + np.sin(phase + 0.8 * np.sin(phase / 3.1))) / 2 * (0.75 + other)
    return (1 + np.sin(phase)) / 2


class _Placed:
    """The strip on its picture."""

    def __init__(self, skin: Skin, half: float, deep: float) -> None:
        self.turn, self.mirror = np.deg2rad(skin.angle_deg), skin.mirror
        self.offset, self.mpp = np.zeros(2), skin.mpp
        corners = self.at(np.array([-half, half, half, -half]),
                          np.array([-40.0, -40.0, deep, deep]))  # fmt: skip
        low, high = corners.min(axis=0), corners.max(axis=0)
        margin = np.array(skin.margin_um)
        self.offset = margin - low
        self.shape = tuple(int(n) for n in np.ceil((high - low + 2 * margin) / skin.mpp))

    def at(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Points (n, 2) (y, x) in um."""
        along = -s if self.mirror else s
        y = np.cos(self.turn) * d + np.sin(self.turn) * along
        x = np.cos(self.turn) * along - np.sin(self.turn) * d
        return np.column_stack([y, x]) + self.offset


class _Canvas:
    """Filled outlines by name."""

    def __init__(self, shape: tuple[int, int], mpp: float) -> None:
        self.shape, self.mpp = shape, mpp
        self.mask: dict[str, np.ndarray] = {}

    def fill(self, place: _Placed, s, upper, lower, name: str) -> None:
        ring = np.concatenate([place.at(s, upper), place.at(s[::-1], lower[::-1])])
        self.mask[name] = self.ring(ring)

    def ring(self, ring: np.ndarray) -> np.ndarray:
        drawn = np.zeros(self.shape, np.uint8)
        points = np.rint((ring[:, ::-1] / self.mpp - 0.5) * 256).astype(np.int32)
        cv2.fillPoly(drawn, [points], 1, shift=8)
        return drawn > 0


def _appendages(skin, place, s, bottom, deep, rng, maps) -> np.ndarray:
    """Follicles and glands: epithelium in the dermis."""
    found = np.zeros(maps.shape, bool)
    for _ in range(skin.glands):
        at = rng.uniform(-0.4, 0.4) * skin.length_um
        down = np.interp(at, s, bottom) + rng.uniform(110, 180)
        turn = np.linspace(0, 2 * np.pi, 60)
        for radius in (24.0, 9.0):
            ring = maps.ring(place.at(at + radius * np.cos(turn), down + radius * np.sin(turn)))
            found = found | ring if radius > 10 else found & ~ring
    if skin.follicle:
        at, end = 0.21 * skin.length_um, min(deep - 20, 240.0)
        down = np.linspace(skin.thickness_um * 0.6, end, 40)
        wide = 34 + 8 * np.sin(down / 40)
        along = at + 0.25 * down
        ring = np.concatenate(
            [place.at(along - wide, down), place.at((along + wide)[::-1], down[::-1])]
        )
        below = maps.mask["dermis"]
        found |= maps.ring(ring) & below
    return found


def _tints(skin, tissue, epidermis, dermis, appendages, rng) -> list[np.ndarray]:
    """Optical density of hematoxylin and of the second stain at every pixel."""
    corneum = tissue & ~epidermis & ~dermis
    layers = [np.zeros(tissue.shape), np.zeros(tissue.shape)]
    cloud = cv2.GaussianBlur(rng.normal(size=tissue.shape), (0, 0), 5 / skin.mpp)
    cloud = np.clip(1 + skin.texture * cloud / cloud.std(), 0.1, 3)
    for k in (0, 1):
        layers[k][corneum] = skin.corneum[k]
        layers[k][dermis] = skin.dermis[k] * cloud[dermis]
        layers[k][epidermis | appendages] = skin.epidermis[k]
    layers[1][epidermis | appendages] += skin.keratin_dab
    layers[0] *= skin.stained
    return layers


def _nuclei(skin, place, s, top, bottom, deep, epidermis, dermis, appendages, tree, od, rng):
    half, cell = skin.length_um / 2, skin.cell_um
    down, along = np.mgrid[-10:deep:cell, -half:half:cell]
    jitter = rng.uniform(-0.3, 0.3, (2, *down.shape)) * cell
    s_at, d_at = (along + jitter[0]).ravel(), (down + jitter[1]).ravel()
    points = place.at(s_at, d_at)
    away = tree.query(points)[0]
    rows, columns = (np.floor(points / skin.mpp).astype(int)).T
    ok = (rows >= 0) & (columns >= 0) & (rows < od[0].shape[0]) & (columns < od[0].shape[1])
    inner = np.zeros(len(points), bool)
    inner[ok] = epidermis[rows[ok], columns[ok]] | appendages[rows[ok], columns[ok]]
    least = 9.0 if skin.basal_um else 4.0
    gland = np.zeros(len(points), bool)
    gland[ok] = appendages[rows[ok], columns[ok]]
    high = np.interp(s_at, s, top) + 4 < d_at
    for y, x in points[inner & (gland | ((away > least) & high))]:
        _ellipse(skin, od, y, x, rng.uniform(3.2, 4.2), rng.uniform(2.6, 3.4), rng.uniform(0, 180),
                 rng, rng.uniform() < skin.nuclear_dab)  # fmt: skip
    if skin.basal_um:
        _basal(skin, place, s, bottom, epidermis, od, rng)
    area = (2 * half) * (deep - skin.thickness_um) * 1e-6
    for kind, density in (("spindle", skin.dermal_per_mm2), ("round", skin.infiltrate_per_mm2)):
        count = int(density * area * 3)
        s_at = rng.uniform(-half, half, count)
        d_at = rng.uniform(skin.thickness_um, deep, count)
        points = place.at(s_at, d_at)
        away = tree.query(points)[0]
        keep = (rng.uniform(size=count) < 1 / 3) & (away > 4.5)
        if kind == "round":
            keep = (away > 4.5) & (away < 40)
        rows, columns = (np.floor(points / skin.mpp).astype(int)).T
        ok = (rows >= 0) & (columns >= 0) & (rows < od[0].shape[0]) & (columns < od[0].shape[1])
        keep &= ok
        keep[keep] = dermis[rows[keep], columns[keep]]
        long, short = ((4, 7), (1.0, 1.9)) if kind == "spindle" else ((2.6, 3.3), (2.5, 3.2))
        for y, x in points[keep]:
            _ellipse(skin, od, y, x, rng.uniform(*long), rng.uniform(*short),
                     skin.angle_deg + rng.normal(0, 25), rng, False)  # fmt: skip


def _basal(skin, place, s, bottom, epidermis, od, rng) -> None:
    line = _even(place.at(s, bottom), skin.basal_um or 1.0)
    tangent = np.gradient(line, axis=0)
    tangent /= np.hypot(*tangent.T)[:, None]
    up = np.column_stack([-tangent[:, 1], tangent[:, 0]]) * (-1 if place.mirror else 1)
    for centre, normal in zip(line, up, strict=True):
        y, x = centre + normal * rng.uniform(4.6, 6.2) + rng.normal(0, 0.5, 2)
        row, column = int(y / skin.mpp), int(x / skin.mpp)
        if not (0 <= row < od[0].shape[0] and 0 <= column < od[0].shape[1]):
            continue
        if epidermis[row, column]:
            angle = np.rad2deg(np.arctan2(normal[0], normal[1]))
            _ellipse(skin, od, y, x, rng.uniform(3.4, 4.4), rng.uniform(2.0, 2.7), angle, rng,
                     rng.uniform() < skin.nuclear_dab)  # fmt: skip
            if rng.uniform() < skin.melanin:
                _blot(od[1], y + 2 * normal[0], x + 2 * normal[1], 4, 3, angle, skin.mpp, 0.5)


def _ellipse(skin, od, y, x, long, short, angle, rng, brown) -> None:
    level = skin.nucleus * skin.stained * rng.uniform(0.7, 1.25)
    _blot(od[0], y, x, long, short, angle, skin.mpp, level)
    if brown:
        _blot(od[1], y, x, long, short, angle, skin.mpp, rng.uniform(0.35, 0.9))


def _blot(layer, y, x, long, short, angle, mpp, level) -> None:
    """An ellipse with soft edges, no paler than what is there."""
    reach = int(np.ceil((long + 1) / mpp))
    row, column = int(y / mpp), int(x / mpp)
    top, left = max(row - reach, 0), max(column - reach, 0)
    window = layer[top : row + reach + 1, left : column + reach + 1]
    if not window.size:
        return
    dy = (np.arange(window.shape[0])[:, None] + top + 0.5) * mpp - y
    dx = (np.arange(window.shape[1])[None] + left + 0.5) * mpp - x
    turn = np.deg2rad(angle)
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    cover = np.clip((1 - np.hypot(u / long, v / short)) * short / 0.5 + 0.5, 0, 1)
    np.maximum(window, cover * level, out=window)


def _scan(skin: Skin, od: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    second = EOSIN if skin.eosin else DAB
    first, second = (v / np.linalg.norm(v) for v in (HEMATOXYLIN, second))
    density = od[0][..., None] * first + od[1][..., None] * second
    light = cv2.GaussianBlur(10.0**-density, (0, 0), max(skin.blur_um / skin.mpp, 0.3))
    counts = light * skin.white + rng.normal(0, skin.noise, light.shape)
    return np.clip(np.rint(counts), 0, 255).astype(np.uint8)


def _runs(kept: np.ndarray) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(int)))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _clip(line: np.ndarray, shape: tuple[int, int], mpp: float) -> np.ndarray:
    inside = ((line >= 0) & (line <= np.array(shape) * mpp)).all(axis=1)
    return line[inside]


def _even(line: np.ndarray, step: float) -> np.ndarray:
    path = shapely.LineString(line)
    at = np.arange(0, path.length, step)
    return shapely.get_coordinates(shapely.line_interpolate_point(path, at))


def _length(line: np.ndarray) -> float:
    return float(shapely.LineString(line).length)
