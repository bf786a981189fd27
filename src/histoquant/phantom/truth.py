"""What is known about a phantom slide, in tables and numbers others can read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histoquant.errors import SlideError
from histoquant.phantom.geometry import arc_length, resample
from histoquant.phantom.noise import Array, Mask
from histoquant.phantom.outlines import outlines
from histoquant.phantom.profile import GAUSS_AREA
from histoquant.phantom.scene import Scene

if TYPE_CHECKING:
    import pandas as pd

STEP_UM = 2.0
"""Largest step of the recorded polylines; the length of the junction is taken at it."""

COMPARTMENTS = (
    "epidermis_basal",
    "epidermis_suprabasal",
    "dermis_papillary",
    "dermis_reticular",
)


@dataclass(frozen=True)
class Truth:
    """The truth of one phantom slide.

    Pixel coordinates are continuous level-0 pixels, the picture's corner at (0, 0); um are
    pixels times ``mpp``. The optical densities are those of the tissue, before optics.
    """

    stem: str
    """Name of the slide without its extensions; the files of :meth:`save` begin with it."""
    nuclei: pd.DataFrame
    """One row per nucleus: x_px, y_px, x_um, y_um, compartment, dab_od, positive, area_um2,
    kind, dej_distance_um (positive towards the dermis), hematoxylin_od, melanin_od. Compartments
    are those of `COMPARTMENTS`, and adnexa."""
    junction: pd.DataFrame
    """The junction every 2 um or less, the dermis on the right: arc_um, x_px, y_px, peak_od,
    integrated_od_um, fwhm_um, in_gap. Without collagen VII the last four are empty. Of skin with
    incidents it has only what is junction of surface epidermis, with its `stretch` (0, 1, ...),
    and `hidden`: fold or detached where it cannot be measured."""
    gaps: pd.DataFrame
    """Gaps of the collagen VII line: start_um, end_um, length_um, x_px, y_px (middle)."""
    summary: dict[str, Any]
    """Figures of the whole slide, how it was made, and the two ends of the junction."""
    compartments: dict[str, Any]
    """GeoJSON of epidermis (viable), stratum corneum and dermis in level-0 pixels."""

    def save(self, directory: str | Path) -> None:
        """Write the five truth files of this slide into a directory."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("nuclei", "junction", "gaps"):
            table: pd.DataFrame = getattr(self, name)
            table.to_csv(folder / f"{self.stem}_{name}.csv", index=False, lineterminator="\n")
        for name, content in (
            ("summary.json", self.summary),
            ("compartments.geojson", self.compartments),
        ):
            text = json.dumps(content, indent=1 if name == "summary.json" else None)
            (folder / f"{self.stem}_{name}").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path, stem: str) -> Truth:
        """Read what :meth:`save` wrote.

        Raises
        ------
        SlideError
            If a file is missing.
        """
        import pandas as pd

        folder = Path(directory)
        try:
            nuclei, junction, gaps = (
                pd.read_csv(folder / f"{stem}_{name}.csv")
                for name in ("nuclei", "junction", "gaps")
            )
            summary, compartments = (
                json.loads((folder / f"{stem}_{name}").read_text(encoding="utf-8"))
                for name in ("summary.json", "compartments.geojson")
            )
        except FileNotFoundError as error:
            raise SlideError(f"{folder}: no complete truth of slide {stem!r}: {error}") from error
        return cls(stem, nuclei, junction, gaps, summary, compartments)


def make_truth(scene: Scene, stem: str) -> Truth:
    """Write down the truth of a scene."""
    nuclei = _nuclei_table(scene)
    junction = _junction_table(scene)
    gaps = _gap_table(scene)
    summary = {
        **_about(scene),
        **_lengths(scene, junction),
        **counts_of(nuclei),
        **(line_figures(junction, gaps) if scene.marker == "col7" else {}),
        "recipe": scene.recipe.as_dict(),
    }
    return Truth(stem, nuclei, junction, gaps, summary, _compartments(scene))


def _nuclei_table(scene: Scene) -> pd.DataFrame:
    import pandas as pd

    cells = scene.nuclei
    y, x = (np.array([getattr(n, axis) for n in cells]) for axis in "yx")
    return pd.DataFrame(
        {
            "x_px": (x / scene.mpp).round(3),
            "y_px": (y / scene.mpp).round(3),
            "x_um": x.round(3),
            "y_um": y.round(3),
            "compartment": [n.compartment for n in cells],
            "dab_od": np.array([n.dab for n in cells]).round(4),
            "positive": [n.positive for n in cells],
            "area_um2": np.array([n.area for n in cells]).round(2),
            "kind": [n.kind for n in cells],
            "dej_distance_um": np.array([n.dej_distance for n in cells]).round(2),
            "hematoxylin_od": np.array([n.hematoxylin for n in cells]).round(4),
            "melanin_od": np.array([n.melanin for n in cells]).round(4),
        }
    )


def _junction_table(scene: Scene) -> pd.DataFrame:
    import pandas as pd

    line = resample(scene.junction.points, STEP_UM)
    arc = np.linspace(0, scene.junction.length_um, len(line))
    kept = np.ones(len(line), bool)
    if scene.extras is not None:
        kept = scene.extras.is_surface(scene.section, line)
    peak, fwhm = scene.profile.at(arc)
    in_gap = scene.profile.in_gap(arc)
    table = pd.DataFrame(
        {
            "arc_um": arc.round(3),
            "x_px": (line[:, 1] / scene.mpp).round(3),
            "y_px": (line[:, 0] / scene.mpp).round(3),
            "peak_od": peak.round(4),
            "integrated_od_um": (GAUSS_AREA * peak * fwhm).round(4),
            "fwhm_um": fwhm.round(3),
            "in_gap": in_gap,
        }
    )
    if scene.marker != "col7":
        table[["peak_od", "integrated_od_um", "fwhm_um", "in_gap"]] = np.nan
    if scene.extras is not None:
        table["stretch"] = np.cumsum(np.diff(kept.astype(int), prepend=0) == 1) - 1
        table["hidden"] = scene.extras.hidden(scene.section, line)
        table = table[kept].reset_index(drop=True)
    return table


def _gap_table(scene: Scene) -> pd.DataFrame:
    import pandas as pd

    gaps = scene.profile.gaps if scene.marker == "col7" else np.zeros((0, 2))
    middle = gaps.mean(axis=1)
    y, x = (np.interp(middle, scene.junction.arc, scene.junction.points[:, a]) for a in (0, 1))
    return pd.DataFrame(
        {
            "start_um": gaps[:, 0].round(3),
            "end_um": gaps[:, 1].round(3),
            "length_um": (gaps[:, 1] - gaps[:, 0]).round(3),
            "x_px": (x / scene.mpp).round(3),
            "y_px": (y / scene.mpp).round(3),
        }
    )


def _about(scene: Scene) -> dict[str, Any]:
    scanner = scene.scanner
    return {
        "marker": scene.marker,
        "preset": scene.preset,
        "seed": scene.seed,
        "mpp": scene.mpp,
        "shape_px": list(scene.shape),
        "angle_deg": round(scene.angle_deg, 4),
        "bend_radius_um": round(scene.section.frame.bend_radius_um, 1),
        "white": scanner.white.round(3).tolist(),
        "hematoxylin_vector": scanner.hematoxylin.round(6).tolist(),
        "dab_vector": scanner.dab.round(6).tolist(),
        "melanin_vector": scanner.melanin.round(6).tolist(),
        "background_dab_od": round(scanner.background_dab, 5),
        "psf_sigma_um": round(scanner.psf_sigma_um, 4),
    }


def _lengths(scene: Scene, junction: pd.DataFrame) -> dict[str, Any]:
    section = scene.section
    surface = section.boundary(section.top, STEP_UM)
    line = junction[["y_px", "x_px"]].to_numpy() * scene.mpp
    rings = _polygons(scene)
    area = rings["epidermis"].area
    length, above = float(arc_length(line)[-1]), float(arc_length(surface)[-1])
    if scene.extras is not None:
        length = _length_of_runs(line, np.diff(junction["stretch"]) == 0)
        s, _ = section.frame.to_tissue(surface[:, 0], surface[:, 1])
        bare = scene.extras.damage.is_missing(s)
        above = _length_of_runs(surface, ~bare[1:] & ~bare[:-1])
    first, last = (junction[["x_px", "y_px"]].iloc[i].to_list() for i in (0, -1))
    return {
        "dej_length_um": round(length, 2),
        "dej_ends_px": [first, last],
        "surface_length_um": round(above, 2),
        "surface_chord_um": round(float(np.hypot(*(surface[-1] - surface[0]))), 2),
        "interdigitation_index": round(length / above, 4),
        "epidermis_area_um2": round(area, 1),
        "epidermis_thickness_um_mean": round(area / above, 2),
        "corneum_area_um2": round(rings["stratum_corneum"].area, 1),
        "dermis_area_um2": round(rings["dermis"].area, 1),
    }


def _length_of_runs(line: Array, joined: Mask) -> float:
    """Length of the segments of a line that are `joined`."""
    return float(np.hypot(*np.diff(line, axis=0).T)[joined].sum())


def counts_of(nuclei: pd.DataFrame) -> dict[str, Any]:
    """Nuclei, positive ones and percent, of all and by compartment."""
    groups = {
        "": nuclei["positive"],
        "epidermis": nuclei.loc[nuclei["compartment"].str.startswith("epidermis"), "positive"],
        **{name: nuclei.loc[nuclei["compartment"] == name, "positive"] for name in COMPARTMENTS},
    }
    counts: dict[str, Any] = {}
    for name, positive in groups.items():
        prefix = f"{name}_" if name else ""
        counts[f"{prefix}n_nuclei"] = len(positive)
        counts[f"{prefix}n_positive"] = int(positive.sum())
        share = round(100 * float(positive.mean()), 3) if len(positive) else None
        counts[f"{prefix}positive_percent"] = share
    return counts


def line_figures(junction: pd.DataFrame, gaps: pd.DataFrame) -> dict[str, Any]:
    """Figures of the collagen VII line, from the tables of the truth."""
    positive = ~junction["in_gap"].astype(bool)
    arc, integrated = junction["arc_um"].to_numpy(), junction["integrated_od_um"].to_numpy()
    lost = float(gaps["length_um"].sum())
    return {
        "continuity_percent": round(100 * (1 - lost / float(arc[-1])), 3),
        "n_gaps": len(gaps),
        "gap_length_um": round(lost, 2),
        "integrated_od_um_mean": round(float(np.trapezoid(integrated, arc) / arc[-1]), 4),
        "integrated_od_um_mean_outside_gaps": round(float(integrated[positive].mean()), 4),
        "peak_od_median_outside_gaps": round(float(junction["peak_od"][positive].median()), 4),
        "fwhm_um_median": round(float(junction["fwhm_um"].median()), 3),
    }


def _polygons(scene: Scene) -> dict[str, Any]:
    return outlines(scene.section, scene.extras)


def _compartments(scene: Scene) -> dict[str, Any]:
    features = []
    for name, shape in _polygons(scene).items():
        for polygon in getattr(shape, "geoms", [shape]):
            if polygon.is_empty:
                continue
            rings = [_ring(polygon.exterior, scene.mpp)]
            rings += [_ring(hole, scene.mpp) for hole in polygon.interiors]
            features.append(
                {
                    "type": "Feature",
                    "properties": {"objectType": "annotation", "classification": {"name": name}},
                    "geometry": {"type": "Polygon", "coordinates": rings},
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _ring(ring: Any, mpp: float) -> list[list[float]]:
    """A closed ring (x, y) in pixels."""
    import cv2

    # Points that lie on a straight line within 0.1 um say nothing.
    points = np.asarray(ring.coords, np.float32)[:-1]
    kept = cv2.approxPolyDP(points[:, None], 0.1, closed=True)[:, 0]
    closed = np.vstack([kept, kept[:1]])[:, ::-1].astype(float) / mpp
    coordinates: list[list[float]] = closed.round(2).tolist()
    return coordinates
