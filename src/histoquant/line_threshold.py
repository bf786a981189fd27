"""The threshold that a bin is positive by, where the slide's own noise tells it."""

from __future__ import annotations

import numpy as np

from histoquant.settings import Collagen7Settings
from histoquant.straightening import Straightened


def with_noise_threshold(
    settings: Collagen7Settings, straightened: Straightened
) -> Collagen7Settings:
    """`settings` with the threshold that the noise beside the line gives, where they ask for it."""
    if settings.threshold_source != "noise" or settings.threshold_locked:
        return settings
    noise = line_noise(straightened, settings.band_um, settings.bin_um)
    found = settings.noise_factor * noise
    threshold = round(max(found, settings.min_threshold_od), 4)
    floor = f", raised from {found:.4f}" if threshold > round(found, 4) else ""
    source = (
        f"{settings.noise_factor:g} x the noise beside the slide's own line, {noise:.4f} OD: "
        f"{threshold:g} OD{floor}"
    )
    return settings.model_copy(update={"threshold_od": threshold, "threshold_locked": source})


def line_noise(straightened: Straightened, band_um: float, bin_um: float) -> float:
    """Noise of a bin's mean profile beside the line: robust standard deviation.

    In the unit of the marker, OD or grey levels. Structure counts as noise, too: fibres and
    cytoplasm that shine or are stained. Only the step from one side of the line to the other does
    not.
    """
    depth, arc = straightened.depth_um, straightened.arc_um
    step = float(np.median(np.diff(depth)))
    rows = max(1, round(bin_um / step))
    count = len(arc) // rows
    if not count:
        return 0.0
    blocks = straightened.od[: count * rows].astype(np.float64).reshape(count, rows, -1)
    known = np.isfinite(blocks)
    mean = np.where(known, blocks, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    mean[known.sum(axis=1) < rows / 2] = np.nan
    off = []
    for side in (depth < -2 * band_um, depth > 2 * band_um):
        full = mean[np.isfinite(mean[:, side]).all(axis=1)][:, side]
        off.append((full - np.median(full, axis=1, keepdims=True)).ravel())
    spread = np.concatenate(off)
    return float(1.4826 * np.median(np.abs(spread))) if spread.size else 0.0
