"""Loops over pixels, compiled: ovals that take their room or give light, and light at points."""

from __future__ import annotations

import numpy as np
from numba import njit

from lumen.skin import Angle, Array, Mask, Plane, Table

STAMP = np.dtype([
    ("x", "f8"), ("y", "f8"), ("long", "f8"), ("short", "f8"), ("angle", "f8"),  # in pixels
    ("light", "f8"),
    ("edge", "f8"),  # pixels over which it fades
    ("rim", "f8"),  # how much darker the middle is
    # height and phase of the waves that make its outline uneven, two and three around it
    ("two", "f8"), ("two_phase", "f8"), ("three", "f8"), ("three_phase", "f8"),
])  # fmt: skip


@njit(cache=True)
def is_free(
    taken: Mask, x: float, y: float, long: float, short: float, angle: Angle, overlap: float
) -> bool:
    """Whether no more than a share of `overlap` of an oval is taken or outside; in pixels."""
    height, width = taken.shape
    reach = int(max(long, short) + 2)
    cos, sin = np.cos(angle), np.sin(angle)
    inside = lost = 0
    for i in range(int(y) - reach, int(y) + reach + 1):
        for j in range(int(x) - reach, int(x) + reach + 1):
            dx, dy = j + 0.5 - x, i + 0.5 - y
            u, v = (dx * cos + dy * sin) / long, (-dx * sin + dy * cos) / short
            if u * u + v * v <= 1:
                inside += 1
                if i < 0 or j < 0 or i >= height or j >= width or taken[i, j]:
                    lost += 1
    return inside > 0 and lost <= overlap * inside


@njit(cache=True)
def take(taken: Mask, x: float, y: float, long: float, short: float, angle: Angle) -> None:
    """Mark the pixels of an oval."""
    height, width = taken.shape
    reach = int(max(long, short) + 2)
    cos, sin = np.cos(angle), np.sin(angle)
    for i in range(max(0, int(y) - reach), min(height, int(y) + reach + 1)):
        for j in range(max(0, int(x) - reach), min(width, int(x) + reach + 1)):
            dx, dy = j + 0.5 - x, i + 0.5 - y
            u, v = (dx * cos + dy * sin) / long, (-dx * sin + dy * cos) / short
            if u * u + v * v <= 1:
                taken[i, j] = True


@njit(cache=True)
def add_ovals(light: Plane, cover: Plane, grain: Plane, stamps: Table) -> None:
    """Add ovals with soft uneven outlines.

    Parameters
    ----------
    light
        Where their light is added.
    cover
        Where the largest share of a pixel that any of them covers is kept.
    grain
        What their light is multiplied with.
    stamps
        Rows of `STAMP`.
    """
    height, width = light.shape
    for k in range(len(stamps)):
        oval = stamps[k]
        reach = int(max(oval.long, oval.short) * 1.25 + 3 * oval.edge) + 2
        cos, sin = np.cos(oval.angle), np.sin(oval.angle)
        narrow = min(oval.long, oval.short)
        for i in range(max(0, int(oval.y) - reach), min(height, int(oval.y) + reach + 1)):
            for j in range(max(0, int(oval.x) - reach), min(width, int(oval.x) + reach + 1)):
                dx, dy = j - oval.x, i - oval.y
                u, v = (dx * cos + dy * sin) / oval.long, (-dx * sin + dy * cos) / oval.short
                radius = np.sqrt(u * u + v * v) + 1e-6
                turn = np.arctan2(v, u)
                outline = 1 + oval.two * np.cos(2 * turn + oval.two_phase)
                outline += oval.three * np.cos(3 * turn + oval.three_phase)
                within = (outline - radius) * narrow / oval.edge
                if within < -4:
                    continue
                share = 1 / (1 + np.exp(-2.2 * within))
                at = radius / outline
                body = (1 - oval.rim) + oval.rim * at * at if at < 1 else 1.0
                light[i, j] += oval.light * (share * body * grain[i, j])
                cover[i, j] = max(cover[i, j], share)


@njit(cache=True)
def add_points(light: Plane, points_px: Array, amounts: Array) -> None:
    """Add light at points x, y between pixel centres, shared among the four around."""
    height, width = light.shape
    for k in range(len(points_px)):
        x, y = points_px[k]
        i, j = int(np.floor(y)), int(np.floor(x))
        if i < 0 or j < 0 or i + 1 >= height or j + 1 >= width:
            continue
        down, right = y - i, x - j
        light[i, j] += amounts[k] * (1 - right) * (1 - down)
        light[i, j + 1] += amounts[k] * right * (1 - down)
        light[i + 1, j] += amounts[k] * (1 - right) * down
        light[i + 1, j + 1] += amounts[k] * right * down
