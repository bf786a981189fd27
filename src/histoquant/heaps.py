"""Lymphocytes that lie in heaps, told from epithelium by what their nuclei look like.

In a nuclear stain a heap of lymphocytes against the junction looks like epithelium: nuclei lie as
close. But they are smaller, rounder and brighter than those of keratinocytes. One nucleus tells
little by itself, so each is held to be what its own looks and its neighbours make likely (the
mean field of an Ising model), and a group of them counts when its nuclei together leave no doubt.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from histoquant.tissue import FloatArray, distance_um, pixels_of

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Log odds of a lymphocyte against an epidermal nucleus: a linear discriminant of some 1,100 and
# 2,100 of them on synthetic skin (tests/glow), of log area and log light relative to the slide's
# typical nucleus among close ones, and of eccentricity. No nucleus says more than `_MOST_ODDS`.
_AREA, _LIGHT, _ECCENTRICITY, _OFFSET = -2.1, 4.5, -7.7, 4.4
_MOST_ODDS = 4.0
_PRIOR = -0.25
_CLOSE, _CLOSE_UM = 4, 13.0  # so many others within it: those that may be epithelium or a heap
_LEAST_CLOSE = 40  # fewer do not tell what is typical
_NEIGHBOURS, _REACH_UM, _PULL = 8, 20.0, 0.7  # odds that a neighbour surely of one kind adds
_ROUNDS, _STEP = 30, 0.5
_LINK_UM = 18.0
_LEAST_SUM, _LEAST_MEAN = 25.0, 0.8  # log odds of a group


def in_heaps(nuclei: pd.DataFrame) -> Mask:
    """Which nuclei are those of lymphocytes in a heap, bool (n,).

    Parameters
    ----------
    nuclei
        Columns ``y_um, x_um, area_um2, eccentricity, hematoxylin_od_mean`` (of the nuclear stain).
        All nuclei of the slide that may be in epithelium, and those around them.
    """
    heaped = np.zeros(len(nuclei), np.bool_)
    if len(nuclei) <= _NEIGHBOURS:
        return heaped
    places_um = nuclei[["y_um", "x_um"]].to_numpy(np.float64)
    away, others = map(
        np.asarray,
        cKDTree(places_um).query(places_um, k=_NEIGHBOURS + 1, distance_upper_bound=_REACH_UM),
    )
    close = away[:, _CLOSE] < _CLOSE_UM
    if np.count_nonzero(close) < _LEAST_CLOSE:
        return heaped
    odds = _log_odds(nuclei, close)
    chosen = np.flatnonzero(_likely(odds, others[:, 1:], np.isfinite(away[:, 1:])))
    groups = _groups(places_um[chosen])
    total, size = np.bincount(groups, odds[chosen]), np.bincount(groups)
    sure = (total >= _LEAST_SUM) & (total >= _LEAST_MEAN * size)
    heaped[chosen[sure[groups]]] = True
    return heaped


def without_nuclei(
    nuclear: FloatArray,
    mpp: float,
    places_um: Floats,
    gone: Mask,
    between: float,
    own_um: float,
) -> FloatArray:
    """A picture of the nuclear stain without some of the nuclei.

    Parameters
    ----------
    nuclear
        float32 (h, w), at `mpp` um/px.
    places_um
        Centroids (n, 2) of all nuclei (y, x).
    gone
        Which of them go, bool (n,).
    between
        What the picture is between nuclei of dermis; the most that stays.
    own_um
        How far a nucleus reaches from its centroid, at most; not beyond what is nearer to another.
    """
    if not gone.any():
        return nuclear
    seeds = np.zeros(nuclear.shape, np.bool_)
    seeds[pixels_of(places_um[gone], mpp, nuclear.shape)] = True
    around = np.argwhere(distance_um(seeds, mpp) <= own_um)
    _, nearest = cKDTree(places_um).query((around + 0.5) * mpp)
    own = tuple(around[gone[nearest]].T)
    erased = nuclear.copy()
    erased[own] = np.minimum(erased[own], np.float32(between))
    return erased


def _log_odds(nuclei: pd.DataFrame, close: Mask) -> Floats:
    """By its own looks: how much likelier each nucleus is a lymphocyte's."""

    def relative(column: str) -> Floats:
        values = np.maximum(nuclei[column].to_numpy(np.float64), 1e-6)
        return np.asarray(np.log(values / np.median(values[close])))

    odds = _AREA * relative("area_um2") + _LIGHT * relative("hematoxylin_od_mean")
    odds += _ECCENTRICITY * nuclei["eccentricity"].to_numpy(np.float64) + _OFFSET
    return np.asarray(np.clip(odds, -_MOST_ODDS, _MOST_ODDS))


def _likely(odds: Floats, others: npt.NDArray[np.int64], there: Mask) -> Mask:
    """By its own odds and its neighbours (n, k), those of them that are there."""
    others = np.where(there, others, 0)
    belief = np.tanh((odds + _PRIOR) / 2)
    for _ in range(_ROUNDS):
        pull = _PULL * (belief[others] * there).sum(axis=1)
        belief += _STEP * (np.tanh((odds + _PRIOR + pull) / 2) - belief)
    return np.asarray(belief > 0)


def _groups(places_um: Floats) -> npt.NDArray[np.int64]:
    """Number the groups of places (n, 2) that hang together by steps of `_LINK_UM`."""
    if not len(places_um):
        return np.zeros(0, np.int64)
    pairs = np.asarray(cKDTree(places_um).query_pairs(_LINK_UM, output_type="ndarray"))
    links = coo_matrix((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(places_um),) * 2)
    return np.asarray(connected_components(links, directed=False)[1], np.int64)
