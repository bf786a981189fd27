"""A headless Chromium of this machine for tests, driven by Playwright; none is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def find_chromium() -> str:
    """Path of an installed Chromium or Chrome; the test is skipped without one."""
    given = os.environ.get("CHROMIUM", "")
    found = [given, *(shutil.which(name) or "" for name in _NAMES), *_ELSEWHERE]
    path = next((p for p in found if p and Path(p).exists()), "")
    if not path:
        pytest.skip(
            "no Chromium or Chrome on this machine: `apt-get install chromium`, "
            "or name one in the environment variable CHROMIUM"
        )
    return path


@contextmanager
def open_browser() -> Iterator[Any]:
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = find_chromium()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            browser.close()
