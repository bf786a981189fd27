"""Agreement of two readers, or of a reader and the program.

Cohen's kappa for classes, the intraclass correlation for values of a set of readers, and
limits of agreement for two of them in the unit they read in. A correlation is none of these:
readers may correlate perfectly and never agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoquant.errors import StudyError
from histoquant.study.means import NAN, Floats

Weights = Literal["linear", "quadratic"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its limits; NaN, with a reason, where they cannot be had."""

    estimate: float = NAN
    low: float = NAN
    high: float = NAN
    n: int = 0
    reason: str = ""


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement of two methods, each with its interval.

    Attributes
    ----------
    n, sd
        Pairs, and the standard deviation of their differences (first minus second).
    bias, lower, upper
        Mean difference and the limits within which 95 % of differences lie.
    """

    n: int
    sd: float
    bias: Interval
    lower: Interval
    upper: Interval


def cohens_kappa(
    first: Sequence[object],
    second: Sequence[object],
    categories: Sequence[object] = (),
    weights: Weights | None = None,
) -> Interval:
    """Cohen's kappa of two raters with its large-sample 95 % interval.

    Parameters
    ----------
    first, second
        (n,) class of each item; an item with None or NaN from either rater is left out.
    categories
        All classes in their order, which weights need; sorted from the data when empty.
    weights
        None for classes without order; ``linear`` or ``quadratic`` in the distance between
        ordered classes (Cohen 1968).

    Raises
    ------
    StudyError
        When the raters judged different numbers of items, or a class is not in `categories`.
    """
    from statsmodels.stats.inter_rater import cohens_kappa as kappa_of

    table = confusion(first, second, categories)
    n = int(table.sum())
    if n == 0:
        return Interval(reason="no item was judged by both")
    if _expected_certain(table):
        return Interval(n=n, reason="both raters used one and the same class throughout")
    with np.errstate(invalid="ignore"):  # a variance of 0 may come out a rounding below it
        found = kappa_of(table, wt=weights)
    low, high = float(found.kappa_low), float(found.kappa_upp)
    if not found.std_kappa > 0:
        never = "the raters never differ in this sample"
        constant = "one rater used one class throughout"
        why = f"{never if found.kappa == 1 else constant}: no spread to take an interval from"
        return Interval(float(found.kappa), n=n, reason=why)
    return Interval(float(found.kappa), max(low, -1.0), min(high, 1.0), n)


def confusion(
    first: Sequence[object], second: Sequence[object], categories: Sequence[object] = ()
) -> npt.NDArray[np.int64]:
    """(k, k) how often the raters chose each pair of classes, `first` along the rows.

    Raises
    ------
    StudyError
        As `cohens_kappa`.
    """
    if len(first) != len(second):
        raise StudyError(f"{len(first)} and {len(second)} judgements: both must judge each item")
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if not (_gone(a) or _gone(b))]
    used = {value for pair in pairs for value in pair}
    names = list(categories) or sorted(used)  # type: ignore[type-var]
    unknown = [value for value in used if value not in names]
    if unknown:
        raise StudyError(f"classes {unknown} are not among {names}")
    place = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names)), np.int64)
    for a, b in pairs:
        table[place[a], place[b]] += 1
    return table


def icc21(ratings: npt.ArrayLike, alpha: float = 0.05) -> Interval:
    """ICC(2,1): absolute agreement of single readings, readers taken as a random sample.

    Shrout and Fleiss (1979), two-way random effects; the interval is theirs as given by
    McGraw and Wong (1996) for ICC(A,1).

    Parameters
    ----------
    ratings
        (n, k) float, n samples read by k readers; samples that someone did not read are left
        out.
    alpha
        One less the confidence.
    """
    table = np.asarray(ratings, np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise StudyError(f"ratings are samples by readers, two at least; found {table.shape}")
    table = table[np.isfinite(table).all(axis=1)]
    n, k = table.shape
    if n < 2:
        return Interval(n=n, reason="fewer than two samples were read by everyone")
    rows, columns, rest = mean_squares(table)
    spread = rows + (k - 1) * rest + k * (columns - rest) / n
    if not spread > 1e-20 * float(np.square(table).mean()):
        return Interval(n=n, reason="all readings are the same: there is nothing to tell apart")
    value = (rows - rest) / spread
    if not rest > 1e-20 * rows:
        why = "the readers differ by a constant at most: no spread to take an interval from"
        return Interval(value, n=n, reason=why)
    return Interval(value, *_icc_limits(value, (rows, columns, rest), (n, k), alpha), n=n)


def mean_squares(ratings: Floats) -> tuple[float, float, float]:
    """Mean squares between samples, between readers, and of the rest, of (n, k) ratings."""
    n, k = ratings.shape
    middle = ratings.mean()
    by_row, by_column = ratings.mean(axis=1), ratings.mean(axis=0)
    rest = ratings - by_row[:, None] - by_column[None, :] + middle
    return (
        float(k * np.square(by_row - middle).sum() / (n - 1)),
        float(n * np.square(by_column - middle).sum() / (k - 1)),
        float(np.square(rest).sum() / ((n - 1) * (k - 1))),
    )


def bland_altman(
    first: npt.ArrayLike, second: npt.ArrayLike, alpha: float = 0.05, multiple: float = 1.96
) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman 1986).

    Parameters
    ----------
    first, second
        (n,) the two methods' values, in the same unit and order; a pair with a value that is
        not finite is left out.
    alpha
        One less the confidence of the intervals; the standard error of a limit is
        sqrt(3 sd^2 / n), as published.
    multiple
        Standard deviations from the bias to a limit.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (first, second))
    if a.size != b.size:
        raise StudyError(f"{a.size} and {b.size} values: both methods must measure each sample")
    difference = (a - b)[np.isfinite(a) & np.isfinite(b)]
    n = difference.size
    if n == 0:
        none = Interval(reason="no sample was measured by both")
        return BlandAltman(0, NAN, none, none, none)
    mean = float(difference.mean())
    if n == 1:
        why = "one sample has no spread to take limits from"
        return BlandAltman(
            1, NAN, Interval(mean, n=1, reason=why), *[Interval(n=1, reason=why)] * 2
        )
    sd = float(difference.std(ddof=1))
    t = float(stats.t.isf(alpha / 2, n - 1))
    half, far = t * sd / math.sqrt(n), t * sd * math.sqrt(3 / n)
    ends = (mean - multiple * sd, mean + multiple * sd)
    lower, upper = (Interval(end, end - far, end + far, n) for end in ends)
    return BlandAltman(n, sd, Interval(mean, mean - half, mean + half, n), lower, upper)


def _icc_limits(
    value: float, squares: tuple[float, float, float], shape: tuple[int, int], alpha: float
) -> tuple[float, float]:
    rows, columns, rest = squares
    n, k = shape
    a = k * value / (n * (1 - value))
    b = 1 + k * value * (n - 1) / (n * (1 - value))
    df = (a * columns + b * rest) ** 2 / (
        (a * columns) ** 2 / (k - 1) + (b * rest) ** 2 / ((n - 1) * (k - 1))
    )
    over = k * columns + (k * n - k - n) * rest
    f_low = float(stats.f.isf(alpha / 2, n - 1, df))
    f_high = float(stats.f.isf(alpha / 2, df, n - 1))
    low = n * (rows - f_low * rest) / (f_low * over + n * rows)
    high = n * (f_high * rows - rest) / (over + n * f_high * rows)
    return low, high


def _expected_certain(table: npt.NDArray[np.int64]) -> bool:
    """Whether chance alone would agree every time, so that kappa has no meaning."""
    n = table.sum()
    return bool((table.sum(axis=0) * table.sum(axis=1)).sum() == n * n)


def _gone(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
