"""Everything drawn for one slide, before any pixel exists."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from histoquant.phantom.cells import Placement, finish
from histoquant.phantom.extras import Extras, draw_extras, populate
from histoquant.phantom.geometry import Section, make_section
from histoquant.phantom.noise import Array, stream
from histoquant.phantom.nucleus import Nucleus, Vessel
from histoquant.phantom.profile import Profile, cut_obliquely, make_profile
from histoquant.phantom.recipe import Marker, PhantomRecipe
from histoquant.phantom.tissue import Fields, JunctionDistance


@dataclass(frozen=True)
class Scanner:
    """What one stainer and one scanner do to a slide."""

    white: Array
    hematoxylin: Array
    dab: Array
    melanin: Array
    background_dab: float
    psf_sigma_um: float
    tilt: Array
    """Unevenness of the illumination along y, x and from the centre outwards."""

    @classmethod
    def draw(cls, recipe: PhantomRecipe, seed: int) -> Scanner:
        """Draw white level, stain vectors, blur and illumination of a slide."""
        rng = stream(seed, "scanner")
        low, high = recipe.white
        white = np.clip(rng.uniform(low, high) + rng.uniform(-4, 4, 3), low, high)
        hematoxylin = _turned(recipe.hematoxylin_vector, recipe.vector_jitter_deg, rng)
        dab = _turned(recipe.dab_vector, recipe.vector_jitter_deg, rng)
        pigment = 0.34 * hematoxylin + 0.71 * dab
        return cls(
            white=white,
            hematoxylin=hematoxylin,
            dab=dab,
            melanin=pigment / np.linalg.norm(pigment),
            background_dab=float(rng.uniform(*recipe.background_dab_od)),
            psf_sigma_um=float(rng.uniform(*recipe.psf_sigma_um)),
            tilt=rng.uniform(-1, 1, 3),
        )


def _turned(vector: tuple[float, ...], spread_deg: float, rng: np.random.Generator) -> Array:
    unit = np.array(vector) / np.linalg.norm(vector)
    aside = np.cross(unit, rng.standard_normal(3))
    aside /= np.linalg.norm(aside)
    # Beyond two spreads a vector would no longer be the stain it is named after.
    angle = np.deg2rad(np.clip(abs(rng.normal(0, spread_deg)), 0, 2 * spread_deg))
    turned = np.maximum(np.cos(angle) * unit + np.sin(angle) * aside, 0.02)
    result: Array = turned / np.linalg.norm(turned)
    return result


@dataclass(frozen=True)
class Scene:
    """One phantom slide: recipe, geometry, cells, marker, scanner."""

    marker: Marker
    seed: int
    preset: str
    recipe: PhantomRecipe
    mpp: float
    shape: tuple[int, int]
    """Pixels (y, x) of level 0."""
    angle_deg: float
    section: Section
    junction: JunctionDistance
    fields: Fields
    nuclei: tuple[Nucleus, ...]
    vessels: tuple[Vessel, ...]
    profile: Profile
    scanner: Scanner
    dust: Array
    """(n, 4): y, x, radius in um and OD of specks on the glass."""
    extras: Extras | None = None
    """What plain skin lacks; None in plain skin."""

    @property
    def size_um(self) -> tuple[float, float]:
        """Height and width of the slide."""
        return self.shape[0] * self.mpp, self.shape[1] * self.mpp


def make_scene(
    marker: Marker,
    seed: int,
    preset: str,
    recipe: PhantomRecipe,
    mpp: float,
    size_mm: tuple[float, float],
    angle_deg: float | None,
) -> Scene:
    """Draw a scene; ``size_mm`` is (width, height), ``angle_deg`` None draws any angle."""
    width, height = (round(length * 1000 / mpp) for length in size_mm)
    size_um = (height * mpp, width * mpp)
    if angle_deg is None:
        angle_deg = float(stream(seed, "angle").uniform(0, 360))
    incidents = recipe.incidents
    if incidents is not None:
        recipe = _with_ridges(recipe, stream(seed, "ridges").uniform(*incidents.ridge_factor))
    section = make_section(recipe, seed, size_um, angle_deg)
    junction = JunctionDistance(section)
    fields = Fields.make(seed)
    placed, vessels = Placement(section, recipe, seed, fields, junction).run()
    profile = make_profile(recipe, seed, junction.length_um)
    extras = None
    if incidents is not None:
        extras = draw_extras(section, incidents, seed, size_um)
        placed = populate(placed, section, junction, extras, incidents, seed)
        profile = cut_obliquely(profile, incidents, seed)
    nuclei = [
        nucleus
        for nucleus in finish(placed, recipe, seed, marker, junction)
        if 0 <= nucleus.y < size_um[0] and 0 <= nucleus.x < size_um[1]
    ]
    return Scene(
        marker=marker,
        seed=seed,
        preset=preset,
        recipe=recipe,
        mpp=mpp,
        shape=(height, width),
        angle_deg=angle_deg,
        section=section,
        junction=junction,
        fields=fields,
        nuclei=tuple(nuclei),
        vessels=tuple(vessels),
        profile=profile,
        scanner=Scanner.draw(recipe, seed),
        dust=_draw_dust(recipe, seed, size_um),
        extras=extras,
    )


def _with_ridges(recipe: PhantomRecipe, factor: float) -> PhantomRecipe:
    low, high = recipe.ridge_height_um
    return replace(recipe, ridge_height_um=(factor * low, factor * high))


def _draw_dust(recipe: PhantomRecipe, seed: int, size_um: tuple[float, float]) -> Array:
    rng = stream(seed, "dust")
    count = rng.poisson(recipe.dust_per_mm2 * size_um[0] * size_um[1] * 1e-6)
    places = rng.uniform(0, 1, (count, 2)) * size_um
    return np.column_stack([places, rng.uniform(0.7, 2.6, count), rng.uniform(0.03, 0.30, count)])
