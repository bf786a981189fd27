"""Text from outside as it may stand in a page or a drawing."""

from __future__ import annotations

import re

# Control characters but tab and line ends, what XML forbids, and what turns the direction of text.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    """`text` with every control character replaced by U+FFFD: XML cannot hold them at all."""
    return _UNPRINTABLE.sub("\ufffd", text)


def finalize(value: object) -> object:
    """`printable` for whatever a template is about to show; markup of our own stays as it is."""
    return printable(value) if type(value) is str else value
