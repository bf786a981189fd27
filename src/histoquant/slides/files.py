"""A file handle that threads share, and a bounded store of what was decoded from it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from histoquant.slides.handles import Handle

Read = Callable[[int, int], bytes]


class SharedFile:
    """Random access to a file, opened at the first read, closed by `close` or with the object.

    `close` never disturbs a read in another thread: the descriptor is closed once nobody uses
    it, so that no read ever meets a number that was reused.
    """

    def __init__(self, path: Path) -> None:
        self._handle = Handle(partial(_Descriptor, path), _Descriptor.close)

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """Lend a function of offset and count for any number of reads through one open file.

        It gives fewer bytes only at the end of the file. OSError, or OverflowError for an offset
        that no file has, comes out of the function, and out of here when the file cannot be
        opened.
        """
        with self._handle.use() as file:
            yield file.read

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._handle.close()


class _Descriptor:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._size = os.fstat(self._fd).st_size
        self._seek_lock = Lock()
        self._pread = getattr(os, "pread", self._seek_and_read)  # Windows has none

    def close(self) -> None:
        os.close(self._fd)

    def read(self, offset: int, count: int) -> bytes:
        # A damaged byte count must not ask for more memory than the file has bytes.
        count = max(0, min(count, self._size - offset))
        data: bytes = self._pread(self._fd, count, offset)
        while len(data) < count:
            more = self._pread(self._fd, count - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def _seek_and_read(self, fd: int, count: int, offset: int) -> bytes:
        with self._seek_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, count)


class TileCache:
    """Least recently used tiles, at most `limit` bytes of them; thread-safe.

    The halo of a block lies in tiles that its neighbours have decoded already.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._tiles: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable) -> NDArray[Any] | None:
        """Find the tile of `key`, or None."""
        if key not in self._tiles:  # most are not: asked without the lock
            return None
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: Hashable, tile: NDArray[Any]) -> None:
        """Keep `tile`, read-only from now on, and drop the oldest where there is no room."""
        tile.flags.writeable = False
        with self._lock:
            if key in self._tiles or tile.nbytes > self._limit:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0
