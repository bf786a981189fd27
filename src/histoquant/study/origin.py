"""Where a study's tables come from and where they go: what must be said, and never be lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from histoquant import pooling, tables
from histoquant.errors import StudyError
from histoquant.rundir import RunDirectory
from histoquant.study.columns import TABLES
from histoquant.study.samples import KEYS, samples_only

_OWN = {*TABLES, "columns.json", "section.html", "study.html", "study.json"}
_OF_SYSTEMS = {"Thumbs.db", "desktop.ini"}
_ROUNDING = 1e-8
"""Relative: the table keeps ten significant digits, and a spreadsheet may drop one."""


def keep_files_of_others(target: Path, *given: Path | str | None) -> None:
    """Refuse to write ``DIR/study`` where it holds what the command did not write.

    Parameters
    ----------
    target
        ``DIR/study``, which is replaced as a whole.
    given
        Design and plan.

    Raises
    ------
    StudyError
        Which names the files; nothing has been touched.
    """
    for path in given:
        if path and Path(path).resolve().is_relative_to(target.resolve()):
            raise StudyError(
                f"{path} lies in {target}, which this command replaces as a whole: move it out"
            )
    if target.exists() and not target.is_dir():
        raise StudyError(f"{target} is a file, and this command writes a directory: move it away")
    others = sorted(_files_of_others(target))
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise StudyError(
            f"{target} is replaced as a whole by this command, and holds files that it did not "
            f"write: {', '.join(others[:5])}{more}. Move them out"
        )


def _files_of_others(target: Path) -> Iterator[str]:
    for path in target.rglob("*"):
        name = path.relative_to(target)
        own = str(name) in _OWN or (name.parts[0] == "figures" and path.suffix == ".svg")
        system = path.name.startswith(".") or path.name in _OF_SYSTEMS
        if not (path.is_dir() or own or system):
            yield str(name)


def warnings(run: RunDirectory, markers: pd.DataFrame) -> Iterator[str]:
    """What readers must know of the marker table that is analysed.

    Parameters
    ----------
    markers
        ``markers.csv`` as read by `samples.read_markers`.

    Raises
    ------
    ResultError
        When a slide that is done has no complete result.
    """
    if not run.ledger_path.exists():
        yield (
            "There is no ledger.csv beside markers.csv: the slides behind the table are not known, "
            "so the flow has no reasons from it, no analysis recounts nuclei, and no report.html "
            "is written."
        )
        return
    rows = run.marker_rows()
    measured = samples_only(pooling.marker_frame(rows)) if rows else markers.iloc[:0]
    found = _differences(markers, measured)
    if found:
        yield (
            f"markers.csv differs from the slides' own results in {len(found)} sample(s), first "
            f"{found[0]}. It was analysed as it is; `histoquant tables` makes it anew from the "
            "slides."
        )


def _differences(table: pd.DataFrame, measured: pd.DataFrame) -> list[str]:
    """A sentence per sample that is not the same in both."""
    names = [
        c.name
        for c in tables.marker_columns()
        if c.dtype in ("float64", "int64") and c.name in table and c.name in measured
    ]
    there, own = (_by_sample(frame, names) for frame in (table, measured))
    out = []
    for key in dict.fromkeys([*there, *own]):
        who = " ".join(key)
        if key not in own:
            out.append(f"{who}: no slide of it is done")
        elif key not in there:
            out.append(f"{who}: measured, and not in the table")
        else:
            same = np.isclose(there[key], own[key], rtol=_ROUNDING, atol=0, equal_nan=True)
            if not same.all():
                at = int(np.argmin(same))
                out.append(
                    f"{who}: {names[at]} is {_shown(there[key][at])} in the table and "
                    f"{_shown(own[key][at])} from its slides"
                )
    return out


def _shown(value: float) -> str:
    return "missing" if math.isnan(value) else f"{value:.6g}"


def _by_sample(frame: pd.DataFrame, names: list[str]) -> dict[tuple[str, ...], np.ndarray]:
    keys = zip(*(frame[name].astype(str) for name in KEYS), strict=True)
    values = (
        frame[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    )
    return dict(zip(keys, values, strict=True))
