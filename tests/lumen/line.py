"""Collagen VII: a line at every basement membrane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from lumen.chance import Lots, wave
from lumen.lines import STEP_UM, even
from lumen.raster import Shape, blur
from lumen.section import Section
from lumen.skin import MPP, Array, Mask, Plane
from lumen.stamps import add_points

SIGMAS_PER_FWHM = 2.355
WIDEST_UM = 3.5
WIDTHS = np.array([0.85, 1.0, 1.15])  # of the line here and there, of its mean width
GAUSSIAN_AREA = 1.0645  # below a Gaussian whose height, and width at half of it, are 1
TAPER_UM = 3.0  # over which the line fades at a gap
PER_STEP = 4  # points of light per sample of a line
# Of the line at the walls of appendages; 1 at the junction.
STRENGTHS = {"opening": 0.5, "follicle": 0.4, "sebaceous": 0.15, "eccrine": 0.25}


@dataclass(frozen=True)
class Style:
    """How the line looks in one slide.

    `peak` is its nominal peak above the dermis, in units of light; `psf_um` the sigma of the
    optics it is seen through, whose blur is within `fwhm_um`; `gaps` the share that is missing.
    """

    contrast: float
    peak: float
    psf_um: float
    fwhm_um: float
    gaps: float


def some_style(level: float, lots: Lots) -> Style:
    """Choose how the line looks over dermis of this light."""
    preset = lots.preset
    contrast, psf = lots.within(preset.contrast), lots.within(preset.psf_um)
    fwhm = max(lots.within(preset.fwhm_um), SIGMAS_PER_FWHM * psf * 1.05)
    return Style(contrast, level * contrast, psf, fwhm, lots.within(preset.gaps))


@dataclass(frozen=True)
class Membrane:
    """Points (n, 2) of x, y in um, whether there is a line, and its light across (light * um)."""

    points: Array
    present: Mask
    light: Array


class Painter:
    """Paints lines of three widths, each on a plane of its own."""

    def __init__(self, style: Style, shape: Shape, lots: Lots) -> None:
        self.style, self.rng = style, lots.rng
        self._planes = [np.zeros(shape, np.float32) for _ in WIDTHS]

    def paint(self, points: Array, present: Mask, strength: Array) -> Membrane:
        """Add a line where it is present; its width wanders along it."""
        style = self.style
        at = np.arange(len(points)) * np.hypot(*np.diff(points, axis=0).T).mean()
        step = at[1] - at[0]
        widths = np.round(1 + 0.7 * wave(self.rng, len(points), 60 / step))
        width = np.clip(widths, 0, 2).astype(int)
        light = strength * style.peak * style.fwhm_um * GAUSSIAN_AREA
        light = light * _taper(present, step) * present
        dense = np.arange(0, at[-1], step / PER_STEP)
        x, y = (np.interp(dense, at, points[:, axis]) for axis in (0, 1))
        amounts = np.interp(dense, at, light) * (step / PER_STEP) / MPP**2
        nearest = np.clip(np.round(dense / step).astype(int), 0, len(points) - 1)
        for index, plane in enumerate(self._planes):
            here = width[nearest] == index
            add_points(plane, np.c_[x, y][here] / MPP - 0.5, amounts[here])
        return Membrane(points, present & (light > 0), light)

    def painted(self) -> Plane:
        """All lines; the optics will make them as wide as they are to look."""
        psf = self.style.psf_um
        narrowest = SIGMAS_PER_FWHM * psf * 1.02
        total = np.zeros_like(self._planes[0])
        for plane, fwhm in zip(self._planes, self.style.fwhm_um * WIDTHS, strict=True):
            sigma = np.clip(fwhm, narrowest, WIDEST_UM) / SIGMAS_PER_FWHM
            before = np.sqrt(max(sigma**2 - psf**2, 0.01)) / MPP
            total += blur(plane, max(0.3, before))
        return total


def collagen7(section: Section, style: Style, lots: Lots) -> tuple[Plane, list[Membrane]]:
    """Paint the line along all membranes; return it, and those of the junctions."""
    painter = Painter(style, section.plan.shape, lots)
    membranes = [_paint_junction(painter, line, lots) for line in section.plan.junctions]
    for appendage in section.appendages:
        strength = STRENGTHS[appendage.kind] * lots.rng.uniform(0.5, 1.3)
        _paint_wall(painter, even(appendage.wall), strength, section)
    return painter.painted(), membranes


def _paint_junction(painter: Painter, points: Array, lots: Lots) -> Membrane:
    rng, count = lots.rng, len(points)
    present = _present(count, painter.style.gaps, rng)
    slow, fast, fine = (wave(rng, count, scale) for scale in (160, 24, 4))
    uneven = lots.preset.line_unevenness * (0.75 * slow + 0.55 * fast) + 0.12 * fine
    return painter.paint(points, present, np.clip(np.exp(uneven), 0.45, 2.1))


def _paint_wall(painter: Painter, points: Array, strength: float, section: Section) -> None:
    """Paint the membrane of a follicle or gland, as far as it lies in the section."""
    rng, count = painter.rng, len(points)
    if count < 40:
        return
    inside = shapely.contains_xy(section.plan.outline, points[:, 0], points[:, 1])
    present = _present(count, min(0.6, painter.style.gaps + 0.15), rng) & inside
    uneven = np.exp(0.35 * wave(rng, count, 40))
    painter.paint(points, present, strength * np.clip(uneven, 0.3, 2))


def _present(count: int, gaps: float, rng: np.random.Generator) -> Mask:
    """Leave out runs of 15 to 150 um, about a share of `gaps`."""
    at, present = np.arange(count) * STEP_UM, np.ones(count, bool)
    mean_gap = rng.uniform(30, 70)
    x = -rng.uniform(0, 200)
    mean_run = mean_gap * (1 - gaps) / max(gaps, 0.02)
    while x < at[-1]:
        x += max(20, rng.exponential(mean_run))
        gap = np.clip(rng.exponential(mean_gap), 15, 150)
        present[(at >= x) & (at < x + gap)] = False
        x += gap
    return present


def _taper(present: Mask, step_um: float) -> Array:
    """Return 0 in gaps, up to 1 away from them."""
    gaps = np.flatnonzero(~present)
    if not len(gaps):
        return np.ones(len(present))
    index = np.arange(len(present))
    after = np.searchsorted(gaps, index)
    steps = np.minimum(_away(index, gaps, after), _away(index, gaps, after - 1))
    return np.asarray(np.clip(steps * step_um / TAPER_UM, 0, 1))


def _away(
    index: NDArray[np.intp], gaps: NDArray[np.intp], which: NDArray[np.intp]
) -> NDArray[np.intp]:
    """How many samples each index is away from one of the gaps."""
    return np.asarray(np.abs(index - gaps[np.clip(which, 0, len(gaps) - 1)]))
