"""The outlines of a slide's nuclei, which no result keeps: found again with what is on record.

The slide must be the same, and every nucleus of the table must come up at its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from histoquant.errors import ResultError, SlideError
from histoquant.export.kept import KeptSlide
from histoquant.geojson import outlines
from histoquant.outlining import (
    Window,
    outline_nuclei,
    recorded_model,
    with_recorded_contrast,
)
from histoquant.settings import Settings, settings_from
from histoquant.slides import Slide, open_slide


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


def nucleus_windows(kept: KeptSlide, slide: Slide) -> Iterator[Window]:
    """The nuclei of a p16 slide as labels, block by block; see `outlining.outline_nuclei`.

    Raises
    ------
    ResultError
        At the end, when a nucleus of the table did not come up.
    """
    if kept.nuclei is None or kept.nuclei.empty:
        return
    model = recorded_model(kept.record["provenance"], kept.slide_id)
    drawn = bool(kept.summary.get("n_edits"))
    try:
        yield from outline_nuclei(kept.nuclei, slide, model, _settings(kept), some_are_drawn=drawn)
    except ResultError as error:
        version = kept.summary.get("version")
        raise ResultError(f"{kept.slide_id}, measured by histoquant {version}: {error}") from None


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


def _settings(kept: KeptSlide) -> Settings:
    provenance = kept.record["provenance"]
    given: dict[str, Any] = provenance.get("settings", {})
    settings = settings_from(given, f"{kept.slide_id}: the settings on record")
    return with_recorded_contrast(settings, provenance)
