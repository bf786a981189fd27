"""Where a section is damaged: epidermis missing or detached, folds, tears; tissue coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from histoquant.phantom.geometry import Section
from histoquant.phantom.incidents import Incidents, Range
from histoquant.phantom.noise import Array, Mask, stream

_KEEP_UM = 270.0
Span = tuple[float, float]


@dataclass(frozen=True)
class Damage:
    """The damage of one section; spans are (from, to) in um of s."""

    missing: tuple[Span, ...]
    """Without epidermis; the dermis lies bare."""
    detached: tuple[Span, ...]
    cleft_um: float
    """Width of the cleft in the middle of a detached span."""
    folds: Array
    """(n, 3): s at depth 0, ds/dd and half width of folds right through the section."""
    tears: Array
    """(n, 4): s at the lower edge, lean, depth and half width at the lower edge."""

    def is_missing(self, s: Array) -> Mask:
        """Where there is no epidermis."""
        return _in_spans(self.missing, s)

    def cleft(self, s: Array) -> Array:
        """Width of the cleft under the epidermis."""
        width = np.zeros_like(s)
        for low, high in self.detached:
            inside = np.clip((s - low) / (high - low), 0, 1)
            width = np.maximum(width, self.cleft_um * np.sin(np.pi * inside) ** 0.5)
        return width

    def folded(self, s: Array, d: Array) -> Mask:
        """Where tissue lies double."""
        inside = np.zeros(np.shape(s), bool)
        for at, lean, half in self.folds:
            inside |= np.abs(s - at - lean * d - 5 * np.sin(d / 37)) < half
        return inside

    def torn(self, s: Array, d: Array, lower: Array) -> Mask:
        """Where a tear is open."""
        open_tear = np.zeros(np.shape(s), bool)
        for at, lean, deep, half in self.tears:
            height = lower - d
            left = half * (1 - height / deep) + 2.5 * np.sin(d / 9)
            open_tear |= (np.abs(s - at - lean * height) < left) & (height < deep)
        return open_tear


def draw_damage(section: Section, incidents: Incidents, seed: int) -> Damage:
    """Draw the damage of a section."""
    rng = stream(seed, "damage")
    half = section.half_length_um
    missing = _span(rng, half, incidents.missing_share, ())
    detached = _span(rng, half, incidents.detached_share, missing)
    reach = max(half - _KEEP_UM, 0.0)  # in the middle of a section that is short
    folds = [
        (rng.uniform(-reach, reach), rng.uniform(-0.5, 0.5), rng.uniform(7, 22))
        for _ in range(rng.poisson(incidents.folds_per_mm * 2 * half / 1e3))
    ]
    thin = float(np.min(section.lower(np.array([-half, 0.0, half])))) - 130
    tears = [
        (rng.uniform(-reach, reach), rng.uniform(-0.4, 0.4), rng.uniform(0.3, 0.9) * thin,
         rng.uniform(8, 26))
        for _ in range(rng.poisson(incidents.tears_per_mm * 2 * half / 1e3))
    ]  # fmt: skip
    return Damage(
        missing, detached, float(rng.uniform(*incidents.cleft_um)),
        np.array(folds).reshape(-1, 3), np.array(tears).reshape(-1, 4),
    )  # fmt: skip


def _span(
    rng: np.random.Generator, half: float, share: Range, taken: tuple[Span, ...]
) -> tuple[Span, ...]:
    """One stretch of the section, clear of its ends and of what is taken; none below 40 um."""
    long = 2 * half * rng.uniform(*share)
    reach = half - _KEEP_UM
    start = rng.uniform(-reach, max(reach - long, -reach + 1))
    if long < 40 or long > 2 * reach or any(a - 60 < start + long and start < b + 60
                                            for a, b in taken):  # fmt: skip
        return ()
    return ((float(start), float(start + long)),)


def _in_spans(spans: tuple[Span, ...], s: Array) -> Mask:
    inside = np.zeros(np.shape(s), bool)
    for low, high in spans:
        inside |= (s > low) & (s < high)
    return inside
