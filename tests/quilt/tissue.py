"""Densities of the whole section: its layers joined, its edges and what damage there is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from quilt.border import Anatomy
from quilt.chance import happens
from quilt.layers import HIGHEST_CORNEUM_UM, Layers, layers_of, places_of
from quilt.raster import TEXTURE_UM, blurred, looked_up, sample, soft
from quilt.skin import Array, Mask, Plane, Preset
from quilt.sources import sources

LEAST_CLEFT_UM = 0.3  # narrower ones are none
CLEFT_BELOW_UM = 2.0  # how far off the border a cleft begins
# Epidermis varies less in H-DAB than in eosin: its protein, and what eosin adds to that.
PROTEIN, PROTEIN_PER_EOSIN = 0.25, 0.35
FIBRES = 0.55  # protein in the dermis above which there are fibres, below it clefts
KERATIN = 0.9  # what a lumen holds, of the density of corneum
LOOSE_FLATNESS = 1.9  # how much longer than high a loose bit is


@dataclass(frozen=True)
class Tissue:
    """Densities (y, x, 3) of hematoxylin, protein and melanin.

    `epidermal` and `whole` are shares: of epithelium in a pixel, and of what the section's
    edges leave. `loose` is epidermis on the glass.
    """

    densities: Plane
    epidermal: Plane
    whole: Plane
    loose: Mask


def _whole(anatomy: Anatomy, dermis: Plane, rng: np.random.Generator) -> Plane:
    """Share that the section's edges leave; dermis breaks along its clefts."""
    section = anatomy.section
    protein = blurred(np.tanh(2 * dermis[..., 1]), 1.2 / section.frame.mpp)
    # Not so the epidermis: below it that begins over 20 um.
    ragged = (protein - FIBRES) * np.clip((section.below_um - 4) / 20, 0, 1)
    ragged_um = rng.uniform(8, 16) * np.clip(ragged, -0.6, 0.4)
    return soft(section.tissue_um + ragged_um, 0.8)


def _joined(anatomy: Anatomy, layers: Layers, epidermal: Plane) -> Plane:
    """Join dermis, epithelium, corneum and the keratin in lumens."""
    section, lumen = anatomy.section, anatomy.appendages.lumen_um
    dermis, epidermis = layers.dermis, layers.epidermis
    share = epidermal[..., None]
    joined = dermis * (1 - share) + epidermis * share
    protein = (PROTEIN + PROTEIN_PER_EOSIN * epidermis[..., 1]) * epidermal
    joined[..., 1] = dermis[..., 1] * (1 - epidermal) + protein
    above = soft(-section.down_um)[..., None]
    dense = soft(section.down_um + section.corneum_um, 1.5)
    joined = joined * (1 - above) + layers.corneum * above * dense[..., None]
    if (lumen < 0).any():
        along, down = places_of(section)
        slanting = along * 0.7 + down * 0.7  # so that lumens differ at any course
        height = np.clip(-lumen * 2 + 1, 0, HIGHEST_CORNEUM_UM)  # lamellae twice as dense
        keratin = sample(layers.corneum_texture, slanting, height)
        share = soft(-lumen, 0.8)[..., None]
        joined = joined * (1 - share) + keratin * share * KERATIN
    return np.asarray(joined)


def _cleft_um(anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """Width of the split below the epidermis, along the walk."""
    walk = anatomy.walk
    table = np.arange(len(walk.table_um))
    width = np.zeros(len(table))
    for _ in range(rng.integers(1, 4)):
        start_um, end_um = walk.ends_um(int(rng.integers(len(anatomy.surface))))
        first = int((start_um + rng.uniform(0, 0.8) * (end_um - start_um)) / TEXTURE_UM)
        half = int(rng.uniform(50, 150) / TEXTURE_UM) / 2
        bow = np.clip(1 - ((table - first - half) / half) ** 2, 0, 1)
        width = np.maximum(width, rng.uniform(3, 10) * bow)
    return width


def _without_cleft(anatomy: Anatomy, rng: np.random.Generator) -> Plane:
    """Share that remains where the epidermis has come off, just below its border."""
    width = looked_up(anatomy.walk.table_um, _cleft_um(anatomy, rng), anatomy.at_um)
    depth = anatomy.depth_um
    below, above = soft(-depth - CLEFT_BELOW_UM), soft(width + CLEFT_BELOW_UM + depth)
    gone = below * above * anatomy.near * (width > LEAST_CLEFT_UM)
    return np.asarray(1 - gone)


def _with_loose_bit(
    tissue: Tissue, anatomy: Anatomy, layers: Layers, rng: np.random.Generator
) -> Tissue:
    """Lay a bit of epidermis on the glass above the corneum, an uneven ellipse."""
    section = anatomy.section
    middle_u = rng.uniform(0.2, 0.8) * section.length_um
    middle_v = -section.profile.corneum_um - rng.uniform(32, 45)
    radius = rng.uniform(16, 22)
    du, dv = section.along_um - middle_u, section.down_um - middle_v
    edge = radius * (1 + 0.12 * np.sin(5 * np.arctan2(dv, du)))  # five bumps
    distance = np.hypot(du / LOOSE_FLATNESS, dv) - edge
    along, _ = places_of(section)
    # Its middle is what the texture has 60 um down, beside what lies below it in the section.
    bit = sample(layers.spinous_texture, along + 40, np.clip(dv + 60, 1, None))
    protein = np.array([0, PROTEIN, 0], np.float32)
    bit = bit * np.array([1, PROTEIN_PER_EOSIN, 0], np.float32) + protein
    share = soft(-distance)[..., None]
    densities = tissue.densities * (1 - share) + bit * share
    return replace(tissue, densities=densities, loose=distance < 0)


def tissue_of(anatomy: Anatomy, preset: Preset, rng: np.random.Generator) -> Tissue:
    """Fill a section with its textures."""
    layers = layers_of(anatomy, preset, sources(), rng)
    # Far from the border only the side counts.
    far_um = np.where(anatomy.epithelium, 9, -9)
    epidermal = soft(np.where(anatomy.near, anatomy.depth_um, far_um))
    whole = _whole(anatomy, layers.dermis, rng)
    densities = _joined(anatomy, layers, epidermal) * whole[..., None]
    if happens(rng, preset.cleft_chance) and anatomy.surface:
        densities = densities * _without_cleft(anatomy, rng)[..., None]
    tissue = Tissue(densities, epidermal, whole, loose=np.zeros(whole.shape, bool))
    if happens(rng, preset.detached_chance):
        tissue = _with_loose_bit(tissue, anatomy, layers, rng)
    return tissue
