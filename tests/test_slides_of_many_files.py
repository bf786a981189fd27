"""Slides that are folders or URLs go through manifest and resume like any other."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from histoquant.manifest import read_manifest, slide_entries
from histoquant.resume import make_key
from histoquant.settings import Settings
from histoquant.slides import open_slide

AXES = [{"name": "c", "type": "channel"}] + [
    {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small OME-Zarr slide in colour."""
    path = tmp_path / "biopsy.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    pixels = np.full((3, 64, 64), 240, np.uint8)
    group.create_array("0", data=pixels, chunks=(3, 32, 32))
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    multiscales = [{"axes": AXES, "datasets": datasets}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    return path


def test_a_result_knows_when_one_file_of_a_slide_changes(folder: Path) -> None:
    (entry,) = slide_entries([folder], "p16")
    before = make_key(entry, Settings())
    assert before["slide_bytes"] > 0
    assert make_key(entry, Settings()) == before
    chunk = next(file for file in (folder / "0" / "c").rglob("*") if file.is_file())
    newest = max(file.stat().st_mtime_ns for file in folder.rglob("*"))
    os.utime(chunk, ns=(newest + 10**9, newest + 10**9))
    assert make_key(entry, Settings()) != before


def test_a_url_stays_as_it_is(folder: Path) -> None:
    url = "s3://archive/2026/biopsy.ome.zarr"
    manifest = folder.parent / "manifest.csv"
    manifest.write_text(
        "slide,marker,person,site,visit\n"
        f"{url},p16,P01,left_hand,month_8\n"
        "biopsy.ome.zarr,p16,P01,right_hand,month_8\n"
    )
    remote, local = read_manifest(manifest).entries
    assert (remote.path, remote.resolved_path, remote.problem) == (url, url, "")
    assert local.path == folder
    assert remote.slide_id == "biopsy"
    assert local.slide_id != remote.slide_id
    assert slide_entries([url, url], "p16")[0].identity == remote.identity
    with open_slide(folder) as slide:
        assert slide.mpp == 0.5
