"""Textures of dermis, epidermis and corneum, laid over a section: pieces of its densities."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, label, map_coordinates, mean, median_filter

from quilt.border import Anatomy
from quilt.chance import blotches, happens, within
from quilt.layout import Section
from quilt.places import BASAL, PIGMENTED
from quilt.quilting import blend, quilted, quilted_strip, seam
from quilt.raster import TEXTURE_UM, blurred, looked_up, sample, soft
from quilt.skin import Array, Plane, Preset
from quilt.sources import BASAL_PX, GRANULAR_PX, Sources

ASIDE_UM = 60.0  # where the section begins in its textures
SPARE_UM = 140.0  # by how much these are wider
LEAST_SPINOUS_UM = 150.0  # height of its texture
GRANULAR_SEAM_PX = 24, 60  # rows in which granular layer and spinous texture are joined
BASAL_SEAM_PX = 18, 38  # and basal layer and what is above it
HIGHEST_BASAL_UM = 29.0  # of its strip, to be used
HIGHEST_CORNEUM_UM = 54.0
HIGHEST_UM = 70.0  # above the surface all pixels show one row of a texture
PIGMENTED_WEIGHT = 3.0
PROBE_UM = 4.0  # that far off the border it is certain on which side a place is
LYMPHOCYTES_PX = 560, 900  # of the texture, which is mirrored beyond
SCARCE = 1.3  # height of patches, in their standard deviations, where lymphocytes are few
CELL_OD = 0.24  # hematoxylin that tells lymphocytes from what is between them


@dataclass(frozen=True)
class Layers:
    """Each layer at every pixel, and the textures from which bits elsewhere are taken."""

    dermis: Plane
    epidermis: Plane
    corneum: Plane
    spinous_texture: Plane
    corneum_texture: Plane


def places_of(section: Section) -> tuple[Plane, Plane]:
    """Where the section's pixels lie in its textures, um along and down."""
    return section.along_um + ASIDE_UM, np.clip(section.down_um, -HIGHEST_UM, None)


def _width_px(section: Section) -> int:
    return int((section.length_um + SPARE_UM) / TEXTURE_UM)


def _dermis(section: Section, pieces: Sources, rng: np.random.Generator) -> Plane:
    """Papillary dermis below the epidermis, reticular dermis further down."""
    papillary_um = section.profile.deepest_um + rng.uniform(20, 60)
    size_px = int((section.depth_um + ASIDE_UM) / TEXTURE_UM), _width_px(section)

    def pieces_at(row: float) -> list[Plane]:
        return pieces.papillary if row * TEXTURE_UM < papillary_um else pieces.reticular

    texture = quilted(rng, pieces_at, size_px, block_px=96, overlap_px=28)
    return sample(texture, *places_of(section))


def _spinous(section: Section, pieces: Sources, rng: np.random.Generator) -> Plane:
    height_px = int(max(section.profile.deepest_um, LEAST_SPINOUS_UM) / TEXTURE_UM)
    size_px = height_px, _width_px(section)
    return quilted(rng, lambda _: pieces.spinous, size_px, block_px=56, overlap_px=16)


def _under_granular(spinous: Plane, granular: Plane) -> Plane:
    """Join the granular layer to the spinous texture, along the surface."""
    first, last = GRANULAR_SEAM_PX
    upper, texture = spinous[:GRANULAR_PX], spinous.copy()
    cut = seam(granular[first:last, :, 0].T, upper[first:last, :, 0].T) + first
    share = (np.arange(GRANULAR_PX)[:, None] < cut).astype(np.float32)
    texture[:GRANULAR_PX] = blend(upper, granular, share)
    return texture


def _inward(anatomy: Anatomy, index: Array) -> Array:
    """Unit normals into the epithelium at points of the walk."""
    walk, mpp = anatomy.walk, anatomy.section.frame.mpp
    along = np.gradient(gaussian_filter1d(walk.points, 12, axis=0), axis=0)[index]
    normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
    normal /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    probe = (walk.points[index] + PROBE_UM * normal) / mpp
    side = map_coordinates(anatomy.depth_um, probe[:, ::-1].T, order=1, mode="nearest")
    return normal * np.sign(median_filter(side, 31))[:, None]


def _along_border(anatomy: Anatomy, plane: Plane) -> Plane:
    """Strip of a picture along the border, as basal strips are: columns along, rows away."""
    walk, mpp = anatomy.walk, anatomy.section.frame.mpp
    index = np.searchsorted(walk.at_um, walk.table_um).clip(0, len(walk.at_um) - 1)
    away_um = (np.arange(BASAL_PX) + 0.5) * TEXTURE_UM
    normal = _inward(anatomy, index)
    points = walk.points[index] + away_um[:, None, None] * normal
    columns, rows = ((points[..., k] / mpp - 0.5).astype(np.float32) for k in (0, 1))
    strip = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(strip)


def _over_basal(anatomy: Anatomy, epidermis: Plane, basal: Plane) -> Plane:
    """Join the basal layer to the epidermis, along its border."""
    first, last = BASAL_SEAM_PX
    there = _along_border(anatomy, epidermis[..., 0])
    cut = seam(basal[first:last, :, 0].T, there[first:last].T) + first
    walk, depth = anatomy.walk, anatomy.depth_um
    reach = gaussian_filter1d(cut * TEXTURE_UM, 1.0)
    edge = looked_up(walk.table_um, reach, anatomy.at_um)
    layer = sample(basal, anatomy.at_um, np.clip(depth, 0, HIGHEST_BASAL_UM))
    share = (soft(edge - depth, 0.4) * anatomy.near)[..., None]
    return np.asarray(epidermis * (1 - share) + layer * share)


def _basal(anatomy: Anatomy, preset: Preset, pieces: Sources, rng: np.random.Generator) -> Plane:
    weights = np.ones(len(BASAL))
    if happens(rng, preset.pigmented_chance):
        weights[list(PIGMENTED)] = PIGMENTED_WEIGHT
    return quilted_strip(rng, pieces.basal, len(anatomy.walk.table_um), weights=weights)


def _corneum(section: Section, texture: Plane, rng: np.random.Generator) -> Plane:
    """Corneum above the epidermis, more or less stretched and stained."""
    along, down = places_of(section)
    height = np.clip(-section.down_um, 0, HIGHEST_CORNEUM_UM) * rng.uniform(0.8, 1.3)
    hematoxylin, protein = rng.uniform(0.8, 1.5), rng.uniform(0.7, 1.4)
    return sample(texture, along, height) * np.array([hematoxylin, protein, 1], np.float32)


def _infiltrated(
    section: Section, dermis: Plane, preset: Preset, pieces: Sources, rng: np.random.Generator
) -> Plane:
    """Lay lymphocytes over the dermis, in soft patches that thin out downwards."""
    mpp = section.frame.mpp
    texture = quilted(rng, lambda _: pieces.infiltrated, LYMPHOCYTES_PX, block_px=54, overlap_px=18)
    cells = sample(texture, *places_of(section))
    amount = within(rng, preset.infiltrate)
    patches = blotches(rng, section.shape, 70 / mpp)
    patches = patches - np.clip((section.below_um - 60) / 130, 0, 2.2)  # fewer from 60 um down
    share = np.clip((patches - SCARCE + amount) / 0.5, 0, 1)
    # Whole cells: in or out, never half.
    labels, count = label(blurred(cells[..., 0], 0.5 / mpp) > CELL_OD)
    shares = mean(share, labels, np.arange(1, count + 1))
    kept = np.concatenate([[0], shares]) > rng.uniform(0.3, 0.6)
    share = np.where(labels > 0, kept[labels], share).astype(np.float32)
    return np.maximum(dermis, cells * blurred(share, 0.4 / mpp)[..., None])


def layers_of(
    anatomy: Anatomy, preset: Preset, pieces: Sources, rng: np.random.Generator
) -> Layers:
    """Quilt all textures and lay them over the section."""
    section = anatomy.section
    width_px = _width_px(section)
    dermis = _dermis(section, pieces, rng)
    spinous = _spinous(section, pieces, rng)
    upper = _under_granular(spinous, quilted_strip(rng, pieces.granular, width_px))
    basal = _basal(anatomy, preset, pieces, rng)
    epidermis = _over_basal(anatomy, sample(upper, *places_of(section)), basal)
    keratin = quilted_strip(rng, pieces.corneum, width_px, block_px=110, overlap_px=36)
    if happens(rng, preset.mirrored_corneum_chance):
        keratin = keratin[:, ::-1]
    corneum = _corneum(section, keratin, rng)
    if any(preset.infiltrate):
        dermis = _infiltrated(section, dermis, preset, pieces, rng)
    return Layers(dermis, epidermis, corneum, spinous, keratin)
