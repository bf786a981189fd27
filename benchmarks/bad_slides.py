"""Bad slides among good ones: every one fails alone, with a reason, and the others are done.

    python benchmarks/bad_slides.py [--good 80] [--each 2] [--workers 2] [--study FOLDER]

Good slides are pieces of the sample slides; bad ones are `--each` of every kind of `KINDS`, spread
among them. Checked are the exit status, every row of the ledger, and that the tables hold the good
slides and nothing else; then that a second call measures nothing and says the same.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapely
import tifffile
from numpy.typing import NDArray

import histoquant as hq

Pixels = NDArray[np.uint8]

SAMPLES = Path(__file__).parents[1] / "sample_slides"
NAMES = sorted(path.name for path in (SAMPLES / "synthetic").glob("*.ome.tif"))
HEADER = "slide,marker,person,site,visit"
COMMAND = [sys.executable, "-c", "from histoquant.cli import main; main()"]
_SIDE_PX, _TURN_PX = 1200, 40
"""Of a good slide, and how much the next one cut from the same sample lies beside it."""


@dataclass(frozen=True)
class Bad:
    """A row of the manifest that cannot be measured, and words that its reason must hold."""

    row: str
    words: str


@dataclass(frozen=True)
class Study:
    """A manifest, and what must become of its rows, in their order: words of a reason, or done."""

    manifest: Path
    expected: tuple[str, ...]


def good(folder: Path, number: int, name: str = "") -> str:
    """Row of a slide with skin on it."""
    sample = NAMES[number % len(NAMES)]
    pixels, mpp = _sample(sample)
    at = number // len(NAMES) * _TURN_PX
    piece = pixels[at : at + _SIDE_PX, at : at + _SIDE_PX]
    return _slide(folder, name or f"good{number}", sample, piece, mpp)


def truncated(folder: Path, number: int) -> Bad:
    """A copy that broke off half-way."""
    row = good(folder, number, f"truncated{number}")
    path = folder / row.split(",")[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return Bad(row, path.name)


def damaged(folder: Path, number: int) -> Bad:
    """A file of the right length with a part that was never written."""
    row = good(folder, number, f"damaged{number}")
    path = folder / row.split(",")[0]
    whole = bytearray(path.read_bytes())
    third = len(whole) // 3
    whole[third : 2 * third] = bytes(third)
    path.write_bytes(whole)
    return Bad(row, path.name)


def no_scale(folder: Path, number: int) -> Bad:
    return _scaled(folder, f"no_scale{number}", number, None)


def wrong_scale(folder: Path, number: int) -> Bad:
    """Five millimetres a pixel, or wider than high."""
    return _scaled(folder, f"scale{number}", number, ((5000.0, 5000.0), (0.5, 0.6))[number % 2])


def glass(folder: Path, number: int) -> Bad:
    pixels = np.random.default_rng(number).normal(240, 1, (900, 900, 3)).astype(np.uint8)
    return Bad(_slide(folder, f"glass{number}", NAMES[number], pixels, 0.5), "tissue")


def nothing(folder: Path, number: int) -> Bad:
    (folder / f"nothing{number}.ome.tif").write_bytes(b"")
    return Bad(f"nothing{number}.ome.tif,p16,PX{number},left,m8", "nothing")


def unreadable(folder: Path, number: int) -> Bad:
    (folder / f"letter{number}.svs").write_text("Dear colleague, the slides will follow.\n")
    return Bad(f"letter{number}.svs,col7,PX{number},left,m8", "letter")


def missing(folder: Path, number: int) -> Bad:
    return Bad(f"gone{number}.ome.tif,p16,PX{number},left,m8", "no such file")


def twice(folder: Path, number: int) -> Bad:
    """A row that is there already."""
    return Bad(good(folder, number), "the same slide and marker as on line")


def no_epidermis(folder: Path, number: int) -> Bad:
    """A section that lost its epidermis and what lies next to it."""
    sample = NAMES[3 * number % len(NAMES)]
    pixels, mpp = _sample(sample)
    truth = SAMPLES / "truth" / sample.replace(".ome.tif", "_compartments.geojson")
    for feature in json.loads(truth.read_text(encoding="utf-8"))["features"]:
        if feature["properties"]["classification"]["name"] != "dermis":
            area = shapely.geometry.shape(feature["geometry"]).buffer(30 / mpp)
            for part in getattr(area, "geoms", [area]):
                ring = np.asarray(part.exterior.coords).round().astype(np.int32)
                cv2.fillPoly(pixels, [ring], pixels[2, 2].tolist())
    row = _slide(folder, f"dermis{number}", sample, pixels, mpp)
    return Bad(row, "no figure along the junction")


KINDS: tuple[Callable[[Path, int], Bad], ...] = (
    truncated, damaged, no_scale, wrong_scale, glass, nothing, unreadable, missing, twice,
    no_epidermis,
)  # fmt: skip


def make_study(folder: Path, n_good: int, each: int) -> Study:
    """Write a manifest of good slides and `each` of every kind of bad ones, mixed."""
    rows = [(good(folder, number), "") for number in range(n_good)]
    bad = [kind(folder, number) for number in range(each) for kind in KINDS]
    for number, one in enumerate(bad):  # behind the good ones, of which some are repeated
        rows.insert(n_good // 2 + 2 * number, (one.row, one.words))
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join([HEADER, *(row for row, _ in rows)]) + "\n", encoding="utf-8")
    return Study(manifest, tuple(words for _, words in rows))


def check(study: Study, out: Path, status: int) -> Counter[str]:
    """Every row of the ledger is as expected; returns the reasons with the slides' names off."""
    assert status == 1, f"exit status {status}"
    with (out / "ledger.csv").open(newline="", encoding="utf-8") as file:
        ledger = list(csv.DictReader(file))
    assert len(ledger) == len(study.expected), f"{len(ledger)} rows"
    reasons: Counter[str] = Counter()
    for row, words in zip(ledger, study.expected, strict=True):
        wanted = "failed" if words else "done"
        assert row["status"] == wanted, f"{row['slide']} is {row['status']}: {row['reason']}"
        assert words in row["reason"], f"{row['slide']}: {row['reason']}"
        assert bool(words) == bool(row["reason"]), f"{row['slide']}: {row['reason']}"
        reasons[row["reason"].replace(row["resolved_path"], "…")] += 1
    with (out / "markers.csv").open(newline="", encoding="utf-8") as file:
        slides = [s for row in csv.DictReader(file) for s in row["slides"].split("; ")]
    assert sorted(slides) == sorted(r["slide_id"] for r in ledger if r["status"] == "done")
    return reasons


def batch(study: Study, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "batch", str(study.manifest), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _sample(name: str) -> tuple[Pixels, float]:
    with hq.open_slide(SAMPLES / "synthetic" / name) as slide:
        return np.array(slide.region(0, 0, *slide.shape[:2])), float(slide.mpp)


def _scaled(folder: Path, name: str, number: int, mpp: tuple[float, float] | None) -> Bad:
    pixels, _ = _sample(NAMES[number])
    return Bad(_slide(folder, name, NAMES[number], pixels[:600, :600], mpp), "microns per pixel")


def _slide(
    folder: Path, name: str, sample: str, pixels: Pixels, mpp: float | tuple[float, float] | None
) -> str:
    """Write a slide and return its row."""
    path = folder / f"{name}.ome.tif"
    y, x = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    scale = {} if x is None else {"PhysicalSizeX": x, "PhysicalSizeY": y}
    if not path.exists():
        tifffile.imwrite(path, pixels, ome=True, tile=(256, 256), photometric="rgb",
                         compression="zlib", metadata={"axes": "YXS", **scale})  # fmt: skip
    marker = sample.split(".")[0].rpartition("_")[2]
    return f"{path.name},{marker},{name},left,m8"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--good", type=int, default=80)
    parser.add_argument("--each", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--study", type=Path, help="folder that is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.study or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        study = make_study(folder, options.good, options.each)
        out, clock = folder / "out", time.monotonic()
        done = batch(study, out, "--workers", str(options.workers))
        assert "Traceback" not in done.stderr, done.stderr
        reasons = check(study, out, done.returncode)
        took = time.monotonic() - clock
        again = batch(study, out, "--workers", str(options.workers))
        kept = options.good + options.each  # what has no epidermis is measured, and stays so
        assert f"\n{kept} of " in again.stderr
        assert check(study, out, again.returncode) == reasons
    print(f"{len(study.expected)} slides in {took:.0f} s, exit status {done.returncode}")
    for reason, count in reasons.most_common():
        print(f"{count:4}  {reason or 'done'}")


if __name__ == "__main__":
    main()
