"""What works on this machine, and what to install for the rest."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from histoquant import __version__
from histoquant.schedule import count_cores

_GIB = 2**30
_LOW_MEMORY_GIB = 2.0
_LOW_DISK_GIB = 2.0
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    found
        What is there.
    advice
        What to do about it; empty when all is well.
    needed
        Whether measuring slides needs it.
    """

    name: str
    found: str
    advice: str = ""
    needed: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.advice


def examine() -> list[Check]:
    """Everything there is to know, in the order it is shown."""
    return [*_versions(), *_codecs(), *_machine(), *_schedulers(), *_viewer()]


def _versions() -> Iterator[Check]:
    python = platform.python_version()
    old = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    yield Check("python", f"{python} on {platform.platform(terse=True)}", old)
    yield Check("histoquant", __version__)
    for name in _required_packages():
        version = _version(name)
        yield Check(name, version or "not installed", "" if version else f"pip install {name}")


def _required_packages() -> list[str]:
    """Names of the packages the installed distribution requires, extras left out."""
    try:
        lines = importlib.metadata.requires("histoquant") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    plain = (line for line in lines if "extra ==" not in line)
    return [found.group() for line in plain if (found := _NAME.match(line))]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _codecs() -> Iterator[Check]:
    for label, codec in (("JPEG", "JPEG8"), ("JPEG 2000", "JPEG2K"), ("LZW", "LZW")):
        available = _has_codec(codec)
        yield Check(
            f"codec {label}",
            "available" if available else "missing",
            "" if available else "pip install --force-reinstall imagecodecs",
        )


def _has_codec(name: str) -> bool:
    try:
        import imagecodecs
    except ImportError:
        return False
    return bool(getattr(getattr(imagecodecs, name, None), "available", False))


def _machine() -> Iterator[Check]:
    yield Check("cores", f"{count_cores()} usable")
    memory = _memory_gib()
    little = "close other programs, or use --workers 1" if memory < _LOW_MEMORY_GIB else ""
    yield Check("memory", f"{memory:.1f} GiB available" if memory else "unknown",
                little if memory else "", needed=False)  # fmt: skip
    place = Path(tempfile.gettempdir())
    free = shutil.disk_usage(place).free / _GIB
    full = f"free space in {place}, or set TMPDIR" if free < _LOW_DISK_GIB else ""
    yield Check("temporary files", f"{free:.1f} GiB free in {place}", full, needed=False)


def _memory_gib() -> float:
    """Memory that is available, 0 where the system does not say."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
        except (ValueError, OSError, AttributeError):
            return 0.0
    found = re.search(r"MemAvailable:\s+(\d+) kB", text)
    return int(found.group(1)) * 1024 / _GIB if found else 0.0


def _schedulers() -> Iterator[Check]:
    yield Check("scheduler local", "dask.distributed " + (_version("distributed") or "missing"))
    jobqueue, sbatch = _version("dask-jobqueue"), shutil.which("sbatch")
    missing = []
    if not jobqueue:
        missing.append("pip install 'histoquant[cluster]'")
    if not sbatch:
        missing.append("run on a machine with SLURM's sbatch")
    found = f"dask-jobqueue {jobqueue or 'not installed'}, sbatch {sbatch or 'not found'}"
    yield Check("scheduler slurm", found, "; ".join(missing), needed=False)


def _viewer() -> Iterator[Check]:
    napari = _version("napari")
    advice = "" if napari else "pip install 'histoquant[napari]' to review slides"
    yield Check("napari", napari or "not installed", advice, needed=False)
    bindings = [n for n in ("PyQt6", "PySide6", "PyQt5") if importlib.util.find_spec(n)]
    yield Check("Qt", ", ".join(bindings) or "not installed",
                "" if bindings else "comes with histoquant[napari]", needed=False)  # fmt: skip
    library = ctypes.util.find_library("GL") or ctypes.util.find_library("OpenGL")
    yield Check("OpenGL", library or "not found",
                "" if library else "apt-get install libgl1 libegl1", needed=False)  # fmt: skip
