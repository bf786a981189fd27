"""A junction whose stretches a reviewer cuts, redraws, or lets follow a corrected compartment.

A stretch that is cut at whole bins keeps its bins: it knows where on the traced stretch it began
(`Origin`). One that was drawn or traced anew has none, and its collagen VII has to be read from
the slide again. Stretches that were cut or drawn carry no artefacts: those follow from where they
lie (`histoquant.quality.leave_out`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from histoquant.artefacts import NONE
from histoquant.errors import ReviewError
from histoquant.junction import Junction, Stretch
from histoquant.polyline import resample, smooth_course
from histoquant.settings import Settings

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

JOIN_UM = 40.0
"""An end of a drawn line joins a stretch that is this near."""

NOTHING_LEFT = "a reviewer deleted all of the junction"


class Origin(NamedTuple):
    """Where a stretch begins on the stretch as it was traced."""

    stretch: int
    arc_um: float


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of the edited junction, and where it comes from; None when drawn or traced anew."""

    stretch: Stretch
    origin: Origin | None


@dataclass(frozen=True, eq=False)
class _Place:
    """The vertex of a piece that is nearest to a point."""

    piece: int
    vertex: int
    distance_um: float


Pieces = tuple[Piece, ...]


def as_pieces(junction: Junction) -> Pieces:
    """The stretches as they were traced."""
    return tuple(Piece(s, Origin(n, 0.0)) for n, s in enumerate(junction.stretches))


def as_junction(pieces: Pieces, reason: str) -> Junction:
    """The junction that the pieces make up; with `reason` when there are none."""
    stretches = tuple(piece.stretch for piece in pieces)
    return Junction(stretches, "" if stretches else reason or NOTHING_LEFT)


def delete(pieces: Pieces, start_um: Points, end_um: Points, settings: Settings) -> Pieces:
    """Take away what lies between two points of one stretch, outwards to whole bins.

    Raises
    ------
    ReviewError
        When a point is not at a stretch, or they are not at the same one.
    """
    first, last = (_nearest(pieces, point) for point in (start_um, end_um))
    if first is None or last is None or max(first.distance_um, last.distance_um) > JOIN_UM:
        raise ReviewError(f"no junction lies within {JOIN_UM:g} um of both ends of the cut")
    if first.piece != last.piece:
        raise ReviewError("the two ends of the cut lie on different stretches: cut each of them")
    piece, size = pieces[first.piece], settings.collagen7.bin_um
    arc = piece.stretch.arc_um
    begin, stop = sorted((float(arc[first.vertex]), float(arc[last.vertex])))
    begin, stop = np.floor(begin / size) * size, np.ceil(max(stop, begin + 1e-6) / size) * size
    rest = [_part(piece, 0.0, begin), _part(piece, stop, piece.stretch.length_um)]
    kept = [part for part in rest if part is not None and part.stretch.length_um >= size]
    return (*pieces[: first.piece], *kept, *pieces[first.piece + 1 :])


def redraw(
    pieces: Pieces, line_um: Points, orient: Callable[[Points], Points], settings: Settings
) -> tuple[Pieces, Points | None]:
    """Put a drawn line in the place of what lies between its ends.

    Parameters
    ----------
    line_um
        (n, 2) in um, in either direction.
    orient
        Turns a line so that dermis lies to its right.

    Returns
    -------
    pieces
        With the new line; an end that joins nothing ends its stretch.
    enclosed
        Polygon (m, 2) between the old course and the new, where the line joins one stretch with
        both ends; else None.

    Raises
    ------
    ReviewError
        When the line is too short to measure along.
    """
    step = settings.junction.step_um
    line = resample(line_um, step)
    if line is None:
        raise ReviewError(f"the line drawn is shorter than {3 * step:g} um")
    line, places = _directed(pieces, line, orient)
    head, tail = places
    before, after = _side(pieces, head, -1), _side(pieces, tail, 1)
    drawn = _Run(line, np.zeros(len(line), np.bool_))
    new = Piece(_stretch([before, drawn, after], settings, _exclusion(pieces, places)), None)
    enclosed = None
    if head is not None and tail is not None and head.piece == tail.piece:
        old = pieces[head.piece].stretch.points_um[head.vertex : tail.vertex + 1]
        enclosed = np.concatenate([old, line[::-1]])
    gone = {place.piece for place in places if place is not None}
    return (*(p for n, p in enumerate(pieces) if n not in gone), new), enclosed


def replace_within(
    pieces: Pieces, traced: Junction, within: Callable[[Points], Mask], settings: Settings
) -> Pieces:
    """The pieces as they are outside a region, and the stretches of `traced` inside it.

    Ends that meet at the border of the region are joined. A piece that the region does not
    touch stays as it is.
    """
    untouched = tuple(p for p in pieces if not within(p.stretch.points_um).any())
    touched = [p.stretch for p in pieces if p not in untouched]
    runs = [run for s in touched for run in _runs(s, ~within(s.points_um))]
    runs += [run for s in traced.stretches for run in _runs(s, within(s.points_um))]
    reason = touched[0].exclusion if touched else "within the cut edge"
    new = [_stretch([run], settings, reason) for run in _joined(runs) if len(run.points_um) > 3]
    least = settings.junction.min_length_um
    return (*untouched, *(Piece(s, None) for s in new if s.length_um >= least))


class _Run(NamedTuple):
    """Points in a row, and which of them are not measured."""

    points_um: Points
    excluded: Mask


def _nearest(pieces: Pieces, point_um: Points) -> _Place | None:
    found = []
    for number, piece in enumerate(pieces):
        distance = np.hypot(*(piece.stretch.points_um - point_um).T)
        vertex = int(np.argmin(distance))
        found.append(_Place(number, vertex, float(distance[vertex])))
    return min(found, key=lambda place: place.distance_um, default=None)


def _part(piece: Piece, begin: float, stop: float) -> Piece | None:
    """A piece from one arc length to another, its ends exactly there; None for nothing."""
    stretch = piece.stretch
    if stop - begin <= 1e-9:
        return None
    if begin <= 0 and stop >= stretch.length_um:
        return piece
    arc = stretch.arc_um
    inner = arc[(arc > begin + 1e-9) & (arc < stop - 1e-9)]
    at = np.concatenate([[max(begin, 0.0)], inner, [min(stop, arc[-1])]])
    points, course = (
        np.column_stack([np.interp(at, arc, values[:, k]) for k in (0, 1)])
        for values in (stretch.points_um, stretch.course_um)
    )
    excluded = np.interp(at, arc, _without_artefacts(stretch).astype(float)) > 0
    part = Stretch(points, excluded, course, stretch.exclusion)
    origin = piece.origin
    return Piece(part, None if origin is None else Origin(origin.stretch, origin.arc_um + begin))


def _directed(
    pieces: Pieces, line: Points, orient: Callable[[Points], Points]
) -> tuple[Points, tuple[_Place | None, _Place | None]]:
    """The line with dermis to its right, and where its two ends join."""
    ends = [_joint(pieces, line[k]) for k in (0, -1)]
    one, other = ends
    if one is not None and other is not None and one.piece == other.piece:
        backwards = one.vertex > other.vertex  # a stretch has dermis to its right already
    else:
        backwards = not np.array_equal(orient(line), line)
    if backwards:
        return line[::-1].copy(), (other, one)
    return line, (one, other)


def _joint(pieces: Pieces, end_um: Points) -> _Place | None:
    place = _nearest(pieces, end_um)
    return place if place is not None and place.distance_um <= JOIN_UM else None


def _side(pieces: Pieces, place: _Place | None, side: int) -> _Run | None:
    """What of a piece lies before (-1) or after (1) the vertex where a line joins it."""
    if place is None:
        return None
    stretch = pieces[place.piece].stretch
    part = slice(None, place.vertex) if side < 0 else slice(place.vertex + 1, None)
    return _Run(stretch.points_um[part], _without_artefacts(stretch)[part])


def _exclusion(pieces: Pieces, places: Sequence[_Place | None]) -> str:
    known = [pieces[place.piece].stretch.exclusion for place in places if place is not None]
    return known[0] if known else "within the cut edge"


def _stretch(runs: Sequence[_Run | None], settings: Settings, exclusion: str) -> Stretch:
    """One stretch of runs in a row, evenly spaced, with its own smooth course."""
    kept = [run for run in runs if run is not None and len(run.points_um)]
    points = np.concatenate([run.points_um for run in kept])
    excluded = np.concatenate([run.excluded for run in kept])
    step = settings.junction.step_um
    even = resample(points, step)
    if even is None:
        raise ReviewError(f"what is left of the junction there is shorter than {3 * step:g} um")
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0, arc[-1], len(even))
    flags = np.interp(at, arc, excluded.astype(float)) > 0
    course = smooth_course(even, settings.junction.chord_um / step)
    return Stretch(even, flags, course, exclusion)


def _runs(stretch: Stretch, chosen: Mask) -> Iterator[_Run]:
    """Unbroken runs of the chosen vertices of a stretch."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(int)))
    excluded = _without_artefacts(stretch)
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        yield _Run(stretch.points_um[first:stop], excluded[first:stop])


def _without_artefacts(stretch: Stretch) -> Mask:
    """Vertices that are excluded for another reason than an artefact."""
    if stretch.artefacts is None:
        return stretch.excluded
    return np.asarray(stretch.excluded & (stretch.artefacts == NONE), np.bool_)


def _joined(runs: list[_Run]) -> list[_Run]:
    """Runs put together, nearest first, where one ends within `JOIN_UM` of another's start."""
    runs = list(runs)
    while len(runs) > 1:
        ends = np.array([run.points_um[-1] for run in runs])
        starts = np.array([run.points_um[0] for run in runs])
        distance = np.hypot(*np.moveaxis(ends[:, None] - starts, -1, 0))
        np.fill_diagonal(distance, np.inf)  # a run is not closed on itself
        end, start = divmod(int(np.argmin(distance)), len(runs))
        if not distance[end, start] <= JOIN_UM:
            break
        first, second = runs[end], runs[start]
        whole = _Run(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))
        runs = [run for run in runs if run is not first and run is not second] + [whole]
    return runs
