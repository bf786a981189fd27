"""A fluorescence slide as a section like any other, and thresholds in its grey levels.

Optical densities of one stain can be compared between slides; grey levels depend on exposure.
So the thresholds of bright field mean nothing here. They come from the settings, from negative
controls of the same staining batch, or from the slide itself, and the result says which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.anatomy import Compartments
from histoquant.blocks import plan_blocks
from histoquant.collagen7 import Straightened, measure_collagen7, straighten
from histoquant.detection import find_nuclei
from histoquant.fluorescence import (
    FluorescenceModel,
    Look,
    field_figures,
    look_over,
    measure_model,
    nuclear_picture,
    swapped,
)
from histoquant.heaps import in_heaps, without_nuclei
from histoquant.junction import trace_junction, with_own_junction
from histoquant.line_threshold import line_noise
from histoquant.nuclear_anatomy import Nuclei, crowded, dermal_ground, divide_by_nuclei
from histoquant.nuclear_looks import tell_by_looks
from histoquant.planes import NUCLEAR_LEVEL
from histoquant.settings import Settings
from histoquant.slides import Slide
from histoquant.tissue import distance_um, open_glass, pixels_of
from histoquant.traces import Section

Floats = npt.NDArray[np.float64]

_OVER_RING, _SWEEP = 0.3, (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)  # of the first threshold
_LINE_PERCENT = 75.0  # of the bins' peaks: the line itself, gaps or not
_HARDLY = 1.5  # peaks of a line over what is beside it; a mere edge of tissue comes to about 1
_LEAST_NUCLEI = 30
_LEAST_LIGHT = 0.3  # of the median nucleus, above what is between: less are bits of collagen
_BLOCK_PX = 512  # few nuclei lie close: smaller blocks hold less that does not
# What goes with a nucleus: in a heap all between them, else its own light and blur.
_HEAPED_UM, _STRANGE_UM = 10.0, 7.0
GREY = "grey levels"


def find_section(
    slide: Slide, settings: Settings, report: Callable[[str], None], workers: int = 1
) -> Section:
    """Channels, tissue, compartments and junction of a fluorescence slide.

    The answer does not depend on the number of workers.

    Raises
    ------
    StainError
        When a channel is not there or holds nothing.
    SlideError
        When there is no tissue.
    """
    look = look_over(slide, settings)
    model = measure_model(slide, look, settings)
    report("finding epidermis and junction")
    compartments = _divide(slide, look, model, settings, workers)
    junction = trace_junction(compartments, settings.junction, settings.anatomy)
    compartments = with_own_junction(compartments, junction)
    fields = field_figures(slide, look, model, settings)
    return Section(None, model, look.tissue, compartments, junction, fields)


def _divide(
    slide: Slide, look: Look, model: FluorescenceModel, settings: Settings, workers: int
) -> Compartments:
    """Compartments by nuclei that lie as close as in epithelium, but for those of the dermis."""
    nuclear, tissue, mpp = nuclear_picture(slide, look, model, settings)
    around = crowded(nuclear, tissue, mpp)
    nuclei = _nuclei_in(around, mpp, slide, model, settings, workers)
    between = dermal_ground(nuclear, tissue, mpp)
    light = nuclei["hematoxylin_od_mean"] - between
    nuclei = nuclei[light >= _LEAST_LIGHT * light.median()]
    places_um = nuclei[["y_um", "x_um"]].to_numpy(np.float64)
    heaped = in_heaps(nuclei)
    strange, sure = np.zeros_like(heaped), np.zeros_like(heaped)
    rest = np.flatnonzero(~heaped)
    at = pixels_of(places_um[rest], mpp, tissue.shape)
    free_um = distance_um(open_glass(tissue, mpp), mpp)[at].astype(np.float64)
    looks = nuclei.iloc[rest].assign(hematoxylin_od_mean=light.loc[nuclei.index].iloc[rest])
    strange[rest], sure[rest] = tell_by_looks(looks, free_um)
    for gone, reach_um in ((heaped, _HEAPED_UM), (strange, _STRANGE_UM)):
        nuclear = without_nuclei(nuclear, mpp, places_um, gone, between, reach_um)
    kept = ~(heaped | strange)
    typical = float(nuclei["hematoxylin_od_mean"].median()) if len(nuclei) else NUCLEAR_LEVEL
    found = Nuclei(places_um, nuclei["area_um2"].to_numpy(np.float64), sure).of(kept)
    return divide_by_nuclei(nuclear, tissue, mpp, (between, typical), found, settings.anatomy)


def _nuclei_in(
    around: npt.NDArray[np.bool_],
    mpp: float,
    slide: Slide,
    model: FluorescenceModel,
    settings: Settings,
    workers: int,
) -> pd.DataFrame:
    """Nuclei with their centroid in a mask (h, w) at `mpp`."""

    def keep(places_um: Floats) -> npt.NDArray[np.bool_]:
        return np.asarray(around[pixels_of(places_um, mpp, around.shape)])

    at = max(settings.nuclei.mpp, slide.mpp)
    finding = settings.model_copy(update={"nuclei": settings.nuclei.model_copy(update={"mpp": at})})
    margin_px = int(np.ceil(mpp / at))  # the two grids need not divide each other evenly
    blocks = plan_blocks(slide.grid_shape(at), _BLOCK_PX, around, margin_px)
    return find_nuclei(slide, model, blocks, finding, workers, keep)


def straighten_marker(
    slide: Slide, section: Section, settings: Settings, workers: int = 1
) -> Straightened:
    """The straightened marker; the nuclear stain does not choose where its background is read.

    In bright field the palest samples lie between blue nuclei. Where tissue shines by itself
    they are chinks in it, darker than what the line lies on.
    """
    found = straighten(
        slide,
        section.model,
        section.junction,
        settings.collagen7,
        settings.stains.max_od,
        workers,
    )
    return replace(found, hematoxylin=np.zeros_like(found.hematoxylin))


def with_line_threshold(
    settings: Settings, model: FluorescenceModel, straightened: Straightened, bins: pd.DataFrame
) -> Settings:
    """`settings` with the threshold that bins of this slide are positive by, and its source."""
    own, locked = settings.fluorescence, settings.collagen7.threshold_locked
    if own.col7_threshold is not None:
        return _with_line(settings, own.col7_threshold, f"settings, {model.unit}")
    if GREY in locked:  # a negative control's
        return settings
    noise = line_noise(straightened, settings.collagen7.band_um, settings.collagen7.bin_um)
    table, *_ = measure_collagen7(straightened, bins, settings.collagen7)
    peaks = table.loc[~table["excluded"], "peak_od"].dropna().to_numpy(np.float64)
    line = float(np.percentile(peaks, _LINE_PERCENT)) if peaks.size else 0.0
    by_noise, by_line = own.noise_factor * noise, own.line_share * line
    how = (
        f"{own.line_share:g} of the slide's own line, {line:.0f}"
        if by_line > by_noise
        else f"{own.noise_factor:g} x the slide's own noise, {noise:.1f}"
    )
    return _with_line(settings, max(by_noise, by_line, 1e-3), f"{how} {model.unit}")


def with_nuclear_thresholds(
    settings: Settings, model: FluorescenceModel, nuclei: pd.DataFrame
) -> Settings:
    """`settings` with the thresholds that nuclei of this slide are positive by, and their source.

    Without thresholds from settings or a negative control, the slide's own nuclei tell: most are
    negative, and the spread below their median holds no positive one.
    """
    own, locked = settings.fluorescence, settings.p16.threshold_locked
    if own.p16_thresholds is not None:
        return _with_nuclear(settings, own.p16_thresholds, f"settings, {model.unit}")
    if GREY in locked:
        return _with_nuclear(settings, settings.p16.thresholds_od, locked)
    marker = nuclei["dab_od_mean"].dropna().to_numpy(np.float64)
    if len(marker) < _LEAST_NUCLEI:
        limits = (model.full_scale / 8, model.full_scale / 4, model.full_scale / 2)
        why = f"too few nuclei ({len(marker)}) to tell: an eighth of full scale, {model.unit}"
        return _with_nuclear(settings, limits, why)
    middle, low = np.percentile(marker, [50, 15.87])
    step = own.noise_factor * max(float(middle - low), 1.0)
    first, second, third = (round(max(float(middle), 0.0) + k * step, 2) for k in (1, 2, 3))
    how = (
        f"the slide's own nuclei: {own.noise_factor:g} x their spread ({middle - low:.0f}) over "
        f"their median ({middle:.0f}), {model.unit}"
    )
    return _with_nuclear(settings, (first, second, third), how)


def fluorescence_warnings(
    section: Section, summary: Mapping[str, object], settings: Settings
) -> list[str]:
    """What a reader of a fluorescence slide's figures must know."""
    model = section.model
    if not isinstance(model, FluorescenceModel):
        return []
    warnings = [swapped(model)] if swapped(model) else []
    if "own" in settings.p16.threshold_locked:
        warnings.append(
            "the threshold comes from the slide's own nuclei: set fluorescence.p16_thresholds, or "
            "use a negative control, to compare slides"
        )
    if "own" in settings.collagen7.threshold_locked:
        warnings.append(
            "the threshold comes from the slide's own line: set fluorescence.col7_threshold to "
            "compare continuity between slides"
        )
        peak, beside = (float(str(summary[c])) for c in ("peak_od_mean", "background_od_mean"))
        if peak < _HARDLY * beside:
            warnings.append(
                f"there is hardly a line: its peaks ({peak:.0f} {model.unit}) are little more than "
                f"what shines beside it ({beside:.0f}); continuity says nothing here"
            )
    return warnings


def _with_line(settings: Settings, threshold: float, source: str) -> Settings:
    update = {"threshold_od": round(threshold, 3), "threshold_locked": source}
    return settings.model_copy(update={"collagen7": settings.collagen7.model_copy(update=update)})


def _with_nuclear(
    settings: Settings, thresholds: tuple[float, float, float], source: str
) -> Settings:
    """Thresholds, and what bright field has in OD in the same proportion to the first."""
    first, second, _ = thresholds
    update: dict[str, Any] = {
        "thresholds_od": thresholds,
        "threshold_locked": source,
        "min_over_ring_od": round(_OVER_RING * first, 3),
        "haze_below_od": second,
        "sweep_od": tuple(round(share * first, 2) for share in _SWEEP),
    }
    return settings.model_copy(update={"p16": settings.p16.model_copy(update=update)})
