"""The dermal-epidermal junction: ordered polylines in um whose dermal side is known.

Everything else is measured against this line: depth of nuclei, the basal layer, the papillary
band, collagen VII, epidermal thickness, rete ridges.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, gaussian_filter1d
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from histoquant.anatomy import ADNEXA, DERMIS, EPIDERMIS, Compartments
from histoquant.artefacts import NONE, REASONS
from histoquant.border import FULL
from histoquant.pieces import touching
from histoquant.polyline import cut_knobs, length, right_normals, sample, smooth_course, smooth_line
from histoquant.settings import AnatomySettings, JunctionSettings
from histoquant.windowed import boxes_around, window_of

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_BRIDGE_UM = 40.0  # a border that faces a cleft this short still is junction
_BORDER_PX = 2.0
_END_UM, _END_TANGENT = 30.0, 5  # how far to lead on; vertices that give the direction
_LOOK_UM = 20.0
_MIN_DERMAL_SHARE, _END_DERMAL_SHARE = 0.5, 0.3
_END_VERTICES = 16  # some 25 um: at a cut edge glass cuts the view of dermis short
_HOOK = 20  # vertices
_BESIDE_UM = (2.0, 4.0, 8.0)  # from the line into its own epidermis
_NORMAL_SIGMA = 4.0  # vertices, about one pixel apart

_SURFACES: WeakKeyDictionary[Compartments, dict[float, list[Points]]] = WeakKeyDictionary()
"""Surfaces by their smoothing: a review asks for them again with every edit."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """One unbroken stretch of junction.

    Attributes
    ----------
    points_um
        float64 (n, 2), (y, x), evenly spaced. Walking along it with the picture's y axis
        pointing down, dermis lies to the right.
    excluded
        bool (n,): vertices that are found but not measured.
    course_um
        float64 (n, 2): the same vertices on the smooth course that ridges and papillae swing
        about.
    exclusion
        Why the excluded vertices are.
    artefacts
        uint8 (n,): which artefact a vertex lies in, by the codes of `histoquant.artefacts`;
        None without any.
    """

    points_um: Points
    excluded: Mask
    course_um: Points
    exclusion: str = "within the cut edge"
    artefacts: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.points_um.ndim != 2 or self.points_um.shape[1] != 2 or len(self.points_um) < 2:
            raise ValueError(f"a stretch needs (n >= 2, 2) points, found {self.points_um.shape}")
        count = len(self.points_um)
        if self.excluded.shape != (count,) or self.course_um.shape != (count, 2):
            raise ValueError(
                f"{count} points, but exclusions {self.excluded.shape}, "
                f"course {self.course_um.shape}"
            )

    @cached_property
    def reasons(self) -> npt.NDArray[np.object_]:
        """Why each vertex (n,) is excluded; empty where it is measured."""
        words = np.where(self.excluded, self.exclusion, "").astype(object)
        if self.artefacts is not None:
            hit = self.artefacts != NONE
            words[hit] = np.asarray(REASONS, object)[self.artefacts[hit]]
        return words

    @cached_property
    def arc_um(self) -> Floats:
        """Arc length at every vertex, in um, from 0."""
        steps = np.hypot(*np.diff(self.points_um, axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def length_um(self) -> float:
        """Length of the whole stretch."""
        return float(self.arc_um[-1])

    @property
    def measured_length_um(self) -> float:
        """Length of its segments with neither end excluded."""
        kept = ~self.excluded
        return float(np.diff(self.arc_um)[kept[1:] & kept[:-1]].sum())

    @cached_property
    def normals(self) -> Points:
        """Unit normals (n, 2), (y, x), pointing into the dermis."""
        return right_normals(self.points_um)

    @cached_property
    def undulation_um(self) -> Floats:
        """How far each vertex lies towards the dermis of the smooth course, in um."""
        across = right_normals(self.course_um)
        return cast(Floats, ((self.points_um - self.course_um) * across).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Located:
    """Where points lie relative to the junction; arrays of n, NaN without a junction.

    Attributes
    ----------
    depth_um
        Signed distance to the line, positive towards the dermis.
    excluded
        Whether they lie over or under junction that is not measured, seen from its smooth
        course: so surface, epidermis and nuclei end on one line across the skin.
    """

    depth_um: Floats
    excluded: Mask


@dataclass(frozen=True, eq=False)
class Junction:
    """All stretches of junction on a slide, the longest first.

    Attributes
    ----------
    reason
        Why there is none; empty when there is.
    """

    stretches: tuple[Stretch, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.stretches and not self.reason:
            raise ValueError("a junction without stretches needs a reason")

    @property
    def length_um(self) -> float:
        """Length of everything found, NaN without a junction."""
        return sum(s.length_um for s in self.stretches) if self.stretches else float("nan")

    @property
    def measured_length_um(self) -> float:
        """Length less what is excluded, NaN without a junction."""
        if not self.stretches:
            return float("nan")
        return sum(s.measured_length_um for s in self.stretches)

    def depth_um(self, points_um: Points) -> Floats:
        """Signed distance of (n, 2) points (y, x) in um to the line, positive in the dermis."""
        return self.locate(points_um).depth_um

    def locate(self, points_um: Points) -> Located:
        """Signed distance of (n, 2) points in um, and whether the line is excluded there."""
        points = np.asarray(points_um, np.float64).reshape(-1, 2)
        if not self.stretches:
            return Located(np.full(len(points), np.nan), np.zeros(len(points), bool))
        return Located(self.signed_distance(points), self.excluded_at(points))

    def signed_distance(self, points: Points) -> Floats:
        """Signed distance of (n, 2) points to the line, there being one."""
        vertices, normals, tree = self._index
        nearest = np.asarray(tree.query(points)[1], np.int64)
        offset = points - vertices[nearest]
        side = np.where((offset * normals[nearest]).sum(axis=1) >= 0, 1.0, -1.0)
        return cast(Floats, side * self._distance(points, nearest))

    def beside(self, points: Points) -> npt.NDArray[np.int64]:
        """Number of the vertex whose smooth course is nearest to each of (n, 2) points."""
        return np.asarray(self._course_index.query(points)[1], np.int64)

    def excluded_at(self, points_um: Points) -> Mask:
        """Whether (n, 2) points in um lie over or under junction that is not measured."""
        points = np.asarray(points_um, np.float64).reshape(-1, 2)
        if not self.stretches:
            return np.zeros(len(points), np.bool_)
        excluded = np.concatenate([s.excluded for s in self.stretches])
        return cast(Mask, excluded[self.beside(points)])

    def _distance(self, points: Points, nearest: npt.NDArray[np.int64]) -> Floats:
        """Distance to the two segments that meet at each point's nearest vertex."""
        vertices = self._index[0]
        best: Floats = np.hypot(*(points - vertices[nearest]).T)
        starts = self._stretch_of
        for neighbour in (-1, 1):
            other = np.clip(nearest + neighbour, 0, len(vertices) - 1)
            other = np.where(starts[other] == starts[nearest], other, nearest)
            best = np.minimum(best, _segment_distance(points, vertices[nearest], vertices[other]))
        return best

    @cached_property
    def _index(self) -> tuple[Points, Points, cKDTree]:
        vertices = np.concatenate([s.points_um for s in self.stretches])
        normals = np.concatenate([_settled(s.normals) for s in self.stretches])
        return vertices, normals, cKDTree(vertices)

    @cached_property
    def _course_index(self) -> cKDTree:
        return cKDTree(np.concatenate([s.course_um for s in self.stretches]))

    @cached_property
    def _stretch_of(self) -> npt.NDArray[np.int64]:
        return np.repeat(np.arange(len(self.stretches)), [len(s.excluded) for s in self.stretches])


def with_own_junction(compartments: Compartments, junction: Junction) -> Compartments:
    """Epidermis that junction runs along stays; pieces without any are left out, as adnexa are.

    A detached strip, or one whose outline closes without a dermis, has nuclei and area and no
    length: counted, it would raise every rate per mm, and the thickness.
    """
    if not junction.stretches:
        return compartments
    epidermis = compartments.labels == EPIDERMIS
    beside = np.zeros(epidermis.shape, np.bool_)
    for stretch in junction.stretches:
        for depth_um in _BESIDE_UM:
            points = stretch.points_um - depth_um * stretch.normals
            index = np.floor(points / compartments.mpp).astype(np.int64)
            inside = ((index >= 0) & (index < beside.shape)).all(axis=1)
            beside[index[inside, 0], index[inside, 1]] = True
    owned = touching(epidermis, beside)
    lost = epidermis & ~owned
    if not lost.any() or not owned.any():
        return compartments
    labels = compartments.labels.copy()
    labels[lost] = ADNEXA
    return replace(compartments, labels=labels)


def trace_junction(
    compartments: Compartments, settings: JunctionSettings, anatomy: AnatomySettings
) -> Junction:
    """Follow the border between surface epidermis and dermis.

    Returns
    -------
    Junction, resampled at `settings.step_um` and smoothed along the arc by
    `settings.smoothing_um`; open where the epidermis ends. Vertices within
    `anatomy.cut_edge_um` of such an end are excluded.
    """
    if not compartments.has_epidermis:
        return Junction((), compartments.reason)
    stretches = []
    for line in _borders(compartments, facing_dermis=True):
        smooth = smooth_line(line, settings.step_um, settings.smoothing_um)
        if smooth is not None:
            whole = _to_cut_edges(cut_knobs(smooth), compartments)
            smooth = smooth_line(whole, settings.step_um, settings.smoothing_um)
        if smooth is None or length(smooth) < settings.min_length_um:
            continue
        oriented = dermis_right(smooth, compartments)
        course = smooth_course(oriented, settings.chord_um / settings.step_um)
        stretches.append(Stretch(oriented, _near_ends(course, anatomy), course))
    if not stretches:
        return Junction(
            (),
            "no junction found: the epidermis borders on dermis for less than "
            f"{settings.min_length_um:g} um at a stretch",
        )
    return Junction(tuple(sorted(stretches, key=lambda s: -s.length_um)))


def trace_surface(compartments: Compartments, smoothing_um: float) -> list[Points]:
    """Follow the upper border of the viable epidermis, where it faces corneum or open glass.

    Returns
    -------
    Lines (n, 2) in um, smoothed along the arc by `smoothing_um`; none without epidermis.
    """
    if not compartments.has_epidermis:
        return []
    known = _SURFACES.setdefault(compartments, {})
    if smoothing_um not in known:
        lines = _borders(compartments, facing_dermis=False)
        smooth = [smooth_line(line, smoothing_um / 2, smoothing_um) for line in lines]
        known[smoothing_um] = [line for line in smooth if line is not None]
    return known[smoothing_um]


def _borders(compartments: Compartments, *, facing_dermis: bool) -> Iterator[Points]:
    """Runs of the epidermis' outline within the picture, in um, that face dermis or do not."""
    extent = np.array(compartments.labels.shape) - 1 - _BORDER_PX
    for pixels in _outlines(compartments):
        line_um = (pixels + 0.5) * compartments.mpp
        inside = ((pixels > _BORDER_PX) & (pixels < extent)).all(axis=1)
        share = _dermal_share(line_um, compartments)
        dermal = binary_dilation(
            share >= _MIN_DERMAL_SHARE,
            iterations=_END_VERTICES,
            mask=share >= _END_DERMAL_SHARE,
        )
        yield from _runs(line_um, (dermal == facing_dermis) & inside)


def _outlines(compartments: Compartments) -> Iterator[Points]:
    """Closed outlines (n, 2) of the epidermis in pixels, piece by piece."""
    for box in boxes_around(compartments.labels == EPIDERMIS, 2):
        score = compartments.score[window_of(box)].astype(np.float32)
        for contour in find_contours(np.pad(score, 1, constant_values=-FULL), 0.0):
            if len(contour) >= 4:
                yield contour - 1 + (box.y, box.x)  # the padding


def _dermal_share(outline_um: Points, compartments: Compartments) -> Floats:
    """How much of the way outwards from an outline of epidermis is dermis (0-1).

    The way is `_LOOK_UM` long, or ends where it meets epidermis again, as in a narrow papilla.
    Thin rims of blurred tissue before glass thus do not count as dermis, narrow clefts do not
    hide it.
    """
    smooth = gaussian_filter1d(outline_um, _NORMAL_SIGMA, axis=0, mode="nearest")
    normals = right_normals(smooth)
    step = compartments.mpp
    ahead = sample(compartments.score, outline_um + 2 * step * normals, step)
    behind = sample(compartments.score, outline_um - 2 * step * normals, step)
    outwards = normals if np.median(ahead - behind) < 0 else -normals
    distances = np.arange(2 * step, _LOOK_UM, step)
    way = outline_um[:, None] + distances[:, None] * outwards[:, None]
    codes = compartments.at(way.reshape(-1, 2)).reshape(way.shape[:2])
    open_way = np.logical_and.accumulate(codes != EPIDERMIS, axis=1)
    dermis = ((codes == DERMIS) & open_way).sum(axis=1)
    return cast(Floats, dermis / np.maximum(open_way.sum(axis=1), 1))


def _runs(line_um: Points, chosen: Mask) -> Iterator[Points]:
    """Stretches of a line where `chosen` holds, short breaks bridged.

    A closed line without a break runs around a papilla cut across, not along the surface.
    """
    closed = np.allclose(line_um[0], line_um[-1])
    if closed:  # the last vertex is the first again
        line_um, chosen = line_um[:-1], chosen[:-1]
    if not chosen.any() or (closed and chosen.all()):
        return
    if closed:
        start = _longest_break(chosen)
        line_um, chosen = np.roll(line_um, -start, axis=0), np.roll(chosen, -start)
    steps = np.hypot(*np.diff(line_um, axis=0).T)
    arc = np.concatenate([[0.0], np.cumsum(steps)])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    begin = None
    for first, last in zip(edges[::2], edges[1::2] - 1, strict=True):
        if begin is None:
            begin, end = first, last
        elif arc[first] - arc[end] <= _BRIDGE_UM:
            end = last
        else:
            yield line_um[begin : end + 1]
            begin, end = first, last
    if begin is not None:
        yield line_um[begin : end + 1]


def _longest_break(chosen: Mask) -> int:
    """Where the longest run of False of a closed line begins; shorter ones may be bridged."""
    count = len(chosen)
    first = int(np.argmax(chosen))  # begin at a True, so that no run of False wraps around
    turned = np.roll(chosen, -first)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], turned, [True]]).astype(int)))
    starts, ends = edges[::2], edges[1::2]
    return int(starts[np.argmax(ends - starts)] + first) % count


def _to_cut_edges(line_um: Points, compartments: Compartments) -> Points:
    """The line, led straight on from its ends to where the living tissue ends.

    Near a cut edge the border is no longer seen to face dermis, but the junction reaches it.
    """
    ends = []
    for end in (line_um, line_um[::-1]):
        onward = end[0] - end[min(_END_TANGENT, len(end) - 1)]
        onward /= max(float(np.hypot(*onward)), 1e-9)
        ahead = end[0] + np.arange(compartments.mpp, _END_UM, compartments.mpp)[:, None] * onward
        alive = np.isin(compartments.at(ahead), (EPIDERMIS, DERMIS))
        # Living tissue all the way: this is no cut edge, the line stays as it is.
        ends.append(ahead[: 0 if alive.all() else int(np.argmin(alive))])
    return np.concatenate([ends[0][::-1], line_um, ends[1]])


def dermis_right(line_um: Points, compartments: Compartments) -> Points:
    """The line (n, 2) in um, reversed if need be, so that epidermis lies to its left."""
    votes, normals = 0, right_normals(line_um)
    for side in (1, -1):
        codes = compartments.at(line_um + side * 6.0 * normals)
        votes += side * int((codes == EPIDERMIS).sum())
    return line_um if votes <= 0 else line_um[::-1].copy()


def _settled(normals: Points) -> Points:
    """The normals, at the ends their mean over the last part: a hook there must not turn the side.

    All that lies beyond an end is nearest to its one vertex.
    """
    settled = normals.copy()
    settled[0], settled[-1] = normals[:_HOOK].mean(axis=0), normals[-_HOOK:].mean(axis=0)
    return settled


def _near_ends(course_um: Points, anatomy: AnatomySettings) -> Mask:
    """Which vertices lie near the ends, along the course: ridges there must not bring it nearer."""
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(course_um, axis=0).T))])
    margin_um = min(anatomy.cut_edge_um, anatomy.cut_edge_share * arc[-1])
    return cast(Mask, (arc < margin_um) | (arc > arc[-1] - margin_um))


def _segment_distance(points: Points, a: Points, b: Points) -> Floats:
    """Distance of each point to its own segment a-b (a point where both are equal)."""
    along = b - a
    square = np.maximum((along**2).sum(axis=1), 1e-12)
    t = np.clip(((points - a) * along).sum(axis=1) / square, 0, 1)
    return cast(Floats, np.hypot(*(points - a - t[:, None] * along).T))
