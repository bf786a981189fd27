"""The drawn skin: where its surface, junction and cut edges are, in um.

Tissue coordinates are ``s`` (um along the section) and ``d`` (um down from the skin).
A :class:`Frame` maps slide coordinates (um, y down and x right, the picture's corner at
0, 0) to tissue coordinates: a rotation, a bend and a gentle smooth distortion. The curves
of :class:`Section` are functions in tissue coordinates, so a pixel is classified exactly,
at any resolution and whatever the tile it is rendered in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from histoquant.errors import SettingsError
from histoquant.phantom.noise import Array, Curve, between, smooth_curve, stream
from histoquant.phantom.recipe import PhantomRecipe, Range

_SHORTEST_UM = 120.0
"""A section shorter than this shows no junction worth measuring."""


@dataclass(frozen=True)
class Frame:
    """The place, angle, bend and distortion of a section on its slide."""

    centre_um: tuple[float, float]
    angle_rad: float
    bend_radius_um: float
    waves: Array
    """(n, 5): wave numbers along s and d, phases of the shift in s and in d, amplitude (um)."""

    def _warp(self, s: Array, d: Array) -> tuple[Array, Array]:
        ds, dd = np.zeros_like(s), np.zeros_like(d)
        for ks, kd, phase_s, phase_d, size in self.waves:
            # Single precision is 1e-4 um here and several times faster.
            angle = (ks * s + kd * d).astype(np.float32)
            cos, sin = np.cos(angle), np.sin(angle)
            for shift, phase in ((ds, phase_s), (dd, phase_d)):
                shift += np.float32(size * np.cos(phase)) * cos
                shift -= np.float32(size * np.sin(phase)) * sin
        return ds, dd

    def to_tissue(self, y_um: Array, x_um: Array) -> tuple[Array, Array]:
        """Map slide um to tissue (s, d)."""
        y, x = y_um - self.centre_um[0], x_um - self.centre_um[1]
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        along, down = cos * x + sin * y, cos * y - sin * x
        if radius := self.bend_radius_um:
            sign = np.sign(radius)
            height = (radius - down) * sign
            s, d = abs(radius) * np.arctan2(along, height), radius - sign * np.hypot(along, height)
        else:
            s, d = along, down
        ds, dd = self._warp(s, d)
        return s + ds, d + dd

    def to_slide(self, s_um: Array, d_um: Array) -> tuple[Array, Array]:
        """Map tissue (s, d) to slide um; the inverse of :meth:`to_tissue` within 1e-4 um."""
        s, d = np.asarray(s_um, float), np.asarray(d_um, float)
        s0, d0 = s, d
        for _ in range(24):
            ds, dd = self._warp(s, d)
            s, d = s0 - ds, d0 - dd
        along, down = s, d
        if radius := self.bend_radius_um:
            along = (abs(radius) - np.sign(radius) * d) * np.sin(s / abs(radius))
            down = radius - (radius - d) * np.cos(s / abs(radius))
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        return (
            self.centre_um[0] + cos * down + sin * along,
            self.centre_um[1] + cos * along - sin * down,
        )


@dataclass(frozen=True)
class Section:
    """A piece of skin: a frame and the curves that bound its layers."""

    frame: Frame
    half_length_um: float
    depth_um: float
    top: Curve
    """Upper boundary of the viable epidermis, d at s."""
    corneum: Curve
    """Thickness of the stratum corneum at s."""
    junction: Curve
    """The dermal-epidermal junction, d at s."""
    side: Curve
    """Irregularity of the punch edges, added to s, at d."""
    lower: Curve
    """The lower cut edge, d at s."""

    def ends(self, d_um: Array) -> tuple[Array, Array]:
        """Return s of the left and of the right punch edge at depth d."""
        return self.side(d_um) - self.half_length_um, self.side(d_um + 977.0) + self.half_length_um

    def _along(self, curve: Curve) -> tuple[Array, Array]:
        """Return (s, d) of a curve between the punch edges, s every 0.1 um."""
        reach = self.half_length_um + 40
        s = np.arange(-reach, reach, 0.1)
        d = curve(s)
        left, right = self.ends(d)
        outside_left = np.flatnonzero((s < left) & (s < 0))
        outside_right = np.flatnonzero((s > right) & (s > 0))
        inside = slice(outside_left[-1] + 1, outside_right[0])
        return s[inside], d[inside]

    def boundary(self, curve: Curve, step_um: float) -> Array:
        """Return a curve as slide points (y, x) in um, (n, 2), evenly spaced."""
        points = np.column_stack(self.frame.to_slide(*self._along(curve)))
        return resample(points, step_um)

    @cached_property
    def junction_line(self) -> Array:
        """The junction as slide points (y, x) in um every 0.5 um or just less."""
        return self.boundary(self.junction, 0.5)

    def outer(self, s_um: Array) -> Array:
        """Return d of the outside of the stratum corneum."""
        return self.top(s_um) - self.corneum(s_um)

    def polygon(self, upper: Curve, lower: Curve) -> Array:
        """Return the ring (n, 2) (y, x) in slide um between two curves and the punch edges."""
        s_up, d_up = self._along(upper)
        s_low, d_low = self._along(lower)
        left = np.arange(d_low[0], d_up[0], -1.0)
        right = np.arange(d_up[-1], d_low[-1], 1.0)
        s = np.concatenate([s_up[::10], self.ends(right)[1], s_low[::-10], self.ends(left)[0]])
        d = np.concatenate([d_up[::10], right, d_low[::-10], left])
        return np.column_stack(self.frame.to_slide(s, d))


def resample(points: Array, step_um: float) -> Array:
    """Return points (n, 2) evenly spaced along a polyline, at most ``step_um`` apart."""
    arc = arc_length(points)
    count = int(np.ceil(arc[-1] / step_um)) + 1
    even = np.linspace(0, arc[-1], count)
    return np.column_stack([np.interp(even, arc, points[:, axis]) for axis in (0, 1)])


def arc_length(points: Array) -> Array:
    """Return the arc length (n,) at every point of a polyline (n, 2)."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    return np.concatenate([[0.0], np.cumsum(steps)])


def make_section(
    recipe: PhantomRecipe, seed: int, size_um: tuple[float, float], angle_deg: float
) -> Section:
    """Draw a section that fits on a slide of ``size_um`` (height, width).

    Raises
    ------
    SettingsError
        If the slide is too small for any skin.
    """
    rng = stream(seed, "outline")
    sign = rng.choice([-1.0, 1.0])
    radius = sign * recipe.bend_radius_um * rng.uniform(0.8, 1.6)
    waves = _draw_waves(rng, recipe.warp_um)
    depth, shift = rng.uniform(*recipe.section_depth_um), rng.uniform(-1, 1, 2)
    roughness = rng.uniform(*recipe.cut_roughness_um)
    angle = np.deg2rad(angle_deg)
    frame = Frame((0.0, 0.0), angle, radius, waves)
    length = recipe.section_length_um or _longest(frame, depth, recipe, size_um)
    while length < 1.3 * depth and depth > 190 and not recipe.section_length_um:
        depth *= 0.92
        length = _longest(frame, depth, recipe, size_um)
    corners = _outline(frame, length, depth, recipe)
    slack = np.array(size_um) - np.ptp(corners, axis=0) - 2 * recipe.glass_margin_um
    if length < _SHORTEST_UM or (slack < 0).any():
        raise SettingsError(
            f"a phantom section does not fit on {size_um[1]:.0f} x {size_um[0]:.0f} um: "
            "make the slide larger or the section shorter"
        )
    middle = (corners.max(axis=0) + corners.min(axis=0)) / 2
    centre = np.array(size_um) / 2 - middle + shift * np.minimum(slack / 2, 40)
    frame = Frame((float(centre[0]), float(centre[1])), angle, radius, waves)
    return _with_layers(frame, length / 2, depth, roughness, recipe, seed)


def _longest(
    frame: Frame, depth: float, recipe: PhantomRecipe, size_um: tuple[float, float]
) -> float:
    """Return the length of the longest section that fits, 0 where none does."""
    low, high = 0.0, float(np.hypot(*size_um))
    while high - low > 2:
        length = (low + high) / 2
        extent = np.ptp(_outline(frame, length, depth, recipe), axis=0)
        fits = (extent + 2 * recipe.glass_margin_um <= size_um).all()
        low, high = (length, high) if fits else (low, length)
    return low


def _draw_waves(rng: np.random.Generator, amplitude: float) -> Array:
    count = 6
    number = 2 * np.pi / np.exp(rng.uniform(np.log(130), np.log(520), count))
    direction = rng.uniform(0, 2 * np.pi, count)
    phases = rng.uniform(0, 2 * np.pi, (count, 2))
    sizes = np.full(count, amplitude * np.sqrt(2 / count))
    return np.column_stack([number * np.cos(direction), number * np.sin(direction), phases, sizes])


def _outline(frame: Frame, length: float, depth: float, recipe: PhantomRecipe) -> Array:
    pad = 2.2 * recipe.cut_roughness_um[1]
    s = np.linspace(-length / 2 - pad, length / 2 + pad, 60)
    upper = frame.to_slide(
        s, np.full(60, -recipe.corneum_um[1] - 2.5 * recipe.surface_undulation_um)
    )
    lower = frame.to_slide(s, np.full(60, depth + pad))
    return np.vstack([np.column_stack(upper), np.column_stack(lower)])


def _with_layers(
    frame: Frame, half: float, depth: float, roughness: float, recipe: PhantomRecipe, seed: int
) -> Section:
    rng = stream(seed, "layers")
    reach = half + 60

    def waves(wavelength: Range) -> Curve:
        return smooth_curve(rng, -reach, reach, wavelength)

    surface, plate, corneum, fine = (waves(w) for w in [(90, 500), (120, 600), (60, 500), (13, 30)])
    side, side_fine, lower, lower_fine = (
        waves(w) for w in [(60, 300), (9, 30), (80, 400), (8, 40)]
    )
    furrows = _bumps(rng, reach, (230, 480), recipe.furrow_depth_um, (26, 60))
    ridges = _bumps(
        rng, reach, recipe.ridge_spacing_um, recipe.ridge_height_um, recipe.ridge_width_um
    )
    s = np.arange(-reach, reach, 0.1)
    top = recipe.surface_undulation_um * surface(s) / 1.5 + furrows(s)
    bottom = (
        0.75 * furrows(s)
        + recipe.surface_undulation_um * surface(s) / 1.5
        + between(plate(s), recipe.plate_um)
        + ridges(s)
        + recipe.serration_um * fine(s)
    )
    thickness = between(corneum(s), recipe.corneum_um)

    def table(values: Array) -> Curve:
        return lambda position: np.interp(position, s, values)

    steps = np.arange(-200.0, depth + 1400, 0.5)
    edge = roughness * (0.7 * side(steps) + 0.12 * side_fine(steps))
    cut = depth + roughness * (0.9 * lower(s) + 0.22 * lower_fine(s))
    return Section(
        frame=frame,
        half_length_um=half,
        depth_um=depth,
        top=table(top),
        corneum=table(thickness),
        junction=table(bottom),
        side=lambda position: np.interp(position, steps, edge),
        lower=table(cut),
    )


def _bumps(
    rng: np.random.Generator, reach: float, spacing: Range, height: Range, width: Range
) -> Curve:
    """Return a train of rounded bumps, each with its own place, height, width and bluntness."""
    places = [-reach + rng.uniform(0, spacing[1])]
    while places[-1] < reach:
        places.append(places[-1] + rng.uniform(*spacing))
    count = len(places)
    heights, widths = rng.uniform(*height, count), rng.uniform(*width, count)
    blunt = rng.uniform(1.9, 2.7, count)

    def curve(position: Array) -> Array:
        total = np.zeros_like(position)
        for place, tall, wide, power in zip(places, heights, widths, blunt, strict=True):
            near = np.abs(position - place) < 2.2 * wide
            total[near] += tall * 0.5 ** (np.abs(2 * (position[near] - place) / wide) ** power)
        return total

    return curve
