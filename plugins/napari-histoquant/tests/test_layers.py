"""Layers without a viewer: what they hold, where they lie, how they look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from histoquant import HistoquantError, open_slide, read_result
from napari_histoquant import layers, reader, results
from napari_histoquant.pyramid import LevelArray, levels_of


@pytest.mark.parametrize(
    "key",
    [
        (slice(10, 40), slice(5, 25)),
        (slice(10, 40), slice(5, 25), slice(None)),
        (slice(0, 60, 3), slice(3, 50, 7)),
        (slice(-20, None), slice(None, 8)),
        (12, slice(0, 9)),
        (slice(4, 5), -1, 2),
        (Ellipsis, 1),
        (slice(30, 30), slice(0, 5)),
    ],
)
def test_a_level_indexes_like_its_array(drawn: dict[str, Path], key: tuple[object, ...]) -> None:
    with open_slide(drawn["p16"]) as slide:
        coarsest = len(slide.levels) - 1
        level = LevelArray(slide, coarsest)
        whole = slide.region(0, 0, *slide.levels[coarsest].shape, level=coarsest)
        assert (level.shape, level.ndim, level.size) == (whole.shape, 3, whole.size)
        np.testing.assert_array_equal(level[key], whole[key])
        np.testing.assert_array_equal(np.asarray(level), whole)


def test_a_level_refuses_what_it_does_not_hold(drawn: dict[str, Path]) -> None:
    with open_slide(drawn["p16"]) as slide:
        level = LevelArray(slide, 0)
        with pytest.raises(IndexError, match="leaves an axis"):
            level[10**6, :]
        with pytest.raises(IndexError, match="forwards"):
            level[::-1]


def test_a_flat_slide_gets_an_overview(tmp_path: Path) -> None:
    pixels = np.full((3000, 2500, 3), 240, np.uint8)
    pixels[1500:] = 100
    path = tmp_path / "flat.ome.tif"
    metadata = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=metadata)
    with open_slide(path) as slide:
        levels = levels_of(slide)
    assert [level.shape for level in levels] == [(3000, 2500, 3), (1500, 1250, 3)]
    assert np.unique(levels[1][:749]).tolist() == [240]
    assert np.unique(levels[1][751:]).tolist() == [100]


def test_fluorescence_comes_as_channels(tmp_path: Path) -> None:
    pixels = np.zeros((2, 300, 400), np.uint16)
    pixels[0, 100:200], pixels[1, :, 50] = 900, 4000
    path = tmp_path / "if.ome.tif"
    names = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
             "Channel": {"Name": ["DAPI", "COL7-Cy3"]}}  # fmt: skip
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="minisblack", metadata=names)
    read = reader.get_slide_reader(str(path))
    assert read is not None
    found = read(str(path))
    assert [meta["name"] for _, meta, _ in found] == ["if: DAPI", "if: COL7-Cy3"]
    assert [meta["colormap"] for _, meta, _ in found] == ["blue", "red"]
    np.testing.assert_array_equal(found[1][0][0][0:300, 0:400], pixels[1])
    for _, meta, kind in found:
        assert kind == "image"
        assert meta["scale"] == (0.5, 0.5)
        assert meta["units"] == ("um", "um")
        assert meta["axis_labels"] == ("y", "x")


def test_ome_zarr_opens_lazily_in_um(tmp_path: Path) -> None:
    import zarr

    pixels = np.random.default_rng(1).integers(0, 255, (3, 96, 120), np.uint8)
    root = zarr.open_group(tmp_path / "skin.ome.zarr", mode="w", zarr_format=2)
    sets = []
    for number, step in enumerate((1, 2)):
        level = pixels[:, ::step, ::step]
        root.create_array(str(number), data=level, chunks=(3, 32, 32))
        scale = [{"type": "scale", "scale": [1, 0.25 * step, 0.25 * step]}]
        sets.append({"path": str(number), "coordinateTransformations": scale})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": sets}]
    colours = ("FF0000", "00FF00", "0000FF")
    root.attrs["omero"] = {"channels": [
        {"color": c, "window": {"start": 0, "end": 255}} for c in colours
    ]}  # fmt: skip
    path = tmp_path / "skin.ome.zarr"
    read = reader.get_slide_reader(str(path))
    assert read is not None
    ((levels, meta, kind),) = read(str(path))
    assert (kind, meta["multiscale"], meta["rgb"], meta["name"]) == ("image", True, True, "skin")
    assert (meta["scale"], meta["units"], meta["axis_labels"]) == (
        (0.25, 0.25), ("um", "um"), ("y", "x"),
    )  # fmt: skip
    assert [level.shape for level in levels] == [(96, 120, 3), (48, 60, 3)]
    np.testing.assert_array_equal(
        levels[0][10:50, 20:90], pixels[:, 10:50, 20:90].transpose(1, 2, 0)
    )


def test_everything_of_a_result_lies_in_um(measured: Path) -> None:
    for slide in sorted((measured / "slides").iterdir()):
        found, problems = results.read_layers(slide)
        assert problems == []
        kinds = {meta["name"]: kind for _, meta, kind in found}
        assert kinds.pop("Slide") == "image"
        assert kinds.pop("Compartments") == "labels"
        assert kinds.pop("Junction") == "vectors"
        last = {"Nuclei": "points"} if "p16" in slide.name else {"Collagen VII": "vectors"}
        assert kinds == last
        assert all(meta["units"] == ("um", "um") for _, meta, _ in found)


def test_nuclei_are_points_coloured_by_class(measured: Path) -> None:
    (place,) = (p for p in (measured / "slides").iterdir() if "p16" in p.name)
    table = read_result(place).nuclei
    assert table is not None
    points, meta, kind = layers.nuclei_layer(table)
    assert kind == "points"
    np.testing.assert_array_equal(points, table[["y_um", "x_um"]])
    assert list(meta["features"]["nucleus_id"]) == list(table["nucleus_id"])
    colours = pd.Series([tuple(c) for c in meta["border_color"].round(3).tolist()])
    by_class = colours.groupby(meta["features"]["class"].to_numpy()).nunique()
    assert set(by_class) == {1}  # one colour per class, and classes differ
    assert colours.nunique() == len(by_class)


def test_bins_lie_on_the_dermal_side(measured: Path) -> None:
    (place,) = (p for p in (measured / "slides").iterdir() if "col7" in p.name)
    result = read_result(place)
    assert result.junction_line is not None
    mpp = float(str(result.summary["mpp"]))
    data, _, _ = layers.bins_layer(result.junction, mpp)
    middles = data[:, 0] + data[:, 1] / 2
    depth = result.junction_line.depth_um(middles)
    assert len(data) == len(result.junction)
    assert np.median(depth) == pytest.approx(layers.BESIDE_UM, abs=1.0)


def test_outlines_are_drawn_once() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[2:5, 1:8], labels[5:8, 1:8] = layers.EPIDERMIS, layers.DERMIS
    rims = layers.outlined(labels)
    assert rims[4, 4] == layers.EPIDERMIS  # the junction, on the side of the epidermis
    assert rims[5, 4] == 0
    assert rims[7, 4] == layers.DERMIS
    assert rims[3, 4] == 0


def test_a_shared_border_is_one_smooth_line() -> None:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 10:70], labels[40:50, 10:70] = layers.EPIDERMIS, layers.DERMIS
    data, meta, _ = layers.outline_layer(labels, 2.0)
    y, x = (data[:, 0] + data[:, 1] / 2).T
    green = np.all(meta["edge_color"] == layers._rgba(layers.GREEN), axis=1)  # noqa: SLF001
    shared = (np.abs(y - 80) < 6) & (x > 40) & (x < 120)
    assert shared.any()
    assert green[shared].all()  # drawn once, as epidermis; the tissue's rim is yellow
    assert (~green & (np.abs(y - 99) < 3)).any()
    assert len(data) < 40  # and not a piece for every pixel


def test_the_junction_is_not_outlined_again(measured: Path) -> None:
    (place,) = (p for p in (measured / "slides").iterdir() if "col7" in p.name)
    result = read_result(place)
    assert result.compartments is not None
    assert result.junction_line is not None
    found = result.compartments
    data, _, _ = layers.outline_layer(found.labels, found.mpp, result.junction_line)
    middles = data[:, 0] + data[:, 1] / 2
    beside = np.abs(result.junction_line.depth_um(middles)) < 3
    length = np.hypot(*data[:, 1].T)
    assert length[beside].sum() < 0.1 * result.junction_line.length_um
    assert length.sum() > result.junction_line.length_um


def test_readers_take_what_is_theirs(
    measured: Path, drawn: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "plain.txt").write_text("no slide")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 40, 40), np.uint16))
    slide = next((measured / "slides").iterdir())
    asked = [drawn["p16"], measured, slide, tmp_path / "pictures", tmp_path / "plain.txt",
             tmp_path / "missing"]  # fmt: skip
    assert [reader.get_slide_reader(p) is not None for p in asked] == [True] + [False] * 5
    assert [reader.get_result_reader(p) is not None for p in asked] == [
        False, True, True, False, False, False,
    ]  # fmt: skip


def test_a_result_without_its_slide_still_shows(results: Path) -> None:
    place = next(p for p in (results / "slides").iterdir() if "p16" in p.name)
    ledger = results / "ledger.csv"
    ledger.write_text(ledger.read_text().replace("SECRET_p16", "moved_p16"))
    from napari_histoquant.results import read_layers

    found, (problem,) = read_layers(place)
    assert {meta["name"] for _, meta, _ in found} >= {"Nuclei", "Junction"}
    assert "cannot be shown" in problem


def test_a_damaged_slide_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.svs"
    path.write_bytes(b"II*\0 no slide at all")
    read = reader.get_slide_reader(str(path))
    assert read is not None
    with pytest.raises(HistoquantError, match="broken"):
        read(str(path))
