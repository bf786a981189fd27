"""Damaged slides by the thousand: each must give pixels or a SlideError, in bounded time and room.

The cases run in a child process that may not use more memory than it is given; a timer ends
it when one case takes too long (of the processor, as machines are busy; or stands still). A child
that dies is a finding, and the next one goes on behind the case that killed it.
"""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from tiff_writers import picture, write_ndpi, write_ome, write_philips, write_pyramid, write_svs

CPU_SECONDS = 8
STANDSTILL_SECONDS = 120
MEMORY_BYTES = 2 * 2**30
_WINDOW_PX = 256
_OVERVIEW_PX = 2**22
_NUMBERS = (0, 1, 2, 7, 255, 256, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def write_seeds(directory: Path) -> list[Path]:
    """Write one small slide of every kind."""
    image = picture(192, 256)
    grey16 = picture(192, 256, 2, np.uint16)
    plain = {
        "deflate strips": {"tile": None, "rowsperstrip": 8, "compression": "deflate"},
        "lzw predictor": {"compression": "lzw", "predictor": True, "byteorder": ">"},
        "raw planar": {"planarconfig": "separate"},
        "zstd big": {"compression": "zstd", "bigtiff": True},
        "jpeg": {"compression": "jpeg"},
        "jpeg2000": {"compression": "jpeg2000"},
        "webp": {"compression": "webp"},
        "jpegxl": {"compression": "jpegxl"},
        "png": {"compression": "png"},
        "lzma": {"compression": "lzma"},
        "packbits": {"compression": "packbits"},
    }
    for name, options in plain.items():
        write_pyramid(directory / f"{name}.tif", image, levels=2, **{"tile": (64, 64), **options})
    write_svs(directory / "jpeg.svs", image)
    write_svs(directory / "j2k.svs", image, compression=33005)
    write_svs(directory / "deflate.svs", image, compression="deflate")
    write_ome(directory / "rgb.ome.tif", image, compression="jpeg", tile=(64, 64))
    write_ome(directory / "two.ome.tif", grey16, compression="deflate", tile=(64, 64))
    write_ndpi(directory / "scan.ndpi", image)
    write_philips(directory / "philips.tiff", image, tile=64)
    return sorted(directory.iterdir())


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one of the ways that files are damaged, or in several."""
    spoiled = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        _WAYS[rng.choice(list(_WAYS), p=_CHANCES)](spoiled, rng)
    return bytes(spoiled)


def _directories(data: bytes) -> list[tuple[int, int, str, int]]:
    """List (offset, entries, byte order, bytes per entry) of what may be directories."""
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 4 and data[2 if order == "<" else 3] == 43
    found = []
    with contextlib.suppress(struct.error, IndexError, OverflowError):
        position = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
        while position and len(found) < 20:
            count = struct.unpack_from(order + ("Q" if big else "H"), data, position)[0]
            head, size = (8, 20) if big else (2, 12)
            if count > 100:
                break
            found.append((position + head, count, order, size))
            at = position + head + count * size
            position = struct.unpack_from(order + ("Q" if big else "I"), data, at)[0]
    return found


def _spoil_tag(data: bytearray, rng: np.random.Generator) -> None:
    directories = _directories(bytes(data))
    if not directories:
        return
    offset, count, order, size = directories[rng.integers(len(directories))]
    entry = offset + size * int(rng.integers(max(1, count)))
    value = int(rng.choice([*_NUMBERS, len(data), len(data) - 1, int(rng.integers(2**32))]))
    with contextlib.suppress(struct.error):
        where = int(rng.integers(4))
        if where < 2:
            struct.pack_into(order + "H", data, entry + 2 * where, value & 0xFFFF)
        elif size == 12:
            struct.pack_into(order + "I", data, entry + 4 * (where - 1), value & 0xFFFFFFFF)
        else:
            wide = value << int(rng.choice([0, 0, 16, 31]))
            struct.pack_into(order + "Q", data, entry + 4 + 8 * (where - 2), wide)


def _spoil_bytes(data: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 6))):
        if data:
            data[rng.integers(len(data))] = rng.integers(256)


def _spoil_head(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[rng.integers(min(16, len(data)))] = rng.integers(256)


def _spoil_codec(data: bytearray, rng: np.random.Generator) -> None:
    """Damage the beginning of a tile, where codecs keep sizes."""
    marks = [m.start() for m in re.finditer(_CODEC_HEADS, bytes(data))]
    if marks:
        start = marks[rng.integers(len(marks))]
        for _ in range(int(rng.integers(1, 4))):
            at = start + int(rng.integers(64))
            if at < len(data):
                data[at] = rng.choice([0, 0xFF, int(rng.integers(256))])


def _zero(data: bytearray, rng: np.random.Generator) -> None:
    start = int(rng.integers(max(1, len(data))))
    stop = min(len(data), start + int(rng.integers(1, 400)))
    data[start:stop] = bytes(stop - start)


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(1, max(2, len(data)))) :]


def _copy_over(data: bytearray, rng: np.random.Generator) -> None:
    length = int(rng.integers(1, 200))
    if len(data) > length:
        source, target = (int(k) for k in rng.integers(len(data) - length, size=2))
        data[target : target + length] = data[source : source + length]


_CODEC_HEADS = rb"\xff\xd8\xff|\xff\x4f\xff\x51|RIFF|\xff\x0a|\x89PNG|\x28\xb5\x2f\xfd"
_WAYS: dict[str, Callable[[bytearray, np.random.Generator], None]] = {
    "tag": _spoil_tag,
    "bytes": _spoil_bytes,
    "head": _spoil_head,
    "codec": _spoil_codec,
    "zero": _zero,
    "cut": _cut,
    "copy": _copy_over,
}
_CHANCES = (0.4, 0.15, 0.08, 0.15, 0.07, 0.08, 0.07)


def run_cases(directory: Path, count: int, seed: int, *, first: int = 0) -> Counter[str]:
    """Run `count` cases and count what came of them.

    ``pixels`` and ``SlideError`` are as it should be. Anything else names a case: run it alone
    with ``first=case, count=1``.
    """
    if not any(directory.iterdir()):
        write_seeds(directory)
    outcomes: Counter[str] = Counter()
    case, stop = first, first + count
    while case < stop:
        child = subprocess.run(
            [sys.executable, __file__, directory, str(case), str(stop), str(seed)],
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [line for line in child.stdout.splitlines() if line.startswith("case ")]
        for line in lines:
            _, number, outcome = line.split(" ", 2)
            if outcome in ("pixels", "SlideError"):
                outcomes[outcome] += 1
            elif outcome != "begun":
                outcomes[f"case {number}: {outcome}"] += 1
            case = int(number) + (outcome != "begun")
        if child.returncode:
            died = signal.Signals(-child.returncode).name if child.returncode < 0 else "error"
            tail = child.stderr.strip().splitlines()[-1:] or [""]
            outcomes[f"case {case}: the process died ({died}) {tail[0]}"] += 1
            case += 1
    return outcomes


def _child(directory: Path, first: int, stop: int, seed: int) -> None:
    from histoquant.slides import open_slide

    seeds = [(path, path.read_bytes()) for path in sorted(directory.glob("*.*"))]
    for path, _ in seeds:  # what is loaded once must not count as memory of a case
        _read(open_slide, path, on_damage="error")
    resource.setrlimit(resource.RLIMIT_AS, (_used_bytes() + MEMORY_BYTES,) * 2)
    for case in range(first, stop):
        rng = np.random.default_rng((seed, case))
        original, data = seeds[rng.integers(len(seeds))]
        path = directory / "spoiled" / f"case{original.suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutate(data, rng))
        _tell(f"case {case} begun")
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(STANDSTILL_SECONDS)
        outcome = _outcome(open_slide, path, "missing" if case % 3 == 0 else "error")
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        _tell(f"case {case} {outcome}")


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _outcome(open_slide, path: Path, on_damage: str) -> str:
    from histoquant.errors import SlideError

    try:
        _read(open_slide, path, on_damage)
    except SlideError as error:
        cause: BaseException | None = error
        while cause:
            if isinstance(cause, MemoryError):
                return "wanted too much memory"
            cause = cause.__cause__
        return "SlideError"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.150}".replace("\n", " ")
    return "pixels"


def _read(open_slide, path: Path, on_damage: str) -> None:
    with open_slide(path, mpp=0.25, on_damage=on_damage) as slide:
        slide.info()
        for k, level in enumerate(slide.levels):
            height, width = (min(side, _WINDOW_PX) for side in level.shape)
            slide.region(0, 0, height, width, k)
            slide.region(level.shape[0] - height, level.shape[1] - width, height, width, k)
        if np.prod(slide.shape[:2], dtype=float) < _OVERVIEW_PX:
            slide.overview(1.0)
        from histoquant.errors import SlideError

        for name in slide.info()["associated_images"]:
            with contextlib.suppress(SlideError):
                slide.associated(name)


def _used_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    tifffile.TIFF  # noqa: B018  the codecs are loaded before the memory is limited
    _child(Path(sys.argv[1]), *(int(text) for text in sys.argv[2:5]))
