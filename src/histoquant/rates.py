"""Rates with their 95 % limits: percents of nuclei, and nuclei per length or area."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

_Z = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""


class Rate(NamedTuple):
    """A rate and its 95 % limits; all NaN when there was nothing to divide by."""

    value: float
    low: float
    high: float


MISSING = Rate(np.nan, np.nan, np.nan)


def percent(count: int, total: int) -> Rate:
    """Percent `count` of `total`, Wilson score limits (Wilson 1927)."""
    if not 0 <= count <= total:
        raise ValueError(f"a count must lie between 0 and its total, found {count} of {total}")
    if total == 0:
        return MISSING
    p, z2 = count / total, _Z * _Z
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z / (1 + z2 / total) * np.sqrt(p * (1 - p) / total + z2 / (4 * total * total))
    low = 0.0 if count == 0 else float(centre - half)
    high = 1.0 if count == total else float(centre + half)
    return Rate(100 * p, 100 * low, 100 * high)


def per_unit(count: int, exposure: float) -> Rate:
    """`count` per unit of length or area, exact Poisson limits (Garwood 1936).

    Missing for an exposure that is zero, negative or NaN.
    """
    if count < 0:
        raise ValueError(f"a count cannot be negative, found {count}")
    if not exposure > 0:
        return MISSING
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    high = float(chi2.ppf(0.975, 2 * count + 2)) / 2
    return Rate(count / exposure, low / exposure, high / exposure)


def h_score(classes: ArrayLike) -> Rate:
    """H-score 0-300 of intensity classes 0-3: 1 x %1+ plus 2 x %2+ plus 3 x %3+.

    The limits are those of a mean, from the spread between nuclei; missing limits for one.
    """
    values = 100 * np.asarray(classes, dtype=np.float64)
    if values.size == 0:
        return MISSING
    mean = float(values.mean())
    if values.size == 1:
        return Rate(mean, np.nan, np.nan)
    half = _Z * float(values.std(ddof=1)) / np.sqrt(values.size)
    return Rate(mean, max(mean - half, 0.0), min(mean + half, 300.0))
