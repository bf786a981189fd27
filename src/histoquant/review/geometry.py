"""Compartments, junction and left-out regions after a reviewer's edits.

Edits are taken in the order they were made. Artefacts leave out what was drawn into them; regions
come last, so that junction drawn into an excluded region is excluded too, and an included region
takes back artefacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from histoquant.anatomy import DERMIS, EPIDERMIS, NAMES, Compartments
from histoquant.artefacts import NONE
from histoquant.errors import ReviewError
from histoquant.junction import Junction, Stretch, dermis_right, trace_junction
from histoquant.quality import leave_out
from histoquant.review import lines
from histoquant.review.edits import (
    DeleteJunction,
    Edit,
    ExcludeRegion,
    IncludeRegion,
    Line,
    RedrawJunction,
    SetCompartment,
)
from histoquant.review.regions import pixels_inside, points_inside
from histoquant.settings import Settings

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

GEOMETRIC = (RedrawJunction, DeleteJunction, ExcludeRegion, IncludeRegion, SetCompartment)
_WINDOW_UM = 500.0  # around a painted polygon: what the junction is traced anew in
_REACH_UM = 30.0  # beyond the polygon: how far the new junction takes the place of the old
_REMEMBERED = 3  # states of compartments: on the largest slide each may hold its own
_FEW = 1000  # points: looking them up again costs less than remembering them

Numbered = tuple[int, Edit]


class Region(NamedTuple):
    """A polygon in which is left out what was measured (a reason), or measured again (none)."""

    polygon_um: Line
    reason: str


@dataclass(frozen=True, eq=False)
class LastingJunction(Junction):
    """A junction that remembers where many points lie: regions ask for the same ones again.

    Attributes
    ----------
    memory
        What was asked -> what was found; none of it depends on what is excluded, so that
        junctions with the same lines share it.
    """

    memory: dict[tuple[str, bytes], npt.NDArray[Any]] = field(default_factory=dict)

    def signed_distance(self, points: Points) -> Points:
        """As `Junction.signed_distance`."""
        return self._remembered("distance", points, super().signed_distance)

    def beside(self, points: Points) -> npt.NDArray[np.int64]:
        """As `Junction.beside`."""
        return self._remembered("beside", points, super().beside)

    def _remembered(
        self, what: str, points: Points, ask: Callable[[Points], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        if len(points) < _FEW:
            return ask(points)
        digest = hashlib.blake2b(np.ascontiguousarray(points).tobytes(), digest_size=16).digest()
        if (what, digest) not in self.memory:
            self.memory[what, digest] = ask(points)
        return self.memory[what, digest]


@dataclass(frozen=True, eq=False)
class LastingCompartments(Compartments):
    """Compartments that remember their areas and pixels; they never change."""

    @cached_property
    def _known(self) -> dict[tuple[int, ...], Any]:
        return {}

    def area_mm2(self, *codes: int) -> float:
        """As `Compartments.area_mm2`."""
        if codes not in self._known:
            self._known[codes] = super().area_mm2(*codes)
        return float(self._known[codes])

    def centres_um(self, code: int) -> Points:
        """As `Compartments.centres_um`."""
        key = (-1, code)
        if key not in self._known:
            self._known[key] = super().centres_um(code)
        return np.asarray(self._known[key])


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where things are after the edits.

    Attributes
    ----------
    compartments, junction
        As edited; vertices in excluded regions are excluded, artefacts in included ones gone.
    pieces
        The junction's stretches with their origins, before regions.
    regions
        In order.
    left_out
        bool, the shape of the compartments: pixels in excluded regions; None without any.
    lost
        Number of an edit -> why it could not be applied.
    """

    compartments: Compartments
    junction: Junction
    pieces: lines.Pieces
    regions: tuple[Region, ...] = ()
    left_out: Mask | None = None
    lost: dict[int, str] = field(default_factory=dict)

    @property
    def needs_pixels(self) -> bool:
        """Whether some junction was drawn or traced anew, so that no profile of it is known."""
        return any(piece.origin is None for piece in self.pieces)

    def reasons_at(self, points_um: Points) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        """Index into reasons for each point: 0 where no region leaves it out."""
        words = ["", *dict.fromkeys(r.reason for r in self.regions if r.reason)]
        number = np.zeros(len(points_um), np.int16)
        for region in self.regions:
            number[points_inside(points_um, region.polygon_um)] = words.index(region.reason)
        return number, tuple(words)


def as_measured(compartments: Compartments, junction: Junction) -> Geometry:
    """The geometry before any edit."""
    own = {f.name: getattr(compartments, f.name) for f in fields(compartments)}
    lasting = LastingJunction(junction.stretches, junction.reason)
    return Geometry(LastingCompartments(**own), lasting, lines.as_pieces(junction))


class Edits:
    """Geometric edits on one slide; goes on from what it knows of the edits before.

    Parameters
    ----------
    base
        The slide as it was measured.
    """

    def __init__(self, base: Geometry, settings: Settings) -> None:
        self._base, self._settings = base, settings
        self._known: dict[tuple[Numbered, ...], _Folded] = {}

    def geometry(self, edits: tuple[Numbered, ...]) -> Geometry:
        """The slide with numbered edits, all of them geometric, applied in order.

        An edit that does not find its object is left out, and `Geometry.lost` says why.
        """
        folded = _Folded(self._base.compartments, self._base.pieces)
        done = len(edits)
        while done and edits[:done] not in self._known:
            done -= 1
        if done:
            folded = self._known[edits[:done]]
        for after in range(done + 1, len(edits) + 1):
            folded = _folded(folded, *edits[after - 1], self._settings)
            self._keep(edits[:after], folded)
        return _with_regions(
            self._base, folded.compartments, folded.pieces, folded.regions, dict(folded.lost)
        )

    def _keep(self, edits: tuple[Numbered, ...], folded: _Folded) -> None:
        self._known[edits] = folded
        while len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]


class _Folded(NamedTuple):
    """What edits made of compartments and lines, before regions are laid over them."""

    compartments: Compartments
    pieces: lines.Pieces
    regions: tuple[Region, ...] = ()
    lost: tuple[tuple[int, str], ...] = ()


def _folded(before: _Folded, number: int, edit: Edit, settings: Settings) -> _Folded:
    compartments, pieces = before.compartments, before.pieces
    try:
        if isinstance(edit, SetCompartment):
            compartments, pieces = _repaint(compartments, pieces, edit, settings)
        elif isinstance(edit, RedrawJunction):
            compartments, pieces = _redraw(compartments, pieces, edit, settings)
        elif isinstance(edit, DeleteJunction):
            start, end = (np.asarray(p, np.float64) for p in (edit.start_um, edit.end_um))
            pieces = lines.delete(pieces, start, end, settings)
        elif isinstance(edit, ExcludeRegion | IncludeRegion):
            region = _region(edit, compartments)
            return before._replace(regions=(*before.regions, region))
    except ReviewError as error:
        return before._replace(lost=(*before.lost, (number, str(error))))
    return before._replace(compartments=compartments, pieces=pieces)


def _with_regions(
    base: Geometry,
    compartments: Compartments,
    pieces: lines.Pieces,
    regions: tuple[Region, ...],
    lost: dict[int, str],
) -> Geometry:
    reason = base.junction.reason
    if pieces is base.pieces and isinstance(base.junction, LastingJunction):
        lasting = replace(base.junction)
    else:
        plain = leave_out(lines.as_junction(pieces, reason), compartments)
        lasting = LastingJunction(plain.stretches, plain.reason)
    if not regions:
        return Geometry(compartments, lasting, pieces, lost=lost)
    left_out = np.zeros(compartments.labels.shape, np.bool_)
    found = compartments.artefacts
    artefacts = None if found is None else found.copy()
    for region in regions:
        window, inside = pixels_inside(left_out.shape, compartments.mpp, region.polygon_um)
        left_out[window][inside] = bool(region.reason)
        if artefacts is not None and not region.reason:
            artefacts[window][inside] = NONE
    if artefacts is not None and (artefacts != found).any():
        compartments = replace(compartments, artefacts=artefacts)
    stretches = tuple(_with_exclusions(stretch, regions) for stretch in lasting.stretches)
    junction = replace(lasting, stretches=stretches)
    return Geometry(compartments, junction, pieces, regions, left_out, lost)


def _with_exclusions(stretch: Stretch, regions: tuple[Region, ...]) -> Stretch:
    excluded = stretch.excluded.copy()
    artefacts = None if stretch.artefacts is None else stretch.artefacts.copy()
    for region in regions:
        inside = points_inside(stretch.points_um, region.polygon_um)
        excluded[inside] = bool(region.reason)
        if artefacts is not None and not region.reason:
            artefacts[inside] = NONE
    return replace(stretch, excluded=excluded, artefacts=artefacts)


def _region(edit: ExcludeRegion | IncludeRegion, compartments: Compartments) -> Region:
    _, inside = pixels_inside(compartments.labels.shape, compartments.mpp, edit.polygon_um)
    if not inside.any():
        raise ReviewError("the region lies off the slide, or is smaller than a pixel")
    excluding = isinstance(edit, ExcludeRegion)
    return Region(edit.polygon_um, f"reviewer: {edit.reason}" if excluding else "")


def _redraw(
    compartments: Compartments, pieces: lines.Pieces, edit: RedrawJunction, settings: Settings
) -> tuple[Compartments, lines.Pieces]:
    """The drawn line in its place, and on either side of it the tissue that belongs there."""
    line = np.asarray(edit.line_um, np.float64)
    pieces, enclosed = lines.redraw(
        pieces, line, lambda points: dermis_right(points, compartments), settings
    )
    if enclosed is None:
        return compartments, pieces
    window, inside = pixels_inside(compartments.labels.shape, compartments.mpp, enclosed.tolist())
    rows, columns = np.nonzero(inside)
    corner = np.array([window[0].start, window[1].start])
    centres = (np.column_stack([rows, columns]) + corner + 0.5) * compartments.mpp
    depth = Junction((pieces[-1].stretch,)).depth_um(centres)
    known = compartments.labels[window][inside]
    now = np.where((depth < 0) & (known == DERMIS), EPIDERMIS, known)
    now = np.where((depth >= 0) & (known == EPIDERMIS), DERMIS, now)
    labels = compartments.labels.copy()
    labels[window][inside] = now.astype(np.uint8)
    return _relabelled(compartments, labels), pieces


def _repaint(
    compartments: Compartments, pieces: lines.Pieces, edit: SetCompartment, settings: Settings
) -> tuple[Compartments, lines.Pieces]:
    """The polygon painted, and the junction traced anew around it."""
    window, inside = pixels_inside(compartments.labels.shape, compartments.mpp, edit.polygon_um)
    if not inside.any():
        raise ReviewError("the polygon lies off the slide, or is smaller than a pixel")
    code = next(code for code, name in NAMES.items() if name == edit.compartment)
    labels = compartments.labels.copy()
    labels[window][inside] = code
    painted = _relabelled(compartments, labels)
    before, after = compartments.labels[window], labels[window]
    if all(np.array_equal(before == code, after == code) for code in (EPIDERMIS, DERMIS)):
        return painted, pieces
    traced = _trace_around(painted, edit.polygon_um, settings)
    within = _near(edit.polygon_um)
    return painted, lines.replace_within(pieces, traced, within, settings)


def _relabelled(compartments: Compartments, labels: npt.NDArray[np.uint8]) -> Compartments:
    """Compartments with other labels, the score to one side or the other where they differ."""
    changed = (labels == EPIDERMIS) != (compartments.labels == EPIDERMIS)
    score = compartments.score.copy()
    full = 1 if score.dtype.kind == "f" else np.iinfo(score.dtype.name).max
    score[changed] = np.where(labels[changed] == EPIDERMIS, full, -full)
    reason = compartments.reason
    if (labels == EPIDERMIS).any():
        reason = ""
    elif not reason:
        reason = "a reviewer left no epidermis"
    return replace(compartments, labels=labels, score=score, reason=reason)


def _trace_around(
    compartments: Compartments, polygon_um: Sequence[Sequence[float]], settings: Settings
) -> Junction:
    """The junction in a window around a polygon, by the same tracing as for a whole slide."""
    corners, mpp = np.asarray(polygon_um, np.float64), compartments.mpp
    low = np.maximum(np.floor((corners.min(axis=0) - _WINDOW_UM) / mpp).astype(int), 0)
    high = np.ceil((corners.max(axis=0) + _WINDOW_UM) / mpp).astype(int)
    window = slice(low[0], high[0]), slice(low[1], high[1])
    labels = np.ascontiguousarray(compartments.labels[window])
    if not (labels == EPIDERMIS).any():
        return Junction((), "no epidermis around the polygon")
    score = np.ascontiguousarray(compartments.score[window])
    part = replace(compartments, labels=labels, score=score, artefacts=None)
    traced = trace_junction(part, settings.junction, settings.anatomy)
    moved = (
        replace(s, points_um=s.points_um + low * mpp, course_um=s.course_um + low * mpp,
                excluded=np.zeros_like(s.excluded))
        for s in traced.stretches
    )  # fmt: skip
    return Junction(tuple(moved), traced.reason)


def _near(polygon_um: Sequence[Sequence[float]]) -> Callable[[Points], Mask]:
    """Which points lie in a polygon or within `_REACH_UM` of it."""
    import shapely

    area = shapely.make_valid(shapely.Polygon(polygon_um)).buffer(_REACH_UM)
    shapely.prepare(area)

    def within(points_um: Points) -> Mask:
        return np.asarray(shapely.contains_xy(area, points_um[:, 0], points_um[:, 1]), np.bool_)

    return within
