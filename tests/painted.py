"""Small bright-field slides painted of two stains whose vectors are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

BLUE, BROWN = (0.68, 0.68, 0.27), (0.25, 0.60, 0.76)
CELL_PX = 8


def write_painted(
    path: Path,
    *,
    brown: tuple[float, ...] = BROWN,
    brown_share: float = 0.4,
    white: tuple[int, int, int] = (240, 242, 238),
    seed: int = 0,
    mpp: float = 0.5,
) -> Path:
    """A slide of 600 x 640 px: a square of blue and brown cells of 4 um, glass around."""
    rng = np.random.default_rng(seed)
    cells = 400 // CELL_PX
    is_brown = rng.uniform(size=(cells, cells)) < brown_share
    od = np.where(is_brown, rng.uniform(0.3, 0.7, is_brown.shape), 0)[..., None] * _unit(brown)
    blue = np.where(is_brown, 0, rng.uniform(0.25, 0.6, is_brown.shape))
    od = np.kron(od + blue[..., None] * _unit(BLUE), np.ones((CELL_PX, CELL_PX, 1)))
    picture = np.broadcast_to(np.asarray(white, float), (600, 640, 3)).copy()
    picture[100:500, 120:520] *= 10**-od
    picture += rng.normal(0, 0.7, picture.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(
        path,
        np.clip(np.rint(picture), 0, 255).astype(np.uint8),
        tile=(256, 256),
        photometric="rgb",
        ome=True,
        metadata={"axes": "YXS", "PhysicalSizeX": mpp, "PhysicalSizeY": mpp},
    )
    return path


def _unit(vector: tuple[float, ...]) -> np.ndarray:
    values = np.asarray(vector, float)
    return values / np.linalg.norm(values)
