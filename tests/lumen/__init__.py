"""Skin in fluorescence by another author: DAPI and collagen VII in 12, 14 or 16 bit.

Synthetic slides with known truth. No code is shared with `histoquant`, nor with the other
generators.

A section is planned lying flat: x runs along the skin, y into the dermis. Its epidermis has ridges,
mouths of follicles and places where it is missing; its dermis has follicles, glands, vessels,
infiltrates, clefts and fibres, drawn one by one. What glows is added up, goes through folds, haze
and optics, is turned (and often mirrored) onto the picture, and becomes counts in the camera.

All lengths are in um, and every position is x, y from the outer corner of the first pixel: the
centre of pixel ``i`` lies at ``(i + 0.5) * MPP``. Images are indexed (y, x).
"""

from lumen.files import write
from lumen.picture import draw
from lumen.skin import MPP, PRESETS, Drawn

__all__ = ["MPP", "PRESETS", "Drawn", "draw", "write"]
