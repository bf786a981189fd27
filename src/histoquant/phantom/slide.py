"""Phantom slides on disk: pyramidal tiled OME-TIFF, rendered and written tile by tile."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histoquant.errors import SettingsError
from histoquant.phantom.recipe import Marker, Preset, preset_recipe
from histoquant.phantom.tray import Tray, TrayRenderer, make_tray, tray_truth
from histoquant.phantom.truth import Truth

TILE = 256
Pixels = NDArray[np.uint8]


def write_slide(
    path: str | Path,
    marker: Marker = "p16",
    seed: int = 0,
    preset: Preset = "typical",
    mpp: float = 0.5,
    size_mm: tuple[float, float] = (1.1, 0.75),
    angle_deg: float | None = None,
    sections: int = 1,
    **overrides: object,
) -> Truth:
    """Write a synthetic skin section as a slide and return its truth.

    Parameters
    ----------
    path
        Slide to write, usually ``NAME.ome.tif``. It appears whole or not at all.
    marker
        ``p16`` (nuclear) or ``col7`` (line along the junction).
    seed
        Everything random follows from it. The same seed at another ``mpp`` is the same
        tissue on another scanner.
    preset
        ``easy``, ``typical`` or ``hard``.
    mpp
        Microns per pixel of level 0.
    size_mm
        Width and height of the slide; of several sections, of the part that each lies on.
    angle_deg
        Rotation of the section, clockwise on the screen; 0 has the skin on top. None draws it.
    sections
        How many sections lie side by side, each with a shape and cells of its own.
    **overrides
        Fields of :class:`histoquant.phantom.PhantomRecipe`.

    Raises
    ------
    SettingsError
        If the marker, preset, scale, size or a knob of the recipe makes no sense.
    """
    if marker not in ("p16", "col7"):
        raise SettingsError(f"phantom marker {marker!r}: choose p16 or col7")
    if not (0.05 <= mpp <= 4 and min(size_mm) > 0):
        raise SettingsError(f"phantom of {size_mm} mm at {mpp} um/px: use 0.05 to 4 um/px")
    if sections < 1:
        raise SettingsError(f"phantom of {sections} sections: draw at least one")
    recipe = preset_recipe(preset, **overrides)
    tray = make_tray(marker, seed, preset, recipe, mpp, size_mm, angle_deg, sections)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_pyramid(target, tray)
    return tray_truth(tray, target.name.split(".")[0])


def write_pyramid(path: Path, tray: Tray) -> None:
    """Render a tray into a tiled JPEG OME-TIFF with levels halved down to one tile or so."""
    import tifffile

    scene, sizes = tray.first, _level_shapes(tray.shape)
    temporary = path.with_name(f".{path.name}~")
    name = f"{path.name} {scene.seed} {scene.marker}"
    metadata = {
        "axes": "YXS",
        "PhysicalSizeX": scene.mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": scene.mpp,
        "PhysicalSizeYUnit": "µm",
        "Name": f"phantom {scene.marker}, seed {scene.seed}, {scene.preset}",
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}",
        "Creator": "histoquant phantom",
    }
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            tifffile.TiffWriter(
                temporary, ome=True, bigtiff=tray.shape[0] * tray.shape[1] > 1e9
            ) as tiff,
        ):
            levels = [_scratch(scratch, i, shape) for i, shape in enumerate(sizes[1:], 1)]
            for number, shape in enumerate(sizes):
                below = levels[0] if number == 0 and levels else None
                tiles = _render_tiles(tray, below) if number == 0 else _cut(levels[number - 1])
                if number > 1:
                    _halve(levels[number - 2], levels[number - 1], 0)
                per_cm = 1e4 / (scene.mpp * 2**number)
                tiff.write(
                    tiles,
                    shape=(*shape, 3),
                    dtype=np.uint8,
                    tile=(TILE, TILE),
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": scene.recipe.jpeg_quality},
                    subsampling=scene.recipe.chroma_subsampling,
                    subifds=len(levels) if number == 0 else None,
                    subfiletype=1 if number else 0,
                    resolution=(per_cm, per_cm),
                    resolutionunit="CENTIMETER",
                    metadata=metadata if number == 0 else None,
                    software="histoquant",
                    maxworkers=1,
                )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _level_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    shapes = [shape]
    while max(shapes[-1]) > 2 * TILE:
        shapes.append((shapes[-1][0] // 2, shapes[-1][1] // 2))
    return shapes


def _scratch(folder: str, number: int, shape: tuple[int, int]) -> Pixels:
    file = Path(folder) / f"level_{number}"
    return np.memmap(file, np.uint8, "w+", shape=(*shape, 3))


def _render_tiles(tray: Tray, below: Pixels | None) -> Iterator[Pixels]:
    """Yield level-0 tiles row by row, filling the level below on the way."""
    renderer = TrayRenderer(tray)
    height, width = tray.shape
    for y in range(0, height, TILE):
        high = min(TILE, height - y)
        row = np.concatenate(
            [renderer.render(y, x, high, min(TILE, width - x)) for x in range(0, width, TILE)],
            axis=1,
        )
        if below is not None:
            _halve(row, below, y // 2)
        yield from _cut(row)


def _halve(finer: Pixels, coarser: Pixels, at_row: int) -> None:
    """Average 2 x 2 pixels of ``finer`` into ``coarser`` from row ``at_row`` on."""
    rows = min(finer.shape[0] // 2, coarser.shape[0] - at_row)
    columns = coarser.shape[1]
    for start in range(0, rows, TILE):
        stop = min(start + TILE, rows)
        block = finer[2 * start : 2 * stop, : 2 * columns].astype(np.uint16)
        total = block[0::2, 0::2] + block[0::2, 1::2] + block[1::2, 0::2] + block[1::2, 1::2]
        coarser[at_row + start : at_row + stop] = (total + 2) // 4


def _cut(image: Pixels) -> Iterator[Pixels]:
    """Yield tiles in reading order; border tiles are filled up with their own edge."""
    for y in range(0, image.shape[0], TILE):
        for x in range(0, image.shape[1], TILE):
            tile = image[y : y + TILE, x : x + TILE]
            short = ((0, TILE - tile.shape[0]), (0, TILE - tile.shape[1]), (0, 0))
            yield np.pad(tile, short, mode="edge")
