"""How the figures of a slide came about: what goes into its result beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from histoquant import __version__
from histoquant.anatomy import Compartments
from histoquant.collagen7 import NO_DAB
from histoquant.junction import Junction
from histoquant.p16 import warn_of_field
from histoquant.planes import PlaneModel
from histoquant.settings import Marker, P16Settings, Settings
from histoquant.slides import Slide
from histoquant.staining import FieldFigures
from histoquant.stains import StainModel, WhiteLevel

Mask = npt.NDArray[np.bool_]

_COLOURS = ("white_r", "white_g", "white_b", "white_source", "glass_percent",
            "white_uneven_percent", "hematoxylin_vector", "dab_vector",
            "hematoxylin_angle_deg", "marker_angle_deg")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Section:
    """What every marker's measurement starts from."""

    white: WhiteLevel | None
    """None in fluorescence, whose model is no `StainModel`."""
    model: PlaneModel
    tissue: Mask
    compartments: Compartments
    junction: Junction
    fields: FieldFigures


def traces(slide: Slide, section: Section, marker: Marker, settings: Settings) -> dict[str, object]:
    """Columns of the summary that say how the others came about."""
    return {
        "focus_score": section.fields.focus_score,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        **_colours(section, settings),
        "marker_unit": section.model.unit,
        "residual_od": section.fields.residual_od,
        "tissue_saturated_percent": section.fields.saturated_percent,
        "slide_sha256": slide.fingerprint,
        "settings_sha256": settings.sha256,
        "version": __version__,
        "n_edits": 0,
        **_threshold(section, marker, settings),
    }


def _colours(section: Section, settings: Settings) -> dict[str, object]:
    """White level and stain vectors; in fluorescence there are only channels."""
    model, white = section.model, section.white
    if white is None or not isinstance(model, StainModel):
        return {**dict.fromkeys(_COLOURS), "stain_source": model.source}
    red, green, blue = white.values
    hematoxylin_angle, second_angle = model.to_preset_deg(settings.stains.preset)
    return {
        "white_r": red,
        "white_g": green,
        "white_b": blue,
        "white_source": white.source,
        "glass_percent": 100 * white.glass_fraction,
        "white_uneven_percent": white.uneven_percent,
        "hematoxylin_vector": model.vectors[0],
        "dab_vector": model.vectors[1] if model.has_marker else None,
        "stain_source": model.source,
        "hematoxylin_angle_deg": hematoxylin_angle,
        "marker_angle_deg": second_angle,
    }


def _threshold(section: Section, marker: Marker, settings: Settings) -> dict[str, object]:
    """The threshold of positivity, and where it came from; missing where nothing is positive."""
    if not section.model.has_marker:
        return {"positive_threshold_od": None, "threshold_source": None}
    if marker == "col7":
        return {
            "positive_threshold_od": settings.collagen7.threshold_od,
            "threshold_source": settings.collagen7.threshold_locked or "settings",
        }
    thresholds = settings.p16.thresholds_od
    convention = thresholds == P16Settings().thresholds_od
    given = "QuPath's convention, 0.2/0.4/0.6" if convention else "settings"
    return {
        "positive_threshold_od": thresholds[0],
        "threshold_source": settings.p16.threshold_locked or given,
    }


def warnings_of(
    section: Section, summary: dict[str, object], marker: Marker, settings: Settings, damaged: int
) -> list[str]:
    """What a reader of the figures must know: about white, vectors, tiles and brown fields."""
    white = section.white
    warnings = [white.warning] if white is not None and white.warning else []
    if "refused" in section.model.source:
        warnings.append(f"stain vectors: {section.model.source}")
    locked = (settings.p16 if marker == "p16" else settings.collagen7).threshold_locked
    doubts = ("no threshold from negative controls", "is the control negative?")
    if any(doubt in locked for doubt in doubts):
        warnings.append(f"threshold: {locked}")
    if damaged:
        warnings.append(f"{damaged} unreadable tile(s) are left out of tissue")
    if marker == "p16" and section.model.has_marker:
        warnings += warn_of_field(summary, settings, section.model.unit)
    return warnings


def trace_reasons(section: Section) -> dict[str, str]:
    """Why columns of `traces` are missing, where they are."""
    reasons: dict[str, str] = {}
    if not section.model.has_marker:
        reasons |= dict.fromkeys(
            ("dab_vector", "positive_threshold_od", "threshold_source"), NO_DAB
        )
    if section.white is None:
        why = "fluorescence: channels stand for themselves"
        reasons |= dict.fromkeys((*_COLOURS, "residual_od"), why)
    elif section.white.source == "given":
        reasons |= dict.fromkeys(
            ("glass_percent", "white_uneven_percent"), "the white level is given by stains.white"
        )
    else:
        reasons["white_uneven_percent"] = "too little glass around the tissue to tell"
    return reasons


def provenance(slide: Slide, section: Section, settings: Settings) -> dict[str, object]:
    """What of a slide goes into ``result.json`` beside its figures."""
    return {
        "slide": {"shape": list(slide.shape), "format": slide.format, "mpp": slide.mpp,
                  "mpp_source": slide.mpp_source, "missing_tiles": slide.missing_tiles,
                  "missing_percent": slide.missing_percent},
        **_colour_provenance(section, settings),
        "anatomy": {"separation_sd": section.compartments.separation,
                    "stretches": len(section.junction.stretches)},
        "settings": settings.model_dump(mode="json"),
        "version": __version__,
    }  # fmt: skip


def _colour_provenance(section: Section, settings: Settings) -> dict[str, object]:
    model, white = section.model, section.white
    if white is None or not isinstance(model, StainModel):
        return {"fluorescence": {"unit": model.unit, **asdict(model)}}  # type: ignore[call-overload]
    return {
        "white": {"values": white.values, "source": white.source,
                  "glass_fraction": white.glass_fraction,
                  "uneven_percent": white.uneven_percent, "field": white.field},
        "stains": {"names": model.names, "vectors": model.vectors,
                   "source": model.source,
                   "angles_to_preset_deg": model.to_preset_deg(settings.stains.preset)},
    }  # fmt: skip
