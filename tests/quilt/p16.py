"""DAB of p16: in the positive nuclei, and a little of it around them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import find_objects

from quilt.cells import Cells
from quilt.chance import blotches, grain
from quilt.raster import blurred
from quilt.skin import ADNEXA, DERMIS, EPIDERMIS, Array, Labels, Mask, Plane, Preset, Table
from quilt.tissue import Tissue

EDGE_BLUR_UM = 0.4
CYTOPLASM_UM = 3.0  # sigma over which the stain of a nucleus spreads into its cell
SOME_WEAK = 0.3  # share of positive nuclei that are weak
PALE, PALE_DAB = 0.8, 0.8  # up to this strength of hematoxylin, a slide has so much of its DAB
# Share of nuclei that are positive; each slide draws its own.
EPIDERMAL_SHARE, DERMAL_SHARE, ADNEXAL_SHARE = (0.05, 0.15), (0.03, 0.10), (0.02, 0.10)
WEAK_SPAN_OD = 0.2  # of weak nuclei, from the preset's weakest
STRONG_OD = 0.5, 1.05
HEMATOXYLIN_LEFT = 0.6, 0.9  # of a positive nucleus: DAB hides some
CHROMATIN_OD = 0.45  # hematoxylin of a nucleus in which DAB has its nominal strength
GRAIN_WIDTH_UM = 0.5


@dataclass(frozen=True)
class Stained:
    """DAB, what it leaves of the hematoxylin, and the nuclei with who is positive."""

    dab: Plane
    hematoxylin_left: Plane
    nuclei: Table


def _positive(cells: Cells, shape: tuple[int, int], mpp: float, rng: np.random.Generator) -> Mask:
    """Draw who is positive: of each compartment a share, more in some places than in others."""
    shares = np.zeros(ADNEXA + 1)
    shares[EPIDERMIS] = rng.uniform(*EPIDERMAL_SHARE)
    shares[DERMIS] = rng.uniform(*DERMAL_SHARE)
    shares[ADNEXA] = rng.uniform(*ADNEXAL_SHARE)
    patches = blotches(rng, shape, 60 / mpp)
    pixels = (np.stack([cells.nuclei["y"], cells.nuclei["x"]]) / mpp).astype(int)
    rows, columns = np.clip(pixels, 0, np.array(shape)[:, None] - 1)
    odds = np.exp(0.5 * patches[rows, columns] - 0.12)  # about 1 in the mean
    return np.asarray(rng.random(len(cells.nuclei)) < shares[cells.codes] * odds)


def _convex(labels: Labels, numbers: Labels) -> Labels:
    """Fill the hollows of these nuclei: a positive one shows as a whole."""
    labels = labels.copy()
    boxes = find_objects(labels)
    for number in numbers:
        part = labels[boxes[number - 1]]
        points = np.argwhere(part == number)[:, ::-1].astype(np.int32)
        hull = np.zeros(part.shape, np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(points), 1)
        part[(hull > 0) & (part == 0)] = number
    return labels


def _strengths_od(preset: Preset, count: int, stain: float, rng: np.random.Generator) -> Array:
    """DAB of nuclei if they are positive."""
    weak = rng.random(count) < SOME_WEAK
    low = rng.uniform(preset.weakest_od, preset.weakest_od + WEAK_SPAN_OD, count)
    od = np.where(weak, low, rng.uniform(*STRONG_OD, count))
    return np.asarray(od * (1 if stain > PALE else PALE_DAB))


def _grown(labels: Labels, od: Plane, zone: Mask) -> Labels:
    """Let positive nuclei grow by a pixel into what is none: their stain runs."""
    positive = np.where(od[labels] > 0, labels, 0).astype(np.float32)
    around = cv2.dilate(positive, np.ones((3, 3))).astype(int)
    return np.where(labels > 0, labels, np.where(zone, around, 0))


def _chromatin(hematoxylin: Plane) -> Plane:
    """Density of DAB as chromatin has it: about half of its texture shows."""
    return 0.55 + 0.45 * np.clip(hematoxylin / CHROMATIN_OD, 0.3, 1.6)


def _speckles(shape: tuple[int, int], mpp: float, rng: np.random.Generator) -> Plane:
    """Grain of the DAB itself, as strong at any scale: its blur takes more off at a fine one."""
    strength = 1.8 * GRAIN_WIDTH_UM / mpp
    return np.clip(1 + 0.22 * grain(rng, shape, mpp) * strength, 0.4, 1.6)


def stained_p16(
    cells: Cells,
    tissue: Tissue,
    preset: Preset,
    stain: float,
    mpp: float,
    rng: np.random.Generator,
) -> Stained:
    """Make some nuclei positive and stain them; `stain` is the slide's in hematoxylin."""
    hematoxylin = tissue.densities[..., 0]
    positive = _positive(cells, hematoxylin.shape, mpp, rng)
    numbers = cells.numbers[positive]
    labels = _convex(cells.labels, numbers)
    od, left = np.zeros(labels.max() + 1, np.float32), np.ones(labels.max() + 1, np.float32)
    od[numbers] = _strengths_od(preset, len(positive), stain, rng)[positive]
    left[numbers] = rng.uniform(*HEMATOXYLIN_LEFT, len(numbers))
    inside = blurred(od[_grown(labels, od, cells.zone)], EDGE_BLUR_UM / mpp)
    inside = inside * _chromatin(hematoxylin) * _speckles(labels.shape, mpp, rng)
    around = blurred(od[labels], CYTOPLASM_UM / mpp) * tissue.epidermal
    dab = inside + rng.uniform(0, preset.cytoplasm) * around * tissue.whole
    nuclei = cells.nuclei.copy()
    nuclei["positive"] = positive
    return Stained(dab, blurred(left[labels], EDGE_BLUR_UM / mpp), nuclei)
