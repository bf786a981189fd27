"""What is horny: the corneum on the epidermis, and what fills the canals of follicles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lumen.appendages import Appendage
from lumen.chance import Lots, texture, wave, waves
from lumen.plan import Plan
from lumen.raster import Bytes, blur, draw_line, soft_mask, unit
from lumen.skin import MPP, Array, Mask, Plane

LAYERS = 3  # sheets that lie on one another in the picture are drawn in turn on these
SHORTEST = 70  # samples of a sheet
FLAKES = 15  # in the canal of a follicle


def corneum(plan: Plan, viable: Plane, lots: Lots) -> Plane:
    """Draw sheets of corneum over the epidermis."""
    rng, shape, x = lots.rng, plan.shape, plan.ridges.along_um
    thick = rng.uniform(9, 34) * np.clip(1 + 0.35 * wave(rng, len(x), 160), 0.25, 2)
    covered = np.zeros(len(x), bool)
    for line in plan.surface:
        covered |= (x >= line[0, 0]) & (x <= line[-1, 0])
    pitch, loose = rng.uniform(1.2, 2.2), rng.uniform(0.05, 0.4)
    common = wave(rng, len(x), 60) * 1.2
    layers = [np.zeros(shape, np.uint8) for _ in range(LAYERS)]
    for k in range(int(thick.max() * 1.5 / pitch)):
        up = 0.8 + k * pitch
        share = up / thick
        apart = loose * up * np.clip(1 + 0.5 * wave(rng, len(x), 90), 0, 3)
        apart = apart + wave(rng, len(x), 25) * min(1.4, 0.12 * up) + common * share.clip(0, 1)
        sheet = np.c_[x, plan.ridges.surface[:, 1] - up - apart + 0.3]
        for piece in _pieces(covered & _kept(share, rng)):
            _draw_sheet(layers[k % LAYERS], sheet[piece], pitch, rng)
    light = np.zeros(shape, np.float32)
    for layer in layers:
        light += unit(layer)
    light = blur(light, 0.9) * 0.8 + 0.3 * blur(np.minimum(light, 1), 3)
    light = light * (1 + 0.3 * texture(rng, shape, 60, 20)).clip(0.3)
    return np.asarray(light * soft_mask(plan.outline.buffer(3), shape) * (1 - viable))


def _kept(share: Array, rng: np.random.Generator) -> Mask:
    """Where a sheet has not come off, given how high up it lies."""
    below_top = share < 1 + 0.25 * wave(rng, len(share), 50)
    return below_top & (wave(rng, len(share), 70) > -2.2 + 1.5 * np.clip(share, 0, 1.0))


def _pieces(kept: Mask) -> list[NDArray[np.intp]]:
    """Indices of each run that is long enough."""
    index = np.flatnonzero(kept)
    runs = np.split(index, np.flatnonzero(np.diff(index) > 1) + 1)
    return [run for run in runs if len(run) >= SHORTEST]


def _draw_sheet(layer: Bytes, sheet: Array, pitch_um: float, rng: np.random.Generator) -> None:
    """Draw a piece of a sheet, brighter and wider away from its ends."""
    bright = rng.uniform(110, 255)
    width_px = int(np.round(rng.uniform(1.0, 1.0 + pitch_um / MPP * 0.9)))
    for k in range(3):
        cut = int(k * rng.uniform(6, 16))
        inner = sheet[cut : len(sheet) - cut]
        if len(inner) > 4:
            draw_line(layer, inner, int(bright * (0.4 + 0.3 * k)), max(1, width_px - 2 + k))


def keratin(plan: Plan, appendages: list[Appendage], lots: Lots) -> Plane:
    """Draw what fills the canals of follicles, hairs included."""
    light = np.zeros(plan.shape, np.float32)
    for one in appendages:
        if one.kind == "opening":
            light = _with_flakes(light, one, plan, lots)
        elif one.kind == "follicle":
            light = _with_filling(light, one, lots)
    return light.clip(0)


def _with_flakes(light: Plane, follicle: Appendage, plan: Plan, lots: Lots) -> Plane:
    """Add flakes along the canal of a follicle that opens, and often a hair."""
    rng, axis = lots.rng, follicle.axis
    canal = soft_mask(follicle.lumen.intersection(plan.outline.buffer(10)), plan.shape)
    down = (np.arange(plan.shape[0]) + 0.5) * MPP - plan.surface_y(axis[0, 0])
    canal = canal * np.clip((down - 2) / 40, 0, 1).astype(np.float32)[:, None]
    layer = np.zeros(plan.shape, np.uint8)
    half_um = np.linspace(30, 6, len(axis))
    for aside in np.linspace(-1, 1, FLAKES):
        first = int(rng.integers(0, 50))
        x = axis[first:, 0] + aside * half_um[first:] + waves(rng, len(axis) - first, (6,), (1.5,))
        draw_line(layer, np.c_[x, axis[first:, 1]], int(rng.uniform(60, 220)), 2)
    light = light + canal * (blur(unit(layer), 1.0) + 0.05)
    if lots.happens(0.6):
        layer[:] = 0
        hair = axis[rng.integers(0, 60) :]
        draw_line(layer, hair, 200, int(rng.uniform(10, 26)))
        light = np.maximum(light, canal * blur(unit(layer), 1.5))
    return light


def _with_filling(light: Plane, follicle: Appendage, lots: Lots) -> Plane:
    """Add what fills the lumen of a follicle cut in depth, and its hair, dark or bright."""
    rng, (height, width) = lots.rng, light.shape
    shape = height, width
    lumen = soft_mask(follicle.lumen, shape, 2)
    light = light + lumen * (0.35 + 0.12 * texture(rng, shape, 4))
    bright = rng.choice([-0.3, 0.9])
    hair = lumen * soft_mask(follicle.hair, shape, 2) * bright
    return np.asarray(light + hair * (1 + 0.2 * texture(rng, shape, 5)), np.float32)
