"""Every column of every table, once: name, dtype, unit, meaning, and how sections pool.

Several sections of one sample pool by summing numerators and denominators, never by
averaging ratios. The rule is part of the column (`Pool`); `histoquant.pooling` applies it.
`histoquant.tables` puts the columns together to tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Dtype = Literal["string", "int64", "float64", "bool"]


@dataclass(frozen=True)
class Pool:
    """How a summary column of several sections becomes the one value of their sample.

    ``how`` is one of

    ========== ===========================================================================
    same       the common value; missing, with a reason, where the sections differ
    joined     the distinct values, in order, joined by "; ", less "none" where there are others
    sum        the sum
    percent    100 * sum(top) / sum(bottom), with Wilson limits
    rate       sum(top) / sum(bottom), with exact Poisson limits: `top` is a count
    weighted   the mean weighted by `bottom`, which is the ratio's own denominator
    bins       `statistic` of the junction table's column `top` over all sections' bins
    gaps       the median length of the gaps of all sections
    h_score    100 * (n_1plus + 2 n_2plus + 3 n_3plus) / n_nuclei, with the limits of a mean
    largest    the largest
    worst      the last of ok, review, reject that any section has
    apart      cannot be pooled from what is kept; missing, with a reason
    ========== ===========================================================================
    """

    how: Literal[
        "same",
        "joined",
        "sum",
        "percent",
        "rate",
        "weighted",
        "bins",
        "gaps",
        "h_score",
        "largest",
        "worst",
        "apart",
    ]
    top: str = ""
    bottom: str = ""
    statistic: Literal["mean", "percent", "median", "iqr"] = "median"

    @property
    def has_limits(self) -> bool:
        """Whether the column is a rate of counts, which comes with 95 % limits."""
        return self.how in ("percent", "rate", "h_score")


@dataclass(frozen=True)
class Column:
    """One column: what it is called, what is in it, and what it means."""

    name: str
    dtype: Dtype
    unit: str
    meaning: str
    required: bool = True
    pool: Pool = Pool("same")

    def as_json(self) -> dict[str, str]:
        """The column's entry in ``columns.json``."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "unit": self.unit,
            "meaning": self.meaning,
        }


def _text(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "string", "", meaning, **more)


def _count(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "int64", "1", meaning, **{"pool": Pool("sum"), **more})


def _number(name: str, unit: str, meaning: str, **more: Any) -> Column:
    return Column(name, "float64", unit, meaning, **more)


def _flag(name: str, meaning: str, **more: Any) -> Column:
    return Column(name, "bool", "", meaning, **more)


def _percent(name: str, top: str, bottom: str, meaning: str) -> Column:
    return _number(name, "%", meaning, pool=Pool("percent", top, bottom))


def _rate(name: str, unit: str, top: str, bottom: str, meaning: str) -> Column:
    return _number(name, unit, meaning, pool=Pool("rate", top, bottom))


NUCLEI: tuple[Column, ...] = (
    _text("nucleus_id", "The nucleus, from its position: the same in every run on the slide."),
    _number("x_px", "px", "Centroid, level-0 pixels from the left edge of the slide."),
    _number("y_px", "px", "Centroid, level-0 pixels from the top edge of the slide."),
    _number("x_um", "um", "Centroid from the left edge of the slide."),
    _number("y_um", "um", "Centroid from the top edge of the slide."),
    _number("area_um2", "um2", "Area of the nucleus."),
    _number("eccentricity", "1", "Eccentricity of the ellipse with the same moments (0: round)."),
    _number("hematoxylin_od_mean", "OD", "Mean hematoxylin optical density in the nucleus."),
    _number("dab_od_mean", "OD", "Mean DAB optical density in the nucleus."),
    _number("dab_od_median", "OD", "Median DAB optical density in the nucleus."),
    _number("ring_dab_od_mean", "OD", "Mean DAB optical density in the cytoplasm ring around it."),
    _flag("positive", "Mean nuclear DAB OD reaches the first threshold, and it is not in haze."),
    Column("intensity_class", "int64", "1", "0 negative, 1 weak, 2 moderate, 3 strong."),
    _text(
        "compartment",
        "epidermis_basal, epidermis_suprabasal, dermis_papillary, dermis_reticular or other.",
    ),
    _number("dej_distance_um", "um", "Distance to the junction, positive towards the dermis."),
    _flag("pigment_suspected", "Its brown may be melanin: texture and colour say so."),
    _flag("excluded", "Lies in an excluded region and is in no count."),
    _number(
        "saturated_fraction",
        "1",
        "Fraction of its pixels with any channel at or below the floor of the camera.",
        required=False,
    ),
    _number("pigment_score", "1", "Strength of the cues for melanin (0-1).", required=False),
    _flag(
        "beside_measured_junction",
        "The junction nearest to it is measured: it may count per length of junction.",
        required=False,
    ),
    _text("exclusion_reason", "Why it is excluded.", required=False),
    _flag(
        "haze_suspected",
        "Reaches the first threshold but hardly stands out from its cytoplasm ring: not positive.",
        required=False,
    ),
    _flag(
        "block_positive",
        "One of a run of basal positive nuclei side by side.",
        required=False,
    ),
    _number(
        "dab_od_sd",
        "OD",
        "Standard deviation of the DAB optical density in the nucleus.",
        required=False,
    ),
    _number(
        "red_blue_ratio",
        "1",
        "Mean optical density in red / in blue: melanin is redder than DAB.",
        required=False,
    ),
    Column(
        "reviewed_class",
        "int64",
        "1",
        "Class (0-3) that a reviewer gave the nucleus; -1 where none did. Only after review.",
        required=False,
    ),
    _flag("added", "A reviewer added it: it has no OD. Only after review.", required=False),
)

JUNCTION: tuple[Column, ...] = (
    Column("bin", "int64", "1", "Number of the bin along the junction, from 0."),
    _number("arc_start_um", "um", "Arc length along the junction at the start of the bin."),
    _number("arc_end_um", "um", "Arc length along the junction at the end of the bin."),
    _number("x_px", "px", "Middle of the bin on the junction, level-0 pixels from the left."),
    _number("y_px", "px", "Middle of the bin on the junction, level-0 pixels from the top."),
    _text("feature", "ridge, papilla or flank."),
    _flag("excluded", "The bin is in no figure."),
    Column("stretch", "int64", "1", "Number of the stretch of junction, from 0.", required=False),
    _text("exclusion_reason", "Why the bin is excluded.", required=False),
    _number(
        "confidence",
        "1",
        "How clearly the counterstain (the nuclear stain) shows epidermis on one side, dermis on "
        "the other: 0 nothing, 1 beyond doubt. The marker takes no part.",
        required=False,
    ),
)

PROFILE: tuple[Column, ...] = (
    _number("depth_peak_um", "um", "Offset of the peak from the traced junction, dermis positive."),
    _number("peak_od", "OD", "Highest background-subtracted DAB optical density of the profile."),
    _number("integrated_od_um", "OD um", "Background-subtracted DAB OD summed over the line."),
    _number(
        "fwhm_um",
        "um",
        "Full width at half maximum; limited by the optics, wide when cut obliquely.",
    ),
    _number("background_od", "OD", "DAB optical density beside the line, subtracted."),
    _number(
        "saturated_fraction",
        "1",
        "Fraction of the line's pixels with any channel at or below the floor of the camera.",
    ),
    _flag("positive", "The line reaches the threshold over at least half of the bin."),
    _flag("oblique", "The line is so wide that the bin is cut obliquely.", required=False),
    _number(
        "positive_fraction",
        "1",
        "Part of the bin's length over which the line reaches the threshold.",
        required=False,
    ),
)

IDENTITY: tuple[Column, ...] = (
    _text("slide_id", "The slide's name in this results directory."),
    _text("marker", "p16 or col7."),
)

P16: tuple[Column, ...] = (
    _number("epidermis_area_mm2", "mm2", "Viable epidermis.", pool=Pool("sum")),
    _number("papillary_area_mm2", "mm2", "Papillary band of the dermis measured.",
            pool=Pool("sum")),
    _number("reticular_area_mm2", "mm2", "Dermis below the papillary band measured.",
            pool=Pool("sum")),
    _count("n_nuclei", "Nuclei measured."),
    _count("n_positive", "Positive nuclei."),
    _percent("positive_percent", "n_positive", "n_nuclei", "Positive nuclei of all nuclei."),
    _percent("epidermis_positive_percent", "n_epidermis_positive", "n_epidermis",
             "Positive nuclei of the nuclei in viable epidermis."),
    _percent("basal_positive_percent", "n_basal_positive", "n_basal",
             "Positive nuclei of the basal epidermal nuclei."),
    _percent("suprabasal_positive_percent", "n_suprabasal_positive", "n_suprabasal",
             "Positive nuclei of the suprabasal epidermal nuclei."),
    _rate("positive_per_mm_dej", "1/mm", "n_epidermis_positive_measured", "measured_length_mm",
          "Positive epidermal nuclei per length of junction; missing when no nuclei were found."),
    _rate("positive_per_mm_surface", "1/mm", "n_epidermis_positive_measured", "surface_length_mm",
          "Positive epidermal nuclei per length of skin surface; missing when no nuclei were "
          "found."),
    _percent("papillary_positive_percent", "n_papillary_positive", "n_papillary",
             "Positive nuclei of the nuclei in the papillary band."),
    _rate("papillary_positive_per_mm2", "1/mm2", "n_papillary_positive_measured",
          "papillary_area_mm2", "Positive nuclei per area of the papillary band; missing when no "
          "nuclei were found."),
    _percent("reticular_positive_percent", "n_reticular_positive", "n_reticular",
             "Positive nuclei of the nuclei below the papillary band."),
    _rate("reticular_positive_per_mm2", "1/mm2", "n_reticular_positive", "reticular_area_mm2",
          "Positive nuclei per area of dermis below the papillary band; missing when no nuclei "
          "were found."),
    _number("h_score", "1", "1 x % weak + 2 x % moderate + 3 x % strong nuclei (0-300).",
            pool=Pool("h_score")),
    _count("n_pigment_suspected", "Nuclei whose brown may be melanin."),
    _percent("positive_percent_without_pigment", "n_positive_without_pigment",
             "n_without_pigment", "Positive percent when suspected-pigment nuclei are left out."),
    _count("n_epidermis", "Nuclei in viable epidermis."),
    _count("n_epidermis_positive", "Positive nuclei in viable epidermis."),
    _count("n_epidermis_positive_measured",
           "Positive epidermal nuclei beside measured junction: the numerator per length."),
    _count("n_basal", "Basal epidermal nuclei."),
    _count("n_basal_positive", "Positive basal epidermal nuclei."),
    _count("n_suprabasal", "Suprabasal epidermal nuclei."),
    _count("n_suprabasal_positive", "Positive suprabasal epidermal nuclei."),
    _count("n_papillary", "Nuclei in the papillary band."),
    _count("n_papillary_positive", "Positive nuclei in the papillary band."),
    _count("n_papillary_positive_measured",
           "Positive papillary nuclei beside measured junction: the numerator per area."),
    _count("n_reticular", "Nuclei in the dermis below the papillary band."),
    _count("n_reticular_positive", "Positive nuclei in the dermis below the papillary band."),
    _count("n_1plus", "Weakly positive nuclei."),
    _count("n_2plus", "Moderately positive nuclei."),
    _count("n_3plus", "Strongly positive nuclei."),
    _count("n_without_pigment", "Nuclei that are not suspected of pigment."),
    _count("n_positive_without_pigment", "Positive nuclei that are not suspected of pigment."),
    _count("n_haze_suspected", "Nuclei that reach the threshold only with the haze they lie in: "
           "counted as negative."),
    _count("n_left_out_faint", "Found in the dermis, but far fainter than nuclei, as bits "
           "of collagen are: not counted."),
    _count("n_block_positive", "Basal positive nuclei in runs side by side."),
    _count("n_block_runs", "Such runs."),
    _percent("block_positive_percent", "n_block_positive", "n_basal",
             "Basal nuclei in runs of positives."),
    _number("ring_dab_od_median", "OD", "Median DAB OD of the nuclei's cytoplasm rings.",
            pool=Pool("apart")),
)  # fmt: skip

COL7: tuple[Column, ...] = (
    _number("continuity_percent", "%", "Measured junction that is positive.",
            pool=Pool("bins", "positive_fraction", statistic="percent")),
    _number("continuity_percent_low", "%", "Lower 95 % limit of the continuity, by block "
            "bootstrap along the arc.", pool=Pool("apart")),
    _number("continuity_percent_high", "%", "Upper 95 % limit of the continuity.",
            pool=Pool("apart")),
    _count("n_gaps", "Interruptions of the line of at least the least gap length."),
    _number("gap_length_median_um", "um",
            "Median length of the gaps; one that runs into the end of the measured junction "
            "counts with the length that is seen.", pool=Pool("gaps")),
    _number("gap_length_longest_um", "um", "Length of the longest gap; 0 without any.",
            pool=Pool("largest")),
    _number("peak_od_mean", "OD", "Mean of the bins' peak OD.",
            pool=Pool("bins", "peak_od", statistic="mean")),
    _number("peak_od_median", "OD", "Median of the bins' peak OD.", pool=Pool("bins", "peak_od")),
    _number("integrated_od_um_mean", "OD um", "Mean of the bins' integrated OD.",
            pool=Pool("bins", "integrated_od_um", statistic="mean")),
    _number("integrated_od_um_median", "OD um", "Median of the bins' integrated OD.",
            pool=Pool("bins", "integrated_od_um")),
    _number("integrated_od_um_iqr", "OD um", "Interquartile range of the bins' integrated OD.",
            pool=Pool("bins", "integrated_od_um", statistic="iqr")),
    _number("fwhm_um_median", "um", "Median full width at half maximum of the line.",
            pool=Pool("bins", "fwhm_um")),
    _number("fwhm_corrected_um_median", "um",
            "The same less the width of the optics (optics_fwhm_um), in squares.",
            pool=Pool("apart")),
    _number("optics_fwhm_um", "um", "Width that scanner and pixel give to a thin line; set."),
    _number("oblique_percent", "%", "Measured bins whose line is so wide that they are cut "
            "obliquely.", pool=Pool("weighted", bottom="measured_length_mm")),
    *(
        _number(f"{name}_{figure}", unit, f"{what} of the {place}.", pool=Pool("apart"))
        for name, place in (("ridge", "tips of the rete ridges"), ("papilla", "tops of the "
                            "papillae"), ("flank", "flanks between them"))
        for figure, unit, what in (("continuity_percent", "%", "Continuity"),
                                   ("integrated_od_um_mean", "OD um", "Mean integrated OD"))
    ),
    _number("saturated_percent", "%",
            "Pixels of the line with any channel at or below the floor of the camera.",
            pool=Pool("bins", "saturated_fraction", statistic="percent")),
    _number("background_od_mean", "OD", "Mean DAB OD beside the line.",
            pool=Pool("bins", "background_od", statistic="mean")),
)  # fmt: skip

BOTH: tuple[Column, ...] = (
    _number("dej_length_mm", "mm", "Length of the whole junction found.", pool=Pool("sum")),
    _number("measured_length_mm", "mm", "Junction less what is excluded: the denominator.",
            pool=Pool("sum")),
    _number("surface_length_mm", "mm", "Length of skin surface over the measured junction.",
            pool=Pool("sum")),
    _number("epidermis_thickness_um_mean", "um", "Area of viable epidermis / surface length.",
            pool=Pool("weighted", bottom="surface_length_mm")),
    _number("interdigitation_index", "1", "Length of the junction / length of the surface.",
            pool=Pool("weighted", bottom="surface_length_mm")),
    _number("ridges_per_mm", "1/mm", "Rete ridges per length of surface.",
            pool=Pool("weighted", bottom="surface_length_mm")),
    _number("ridge_height_um_median", "um", "Median height of the rete ridges.",
            pool=Pool("apart")),
    _number("tissue_area_mm2", "mm2", "Tissue on the slide.", pool=Pool("sum")),
    _number("excluded_area_mm2", "mm2",
            "Adnexa, and epidermis beside junction that is not measured: left out of lengths, "
            "thickness and rates per mm.", pool=Pool("sum")),
    *(
        _number(f"excluded_{name}_mm2", "mm2", meaning, pool=Pool("sum"))
        for name, meaning in (
            ("pen", "Pen and ink."),
            ("debris", "Debris and dust."),
            ("bubble", "Air bubbles."),
            ("coverslip", "Edges of the coverslip."),
            ("blood", "Pools of blood."),
            ("fold", "Folds of the section."),
            ("blur", "Tissue out of focus."),
        )
    ),
    _number("artefact_percent", "%", "Tissue that lies in any of these; of sections, the most.",
            pool=Pool("largest")),
    _text("quality", "ok, review or reject: whether the slide is fit to be measured.",
          pool=Pool("worst")),
    _text("quality_reasons", "Why it is not ok; none.", pool=Pool("joined")),
    _number("focus_score", "1", "Sharpness of the measured tissue.",
            pool=Pool("weighted", bottom="tissue_area_mm2")),
    _number("mpp", "um/px", "Size of a level-0 pixel."),
    _text("mpp_source", "Where the pixel size came from.", pool=Pool("joined")),
    _number("white_r", "grey level", "White level, red (0-255).", pool=Pool("apart")),
    _number("white_g", "grey level", "White level, green (0-255).", pool=Pool("apart")),
    _number("white_b", "grey level", "White level, blue (0-255).", pool=Pool("apart")),
    _text("hematoxylin_vector", "Optical density vector of hematoxylin, R G B.",
          pool=Pool("joined")),
    _text("dab_vector", "Optical density vector of the second stain, R G B.",
          pool=Pool("joined")),
    _text("stain_source", "Where the stain vectors came from.", pool=Pool("joined")),
    _text("marker_unit", "Unit of the marker wherever a column says OD: OD, or in fluorescence "
          "grey levels of the camera above background, of 8 or 16 bit."),
    _number("hematoxylin_angle_deg", "deg", "Angle of the hematoxylin vector to the preset's."),
    _number("marker_angle_deg", "deg", "Angle of the second stain's vector to the preset's."),
    _number("residual_od", "OD", "Root mean square of what the two vectors leave unexplained in "
            "tissue, noise included.", pool=Pool("apart")),
    _number("tissue_saturated_percent", "%", "Tissue with any channel at or below the floor of "
            "the camera.", pool=Pool("apart")),
    _text("white_source", "glass, brightest (no glass in view) or given.", pool=Pool("joined")),
    _number("glass_percent", "%", "Glass of the slide's area.", pool=Pool("apart")),
    _number("white_uneven_percent", "%", "How far the light on the glass varies over the "
            "slide.", pool=Pool("apart")),
    _number("positive_threshold_od", "OD", "Threshold of positivity: mean nuclear DAB OD (p16), "
            "or peak DAB OD of a bin above its background (col7)."),
    _text("threshold_source", "Where the threshold came from.", pool=Pool("joined")),
    _count("damaged_tiles", "Unreadable tiles in tissue, left out of it."),
    _text("warnings", "What a reader of the figures must know; none.", pool=Pool("joined")),
    _text("slide_sha256", "SHA-256 of the slide's file.", pool=Pool("joined")),
    _text("settings_sha256", "SHA-256 of the settings.", pool=Pool("joined")),
    _text("version", "Version of histoquant that measured.", pool=Pool("joined")),
    _count("n_edits", "Reviewers' edits applied."),
)  # fmt: skip

REASONS = _text("reasons", 'Why values are missing, as "column: reason; ...".')

SWEEP: tuple[Column, ...] = (
    _number("threshold_od", "OD", "Cut-off of the mean nuclear DAB OD."),
    _text("compartment", "all, or one of the compartments of nuclei.parquet."),
    _count("n_nuclei", "Nuclei counted."),
    _count("n_positive", "Nuclei that reach the cut-off and are not in haze."),
    _number("positive_percent", "%", "Positive nuclei of all nuclei."),
    _number("positive_percent_low", "%", "Lower 95 % confidence limit."),
    _number("positive_percent_high", "%", "Upper 95 % confidence limit."),
)

SAMPLE: tuple[Column, ...] = (
    _text("person", "Person, from the manifest."),
    _text("site", "Site of the biopsy, from the manifest."),
    _text("visit", "Visit, from the manifest."),
    _text("marker", "p16 or col7."),
    Column("n_sections", "int64", "1", "Slides pooled into the row."),
    _text("slides", "Those slides' names in this results directory."),
    _text("control", "none, negative or positive: a control is in no comparison."),
)

SAMPLE_SWEEP: tuple[Column, ...] = (
    *(c for c in SAMPLE if c.name in ("person", "site", "visit", "marker", "control")),
    Column("n_sections", "int64", "1", "Slides pooled into the row."),
    *SWEEP,
)

DRIFT: tuple[Column, ...] = (
    _text("marker", "p16 or col7."),
    _text("control", "none (study slides), negative or positive."),
    _text("batch", "Staining run, from the manifest."),
    Column("n_slides", "int64", "1", "Slides of the batch."),
    _text("slides", "Those slides' names in this results directory."),
    _number("marker_od", "OD", "Median over the slides. p16: of the median nuclear DAB OD; col7: "
            "of the median peak DAB OD along the junction."),
    _number("hematoxylin_od", "OD", "p16: median over the slides of the median nuclear "
            "hematoxylin OD."),
    _number("background_od", "OD", "Median over the slides. p16: of the DAB OD of the cytoplasm "
            "rings; col7: of the DAB OD beside the junction."),
    _number("expected_marker_od", "OD", "Median of marker_od over the other batches."),
    _number("limit_marker_od", "OD", "How far marker_od may lie from that: 0.05 OD or 3.5 x "
            "1.4826 x MAD of the other batches, whichever is more."),
    _number("expected_hematoxylin_od", "OD", "Median of hematoxylin_od over the other batches."),
    _number("limit_hematoxylin_od", "OD", "How far hematoxylin_od may lie from that, likewise."),
    _flag("flagged", "A stain of the control slides lies beyond its limit; missing where batches "
          "are not judged."),
    _text("reason", "What lies beyond its limit, or why the batch is not judged."),
)  # fmt: skip

LEDGER: tuple[Column, ...] = (
    _text("slide", "The slide's path: as in the manifest, or whole where there was none."),
    _text("status", "done, failed, excluded or pending."),
    _text("reason", "Why the slide is failed, excluded or pending, or what it lacks when done."),
    _number("seconds", "s", "Time the slide took when it was measured."),
    _text("slide_id", "The slide's name in this results directory."),
    _text("marker", "p16 or col7."),
    _text("person", "Person, from the manifest."),
    _text("site", "Site of the biopsy, from the manifest."),
    _text("visit", "Visit, from the manifest."),
    _text("section", "Section of the biopsy, from the manifest."),
    _text("batch", "Staining run, from the manifest."),
    _text("control", "none, negative or positive, from the manifest."),
    _text("mpp", "Pixel size that overrides the file's (um/px), from the manifest."),
    _text("stains", "Stain set that overrides the settings', from the manifest."),
    _text("nuclear_slide", "File with the nuclear stain, where the slide holds only the marker."),
    _text("row", "Line of the manifest (the header is line 1)."),
    _text(
        "resolved_path",
        "Where the slide lies, links followed: with the marker, what it is known by.",
    ),
)
