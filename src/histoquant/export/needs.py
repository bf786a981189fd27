"""Libraries that only an export needs, loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from histoquant.errors import ExportError


def load(module: str, extra: str, export: str) -> Any:
    """The module, for the export `export`.

    Raises
    ------
    ExportError
        When it is not installed, or cannot be loaded beside what else is: with the extra that
        brings it.
    """
    advice = f"pip install 'histoquant[{extra}]' brings it"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise ExportError(
            f"--to {export} needs {missing}, which is not installed: {advice}"
        ) from None
    except ImportError as error:
        raise ExportError(f"--to {export} needs {module}, which fails to load: {error}. {advice} "
                          "in a version that fits") from None  # fmt: skip
