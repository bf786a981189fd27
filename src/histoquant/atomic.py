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
def new_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to fill, which takes the place of `path` at the end.

    If the block raises, nothing of the new directory remains and `path` is as before.
    Where the process dies, `recover` cleans up at the next write.
    """
    recover(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "new")
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _swap(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(path.parent)


def recover(path: Path) -> None:
    """Finish or undo what a process left when it died while replacing the directory `path`."""
    for leftover in path.parent.glob(f".{escape(path.name)}~old~*"):
        if path.exists():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.rename(path)
    for leftover in path.parent.glob(f".{escape(path.name)}~new~*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    if not path.exists():
        new.rename(path)
        return
    old = _beside(path, "old")
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
