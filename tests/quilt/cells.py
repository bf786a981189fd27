"""Nuclei: what the textures show as one, by their hematoxylin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import (
    binary_fill_holes,
    binary_opening,
    find_objects,
    label,
    maximum_filter,
    percentile_filter,
)
from skimage.measure import regionprops
from skimage.segmentation import watershed

from quilt.border import Anatomy
from quilt.raster import blurred
from quilt.skin import (
    ADNEXA,
    COMPARTMENTS,
    DERMIS,
    EPIDERMIS,
    GLASS,
    NUCLEUS,
    Labels,
    Mask,
    Plane,
    Table,
)
from quilt.tissue import Tissue

COARSE_UM = 2.0  # a pixel where the background is looked at
FINE_UM, UPPER_FINE_UM = 0.55, 1.1  # sigmas at which nuclei are looked at
MIDDLE_UM, UPPER_MIDDLE_UM = 1.4, 1.8  # and at which they are densest in their middle
DENSITY_UM = 1.2  # a hematoxylin of 1 tells as much of a middle as this distance from the edge
# Least hematoxylin of a nucleus: above its background, and in all.
DERMAL_OD, UPPER_OD, LOWER_OD = (0.12, 0.20), (0.075, 0.20), (0.10, 0.24)
UPPER_UM = 17.0  # above it nuclei are pale and vesicular: they show at a coarser scale
KERATIN_UM = 2.0  # beside a lumen there is keratin without nuclei
ABOVE_CORNEUM_UM = 5.0  # its ragged top reaches that high
FLATTENED_UM = 9.0  # no nuclei are told in the granular layer, this far below the corneum
APART_UM, UPPER_APART_UM = 2.2, 3.4  # the least distance of two centres
SMOOTH_UM = 0.8  # sigma that takes off what is uneven about an outline
SPECK_UM = 0.5  # what is thinner than about twice this is no nucleus, nor part of one
AREA_UM2 = 10.0, 120.0
LEAST_EPITHELIAL_UM2 = 14.0
SPINDLE_UM2 = 95.0  # two joined nuclei of the dermis are no larger
SPINDLE_AXES, SPINDLE_NECK = 2.2, 0.42  # their length and the width of their neck, in widths
SPINDLE_SOLIDITY = 0.8


@dataclass(frozen=True)
class Cells:
    """Nuclei: `labels` has their pixels, `numbers` the label of each row of the table.

    `codes` are those of their compartments; `zone` is where nuclei can be.
    """

    labels: Labels
    zone: Mask
    numbers: Labels
    codes: Labels
    nuclei: Table


def _compartments(anatomy: Anatomy, tissue: Tissue) -> Labels:
    """Code of each pixel's compartment; lumens and all above the epidermis are glass."""
    section, inside = anatomy.section, anatomy.section.tissue_um > 0
    shown = np.where(anatomy.epidermis, inside, tissue.whole > 0.5) & (section.down_um > 0)
    lumen = anatomy.appendages.lumen_um < 0
    codes = np.where(anatomy.epidermis, np.where(lumen, GLASS, EPIDERMIS), DERMIS)
    codes = np.where(shown, np.where(anatomy.adnexa, ADNEXA, codes), GLASS)
    codes[tissue.loose] = EPIDERMIS
    return codes


def _zone(anatomy: Anatomy, tissue: Tissue, codes: Labels) -> Mask:
    """Where nuclei can be: neither keratin in and along lumens, nor corneum."""
    section = anatomy.section
    along_lumen = (anatomy.appendages.lumen_um < KERATIN_UM) & (codes != DERMIS)
    cornified = (section.down_um < FLATTENED_UM) & ~tissue.loose
    cornified &= section.down_um > -section.corneum_um - ABOVE_CORNEUM_UM
    return (codes > GLASS) & ~along_lumen & ~cornified


def _background(fine: Plane, mpp: float) -> Plane:
    """Hematoxylin between nuclei."""
    scale = mpp / COARSE_UM
    small = cv2.resize(fine, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # Nuclei fill less than seven tenths of any 26 um, so this percentile is what lies between.
    small = blurred(percentile_filter(small, 30, 13), 3)
    return np.asarray(cv2.resize(small, fine.shape[::-1]))


def _bodies(hematoxylin: Plane, mpp: float, codes: Labels, upper: Mask, zone: Mask) -> Mask:
    """Pixels of nuclei: dense in themselves, and denser than what is around."""
    fine = blurred(hematoxylin, FINE_UM / mpp)
    background = _background(fine, mpp)
    seen = np.where(upper, blurred(hematoxylin, UPPER_FINE_UM / mpp), fine)
    contrast, density = (
        np.where(codes == DERMIS, dermal, np.where(upper, above, below))
        for dermal, above, below in zip(DERMAL_OD, UPPER_OD, LOWER_OD, strict=True)
    )
    bodies = (seen - background > contrast) & (seen > density) & zone
    rounds = max(1, int(SPECK_UM / mpp))
    bodies = binary_fill_holes(binary_opening(bodies, iterations=rounds))
    return np.asarray(binary_opening(bodies, iterations=rounds))


def _highest(height: Plane, radius_px: int) -> Mask:
    """Pixels than which none within a circle is higher."""
    size = (2 * radius_px + 1,) * 2
    circle = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
    return np.asarray(height == maximum_filter(height, footprint=circle))


def _divided(hematoxylin: Plane, mpp: float, bodies: Mask, upper: Mask) -> Labels:
    """Divide what touches, at necks and between dense middles."""
    distance = cv2.distanceTransform(bodies.astype(np.uint8), cv2.DIST_L2, 5) * mpp
    coarse, fine = (blurred(hematoxylin, um / mpp) for um in (UPPER_MIDDLE_UM, MIDDLE_UM))
    height = blurred(distance, SMOOTH_UM / mpp) + DENSITY_UM * np.where(upper, coarse, fine)
    peaks = _highest(height, int(APART_UM / mpp)) & bodies
    peaks &= ~upper | _highest(height, int(UPPER_APART_UM / mpp))
    seeds = label(peaks, np.ones((3, 3)))[0]
    return np.asarray(watershed(-height, seeds, mask=bodies))


def _necks(labels: Labels) -> list[tuple[tuple[int, int], int]]:
    """Pairs of labels that touch and along how many pixels, longest first."""
    necks: Counter[tuple[int, int]] = Counter()
    for one, other in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        touching = (one != other) & (one > 0) & (other > 0)
        pairs = np.sort(np.stack([one[touching], other[touching]], axis=1), axis=1)
        necks.update(map(tuple, pairs.tolist()))
    return necks.most_common()


def _is_spindle(both: Mask, neck_px: int) -> bool:
    """Whether two parts make up one nucleus: long when joined, and no waist."""
    region = regionprops(both.astype(np.uint8))[0]
    long, short = region.axis_major_length, region.axis_minor_length
    slender, wide_neck = long > SPINDLE_AXES * short, neck_px > SPINDLE_NECK * short
    return bool(slender and wide_neck and region.solidity > SPINDLE_SOLIDITY)


def _join_spindles(labels: Labels, codes: Labels, mpp: float) -> None:
    """Join spindles of the dermis that have been divided, each from two parts at most."""
    boxes, joined = find_objects(labels), set[int]()
    for (first, second), neck_px in _necks(labels):
        if first in joined or second in joined:
            continue
        sides = zip(boxes[first - 1], boxes[second - 1], strict=True)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in sides)
        part = labels[box]
        both = (part == first) | (part == second)
        if (codes[box][both] != DERMIS).any() or both.sum() * mpp**2 > SPINDLE_UM2:
            continue
        if _is_spindle(both, neck_px):
            part[part == second] = first
            joined |= {first, second}


def _listed(labels: Labels, codes: Labels, mpp: float) -> list[tuple[int, int, float, float]]:
    """Label, compartment and centre (x, y) of what has the size of a nucleus."""
    rows = []
    for region in regionprops(labels):
        area_um2 = region.area * mpp**2
        if not AREA_UM2[0] < area_um2 < AREA_UM2[1]:
            continue
        y, x = region.centroid
        code = int(np.bincount(codes[tuple(region.coords.T)]).argmax())
        if code == DERMIS or (code != GLASS and area_um2 > LEAST_EPITHELIAL_UM2):
            rows.append((region.label, code, (x + 0.5) * mpp, (y + 0.5) * mpp))
    return rows


def cells_of(anatomy: Anatomy, tissue: Tissue) -> Cells:
    """Find all nuclei; none is positive yet."""
    mpp, hematoxylin = anatomy.section.frame.mpp, tissue.densities[..., 0]
    codes = _compartments(anatomy, tissue)
    zone = _zone(anatomy, tissue, codes)
    epithelial = (codes == EPIDERMIS) | (codes == ADNEXA)
    upper = (epithelial & (anatomy.depth_um > UPPER_UM)) | tissue.loose
    bodies = _bodies(hematoxylin, mpp, codes, upper, zone)
    labels = _divided(hematoxylin, mpp, bodies, upper)
    _join_spindles(labels, codes, mpp)
    rows = _listed(labels, codes, mpp)
    numbers, kinds = np.array([row[:2] for row in rows], int).reshape(-1, 2).T
    nuclei = np.zeros(len(rows), NUCLEUS)
    nuclei["x"], nuclei["y"] = np.array([row[2:] for row in rows]).reshape(-1, 2).T
    nuclei["compartment"] = COMPARTMENTS[kinds]
    return Cells(labels, zone, numbers, kinds, nuclei)
