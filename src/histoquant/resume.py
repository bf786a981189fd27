"""What is to be done about each slide: what is missing or changed, and nothing else.

Every slide has a key: the slide's content, the settings, the version, the marker and the scale
given for it. A slide whose ``result.json`` holds its present key is left alone. A slide that
failed is left alone too while its key is the same, unless it is retried on purpose or failed
for a reason outside itself (its worker died, the disk was full): that is tried again.

What the slides of a staining batch share (`histoquant.locks`) is part of the settings in the
key. Where it is not known yet, the slide waits: its step is ``measure``, and `batch.run` fills
in what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from histoquant import __version__, locks
from histoquant.errors import HistoquantError
from histoquant.manifest import Entry
from histoquant.results import FAILURE, LABELS, RESULT, automatic_place, read_record, standing
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings

Action = Literal["measure", "keep", "leave"]
Key = dict[str, object]

_SLIDE_FILE = ("slide_bytes", "slide_mtime_ns", "slide_stamps_sha256")
"""Size and latest time of all files of a slide; of several files also a hash of each one's."""


@dataclass(frozen=True)
class Step:
    """What is to be done about one slide, and why.

    ``measure`` it, ``keep`` its result, or ``leave`` it failed as it is.
    """

    entry: Entry
    settings: Settings
    action: Action
    why: str
    seconds: float | None = None


def plan(
    entries: Sequence[Entry],
    directory: RunDirectory,
    settings: Settings,
    retry_failed: bool = False,
    exclude_others: bool = False,
) -> list[Step]:
    """Decide for every usable entry what is to be done; nothing is written.

    `exclude_others` as for `batch.run`: controls measured in the directory before count unless
    the entries are the whole study.

    Raises
    ------
    ManifestError
        When the settings ask for what a staining batch shares, and slides name no batch.
    """
    locks.check_batches(entries, settings)
    places = {row["slide_id"]: row["resolved_path"] for row in directory.ledger().rows}
    controls = locks.controls_of(entries, directory, exclude_others)
    steps: dict[str, Step] = {}
    for entry in sorted(entries, key=lambda e: not locks.is_control(e)):  # controls first
        asked = entry.settings(settings)
        own = locks.with_vectors(entry, asked, directory)
        why = _waits_for(entry, own, controls, steps)
        if why:
            steps[entry.slide_id] = Step(entry, own, "measure", why)
            continue
        own = locks.with_threshold(entry, own, controls, directory)
        moved = _is_moved(entry, places)
        step = _step(entry, directory, own, retry_failed, moved)
        if step.action == "measure" and locks.rests_on_nothing(entry, asked, directory):
            why = f"the stain vectors of batch {entry.batch} are estimated first"
            step = Step(entry, asked, "measure", why)
        steps[entry.slide_id] = step
    return [steps[entry.slide_id] for entry in entries]


def _waits_for(
    entry: Entry, settings: Settings, controls: Sequence[Entry], steps: Mapping[str, Step]
) -> str:
    """What of its batch a slide has to wait for, in words; empty for nothing."""
    if locks.needs_vectors(settings):
        return f"the stain vectors of batch {entry.batch} are estimated first"
    if locks.needs_threshold(entry, settings) and not locks.is_control(entry):
        own = [c for c in controls if c.batch == entry.batch]
        if any(c.slide_id in steps and steps[c.slide_id].action == "measure" for c in own):
            return f"the negative control of batch {entry.batch} is measured first"
    return ""


def make_key(entry: Entry, settings: Settings) -> Key:
    """What a result is the function of; size and time of the files stand for their content."""
    key: Key = {
        "marker": entry.marker,
        "settings_sha256": settings.sha256,
        "version": __version__,
        "given_mpp": entry.given_mpp,
    }
    from histoquant.slides.fingerprint import size_and_time

    with suppress(HistoquantError):
        key |= size_and_time(*_files(entry))
    return key


def _files(entry: Entry) -> list[Path | str]:
    """The slide, and the file with its nuclear stain where that is one of its own."""
    return [path for path in (entry.path, entry.nuclear_path) if path is not None]


def _is_moved(entry: Entry, places: Mapping[str, str]) -> bool:
    """Whether the ledger knows the slide's name from another place."""
    return bool(place := places.get(entry.slide_id)) and place != entry.resolved_path


def _step(
    entry: Entry, directory: RunDirectory, settings: Settings, retry_failed: bool, moved: bool
) -> Step:
    place = directory.slide(entry.slide_id)
    result = read_record(place)
    if result is not None:
        changed = _changes(result, entry, settings, moved)
        if changed:
            return Step(entry, settings, "measure", changed)
        status, why = standing(result, entry.sample)
        if status == "failed" and retry_failed:
            return Step(entry, settings, "measure", f"failed before, tried again: {why}")
        if settings.batch.labels and not (automatic_place(place) / LABELS).exists():
            return Step(entry, settings, "measure", f"no {LABELS}")
        return Step(entry, settings, "keep", "up to date", result.get("seconds"))
    failure = read_record(place, FAILURE)
    if failure is None:
        why = f"no {RESULT}: it was interrupted" if place.exists() else "new"
        return Step(entry, settings, "measure", why)
    changed = _changes(failure, entry, settings, moved)
    if changed or retry_failed or failure.get("passing"):
        why = changed or f"failed before, tried again: {failure.get('reason')}"
        return Step(entry, settings, "measure", why)
    return Step(entry, settings, "leave", str(failure.get("reason")), failure.get("seconds"))


def _changes(record: Mapping[str, Any], entry: Entry, settings: Settings, moved: bool) -> str:
    """What of a record's key has changed, in words; empty when nothing has."""
    old, new = record.get("key", {}), make_key(entry, settings)
    words = {
        "marker": "marker",
        "settings_sha256": "settings" + _changed_settings(record, settings),
        "version": "version",
        "given_mpp": "given mpp",
    }
    changed = [word for name, word in words.items() if old.get(name) != new.get(name)]
    if not is_same_slide(old, new, entry, moved):
        changed.append("slide file")
    return f"changed: {', '.join(changed)}" if changed else ""


def _changed_settings(record: Mapping[str, Any], settings: Settings) -> str:
    """Names of the settings that differ from those of a result, in brackets."""
    old = record.get("provenance", {}).get("settings", {})
    new = settings.effective()
    names = [
        f"{group}.{name}"
        for group, values in new.items()
        for name, value in values.items()
        if old.get(group, {}).get(name, value) != value
    ]
    return f" ({', '.join(names)})" if names else ""


def is_same_slide(old: Key, new: Key, entry: Entry, moved: bool = False) -> bool:
    """Whether the file's content is the same; it is read only where size, time or place differ.

    Parameters
    ----------
    old, new
        Key of a record, and the key of now (`make_key`).
    moved
        Whether the file lies in another place than it did.
    """
    known = "slide_bytes" in new and not moved
    if known and all(old.get(name) == new.get(name) for name in _SLIDE_FILE):
        return True
    if old.get("slide_bytes") != new.get("slide_bytes") or "slide_sha256" not in old:
        return False
    from histoquant.slides import Slide

    try:
        return Slide(entry.path, nuclear=entry.nuclear_path).fingerprint == old["slide_sha256"]
    except (HistoquantError, OSError):
        return False
