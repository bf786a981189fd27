"""From densities to a slide."""

from __future__ import annotations

from os import PathLike

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from woven.cells import rim_of
from woven.grid import Scene, make_scene
from woven.plan import parts_of
from woven.skin import DAB, HEMATOXYLIN, Array, Drawn, Skin
from woven.stain import add_debris, add_haze, all_nuclei, fold_over, stain_collagen7, stain_corneum


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


def _light(scene: Scene, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Beer-Lambert, lamp, optics and sensor."""
    skin, grid = scene.skin, scene.grid
    h, dab = (_unit(v + rng.normal(0, skin.vector_jitter, 3)) for v in (HEMATOXYLIN, DAB))
    pigment, grey = _unit(0.34 * HEMATOXYLIN + 0.71 * DAB), np.full(3, 0.577)
    white = skin.white + rng.normal([0.5, 0, -1.5], 0.8)
    x, y = np.linspace(-1, 1, grid.shape[1]), np.linspace(-1, 1, grid.shape[0])[:, None]
    tilt = rng.normal(0, 0.3, 2)
    lamp = 1 - skin.vignette * (0.5 * (x**2 + y**2) + tilt[0] * x + tilt[1] * y)
    far = np.clip(0.5 + 0.9 * grid.noise(rng, 150.0), 0, 1) if skin.defocus else None
    rgb = np.empty((*grid.shape, 3), np.uint8)
    for c in range(3):
        od = scene.h * h[c] + scene.dab * dab[c] + scene.melanin * pigment[c] + scene.dirt * grey[c]
        light = cv2.GaussianBlur(np.exp(np.float32(-np.log(10)) * od), (0, 0), skin.blur / grid.mpp)
        if far is not None:
            out = cv2.GaussianBlur(light, (0, 0), skin.defocus / grid.mpp)
            light = light + far * (out - light)
        grain = rng.standard_normal(grid.shape, np.float32) * np.sqrt(light) * skin.noise
        rgb[..., c] = np.clip(white[c] * lamp * light + grain + 0.5, 0, 255)
    return rgb


def _multi(geometry: BaseGeometry) -> MultiPolygon:
    return MultiPolygon(parts_of(geometry, Polygon))


def draw(skin: Skin) -> Drawn:
    """Draw one slide; the same settings give the same picture and truth."""
    rng = np.random.default_rng(skin.seed)
    scene = make_scene(skin, rng)
    rim = rim_of(scene)
    truth = all_nuclei(scene, rim, rng)
    line = stain_collagen7(scene, rim, rng) if skin.marker == "col7" else []
    add_haze(scene, rng)
    stain_corneum(scene, rng)
    for plan in scene.plans:
        fold_over(scene, plan, rng)
    add_debris(scene, rng)
    plans = scene.plans
    return Drawn(
        rgb=_light(scene, rng),
        mpp=skin.mpp,
        junctions=[stretch for plan in plans for stretch in plan.junctions],
        surface=[stretch for plan in plans for stretch in plan.surface],
        viable=_multi(unary_union([plan.viable for plan in plans])),
        adnexa=_multi(unary_union([g for p in plans for g in (p.wall, p.gland, p.sebum)])),
        nuclei=truth,
        line=line,
        artefacts={
            "fold": _multi(unary_union([plan.fold.intersection(plan.tissue) for plan in plans])),
            "void": _multi(unary_union([plan.void for plan in plans])),
        },
        jpeg=skin.jpeg,
    )


def write(path: str | PathLike[str], drawn: Drawn) -> None:
    """Write a tiled JPEG TIFF with its scale (pixels per cm) and one level of half the size."""
    rows, columns = (size // 2 * 2 for size in drawn.rgb.shape[:2])
    whole = drawn.rgb[:rows, :columns]
    half = cv2.resize(whole, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    with tifffile.TiffWriter(path, bigtiff=False) as tiff:
        for level, image in enumerate((drawn.rgb, half)):
            density = 1e4 / (drawn.mpp * 2**level)
            tiff.write(
                image, tile=(256, 256), photometric="rgb", compression="jpeg",
                compressionargs={"level": drawn.jpeg}, subsampling=(2, 2), subfiletype=level,
                resolution=(density, density), resolutionunit="CENTIMETER", metadata=None,
            )  # fmt: skip
