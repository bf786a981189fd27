"""Arrays and metadata of OME-Zarr 0.5, sharded: few files however large the slide.

Level after level, ``scale`` is the size of a pixel and ``translation`` the middle of the first
one, in um from the corner of the slide: so everything lies in its place in viewers that put a
coordinate at the middle of a pixel, napari among them.

Source: https://ngff.openmicroscopy.org/0.5/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

VERSION = "0.5"
CHUNK_PX, SHARD_PX = 512, 4096

# Code, name, colour: Okabe & Ito's, half transparent; later ones lie over earlier ones.
COMPARTMENTS: tuple[tuple[int, str, tuple[int, int, int]], ...] = (
    (1, "Stratum corneum", (230, 159, 0)),
    (2, "Epidermis", (0, 158, 115)),
    (3, "Dermis", (86, 180, 233)),
    (4, "Excluded", (204, 121, 167)),
)
ROW_OF_NUCLEI = {"label": "row of nuclei.parquet, counted from 1"}


def legend() -> dict[str, Any]:
    """Names and colours of `COMPARTMENTS`, as ``image-label`` has them."""
    return {
        "colors": [{"label-value": c, "rgba": [*rgb, 128]} for c, _, rgb in COMPARTMENTS],
        "properties": [{"label-value": c, "name": name} for c, name, _ in COMPARTMENTS],
    }


def new_array(
    group: Any, name: str, size: tuple[int, ...], dtype: np.dtype[Any], axes: tuple[str, ...]
) -> Any:
    """Make a sharded array: whole channels apart, chunks of 512 in shards of 4096 px."""
    lead = (1,) * (len(size) - 2)
    shard = tuple(min(SHARD_PX, -(-n // CHUNK_PX) * CHUNK_PX) for n in size[-2:])
    return group.create_array(
        name,
        shape=size,
        dtype=dtype,
        chunks=(*lead, CHUNK_PX, CHUNK_PX),
        shards=(*size[:-2], *shard),
        dimension_names=axes,
    )


def pyramid(
    name: str, pixels_um: Sequence[float], axes: tuple[str, ...], *, is_mean: bool = False
) -> dict[str, Any]:
    """``ome`` attributes of levels "0", "1", ... with these pixel sizes.

    Parameters
    ----------
    is_mean
        A mean of pixels lies in the middle of them; a label, picked out of them, where the first
        one lay.
    """
    kinds = [
        {"name": a, "type": "channel"} if a == "c"
        else {"name": a, "type": "space", "unit": "micrometer"}
        for a in axes
    ]  # fmt: skip
    lead = len(axes) - 2
    datasets = []
    for level, pixel in enumerate(pixels_um):
        first = pixel / 2 if is_mean else pixels_um[0] / 2
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0] * lead + [pixel, pixel]},
                    {"type": "translation", "translation": [0.0] * lead + [first, first]},
                ],
            }
        )
    return {
        "version": VERSION,
        "multiscales": [{"name": name, "axes": kinds, "datasets": datasets}],
    }
