"""What a reviewer may change of a slide, as small frozen values bound to places in um.

An edit names no row and no label of a result, only places on the slide, so that it finds its
object again after the slide has been measured anew. Points are (y, x) in um from the slide's
top left corner, as everywhere in the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from histoquant.anatomy import NAMES
from histoquant.errors import ReviewError

Point = tuple[float, float]
Line = tuple[Point, ...]
NucleusClass = Literal["positive", "negative", "not_a_nucleus", "automatic"]
Verdict = Literal["accepted", "rejected", "open"]

COMPARTMENT_NAMES: tuple[str, ...] = tuple(NAMES.values())
"""What `SetCompartment` may paint."""


@dataclass(frozen=True)
class SetClass:
    """Call nuclei positive, negative or no nuclei; ``automatic`` takes the program's word again.

    One click is one point; a lasso is one edit with many points.

    Attributes
    ----------
    points_um
        Centres of the nuclei.
    value
        What they are.
    intensity_class
        1-3 for positive nuclei; 0 takes it from the nucleus' own OD (at least 1).
    """

    points_um: Line
    value: NucleusClass
    intensity_class: int = 0

    kind = "set_class"

    def __post_init__(self) -> None:
        _check_points(self.points_um, 1, self.kind)
        _check_choice(self.value, get_args(NucleusClass), self.kind)
        _check_class(self.intensity_class, self.value)


@dataclass(frozen=True)
class AddNucleus:
    """Add a nucleus that the program missed. It has no OD and no area: only place and class."""

    point_um: Point
    value: NucleusClass
    intensity_class: int = 0

    kind = "add_nucleus"

    def __post_init__(self) -> None:
        _check_points((self.point_um,), 1, self.kind)
        _check_choice(self.value, ("positive", "negative"), self.kind)
        _check_class(self.intensity_class, self.value)


@dataclass(frozen=True)
class RedrawJunction:
    """Draw a stretch of junction: it takes the place of what lies between its ends.

    An end within 40 um of a traced stretch joins it there; where neither does, the line is a
    stretch of its own. Dermis lies on the side where most dermis is.
    """

    line_um: Line

    kind = "redraw_junction"

    def __post_init__(self) -> None:
        _check_points(self.line_um, 2, self.kind)


@dataclass(frozen=True)
class DeleteJunction:
    """Take away the junction between two points of a stretch, to whole bins outwards."""

    start_um: Point
    end_um: Point
    reason: str = ""

    kind = "delete_junction"

    def __post_init__(self) -> None:
        _check_points((self.start_um, self.end_um), 2, self.kind)


@dataclass(frozen=True)
class ExcludeRegion:
    """Leave out what lies in a polygon: nuclei, areas, and the junction that runs through it."""

    polygon_um: Line
    reason: str

    kind = "exclude_region"

    def __post_init__(self) -> None:
        _check_points(self.polygon_um, 3, self.kind)
        _check_reason(self.reason, self.kind)


@dataclass(frozen=True)
class IncludeRegion:
    """Measure what lies in a polygon although it was left out.

    That is a cut edge, an artefact, or an earlier region.
    """

    polygon_um: Line
    reason: str

    kind = "include_region"

    def __post_init__(self) -> None:
        _check_points(self.polygon_um, 3, self.kind)
        _check_reason(self.reason, self.kind)


@dataclass(frozen=True)
class SetCompartment:
    """Say what the tissue in a polygon is; the junction is traced anew where it ran there."""

    polygon_um: Line
    compartment: str

    kind = "set_compartment"

    def __post_init__(self) -> None:
        _check_points(self.polygon_um, 3, self.kind)
        _check_choice(self.compartment, COMPARTMENT_NAMES, self.kind)


@dataclass(frozen=True)
class SetVerdict:
    """Accept or reject the whole slide; ``open`` takes either back."""

    value: Verdict
    reason: str = ""

    kind = "set_verdict"

    def __post_init__(self) -> None:
        _check_choice(self.value, get_args(Verdict), self.kind)
        if self.value == "rejected":
            _check_reason(self.reason, self.kind)


@dataclass(frozen=True)
class AddNote:
    """Words on the slide, or on a place of it. They change no figure."""

    text: str
    point_um: Point | None = None

    kind = "add_note"

    def __post_init__(self) -> None:
        _check_reason(self.text, self.kind)
        if self.point_um is not None:
            _check_points((self.point_um,), 1, self.kind)


Edit = (
    SetClass
    | AddNucleus
    | RedrawJunction
    | DeleteJunction
    | ExcludeRegion
    | IncludeRegion
    | SetCompartment
    | SetVerdict
    | AddNote
)

KINDS: dict[str, Callable[..., Edit]] = {
    kind.kind: kind
    for kind in (
        SetClass,
        AddNucleus,
        RedrawJunction,
        DeleteJunction,
        ExcludeRegion,
        IncludeRegion,
        SetCompartment,
        SetVerdict,
        AddNote,
    )
}
"""Name of each kind in the journal -> its class."""


def edit_to_json(edit: Edit) -> dict[str, Any]:
    """The edit's own fields, as the journal's ``what`` holds them."""
    return {name: getattr(edit, name) for name in edit.__dataclass_fields__}


def edit_from_json(kind: str, what: Mapping[str, Any]) -> Edit:
    """The edit that a line of a journal holds.

    Raises
    ------
    ReviewError
        For a kind that this version does not know, or fields that do not fit it.
    """
    if kind not in KINDS:
        raise ReviewError(
            f"edits of the kind {kind!r} are unknown to this version of histoquant (it knows "
            f"{', '.join(KINDS)}): update histoquant"
        )
    try:
        return KINDS[kind](**{name: _tuples(value) for name, value in what.items()})
    except TypeError as error:
        raise ReviewError(f"an edit of the kind {kind!r} has other fields: {error}") from None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _check_points(points: Sequence[Any], least: int, kind: str) -> None:
    """Refuse too few points, and points that are no pairs of finite numbers."""
    if len(points) < least:
        raise ReviewError(f"{kind}: {len(points)} point(s), at least {least} are needed")
    for point in points:
        pair = isinstance(point, tuple) and len(point) == 2
        if not (pair and all(isinstance(v, int | float) and math.isfinite(v) for v in point)):
            raise ReviewError(f"{kind}: {point!r} is no point (y, x) in um")


def _check_choice(value: object, choices: Sequence[str], kind: str) -> None:
    if value not in choices:
        raise ReviewError(f"{kind}: {value!r} is none of {', '.join(choices)}")


def _check_reason(text: object, kind: str) -> None:
    if not (isinstance(text, str) and text.strip()):
        raise ReviewError(f"{kind}: words are needed (a reason, or a note's text); none were given")


def _check_class(level: object, value: str) -> None:
    if level not in ((0, 1, 2, 3) if value == "positive" else (0,)):
        raise ReviewError(f"intensity class {level!r} does not fit a nucleus called {value}")
