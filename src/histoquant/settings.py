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
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from histoquant.errors import SettingsError

Marker = Literal["p16", "col7"]
MARKERS: tuple[Marker, ...] = ("p16", "col7")

RgbVector = tuple[float, float, float]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StainSettings(_Group):
    """How colours become optical densities of stains."""

    preset: Literal["hdab", "he"] = Field(
        "hdab", description="Stain set: hdab (hematoxylin, DAB) or he (hematoxylin, eosin)."
    )
    white: RgbVector | None = Field(
        None,
        description="White level R, G, B (0-255). Unset: measured on this slide's own glass, "
        "because a true white of 235 taken for 255 adds 0.035 OD to every channel.",
    )
    hematoxylin: RgbVector | None = Field(
        None, description="Hematoxylin OD vector instead of the preset's (any length)."
    )
    second: RgbVector | None = Field(
        None, description="OD vector of the second stain instead of the preset's (any length)."
    )
    max_od: float = Field(
        1.9,
        gt=0.5,
        le=2.4,
        description="OD per channel from which a pixel counts as saturated and is capped: grey "
        "level 3 of 240, where one grey level is worth 0.15 OD.",
    )


class TissueSettings(_Group):
    """Telling tissue from glass, on the overview."""

    overview_um: float = Field(
        8.0, gt=1, le=32, description="Pixel size of the overview (um/px) on which tissue is found."
    )
    min_od: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="Least OD of tissue in its densest channel: pale dermis lies near 0.03, "
        "unevenly lit glass within 0.01 of 0.",
    )
    min_area_mm2: float = Field(
        0.02, ge=0, description="Smaller pieces of tissue are debris and are left out (mm2)."
    )


class AnatomySettings(_Group):
    """Epidermis, stratum corneum and dermis."""

    mpp: float = Field(2.0, ge=1, le=4, description="Pixel size (um/px) on which compartments lie.")
    min_epidermis_area_mm2: float = Field(
        0.01, gt=0, description="Smaller pieces are not taken for surface epidermis (mm2)."
    )
    papillary_depth_um: float = Field(
        100.0, gt=0, description="Depth of the papillary band below the junction (um) [convention]."
    )
    basal_depth_um: float = Field(
        12.0,
        gt=0,
        description="An epidermal nucleus with its centre at most this far above the junction (um) "
        "is basal: a basal keratinocyte is about 10-15 um tall, its nucleus in the lower half.",
    )
    cut_edge_um: float = Field(
        50.0,
        ge=0,
        description="Junction within this distance (um) of the place where the epidermis ends or "
        "leaves the picture is excluded: crushed, and its normals run out of the tissue.",
    )


class JunctionSettings(_Group):
    """The dermal-epidermal junction as a line."""

    step_um: float = Field(2.0, gt=0, le=5, description="Spacing of the polyline's vertices (um).")
    smoothing_um: float = Field(
        1.0, gt=0, description="Gaussian sigma along the arc (um); path length depends on it."
    )
    chord_um: float = Field(
        100.0,
        gt=0,
        description="Gaussian sigma along the arc (um) of the smooth course that rete ridges and "
        "papillae are measured against.",
    )
    min_length_um: float = Field(
        150.0, gt=0, description="Shorter stretches of junction are left out (um)."
    )
    min_ridge_um: float = Field(
        10.0, gt=0, description="Least height of a rete ridge above its neighbouring papillae (um)."
    )


class NucleiSettings(_Group):
    """Finding nuclei."""

    mpp: float = Field(0.5, ge=0.2, le=1, description="Pixel size (um/px) of the analysis.")
    min_area_um2: float = Field(12.0, gt=0, description="Smaller objects are debris (um2).")
    max_area_um2: float = Field(400.0, gt=0, description="Larger objects are not nuclei (um2).")
    min_contrast_od: float = Field(
        0.06,
        gt=0,
        description="Least nuclear OD (hematoxylin + DAB) above the surroundings.",
    )
    ring_um: float = Field(
        2.0, gt=0, le=10, description="Width of the cytoplasm ring around a nucleus (um)."
    )
    segmenter: str = Field(
        "classical",
        description="Name of the segmenter: classical, or one that a package "
        "registers under the entry point group histoquant.segmenters.",
    )

    @model_validator(mode="after")
    def _areas_in_order(self) -> Self:
        if self.min_area_um2 >= self.max_area_um2:
            msg = f"min_area_um2 {self.min_area_um2} is not below max_area_um2 {self.max_area_um2}"
            raise ValueError(msg)
        return self


class P16Settings(_Group):
    """When a nucleus counts as p16-positive."""

    thresholds_od: tuple[float, float, float] = Field(
        (0.2, 0.4, 0.6),
        description="Mean nuclear DAB OD from which a nucleus is 1+, 2+, 3+; positive from the "
        "first on [convention: QuPath].",
    )
    sweep_od: tuple[float, ...] = Field(
        (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6),
        description="Cut-offs of the threshold sweep, so that no conclusion hangs on one number.",
    )

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        if not 0 < self.thresholds_od[0] < self.thresholds_od[1] < self.thresholds_od[2]:
            raise ValueError(f"thresholds_od must rise from above 0, found {self.thresholds_od}")
        return self


class Collagen7Settings(_Group):
    """The stain along the junction."""

    epidermal_um: float = Field(
        15.0, gt=0, description="How far the normals reach into epidermis (um)."
    )
    dermal_um: float = Field(20.0, gt=0, description="How far the normals reach into dermis (um).")
    depth_step_um: float = Field(
        0.5, gt=0, le=1, description="Step along a normal (um); at most the pixel of the analysis."
    )
    band_um: float = Field(
        6.0,
        gt=0,
        description="The line is looked for at most this far from the traced junction (um); "
        "background lies outside this band.",
    )
    bin_um: float = Field(10.0, gt=0, description="Length of one bin along the junction (um).")
    threshold_od: float = Field(
        0.1,
        gt=0,
        description="A bin is positive when its background-subtracted peak DAB OD reaches this.",
    )
    min_gap_um: float = Field(
        20.0, ge=0, description="Shorter interruptions of the line do not count as gaps (um)."
    )

    @model_validator(mode="after")
    def _room_for_background(self) -> Self:
        # The peak may lie a band off the junction, and background begins a band beyond the peak.
        reach = min(self.epidermal_um, self.dermal_um)
        if 2 * self.band_um >= reach:
            raise ValueError(
                f"band_um {self.band_um:g} leaves no room for background: twice as much must "
                f"be less than epidermal_um and dermal_um ({reach:g})"
            )
        return self


class ComputeSettings(_Group):
    """How the work is cut. No value here changes a result."""

    block_px: int = Field(1024, ge=128, le=16384, description="Side of a block (analysis pixels).")


class Settings(_Group):
    """Everything a user may change. Same settings, same slide: same numbers."""

    stains: StainSettings = StainSettings()
    tissue: TissueSettings = TissueSettings()
    anatomy: AnatomySettings = AnatomySettings()
    junction: JunctionSettings = JunctionSettings()
    nuclei: NucleiSettings = NucleiSettings()
    p16: P16Settings = P16Settings()
    collagen7: Collagen7Settings = Collagen7Settings()
    compute: ComputeSettings = ComputeSettings()

    @property
    def sha256(self) -> str:
        """Digest of every setting that can change a number (`compute` cannot)."""
        values = self.model_dump(mode="json", exclude={"compute"})
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

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
