"""Re-enact the model trial with slides whose truth is known, and see whether it is found.

    python examples/model_trial/run.py OUT

draws two trials, measures every slide, and runs `histoquant study` on each:

model_trial     36 people enrolled, 19 lost, no baseline, as published (Chung et al. 2019,
                GeroScience 41:861-869): p16 at follow-up from 8 people, collagen VII from 17.
                The effects put in are chosen so that the exact P lie near the published ones
                (p16 0.008, collagen VII 0.0077); the publication gives no effect sizes.
with_baselines  12 people, 4 lost, both hands also biopsied before treatment. p16 is drawn to go
                back on the treated hand (reversal); collagen VII to fall on both hands, less on
                the treated one (slowed progression). At follow-up alone the two look alike.

At the end the effects found stand beside those put in; the exit status is 1 when one was missed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from histoquant.phantom import Course, Trial, write_trial

say = partial(print, flush=True)
HERE = Path(__file__).parent
FIGURES = {"p16": "positive_percent", "col7": "integrated_od_um_mean"}


@dataclass(frozen=True)
class Example:
    """A trial, and for every marker the reading that its baselines should give."""

    trial: Trial
    readings: dict[str, str]


EXAMPLES = {
    "model_trial": Example(
        Trial(
            people=36,
            lost=19,
            courses={
                "p16": Course(treated=0.55, spread=0.20, n_people=8),
                "col7": Course(treated=1.25, spread=0.30),
            },
        ),
        {},
    ),
    "with_baselines": Example(
        Trial(
            people=12,
            lost=4,
            baseline=True,
            courses={
                "p16": Course(placebo=1.10, treated=0.55, spread=0.15),
                "col7": Course(placebo=0.70, treated=0.88, spread=0.10),
            },
        ),
        {"p16": "reversal", "col7": "slowed progression"},
    ),
}


def main() -> int:
    """Draw, measure, analyse and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("out", type=Path, help="directory to make")
    parser.add_argument("--only", choices=EXAMPLES, help="one of the two trials")
    parser.add_argument("--workers", type=int, help="cores to use; all if not given")
    parser.add_argument("--seed", type=int, default=2019)
    given = parser.parse_args()
    found = [
        re_enact(given.out / name, name, given.seed, given.workers)
        for name in ([given.only] if given.only else EXAMPLES)
    ]
    return 0 if all(found) else 1


def re_enact(folder: Path, name: str, seed: int, workers: int | None) -> bool:
    """One trial from phantoms to report; whether what was put in was found."""
    example = EXAMPLES[name]
    start = time.perf_counter()
    say(f"== {name}: drawing the slides of {example.trial.people} people")
    write_trial(folder, example.trial, seed, workers)
    plan = Path(shutil.copy(HERE / f"{name}.toml", folder / "plan.toml"))
    results, cores = folder / "results", ["--workers", str(workers)] if workers else []
    histoquant("study", results, "--plan", plan, "--lock-plan")
    histoquant("batch", folder / "manifest.csv", "--out", results, *cores)
    histoquant("study", results, "--design", folder / "design.csv", "--plan", plan)
    right = compare(folder, example)
    say(f"{name}: {time.perf_counter() - start:.0f} s\n")
    return right


def histoquant(*arguments: object) -> None:
    """Run a command as one would type it."""
    words = [str(a) for a in arguments]
    say(f"$ histoquant {' '.join(words)}")
    code = "from histoquant.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *words], check=True)


def compare(folder: Path, example: Example) -> bool:
    """Print what was put in, what the slides hold, and what was found."""
    contrasts = rows(folder / "results" / "study" / "contrasts.csv")
    right = True
    say("\noutcome, put in, in the slides as drawn, found (95 % interval), P signed-rank")
    for marker, course in example.trial.courses.items():
        name = FIGURES[marker]
        row = next(r for r in contrasts if r["marker"] == marker and r["outcome"] == name)
        ratio, low, high, p = (
            float(row[key]) for key in ("ratio", "ratio_low", "ratio_high", "p_signed_rank")
        )
        inside = low <= course.ratio <= high
        right &= inside
        say(
            f"{marker} {name}: {course.ratio:.3f}, {drawn_ratio(folder, marker):.3f}, "
            f"{ratio:.3f} ({low:.3f} to {high:.3f}), {p:.4f}{'' if inside else '  MISSED'}"
        )
    for marker, expected in example.readings.items():
        table = rows(folder / "results" / "study" / "reversal.csv")
        row = next(r for r in table if r["outcome"] == FIGURES[marker])
        right &= row["reading"] == expected
        say(f"{marker}: drawn as {expected}, read as {row['reading']}")
    return right


def drawn_ratio(folder: Path, marker: str) -> float:
    """Geometric mean of treated / placebo in the truth of the slides themselves."""
    arms = {(r["person"], r["site"]): r["arm"] for r in rows(folder / "design.csv")}
    values: dict[str, dict[str, float]] = {}
    for slide in rows(folder / "manifest.csv"):
        if slide["marker"] == marker and slide["visit"] == "month_8":
            stem = Path(slide["slide"]).name.removesuffix(".ome.tif")
            truth = json.loads((folder / "truth" / f"{stem}_summary.json").read_text())
            arm = arms[slide["person"], slide["site"]]
            values.setdefault(slide["person"], {})[arm] = truth[FIGURES[marker]]
    logs = [math.log(v["rapamycin"] / v["placebo"]) for v in values.values()]
    return math.exp(sum(logs) / len(logs))


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
