"""Compartments and junction without loss, in one small file: what a later measurement starts from.

``anatomy.npz`` is NumPy's own container: arrays by name, and the plain values of both as JSON in
``about``. Every field of `Compartments`, `Junction` and `Stretch` is kept under its own name, so
that what reads it back has what was measured, bit for bit.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from histoquant.anatomy import Compartments
from histoquant.errors import ResultError
from histoquant.junction import Junction, Stretch

_PLAIN = (str, int, float, bool, type(None))

Arrays = dict[str, npt.NDArray[Any]]


def anatomy_bytes(compartments: Compartments, junction: Junction) -> bytes:
    """The content of ``anatomy.npz``; the same for the same values."""
    arrays: Arrays = {}
    about: dict[str, Any] = {
        "compartments": _take_apart(compartments, "compartments", arrays),
        "junction": {"reason": junction.reason},
        "stretches": [
            _take_apart(stretch, f"stretch{number}", arrays)
            for number, stretch in enumerate(junction.stretches)
        ],
    }
    out = io.BytesIO()
    np.savez_compressed(out, about=np.array(json.dumps(about)), **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def read_anatomy(content: bytes) -> tuple[Compartments, Junction]:
    """What `anatomy_bytes` was given.

    Raises
    ------
    ResultError
        When the content is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            parts = {name: archive[name] for name in archive.files if name != "about"}
        stretches = tuple(
            Stretch(**_put_together(Stretch, f"stretch{number}", plain, parts))
            for number, plain in enumerate(about["stretches"])
        )
        compartments = _put_together(Compartments, "compartments", about["compartments"], parts)
        return Compartments(**compartments), Junction(stretches, about["junction"]["reason"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ResultError(f"the anatomy is damaged ({error}): measure the slide again") from error


def _take_apart(value: Any, prefix: str, arrays: Arrays) -> dict[str, Any]:
    """Put the arrays of a dataclass into `arrays`; its plain values are returned."""
    plain: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if isinstance(content, np.ndarray):
            arrays[f"{prefix}.{field.name}"] = content
        elif isinstance(content, _PLAIN):
            plain[field.name] = content
        else:
            raise TypeError(f"{prefix}.{field.name} is a {type(content).__name__}: not kept")
    return plain


def _put_together(
    kind: type, prefix: str, plain: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    """The fields of a dataclass; one that came later than the file has its default."""
    found = dict(plain)
    for field in fields(kind):
        name = f"{prefix}.{field.name}"
        if name in arrays:
            found[field.name] = arrays[name]
        elif field.name not in found and field.default is MISSING:
            raise KeyError(name)
    return found
