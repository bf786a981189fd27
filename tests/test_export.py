"""Exports, each read back by the library of the program it is for."""

from __future__ import annotations

import gzip
import importlib
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pytest
import zarr
from shapely.geometry import shape
from typer.testing import CliRunner

from fakes import FakePipeline, make_result, write_tiny_slide
from helpers import REAL
from histoquant import batch, tables
from histoquant.cli import app
from histoquant.errors import ExportError, ResultError
from histoquant.export import export_results
from histoquant.export.kept import KeptSlide
from histoquant.export.outlines import measured_slide
from histoquant.export.scverse import _radii_um, _var
from histoquant.manifest import read_manifest
from histoquant.results import write_result
from histoquant.rundir import RunDirectory
from histoquant.settings import Settings
from histoquant.slides import open_slide
from measured import COL7, P16, measure_two


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return measure_two(tmp_path_factory.mktemp("exports"))


@pytest.fixture
def results(measured: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(measured, tmp_path / "copy"))


def features(path: Path) -> list[dict[str, Any]]:
    collection = json.loads(path.read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    return list(collection["features"])


def nuclei_of(directory: Path) -> pd.DataFrame:
    return pd.read_parquet(directory / "slides" / P16 / "nuclei.parquet")


def by_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [f for f in found if f["properties"]["objectType"] == kind]


# GeoJSON


def test_every_feature_is_one_that_qupath_reads(measured: Path, tmp_path: Path) -> None:
    exported = export_results(measured, "geojson", out=tmp_path)
    assert not exported.failed
    assert sorted(p.name for p in exported.paths) == [f"{COL7}.geojson", f"{P16}.geojson"]
    for path in exported.paths:
        found = features(path)
        ids = [str(uuid.UUID(f["id"])) for f in found]
        assert len(set(ids)) == len(ids)
        for feature in found:
            properties = feature["properties"]
            assert feature["type"] == "Feature"
            assert properties["objectType"] in ("annotation", "detection")
            assert set(properties["classification"]) == {"name", "color"}
            assert all(0 <= c <= 255 for c in properties["classification"]["color"])
            values = properties["measurements"].values()
            assert all(isinstance(v, float) and np.isfinite(v) for v in values)
            assert all(isinstance(v, str) for v in properties.get("metadata", {}).values())
            geometry = shape(feature["geometry"])
            assert geometry.is_valid
            assert not geometry.is_empty


def test_nuclei_carry_qupaths_classes_and_measurements(measured: Path, tmp_path: Path) -> None:
    export_results(measured, "geojson", out=tmp_path, slides=[P16])
    nuclei, detections = nuclei_of(measured), by_type(features(tmp_path / f"{P16}.geojson"),
                                                      "detection")  # fmt: skip
    assert len(detections) == len(nuclei)
    for row, detection in zip(nuclei.to_dict("records"), detections, strict=True):
        x, y = detection["geometry"]["coordinates"]
        assert (x, y) == pytest.approx((row["x_px"], row["y_px"]), abs=0.006)
        given = detection["properties"]["measurements"]
        assert given["Nucleus: DAB OD mean"] == pytest.approx(row["dab_od_mean"], rel=1e-5)
        assert given["Nucleus: Area µm^2"] == pytest.approx(row["area_um2"], rel=1e-5)
    counted = nuclei[~nuclei["excluded"]]
    classes = Counter(d["properties"]["classification"]["name"] for d in detections)
    assert classes.pop("Ignore*", 0) == int(nuclei["excluded"].sum())
    expected = Counter(np.array(["Negative", "1+", "2+", "3+"])[counted["intensity_class"]])
    assert classes == expected


def test_the_tissue_carries_the_figures_of_the_slide(measured: Path, tmp_path: Path) -> None:
    export_results(measured, "geojson", out=tmp_path, slides=[P16])
    tissue = next(
        f for f in features(tmp_path / f"{P16}.geojson") if f["properties"].get("name") == "Tissue"
    )
    summary = json.loads((measured / "slides" / P16 / "result.json").read_text())["summary"]
    given = tissue["properties"]["measurements"]
    assert given["Positive %"] == pytest.approx(summary["positive_percent"], rel=1e-5)
    assert tissue["properties"]["metadata"]["person"] == "Jürgen"


def test_outlines_are_those_that_were_measured(measured: Path, tmp_path: Path) -> None:
    exported = export_results(measured, "geojson", out=tmp_path, slides=[P16], with_outlines=True)
    assert not exported.failed
    detections = by_type(features(tmp_path / f"{P16}.geojson"), "detection")
    nuclei = nuclei_of(measured)
    areas = np.array([shape(d["geometry"]).area for d in detections]) * 0.5**2
    centres = np.array([shape(d["geometry"]).centroid.coords[0] for d in detections])
    assert {d["geometry"]["type"] for d in detections} == {"Polygon"}
    assert np.abs(areas / nuclei["area_um2"] - 1).median() < 0.03
    assert np.abs(centres - nuclei[["x_px", "y_px"]].to_numpy()).max() < 0.6
    assert all(shape(d["geometry"]).is_valid for d in detections)


def test_bins_of_junction_lie_on_it(measured: Path, tmp_path: Path) -> None:
    export_results(measured, "geojson", out=tmp_path, slides=[COL7])
    found = features(tmp_path / f"{COL7}.geojson")
    table = pd.read_parquet(measured / "slides" / COL7 / "junction.parquet")
    bins = by_type(found, "detection")
    assert len(bins) == len(table)
    line = shape(next(f for f in found if f["properties"].get("name") == "DEJ")["geometry"])
    for row, feature in zip(table.to_dict("records"), bins, strict=True):
        piece = shape(feature["geometry"])
        assert piece.geom_type == "LineString"
        assert piece.length * 0.5 == pytest.approx(10, abs=0.3)
        assert piece.distance(shape({"type": "Point", "coordinates": [row["x_px"], row["y_px"]]})
                              ) < 0.1  # fmt: skip
    del line
    counted = table[~table["excluded"]]
    classes = Counter(b["properties"]["classification"]["name"] for b in bins)
    assert classes["Positive"] == int(counted["positive"].sum())
    assert classes["Ignore*"] == int(table["excluded"].sum())


def test_gzip_holds_the_same_and_is_the_same_every_time(measured: Path, tmp_path: Path) -> None:
    export_results(measured, "geojson", out=tmp_path / "plain", slides=[P16])
    export_results(measured, "geojson", out=tmp_path / "a", slides=[P16], compress=True)
    export_results(measured, "geojson", out=tmp_path / "b", slides=[P16], compress=True)
    first = (tmp_path / "a" / f"{P16}.geojson.gz").read_bytes()
    assert first == (tmp_path / "b" / f"{P16}.geojson.gz").read_bytes()
    assert gzip.decompress(first) == (tmp_path / "plain" / f"{P16}.geojson").read_bytes()


# Slides that outlines are found in again


def test_a_slide_that_is_gone_fails_alone(measured: Path, tmp_path: Path) -> None:
    slide = measured.parent / f"{P16}.ome.tif"
    hidden = slide.rename(slide.with_suffix(".away"))
    try:
        exported = export_results(measured, "geojson", out=tmp_path, with_outlines=True)
    finally:
        hidden.rename(slide)
    assert [p.name for p in exported.paths] == [f"{COL7}.geojson"]
    assert "reads the slide again" in exported.failed[P16]


def test_another_slide_in_its_place_is_refused(results: Path, tmp_path: Path) -> None:
    _change_record(results, lambda record: record["summary"].update(slide_sha256="0" * 64))
    exported = export_results(results, "ome-zarr", out=tmp_path / "out", slides=[P16])
    assert "is not the slide that was measured" in exported.failed[P16]
    assert list((tmp_path / "out").iterdir()) == []


def test_nuclei_that_do_not_come_up_again_are_an_error(results: Path, tmp_path: Path) -> None:
    table = nuclei_of(results)
    table.loc[0, "nucleus_id"] = "y1x1"
    table.to_parquet(results / "slides" / P16 / "nuclei.parquet", index=False)
    exported = export_results(results, "geojson", out=tmp_path, slides=[P16], with_outlines=True)
    assert "1 of" in exported.failed[P16]
    assert "not found again" in exported.failed[P16]


def _change_record(results: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = results / "slides" / P16 / "result.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def test_measurements_of_a_fluorescence_slide_are_named_in_grey_levels(
    results: Path, tmp_path: Path
) -> None:
    _change_record(results, lambda r: r["summary"].update(marker_unit="grey levels (16 bit)"))
    export_results(results, "geojson", out=tmp_path, slides=[P16])
    found = features(tmp_path / f"{P16}.geojson")
    names = {name for f in found for name in f["properties"].get("measurements", {})}
    assert "Nucleus: grey levels (16 bit) mean" in names
    assert not [name for name in names if " OD" in name]
    units = _var(list(tables.NUCLEI), "grey levels (16 bit)")["unit"]
    assert units["dab_od_mean"] == "grey levels (16 bit)"
    assert not units.str.contains("OD").any()


# OME-Zarr


def test_labels_lie_where_the_nuclei_are(measured: Path, tmp_path: Path) -> None:
    exported = export_results(measured, "ome-zarr", out=tmp_path, slides=[P16])
    assert not exported.failed
    group = zarr.open_group(exported.paths[0], mode="r")
    labels = np.asarray(group["labels/nuclei/0"])
    nuclei = nuclei_of(measured)
    assert set(np.unique(labels)) == set(range(len(nuclei) + 1))
    assert (np.bincount(labels.ravel())[1:] * 0.25).tolist() == nuclei["area_um2"].tolist()
    y, x = np.nonzero(labels)
    centre = np.bincount(labels[y, x], weights=(y + 0.5) / labels[y, x].clip(1) * labels[y, x])
    centre = centre[1:] / np.bincount(labels.ravel())[1:]
    assert np.allclose(centre * 0.5, nuclei["y_um"])


def test_levels_have_their_place_in_um(measured: Path, tmp_path: Path) -> None:
    group = zarr.open_group(
        export_results(measured, "ome-zarr", out=tmp_path, slides=[P16]).paths[0], mode="r"
    )
    for name, pixel in (("", 2.0), ("labels/compartments", 2.0), ("labels/nuclei", 0.5)):
        own = group[name] if name else group
        ome = own.attrs["ome"]
        assert ome["version"] == "0.5"
        (multiscale,) = ome["multiscales"]
        scale, translation = multiscale["datasets"][0]["coordinateTransformations"]
        assert scale["scale"][-2:] == [pixel, pixel]
        assert translation["translation"][-2:] == [pixel / 2, pixel / 2]
        extent = np.array(own["0"].shape[-2:]) * pixel
        assert np.all(np.abs(extent - (400, 600)) <= pixel)
        assert own["0"].shards is not None


def test_compartments_fill_their_outlines(measured: Path, tmp_path: Path) -> None:
    path = export_results(measured, "ome-zarr", out=tmp_path, slides=[P16]).paths[0]
    codes = np.asarray(zarr.open_group(path, mode="r")["labels/compartments/0"])
    summary = json.loads((measured / "slides" / P16 / "result.json").read_text())["summary"]
    area_mm2 = (codes > 0).sum() * 4 / 1e6
    assert area_mm2 == pytest.approx(summary["tissue_area_mm2"], rel=0.02)


def test_ome_zarr_validates_and_opens(measured: Path, tmp_path: Path) -> None:
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")
    path = export_results(measured, "ome-zarr", out=tmp_path, slides=[P16]).paths[0]
    image = models.Image.from_zarr(zarr.open_group(path, mode="r"))
    assert set(image.labels.attributes.ome.labels) == {"compartments", "nuclei"}
    reader = pytest.importorskip("ome_zarr.reader", reason="ome-zarr is not installed")
    parse_url = importlib.import_module("ome_zarr.io").parse_url
    nodes = list(reader.Reader(parse_url(str(path)))())
    shapes = {Path(str(node.zarr)).name: node.data[0].shape for node in nodes if node.data}
    assert len(shapes) == 3


def test_our_own_reader_opens_the_picture(measured: Path, tmp_path: Path) -> None:
    from histoquant.slides import open_slide

    path = export_results(measured, "ome-zarr", out=tmp_path, slides=[COL7]).paths[0]
    with open_slide(path) as copy, open_slide(measured.parent / f"{COL7}.ome.tif") as slide:
        assert copy.mpp == 2.0
        assert np.array_equal(copy.overview(2.0), slide.overview(2.0))


def test_a_slide_of_two_files_is_opened_with_both(tmp_path: Path) -> None:
    marker, nuclear = REAL / "skin-if-TRITC.ndpi", REAL / "skin-if-DAPI.ndpi"
    with open_slide(marker, nuclear=nuclear) as pair:
        summary = {"slide_sha256": pair.fingerprint}
    row = {"slide": str(marker), "slide_id": "pair", "nuclear_slide": str(nuclear)}
    record = {"summary": summary, "provenance": {"settings": {}}}
    with measured_slide(KeptSlide(tmp_path, row, record)) as slide:
        assert len(slide.channels) == 2


# AnnData and SpatialData


@pytest.mark.filterwarnings("default")  # anndata and what it loads warn of each other
def test_anndata_reads_back(measured: Path, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="anndata is not installed")
    exported = export_results(measured, "anndata", out=tmp_path)
    assert not exported.failed
    adata = anndata.read_h5ad(tmp_path / f"{P16}.h5ad")
    nuclei = nuclei_of(measured)
    assert adata.n_obs == len(nuclei)
    assert np.allclose(adata.obsm["spatial"], nuclei[["x_um", "y_um"]])
    assert np.allclose(adata[:, "dab_od_mean"].X.ravel(), nuclei["dab_od_mean"], atol=1e-6)
    assert adata.obs["positive"].tolist() == nuclei["positive"].tolist()
    assert adata.var.loc["area_um2", "unit"] == "um2"
    assert adata.uns["histoquant"]["summary"]["n_nuclei"] > 0
    bins = anndata.read_h5ad(tmp_path / f"{COL7}.h5ad")
    table = pd.read_parquet(measured / "slides" / COL7 / "junction.parquet")
    assert np.allclose(bins[:, "peak_od"].X.ravel(), table["peak_od"], equal_nan=True)


@pytest.mark.filterwarnings("default")
def test_spatialdata_reads_back(measured: Path, tmp_path: Path) -> None:
    spatialdata = pytest.importorskip("spatialdata", reason="spatialdata is not installed")
    exported = export_results(measured, "spatialdata", out=tmp_path, with_outlines=True)
    assert not exported.failed
    data = spatialdata.read_zarr(tmp_path / f"{P16}.spatialdata.zarr")
    assert set(data.shapes) == {"compartments", "junction", "nuclei"}
    nuclei = nuclei_of(measured)
    assert np.abs(data.shapes["nuclei"].area / nuclei["area_um2"] - 1).median() < 0.03
    assert data.tables["nuclei_table"].n_obs == len(nuclei)
    in_px = spatialdata.transform(data.shapes["nuclei"], to_coordinate_system="global")
    assert np.abs(in_px.centroid.x - nuclei["x_px"]).max() < 0.6


def test_a_nucleus_that_a_reviewer_added_has_a_circle() -> None:
    areas = pd.Series([np.nan, 4.0, 9.0, 100.0]) * np.pi
    assert _radii_um(pd.DataFrame({"area_um2": areas})).tolist() == pytest.approx([3, 2, 3, 10])
    assert np.all(_radii_um(pd.DataFrame({"area_um2": [np.nan]})) > 0)


@pytest.mark.parametrize("to", ["anndata", "spatialdata"])
def test_what_is_missing_is_named_with_its_extra(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, to, None)
    with pytest.raises(ExportError, match=r"histoquant\[spatialdata\]"):
        export_results(measured, to, out=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# Excel


def test_the_workbook_holds_the_tables(measured: Path, tmp_path: Path) -> None:
    (path,) = export_results(measured, "xlsx", out=tmp_path).paths
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["markers p16", "markers col7", "ledger", "sweep", "drift",
                               "columns", "about"]  # fmt: skip
    frame = pd.read_excel(path, sheet_name="markers p16", header=0, skiprows=[1])
    expected = pd.read_csv(measured / "markers.csv")
    expected = (
        expected[expected["marker"] == "p16"].dropna(axis=1, how="all").reset_index(drop=True)
    )
    shared = [name for name in expected.columns if name in frame]
    assert set(expected.columns) - set(shared) == set()
    pd.testing.assert_frame_equal(
        frame[shared], expected[shared], check_dtype=False, rtol=1e-9, atol=0
    )
    units = [cell.value for cell in book["markers p16"][2]]
    assert units[list(frame.columns).index("epidermis_area_mm2")] == "mm2"


def test_every_column_of_the_workbook_is_explained(measured: Path, tmp_path: Path) -> None:
    (path,) = export_results(measured, "xlsx", out=tmp_path).paths
    book = openpyxl.load_workbook(path)
    told = pd.read_excel(path, sheet_name="columns", header=0, skiprows=[1])
    known = set(zip(told["sheet"], told["column"], strict=True))
    for sheet in book.worksheets:
        for cell in sheet[1]:
            assert (sheet.title, cell.value) in known
    assert told["meaning"].str.len().min() > 3


def test_tables_writes_the_workbook_too(results: Path) -> None:
    run = CliRunner().invoke(app, ["tables", str(results)])
    assert run.exit_code == 0
    assert "markers p16" in openpyxl.load_workbook(results / "markers.xlsx").sheetnames


@pytest.fixture
def hostile(tmp_path: Path, fake_pipeline: FakePipeline) -> Path:
    """Names that are formulas, markup, control characters and too long."""
    long = "x" * 40_000
    people = ['=HYPERLINK("http://evil","x")', "<b>Ann</b>", "Zoë \u202e\x07Ünal 李", long]
    for n in range(len(people)):
        write_tiny_slide(tmp_path / f"s{n}.ome.tif", seed=n)
    rows = [["slide", "marker", "person", "site", "visit", "batch"]]
    rows += [[f"s{n}.ome.tif", "p16", who, "left", "m8", "b"] for n, who in enumerate(people)]
    pd.DataFrame(rows[1:], columns=rows[0]).to_csv(tmp_path / "m.csv", index=False)
    directory = RunDirectory(tmp_path / "out")
    with directory.locked():
        batch.run(batch.plan(read_manifest(tmp_path / "m.csv").usable, directory, Settings()),
                  directory)  # fmt: skip
    return directory.path


def test_nothing_from_a_manifest_becomes_a_formula(hostile: Path, tmp_path: Path) -> None:
    (path,) = export_results(hostile, "xlsx", out=tmp_path / "x").paths
    book = openpyxl.load_workbook(path)
    cells = [cell for sheet in book.worksheets for row in sheet.iter_rows() for cell in row]
    assert not [cell for cell in cells if cell.data_type == "f"]
    people = [row[0].value for row in book["markers p16"].iter_rows(min_row=3)]
    assert '=HYPERLINK("http://evil","x")' in people
    assert "Zoë \ufffd\ufffdÜnal 李" in people
    assert max(len(str(cell.value)) for cell in cells) <= 32_767
    assert any(str(who).endswith("(cut: the whole text is in the CSV)") for who in people)


def test_hostile_names_and_missing_values_pass_through_geojson(hostile: Path) -> None:
    slide = next((hostile / "slides").iterdir()).name
    result = make_result(slide_id=slide, positive_percent=None, h_score=float("nan"))
    assert result.nuclei is not None
    result.nuclei["dab_od_mean"] = np.nan
    result.nuclei["positive"] = pd.array([None] * 5, dtype="boolean")
    result.nuclei["intensity_class"] = pd.array([None] * 5, dtype="Int64")
    write_result(result, hostile / "slides" / slide)
    exported = export_results(hostile, "geojson")
    assert not exported.failed
    found = by_type(features(hostile / "export" / "geojson" / f"{slide}.geojson"), "detection")
    assert {f["properties"]["classification"]["name"] for f in found} == {"Nucleus"}
    assert all("Nucleus: DAB OD mean" not in f["properties"]["measurements"] for f in found)


# What cannot be exported


def test_no_results_directory(tmp_path: Path) -> None:
    for to in ("geojson", "xlsx"):
        with pytest.raises(ResultError, match="no results directory"):
            export_results(tmp_path, to, out=tmp_path / "out")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_done(tmp_path: Path, fake_pipeline: FakePipeline) -> None:
    write_tiny_slide(tmp_path / "blank.ome.tif")
    (tmp_path / "m.csv").write_text("slide,marker,person,site,visit\nblank.ome.tif,p16,P,l,v\n")
    directory = RunDirectory(tmp_path / "out")
    with directory.locked():
        batch.run(batch.plan(read_manifest(tmp_path / "m.csv").usable, directory, Settings()),
                  directory)  # fmt: skip
    with pytest.raises(ResultError, match="no slide is done"):
        export_results(directory.path, "geojson")
    with pytest.raises(ResultError, match="failed: blank.ome.tif: no tissue"):
        export_results(directory.path, "geojson", slides=["blank"])
    (path,) = export_results(directory.path, "xlsx").paths
    assert openpyxl.load_workbook(path).sheetnames == ["ledger", "columns", "about"]


def test_unknown_slides_are_named_with_their_neighbours(measured: Path) -> None:
    with pytest.raises(ResultError, match="haut_p61: no slide.*did you mean haut_p16"):
        export_results(measured, "geojson", slides=["haut_p61"])


def test_a_damaged_slide_fails_alone_with_exit_status_1(results: Path, tmp_path: Path) -> None:
    (results / "slides" / P16 / "nuclei.parquet").write_bytes(b"PAR1 not")
    run = CliRunner().invoke(
        app, ["export", str(results), "--to", "geojson", "--out", str(tmp_path / "o")]
    )
    assert run.exit_code == 1
    assert f"{P16}: not exported" in run.output
    assert [p.name for p in (tmp_path / "o").iterdir()] == [f"{COL7}.geojson"]


def test_an_unknown_format_is_wrong_use(measured: Path) -> None:
    run = CliRunner().invoke(app, ["export", str(measured), "--to", "csv"])
    assert run.exit_code == 2
    assert "--to 'csv' is none of geojson" in run.output


def test_every_column_on_disk_is_in_columns_json(measured: Path) -> None:
    told = json.loads((measured / "columns.json").read_text(encoding="utf-8"))
    for name, entries in told.items():
        for entry in entries:
            assert entry["meaning"], (name, entry)
            assert entry["unit"] or entry["dtype"] in ("string", "bool"), (name, entry)
    for path in sorted(measured.rglob("*.csv")) + sorted(measured.rglob("*.parquet")):
        read = pd.read_csv if path.suffix == ".csv" else pd.read_parquet
        columns = set(read(path).columns)
        assert columns
        keys = [key for key in told if key.split(" ")[0].split(".")[0] == path.stem]
        assert any(columns <= {e["name"] for e in told[key]} for key in keys), path


def test_registered_tables_have_no_unit_left_out() -> None:
    for name, columns in tables.all_tables().items():
        for column in columns:
            assert column.meaning.endswith("."), (name, column.name)
            assert column.unit or column.dtype in ("string", "bool"), (name, column.name)
