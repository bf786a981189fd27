"""A whole within-person study of phantom slides: two hands, two markers, known effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from histoquant.errors import SettingsError
from histoquant.phantom.noise import stream
from histoquant.phantom.recipe import Marker, Preset
from histoquant.phantom.slide import write_slide
from histoquant.phantom.truth import Truth

SITES = ("left_hand", "right_hand")
MARKERS: tuple[Marker, ...] = ("p16", "col7")
VISIT = "month_8"


def write_cohort(
    directory: str | Path,
    people: int = 4,
    seed: int = 2019,
    preset: Preset = "typical",
    mpp: float = 0.5,
    size_mm: tuple[float, float] = (1.1, 0.75),
    progress: Callable[[Truth], None] | None = None,
) -> list[Truth]:
    """Write the slides, manifest, design and truth of a placebo-controlled study.

    Each person has a treated and a placebo hand and one slide of each marker per hand. On
    the treated hand fewer epidermal nuclei are p16-positive and collagen VII is stronger and
    has fewer gaps; people differ in where they start and in how much they change. The last
    person's slides are stained and scanned a bit worse than the others'.

    Parameters
    ----------
    directory
        Gets ``synthetic/*.ome.tif``, ``truth/``, ``manifest.csv`` and ``design.csv``.
    people
        How many people, at least 1.
    seed
        Everything random follows from it.
    preset
        Preset of all slides.
    mpp, size_mm
        As for :func:`write_slide`; slides whose section stands upright are turned to portrait.
    progress
        Called with the truth of each slide when it is on disk.

    Returns
    -------
    list of Truth
        In the order of the manifest; already saved in ``truth/``.
    """
    if people < 1:
        raise SettingsError(f"a cohort needs at least one person, got {people}")
    folder, truths = Path(directory), []
    for plan in plan_cohort(people, seed):
        truth = draw(folder, plan, preset, mpp, size_mm)
        truth.save(folder / "truth")
        truths.append(truth)
        if progress is not None:
            progress(truth)
    _write_tables(folder, people, seed)
    return truths


def draw(
    folder: Path,
    plan: Mapping[str, Any],
    preset: Preset,
    mpp: float,
    size_mm: tuple[float, float],
) -> Truth:
    """Write one slide of a plan below `folder`; portrait where its section stands upright."""
    angle = plan["angle_deg"]
    upright = abs(np.sin(np.deg2rad(angle))) > np.sqrt(0.5)
    return write_slide(
        folder / plan["slide"],
        plan["marker"],
        plan["seed"],
        preset,
        mpp,
        size_mm[::-1] if upright else size_mm,
        angle,
        **plan["overrides"],
    )


def plan_cohort(people: int, seed: int) -> list[dict[str, Any]]:
    """Return what :func:`write_cohort` draws: one entry per slide, in order."""
    plans: list[dict[str, Any]] = []
    for person in range(people):
        rng = stream(seed, f"person {person}")
        treated = treated_site(person, seed)
        start = {"p16": rng.uniform(0.145, 0.18), "col7": rng.uniform(0.46, 0.60)}
        change = {"p16": rng.uniform(0.50, 0.57), "col7": rng.uniform(1.25, 1.5)}
        gaps = {"placebo": rng.uniform(0.12, 0.20), "rapamycin": rng.uniform(0.04, 0.08)}
        for site in SITES:
            arm = "rapamycin" if site == treated else "placebo"
            for marker in MARKERS:
                level = start[marker] * (change[marker] if arm == "rapamycin" else 1.0)
                number = len(plans)
                plans.append(
                    {
                        "slide": f"synthetic/P{person + 1:02d}_{site}_{marker}.ome.tif",
                        "person": f"P{person + 1:02d}",
                        "site": site,
                        "arm": arm,
                        "marker": marker,
                        "seed": 1000 * seed + number,
                        "angle_deg": _angle(number, seed),
                        "overrides": {
                            **marker_levels(marker, level, gaps[arm]),
                            **(_harder() if person == people - 1 and people > 1 else {}),
                        },
                    }
                )
    return plans


def treated_site(person: int, seed: int) -> str:
    """Return the hand of a person (from 0) that got the drug; hands alternate in pairs."""
    first = int(stream(seed, f"allocation {person // 2}").integers(2))
    return SITES[(first + person) % 2]


def _angle(number: int, seed: int) -> float:
    """Return the rotation of a slide; the slides of a person look to all four sides."""
    quarter = (number + number // 4) % 4
    spread = stream(seed, f"slide {number}").uniform(-28, 28)
    return round(float(90 * quarter + spread) % 360, 2)


def marker_levels(marker: Marker, level: float, gap_share: float) -> dict[str, object]:
    """Knobs of the recipe for a level: share of positive nuclei (p16) or peak OD (col7)."""
    if marker == "col7":
        return {"col7_peak_od": float(level), "col7_gap_share": float(gap_share)}
    return {
        "p16_basal_fraction": float(1.12 * level),
        "p16_suprabasal_fraction": float(0.94 * level),
        "p16_dermal_fraction": float(0.7 * level),
    }


def _harder() -> dict[str, object]:
    return {
        "melanin_fraction": 0.16,
        "stain_strength": 0.9,
        "psf_sigma_um": (0.50, 0.56),
        "background_dab_od": (0.03, 0.045),
        "veil_fraction": 0.015,
        "uneven_fraction": 0.015,
        "ridge_height_um": (18.0, 56.0),
    }


def _write_tables(folder: Path, people: int, seed: int) -> None:
    import pandas as pd

    plans = pd.DataFrame(plan_cohort(people, seed))
    manifest = plans[["slide", "marker", "person", "site"]].assign(
        visit=VISIT, section=1, batch="run_1", control="none", mpp=""
    )
    manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    design = plans[["person", "site", "arm"]].drop_duplicates(["person", "site"])
    design.insert(2, "visit", VISIT)
    design.to_csv(folder / "design.csv", index=False, lineterminator="\n")
