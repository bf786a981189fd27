"""A section as large as they come: from a JPEG slide to tables.

    python benchmarks/large_section.py [--width-mm 15 --height-mm 10] [--slide SLIDE.ome.tif]
        [--marker p16]

A synthetic section at 0.25 um/px is cut inside its punch edges and continued over the slide,
mirrored at every seam, so that skin and junction run along the whole upper edge; dermis, mirrored
likewise, fills the rest; glass lies around. 15 x 10 mm are 2.4 gigapixels. Levels lie 4 and 16
times below, as an Aperio scanner writes them.

Printed: time of every step of `quantify` and of writing its directory, processor time and peak
memory, in a process of its own; and how long decoding of the very tiles that were read takes by
itself, with nothing done to them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Map = NDArray[np.int64]

MPP, TILE, GLASS_UM, QUALITY = 0.25, 512, 512.0, 85
LEVELS = (1, 4, 16)
GLASS = -1


def draw_source(marker: str, seed: int) -> tuple[Pixels, int]:
    """A piece of skin without edges but the surface, and the row from which on it is dermis."""
    from histoquant.phantom.recipe import preset_recipe
    from histoquant.phantom.render import Renderer
    from histoquant.phantom.scene import make_scene

    recipe = preset_recipe("typical", bend_radius_um=0.0, dust_per_mm2=0.0, uneven_fraction=0.0)
    scene = make_scene(marker, seed, "typical", recipe, MPP, (2.6, 0.5), 0.0)
    renderer, columns = Renderer(scene), 14 * TILE
    left = (scene.shape[1] - columns) // 2 // 64 * 64
    rows = [renderer.render(y, left, 64, columns) for y in range(0, scene.shape[0] - 63, 64)]
    lowest = float(scene.junction.points[:, 0].max()) / MPP
    source = np.concatenate(rows)
    first = int(lowest // 64 + 2) * 64
    last = first + TILE  # well above the lower cut edge
    return source[:last], first


def reflected(count: int, start: int, stop: int) -> Map:
    """Indices that run from start to stop and back, over and over."""
    period = np.concatenate([np.arange(start, stop), np.arange(start, stop)[::-1]])
    return np.asarray(np.resize(period, count), np.int64)


def plan(source: Pixels, dermis_from: int, shape: tuple[int, int]) -> tuple[Map, Map]:
    """Which row and column of the source each of the slide's shows; GLASS for none."""
    margin = int(GLASS_UM / MPP)
    rows, columns = (np.full(n, GLASS, np.int64) for n in shape)
    inside = shape[0] - 2 * margin
    deep = reflected(max(inside - len(source), 0), dermis_from, len(source))
    body = np.concatenate([np.arange(len(source)), len(source) - 1 + dermis_from - deep])
    rows[margin : margin + inside] = body[:inside]
    columns[margin:-margin] = reflected(shape[1] - 2 * margin, 0, source.shape[1])
    return rows, columns


def encoded_tiles(source: Pixels, rows: Map, columns: Map) -> Iterator[bytes]:
    """JPEG tiles in reading order; a tile that was encoded before is not encoded again."""
    import imagecodecs

    known: dict[tuple[bytes, bytes], bytes] = {}
    for y in range(0, len(rows), TILE):
        for x in range(0, len(columns), TILE):
            down, across = (
                np.pad(part, (0, TILE - len(part)), constant_values=GLASS)
                for part in (rows[y : y + TILE], columns[x : x + TILE])
            )
            key = down.tobytes(), across.tobytes()
            if key not in known:
                tile = source[np.ix_(np.maximum(down, 0), np.maximum(across, 0))]
                tile[(down < 0)[:, None] | (across < 0)] = source[0, 0]
                known[key] = imagecodecs.jpeg8_encode(
                    tile, level=QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling="422"
                )
            yield known[key]


def write_slide(path: Path, marker: str, width_mm: float, height_mm: float, seed: int = 7) -> None:
    """Write the large slide, tile by tile."""
    import tifffile

    source, dermis_from = draw_source(marker, seed)
    step = TILE * LEVELS[-1] // 16
    shape = tuple(round(mm * 1000 / MPP / step) * step for mm in (height_mm, width_mm))
    rows, columns = plan(source, dermis_from, (shape[0], shape[1]))
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as tiff:
        for number, factor in enumerate(LEVELS):
            h, w = (n // factor for n in source.shape[:2])
            small = source.reshape(h, factor, w, factor, 3).mean(axis=(1, 3)).round()
            down, across = (
                np.where(m[::factor] < 0, GLASS, m[::factor] // factor) for m in (rows, columns)
            )
            per_cm = 1e4 / (MPP * factor)
            tiff.write(
                encoded_tiles(small.astype(np.uint8), down, across),
                shape=(len(down), len(across), 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                compression="jpeg",
                subsampling=(2, 1),
                subifds=None if number else len(LEVELS) - 1,
                subfiletype=1 if number else 0,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                metadata=None
                if number
                else {"axes": "YXS", "PhysicalSizeX": MPP, "PhysicalSizeY": MPP},
            )


def measure(path: Path, marker: str, workers: int, out: Path) -> None:
    """Measure the slide and write its directory; print what each step took as one JSON line."""
    start = time.perf_counter()
    import resource

    import histoquant as hq
    from histoquant.results import write_result

    steps: list[tuple[str, float]] = [("loading the program", start)]

    def begin(step: str) -> None:
        steps.append((step, time.perf_counter()))

    result = hq.quantify(path, marker, workers=workers, progress=begin)
    begin("writing tables and pictures")
    write_result(result, out)
    end = time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    ends = [at for _, at in steps[1:]] + [end]
    told = {
        "seconds": end - start,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
        "steps": {name: stop - at for (name, at), stop in zip(steps, ends, strict=True)},
        "summary": {
            k: result.summary[k]
            for k in ("dej_length_mm", "tissue_area_mm2", "continuity_percent", "n_gaps",
                      "n_nuclei",
                      "integrated_od_um_mean", "epidermis_thickness_um_mean", "positive_percent")
            if k in result.summary
        },
    }  # fmt: skip
    print(json.dumps(told, default=float))


def decode_alone(path: Path, marker: str, workers: int) -> tuple[int, float, float]:
    """Tiles that `quantify` reads, their megapixels, and the seconds that decoding them takes."""
    from concurrent.futures import ThreadPoolExecutor

    import histoquant as hq
    from histoquant.slides.tiff import TiffSource

    decode: Callable[..., object] = TiffSource._decode
    read: dict[object, tuple[object, ...]] = {}

    def noted(self: TiffSource, *call: object) -> object:  # reader, level, plane, tile
        read[call[-1]] = (self, *call)
        return decode(self, *call)

    TiffSource._decode = noted  # type: ignore[assignment,method-assign]
    try:
        with hq.open_slide(path) as slide:
            hq.quantify(slide, marker, workers=workers)
            pixels = sum(np.prod(call[2].tile) for call in read.values())  # type: ignore[attr-defined]
            start = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                for _ in pool.map(lambda call: decode(*call), read.values()):
                    pass
            seconds = time.perf_counter() - start
    finally:
        TiffSource._decode = decode  # type: ignore[method-assign]
    return len(read), float(pixels) / 1e6, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width-mm", type=float, default=15.0)
    parser.add_argument("--height-mm", type=float, default=10.0)
    parser.add_argument("--marker", choices=["p16", "col7"], default="col7")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slide", type=Path, help="where the slide is kept, to be used again")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--no-decoding", action="store_true", help="do not time bare decoding")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.measure:
            measure(options.measure, options.marker, options.workers, Path(folder) / "result")
            return
        slide = options.slide or Path(folder) / "large.ome.tif"
        if not slide.exists():
            write_slide(slide, options.marker, options.width_mm, options.height_mm)
        command = [sys.executable, __file__, "--measure", str(slide)]
        command += ["--marker", options.marker, "--workers", str(options.workers)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        for name, seconds in told["steps"].items():
            print(f"{name:36} {seconds:7.1f} s")
        print(f"{'all':36} {told['seconds']:7.1f} s, {told['processor_seconds']:.1f} s of processor"
              f" time, peak {told['peak_mb']:.0f} MB")  # fmt: skip
        print(", ".join(f"{k} {v:.4g}" for k, v in told["summary"].items()))
        if not told["summary"]["dej_length_mm"] > 0:  # not a number where there is none
            sys.exit("no junction was found: the figures above are of something else")
        if not options.no_decoding:
            count, megapixels, seconds = decode_alone(slide, options.marker, options.workers)
            print(f"{f'decoding of its {count} tiles alone':36} {seconds:7.1f} s, "
                  f"{megapixels:.0f} MP, {options.workers} threads")  # fmt: skip


if __name__ == "__main__":
    main()
