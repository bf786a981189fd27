"""OME-Zarr slides written by zarr itself, read back from folders, ZIP files and URLs."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import re
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import fsspec
import numcodecs
import numpy as np
import pytest
import zarr

from helpers import on_two_cores
from histoquant.errors import ScaleError, SlideError
from histoquant.slides.omezarr import (
    OmeZarrSource,
    content_files,
    content_hashes,
    is_omezarr,
)
from histoquant.slides.scale import resolve_scale

RNG = np.random.default_rng(11)
RGB = RNG.integers(0, 256, (150, 203, 3), dtype=np.uint8)
UM = "micrometer"


def halves(pixels, count):
    """A pyramid of `count` levels, each half the one before, rounded up."""
    levels = [pixels]
    for _ in range(count - 1):
        levels.append(levels[-1][::2, ::2])
    return levels


def write(
    path,
    levels,
    *,
    version="0.4",
    axes="tczyx",
    chunks=(64, 48),
    shards=None,
    units=(UM, UM),
    scales=None,
    outer=None,
    translations=None,
    omero=None,
    fill_value=0,
    compressor="auto",
):
    """Write `levels`, (y, x, c) each, as one image; a scale of 0.5 x 0.5 at the first level."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    scales = scales or [[0.5 * len(levels[0]) / len(level)] * 2 for level in levels]
    datasets = []
    for k, level in enumerate(levels):
        extra = {"shards": expand(shards, axes)} if shards else {}
        data = np.moveaxis(level, -1, 0) if "c" in axes else level[..., 0]
        kept = [axis for axis in axes if axis in "cyx"]
        data = data.transpose([[a for a in "cyx" if a in kept].index(axis) for axis in kept])
        for position, axis in enumerate(axes):
            if axis in "tz":
                data = np.expand_dims(data, position)
        array = group.create_array(
            str(k), shape=data.shape, dtype=data.dtype, chunks=expand(chunks, axes),
            fill_value=fill_value, compressors=compressor, **extra,
        )  # fmt: skip
        array[...] = data
        steps = [{"type": "scale", "scale": spread(axes, scales[k], 1.0)}]
        if translations:
            steps.append({"type": "translation", "translation": spread(axes, translations[k], 0.0)})
        datasets.append({"path": str(k), "coordinateTransformations": steps})
    kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    named = [{"name": axis, "type": kinds[axis]} for axis in axes]
    for axis, unit in zip("yx", units, strict=True):
        if unit:
            named[axes.index(axis)]["unit"] = unit
    multiscale = {"axes": named, "datasets": datasets, "name": "slide"}
    if outer:
        multiscale["coordinateTransformations"] = [
            {"type": "scale", "scale": spread(axes, outer, 1.0)}
        ]
    if version == "0.4":
        multiscale["version"] = "0.4"
        group.attrs.update({"multiscales": [multiscale]} | ({"omero": omero} if omero else {}))
    else:
        ome = {"version": "0.5", "multiscales": [multiscale]} | ({"omero": omero} if omero else {})
        group.attrs["ome"] = ome
    return path


def expand(sides, axes):
    return tuple(sides["yx".index(axis)] if axis in "yx" else 1 for axis in axes)


def spread(axes, pair, other):
    return [pair["yx".index(axis)] if axis in "yx" else other for axis in axes]


def whole(source, level=0, fill=0):
    return source.region(level, 0, 0, *source.levels[level].shape, fill)


KINDS = {
    "0.4": {"version": "0.4"},
    "0.5": {"version": "0.5"},
    "0.5 sharded": {"version": "0.5", "shards": (128, 96)},
    "0.4 cyx": {"version": "0.4", "axes": "cyx"},
    "0.5 czyx": {"version": "0.5", "axes": "czyx"},
    "0.5 yxc, as some write it": {"version": "0.5", "axes": "yxc"},
    "0.4 xy": {"version": "0.4", "axes": "cxy"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_levels_and_scale(tmp_path, kind):
    levels = halves(RGB, 3)
    source = OmeZarrSource(write(tmp_path / "a.ome.zarr", levels, **KINDS[kind]))
    assert source.format == f"OME-Zarr {KINDS[kind]['version']}"
    assert source.channels == ("red", "green", "blue")
    assert source.is_colour
    assert source.dtype == np.uint8
    assert [level.shape for level in source.levels] == [(150, 203), (75, 102), (38, 51)]
    assert [level.downsample for level in source.levels] == [(1, 1), (2, 2), (4, 4)]
    assert {level.tile for level in source.levels} == {(64, 48)}
    for k, level in enumerate(levels):
        np.testing.assert_array_equal(whole(source, k), level)
    np.testing.assert_array_equal(source.region(0, 60, 40, 70, 100, 0), RGB[60:130, 40:140])
    assert source.region(0, 5, 5, 0, 7, 0).shape == (0, 7, 3)
    assert source.missing_boxes() == []
    scale = resolve_scale(tmp_path, source.claims, None)
    assert scale.mpp == 0.5
    assert scale.source == "OME-Zarr scale"


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"units": ("millimeter",) * 2, "scales": [[0.0005, 0.0005]]}, 0.5),
        ({"units": ("nanometer",) * 2, "scales": [[250.0, 250.0]]}, 0.25),
        ({"units": ("nanometer", UM), "scales": [[250.0, 0.25]]}, 0.25),
        ({"outer": [0.5, 0.5]}, 0.25),
        ({"scales": [[1.0, 1.0]], "outer": [0.3, 0.3]}, 0.3),
        ({"units": ("", "")}, "without a unit, which is no length"),
        ({"units": ("second", "second")}, "second, which is no length"),
        ({"scales": [[0.5, 0.51]]}, "not square: 0.51 um in x, 0.5 um in y"),
        ({"scales": [[0.0, 0.0]]}, "cannot be used"),
        ({"scales": [[50.0, 50.0]]}, "cannot be used"),
    ],
)
def test_scale(tmp_path, options, mpp):
    source = OmeZarrSource(write(tmp_path / "a.zarr", [RGB], **options))
    if isinstance(mpp, float):
        assert resolve_scale(tmp_path, source.claims, None).mpp == pytest.approx(mpp)
    else:
        with pytest.raises(ScaleError, match=mpp):
            resolve_scale(tmp_path, source.claims, None)


def test_no_scale_at_all(tmp_path):
    path = write(tmp_path / "a.zarr", [RGB])
    edit(path, lambda ome: ome["multiscales"][0]["datasets"][0].pop("coordinateTransformations"))
    with pytest.raises(ScaleError, match="no OME-Zarr scale"):
        resolve_scale(path, OmeZarrSource(path).claims, None)


def edit(path, change):
    """Change the OME metadata of the group at `path`."""
    name = path / ".zattrs"
    if name.exists():
        ome = json.loads(name.read_text())
        change(ome)
        name.write_text(json.dumps(ome))
    else:
        document = json.loads((path / "zarr.json").read_text())
        change(document["attributes"]["ome"])
        (path / "zarr.json").write_text(json.dumps(document))


def test_pyramid_that_is_no_power_of_two(tmp_path):
    levels = [RGB, RGB[:50, :67], RGB[:21, :29]]
    source = OmeZarrSource(write(tmp_path / "a.zarr", levels, scales=[[1, 1], [3, 3], [7, 7]]))
    assert [level.downsample for level in source.levels] == [(1, 1), (3, 3), (7, 7)]


def test_levels_are_sorted(tmp_path):
    levels = halves(RGB, 2)[::-1]
    source = OmeZarrSource(write(tmp_path / "a.zarr", levels, scales=[[1.0, 1.0], [0.5, 0.5]]))
    assert [level.shape for level in source.levels] == [(150, 203), (75, 102)]
    assert source.claims[0].y_um == 0.5
    np.testing.assert_array_equal(whole(source), RGB)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_translation_of_centres(tmp_path, shift):
    """A level twice as coarse begins half a pixel later, counted between centres; or at 0."""
    write(tmp_path / "a.zarr", halves(RGB, 2), translations=[[0.0, 0.0], [shift, shift]])
    assert len(OmeZarrSource(tmp_path / "a.zarr").levels) == 2


def test_shifted_level_is_refused(tmp_path):
    path = write(tmp_path / "a.zarr", halves(RGB, 2), translations=[[0.0, 0.0], [0.0, 7.0]])
    with pytest.raises(SlideError, match="array '1' is shifted by 14 px"):
        OmeZarrSource(path)


@pytest.mark.parametrize(
    ("omero", "channels", "is_rgb"),
    [
        (None, ("red", "green", "blue"), True),
        ([("Red", ""), ("Green", ""), ("Blue", "")], ("red", "green", "blue"), True),
        ([("R", "0000FF"), ("G", ""), ("B", "")], ("red", "green", "blue"), True),
        ([("Channel 0", "ff0000"), ("", "00ff00"), ("", "0000ff")], ("red", "green", "blue"), True),
        ([("DAPI", "FF0000"), ("FITC", "00FF00"), ("Y", "0000FF")], ("DAPI", "FITC", "Y"), False),
        ([("C:0", "0000FF"), ("C:1", "00FF00"), ("C:2", "")], ("C:0", "C:1", "C:2"), False),
        ([("Blue", ""), ("Green", ""), ("Red", "")], ("Blue", "Green", "Red"), False),
    ],
)
def test_what_is_colour(tmp_path, omero, channels, is_rgb):
    given = omero and {"channels": [{"label": n, "color": c, "window": {}} for n, c in omero]}
    source = OmeZarrSource(write(tmp_path / "a.zarr", [RGB], omero=given))
    assert source.channels == channels
    assert source.is_colour == is_rgb


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "<u2"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_channels_and_types(tmp_path, dtype, count):
    pixels = RNG.integers(0, np.iinfo(dtype).max, (70, 90, count)).astype(dtype)
    omero = {"channels": [{"label": f"stain {k}"} for k in range(count)]}
    path = write(tmp_path / "a.zarr", [pixels], omero=omero)
    source = OmeZarrSource(path)
    assert source.channels == tuple(f"stain {k}" for k in range(count))
    assert source.dtype.isnative
    assert source.dtype == np.dtype(dtype).newbyteorder("=")
    assert source.is_colour == (count == 1)
    read = whole(source)
    assert read.dtype == source.dtype
    np.testing.assert_array_equal(read, pixels)


def test_grey_without_a_channel_axis(tmp_path):
    source = OmeZarrSource(write(tmp_path / "a.zarr", [RGB[..., :1]], axes="zyx"))
    assert source.channels == ("grey",)
    np.testing.assert_array_equal(whole(source), RGB[..., :1])


@pytest.mark.parametrize("axis", ["t", "z"])
def test_stack_is_refused(tmp_path, axis):
    path = write(tmp_path / "a.zarr", [RGB])
    shape = tuple(3 if a == axis else 8 for a in "tczyx")
    shape = tuple(1 if a in "tz" and a != axis else n for a, n in zip("tczyx", shape, strict=True))
    zarr.open_group(path).create_array("0", shape=shape, dtype="u1", overwrite=True)
    words = {"t": r"3 time points \(axis t\)", "z": r"3 focal planes \(axis z\)"}
    with pytest.raises(SlideError, match=words[axis]):
        OmeZarrSource(path)


# --- what is missing -------------------------------------------------------------------------


def chunk_file(path, version, row, column, channel=1):
    parts = ["0", "c"] if version == "0.5" else ["0"]
    return path.joinpath(*parts, "0", str(channel), "0", str(row), str(column))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("place", ["folder", "zip", "memory"])
def test_absent_chunks_are_missing(tmp_path, version, place):
    separator = {"0.4": ".", "0.5": "/"}[version]
    path = write(tmp_path / "a.zarr", halves(RGB, 2), version=version)
    name = separator.join(["0", "1", "0", "1", "2"])
    (path / "0" / ("c" if version == "0.5" else "") / name).unlink()
    source = OmeZarrSource(at(place, path))
    assert [level.missing_tiles for level in source.levels] == [1, 0]
    assert source.missing_boxes() == [(64, 96, 64, 48)]
    expected = RGB.copy()
    expected[64:128, 96:144] = 201
    np.testing.assert_array_equal(whole(source, fill=201), expected)
    np.testing.assert_array_equal(source.region(0, 70, 90, 10, 100, 201), expected[70:80, 90:190])
    source.close()


def at(place, path):
    """`path`, or a copy of it elsewhere."""
    if place == "zip":
        return zipped(path)
    if place == "memory":
        files = fsspec.filesystem("memory")
        url = f"memory://{path.name}-{hashlib.md5(str(path).encode()).hexdigest()}"
        files.put(f"{path}/", f"{url}/", recursive=True)
        return url
    return path


def zipped(path, below=""):
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as archive:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                archive.write(file, below + file.relative_to(path).as_posix())
    return path.with_suffix(".zip")


@pytest.mark.parametrize("place", ["folder", "zip", "memory"])
def test_absent_chunks_within_and_of_shards(tmp_path, place):
    """A shard of 2 x 2 chunks that holds three, and a shard that is not there."""
    pixels = RGB[..., :1].copy()
    pixels[64:128, 48:96] = 0  # chunks full of the fill value are not written
    path = write(tmp_path / "a.zarr", [pixels], version="0.5", shards=(128, 96))
    (path / "0/c/0/0/0/1/1").unlink()
    source = OmeZarrSource(at(place, path))
    # The last shard covers rows 128-149 and columns 96-191: chunk columns 2 and 3.
    assert source.missing_boxes() == [(64, 48, 64, 48), (128, 96, 64, 48), (128, 144, 64, 48)]
    expected = pixels.copy()
    expected[64:128, 48:96] = expected[128:, 96:192] = 9
    np.testing.assert_array_equal(whole(source, fill=9), expected)
    source.close()


def test_fill_value_of_the_array_is_not_read(tmp_path):
    path = write(tmp_path / "a.zarr", [RGB], fill_value=17)
    shutil.rmtree(path / "0")
    zarr.open_group(path).create_array("0", shape=(1, 3, 1, 150, 203), dtype="u1", fill_value=17)
    source = OmeZarrSource(path)
    assert (whole(source, fill=255) == 255).all()
    assert source.levels[0].missing_tiles == len(source.missing_boxes()) > 0


# --- places ----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "slide.ome.zarr/"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_zip(tmp_path, below, version):
    path = zipped(write(tmp_path / "a.zarr", [RGB], version=version), below)
    assert is_omezarr(path)
    source = OmeZarrSource(path)
    np.testing.assert_array_equal(whole(source), RGB)
    source.close()
    np.testing.assert_array_equal(source.region(0, 1, 2, 30, 40, 0), RGB[1:31, 2:42])
    source.close()
    assert content_files(path) == [path]


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Files with byte ranges and without listings, like an object store behind HTTP."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        size = len(data)
        if wanted and wanted[1]:
            data = data[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None]
        elif wanted:
            data = data[-int(wanted[2]) :]
        self.send_response(206 if wanted else 200)
        if wanted:
            start = int(wanted[1] or size - len(data))
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # chunks are asked for all at once


@pytest.fixture
def server(tmp_path):
    httpd = Server(("127.0.0.1", 0), partial(RangeHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.parametrize("kind", ["0.4", "0.5", "0.5 sharded"])
def test_http(tmp_path, server, kind):
    pixels = RGB.copy()
    pixels[64:128, 48:96] = 0
    path = write(tmp_path / "a.ome.zarr", halves(pixels, 2), **KINDS[kind])
    url = f"{server}/a.ome.zarr"
    assert is_omezarr(url)
    source = OmeZarrSource(url)
    local = OmeZarrSource(path)
    assert source.levels == local.levels
    assert source.missing_boxes() == local.missing_boxes() != []
    np.testing.assert_array_equal(whole(source), pixels)
    source.close()
    np.testing.assert_array_equal(whole(source, 1), pixels[::2, ::2])
    source.close()
    assert content_hashes(url) == content_hashes(path)


def test_http_errors(tmp_path, server):
    write(tmp_path / "a.zarr", [RGB])
    with pytest.raises(SlideError, match=r"nothing\.zarr: no Zarr group there"):
        OmeZarrSource(f"{server}/nothing.zarr")
    with pytest.raises(SlideError, match="cannot be (read|opened)"):
        OmeZarrSource("http://127.0.0.1:9/a.zarr")
    with pytest.raises(SlideError, match="cannot be opened"):
        OmeZarrSource("nonsense://a.zarr")


def test_missing_network_library(monkeypatch, tmp_path):
    def fail(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", fail)
    with pytest.raises(SlideError, match=r"Install s3fs.*pip install histoquant\[remote\]"):
        OmeZarrSource("s3://bucket/a.zarr")


def test_content_is_the_slide_alone(tmp_path):
    path = write(tmp_path / "a.zarr", halves(RGB, 2))
    before = content_hashes(path)
    names = {file.relative_to(path).as_posix() for file in content_files(path)}
    assert names == set(before)
    assert {".zattrs", ".zgroup", "0/.zarray", "1/.zarray"} < names
    labels = zarr.open_group(path).create_group("labels")
    labels.create_array("0", shape=(4, 4), dtype="u1")[:] = 1
    (path / "notes.txt").write_text("a note")
    assert content_hashes(path) == before
    assert len(OmeZarrSource(path).levels) == 2
    next(path.glob("1/0*")).write_bytes(b"other")
    assert content_hashes(path) != before


def test_sniffing(tmp_path):
    assert is_omezarr(write(tmp_path / "a", [RGB], version="0.5"))
    assert is_omezarr("s3://bucket/slide.zarr")
    assert not is_omezarr(tmp_path)
    assert not is_omezarr(tmp_path / "nothing")
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "a note")
    assert not is_omezarr(other)
    other.write_bytes(b"PK\x03\x04 cut off")
    assert not is_omezarr(other)


# --- several images, and other things that are Zarr ------------------------------------------


def bioformats2raw(path, others=(), xml=None):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    write(path / "0", halves(RGB, 2))
    for k, pixels in enumerate(others, start=1):
        write(path / str(k), [pixels])
    if xml:
        (path / "OME").mkdir()
        (path / "OME/METADATA.ome.xml").write_text(xml)
    return path


def test_bioformats2raw(tmp_path):
    label = RNG.integers(0, 256, (30, 20, 3), dtype=np.uint8)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image Name="a.svs"/>'
        '<Image Name="label image"/><Image Name="macro image"/></OME>'
    )
    path = bioformats2raw(tmp_path / "a.zarr", [label, label[:9]], xml)
    source = OmeZarrSource(path)
    assert source.associated == ("label", "macro")
    np.testing.assert_array_equal(whole(source), RGB)
    np.testing.assert_array_equal(source.associated_image("label"), label)
    np.testing.assert_array_equal(source.associated_image("macro"), label[:9])
    with pytest.raises(SlideError, match="no image 'thumbnail'; there are: label, macro"):
        source.associated_image("thumbnail")
    assert not any(file.is_relative_to(path / "1") for file in content_files(path))
    np.testing.assert_array_equal(whole(OmeZarrSource(path / "1")), label)


def test_bioformats2raw_without_names(tmp_path):
    path = bioformats2raw(tmp_path / "a.zarr", [RGB[:8, :8]], "<OME><Image")
    assert OmeZarrSource(path).associated == ("image 1",)


def test_bioformats2raw_with_a_larger_image(tmp_path):
    path = bioformats2raw(tmp_path / "a.zarr", [np.zeros((300, 300, 3), np.uint8)])
    with pytest.raises(SlideError, match="'image 1' is larger than the first"):
        OmeZarrSource(path)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"plate": {}}, "a high-content screening plate"),
        ({"well": {}}, "a well of a plate"),
        ({"image-label": {}, "multiscales": []}, "a label image"),
        ({"labels": ["cells"]}, r"without an OME-Zarr image \(found the attributes labels\)"),
        ({}, r"without an OME-Zarr image \(found the attributes none\)"),
        ({"bioformats2raw.layout": 3}, "bioformats2raw file without an image 0"),
        ({"multiscales": [{"version": "0.1", "datasets": []}]}, "version 0.1"),
        ({"multiscales": [{"version": "0.3", "axes": ["y", "x"]}]}, "version 0.3"),
        ({"multiscales": [{"axes": ["y", "x"]}]}, "version unknown"),
        ({"ome": {"version": "0.6", "multiscales": [{}]}}, "version 0.6"),
        ({"multiscales": []}, "metadata cannot be used"),
        ({"multiscales": "a"}, "metadata cannot be used"),
        ({"multiscales": [{"axes": [{"name": "y"}, {"name": "u"}], "datasets": []}]}, "axes y, u"),
        ({"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": []}]}, "cannot be"),
    ],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_zarrs(tmp_path, attributes, words, zarr_format):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    group.attrs.update(attributes)
    with pytest.raises(SlideError, match=rf"(?s)a\.zarr: .*{words}"):
        OmeZarrSource(tmp_path / "a.zarr")


def test_array_and_nothing(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(4, 4), dtype="u1")
    for name in ("a.zarr", "nothing.zarr"):
        with pytest.raises(SlideError, match=re.escape(name)):
            OmeZarrSource(tmp_path / name)


@pytest.mark.parametrize("dtype", ["int16", "float32", "uint32", "bool"])
def test_other_types(tmp_path, dtype):
    path = write(tmp_path / "a.zarr", [RGB.astype(dtype)])
    with pytest.raises(SlideError, match=f"pixels of type {dtype}"):
        OmeZarrSource(path)


def test_levels_that_do_not_fit(tmp_path):
    path = write(tmp_path / "a.zarr", [RGB, RGB[:75, :75]])
    with pytest.raises(SlideError, match="array '1' of 75 x 75 px does not show the same picture"):
        OmeZarrSource(path)
    path = write(tmp_path / "b.zarr", [RGB, RGB[::2, ::2].astype("u2")])
    with pytest.raises(SlideError, match="array '1': uint16 .* first level is uint8"):
        OmeZarrSource(path)


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["0.4", "0.5"])
def test_corrupt_chunk_is_named(tmp_path, kind):
    path = write(tmp_path / "a.zarr", halves(RGB, 2), **KINDS[kind])
    chunk = path / ("0/c/0/1/0/1/2" if kind == "0.5" else "0/0.1.0.1.2")
    chunk.write_bytes(chunk.read_bytes()[:100])
    source = OmeZarrSource(path)
    with pytest.raises(SlideError, match="level 0, tile row 1, column 2 cannot be read"):
        source.region(0, 0, 0, 150, 203, 0)
    np.testing.assert_array_equal(source.region(0, 0, 0, 64, 203, 0), RGB[:64])
    tolerant = OmeZarrSource(path, on_damage="missing")
    assert tolerant.damaged_boxes() == []
    expected = RGB.copy()
    expected[64:128, 96:144] = 33
    np.testing.assert_array_equal(whole(tolerant, fill=33), expected)
    assert tolerant.damaged_boxes() == [(64, 96, 64, 48)]


CODECS = [
    numcodecs.Blosc("lz4"),
    numcodecs.Blosc("zstd", shuffle=2),
    numcodecs.Zstd(),
    numcodecs.GZip(),
    numcodecs.Zlib(),
    numcodecs.LZ4(),
    numcodecs.BZ2(),
    None,
]


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_truncated_chunk_of_any_codec(tmp_path, codec):
    """Blosc's decoder would read on behind the end of the chunk."""
    path = write(tmp_path / "a.zarr", [RGB], compressor=codec)
    chunk = path / "0/0.0.0.0.0"
    content = chunk.read_bytes()
    source = OmeZarrSource(path)
    np.testing.assert_array_equal(whole(source), RGB)
    assert source.compression == (codec.codec_id if codec else "none")
    for length in (0, 3, 15, 16, 200, len(content) - 1):
        chunk.write_bytes(content[:length])
        with pytest.raises(SlideError, match="tile row 0, column 0 cannot be read"):
            source.region(0, 0, 0, 64, 48, 0)


def test_truncated_shard(tmp_path):
    path = write(tmp_path / "a.zarr", [RGB], **KINDS["0.5 sharded"])
    shard = path / "0/c/0/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:3000])
    source = OmeZarrSource(path)
    with pytest.raises(SlideError, match="level 0, tile row 0, column 0"):
        whole(source)
    tolerant = OmeZarrSource(path, on_damage="missing")
    read = whole(tolerant, fill=1)
    assert (read[:128, :96] == 1).all()
    np.testing.assert_array_equal(read[:, 96:], RGB[:, 96:])
    assert len(tolerant.damaged_boxes()) == 4


@pytest.mark.parametrize("kind", ["0.4", "0.5", "0.5 sharded"])
def test_disk_that_goes_away_is_no_black_tissue(tmp_path, kind):
    path = write(tmp_path / "a.zarr", [RGB], **KINDS[kind])
    source = OmeZarrSource(path)
    shutil.rmtree(path / "0")
    with pytest.raises(SlideError, match="level 0, tile row 0, column 0.*gone"):
        whole(source)


def test_missing_array(tmp_path):
    path = write(tmp_path / "a.zarr", halves(RGB, 2))
    shutil.rmtree(path / "1")
    with pytest.raises(SlideError, match="name the array '1', which is missing"):
        OmeZarrSource(path)


def test_truncated_zip(tmp_path):
    path = zipped(write(tmp_path / "a.zarr", [RGB]))
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(SlideError, match=r"a\.zip: cannot be opened"):
        OmeZarrSource(path)


# --- threads and processes -------------------------------------------------------------------


def test_threads(tmp_path):
    for place in ("folder", "zip"):
        source = OmeZarrSource(at(place, write(tmp_path / f"{place}.zarr", [RGB])))
        corners = [(y, x) for y in range(0, 100, 19) for x in range(0, 150, 29)]
        with ThreadPoolExecutor(8) as pool:
            tiles = list(pool.map(lambda c, s=source: s.region(0, *c, 50, 53, 0), corners))
        for (y, x), tile in zip(corners, tiles, strict=True):
            np.testing.assert_array_equal(tile, RGB[y : y + 50, x : x + 53])
        source.close()


def read_sum(path: str, y: int) -> int:
    return int(OmeZarrSource(path).region(0, y, 0, 50, 203, 0).sum())


def test_spawned_processes(tmp_path):
    path = write(tmp_path / "a.zarr", [RGB], version="0.5", shards=(128, 96))
    sums = on_two_cores(read_sum, [(str(path), y) for y in (0, 50, 100)])
    assert sums == [int(RGB[y : y + 50].sum()) for y in (0, 50, 100)]


# --- fuzz ------------------------------------------------------------------------------------

JUNK = [None, -1, 0, 2**40, 1e300, "", "x", [], {}, True, [1, 2], "\N{SNOWMAN}", float("inf")]


def mutate(node, rng):
    """Change one thing somewhere in a JSON document."""
    here = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    if not here:
        return
    key, value = rng.choice(here)
    if isinstance(value, dict | list) and value and rng.random() < 0.75:
        mutate(value, rng)
    elif rng.random() < 0.25:
        del node[key]
    else:
        node[key] = rng.choice(JUNK)


@pytest.mark.parametrize("kind", ["0.4", "0.5 sharded"])
def test_fuzzed_metadata(tmp_path, kind):
    """Whatever the metadata say: pixels of a modest size, or SlideError."""
    path = write(tmp_path / "a.zarr", halves(RGB, 2), **KINDS[kind])
    documents = [path / p for p in (".zattrs", ".zgroup", "0/.zarray", "1/.zarray")]
    if kind != "0.4":
        documents = [path / p for p in ("zarr.json", "0/zarr.json", "1/zarr.json")]
    rng = random.Random(3)
    opened = 0
    for _ in range(200):
        file = rng.choice(documents)
        text = file.read_text()
        if rng.random() < 0.1:
            file.write_text(text[: rng.randrange(len(text))])
        else:
            document = json.loads(text)
            mutate(document, rng)
            file.write_text(json.dumps(document))
        try:
            source = OmeZarrSource(path)
            for level, found in enumerate(source.levels):
                height, width = (min(side, 64) for side in found.shape)
                assert source.region(level, 0, 0, height, width, 0).shape[:2] == (height, width)
            resolve_scale(path, source.claims, None)
            opened += 1
        except SlideError:
            pass
        file.write_text(text)
    assert 20 < opened < 180


def test_no_file_stays_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files cannot be counted here")
    path = zipped(write(tmp_path / "a.zarr", [RGB]))
    OmeZarrSource(path).close()
    before = len(os.listdir(descriptors))
    for _ in range(5):
        source = OmeZarrSource(path)
        whole(source)
        source.close()
    assert len(os.listdir(descriptors)) == before
