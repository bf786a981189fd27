"""A results directory to review: three small drawn slides, measured once per test process."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from histoquant import phantom
from histoquant.manifest import Entry
from histoquant.pipeline import quantify
from histoquant.results import write_result
from histoquant.resume import make_key
from histoquant.review import ReviewSession, SlideReview
from histoquant.rundir import Ledger, RunDirectory
from histoquant.settings import Settings

P16, OTHER_P16, COL7 = "P01_left_p16", "P02_left_p16", "P01_left_col7"
_SLIDES = ((P16, "P01", 3), (OTHER_P16, "P02", 4), (COL7, "P01", 3))


@cache
def _measured() -> Path:
    """The directory that every test copies; its slides lie beside the results."""
    base = Path(tempfile.mkdtemp(prefix="histoquant-review-"))
    run = RunDirectory(base / "results")
    ledger = Ledger(run.ledger_path)
    for row, (name, person, seed) in enumerate(_SLIDES, 2):
        path, marker = base / f"{name}.ome.tif", name.rpartition("_")[2]
        phantom.write_slide(path, marker, seed, "easy", size_mm=(0.6, 0.5), angle_deg=4.0)
        entry = Entry(
            slide=path.name,
            path=path,
            marker=marker,
            slide_id=name,
            person=person,
            site="left_hand",
            visit="month_6",
            row=row,
            resolved_path=str(path),
        )
        result = quantify(path, marker, slide_id=name)
        key = make_key(entry, Settings()) | {"slide_sha256": result.summary["slide_sha256"]}
        write_result(result, run.slide(name), {"key": key, "seconds": 1.0})
        ledger.record(entry, "done", seconds=1.0)
    ledger.save()
    run.write_tables()
    return base / "results"


def fresh_results(place: Path) -> Path:
    """A copy of the measured directory in `place`, which the test may change."""
    shutil.copytree(_measured(), place / "results")
    return place / "results"


def opened(results: Path, slide: str = P16, reviewer: str = "anna") -> SlideReview:
    """A slide under review."""
    return ReviewSession(results, reviewer).slide(slide)
