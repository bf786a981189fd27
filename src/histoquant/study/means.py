"""Means with their t interval, and what to say where there is no interval to give.

The scale of an outcome is ``log`` (values are compared as ratios) or ``linear`` (as
differences). Means are taken on that scale; `shown` turns them into what people read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoquant.errors import StudyError

Floats = npt.NDArray[np.float64]
Scale = Literal["log", "linear"]

NAN = float("nan")
ROUNDING = 1e-9
"""Spread, relative to the largest value, that is rounding: tables keep ten significant digits."""
_LARGEST_LOG = 700.0


@dataclass(frozen=True)
class Mean:
    """A mean, its t interval and the two-sided P against zero.

    Attributes
    ----------
    n
        Values it is the mean of.
    estimate, se, low, high, p
        NaN where they cannot be had.
    df
        Degrees of freedom of the t distribution.
    reason
        Why there is no interval; empty where there is one.
    """

    n: int
    estimate: float = NAN
    se: float = NAN
    low: float = NAN
    high: float = NAN
    p: float = NAN
    df: float = NAN
    reason: str = ""

    @property
    def has_interval(self) -> bool:
        """Whether there are limits."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def times(self, factor: float) -> Mean:
        """The mean of the values times `factor`; a negative one swaps the limits."""
        low, high = sorted((self.low * factor, self.high * factor))
        return Mean(
            self.n, self.estimate * factor, self.se * abs(factor), low, high, self.p, self.df,
            self.reason,
        )  # fmt: skip


def mean_of(values: npt.ArrayLike, alpha: float = 0.05) -> Mean:
    """Mean of `values` with a t interval; values that are not finite count as missing.

    Parameters
    ----------
    values
        (n,) one per person, on the scale of the analysis.
    alpha
        One less the confidence.
    """
    x = finite(values)
    if x.size == 0:
        return Mean(0, reason="no pair was measured")
    estimate = average(x)
    if x.size == 1:
        return Mean(1, estimate, reason="one pair has no spread to take an interval from")
    if all_equal(x):
        why = f"all {x.size} pairs show the same: no spread to take an interval from"
        return Mean(x.size, estimate, reason=why)
    unit = unit_of(x)
    se = float((x / unit).std(ddof=1)) * unit / math.sqrt(x.size)
    return from_t(estimate, se, x.size - 1, x.size, alpha)


def from_t(estimate: float, se: float, df: float, n: int, alpha: float = 0.05) -> Mean:
    """A mean whose estimate over standard error has a t distribution of `df` degrees."""
    half = float(stats.t.isf(alpha / 2, df)) * se
    if not 0 < se < math.inf or not math.isfinite(abs(estimate) + half):
        return Mean(n, estimate, reason="its interval is beyond the range of numbers")
    p = float(2 * stats.t.sf(abs(estimate) / se, df))
    return Mean(n, estimate, se, estimate - half, estimate + half, p, df)


def difference_of_means(first: npt.ArrayLike, second: npt.ArrayLike, alpha: float = 0.05) -> Mean:
    """Mean of `first` less that of `second`, of different people (Welch 1947)."""
    a, b = finite(first), finite(second)
    n = a.size + b.size
    if not a.size or not b.size:
        return Mean(n, reason="one of the groups is empty")
    unit = unit_of(np.concatenate([a, b]))
    a, b = a / unit, b / unit
    estimate = float(a.mean() - b.mean()) * unit
    if min(a.size, b.size) < 2:
        return Mean(n, estimate, reason="a group of one has no spread to take an interval from")
    if all_equal(a) and all_equal(b):
        return Mean(n, estimate, reason="no spread within the groups to take an interval from")
    own = np.array([a.var(ddof=1) / a.size, b.var(ddof=1) / b.size])
    df = float(own.sum() ** 2 / (own[0] ** 2 / (a.size - 1) + own[1] ** 2 / (b.size - 1)))
    return from_t(estimate, float(np.sqrt(own.sum())) * unit, df, n, alpha)


def pair_effects(treated: npt.ArrayLike, placebo: npt.ArrayLike) -> tuple[Floats, Scale, str]:
    """Effect of each complete pair, its scale, and a note where that is not the log scale.

    Log ratios, unless a value is 0 or below: then differences, of all pairs, because leaving
    the zeros out would leave out the strongest effects.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (treated, placebo))
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if (a > 0).all() and (b > 0).all():
        return np.log(a) - np.log(b), "log", ""
    n = int(((a <= 0) | (b <= 0)).sum())
    return (
        difference(a, b),
        "linear",
        f"{counted(n, 'pair has', 'pairs have')} a value of 0 or below: differences, not ratios",
    )


def difference(first: Floats, second: Floats) -> Floats:
    """`first` less `second`, element by element.

    Raises
    ------
    StudyError
        Where it is beyond the range of float64: left out, the largest effects would be lost.
    """
    with np.errstate(over="ignore"):
        out = first - second
    beyond = np.isinf(out) & np.isfinite(first) & np.isfinite(second)
    if beyond.any():
        at = int(np.argmax(beyond))
        raise StudyError(
            f"{first[at]:g} and {second[at]:g} cannot be compared: their difference is beyond the "
            "range of numbers. Look these values up in the marker table"
        )
    return out


def unit_of(values: Floats) -> float:
    """A power of two near the largest of `values`: squares in this unit stay in range.

    Dividing by it changes no digit.
    """
    return math.ldexp(1.0, math.frexp(float(np.abs(values).max(initial=0.0)))[1] - 1)


def average(values: Floats) -> float:
    """Mean of (n,) `values`, whose sum may be beyond the range of float64."""
    unit = unit_of(values)
    return float((values / unit).mean()) * unit


def middle(values: Floats) -> float:
    """Median of (n,) `values`, the two middle ones of which may sum beyond float64; NaN of none."""
    if not values.size:
        return NAN
    unit = unit_of(values)
    return float(np.median(values / unit)) * unit


def finite(values: npt.ArrayLike) -> Floats:
    """The finite ones of `values`, as float64 (n,)."""
    x = np.asarray(values, np.float64).ravel()
    return x[np.isfinite(x)]


def all_equal(values: Floats) -> bool:
    """Whether `values` differ by no more than rounding."""
    x = values / unit_of(values)
    return bool(np.ptp(x) <= ROUNDING * np.abs(x).max()) if values.size else True


def shown(value: float, scale: Scale) -> float:
    """A difference on the scale of the analysis as people read it: a ratio for ``log``."""
    if scale == "linear":
        return value
    return math.inf if value > _LARGEST_LOG else math.exp(value)


def interval_text(mean: Mean, scale: Scale, alpha: float = 0.05) -> str:
    """``0.72 (95 % interval 0.61 to 0.85)``: a ratio on the log scale, else a difference."""
    if math.isnan(mean.estimate):
        return f"not known ({mean.reason})"
    estimate = number(shown(mean.estimate, scale))
    if not mean.has_interval:
        return f"{estimate} ({mean.reason})"
    low, high = (number(shown(v, scale)) for v in (mean.low, mean.high))
    return f"{estimate} ({100 * (1 - alpha):g} % interval {low} to {high})"


def counted(n: int, one: str, many: str = "") -> str:
    """``1 pair``, ``2 pairs``: the plural is `many`, or `one` with an s."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that can be read."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 2 - math.floor(math.log10(abs(value))) if value else 0
        return f"{value:.{max(digits, 0)}f}"
    return f"{value:.2e}"


def p_text(p: float) -> str:
    """``P = 0.0123``, never as zero."""
    if math.isnan(p):
        return "no P"
    return "P < 0.0001" if p < 1e-4 else f"P = {p:.2g}"
