"""With baselines: did the treated site get better than it was, or only better than placebo.

A site that is treated can end better than the placebo site because ageing went back, or
because it went on more slowly. The comparison at the end of the study cannot tell the two
apart; the treated site's own change can. `read_reversal` gives both, their intervals, and one
of five readings with the sentence that leads to it:

=================== ========================================================================
reversal            the treated site is better than its own baseline, and improved more than
                    placebo: both intervals exclude none
slowed progression  treated did better than placebo, and there was a progression to slow: the
                    treated site worsened on its own baseline; or the placebo site did, and
                    the treated site does not seem better than it was, or by less than the
                    margin of the plan
no difference       the interval of the difference in differences lies within the margin of
                    the plan
worse               treated did worse than placebo: the interval excludes none
undecided           anything else
=================== ========================================================================

"Reversal" needs both tests at once, so that two looks do not raise the risk of claiming it
wrongly (an intersection-union test, Berger 1982). Without a margin there is no "no difference":
a P above 0.05 is not evidence of none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from histoquant.errors import StudyError
from histoquant.study.means import (
    NAN,
    ROUNDING,
    Floats,
    Mean,
    Scale,
    all_equal,
    counted,
    difference,
    from_t,
    interval_text,
    mean_of,
    number,
    p_text,
    shown,
    unit_of,
)
from histoquant.study.outcomes import Direction

Reading = Literal["reversal", "slowed progression", "no difference", "worse", "undecided"]

COLUMNS = (
    "marker", "outcome", "role", "scale", "n_pairs",
    "treated_change", "treated_low", "treated_high",
    "placebo_change", "placebo_low", "placebo_high",
    "difference_in_differences", "did_low", "did_high", "p", "reading", "reason",
    "ancova_effect", "ancova_low", "ancova_high", "ancova_p", "ancova_slope", "ancova_reason",
    "note",
)  # fmt: skip
"""Columns of ``reversal.csv``. On the log scale changes are ratios, follow-up over baseline."""


@dataclass(frozen=True, eq=False)
class FourPoints:
    """Two sites of each person at two visits.

    Attributes
    ----------
    before_treated, before_placebo, after_treated, after_placebo
        (n,) float64, one per person, in the same order; NaN where not measured.
    """

    before_treated: Floats
    before_placebo: Floats
    after_treated: Floats
    after_placebo: Floats

    def __post_init__(self) -> None:
        sizes = {np.shape(column) for column in self._columns()}
        if len(sizes) != 1 or len(next(iter(sizes))) != 1:
            raise ValueError(f"the four columns must be of one length, found shapes {sizes}")

    def table(self) -> Floats:
        """(m, 4) values of the people who have all four, in the order of the attributes."""
        table = np.column_stack([np.asarray(c, np.float64) for c in self._columns()])
        return np.asarray(table[np.isfinite(table).all(axis=1)], np.float64)

    @property
    def n_incomplete(self) -> int:
        """People of whom one of the four is missing or not finite."""
        return len(self.before_treated) - len(self.table())

    def _columns(self) -> tuple[Floats, Floats, Floats, Floats]:
        return self.before_treated, self.before_placebo, self.after_treated, self.after_placebo


@dataclass(frozen=True)
class Yardstick:
    """How an outcome is read.

    Attributes
    ----------
    direction
        Which way is better, "lower" or "higher"; empty where that is not known.
    scale
        ``log``: changes as ratios; ``linear``: as differences.
    margin
        Largest difference in differences that counts as none: a ratio above 1 on the log
        scale (1.25 means 0.8 to 1.25), in units of the outcome on the linear one. None: no
        margin was declared.
    alpha
        One less the confidence.
    """

    direction: Direction
    scale: Scale = "log"
    margin: float | None = None
    alpha: float = 0.05

    def __post_init__(self) -> None:
        least = 1.0 if self.scale == "log" else 0.0
        if self.margin is not None and not least < self.margin < math.inf:
            raise StudyError(
                f"a margin on the {self.scale} scale lies above {least:g}, found {self.margin}"
            )
        if not 0 < self.alpha < 1:
            raise StudyError(f"alpha lies between 0 and 1, found {self.alpha}")

    @property
    def half_width(self) -> float:
        """The margin on the scale of the analysis; NaN without one."""
        if self.margin is None:
            return NAN
        return math.log(self.margin) if self.scale == "log" else self.margin


@dataclass(frozen=True)
class Ancova:
    """Pair difference at follow-up, adjusted for the pair difference at baseline.

    Attributes
    ----------
    effect
        Treated against placebo for a person whose sites were equal at baseline.
    slope
        How much of a baseline difference is still there at follow-up: 0 is the comparison at
        follow-up alone, 1 the difference in differences.
    """

    effect: Mean
    slope: float = NAN


@dataclass(frozen=True)
class Reversal:
    """What the baselines say of one outcome. Means are on the scale of the analysis."""

    yardstick: Yardstick
    treated: Mean
    placebo: Mean
    difference: Mean
    ancova: Ancova
    reading: Reading
    reason: str
    note: str = ""

    def row(self) -> dict[str, object]:
        """The row of ``reversal.csv``, less who the outcome is."""
        scale = self.yardstick.scale
        effect = self.ancova.effect
        named = {
            "treated": self.treated, "placebo": self.placebo, "did": self.difference,
            "ancova": effect,
        }  # fmt: skip
        limits = {f"{k}_low": shown(m.low, scale) for k, m in named.items()}
        limits |= {f"{k}_high": shown(m.high, scale) for k, m in named.items()}
        return limits | {
            "scale": "ratio" if scale == "log" else "difference",
            "n_pairs": self.difference.n,
            "treated_change": shown(self.treated.estimate, scale),
            "placebo_change": shown(self.placebo.estimate, scale),
            "difference_in_differences": shown(self.difference.estimate, scale),
            "p": self.difference.p,
            "reading": self.reading,
            "reason": self.reason,
            "ancova_effect": shown(effect.estimate, scale),
            "ancova_p": effect.p,
            "ancova_slope": self.ancova.slope,
            "ancova_reason": effect.reason,
            "note": self.note,
        }


def read_reversal(points: FourPoints, yardstick: Yardstick) -> Reversal:
    """Changes from baseline, their difference, ANCOVA, and the reading.

    People without all four values are left out, and the note says how many. Values of 0 or
    below have no logarithm: where there are any, the outcome is analysed on the linear scale
    (without the margin, which is a ratio), and the note says so.
    """
    table, yardstick, note = _on_scale(points, yardstick)
    before_treated, before_placebo, after_treated, after_placebo = table.T
    treated = difference(after_treated, before_treated)
    placebo = difference(after_placebo, before_placebo)
    changes = (treated, placebo, difference(treated, placebo))
    own, other, both = (_change(v, yardstick.alpha) for v in changes)
    before = difference(before_treated, before_placebo)
    after = difference(after_treated, after_placebo)
    adjusted = ancova(after, before, yardstick.alpha)
    reading, reason = read_intervals(own, other, both, yardstick)
    return Reversal(yardstick, own, other, both, adjusted, reading, reason, note)


def _change(values: Floats, alpha: float) -> Mean:
    if not values.size:  # there may be pairs: what is missing is a baseline
        return Mean(0, reason="nobody has all four measurements")
    return mean_of(values, alpha)


def ancova(after: npt.ArrayLike, before: npt.ArrayLike, alpha: float = 0.05) -> Ancova:
    """Regress pair differences at follow-up on those at baseline (ordinary least squares).

    Sites are allotted at random within the person, so the baseline difference is centred on
    the 0 that is expected of it, and the intercept is the effect at equal baselines (Kenward
    and Roger 2010, "The use of baseline covariates in crossover studies"). Centred on the
    sample's own mean, it would be the plain mean again, chance imbalance and all.

    Parameters
    ----------
    after, before
        (n,) treated less placebo of each person, on the scale of the analysis.
    """
    y, x = (np.asarray(v, np.float64).ravel() for v in (after, before))
    known = np.isfinite(y) & np.isfinite(x)
    y, x = y[known], x[known]
    n = y.size
    if n < 3:
        few = counted(n, "pair")
        why = f"{few} with baselines; an intercept, a slope and an interval take at least 3"
        return Ancova(Mean(n, reason=why))
    if all_equal(x):
        why = "the baseline difference is the same in all pairs: nothing to adjust for"
        return Ancova(Mean(n, reason=why))
    from statsmodels.regression.linear_model import OLS

    unit, unit_x = unit_of(y), unit_of(x)
    y, x = y / unit, x / unit_x
    fit = OLS(y, np.column_stack([np.ones(n), x])).fit()
    estimate, slope = float(fit.params[0]) * unit, float(fit.params[1]) * (unit / unit_x)
    if float(np.abs(fit.resid).max()) <= ROUNDING * float(np.abs(y).max()):
        why = "the baseline differences foretell the others without error: no interval"
        return Ancova(Mean(n, estimate, reason=why), slope)
    return Ancova(from_t(estimate, float(fit.bse[0]) * unit, n - 2, n, alpha), slope)


def read_intervals(
    treated: Mean, placebo: Mean, difference: Mean, yardstick: Yardstick
) -> tuple[Reading, str]:
    """The reading and the sentence with the intervals that lead to it.

    Parameters
    ----------
    treated, placebo
        Change of the site from its own baseline.
    difference
        Treated change less placebo change.
    """
    facts = _facts(treated, placebo, difference, yardstick)
    if not difference.has_interval:
        return "undecided", f"Undecided: {difference.reason}. {facts}"
    sign = 1.0 if yardstick.direction != "lower" else -1.0
    own, other, both = (m.times(sign) for m in (treated, placebo, difference))
    reading, why = _decide(own, other, both, yardstick.half_width)
    if reading not in ("undecided", "no difference") and not yardstick.direction:
        way = "higher" if difference.low > 0 else "lower"
        reading = "undecided"
        why = f"treated sites ended {way} than placebo sites, and nothing says which is better"
    sentence = f"{reading.capitalize()}: {why}. {facts}"
    if both.low > 0 and both.high < yardstick.half_width:
        sentence += " The whole difference lies within the margin of the plan."
    return reading, sentence


def _decide(own: Mean, other: Mean, both: Mean, margin: float) -> tuple[Reading, str]:
    """The reading of changes of which positive ones are better."""
    if both.high < 0:
        return "worse", "treated sites did worse than placebo sites"
    if both.low <= 0:
        if -margin < both.low and both.high < margin:
            return "no difference", "the difference in differences lies within the plan's margin"
        why = "the difference in differences includes none"
        if math.isnan(margin):
            return "undecided", f"{why}, and the plan has no margin to call it none"
        return "undecided", f"{why}, and reaches beyond the plan's margin"
    if not own.has_interval:
        return "undecided", (
            "treated sites did better than placebo, but whether they improved on their own "
            f"baselines cannot be said: {own.reason}"
        )
    if own.low > 0:
        return "reversal", (
            "treated sites are better than their own baselines, and improved more than placebo"
        )
    if own.high < 0:
        return "slowed progression", (
            "treated sites are worse than their own baselines, but less so than placebo sites"
        )
    if other.has_interval and other.high < 0 and own.estimate > 0 and not own.high < margin:
        return "undecided", (
            "treated sites did better than placebo sites, which worsened; they seem better than "
            "their own baselines, but that is not shown: reversal and slowed progression cannot be "
            "told apart"
        )
    if other.has_interval and other.high < 0:
        return "slowed progression", (
            "placebo sites are worse than their own baselines, treated sites held theirs "
            "(no improvement shown), and did better than placebo"
        )
    return "undecided", (
        "treated sites did better than placebo, but neither an improvement of the treated nor a "
        "worsening of the placebo sites is shown: reversal and slowed progression cannot be told "
        "apart"
    )


def _facts(treated: Mean, placebo: Mean, difference: Mean, yardstick: Yardstick) -> str:
    words = "ratio follow-up / baseline" if yardstick.scale == "log" else "change from baseline"
    compared = "ratio of the two" if yardstick.scale == "log" else "difference of the two"
    own, other, both = (
        interval_text(m, yardstick.scale, yardstick.alpha) for m in (treated, placebo, difference)
    )
    margin = "" if yardstick.margin is None else f"; margin {_margin_text(yardstick)}"
    better = f"{yardstick.direction} is better" if yardstick.direction else "no way is better"
    return (
        f"{words.capitalize()} of treated sites {own}, of placebo sites {other}; {compared} "
        f"{both}, {p_text(difference.p)}, {counted(difference.n, 'person', 'people')}"
        f"{margin}; {better}."
    )


def _margin_text(yardstick: Yardstick) -> str:
    low, high = (number(shown(sign * yardstick.half_width, yardstick.scale)) for sign in (-1, 1))
    return f"{low} to {high}"


def _on_scale(points: FourPoints, yardstick: Yardstick) -> tuple[Floats, Yardstick, str]:
    """Complete rows on the scale of the analysis, the yardstick that hold there, and a note."""
    table = points.table()
    notes = []
    if points.n_incomplete:
        notes.append(
            f"{points.n_incomplete} of {len(points.before_treated)} people without all four "
            "measurements are left out"
        )
    if yardstick.scale == "log" and (table <= 0).any():
        people = int((table <= 0).any(axis=1).sum())
        notes.append(
            f"{counted(people, 'person has', 'people have')} values of 0 or below, which have no "
            "logarithm: analysed as differences"
            + (", without the margin, which is a ratio" if yardstick.margin else "")
        )
        yardstick = replace(yardstick, scale="linear", margin=None)
    return np.log(table) if yardstick.scale == "log" else table, yardstick, "; ".join(notes)
