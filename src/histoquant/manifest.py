"""The manifest of a study: one row per slide, every bad row reported at once."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, get_args
from urllib.parse import urlsplit

from histoquant.errors import ManifestError
from histoquant.settings import MARKERS, Settings, StainSettings

REQUIRED = ("slide", "marker", "person", "site", "visit")
OPTIONAL = ("section", "batch", "control", "mpp", "stains", "nuclear_slide")
CONTROLS = ("none", "negative", "positive")
_PRESETS: tuple[str, ...] = get_args(StainSettings.model_fields["preset"].annotation)
_SAMPLE = ("person", "site", "visit")
_DOUBLE_SUFFIXES = (".ome",)
_LONGEST_ID = 80


@dataclass(frozen=True)
class Entry:
    """One slide to measure: a row of the manifest, or a slide on the command line.

    Attributes
    ----------
    slide
        The path or URL as it was given in a manifest; `path` is where it leads.
    resolved_path
        `path` with links followed. With the marker it is what the slide is known by.
    slide_id
        Name of the slide in a results directory: the file's name made safe and unique.
    marker, person, site, visit, section, batch, control
        As in the manifest; empty where there is none.
    mpp, stains
        What overrides the file's um/px and the settings' stain set; empty for nothing.
    nuclear_slide
        The file with the nuclear stain, whole path or URL, where `slide` holds only the marker of a
        fluorescence slide; empty for none.
    row
        Line of the manifest, 0 for none.
    problem
        Why the row cannot be used; empty when it can.
    """

    slide: str
    path: Path | str
    marker: str
    slide_id: str = ""
    person: str = ""
    site: str = ""
    visit: str = ""
    section: str = ""
    batch: str = ""
    control: str = "none"
    mpp: str = ""
    stains: str = ""
    nuclear_slide: str = ""
    row: int = 0
    problem: str = ""
    resolved_path: str = ""

    @property
    def identity(self) -> str:
        """What tells the slide from every other, in any manifest and directory."""
        return f"{self.resolved_path or self.path} {self.marker}"

    @property
    def nuclear_path(self) -> Path | str | None:
        """Where the file with the nuclear stain is, where that is one of its own."""
        text = self.nuclear_slide
        return (text if _is_url(text) else Path(text)) if text else None

    @property
    def sample(self) -> dict[str, str]:
        """What decides whether the slide is compared with others; see `results.standing`."""
        return {"person": self.person, "control": self.control}

    @property
    def given_mpp(self) -> float | None:
        """um/px that overrides the file's."""
        return float(self.mpp) if self.mpp else None

    def settings(self, common: Settings) -> Settings:
        """The settings for this slide: `common` with the entry's stain set."""
        if not self.stains or self.stains == common.stains.preset:
            return common
        return common.with_values([f'stains.preset="{self.stains}"'])


@dataclass(frozen=True)
class Manifest:
    """A manifest as read: all its rows, usable or not, and the columns nobody reads."""

    path: Path
    entries: tuple[Entry, ...]
    ignored: tuple[str, ...] = ()

    @property
    def usable(self) -> tuple[Entry, ...]:
        """Rows that can be measured."""
        return tuple(e for e in self.entries if not e.problem)

    @property
    def bad(self) -> tuple[Entry, ...]:
        """Rows that cannot, each with its problem."""
        return tuple(e for e in self.entries if e.problem)


def read_manifest(path: Path | str, known: Iterable[Mapping[str, str]] = ()) -> Manifest:
    """Read and check a manifest; bad rows are in the result, each with its problem.

    Parameters
    ----------
    path
        CSV file; paths in it start from its folder.
    known
        Rows of the results directory's ledger. Slides in it keep their identifiers; those of
        slides that are gone are free, so that a study can be moved with its results.

    Raises
    ------
    ManifestError
        When the file cannot be read, lacks a required column, or has no usable row.
    """
    path = Path(path)
    header, rows = _read_rows(path)
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        raise ManifestError(
            f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(header) or 'none'}. "
            f"A manifest has {', '.join(REQUIRED)} and may have {', '.join(OPTIONAL)}"
        )
    entries = _mark_repeats([_entry(n, row, path.parent.absolute()) for n, row in rows])
    entries = with_ids(entries, [row for row in known if _is_there(row["resolved_path"])])
    ignored = tuple(name for name in header if name not in REQUIRED + OPTIONAL)
    manifest = Manifest(path, tuple(entries), ignored)
    if not manifest.usable:
        problems = describe_bad(manifest.bad) or "  it has a header and no rows"
        raise ManifestError(f"{path}: no row can be used:\n{problems}")
    return manifest


def describe_bad(entries: Iterable[Entry]) -> str:
    """One line per bad row: its line number, slide and problem."""
    return "\n".join(
        (f"  line {e.row}: " if e.row else "  ") + f"{e.slide or '(no slide)'}: {e.problem}"
        for e in entries
    )


def with_ids(entries: Iterable[Entry], known: Iterable[Mapping[str, str]] = ()) -> list[Entry]:
    """`entries` with their `slide_id`: the file's name, with a digest where that is taken.

    A name goes to the first entry that has it, so rows added at the end change no other's.
    Slides in `known`, rows of a ledger, keep their names.
    """
    named = [(row["slide_id"], _row_identity(row)) for row in known if row["slide_id"]]
    used = {name.casefold(): identity for name, identity in named}
    given = {identity: name for name, identity in named}
    out = []
    for entry in entries:
        own = entry.identity
        names = chain([given[own]] if own in given else [], _names(entry))
        name = next(n for n in names if used.setdefault(n.casefold(), own) == own)
        out.append(replace(entry, slide_id=name))
    return out


def _names(entry: Entry) -> Iterator[str]:
    """Names for a slide, best first: a digest of the path as given survives a move."""
    name = safe_name(entry.path)
    yield name
    for text, length in ((f"{entry.slide} {entry.marker}", 8), (entry.identity, 32)):
        yield f"{name}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:length]}"


def _row_identity(row: Mapping[str, str]) -> str:
    return f"{row['resolved_path']} {row['marker']}"


def safe_name(path: Path | str) -> str:
    """The file's name without suffixes, fit for a directory on any system."""
    stem = PurePath(urlsplit(path).path if isinstance(path, str) else path).stem
    for suffix in _DOUBLE_SUFFIXES:
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:_LONGEST_ID] or "slide"


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and (line number, row) pairs; cells are stripped, empty lines left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        header = [name.strip() for name in next(reader, [])]
        rows = [
            (reader.line_num, _cells(header, cells))
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except OSError as error:
        raise ManifestError(f"cannot read the manifest {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} is not a CSV file in UTF-8: {error}") from None
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ManifestError(f"{path}: column(s) {', '.join(repeated)} appear more than once")
    return header, rows


def _delimiter(text: str) -> str:
    """Comma, or what spreadsheets write instead of it in some countries."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _cells(header: list[str], cells: list[str]) -> dict[str, str]:
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
    if any(cell.strip() for cell in cells[len(header) :]):
        row[""] = f"{len(cells)} fields under {len(header)} columns (a comma in a name?)"
    return row


def _entry(line: int, row: Mapping[str, str], base: Path) -> Entry:
    fields = {name: row.get(name, "") for name in REQUIRED + OPTIONAL}
    fields["control"] = fields["control"] or "none"
    path: Path | str = base / fields["slide"]
    try:
        path = _placed(fields["slide"], base)
        problem = _path_problem(path) if fields["slide"] else "the slide's path is empty"
    except RuntimeError:  # the home of a user that is not there
        problem = f"no such file: {path}"
    fields["nuclear_slide"], missing = _nuclear(fields["nuclear_slide"], base)
    problems = [problem, missing, *_problems(fields), row.get("", "")]
    return Entry(
        path=path,
        row=line,
        problem="; ".join(filter(None, problems)),
        resolved_path=_resolved(path),
        **fields,
    )


def _nuclear(text: str, base: Path) -> tuple[str, str]:
    """Whole path of the file with the nuclear stain, and why it cannot be used; empty for none."""
    if not text:
        return "", ""
    try:
        path = _placed(text, base)
        problem = _path_problem(path)
    except RuntimeError:
        return text, f"nuclear_slide: no such file: {base / text}"
    return _resolved(path), f"nuclear_slide: {problem}" if problem else ""


def _placed(text: str, base: Path) -> Path | str:
    """Where a slide is: a URL as it is, a path from `base`; RuntimeError without that home."""
    return text if _is_url(text) else base / Path(text).expanduser()


def _is_url(text: str) -> bool:
    return "://" in text


def _path_problem(path: Path | str) -> str:
    """Why there is no file to read at `path`; empty when there is one, or for a URL."""
    if isinstance(path, str):
        return ""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"no such file: {path}"
    except (OSError, ValueError) as error:
        return f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return f"{path} is neither a file nor a folder"
    return ""


def _resolved(path: Path | str) -> str:
    """`path` with links followed, as far as that can be done."""
    if isinstance(path, str):
        return path
    try:
        return os.path.realpath(path)  # unlike Path.resolve, never raises for what is there
    except ValueError:
        return str(path)


def _is_there(path: str) -> bool:
    return bool(path) and not _path_problem(path if _is_url(path) else Path(path))


def _problems(fields: Mapping[str, str]) -> list[str]:
    """What is wrong with a row, its path aside."""
    found = []
    if fields["marker"] not in MARKERS:
        found.append(f"marker {fields['marker']!r} is not one of {', '.join(MARKERS)}")
    if not fields["person"]:
        found.append("person is empty")
    if fields["control"] not in CONTROLS:
        found.append(f"control {fields['control']!r} is not one of {', '.join(CONTROLS)}")
    if fields["stains"] and fields["stains"] not in _PRESETS:
        found.append(f"stains {fields['stains']!r} is not one of {', '.join(_PRESETS)}")
    if fields["mpp"] and not _is_scale(fields["mpp"]):
        found.append(f"mpp {fields['mpp']!r} is not a number of um/px above 0")
    return found


def _is_scale(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and value > 0


def _mark_repeats(entries: list[Entry]) -> list[Entry]:
    """Mark slides that are listed twice for a marker.

    A plain repeat of an earlier row is left out; where the rows name different samples, nobody
    can tell which is right, and neither is used.
    """
    seen: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.slide:
            seen.setdefault(entry.identity, []).append(entry)
    problems: dict[int, str] = {}
    for group in (g for g in seen.values() if len(g) > 1):
        first = group[0]
        lines = ", ".join(str(e.row) for e in group)
        if len({(e.person, e.site, e.visit) for e in group}) > 1:
            for entry in group:
                problems[entry.row] = f"the same slide for different samples on lines {lines}"
        else:
            for entry in group[1:]:
                problems[entry.row] = f"the same slide and marker as on line {first.row}"
    return [_with_problem(e, problems.get(e.row, "")) for e in entries]


def _with_problem(entry: Entry, problem: str) -> Entry:
    return replace(entry, problem="; ".join(filter(None, [entry.problem, problem])))


def slide_entries(
    paths: Iterable[Path | str],
    marker: str,
    mpp: float | None = None,
    known: Iterable[Mapping[str, str]] = (),
    nuclear: Path | str | None = None,
) -> list[Entry]:
    """Entries for slides given by hand, each once; those that are not there carry a problem.

    Parameters
    ----------
    paths, marker, mpp
        The slides (paths or URLs), what to measure on them, and um/px that overrides the files'.
    known
        Rows of the directory's ledger. Slides in it keep their identifiers, and what a manifest
        said of them: the sample, the stain set, the file with the nuclear stain and the scale
        unless `nuclear` and `mpp` are given.
    nuclear
        The file with the nuclear stain, of a fluorescence slide with a file per stain.

    Raises
    ------
    ManifestError
        When `nuclear` is given for more than one slide, or is not there.
    """
    paths = list(paths)
    nuclear_slide, missing = _nuclear(os.fspath(nuclear or ""), Path.cwd())
    if missing or (nuclear_slide and len(paths) > 1):
        raise ManifestError(
            missing
            or f"one file of a nuclear stain for {len(paths)} slides: give one slide at a "
            "time, or a manifest with a column nuclear_slide"
        )
    known = list(known)
    entries: dict[str, Entry] = {}
    for given in paths:
        text = os.fspath(given)
        path = text if _is_url(text) else Path(text).absolute()
        place = _resolved(path)
        entry = Entry(
            slide=place,
            path=path,
            marker=marker,
            problem=_path_problem(path),
            resolved_path=place,
        )
        entry = replace(entry, **_known_fields(entry.identity, known))
        if nuclear_slide:
            entry = replace(entry, nuclear_slide=nuclear_slide)
        entries[entry.identity] = entry if mpp is None else replace(entry, mpp=repr(mpp))
    return with_ids(entries.values(), known)


def _known_fields(identity: str, known: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """What a manifest said of a slide; nothing where its rows are wrong or name two samples."""
    rows = [row for row in known if _row_identity(row) == identity]
    samples = {tuple(row[name] for name in _SAMPLE) for row in rows}
    if len(samples) != 1 or _problems(rows[0]):
        return {}
    line = rows[0]["row"]
    fields: dict[str, Any] = {name: rows[0][name] for name in REQUIRED + OPTIONAL}
    return fields | {"row": int(line) if line.isdecimal() else 0}
