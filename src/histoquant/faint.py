"""How faint a nucleus of the dermis may be: bits of collagen are as compact as nuclei are.

They are paler. Where a slide has many, what was found in its dermis falls into two groups by
density, and the gap between them says what is a nucleus. A slide with few shows no gap; then a
fixed share of the epidermal nuclei's density does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Floats = NDArray[np.float64]

_MIN_EPIDERMAL = 30  # nuclei: fewer do not say how dense nuclei are
_MOST_SHARE = 0.65  # of their density; nuclei of fibroblasts may be as pale
_MIN_PALE, _MIN_PALE_SHARE = 20, 0.1  # objects below a gap, and their share of all
_DEPTH = 0.7  # of the lower of the two peaks: what lies between must be less
_STEP, _BLUR = 0.005, 0.07  # of the logarithm of density
_LOWEST, _STEPS = -3.0, 1000


def least_dermal_od(epidermal_od: Floats, dermal_od: Floats, least_share: float) -> float:
    """The OD below which what was found in the dermis is no nucleus.

    Parameters
    ----------
    epidermal_od
        OD of nuclei (hematoxylin + DAB) in the epidermis, (n,); NaN where a person added one.
    dermal_od
        The same of what was found in the dermis, (m,).
    least_share
        Of the epidermal median: the least that it is, and what it is without a gap.

    Returns
    -------
    OD; 0, for no limit, with fewer than 30 epidermal nuclei or a `least_share` of 0.
    """
    epidermal_od, dermal_od = (od[np.isfinite(od)] for od in (epidermal_od, dermal_od))
    if len(epidermal_od) < _MIN_EPIDERMAL or least_share <= 0:
        return 0.0
    usual = float(np.median(epidermal_od))
    if usual <= 0:
        return 0.0
    return usual * _gap(dermal_od / usual, least_share)


def _gap(shares: Floats, least: float) -> float:
    """Where fewest of the shares lie, between `least` and `_MOST_SHARE`; `least` without a gap."""
    bins = np.floor((np.log(np.maximum(shares, np.exp(_LOWEST))) - _LOWEST) / _STEP)
    counts = np.bincount(np.clip(bins, 0, _STEPS - 1).astype(np.int64), minlength=_STEPS)
    density = gaussian_filter1d(counts.astype(np.float64), _BLUR / _STEP, mode="constant")
    first, last = (round((np.log(s) - _LOWEST) / _STEP) for s in (least, _MOST_SHARE))
    if first >= last:
        return least
    first = max(first, int(np.argmax(density[: last + 1])))
    place = first + int(np.argmin(density[first : last + 1]))
    pale = int(counts[:place].sum())
    peaks = density[: place + 1].max(), density[place:].max()
    if density[place] > _DEPTH * min(peaks):
        return least
    if pale < max(_MIN_PALE, _MIN_PALE_SHARE * len(shares)):
        return least
    return float(np.exp(_LOWEST + _STEP * place))
