"""Which edges of a section are cut, where epithelium along them looks like skin.

A follicle that the knife laid open lies along the cut edge: glass on one side, dermis on the
other, keratin on it, like epidermis. What tells it is where it lies: round a sharp corner from the
skin, at the end of it.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from histoquant.polyline import resample
from histoquant.tissue import closed, distance_um, opened

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]

_CRACK_UM, _FLAKE_UM = 20.0, 30.0  # half the width of what the outline runs across and leaves out
_STEP_UM, _SMOOTH_STEPS = 8.0, 3.0
_MIN_OUTLINE_UM = 1000.0
_NEAR_UM = 70.0  # of the outline to epithelium beneath: corneum lies between
_CHORD_STEPS = 12  # some 100 um on either side of a corner; skin curls with a larger radius
_CORNER_DEG = 50.0
_TURN_DEG = (50.0, 130.0)  # from the skin to a cut edge; skin on the back of a piece is skin
_BRIDGE_STEPS = 12  # longest part without epithelium within a run
_MIN_STEPS = 6
_END_STEPS = 36  # of a run, for its direction near its end
_MAX_SHARE = 0.6  # of the length of the skin
_END_FACE_STEPS = 45  # the skin's own end: corneum, and ridges down to 290 um
_MOST_COVERED = 0.75  # of the outline; a section with epithelium all round has no cut edges


def beside_cut_edges(tissue: Mask, surface: Mask, mpp: float) -> Mask:
    """What lies nearer to edges with epithelium that are no skin than to the rest of the outline.

    Parameters
    ----------
    tissue, surface
        bool (h, w): the section, and epithelium that faces glass or corneum.

    Returns
    -------
    bool (h, w), of the glass, too.
    """
    body = opened(closed(tissue, _CRACK_UM, mpp), _FLAKE_UM, mpp).astype(np.uint8)
    outlines, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    away = distance_um(surface, mpp)
    edges = []
    for outline in outlines:
        ring = _evenly(outline[:, 0, ::-1].astype(np.float64), mpp)
        if ring is not None:
            at = np.clip(np.rint(ring).astype(int), 0, np.array(away.shape) - 1)
            edges += _edges_of(ring, away[tuple(at.T)] <= _NEAR_UM)
    if not edges:
        return np.zeros(tissue.shape, np.bool_)
    cut = np.zeros(tissue.shape, np.uint8)
    lines = [np.rint(edge[:, ::-1]).astype(np.int32) for edge in edges]
    cv2.polylines(cut, lines, isClosed=False, color=1, thickness=5)
    rim = np.zeros_like(cut)
    cv2.drawContours(rim, outlines, -1, color=1)
    to_cut = distance_um(cut > 0, mpp)
    return np.asarray(to_cut < distance_um((rim > 0) & (cut == 0), mpp))


def _evenly(ring: Points, mpp: float) -> Points | None:
    """The outline smoothed, `_STEP_UM` apart, so that it turns right at convex corners."""
    even = resample(np.concatenate([ring, ring[:1]]), _STEP_UM / mpp)
    if even is None or len(even) * _STEP_UM < _MIN_OUTLINE_UM:
        return None
    smooth = gaussian_filter1d(even[:-1], _SMOOTH_STEPS, axis=0, mode="wrap")
    y, x = smooth.T
    area = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())
    return smooth if area > 0 else smooth[::-1]


def _edges_of(ring: Points, near: Mask) -> list[Points]:
    if not near.any() or near.mean() > _MOST_COVERED:
        return []
    turn = _turns(ring)
    start = _after_longest_gap(near)
    line, turn = np.roll(ring, -start, axis=0), np.roll(turn, -start)
    sharpest = maximum_filter1d(turn, 2 * _CHORD_STEPS + 1, mode="wrap")
    corners = (turn >= _CORNER_DEG) & (turn == sharpest)
    runs = _runs(np.roll(near, -start), corners)
    longest = max(range(len(runs)), key=lambda k: len(runs[k])) if runs else 0
    found = [
        run
        for chain in (runs[longest:], runs[longest::-1])
        for run in _outermost(line, turn, np.flatnonzero(corners), chain)
    ]
    return [line[run.start : run.stop] for run in found]


def _turns(ring: Points) -> Floats:
    """How far the outline turns (degrees) on the scale of `_CHORD_STEPS`."""
    ahead = np.roll(ring, -_CHORD_STEPS, axis=0) - ring
    return _angle_deg(ring - np.roll(ring, _CHORD_STEPS, axis=0), ahead)


def _angle_deg(before: Points, after: Points) -> Floats:
    """Angle from one direction to another, positive at convex corners."""
    cross = before[..., 1] * after[..., 0] - before[..., 0] * after[..., 1]
    return np.asarray(np.degrees(np.arctan2(cross, (before * after).sum(axis=-1))))


def _after_longest_gap(near: Mask) -> int:
    first = int(np.argmax(near))
    bounds = np.flatnonzero(np.diff(np.roll(near, -first).astype(np.int8), append=1))
    begin, end = bounds[::2], bounds[1::2]
    return int((end[np.argmax(end - begin)] + 1 + first) % len(near))


def _runs(near: Mask, corners: Mask) -> list[range]:
    """Parts with epithelium beneath, from corner to corner; short gaps are theirs."""
    runs, start, last = [], -1, -1
    for at in np.flatnonzero(near | corners):
        if start >= 0 and (corners[at] or at - last > _BRIDGE_STEPS):
            runs.append(range(start, int(at) if corners[at] and near[at] else last + 1))
            start = -1
        if near[at]:
            start, last = int(at) if start < 0 else start, int(at)
    runs.append(range(start, last + 1))
    return [run for run in runs if len(run) >= _MIN_STEPS and run.start >= 0]


def _outermost(
    line: Points, turn: Floats, corner_at: npt.NDArray[np.int64], chain: list[range]
) -> list[range]:
    """Of the runs from the longest one outwards, the last that lie round a corner from the skin.

    Not the first of them where it is no longer than epidermis is thick: there the skin ends.
    """
    skin, beyond = chain[0] if chain else range(0), []
    for run in chain[1:]:
        first, second = sorted((skin, run), key=lambda r: r.start)
        angle = float(_angle_deg(_course(line, first, -1), _course(line, second, 0)))
        between = (corner_at >= first.stop - _MIN_STEPS) & (corner_at <= second.start + _MIN_STEPS)
        is_cut = bool(between.any()) and _TURN_DEG[0] <= angle <= _TURN_DEG[1]
        # A cut edge is straight; flanks of what stands out from the skin end in a concave corner.
        is_cut &= float(turn[run.start : run.stop].min()) > -_CORNER_DEG
        if is_cut and len(run) <= _MAX_SHARE * len(chain[0]):
            beyond.append(run)
        else:
            skin, beyond = run, []
    return beyond[1:] if beyond and len(beyond[0]) < _END_FACE_STEPS else beyond


def _course(line: Points, run: range, end: int) -> Points:
    """Direction of a run near its first (0) or last (-1) end."""
    part = line[run.start : run.stop]
    part = part[-_END_STEPS:] if end else part[:_END_STEPS]
    return np.asarray(part[-1] - part[0])
