"""`labels.ome.zarr`: every nucleus and compartment where it was measured, in few files."""

from __future__ import annotations

import csv
import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from typer.testing import CliRunner

from fakes import FakePipeline, write_tiny_slide
from histoquant import batch, ngff
from histoquant.anatomy import EPIDERMIS
from histoquant.cli import app
from histoquant.export import export_results
from histoquant.labels import _describe, write_labels
from histoquant.manifest import slide_entries
from histoquant.outlining import recorded_model
from histoquant.phantom import write_fluorescence
from histoquant.pipeline import quantify
from histoquant.results import LABELS, SlideResult, read_result, write_result
from histoquant.review.store import write_reviewed
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.slides import open_slide
from measured import COL7, P16, measure_two


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = Settings().with_values(["batch.labels=true"])
    return measure_two(tmp_path_factory.mktemp("labels"), labels)


def _check_nuclei(group: Any, nuclei: pd.DataFrame, mpp: float) -> None:
    """Number, area and centroid of every label are those of its row."""
    labels = np.asarray(group["nuclei/0"])
    areas = np.bincount(labels.ravel(), minlength=len(nuclei) + 1)[1:]
    assert (areas * mpp**2).tolist() == pytest.approx(nuclei["area_um2"].tolist())
    y, x = np.nonzero(labels)
    for axis, values in (("y_um", y), ("x_um", x)):
        centre = np.bincount(labels[y, x], weights=values + 0.5)[1:] / areas * mpp
        assert np.allclose(centre, nuclei[axis])


def test_nuclei_are_numbered_by_their_rows(measured: Path) -> None:
    place = measured / "slides" / P16
    group = zarr.open_group(place / LABELS, mode="r")
    assert group.attrs["ome"]["labels"] == ["compartments", "nuclei"]
    nuclei = pd.read_parquet(place / "nuclei.parquet")
    assert len(nuclei) > 100
    _check_nuclei(group, nuclei, 0.5)


def test_compartments_are_those_that_were_measured(measured: Path) -> None:
    for name in (P16, COL7):
        place = measured / "slides" / name
        codes = np.asarray(zarr.open_group(place / LABELS, mode="r")["compartments/0"])
        compartments = read_result(place).compartments
        assert compartments is not None
        assert codes.shape == compartments.labels.shape
        assert np.array_equal(codes == 2, compartments.labels == EPIDERMIS)
    assert zarr.open_group(place / LABELS, mode="r").attrs["ome"]["labels"] == ["compartments"]


def test_labels_lie_over_each_other_and_over_the_slide_in_um(measured: Path) -> None:
    """By the metadata alone, as a viewer does it: nuclei of the epidermis lie in epidermis."""
    place = measured / "slides" / P16
    group = zarr.open_group(place / LABELS, mode="r")
    first: dict[str, tuple[float, float]] = {}
    for name in ("compartments", "nuclei"):
        (multiscale,) = group[name].attrs["ome"]["multiscales"]
        assert [axis["unit"] for axis in multiscale["axes"]] == ["micrometer"] * 2
        scale, shift = multiscale["datasets"][0]["coordinateTransformations"]
        assert len(set(scale["scale"] + [2 * v for v in shift["translation"]])) == 1
        first[name] = scale["scale"][0], shift["translation"][0]
    codes = np.asarray(group["compartments/0"])
    nuclei = pd.read_parquet(place / "nuclei.parquet")
    basal = nuclei[nuclei["compartment"] == "epidermis_basal"]
    scale_um, shift_um = first["compartments"]
    at = ((basal[["y_um", "x_um"]].to_numpy() - shift_um) / scale_um).round().astype(int)
    assert (codes[at[:, 0], at[:, 1]] == 2).mean() > 0.97
    (legend,) = [v["properties"] for k, v in group["compartments"].attrs["ome"].items()
                 if k == "image-label"]  # fmt: skip
    assert [entry["name"] for entry in legend] == [name for _, name, _ in ngff.COMPARTMENTS]


def test_a_slide_with_labels_has_few_files(measured: Path) -> None:
    for name in (P16, COL7):
        files = [path for path in (measured / "slides" / name).rglob("*") if path.is_file()]
        assert len(files) <= 15, files
        assert LABELS in read_files(measured / "slides" / name)


def read_files(place: Path) -> list[str]:
    import json

    listed: list[str] = json.loads((place / "result.json").read_text(encoding="utf-8"))["files"]
    return listed


def test_large_labels_have_coarser_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A level more while one takes several shards; every pixel is one of the finest level."""
    monkeypatch.setattr(ngff, "SHARD_PX", 64)
    monkeypatch.setattr(ngff, "CHUNK_PX", 16)
    values = np.random.default_rng(0).integers(0, 2**32, (150, 301), dtype=np.uint32)
    group = zarr.open_group(tmp_path / "z", mode="w", zarr_format=3)
    level = ngff.new_array(group, "0", values.shape, values.dtype, ("y", "x"))
    level[...] = values
    _describe(group, "nuclei", 0.5, level, {})
    (multiscale,) = group.attrs["ome"]["multiscales"]
    sizes = [d["coordinateTransformations"][0]["scale"][0] for d in multiscale["datasets"]]
    assert sizes == [0.5, 2.0, 8.0]
    assert np.array_equal(np.asarray(group["1"]), values[::4, ::4])
    assert np.array_equal(np.asarray(group["2"]), values[::16, ::16])


def test_ome_zarr_opens_them(measured: Path) -> None:
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    parse_url = importlib.import_module("ome_zarr.io").parse_url
    nodes = list(reader.Reader(parse_url(str(measured / "slides" / P16 / LABELS)))())
    names = (Path(str(node.zarr)).name.partition(" ")[0] for node in nodes)
    shapes = {n: node.data[0].shape for n, node in zip(names, nodes, strict=True) if node.data}
    assert shapes == {"compartments": (200, 300), "nuclei": (800, 1200)}


def test_ome_zarr_models_find_them_valid(measured: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")
    group = zarr.open_group(measured / "slides" / P16 / LABELS, mode="r")
    for name in ("compartments", "nuclei"):
        models.ImageLabel.from_zarr(group[name])


@pytest.fixture(scope="module")
def glowing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideResult]:
    path = tmp_path_factory.mktemp("glowing") / "p16.ome.tif"
    write_fluorescence(path, "p16", 11, size_mm=(0.6, 0.4), angle_deg=0)
    return path, quantify(path, "p16")


def test_fluorescence_is_labelled_too(glowing: tuple[Path, SlideResult], tmp_path: Path) -> None:
    path, result = glowing
    assert result.nuclei is not None
    assert "fluorescence" in result.provenance
    with open_slide(path) as slide:
        label = partial(write_labels, result, slide, Settings())
        write_result(result, tmp_path / "s", more=label)
    _check_nuclei(zarr.open_group(tmp_path / "s" / LABELS, mode="r"), result.nuclei, 0.5)


def test_the_model_on_record_is_the_one_that_was_used(
    glowing: tuple[Path, SlideResult], measured: Path, tmp_path: Path
) -> None:
    path, result = glowing
    write_result(result, tmp_path / "s")
    again = recorded_model(read_result(tmp_path / "s").provenance, "s")
    assert again == recorded_model(result.provenance, "s")
    with open_slide(path) as slide, open_slide(measured.parent / f"{P16}.ome.tif") as bright:
        assert again.planes(slide.read(2.0, 0, 0, 8, 8), 3.0).stains.shape == (8, 8, 3)
        model = recorded_model(read_result(measured / "slides" / P16).provenance, P16)
        assert model.planes(bright.read(2.0, 0, 0, 8, 8), 3.0).stains.shape == (8, 8, 3)


def test_labels_asked_for_later_are_made_once(
    tmp_path: Path, fake_pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label(result: SlideResult, slide: Any, settings: Settings, folder: Path) -> None:
        (folder / LABELS).mkdir()

    monkeypatch.setattr("histoquant.labels.write_labels", label)
    path = write_tiny_slide(tmp_path / "a.ome.tif")
    quantify_ = ["quantify", str(path), "--marker", "p16", "--out", str(tmp_path / "out")]
    run = RunDirectory(tmp_path / "out")
    for words, count in (([], 1), (["--labels"], 2), (["--labels"], 2), ([], 2)):
        result = CliRunner().invoke(app, [*quantify_, *words])
        assert result.exit_code == 0, result.output
        assert len(fake_pipeline.measured) == count
    place = run.slide("a")
    assert (place / LABELS).exists()
    # A reviewed result has them beside the automatic one, and is not measured again for them.
    review = {"reviewer": "anna", "verdict": "accepted", "reason": ""}
    write_reviewed(read_result(place), place, review, [])
    with run.ledger_path.open(newline="") as file:
        known = list(csv.DictReader(file))
    settings = Settings().with_values(["batch.labels=true"])
    (step,) = batch.plan(slide_entries([path], "p16", known=known), run, settings)
    assert step.action == "keep"


def test_export_outlines_fluorescence(glowing: tuple[Path, SlideResult], tmp_path: Path) -> None:
    """What is on record of a fluorescence slide is enough to find its nuclei again."""
    path, _ = glowing
    run = RunDirectory(tmp_path / "out")
    with run.locked():
        steps = batch.plan(slide_entries([path], "p16"), run, Settings())
        assert not batch.run(steps, run, crew=batch.Crew(one_by_one=True)).failed
    exported = export_results(run.path, "ome-zarr", out=tmp_path / "z")
    assert not exported.failed
    nuclei = pd.read_parquet(run.slide(steps[0].entry.slide_id) / "nuclei.parquet")
    group = zarr.open_group(exported.paths[0], mode="r")["labels"]
    _check_nuclei(group, nuclei, 0.5)
