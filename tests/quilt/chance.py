"""What is drawn by lot: whether, how much, and smooth unevenness."""

from __future__ import annotations

import cv2
import numpy as np

from quilt.skin import Array, Plane, Range


def happens(rng: np.random.Generator, chance: float) -> bool:
    """Whether something of this chance happens; what never happens takes no draw."""
    return chance > 0 and bool(rng.random() < chance)


def within(rng: np.random.Generator, ends: Range) -> float:
    """Return a number of a range; a range of no width takes no draw."""
    low, high = ends
    return low if low == high else rng.uniform(low, high)


class Wave:
    """Smooth random function of a length in um, of unit variance.

    It sums `count` sines whose lengths lie between `shortest_um` and `span` times that.
    """

    def __init__(
        self, rng: np.random.Generator, shortest_um: float, count: int = 10, span: float = 6.0
    ) -> None:
        self._pace = 2 * np.pi / (shortest_um * span ** rng.random(count))
        self._phase = rng.uniform(0, 2 * np.pi, count)
        self._height = rng.normal(size=count)
        self._height /= np.sqrt((self._height**2).sum() / 2)

    def __call__(self, at_um: Array) -> Array:
        # Summed every um and interpolated: there are many more places than that.
        every = np.arange(at_um.min() - 3, at_um.max() + 4, 1.0)
        angle = self._pace[:, None] * every + self._phase[:, None]
        return np.interp(at_um, every, (self._height[:, None] * np.sin(angle)).sum(axis=0))


def blotches(rng: np.random.Generator, shape: tuple[int, ...], grain_px: float) -> Plane:
    """Smooth random picture of unit variance, its grain about `grain_px` wide."""
    # Three more knots than needed, so that the picture can be cut out off their grid.
    knots = [max(4, int(np.ceil(side / grain_px)) + 3) for side in shape]
    coarse = rng.normal(size=knots).astype(np.float32)
    fine = cv2.resize(coarse, None, fx=grain_px, fy=grain_px, interpolation=cv2.INTER_CUBIC)
    height, width = shape
    top = rng.integers(0, max(1, fine.shape[0] - height))
    left = rng.integers(0, max(1, fine.shape[1] - width))
    fine = fine[top : top + height, left : left + width]
    return np.asarray(fine / (fine.std() + 1e-6))


def grain(rng: np.random.Generator, shape: tuple[int, ...], mpp: float) -> Plane:
    """Fine grain, blurred by 0.5 um."""
    speckles = rng.normal(size=shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(speckles, (0, 0), 0.5 / mpp))
