"""The only wiring: one slide in, one result out.

::

    overview (8 um/px) ──> white level, tissue, stain vectors
    2 um/px            ──> compartments, junction, morphometry
    0.5 um/px          ──> p16: nuclei, block by block   |   col7: the band along the junction

Forward only: every step takes what it needs and returns a new value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from histoquant.anatomy import find_compartments
from histoquant.artefacts import FOLD, NONE
from histoquant.blocks import Ahead, Block, plan_blocks
from histoquant.collagen7 import NO_DAB, measure_collagen7, missing_collagen7
from histoquant.confidence import with_confidence
from histoquant.damage import Damage
from histoquant.detection import Found, begin_nuclei, find_nuclei, least_contrast, table_of
from histoquant.errors import DarkFieldError, SlideError
from histoquant.evidence import SecondStain
from histoquant.false_colour import false_colours
from histoquant.fluorescence import FluorescenceModel
from histoquant.fluorescent_section import (
    find_section,
    fluorescence_warnings,
    straighten_marker,
    with_line_threshold,
    with_nuclear_thresholds,
)
from histoquant.junction import trace_junction, with_own_junction
from histoquant.line_colour import in_own_colour
from histoquant.line_picture import draw_line
from histoquant.line_threshold import with_noise_threshold
from histoquant.morphometry import junction_bins, measure_morphometry
from histoquant.nuclei import HALO_UM
from histoquant.overlay import begin_overlay
from histoquant.p16 import measure_p16, threshold_sweep
from histoquant.quality import (
    Overview,
    after_anatomy,
    before_anatomy,
    hide,
    judge,
    leave_out,
    mark,
    opaque,
    overview_of,
)
from histoquant.results import SlideResult
from histoquant.setting_groups import NucleiSettings
from histoquant.settings import MARKERS, Marker, Settings
from histoquant.slides import Slide, open_slide
from histoquant.staining import Survey, field_figures, find_model, survey_slide, tissue_fields
from histoquant.stains import StainModel
from histoquant.straightening import Straightened, straighten
from histoquant.tissue import tissue_detail
from histoquant.traces import Section, provenance, trace_reasons, traces, warnings_of
from histoquant.windowed import density_of, stains_of

if TYPE_CHECKING:
    import pandas as pd

    from histoquant.anatomy import Compartments
    from histoquant.junction import Junction
    from histoquant.planes import PlaneModel

Progress = Callable[[str], None]

_CONTRAST_FIELDS = 16


@dataclass(frozen=True, eq=False)
class _Measured:
    """What a marker adds to the section."""

    bins: pd.DataFrame
    summary: dict[str, object]
    reasons: dict[str, str]
    provenance: dict[str, object]
    settings: Settings
    """With the thresholds that were used: in fluorescence they are the slide's own."""
    nuclei: pd.DataFrame | None = None
    straightened: Straightened | None = None
    line_picture: bytes | None = None
    model: PlaneModel | None = None
    """Where it is not the section's: stain vectors taken from the line itself."""


def quantify(
    slide: Slide | Path | str,
    marker: Marker,
    settings: Settings | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    slide_id: str | None = None,
    anatomy: tuple[Compartments, Junction] | None = None,
) -> SlideResult:
    """Measure one marker on one slide.

    Parameters
    ----------
    slide
        An open slide, or the path of one.
    marker
        p16 or col7.
    settings
        All choices; the defaults when left out.
    workers
        Threads for the blocks of the slide. No figure depends on it.
    progress
        Called with the name of each step as it begins.
    slide_id
        Name of the slide in the result; by default the name of its file.
    anatomy
        A person's compartments and junction, in place of those that the program finds.

    Returns
    -------
    SlideResult
        What could not be measured is missing, with its reason.

    Raises
    ------
    SlideError
        When the slide cannot be read, has no usable scale or no tissue.
    StainError
        When its colours cannot be separated.
    """
    if marker not in MARKERS:
        raise ValueError(f"marker {marker!r} is none of {MARKERS}")
    settings = settings or Settings()
    if not isinstance(slide, Slide):
        with open_slide(slide, on_damage=settings.slides.damaged_tiles) as opened:
            return quantify(
                opened,
                marker,
                settings,
                workers=workers,
                progress=progress,
                slide_id=slide_id,
                anatomy=anatomy,
            )
    report = progress or (lambda step: None)
    if slide.is_colour and settings.fluorescence.nuclear != "":
        try:
            survey_slide(slide, settings)
        except DarkFieldError:  # colours are named as channels, and the slide is dark
            with slide.as_channels() as channels:
                return quantify(
                    channels, marker, settings, workers=workers, progress=progress,
                    slide_id=slide_id, anatomy=anatomy,
                )  # fmt: skip
    damage = Damage(slide)
    while True:
        known = damage.known
        result = _measure(slide, marker, settings, workers, report, slide_id, damage, anatomy)
        if damage.known == known:
            return result
        report(f"again, without {damage.known} unreadable tiles")


def _measure(
    slide: Slide,
    marker: Marker,
    settings: Settings,
    workers: int,
    report: Progress,
    slide_id: str | None,
    damage: Damage,
    anatomy: tuple[Compartments, Junction] | None,
) -> SlideResult:
    """Measure with what is known by now of the slide's unreadable tiles left out."""
    report("looking over the slide")
    look = _look_over(slide, marker, settings) if slide.is_colour else None
    if look is not None:
        damage.look(look.survey.tissue)
    with _begin(slide, look, marker, settings, workers) as ahead:
        if look is None:
            section = find_section(slide, settings, report, workers)
            damage.look(section.tissue)
        else:
            report("finding epidermis and junction")
            share = workers if ahead is None else workers - workers // 2
            section = _find_anatomy(slide, look, marker, settings, share)
        contrast = (settings if look is None else look).nuclei.min_contrast_od
        look = None  # and its picture
        if anatomy is not None:
            section = replace(section, compartments=anatomy[0], junction=anatomy[1])
        morphometry, reasons = measure_morphometry(section.compartments, section.junction, settings)
        bins = with_confidence(
            junction_bins(section.junction, slide.mpp, settings),
            section.junction,
            section.compartments,
            settings.junction.min_confidence if anatomy is None else 0.0,
        )
        overlay = begin_overlay(slide, section.compartments, section.junction, marker == "p16",
                                colours=false_colours(section.model))  # fmt: skip
        report(f"measuring {marker}")
        if marker == "p16":
            measured = _measure_p16(slide, section, bins, morphometry, settings, ahead, workers)
        else:
            measured = _measure_collagen7(slide, section, bins, settings, workers)
    if measured.model is not None:
        section = replace(section, model=measured.model)
    report("drawing the overlay")
    damaged = damage.count()
    used = measured.settings
    warnings = warnings_of(section, measured.summary, marker, used, damaged)
    warnings += fluorescence_warnings(section, measured.summary, used)
    told = traces(slide, section, marker, used) | {"damaged_tiles": damaged}
    verdict, doubts = judge({**morphometry, **told}, settings.quality)
    return SlideResult(
        slide_id=slide_id or Path(slide.path).name.split(".")[0],
        marker=marker,
        summary={
            **measured.summary,
            **morphometry,
            **told,
            "settings_sha256": settings.sha256,
            "quality": verdict,
            "quality_reasons": "; ".join(doubts) or "none",
            "warnings": "; ".join(warnings) or "none",
        },
        reasons=trace_reasons(section) | reasons | measured.reasons,
        nuclei=measured.nuclei,
        junction=measured.bins,
        straightened=None if measured.straightened is None else measured.straightened.od,
        line_picture=measured.line_picture,
        compartments=section.compartments,
        junction_line=section.junction,
        provenance={
            **provenance(slide, section, used),
            **measured.provenance,
            **({"min_contrast_od": contrast} if marker == "p16" else {}),
            "damaged_tiles": damaged,
            "warnings": warnings,
        },
        overlay=overlay.finish(measured.nuclei, measured.bins, workers),
    )


@dataclass(frozen=True, eq=False)
class _Look:
    """What the first look at a slide in colours tells, and its picture for the anatomy."""

    survey: Survey
    model: StainModel
    picture: npt.NDArray[np.uint8]
    mpp: float
    nuclei: NucleiSettings
    """With the contrast that nuclei have on this slide."""


def _look_over(slide: Slide, marker: Marker, settings: Settings) -> _Look:
    if len(slide.channels) != 3:
        raise SlideError(
            f"{slide.path}: one grey channel. Stains are separated by colour, which takes red, "
            "green and blue; a marker in fluorescence is measured with its nuclear stain beside it "
            "(--nuclear-slide, or the manifest's column nuclear_slide)."
        )
    survey = survey_slide(slide, settings)
    model = find_model(slide, survey, settings)
    mpp, nuclei = max(settings.anatomy.mpp, slide.mpp), settings.nuclei
    if marker == "p16":
        fields = tissue_fields(slide, survey.tissue, nuclei.mpp, _CONTRAST_FIELDS)
        contrast = least_contrast(fields, model, settings)
        nuclei = nuclei.model_copy(update={"min_contrast_od": contrast})
    return _Look(survey, model, slide.overview(mpp), mpp, nuclei)


def _begin(
    slide: Slide, look: _Look | None, marker: Marker, settings: Settings, workers: int
) -> AbstractContextManager[Ahead[Found] | None]:
    """Begin with the nuclei, which need no anatomy: half of the threads find it meanwhile."""
    if look is None or marker != "p16":
        return nullcontext()
    blocks = _blocks(slide, look.survey.tissue, settings)
    settings = settings.model_copy(update={"nuclei": look.nuclei})
    return begin_nuclei(slide, look.model, blocks, settings, workers // 2)


def _blocks(slide: Slide, tissue: npt.NDArray[np.bool_], settings: Settings) -> list[Block]:
    mpp = settings.nuclei.mpp
    return plan_blocks(
        slide.grid_shape(mpp),
        settings.compute.block_px,
        tissue,
        margin_px=int(np.ceil(HALO_UM / mpp)),
    )


def _find_anatomy(
    slide: Slide, look: _Look, marker: Marker, settings: Settings, workers: int
) -> Section:
    survey, model, mpp = look.survey, look.model, look.mpp
    density = density_of(look.picture, survey.white, settings.stains.max_od)
    second: SecondStain = "nuclear_marker" if marker == "p16" else "marker"
    if not model.has_marker:
        second = "counterstain"
    tissue = tissue_detail(density, survey.tissue, mpp, settings.tissue, workers=workers)
    compartments = _without_artefacts(
        partial(
            find_compartments,
            stains_of(density, model),
            mpp=mpp,
            settings=settings.anatomy,
            second=second,
            nuclei=partial(_nuclei_in, slide, look, settings, workers),
            workers=workers,
        ),
        tissue & slide.known(mpp),
        mpp,
        overview_of(look.picture, survey.white, mpp, settings.stains.max_od),
        model,
        settings,
    )
    junction = trace_junction(compartments, settings.junction, settings.anatomy)
    compartments = with_own_junction(compartments, junction)
    junction, compartments = leave_out(junction, compartments), hide(compartments)
    fields = field_figures(slide, survey, model, settings)
    return Section(survey.white, model, survey.tissue, compartments, junction, fields)


def _nuclei_in(
    slide: Slide, look: _Look, settings: Settings, workers: int, blocks: Sequence[Block]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nuclei in blocks of the anatomy's picture: centroids (n, 2) in um, hematoxylin OD (n,)."""
    at = max(look.nuclei.mpp, slide.mpp)
    scale = look.mpp / at
    own = [
        Block(
            y,
            x,
            max(int((b.y + b.height) * scale) - y, 1),
            max(int((b.x + b.width) * scale) - x, 1),
        )
        for b in blocks
        for y, x in [(int(b.y * scale), int(b.x * scale))]
    ]
    # Whatever finds the nuclei that count: a slide without any must not need it.
    update = {"mpp": at, "segmenter": "classical"}
    finding = settings.model_copy(update={"nuclei": look.nuclei.model_copy(update=update)})
    nuclei = find_nuclei(slide, look.model, own, finding, workers)
    return nuclei[["y_um", "x_um"]].to_numpy(), nuclei["hematoxylin_od_mean"].to_numpy()


def _without_artefacts(
    find: Callable[..., Compartments],
    tissue: npt.NDArray[np.bool_],
    mpp: float,
    view: Overview,
    model: StainModel,
    settings: Settings,
) -> Compartments:
    """Compartments of what no artefact hides; once more where some were found only with them."""
    artefacts = before_anatomy(view, settings.stains.preset, settings.quality)
    hidden = opaque(artefacts, tissue.shape, mpp)
    compartments = find(tissue=tissue & ~hidden)
    artefacts = after_anatomy(view, artefacts, compartments, model, settings.quality)
    more = opaque(artefacts, tissue.shape, mpp)
    unread = more & tissue & ~hidden
    if unread.any():
        again = find(tissue=tissue & ~hidden, unread=unread)
        if compartments.has_epidermis and not again.has_epidermis:
            codes = np.where(artefacts.codes == FOLD, NONE, artefacts.codes)  # they were the skin
            artefacts = replace(artefacts, codes=codes.astype(np.uint8))
        else:
            compartments = again
    return mark(compartments, artefacts) if settings.quality.artefacts else compartments


def _measure_p16(
    slide: Slide,
    section: Section,
    bins: pd.DataFrame,
    morphometry: dict[str, object],
    settings: Settings,
    ahead: Ahead[Found] | None,
    workers: int,
) -> _Measured:
    keep = section.compartments.holds
    if ahead is None:
        blocks = _blocks(slide, section.tissue, settings)
        found = find_nuclei(slide, section.model, blocks, settings, workers, keep=keep)
    else:
        found = table_of(ahead.results(workers), slide, keep)
    if isinstance(section.model, FluorescenceModel):
        settings = with_nuclear_thresholds(settings, section.model, found)
        found["red_blue_ratio"] = np.nan  # no colours, so no cue for melanin
    nuclei, summary, reasons = measure_p16(
        found,
        section.compartments,
        section.junction,
        settings,
        surface_length_mm=float(str(morphometry["surface_length_mm"])),
        has_marker=section.model.has_marker,
    )
    sweep = threshold_sweep(nuclei, settings.p16).to_dict("records")
    return _Measured(bins, summary, reasons, {"threshold_sweep": sweep}, settings, nuclei=nuclei)


def _measure_collagen7(
    slide: Slide,
    section: Section,
    bins: pd.DataFrame,
    settings: Settings,
    workers: int,
) -> _Measured:
    why = section.junction.reason or ("" if section.model.has_marker else NO_DAB)
    if why:
        return _Measured(*missing_collagen7(bins, why), {}, settings)
    model: PlaneModel = section.model
    told: dict[str, object] = {}
    if isinstance(model, FluorescenceModel):
        straightened = straighten_marker(slide, section, settings, workers)
        settings = with_line_threshold(settings, model, straightened, bins)
    else:
        straightened = straighten(
            slide, model, section.junction, settings.collagen7, settings.stains.max_od, workers
        )
        if isinstance(model, StainModel):
            straightened, model, told = in_own_colour(straightened, model, bins, settings)
        own = with_noise_threshold(settings.collagen7, straightened)
        settings = settings.model_copy(update={"collagen7": own})
    table, summary, reasons = measure_collagen7(straightened, bins, settings.collagen7)
    return _Measured(
        table,
        summary,
        reasons,
        {
            **told,
            "straightened": {
                "axes": ["arc", "depth"],
                "unit": f"{model.names[1].upper()} OD" if section.white else model.unit,
                "step_um": settings.collagen7.depth_step_um,
                "first_depth_um": -settings.collagen7.epidermal_um,
                "samples_of_stretch": np.bincount(straightened.stretch).tolist(),
            },
        },
        settings,
        straightened=straightened,
        line_picture=draw_line(straightened, table, settings.collagen7, model.unit),
        model=model,
    )
