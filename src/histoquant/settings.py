"""Every choice a user may change, with its unit, default and the reason for it.

Settings are frozen: a result is the function of a slide and one `Settings`, and
`Settings.sha256` goes into the result so that a re-run knows what it would repeat.
They are read from TOML (`read_settings`) and changed by ``key=value`` (`with_values`).
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from histoquant.errors import SettingsError
from histoquant.running_settings import BatchSettings, SlurmSettings
from histoquant.setting_groups import (
    MARKERS,
    AnatomySettings,
    Collagen7Settings,
    ComputeSettings,
    FluorescenceSettings,
    Group,
    JunctionSettings,
    Marker,
    NucleiSettings,
    P16Settings,
    QualitySettings,
    SlideSettings,
    StainSettings,
    TissueSettings,
)

__all__ = [
    "AnatomySettings",
    "BatchSettings",
    "Collagen7Settings",
    "ComputeSettings",
    "FluorescenceSettings",
    "JunctionSettings",
    "MARKERS",
    "Marker",
    "NucleiSettings",
    "P16Settings",
    "QualitySettings",
    "Settings",
    "SlideSettings",
    "SlurmSettings",
    "StainSettings",
    "TissueSettings",
    "default_toml",
    "read_settings",
    "settings_from",
]

_WITHOUT_EFFECT = {"compute", "batch", "slurm"}


class Settings(Group):
    """Everything a user may change. Same settings, same slide: same numbers."""

    slides: SlideSettings = SlideSettings()
    stains: StainSettings = StainSettings()
    fluorescence: FluorescenceSettings = FluorescenceSettings()
    tissue: TissueSettings = TissueSettings()
    anatomy: AnatomySettings = AnatomySettings()
    junction: JunctionSettings = JunctionSettings()
    nuclei: NucleiSettings = NucleiSettings()
    p16: P16Settings = P16Settings()
    collagen7: Collagen7Settings = Collagen7Settings()
    quality: QualitySettings = QualitySettings()
    compute: ComputeSettings = ComputeSettings()
    batch: BatchSettings = BatchSettings()
    slurm: SlurmSettings = SlurmSettings()

    @property
    def sha256(self) -> str:
        """Digest of `effective`."""
        values = json.dumps(self.effective(), sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()

    def effective(self) -> dict[str, dict[str, Any]]:
        """Every setting that can change a number: all but `compute`, `batch` and `slurm`."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)

    def with_values(self, assignments: Iterable[str]) -> Settings:
        """Settings with ``group.key=value`` applied, values in TOML notation.

        Raises
        ------
        SettingsError
            For an assignment that cannot be read, an unknown key or a value out of range.
        """
        values = self.model_dump()
        for assignment in assignments:
            _assign(values, assignment)
        return settings_from(values, "--set")


def settings_from(values: dict[str, Any], source: str) -> Settings:
    """Validate `values` (nested as in TOML); errors name `source` and every bad key."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (found {e.get('input')!r})"
            for e in error.errors()
        ]
        raise SettingsError(
            f"{source}: {len(lines)} setting(s) cannot be used:\n" + "\n".join(lines) + "\n"
            "`histoquant settings` prints every setting with its default."
        ) from None


def read_settings(path: Path | str | None) -> Settings:
    """Settings from a TOML file; the defaults for `None`."""
    if path is None:
        return Settings()
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    return settings_from(values, str(path))


def default_toml() -> str:
    """The default settings as commented TOML."""
    return "\n".join(_toml_lines(Settings()))


def _assign(values: dict[str, Any], assignment: str) -> None:
    """Put one ``group.key=value`` into nested `values`."""
    key, equals, text = assignment.partition("=")
    *groups, name = key.strip().split(".")
    if not equals or len(groups) != 1:
        raise SettingsError(f"--set {assignment!r}: expected group.key=value, as stains.preset=he")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word, as in stains.preset=he
    values.setdefault(groups[0], {})[name] = value


def _toml_lines(settings: Settings) -> Iterator[str]:
    for group_name, group_field in Settings.model_fields.items():
        group = getattr(settings, group_name)
        yield f"# {(type(group).__doc__ or '').strip()}"
        yield f"[{group_name}]"
        for name, field in type(group).model_fields.items():
            yield from _toml_field(name, field, getattr(group, name))
        yield ""
        del group_field


def _toml_field(name: str, field: FieldInfo, value: object) -> Iterator[str]:
    yield f"# {field.description}"
    if value is None:
        yield f"# {name} ="
    else:
        yield f"{name} = {json.dumps(value)}"
