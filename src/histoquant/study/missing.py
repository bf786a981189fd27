"""What the people who were lost could have changed.

The primary comparison is that of the completers. Here is what it rests on:

* did those who were lost differ from the completers at baseline (`at_baseline`);
* how much would the effect of the missing pairs have to differ from that of the completers
  for the conclusion to change (`tipping_point`), by the pattern-mixture model: with a share
  ``f`` of the enrolled missing, whose mean effect is that of the completers plus ``delta``,
  the effect in everyone is ``mean + f * delta``, with the completers' standard error (White,
  Carpenter and Horton 2018, "A mean score method for sensitivity analysis to departures from
  the missing at random assumption"). The conclusion changes where the interval reaches none;
  nothing is drawn at random;
* what if every missing pair were like the least, or the most, favourable pair seen, or as
  extreme as the outcome can be (`bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from histoquant.study.means import (
    NAN,
    Floats,
    Mean,
    Scale,
    average,
    difference_of_means,
    finite,
    from_t,
    interval_text,
    mean_of,
    number,
    p_text,
    shown,
)

COLUMNS = (
    "marker", "outcome", "analysis", "n_pairs", "n_missing", "scale",
    "estimate", "low", "high", "p", "meaning",
)  # fmt: skip
"""Columns of ``missing.csv``. Effects on the log scale are ratios treated / placebo."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of the complete pairs, and how many pairs are missing.

    Attributes
    ----------
    values
        (n,) treated less placebo of each completer, on the scale of the analysis.
    n_missing
        People enrolled without a complete pair.
    scale
        ``log`` when the values are differences of logarithms.
    limits
        Least and largest value the outcome itself can have; infinite where there is none.
    alpha
        One less the confidence.
    """

    values: Floats
    n_missing: int
    scale: Scale = "log"
    limits: tuple[float, float] = (-math.inf, math.inf)
    alpha: float = 0.05

    @property
    def completers(self) -> Mean:
        """Mean effect of the completers."""
        return mean_of(self.values, self.alpha)


@dataclass(frozen=True)
class Line:
    """One line of ``missing.csv``; the mean is on the scale of the analysis."""

    analysis: str
    mean: Mean
    n_missing: int
    scale: Scale
    meaning: str

    def row(self) -> dict[str, object]:
        """The line as people read it, less who the outcome is."""
        return {
            "analysis": self.analysis,
            "n_pairs": self.mean.n,
            "n_missing": self.n_missing,
            "scale": "ratio" if self.scale == "log" else "difference",
            "estimate": shown(self.mean.estimate, self.scale),
            "low": shown(self.mean.low, self.scale),
            "high": shown(self.mean.high, self.scale),
            "p": self.mean.p,
            "meaning": self.meaning,
        }


@dataclass(frozen=True)
class TippingPoint:
    """Where the conclusion changes.

    Attributes
    ----------
    delta
        Least difference of the missing pairs' mean effect from the completers' that changes
        the conclusion, on the scale of the analysis; NaN when none can be told.
    missing_effect
        That mean effect of the missing pairs.
    significant
        Whether the completers' interval excludes no effect.
    reason
        Why there is no tipping point; empty where there is one.
    """

    delta: float
    missing_effect: float
    significant: bool
    reason: str = ""


def at_baseline(
    completers: npt.ArrayLike, lost: npt.ArrayLike, scale: Scale = "log", alpha: float = 0.05
) -> Line:
    """Completers against those lost, at baseline (mean of a person's two sites; Welch).

    Parameters
    ----------
    completers, lost
        (n,) and (m,) baseline values in the outcome's unit; NaN where there is none.
    """
    kept, gone = finite(completers), finite(lost)
    note = ""
    if scale == "log" and (np.concatenate([kept, gone]) <= 0).any():
        scale, note = "linear", "; compared as a difference, because there are values of 0 or below"
    if scale == "log":
        kept, gone = np.log(kept), np.log(gone)
    mean = difference_of_means(kept, gone, alpha)
    counts = f"{kept.size} completers against {gone.size} lost, both with a baseline"
    apart = "ratio" if scale == "log" else "difference"
    meaning = f"{counts}: {apart} at baseline {interval_text(mean, scale, alpha)}{note}"
    return Line("completers against lost at baseline", mean, int(gone.size), scale, meaning)


def tipping_point(effects: Effects) -> TippingPoint:
    """How different the missing pairs must be for the conclusion to change.

    Where the completers' interval excludes no effect, the change is that it no longer would;
    where it includes none, that it would, on the side that takes less.
    """
    mean = effects.completers
    if effects.n_missing <= 0:
        return TippingPoint(NAN, NAN, _excludes_none(mean), "no pair is missing")
    if not mean.has_interval:
        return TippingPoint(NAN, NAN, False, mean.reason)
    share = effects.n_missing / (mean.n + effects.n_missing)
    bound = min((mean.low, mean.high), key=abs)
    delta = -bound / share
    return TippingPoint(delta, mean.estimate + delta, _excludes_none(mean))


def shifted(effects: Effects, delta: float) -> Mean:
    """Effect in everyone when the missing pairs' mean differs from the completers' by `delta`."""
    mean = effects.completers
    shift = delta * effects.n_missing / max(mean.n + effects.n_missing, 1)
    if not mean.has_interval:
        return Mean(mean.n, mean.estimate + shift, reason=mean.reason)
    return from_t(mean.estimate + shift, mean.se, mean.df, mean.n, effects.alpha)


def bounds(effects: Effects) -> Iterator[Line]:
    """What the missing pairs could do at worst and at best.

    "Seen": the missing pairs' mean effect is the lowest (highest) of any completer, in the
    model of the tipping point, so that pairs nobody measured do not narrow the interval.
    "Possible": for outcomes with limits, such as percents, on the linear scale: the bounds of
    Manski (1989), which take no interval.
    """
    x = finite(effects.values)
    missing = effects.n_missing
    if not x.size or missing <= 0:
        return
    for word, extreme in (("lowest", float(x.min())), ("highest", float(x.max()))):
        filled = shifted(effects, extreme - average(x))
        yield Line(
            f"every missing pair as the {word} seen",
            filled,
            missing,
            effects.scale,
            f"if {_missing_pairs(missing)} had the {word} effect seen, "
            f"{number(shown(extreme, effects.scale))}, the effect would be "
            f"{interval_text(filled, effects.scale, effects.alpha)}, {p_text(filled.p)}",
        )
    low, high = effects.limits
    if effects.scale == "log" or not (math.isfinite(low) and math.isfinite(high)):
        return
    for word, extreme in (("lowest", low - high), ("highest", high - low)):
        estimate = average(np.append(x, np.full(missing, extreme)))
        why = "a bound, not an estimate: no interval"
        yield Line(
            f"every missing pair the {word} possible",
            Mean(x.size + missing, estimate, reason=why),
            missing,
            effects.scale,
            f"if {_missing_pairs(missing)} had the {word} effect possible, "
            f"{number(extreme)}, the mean effect would be {number(estimate)} ({why})",
        )


def missing_lines(effects: Effects) -> list[Line]:
    """Completers, tipping point and bounds of one outcome, as lines of ``missing.csv``."""
    mean, missing = effects.completers, effects.n_missing
    text = interval_text(mean, effects.scale, effects.alpha)
    lost = f"missing: {missing} of {mean.n + missing} enrolled"
    lines = [Line("completers", mean, missing, effects.scale, f"{text}, {p_text(mean.p)}; {lost}")]
    point = tipping_point(effects)
    at = Mean(mean.n, point.missing_effect, reason=point.reason)
    lines.append(Line("tipping point", at, missing, effects.scale, tipping_text(point, effects)))
    return [*lines, *bounds(effects)]


def tipping_text(point: TippingPoint, effects: Effects) -> str:
    """The tipping point in words."""
    if point.reason:
        return f"no tipping point: {point.reason}"
    scale = effects.scale
    at, own = (number(shown(v, scale)) for v in (point.missing_effect, effects.completers.estimate))
    change = "no longer exclude" if point.significant else "exclude"
    word = "a ratio" if scale == "log" else "a difference"
    average_ = " on average" if effects.n_missing > 1 else ""
    apart = (
        f"{number(shown(point.delta, scale))} times that of the completers"
        if scale == "log"
        else f"{number(point.delta)} from that of the completers"
    )
    return (
        f"the interval would {change} no effect if "
        f"{_missing_pairs(effects.n_missing)} had {word} of {at}{average_}, {apart} ({own})"
    )


def _missing_pairs(n: int) -> str:
    return "the missing pair" if n == 1 else f"the {n} missing pairs"


def _excludes_none(mean: Mean) -> bool:
    return mean.has_interval and (mean.low > 0 or mean.high < 0)
