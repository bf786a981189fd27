"""The nuclei of a measured slide as labels, which no table keeps: found again, block by block.

Finding nuclei has finite support and no chance in it, so the same slide, settings and stain
model give the same pixels. Whether they did is checked: every nucleus of the table must come up
at its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoquant.blocks import Block, plan_blocks
from histoquant.detection import nuclei_in_window, nucleus_ids
from histoquant.errors import ResultError
from histoquant.fluorescence import FluorescenceModel
from histoquant.nuclei import HALO_UM, MAX_EXTENT_UM
from histoquant.planes import PlaneModel
from histoquant.settings import Settings
from histoquant.slides import Slide
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


def outline_nuclei(
    nuclei: pd.DataFrame,
    slide: Slide,
    model: PlaneModel,
    settings: Settings,
    *,
    some_are_drawn: bool = False,
) -> Iterator[Window]:
    """Yield the nuclei of a slide as labels, block by block.

    Every pixel of every nucleus of the table lies in the core of one of the windows.

    Parameters
    ----------
    nuclei
        Rows of ``nuclei.parquet``.
    slide
        The slide they were found on; colours that are channels of fluorescence may be colours.
    model, settings
        What they were found with.
    some_are_drawn
        Whether reviewers added nuclei, which do not come up.

    Raises
    ------
    ResultError
        At the end, when a nucleus of the table did not come up.
    """
    if nuclei.empty:
        return
    if slide.is_colour and isinstance(model, FluorescenceModel):
        with slide.as_channels() as channels:
            yield from outline_nuclei(
                nuclei, channels, model, settings, some_are_drawn=some_are_drawn
            )
        return
    numbers = {name: n for n, name in enumerate(nuclei["nucleus_id"].tolist(), start=1)}
    seen = np.zeros(len(numbers) + 1, np.bool_)
    for block in _occupied(nuclei, slide, settings):
        window = _window(block, slide, model, settings, numbers)
        seen[np.unique(window.core)] = True
        yield window
    lost = int((~seen[1:]).sum())
    if lost and not some_are_drawn:
        raise ResultError(
            f"{lost} of {len(numbers)} nuclei were not found again at their place, so their "
            "outlines are unknown. Measure the slide again with this version"
        )


def with_recorded_contrast(settings: Settings, provenance: Mapping[str, Any]) -> Settings:
    """The settings with the least contrast of nuclei that the slide was measured with."""
    contrast = provenance.get("min_contrast_od", settings.nuclei.min_contrast_od)
    nuclei = settings.nuclei.model_copy(update={"min_contrast_od": contrast})
    return settings.model_copy(update={"nuclei": nuclei})


def recorded_model(provenance: Mapping[str, Any], name: str) -> PlaneModel:
    """The stain model of a result's provenance, to the last bit.

    Raises
    ------
    ResultError
        When there is none; it says of which slide (`name`).
    """
    try:
        if "fluorescence" in provenance:
            known = {field.name for field in fields(FluorescenceModel)}
            given = {k: v for k, v in provenance["fluorescence"].items() if k in known}
            return FluorescenceModel(**{k: _frozen(v) for k, v in given.items()})
        stains, white = provenance["stains"], provenance["white"]["values"]
        return StainModel(
            names=tuple(stains["names"]),
            vectors=tuple(tuple(map(float, vector)) for vector in stains["vectors"]),  # type: ignore[arg-type]
            white=tuple(map(float, white)),  # type: ignore[arg-type]
            source=str(stains["source"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ResultError(
            f"{name}: result.json keeps no stain model to find nuclei by ({error!r})"
        ) from None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _window(
    block: Block, slide: Slide, model: PlaneModel, settings: Settings, numbers: dict[str, int]
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
