"""Exact tests of paired differences, and the interval that belongs to the signed-rank test.

All of them condition on the sizes of the differences: without an effect each sign is a coin
toss, because chance chose which site was treated. Nothing is assumed of the distribution.

Zeros follow Pratt (1959): they are ranked with the others and then have no sign to toss, so a
pair without a difference weakens the evidence and is not simply dropped. Ties get their mean
rank, and the distribution is that of the ranks as they are (Streitberg and Roehmel 1986),
not of 1, ..., n; there is no normal approximation below `LARGEST_EXACT` pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoquant.study.means import NAN, Floats, all_equal, counted, finite, middle, unit_of

Zeros = Literal["pratt", "wilcox"]

LARGEST_EXACT = 500
"""Pairs up to which the signed-rank distribution is enumerated."""
LARGEST_FLIPPED = 20
"""Pairs with a difference up to which all sign flips are made."""
_SAME = 1e-9
"""Relative difference that is rounding: tables keep ten significant digits."""
_CHUNK = 10_000


@dataclass(frozen=True)
class Test:
    """A two-sided test.

    Attributes
    ----------
    n, n_zero
        Pairs, and those of them without a difference.
    p
        Two-sided P; NaN without a pair.
    statistic
        Sum of the positive ranks (signed-rank), or mean difference (sign-flip).
    floor
        Least P that the test can give with the pairs that differ: 2 / 2^n.
    exact
        Whether P is exact.
    p_se
        Monte Carlo standard error of P; 0 when exact, NaN without a pair.
    method
        How P was had, in words; why there is none without a pair.
    """

    n: int
    n_zero: int = 0
    p: float = NAN
    statistic: float = NAN
    floor: float = NAN
    exact: bool = True
    p_se: float = NAN
    method: str = ""


@dataclass(frozen=True)
class Shift:
    """Hodges-Lehmann estimate of the difference, and the interval of the signed-rank test.

    Attributes
    ----------
    estimate, low, high
        In the unit of the differences; NaN where they cannot be had.
    coverage
        Confidence that the interval has; at least what was asked for, the ranks are discrete.
    reason
        Why there is no interval; empty where there is one.
    """

    n: int
    estimate: float = NAN
    low: float = NAN
    high: float = NAN
    coverage: float = NAN
    reason: str = ""


def floor_of(n: int) -> float:
    """Least two-sided P an exact test of `n` pairs can give: 2 / 2^n, and 1 for none."""
    return min(1.0, 2.0 ** (1 - n))


def signed_rank(differences: npt.ArrayLike, zeros: Zeros = "pratt") -> Test:
    """Wilcoxon's signed-rank test, two-sided, exact with ties and zeros.

    Parameters
    ----------
    differences
        (n,) treated minus placebo, one per person; values that are not finite are missing.
    zeros
        ``pratt``: ranked, then without a sign. ``wilcox``: left out before ranking.

    Notes
    -----
    P is twice the smaller tail, at most 1; the distribution is symmetric. It is had by
    convolution over doubled ranks, which are integers with ties too.
    """
    x = finite(differences)
    if not x.size:
        return Test(0, method="no pair")
    ranked = x if zeros == "pratt" else x[x != 0]
    doubled = doubled_ranks(np.abs(ranked))[ranked != 0]
    signs = ranked[ranked != 0] > 0
    w = int(doubled[signs].sum())
    n_zero = int((x == 0).sum())
    floor = floor_of(doubled.size)
    if doubled.size > LARGEST_EXACT:
        p = _normal_p(w, doubled)
        return Test(x.size, n_zero, p, w / 2, floor, False, 0.0, "normal approximation")
    p = _tail_p(w, doubled)
    return Test(x.size, n_zero, p, w / 2, floor, True, 0.0, "exact")


def doubled_ranks(sizes: Floats) -> npt.NDArray[np.int64]:
    """(n,) twice the mean rank of each size, smallest 1: integers, with ties too.

    Sizes that differ by rounding only, relative to their own size, are tied.
    """
    order = np.argsort(sizes, kind="stable")
    rising = sizes[order]
    group = np.concatenate([[0], np.cumsum(np.diff(rising) > _SAME * rising[1:])])
    _, counts = np.unique(group[: sizes.size], return_counts=True)
    last = np.cumsum(counts)
    ranks = np.empty(sizes.size, np.int64)
    ranks[order] = np.repeat(2 * last - counts + 1, counts)
    return ranks


def subset_sums(weights: Sequence[int]) -> Floats:
    """(sum + 1,) probability of each sum of the `weights` whose coin shows heads."""
    chance = np.zeros(int(sum(weights)) + 1)
    chance[0] = 1.0
    reach = 0
    for weight in map(int, weights):
        moved = chance[: reach + 1].copy()
        chance[weight : weight + reach + 1] += moved
        chance /= 2
        reach += weight
    return chance


def sign_flip(differences: npt.ArrayLike, seed: int = 0, draws: int = 100_000) -> Test:
    """Permutation test of the mean difference: all sign flips, or a seeded sample of them.

    Parameters
    ----------
    differences
        (n,) treated against placebo, one per person, on the scale of the comparison.
    seed, draws
        For more than `LARGEST_FLIPPED` pairs that differ. The observed signs count as one
        of the draws, so P is valid and never 0 (Phipson and Smyth 2010).
    """
    x = finite(differences)
    if not x.size:
        return Test(0, method="no pair")
    unit = unit_of(x)
    x = x / unit
    sizes = np.abs(x[x != 0])
    n_zero, mean, floor = x.size - sizes.size, float(x.mean()) * unit, floor_of(sizes.size)
    least = abs(float(x.sum())) - _SAME * float(sizes.sum())
    if sizes.size <= LARGEST_FLIPPED:
        p = float(np.mean(np.abs(_all_flips(sizes)) >= least))
        return Test(x.size, n_zero, p, mean, floor, True, 0.0, "exact")
    rng = np.random.default_rng(seed)
    hits = sum(int((np.abs(_some_flips(sizes, n, rng)) >= least).sum()) for n in _chunks(draws))
    p = (hits + 1) / (draws + 1)
    error = math.sqrt(p * (1 - p) / draws)
    words = f"Monte Carlo, {draws} sign flips, seed {seed}"
    return Test(x.size, n_zero, p, mean, floor, False, error, words)


def hodges_lehmann(differences: npt.ArrayLike, alpha: float = 0.05) -> Shift:
    """Median of the Walsh averages with the interval of the exact signed-rank test.

    The interval holds the shifts that the test of untied ranks does not reject; with ties and
    zeros it covers at least as much (Hollander, Wolfe and Chicken 2014, section 3.3).

    Parameters
    ----------
    differences
        (n,) treated minus placebo, one per person; values that are not finite are missing.
    alpha
        One less the confidence.
    """
    x = finite(differences)
    if not x.size:
        return Shift(0, reason="no pair was measured")
    i, j = np.triu_indices(x.size)
    walsh = np.sort(x[i] / 2 + x[j] / 2)
    estimate = middle(walsh)
    k, coverage = _depth(x.size, alpha)
    if k == 0:
        most = 100 * (1 - floor_of(x.size))
        found = counted(x.size, "pair allows", "pairs allow")
        why = f"{found} an exact interval of {most:.4g} % at most"
        return Shift(x.size, estimate, reason=why)
    if all_equal(x):
        why = f"all {x.size} differences are the same: an interval of no width would claim too much"
        return Shift(x.size, estimate, reason=why)
    return Shift(x.size, estimate, float(walsh[k - 1]), float(walsh[-k]), coverage)


@lru_cache(maxsize=256)
def _depth(n: int, alpha: float) -> tuple[int, float]:
    """How many Walsh averages each limit lies in, and the confidence; 0 where none fits."""
    if n > LARGEST_EXACT:
        centre, spread = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(1, math.floor(centre - float(stats.norm.isf(alpha / 2)) * spread)), 1 - alpha
    tail = np.cumsum(subset_sums(range(1, n + 1)))
    k = int(np.searchsorted(tail, alpha / 2 * (1 + 1e-12), side="right"))
    return k, 1 - 2 * float(tail[k - 1]) if k else NAN


def _tail_p(w: int, doubled: npt.NDArray[np.int64]) -> float:
    chance = subset_sums(doubled.tolist())
    smaller = min(w, chance.size - 1 - w)
    return min(1.0, 2 * float(chance[: smaller + 1].sum()))


def _normal_p(w: int, doubled: npt.NDArray[np.int64]) -> float:
    squares = float((doubled.astype(np.float64) ** 2).sum())
    z = abs(w - doubled.sum() / 2) / (math.sqrt(squares) / 2)
    return float(2 * stats.norm.sf(z))


def _all_flips(sizes: Floats) -> Floats:
    """Sums over all choices of signs."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def _some_flips(sizes: Floats, draws: int, rng: np.random.Generator) -> Floats:
    heads = rng.integers(0, 2, (draws, sizes.size), np.int8)
    return np.asarray((2 * heads - 1) @ sizes, np.float64)


def _chunks(total: int) -> list[int]:
    """`total` in parts, so that memory stays small."""
    return [min(_CHUNK, total - start) for start in range(0, total, _CHUNK)]
