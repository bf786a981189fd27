"""Sources shared by the copies of a slide that a process unpickles.

Each task of a scheduler brings its own copy of the slide. Reading the structure of a large
file anew for every one of them costs more than the pixels it is after.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from histoquant.slides.fingerprint import FileStamp, file_stamps
from histoquant.slides.readers import open_source
from histoquant.slides.source import OnDamage, Source

_MOST_SOURCES = 4  # each may hold 64 MB of decoded tiles
_SETTLED_NS = 2_000_000_000

_Key = tuple[str, OnDamage, tuple[FileStamp, ...]]


class _Shared:
    """The sources shared in this process, least recently used first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sources: OrderedDict[_Key, Source] = OrderedDict()

    def get(self, key: _Key) -> Source | None:
        with self._lock:
            source = self._sources.get(key)
            if source is not None:
                self._sources.move_to_end(key)
            return source

    def put(self, key: _Key, source: Source) -> Source:
        """Keep `source` unless another thread came first; give the one that is kept."""
        with self._lock:
            source = self._sources.setdefault(key, source)
            self._sources.move_to_end(key)
            while len(self._sources) > _MOST_SOURCES:
                self._sources.popitem(last=False)
            return source


_SHARED = _Shared()


def shared_source(path: Path | str, on_damage: OnDamage) -> Source:
    """Open a slide, or give the source by which another copy of it is read in this process.

    A file that was written within the last two seconds is opened anew: times on disk are too
    coarse to tell whether it was written again.

    Raises
    ------
    SlideError
        As `open_source`.
    """
    stamps = file_stamps(path)
    key: _Key = (str(path), on_damage, stamps)
    source = _SHARED.get(key)
    if source is not None:
        return source
    newest = max((stamp.time_ns for stamp in stamps), default=0)
    source = open_source(path, on_damage=on_damage)
    if time.time_ns() - newest < _SETTLED_NS:
        return source
    return _SHARED.put(key, source)


def _start_afresh() -> None:
    """Share nothing with the parent process, whose lock may be held for ever."""
    global _SHARED
    _SHARED = _Shared()


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_start_afresh)
