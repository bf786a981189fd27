"""Nuclei of the dermis beside epithelium, told by what they look like.

A fibroblast against the junction adds to epithelium whatever is found by how close nuclei lie. What
tells it from a keratinocyte differs between sections, ages and exposures, so every slide teaches
itself: nuclei among as many others as in epithelium, and such as lie alone, say how each kind
looks. Every other is held to be what its own looks, its neighbours and their number make likely
(the mean field of an Ising model). Where the two kinds look alike nobody is told apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_AROUND_UM = 25.0
_USUAL = 0.9  # quantile of how many lie around a nucleus: so many do in epithelium
_CROWDED, _ALONE = 0.7, 0.35  # of them around a nucleus that teaches
_FREE_UM = 40.0  # from glass: bits of keratin lie alone, and pass for nuclei
_LEAST_TAUGHT = 40  # nuclei of each kind; fewer do not tell how it looks
_ALIKE = 15  # so many others of a kind, the most alike, tell how usual such looks are in it
_MOST_ODDS = 4.0  # that the looks of one nucleus add
# Of nuclei that teach, both kinds alike: the share that their own looks tell. It is 0.83 to 0.94 on
# drawn skin, 0.70 on textures of one real slide, where looks said nothing.
_LEAST_TOLD = 0.78
_PRIOR, _PER_USUAL = 3.5, -4.0  # log odds of a lone nucleus; less among as many as is usual
_NEIGHBOURS, _REACH_UM, _PULL = 8, 18.0, 0.8  # odds that a neighbour surely of one kind adds
_WITNESSES = 2  # nuclei of the dermis that must lie nearer than the surface; one may be keratin
# Share of epithelium that is uppermost, and how far from glass it lies below a thin corneum. What
# lies above it beyond that is thick corneum.
_UPPERMOST, _THIN_UM = 0.1, 45.0
_ROUNDS, _STEP = 30, 0.5
_SURE = 0.97  # of 1: the belief that is beyond doubt


def tell_by_looks(nuclei: pd.DataFrame, free_um: Floats) -> tuple[Mask, Mask]:
    """Which nuclei beside epithelium are those of the dermis, and which surely are not.

    Parameters
    ----------
    nuclei
        Columns ``y_um, x_um, area_um2, eccentricity, hematoxylin_od_mean`` (of the nuclear stain,
        above what is between nuclei). All that may be in epithelium and those around them, but for
        heaps of lymphocytes.
    free_um
        (n,): how far each lies from glass. The flat nuclei of the upper epidermis look as
        fibroblasts do; what is nearer to the surface than to dermis is none.

    Returns
    -------
    dermal
        bool (n,). Those that lie alone are not among them: a dermis that is empty would teach what
        it is not.
    epithelial
        bool (n,): surely so by their looks, their neighbours and how many there are.
    """
    nobody = np.zeros(len(nuclei), np.bool_), np.zeros(len(nuclei), np.bool_)
    if len(nuclei) <= _NEIGHBOURS:
        return nobody
    places_um = nuclei[["y_um", "x_um"]].to_numpy(np.float64)
    tree = cKDTree(places_um)
    near = np.asarray(tree.query_ball_point(places_um, _AROUND_UM, return_length=True), np.float64)
    around = (near - 1) / max(float(np.quantile(near - 1, _USUAL)), 1.0)
    epithelial = np.asarray(around >= _CROWDED)
    if np.count_nonzero(epithelial) < _LEAST_TAUGHT or not np.isfinite(free_um).all():
        return nobody  # without any glass nothing tells which side is up
    above_um = float(np.quantile(free_um[epithelial], _UPPERMOST)) - _THIN_UM
    depth_um = free_um - max(above_um, 0.0)
    dermal = np.asarray((around <= _ALONE) & (depth_um > _FREE_UM))
    if np.count_nonzero(dermal) < _LEAST_TAUGHT:
        return nobody
    odds = _log_odds(_looks(nuclei, epithelial), epithelial, dermal)
    told = np.mean(odds[epithelial] < 0) + np.mean(odds[dermal] > 0)
    if told < 2 * _LEAST_TOLD:
        return nobody
    belief = _belief(odds + _PRIOR + _PER_USUAL * around, tree, dermal)
    to_dermis_um = np.asarray(cKDTree(places_um[dermal]).query(places_um, k=_WITNESSES)[0])[:, -1]
    strange = (belief > 0) & ~dermal & (to_dermis_um <= depth_um)
    return np.asarray(strange), np.asarray(belief < -_SURE)


def _looks(nuclei: pd.DataFrame, epithelial: Mask) -> Floats:
    """Size, light and length (n, 3), in standard deviations of those in epithelium."""
    area, light, eccentricity = (
        nuclei[c].to_numpy(np.float64) for c in ("area_um2", "hematoxylin_od_mean", "eccentricity")
    )
    length = -np.log(np.maximum(1 - eccentricity**2, 1e-3)) / 2  # over width
    looks = np.stack([np.log(np.maximum(area, 1e-3)), np.log(np.maximum(light, 1e-3)), length], 1)
    spread = np.maximum(looks[epithelial].std(axis=0), 1e-3)
    return np.asarray((looks - looks[epithelial].mean(axis=0)) / spread)


def _log_odds(looks: Floats, epithelial: Mask, dermal: Mask) -> Floats:
    """By its own looks: how much likelier each nucleus is of the dermis.

    Density by the distance to the k-th most alike of each kind; none is compared with itself.
    """

    def sparseness(kind: Mask) -> Floats:
        away = np.asarray(cKDTree(looks[kind]).query(looks, k=_ALIKE + 1)[0])
        own = np.where(kind, away[:, _ALIKE], away[:, _ALIKE - 1])
        return np.asarray(looks.shape[1] * np.log(np.maximum(own, 1e-6)) + np.log(kind.sum()))

    odds = sparseness(epithelial) - sparseness(dermal)
    return np.asarray(np.clip(odds, -_MOST_ODDS, _MOST_ODDS))


def _belief(odds: Floats, tree: cKDTree, dermal: Mask) -> Floats:
    """From -1, epithelial, to 1: by its own odds and its neighbours, of which some are known."""
    away, others = map(
        np.asarray,
        tree.query(tree.data, k=_NEIGHBOURS + 1, distance_upper_bound=_REACH_UM),
    )
    there = np.isfinite(away[:, 1:])
    beside = np.where(there, others[:, 1:], 0)
    belief = np.tanh(odds / 2)
    for _ in range(_ROUNDS):
        belief[dermal] = 1
        pull = _PULL * (belief[beside] * there).sum(axis=1)
        belief += _STEP * (np.tanh((odds + pull) / 2) - belief)
    return np.asarray(belief)
