"""Settings: the printed defaults are the defaults, and mistakes are named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from histoquant.errors import SettingsError
from histoquant.settings import Settings, default_toml, read_settings, settings_from


def test_printed_defaults_are_the_defaults() -> None:
    assert settings_from(tomllib.loads(default_toml()), "default") == Settings()


def test_every_setting_is_printed_and_explained() -> None:
    lines = default_toml().splitlines()
    for group, field in Settings.model_fields.items():
        assert f"[{group}]" in lines
        for name, setting in field.annotation.model_fields.items():
            at = [i for i, line in enumerate(lines) if line.lstrip("# ").startswith(f"{name} =")]
            assert at, name
            assert setting.description, name
            assert any(f"# {setting.description}" == lines[i - 1] for i in at), name


def test_unset_settings_can_be_uncommented() -> None:
    text = default_toml().replace("# white =", "white = [240, 240, 240]")
    assert settings_from(tomllib.loads(text), "x").stains.white == (240, 240, 240)


def test_digest_follows_what_changes_a_number_and_nothing_else() -> None:
    default = Settings()
    assert default.with_values(["compute.block_px=512"]).sha256 == default.sha256
    assert default.with_values(["nuclei.min_area_um2=20"]).sha256 != default.sha256


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("stains.preset=he", "he"),
        ('stains.preset="he"', "he"),
        (" stains.preset = he ", "he"),
    ],
)
def test_assignments(assignment: str, value: str) -> None:
    assert Settings().with_values([assignment]).stains.preset == value


def test_assigned_list() -> None:
    settings = Settings().with_values(["p16.thresholds_od=[0.1, 0.3, 0.5]"])
    assert settings.p16.thresholds_od == (0.1, 0.3, 0.5)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("block_px=3", "group.key=value"),
        ("compute.block_px", "group.key=value"),
        ("compute.blockpx=256", "compute.blockpx"),
        ("computer.block_px=256", "computer"),
        ("compute.block_px=3", "compute.block_px"),
        ("stains.preset=heh", "stains.preset"),
        ("p16.thresholds_od=[0.4, 0.2, 0.6]", "must rise"),
        ("stains.source=settings", "needs both hematoxylin and second"),
        ("stains.source=control", "stains.source"),
        ("p16.threshold_source=positive_control", "p16.threshold_source"),
        ("p16.control_percentile=101", "p16.control_percentile"),
        ("slides.damaged_tiles=ignore", "slides.damaged_tiles"),
        ("nuclei.min_area_um2=nan", "nuclei.min_area_um2"),
    ],
)
def test_bad_assignments_are_named(assignment: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Settings().with_values([assignment])


def test_vectors_are_not_both_estimated_and_given() -> None:
    with pytest.raises(SettingsError, match="estimates the vectors: leave them unset"):
        Settings().with_values(["stains.source=slide", "stains.second=[0.2, 0.6, 0.8]"])
    with pytest.raises(SettingsError, match="locks the vectors: leave them unset"):
        Settings().with_values(["stains.source=batch", "stains.second=[0.2, 0.6, 0.8]"])


def test_every_bad_key_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text("[compute]\nblok = 1\n[p16]\nthresholds_od = 3\n")
    with pytest.raises(SettingsError, match=r"my\.toml: 2 setting") as caught:
        read_settings(file)
    assert all(name in str(caught.value) for name in ("compute.blok", "p16.thresholds_od"))


@pytest.mark.parametrize("content", [b"[compute\n", b"\xff\xfe\x00"])
def test_files_that_are_no_toml(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(SettingsError, match="not valid TOML"):
        read_settings(tmp_path / "x.toml")


def test_missing_file() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        read_settings("nowhere.toml")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().compute.block_px = 3  # type: ignore[misc]
