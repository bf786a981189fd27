"""Staining batches against each other: whether the stain drifted from run to run.

Control slides are the same tissue stained again with every batch, so what they show differs by
staining alone. A batch is flagged when a stain of its control slides lies further from the
median of the *other* batches than ``max(0.05 OD, 3.5 x 1.4826 x MAD)`` of those: the modified
z-score of Iglewicz & Hoaglin (1993) with 3.5, and a floor for few batches that happen to agree.
Study slides are tabled beside them and never flagged: treatment and people differ there too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histoquant import tables

LEAST_OD = 0.05
"""No batch is flagged for less than this (OD)."""
Z = 3.5
_MAD_TO_SD = 1.4826
RULE = (
    "A batch is flagged when the median of its control slides lies further from the median of "
    f"the other batches than {LEAST_OD:g} OD or {Z:g} robust standard deviations (1.4826 x MAD) "
    "of those, whichever is more."
)

_ONE_BATCH = "one batch: nothing to compare it with"
_NO_STAIN = "no stain was measured here, or in none of the other batches"
_STUDY = "study slides: people and treatment differ too, so they are not judged"
_STAINS = ("marker_od", "hematoxylin_od")


@dataclass(frozen=True)
class Stain:
    """How strongly one slide took its stains; None where that was not measured (OD).

    Attributes
    ----------
    marker_od
        p16: median over nuclei of the mean nuclear DAB OD. col7: median peak OD of the junction.
    hematoxylin_od
        p16: median over nuclei of their mean hematoxylin OD.
    background_od
        p16: median DAB OD of the cytoplasm rings. col7: DAB OD beside the junction.
    """

    slide_id: str
    marker: str
    control: str
    batch: str
    marker_od: float | None
    hematoxylin_od: float | None
    background_od: float | None


def slide_stain(row: Mapping[str, str], summary: Mapping[str, Any], directory: Path) -> Stain:
    """The stains of a slide that is done.

    Parameters
    ----------
    row
        Of the ledger.
    summary
        From the slide's ``result.json``.
    directory
        The slide's own, for the table of its nuclei; where that is gone, so are its stains.

    Notes
    -----
    A fluorescence slide has none of them: its brightness hangs on the exposure, not on a dye.
    """
    if summary.get("marker_unit") not in (None, "OD"):
        return _stain(row, None, None, None)
    marker_od, hematoxylin_od = summary.get("peak_od_median"), None
    background_od = summary.get("background_od_mean")
    if row["marker"] == "p16":
        marker_od, hematoxylin_od = _nuclear_stains(directory / "nuclei.parquet")
        background_od = summary.get("ring_dab_od_median")
    return _stain(row, marker_od, hematoxylin_od, background_od)


def _stain(
    row: Mapping[str, str], marker_od: object, hematoxylin_od: object, background_od: object
) -> Stain:
    return Stain(
        slide_id=row["slide_id"],
        marker=row["marker"],
        control=row["control"] or "none",
        batch=row["batch"],
        marker_od=_known(marker_od),
        hematoxylin_od=_known(hematoxylin_od),
        background_od=_known(background_od),
    )


def _nuclear_stains(path: Path) -> tuple[float | None, float | None]:
    """Median DAB and hematoxylin OD of the nuclei that count."""
    if not path.exists():
        return None, None
    names = ["dab_od_mean", "hematoxylin_od_mean"]
    nuclei = pd.read_parquet(path, columns=[*names, "excluded"])
    counted = nuclei[~nuclei["excluded"].astype(bool)]
    return _median(counted[names[0]]), _median(counted[names[1]])


def drift_rows(stains: Iterable[Stain]) -> list[dict[str, object]]:
    """Rows of ``drift.csv``: one per marker, kind of control and batch.

    Slides without a batch are left out.
    """
    named = sorted((s for s in stains if s.batch), key=lambda s: (s.marker, s.control, s.batch))
    rows: list[dict[str, object]] = []
    for _, group in groupby(named, key=lambda s: (s.marker, s.control)):
        batches = [list(own) for _, own in groupby(group, key=lambda s: s.batch)]
        own_rows = [_batch_row(own) for own in batches]
        for number, row in enumerate(own_rows):
            others = own_rows[:number] + own_rows[number + 1 :]
            rows.append(row | _judged(row, others))
    return rows


def _batch_row(slides: Sequence[Stain]) -> dict[str, object]:
    first = slides[0]
    row: dict[str, object] = {
        "marker": first.marker,
        "control": first.control,
        "batch": first.batch,
        "n_slides": len(slides),
        "slides": "; ".join(s.slide_id for s in slides),
    }
    for name in (*_STAINS, "background_od"):
        row[name] = _median(pd.Series([getattr(s, name) for s in slides], dtype=np.float64))
    return row


def _judged(row: Mapping[str, object], others: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What the other batches lead to expect of this one, and whether it is off."""
    names = [f"{kind}_{name}" for name in _STAINS for kind in ("expected", "limit")]
    if row["control"] == "none":
        return {**dict.fromkeys(names), "flagged": None, "reason": _STUDY}
    verdict: dict[str, object] = {}
    beyond: list[str] = []
    compared = False
    for name in _STAINS:
        own = _known(row[name])
        known = [v for other in others if (v := _known(other[name])) is not None]
        expected = float(np.median(known)) if known else None
        limit = _limit(known) if known else None
        verdict |= {f"expected_{name}": expected, f"limit_{name}": limit}
        if own is None or expected is None or limit is None:
            continue
        compared = True
        if abs(own - expected) > limit * (1 + 1e-9):  # what lies on the limit is within it
            beyond.append(f"{name} {own:.3g}, {own - expected:+.2g} from the other batches")
    if not compared:
        return verdict | {"flagged": None, "reason": _NO_STAIN if others else _ONE_BATCH}
    return verdict | {"flagged": bool(beyond), "reason": "; ".join(beyond)}


def _limit(values: Sequence[float]) -> float:
    spread = float(np.median(np.abs(np.asarray(values) - np.median(values))))
    return max(LEAST_OD, Z * _MAD_TO_SD * spread)


def _median(values: pd.Series[Any]) -> float | None:
    known = values.dropna()
    return float(known.median()) if len(known) else None


def _known(value: object) -> float | None:
    return None if tables.is_missing(value) else float(str(value))
