"""A slide for Python's single-cell world: AnnData for scanpy and squidpy, SpatialData.

Observations are the nuclei of a p16 slide and the bins of junction of a collagen VII slide;
variables are what was measured on each. ``obsm["spatial"]`` is (x, y) in um from the top left of
the slide. What the slide as a whole gave lies in ``uns["histoquant"]``.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import shapely
from shapely.geometry import shape

from histoquant import tables
from histoquant.export.kept import KeptSlide, figures
from histoquant.export.needs import load
from histoquant.export.outlines import nucleus_outlines
from histoquant.planes import NUCLEAR_LEVEL
from histoquant.tables import Column

_PLACE = ("x_px", "y_px", "x_um", "y_um")
_EXTRA = "spatialdata"
_TYPICAL_RADIUS_UM = 3.5  # of a nucleus of the epidermis, where no other one was measured


def to_anndata(kept: KeptSlide, export: str = "anndata") -> Any:
    """The slide's nuclei (p16) or bins of junction (col7) as an `anndata.AnnData`.

    ``X`` is float32 (n, variables) with NaN where a value is missing; ``var`` has unit and
    meaning of each variable.

    Raises
    ------
    ResultError
        When a table of the slide cannot be read.
    ExportError
        When anndata is not installed.
    """
    anndata = load("anndata", _EXTRA, export)
    table, columns = _observed(kept)
    measured = [c for c in columns if c.dtype == "float64" and c.name not in _PLACE]
    names = [c.name for c in measured]
    values = table[names].to_numpy(np.float64, na_value=np.nan).astype(np.float32)
    adata = anndata.AnnData(
        X=values, obs=_obs(kept, table, columns), var=_var(measured, kept.marker_unit)
    )
    adata.obsm["spatial"] = _place_um(kept, table)
    adata.obsm["spatial_px"] = table[["x_px", "y_px"]].to_numpy(np.float64)
    adata.uns["histoquant"] = _about(kept)
    return adata


def to_spatialdata(kept: KeptSlide, *, with_outlines: bool = False) -> Any:
    """The slide's compartments, junction and nuclei as a `spatialdata.SpatialData`.

    Shapes are in um (coordinate system ``um``; ``global`` is level-0 pixels): ``compartments``,
    ``junction`` (a circle per bin) and, for p16, ``nuclei``, as circles of the nucleus' area or,
    with `with_outlines`, as they were measured. The tables ``junction_table`` and
    ``nuclei_table`` annotate them.

    Raises
    ------
    ResultError, SlideError
        When a file of the result, or for outlines the slide, cannot be used.
    ExportError
        When spatialdata is not installed.
    """
    spatialdata = load("spatialdata", _EXTRA, "spatialdata")
    geopandas = load("geopandas", _EXTRA, "spatialdata")
    models, transformations = spatialdata.models, spatialdata.transformations
    place = {
        "um": transformations.Identity(),
        "global": transformations.Scale([1 / kept.mpp, 1 / kept.mpp], axes=("x", "y")),
    }

    def shapes(geometry: Any, **columns: Any) -> Any:
        frame = geopandas.GeoDataFrame({"geometry": geometry, **columns})
        return models.ShapesModel.parse(frame, transformations=dict(place))

    elements: dict[str, Any] = {}
    regions = _regions(kept)
    if len(regions):
        elements["compartments"] = shapes(regions["geometry"], name=regions["name"])
    if len(kept.junction):
        bins = kept.junction
        radius = (bins["arc_end_um"] - bins["arc_start_um"]).to_numpy(np.float64) / 2
        points = shapely.points(_place_um(kept, bins))
        elements["junction"] = shapes(points, radius=radius)
    nuclei = kept.nuclei
    if nuclei is not None and len(nuclei):
        elements["nuclei"] = _nuclei_shapes(kept, nuclei, shapes, with_outlines)
    element = "nuclei" if kept.marker == "p16" else "junction"
    if element in elements:
        adata = to_anndata(kept, "spatialdata")
        adata.obs["region"] = pd.Categorical([element] * adata.n_obs)
        adata.obs["instance_id"] = np.arange(adata.n_obs)
        elements[f"{element}_table"] = models.TableModel.parse(
            adata, region=element, region_key="region", instance_key="instance_id"
        )
    return spatialdata.SpatialData.init_from_elements(elements, attrs={"histoquant": _about(kept)})


def _observed(kept: KeptSlide) -> tuple[pd.DataFrame, tuple[Column, ...]]:
    """The table whose rows are observed, and its columns."""
    if kept.nuclei is not None:
        return kept.nuclei, tables.NUCLEI
    return kept.junction, tables.junction_columns(kept.marker)


def _obs(kept: KeptSlide, table: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """Flags, classes and places of the rows, and which slide and sample they come from."""
    obs: dict[str, Any] = {}
    for column in columns:
        if column.name not in table or column.name == "nucleus_id":
            continue
        values = table[column.name]
        if column.dtype == "string":
            obs[column.name] = pd.Categorical(values.fillna("").astype(object))
        elif column.dtype != "float64":
            obs[column.name] = _flags_or_counts(values)
    for name, value in kept.about().items():
        obs[name] = pd.Categorical([value] * len(table))
    own = table["nucleus_id"] if "nucleus_id" in table else [f"bin{b}" for b in table["bin"]]
    index = pd.Index([f"{kept.slide_id}:{name}" for name in own], dtype=object)
    return pd.DataFrame(obs, index=index)


def _flags_or_counts(values: pd.Series[Any]) -> Any:
    """Plain NumPy where nothing is missing; flags with gaps as categories yes, no, unknown."""
    if not values.isna().any():
        return values.to_numpy(bool if values.dtype.name in ("bool", "boolean") else np.int64)
    if values.dtype.name in ("bool", "boolean"):
        return pd.Categorical([{True: "yes", False: "no"}.get(v, "unknown") for v in values])
    return values.to_numpy(np.float64, na_value=np.nan)


def _var(columns: list[Column], marker_unit: str) -> pd.DataFrame:
    """Unit and meaning of the variables; fluorescence has grey levels where columns say OD."""
    index = pd.Index([c.name for c in columns], dtype=object)
    units = [_unit(c, marker_unit) for c in columns]
    about = {"unit": units, "meaning": [c.meaning for c in columns]}
    return pd.DataFrame(about, index=index, dtype=object)


def _unit(column: Column, marker_unit: str) -> str:
    if marker_unit == "OD" or "OD" not in column.unit:
        return column.unit
    if column.name.startswith("hematoxylin"):
        return f"{NUCLEAR_LEVEL:g} of a typical nucleus"
    return column.unit.replace("OD", marker_unit)


def _place_um(kept: KeptSlide, table: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(n, 2) x and y in um from the top left of the slide."""
    if "x_um" in table:
        return table[["x_um", "y_um"]].to_numpy(np.float64)
    return table[["x_px", "y_px"]].to_numpy(np.float64) * kept.mpp


def _about(kept: KeptSlide) -> dict[str, Any]:
    """The slide's figures and where they come from; nested records as JSON, which h5ad keeps."""
    text = {
        name: str(value) for name, value in kept.summary.items() if isinstance(value, str) and value
    }
    return {
        "observations": "nuclei" if kept.marker == "p16" else "bins of junction",
        "sample": kept.about(),
        "summary": figures(kept),
        "summary_text": text,
        "reasons": {name: str(reason) for name, reason in kept.record["reasons"].items()},
        "provenance": json.dumps(kept.record["provenance"], ensure_ascii=False),
    }


def _regions(kept: KeptSlide) -> pd.DataFrame:
    """Compartments as polygons in um, one row each."""
    rows = []
    for feature in kept.features:
        geometry = shape(feature["geometry"])
        if geometry.geom_type in ("Polygon", "MultiPolygon") and not geometry.is_empty:
            rows.append((feature["properties"]["name"], _scaled(geometry, kept.mpp)))
    return pd.DataFrame(rows, columns=["name", "geometry"])


def _nuclei_shapes(kept: KeptSlide, nuclei: pd.DataFrame, shapes: Any, with_outlines: bool) -> Any:
    radius = _radii_um(nuclei)
    points = shapely.points(_place_um(kept, nuclei))
    if not with_outlines:
        return shapes(points, radius=radius)
    found = nucleus_outlines(kept)
    circles = shapely.buffer(points, radius)
    return shapes(
        [
            _scaled(found[n], kept.mpp) if n in found else circle
            for n, circle in enumerate(circles, start=1)
        ]
    )


def _radii_um(nuclei: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Radius of a circle of each nucleus' area; what a reviewer added has no area: the median."""
    radius = np.sqrt(nuclei["area_um2"].to_numpy(np.float64, na_value=np.nan) / np.pi)
    known = radius[np.isfinite(radius)]
    typical = np.median(known) if known.size else _TYPICAL_RADIUS_UM
    return np.asarray(np.where(np.isfinite(radius), radius, typical), np.float64)


def _scaled(geometry: Any, mpp: float) -> Any:
    return shapely.transform(geometry, lambda points: points * mpp)
