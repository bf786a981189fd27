"""Several sections on one slide: drawn one by one, laid side by side, seen by one scanner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.recipe import Marker, PhantomRecipe
from histoquant.phantom.render import Renderer
from histoquant.phantom.scene import Scene, make_scene
from histoquant.phantom.truth import STEP_UM, Truth, counts_of, line_figures, make_truth

if TYPE_CHECKING:
    import pandas as pd

_NEXT_SEED = 1_000_003  # so that no section of a slide is that of a neighbouring seed
_SUMMED = (
    "dej_length_um", "surface_length_um", "surface_chord_um", "epidermis_area_um2",
    "corneum_area_um2", "dermis_area_um2",
)  # fmt: skip


@dataclass(frozen=True)
class Tray:
    """The sections of one slide, from left to right; all scenes are equally high."""

    scenes: tuple[Scene, ...]

    @property
    def first(self) -> Scene:
        """The leftmost section; what is common to all of them is told by it."""
        return self.scenes[0]

    @property
    def lefts_px(self) -> list[int]:
        """First column of each section's part of the slide."""
        widths = [scene.shape[1] for scene in self.scenes]
        return [sum(widths[:number]) for number in range(len(widths))]

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (y, x) of level 0."""
        return self.first.shape[0], sum(scene.shape[1] for scene in self.scenes)


def make_tray(
    marker: Marker,
    seed: int,
    preset: str,
    recipe: PhantomRecipe,
    mpp: float,
    size_mm: tuple[float, float],
    angle_deg: float | None,
    sections: int,
) -> Tray:
    """Draw the sections of a slide, each on a part of `size_mm` (width, height).

    The first is the section that a slide of its own would hold.
    """
    seeds = [seed + number * _NEXT_SEED for number in range(sections)]
    scenes = [make_scene(marker, s, preset, recipe, mpp, size_mm, angle_deg) for s in seeds]
    scanner = scenes[0].scanner
    return Tray(tuple(replace(scene, scanner=scanner) for scene in scenes))


class TrayRenderer:
    """Renders any window of a tray; the same pixels whatever the window."""

    def __init__(self, tray: Tray) -> None:
        scene = tray.first
        whole_um = scene.mpp * tray.shape[0], scene.mpp * tray.shape[1]
        self._parts = [
            (left, scene.shape[1], Renderer(scene, left, whole_um))
            for left, scene in zip(tray.lefts_px, tray.scenes, strict=True)
        ]

    def render(self, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return pixels (height, width, 3) uint8 of a window of level 0."""
        parts = []
        for left, columns, renderer in self._parts:
            start, stop = max(x, left), min(x + width, left + columns)
            if start < stop:
                parts.append(renderer.render(y, start - left, height, stop - start))
        return np.concatenate(parts, axis=1)


def tray_truth(tray: Tray, stem: str) -> Truth:
    """Write down the truth of a tray: tables in pixels of the slide, figures of all sections.

    `junction` has the section of each row as `section`, and a `stretch` of its own for each
    unbroken part; arc lengths go on from section to section.
    """
    truths = [make_truth(scene, stem) for scene in tray.scenes]
    if len(truths) == 1:
        return truths[0]
    mpp = tray.first.mpp
    nuclei = _joined([_shifted(t.nuclei, left, mpp) for t, left in _with_lefts(tray, truths)])
    junctions, gaps, features, arc, stretch = [], [], [], 0.0, 0
    for number, (truth, left) in enumerate(_with_lefts(tray, truths)):
        table = _shifted(truth.junction, left, mpp)
        table["stretch"] = stretch + table.get("stretch", 0)
        table["hidden"] = table.get("hidden", "")
        table["section"] = number
        lost = _shifted(truth.gaps, left, mpp)
        lost[["start_um", "end_um"]] += arc
        table["arc_um"] += arc
        arc, stretch = float(table["arc_um"].max()) + STEP_UM, int(table["stretch"].max()) + 1
        junctions.append(table)
        gaps.append(lost)
        features += [_moved(feature, left) for feature in truth.compartments["features"]]
    junction, lost = _joined(junctions), _joined(gaps)
    summary = _summary(tray, truths)
    summary |= counts_of(nuclei)
    if tray.first.marker == "col7":
        summary |= line_figures(junction, lost)
    return Truth(
        stem, nuclei, junction, lost, summary,
        {"type": "FeatureCollection", "features": features},
    )  # fmt: skip


def _with_lefts(tray: Tray, truths: Sequence[Truth]) -> list[tuple[Truth, int]]:
    return list(zip(truths, tray.lefts_px, strict=True))


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(tables, ignore_index=True)


def _shifted(table: pd.DataFrame, left_px: int, mpp: float) -> pd.DataFrame:
    moved = table.copy()
    moved["x_px"] += left_px
    if "x_um" in moved:
        moved["x_um"] += left_px * mpp
    return moved


def _moved(feature: dict[str, Any], left_px: int) -> dict[str, Any]:
    rings = [[[x + left_px, y] for x, y in ring] for ring in feature["geometry"]["coordinates"]]
    return {**feature, "geometry": {"type": "Polygon", "coordinates": rings}}


def _summary(tray: Tray, truths: Sequence[Truth]) -> dict[str, Any]:
    """Figures of all sections together; what is one section's own, of the first."""
    first = truths[0].summary
    total = {name: round(sum(t.summary[name] for t in truths), 2) for name in _SUMMED}
    above = total["surface_length_um"]
    return {
        **first,
        **total,
        "sections": len(truths),
        "shape_px": list(tray.shape),
        "angles_deg": [t.summary["angle_deg"] for t in truths],
        "interdigitation_index": round(total["dej_length_um"] / above, 4),
        "epidermis_thickness_um_mean": round(total["epidermis_area_um2"] / above, 2),
    }
