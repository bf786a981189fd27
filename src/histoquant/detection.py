"""The nuclei of a slide: block by block, with halo and ownership, into one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoquant.blocks import Ahead, Block
from histoquant.errors import SlideError
from histoquant.nuclei import (
    FLOOR_OD,
    HALO_UM,
    MAX_EXTENT_UM,
    MEASURED_UM,
    STEPS_PER_OD,
    nuclear_shares,
    outline_nuclei,
    segment_nuclei,
)
from histoquant.nucleus_measures import Own, Places, Stains, measure_places
from histoquant.planes import PlaneModel
from histoquant.settings import Settings
from histoquant.slides import Slide
from histoquant.stains import StainModel

Keep = Callable[[NDArray[np.float64]], NDArray[np.bool_]]
Found = dict[str, NDArray[np.float64]]

_LEAST_FACTOR, _MOST_FACTOR = 0.6, 1.25  # of nuclear density: below, noise passes for nuclei
_MIN_SEEN = 30
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
    with begin_nuclei(slide, model, blocks, settings, 0) as ahead:
        return table_of(ahead.results(workers), slide, keep)


def begin_nuclei(
    slide: Slide, model: PlaneModel, blocks: Sequence[Block], settings: Settings, helpers: int
) -> Ahead[Found]:
    """Have threads begin with the blocks of `find_nuclei`; `table_of` makes one of the results."""
    one = partial(_block_nuclei, slide=slide, model=model, settings=settings)
    return Ahead(one, blocks, helpers)


def table_of(found: Sequence[Found], slide: Slide, keep: Keep | None = None) -> pd.DataFrame:
    """One table of the nuclei of all blocks, as `find_nuclei` gives it."""
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


def least_contrast(fields: Iterable[NDArray[Any]], model: PlaneModel, settings: Settings) -> float:
    """The least contrast of nuclei on a slide, from how dense its own are.

    Parameters
    ----------
    fields
        Pixels of fields of tissue at ``settings.nuclei.mpp``.

    Returns
    -------
    ``nuclei.min_contrast_od``, scaled by the median hematoxylin OD of the negative nuclei of
    the fields over ``nuclei.typical_od``; unscaled where there are too few to tell.
    """
    given = settings.nuclei
    if not (given.typical_od and isinstance(model, StainModel) and model.has_marker):
        return given.min_contrast_od
    seen = [np.empty(0)]
    for pixels in fields:
        found = _measure(_outline(pixels, model, settings), pixels, model, settings, (0, 0))
        negative = found["dab_od_mean"] < settings.p16.thresholds_od[0]
        seen.append(found["hematoxylin_od_mean"][negative])
    densities = np.concatenate(seen)
    if densities.size < _MIN_SEEN:
        return given.min_contrast_od
    # Rounded, so that it reads well where it is recorded.
    factor = round(float(np.median(densities)) / given.typical_od, 2)
    return given.min_contrast_od * min(max(factor, _LEAST_FACTOR), _MOST_FACTOR)


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
    top, left, _, _ = window
    pixels = slide.read(settings.nuclei.mpp, *window)
    labels = _outline(pixels, model, settings)
    return labels, _measure(labels, pixels, model, settings, (top, left))


def _outline(
    pixels: NDArray[Any], model: PlaneModel, settings: Settings, halo_px: int = 0
) -> NDArray[np.int32]:
    """Label what looks like a nucleus in a window, as far from its core as is needed."""
    mpp, max_od = settings.nuclei.mpp, settings.stains.max_od
    if isinstance(model, StainModel) and settings.nuclei.segmenter == "classical":
        shares = nuclear_shares(model.has_marker)
        density = model.blend(pixels, max_od, shares, FLOOR_OD, STEPS_PER_OD)
        return outline_nuclei(density, mpp, settings.nuclei, model.has_marker, halo_px)
    nuclear = model.planes(pixels, max_od).stains
    if not model.marker_in_nuclei and model.has_marker:
        nuclear[..., 1] = 0  # a marker that hides nothing says nothing of where nuclei are
    return segment_nuclei(nuclear, mpp, settings.nuclei, model.has_marker)


def _measure(
    labels: NDArray[np.int32],
    pixels: NDArray[Any],
    model: PlaneModel,
    settings: Settings,
    corner: tuple[int, int],
    own: Own | None = None,
) -> Found:
    """Measure the nuclei of a window with its corner at `corner`; ``y_um, x_um`` on the slide."""
    mpp, flat = settings.nuclei.mpp, pixels.reshape(-1, pixels.shape[-1])

    def look(places: Places) -> tuple[Stains, Stains | None]:
        planes = model.planes(flat.take(places, axis=0)[:, None], settings.stains.max_od)
        return planes.stains[:, 0], planes.od[:, 0]

    found = measure_places(
        labels,
        look,
        mpp,
        settings.nuclei,
        max_od=settings.stains.max_od,
        second_is_marker=model.has_marker,
        own=own,
    )
    found["y_um"] = ((found["top_px"] + corner[0]) + found["from_top_px"]) * mpp
    found["x_um"] = ((found["left_px"] + corner[1]) + found["from_left_px"]) * mpp
    return found


def _block_nuclei(block: Block, *, slide: Slide, model: PlaneModel, settings: Settings) -> Found:
    """Measure the nuclei that the block owns, in um of the slide."""
    mpp = settings.nuclei.mpp
    halo, reach = (math.ceil(um / mpp) for um in (HALO_UM, MEASURED_UM))
    window = (block.y - halo, block.x - halo, block.height + 2 * halo, block.width + 2 * halo)
    pixels = slide.read(mpp, *window)
    labels = _outline(pixels, model, settings, halo)
    cut = slice(halo - reach, reach - halo)
    corner = block.y - reach, block.x - reach
    found = _measure(
        labels[cut, cut],
        np.ascontiguousarray(pixels[cut, cut]),
        model,
        settings,
        corner,
        own=lambda centroids: block.owns(centroids + corner),
    )
    _check_extent(found, mpp, slide)
    return {c: found[c] for c in (*_MEASURED, "y_um", "x_um")}


def _check_extent(found: Found, mpp: float, slide: Slide) -> None:
    """Refuse objects that a halo may have cut."""
    height = (found["bottom_px"] - found["top_px"]) * mpp
    width = (found["right_px"] - found["left_px"]) * mpp
    longest = np.maximum(height, width).max(initial=0)
    if longest > MAX_EXTENT_UM + 1e-6:
        raise SlideError(
            f"{slide.path}: the segmenter made a nucleus {longest:.1f} um long; blocks are read "
            f"with room for {MAX_EXTENT_UM:g} um. Split or drop longer objects in the segmenter."
        )
