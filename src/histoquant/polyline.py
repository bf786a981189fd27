"""Open lines of points in um: length, spacing, smoothing, normals, values along them."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, map_coordinates

Points = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

_END_SIGMAS = 3.0
_NECK_UM, _KNOB_UM, _KNOB_RATIO = 12.0, 90.0, 2.5


def smooth_line(points_um: Points, step_um: float, sigma_um: float) -> Points | None:
    """Resample an open line evenly and smooth it along its arc; its ends stay where they are.

    Parameters
    ----------
    points_um
        (n, 2) in um.

    Returns
    -------
    (m, 2) points `step_um` apart, or None when the line is shorter than three steps.
    """
    fine = resample(points_um, step_um / 2)
    if fine is None:
        return None
    return resample(smooth_steps(fine, sigma_um / (step_um / 2)), step_um)


def smooth_steps(points: Points, sigma: float) -> Points:
    """Gaussian smoothing along an open line (sigma in vertices) that keeps its ends in place."""
    pad = int(np.ceil(4 * sigma))
    # Reflecting through the end points leaves the ends and the direction there unbent.
    padded = np.pad(points, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=0)[pad : pad + len(points)]


def smooth_course(points: Points, sigma: float) -> Points:
    """The course of an open line that swings about it: smoothed widely (sigma in vertices).

    Its ends are where a straight line through the last part of it ends, not where the line itself
    happens to: a ridge at the end would turn the course, and what lies over it.
    """
    reach = max(2, min(round(_END_SIGMAS * sigma), len(points)))
    ends = [_straight_end(points[:reach]), _straight_end(points[::-1][:reach])]
    pad = min(int(np.ceil(4 * sigma)), len(points) - 1)
    before = 2 * ends[0] - points[1 : pad + 1][::-1]
    after = 2 * ends[1] - points[::-1][1 : pad + 1]
    padded = np.concatenate([before, points, after])
    smooth = gaussian_filter1d(padded, sigma, axis=0, mode="nearest")
    return cast(Points, smooth[pad : pad + len(points)])


def _straight_end(points: Points) -> Points:
    """Where a straight line fitted to points begins."""
    steps = np.arange(len(points)) - (len(points) - 1) / 2
    slope = (steps[:, None] * points).sum(axis=0) / (steps**2).sum()
    return cast(Points, points.mean(axis=0) + steps[0] * slope)


def right_normals(line: Points) -> Points:
    """Unit normals (n, 2), (y, x), to the right of a line walked with y pointing down."""
    tangent = np.gradient(line, axis=0)
    tangent /= np.maximum(np.hypot(*tangent.T), 1e-12)[:, None]
    return np.column_stack([tangent[:, 1], -tangent[:, 0]])


def cut_knobs(line_um: Points) -> Points:
    """The line, straight across the necks of knobs it runs around.

    A cell or two that touch the border from the dermis look like epidermis on a narrow neck.
    Ridges have broad ones. A knob is left out when its neck is at most `_NECK_UM` wide, its
    outline at most `_KNOB_UM` long and `_KNOB_RATIO` times the neck.

    Parameters
    ----------
    line_um
        (n, 2), evenly spaced.
    """
    step = length(line_um) / (len(line_um) - 1)
    keep = np.ones(len(line_um), bool)
    for lag in range(min(round(_KNOB_UM / step), len(line_um) - 1), 1, -1):
        neck = np.hypot(*(line_um[lag:] - line_um[:-lag]).T)
        narrow = (neck <= _NECK_UM) & (neck * _KNOB_RATIO <= lag * step)
        for start in np.flatnonzero(narrow):
            if keep[start : start + lag + 1].all():
                keep[start + 1 : start + lag] = False
    return line_um[keep]


def resample(points: Points, step: float) -> Points | None:
    """Points evenly spaced by about `step` along a polyline; None below three steps."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    if len(points) < 2 or arc[-1] < 3 * step:
        return None
    at = np.linspace(0, arc[-1], round(arc[-1] / step) + 1)
    return np.column_stack([np.interp(at, arc, points[:, axis]) for axis in (0, 1)])


def length(line_um: Points) -> float:
    """Length of a polyline."""
    return float(np.hypot(*np.diff(line_um, axis=0).T).sum())


def sample(
    image: npt.NDArray[np.float32] | npt.NDArray[np.int8], points_um: Points, mpp: float
) -> Floats:
    """Bilinear values of an image (h, w) at (..., 2) points (y, x) in um."""
    pixels = np.moveaxis(np.asarray(points_um) / mpp - 0.5, -1, 0)
    return cast(Floats, map_coordinates(image, pixels, np.float64, order=1, mode="nearest"))
