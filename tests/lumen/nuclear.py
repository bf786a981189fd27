"""Light of nuclei in DAPI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lumen.chance import Lots, texture
from lumen.crowd import Nucleus
from lumen.raster import Shape
from lumen.skin import MPP, Plane
from lumen.stamps import STAMP, add_ovals

BRIGHTEST = 1.9  # where nuclei lie on one another
BLURRED_PX = 2.4  # an edge softer than that belongs to a nucleus out of focus


@dataclass(frozen=True)
class Nuclear:
    """Light of nuclei, about 1 in one of them, and the share of each pixel that they cover."""

    light: Plane
    cover: Plane


def nuclear_light(nuclei: list[Nucleus], shape: Shape, lots: Lots) -> Nuclear:
    """Add up nuclei, some of them out of focus."""
    rng, count = lots.rng, len(nuclei)
    chromatin = 1 + 0.22 * texture(rng, shape, 2.2) + 0.16 * texture(rng, shape, 5)
    chromatin = np.clip(chromatin, 0.35, 1.7).astype(np.float32)
    is_blurred = rng.random(count) < lots.preset.blurred_nuclei
    stamps = np.zeros(count, STAMP)
    stamps["edge"] = np.where(is_blurred, rng.uniform(2.5, 5, count), rng.uniform(0.9, 1.7, count))
    slow = 1 + 0.13 * texture(rng, shape, 240)
    table = np.array([(*nucleus[:6], nucleus.rim) for nucleus in nuclei], float)
    stamps["x"], stamps["y"] = table[:, 0] / MPP - 0.5, table[:, 1] / MPP - 0.5
    stamps["long"], stamps["short"] = table[:, 2] / MPP, table[:, 3] / MPP
    stamps["angle"], stamps["rim"] = table[:, 4], table[:, 6]
    stamps["light"] = table[:, 5] * np.where(stamps["edge"] > BLURRED_PX, 0.62, 1)
    for wave, height in (("two", 0.05), ("three", 0.045)):
        stamps[wave] = rng.normal(0, height, count)
        stamps[f"{wave}_phase"] = rng.uniform(0, 6, count)
    light, cover = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    add_ovals(light, cover, chromatin, stamps)
    return Nuclear(BRIGHTEST * (1 - np.exp(-light / BRIGHTEST)) * slow, cover)
