"""A run that is killed at random moments and resumed gives the tables of an undisturbed one.

The rounds are those of benchmarks/faults.py, which plays many more.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarked import load_benchmark

if sys.platform != "linux":
    pytest.skip("processes are found as on Linux", allow_module_level=True)


faults = load_benchmark("faults")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> object:
    return faults.make_study(tmp_path_factory.mktemp("faults"), slides=4)


@pytest.mark.parametrize(("mode", "seed"), [("cores", 11), ("shards", 12), ("scheduler", 13)])
def test_killed_and_resumed(study: object, tmp_path: Path, mode: str, seed: int) -> None:
    faults.play(study, tmp_path / "out", seed, mode)


def test_the_check_notices_a_lost_slide(study: object, tmp_path: Path) -> None:
    """The rounds would not pass for want of looking."""
    import shutil

    out = tmp_path / "out"
    shutil.copytree(study.reference, out)  # type: ignore[attr-defined]
    faults.check_whole(out)
    faults.check_same(study, out)
    (out / "slides" / study.names[0] / "junction.parquet").unlink()  # type: ignore[attr-defined]
    with pytest.raises(AssertionError, match="lacks"):
        faults.check_whole(out)
    table = out / "markers.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(AssertionError, match="differs"):
        faults.check_same(study, out)
