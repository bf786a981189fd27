"""Where the chunks of an OME-Zarr lie: a folder, a ZIP file or any URL that fsspec reads.

zarr takes an absent chunk for one full of the fill value, so that a disk that went away reads
as black. Here the chunks that exist are listed once; one of them that is gone later is an error.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore, ZipStore

from histoquant.errors import SlideError

METADATA = ("zarr.json", ".zattrs", ".zgroup")
_AT_ONCE = 32
_BLOSC_HEADER = 16
_LARGEST_CHUNK = 2**30
_LISTLESS = {"http", "https"}


class Place(ABC):
    """Random access to the bytes of a Zarr hierarchy, beside zarr's own."""

    store: Store
    prefix = ""

    @abstractmethod
    def keys(self, array: str, wanted: Iterable[str]) -> set[str]:
        """List the keys below `array`; a place without listings looks for `wanted` instead."""

    @abstractmethod
    def tails(self, keys: list[str], count: int) -> Iterator[bytes]:
        """Give the last `count` bytes of each key, fewer where there are fewer."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """Read a whole key, or None where there is none."""

    def read_many(self, keys: list[str]) -> Iterator[bytes]:
        """Read whole keys, one after the other.

        Raises
        ------
        FileNotFoundError
            When one is not there.
        """
        return (_given(key, self.read(key)) for key in keys)

    def close(self) -> None:
        """Close what is open."""
        self.store.close()


def is_url(path: str | os.PathLike[str]) -> bool:
    """Tell a URL from a path."""
    return "://" in os.fspath(path)


def open_place(path: str | os.PathLike[str]) -> Place:
    """Open the folder, ZIP file or URL at `path`.

    Raises
    ------
    SlideError
        When it is not there, or the library for such a URL is not installed.
    """
    try:
        if is_url(path):
            return _Remote(os.fspath(path))
        return _Folder(Path(path)) if Path(path).is_dir() else _Zip(Path(path))
    except ImportError as error:
        raise SlideError(
            f"{path}: {error}. To read slides over the network, run: pip install histoquant[remote]"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise SlideError(
            f"{path}: cannot be opened ({error}). Check that it is there and complete."
        ) from error


def zip_prefix(names: Iterable[str]) -> str | None:
    """Find the folder of a ZIP file in which the hierarchy begins, or None if there is none.

    It begins at the root, or in the only folder there (``slide.ome.zarr/``).
    """
    roots = {
        str(PurePosixPath(name).parent)
        for name in names
        if PurePosixPath(name).name in METADATA and name.count("/") <= 1
    }
    if "." in roots:
        return ""
    return f"{roots.pop()}/" if len(roots) == 1 else None


class StrictStore(WrapperStore[Store]):
    """A store that refuses to lose a key it is known to have, and Blosc chunks cut short.

    Attributes
    ----------
    known
        Keys that are there.
    blosc
        Those of them whose whole content is one Blosc buffer.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.known: set[str] = set()
        self.blosc: set[str] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read a key, or None where there never was one."""
        return self._checked(key, await self._store.get(key, prototype, byte_range))

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a key without waiting for an event loop, as newer versions of zarr do."""
        store: Any = self._store
        return self._checked(key, store.get_sync(key, prototype=prototype, byte_range=byte_range))

    def _checked(self, key: str, value: Buffer | None) -> Buffer | None:
        if value is None and key in self.known:
            # Not FileNotFoundError: zarr takes that for a chunk that never was.
            raise OSError(f"{key} was there when the slide was opened, and is gone")
        if value is not None and key in self.blosc:
            _check_blosc(value.as_numpy_array()[:_BLOSC_HEADER].tobytes(), len(value))
        return value


def _check_blosc(header: bytes, count: int) -> None:
    """Check the length a Blosc buffer claims: its decoder would read on into other memory.

    Source: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
    """
    claimed = int.from_bytes(header[12:16], "little")
    if len(header) < _BLOSC_HEADER or claimed > count:
        raise ValueError(f"the chunk is truncated: {count} bytes where it claims {claimed}")
    if int.from_bytes(header[4:8], "little") > _LARGEST_CHUNK:
        raise ValueError("the chunk claims to hold over a gigabyte")


class _Folder(Place):
    def __init__(self, path: Path) -> None:
        self._path = path
        self.store = LocalStore(path, read_only=True)

    def keys(self, array: str, wanted: Iterable[str]) -> set[str]:
        root = os.path.join(self._path, "")
        found: set[str] = set()
        for folder, _, files in os.walk(self._path / array, onerror=_raise):
            inside = folder[len(root) :].replace(os.sep, "/")
            found.update(f"{inside}/{file}" if inside else file for file in files)
        return found

    def tails(self, keys: list[str], count: int) -> Iterator[bytes]:
        for key in keys:
            with (self._path / key).open("rb") as file:
                file.seek(-min(count, os.fstat(file.fileno()).st_size), os.SEEK_END)
                yield file.read()

    def read(self, key: str) -> bytes | None:
        path = self._path / key
        return path.read_bytes() if path.is_file() else None


class _Zip(Place):
    def __init__(self, path: Path) -> None:
        with path.open("rb"):  # zarr would only say later that it is not there
            pass
        store = ZipStore(path, mode="r", read_only=True)
        self._zip = zipfile.ZipFile(path)
        try:
            prefix = zip_prefix(self._zip.namelist())
            if prefix is None:
                raise SlideError(f"{path}: a ZIP file without an OME-Zarr image in it.")
        except BaseException:
            self._zip.close()
            raise
        self.prefix, self.store = prefix, store

    def keys(self, array: str, wanted: Iterable[str]) -> set[str]:
        return {name for name in self._zip.namelist() if name.startswith(f"{array}/")}

    def tails(self, keys: list[str], count: int) -> Iterator[bytes]:
        for key in keys:
            with self._zip.open(key) as file:
                file.seek(-min(count, self._zip.getinfo(key).file_size), os.SEEK_END)
                yield file.read()

    def read(self, key: str) -> bytes | None:
        try:
            return self._zip.read(key)
        except KeyError:
            return None

    def close(self) -> None:
        self._zip.close()
        super().close()


class _Remote(Place):
    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        self._fs, self._root = url_to_fs(url)
        protocol = self._fs.protocol
        names = {protocol} if isinstance(protocol, str) else set(protocol)
        self._is_listless = bool(names & _LISTLESS)
        # The plain file system closes its own connections; an asynchronous one would not.
        self.store = FsspecStore(
            AsyncFileSystemWrapper(self._fs, asynchronous=True), read_only=True, path=self._root
        )

    def keys(self, array: str, wanted: Iterable[str]) -> set[str]:
        if not self._is_listless:
            start = len(self._root.rstrip("/")) + 1
            return {name[start:] for name in self._fs.find(f"{self._root}/{array}")}
        looked_for = list(wanted)
        first = self._ranges(looked_for, 0, 1)
        return {key for key, byte in zip(looked_for, first, strict=True) if byte is not None}

    def tails(self, keys: list[str], count: int) -> Iterator[bytes]:
        for data in self._ranges(keys, -count, None):
            yield data or b""

    def read(self, key: str) -> bytes | None:
        return self._ranges([key], None, None)[0]

    def read_many(self, keys: list[str]) -> Iterator[bytes]:
        for start in range(0, len(keys), _AT_ONCE):
            batch = keys[start : start + _AT_ONCE]
            yield from map(_given, batch, self._ranges(batch, None, None))

    def _ranges(self, keys: list[str], start: int | None, end: int | None) -> list[bytes | None]:
        """Read the same range of many keys at once: None for those that do not exist."""
        paths = [f"{self._root}/{key}" for key in keys]
        if not paths:
            return []
        answers = self._fs.cat_ranges(
            paths, [start] * len(paths), [end] * len(paths), on_error="return"
        )
        found: list[bytes | None] = []
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, FileNotFoundError):
                raise answer
            found.append(None if isinstance(answer, Exception) else answer)
        return found


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _given(key: str, content: bytes | None) -> bytes:
    if content is None:
        raise FileNotFoundError(f"{key} is gone")
    return content
