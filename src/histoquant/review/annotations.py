"""A reviewer's regions as GeoJSON, beside the compartments."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import shapely
from shapely.geometry import mapping

from histoquant.review.geometry import Region

_EXCLUDED, _INCLUDED = (120, 120, 120), (0, 158, 115)


def region_features(regions: Iterable[Region], mpp: float) -> list[dict[str, Any]]:
    """One annotation per region, in level-0 pixels, with its reason."""
    features = []
    for number, region in enumerate(regions):
        name, colour = ("Excluded", _EXCLUDED) if region.reason else ("Included", _INCLUDED)
        corners = [(x / mpp, y / mpp) for y, x in region.polygon_um]
        area = shapely.make_valid(shapely.Polygon(corners))
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"histoquant review {number}")),
                "geometry": mapping(shapely.set_precision(area, 0.01)),
                "properties": {
                    "objectType": "annotation",
                    "name": name,
                    "classification": {"name": name, "color": list(colour)},
                    "isLocked": True,
                    "measurements": {"Area mm^2": float(area.area) * mpp**2 / 1e6},
                    "metadata": {"reason": region.reason or "reviewer: included"},
                },
            }
        )
    return features
