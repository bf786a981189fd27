"""A study in shards: processes that share a results directory and need no scheduler.

Shard ``i/n`` measures every n-th slide of the manifest. Any number of shards run at the same
time, on any machines that see the directory; each writes the directories of its own slides and
nobody's else. What was received, with its settings, lies in ``shards/received.json``, which
every shard of a run writes with the same content. The ledger is made from that and from what
the slides' directories say (`merge`), so it is right whenever it is made and whatever was killed.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from histoquant import __version__, atomic, locks
from histoquant.errors import ResultError, SettingsError
from histoquant.manifest import Entry
from histoquant.results import FAILURE, read_record, standing, to_json
from histoquant.resume import Key, Step, is_same_slide, make_key
from histoquant.rundir import SHARDS, Ledger, RunDirectory, Status, now
from histoquant.settings import Settings, settings_from

RECEIVED = "received.json"

_DECIDING = ("marker", "settings_sha256", "version", "given_mpp")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of` parts, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``.

        Raises
        ------
        SettingsError
            When it is no such thing.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise SettingsError(
                f"--shard {text!r} is not i/n with i from 1 to n, such as 3/8 "
                "(in a job array: $SLURM_ARRAY_TASK_ID/8)"
            )
        return cls(int(number), int(of))

    def own(self, steps: Sequence[Step]) -> list[Step]:
        """The shard's steps: every n-th, or every n-th staining batch where slides wait for one.

        A slide whose threshold comes from the negative control of its batch is in the same
        shard as the control.
        """
        groups: dict[str, list[Step]] = {}
        for step in steps:
            together = locks.needs_control(step.entry, step.settings)
            name = f"batch {step.entry.batch}" if together else f"slide {step.entry.slide_id}"
            groups.setdefault(name, []).append(step)
        mine = list(groups.values())[self.number - 1 :: self.of]
        return [step for group in mine for step in group]


def write_received(
    directory: RunDirectory, entries: Iterable[Entry], settings: Settings, about: Mapping[str, Any]
) -> None:
    """Leave for `merge` what the shards of a run have received: the same from every shard."""
    content = {
        **about,
        "version": __version__,
        "settings": settings.model_dump(mode="json"),
        "entries": [{**asdict(entry), "path": str(entry.path)} for entry in entries],
    }
    path = directory.path / SHARDS / RECEIVED
    text = to_json(content)
    with suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return
    atomic.write_text(path, text)


def merge(directory: RunDirectory) -> bool:
    """Write the ledger and ``run.json`` of what shards have done so far, if there were any.

    The caller holds ``directory.locked(beside_shards=True)``. When no shard is at work any more
    what was received is forgotten: it is in the ledger.

    Raises
    ------
    ResultError
        When what the shards left cannot be read.
    """
    at_work = directory.shards_at_work()
    received = _read_received(directory)
    if received is None:
        return False
    settings = settings_from(received["settings"], f"{SHARDS}/{RECEIVED}")
    entries = [_entry(fields) for fields in received["entries"]]
    version = str(received["version"])
    ledger = Ledger(directory.ledger_path)
    fates = _fates([e for e in entries if not e.problem], directory, settings, version)
    fates |= {entry: ("failed", entry.problem, None) for entry in entries if entry.problem}
    for entry in sorted(entries, key=lambda e: e.row):
        ledger.record(entry, *fates[entry])
    ledger.exclude_others(directory.ledger().rows)
    ledger.save()
    about = {name: value for name, value in received.items() if name != "entries"}
    counts = {s: ledger.count(s) for s in ("done", "failed", "excluded", "pending")}
    directory.write_run(
        {**about, "host": socket.gethostname(), "scheduler": "shards"}
        | {"finished": now(), "slides": counts}
    )
    if not (at_work or directory.shards_at_work()):
        _forget_received(directory)
    return True


def are_there(directory: RunDirectory) -> bool:
    """Whether shards have left something that `merge` would take up."""
    return (directory.path / SHARDS / RECEIVED).exists()


def forget(directory: RunDirectory) -> None:
    """Remove what shards left: a run of the whole directory knows it all anew."""
    _forget_received(directory)


def _forget_received(directory: RunDirectory) -> None:
    """Remove the list, not its folder: a shard that starts now is about to have its lock there."""
    (directory.path / SHARDS / RECEIVED).unlink(missing_ok=True)


def _read_received(directory: RunDirectory) -> dict[str, Any] | None:
    path = directory.path / SHARDS / RECEIVED
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ResultError(f"cannot read {path}: {error}; start a shard again") from None
    if not isinstance(content, dict) or "entries" not in content:
        raise ResultError(f"{path} is not what a shard writes; start a shard again")
    return content


def _entry(fields: Mapping[str, Any]) -> Entry:
    path: Path | str = fields["path"]
    entry = Entry(**fields)
    return entry if "://" in str(path) else replace(entry, path=Path(path))


def _fates(
    entries: Sequence[Entry], directory: RunDirectory, settings: Settings, version: str
) -> dict[Entry, tuple[Status, str, float | None]]:
    """What became of every slide, by its own directory."""
    controls = [entry for entry in entries if locks.is_control(entry)]
    fates = {}
    for entry in entries:
        own = locks.with_vectors(entry, entry.settings(settings), directory)
        own = locks.with_threshold(entry, own, controls, directory)
        fates[entry] = _fate(entry, directory.slide(entry.slide_id), own, version)
    return fates


def _fate(
    entry: Entry, place: Path, settings: Settings, version: str
) -> tuple[Status, str, float | None]:
    key = make_key(entry, settings) | {"version": version}
    result, failure = read_record(place), read_record(place, FAILURE)
    if result is not None and _is_current(result, key, entry):
        return *standing(result, entry.sample), result.get("seconds")
    if failure is not None and _is_current(failure, key, entry):
        return "failed", str(failure.get("reason")), failure.get("seconds")
    return "pending", "no shard has measured it yet: start its shard again", None


def _is_current(record: Mapping[str, Any], key: Key, entry: Entry) -> bool:
    """Whether a record is of these settings, and of the slide as it is, if that is there."""
    old = record.get("key", {})
    same = all(old.get(name) == key[name] for name in _DECIDING)
    return same and ("slide_bytes" not in key or is_same_slide(old, key, entry))
