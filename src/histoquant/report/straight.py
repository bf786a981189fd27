"""The straightened junction of a collagen VII slide: its picture, its course and its profile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from histoquant.report.pictures import brown_uri
from histoquant.study.svg import BLUE, GREEN, INK, LINE, ORANGE, SOFT, TINT, Drawing, Scale

Floats = npt.NDArray[np.float32]

_ROW_UM = 1300.0
_MOST_ROWS = 8
_LEFT, _WIDTH = 62, 1010
_STRIP, _COURSE = 84, 96
_ROW_HEIGHT = 236
_MOST_COLUMNS = 1400
_OD, _HIGHEST_OD = "DAB OD", 1.0


@dataclass(frozen=True, eq=False)
class Straightened:
    """What is kept of a slide's straightened junction.

    Attributes
    ----------
    od
        (arc, depth) float32, NaN where there are no pixels.
    step_um
        Between samples, both ways.
    first_depth_um
        Depth of the first column; 0 is the traced junction, positive is dermis.
    offsets_um
        Where each stretch begins along the whole.
    bins
        Rows of ``junction.parquet``, `from_um` and `to_um` along the whole added.
    threshold_od
        Of positivity, in the unit of `od`.
    unit
        Of `od`: DAB OD, or what a fluorescence slide is measured in.
    """

    od: Floats
    step_um: float
    first_depth_um: float
    offsets_um: npt.NDArray[np.float64]
    bins: pd.DataFrame
    threshold_od: float
    unit: str = _OD

    @property
    def length_um(self) -> float:
        """Of all stretches together."""
        return float(len(self.od) * self.step_um)

    @property
    def darkest(self) -> float:
        """Value that the picture shows darkest: the same for all slides that are in OD."""
        known = self.od[np.isfinite(self.od)]
        if self.unit == _OD or not known.size:
            return _HIGHEST_OD
        return float(np.percentile(known, 99.5))

    @property
    def depths_um(self) -> npt.NDArray[np.float64]:
        """Depth of every column."""
        steps: npt.NDArray[np.float64] = np.arange(self.od.shape[1], dtype=np.float64)
        return self.first_depth_um + self.step_um * steps


def read_straightened(directory: Path, summary: Mapping[str, Any]) -> Straightened | None:
    """The straightened junction in a slide's directory; None where there is none to draw.

    Raises
    ------
    OSError, ValueError, KeyError
        When what is there cannot be read.
    """
    path = directory / "straightened.zarr"
    if not path.exists():
        return None
    import zarr

    array = zarr.open_array(path, mode="r")
    about: dict[str, Any] = dict(array.attrs)
    od = np.asarray(array[...], np.float32)
    if od.ndim != 2 or od.size == 0 or "step_um" not in about:
        return None
    step = float(about["step_um"])
    samples = np.asarray(about.get("samples_of_stretch", [len(od)]), np.float64)
    offsets = np.concatenate([[0.0], np.cumsum(samples)])[:-1] * step
    bins = pd.read_parquet(directory / "junction.parquet")
    stretch = bins["stretch"].to_numpy(np.int64) if "stretch" in bins else np.zeros(len(bins), int)
    if not {"peak_od", "positive"} <= set(bins) or (len(bins) and stretch.max() >= len(offsets)):
        return None
    threshold = summary.get("positive_threshold_od")
    return Straightened(
        od=od,
        step_um=step,
        first_depth_um=float(about["first_depth_um"]),
        offsets_um=offsets,
        bins=bins.assign(
            from_um=offsets[stretch] + bins["arc_start_um"],
            to_um=offsets[stretch] + bins["arc_end_um"],
        ),
        threshold_od=math.nan if threshold is None else float(threshold),
        unit=str(about.get("unit", _OD)),
    )


def course(junction: Straightened) -> Drawing:
    """The junction laid straight in rows, and under each the peaks of its bins and its gaps."""
    rows = min(max(math.ceil(junction.length_um / _ROW_UM), 1), _MOST_ROWS)
    row_um = junction.length_um / rows
    title = "The junction laid straight, epidermis above"
    drawing = Drawing(
        _LEFT + _WIDTH + 20, 40 + _ROW_HEIGHT * rows, title,
        f"Picture: {junction.unit} along the junction. Curve: peak of each bin; orange: gap.",
    )  # fmt: skip
    drawing.text((12, 22), title, size=14, bold=True)
    peaks = junction.bins["peak_od"].to_numpy(np.float64, na_value=np.nan)
    known = peaks[np.isfinite(peaks)]
    highest = float(np.percentile(known, 99.5)) * 1.1 if known.size else 0.0
    top = max(highest, 0.0 if math.isnan(junction.threshold_od) else 2 * junction.threshold_od, 0.2)
    for row in range(rows):
        _row(drawing, junction, row * row_um, row_um, 40 + _ROW_HEIGHT * row, top)
    return drawing


def _row(
    drawing: Drawing, junction: Straightened, start: float, length: float, top: float, high: float
) -> None:
    along = Scale(start, start + length, _LEFT, _LEFT + _WIDTH)
    first, last = (round(v / junction.step_um) for v in (start, start + length))
    part = _narrowed(junction.od[first:last])
    depths = junction.depths_um
    if part.size:
        drawing.image((_LEFT, top), (_WIDTH, _STRIP), brown_uri(part.T, junction.darkest))
    line = top + _STRIP * (0 - depths[0]) / (depths[-1] - depths[0] + junction.step_um)
    drawing.line((_LEFT - 6, line), (_LEFT, line), INK, 1.5)
    drawing.text((_LEFT - 9, line + 4), "0 µm", anchor="end", size=11, colour=SOFT)
    base = top + _STRIP + 14 + _COURSE
    up = Scale(0, high, base, top + _STRIP + 14)
    for tick in up.ticks(3):
        drawing.line((_LEFT, up(tick)), (_LEFT + _WIDTH, up(tick)), LINE, 1)
        drawing.text((_LEFT - 9, up(tick) + 4), f"{tick:g}", anchor="end", size=11, colour=SOFT)
    label = f"peak {junction.unit.removeprefix('DAB ')}"
    middle = (top + _STRIP + 14 + base) / 2
    drawing.text((14, middle), label, anchor="middle", size=11.5, colour=SOFT, turned=True)
    own = junction.bins[
        (junction.bins["to_um"] > start) & (junction.bins["from_um"] < start + length)
    ]
    for number, bin_ in enumerate(own.to_dict("records")):
        _bin(drawing, along, up, bin_, base, number)
    if 0 < junction.threshold_od < high:
        y = up(junction.threshold_od)
        drawing.line((_LEFT, y), (_LEFT + _WIDTH, y), SOFT, 1.2, "4 3")
    for tick in (t for t in along.ticks(8) if along(t) < _LEFT + _WIDTH - 36):
        drawing.text((along(tick), base + 28), f"{tick / 1000:g}", anchor="middle", size=11,
                     colour=SOFT)  # fmt: skip
    drawing.text((_LEFT + _WIDTH, base + 28), "mm", anchor="end", size=11, colour=SOFT)


def _bin(
    drawing: Drawing, along: Scale, up: Scale, bin_: Mapping[Any, Any], base: float, number: int
) -> None:
    """One bin: its peak as a bar, and under the axis whether there is collagen VII."""
    left, right = along(float(bin_["from_um"])), along(float(bin_["to_um"]))
    peak = bin_["peak_od"]
    if bin_["excluded"] or pd.isna(peak) or pd.isna(bin_["positive"]):
        drawing.area([(left, base + 4), (right, base + 4), (right, base + 10), (left, base + 10)],
                     SOFT, 0.3)  # fmt: skip
        return
    found = bool(bin_["positive"])
    height = up(max(float(peak), 0.0))
    drawing.area([(left, base), (left, height), (right, height), (right, base)],
                 GREEN if found else ORANGE, 0.55 if found else 0.9)  # fmt: skip
    if not found:  # a gap stands out by shape, too: a mark that reaches below the axis
        drawing.area([(left, base + 2), (right, base + 2), (right, base + 14), (left, base + 14)],
                     ORANGE, 1)  # fmt: skip


def profile(junction: Straightened) -> Drawing | None:
    """Median and quartiles of the OD across the measured junction, over depth."""
    measured = _measured_samples(junction)
    od = junction.od[measured]
    od = od[np.isfinite(od).all(axis=1)]
    if not len(od):
        return None
    low, middle, high = np.percentile(od.astype(np.float64), [25, 50, 75], axis=0)
    depths = junction.depths_um
    title = "Across the junction"
    drawing = Drawing(540, 300, title, f"Median {junction.unit} over depth, with its quartiles")
    drawing.text((12, 22), title, size=14, bold=True)
    across = Scale(float(depths[0]), float(depths[-1]), 62, 520)
    up = Scale(min(float(low.min()), 0.0), max(float(high.max()) * 1.06, 0.1), 236, 44)
    drawing.box((across(0), 44), (520 - across(0), 192), TINT, "none", 0)
    drawing.axis_left(up, 62, 520, junction.unit)
    drawing.axis_below(across, 236, 232, "depth from the traced junction (µm), dermis positive")
    lower = [(across(d), up(v)) for d, v in zip(depths.tolist(), low.tolist(), strict=True)]
    upper = [(across(d), up(v)) for d, v in zip(depths.tolist(), high.tolist(), strict=True)]
    drawing.area([*upper, *reversed(lower)], BLUE, 0.2)
    drawing.path([(across(d), up(v)) for d, v in zip(depths.tolist(), middle.tolist(),
                                                     strict=True)], BLUE, 2.4)  # fmt: skip
    drawing.text((across(depths[0]) + 8, 60), "epidermis", size=12, colour=SOFT)
    drawing.text((512, 60), "dermis", size=12, anchor="end", colour=SOFT)
    return drawing


def _measured_samples(junction: Straightened) -> npt.NDArray[np.bool_]:
    kept = np.zeros(len(junction.od), np.bool_)
    bins = junction.bins[~junction.bins["excluded"].astype(bool)]
    for start, end in bins[["from_um", "to_um"]].to_numpy(np.float64):
        kept[round(start / junction.step_um) : round(end / junction.step_um)] = True
    return kept


def _narrowed(od: Floats) -> Floats:
    """At most `_MOST_COLUMNS` samples along the arc, each the mean of those it stands for."""
    step = math.ceil(len(od) / _MOST_COLUMNS)
    if step <= 1:
        return od
    whole = len(od) // step * step
    blocks = od[:whole].reshape(-1, step, od.shape[1])
    known = np.isfinite(blocks)
    total = np.where(known, blocks, 0).sum(axis=1)
    count = known.sum(axis=1)
    return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)
