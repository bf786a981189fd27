"""Thousands of damaged TIFF slides: never a crash, a hang, or memory without bound.

    python benchmarks/fuzz_slides.py [--cases 10000] [--seed 0] [--first 0]

Small slides of every kind (SVS, NDPI, OME-TIFF, Philips, plain; every codec) are damaged in their
tags, headers and tiles, or cut off, and read in a child process with 2 GiB of memory and 5 s a
case. Each must give pixels or a SlideError; whatever else happens is listed with its number, and
``--first NUMBER --cases 1`` runs it alone. Exits with 1 when there was any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fuzzing import run_cases  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        found = run_cases(Path(directory), options.cases, options.seed, first=options.first)
    for outcome, count in found.most_common():
        print(f"{count:6d}  {outcome}")
    sys.exit(bool(set(found) - {"pixels", "SlideError"}))


if __name__ == "__main__":
    main()
