"""Everything of one scene that a plain section lacks, drawn from its `Incidents`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoquant.phantom.appendages import Appendage, draw_appendages, within
from histoquant.phantom.damage import Damage, draw_damage
from histoquant.phantom.geometry import Section
from histoquant.phantom.incidents import Incidents
from histoquant.phantom.noise import Array, Mask, smooth_curve, stream
from histoquant.phantom.nucleus import Crowd, Nucleus
from histoquant.phantom.tissue import JunctionDistance

_EPIDERMAL = ("basal", "suprabasal")


@dataclass(frozen=True)
class Extras:
    """Appendages, damage, pigment and crumbs of one section."""

    appendages: tuple[Appendage, ...]
    damage: Damage
    pigment: Array
    """(n, 4): y, x, radius (slide um) and OD of melanophages."""
    basal_pigment: tuple[float, Array, Array]
    """OD at most, and a patchy curve (s, share of it)."""
    corneum_dab: float
    crumbs: Array
    """(n, 5): y, x, radius (slide um), hematoxylin and DAB OD of crumbs on the glass."""

    def lost(self, section: Section, s: Array, d: Array) -> Mask:
        """Where there is glass instead of tissue."""
        dej = section.junction(s)
        bare = self.damage.is_missing(s) & (d < dej + 1.2 * np.sin(s / 7))
        cleft = (d >= dej) & (d < dej + self.damage.cleft(s))
        lost: Mask = bare | cleft | self.damage.torn(s, d, section.lower(s))
        return lost

    def pigment_at(self, s: Array, above: Array) -> Array:
        """Melanin OD of the basal layer at s, ``above`` um over the junction."""
        most, at, share = self.basal_pigment
        layer = np.exp(-(((above - 6.0) / 4.0) ** 2))
        od: Array = most * np.interp(s, at, share) * layer
        return od

    def is_surface(self, section: Section, points: Array) -> Mask:
        """Which slide points (n, 2) on the junction's course are junction of surface epidermis."""
        s, d = section.frame.to_tissue(points[:, 0], points[:, 1])
        outside, _, _ = within(self.appendages, s, d)
        kept: Mask = ~self.damage.is_missing(s) & (outside > 0)
        return kept

    def hidden(self, section: Section, points: Array) -> Array:
        """Why the junction at slide points (n, 2) cannot be measured; empty where it can."""
        s, d = section.frame.to_tissue(points[:, 0], points[:, 1])
        words = np.full(len(points), "", object)
        words[self.damage.folded(s, d)] = "fold"
        words[self.damage.cleft(s) > 2] = "detached"
        return words


def draw_extras(
    section: Section, incidents: Incidents, seed: int, size_um: tuple[float, float]
) -> Extras:
    """Draw what a plain section lacks."""
    rng = stream(seed, "extras")
    half = section.half_length_um
    at = np.arange(-half - 60, half + 60, 2.0)
    patches = smooth_curve(rng, at[0], at[-1], (60, 300))(at)
    return Extras(
        appendages=draw_appendages(section, incidents, seed),
        damage=draw_damage(section, incidents, seed),
        pigment=_melanophages(section, incidents, rng),
        basal_pigment=(
            float(rng.uniform(*incidents.basal_pigment_od)),
            at,
            1 / (1 + np.exp(-2.5 * patches)),
        ),
        corneum_dab=float(rng.uniform(*incidents.corneum_dab_od)),
        crumbs=_crumbs(section, incidents, rng, size_um),
    )


def _melanophages(section: Section, incidents: Incidents, rng: np.random.Generator) -> Array:
    half = section.half_length_um
    count = rng.poisson(incidents.melanophages_per_mm * 2 * half / 1e3)
    s = rng.uniform(-half + 30, half - 30, count)
    d = section.junction(s) + 10 + rng.exponential(22, count)
    y, x = section.frame.to_slide(s, d)
    return np.column_stack([y, x, rng.uniform(2.5, 5.5, count), rng.uniform(0.3, 0.8, count)])


def _crumbs(
    section: Section, incidents: Incidents, rng: np.random.Generator, size_um: tuple[float, float]
) -> Array:
    count = rng.poisson(incidents.crumbs_per_mm2 * size_um[0] * size_um[1] * 1e-6)
    places = rng.uniform(0, 1, (count, 2)) * size_um
    s, d = section.frame.to_tissue(places[:, 0], places[:, 1])
    half, clear = section.half_length_um + 70, 70.0
    apart = (np.abs(s) > half) | (d < section.outer(s) - clear) | (d > section.lower(s) + clear)
    radius, blue, brown = rng.uniform((5, 0.02, 0.0), (26, 0.3, 0.3), (count, 3)).T
    return np.column_stack([places, radius, blue, brown])[apart]


def populate(
    placed: list[Nucleus],
    section: Section,
    junction: JunctionDistance,
    extras: Extras,
    incidents: Incidents,
    seed: int,
) -> list[Nucleus]:
    """The nuclei of the plain section without those in the way, with those of the extras."""
    crowd = Crowd()
    for nucleus, stays in zip(placed, _stays(placed, section, extras), strict=True):
        if stays:
            crowd.add(nucleus, -1e3)
    rng = stream(seed, "extra nuclei")
    for appendage in extras.appendages:
        _line_appendage(appendage, section, extras, crowd, rng)
    _infiltrate(section, junction, extras, incidents, crowd, rng)
    return crowd.nuclei


def _stays(placed: list[Nucleus], section: Section, extras: Extras) -> Mask:
    if not placed:
        return np.zeros(0, bool)
    y, x, reach = (np.array([getattr(n, name) for n in placed]) for name in ("y", "x", "reach"))
    s, d = section.frame.to_tissue(y, x)
    outside, canal, _ = within(extras.appendages, s, d)
    epidermal = np.array([n.kind in _EPIDERMAL for n in placed])
    clear = np.where(epidermal, canal > reach, outside > reach + 1.5)
    below = ~epidermal & (d < section.junction(s) + extras.damage.cleft(s) + reach + 1)
    bare = epidermal & extras.damage.is_missing(s)
    lost = extras.damage.torn(s, d, section.lower(s))
    stays: Mask = clear & ~lost & ~bare & ~(below & (extras.damage.cleft(s) > 0))
    return stays


def _line_appendage(
    appendage: Appendage, section: Section, extras: Extras, crowd: Crowd, rng: np.random.Generator
) -> None:
    """An outer row of upright nuclei, and others within, round the canal."""
    for at, down, radius in appendage.discs:
        turns = np.arange(rng.uniform(0, 1), 2 * np.pi, 6.3 / (radius - 4.6))
        s = at + (radius - 4.8) * np.cos(turns)
        d = down + (radius - 4.8) * np.sin(turns)
        own = np.abs(within((appendage,), s, d)[0] + 4.8) < 0.9
        for turn in np.flatnonzero(own):
            _add(section, extras, crowd, rng, s[turn], d[turn], turns[turn], 0.0)
    low = (appendage.discs[:, :2] - appendage.discs[:, 2:]).min(axis=0)
    high = (appendage.discs[:, :2] + appendage.discs[:, 2:]).max(axis=0)
    count = int(np.prod(high - low) / 12)
    s, d = rng.uniform(low[0], high[0], count), rng.uniform(low[1], high[1], count)
    outside, canal, _ = within((appendage,), s, d)
    for i in np.flatnonzero((outside < -9) & (canal > 5)):
        _add(section, extras, crowd, rng, s[i], d[i], rng.uniform(0, np.pi), 1.2)


def _add(section: Section, extras: Extras, crowd: Crowd, rng: np.random.Generator,
         s: float, d: float, turn: float, gap: float) -> None:  # fmt: skip
    """Add an adnexal nucleus where there is dermis around the appendage."""
    at, down = np.array([s]), np.array([d])
    if d < section.junction(at)[0] + 3 or extras.lost(section, at, down)[0]:
        return
    (y, ahead_y), (x, ahead_x) = section.frame.to_slide(
        np.array([s, s + np.cos(turn)]), np.array([d, d + np.sin(turn)])
    )
    angle = float(np.arctan2(ahead_y - y, ahead_x - x))
    long, short = rng.uniform(3.2, 4.3), rng.uniform(2.1, 2.9)
    crowd.add(Nucleus(float(y), float(x), long, short, angle, "adnexal"), gap)


def _infiltrate(
    section: Section,
    junction: JunctionDistance,
    extras: Extras,
    incidents: Incidents,
    crowd: Crowd,
    rng: np.random.Generator,
) -> None:
    """Lymphocytes in a band right under a part of the junction."""
    share = rng.uniform(*incidents.infiltrate_share)
    long = share * junction.length_um
    start = rng.uniform(0, junction.length_um - long)
    band = rng.uniform(22, 45)
    count = rng.poisson(2.0 * incidents.infiltrate_per_mm2 * long * band * 1e-6)
    arc = rng.uniform(start, start + long, count)
    down = 3.0 + rng.uniform(0, 1, count) ** 1.4 * band
    points = np.column_stack([np.interp(arc, junction.arc, junction.points[:, k]) for k in (0, 1)])
    s, d = section.frame.to_tissue(points[:, 0], points[:, 1])
    y, x = section.frame.to_slide(s, d + down + extras.damage.cleft(s))
    away = junction.at(np.column_stack([y, x]))[0]
    s, d = section.frame.to_tissue(y, x)
    outside, _, _ = within(extras.appendages, s, d)
    allowed = (outside > 5) & ~extras.lost(section, s, d) & (away > 4.5)
    left, right = section.ends(d)
    allowed &= (s > left + 5) & (s < right - 5) & (d < section.lower(s) - 5)
    for i in np.flatnonzero(allowed):
        long_axis = rng.uniform(2.6, 3.4)
        cell = Nucleus(float(y[i]), float(x[i]), long_axis, long_axis * rng.uniform(0.84, 1),
                       rng.uniform(0, 3), "lymphocyte")  # fmt: skip
        crowd.add(cell, rng.uniform(-0.5, 0.6))
