"""The only wiring: one slide in, one result out.

::

    overview (8 um/px) ──> white level, tissue
    2 um/px            ──> compartments, junction, morphometry
    0.5 um/px          ──> p16: nuclei, block by block   |   col7: the band along the junction

Forward only: every step takes what it needs and returns a new value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from histoquant import __version__
from histoquant.anatomy import Compartments, SecondStain, find_compartments
from histoquant.blocks import plan_blocks
from histoquant.collagen7 import (
    NO_DAB,
    Straightened,
    measure_collagen7,
    missing_collagen7,
    straighten,
)
from histoquant.detection import find_nuclei
from histoquant.errors import SlideError
from histoquant.junction import Junction, trace_junction
from histoquant.morphometry import junction_bins, measure_morphometry
from histoquant.nuclei import HALO_UM
from histoquant.overlay import draw_overlay
from histoquant.p16 import measure_p16, threshold_sweep
from histoquant.results import SlideResult
from histoquant.settings import MARKERS, Marker, Settings
from histoquant.slides import Slide, open_slide
from histoquant.stains import StainModel, WhiteLevel, measure_white, optical_density, unmix
from histoquant.tissue import find_tissue, focus_score, tissue_detail

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Section:
    """What every marker's measurement starts from."""

    white: WhiteLevel
    model: StainModel
    tissue: Mask
    compartments: Compartments
    junction: Junction


@dataclass(frozen=True, eq=False)
class _Measured:
    """What a marker adds to the section."""

    bins: pd.DataFrame
    summary: dict[str, object]
    reasons: dict[str, str]
    provenance: dict[str, object]
    nuclei: pd.DataFrame | None = None
    straightened: Straightened | None = None


def quantify(
    slide: Slide | Path | str,
    marker: Marker,
    settings: Settings | None = None,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    slide_id: str | None = None,
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
    if not isinstance(slide, Slide):
        with open_slide(slide) as opened:
            return quantify(
                opened, marker, settings, workers=workers, progress=progress, slide_id=slide_id
            )
    settings = settings or Settings()
    report = progress or (lambda step: None)
    section = _find_anatomy(slide, marker, settings, report)
    morphometry, reasons = measure_morphometry(section.compartments, section.junction, settings)
    bins = junction_bins(section.junction, slide.mpp, settings)
    measure = partial(_measure_p16, workers=workers) if marker == "p16" else _measure_collagen7
    report(f"measuring {marker}")
    measured = measure(slide, section, bins, morphometry, settings)
    report("drawing the overlay")
    return SlideResult(
        slide_id=slide_id or Path(slide.path).name.split(".")[0],
        marker=marker,
        summary={**measured.summary, **morphometry, **_traces(slide, section, settings)},
        reasons=_outlook(section) | reasons | measured.reasons,
        nuclei=measured.nuclei,
        junction=measured.bins,
        straightened=None if measured.straightened is None else measured.straightened.od,
        compartments=section.compartments,
        junction_line=section.junction,
        provenance={**_provenance(slide, section, settings), **measured.provenance},
        overlay=draw_overlay(
            slide, section.compartments, section.junction, measured.nuclei, measured.bins
        ),
    )


def _find_anatomy(
    slide: Slide, marker: Marker, settings: Settings, report: Progress
) -> _Section:  # fmt: skip
    report("looking over the slide")
    if len(slide.channels) != 3:
        raise SlideError(
            f"{slide.path}: {len(slide.channels)} channel(s) ({', '.join(slide.channels)}): "
            "stains are separated by colour, which takes red, green and blue."
        )
    overview_um = max(settings.tissue.overview_um, slide.mpp)
    overview = slide.overview(overview_um)
    given = settings.stains.white
    white = WhiteLevel(given, float("nan"), "given") if given else measure_white(overview)
    model = StainModel.preset(
        settings.stains.preset,
        white.values,
        hematoxylin=settings.stains.hematoxylin,
        second=settings.stains.second,
        white_source=white.source,
    )
    od = optical_density(overview, white.values)
    tissue = find_tissue(od, overview_um, settings.tissue) & slide.known(overview_um)
    if not tissue.any():
        raise SlideError(
            f"{slide.path}: no tissue found: no piece of at least "
            f"{settings.tissue.min_area_mm2:g} mm2 is denser than OD {settings.tissue.min_od:g} "
            f"(the densest pixel of the overview: {max(od.max(), 0):.2f}). If there is tissue, "
            "lower tissue.min_od."
        )
    report("finding epidermis and junction")
    mpp = max(settings.anatomy.mpp, slide.mpp)
    od = optical_density(slide.overview(mpp), white.values)
    od = np.minimum(od, np.float32(settings.stains.max_od))
    second: SecondStain = "nuclear_marker" if marker == "p16" else "marker"
    if not model.has_marker:
        second = "counterstain"
    compartments = find_compartments(
        unmix(od, model),
        tissue_detail(od, tissue, mpp, settings.tissue) & slide.known(mpp),
        mpp,
        settings.anatomy,
        second,
    )
    junction = trace_junction(compartments, settings.junction, settings.anatomy)
    return _Section(white, model, tissue, compartments, junction)


def _measure_p16(
    slide: Slide,
    section: _Section,
    bins: pd.DataFrame,
    morphometry: dict[str, object],
    settings: Settings,
    workers: int,
) -> _Measured:
    mpp = settings.nuclei.mpp
    blocks = plan_blocks(
        slide.grid_shape(mpp),
        settings.compute.block_px,
        section.tissue,
        margin_px=int(np.ceil(HALO_UM / mpp)),
    )
    found = find_nuclei(
        slide,
        section.model,
        blocks,
        settings,
        workers,
        keep=lambda points_um: section.compartments.at(points_um) > 0,
    )
    nuclei, summary, reasons = measure_p16(
        found,
        section.compartments,
        section.junction,
        settings,
        surface_length_mm=float(str(morphometry["surface_length_mm"])),
        has_marker=section.model.has_marker,
    )
    sweep = threshold_sweep(nuclei, settings.p16).to_dict("records")
    return _Measured(bins, summary, reasons, {"threshold_sweep": sweep}, nuclei=nuclei)


def _measure_collagen7(
    slide: Slide,
    section: _Section,
    bins: pd.DataFrame,
    morphometry: dict[str, object],
    settings: Settings,
) -> _Measured:
    del morphometry  # same call as p16's
    why = section.junction.reason or ("" if section.model.has_marker else NO_DAB)
    if why:
        return _Measured(*missing_collagen7(bins, why), {})
    straightened = straighten(
        slide, section.model, section.junction, settings.collagen7, settings.stains.max_od
    )
    table, summary, reasons = measure_collagen7(straightened, bins, settings.collagen7)
    return _Measured(
        table,
        summary,
        reasons,
        {
            "straightened": {
                "axes": ["arc", "depth"],
                "unit": "DAB OD",
                "step_um": settings.collagen7.depth_step_um,
                "first_depth_um": -settings.collagen7.epidermal_um,
                "samples_of_stretch": np.bincount(straightened.stretch).tolist(),
            }
        },
        straightened=straightened,
    )


def _traces(slide: Slide, section: _Section, settings: Settings) -> dict[str, object]:
    """Columns of the summary that say how the others came about."""
    red, green, blue = section.white.values
    model = section.model
    return {
        "focus_score": _focus(slide, section, settings),
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "white_r": red,
        "white_g": green,
        "white_b": blue,
        "hematoxylin_vector": model.vectors[0],
        "dab_vector": model.vectors[1] if model.has_marker else None,
        "stain_source": model.source,
        "slide_sha256": slide.fingerprint,
        "settings_sha256": settings.sha256,
        "version": __version__,
        "n_edits": 0,
    }


def _outlook(section: _Section) -> dict[str, str]:
    return {} if section.model.has_marker else {"dab_vector": NO_DAB}


def _focus(slide: Slide, section: _Section, settings: Settings) -> float:
    """Median sharpness of up to 16 fields spread evenly over the tissue."""
    mpp, side = settings.nuclei.mpp, 256
    rows, columns = np.nonzero(section.tissue)
    scale = np.array(slide.grid_shape(mpp)) / np.array(section.tissue.shape)
    scores = []
    for index in np.unique(np.linspace(0, len(rows) - 1, 16).round().astype(int)):
        y, x = ((np.array([rows[index], columns[index]]) + 0.5) * scale).astype(int) - side // 2
        field = slide.read(mpp, int(y), int(x), side, side)
        scores.append(focus_score(optical_density(field, section.white.values)))
    return float(np.median(scores))


def _provenance(slide: Slide, section: _Section, settings: Settings) -> dict[str, object]:
    return {
        "slide": {"shape": list(slide.shape), "format": slide.format, "mpp": slide.mpp,
                  "mpp_source": slide.mpp_source, "missing_tiles": slide.missing_tiles},
        "white": {"values": section.white.values, "source": section.white.source,
                  "glass_fraction": section.white.glass_fraction},
        "stains": {"names": section.model.names, "vectors": section.model.vectors,
                   "source": section.model.source},
        "anatomy": {"separation_sd": section.compartments.separation,
                    "stretches": len(section.junction.stretches)},
        "settings": settings.model_dump(mode="json"),
        "version": __version__,
    }  # fmt: skip
