"""How fast slides are read, as ratios within one run.

    python benchmarks/reading.py [--side 40000] [--stream 16384] [--threads 2] [--rounds 5]

- Streaming: every pixel once through `Slide.pixels` at the native scale, against decoding the
  same tiles with tifffile's page decoders and nothing else, and against OpenSlide's read_region
  in windows of the same size; as many threads each. A slide of `--stream` px a side.
- Overview: opening a pyramid of `--side` px a side and reading it at 16 um/px and 8 um/px, and of
  one without a pyramid.
- Memory: the most that a process holds while it reads that slide tile by tile and at 0.5 um/px.
- Averaging: megapixels per second of the level, at factors between 1 and 8.

The slides are made of one field of tissue-like pixels in JPEG tiles, written over and over, in a
temporary directory that needs about 1 GB. Rounds alternate between the methods, so that a busy
machine is busy for all of them; the best round of each counts. Processor time (of all threads)
is given beside the clock: it is what is left to compare on a machine that others use too.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from histoquant.slides import open_slide
from histoquant.slides.resample import area_mean, axis_weights

TILE = 256
FIELD = 2048
MPP = 0.25
APERIO = "Aperio Image Library v12.0.15\r\n{side}x{side} (256x256) JPEG/RGB Q=80|MPP = 0.25"


def field(side: int = FIELD) -> NDArray[np.uint8]:
    """Draw purple specks on pink, grainy like a scan: about 10:1 in JPEG."""
    rng = np.random.default_rng(1)
    specks = ndimage.gaussian_filter(rng.random((side, side)), 6) > 0.503
    soft = ndimage.gaussian_filter(specks.astype(np.float32), 1.5)[..., None]
    pixels = 255 - soft * [120, 170, 80] - (1 - soft) * [20, 60, 30]
    return np.clip(pixels + rng.normal(0, 2.5, (side, side, 1)), 0, 255).astype(np.uint8)


def encoded_tiles(image: NDArray[np.uint8], directory: Path) -> list[bytes]:
    """Encode the tiles of an image as tifffile does for a slide."""
    path = directory / "field.tif"
    tifffile.imwrite(
        path, image, tile=(TILE, TILE), photometric="rgb", compression="jpeg", metadata=None
    )
    data = path.read_bytes()
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        return [data[offset : offset + count] for offset, count in places]


def repeated(tiles: list[bytes], side: int) -> Iterator[bytes]:
    across, of_field = math.ceil(side / TILE), math.isqrt(len(tiles))
    for row in range(across):
        for column in range(across):
            yield tiles[row % of_field * of_field + column % of_field]


def write_slide(path: Path, side: int, tiles: list[bytes], levels: int) -> Path:
    """Write an SVS (pages) or an OME-TIFF (SubIFDs) of repeated tiles, levels 4 x apart."""
    is_ome = path.name.endswith(".ome.tif")
    options: dict[str, Any] = {
        "dtype": np.uint8,
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "jpeg",
    }
    with tifffile.TiffWriter(path, ome=is_ome, bigtiff=True) as tiff:
        for k in range(levels):
            small = side // 4**k
            first: dict[str, Any] = {"metadata": None, "subfiletype": int(is_ome)}
            if is_ome and k == 0:
                physical = {"PhysicalSizeX": MPP, "PhysicalSizeY": MPP}
                first = {"metadata": {"axes": "YXS", **physical}, "subifds": levels - 1}
            elif not is_ome:
                first = {"metadata": None, "description": APERIO.format(side=small)}
            tiff.write(repeated(tiles, small), shape=(small, small, 3), **first, **options)
    return path


def bare(path: Path, threads: int) -> Callable[[], None]:
    """Decode all tiles of level 0 with the page's decoder, and drop them."""
    tiff = tifffile.TiffFile(path)
    page = tiff.pages[0].aspage()
    decode, tables = page.decode, page.jpegtables
    descriptor = os.open(path, os.O_RDONLY)
    places = list(enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)))

    def decode_one(job: tuple[int, tuple[int, int]]) -> None:
        index, (offset, count) = job
        decode(os.pread(descriptor, count, offset), index, jpegtables=tables)

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(decode_one, places, chunksize=16):
                pass

    return run


def corner(block: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep one pixel, and let the block go."""
    return block[:1, :1].copy()


def streamed(path: Path, threads: int) -> Callable[[], None]:
    """Compute every chunk of the lazy array, and drop it."""
    slide = open_slide(path)

    def run() -> None:
        lazy = slide.pixels(slide.mpp)
        corners = lazy.map_blocks(corner, dtype=np.uint8, chunks=(1, 1, 3))
        with dask.config.set(scheduler="threads", num_workers=threads):
            corners.compute()
        slide.close()

    return run


def by_openslide(path: Path, threads: int, window: int = 2048) -> Callable[[], None]:
    """Read level 0 window by window as RGBA arrays, and drop them."""
    import openslide

    slide = openslide.OpenSlide(path)
    width, height = slide.dimensions
    corners = [(x, y) for y in range(0, height, window) for x in range(0, width, window)]

    def read(corner: tuple[int, int]) -> None:
        x, y = corner
        size = min(window, width - x), min(window, height - y)
        np.asarray(slide.read_region(corner, 0, size))

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(read, corners):
                pass

    return run


def best_seconds(runs: list[Callable[[], None]], rounds: int) -> tuple[list[float], list[float]]:
    """Alternate between the runs; give the best of each by the clock and in processor time."""
    clock, used = [math.inf] * len(runs), [math.inf] * len(runs)
    for _ in range(rounds):
        for k, run in enumerate(runs):
            start = time.perf_counter(), time.process_time()
            run()
            clock[k] = min(clock[k], time.perf_counter() - start[0])
            used[k] = min(used[k], time.process_time() - start[1])
    return clock, used


def report_streaming(path: Path, threads: int, rounds: int) -> None:
    runs = [bare(path, threads), streamed(path, threads)]
    with open_slide(path) as slide:
        name, megapixels = slide.format, math.prod(slide.shape[:2]) / 1e6
    try:
        runs.append(by_openslide(path, threads))
    except ImportError:
        print("openslide-python is not installed: no comparison with it")
    both = best_seconds(runs, rounds)
    for what, seconds in zip(("clock", "processor time"), both, strict=True):
        print(f"streaming {name}, {threads} threads, {what}: {_ratios(seconds, megapixels)}")


def _ratios(seconds: list[float], megapixels: float) -> str:
    figures = ", ".join(
        f"{what} {megapixels / s:.0f} MP/s"
        for what, s in zip(("tifffile", "pixels", "OpenSlide"), seconds, strict=False)
    )
    ratios = f"{100 * seconds[0] / seconds[1]:.0f} % of tifffile"
    if len(seconds) > 2:
        ratios += f", {seconds[2] / seconds[1]:.1f} x OpenSlide"
    return f"{figures}; {ratios}"


def report_overview(path: Path, mpp: float) -> None:
    start, used = time.perf_counter(), time.process_time()
    with open_slide(path) as slide:
        shape = slide.overview(mpp).shape
        what = f"{slide.shape[1]} x {slide.shape[0]} px, {len(slide.levels)} levels"
    seconds, used = time.perf_counter() - start, time.process_time() - used
    print(
        f"overview of {what} at {mpp:g} um/px ({shape[1]} x {shape[0]} px): {seconds:.2f} s, "
        f"processor time {used:.2f} s"
    )


def report_memory(path: Path, how: str) -> None:
    """Read in a process of its own, as the peak cannot be reset."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(path), how],
        check=True,
        capture_output=True,
        text=True,
    )
    print(f"memory, {how}: {done.stdout.strip()}")


def peak_mb() -> float:
    """Give the most memory this process has held; getrusage would count the parent's (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def child(path: str, how: str) -> None:
    with open_slide(path) as slide:
        height, width = slide.shape[:2]
        start = peak_mb()
        if how == "tile by tile":
            for y in range(0, height, TILE):
                for x in range(0, width, TILE):
                    slide.region(y, x, min(TILE, height - y), min(TILE, width - x))
        else:
            lazy = slide.pixels(0.5).map_blocks(corner, dtype=np.uint8, chunks=(1, 1, 3))
            with dask.config.set(scheduler="threads", num_workers=2):
                lazy.compute()
    print(f"peak {peak_mb():.0f} MB, of which {start:.0f} MB before reading")


def report_averaging(rounds: int, side: int = 3072) -> None:
    source = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    for factor in (1.002, 1.5, 1.98, 2.0, 2.19, 3.0, 4.0, 8.0):
        count = math.ceil(side / factor)
        weights = axis_weights(0, count, factor, downsample=1.0, size=side, extent=side)
        run = lambda w=weights: area_mean(source, w, w)  # noqa: E731
        run()
        seconds = best_seconds([run], rounds)[1][0]
        print(
            f"averaging by {factor:g}: {side * side / seconds / 1e6:.0f} MP/s of the level, "
            "processor time"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=40_000)
    parser.add_argument("--stream", type=int, default=16_384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tiles = encoded_tiles(field(), directory)
        print(f"JPEG tiles of {TILE} px, {np.mean([len(t) for t in tiles]) / 1000:.1f} kB each")
        for file in ("stream.svs", "stream.ome.tif"):
            path = write_slide(directory / file, options.stream, tiles, 1)
            report_streaming(path, options.threads, options.rounds)
            path.unlink()
        big = write_slide(directory / "big.svs", options.side, tiles, 4)
        for mpp in (16.0, 8.0, 8.0):  # the second loads numba, the third has it
            report_overview(big, mpp)
        report_memory(big, "tile by tile")
        report_memory(big, "at 0.5 um/px, 2 threads")
        big.unlink()
        report_overview(write_slide(directory / "flat.svs", options.side, tiles, 1), 8.0)
        report_averaging(options.rounds)


if __name__ == "__main__":
    main()
