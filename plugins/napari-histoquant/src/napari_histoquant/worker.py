"""Work beside the screen: what takes long is done elsewhere, what it found is shown in turn.

Work is done one piece after another, in the order it was given, and what follows from each piece
is delivered in that order, where the viewer lives. So edits keep their order, and nothing that is
shown is touched from two threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

Work = Callable[[], Any]
Then = Callable[[Any], None]


class Worker(Protocol):
    """Does work, and says what came of it."""

    @property
    def busy(self) -> bool:
        """Whether something was given that is not delivered yet."""

    def submit(self, work: Work, then: Then, failed: Then) -> None:
        """Do `work`; deliver to `then` what it returns, or to `failed` what it raises."""

    def stop(self) -> None:
        """Finish what was given, deliver none of it, and take no more."""


class Inline:
    """Does everything at once, where it is asked for: for scripts and tests."""

    busy = False

    def submit(self, work: Work, then: Then, failed: Then) -> None:
        """Do `work` now."""
        try:
            found = work()
        except Exception as error:
            failed(error)
        else:
            then(found)

    def stop(self) -> None:
        """Nothing is left to do."""


class Background:
    """Does work in one thread of its own.

    Parameters
    ----------
    notify
        Called in that thread when there is something to deliver; it sees to it that `deliver` is
        called where the viewer lives.
    """

    def __init__(self, notify: Callable[[], None], name: str = "review") -> None:
        self._notify = notify
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._done: deque[Callable[[], None]] = deque()
        self._given = self._delivered = 0

    @property
    def busy(self) -> bool:
        """Whether something was given that is not delivered yet."""
        return self._given > self._delivered

    def submit(self, work: Work, then: Then, failed: Then) -> None:
        """Do `work` after what was given before."""
        self._given += 1
        self._pool.submit(self._run, work, then, failed)

    def deliver(self) -> None:
        """Hand over what was done since the last time."""
        while self._done:
            self._delivered += 1
            self._done.popleft()()

    def stop(self) -> None:
        """Finish what was given, deliver none of it, and take no more."""
        self._pool.shutdown(wait=True)
        self._done.clear()
        self._delivered = self._given

    def _run(self, work: Work, then: Then, failed: Then) -> None:
        try:
            found, hand_over = work(), then
        except Exception as error:
            found, hand_over = error, failed
        self._done.append(lambda: hand_over(found))
        self._notify()
