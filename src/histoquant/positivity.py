"""Which nuclei are positive, which of them may not be, and where positives run together.

Positive is a nucleus whose mean DAB OD reaches the threshold and stands out from the cytoplasm
around it: a nucleus under brown haze is as brown as what surrounds it. Strong nuclei need not
stand out, since p16 stains nucleus and cytoplasm.

Melanin lies in the plane of hematoxylin and DAB (about 0.34 H + 0.71 DAB), so colour alone
cannot tell it. What is suspected is coarse and clumped within the nucleus' outline, redder for its
blue than DAB is, and near the junction. Suspicion changes no count: every figure is given with
the suspects, and once without.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from histoquant.junction import Junction
from histoquant.settings import P16Settings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

BASAL, SUPRABASAL = "epidermis_basal", "epidermis_suprabasal"

# The cues of pigment, each from nothing to certain; taken on phantoms, where caps of melanin have
# a variation of 0.42-0.62 and a ratio of 0.99-1.11 (quartiles), positive basal nuclei 0.21-0.28
# and 0.75-0.89.
_GRANULAR = (0.25, 0.45)  # standard deviation / mean of the DAB OD within the nucleus
_REDNESS = (0.85, 1.00)  # red OD / blue OD
_FADE_UM = (12.0, 42.0)  # above the junction, where the cue of position falls to a half
_SUSPECT = 0.5


def grade(table: pd.DataFrame, settings: P16Settings, has_marker: bool) -> pd.DataFrame:
    """Add positivity, class, haze and suspected pigment to a table of nuclei.

    Parameters
    ----------
    table
        Columns ``dab_od_mean, dab_od_sd, ring_dab_od_mean, red_blue_ratio, compartment,
        dej_distance_um``. A column ``reviewed_class`` (0-3, -1 for none) is a reviewer's word,
        which holds against colour and haze.
    settings
        Thresholds, and the rule on haze.
    has_marker
        False when the second stain is no marker: nothing is positive or negative then.

    Returns
    -------
    `table` with ``positive`` (bool), ``intensity_class`` (0-3, 0 when not positive),
    ``haze_suspected`` (bool), ``pigment_score`` (0-1, NaN without colours) and
    ``pigment_suspected`` (bool, False where there is no score).
    """
    if not has_marker:
        return table.assign(
            positive=pd.array([pd.NA] * len(table), dtype="boolean"),
            intensity_class=pd.array([pd.NA] * len(table), dtype="Int64"),
            haze_suspected=False,
            pigment_score=np.nan,
            pigment_suspected=False,
        )
    haze = in_haze(table, settings)
    dab = table["dab_od_mean"].to_numpy(dtype=np.float64)
    classes = np.searchsorted(np.asarray(settings.thresholds_od), dab, side="right")
    classes = np.where(haze, 0, classes).astype(np.int64)
    reviewed = reviewed_class(table)
    classes, haze = np.where(reviewed >= 0, reviewed, classes), haze & (reviewed < 0)
    score = pigment_score(table)
    return table.assign(
        positive=classes > 0,
        intensity_class=classes,
        haze_suspected=haze & (dab >= settings.thresholds_od[0]),
        pigment_score=score,
        pigment_suspected=(classes > 0) & (score >= _SUSPECT),
    )


def in_haze(table: pd.DataFrame, settings: P16Settings) -> Bools:
    """Whether each nucleus hardly stands out from its cytoplasm ring, whatever the threshold.

    A nucleus without a ring (none of its surroundings is free) stands out: nothing says otherwise.
    """
    dab = table["dab_od_mean"].to_numpy(dtype=np.float64)
    ring = table["ring_dab_od_mean"].to_numpy(dtype=np.float64)
    return np.asarray((dab - ring < settings.min_over_ring_od) & (dab < settings.haze_below_od))


def reviewed_class(table: pd.DataFrame) -> NDArray[np.int64]:
    """Class that a reviewer gave each nucleus, -1 where none did."""
    if "reviewed_class" not in table:
        return np.full(len(table), -1, np.int64)
    return table["reviewed_class"].to_numpy(dtype=np.int64)


def deciding_od(table: pd.DataFrame, settings: P16Settings) -> Floats:
    """The DAB OD that is compared with a threshold, whatever the threshold.

    -inf for a nucleus in haze or called negative by a reviewer, inf for one called positive.
    """
    dab = table["dab_od_mean"].to_numpy(dtype=np.float64)
    reviewed = reviewed_class(table)
    dab = np.where(in_haze(table, settings), -np.inf, dab)
    return np.asarray(np.select([reviewed > 0, reviewed == 0], [np.inf, -np.inf], dab))


def pigment_score(table: pd.DataFrame) -> Floats:
    """Strength of the cues for melanin, 0-1: texture and colour together, weighed by position.

    NaN throughout where no nucleus has a colour: fluorescence.
    """
    if table["red_blue_ratio"].isna().all():
        return np.full(len(table), np.nan)
    mean = np.maximum(table["dab_od_mean"].to_numpy(dtype=np.float64), 1e-6)
    granular = _rise(table["dab_od_sd"].to_numpy(dtype=np.float64) / mean, _GRANULAR)
    colour = _rise(table["red_blue_ratio"].to_numpy(dtype=np.float64), _REDNESS)
    return np.asarray(np.sqrt(granular * colour) * _near_junction(table), dtype=np.float64)


def block_runs(table: pd.DataFrame, junction: Junction, settings: P16Settings) -> tuple[Bools, int]:
    """Find runs of positive basal nuclei: block-positive stretches of the junction.

    Parameters
    ----------
    table
        Graded nuclei in um; excluded ones neither count nor interrupt.
    junction
        Basal nuclei are ordered along it.
    settings
        Least length of a run, and the gap that ends one.

    Returns
    -------
    Which nuclei (rows of `table`) belong to a run, and how many runs there are.
    """
    flagged = np.zeros(len(table), np.bool_)
    basal = (table["compartment"] == BASAL) & ~table["excluded"].astype(bool)
    rows = np.flatnonzero(basal.to_numpy(dtype=np.bool_))
    if not len(rows) or not junction.stretches:
        return flagged, 0
    points = table[["y_um", "x_um"]].to_numpy(dtype=np.float64)[rows]
    stretch, arc = _along(points, junction)
    order = np.lexsort((arc, stretch))
    rows, stretch, arc = rows[order], stretch[order], arc[order]
    positive = table["positive"].to_numpy(dtype=np.bool_)[rows]
    parted = (np.diff(stretch) != 0) | (np.diff(arc) > settings.block_gap_um)
    new = np.concatenate([[True], parted | (np.diff(positive.astype(np.int8)) != 0)])
    run = np.cumsum(new) - 1
    long = (np.bincount(run) >= settings.block_run) & positive[np.flatnonzero(new)]
    flagged[rows] = long[run]
    return flagged, int(long.sum())


def _along(points: Floats, junction: Junction) -> tuple[NDArray[np.int64], Floats]:
    """Stretch and arc length of the vertex nearest to each point."""
    vertices = np.concatenate([s.points_um for s in junction.stretches])
    number = np.repeat(
        np.arange(len(junction.stretches)), [len(s.arc_um) for s in junction.stretches]
    )
    nearest = np.asarray(cKDTree(vertices).query(points)[1], np.int64)
    return number[nearest], np.concatenate([s.arc_um for s in junction.stretches])[nearest]


def _near_junction(table: pd.DataFrame) -> Floats:
    """Weight of position: melanin lies in the basal layer, and less and less above it."""
    above = -table["dej_distance_um"].to_numpy(dtype=np.float64)
    compartment = table["compartment"]
    fading = 1 - 0.5 * _rise(above, _FADE_UM)
    weight = np.where(compartment == SUPRABASAL, fading, 0.5)
    return np.asarray(np.where(compartment == BASAL, 1.0, weight), dtype=np.float64)


def _rise(values: Floats, between: tuple[float, float]) -> Floats:
    """0 below the first of `between`, 1 above the second; 0 where missing."""
    low, high = between
    return np.nan_to_num(np.clip((values - low) / (high - low), 0, 1))
