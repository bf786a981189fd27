"""How a section lies in the picture, and how far each pixel is from its layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quilt.chance import Wave, blotches, happens
from quilt.raster import Curve, tabled
from quilt.skin import Array, Plane, Preset, Range

GLASS_UM = 60.0  # around all that can be tissue
BESIDE_UM, ABOVE_UM, BELOW_UM = 30.0, 70.0, 50.0  # how far ends, corneum and deep cut can reach
THINNEST_UM, THINNEST_CORNEUM_UM = 30.0, 6.0
FURROW_FADES_UM = 70.0  # depth over which a furrow fades
WARPS_UM = ((5.0, 80.0), (2.0, 22.0))  # natural unevenness: (amplitude, grain)
WARPED_ALONG, WARPED_DOWN = 0.6, 0.5  # shares of an amplitude
ROUGHNESS = ((0.8, 45.0), (0.45, 14.0), (0.2, 5.0))  # of cut edges: (share, grain in um)


@dataclass(frozen=True)
class Profile:
    """Layers over the way along the skin, all in um.

    `relief` and `furrows` lower the surface; `epidermis` and `corneum` are thicknesses.
    `corneum_um` is the mean of the latter; no ridge reaches down to `deepest_um`.
    """

    relief: Curve
    furrows: Curve
    epidermis: Curve
    corneum: Curve
    corneum_um: float
    deepest_um: float


@dataclass(frozen=True)
class Frame:
    """The picture: `turn` leads from the skin's coordinates to its own."""

    mpp: float
    turn: Array
    corner_um: Array  # of the picture, in the turned coordinates
    shape: tuple[int, int]

    @property
    def centres_um(self) -> tuple[Plane, Plane]:
        """Centres x, y of all pixels."""
        y, x = np.mgrid[0 : self.shape[0], 0 : self.shape[1]].astype(np.float32)
        return (x + 0.5) * self.mpp, (y + 0.5) * self.mpp


@dataclass(frozen=True)
class Section:
    """A section, pixel by pixel.

    `along_um` and `down_um` are the skin's coordinates, bent as the skin is; `epidermis_um` and
    `corneum_um` the thicknesses there. `ends_um` and `tissue_um` are distances into the tissue:
    from its cut ends, and from those and the deep cut.
    """

    frame: Frame
    profile: Profile
    length_um: float
    depth_um: float
    lean: float  # of follicles: um along per um down
    along_um: Plane
    down_um: Plane
    epidermis_um: Plane
    corneum_um: Plane
    ends_um: Plane
    tissue_um: Plane

    @property
    def shape(self) -> tuple[int, int]:
        return self.frame.shape

    @property
    def below_um(self) -> Plane:
        """Distance down from the lower bound of the epidermis, rough."""
        return self.down_um - self.epidermis_um


@dataclass(frozen=True)
class _Cuts:
    """How the section is cut: roughness in um, slants of the ends in um along per um down."""

    deep_um: float
    ends_um: float
    slants: Array


def _angle_deg(preset: Preset, rng: np.random.Generator) -> float:
    if preset.quarter_turns:
        return float(rng.choice([0, 90, 180, 270]) + rng.uniform(-20, 20))
    return rng.uniform(0, 360)


def _furrows(length_um: float, rng: np.random.Generator) -> Curve:
    """One to five furrows anywhere, each (at, wide, deep) in um."""
    furrows = [
        (rng.uniform(0, length_um), rng.uniform(8, 25), rng.uniform(4, 16))
        for _ in range(rng.integers(1, 6))
    ]

    def curve(u: Array) -> Array:
        bumps = (deep * np.exp(-0.5 * ((u - at) / wide) ** 2) for at, wide, deep in furrows)
        return np.asarray(sum(bumps))

    return curve


def _ridges(length_um: float, high_um: float, pitch_um: float, rng: np.random.Generator) -> Curve:
    """Rete ridges; they begin before the section does, and end after it."""
    ridges, at = [], -100.0
    while at < length_um + 100:
        at += pitch_um * rng.uniform(0.6, 1.4)
        wide_um = rng.uniform(14, 30)
        ridges.append((at, wide_um, high_um * rng.uniform(0.35, 1.25)))
        rng.random()  # spare, one per ridge: the slides of known seeds are to stay what they are

    def curve(u: Array) -> Array:
        # The power is above 2: ridges are blunter than a Gaussian.
        bumps = (deep * np.exp(-(np.abs((u - at) / wide) ** 2.4)) for at, wide, deep in ridges)
        return np.asarray(sum(bumps))

    return curve


def _profile(preset: Preset, length_um: float, rng: np.random.Generator) -> Profile:
    swing = Wave(rng, shortest_um=350)
    furrows, relief_um = _furrows(length_um, rng), rng.uniform(6, 22)
    thick_um, ridge_um = rng.uniform(50, 85), rng.uniform(*preset.ridge_um)
    pitch_um = rng.uniform(80, 190)
    ridges = _ridges(length_um, ridge_um, pitch_um, rng)
    slow, rough = Wave(rng, shortest_um=260), Wave(rng, shortest_um=22, span=4)
    flaking, corneum_um = Wave(rng, shortest_um=120), rng.uniform(14, 34)

    def epidermis(u: Array) -> Array:
        thickness = thick_um * (1 + 0.08 * slow(u)) + 1.3 * rough(u) + ridges(u)
        return np.maximum(thickness, THINNEST_UM)

    return Profile(
        relief=lambda u: relief_um * swing(u),
        furrows=furrows,
        epidermis=epidermis,
        corneum=lambda u: np.maximum(corneum_um * (1 + 0.25 * flaking(u)), THINNEST_CORNEUM_UM),
        corneum_um=corneum_um,
        deepest_um=thick_um + 1.3 * ridge_um + 30,
    )


def _cuts(preset: Preset, rng: np.random.Generator) -> _Cuts:
    """Cut the section, or tear its ends."""
    torn = happens(rng, preset.torn_chance)
    deep_um = rng.uniform(5, 9)
    ends_um = rng.uniform(8, 14) if torn else rng.uniform(2, 4)
    return _Cuts(deep_um, ends_um, rng.uniform(-0.12, 0.12, 2))


def _frame(angle_deg: float, along_um: Range, down_um: Range, mpp: float) -> Frame:
    """Return the picture that holds this much of the skin's coordinates."""
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corners = np.array([(u, v) for u in along_um for v in down_um]) @ turn.T
    low, high = corners.min(axis=0) - GLASS_UM, corners.max(axis=0) + GLASS_UM
    width, height = np.ceil((high - low) / mpp).astype(int)
    return Frame(mpp, turn, low, (int(height), int(width)))


def _warped(frame: Frame, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Coordinates along the skin and down, bent a little everywhere: borders even overhang."""
    x, y = frame.centres_um
    x, y = x + frame.corner_um[0], y + frame.corner_um[1]
    turn = frame.turn
    along = turn[0, 0] * x + turn[1, 0] * y
    down = turn[0, 1] * x + turn[1, 1] * y
    for amplitude_um, grain_um in WARPS_UM:
        grain_px = grain_um / frame.mpp
        along = along + amplitude_um * blotches(rng, frame.shape, grain_px) * WARPED_ALONG
        down = down + amplitude_um * blotches(rng, frame.shape, grain_px) * WARPED_DOWN
    return along, down


def _lowered(profile: Profile, along: Plane, down: Plane) -> Plane:
    """Depth below the uneven surface."""
    down = down - tabled(profile.relief, along)
    fade = np.exp(-np.clip(down, 0, None) / FURROW_FADES_UM)
    return np.asarray(down - tabled(profile.furrows, along) * fade)


def _roughness(frame: Frame, rng: np.random.Generator) -> Plane:
    """Roughness of a cut edge, about 1 in size."""
    coarse, middle, fine = (
        share * blotches(rng, frame.shape, grain_um / frame.mpp) for share, grain_um in ROUGHNESS
    )
    return coarse + middle + fine


def lay_out(preset: Preset, mpp: float, rng: np.random.Generator) -> Section:
    """Draw a section flat and place it in a picture that it fits in."""
    length_um, depth_um = rng.uniform(850, 1250), rng.uniform(*preset.depth_um)
    angle_deg = _angle_deg(preset, rng)
    profile = _profile(preset, length_um, rng)
    cuts = _cuts(preset, rng)
    reach_um = (-BESIDE_UM, length_um + BESIDE_UM), (-ABOVE_UM, depth_um + BELOW_UM)
    frame = _frame(angle_deg, *reach_um, mpp)
    along, down = _warped(frame, rng)
    down = _lowered(profile, along, down)
    lean = rng.uniform(-0.5, 0.5)
    left, right = along - cuts.slants[0] * down, length_um + cuts.slants[1] * down - along
    ends = np.minimum(left, right).astype(np.float32) + cuts.ends_um * _roughness(frame, rng)
    return Section(
        frame=frame,
        profile=profile,
        length_um=length_um,
        depth_um=depth_um,
        lean=lean,
        along_um=along,
        down_um=down,
        epidermis_um=tabled(profile.epidermis, along),
        corneum_um=tabled(profile.corneum, along),
        ends_um=ends,
        tissue_um=np.minimum(ends, depth_um - down + cuts.deep_um * _roughness(frame, rng)),
    )
