"""Haze, blur and illumination."""

from __future__ import annotations

import numpy as np

from lumen.chance import Lots, texture
from lumen.pose import Pose
from lumen.raster import Shape, blur
from lumen.skin import MPP, Light, Plane


def with_haze(light: Light, lots: Lots) -> tuple[Light, float]:
    """Add light from outside the focal plane; return also its share in the marker."""
    rng, preset = lots.rng, lots.preset
    haze = lots.within(preset.haze)
    near, far = (blur(light.marker, rng.uniform(*px)) for px in ((10, 16), (45, 80)))
    marker = light.marker + haze * (0.55 * near + 0.45 * far)
    dapi_haze = lots.within(preset.dapi_haze)
    near, far = (blur(light.dapi, rng.uniform(*px)) for px in ((9, 15), (50, 90)))
    dapi = light.dapi + dapi_haze * (0.65 * near + 0.5 * far)
    return Light(dapi, marker), haze


def through_optics(light: Light, pose: Pose, psf_um: tuple[float, float], lots: Lots) -> Light:
    """Turn light onto the picture and blur it; `psf_um` are sigmas for DAPI and the marker."""
    dapi = blur(pose.plane(light.dapi), psf_um[0] / MPP)
    marker = blur(pose.plane(light.marker), psf_um[1] / MPP)
    if lots.preset.uneven_focus:
        share = np.clip((texture(lots.rng, pose.shape, 700) - 0.5) * 0.9, 0, 0.8)
        marker = marker * (1 - share) + share * blur(marker, 1.1 / MPP)
        dapi = dapi * (1 - share) + share * blur(dapi, 1.3 / MPP)
    return Light(dapi, marker)


def illumination(shape: Shape, lots: Lots) -> Light:
    """Return the light that each channel gets, about 1."""
    preset, features = lots.preset, lots.features
    marker, dapi = _lamp(shape, lots), _lamp(shape, lots)
    if lots.happens(preset.tiles_chance):
        features.add("tile shading")
        tiles = _tiles(shape, lots)
        marker, dapi = marker * tiles, dapi * tiles
    if lots.happens(preset.bleaching_chance):
        features.add("bleaching gradient")
        across = _across(shape, lots)
        lost, lost_dapi = lots.within((0.2, 0.5)), lots.within((0.1, 0.4))
        marker, dapi = marker * (1 - lost * across), dapi * (1 - lost_dapi * across)
    return Light(dapi, marker)


def _lamp(shape: Shape, lots: Lots) -> Plane:
    """Brightest near the middle."""
    rng, (height, width) = lots.rng, shape
    x0, y0 = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height
    vignetting = lots.within(lots.preset.vignetting)
    x = (np.arange(width, dtype=np.float32)[None] - x0) / max(shape)
    y = (np.arange(height, dtype=np.float32)[:, None] - y0) / max(shape)
    fall = vignetting * np.clip((x * x + y * y) / 0.3, 0, 1.3)
    return np.asarray(1 - fall + 0.03 * texture(rng, shape, 500))


def _tiles(shape: Shape, lots: Lots) -> Plane:
    """Darker towards the corners of each field of view."""
    height, width = shape
    side, strength = int(lots.rng.integers(500, 1100)), lots.within((0.04, 0.1))
    x = ((np.arange(width) % side) / side - 0.5)[None]
    y = ((np.arange(height) % side) / side - 0.5)[:, None]
    return np.asarray(1 - strength * 4 * (x * x + y * y), np.float32)


def _across(shape: Shape, lots: Lots) -> Plane:
    """Return 0 at one side of the picture, 1 at the other."""
    height, width = shape
    turn = lots.rng.uniform(0, 2 * np.pi)
    x = np.arange(width, dtype=np.float32)[None] * np.cos(turn)
    y = np.arange(height, dtype=np.float32)[:, None] * np.sin(turn)
    at = x + y
    return np.asarray((at - at.min()) / np.ptp(at))
