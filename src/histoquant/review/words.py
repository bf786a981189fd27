"""Edits in words, for the history on the screen and the report."""

from __future__ import annotations

from histoquant.review.edits import (
    AddNote,
    AddNucleus,
    DeleteJunction,
    Edit,
    ExcludeRegion,
    IncludeRegion,
    RedrawJunction,
    SetClass,
    SetCompartment,
    SetVerdict,
)

_CLASSES = {
    "positive": "positive",
    "negative": "negative",
    "not_a_nucleus": "not a nucleus",
    "automatic": "as the program says",
}


def describe(edit: Edit | None) -> str:
    """What an edit does, in a few words."""
    match edit:
        case SetClass(points_um=points, value=value):
            count = "1 nucleus" if len(points) == 1 else f"{len(points)} nuclei"
            return f"{count}: {_CLASSES[value]}"
        case AddNucleus(value=value):
            return f"added a {value} nucleus"
        case RedrawJunction():
            return "drew junction"
        case DeleteJunction(reason=reason):
            return _with_reason("deleted junction", reason)
        case ExcludeRegion(reason=reason):
            return _with_reason("excluded a region", reason)
        case IncludeRegion(reason=reason):
            return _with_reason("included a region", reason)
        case SetCompartment(compartment=compartment):
            return f"painted {compartment.replace('_', ' ')}"
        case SetVerdict(value=value, reason=reason):
            return _with_reason("verdict withdrawn" if value == "open" else value, reason)
        case AddNote(text=text):
            return f"note: {text}"
    return ""


def _with_reason(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what
