"""Files and directories that are whole or not there.

Everything is written under a temporary name on the same file system, flushed to the disk
and renamed. A temporary name starts with a dot and contains a tilde, which no slide's name
does, so whoever lists the results never takes one for a result.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, which holds the old content or the new, never a part."""
    temporary = _beside(path, "new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` for text, as UTF-8 with line feeds."""
    write_bytes(path, content.encode("utf-8"))


@contextmanager
def new_directory(path: Path, carry: str = "") -> Iterator[Path]:
    """Yield an empty directory to fill, which takes the place of `path` at the end.

    If the block raises, nothing of the new directory remains and `path` is as before.
    Where the process dies, `recover` cleans up at the next write.

    Parameters
    ----------
    path
        The directory; its parents are made.
    carry
        Pattern of files of the old directory that move into the new one, as they are. Others may
        write to them meanwhile: nothing of that is lost.
    """
    recover(path, carry)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "new")
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _swap(temporary, path, carry)
    except BaseException:
        recover(path, carry)
        raise
    _sync_directory(path.parent)


def recover(path: Path, carry: str = "") -> None:
    """Finish or undo what a process left when it died while replacing the directory `path`.

    Files of the pattern `carry` are saved from whatever is removed.
    """
    for leftover in list(path.parent.glob(f".{escape(path.name)}~old~*")):
        if path.exists():
            _carry(leftover, path, carry)
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.rename(path)
    for leftover in list(path.parent.glob(f".{escape(path.name)}~new~*")):
        _carry(leftover, path, carry)
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(new: Path, path: Path, carry: str) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path, "old")
    path.rename(old)  # from here on whoever opens a file by its place finds none, and waits
    _carry(old, new, carry)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _carry(source: Path, target: Path, pattern: str) -> None:
    """Move files over, with their owner; of two of a name that only grow, the longer stays."""
    for path in list(source.glob(pattern)) if pattern else ():
        place = target / path.name
        if not place.exists() or path.stat().st_size > place.stat().st_size:
            path.rename(place)


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}~{kind}~{secrets.token_hex(4)}")


def _sync_tree(directory: Path) -> None:
    for parent, _, names in os.walk(directory):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_directory(Path(parent))


def _sync_directory(directory: Path) -> None:
    """Flush a directory's entries where the system can (Windows and some mounts cannot)."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
