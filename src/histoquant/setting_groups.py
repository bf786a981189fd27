"""Groups of settings: every choice with its unit, its default and the reason for it.

`histoquant.settings` puts them together.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Marker = Literal["p16", "col7"]
MARKERS: tuple[Marker, ...] = ("p16", "col7")

RgbVector = tuple[float, float, float]


class Group(BaseModel):
    """A group of settings: frozen, and strict about names and numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SlideSettings(Group):
    """Reading slides."""

    damaged_tiles: Literal["error", "missing"] = Field(
        "error",
        description="What becomes of a slide with unreadable tiles: error (it fails, and the tile "
        "is named) or missing (what they cover is left out of tissue, and they are counted).",
    )


class StainSettings(Group):
    """How colours become optical densities of stains."""

    preset: Literal["hdab", "he", "haec"] = Field(
        "hdab",
        description="Stain set: hdab (hematoxylin, DAB), he (hematoxylin, eosin) or haec "
        "(hematoxylin, AEC).",
    )
    source: Literal["preset", "settings", "slide", "batch"] = Field(
        "preset",
        description="Where the stain vectors come from: preset (with hematoxylin and second "
        "instead, where they are set), settings (both must be set), slide (estimated on each "
        "slide) or batch (estimated on the slides of a staining batch together, then locked). An "
        "estimate that cannot be trusted falls back to the preset, and stain_source says why.",
    )
    locked: str = Field(
        "",
        description="Written by `histoquant batch`, not by you: what the vectors of the slide's "
        "staining batch were locked to.",
    )
    white: RgbVector | None = Field(
        None,
        description="White level R, G, B (0-255). Unset: measured on this slide's own glass, "
        "because a true white of 235 taken for 255 adds 0.035 OD to every channel.",
    )
    hematoxylin: RgbVector | None = Field(
        None, description="Hematoxylin OD vector instead of the preset's (any length)."
    )
    second: RgbVector | None = Field(
        None, description="OD vector of the second stain instead of the preset's (any length)."
    )
    max_od: float = Field(
        1.9,
        gt=0.5,
        le=2.4,
        description="OD per channel from which a pixel counts as saturated and is capped: grey "
        "level 3 of 240, where one grey level is worth 0.15 OD.",
    )

    @model_validator(mode="after")
    def _vectors_are_there(self) -> Self:
        if self.source == "settings" and None in (self.hematoxylin, self.second):
            raise ValueError('source "settings" needs both hematoxylin and second')
        if self.source == "slide" and (self.hematoxylin or self.second):
            raise ValueError('source "slide" estimates the vectors: leave them unset')
        if self.source == "batch" and not self.locked and (self.hematoxylin or self.second):
            raise ValueError('source "batch" locks the vectors: leave them unset')
        return self


class FluorescenceSettings(Group):
    """Slides whose stains shine: which channel is what, and when it is positive."""

    nuclear: str | int = Field(
        "",
        description="Channel of the nuclear stain: its name, a part of it that no other channel "
        "has, or its number from 0. Unset: the one named DAPI, Hoechst or like another dye of DNA.",
    )
    marker: str | int = Field(
        "",
        description="Channel of the marker, likewise. Unset: the other one, where there are two.",
    )
    bleed: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the nuclear channel (above its background) that shows in the "
        "marker's: measured on a slide without the marker, subtracted.",
    )
    full_scale: float | None = Field(
        None,
        gt=0,
        description="Greatest grey level of the camera, from which a pixel counts as saturated. "
        "Unset: that of the file's type, or 1023, 4095 or 16383 where brightest pixels pile up.",
    )
    col7_threshold: float | None = Field(
        None,
        gt=0,
        description="A bin of the junction is positive when its peak reaches this many grey levels "
        "above background. Unset: line_share of the slide's own line, and at least noise_factor "
        "times its noise; set it where slides are to be compared.",
    )
    line_share: float = Field(
        0.3,
        gt=0,
        lt=1,
        description="Share of the slide's own line (the 75th percentile of the bins' peaks) that "
        "a bin's peak must reach where no threshold is set.",
    )
    noise_factor: float = Field(
        5.0,
        gt=0,
        description="Standard deviations of noise that a line, or a nucleus over the negative "
        "ones, must stand out by where no threshold is set.",
    )
    p16_thresholds: tuple[float, float, float] | None = Field(
        None,
        description="Mean nuclear grey levels above background from which a nucleus is 1+, 2+, "
        "3+. Unset: from the negative control where p16.threshold_source says so, else from the "
        "slide's own negative nuclei.",
    )

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        values = self.p16_thresholds
        if values is not None and not 0 < values[0] < values[1] < values[2]:
            raise ValueError(f"p16_thresholds must rise from above 0, found {values}")
        return self


class TissueSettings(Group):
    """Telling tissue from glass, on the overview."""

    overview_um: float = Field(
        8.0, gt=1, le=32, description="Pixel size of the overview (um/px) on which tissue is found."
    )
    min_od: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Least OD of tissue in its densest channel: pale dermis lies near 0.03, "
        "unevenly lit glass within 0.01 of 0.",
    )
    min_area_mm2: float = Field(
        0.02, ge=0, description="Smaller pieces of tissue are debris and are left out (mm2)."
    )


class AnatomySettings(Group):
    """Epidermis, stratum corneum and dermis."""

    mpp: float = Field(2.0, ge=1, le=4, description="Pixel size (um/px) on which compartments lie.")
    min_epidermis_area_mm2: float = Field(
        0.01, gt=0, description="Smaller pieces are not taken for surface epidermis (mm2)."
    )
    papillary_depth_um: float = Field(
        100.0, gt=0, description="Depth of the papillary band below the junction (um) [convention]."
    )
    basal_depth_um: float = Field(
        12.0,
        gt=0,
        description="An epidermal nucleus with its centre at most this far above the junction (um) "
        "is basal: a basal keratinocyte is about 10-15 um tall, its nucleus in the lower half.",
    )
    cut_edge_um: float = Field(
        150.0,
        ge=0,
        description="Junction within this distance (um, along its course) of the place where the "
        "epidermis ends or leaves the picture is excluded: crushed, and its normals run out of "
        "the tissue [convention: 100-200 um].",
    )
    cut_edge_share: float = Field(
        0.0625,
        ge=0,
        le=0.5,
        description="At most this share of a stretch is excluded at either end, so that something "
        "is left of a short one: from 2.4 mm on it is cut_edge_um.",
    )


class JunctionSettings(Group):
    """The dermal-epidermal junction as a line."""

    step_um: float = Field(2.0, gt=0, le=5, description="Spacing of the polyline's vertices (um).")
    smoothing_um: float = Field(
        1.0, gt=0, description="Gaussian sigma along the arc (um); path length depends on it."
    )
    chord_um: float = Field(
        100.0,
        gt=0,
        description="Gaussian sigma along the arc (um) of the smooth course that rete ridges and "
        "papillae are measured against.",
    )
    min_length_um: float = Field(
        150.0, gt=0, description="Shorter stretches of junction are left out (um)."
    )
    min_confidence: float = Field(
        0.15,
        ge=0,
        le=1,
        description="A bin whose border the counterstain shows less clearly than this (column "
        "confidence: 0 nothing, 1 beyond doubt) is left out: right ones lie above 0.25 on phantoms "
        "in bright field. A junction that a person drew needs none.",
    )
    min_ridge_um: float = Field(
        10.0, gt=0, description="Least height of a rete ridge above its neighbouring papillae (um)."
    )


class NucleiSettings(Group):
    """Finding nuclei."""

    mpp: float = Field(0.5, ge=0.2, le=1, description="Pixel size (um/px) of the analysis.")
    min_area_um2: float = Field(12.0, gt=0, description="Smaller objects are debris (um2).")
    max_area_um2: float = Field(250.0, gt=0, description="Larger objects are not nuclei (um2).")
    min_contrast_od: float = Field(
        0.05,
        gt=0,
        description="Least nuclear OD (hematoxylin + DAB) above the surroundings, on a slide whose "
        "nuclei are as dense as typical_od.",
    )
    typical_od: float = Field(
        0.34,
        ge=0,
        description="Median hematoxylin OD of the negative nuclei of a well stained slide. A "
        "slide's own, over fields of its tissue, scales min_contrast_od, by 0.6 to 1.25 times, so "
        "that nuclei are found alike on pale and on dark slides; 0 never scales it. Not for H&E "
        "and fluorescence.",
    )
    least_dermal_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="What lies in the dermis and has less than this share of the median OD "
        "(hematoxylin + DAB) of the slide's epidermal nuclei is left out: bits of collagen are as "
        "compact as nuclei. Where what was found in the dermis falls into a paler and a denser "
        "group, the limit lies between them, up to a share of 0.65. On textures of real skin that "
        "took out 83 to 97 % of such bits (a fifth to a third on blurred slides) and at most 6 % "
        "of the dermal nuclei. Not for H&E and fluorescence, nor with fewer than 30 epidermal "
        "nuclei; 0 turns it off.",
    )
    ring_um: float = Field(
        2.0, gt=0, le=5, description="Width of the cytoplasm ring around a nucleus (um)."
    )
    segmenter: str = Field(
        "classical",
        description="Name of the segmenter: classical, or one that a package "
        "registers under the entry point group histoquant.segmenters.",
    )

    @model_validator(mode="after")
    def _areas_in_order(self) -> Self:
        if self.min_area_um2 >= self.max_area_um2:
            msg = f"min_area_um2 {self.min_area_um2} is not below max_area_um2 {self.max_area_um2}"
            raise ValueError(msg)
        return self


class P16Settings(Group):
    """When a nucleus counts as p16-positive."""

    thresholds_od: tuple[float, float, float] = Field(
        (0.2, 0.4, 0.6),
        description="Mean nuclear DAB OD from which a nucleus is 1+, 2+, 3+; positive from the "
        "first on [convention: QuPath].",
    )
    threshold_source: Literal["settings", "negative_control"] = Field(
        "settings",
        description="Where the thresholds come from: settings (thresholds_od) or "
        "negative_control: control_percentile of the nuclei of the negative control slides of "
        "the same staining batch (manifest: batch, control), and two and three times that.",
    )
    control_percentile: float = Field(
        99.0,
        ge=50,
        le=100,
        description="Percentile of the mean nuclear DAB OD on negative controls that becomes the "
        "first threshold: 99 lets 1 % of truly negative nuclei pass.",
    )
    min_control_threshold_od: float = Field(
        0.05,
        gt=0,
        description="Least first threshold taken from a negative control (OD): a clean control "
        "must not make noise positive.",
    )
    threshold_locked: str = Field(
        "",
        description="Written by `histoquant batch`, not by you: which control slides the "
        "thresholds come from.",
    )
    min_over_ring_od: float = Field(
        0.06,
        ge=0,
        description="A nucleus whose mean DAB OD is less than this above that of its cytoplasm "
        "ring lies in haze and is not positive, unless it reaches haze_below_od. On phantoms "
        "under DAB haze it takes the F1 of positives from 0.47 to 0.95; 0 turns it off.",
    )
    haze_below_od: float = Field(
        0.4,
        gt=0,
        description="From this mean nuclear DAB OD on a nucleus is positive whatever its ring: "
        "strong p16 stains nucleus and cytoplasm alike.",
    )
    block_run: int = Field(
        8,
        ge=2,
        description="Basal positive nuclei next to each other from which they are called "
        "block-positive: p16 of a viral lesion stains whole stretches, senescence single cells.",
    )
    block_gap_um: float = Field(
        20.0,
        gt=0,
        description="Basal nuclei further apart along the junction than this end a run (um).",
    )
    sweep_od: tuple[float, ...] = Field(
        (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6),
        description="Cut-offs of the threshold sweep, so that no conclusion hangs on one number.",
    )

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        if not 0 < self.thresholds_od[0] < self.thresholds_od[1] < self.thresholds_od[2]:
            raise ValueError(f"thresholds_od must rise from above 0, found {self.thresholds_od}")
        return self


class Collagen7Settings(Group):
    """The stain along the junction."""

    epidermal_um: float = Field(
        15.0, gt=0, description="How far the normals reach into epidermis (um)."
    )
    dermal_um: float = Field(20.0, gt=0, description="How far the normals reach into dermis (um).")
    depth_step_um: float = Field(
        0.5, gt=0, le=1, description="Step along a normal (um); at most the pixel of the analysis."
    )
    band_um: float = Field(
        6.0,
        gt=0,
        description="The line is looked for at most this far from the traced junction (um); "
        "background lies outside this band.",
    )
    bin_um: float = Field(10.0, gt=0, description="Length of one bin along the junction (um).")
    vectors: Literal["line", "stains"] = Field(
        "line",
        description="Stain vectors that the line is measured with: line (taken from the slide's "
        "own line where it holds enough of one, else the preset's; vectors that [stains] sets or "
        "estimates go before it) or stains (always those of [stains], such as QuPath's preset).",
    )
    threshold_od: float = Field(
        0.1,
        gt=0,
        description="A bin is positive when its background-subtracted peak DAB OD reaches this. "
        "Fluorescence has fluorescence.col7_threshold instead.",
    )
    threshold_source: Literal["settings", "negative_control", "noise"] = Field(
        "settings",
        description="Where the threshold comes from: settings (threshold_od); negative_control: "
        "control_percentile of the bins' peaks on the negative control slides of the same staining "
        "batch (manifest: batch, control); or noise: noise_factor times that of the slide's own "
        "profiles beside the line, which compares gaps within a slide, not slides.",
    )
    control_percentile: float = Field(
        99.0,
        ge=50,
        le=100,
        description="Percentile of the bins' peaks on negative controls that becomes the "
        "threshold: 99 lets 1 % of bins without collagen VII pass.",
    )
    noise_factor: float = Field(
        5.0, gt=0, description="Standard deviations of noise that a line must stand out by."
    )
    min_threshold_od: float = Field(
        0.03,
        gt=0,
        description="Least threshold taken from a negative control or from noise (OD): a clean "
        "picture must not make every trace of brown a line.",
    )
    threshold_locked: str = Field(
        "",
        description="Written when a slide is measured, not by you: where its threshold came from, "
        "where that is not threshold_od.",
    )
    min_gap_um: float = Field(
        20.0, ge=0, description="Shorter interruptions of the line do not count as gaps (um)."
    )

    optics_fwhm_um: float = Field(
        1.0,
        ge=0,
        description="Full width at half maximum (um) that scanner and pixel give to an infinitely "
        "thin line: taken off the measured width in squares for the corrected one, and what "
        "averaging light over it takes from the integrated OD is given back. Measure it on your "
        "scanner: some 1 um at 20x and 0.5 um/px; 0 corrects nothing.",
    )
    oblique_um: float = Field(
        6.0,
        gt=0,
        description="A bin whose line is wider than this (um) is cut obliquely.",
    )
    bootstrap_seed: int = Field(
        0, ge=0, description="Seed of the block bootstrap behind the limits of the continuity."
    )

    @model_validator(mode="after")
    def _room_for_background(self) -> Self:
        # The peak may lie a band off the junction, and background begins a band beyond the peak.
        reach = min(self.epidermal_um, self.dermal_um)
        if 2 * self.band_um >= reach:
            raise ValueError(
                f"band_um {self.band_um:g} leaves no room for background: twice as much must "
                f"be less than epidermal_um and dermal_um ({reach:g})"
            )
        return self


class QualitySettings(Group):
    """What is not fit to be measured, and when a slide is to be looked at or refused."""

    artefacts: bool = Field(
        True,
        description="Whether folds, pen, debris, bubbles, blood, edges of the coverslip and blur "
        "are looked for and left out. The verdict on the slide is given either way.",
    )
    fold_factor: float = Field(
        1.45,
        gt=1,
        description="A fold is at least this many times as dense in counterstain as the epidermis "
        "of the same slide: tissue on tissue doubles it. On H&E by 0.15 more.",
    )
    blur_ratio: float = Field(
        0.6,
        gt=0,
        lt=1,
        description="A region is out of focus where its finest contrast, relative to the coarser, "
        "is less than this part of what is usual on the slide.",
    )
    min_blur_mm2: float = Field(
        0.01, gt=0, description="Smaller regions out of focus are not left out (mm2)."
    )
    review_percent: float = Field(
        10.0,
        gt=0,
        le=100,
        description="Tissue in artefacts (%) from which a slide is to be reviewed.",
    )
    reject_percent: float = Field(
        50.0, gt=0, le=100, description="Tissue in artefacts (%) from which a slide is rejected."
    )
    review_focus: float = Field(
        0.1,
        ge=0,
        description="Focus score below which a slide is to be reviewed (see focus_score).",
    )
    reject_focus: float = Field(
        0.04, ge=0, description="Focus score below which a slide is rejected."
    )
    review_length_mm: float = Field(
        0.3,
        ge=0,
        description="Measured junction (mm) below which a slide is to be reviewed: it holds "
        "some three rete ridges.",
    )
    review_saturated_percent: float = Field(
        5.0,
        gt=0,
        le=100,
        description="Saturated tissue (%) from which a slide is to be reviewed: its densities are "
        "too low.",
    )


class ComputeSettings(Group):
    """How the work is cut. No value here changes a result."""

    block_px: int = Field(2048, ge=128, le=16384, description="Side of a block (analysis pixels).")
