"""From stains to pixels: Beer-Lambert, optics, illumination, sensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.noise import Array, sensor_noise
from histoquant.phantom.paint import Painter
from histoquant.phantom.scene import Scene

_FINE_UM = 0.25
"""The fine grid is at least this fine, and at least twice as fine as the pixels."""

_CELL_UM = 8.0
"""Cells of the coarse map that tells windows of bare glass."""


class Renderer:
    """Renders any window of a scene; the same pixels whatever the window."""

    def __init__(
        self, scene: Scene, left_px: int = 0, slide_um: tuple[float, float] | None = None
    ) -> None:
        """Take a scene, and which part of a wider slide (height, width) it is, if it is one."""
        self.scene = scene
        self._left_px, self._slide_um = left_px, slide_um or scene.size_um
        self._painter = Painter(scene)
        self._factor = max(2, int(np.ceil(scene.mpp / _FINE_UM)))
        self._step = scene.mpp / self._factor
        self._kernel, self._halo = _kernel(scene.scanner.psf_sigma_um / self._step, self._factor)
        ones = np.ones((2 * self._halo + self._factor,) * 2, np.float32)
        # Not quite 1: glass must round the same way beside the section and far from it.
        self._clear = float(_collect(ones, self._kernel, self._factor, (1, 1))[0, 0])
        self._tissue = self._tissue_map()

    def _tissue_map(self) -> NDArray[np.uint8]:
        """Return where there may be tissue, one entry per cell of ``_CELL_UM``."""
        import cv2

        section = self.scene.section
        ring = section.polygon(section.outer, section.lower)[:, ::-1] / _CELL_UM
        cells = tuple(int(length / _CELL_UM) + 1 for length in self.scene.size_um)
        tissue = np.zeros(cells, np.uint8)
        cv2.fillPoly(tissue, [np.rint(ring).astype(np.int32)], 1)
        # Two cells of margin hold the rounding here and the blur of the optics.
        return np.asarray(cv2.dilate(tissue, np.ones((5, 5), np.uint8)), np.uint8)

    def render(self, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return pixels (height, width, 3) uint8 of a window of level 0."""
        scanner, recipe = self.scene.scanner, self.scene.recipe
        light = self._transmitted(y, x, height, width)
        centre_y = _centres(y, y + height, self.scene.mpp)
        centre_x = _centres(x, x + width, self.scene.mpp)
        light *= 10.0 ** -self._dust(centre_y, centre_x)[..., None]
        if self.scene.extras is not None:
            light *= 10.0 ** -self._crumbs(centre_y, centre_x)
        light = light * (1 - recipe.veil_fraction) + recipe.veil_fraction
        light *= self._illumination(centre_y, centre_x)[..., None]
        counts = light * scanner.white
        noise = sensor_noise(self.scene.seed, y, x + self._left_px, height, width)
        counts += recipe.noise_counts * np.sqrt(np.clip(light, 0.05, 1)) * noise
        return np.clip(np.rint(counts), 0, 255).astype(np.uint8)

    def _transmitted(self, y: int, x: int, height: int, width: int) -> Array:
        """Return the light (height, width, 3) behind the tissue, 1 on clear glass."""
        if self._is_glass(y, x, height, width):
            return np.full((height, width, 3), self._clear)
        factor, halo = self._factor, self._halo
        rows = _centres(y * factor - halo, (y + height) * factor + halo, self._step)
        columns = _centres(x * factor - halo, (x + width) * factor + halo, self._step)
        stains = self._painter.paint(rows, columns)
        light = np.empty((height, width, 3))
        scanner = self.scene.scanner
        for channel in range(3):
            od = (
                stains.hematoxylin * np.float32(scanner.hematoxylin[channel])
                + stains.dab * np.float32(scanner.dab[channel])
                + stains.melanin * np.float32(scanner.melanin[channel])
            )
            passed = np.exp(-np.float32(np.log(10)) * od)
            light[..., channel] = _collect(passed, self._kernel, factor, (height, width))
        return light

    def _is_glass(self, y: int, x: int, height: int, width: int) -> bool:
        per_cell = self.scene.mpp / _CELL_UM
        rows = slice(int(y * per_cell), int((y + height) * per_cell) + 1)
        columns = slice(int(x * per_cell), int((x + width) * per_cell) + 1)
        return not self._tissue[rows, columns].any()

    def _dust(self, y: Array, x: Array) -> Array:
        od = np.zeros((len(y), len(x)))
        for at_y, at_x, radius, depth in self.scene.dust:
            if y[0] - 12 < at_y < y[-1] + 12 and x[0] - 12 < at_x < x[-1] + 12:
                square = (y[:, None] - at_y) ** 2 + (x[None, :] - at_x) ** 2
                speck = depth * np.exp(-square / (2 * (0.7 * radius) ** 2))
                od += np.where(square < 144, speck, 0)
        return od

    def _crumbs(self, y: Array, x: Array) -> Array:
        """Optical density (h, w, 3) of crumbs of tissue on the glass: ragged, flat pieces."""
        od = np.zeros((len(y), len(x), 3))
        extras, scanner = self.scene.extras, self.scene.scanner
        for at_y, at_x, radius, blue, brown in extras.crumbs if extras is not None else ():
            rows, columns = (np.flatnonzero(np.abs(c - a) < 2 * radius)
                             for c, a in ((y, at_y), (x, at_x)))  # fmt: skip
            if len(rows) and len(columns):
                dy, dx = y[rows][:, None] - at_y, x[columns][None] - at_x
                turn = np.arctan2(dy, dx)
                wavy = 1 + 0.25 * np.sin(3 * turn + at_x) + 0.15 * np.sin(7 * turn + at_y)
                cover = np.clip(radius * wavy - np.hypot(dy, dx), 0, 1)[..., None]
                window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                od[window] += cover * (blue * scanner.hematoxylin + brown * scanner.dab)
        return od

    def _illumination(self, y: Array, x: Array) -> Array:
        down, along, out = self.scene.scanner.tilt
        v = 2 * y[:, None] / self._slide_um[0] - 1
        u = 2 * (x[None, :] + self._left_px * self.scene.mpp) / self._slide_um[1] - 1
        shape: Array = down * v + along * u + (0.5 + abs(out)) * (1 - u**2 - v**2)
        return 1 + self.scene.recipe.uneven_fraction * (shape / 5.0 - 0.2)


def _centres(start: int, stop: int, step_um: float) -> Array:
    return (np.arange(start, stop, dtype=np.float64) + 0.5) * step_um


def _kernel(sigma: float, factor: int) -> tuple[Array, int]:
    """Return weights of fine samples for one pixel: Gaussian optics and the pixel's area."""
    reach = int(np.ceil(4 * sigma))
    gauss = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = np.convolve(gauss, np.ones(factor))
    return weights / weights.sum(), reach


def _collect(
    fine: NDArray[np.float32], kernel: Array, factor: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Blur and sample: each pixel is the weighted sum of its fine samples, down then across."""
    down = np.zeros((shape[0], fine.shape[1]), np.float32)
    for i, weight in enumerate(kernel.astype(np.float32)):
        down += weight * fine[i : i + factor * shape[0] : factor][: shape[0]]
    light = np.zeros(shape, np.float32)
    phases = [np.ascontiguousarray(down[:, phase::factor]) for phase in range(factor)]
    for i, weight in enumerate(kernel.astype(np.float32)):
        shift, phase = divmod(i, factor)
        light += weight * phases[phase][:, shift : shift + shape[1]]
    return light
