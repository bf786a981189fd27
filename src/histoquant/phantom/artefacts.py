"""What goes wrong with a slide, drawn over a finished picture: folds, blur, ink, bubbles, blood.

Every painter takes a picture and gives back the picture with one artefact, and where it lies.
Like the rest of the phantom they know nothing of the code that looks for artefacts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.noise import Array, Mask

Picture = NDArray[np.uint8]
Painted = tuple[Array, Mask]
"""Light (h, w, 3), 0-1 of white, and where the artefact lies, bool (h, w)."""

INKS = {
    "black": (0.62, 0.60, 0.55),
    "blue": (0.92, 0.52, 0.16),
    "green": (0.88, 0.25, 0.58),
    "red": (0.06, 0.80, 0.68),
}
"""Optical density of felt pens in red, green and blue, relative."""

_HEMOGLOBIN = np.array([0.06, 0.45, 0.80])


def paint_artefact(
    picture: Picture, kind: str, mpp: float, seed: int, white: tuple[float, float, float]
) -> tuple[Picture, Mask]:
    """Draw one artefact over a picture.

    Parameters
    ----------
    picture
        RGB (h, w, 3) of a bright-field slide at level 0.
    kind
        ``fold``, ``blur``, ``pen black``, ``pen blue``, ``pen green``, ``pen red``, ``bubble``,
        ``blood``, ``coverslip`` or ``debris``.
    mpp
        Its pixel size in um.
    seed
        Place, size and strength follow from it.
    white
        Grey levels of clear glass.

    Returns
    -------
    picture, mask
        The picture again, and where the artefact lies on tissue or glass: bool (h, w).
    """
    name, _, ink = kind.partition(" ")
    rng = np.random.default_rng([seed, *kind.encode()])
    light = np.maximum(picture.astype(np.float64), 1) / np.asarray(white)
    tissue = -np.log10(light).max(axis=-1) > 0.03
    if name == "pen":
        light, mask = _pen(light, tissue, mpp, rng, INKS[ink])
    else:
        light, mask = _PAINTERS[name](light, tissue, mpp, rng)
    grain = rng.normal(0, 0.8, light.shape)
    noisy = np.where(mask[..., None], light * white + grain, light * white)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), mask


def _fold(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    """A band across the section where the tissue beside it lies on top, out of focus."""
    y, x = _place(tissue, mpp, rng)
    angle = _across_section(tissue) + rng.uniform(-0.4, 0.4)
    across, along = _turned(light.shape, y, x, angle, mpp)
    across += 6 * np.sin(along / 90 + rng.uniform(0, 6))
    half = rng.uniform(16, 36)
    inside = _step(half - np.abs(across), 1.5)
    od = -np.log10(light)
    shift = rng.uniform(5, 10) / mpp
    by = round(shift * np.cos(angle)), round(-shift * np.sin(angle))
    layers = od + np.roll(_blur(od, 1.2 / mpp), by, axis=(0, 1)) * rng.uniform(0.9, 1.2)
    darker = inside[..., None] * layers + (1 - inside[..., None]) * od
    return 10.0**-darker, (np.abs(across) < half) & tissue


def _across_section(tissue: Mask) -> float:
    """Direction (see `_turned`) straight across the longer side of the section."""
    pixels = np.argwhere(tissue)[::50].astype(float)
    longest = np.linalg.eigh(np.cov(pixels.T))[1][:, 1]
    return float(np.arctan2(-longest[1], longest[0]))


def _blur_patch(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    y, x = _place(tissue, mpp, rng)
    radius = rng.uniform(110, 190)
    away = radius - _wobbly(light.shape, y, x, mpp, rng, 0.15)
    inside = _step(away, 12.0)
    hazy = _blur(light, rng.uniform(4, 7) / mpp)
    return inside[..., None] * hazy + (1 - inside[..., None]) * light, (away > 0) & tissue


def _pen(
    light: Array,
    tissue: Mask,
    mpp: float,
    rng: np.random.Generator,
    ink: tuple[float, float, float],
) -> Painted:
    """A stroke of a felt pen on the coverslip: out of focus, uneven, fading at its rim."""
    y, x = _place(tissue, mpp, rng)
    across, along = _turned(light.shape, y, x, rng.uniform(0, np.pi), mpp)
    across += 40 * np.sin(along / rng.uniform(180, 300) + rng.uniform(0, 6))
    half = rng.uniform(40, 90)
    inside = _step(half - np.abs(across), 10.0) * _step(rng.uniform(250, 450) - np.abs(along), 10)
    streaks = 1 + 0.12 * np.sin(across / 7) + 0.1 * np.sin(along / 60)
    od = rng.uniform(0.8, 1.5) * (inside * streaks)[..., None] * np.asarray(ink)
    return light * 10.0**-od, inside > 0.5


def _bubble(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    """Air under the coverslip: a dark neutral rim, a bright line inside it, blur within."""
    y, x = _place(tissue, mpp, rng)
    radius, width = rng.uniform(90, 220), rng.uniform(6, 14)
    rows, columns = (np.arange(n) * mpp for n in light.shape[:2])
    away = np.hypot(rows[:, None] - y, columns[None] - x) - radius
    rim = rng.uniform(0.5, 1.0) * np.exp(-((away / (width / 2)) ** 2))
    shine = -0.06 * np.exp(-(((away + 1.6 * width) / (width / 2)) ** 2))
    within = _step(-away, 3.0)[..., None]
    inner = _blur(light, 5 / mpp) ** 0.8
    seen = within * inner + (1 - within) * light
    return np.minimum(seen * 10.0 ** -(rim + shine)[..., None], 1.04), away < width / 2


def _blood(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    """A pool of erythrocytes, close together, over what lies beneath."""
    y, x = _place(tissue, mpp, rng)
    radius = rng.uniform(70, 130)
    away = _wobbly(light.shape, y, x, mpp, rng, 0.25)
    count = int(3.2 * radius**2 / 30)
    od: Array = np.zeros(light.shape[:2])
    reach = int(np.ceil(5 / mpp))
    for _ in range(count):
        turn, out = rng.uniform(0, 2 * np.pi), radius * np.sqrt(rng.uniform())
        cy, cx = (y + out * np.sin(turn)) / mpp, (x + out * np.cos(turn)) / mpp
        top, left = int(cy) - reach, int(cx) - reach
        if min(top, left) < 0 or top + 2 * reach >= len(od) or left + 2 * reach >= light.shape[1]:
            continue
        rows, columns = (np.arange(2 * reach) + start - c for start, c in ((top, cy), (left, cx)))
        distance = np.hypot(rows[:, None], columns[None]) * mpp
        disc = _step(rng.uniform(3.1, 3.7) - distance, 0.5) * (0.8 + 0.2 * (distance / 3.5) ** 2)
        window = od[top : top + 2 * reach, left : left + 2 * reach]
        np.maximum(window, rng.uniform(0.85, 1.15) * disc, out=window)
    strength = rng.uniform(0.45, 0.7)
    covered = od > 0.3
    beneath = np.where(covered[..., None], np.maximum(light, 0.85), light)
    pool = _blur(covered.astype(float), 6 / mpp) > 0.4
    return beneath * 10.0 ** -(strength * od[..., None] * _HEMOGLOBIN), pool & (away < 2 * radius)


def _coverslip(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    """The edge of the coverslip: a straight dark line with a bright one, right across."""
    y, x = _place(tissue, mpp, rng)
    across, _ = _turned(light.shape, y, x, rng.uniform(0, np.pi), mpp)
    width = rng.uniform(8, 16)
    line = rng.uniform(0.4, 0.9) * np.exp(-((across / (width / 2)) ** 2))
    line -= 0.05 * np.exp(-(((across - 1.5 * width) / (width / 2)) ** 2))
    seen = np.minimum(light * 10.0 ** -line[..., None], 1.04)
    return seen, np.abs(across) < width


def _debris(light: Array, tissue: Mask, mpp: float, rng: np.random.Generator) -> Painted:
    """Opaque dust: a few black grains."""
    mask = np.zeros(tissue.shape, bool)
    for _ in range(4):
        y, x = _place(tissue, mpp, rng)
        mask |= _wobbly(light.shape, y, x, mpp, rng, 0.3) < rng.uniform(18, 30)
    cover = _blur(mask.astype(float), 1.5 / mpp)
    return light * 10.0 ** -(1.6 * cover)[..., None], mask


_PAINTERS: dict[str, Callable[[Array, Mask, float, np.random.Generator], Painted]] = {
    "fold": _fold,
    "blur": _blur_patch,
    "bubble": _bubble,
    "blood": _blood,
    "coverslip": _coverslip,
    "debris": _debris,
}


def _place(tissue: Mask, mpp: float, rng: np.random.Generator) -> tuple[float, float]:
    """A place in the tissue, in um, away from the border of the picture."""
    margin = [n // 6 for n in tissue.shape]
    inner = np.zeros_like(tissue)
    inner[margin[0] : -margin[0], margin[1] : -margin[1]] = True
    pixels = np.argwhere(tissue & inner)
    y, x = pixels[rng.integers(len(pixels))]
    return float(y) * mpp, float(x) * mpp


def _turned(
    shape: tuple[int, ...], y: float, x: float, angle: float, mpp: float
) -> tuple[Array, Array]:
    """Coordinates in um across and along a line through (y, x)."""
    down, right = (np.arange(n) for n in shape[:2])
    dy, dx = down[:, None] * mpp - y, right[None] * mpp - x
    return np.cos(angle) * dy - np.sin(angle) * dx, np.sin(angle) * dy + np.cos(angle) * dx


def _wobbly(
    shape: tuple[int, ...], y: float, x: float, mpp: float, rng: np.random.Generator, wobble: float
) -> Array:
    """Distance in um from (y, x), stretched by a wavy factor around it."""
    down, right = (np.arange(n) for n in shape[:2])
    dy, dx = down[:, None] * mpp - y, right[None] * mpp - x
    turn = np.arctan2(dy, dx)
    waves = sum(np.sin(k * turn + rng.uniform(0, 6)) / k for k in (2, 3, 5))
    return np.asarray(np.hypot(dy, dx) * (1 + wobble * waves))


def _step(distance: Array, width_um: float) -> Array:
    return np.asarray(1 / (1 + np.exp(-4 * np.clip(distance / width_um, -20, 20))))


def _blur(image: Array, sigma_px: float) -> Array:
    import cv2

    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px))
