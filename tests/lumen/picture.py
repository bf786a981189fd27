"""From a section to a slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import MultiPolygon

from lumen.camera import Exposed, expose
from lumen.cells import Cells, all_nuclei
from lumen.chance import Lots
from lumen.crowd import Nucleus
from lumen.dirt import add_debris, add_folds
from lumen.line import Membrane, Style, collagen7, some_style
from lumen.nuclear import nuclear_light
from lumen.optics import through_optics, with_haze
from lumen.own_light import own_light
from lumen.pose import Pose, some_pose
from lumen.raster import blur
from lumen.section import Section, section_of
from lumen.skin import LINE, MPP, PRESETS, Drawn, Light, Marker, Table

HALO = 0.03  # what glows faintly around the line, and is not part of its truth
HALO_PX = 5


@dataclass(frozen=True)
class Lit:
    """Light in perfect focus, that of middling dermis in the marker, and the line's truth."""

    light: Light
    level: float
    style: Style
    membranes: list[Membrane]


def draw(preset: str, marker: Marker = "col7", seed: int = 0) -> Drawn:
    """Draw one slide; the same arguments give the same picture and truth.

    Parameters
    ----------
    preset
        One of `PRESETS`.
    marker
        Collagen VII: there is no other.
    seed
        Any whole number from 0.
    """
    if marker != "col7":
        raise ValueError(f"marker {marker!r}: only 'col7' can be drawn")
    number = list(PRESETS).index(preset) + 1
    lots = Lots(np.random.default_rng([seed, number, 7001]), PRESETS[preset])
    section = section_of(lots)
    plan, cells = section.plan, all_nuclei(section, lots)
    lit = _lit(section, cells, lots)
    light, haze = with_haze(lit.light, lots)
    dapi_psf_um = lit.style.psf_um * lots.rng.uniform(0.8, 1.0)
    pose = some_pose(plan, lots)
    light = through_optics(light, pose, (dapi_psf_um, lit.style.psf_um), lots)
    exposed = expose(light, haze, lit.level, lit.style.peak, lots)
    return Drawn(
        planes=exposed.counts,
        mpp=MPP,
        junctions=[pose.points(membrane.points) for membrane in lit.membranes],
        surface=[pose.points(line) for line in plan.surface],
        viable=pose.area(plan.viable),
        nuclei=_nuclei(cells.nuclei, plan.viable, pose),
        line=[_line(membrane, pose, exposed) for membrane in lit.membranes],
        features=sorted(lots.features),
        preset=preset,
        marker=marker,
        seed=seed,
        meta=_meta(lit, exposed) | _posed(pose) | {"rete": plan.ridges.kind},
    )


def _lit(section: Section, cells: Cells, lots: Lots) -> Lit:
    """Let a section glow, with what lies on it."""
    nuclear = nuclear_light(cells.nuclei, section.plan.shape, lots)
    own = own_light(section, cells, nuclear, lots)
    style = some_style(own.level, lots)
    line, membranes = collagen7(section, style, lots)
    light = Light(
        dapi=nuclear.light + lots.within(lots.preset.dapi_own) * own.dapi,
        marker=own.marker + line + blur(line, HALO_PX) * HALO,
    )
    add_debris(light, style.peak, lots)
    add_folds(light, section.plan, lots)
    return Lit(light, own.level, style, membranes)


def _line(membrane: Membrane, pose: Pose, exposed: Exposed) -> Table:
    """The truth along a junction."""
    points = pose.points(membrane.points)
    table = np.zeros(len(points), LINE)
    table["x"], table["y"] = points.T
    table["present"] = membrane.present
    table["od_um"] = np.where(membrane.present, exposed.worth(membrane.light, points), 0)
    return table


def _nuclei(nuclei: list[Nucleus], viable: MultiPolygon, pose: Pose) -> pd.DataFrame:
    """The truth of nuclei; what has strayed into the epidermis belongs to it."""
    x, y = np.array([nucleus[:2] for nucleus in nuclei], float).T
    compartment = np.array([nucleus.compartment for nucleus in nuclei])
    inside = shapely.contains_xy(viable, x, y)
    compartment[(compartment == "dermis") & inside] = "epidermis"
    x, y = pose.points(np.c_[x, y]).T
    columns = {"x": x, "y": y, "compartment": compartment, "positive": False}
    return pd.DataFrame(columns)


def _meta(lit: Lit, exposed: Exposed) -> dict[str, Any]:
    style = lit.style
    return {
        "bits": exposed.camera.bits,
        "offset": exposed.camera.offset,
        "gain": exposed.gain,
        "fwhm": style.fwhm_um,
        "contrast": style.contrast,
        "gap_frac": style.gaps,
        "psf_sigma": style.psf_um,
        "line_peak": style.peak * exposed.gain,
        "dermis_level": lit.level * exposed.gain,
    }


def _posed(pose: Pose) -> dict[str, Any]:
    return {"rotation_deg": float(np.degrees(pose.angle)), "mirrored": pose.mirrored}
