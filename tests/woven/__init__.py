"""Skin as a third author draws it: cells, bundles of collagen, basket-weave corneum, damage.

Synthetic bright-field slides (H-DAB) with known truth. No code is shared with `histoquant.phantom`,
`tests/sketched.py`, nor with what measures them.

The outlines of a section are laid out in flat coordinates (``s`` along the skin, ``t`` down from
its surface, both in um), bent and turned into the picture, and only there filled with cells,
fibres and stain. Bending therefore never stretches a nucleus, and truth is exact vector geometry.

Every position is in um from the outer corner of the first pixel: the centre of pixel ``i`` lies
at ``(i + 0.5) * mpp``. Optical densities are log10.
"""

from woven.picture import draw, write
from woven.skin import LOOKS, Drawn, Skin

__all__ = ["LOOKS", "Drawn", "Skin", "draw", "write"]
