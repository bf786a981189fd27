"""What of an edited slide takes its pixels: a junction drawn anew, and the overlay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from histoquant.errors import ResultError
from histoquant.results import SlideResult
from histoquant.review.measuring import EditedSlide, Measured
from histoquant.slides import Slide, open_slide


def open_pixels(row: Mapping[str, str], edited: EditedSlide) -> Slide:
    """The slide's file, as it was measured.

    Raises
    ------
    SlideError
        When it cannot be opened.
    ResultError
        When it is not the file that was measured.
    """
    path = row.get("resolved_path", "")
    if not path:
        raise ResultError(f"the ledger does not say where {row['slide_id']} lies")
    mpp = float(row["mpp"]) if row.get("mpp") else None
    slide = open_slide(
        path,
        mpp=mpp,
        on_damage=edited.settings.slides.damaged_tiles,
        nuclear=row.get("nuclear_slide") or None,
    )
    if slide.fingerprint != edited.automatic.summary["slide_sha256"]:
        slide.close()
        raise ResultError(
            f"{path} is not the file that was measured: its fingerprint differs. Put the slide "
            "back, or measure it again"
        )
    return slide


def measure_line_anew(
    slide: Slide, edited: EditedSlide, measured: Measured, result: SlideResult
) -> SlideResult:
    """Collagen VII along a junction that was drawn anew, by the pipeline that measured the slide.

    Exclusions by regions, and their reasons, are those of `measured`.
    """
    from histoquant.pipeline import quantify

    geometry = measured.geometry
    anew = quantify(
        slide,
        "col7",
        edited.settings,
        slide_id=result.slide_id,
        anatomy=(geometry.compartments, geometry.junction),
    )
    again = edited.with_profiles(measured, anew)
    return replace(
        result,
        summary=again.summary,
        reasons=again.reasons,
        junction=again.bins,
        straightened=anew.straightened,
        provenance={**result.provenance, "straightened": anew.provenance.get("straightened", {})},
    )


def redraw_overlay(slide: Slide, result: SlideResult) -> SlideResult:
    """The overlay with what was measured after the edits."""
    from histoquant.overlay import draw_overlay

    if result.compartments is None or result.junction_line is None:
        return result
    nuclei = result.nuclei
    if nuclei is not None:
        texts = {name: nuclei[name].astype(str) for name in ("compartment", "exclusion_reason")}
        nuclei = nuclei.assign(**texts)
    picture = draw_overlay(
        slide, result.compartments, result.junction_line, nuclei, result.junction
    )
    return replace(result, overlay=picture)
