"""Skin as a fifth author makes it: textures of a real section, quilted over drawn anatomy.

Synthetic slides (H-DAB, and DAPI beside a marker) with known truth. No code is shared with
`histoquant.phantom`, with the other generators, nor with what measures them.

Pieces of a real section of skin, stained with hematoxylin and eosin, are taken apart into
densities and quilted (Efros and Freeman 2001) to textures of any size. These are laid over an
anatomy drawn by formula: ``u`` runs along the skin, ``v`` down from the top of the viable
epidermis, both in um. Nuclei are those that the textures hold; the marker is painted on top.

Every position is x, y in um from the outer corner of the first pixel: the centre of pixel ``i``
lies at ``(i + 0.5) * mpp``. Images are indexed (y, x). Optical densities are log10.
"""

from quilt.glowing import draw_glowing, write_glowing
from quilt.picture import draw, write
from quilt.skin import PRESETS, Drawn

__all__ = ["PRESETS", "Drawn", "draw", "draw_glowing", "write", "write_glowing"]
