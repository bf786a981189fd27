"""The settings as a form: made from their own schema, so that no setting is named here.

A value is kept as the text that a user types, in TOML notation (``0.2``, ``[0.2, 0.4, 0.6]``,
``hdab``): the same that ``--set`` takes. So what the form does is what the command line does.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from histoquant.settings import Settings

Values = Mapping[tuple[str, str], str]

_MACHINES_OWN = "Written by `histoquant batch`"
_NOT_FOR_ONE_SLIDE = ("batch", "slurm")
_MARKER_GROUPS = {"p16": ("collagen7",), "col7": ("p16", "nuclei")}
"""Groups that have no say in a marker's measurement."""


@dataclass(frozen=True)
class Field:
    """One setting of the form.

    Attributes
    ----------
    group, name
        Where it stands in the settings.
    description
        Its meaning, unit and reason, as the settings themselves give them.
    default
        Its default as text; empty for "unset".
    choices
        What it may be; empty where anything may be typed.
    limits
        The range it must lie in, in words; empty for none.
    """

    group: str
    name: str
    description: str
    default: str
    choices: tuple[str, ...] = ()
    limits: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Group and name."""
        return self.group, self.name


@dataclass(frozen=True)
class Request:
    """What to measure, and how: the form filled in."""

    slide: str
    marker: str
    out: str
    assignments: tuple[str, ...] = ()
    mpp: float | None = None
    workers: int | None = None

    def arguments(self) -> list[str]:
        """The equivalent ``histoquant quantify``, word by word."""
        words = ["histoquant", "quantify", self.slide, "--marker", self.marker, "--out", self.out]
        for assignment in self.assignments:
            words += ["--set", assignment]
        if self.mpp is not None:
            words += ["--mpp", f"{self.mpp:g}"]
        if self.workers is not None:
            words += ["--workers", str(self.workers)]
        return words

    def command_line(self) -> str:
        """The same as one line for the shell of this machine."""
        if sys.platform == "win32":
            return subprocess.list2cmdline(self.arguments())
        return shlex.join(self.arguments())

    def settings(self) -> Settings:
        """The settings it asks for.

        Raises
        ------
        histoquant.SettingsError
            When a value cannot be read or is out of range; the message names every bad one.
        """
        return Settings().with_values(self.assignments)


def fields(marker: str | None = None) -> list[Field]:
    """Every setting that a user may choose, in the settings' own order.

    Parameters
    ----------
    marker
        Leave out the groups that have no say in this marker.
    """
    schema = Settings.model_json_schema()
    defaults = Settings().model_dump(mode="json")
    skipped = (*_NOT_FOR_ONE_SLIDE, *_MARKER_GROUPS.get(marker or "", ()))
    found = []
    for group, reference in schema["properties"].items():
        if group in skipped:
            continue
        for name, rule in _resolve(reference, schema)["properties"].items():
            description = rule.get("description", "")
            if description.startswith(_MACHINES_OWN):
                continue
            value = defaults[group][name]
            found.append(
                Field(
                    group,
                    name,
                    description,
                    as_text(value),
                    tuple(as_text(v) for v in rule.get("enum", _truths(rule))),
                    _limits(rule),
                )
            )
    return found


def groups(marker: str | None = None) -> dict[str, str]:
    """Groups of settings -> what they are about."""
    names = dict.fromkeys(field.group for field in fields(marker))
    return {name: str(type(getattr(Settings(), name)).__doc__).strip() for name in names}


def assignments(values: Values) -> tuple[str, ...]:
    """What differs from the defaults, as ``group.name=value``, in the settings' order."""
    changed = []
    for field in fields():
        text = values.get(field.key, field.default).strip()
        if text and text != field.default:
            changed.append(f"{field.group}.{field.name}={text}")
    return tuple(changed)


def as_text(value: Any) -> str:
    """A setting's value as it is typed: words bare, everything else as in TOML."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _truths(rule: Mapping[str, Any]) -> tuple[bool, ...]:
    return (True, False) if rule.get("type") == "boolean" else ()


def _resolve(reference: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for candidate in (reference, *reference.get("allOf", ())):
        if "$ref" in candidate:
            found: Mapping[str, Any] = schema["$defs"][candidate["$ref"].rpartition("/")[2]]
            return found
    return reference


def _limits(rule: Mapping[str, Any]) -> str:
    words = {
        "exclusiveMinimum": "above",
        "minimum": "from",
        "exclusiveMaximum": "below",
        "maximum": "to",
    }
    return " ".join(f"{word} {rule[key]:g}" for key, word in words.items() if key in rule)
