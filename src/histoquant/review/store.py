"""Where a slide's automatic result is kept beside the reviewed one.

After review a slide's directory holds the reviewed result, under the usual names, and the
automatic one as a whole in ``automatic/``. Before, and after all edits are undone, it holds the
automatic result alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histoquant import atomic
from histoquant.results import (
    AUTOMATIC,
    JOURNALS,
    RESULT,
    SlideResult,
    automatic_place,
    link_tree,
    read_record,
    read_result,
    write_result,
)

_OF_THE_RESULT = {"format", "slide_id", "marker", "summary", "reasons", "provenance", "files"}


def read_automatic(directory: Path) -> SlideResult:
    """A slide's result as the program measured it.

    Raises
    ------
    ResultError
        When there is none, or it is damaged.
    """
    return read_result(automatic_place(directory))


def write_reviewed(
    result: SlideResult, directory: Path, review: Mapping[str, Any], annotations: list[Any]
) -> None:
    """Write a reviewed result with the automatic one beside it; all of it or nothing.

    Parameters
    ----------
    review
        What ``result.json`` says of the review.
    annotations
        GeoJSON features of the regions.
    """
    source = automatic_place(directory)
    record = read_record(source) or {}
    kept = {name: value for name, value in record.items() if name not in _OF_THE_RESULT}
    write_result(
        result,
        directory,
        kept | {"review": dict(review)},
        automatic=source,
        annotations=annotations,
    )


def restore_automatic(directory: Path) -> None:
    """Make the automatic result the only one again; nothing is done where it is."""
    kept = directory / AUTOMATIC
    if not (kept / RESULT).exists():
        return
    with atomic.new_directory(directory, carry=JOURNALS) as new:
        link_tree(kept, new)
