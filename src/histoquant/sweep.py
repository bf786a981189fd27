"""The threshold sweep: the same figures at every cut-off, so that none hangs on one number.

A nucleus is positive at a cut-off when its mean DAB OD reaches it and it is not in haze
(`positivity.in_haze`, which does not depend on the cut-off). One that a reviewer called positive
or negative is that at every cut-off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from histoquant import rates
from histoquant.columns import SAMPLE_SWEEP, SWEEP
from histoquant.positivity import deciding_od
from histoquant.settings import P16Settings

Row = dict[str, Any]
_KEYS = ("person", "site", "visit", "marker", "control")


def threshold_sweep(nuclei: pd.DataFrame, settings: P16Settings) -> pd.DataFrame:
    """Percent positive at every cut-off of `settings.sweep_od`, overall and by compartment.

    Columns: those of `columns.SWEEP`: ``threshold_od, compartment`` (``all`` or a compartment's
    name), ``n_nuclei, n_positive, positive_percent, positive_percent_low,
    positive_percent_high``. Excluded nuclei are left out. No rows when the slide has no marker.
    """
    counted = nuclei[~nuclei["excluded"].astype(bool)]
    dab = deciding_od(counted, settings)
    counted, dab = counted[~np.isnan(dab)], dab[~np.isnan(dab)]
    where = {"all": np.ones(len(counted), np.bool_)}
    for name in sorted(set(counted["compartment"])):
        where[str(name)] = (counted["compartment"] == name).to_numpy(dtype=np.bool_)
    rows = [
        _row(threshold, name, int((group & (dab >= threshold)).sum()), int(group.sum()))
        for threshold in (settings.sweep_od if len(counted) else ())
        for name, group in where.items()
    ]
    return pd.DataFrame(rows, columns=[c.name for c in SWEEP])


def pool_sweeps(
    sections: Iterable[tuple[Mapping[str, str], Sequence[Mapping[str, Any]]]],
) -> pd.DataFrame:
    """Sum the sweeps of the sections of every sample: the table of ``sweep.csv``.

    Parameters
    ----------
    sections
        For each slide the sample it belongs to (``person, site, visit, marker, control,
        slide_id``) and the rows of its sweep. Without a person a slide is its own sample.

    Returns
    -------
    Columns of `columns.SAMPLE_SWEEP`, by sample, threshold and compartment. A threshold that
    not all sections were swept at is left out: sums over some of them would not compare.
    """
    rows: list[Row] = []
    ordered = sorted(sections, key=lambda item: (_sample(item[0]), item[0]["slide_id"]))
    for sample, group in groupby(ordered, key=lambda item: _sample(item[0])):
        sweeps = [sweep for _, sweep in group if sweep]
        shared = [{float(r["threshold_od"]) for r in sweep} for sweep in sweeps]
        named = dict(zip(_KEYS, sample[:-1], strict=True)) | {"n_sections": len(sweeps)}
        for threshold in sorted(set.intersection(*shared)) if shared else ():
            here = [r for sweep in sweeps for r in sweep if float(r["threshold_od"]) == threshold]
            names = {str(r["compartment"]) for r in here}
            for name in sorted(names, key=lambda n: (n != "all", n)):
                own = [r for r in here if r["compartment"] == name]
                top, bottom = (sum(int(r[c]) for r in own) for c in ("n_positive", "n_nuclei"))
                rows.append(named | _row(threshold, name, top, bottom))
    return pd.DataFrame(rows, columns=[c.name for c in SAMPLE_SWEEP])


def _sample(about: Mapping[str, str]) -> tuple[str, ...]:
    keys = tuple(about.get(name, "") for name in _KEYS)
    return (*keys, "" if about.get("person") else about["slide_id"])


def _row(threshold: float, compartment: str, count: int, total: int) -> Row:
    rate = rates.percent(count, total)
    return {
        "threshold_od": threshold,
        "compartment": compartment,
        "n_nuclei": total,
        "n_positive": count,
        "positive_percent": rate.value,
        "positive_percent_low": rate.low,
        "positive_percent_high": rate.high,
    }
