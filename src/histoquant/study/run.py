"""``histoquant study``: from a results directory and a design to ``DIR/study``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as installed
from pathlib import Path

import pandas as pd

from histoquant import __version__, atomic
from histoquant.errors import StudyError
from histoquant.results import to_json
from histoquant.rundir import RunDirectory, now
from histoquant.study import illustrate, origin, page
from histoquant.study.analyse import Analysed, Material, analyse, correct
from histoquant.study.columns import TABLES, columns_json, table_csv
from histoquant.study.design import Design, read_design
from histoquant.study.lock import Lock, default_lock_path, lock_plan, read_lock, unblind
from histoquant.study.outcomes import (
    Outcome,
    declared_outcomes,
    default_outcomes,
    planned_outcomes,
)
from histoquant.study.pairs import make_pairs
from histoquant.study.plan import Plan, read_plan
from histoquant.study.power import Power, Question, power_from_pilot
from histoquant.study.samples import read_markers
from histoquant.study.sections import read_sections
from histoquant.study.svg import AxisError, Drawing

_LIBRARIES = ("numpy", "scipy", "statsmodels", "pandas")


@dataclass(frozen=True)
class StudyResult:
    """What `run_study` found, and where it lies.

    Attributes
    ----------
    directory
        ``DIR/study``.
    outcomes
        One per outcome, primary ones first.
    tables
        File name -> rows, as written.
    warnings
        What the reader must know of the tables that were analysed.
    """

    directory: Path
    design: Design
    plan: Plan
    lock: Lock | None
    outcomes: tuple[Analysed, ...]
    tables: Mapping[str, list[dict[str, object]]]
    warnings: tuple[str, ...] = ()

    @property
    def lead(self) -> tuple[Analysed, ...]:
        """Primary and secondary outcomes; without a plan the first of each marker."""
        return leading(self.outcomes)

    @property
    def confidence(self) -> str:
        """Confidence of the intervals, as ``95 %``."""
        return f"{100 * (1 - self.plan.alpha):g} %"

    def sentence(self, found: Analysed) -> str:
        """What was found of an outcome, in words."""
        return illustrate.result_sentence(found.row, self.design, self.confidence)


def run_study(
    results_dir: Path | str, design_path: Path | str, plan_path: Path | str | None = None
) -> StudyResult:
    """Analyse a study and write ``DIR/study``: tables, figures and page, all of it or nothing.

    Parameters
    ----------
    results_dir
        With ``markers.csv``, which is analysed as it is; a ledger and slides serve the flow and
        the sensitivity analyses, and are compared with the table.
    design_path
        Who got what (`design.read_design`).
    plan_path
        What was declared before (`plan.read_plan`). It is locked here if it was not.

    Raises
    ------
    StudyError
        For input that cannot be analysed, or files of somebody else in ``DIR/study``;
        DesignError with everything wrong with the design.
    ResultError
        When a slide that is done has no result, or its tables are not there.
    """
    run = RunDirectory(results_dir)
    target = run.path / "study"
    origin.keep_files_of_others(target, design_path, plan_path)
    markers = read_markers(run.path)
    plan = read_plan(plan_path) if plan_path else Plan()
    if plan_path and default_lock_path(plan_path).exists():
        read_lock(default_lock_path(plan_path))  # one tampered with is found before the work
    design = read_design(design_path, markers, plan.terms)
    outcomes = _outcomes(plan, markers)
    material = _material(run, design, markers, plan)
    leads = {o.key for o in _leading(outcomes)}
    found = correct([analyse(material, o, lead=o.key in leads) for o in outcomes])
    warnings = tuple(origin.warnings(run, markers))
    result = StudyResult(target, design, plan, None, found, _tables(found), warnings)
    figures = _figures(result, material)
    # Only now: a plan that cannot be analysed has shown nobody the arms.
    lock = _locked(plan, plan_path, seen=(target / "study.json").exists())
    result = replace(result, lock=lock)
    _write(result, figures, run.path / "markers.csv")
    return result


def plan_next(
    results_dir: Path | str,
    design_path: Path | str,
    plan_path: Path | str | None,
    outcome: str,
    question: Question,
) -> tuple[Power, Outcome]:
    """How many people the next study needs, with the results taken for a pilot.

    Parameters
    ----------
    outcome
        ``marker:column``; when empty, the plan's first primary outcome.

    Returns
    -------
    tuple
        The answer, and the outcome it is for.

    Raises
    ------
    StudyError
        As `run_study`, and when there is no outcome to plan for.
    """
    markers = read_markers(results_dir)
    plan = read_plan(plan_path) if plan_path else Plan()
    design = read_design(design_path, markers, plan.terms)
    named = outcome or next(iter(plan.primary), "")
    if not named:
        raise StudyError(
            "a study is planned for one outcome: name it with --outcome marker:column, or give "
            "the plan that declares the primary one"
        )
    (chosen,) = declared_outcomes({"primary": [named]})
    pairs = make_pairs(design, markers, chosen)
    question = replace(question, alpha=plan.alpha, seed=plan.seed)
    return power_from_pilot(pairs.treated, pairs.placebo, question), chosen


def leading(outcomes: Sequence[Analysed]) -> tuple[Analysed, ...]:
    """The outcomes a reader sees first."""
    keys = {o.key for o in _leading([found.outcome for found in outcomes])}
    return tuple(found for found in outcomes if found.outcome.key in keys)


def _leading(outcomes: Sequence[Outcome]) -> list[Outcome]:
    declared = [o for o in outcomes if o.role != "exploratory"]
    return declared or list({o.marker: o for o in reversed(outcomes)}.values())


def _outcomes(plan: Plan, markers: pd.DataFrame) -> tuple[Outcome, ...]:
    there = [o for o in default_outcomes(markers["marker"].unique()) if o.name in markers]
    if not there and not any(plan.roles.values()):
        raise StudyError("the marker table has no sample with an outcome: nothing can be compared")
    return planned_outcomes(plan.roles, plan.direction, plan.margin, there)


def _locked(plan: Plan, plan_path: Path | str | None, *, seen: bool) -> Lock | None:
    """The plan's lock, with the note that arms and results come together now."""
    if plan_path is None:
        return None
    path, time = default_lock_path(plan_path), now()
    lock_plan(plan, path, seen=seen, time=time)
    return unblind(path, time)


def _material(run: RunDirectory, design: Design, markers: pd.DataFrame, plan: Plan) -> Material:
    there = run.ledger_path.exists()
    before = run.path / "markers_automatic.csv"
    return Material(
        design=design,
        markers=markers,
        plan=plan,
        ledger=run.ledger().rows if there else None,
        sections=read_sections(run.path) if there else [],
        automatic=read_markers(before) if before.exists() else None,
    )


def _tables(found: Sequence[Analysed]) -> dict[str, list[dict[str, object]]]:
    return {
        "contrasts.csv": [own.row for own in found],
        "reversal.csv": [row for own in found for row in own.reversal_rows],
        "flow.csv": [row for own in found for row in own.flow],
        "missing.csv": [row for own in found for row in own.missing_rows],
        "sensitivity.csv": [row for own in found for row in own.sensitivity_rows],
        "adequacy.csv": [row for own in found for row in own.adequacy_rows],
    }


def _write(result: StudyResult, figures: Mapping[str, Drawing | str], markers_csv: Path) -> None:
    facts = {
        "version": __version__,
        "libraries": {name: installed(name) for name in _LIBRARIES},
        "written": now(),
        "design_sha256": result.design.sha256,
        "markers_sha256": hashlib.sha256(markers_csv.read_bytes()).hexdigest(),
        "plan_sha256": result.lock.sha256 if result.lock else "",
        "plan": result.plan.model_dump(mode="json"),
        "plan_history": result.lock.sentences() if result.lock else [],
        "design_notes": result.design.notes,
        "warnings": result.warnings,
    }
    section = page.section(result, figures, facts)
    with atomic.new_directory(result.directory) as new:
        for name in TABLES:
            if name == "reversal.csv" and not result.design.baseline:
                continue
            (new / name).write_text(table_csv(name, result.tables[name]), encoding="utf-8")
        (new / "figures").mkdir()
        for name, drawing in figures.items():
            if isinstance(drawing, str):
                continue
            (new / "figures" / f"{name}.svg").write_text(drawing.file(), encoding="utf-8")
        (new / "columns.json").write_text(to_json(columns_json()), encoding="utf-8")
        (new / "section.html").write_text(section, encoding="utf-8")
        (new / "study.html").write_text(page.whole(section, _title(result)), encoding="utf-8")
        (new / "study.json").write_text(to_json(facts), encoding="utf-8")


def _title(result: StudyResult) -> str:
    return result.plan.title or result.directory.parent.name


def _figures(result: StudyResult, material: Material) -> dict[str, Drawing | str]:
    """File name without suffix -> figure, or a sentence why it is left out."""
    design, confidence = result.design, result.confidence
    first = {own.outcome.marker: own.pairs for own in reversed(result.lead)}
    rows = result.tables["contrasts.csv"]
    made: dict[str, Callable[[], Drawing | None]] = {
        "flow": lambda: illustrate.flow_diagram(
            design, material.markers, list(reversed(first.values()))
        ),
        "forest": lambda: illustrate.ratio_forest(rows, design, confidence),
    }
    for own in result.lead:
        made |= _figures_of(own, result)
    made["agreement_pigment"] = lambda: illustrate.pigment_agreement(material.markers)
    drawings = {name: _drawn(name, draw) for name, draw in made.items()}
    return {name: drawing for name, drawing in drawings.items() if drawing is not None}


def _figures_of(own: Analysed, result: StudyResult) -> dict[str, Callable[[], Drawing | None]]:
    name, design = own.outcome.key.replace(":", "_"), result.design
    made: dict[str, Callable[[], Drawing | None]] = {}
    if own.pairs.n:
        made[f"pairs_{name}"] = lambda: illustrate.pair_slopes(
            own.pairs, design, result.sentence(own)
        )
    if own.pairs.n and (reversal := own.reversal):
        made[f"change_{name}"] = lambda: illustrate.change_slopes(
            own.pairs, design, reversal.reason
        )
    made[f"threshold_{name}"] = lambda: illustrate.threshold_curve(
        own.outcome, own.sensitivity, result.confidence
    )
    return made


def _drawn(name: str, draw: Callable[[], Drawing | None]) -> Drawing | str | None:
    try:
        return draw()
    except AxisError as error:
        return f"The figure {name} is left out: {error}."


__all__ = ["StudyResult", "leading", "plan_next", "run_study"]
