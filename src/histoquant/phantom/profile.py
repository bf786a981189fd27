"""Collagen VII along the junction: a line of known width and strength, with known gaps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from histoquant.phantom.incidents import Incidents
from histoquant.phantom.noise import Array, Mask, between, smooth_curve, stream
from histoquant.phantom.recipe import PhantomRecipe

GAUSS_AREA = float(np.sqrt(np.pi / (4 * np.log(2))))
"""Area of a Gaussian over peak x full width at half maximum (1.0645)."""

_EDGE_UM = 1.0
"""The line fades over about this length at the ends of a gap; half strength is the end."""


@dataclass(frozen=True)
class Profile:
    """The marker line as functions of the arc length, tabulated every 0.25 um."""

    arc: Array
    peak: Array
    fwhm: Array
    gaps: Array
    """(n, 2) start and end of the gaps, um of arc, in order."""
    offset_um: float
    """Depth of the centre of the line below the junction."""

    def at(self, arc_um: Array) -> tuple[Array, Array]:
        """Return peak OD and full width at half maximum (um) at arc lengths."""
        return np.interp(arc_um, self.arc, self.peak), np.interp(arc_um, self.arc, self.fwhm)

    def in_gap(self, arc_um: Array) -> Mask:
        """Tell which arc lengths lie in a gap."""
        inside = np.zeros(np.shape(arc_um), bool)
        for start, end in self.gaps:
            inside |= (arc_um >= start) & (arc_um <= end)
        return inside

    def od(self, distance_um: Array, arc_um: Array) -> Array:
        """Return the DAB OD at signed distances from the junction, before optics."""
        peak, fwhm = self.at(arc_um)
        across = (distance_um - self.offset_um) / fwhm
        line: Array = peak * np.exp2(-4 * across**2)
        return line


def make_profile(recipe: PhantomRecipe, seed: int, length_um: float) -> Profile:
    """Draw the collagen VII line of a junction of the given length."""
    rng = stream(seed, "collagen 7")
    arc = np.arange(0.0, length_um + 0.25, 0.25)
    slow = smooth_curve(rng, 0, length_um, (60, 400))(arc)
    fine = smooth_curve(rng, 0, length_um, (8, 40))(arc)
    level = recipe.col7_variation * (0.75 * slow + 0.6 * fine)
    peak = np.maximum(recipe.col7_peak_od * np.exp(level), recipe.col7_peak_floor_od)
    gaps = _draw_gaps(recipe, rng, length_um)
    for start, end in gaps:
        inside = np.minimum(arc - start, end - arc)
        peak = peak / (1 + np.exp(4 * inside / _EDGE_UM))
    width = smooth_curve(rng, 0, length_um, (40, 300))(arc)
    offset = rng.uniform(*recipe.col7_offset_um)
    return Profile(arc, peak, between(width, recipe.col7_fwhm_um), gaps, float(offset))


def cut_obliquely(profile: Profile, incidents: Incidents, seed: int) -> Profile:
    """The profile with one stretch cut obliquely: wider, and as much paler."""
    rng = stream(seed, "oblique")
    length = float(profile.arc[-1])
    long = rng.uniform(*incidents.oblique_share) * length
    start = rng.uniform(0, length - long)
    inside = np.minimum(profile.arc - start, start + long - profile.arc)
    share = 1 / (1 + np.exp(-inside / 6.0)) if long > 60 else np.zeros_like(inside)
    factor = 1 + (rng.uniform(*incidents.oblique_factor) - 1) * share
    return replace(profile, peak=profile.peak / factor, fwhm=profile.fwhm * factor)


def _draw_gaps(recipe: PhantomRecipe, rng: np.random.Generator, length: float) -> Array:
    shortest, longest = recipe.col7_gap_um
    budget, lengths = recipe.col7_gap_share * length, []
    while budget >= shortest:
        drawn = float(np.clip(rng.lognormal(np.log(30), 0.6), shortest, longest))
        lengths.append(min(drawn, budget))
        budget -= lengths[-1]
    if not lengths:
        return np.zeros((0, 2))
    apart = min(15.0, 0.5 * (length - sum(lengths)) / (len(lengths) + 1))
    free = length - sum(lengths) - apart * (len(lengths) + 1)
    cuts = np.sort(rng.uniform(0, free, len(lengths)))
    sizes = rng.permutation(lengths)
    starts = (
        cuts + apart * np.arange(1, len(sizes) + 1) + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    )
    return np.column_stack([starts, starts + sizes])
