"""What a phantom slide is made of: every knob, with its unit, in one frozen recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Literal, get_args

from histoquant.errors import SettingsError
from histoquant.phantom.incidents import FEW, MANY, SOME, Incidents

Marker = Literal["p16", "col7"]
Preset = Literal["easy", "typical", "hard", "easy_skin", "typical_skin", "hard_skin"]

Range = tuple[float, float]
"""Lowest and highest value of something drawn per slide, per cell or along the arc."""


@dataclass(frozen=True)
class PhantomRecipe:
    """Everything that decides how a phantom looks, apart from its seed, size and angle.

    A pair of numbers is a range from which values are drawn. Lengths are in um, optical
    densities (OD) are along the unit vector of the stain and before optics and sensor.
    """

    # Outline of the section
    section_length_um: float | None = None
    """Length between the punch edges; None takes what fits on the slide."""
    section_depth_um: Range = (300.0, 380.0)
    """From the skin surface to the lower cut; shortened where the slide is small."""
    glass_margin_um: float = 26.0
    """Least width of glass around the section."""
    bend_radius_um: float = 2400.0
    """Radius of the bend of the whole section; its sign is drawn, 0 keeps it straight."""
    warp_um: float = 7.0
    """Amplitude of the smooth distortion of the tissue (tilts ridges, bends the surface)."""
    cut_roughness_um: Range = (3.0, 11.0)
    """Amplitude of the irregularity of the punch edges and of the lower edge."""

    # Epidermis
    surface_undulation_um: float = 5.0
    """Amplitude of the waves of the skin surface."""
    furrow_depth_um: Range = (6.0, 20.0)
    """Depth of the skin furrows, one about every 350 um."""
    corneum_um: Range = (11.0, 24.0)
    """Thickness of the stratum corneum along the section."""
    plate_um: Range = (46.0, 66.0)
    """Viable epidermis above the papillae, along the section."""
    ridge_height_um: Range = (14.0, 50.0)
    """How far a rete ridge reaches below the plate."""
    ridge_width_um: Range = (30.0, 64.0)
    """Width of a rete ridge at half its height."""
    ridge_spacing_um: Range = (66.0, 150.0)
    """Distance between neighbouring rete ridges."""
    serration_um: float = 0.8
    """Amplitude of the fine basal serration of the junction."""

    # Nuclei
    basal_spacing_um: Range = (4.9, 7.0)
    """Distance between basal nuclei along the junction."""
    suprabasal_area_um2: float = 104.0
    """Area of epidermis per suprabasal nucleus."""
    papillary_per_mm2: float = 1150.0
    """Fibroblasts per area of papillary dermis."""
    reticular_per_mm2: float = 480.0
    """Fibroblasts per area of reticular dermis."""
    vessels_per_mm2: float = 34.0
    """Small vessels per area of dermis, with endothelial cells and some lymphocytes."""
    hematoxylin_od: Range = (0.28, 0.66)
    """Mean hematoxylin OD of a nucleus; lymphocytes take the upper part and a little more."""
    chromatin: float = 0.20
    """Relative standard deviation of the OD inside a nucleus."""
    epidermis_hematoxylin_od: float = 0.105
    """Hematoxylin in the cytoplasm of the epidermis."""
    dermis_hematoxylin_od: float = 0.075
    """Hematoxylin of a collagen bundle; the gaps between bundles are almost clear."""

    # Pigment
    melanin_fraction: float = 0.07
    """Share of basal nuclei that wear a melanin cap."""
    melanin_od: Range = (0.18, 0.55)
    """Peak OD of a cap, along the melanin vector (0.34 hematoxylin + 0.71 DAB)."""

    # p16
    p16_basal_fraction: float = 0.16
    """Share of basal nuclei that are positive."""
    p16_suprabasal_fraction: float = 0.14
    """Share of suprabasal nuclei that are positive."""
    p16_dermal_fraction: float = 0.10
    """Share of fibroblast nuclei that are positive."""
    p16_od: Range = (0.30, 1.00)
    """Mean nuclear DAB OD of clearly positive nuclei."""
    p16_weak_od: Range = (0.22, 0.30)
    """Mean nuclear DAB OD of weakly positive nuclei."""
    p16_weak_share: float = 0.08
    """Share of the positives that are weak."""
    p16_negative_od: Range = (0.0, 0.08)
    """Mean nuclear DAB OD of negatives; low values are the common ones."""
    p16_cytoplasm_ratio: Range = (0.18, 0.48)
    """Cytoplasmic over nuclear DAB OD beside a positive nucleus."""

    # Collagen VII
    col7_peak_od: float = 0.72
    """Median peak DAB OD of the line along the junction."""
    col7_variation: float = 0.24
    """Standard deviation of the logarithm of the peak along the arc."""
    col7_peak_floor_od: float = 0.30
    """Least peak OD outside gaps, so that a gap is a gap."""
    col7_fwhm_um: Range = (1.6, 3.4)
    """Full width at half maximum of the line along the arc, before optics."""
    col7_offset_um: Range = (0.0, 0.6)
    """Depth of the line's centre below the junction, one value per slide."""
    col7_gap_share: float = 0.10
    """Share of the junction without collagen VII, less what is too short for a gap of its own."""
    col7_gap_um: Range = (15.0, 120.0)
    """Lengths of gaps; short ones are the common ones."""

    # Staining and scanner
    background_dab_od: Range = (0.012, 0.035)
    """Unspecific DAB in the tissue, one value per slide."""
    stain_strength: float = 1.0
    """Factor on the counterstain."""
    hematoxylin_vector: tuple[float, float, float] = (0.650, 0.704, 0.286)
    """Colour of hematoxylin as OD of red, green and blue."""
    dab_vector: tuple[float, float, float] = (0.268, 0.570, 0.776)
    """Colour of DAB as OD of red, green and blue."""
    vector_jitter_deg: float = 2.5
    """Standard deviation of the angle between a slide's stain vectors and these."""
    white: Range = (232.0, 250.0)
    """White level; the three channels of a slide lie within a few counts of each other."""
    uneven_fraction: float = 0.008
    """Unevenness of the illumination, peak to peak."""
    veil_fraction: float = 0.006
    """Stray light, as a fraction of white added everywhere."""
    psf_sigma_um: Range = (0.38, 0.50)
    """Gaussian blur of the optics, one value per slide."""
    noise_counts: float = 1.1
    """Standard deviation of the sensor noise at white, in grey levels."""
    dust_per_mm2: float = 9.0
    """Specks on the glass."""
    jpeg_quality: int = 80
    """Quality of the JPEG tiles."""
    chroma_subsampling: tuple[int, int] = (2, 1)
    """Horizontal and vertical subsampling of the colour channels."""

    incidents: Incidents | None = None
    """Follicles, glands, pigment, inflammation and damage; None draws plain skin."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "Range" and not 0 <= value[0] <= value[1]:
                raise SettingsError(f"recipe: {field.name} must rise from 0 or more, got {value}")
            if isinstance(value, (int, float)) and value < 0:
                raise SettingsError(f"recipe: {field.name} must not be negative, got {value}")
        for name in ("p16_basal_fraction", "p16_suprabasal_fraction", "p16_dermal_fraction"):
            if getattr(self, name) > 1:
                raise SettingsError(f"recipe: {name} is a share, got {getattr(self, name)}")
        if self.col7_gap_share > 0.8:
            raise SettingsError(f"recipe: col7_gap_share above 0.8: {self.col7_gap_share}")

    def as_dict(self) -> dict[str, object]:
        """Return the recipe as plain values for a JSON file."""
        values = asdict(self)
        if self.incidents is None:
            del values["incidents"]
        return values


_PRESETS: dict[str, dict[str, object]] = {
    "easy": {
        "warp_um": 4.0,
        "ridge_height_um": (12.0, 34.0),
        "melanin_fraction": 0.0,
        "chromatin": 0.12,
        "p16_weak_share": 0.0,
        "p16_negative_od": (0.0, 0.04),
        "background_dab_od": (0.005, 0.012),
        "vector_jitter_deg": 0.0,
        "uneven_fraction": 0.0,
        "veil_fraction": 0.0,
        "psf_sigma_um": (0.35, 0.36),
        "noise_counts": 0.6,
        "dust_per_mm2": 0.0,
        "jpeg_quality": 92,
        "chroma_subsampling": (1, 1),
    },
    "typical": {},
    "hard": {
        "warp_um": 9.0,
        "ridge_height_um": (22.0, 60.0),
        "melanin_fraction": 0.24,
        "hematoxylin_od": (0.22, 0.50),
        "stain_strength": 0.85,
        "p16_weak_share": 0.16,
        "col7_peak_od": 0.45,
        "col7_peak_floor_od": 0.22,
        "col7_variation": 0.32,
        "background_dab_od": (0.03, 0.06),
        "vector_jitter_deg": 4.0,
        "uneven_fraction": 0.02,
        "veil_fraction": 0.025,
        "psf_sigma_um": (0.52, 0.60),
        "noise_counts": 1.8,
        "dust_per_mm2": 25.0,
        "jpeg_quality": 75,
        "chroma_subsampling": (2, 2),
    },
}
_PRESETS |= {
    f"{name}_skin": {**_PRESETS[name], "incidents": incidents}
    for name, incidents in (("easy", FEW), ("typical", SOME), ("hard", MANY))
}


def preset_recipe(preset: Preset = "typical", **overrides: object) -> PhantomRecipe:
    """Return the recipe of a preset with some knobs changed.

    Parameters
    ----------
    preset
        ``easy``, ``typical`` or ``hard``: plain skin; ``easy_skin``, ``typical_skin`` or
        ``hard_skin``: with the follicles, glands, pigment and damage of real sections.
    **overrides
        Fields of :class:`PhantomRecipe`.

    Raises
    ------
    SettingsError
        If the preset or a field does not exist, or a value is out of range.
    """
    if preset not in get_args(Preset):
        raise SettingsError(f"phantom preset {preset!r}: choose from {', '.join(_PRESETS)}")
    unknown = set(overrides) - {field.name for field in fields(PhantomRecipe)}
    if unknown:
        raise SettingsError(f"no such knob in the phantom recipe: {', '.join(sorted(unknown))}")
    return replace(PhantomRecipe(), **{**_PRESETS[preset], **overrides})  # type: ignore[arg-type]
