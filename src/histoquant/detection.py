"""The nuclei of a slide: block by block, with halo and ownership, into one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoquant.blocks import Block, map_blocks
from histoquant.errors import SlideError
from histoquant.nuclei import HALO_UM, MAX_EXTENT_UM, measure_nuclei, segment_nuclei
from histoquant.planes import PlaneModel
from histoquant.settings import Settings
from histoquant.slides import Slide

Keep = Callable[[NDArray[np.float64]], NDArray[np.bool_]]

_MEASURED = (
    "area_um2",
    "eccentricity",
    "hematoxylin_od_mean",
    "dab_od_mean",
    "dab_od_median",
    "dab_od_sd",
    "ring_dab_od_mean",
    "saturated_fraction",
    "red_blue_ratio",
)


def find_nuclei(
    slide: Slide,
    model: PlaneModel,
    blocks: Sequence[Block],
    settings: Settings,
    workers: int = 1,
    keep: Keep | None = None,
) -> pd.DataFrame:
    """Find and measure the nuclei of a slide, block by block.

    Parameters
    ----------
    slide
        The slide; read at ``settings.nuclei.mpp`` with a halo around each block.
    model
        What turns its pixels into planes: stain vectors, or channels of fluorescence.
    blocks
        Cores, in pixels of the grid at ``settings.nuclei.mpp``.
    settings
        Only `nuclei` and `stains.max_od` are used.
    workers
        Threads.
    keep
        Which nuclei, by centroid (n, 2) in um (y, x), lie in tissue; all when `None`. Blocks
        left out for want of tissue show in the result unless this says the same.

    Returns
    -------
    nuclei
        One row per nucleus, sorted by ``y_px, x_px``: ``nucleus_id``; ``x_px, y_px`` (level 0);
        ``x_um, y_um``; then the columns of `nuclei.measure_nuclei`. The same, bit for bit, for
        any plan of blocks and any number of workers.

    Raises
    ------
    SlideError
        If an object is longer than the halo provides for.
    """
    one = partial(_block_nuclei, slide=slide, model=model, settings=settings)
    found = map_blocks(one, blocks, workers)
    columns = ("y_um", "x_um", *_MEASURED)
    merged = {c: np.concatenate([np.empty(0), *(f[c] for f in found)]) for c in columns}
    table = pd.DataFrame(merged)
    if keep is not None and len(table):
        table = table[keep(table[["y_um", "x_um"]].to_numpy())]
    table = table.sort_values(["y_um", "x_um"], ignore_index=True)
    table.insert(0, "nucleus_id", nucleus_ids(table))
    table.insert(1, "x_px", table["x_um"] / slide.mpp)
    table.insert(2, "y_px", table["y_um"] / slide.mpp)
    table.insert(3, "x_um", table.pop("x_um"))
    table.insert(4, "y_um", table.pop("y_um"))
    return table


def nucleus_ids(table: pd.DataFrame) -> list[str]:
    """Name nuclei after their position (`y_um`, `x_um`) in tenths of a um, as ``y1234x567``."""
    tenths = np.rint(table[["y_um", "x_um"]].to_numpy() * 10).astype(np.int64)
    return [f"y{y}x{x}" for y, x in tenths]


def nuclei_in_window(
    slide: Slide, model: PlaneModel, settings: Settings, window: tuple[int, int, int, int]
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.float64]]]:
    """Outline and measure whatever looks like a nucleus in a window of the slide.

    Parameters
    ----------
    window
        Top, left, height and width on the grid of ``settings.nuclei.mpp`` (px).

    Returns
    -------
    labels
        int32 (height, width), 0 outside nuclei. Of one whose surroundings within `HALO_UM` are
        in the window, the pixels depend on nothing else.
    found
        As `nuclei.measure_nuclei`, and ``y_um, x_um`` of the centroids on the slide.
    """
    mpp = settings.nuclei.mpp
    top, left, _, _ = window
    stains, od, _ = model.planes(slide.read(mpp, *window), settings.stains.max_od)
    nuclear = stains
    if not model.marker_in_nuclei and model.has_marker:
        nuclear = stains.copy()
        nuclear[..., 1] = 0  # a marker that hides nothing says nothing of where nuclei are
    labels = segment_nuclei(nuclear, mpp, settings.nuclei, model.has_marker)
    found = measure_nuclei(
        labels,
        stains,
        mpp,
        settings.nuclei,
        od=od,
        max_od=settings.stains.max_od,
        second_is_marker=model.has_marker,
    )
    found["y_um"] = ((found["top_px"] + top) + found["from_top_px"]) * mpp
    found["x_um"] = ((found["left_px"] + left) + found["from_left_px"]) * mpp
    return labels, found


def _block_nuclei(
    block: Block, *, slide: Slide, model: PlaneModel, settings: Settings
) -> dict[str, NDArray[np.float64]]:
    """Measure the nuclei that the block owns, in um of the slide."""
    mpp = settings.nuclei.mpp
    halo = int(np.ceil(HALO_UM / mpp))
    top, left = block.y - halo, block.x - halo
    window = (top, left, block.height + 2 * halo, block.width + 2 * halo)
    _, found = nuclei_in_window(slide, model, settings, window)
    y = (found["top_px"] + top) + found["from_top_px"]
    x = (found["left_px"] + left) + found["from_left_px"]
    own = block.owns(np.column_stack((y, x)))
    _check_extent(found, own, mpp, slide)
    return {c: found[c][own] for c in (*_MEASURED, "y_um", "x_um")}


def _check_extent(
    found: dict[str, NDArray[np.float64]], own: NDArray[np.bool_], mpp: float, slide: Slide
) -> None:
    """Refuse objects that a halo may have cut."""
    height = (found["bottom_px"] - found["top_px"]) * mpp
    width = (found["right_px"] - found["left_px"]) * mpp
    longest = np.maximum(height, width)[own].max(initial=0)
    if longest > MAX_EXTENT_UM + 1e-6:
        raise SlideError(
            f"{slide.path}: the segmenter made a nucleus {longest:.1f} um long; blocks are read "
            f"with room for {MAX_EXTENT_UM:g} um. Split or drop longer objects in the segmenter."
        )
