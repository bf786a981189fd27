"""Unreadable tiles of a slide: which of them cost a measurement something.

Tiles are found unreadable as they are read, and how much glass is read depends on how the work
is cut. Counted are those that every cut meets: found by the pictures of the whole slide, or lying
in or near the tissue of the first look, before anything was left out.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from histoquant.slides import Slide

Mask = npt.NDArray[np.bool_]
Box = tuple[float, float, float, float]

NEAR_UM = 100.0
"""Blocks are read with at least this margin around tissue."""


class Damage:
    """The unreadable tiles of one slide, over the passes that it takes to find them."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self._first: tuple[set[Box], Mask] | None = None

    @property
    def known(self) -> int:
        """Tiles found unreadable so far, wherever they lie."""
        return self._slide.damaged_tiles

    def look(self, tissue: Mask) -> None:
        """Remember what the first look at the whole slide found.

        Parameters
        ----------
        tissue
            bool (h, w), over the whole slide at any scale; later calls are ignored.
        """
        if self._first is None:
            self._first = set(self._boxes()), tissue

    def count(self) -> int:
        """Unreadable tiles in or near tissue, the same however the work was cut."""
        if self._first is None:
            raise ValueError("look() comes before count()")
        found, tissue = self._first
        return sum(box in found or self._touches(box, tissue) for box in set(self._boxes()))

    def _boxes(self) -> list[Box]:
        return list(self._slide.damaged_boxes()) if self.known else []

    def _touches(self, box: Box, tissue: Mask) -> bool:
        margin = NEAR_UM / self._slide.mpp
        scale = [n / size for n, size in zip(tissue.shape, self._slide.shape[:2], strict=True)]
        spans = []
        for start, length, ratio in zip(box[:2], box[2:], scale, strict=True):
            low = math.floor((start - margin) * ratio)
            spans.append(slice(max(low, 0), math.ceil((start + length + margin) * ratio)))
        return bool(tissue[spans[0], spans[1]].any())
