"""From light to counts: microscope and camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from glow.skin import Preset
from woven.grid import Grid
from woven.skin import Array, Plane, Table


@dataclass(frozen=True)
class Exposed:
    """Counts (channel, y, x), and what a photo-electron of the marker was worth."""

    counts: NDArray[np.uint16]
    grid: Grid
    gain: float
    shade: Plane  # of the lamp, 1 in the mean

    def worth(self, table: Table) -> Array:
        """Counts of a photo-electron at each row's x and y."""
        shade = self.grid.at(self.shade, np.stack([table["x"], table["y"]], 1))
        return np.asarray(self.gain * shade)


def expose(
    dapi: Plane, marker: Plane, preset: Preset, grid: Grid, rng: np.random.Generator
) -> Exposed:
    """Take a picture of each channel; light in photo-electrons."""
    focus = preset.defocus * (0.5 + 0.5 * _slow_field(grid, rng))
    dapi, marker = (_through_optics(p, preset.haze, focus, grid.mpp) for p in (dapi, marker))
    marker += preset.bleed * dapi
    dapi += preset.bleed * 0.5 * marker
    counts = np.empty((2, *grid.shape), np.uint16)
    for channel, light in enumerate((dapi, marker)):
        shade = 1 + preset.shading * _slow_field(grid, rng)
        glass = preset.glass_electrons * (1 + 0.4 * _slow_field(grid, rng))
        gain, offset = rng.uniform(3, 9), rng.uniform(100, 400)
        counts[channel] = _camera(shade * light + glass, gain, offset, rng)
    return Exposed(counts, grid, gain, shade)


def _slow_field(grid: Grid, rng: np.random.Generator) -> Plane:
    """Noise between -1 and 1 that varies over the whole picture."""
    corners = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
    wide = cv2.resize(corners, grid.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(wide / max(float(np.abs(wide).max()), 1e-6), np.float32)


def _through_optics(light: Plane, haze: float, focus: Plane, mpp: float) -> Plane:
    """Point spread, a share of defocus, and haze from outside the focal plane."""
    sharp = np.asarray(cv2.GaussianBlur(light, (0, 0), 0.38 / mpp), np.float32)
    sharp += focus * (cv2.GaussianBlur(light, (0, 0), 1.5 / mpp) - sharp)
    wide = 0.6 * _wide_blur(light, 10 / mpp) + 0.4 * _wide_blur(light, 35 / mpp)
    return np.asarray(sharp + haze * wide)


def _wide_blur(light: Plane, sigma_px: float) -> Plane:
    """Blur a smaller copy, for that is faster."""
    height, width = light.shape
    step = max(int(sigma_px / 3), 1)
    size = (max(width // step, 1), max(height // step, 1))
    small = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), sigma_px / step)
    return np.asarray(cv2.resize(soft, (width, height)), np.float32)


def _camera(light: Plane, gain: float, offset: float, rng: np.random.Generator) -> Plane:
    """Shot noise, read noise of 2.5 photo-electrons, and 30 hot pixels."""
    electrons = rng.poisson(np.maximum(light, 0)).astype(np.float32)
    electrons += rng.standard_normal(light.shape, np.float32) * 2.5
    counts = offset + gain * electrons
    counts.flat[rng.integers(0, counts.size, 30)] += rng.uniform(500, 20000, 30)
    return np.clip(np.round(counts), 0, 65535)
