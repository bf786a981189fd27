"""Open files and their like: one per process, shared by its threads, bounded in number.

An archive has more slides than a process may have files open, a thread must not lose the file
that it is reading, and a forked process must not move its parent's position in a file. So
whatever stays open between two reads is a `Handle`: it opens at its first use, it closes when
asked, when its owner is gone, or when `LARGEST_OPEN` newer ones are open, but never under a
reader; and it opens again at the next use.
"""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, RLock
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LARGEST_OPEN = 32
"""Handles that may stay open in one process while nobody reads. Some hold several files."""


class Handle(Generic[T]):
    """Something that is opened at its first use and may be closed at any time.

    Parameters
    ----------
    open_it
        Opens it. Its errors reach whoever uses the handle; the next use tries again.
    close_it
        Closes what `open_it` gave. Neither may refer to the handle's owner: it would never be
        let go.
    """

    def __init__(self, open_it: Callable[[], T], close_it: Callable[[T], object]) -> None:
        self._open_it = open_it
        self._close_it = close_it
        self._opening = Lock()
        self._now: list[_Opened[T]] = []
        weakref.finalize(self, _retire_all, self._now)
        _HANDLES.add(self)

    @contextmanager
    def use(self) -> Iterator[T]:
        """Lend what is open; it stays open until the block ends, whoever closes the handle."""
        opened = self._held()
        try:
            yield opened.value
        finally:
            opened.let_go()

    def close(self) -> None:
        """Close it as soon as nobody uses it; the next use opens it again."""
        _retire_all(self._now)

    def _held(self) -> _Opened[T]:
        with self._opening:  # threads that come together open it once
            for opened in self._now:
                if opened.hold():
                    break
            else:
                opened = _Opened(self._open_it(), self._close_it)
                self._now[:] = [opened]
        opened.renew()
        return opened

    def _abandon(self) -> list[_Opened[T]]:
        """Forget the parent's handle without closing it: its locks may be held for ever."""
        self._opening = Lock()
        left, self._now[:] = list(self._now), []
        return left


class _Opened(Generic[T]):
    """What is open, and how many are using it; born in use."""

    def __init__(self, value: T, close_it: Callable[[T], object]) -> None:
        self.value = value
        self._close_it = close_it
        self._users = 1
        self._is_retired = False

    def hold(self) -> bool:
        """Count one more user, unless it is retired."""
        with _REGISTRY.lock:
            self._users += not self._is_retired
            return not self._is_retired

    def let_go(self) -> None:
        """Count one user less; the last one closes what is retired."""
        with _REGISTRY.lock:
            self._users -= 1
            is_last = self._is_retired and self._users == 0
        if is_last:
            self._close_it(self.value)

    def retire(self) -> None:
        """Lend it no more, and close it once nobody uses it."""
        with _REGISTRY.lock:
            is_last = not self._is_retired and self._users == 0
            self._is_retired = True
            _REGISTRY.open.pop(id(self), None)
        if is_last:
            self._close_it(self.value)

    def renew(self) -> None:
        """Make it the newest of all that are open and retire the oldest beyond the limit."""
        with _REGISTRY.lock:
            if not self._is_retired:
                _REGISTRY.open[id(self)] = self
                _REGISTRY.open.move_to_end(id(self))
            surplus = list(_REGISTRY.open.values())[: max(0, len(_REGISTRY.open) - LARGEST_OPEN)]
        for oldest in surplus:
            oldest.retire()


class _Registry:
    """What is open in this process, least recently used first."""

    def __init__(self) -> None:
        # Re-entrant: the garbage collector may end a handle's owner while we hold it.
        self.lock = RLock()
        self.open: OrderedDict[int, _Opened[Any]] = OrderedDict()


_REGISTRY = _Registry()
_HANDLES: weakref.WeakSet[Handle[Any]] = weakref.WeakSet()
_ABANDONED: list[Any] = []


def open_count() -> int:
    """Count the handles that are open in this process."""
    return len(_REGISTRY.open)


def _retire_all(now: list[_Opened[Any]]) -> None:
    for opened in list(now):
        opened.retire()


def _start_afresh() -> None:
    """Leave every handle to the parent process, of which this one is a fork."""
    global _REGISTRY
    _ABANDONED.append(_REGISTRY)
    _REGISTRY = _Registry()
    for handle in list(_HANDLES):
        _ABANDONED.extend(handle._abandon())


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_start_afresh)
