"""What `import histoquant` offers."""

import importlib

import pytest

import histoquant

PUBLIC = {
    "Compartments": "histoquant.anatomy",
    "HistoquantError": "histoquant.errors",
    "Junction": "histoquant.junction",
    "ManifestError": "histoquant.errors",
    "ResultError": "histoquant.errors",
    "ScaleError": "histoquant.errors",
    "Settings": "histoquant.settings",
    "SettingsError": "histoquant.errors",
    "SlideError": "histoquant.errors",
    "SlideResult": "histoquant.results",
    "StainError": "histoquant.errors",
    "StainModel": "histoquant.stains",
    "find_compartments": "histoquant.anatomy",
    "open_slide": "histoquant.slides.slide",
    "optical_density": "histoquant.stains",
    "quantify": "histoquant.pipeline",
    "read_result": "histoquant.results",
    "segment_nuclei": "histoquant.nuclei",
    "trace_junction": "histoquant.junction",
    "unmix": "histoquant.stains",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_the_one_of_its_module(name):
    assert getattr(histoquant, name) is getattr(importlib.import_module(PUBLIC[name]), name)
    assert getattr(histoquant, name).__doc__


def test_nothing_else_is_public():
    assert sorted(histoquant.__all__) == sorted([*PUBLIC, "__version__", "phantom"])
    assert dir(histoquant) == sorted(histoquant.__all__)
    assert histoquant.phantom is importlib.import_module("histoquant.phantom")


def test_an_unknown_name_says_so():
    with pytest.raises(AttributeError, match="'histoquant' has no attribute 'quantity'"):
        histoquant.quantity  # noqa: B018


@pytest.mark.parametrize("name", [n for n in PUBLIC if n.endswith("Error")])
def test_every_error_is_a_histoquant_error(name):
    assert issubclass(getattr(histoquant, name), histoquant.HistoquantError)


def test_a_missing_scale_is_a_slide_error():
    assert issubclass(histoquant.ScaleError, histoquant.SlideError)
