"""The choice of the reader, what it says when there is none, and what identifies a slide."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import subprocess
import sys
import zipfile

import dask.base
import numpy as np
import pytest
import tifffile
import zarr

from helpers import REAL
from histoquant.errors import SlideError
from histoquant.slides import Slide, open_slide
from histoquant.slides.source import OtherReaderError
from histoquant.slides.tiff import TiffSource
from slide_writers import texture, write_mrxs, write_scn, write_vms

IMAGE = texture(100, 120)


def tiff(folder):
    options = {"resolution": (4e4, 4e4), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(folder / "a.tif", IMAGE, tile=(64, 64), photometric="rgb", **options)
    return folder / "a.tif"


def mrxs(folder):
    images = {(r, c): texture(48, 64, 10 * r + c) for r in range(1, 4) for c in range(1, 4)}
    return write_mrxs(folder / "a.mrxs", images, (4, 4)).path


def vms(folder):
    return write_vms(folder / "a.vms").path


def ome_zarr(folder, name="a.ome.zarr"):
    root = zarr.open_group(folder / name, mode="w", zarr_format=3)
    array = root.create_array("0", shape=(3, 100, 120), chunks=(3, 64, 64), dtype="u1")
    array[:] = np.moveaxis(IMAGE, -1, 0)
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1, 0.25, 0.25]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    colours = [{"color": c, "window": {"start": 0, "end": 255}} for c in ("FF0000", "00FF00",
                                                                          "0000FF")]  # fmt: skip
    root.attrs["ome"] = {
        "version": "0.5",
        "multiscales": multiscales,
        "omero": {"channels": colours},
    }
    return folder / name


@pytest.mark.parametrize("write", [tiff, ome_zarr])
def test_two_kinds_of_the_same_pixels_are_the_same_slide_to_a_caller(tmp_path, write):
    with open_slide(write(tmp_path)) as slide:
        assert slide.mpp == pytest.approx(0.25)
        np.testing.assert_array_equal(slide.region(0, 0, 100, 120), IMAGE)
        with pickle.loads(pickle.dumps(slide)) as copy:
            assert copy.path == slide.path


def test_dicom_folder_is_opened_as_one_slide(tmp_path):
    from test_slides_dicom import NOISE, write_slide

    folder = write_slide(tmp_path / "scan")
    with open_slide(folder) as slide, open_slide(folder / "1.dcm") as same:
        assert slide.format.startswith("DICOM")
        assert slide.info()["associated_images"] == ["label", "macro"]
        np.testing.assert_array_equal(slide.overview(slide.mpp), NOISE)
        assert (same.shape, same.fingerprint) == (slide.shape, slide.fingerprint)
    before = slide.fingerprint
    folder.rename(tmp_path / "moved")
    assert Slide(tmp_path / "moved").fingerprint == before
    (tmp_path / "moved" / "1.dcm").unlink()
    assert Slide(tmp_path / "moved").fingerprint != before


def test_openslide_is_asked_only_for_what_needs_it(tmp_path):
    code = "import sys; from histoquant.slides import open_slide; open_slide(sys.argv[1]).region"
    code += "(0, 0, 9, 9); print('openslide' in sys.modules)"
    scn = write_scn(tmp_path / "a.scn", [(0, 0, texture(64, 64))], (100, 100)).path
    for path, is_needed in ((tiff(tmp_path), False), (scn, True)):
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str(is_needed)


def test_without_openslide_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = write_scn(tmp_path / "a.scn", [(0, 0, texture(64, 64))], (100, 100)).path
    for name in [name for name in sys.modules if name.partition(".")[0] == "openslide"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(SlideError, match="(?s)cannot be loaded.*pip install openslide-python"):
        open_slide(path)


def test_damage_is_not_handed_from_reader_to_reader(tmp_path, monkeypatch):
    def refuse(self, path, **options):
        raise refusal(f"{path}: because")

    monkeypatch.setattr(TiffSource, "__init__", refuse)
    path = tiff(tmp_path)
    refusal = SlideError
    with pytest.raises(SlideError, match="a.tif: because$"):
        open_slide(path)
    refusal = OtherReaderError
    with open_slide(path) as slide:  # now OpenSlide may try
        np.testing.assert_array_equal(slide.region(0, 0, 100, 120), IMAGE)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", r"the file is empty \(0 bytes\)"),
        (b"slide,marker\n", r"found bytes b'slide,marker\\n'"),
        (b"PK\x03\x04" + bytes(50), "found a ZIP archive"),
        (b"\x1f\x8b" + bytes(50), "found a gzip archive"),
        (b"\x89HDF\r\n", "found an HDF5 file"),
        (b"%PDF-1.7", "found a PDF document"),
    ],
)
def test_what_was_found_and_what_can_be_read(tmp_path, content, found):
    path = tmp_path / "scan.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError) as error:
        open_slide(path)
    assert re.match(f"{re.escape(str(path))}: {found}", str(error.value))
    assert "histoquant reads Aperio SVS" in str(error.value)


def test_directory_that_is_no_slide(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SlideError, match=r"this is a directory \(notes\.txt\), not a slide"):
        open_slide(tmp_path)
    with pytest.raises(SlideError, match="a directory that is neither"):
        _ = Slide(tmp_path).fingerprint


def test_zip_that_is_no_slide(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(SlideError, match="found a ZIP archive"):
        open_slide(tmp_path / "a.zip")


def test_url_stays_a_url(tmp_path):
    slide = Slide("memory://archive/slide.ome.zarr", mpp=0.5)
    copy = pickle.loads(pickle.dumps(slide))
    assert copy.path == slide.path == "memory://archive/slide.ome.zarr"
    assert dask.base.tokenize(slide) == dask.base.tokenize(copy)


def test_fingerprint_of_one_file_is_that_of_its_bytes(tmp_path):
    for path in (tiff(tmp_path), REAL / "CMU-1-Small-Region.svs"):
        assert Slide(path).fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()


def test_fingerprint_of_several_files_is_as_documented(tmp_path):
    path = mrxs(tmp_path)
    folder = path.with_suffix("")
    files = {"": path, **{file.name: file for file in folder.iterdir()}}
    lines = "".join(
        f"{hashlib.sha256(files[name].read_bytes()).hexdigest()} {name}\n" for name in sorted(files)
    )
    assert len(files) == 4
    assert Slide(path).fingerprint == hashlib.sha256(lines.encode()).hexdigest()


def moved(path, folder):
    """Copy a slide with all that belongs to it, under another name where it may have one."""
    if path.suffix == ".mrxs":
        shutil.copytree(path.with_suffix(""), folder / "other")
        return shutil.copy(path, folder / "other.mrxs")
    if path.is_dir():
        return shutil.copytree(path, folder / "other.ome.zarr")
    for file in path.parent.iterdir():
        shutil.copy(file, folder / file.name)
    return shutil.move(folder / path.name, folder / f"other{path.suffix}")


@pytest.mark.parametrize("write", [tiff, mrxs, vms, ome_zarr])
def test_fingerprint_is_that_of_all_its_content_and_of_no_name(tmp_path, write):
    path = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    if path.is_file() and write is not mrxs:
        (tmp_path / "here").mkdir()
        for file in [file for file in tmp_path.iterdir() if file.is_file()]:
            file.rename(tmp_path / "here" / file.name)
        path = tmp_path / "here" / path.name
    before = Slide(path).fingerprint
    assert Slide(moved(path, tmp_path / "elsewhere")).fingerprint == before
    token = dask.base.tokenize(Slide(path))
    assert dask.base.tokenize(Slide(path)) == token
    largest = max(
        (file for file in (path.parent if path.is_file() else path).rglob("*")
         if file.is_file() and "elsewhere" not in file.parts),
        key=lambda file: file.stat().st_size,
    )  # fmt: skip
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    os.utime(largest, ns=(1, 1))
    assert Slide(path).fingerprint != before
    assert dask.base.tokenize(Slide(path)) != token
