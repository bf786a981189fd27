"""Treated against placebo within people: one outcome, every way of asking, one row.

The primary analysis is the mean of the within-person log ratios with its t interval and P:
simulation shows it to hold its level from 8 pairs on, while the exact signed-rank test, whose
P moves in steps, rejects less often than it may with few pairs (``docs/statistics.md``). The
exact tests stand beside it because they assume nothing but the random choice of the site.

A ratio needs values above 0. Where one is 0 or below there is no ratio, no constant is added
and no pair is left out: the t interval, t and sign-flip tests then are those of the
differences, and `Contrast.scale` says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from histoquant.study.exact import Shift, Test, hodges_lehmann, sign_flip, signed_rank
from histoquant.study.means import (
    NAN,
    Mean,
    Scale,
    counted,
    mean_of,
    middle,
    number,
    p_text,
    pair_effects,
    shown,
)
from histoquant.study.multiplicity import Corrected, correct_by_role
from histoquant.study.outcomes import Outcome
from histoquant.study.pairs import Pairs

Row = dict[str, object]

_NO_INTERVAL = "there is no interval, so no P is corrected for the other outcomes"
FEW = 6
"""Pairs below which no exact two-sided P reaches 0.05."""


@dataclass(frozen=True)
class Contrast:
    """One outcome compared.

    Attributes
    ----------
    n_enrolled, n
        People in the design, and with a complete pair.
    treated_median, placebo_median
        Over the pairs, in the outcome's unit.
    scale
        ``log`` where all values are above 0, else ``linear``: of `mean`, `flip` and `dz`.
    mean
        Mean within-person effect on that scale, with t interval and P.
    difference
        Mean difference in the outcome's unit, with t interval and P; `mean` where linear.
    shift, rank
        Hodges-Lehmann estimate and signed-rank test of the differences.
    flip
        Sign-flip test of `mean`.
    dz
        Mean / standard deviation of the within-person effects.
    scale_note
        Why there is no ratio; empty where there is one.
    """

    outcome: Outcome
    n_enrolled: int
    n: int
    treated_median: float
    placebo_median: float
    scale: Scale
    mean: Mean
    difference: Mean
    shift: Shift
    rank: Test
    flip: Test
    dz: float
    scale_note: str = ""

    @property
    def ratio(self) -> Mean:
        """The mean log ratio; without an estimate, and with the reason, where there is none."""
        if self.scale == "log":
            return self.mean
        return Mean(self.n, reason=self.scale_note)

    @property
    def p_primary(self) -> float:
        """P of the primary analysis, which is corrected; NaN without an interval beside it.

        Where there is no t test but an interval of the signed-rank test, it is that test's.
        """
        if math.isfinite(self.mean.p):
            return self.mean.p
        return self.rank.p if math.isfinite(self.shift.low) else NAN

    @property
    def note(self) -> str:
        """What a reader must know; empty when there is nothing."""
        return "; ".join(filter(None, self._notes()))

    def row(self, corrected: Corrected | None = None) -> Row:
        """The row of ``contrasts.csv``; missing values are NaN, with a reason beside them."""
        fixed = corrected or Corrected()
        ratio = [shown(v, "log") for v in (self.ratio.estimate, self.ratio.low, self.ratio.high)]
        return {
            "marker": self.outcome.marker,
            "outcome": self.outcome.name,
            "role": self.outcome.role,
            "n_enrolled": self.n_enrolled,
            "n_pairs": self.n,
            "treated_median": self.treated_median,
            "placebo_median": self.placebo_median,
            "ratio": ratio[0],
            "ratio_low": ratio[1],
            "ratio_high": ratio[2],
            "difference_hl": self.shift.estimate,
            "difference_low": self.shift.low,
            "difference_high": self.shift.high,
            "p_signed_rank": self.rank.p,
            "p_sign_flip": self.flip.p,
            "p_t": self.mean.p,
            "p_floor": self.rank.floor,
            "p_holm": fixed.p_holm,
            "p_bh": fixed.p_bh,
            "dz": self.dz,
            "scale": "ratio" if self.scale == "log" else "difference",
            "n_equal": self.rank.n_zero,
            "mean_difference": self.difference.estimate,
            "mean_difference_low": self.difference.low,
            "mean_difference_high": self.difference.high,
            "p_sign_flip_se": self.flip.p_se,
            "ratio_reason": self.ratio.reason,
            "difference_reason": self.shift.reason,
            "p_reason": self._p_reason(),
            "note": self.note,
        }

    def _p_reason(self) -> str:
        """Why a P is missing or not exact."""
        rank, flip = (t.method.replace("exact", "") for t in (self.rank, self.flip))
        if not self.n:
            return "no pair was measured"
        reasons = [("t", self.mean.reason), ("signed rank", rank), ("sign flip", flip)]
        if not math.isfinite(self.p_primary):
            reasons.append(("corrected", _NO_INTERVAL))
        return "; ".join(f"{name}: {why}" for name, why in reasons if why)

    def _notes(self) -> Iterable[str]:
        if not self.n:
            yield "no pair was measured: nothing can be said of the effect"
            return
        if self.n < FEW:
            yield f"{counted(self.n, 'pair')}: no exact P below {self.rank.floor:g} is possible"
            if self.mean.has_interval:
                yield "the t interval leans on normality, which so few cannot show"
        yield self.scale_note
        if self.rank.n_zero:
            have = "has" if self.rank.n_zero == 1 else "have"
            yield f"{self.rank.n_zero} of {counted(self.n, 'pair')} {have} no difference"
        yield self.mean.reason
        if not math.isfinite(self.p_primary):
            yield _NO_INTERVAL
        elif not math.isfinite(self.mean.p):
            yield "the P that is corrected is that of the signed-rank test"


@dataclass(frozen=True)
class Influence:
    """The comparison without one person; estimate and limits as people read them."""

    person: str
    n: int
    estimate: float
    low: float
    high: float
    p: float


def compare(pairs: Pairs, alpha: float = 0.05, seed: int = 0) -> Contrast:
    """Compare the treated with the placebo sites.

    Parameters
    ----------
    pairs
        One outcome at one visit, one pair per person.
    alpha
        One less the confidence of the intervals.
    seed
        For the sign-flip test of more than 20 pairs.
    """
    effects, scale, note = pair_effects(pairs.treated, pairs.placebo)
    mean = mean_of(effects, alpha)
    return Contrast(
        outcome=pairs.outcome,
        n_enrolled=pairs.n_enrolled,
        n=pairs.n,
        treated_median=middle(pairs.treated),
        placebo_median=middle(pairs.placebo),
        scale=scale,
        mean=mean,
        difference=mean_of(pairs.difference, alpha),
        shift=hodges_lehmann(pairs.difference, alpha),
        rank=signed_rank(pairs.difference),
        flip=sign_flip(effects, seed),
        dz=_dz(mean),
        scale_note=note,
    )


def contrast_rows(contrasts: Sequence[Contrast]) -> list[Row]:
    """Rows of ``contrasts.csv`` in the order given, with P corrected by role.

    Corrected is the P of the primary analysis (`Contrast.p_primary`).
    """
    roles = [c.outcome.role for c in contrasts]
    corrected = correct_by_role(roles, [c.p_primary for c in contrasts])
    return [c.row(fixed) for c, fixed in zip(contrasts, corrected, strict=True)]


def leave_one_out(pairs: Pairs, alpha: float = 0.05) -> tuple[Influence, ...]:
    """The primary comparison without each person in turn, on the scale of all pairs."""
    effects, scale, _ = pair_effects(pairs.treated, pairs.placebo)
    found = []
    for i, person in enumerate(pairs.people):
        mean = mean_of(np.delete(effects, i), alpha)
        estimate, low, high = (shown(v, scale) for v in (mean.estimate, mean.low, mean.high))
        found.append(Influence(person, mean.n, estimate, low, high, mean.p))
    return tuple(found)


def influence_sentence(pairs: Pairs, alpha: float = 0.05) -> str:
    """How far the result hangs on one person, in words."""
    if pairs.n < 3:
        return f"{counted(pairs.n, 'pair')}: too few to leave one out"
    found = leave_one_out(pairs, alpha)
    _, scale, _ = pair_effects(pairs.treated, pairs.placebo)
    word = "ratio" if scale == "log" else "mean difference"
    least, most = min(found, key=_estimate), max(found, key=_estimate)
    text = (
        f"leaving out one person at a time, the {word} lies between "
        f"{_without(least, alpha)} and {_without(most, alpha)}"
    )
    known = [f.p for f in found if math.isfinite(f.p)]
    if not known:
        return text
    smallest, largest = p_text(min(known)), p_text(max(known))
    if smallest == largest:
        return f"{text}, each time with {smallest} (t)"
    return f"{text}, with t tests from {smallest} to {largest}"


def _without(influence: Influence, alpha: float) -> str:
    limits = ""
    if math.isfinite(influence.low) and math.isfinite(influence.high):
        limits = (
            f"{100 * (1 - alpha):g} % interval {number(influence.low)} to "
            f"{number(influence.high)}, "
        )
    return f"{number(influence.estimate)} ({limits}without {influence.person})"


def _estimate(influence: Influence) -> float:
    return influence.estimate


def _dz(mean: Mean) -> float:
    """Cohen's dz from the mean and its standard error; NaN without a spread."""
    return mean.estimate / (mean.se * math.sqrt(mean.n)) if mean.se > 0 else NAN
