"""From densities to grey levels: colours, optics, lamp and sensor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from quilt.chance import Wave, blotches, grain, within
from quilt.layout import Section
from quilt.raster import blurred, soft, tabled
from quilt.skin import Array, Plane, Preset

WHITE = (236.0, 244.0), (236.0, 244.0), (236.0, 245.0)  # glass in red, green and blue
LEAST_BLUR_UM = 0.075  # less does not show
SCATTER_UM = 40.0  # sigma of scattered light
SCATTER_SCALE = 1 / 8  # it is as smooth as that
SCATTERED_GREY = 8.0  # scattered light that comes from beyond the picture


@dataclass(frozen=True)
class Colours:
    """Optical density in red, green and blue, as unit vectors."""

    hematoxylin: Array
    dab: Array
    melanin: Array
    protein: Array  # greyish: protein, and the haze that all tissue has


@dataclass(frozen=True)
class Stain:
    """Densities of what stains, on top of melanin and protein."""

    hematoxylin: Plane
    dab: Plane


def some_colours(rng: np.random.Generator) -> Colours:
    """Return the colours of one slide."""

    def near(mean: tuple[float, float, float], deviation: float) -> Array:
        vector = np.array(mean) + rng.normal(0, deviation, 3)
        return np.asarray(vector / np.linalg.norm(vector))

    return Colours(
        hematoxylin=near((0.650, 0.704, 0.286), 0.02),
        dab=near((0.268, 0.570, 0.776), 0.02),
        melanin=near((0.42, 0.58, 0.69), 0.01),
        protein=near((0.52, 0.60, 0.60), 0.02),
    )


def some_stain(preset: Preset, rng: np.random.Generator) -> float:
    """Return the strength of a slide's hematoxylin, from any of the preset's ranges."""
    strengths = [within(rng, ends) for ends in preset.stain]
    return strengths[0] if len(strengths) == 1 else float(rng.choice(strengths))


def _melanin(density: Plane, preset: Preset, mpp: float, rng: np.random.Generator) -> Plane:
    amount = density * within(rng, preset.pigment)
    return amount * np.clip(1 + grain(rng, density.shape, mpp), 0, 2.5)


def stained_od(
    densities: Plane,
    stain: Stain,
    colours: Colours,
    preset: Preset,
    mpp: float,
    rng: np.random.Generator,
) -> Plane:
    """Optical density (y, x, 3) of the stained section."""
    protein, shape = densities[..., 1], densities.shape[:2]
    background_od = within(rng, preset.background_od)
    melanin = _melanin(densities[..., 2], preset, mpp, rng)
    haze_od = rng.uniform(0.09, 0.14) * protein
    hematoxylin = stain.hematoxylin
    if preset.uneven_stain:
        hematoxylin = hematoxylin * (1 + preset.uneven_stain * blotches(rng, shape, 150 / mpp))
    taken_up = background_od * np.tanh(2.5 * protein)
    dab = stain.dab + taken_up * (1 + 0.3 * blotches(rng, shape, 90 / mpp))
    parts = (
        (hematoxylin, colours.hematoxylin),
        (haze_od, colours.protein),
        (dab, colours.dab),
        (melanin, colours.melanin),
    )
    return np.asarray(sum(density[..., None] * colour for density, colour in parts))


def folded(od: Plane, section: Section, rng: np.random.Generator) -> Plane:
    """Lay a fold across the dermis, 60 um and more below the epidermis: nearly twice as thick."""
    at_um, half_um = rng.uniform(0.2, 0.8) * section.length_um, rng.uniform(6, 14)
    swing = 12 * tabled(Wave(rng, shortest_um=120), section.down_um)
    across = soft(half_um - np.abs(section.along_um - at_um - swing), 1.5)
    share = across * soft(section.below_um - 60, 15)
    return np.asarray(od * (1 + 0.8 * share[..., None]))


def _lamp(shape: tuple[int, int], uneven: float, rng: np.random.Generator) -> Plane:
    """Light of the lamp: tilted and darker in the corners; 1 where it is brightest."""
    y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    right, down, corners = rng.uniform(-1, 1, 3)
    slope = right * x + down * y - 0.7 * abs(corners) * (x**2 + y**2)
    light = 1 + uneven * slope * 0.8
    return np.asarray(light / np.quantile(light, 0.97))


def _with_haze(light: Plane, share: float, mpp: float) -> Plane:
    """Replace a share of the light by such as is scattered from all around."""
    small = cv2.resize(
        light, None, fx=SCATTER_SCALE, fy=SCATTER_SCALE, interpolation=cv2.INTER_AREA
    )
    small = blurred(small, SCATTER_UM * SCATTER_SCALE / mpp)
    scattered = cv2.resize(small, light.shape[1::-1])
    return np.asarray(light * (1 - share) + share * scattered + share * SCATTERED_GREY)


def exposed(od: Plane, preset: Preset, mpp: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Take the picture, in grey levels."""
    light = np.array([rng.uniform(*ends) for ends in WHITE]) * 10**-od
    blur_um = within(rng, preset.blur_um)
    if blur_um > LEAST_BLUR_UM:
        light = blurred(light, blur_um / mpp)
    if preset.uneven_light:
        light = light * _lamp(light.shape[:2], preset.uneven_light, rng)[..., None]
    if any(preset.haze):
        light = _with_haze(light, within(rng, preset.haze), mpp)
    light = light + rng.normal(0, preset.noise, light.shape)
    return np.clip(light + 0.5, 0, 255).astype(np.uint8)
