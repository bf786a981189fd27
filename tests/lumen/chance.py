"""What is drawn by lot: whether, how much, and smooth unevenness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from lumen.skin import Array, Plane, Preset, Range


@dataclass(frozen=True)
class Lots:
    """Random numbers of one slide, what its preset asks for, and what has come of them."""

    rng: np.random.Generator
    preset: Preset
    features: set[str] = field(default_factory=set)

    def happens(self, chance: float) -> bool:
        """Whether something of this chance happens."""
        return bool(self.rng.random() < chance)

    def within(self, ends: Range) -> float:
        """Return a number of a range."""
        return self.rng.uniform(*ends)


def wave(rng: np.random.Generator, count: int, scale: float) -> Array:
    """Smooth noise (count,) of unit variance; `scale` in samples."""
    margin = int(4 * scale)
    rough = rng.standard_normal(count + int(8 * scale))
    soft = gaussian_filter1d(rough, scale)[margin : margin + count]
    return np.asarray(soft / (soft.std() + 1e-9))


def waves(
    rng: np.random.Generator, count: int, scales: Sequence[float], heights: Sequence[float]
) -> Array:
    """Sum of waves, one of each height."""
    both = zip(scales, heights, strict=True)
    return np.asarray(sum(height * wave(rng, count, scale) for scale, height in both))


def texture(
    rng: np.random.Generator, shape: tuple[int, int], wide_px: float, high_px: float | None = None
) -> Plane:
    """Smooth noise of unit variance, correlated over `wide_px` in x and `high_px` (or so) in y."""
    height, width = shape
    high_px = wide_px if high_px is None else high_px
    knots = max(4, int(height / high_px) + 3), max(4, int(width / wide_px) + 3)
    coarse = rng.standard_normal(knots).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine / (fine.std() + 1e-6))


@dataclass(frozen=True)
class Oval:
    """Half axes in um, how far the first is turned from x, and how uneven the outline is."""

    long_um: float
    short_um: float
    angle: float
    uneven: float


def blob(rng: np.random.Generator, x_um: float, y_um: float, oval: Oval) -> BaseGeometry:
    """Area of an uneven oval around x, y."""
    at = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    radius = 1 + sum(
        oval.uneven / (k**0.7) * rng.standard_normal() * np.cos(k * at + rng.uniform(0, 7))
        for k in range(2, 7)
    )
    x, y = oval.long_um * radius * np.cos(at), oval.short_um * radius * np.sin(at)
    cos, sin = np.cos(oval.angle), np.sin(oval.angle)
    return Polygon(np.c_[x_um + x * cos - y * sin, y_um + x * sin + y * cos]).buffer(0)
