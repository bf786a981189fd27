"""Skin in fluorescence as a fourth author draws it: DAPI, and collagen VII or p16, in 16 bit.

Synthetic slides with known truth. No code is shared with `histoquant.phantom` nor with what
measures them; with `tests/woven` only how outlines reach pixels.

A section is laid out flat (``u`` along the skin, ``v`` into the dermis, both in um), bent and
turned into the picture. Light is drawn in photo-electrons, goes through the microscope, and
becomes counts in the camera.

Every position is x, y in um from the outer corner of the first pixel: the centre of pixel ``i``
lies at ``(i + 0.5) * mpp``. Images are indexed (y, x).
"""

from glow.picture import draw, write
from glow.skin import PRESETS, Drawn

__all__ = ["PRESETS", "Drawn", "draw", "write"]
