"""A plan is locked before anyone sees which arm is which, and every later change is on record.

The lock is a journal beside the plan: it is only ever added to (`lock_plan`, `unblind`). A plan
that has changed is an amendment, which says what changed, and whether the arms were known by
then. Each entry seals the one before it, so that an entry altered or cut out is found
(`read_lock`). Whoever can write the file can also write a new one: quote the hash where others
keep it, in a registry or a dated letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histoquant import atomic
from histoquant.errors import StudyError
from histoquant.rundir import now
from histoquant.study.plan import Plan, content_sha256, plan_from

FORMAT = 1
"""Version of the layout of a lock."""
_ALWAYS = {"event": str, "time": str, "after_unblinding": bool, "previous": str, "seal": str}
_PLANNED = {"sha256": str, "plan": dict, "why": str}
_FIELDS: Mapping[str, Mapping[str, type]] = {
    "locked": _ALWAYS | _PLANNED,
    "amended": _ALWAYS | _PLANNED | {"old_sha256": str, "changes": list},
    "unblinded": _ALWAYS,
}
"""Event -> what an entry of it holds."""


@dataclass(frozen=True)
class Amendment:
    """One change of the plan after it was locked."""

    time: str
    old_sha256: str
    new_sha256: str
    changes: tuple[str, ...]
    after_unblinding: bool
    why: str = ""

    @property
    def sentence(self) -> str:
        """The amendment as the report prints it."""
        when = "after" if self.after_unblinding else "before"
        why = f" ({self.why})" if self.why else ""
        return (
            f"Amended {self.time}, {when} unblinding{why}: {'; '.join(self.changes)}. "
            f"Hash {self.old_sha256[:12]} became {self.new_sha256[:12]}."
        )


@dataclass(frozen=True)
class Lock:
    """A plan's lock as read: the first plan, its amendments, and when the arms were seen."""

    path: Path
    entries: tuple[Mapping[str, Any], ...]

    @property
    def locked_at(self) -> str:
        """When the plan was first locked, UTC."""
        return str(self.entries[0]["time"])

    @property
    def first_sha256(self) -> str:
        """Hash of the plan that was locked first."""
        return str(self.entries[0]["sha256"])

    @property
    def sha256(self) -> str:
        """Hash of the plan as it stands, amendments included."""
        return str(_plans(self.entries)[-1]["sha256"])

    @property
    def unblinded_at(self) -> str:
        """When the arms were first joined to results; empty while they were not."""
        times = [str(e["time"]) for e in self.entries if e["after_unblinding"]]
        return times[0] if times else ""

    @property
    def amendments(self) -> tuple[Amendment, ...]:
        """All changes since, in order."""
        return tuple(
            Amendment(
                time=str(e["time"]),
                old_sha256=str(e["old_sha256"]),
                new_sha256=str(e["sha256"]),
                changes=tuple(e["changes"]),
                after_unblinding=bool(e["after_unblinding"]),
                why=str(e["why"]),
            )
            for e in self.entries
            if e["event"] == "amended"
        )

    def sentences(self) -> list[str]:
        """What the report prints: hash, time, every amendment."""
        late = " when results had been seen with their arms" if self._late else ""
        out = [f"The plan was locked {self.locked_at}{late}, SHA-256 {self.first_sha256}."]
        if self.unblinded_at and not self._late:
            out.append(f"Arms were first joined to results {self.unblinded_at}.")
        out += [a.sentence for a in self.amendments]
        return out if self.amendments else [*out, "It has no amendment."]

    @property
    def _late(self) -> bool:
        return bool(self.entries[0]["after_unblinding"])


def default_lock_path(plan_path: Path | str) -> Path:
    """Where the lock of a plan lies: beside it, so that it outlives results."""
    return Path(plan_path).with_suffix(".lock.json")


def lock_plan(
    plan: Plan,
    lock_path: Path | str,
    *,
    seen: bool = False,
    why: str = "",
    time: str | None = None,
) -> Lock:
    """Lock a plan, or record as an amendment how it differs from the one that is locked.

    Parameters
    ----------
    plan
        As it is now.
    lock_path
        The lock; made when there is none, else only added to.
    seen
        Whether results were seen with their arms before, so that a first lock says so.
    why
        Reason for an amendment.
    time
        Instead of now; UTC, ISO 8601.

    Raises
    ------
    StudyError
        When the lock was tampered with, or cannot be written.
    """
    path = Path(lock_path)
    content = plan.model_dump(mode="json")
    stamp = {"time": time or now(), "sha256": plan.sha256, "plan": content, "why": why}
    if not path.exists():
        return _append(path, (), {"event": "locked", "after_unblinding": seen} | stamp)
    lock = read_lock(path)
    last = _plans(lock.entries)[-1]
    # Read again, so that a field added to the model since is no amendment.
    old = plan_from(last["plan"], str(path))
    if old.sha256 == plan.sha256:
        return lock
    entry = stamp | {
        "event": "amended",
        "old_sha256": last["sha256"],
        "changes": list(_changes(old.model_dump(mode="json"), content)),
        "after_unblinding": seen or bool(lock.unblinded_at),
    }
    return _append(path, lock.entries, entry)


def unblind(lock_path: Path | str, time: str | None = None) -> Lock:
    """Record that arms are now joined to results; the first time counts.

    Raises
    ------
    StudyError
        When there is no lock, or it was tampered with.
    """
    lock = read_lock(lock_path)
    if lock.unblinded_at:
        return lock
    entry = {"event": "unblinded", "time": time or now(), "after_unblinding": True}
    return _append(lock.path, lock.entries, entry)


def read_lock(path: Path | str) -> Lock:
    """Read a lock and check its seals.

    Raises
    ------
    StudyError
        When it cannot be read, or an entry was altered, cut out or moved.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = tuple(content["entries"])
        broken = _broken(entries, content["head"])
    except OSError as error:
        raise StudyError(f"cannot read the plan's lock {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(f"{path} is not the lock of a plan, or damaged: {error!r}") from None
    if broken:
        raise StudyError(
            f"the plan's lock {path} was tampered with: {broken}. Restore the file as it was "
            "written; the plan cannot be shown to be the one that was locked"
        )
    return Lock(path, entries)


def _broken(entries: tuple[Mapping[str, Any], ...], head: str) -> str:
    """What is wrong with a journal; empty when all its seals hold."""
    if not entries or entries[0]["event"] != "locked":
        return "its first entry is missing"
    previous = ""
    for number, entry in enumerate(entries, 1):
        fields = _FIELDS.get(entry["event"])
        if fields is None or not all(isinstance(entry.get(k), t) for k, t in fields.items()):
            return f"entry {number} is not what this version writes"
        body = {k: v for k, v in entry.items() if k != "seal"}
        if entry["previous"] != previous:
            return f"entry {number} does not follow the one before it"
        if entry["seal"] != content_sha256(body):
            return f"entry {number} ({entry['event']}, {entry['time']}) was altered"
        if "plan" in entry and entry["sha256"] != content_sha256(entry["plan"]):
            return f"the hash of entry {number} is not that of its plan"
        previous = entry["seal"]
    return "" if head == previous else "its last entry was cut off"


def _append(path: Path, entries: tuple[Mapping[str, Any], ...], entry: dict[str, Any]) -> Lock:
    body = entry | {"previous": entries[-1]["seal"] if entries else ""}
    entries = (*entries, body | {"seal": content_sha256(body)})
    content = {"format": FORMAT, "head": entries[-1]["seal"], "entries": entries}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise StudyError(f"cannot write the plan's lock {path}: {error.strerror}") from None
    return Lock(path, entries)


def _plans(entries: tuple[Mapping[str, Any], ...]) -> list[Mapping[str, Any]]:
    return [e for e in entries if "plan" in e]


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """What differs, as ``alpha: 0.05 -> 0.01``."""
    for name in dict.fromkeys([*old, *new]):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _changes(before, after, f"{at}{name}.")
        elif before != after:
            yield f"{at}{name}: {_shown(before)} -> {_shown(after)}"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" else str(value)
