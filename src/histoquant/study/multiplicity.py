"""Many outcomes, one study: which P is corrected for which others.

One primary outcome is one question, asked first, so its P stands as it is; several primary
outcomes share the level by Holm's method. Secondary outcomes are corrected by Holm (1979)
among themselves, exploratory ones by Benjamini and Hochberg (1995) among themselves. A P that
is missing takes no part: a comparison that could not be made is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from histoquant.study.means import NAN, Floats
from histoquant.study.outcomes import Role

Method = Literal["holm", "fdr_bh"]


@dataclass(frozen=True)
class Corrected:
    """Corrected P values of one outcome; NaN where the method is not for its role."""

    p_holm: float = NAN
    p_bh: float = NAN


def correct_p(p: npt.ArrayLike, method: Method) -> Floats:
    """(n,) corrected P values; missing ones stay NaN and do not count.

    Parameters
    ----------
    p
        (n,) P values of one family.
    method
        ``holm``, or ``fdr_bh`` for Benjamini-Hochberg.
    """
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, np.float64).ravel()
    out = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    if known.any():
        out[known] = multipletests(values[known], method=method)[1]
    return out


def correct_by_role(roles: Sequence[Role], p: npt.ArrayLike) -> list[Corrected]:
    """Corrected P values of all outcomes of a study, in their order.

    Parameters
    ----------
    roles, p
        (n,) role and P of each outcome.
    """
    values = np.asarray(p, np.float64).ravel()
    out = [Corrected()] * values.size
    methods: Mapping[Role, Method] = {
        "primary": "holm",
        "secondary": "holm",
        "exploratory": "fdr_bh",
    }
    for role, method in methods.items():
        own = [i for i, r in enumerate(roles) if r == role]
        for i, value in zip(own, correct_p(values[own], method), strict=True):
            number = float(value)
            out[i] = Corrected(p_bh=number) if method == "fdr_bh" else Corrected(p_holm=number)
    return out
