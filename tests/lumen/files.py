"""Writing slides."""

from __future__ import annotations

from os import PathLike

import tifffile

from lumen.skin import Drawn


def write(path: str | PathLike[str], drawn: Drawn) -> None:
    """Write a tiled OME-TIFF with its scale and its channels' names."""
    metadata = {
        "axes": "CYX", "Channel": {"Name": ["DAPI", "Collagen VII"]},
        "PhysicalSizeX": drawn.mpp, "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": drawn.mpp, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    tifffile.imwrite(
        path, drawn.planes, ome=True, tile=(512, 512), compression="zlib",
        photometric="minisblack", metadata=metadata,
    )  # fmt: skip
