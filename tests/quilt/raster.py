"""How textures and functions reach the pixels of a picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from quilt.skin import Array, Plane

TEXTURE_UM = 0.5  # a pixel of every texture, as of the real section
TABLE_UM = 0.4  # step of the tables that stand for a function of one variable

Curve = Callable[[Array], Array]


def _mirrored(at_um: Plane, size: int) -> Plane:
    """Texture pixel at a place; beyond the ends the texture is mirrored, again and again."""
    last = size - 1.0
    at_px = np.abs(at_um / TEXTURE_UM - 0.5) % (2 * last)
    return (last - np.abs(at_px - last)).astype(np.float32)


def sample(texture: Plane, along_um: Plane, down_um: Plane) -> Plane:
    """Value of a texture at each pixel of a picture."""
    columns = _mirrored(along_um, texture.shape[1])
    rows = _mirrored(down_um, texture.shape[0])
    return np.asarray(
        cv2.remap(texture, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    )


def tabled(curve: Curve, at_um: Plane) -> Plane:
    """Value of a function of one variable at each pixel, through a table."""
    table = np.arange(at_um.min() - 1, at_um.max() + 2, TABLE_UM)
    return looked_up(table, curve(table), at_um).astype(np.float32)


def looked_up(table_um: Array, values: Array, at_um: Plane) -> Plane:
    """Values of a table at each pixel, interpolated."""
    return np.asarray(np.interp(at_um.ravel(), table_um, values).reshape(at_um.shape))


def soft(distance_um: Plane, half_um: float = 0.5) -> Plane:
    """1 where a signed distance is positive, 0 where not; between them a ramp."""
    return np.asarray(np.clip(0.5 + distance_um / (2 * half_um), 0, 1).astype(np.float32))


def blurred(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px))
