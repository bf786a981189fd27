"""Logs that tell a blinded reviewer no names: napari shows them under Help, and the terminal does.

Libraries that read slides name the file in their remarks, whatever logger they use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

Hide = Callable[[str], str]


class DiscreetLogs:
    """While it is on, every record that is logged in this process goes through `hide`."""

    def __init__(self, hide: Hide) -> None:
        self._hide = hide
        self._before: Callable[..., logging.LogRecord] | None = None

    def turn_on(self) -> None:
        """From here on."""
        self._before = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._record)

    def turn_off(self) -> None:
        """As before; nothing is done where it is off."""
        if self._before is not None:
            logging.setLogRecordFactory(self._before)
            self._before = None

    def _record(self, *args: Any, **more: Any) -> logging.LogRecord:
        make = self._before or logging.LogRecord
        record = make(*args, **more)
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # as logging does: what cannot be put together is not said
            said = "a remark that cannot be shown"
        if record.exc_info and record.exc_info[0] is not None:
            said += f" ({record.exc_info[0].__name__})"  # a traceback quotes paths
        record.msg, record.args, record.exc_info = self._hide(said), (), None
        record.exc_text = record.stack_info = None
        return record
