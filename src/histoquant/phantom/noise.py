"""Randomness that depends on a seed and a position only, never on how the picture is tiled."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Curve = Callable[[Array], Array]


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one named purpose; adding a purpose changes no other."""
    return np.random.Generator(np.random.Philox([seed, zlib.crc32(name.encode())]))


@dataclass(frozen=True)
class Texture:
    """A periodic Gaussian random field, zero mean, unit variance, read with bilinear weights."""

    values: NDArray[np.float32]
    step_um: float

    @classmethod
    def make(
        cls,
        rng: np.random.Generator,
        fine_um: tuple[float, float],
        step_um: float,
        octaves: int = 1,
        size: int = 512,
    ) -> Texture:
        """Filter white noise to the given correlation lengths (down, along), in um.

        ``octaves`` above 1 adds fields twice as coarse and twice as strong each, as in a cloud.
        """
        spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
        down = np.fft.fftfreq(size, step_um)[:, None]
        along = np.fft.rfftfreq(size, step_um)[None, :]
        gain = np.zeros(spectrum.shape)
        for octave in range(octaves):
            y, x = (2 * np.pi * length * 2**octave / 2 for length in fine_um)
            square = (down * y) ** 2 + (along * x) ** 2
            gain += 4.0**octave * square * np.exp(-square)
        field = np.fft.irfft2(spectrum * gain, s=(size, size))
        field -= field.mean()
        return cls((field / field.std()).astype(np.float32), step_um)

    def at(self, y_um: Array, x_um: Array) -> NDArray[np.float32]:
        """Sample the field at positions in um; same shape as the arguments."""
        size = self.values.shape[0]
        y, x = y_um / self.step_um, x_um / self.step_um
        row, column = np.floor(y), np.floor(x)
        fy, fx = (y - row).astype(np.float32), (x - column).astype(np.float32)
        i0, j0 = row.astype(np.int64) % size, column.astype(np.int64) % size
        i1, j1 = (i0 + 1) % size, (j0 + 1) % size
        flat = self.values.ravel()
        i0 *= size
        i1 *= size
        top = flat[i0 + j0] * (1 - fx) + flat[i0 + j1] * fx
        bottom = flat[i1 + j0] * (1 - fx) + flat[i1 + j1] * fx
        sampled: NDArray[np.float32] = top * (1 - fy) + bottom * fy
        return sampled


def smooth_curve(
    rng: np.random.Generator, start_um: float, stop_um: float, wavelength_um: tuple[float, float]
) -> Curve:
    """Return a smooth random function of position: zero mean, about unit standard deviation.

    A sum of cosines whose wavelengths are drawn log-uniformly between the two given.
    """
    count = 9
    low, high = np.log(wavelength_um[0]), np.log(wavelength_um[1])
    waves = 2 * np.pi / np.exp(rng.uniform(low, high, count))
    phases = rng.uniform(0, 2 * np.pi, count)
    weights = rng.uniform(0.5, 1.0, count)
    weights *= np.sqrt(2 / (weights**2).sum())
    middle = (start_um + stop_um) / 2

    def curve(position: Array) -> Array:
        angle = (np.asarray(position)[..., None] - middle) * waves + phases
        total: Array = (np.cos(angle) * weights).sum(axis=-1)
        return total

    return curve


def between(value: Array, limits: tuple[float, float]) -> Array:
    """Squeeze a unit normal value into a range, the middle being the common one."""
    return limits[0] + (limits[1] - limits[0]) / (1 + np.exp(-1.7 * value))


def sensor_noise(seed: int, y: int, x: int, height: int, width: int) -> NDArray[np.float32]:
    """Return unit normal noise for a window of pixels, keyed by the pixels' position."""
    block = 256
    noise = np.empty((height, width, 3), np.float32)
    for row in range(y // block, -(-(y + height) // block)):
        for column in range(x // block, -(-(x + width) // block)):
            key = np.random.SeedSequence([seed, zlib.crc32(b"sensor"), row, column])
            tile = np.random.Generator(np.random.Philox(key)).standard_normal(
                (block, block, 3), np.float32
            )
            y0, x0 = max(y, row * block), max(x, column * block)
            y1, x1 = min(y + height, (row + 1) * block), min(x + width, (column + 1) * block)
            noise[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                y0 - row * block : y1 - row * block, x0 - column * block : x1 - column * block
            ]
    return noise
