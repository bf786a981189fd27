"""Blinded review: slides under code names, and the key that tells which is which.

The order is shuffled from the system's randomness, once per reviewer. The key lies sealed in
``blinding/<reviewer>.key``: nobody reads it by opening the file, but it is no cipher, and who
reads it on purpose can. Unblinding locks the reviewer's journals first, then writes
``blinding/<reviewer>.csv``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from histoquant import atomic, runlock
from histoquant.errors import ReviewError
from histoquant.results import csv_text, read_record, to_json

FOLDER = "blinding"
FORMAT = 1
_LOCKS, _KEY_S = ".review", 10.0
_NAMED = ("slide", "slide_id", "person", "site", "visit", "section", "batch", "resolved_path",
          "nuclear_slide")  # fmt: skip


@dataclass(frozen=True)
class Key:
    """Which code stands for which slide, for one reviewer.

    Attributes
    ----------
    codes
        slide_id -> code name.
    unblinded
        When the reviewer was unblinded; empty while the review is blinded.
    """

    path: Path
    reviewer: str
    codes: Mapping[str, str] = field(default_factory=dict)
    unblinded: str = ""


def read_key(directory: Path, reviewer: str) -> Key | None:
    """The key of a reviewer, None where the review is not blinded.

    Raises
    ------
    ReviewError
        When the file is damaged.
    """
    path = directory / FOLDER / f"{safe_name(reviewer)}.key"
    if not path.exists():
        return None
    record = read_record(path.parent, path.name) or {}
    try:
        sealed = base64.b85decode(record["sealed"])
        if record["format"] != FORMAT or hashlib.sha256(sealed).hexdigest() != record["sha256"]:
            raise ValueError("its checksum is wrong")
        codes = json.loads(zlib.decompress(sealed))
        return Key(path, record["reviewer"], codes, record["unblinded"])
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise ReviewError(
            f"the key of the blinded review, {path}, is damaged ({error}): put back a copy. "
            "Without it the codes in the journals stand for nothing"
        ) from None


def extended(directory: Path, reviewer: str, slide_ids: Iterable[str]) -> Key:
    """The key of a reviewer, made or with codes for slides that had none, and written.

    Raises
    ------
    ResultError
        When another window of the reviewer has been at the key for long.
    ReviewError
        When the key is damaged.
    OSError
        When it cannot be written.
    """
    slide_ids, key = list(slide_ids), read_key(directory, reviewer)
    if key is not None and key.codes.keys() >= set(slide_ids):
        return key
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    with runlock.held(folder / f"{safe_name(reviewer)}.lock", "a blinded review", _KEY_S):
        return _extended(directory, reviewer, slide_ids)


def _extended(directory: Path, reviewer: str, slide_ids: Iterable[str]) -> Key:
    key = read_key(directory, reviewer)
    if key is None:
        key = Key(directory / FOLDER / f"{safe_name(reviewer)}.key", reviewer)
    new = [slide_id for slide_id in slide_ids if slide_id not in key.codes]
    if not new:
        return key
    secrets.SystemRandom().shuffle(new)
    first = len(key.codes) + 1
    codes = dict(key.codes) | {name: f"Slide {first + k:03d}" for k, name in enumerate(new)}
    key = Key(key.path, reviewer, codes, key.unblinded)
    write_key(key)
    return key


def write_key(key: Key) -> None:
    """Write the key, sealed."""
    sealed = zlib.compress(json.dumps(dict(key.codes)).encode("utf-8"), 9)
    content = {
        "format": FORMAT,
        "what": "the sealed key of a blinded review; `histoquant review DIR --unblind` opens it",
        "reviewer": key.reviewer,
        "unblinded": key.unblinded,
        "sha256": hashlib.sha256(sealed).hexdigest(),
        "sealed": base64.b85encode(sealed).decode("ascii"),
    }
    key.path.parent.mkdir(exist_ok=True)
    atomic.write_text(key.path, to_json(content))


def write_opened(key: Key, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write what the codes stand for; `rows` have code, slide, edits, journal and sha256."""
    path = key.path.with_suffix(".csv")
    columns = ("code", "slide", "edits", "journal", "sha256")
    atomic.write_text(path, csv_text(columns, rows))
    return path


@contextmanager
def slide_lock(directory: Path, slide_id: str, reviewer: str) -> Iterator[None]:
    """Hold one reviewer's journal of one slide against a second window of theirs.

    Raises
    ------
    ReviewError
        When it is held.
    OSError
        When the directory cannot be written.
    """
    folder = directory / _LOCKS
    folder.mkdir(exist_ok=True)
    path = folder / f"{slide_id}~{safe_name(reviewer)}.lock"
    other = runlock.holder(path)
    if other is not None:
        raise ReviewError(
            f"this slide is open for review by {reviewer} already: process "
            f"{other.get('pid', '?')} on {other.get('host', 'an unknown host')} since "
            f"{other.get('since', '?')}. Close it there first. A second reader takes a name of "
            "their own"
        )
    with runlock.held(path, f"a review by {reviewer}"):
        yield


def names_to_hide(
    directory: Path, rows: Iterable[Mapping[str, str]], codes: Mapping[str, str]
) -> dict[str, str]:
    """Every name that tells a slide -> what a blinded reviewer sees instead.

    Parameters
    ----------
    rows
        All rows of the ledger: files of excluded slides are named after the same people.
    codes
        slide_id -> code name. The codes stand for themselves, whatever people are called.
    """
    names: dict[str, str] = {str(directory): "..."}
    for row in rows:
        code = codes.get(row["slide_id"], "a slide")
        path, nuclear = Path(row["resolved_path"]), Path(row.get("nuclear_slide", ""))
        names |= {row[k]: "..." for k in _NAMED if len(row.get(k, "")) > 1}
        names |= {str(path.parent): "...", path.name: code, row["slide_id"]: code}
        names |= {str(path): code, path.name.split(".")[0]: code}
        names |= {nuclear.name: code, nuclear.name.split(".")[0]: code}
    names |= {code: code for code in codes.values()}
    return {name: shown for name, shown in names.items() if name not in ("", ".", "/")}


def hidden(text: str, names: Mapping[str, str]) -> str:
    """`text` with every name replaced, the longest that fits, whatever its case.

    A name within a longer word or number is none; an underscore ends a word, as in file names.
    """
    shown = {name.casefold(): code for name, code in names.items() if len(name) > 1}
    if not shown:
        return text
    pattern = "|".join(_whole(name) for name in sorted(shown, key=len, reverse=True))
    return re.sub(
        pattern, lambda found: shown.get(found[0].casefold(), "..."), text, flags=re.IGNORECASE
    )


def _whole(name: str) -> str:
    before = r"(?<![^\W_])" if name[0].isalnum() else ""
    return before + re.escape(name) + (r"(?![^\W_])" if name[-1].isalnum() else "")


def safe_name(reviewer: str) -> str:
    """A reviewer's name as part of a file's name, different for different names."""
    digest = hashlib.sha256(reviewer.encode()).hexdigest()[:8]
    return re.sub(r"[^a-z0-9]+", "_", reviewer.casefold()).strip("_") + "_" + digest
