"""A slide as GeoJSON in QuPath's words: what was measured, as objects to look at there.

Follows what QuPath 0.4 and later write and read: a FeatureCollection in level-0 pixels whose
features have a UUID as ``id`` and, in ``properties``, ``objectType`` (annotation, detection),
``classification`` (name and colour), ``measurements`` (numbers by name; QuPath has no place for a
missing one, so it is left out) and ``metadata`` (text). Classes are QuPath's own: with
``Negative``, ``1+``, ``2+`` and ``3+`` it computes its Positive % and H-score, and a class that
ends in ``*`` is in none of its counts.
"""

from __future__ import annotations

import gzip
import json
import math
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import shapely
from shapely.geometry import mapping, shape
from shapely.ops import substring

from histoquant.export.kept import KeptSlide
from histoquant.export.outlines import nucleus_outlines
from histoquant.geojson import Feature

_CLASSES: Mapping[str, tuple[int, int, int]] = {
    "Negative": (0, 114, 178),
    "1+": (240, 200, 60),
    "2+": (230, 159, 0),
    "3+": (213, 94, 0),
    "Positive": (86, 180, 233),
    "Nucleus": (86, 180, 233),
    "Ignore*": (150, 150, 150),
}
_GRADES = {0: "Negative", 1: "1+", 2: "2+", 3: "3+"}

_NUCLEUS: Mapping[str, str] = {
    "area_um2": "Nucleus: Area µm^2",
    "eccentricity": "Nucleus: Eccentricity",
    "hematoxylin_od_mean": "Nucleus: Hematoxylin OD mean",
    "dab_od_mean": "Nucleus: DAB OD mean",
    "dab_od_median": "Nucleus: DAB OD median",
    "ring_dab_od_mean": "Cytoplasm: DAB OD mean",
    "x_um": "Centroid X µm",
    "y_um": "Centroid Y µm",
    "dej_distance_um": "Signed distance to DEJ µm",
    "saturated_fraction": "Nucleus: Saturated fraction",
    "pigment_score": "Nucleus: Pigment score",
}
_OD = "DAB OD"
_HEMATOXYLIN, _NUCLEAR = "Hematoxylin OD", "Nuclear stain"
_BIN: Mapping[str, str] = {
    "peak_od": "DEJ: DAB OD peak",
    "integrated_od_um": "DEJ: DAB OD integrated µm",
    "fwhm_um": "DEJ: Width at half maximum µm",
    "depth_peak_um": "DEJ: Depth of peak µm",
    "background_od": "DEJ: DAB OD background",
    "saturated_fraction": "DEJ: Saturated fraction",
    "arc_start_um": "DEJ: Arc start µm",
    "arc_end_um": "DEJ: Arc end µm",
}
_SUMMARY: Mapping[str, str] = {
    "n_nuclei": "Num Detections",
    "positive_percent": "Positive %",
    "h_score": "H-score",
    "epidermis_positive_percent": "Epidermis: Positive %",
    "papillary_positive_per_mm2": "Papillary dermis: Num Positive per mm^2",
    "positive_per_mm_dej": "DEJ: Num Positive per mm",
    "continuity_percent": "DEJ: Continuity %",
    "integrated_od_um_mean": "DEJ: DAB OD integrated mean µm",
    "peak_od_mean": "DEJ: DAB OD peak mean",
    "dej_length_mm": "DEJ: Length mm",
}


def qupath_collection(kept: KeptSlide, *, with_outlines: bool = False) -> Feature:
    """A slide's compartments, junction and nuclei as a FeatureCollection.

    Parameters
    ----------
    with_outlines
        Nuclei as the polygons that were measured, which takes the slide itself; else as points.

    Raises
    ------
    ResultError, SlideError
        When a file of the result, or for outlines the slide, cannot be used.
    """
    features = [_with_figures(feature, kept) for feature in kept.features]
    if kept.nuclei is not None:
        features += _nuclei(kept, with_outlines)
    elif "positive" in kept.junction:
        features += _bins(kept)
    return {"type": "FeatureCollection", "features": features}


def to_bytes(collection: Feature, *, compress: bool) -> bytes:
    """The collection as UTF-8 JSON, gzipped where asked; the same bytes in every run."""
    text = json.dumps(collection, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    content = text.encode("utf-8")
    return gzip.compress(content, mtime=0) if compress else content


def _with_figures(feature: Feature, kept: KeptSlide) -> Feature:
    """The slide's figures as measurements of its tissue."""
    properties = dict(feature["properties"])
    if properties.get("name") == "Tissue":
        figures = _measurements(kept.summary, _in_unit(_SUMMARY, kept))
        properties["measurements"] = {**properties.get("measurements", {}), **figures}
        properties["metadata"] = {
            **properties.get("metadata", {}),
            **{name: value for name, value in kept.about().items() if value},
            "histoquant": str(kept.summary.get("version", "")),
        }
    return {**feature, "properties": properties}


def _nuclei(kept: KeptSlide, with_outlines: bool) -> Iterator[Feature]:
    table = kept.nuclei
    assert table is not None
    shapes = nucleus_outlines(kept) if with_outlines else {}
    names = _in_unit(_NUCLEUS, kept)
    for number, row in enumerate(table.to_dict("records"), start=1):
        point = {"type": "Point", "coordinates": [round(row["x_px"], 2), round(row["y_px"], 2)]}
        metadata = {"compartment": str(row["compartment"]), "nucleus_id": row["nucleus_id"]}
        metadata |= {
            name: "true"
            for name in ("pigment_suspected", "haze_suspected", "block_positive", "added")
            if row.get(name) is True
        }
        if row["excluded"] and row.get("exclusion_reason"):
            metadata["reason"] = str(row["exclusion_reason"])
        yield _feature(
            kept,
            f"nucleus {row['nucleus_id']} {number}",
            mapping(shapes[number]) if number in shapes else point,
            _nucleus_class(row),
            _measurements(row, names),
            metadata,
        )


def _nucleus_class(row: Mapping[Any, Any]) -> str:
    if row["excluded"]:
        return "Ignore*"
    grade = row["intensity_class"]
    if pd.isna(grade) or pd.isna(row["positive"]):
        return "Nucleus"
    return _GRADES.get(int(grade), "Positive" if row["positive"] else "Negative")


def _bins(kept: KeptSlide) -> Iterator[Feature]:
    """The junction in bins, each a piece of the line."""
    names = _in_unit(_BIN, kept)
    lines = _stretches(kept)
    for row in kept.junction.to_dict("records"):
        line = lines.get(int(row.get("stretch", 0)))
        geometry: Any = {"type": "Point", "coordinates": [round(row["x_px"], 2),
                                                          round(row["y_px"], 2)]}  # fmt: skip
        if line is not None:
            start, end = row["arc_start_um"] / kept.mpp, row["arc_end_um"] / kept.mpp
            piece = substring(line, start, end)
            if piece.geom_type == "LineString" and piece.length > 0:
                geometry = mapping(shapely.set_precision(piece, 0.01, mode="pointwise"))
        found = row["positive"]
        name = "Positive" if found is True else "Negative"
        metadata = {"bin": str(row["bin"]), "feature": str(row["feature"])}
        if row["excluded"] or pd.isna(found):
            name = "Ignore*"
            metadata["reason"] = str(row.get("exclusion_reason") or "not measured")
        yield _feature(
            kept, f"bin {row['bin']}", geometry, name, _measurements(row, names), metadata
        )


def _in_unit(names: Mapping[str, str], kept: KeptSlide) -> dict[str, str]:
    """Names of measurements with what the slide was measured in: a stain's OD, or grey levels."""
    of_slide = kept.marker_unit if kept.marker_unit != "OD" else _OD
    unit = kept.record["provenance"].get("straightened", {}).get("unit", of_slide)
    named = {column: name.replace(_OD, str(unit)) for column, name in names.items()}
    if kept.marker_unit == "OD":
        return named
    return {column: name.replace(_HEMATOXYLIN, _NUCLEAR) for column, name in named.items()}


def _stretches(kept: KeptSlide) -> dict[int, Any]:
    """Number of a stretch -> its whole line; it is kept in parts, measured and excluded."""
    parts: dict[int, list[Any]] = {}
    for feature in kept.features:
        properties = feature["properties"]
        if properties.get("name") == "DEJ":
            number = int(properties.get("metadata", {}).get("stretch", 0))
            parts.setdefault(number, []).extend(shape(feature["geometry"]).coords)
    return {number: shapely.LineString(points) for number, points in parts.items()}


def _measurements(row: Mapping[Any, Any], names: Mapping[str, str]) -> dict[str, float]:
    """QuPath's name -> value, to six digits, of what was measured."""
    out = {}
    for column, name in names.items():
        value = row.get(column)
        if value is None or value is pd.NA or not math.isfinite(value):
            continue
        out[name] = float(f"{value:.6g}")
    return out


def _feature(
    kept: KeptSlide,
    key: str,
    geometry: Any,
    classification: str,
    measurements: dict[str, float],
    metadata: dict[str, str],
) -> Feature:
    about = f"histoquant {kept.summary.get('slide_sha256')} {kept.marker} {key}"
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, about)),
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            "classification": {
                "name": classification,
                "color": list(_CLASSES[classification]),
            },
            "measurements": measurements,
            "metadata": metadata,
        },
    }
