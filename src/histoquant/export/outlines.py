"""The outlines of a slide's nuclei, which no result keeps: found again with what is on record.

Finding nuclei has finite support and no chance in it, so the same slide, settings, white level
and stain vectors give the same pixels. Whether they did is checked: every nucleus of the table
must come up at its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from histoquant.blocks import Block, plan_blocks
from histoquant.detection import nuclei_in_window, nucleus_ids
from histoquant.errors import ResultError, SlideError
from histoquant.export.kept import KeptSlide
from histoquant.geojson import outlines
from histoquant.nuclei import HALO_UM, MAX_EXTENT_UM
from histoquant.settings import Settings, settings_from
from histoquant.slides import Slide, open_slide
from histoquant.stains import StainModel


@dataclass(frozen=True, eq=False)
class Window:
    """A block with a margin, and the nuclei in it.

    Attributes
    ----------
    block
        In pixels of the grid of the nuclei.
    margin
        How far the window reaches beyond the block on every side, in px.
    labels
        uint32 (y, x): 0, or the number of a nucleus: its row in the table, counted from 1.
    """

    block: Block
    margin: int
    labels: NDArray[np.uint32]

    @property
    def core(self) -> NDArray[np.uint32]:
        """The labels of the block alone."""
        m = self.margin
        return self.labels[m : m + self.block.height, m : m + self.block.width]


@contextmanager
def measured_slide(kept: KeptSlide) -> Iterator[Slide]:
    """The slide a result was measured on, open.

    Raises
    ------
    SlideError
        When it is not where it was, or is another one now.
    """
    path = kept.row.get("resolved_path") or kept.row["slide"]
    given = kept.row.get("mpp")
    settings = _settings(kept)
    try:
        slide = open_slide(
            path,
            mpp=float(given) if given else None,
            on_damage=settings.slides.damaged_tiles,
            nuclear=kept.row.get("nuclear_slide") or None,
        )
    except SlideError as error:
        raise SlideError(
            f"this export reads the slide again, and that cannot be done: {error}"
        ) from None
    with slide:
        if slide.fingerprint != kept.summary.get("slide_sha256"):
            raise SlideError(
                f"{path} is not the slide that was measured: its SHA-256 is "
                f"{slide.fingerprint[:12]}, on record is "
                f"{str(kept.summary.get('slide_sha256'))[:12]}. Measure it again, or put the "
                "old file back"
            )
        yield slide


def no_outlines(kept: KeptSlide) -> str:
    """Why the slide's nuclei cannot be outlined again; empty where they can, or there are none."""
    if kept.nuclei is None or kept.nuclei.empty or "fluorescence" not in kept.record["provenance"]:
        return ""
    return "nuclei are outlined again in bright-field slides only, so far"


def nucleus_windows(kept: KeptSlide, slide: Slide) -> Iterator[Window]:
    """The nuclei of a p16 slide as labels, block by block.

    Every pixel of every nucleus of the table lies in the core of one of the windows.

    Raises
    ------
    SlideError
        When the slide has no colours to find nuclei by.
    ResultError
        At the end, when a nucleus of the table did not come up.
    """
    nuclei = kept.nuclei
    if nuclei is None or nuclei.empty:
        return
    if no_outlines(kept):
        raise SlideError(
            f"{slide.path}: {no_outlines(kept)}; without outlines this slide can be exported"
        )
    settings, model = _settings(kept), _model(kept)
    numbers = {name: n for n, name in enumerate(nuclei["nucleus_id"].tolist(), start=1)}
    seen = np.zeros(len(numbers) + 1, np.bool_)
    for block in _occupied(nuclei, slide, settings):
        window = _window(block, slide, model, settings, numbers)
        seen[np.unique(window.core)] = True
        yield window
    lost = int((~seen[1:]).sum())
    if lost and not kept.summary.get("n_edits"):
        raise ResultError(
            f"{kept.slide_id}: {lost} of {len(numbers)} nuclei were not found again at their "
            f"place, so their outlines are unknown; they were measured by histoquant "
            f"{kept.summary.get('version')}. Measure the slide again with this version"
        )


def nucleus_outlines(kept: KeptSlide) -> dict[int, Any]:
    """Outlines of a p16 slide's nuclei: row of the table, from 1, -> shapely (multi)polygon.

    In level-0 pixels (x, y), to a hundredth. A nucleus that reviewers added has none.

    Raises
    ------
    SlideError, ResultError
        As `measured_slide` and `nucleus_windows`.
    """
    table = kept.nuclei
    if table is None or table.empty:
        return {}
    found: dict[int, Any] = {}
    with measured_slide(kept) as slide:
        mpp = _settings(kept).nuclei.mpp
        centres = table[["y_um", "x_um"]].to_numpy(np.float64) / mpp
        for window in nucleus_windows(kept, slide):
            corner = np.array([window.block.y, window.block.x]) - window.margin
            for row in np.flatnonzero(window.block.owns(centres)).tolist():
                polygon = _outline(window.labels, row + 1, centres[row] - corner)
                if not polygon.is_empty:
                    placed = shapely.transform(
                        polygon, lambda points, at=corner[::-1]: (points + at) * mpp / slide.mpp
                    )
                    found[row + 1] = shapely.set_precision(placed, 0.01)
    return found


def _outline(labels: NDArray[np.uint32], number: int, centre: NDArray[np.float64]) -> Any:
    """Outline of one nucleus in px of the window, cut out around its centre (y, x)."""
    reach = 64  # px: no nucleus is longer than MAX_EXTENT_UM at any scale it is found at
    top, left = (max(int(v) - reach, 0) for v in centre)
    mask = labels[top : top + 2 * reach, left : left + 2 * reach] == number
    polygon = outlines(mask, 1.0, tolerance=0.2)
    return shapely.transform(polygon, lambda points: points + (left, top))


def _window(
    block: Block, slide: Slide, model: StainModel, settings: Settings, numbers: dict[str, int]
) -> Window:
    """Find the nuclei around a block as they were found when they were measured."""
    mpp = settings.nuclei.mpp
    # A nucleus that reaches into the block has its own support around its centroid.
    margin = int(np.ceil((HALO_UM + MAX_EXTENT_UM) / mpp))
    top, left = block.y - margin, block.x - margin
    window = (top, left, block.height + 2 * margin, block.width + 2 * margin)
    labels, found = nuclei_in_window(slide, model, settings, window)
    names = nucleus_ids(pd.DataFrame({name: found[name] for name in ("y_um", "x_um")}))
    lookup = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    lookup[found["label"].astype(np.intp)] = [numbers.get(name, 0) for name in names]
    return Window(block, margin, lookup[labels])


def _occupied(nuclei: pd.DataFrame, slide: Slide, settings: Settings) -> Iterator[Block]:
    """Blocks into which a nucleus of the table may reach."""
    mpp = settings.nuclei.mpp
    reach = MAX_EXTENT_UM / mpp
    y, x = (nuclei[c].to_numpy(np.float64) / mpp for c in ("y_um", "x_um"))
    for block in plan_blocks(slide.grid_shape(mpp), settings.compute.block_px):
        near = (y >= block.y - reach) & (y < block.y + block.height + reach)
        near &= (x >= block.x - reach) & (x < block.x + block.width + reach)
        if near.any():
            yield block


def _settings(kept: KeptSlide) -> Settings:
    provenance = kept.record["provenance"]
    given: dict[str, Any] = provenance.get("settings", {})
    settings = settings_from(given, f"{kept.slide_id}: the settings on record")
    contrast = provenance.get("min_contrast_od", settings.nuclei.min_contrast_od)
    nuclei = settings.nuclei.model_copy(update={"min_contrast_od": contrast})
    return settings.model_copy(update={"nuclei": nuclei})


def _model(kept: KeptSlide) -> StainModel:
    """The stain model on record, to the last bit."""
    provenance = kept.record["provenance"]
    try:
        stains, white = provenance["stains"], provenance["white"]["values"]
        return StainModel(
            names=tuple(stains["names"]),
            vectors=tuple(tuple(map(float, vector)) for vector in stains["vectors"]),  # type: ignore[arg-type]
            white=tuple(map(float, white)),  # type: ignore[arg-type]
            source=str(stains["source"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(
            f"{kept.slide_id}: result.json keeps no stain model to find nuclei by ({error!r})"
        ) from None
