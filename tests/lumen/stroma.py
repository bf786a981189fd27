"""Fibres of the dermis, which shine by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from lumen.chance import Lots, texture
from lumen.dermis import Grain
from lumen.raster import Bytes, Shape, blur, draw_line, enlarged
from lumen.section import Maps
from lumen.skin import Array, Plane

POINTS = np.linspace(-0.5, 0.5, 14)  # along a bundle


@dataclass(frozen=True)
class Fibres:
    """Wavy bundles of thin strands.

    They are spread over `layers`, whose light adds up; in one layer, a strand hides those below.
    """

    length_um: float
    width_um: float
    scatter: float  # standard deviation of their angle from the grain, radians
    light: float
    layers: int
    strand_um: float = 1.4  # between two strands
    strand_px: int = 2  # width of one
    wavy: float = 0.35
    turned: float = 0.0  # of their mean angle from the grain, radians


@dataclass(frozen=True)
class Stroma:
    """Light of the dermis.

    `bundles` are those of collagen alone, `collagen` is all that it shines, `elastic` the light of
    elastic fibres, to be multiplied with `elastic_share`.
    """

    bundles: Plane
    collagen: Plane
    elastic: Plane
    elastic_share: float


def stroma_of(maps: Maps, grain: Grain, shape: Shape, lots: Lots) -> Stroma:
    """Draw fine fibres just below the junction, coarse bundles further down, and elastic fibres."""
    rng, loom = lots.rng, Loom(grain, shape, lots.rng)
    places, down = _mixed_places(maps, rng)
    papillary_um, thick = rng.uniform(35, 80), rng.uniform(5, 11)
    deep, shallow = places[down > papillary_um], places[down < papillary_um + 40]
    many, coarse = 1.5 * len(deep) / (95 * thick), Fibres(95, thick, rng.uniform(0.25, 0.5), 1.0, 4)
    coarse_light = loom.woven(deep, many, coarse)
    many, fine = 1.6 * len(shallow) / (26 * 1.8), Fibres(26, 1.8, 0.8, 0.55, 3, 1.2, 1)
    fine_light = loom.woven(shallow, many, fine)
    many, wavy = len(places) / rng.uniform(900, 2500), rng.uniform(0.4, 0.9)
    flat = Fibres(48, 1.0, 0.4, 1.0, 2, strand_px=int(rng.integers(1, 3)), wavy=wavy)
    elastic = blur(loom.woven(places, many, flat), 0.7)
    many = len(shallow) / rng.uniform(600, 1800)
    upright = Fibres(16, 1.0, 0.5, 0.8, 2, strand_px=1, wavy=1.0, turned=1.4)
    elastic = elastic + blur(loom.woven(shallow, many, upright), 0.7)
    depth = enlarged(maps.to_junction, shape, cv2.INTER_LINEAR) - papillary_um
    depth = np.clip((depth + 15) / 45, 0, 1)
    bundles = blur(coarse_light, 1.0) * depth + blur(fine_light, 0.8) * (1 - 0.6 * depth)
    collagen = _uneven(0.30 + 0.22 * (1 - depth) * 0.6 + 0.75 * bundles, rng)
    return Stroma(bundles, collagen, elastic, rng.uniform(0.35, 1.1))


def _mixed_places(maps: Maps, rng: np.random.Generator) -> tuple[Array, Plane]:
    """Return x, y (n, 2) of all pixels of dermis in any order, and how far down they lie, um."""
    rows, columns = np.nonzero(maps.dermis)
    mixed = rng.permutation(len(rows))
    rows, columns = rows[mixed], columns[mixed]
    return np.stack([columns, rows], 1).astype(float), maps.to_junction[rows, columns]


def _uneven(light: Plane, rng: np.random.Generator) -> Plane:
    height, width = light.shape
    shape = height, width
    fine = 1 + 0.10 * texture(rng, shape, 3) + 0.14 * texture(rng, shape, 26, 12)
    return np.asarray(light * fine * (1 + 0.15 * texture(rng, shape, 300)))


@dataclass(frozen=True)
class Loom:
    """What fibres are drawn with: their direction, a picture's pixels, and chance."""

    grain: Grain
    shape: Shape
    rng: np.random.Generator

    def woven(self, places: Array, count: float, fibres: Fibres) -> Plane:
        """Draw bundles around any of the points x, y (m, 2)."""
        layers = [np.zeros(self.shape, np.uint8) for _ in range(fibres.layers)]
        for k in range(int(count)):
            centre = places[self.rng.integers(len(places))]
            self._draw_bundle(layers[k % fibres.layers], centre, fibres)
        total = np.zeros(self.shape, np.float32)
        for layer in layers:
            total += layer
        return total / (255.0 * fibres.layers) * 2

    def _draw_bundle(self, layer: Bytes, centre: Array, fibres: Fibres) -> None:
        rng = self.rng
        length = fibres.length_um * rng.lognormal(0, 0.45)
        width = fibres.width_um * rng.lognormal(0, 0.5)
        angle = self.grain.at(*centre) + fibres.turned + rng.normal(0, fibres.scatter)
        cos, sin = np.cos(angle), np.sin(angle)
        along, aside = POINTS * length, _bends(length, fibres.wavy, rng)
        strands = max(1, int(width / fibres.strand_um))
        light = rng.uniform(0.35, 1) * fibres.light
        for strand in range(strands):
            apart = (strand - (strands - 1) / 2) * fibres.strand_um
            across = aside + apart * (1 - (2 * POINTS) ** 4 * 0.7) + rng.normal(0, 0.25)
            x = centre[0] + along * cos - across * sin
            y = centre[1] + along * sin + across * cos
            value = int(np.clip(255 * light * rng.uniform(0.55, 1.15), 1, 255))
            draw_line(layer, np.stack([x, y], 1), value, fibres.strand_px)


def _bends(length_um: float, wavy: float, rng: np.random.Generator) -> Array:
    """How far a bundle strays to the side along its length, um."""
    turns = POINTS * rng.uniform(0.7, 2.2) + rng.random()
    waves = wavy * length_um * 0.12 * np.sin(2 * np.pi * turns)
    return np.asarray(waves + rng.normal(0, 0.10) * length_um * (POINTS**2) * 2)
