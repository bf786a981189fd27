"""More than two visits or sections: a linear mixed model, or a summary of each person.

The model has a mean per visit, an effect of treatment per visit, a random intercept per
person and variance components for the hand and, where a sample has several sections, for the
sample: sections and visits add precision, and never people. With a baseline the contrast is
the mean effect at follow-up less the one at baseline; without, the mean effect.

A model is only as good as its fit. Where it does not converge, or a variance comes out as
zero (its standard error then pretends that the variance were known to be none), the contrast
is taken from one summary per person instead, which needs no model, and the reason is given.
Both are computed in every case, so that they can be compared.

Degrees of freedom are those of the people, not of the rows: the normal limits that statsmodels
gives are too narrow for a dozen people.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from histoquant.study.design import Design
from histoquant.study.means import Floats, Mean, Scale, all_equal, counted, from_t, mean_of
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import site_values
from histoquant.study.sections import Section

Method = Literal["mixed model", "person-level summary", "none"]
COLUMNS = ("person", "site", "visit", "treated", "value")
_BOUNDARY = 1e-3
"""A variance component below this share of the total variance is on the boundary."""


@dataclass(frozen=True)
class MixedContrast:
    """Effect of treatment over visits and sections.

    Attributes
    ----------
    effect
        The contrast, on the scale of the values given.
    method
        What it comes from.
    reason
        Why it is not the mixed model; empty when it is.
    summary
        The contrast of the person-level summaries, whatever the method.
    variances
        Variance components of the model that was fitted, by name; empty without one.
    n_people, n_rows
        People and rows that entered.
    messages
        What statsmodels warned of while fitting.
    """

    effect: Mean
    method: Method
    reason: str
    summary: Mean
    variances: dict[str, float] = field(default_factory=dict)
    n_people: int = 0
    n_rows: int = 0
    messages: tuple[str, ...] = ()


def mixed_contrast(table: pd.DataFrame, baseline: str = "", alpha: float = 0.05) -> MixedContrast:
    """Fit the mixed model, or say why not and summarise each person.

    Parameters
    ----------
    table
        One row per section (or sample): `person`, `site` and `visit` as text, `treated` bool,
        `value` float64 on the scale of the analysis. Rows whose value is not finite are left
        out.
    baseline
        Visit before treatment; empty where there is none.
    """
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise ValueError(f"a table for the mixed model lacks {missing}")
    rows = table.loc[np.isfinite(table["value"].to_numpy(np.float64)), list(COLUMNS)]
    rows = rows.assign(treated=rows["treated"].astype(bool)).reset_index(drop=True)
    summary = mean_of(person_contrasts(rows, baseline), alpha)
    empty = _without_model(summary, _unfit(rows, baseline), rows)
    if empty.reason:
        return empty
    fit, messages = _fit(rows, baseline)
    if isinstance(fit, str):
        return replace(_without_model(summary, fit, rows), messages=messages)
    effect, variances, reason = _contrast(fit, rows, baseline, alpha)
    if reason:
        result = _without_model(summary, reason, rows)
    else:
        result = replace(empty, effect=effect, method="mixed model", reason="")
    return replace(result, variances=variances, messages=messages)


def sample_table(
    design: Design, markers: pd.DataFrame, outcome: Outcome
) -> tuple[pd.DataFrame, Scale]:
    """The table of `mixed_contrast`, one row per sample of every visit, and its scale.

    Values are logarithms where all are above 0, and as they are otherwise.
    """
    rows = []
    for visit in design.terms.visits:
        found = site_values(design, markers, outcome, visit)
        for person, values in zip(found.people, found.values, strict=True):
            for site, treated, value in zip(
                design.sites[person], (True, False), values, strict=True
            ):
                if math.isfinite(value):
                    rows.append((person, site, visit, treated, float(value)))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"treated": bool, "value": float})
    return on_scale(table)


def section_table(
    design: Design, sections: Sequence[Section], outcome: Outcome
) -> tuple[pd.DataFrame, Scale]:
    """The same with one row per section, so that the model tells sections from biopsies."""
    rows = []
    for section in sections:
        person, site, visit = section.sample
        value = section.number(outcome.name)
        known = visit in design.terms.visits and site in design.sites.get(person, ())
        if section.marker == outcome.marker and known and math.isfinite(value):
            treated = site == design.sites[person][0]
            rows.append((person, site, visit, treated, value))
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"treated": bool, "value": float})
    return on_scale(table)


def on_scale(table: pd.DataFrame) -> tuple[pd.DataFrame, Scale]:
    """`table` with logarithms for values where all are above 0; else as it is."""
    values = table["value"].to_numpy(np.float64)
    if (values[np.isfinite(values)] > 0).all():
        return table.assign(value=np.log(values)), "log"
    return table, "linear"


def person_contrasts(rows: pd.DataFrame, baseline: str = "") -> Floats:
    """One contrast per person: treated less placebo, at follow-up less at baseline.

    Sections of a sample are averaged first, then visits; a visit counts for a person where
    both hands have a value at it.
    """
    cells = rows.groupby(["person", "visit", "treated"], sort=True)["value"].mean().unstack()
    if not {True, False} <= set(cells.columns):
        return np.empty(0)
    effects = (cells[True] - cells[False]).dropna().unstack("visit")
    if not baseline:
        return effects.mean(axis=1).to_numpy(np.float64)
    if baseline not in effects or effects.shape[1] < 2:
        return np.empty(0)
    change = effects.drop(columns=baseline).mean(axis=1) - effects[baseline]
    return change.dropna().to_numpy(np.float64)


def _without_model(summary: Mean, reason: str, rows: pd.DataFrame) -> MixedContrast:
    known = math.isfinite(summary.estimate)
    if reason and not known:
        reason = f"{reason}; {summary.reason}"
    return MixedContrast(
        effect=summary,
        method="person-level summary" if known else "none",
        reason=reason,
        summary=summary,
        n_people=int(rows["person"].nunique()),
        n_rows=len(rows),
    )


def _unfit(rows: pd.DataFrame, baseline: str) -> str:
    """Why a mixed model cannot be fitted to `rows`; empty when one can be tried."""
    people, visits = rows["person"].nunique(), rows["visit"].nunique()
    if people < 3:
        return f"{counted(people, 'person', 'people')}: their variance cannot be told from {people}"
    if rows["treated"].nunique() < 2:
        return "one of the arms is missing"
    if baseline and baseline not in set(rows["visit"]):
        return f"no value at the baseline {baseline}"
    if baseline and visits < 2:
        return "no value after the baseline"
    if len(rows) <= 2 * people:
        return "one value per hand at most: the hand and the residual cannot be told apart"
    if all_equal(rows["value"].to_numpy(np.float64)):
        return "all values are the same"
    if any(group["treated"].nunique() < 2 for _, group in rows.groupby("visit")):
        return "a visit has one arm only"
    return ""


def _components(rows: pd.DataFrame, baseline: str) -> dict[str, list[str]]:
    """Variance components that the rows can tell apart: name -> columns whose levels vary.

    All are within the person. ``response`` is what the effect of treatment itself varies by
    from person to person; with several follow-ups it is shared by them, and left out it would
    make visits count as people.
    """
    components = {"hand": ["site"]}
    visits = rows["visit"].nunique()
    if visits > 1:
        components["visit"] = ["visit"]
    if visits > 1 and (rows.groupby(["person", "site", "visit"]).size() > 1).any():
        components["sample"] = ["site", "visit"]
    if baseline and visits > 2:
        components["response"] = []
    return components


def _indicators(rows: pd.DataFrame, columns: list[str], baseline: str) -> Floats:
    """(n, levels) which level of a component each row of one person has."""
    if not columns:
        treated = rows["treated"].to_numpy() & (rows["visit"] != baseline).to_numpy()
        return treated.astype(np.float64)[:, None]
    return pd.get_dummies(rows[columns].agg("|".join, axis=1)).to_numpy(np.float64)


def _fit(rows: pd.DataFrame, baseline: str) -> tuple[Any, tuple[str, ...]]:
    """The fitted model of values over their spread, or why there is none; and the warnings."""
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    components = _components(rows, baseline)
    people = [group for _, group in rows.groupby("person", sort=True)]
    mats = [[_indicators(g, c, baseline) for g in people] for c in components.values()]
    names = [[[f"{n}{i}" for i in range(m.shape[1])] for m in own]
             for n, own in zip(components, mats, strict=True)]  # fmt: skip
    values = rows["value"].to_numpy(np.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit = MixedLM(
                values / values.std(),
                _fixed_effects(rows),
                groups=rows["person"].to_numpy(str),
                exog_re=np.ones((len(rows), 1)),
                exog_vc=VCSpec(list(components), names, mats),
            ).fit(reml=True, method=["lbfgs", "bfgs", "cg"])
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError) as error:
            return f"the mixed model cannot be fitted ({error})", _messages(caught)
    if not fit.converged:
        return "the mixed model did not converge", _messages(caught)
    return fit, _messages(caught)


def _fixed_effects(rows: pd.DataFrame) -> Floats:
    """(n, 2 visits): a mean per visit, then an effect of treatment per visit."""
    at = np.column_stack([rows["visit"] == v for v in _visits(rows)]).astype(np.float64)
    return np.hstack([at, at * rows["treated"].to_numpy(np.float64)[:, None]])


def _visits(rows: pd.DataFrame) -> list[str]:
    return sorted(set(rows["visit"]))


def _contrast(
    fit: Any, rows: pd.DataFrame, baseline: str, alpha: float
) -> tuple[Mean, dict[str, float], str]:
    """The contrast of a fitted model, its variance components, and why it cannot be used."""
    spread = float(rows["value"].std(ddof=0))
    own = [float(np.asarray(fit.cov_re)[0, 0]), *map(float, fit.vcomp), float(fit.scale)]
    names = ["person", *fit.model.exog_vc.names, "residual"]
    variances = {n: v * spread**2 for n, v in zip(names, own, strict=True)}
    total = sum(own)
    zero = [n for n, v in zip(names, own, strict=True) if not v > _BOUNDARY * total]
    if zero:
        return Mean(0), variances, f"singular: no variance was found of {', '.join(zero)}"
    weights = _weights(_visits(rows), baseline)
    k = len(weights)
    estimate = float(weights @ np.asarray(fit.fe_params))
    variance = float(weights @ np.asarray(fit.cov_params())[:k, :k] @ weights)
    if not (math.isfinite(estimate) and variance > 0):
        return Mean(0), variances, "singular: the contrast has no standard error"
    n = _informative_people(rows, baseline)
    if n < 2:
        return (
            Mean(0),
            variances,
            f"{counted(n, 'person has', 'people have')} both hands measured where it counts",
        )
    effect = from_t(estimate * spread, math.sqrt(variance) * spread, n - 1, n, alpha)
    return effect, variances, ""


def _weights(visits: list[str], baseline: str) -> Floats:
    """Weights of the fixed effects in the contrast."""
    follow_ups = [v for v in visits if v != baseline]
    own = [-1.0 if v == baseline else 1 / len(follow_ups) for v in visits]
    return np.array([0.0] * len(visits) + own)


def _informative_people(rows: pd.DataFrame, baseline: str) -> int:
    """People who have both hands at a visit after the baseline: those the contrast rests on."""
    after = rows[rows["visit"] != baseline] if baseline else rows
    both = after.groupby(["person", "visit"])["treated"].nunique() == 2
    return int(both[both].index.get_level_values("person").nunique())


def _messages(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(w.message).splitlines()[0] for w in caught))
