"""Speed and memory of the p16 path: from a JPEG slide to tables, the decode limit beside it.

    python benchmarks/speed.py [--side 12000] [--workers 2] [--field SLIDE]

A field of real or synthetic tissue is repeated over a square slide of `--side` pixels at
0.5 um/px (JPEG, pyramid). Printed: how much of it is tissue, and megapixels per second, glass
and all, of decoding alone, of the nuclei (find_nuclei), and of the whole of `quantify`, with peak
memory. The default field is a real crop full of nuclei, all of it tissue; synthetic skin is in
sample_slides/synthetic.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

import histoquant as hq
from histoquant.blocks import map_blocks, plan_blocks
from histoquant.detection import find_nuclei
from histoquant.settings import Settings
from histoquant.slides import Slide
from histoquant.staining import survey_slide
from histoquant.stains import StainModel, measure_white

MPP = 0.5
SAMPLE = Path(__file__).parents[1] / "sample_slides" / "real" / "OS-2-ndpi.ome.tif"
TILE = 256


def write_repeated(path: Path, field: NDArray[np.uint8], side: int) -> None:
    """Repeat `field`, mirrored at the seams, over a pyramid of JPEG tiles."""
    pattern = np.concatenate((field, field[::-1]))
    pattern = np.concatenate((pattern, pattern[:, ::-1]), axis=1)
    repeats = [-(-side // n) for n in pattern.shape[:2]]
    pixels = np.tile(pattern, (*repeats, 1))[:side, :side]
    options = {
        "tile": (TILE, TILE), "compression": "jpeg", "compressionargs": {"level": 90},
        "photometric": "rgb", "resolutionunit": "CENTIMETER",
    }  # fmt: skip
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(pixels, subifds=2, resolution=(1e4 / MPP, 1e4 / MPP), **options)
        for _ in range(2):
            rows, columns = (n // 4 * 4 for n in pixels.shape[:2])
            blocks = pixels[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4, 3)
            pixels = blocks.mean(axis=(1, 3)).astype(np.uint8)
            tiff.write(pixels, subfiletype=1, **options)


def timed(name: str, megapixels: float, work: Callable[[], object]) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, busy = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:34} {seconds:7.1f} s {megapixels / seconds:8.1f} MP/s"
        f" {megapixels / busy:8.1f} MP/s of CPU   peak {peak:6.0f} MB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=12_000, help="pixels at 0.5 um/px")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--field", type=Path, default=SAMPLE, help="slide to repeat")
    options = parser.parse_args()
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "repeated.tif"
        with hq.open_slide(options.field) as field:
            write_repeated(path, field.overview(MPP), options.side)
        slide = hq.open_slide(path)
        white = measure_white(slide.overview(8.0)).values
        model = StainModel.preset("hdab", white)
        tissue = survey_slide(slide, settings).tissue
        print(f"{100 * tissue.mean():.0f} % of the slide is tissue")
        blocks = plan_blocks(slide.grid_shape(MPP), settings.compute.block_px)
        find_nuclei(slide, model, blocks[:1], settings)  # compile, or load what was compiled
        megapixels = options.side**2 / 1e6

        def decode(slide: Slide = slide) -> None:
            map_blocks(lambda b: slide.read(MPP, b.y, b.x, b.height, b.width).sum(), blocks,
                       options.workers)  # fmt: skip

        timed("decode", megapixels, decode)
        timed("nuclei, 1 thread", megapixels,
              lambda: find_nuclei(slide, model, blocks, settings, 1))  # fmt: skip
        timed(f"nuclei, {options.workers} threads", megapixels,
              lambda: find_nuclei(slide, model, blocks, settings, options.workers))  # fmt: skip
        timed(f"quantify, {options.workers} threads", megapixels,
              lambda: hq.quantify(slide, "p16", settings, workers=options.workers))  # fmt: skip


if __name__ == "__main__":
    main()
