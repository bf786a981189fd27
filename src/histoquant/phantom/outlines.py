"""Outlines of the compartments, appendages and artefacts of a section, as polygons in slide um."""

from __future__ import annotations

from typing import Any

import numpy as np

from histoquant.phantom.extras import Extras
from histoquant.phantom.geometry import Section
from histoquant.phantom.noise import Array


def outlines(section: Section, extras: Extras | None) -> dict[str, Any]:
    """Shapely polygons (y, x) by name: the layers, and of skin with incidents what else it has."""
    import shapely

    shapes: dict[str, Any] = {
        "stratum_corneum": shapely.Polygon(section.polygon(section.outer, section.top)),
        "epidermis": shapely.Polygon(section.polygon(section.top, section.junction)),
        "dermis": shapely.Polygon(section.polygon(section.junction, section.lower)),
    }
    if extras is None:
        return shapes
    shapes = {name: shape.buffer(0) for name, shape in shapes.items()}
    bare = _bands(section, [(low, 0.0, high) for low, high in extras.damage.missing])
    for name in ("stratum_corneum", "epidermis"):
        shapes[name] = shapes[name].difference(bare)
    found: dict[str, list[Any]] = {"hair_follicle": [], "gland": []}
    for appendage in extras.appendages:
        rings = [_on_slide(section, ring) for ring in appendage.outline()]
        whole = shapely.union_all([shapely.Polygon(ring).buffer(0) for ring in rings])
        kind = "hair_follicle" if appendage.kind == "follicle" else "gland"
        found[kind].append(whole.intersection(shapes["dermis"]))
    for kind, parts in found.items():
        shapes[kind] = shapely.union_all(parts)
    shapes["dermis"] = shapes["dermis"].difference(
        shapely.union_all([shapes["hair_follicle"], shapes["gland"]])
    )
    folds = [(at - half, lean, at + half) for at, lean, half in extras.damage.folds]
    everything = shapely.Polygon(section.polygon(section.outer, section.lower)).buffer(0)
    shapes["fold"] = _bands(section, folds).intersection(everything)
    return shapes


def _bands(section: Section, bands: list[tuple[float, float, float]]) -> Any:
    """Bands right through the section, each (from s, ds/dd, to s) at depth 0."""
    import shapely

    d = np.arange(-80.0, section.depth_um + 200, 4.0)
    shapes = []
    for low, lean, high in bands:
        sway = lean * d + (5 * np.sin(d / 37) if lean else 0)
        s = np.concatenate([low + sway, (high + sway)[::-1]])
        shapes.append(
            shapely.Polygon(
                _on_slide(section, np.column_stack([s, np.concatenate([d, d[::-1]])]))
            ).buffer(0)
        )
    return shapely.union_all(shapes)


def _on_slide(section: Section, ring: Array) -> Array:
    return np.column_stack(section.frame.to_slide(ring[:, 0], ring[:, 1]))
