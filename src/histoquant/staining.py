"""The colours of one slide: its white level, its stain vectors, and how well they explain it.

White comes from the overview, vectors from the settings or from fields spread evenly over the
tissue. The fields depend on the tissue alone, so a result is the same however work is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from histoquant.errors import SettingsError, SlideError, StainError
from histoquant.settings import Settings, StainSettings
from histoquant.slides import Slide
from histoquant.stain_estimate import Estimate, estimate_vectors, usable_pixels
from histoquant.stains import (
    FloatArray,
    RgbArray,
    StainModel,
    WhiteLevel,
    field_density,
    measure_white,
    optical_density,
    unmix,
)
from histoquant.tissue import find_tissue, focus_score

Mask = npt.NDArray[np.bool_]

FIELD_PX = 256
_FOCUS_FIELDS = 16
_ESTIMATE_FIELDS = 32


@dataclass(frozen=True, eq=False)
class Survey:
    """What the overview tells: white level, and where the tissue is.

    Attributes
    ----------
    white
        White level of the slide.
    tissue
        bool (h, w), on the grid of the overview.
    """

    white: WhiteLevel
    tissue: Mask


@dataclass(frozen=True)
class FieldFigures:
    """What fields spread over the tissue say about the picture and its colours.

    Attributes
    ----------
    focus_score
        Median sharpness of the fields.
    saturated_percent
        Pixels of tissue with any channel at or below the floor of the camera.
    residual_od
        Root mean square of the residual stain in tissue: what the two vectors leave unexplained,
        with the noise of the camera.
    """

    focus_score: float
    saturated_percent: float
    residual_od: float


def survey_slide(slide: Slide, settings: Settings) -> Survey:
    """Find white level and tissue on the overview.

    Raises
    ------
    SlideError
        When there is no tissue.
    StainError
        When the picture is too dark for a bright-field slide.
    """
    if not slide.is_colour:
        raise StainError(
            f"{slide.path}: channels {', '.join(slide.channels)} of {slide.dtype}: fluorescence "
            "has no white level and no stain vectors."
        )
    overview_um = max(settings.tissue.overview_um, slide.mpp)
    overview = slide.overview(overview_um)
    known = slide.known(overview_um)
    given = settings.stains.white
    white = WhiteLevel(given, float("nan"), "given") if given else measure_white(overview, known)
    od = field_density(overview, white)
    tissue = find_tissue(od, overview_um, settings.tissue) & known
    if not tissue.any():
        raise SlideError(
            f"{slide.path}: no tissue found: no piece of at least "
            f"{settings.tissue.min_area_mm2:g} mm2 is denser than OD {settings.tissue.min_od:g} "
            f"(the densest pixel of the overview: {max(od.max(), 0):.2f}). If there is tissue, "
            "lower tissue.min_od."
        )
    return Survey(white, tissue)


def find_model(slide: Slide, survey: Survey, settings: Settings) -> StainModel:
    """Choose the stain vectors of a slide, as ``stains.source`` says.

    Raises
    ------
    StainError
        When the vectors cannot be told apart.
    SettingsError
        When a batch's vectors are asked for and none were locked.
    """
    stains = settings.stains
    hematoxylin, second, where = stains.hematoxylin, stains.second, ""
    if stains.source == "slide":
        estimate = estimate_on(slide, survey, settings)
        where = estimate.describe("the slide")
        if not estimate.refused:
            hematoxylin, second = estimate.hematoxylin, estimate.second
    elif stains.source == "batch":
        where = _locked(stains)
    return StainModel.preset(
        stains.preset,
        survey.white.values,
        hematoxylin=hematoxylin,
        second=second,
        white_source=survey.white.source,
        vectors_source=where,
    )


def estimate_on(slide: Slide, survey: Survey, settings: Settings) -> Estimate:
    """Estimate the stain vectors from one slide's tissue."""
    return estimate_vectors([stained_pixels(slide, survey, settings)], settings.stains.preset)


def stained_pixels(slide: Slide, survey: Survey, settings: Settings) -> FloatArray:
    """Optical densities (n, 3) of the stained pixels of 32 fields of tissue."""
    white = survey.white.values
    fields = tissue_fields(slide, survey.tissue, settings.nuclei.mpp, _ESTIMATE_FIELDS)
    kept = [usable_pixels(optical_density(field, white)) for field in fields]
    return np.concatenate([np.empty((0, 3), np.float32), *kept])


def field_figures(
    slide: Slide, survey: Survey, model: StainModel, settings: Settings
) -> FieldFigures:
    """Sharpness, saturation and residual over up to 16 fields of tissue."""
    scores: list[float] = []
    n = saturated = 0
    squares = 0.0
    for field in tissue_fields(slide, survey.tissue, settings.nuclei.mpp, _FOCUS_FIELDS):
        od = optical_density(field, model.white)
        scores.append(focus_score(od))
        tissue = od.max(axis=-1) >= settings.tissue.min_od
        full = (od >= np.float32(settings.stains.max_od)).any(axis=-1) & tissue
        n, saturated = n + int(tissue.sum()), saturated + int(full.sum())
        residual = unmix(od, model)[tissue & ~full, 2].astype(np.float64)
        squares += float((residual * residual).sum())
    clear = n - saturated
    return FieldFigures(
        float(np.median(scores)),
        100 * saturated / n if n else float("nan"),
        float(np.sqrt(squares / clear)) if clear else float("nan"),
    )


def tissue_fields(slide: Slide, tissue: Mask, mpp: float, count: int) -> Iterator[RgbArray]:
    """Read up to `count` fields of 256 x 256 px at `mpp`, spread evenly over the tissue."""
    rows, columns = np.nonzero(tissue)
    scale = np.array(slide.grid_shape(mpp)) / np.array(tissue.shape)
    for index in np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int)):
        centre = (np.array([rows[index], columns[index]]) + 0.5) * scale
        y, x = centre.astype(int) - FIELD_PX // 2
        yield slide.read(mpp, int(y), int(x), FIELD_PX, FIELD_PX)


def _locked(stains: StainSettings) -> str:
    """Where a batch's vectors came from; refused when nobody locked any."""
    if not stains.locked:
        raise SettingsError(
            'stains.source = "batch" needs a staining batch: vectors are estimated on its slides '
            "together by `histoquant batch` with a manifest that has the column batch. For one "
            'slide use stains.source = "slide" or "preset"'
        )
    return stains.locked
