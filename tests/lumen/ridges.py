"""The bounds of the epidermis along the skin: its surface, its ridges, and where it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely.geometry import LineString

from lumen.chance import Lots, wave, waves
from lumen.lines import STEP_UM, normals
from lumen.skin import Array

BEYOND_UM = 120  # lines run on past the ends of the section
DEEPEST_UM = 122  # of the junction below the surface
APART_UM = 130  # between two cuts
FADING_UM = 45  # over which ridges come up beside a cut
FEATURES = {"opening": "follicle opening", "missing": "missing epidermis"}
# How deep ridges reach, by their kind.
RIDGE_UM = {"shallow": 14, "regular": 34, "irregular": 36, "deep": 54}

Kind = Literal["opening", "missing"]


@dataclass(frozen=True)
class Cut:
    """A stretch of the skin, in um along x, that has no epidermis of its own."""

    start: float
    end: float
    kind: Kind

    @property
    def centre(self) -> float:
        return (self.start + self.end) / 2

    @property
    def width(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class Ridges:
    """Lines every 0.5 um along the skin, from left to right.

    Attributes
    ----------
    along_um
        (n,) where they are sampled.
    surface, junction
        (n, 2) of x, y. The junction leans to and fro where ridges do.
    cuts
        From left to right.
    kind
        One of `RIDGE_UM`.
    """

    along_um: Array
    surface: Array
    junction: Array
    cuts: list[Cut]
    kind: str


def ridges_of(length_um: float, lots: Lots) -> Ridges:
    """Draw the epidermis of a section of this length."""
    rng = lots.rng
    along = np.arange(-BEYOND_UM, length_um + BEYOND_UM, STEP_UM)
    top = _top(along, length_um, lots)
    cuts = _cuts(length_um, lots)
    room = _room_for_ridges(along, cuts)
    base = _thickness(along, lots)
    kind = str(rng.choice(list(RIDGE_UM), p=[0.15, 0.3, 0.35, 0.2]))
    depth, lean = _pegs(along, length_um, kind, lots)
    depth = gaussian_filter1d(depth, rng.uniform(8, 14)) * room
    lean = gaussian_filter1d(lean, 14) * room
    cap = np.maximum(DEEPEST_UM - base, 10)
    depth = cap * np.tanh((depth / cap) ** 1.6) ** (1 / 1.6)
    top = top + 0.06 * gaussian_filter1d(depth, 40)
    fine = waves(rng, len(along), (14, 5), (0.7, 0.25))
    junction = _leaning(np.c_[along, top + base + depth], lean, fine)
    return Ridges(along, np.c_[along, top], junction, cuts, kind)


def _top(along: Array, length_um: float, lots: Lots) -> Array:
    """Height of a bowed and wavy surface."""
    rng = lots.rng
    bow = rng.uniform(-1, 1) * min(160, 0.09 * length_um)
    heights = rng.uniform(5, 22), rng.uniform(2, 8), rng.uniform(0.3, 2.0)
    bowed = bow * ((along - length_um / 2) / (length_um / 2)) ** 2
    return np.asarray(bowed + waves(rng, len(along), (700, 240, 90), heights))


def _cuts(length_um: float, lots: Lots) -> list[Cut]:
    """Choose mouths of follicles, and a stretch without epidermis."""
    rng, preset = lots.rng, lots.preset
    cuts: list[Cut] = []
    if lots.happens(preset.opening_chance):
        for _ in range(1 + lots.happens(0.25)):
            _add_cut(cuts, "opening", rng.uniform(80, 190), length_um, lots)
    if lots.happens(preset.missing_chance):
        _add_cut(cuts, "missing", rng.uniform(90, 260), length_um, lots)
    return sorted(cuts, key=lambda cut: cut.start)


def _add_cut(cuts: list[Cut], kind: Kind, width: float, length_um: float, lots: Lots) -> None:
    """Add a cut clear of all others, if there is room for one."""
    for _ in range(60):
        centre = lots.within((0.12 * length_um + width / 2, 0.88 * length_um - width / 2))
        new = Cut(centre - width / 2, centre + width / 2, kind)
        if all(abs(centre - cut.centre) > cut.width / 2 + width / 2 + APART_UM for cut in cuts):
            cuts.append(new)
            lots.features.add(FEATURES[kind])
            return


def _room_for_ridges(along: Array, cuts: list[Cut]) -> Array:
    """Return 1 away from cuts, down to 0 beside them."""
    room = np.ones(len(along))
    for cut in cuts:
        away = np.maximum(0, np.maximum(cut.start - along, along - cut.end))
        room *= np.clip((away - 12) / FADING_UM, 0, 1) ** 1.2
    return room


def _thickness(along: Array, lots: Lots) -> Array:
    """Thickness of the epidermis between ridges, um."""
    rng = lots.rng
    mean = rng.uniform(36, 66)
    slow, fast = wave(rng, len(along), 300), wave(rng, len(along), 80)
    return np.asarray(np.clip(mean * (1 + 0.16 * slow + 0.06 * fast), 30, 85))


def _pegs(along: Array, length_um: float, kind: str, lots: Lots) -> tuple[Array, Array]:
    """Draw ridges one after another; how deep they reach, and how far they lean, um."""
    mean_um = lots.rng.uniform(38, 62)
    depth, lean = np.zeros(len(along)), np.zeros(len(along))
    start = -BEYOND_UM + lots.rng.uniform(0, 60)
    while start < length_um + BEYOND_UM:
        peg = _peg(along, start, mean_um, kind, lots)
        depth = np.maximum(depth, peg.depth)
        lean = np.where(peg.depth >= depth, peg.lean * peg.depth, lean)
        start += peg.pitch
    return depth, lean


@dataclass(frozen=True)
class Peg:
    """One ridge: how deep it reaches along the skin, its lean, and where the next one starts."""

    depth: Array
    lean: float
    pitch: float


def _peg(along: Array, start: float, mean_um: float, kind: str, lots: Lots) -> Peg:
    """Draw a ridge that starts there."""
    rng, uneven = lots.rng, 0.25 if kind == "regular" else 0.5
    width = np.clip(mean_um * rng.lognormal(0, uneven), 24, 120)
    gap = np.clip(mean_um * 0.55 * rng.lognormal(0, uneven), 14, 120)
    if kind != "regular" and lots.happens(0.1):
        gap += rng.uniform(60, 180)
    deepest = np.clip(RIDGE_UM[kind] * rng.lognormal(0, uneven), 5, min(85, 1.6 * width))
    power, lean = rng.uniform(0.45, 1.15), rng.normal(0, 0.24)
    across = (along - (start + width / 2)) / (width / 2 + gap * 0.24)
    bump = 0.5 * (1 + np.cos(np.pi * np.clip(across, -1, 1)))
    shape = np.where(abs(across) < 1, bump**power, 0)
    if lots.happens(0.18) and width > 60:  # it forks
        shape *= 1 - rng.uniform(0.2, 0.5) * np.exp(-((across / 0.25) ** 2))
    return Peg(deepest * shape, lean, width + gap)


def _leaning(upright: Array, lean: Array, fine: Array) -> Array:
    """Let a junction lean and add fine waves; it leans less if it would cross itself."""
    for share in (1, 0.7, 0.45, 0.25, 0):
        line = upright + np.c_[share * lean, np.zeros(len(lean))]
        line = gaussian_filter1d(line, 6, axis=0, mode="nearest")
        line = line + normals(line, 6) * fine[:, None]
        if LineString(line[::2]).is_simple:
            break
    return np.asarray(line)
