"""Compartments and junction as GeoJSON that QuPath opens: level-0 pixels, valid polygons."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import mapping
from skimage.measure import find_contours

from histoquant import anatomy
from histoquant.anatomy import Compartments
from histoquant.artefacts import NAMES, REASONS
from histoquant.junction import Junction, Stretch
from histoquant.windowed import window_around

Feature = dict[str, Any]

_EXCLUDED_COLOUR = (120, 120, 120)
_REGIONS: tuple[tuple[str, str, int, tuple[int, int, int]], ...] = (
    ("Stratum corneum", "", anatomy.STRATUM_CORNEUM, (204, 121, 167)),
    ("Epidermis", "", anatomy.EPIDERMIS, (0, 114, 178)),
    ("Dermis", "", anatomy.DERMIS, (230, 159, 0)),
    ("Excluded", "adnexal epithelium", anatomy.ADNEXA, _EXCLUDED_COLOUR),
)
_TISSUE_COLOUR = (0, 158, 115)
_JUNCTION_COLOUR = (213, 94, 0)


def feature_collection(compartments: Compartments, junction: Junction, mpp: float) -> Feature:
    """Tissue, its compartments and the junction as a GeoJSON FeatureCollection.

    Parameters
    ----------
    compartments, junction
        In um.
    mpp
        Size of a level-0 pixel in um: coordinates are (x, y) in level-0 pixels.
    """
    features = [
        *_region_features(compartments, mpp),
        *_artefact_features(compartments, mpp),
        *_junction_features(junction, mpp),
    ]
    for number, feature in enumerate(features):
        name = feature["properties"]["name"]
        feature["id"] = str(uuid.uuid5(uuid.NAMESPACE_OID, f"histoquant {number} {name}"))
    return {"type": "FeatureCollection", "features": features}


def outlines(mask: NDArray[np.bool_], pixel: float, tolerance: float = 0.5) -> Any:
    """Outline of `mask` as a valid shapely (multi)polygon.

    Parameters
    ----------
    mask
        (y, x) bool.
    pixel
        Side of a mask pixel in the unit of the outline; the corner of the mask is (0, 0).
    tolerance
        How far the outline may be simplified, in mask pixels.

    Notes
    -----
    Marching squares at 0.5: rings never cross, so a hole belongs to the smallest ring around
    one of its points.
    """
    if not mask.any():
        return shapely.MultiPolygon()
    part = window_around(mask, 0)
    corner = np.array([part[1].start, part[0].start])
    padded = np.pad(mask[part], 1).astype(np.float32)
    rings = [
        shapely.LinearRing((ring[:, ::-1] + corner - 0.5) * pixel)
        for ring in find_contours(padded, 0.5)
        if len(ring) > 3
    ]
    is_hole = ~shapely.is_ccw(rings)
    shells = [ring for ring, hole in zip(rings, is_hole, strict=True) if not hole]
    holes = [ring for ring, hole in zip(rings, is_hole, strict=True) if hole]
    area = shapely.MultiPolygon(_polygons(shells, holes))
    return shapely.make_valid(area.simplify(tolerance * pixel, preserve_topology=True))


def _polygons(shells: list[Any], holes: list[Any]) -> list[Any]:
    """Polygons of rings that do not cross."""
    filled = [shapely.Polygon(shell) for shell in shells]
    inside: list[list[Any]] = [[] for _ in shells]
    points = np.array([shapely.Point(hole.coords[0]) for hole in holes], dtype=object)
    pairs = shapely.STRtree(filled).query(points, predicate="within").T
    owner: dict[int, int] = {}
    for hole, shell in pairs.tolist():
        if hole not in owner or filled[shell].area < filled[owner[hole]].area:
            owner[hole] = shell
    for hole, shell in owner.items():
        inside[shell].append(holes[hole])
    return [shapely.Polygon(s, h) for s, h in zip(shells, inside, strict=True)]


def _region_features(compartments: Compartments, mpp: float) -> Iterator[Feature]:
    pixel = compartments.mpp / mpp
    labels = compartments.labels
    whole = ("Tissue", "", anatomy.BACKGROUND, _TISSUE_COLOUR)
    for name, reason, code, colour in (whole, *_REGIONS):
        mask = labels != code if code == anatomy.BACKGROUND else labels == code
        if not mask.any():
            continue
        polygon = outlines(mask, pixel)
        measurements = {"Area mm^2": float(polygon.area) * mpp**2 / 1e6}
        feature = _feature(polygon, name, colour, measurements)
        if reason:
            feature["properties"]["metadata"] = {"reason": reason}
        yield feature


def _artefact_features(compartments: Compartments, mpp: float) -> Iterator[Feature]:
    if compartments.artefacts is None:
        return
    for code in NAMES:
        mask = compartments.artefacts == code
        if not mask.any():
            continue
        polygon = outlines(mask, compartments.mpp / mpp)
        measurements = {"Area mm^2": float(polygon.area) * mpp**2 / 1e6}
        feature = _feature(polygon, "Excluded", _EXCLUDED_COLOUR, measurements)
        feature["properties"]["metadata"] = {"reason": REASONS[code]}
        yield feature


def _junction_features(junction: Junction, mpp: float) -> Iterator[Feature]:
    for number, stretch in enumerate(junction.stretches):
        for reason, points in _runs(stretch):
            line = shapely.LineString(points[:, ::-1] / mpp)
            measurements = {"Length um": float(line.length) * mpp}
            feature = _feature(line, "DEJ", _JUNCTION_COLOUR, measurements)
            feature["properties"]["metadata"] = {
                "stretch": str(number),
                "excluded": "true" if reason else "false",
                "reason": reason,
            }
            yield feature


def _runs(stretch: Stretch) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Parts of a stretch, each with why it is excluded, which it is with either of its ends."""
    before, after = stretch.reasons[:-1], stretch.reasons[1:]
    start = 0
    for reason, segments in groupby(np.where(before != "", before, after).tolist()):
        stop = start + len(list(segments))
        yield reason, stretch.points_um[start : stop + 1]
        start = stop


def _feature(
    geometry: Any, name: str, colour: tuple[int, int, int], measurements: dict[str, float]
) -> Feature:
    return {
        "type": "Feature",
        "geometry": mapping(_rounded(geometry)),
        "properties": {
            "objectType": "annotation",
            "name": name,
            "classification": {"name": name, "color": list(colour)},
            "isLocked": True,
            "measurements": measurements,
        },
    }


def _rounded(geometry: Any) -> Any:
    """Coordinates to 0.01 px: polygons stay valid, a line keeps all its vertices in order."""
    mode = "pointwise" if geometry.geom_type == "LineString" else "valid_output"
    return shapely.set_precision(geometry, 0.01, mode=mode)
