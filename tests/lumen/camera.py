"""From light to counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lumen.chance import Lots
from lumen.optics import illumination
from lumen.skin import MPP, Array, Light, Plane

WEAK_DAPI = 0.58  # a counterstain below that is worth telling


@dataclass(frozen=True)
class Camera:
    """Bits per pixel, offset in counts, and read noise in photo-electrons."""

    bits: int
    offset: float
    noise: float

    @property
    def full(self) -> int:
        """The highest count."""
        return int(2**self.bits - 1)

    def counts(
        self, light: Plane, gain: float, electrons: float, rng: np.random.Generator
    ) -> NDArray[np.uint16]:
        """Count light, given counts and photo-electrons per unit of it."""
        caught = light * electrons
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        noise = noise * np.sqrt(np.maximum(caught, 0) + self.noise**2)
        # The offset keeps read noise above 0, if it need not be very high for that.
        offset = max(self.offset, min(4 * self.noise * gain / electrons, 0.04 * self.full))
        counts = (caught + noise) / electrons * gain + offset
        return np.asarray(np.clip(counts, 0, self.full).round(), np.uint16)


@dataclass(frozen=True)
class Exposed:
    """Counts (channel, y, x), and what the marker's light was worth.

    `shade` is its illumination, and `gain` the counts per unit of light where that is 1.
    """

    counts: NDArray[np.uint16]
    camera: Camera
    gain: float
    shade: Plane

    def worth(self, light: Array, points_um: Array) -> Array:
        """Counts for light (n,) of the marker at points x, y (n, 2)."""
        columns, rows = (points_um / MPP).astype(int).T
        height, width = self.shade.shape
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
        return np.asarray(light * self.gain * self.shade[rows, columns])


def expose(light: Light, haze: float, level: float, peak: float, lots: Lots) -> Exposed:
    """Take a picture of each channel.

    Parameters
    ----------
    light
        Through the optics.
    haze
        Share of haze in the marker: the more there is, the brighter is the empty glass.
    level, peak
        Of the dermis and of the line above it, in the marker: what the exposure is set for.
    """
    rng, preset = lots.rng, lots.preset
    height, width = light.marker.shape
    glass = rng.uniform(0.01, 0.03) * (1 + 2 * haze)
    shade = illumination((height, width), lots)
    bits = int(rng.choice([12, 14, 16]))
    offset = rng.uniform(0.012, 0.03) * (2**bits - 1) if bits < 16 else rng.uniform(100, 900)
    electrons, dapi = lots.within(preset.electrons), lots.within(preset.dapi)
    if dapi < WEAK_DAPI:
        lots.features.add("weak DAPI")
    bright = peak * 1.15 + level
    gain = rng.uniform(0.3, 0.6) * (2**bits - 1) / bright * preset.exposure
    dapi_gain = rng.uniform(0.25, 0.45) * (2**bits - 1) / 1.2 * dapi
    camera = Camera(bits, offset, noise=rng.uniform(1.5, 4))
    lit_dapi = (light.dapi + glass) * shade.dapi
    lit_marker = (light.marker + glass * level) * shade.marker
    counts = [
        camera.counts(lit_dapi, dapi_gain, electrons * dapi * 0.9, rng),
        camera.counts(lit_marker, gain, electrons / bright, rng),
    ]
    return Exposed(np.stack(counts), camera, gain, shade.marker)
