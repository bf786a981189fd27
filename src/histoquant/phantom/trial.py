"""A whole trial of phantom slides: who is enrolled and lost, and what happens to each marker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from histoquant.errors import SettingsError
from histoquant.phantom.cohort import MARKERS, SITES, draw, marker_levels, treated_site
from histoquant.phantom.noise import stream
from histoquant.phantom.recipe import Marker
from histoquant.phantom.truth import Truth

BASELINE, FOLLOW_UP = "baseline", "month_8"
TREATED, PLACEBO = "rapamycin", "placebo"
REASONS = ("withdrew consent", "lost to follow-up", "moved away", "discontinued the cream")
"""Why people are lost: made up, in turn."""

_START: dict[Marker, tuple[float, float]] = {"p16": (0.17, 0.22), "col7": (0.62, 0.80)}
"""Range of the untreated level: share of basal nuclei that are positive; median peak OD."""
_SMALL: dict[str, object] = {"section_depth_um": (190.0, 220.0)}


@dataclass(frozen=True)
class Course:
    """What happens to a marker from baseline to follow-up, as ratios of its level.

    Attributes
    ----------
    placebo, treated
        Geometric mean, over people, of level at follow-up / level at baseline.
    spread
        Standard deviation, over people, of the logarithm of treated / placebo.
    n_people
        People with a follow-up biopsy of this marker; None: everyone who is not lost.
    """

    placebo: float = 1.0
    treated: float = 1.0
    spread: float = 0.1
    n_people: int | None = None

    @property
    def ratio(self) -> float:
        """Treated over placebo at follow-up: what a study of the slides should find."""
        return self.treated / self.placebo


@dataclass(frozen=True)
class Trial:
    """A within-person trial: two hands per person, one of them treated.

    Attributes
    ----------
    people, lost
        Enrolled, and of these without a follow-up biopsy.
    baseline
        Whether everyone enrolled is also biopsied before treatment.
    courses
        Marker -> its course.
    """

    people: int = 36
    lost: int = 19
    baseline: bool = False
    courses: Mapping[Marker, Course] = field(
        default_factory=lambda: {
            "p16": Course(treated=0.55, spread=0.20, n_people=8),
            "col7": Course(treated=1.25, spread=0.30),
        }
    )

    def __post_init__(self) -> None:
        if not 0 <= self.lost <= self.people or self.people < 1:
            raise SettingsError(f"a trial of {self.people} people cannot lose {self.lost}")
        for marker, course in self.courses.items():
            if marker not in MARKERS:
                raise SettingsError(f"trial: marker {marker!r} is not one of {', '.join(MARKERS)}")
            if min(course.placebo, course.treated) <= 0 or course.spread < 0:
                raise SettingsError(
                    f"trial: ratios above 0 and a spread of 0 or more, got {course}"
                )
            if course.n_people is not None and not 0 <= course.n_people <= self.people - self.lost:
                raise SettingsError(
                    f"trial: {course.n_people} people with {marker} at follow-up, "
                    f"{self.people - self.lost} were not lost"
                )


def plan_trial(trial: Trial, seed: int) -> list[dict[str, Any]]:
    """What `write_trial` draws: one entry per slide, by person, visit, site and marker.

    The people's effects are normal quantiles in random order, not random numbers: a small
    cohort then has the mean and the spread that were asked for, and what a study finds differs
    from them by sampling of tissue and by measurement alone.
    """
    plans: list[dict[str, Any]] = []
    kept = _kept_people(trial, seed)
    effects = {m: _effects(m, c, kept[m], seed) for m, c in trial.courses.items()}
    for person in range(trial.people):
        start = {m: _start(m, person, seed) for m in MARKERS}
        for visit in (BASELINE, FOLLOW_UP) if trial.baseline else (FOLLOW_UP,):
            for site in SITES:
                treated = site == treated_site(person, seed)
                for marker, course in trial.courses.items():
                    if visit == FOLLOW_UP and person not in kept[marker]:
                        continue
                    change = 1.0
                    if visit == FOLLOW_UP:
                        change = course.treated if treated else course.placebo
                        change *= np.exp(effects[marker][person] * (0.5 if treated else -0.5))
                    plans.append(
                        {
                            "slide": f"synthetic/{_name(person)}_{visit}_{site}_{marker}.ome.tif",
                            "person": _name(person),
                            "site": site,
                            "visit": visit,
                            "arm": TREATED if treated else PLACEBO,
                            "marker": marker,
                            "batch": f"run_{1 + person % 2}",
                            "seed": 100_000 * seed + len(plans),
                            "angle_deg": _angle(len(plans), seed),
                            "overrides": {
                                **_SMALL,
                                **marker_levels(marker, start[marker] * float(change), 0.10),
                            },
                        }
                    )
    return plans


def write_trial(
    directory: str | Path,
    trial: Trial | None = None,
    seed: int = 2019,
    workers: int | None = None,
    progress: Callable[[Truth], None] | None = None,
) -> list[Truth]:
    """Draw the slides of a trial with their manifest, design and truth.

    The sections are small (some 0.5 mm of junction at 0.5 um/px), so that a trial of many
    slides takes minutes.

    Parameters
    ----------
    directory
        Gets ``synthetic/*.ome.tif``, ``truth/``, ``manifest.csv`` and ``design.csv``. The
        design lists everyone enrolled, with the reason of those lost.
    trial
        The model trial where none is given: 36 people, 19 lost.
    seed
        Everything random follows from it.
    workers
        Processes that draw; all cores where none is given.
    progress
        Called with the truth of each slide when it is on disk.
    """
    folder, plans = Path(directory), plan_trial(trial := trial or Trial(), seed)
    truths = []
    for truth in _drawn(folder, plans, workers or os.cpu_count() or 1):
        truth.save(folder / "truth")
        truths.append(truth)
        if progress is not None:
            progress(truth)
    _write_tables(folder, trial, plans, seed)
    return truths


def _drawn(folder: Path, plans: Sequence[dict[str, Any]], workers: int) -> Iterator[Truth]:
    one = partial(draw, folder, preset="typical", mpp=0.5, size_mm=(0.62, 0.34))
    if workers == 1:
        yield from map(one, plans)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, plans)


def _kept_people(trial: Trial, seed: int) -> dict[Marker, list[int]]:
    """Marker -> people with a follow-up biopsy; those of a smaller group are in the larger."""
    order = stream(seed, "lost").permutation(trial.people)[trial.lost :]
    return {
        marker: sorted(int(p) for p in order[: course.n_people])
        for marker, course in trial.courses.items()
    }


def _effects(marker: Marker, course: Course, kept: Sequence[int], seed: int) -> dict[int, float]:
    """Person -> deviation of the log ratio; mean 0 and standard deviation `Course.spread`."""
    shares = (np.arange(len(kept)) + 0.5) / max(len(kept), 1)
    scores = np.array([NormalDist().inv_cdf(float(s)) for s in shares])
    if len(kept) > 1:
        scores /= scores.std(ddof=1)
    shuffled = stream(seed, f"effects {marker}").permutation(scores)
    return dict(zip(kept, (course.spread * shuffled).tolist(), strict=True))


def _start(marker: Marker, person: int, seed: int) -> float:
    return float(stream(seed, f"start {marker} {person}").uniform(*_START[marker]))


def _angle(number: int, seed: int) -> float:
    return round(float(stream(seed, f"trial slide {number}").uniform(-4, 4)) % 360, 2)


def _name(person: int) -> str:
    return f"P{person + 1:02d}"


def _write_tables(folder: Path, trial: Trial, plans: Sequence[dict[str, Any]], seed: int) -> None:
    import pandas as pd

    names = ["slide", "marker", "person", "site", "visit"]
    manifest = pd.DataFrame(plans, columns=[*names, "batch"])
    manifest.insert(5, "section", 1)
    manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    design = pd.DataFrame(_design_rows(trial, seed))
    design.to_csv(folder / "design.csv", index=False, lineterminator="\n")


def _design_rows(trial: Trial, seed: int) -> Iterator[dict[str, str]]:
    order = stream(seed, "lost").permutation(trial.people)[: trial.lost]
    lost = {int(p): REASONS[i % len(REASONS)] for i, p in enumerate(order)}
    for person in range(trial.people):
        treated = treated_site(person, seed)
        for visit in (BASELINE, FOLLOW_UP) if trial.baseline else (FOLLOW_UP,):
            for site in SITES:
                yield {
                    "person": _name(person),
                    "site": site,
                    "visit": visit,
                    "arm": TREATED if site == treated else PLACEBO,
                    "reason": lost.get(person, "") if visit == FOLLOW_UP else "",
                }
