"""The journal of edits: append-only, whole after a crash, and each reader's own."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import histoquant
from fakes import make_result
from histoquant import results
from histoquant.errors import ReviewError
from histoquant.results import write_result
from histoquant.review import edits, journal
from histoquant.review.edits import (
    KINDS,
    AddNote,
    AddNucleus,
    DeleteJunction,
    ExcludeRegion,
    IncludeRegion,
    RedrawJunction,
    SetClass,
    SetCompartment,
    SetVerdict,
)
from histoquant.review.journal import (
    Binding,
    JournalWriter,
    find_journals,
    journal_path,
    read_journal,
)

SQUARE = ((0.0, 0.0), (0.0, 9.5), (9.0, 9.5))
EVERY = (
    SetClass(((1.5, 2.0), (3.0, 4.25)), "positive", 3),
    SetClass(((1.0, 2.0),), "not_a_nucleus"),
    AddNucleus((5.0, 6.0), "negative"),
    RedrawJunction(SQUARE),
    DeleteJunction((0.0, 1.0), (2.0, 3.0), "a follicle"),
    ExcludeRegion(SQUARE, "fold"),
    IncludeRegion(SQUARE, "not torn after all"),
    SetCompartment(SQUARE, "adnexa"),
    SetVerdict("rejected", "all of it is folded"),
    AddNote("Übersicht: 表皮", (1.0, 2.0)),
)
NOTE = AddNote("a note")


def writer(directory: Path, who: str = "anna", sha: str = "s1") -> JournalWriter:
    path = journal_path(directory, who)
    return JournalWriter(read_journal(path, who, sha), Binding("slide", sha, "settings"))


def write(to: JournalWriter, *notes: str) -> None:
    for text in notes:
        to.append_edit(AddNote(text), {}, {})


def texts(directory: Path, who: str = "anna") -> list[str]:
    found = read_journal(journal_path(directory, who), who)
    return [entry.edit.text for entry in found.active if isinstance(entry.edit, AddNote)]


@pytest.mark.parametrize("edit", EVERY, ids=lambda e: e.kind)
def test_every_kind_reads_back_as_it_was_made(tmp_path: Path, edit: edits.Edit) -> None:
    before = {"classes": [1, None]}
    writer(tmp_path).append_edit(edit, before, {"classes": [0, None]})
    (entry,) = read_journal(tmp_path / "review.jsonl", "anna", "s1").active
    assert entry.edit == edit
    assert entry.content["before"] == before
    fields = "format n at who slide kind what before after slide_sha256 settings_sha256 version"
    assert list(entry.content) == fields.split()


def test_every_kind_is_tried_above() -> None:
    assert {edit.kind for edit in EVERY} == set(KINDS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SetClass((), "positive"), "0 point"),
        (lambda: SetClass(((1.0, float("nan")),), "positive"), "no point"),
        (lambda: SetClass(((1.0, 2.0),), "brown"), "none of positive"),  # type: ignore[arg-type]
        (lambda: SetClass(((1.0, 2.0),), "negative", 2), "does not fit"),
        (lambda: AddNucleus((1.0, 2.0), "automatic"), "none of positive"),
        (lambda: RedrawJunction(((1.0, 2.0),)), "at least 2"),
        (lambda: ExcludeRegion(SQUARE, " "), "words are needed"),
        (lambda: ExcludeRegion(SQUARE[:2], "fold"), "at least 3"),
        (lambda: SetCompartment(SQUARE, "muscle"), "none of background"),
        (lambda: SetVerdict("rejected"), "words are needed"),
        (lambda: AddNote(""), "words are needed"),
    ],
)
def test_what_is_no_edit_is_refused(make: Any, words: str) -> None:
    with pytest.raises(ReviewError, match=words):
        make()


def test_undo_and_redo_are_lines_too(tmp_path: Path) -> None:
    to = writer(tmp_path)
    write(to, "one", "two")
    to.append("undo", {"n": 2})
    to.append("undo", {"n": 1})
    assert texts(tmp_path) == []
    to.append("redo", {"n": 1})
    assert texts(tmp_path) == ["one"]
    assert [entry.n for entry in to.journal.undone] == [2]
    write(to, "three")
    assert to.journal.undone == ()  # a new edit ends what could be done again
    assert texts(tmp_path) == ["one", "three"]
    assert len((tmp_path / "review.jsonl").read_text().splitlines()) == 6


# Crashes


@pytest.mark.parametrize("left", [b'{"format": 1, "n"', b"{", b"\x00\x00\x00", b'{"n": 3}'])
def test_an_unfinished_last_line_is_reported_and_passed_over(tmp_path: Path, left: bytes) -> None:
    write(writer(tmp_path), "one", "two")
    path = tmp_path / "review.jsonl"
    with path.open("ab") as file:
        file.write(left)
    found = read_journal(path, "anna", "s1")
    assert texts(tmp_path) == ["one", "two"]
    assert f"last line ({len(left)} bytes) is unfinished" in found.damage
    write(writer(tmp_path), "three")
    assert texts(tmp_path) == ["one", "two", "three"]
    assert left in path.read_bytes()  # nothing is ever taken out
    assert read_journal(path, "anna", "s1").damage == ""


def test_a_block_of_zeros_with_a_line_feed_is_passed_over_too(tmp_path: Path) -> None:
    write(writer(tmp_path), "one")
    with (tmp_path / "review.jsonl").open("ab") as file:
        file.write(b"\x00" * 40 + b"\n")
    assert "40 bytes" in read_journal(tmp_path / "review.jsonl", "anna").damage
    write(writer(tmp_path), "two")
    assert texts(tmp_path) == ["one", "two"]


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from histoquant.review.edits import AddNote
from histoquant.review.journal import *
path = journal_path(Path(sys.argv[1]), "anna")
to = JournalWriter(read_journal(path, "anna"), Binding("slide", "s1", "settings"))
for n in range(1000):
    to.append_edit(AddNote(str(n)), {}, {})
    print(n, flush=True)
"""
    source = str(Path(histoquant.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert process.stdout is not None
    said = [int(process.stdout.readline()) for _ in range(25)]
    process.kill()
    said += [int(line) for line in process.stdout.read().split()]
    process.stdout.close()
    process.wait()
    kept = [int(text) for text in texts(tmp_path)]
    assert kept[: len(said)] == said
    assert len(kept) <= len(said) + 1  # one may be written and not yet be told


@pytest.fixture
def small_files() -> Iterator[Any]:
    """A limit on the size of files, which a write meets in the middle of a line."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        now = limits[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (now, limits[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_full_in_the_middle_of_a_line_changes_nothing(
    tmp_path: Path, small_files: Any
) -> None:
    to = writer(tmp_path)
    write(to, "one")
    path = tmp_path / "review.jsonl"
    before = path.read_bytes()
    small_files(len(before) + 30)
    try:
        with pytest.raises(ReviewError, match="not saved.*Nothing has changed"):
            write(to, "two")
    finally:
        small_files(None)
    assert path.read_bytes() == before
    assert len(to.journal.entries) == 1
    write(to, "two, again")
    assert texts(tmp_path) == ["one", "two, again"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_disk_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    to = writer(tmp_path)

    def refuse(*_: Any, **__: Any) -> io.FileIO:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ReviewError, match=os.strerror(code)):
        write(to, "one")
    assert to.journal.entries == ()


@pytest.mark.parametrize("links", [True, False], ids=["links", "copies"])
def test_a_journal_goes_on_where_its_directory_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    place = write_result(make_result(), tmp_path / "a")
    to = writer(place)
    write(to, "one")
    if not links:
        monkeypatch.setattr(results.os, "link", _no_links)
    write_result(make_result(), place)
    write(to, "two")
    assert texts(place) == ["one", "two"]


def _no_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_an_edit_written_while_the_directory_is_being_replaced_is_in_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is swapped after the write, by a copy that lacks the new line."""
    place = tmp_path / "a"
    place.mkdir()
    to = writer(place)
    write(to, "one")
    old = (place / "review.jsonl").read_bytes()
    whole = journal._append_whole
    swaps = iter([True])

    def append(file: io.FileIO, content: bytes, size: int) -> None:
        whole(file, content, size)
        if next(swaps, False):
            place.rename(tmp_path / "gone")
            place.mkdir()
            (place / "review.jsonl").write_bytes(old)

    monkeypatch.setattr(journal, "_append_whole", append)
    write(to, "two")
    assert texts(place) == ["one", "two"]


# Journals that cannot be used


def change(path: Path, line: int, **fields: Any) -> None:
    lines = path.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **fields})
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"slide_sha256": "another"}, "line 2 was made on another slide"),
        ({"format": 2}, "format 2.*update histoquant"),
        ({"kind": "draw_vessel"}, "'draw_vessel' are unknown.*update histoquant"),
        ({"what": {"words": "x"}}, "line 2: an edit of the kind 'add_note' has other fields"),
        ({"who": "bob"}, "line 2 is by 'bob'"),
        ({"n": 7}, "number 7, 2 was due"),
        ({"kind": "undo", "what": {"n": 5}}, "takes record 5 for the undo, 1 was due"),
        ({"what": ["x"]}, r"line 2: what was done is \['x'\]"),
        ({"kind": "lock", "what": {"n": 1}}, "a lock: KeyError.'bytes'. is missing or wrong"),
        (
            {"kind": "add_nucleus", "what": {"point_um": [10**400, 1], "value": "negative"}},
            "line 2: .*int too large",
        ),
    ],
)
def test_a_line_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    write(writer(tmp_path), "one", "two", "three")
    path = tmp_path / "review.jsonl"
    change(path, 1, **fields)
    content = path.read_bytes()
    with pytest.raises(ReviewError, match=words):
        read_journal(path, "anna", "s1")
    assert path.read_bytes() == content


def test_blank_lines_mean_nothing(tmp_path: Path) -> None:
    write(writer(tmp_path), "one")
    path = tmp_path / "review.jsonl"
    with path.open("ab") as file:
        file.write(b"\n")
    assert read_journal(path, "anna").damage == ""
    write(writer(tmp_path), "two")
    assert texts(tmp_path) == ["one", "two"]


@pytest.mark.parametrize("second", [b'{"format": 1, "n": 2, "at"', b"", b"\x00\x00\n", b" \n\n{"])
def test_two_crashes_in_a_row_lose_nothing_that_was_saved(tmp_path: Path, second: bytes) -> None:
    write(writer(tmp_path), "one")
    path = tmp_path / "review.jsonl"
    for left in (b'{"format": 1, "n": 2', b"\n" + second):
        with path.open("ab") as file:
            file.write(left)
        assert "is unfinished" in read_journal(path, "anna").damage
    write(writer(tmp_path), "two")
    write(writer(tmp_path), "three")
    assert texts(tmp_path) == ["one", "two", "three"]
    assert read_journal(path, "anna").damage == ""


def test_a_journal_that_may_not_be_read_is_told_without_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(writer(tmp_path), "one")

    def forbidden(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ReviewError) as failure:
        find_journals(tmp_path)
    assert str(failure.value) == "cannot read review.jsonl: Permission denied"


def test_damage_in_the_middle_is_not_taken_for_a_crash(tmp_path: Path) -> None:
    write(writer(tmp_path), "one", "two", "three")
    path = tmp_path / "review.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{oops\n" + lines[2])
    with pytest.raises(ReviewError, match="line 2 is damaged, and not by a crash"):
        read_journal(path, "anna")


def test_a_journal_that_another_program_wrote_to_is_not_appended_to(tmp_path: Path) -> None:
    first, second = writer(tmp_path), writer(tmp_path)
    write(first, "one")
    with pytest.raises(ReviewError, match="changed by another program or person"):
        write(second, "one too")
    assert texts(tmp_path) == ["one"]


def test_two_reviewers_on_one_slide_are_kept_apart(tmp_path: Path) -> None:
    for who in ("anna", "Bob Ä", "bob"):
        write(writer(tmp_path, who), f"by {who}")
    found = find_journals(tmp_path)
    assert set(found) == {"anna", "Bob Ä", "bob"}
    assert found["anna"].name == "review.jsonl"
    assert len({path.name.casefold() for path in found.values()}) == 3
    assert all(texts(tmp_path, who) == [f"by {who}"] for who in found)


@pytest.mark.parametrize("name", ["", " anna", "../anna", "a/b", "x" * 61, "an\nna", "Program"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ReviewError, match="no name for a reviewer"):
        journal_path(tmp_path, name)


def test_a_locked_journal_takes_no_more_and_cannot_be_changed(tmp_path: Path) -> None:
    to = writer(tmp_path)
    write(to, "one")
    to.lock()
    with pytest.raises(ReviewError, match="locked"):
        write(to, "two")
    path = tmp_path / "review.jsonl"
    whole = path.read_bytes()
    assert read_journal(path, "anna").locked
    for changed in (whole.replace(b"one", b"two"), whole + whole.splitlines(keepends=True)[0]):
        path.write_bytes(changed)
        with pytest.raises(ReviewError, match="changed after it was locked|was due"):
            read_journal(path, "anna")
