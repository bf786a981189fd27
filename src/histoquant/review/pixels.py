"""What of an edited slide takes its pixels: a junction drawn anew, and the overlay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from histoquant.errors import ResultError
from histoquant.results import SlideResult
from histoquant.review.geometry import Geometry
from histoquant.review.measuring import EditedSlide, Measured
from histoquant.settings import StainSettings
from histoquant.slides import Slide, open_slide
from histoquant.slides.fingerprint import size_and_time


def open_pixels(
    row: Mapping[str, str], edited: EditedSlide, key: Mapping[str, object] | None = None
) -> Slide:
    """The slide's file, as it was measured.

    Parameters
    ----------
    row
        Of the ledger.
    edited
        The slide's automatic result.
    key
        Of its ``result.json``: a file of the same size and time is not read through to prove that
        it is the same, as a run that goes on does not.

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
    nuclear = row.get("nuclear_slide") or None
    slide = open_slide(
        path, mpp=mpp, on_damage=edited.settings.slides.damaged_tiles, nuclear=nuclear
    )
    paths = [p for p in (slide.path, slide.nuclear_path) if p is not None]
    known = size_and_time(*paths)
    unread = bool(known) and all((key or {}).get(name) == value for name, value in known.items())
    if not unread and slide.fingerprint != edited.automatic.summary["slide_sha256"]:
        slide.close()
        raise ResultError(
            f"{path} is not the file that was measured: its fingerprint differs. Put the slide "
            "back, or measure it again"
        )
    return slide


def read_line_anew(
    slide: Slide,
    edited: EditedSlide,
    geometry: Geometry,
    progress: Callable[[str], None] | None = None,
) -> SlideResult:
    """Collagen VII along a junction that was drawn anew, by the pipeline that measured the slide.

    The stain vectors on record hold for the new line, too, and fluorescence keeps the threshold
    that the slide was measured by, so that drawing a line changes no measure.
    """
    from histoquant.pipeline import quantify

    settings = edited.settings
    same = {"col7_threshold": settings.collagen7.threshold_od}
    kept = {
        "fluorescence": settings.fluorescence.model_copy(update=same),
        "stains": _same_stains(edited),
        "collagen7": settings.collagen7.model_copy(update={"vectors": "stains"}),
    }
    return quantify(
        slide,
        "col7",
        settings.model_copy(update=kept),
        progress=progress,
        slide_id=edited.automatic.slide_id,
        anatomy=(geometry.compartments, geometry.junction),
    )


def read_pending(row: Mapping[str, str], edited: EditedSlide, measured: Measured) -> Measured:
    """`measured` with the collagen VII that waits for the slide's pixels.

    Raises
    ------
    SlideError, ResultError
        As `open_pixels`.
    """
    with open_pixels(row, edited) as slide:
        return edited.with_profiles(measured, read_line_anew(slide, edited, measured.geometry))


def measure_line_anew(
    slide: Slide, edited: EditedSlide, measured: Measured, result: SlideResult
) -> SlideResult:
    """`result` with the collagen VII of a junction that was drawn anew.

    Exclusions by regions, and their reasons, are those of `measured`.
    """
    anew = read_line_anew(slide, edited, measured.geometry)
    again = edited.with_profiles(measured, anew)
    return replace(
        result,
        summary=again.summary,
        reasons=again.reasons,
        junction=again.bins,
        straightened=anew.straightened,
        line_picture=anew.line_picture,
        provenance={**result.provenance, "straightened": anew.provenance.get("straightened", {})},
    )


def _same_stains(edited: EditedSlide) -> StainSettings:
    """Settings of the stains with the vectors that the slide's line was measured with."""
    stains = edited.settings.stains
    colour = edited.automatic.provenance.get("line_colour")
    if not isinstance(colour, Mapping) or colour["refused"]:
        return stains
    own = {"hematoxylin": tuple(colour["hematoxylin"]), "second": tuple(colour["marker"])}
    return stains.model_copy(update=own)


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
