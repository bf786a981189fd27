"""Collagen VII along the junction: the straightened junction and its profile per bin.

The stain is sampled on the normals of the junction. Per bin of arc length the samples are
averaged to one profile over depth; a base line through the medians of an epidermal and a dermal
band beside the line is subtracted; what is left is the line: its peak, its integral, its width.

The medians are taken over the least hematoxylin-stained samples of each band. The row of basal
nuclei stands in the epidermal band, and part of its blue passes for DAB where the slide's stain
vectors are not quite the model's: taken in, it lowered the integral by some 7 % on phantoms.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.ndimage import uniform_filter, uniform_filter1d

from histoquant.arc import along_arc
from histoquant.gaps import (
    FEATURE_FIGURES,
    feature_figures,
    gap_lengths,
    measured_runs,
    positive_fraction,
)
from histoquant.settings import Collagen7Settings
from histoquant.straightening import Straightened as Straightened
from histoquant.straightening import straighten as straighten

Floats = npt.NDArray[np.float64]
FloatArray = npt.NDArray[np.float32]

_PALE_SHARE = 0.3  # of a band's samples: the least hematoxylin, between the nuclei
_MIN_BAND_SAMPLES = 20
_BLEND_SAMPLES = 5
_FINE_UM = 1.5  # arc length over which the line is judged present, and aligned
_ALIGN_UM = 2.5  # the line lies within it of where it lies in the bins around
_MIN_SAMPLES = 0.3  # of a bin's samples at one depth; below, the profile has a hole there
_FWHM_PER_SIGMA = 2.3548  # of a Gaussian
_MIN_SEEN = 0.9  # of the depths that the integral runs over
NO_DAB = "the slide's stain set has no DAB"


def measure_collagen7(
    straightened: Straightened, bins: pd.DataFrame, settings: Collagen7Settings
) -> tuple[pd.DataFrame, dict[str, object], dict[str, str]]:
    """Profile of every bin, and the figures of the slide.

    Parameters
    ----------
    bins
        From `morphometry.junction_bins`.

    Returns
    -------
    bins
        With the profile's columns.
    summary
        The col7 columns; NaN where missing.
    reasons
        Why, for each missing figure.
    """
    profiles = pd.DataFrame(
        [
            _measure_profile(straightened, straightened.rows_of(row), settings)
            for row in bins.itertuples()
        ],
        columns=list(PROFILE_COLUMNS),
    ).astype(PROFILE_COLUMNS)
    profiles["positive_fraction"] = _positive_fractions(straightened, bins, profiles, settings)
    profiles["positive"] = profiles["positive_fraction"] >= 0.5
    return summarise_collagen7(pd.concat([bins.reset_index(drop=True), profiles], axis=1), settings)


def summarise_collagen7(
    table: pd.DataFrame, settings: Collagen7Settings
) -> tuple[pd.DataFrame, dict[str, object], dict[str, str]]:
    """Figures of a slide from its bins and their profiles: what follows an exclusion of bins.

    Returns
    -------
    As `measure_collagen7`; a bin without a profile is excluded.
    """
    table = table.copy()
    lost = table["peak_od"].isna() & ~table["excluded"]
    table.loc[lost, "exclusion_reason"] = "no free normals: the junction folds back on itself"
    table["excluded"] |= lost
    wide = table["fwhm_um"] > settings.oblique_um
    table["oblique"] = wide.astype("boolean").mask(table["fwhm_um"].isna())
    return table, *_summarise(table, settings)


def missing_collagen7(bins: pd.DataFrame, why: str) -> tuple[
    pd.DataFrame, dict[str, object], dict[str, str]
]:  # fmt: skip
    """Tables and figures of a slide that has no collagen VII measurement, with the reason."""
    profiles = pd.DataFrame(
        {name: pd.Series(np.nan, index=bins.index, dtype=float) for name in PROFILE_COLUMNS}
    )
    for name in ("positive", "oblique"):
        profiles[name] = pd.array([pd.NA] * len(bins), dtype="boolean")
    summary: dict[str, object] = dict.fromkeys(_SUMMARY, float("nan"))
    return pd.concat([bins, profiles], axis=1), summary, dict.fromkeys(_SUMMARY, why)


PROFILE_COLUMNS = {
    "depth_peak_um": float,
    "peak_od": float,
    "integrated_od_um": float,
    "fwhm_um": float,
    "background_od": float,
    "saturated_fraction": float,
    "positive": bool,
    "positive_fraction": float,
}
_WIDTHS = ("fwhm_um_median", "fwhm_corrected_um_median")
_SUMMARY = (
    "continuity_percent",
    "continuity_percent_low",
    "continuity_percent_high",
    "n_gaps",
    "gap_length_median_um",
    "gap_length_longest_um",
    "peak_od_mean",
    "peak_od_median",
    "integrated_od_um_mean",
    "integrated_od_um_median",
    "integrated_od_um_iqr",
    "fwhm_um_median",
    "fwhm_corrected_um_median",
    "optics_fwhm_um",
    "oblique_percent",
    *FEATURE_FIGURES,
    "saturated_percent",
    "background_od_mean",
)


def _mean_profile(block: Floats) -> Floats:
    """Mean over the bin at every depth, NaN where too few normals are free."""
    profile: Floats = _mean_profiles(block, len(block))[0]
    return profile


def _mean_profiles(block: Floats, rows: int) -> Floats:
    """The same of every `rows` normals, one after the other; the last may be of fewer."""
    starts = np.arange(0, len(block), rows)
    known = np.isfinite(block)
    count = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    total = np.add.reduceat(np.where(known, block, 0), starts, axis=0)
    of = np.diff(starts, append=len(block))[:, None]
    enough = count >= np.maximum(1, _MIN_SAMPLES * of)
    return np.where(enough, total / np.maximum(count, 1), np.nan)


def _measure_profile(
    straightened: Straightened, rows: slice, settings: Collagen7Settings
) -> tuple[float, float, float, float, float, float, bool, float]:
    """Peak depth, peak, integral, width, background, saturated fraction, positive, part of it."""
    nothing = (float("nan"),) * 6
    depth, band = straightened.depth_um, settings.band_um
    block = straightened.od[rows].astype(np.float64)
    if not len(block):
        return *nothing, False, 0.0
    profile = _mean_profile(block)
    near = np.flatnonzero((np.abs(depth) <= band) & np.isfinite(profile))
    if len(near) < band / settings.depth_step_um:
        return *nothing, False, 0.0
    peak = near[np.argmax(profile[near])]
    sides = depth < depth[peak] - band, depth > depth[peak] + band
    # Nuclei are told by hematoxylin about each sample: noise that takes a sample's own away gives
    # it DAB, and the palest samples would be the brownest.
    blue = uniform_filter(straightened.hematoxylin[rows], _BLEND_SAMPLES, mode="nearest")
    levels = [_band_level(block[:, side], blue[:, side]) for side in sides]
    levels = [level for level in levels if np.isfinite(level)]
    if not levels:
        return *nothing, False, 0.0
    base = np.interp(depth, [depth[peak] - band, depth[peak] + band], [levels[0], levels[-1]])
    signal = profile - base
    positive = bool(signal[peak] >= settings.threshold_od)
    # Without a line the highest sample is noise: integrate about the junction, not about it.
    centre = depth[peak] if positive else 0.0
    window = np.abs(depth - centre) <= band
    seen = window & np.isfinite(signal)
    whole = np.count_nonzero(seen) >= _MIN_SEEN * 2 * band / settings.depth_step_um
    # A part of the line would pass for a weaker line.
    integral = np.interp(depth[window], depth[seen], signal[seen]).sum() if whole else np.nan
    integral *= settings.depth_step_um
    fine = _mean_profiles(block, max(1, round(_FINE_UM / settings.depth_step_um)))
    if positive:
        integral += _lost_to_optics(fine[:, window], straightened, settings)
    return (
        float(depth[peak]) if positive else float("nan"),
        float(signal[peak]),
        float(integral),
        _line_width(fine - base, depth, int(peak)) if positive else float("nan"),
        float(np.mean(levels)),
        float(straightened.saturated[rows][:, seen].mean()),
        positive,
        float(positive),
    )


def _lost_to_optics(fine: Floats, straightened: Straightened, settings: Collagen7Settings) -> float:
    """Integrated OD (OD um) of a bin that is lost because optics average light, not density.

    Light that passes beside the line outshines it: the mean of 10**-OD over a blur of variance
    s2 falls short of the mean OD by ln(10) / 2 x s2 x (dOD/dx)**2, to second order. Each channel
    does so by its own part of the line's density. `fine` are the profiles of short stretches.
    """
    whole = fine[np.isfinite(fine).all(axis=1)]
    if not len(whole):
        return 0.0
    steep = (np.diff(whole, axis=1) ** 2).sum(axis=1)
    variance_um2 = (settings.optics_fwhm_um / _FWHM_PER_SIGMA) ** 2
    loss = 0.5 * np.log(10) * variance_um2 * straightened.channel_od
    return float(loss * np.mean(steep) / settings.depth_step_um)


def _line_width(fine: Floats, depth: Floats, peak: int) -> float:
    """Width of the line within a bin, NaN when it runs off.

    The traced junction and the line do not run quite parallel: averaged as they lie, samples
    would smear the line over the depth. Every short stretch (`fine` are their profiles, less what
    is beside the line) is therefore moved until its own peak lies where that of the bin does.
    """
    step = float(depth[1] - depth[0])
    reach = round(_ALIGN_UM / step)
    near = np.arange(max(peak - reach, 0), min(peak + reach + 1, len(depth)))
    whole = fine[np.isfinite(fine[:, near]).all(axis=1)]
    if not len(whole):
        return float("nan")
    at = whole[:, near]
    weight = np.maximum(at - 0.5 * at.max(axis=1, keepdims=True), 0)
    centres = (weight * depth[near]).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    moved = [
        np.interp(depth + centre - depth[peak], depth, part, np.nan, np.nan)
        for centre, part in zip(centres, whole, strict=True)
    ]
    aligned = _mean_profile(np.asarray(moved))
    return _full_width(aligned, depth, peak) if np.isfinite(aligned[peak]) else float("nan")


def _positive_fractions(
    straightened: Straightened,
    bins: pd.DataFrame,
    profiles: pd.DataFrame,
    settings: Collagen7Settings,
) -> Floats:
    """Part of each bin's length at which the line reaches the threshold.

    A bin is longer than the ends of a gap: judged as a whole, one with a third of a line in it
    would count as all line. The line is looked for where it runs in the bins around.
    """
    fractions = np.zeros(len(bins))
    depth, threshold = straightened.depth_um, settings.threshold_od
    rows = max(1, round(_FINE_UM / settings.depth_step_um))
    stretch, middle = bins["stretch"].to_numpy(), bins["arc_start_um"].to_numpy() + 5
    lined, peaks = profiles["positive"].to_numpy(bool), profiles["depth_peak_um"].to_numpy()
    base = profiles["background_od"].to_numpy()
    for index, row in enumerate(bins.itertuples()):
        with_line = np.flatnonzero(lined & (stretch == stretch[index]))
        if not len(with_line) or not np.isfinite(base[index]):
            continue
        centre = np.interp(middle[index], middle[with_line], peaks[with_line])
        block = straightened.od[straightened.rows_of(row)]
        signal = block[:, np.abs(depth - centre) <= _ALIGN_UM].astype(np.float64) - base[index]
        smooth = uniform_filter1d(np.nan_to_num(signal), rows, axis=0, mode="nearest")
        seen = np.isfinite(signal).any(axis=1)
        if seen.any():
            fractions[index] = float((smooth.max(axis=1)[seen] >= threshold).mean())
    return fractions


def _band_level(dab: Floats, blue: FloatArray) -> float:
    """Median DAB between the nuclei of a band beside the line; NaN with too few samples."""
    known = np.isfinite(dab)
    if known.sum() < _MIN_BAND_SAMPLES:
        return float("nan")
    pale = known & (blue <= np.quantile(blue[known], _PALE_SHARE))
    return float(np.median(dab[pale]))


def _full_width(signal: Floats, depth: Floats, peak: int) -> float:
    """Full width at half maximum around `peak`, linear between samples; NaN when it runs off."""
    half = signal[peak] / 2
    below = np.flatnonzero(~(signal >= half))
    left, right = below[below < peak], below[below > peak]
    if not len(left) or not len(right):
        return float("nan")
    i, k = left[-1], right[0]
    if not np.isfinite(signal[[i, k]]).all():
        return float("nan")
    begin = np.interp(half, [signal[i], signal[i + 1]], depth[[i, i + 1]])
    end = np.interp(half, [signal[k], signal[k - 1]], depth[[k, k - 1]])
    return float(end - begin)


def _summarise(
    table: pd.DataFrame, settings: Collagen7Settings
) -> tuple[dict[str, object], dict[str, str]]:
    kept = table[~table["excluded"]]
    if kept.empty:
        why = "every bin of the junction is excluded"
        return dict.fromkeys(_SUMMARY, float("nan")), dict.fromkeys(_SUMMARY, why)
    gaps = gap_lengths(table, settings.min_gap_um)
    share = positive_fraction(table)[~table["excluded"].to_numpy(bool)]
    sampled = along_arc(
        measured_runs(table), "percent", bin_um=settings.bin_um, seed=settings.bootstrap_seed
    )
    limits = sampled.widths[-1] if sampled.widths else None
    widths = (kept["fwhm_um"] ** 2 - settings.optics_fwhm_um**2).clip(lower=0) ** 0.5
    integrated = kept["integrated_od_um"]
    quartiles = integrated.quantile([0.25, 0.75]).to_numpy()
    summary: dict[str, object] = {
        "continuity_percent": 100 * float(share.mean()),
        "continuity_percent_low": limits.low if limits else float("nan"),
        "continuity_percent_high": limits.high if limits else float("nan"),
        "n_gaps": len(gaps),
        "gap_length_median_um": float(np.median(gaps)) if len(gaps) else float("nan"),
        "gap_length_longest_um": float(gaps.max()) if len(gaps) else 0.0,
        "peak_od_mean": float(kept["peak_od"].mean()),
        "peak_od_median": float(kept["peak_od"].median()),
        "integrated_od_um_mean": float(integrated.mean()),
        "integrated_od_um_median": float(integrated.median()),
        "integrated_od_um_iqr": float(quartiles[1] - quartiles[0]),
        "fwhm_um_median": float(kept["fwhm_um"].median()),
        "fwhm_corrected_um_median": float(widths.median()),
        "optics_fwhm_um": settings.optics_fwhm_um,
        "oblique_percent": 100 * float((kept["fwhm_um"] > settings.oblique_um).mean()),
        **feature_figures(kept),
        "saturated_percent": 100 * float(kept["saturated_fraction"].mean()),
        "background_od_mean": float(kept["background_od"].mean()),
    }
    reasons = {
        name: "no measured bin of this kind"
        for name in FEATURE_FIGURES
        if np.isnan(summary[name])  # type: ignore[call-overload]
    }
    if limits is None:
        reasons |= dict.fromkeys(
            ("continuity_percent_low", "continuity_percent_high"), sampled.reason
        )
    if not len(gaps):
        reasons["gap_length_median_um"] = f"no gap of {settings.min_gap_um:g} um or more"
    if not kept["positive"].any():
        reasons |= dict.fromkeys(_WIDTHS, "no bin is positive")
    elif kept["fwhm_um"].isna().all():
        why = "no positive bin falls to half its peak on both sides"
        reasons |= dict.fromkeys(_WIDTHS, why)
    return summary, reasons
