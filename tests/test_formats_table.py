"""The table of docs/formats.md: every format, checked, and the document must say what was found.

Each format is written here (or is a sample slide), read through `open_slide`, and held against
a second reader. When a check changes its answer the document is wrong;
``python tests/test_formats_table.py`` writes it anew.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openslide
import pytest
import tifffile
import zarr

import test_slides_dicom as dicom
import test_slides_omezarr as omezarr
import test_slides_openslide as vendors
from histoquant.slides import Slide, open_slide
from tiff_writers import picture, write_ndpi, write_ome, write_philips, write_pyramid, write_svs

ROOT = Path(__file__).parent.parent
REAL = ROOT / "sample_slides" / "real"
DOCUMENT = ROOT / "docs" / "formats.md"
BEGIN, END = "<!-- formats: begin -->", "<!-- formats: end -->"
COLUMNS = ("opens", "scale", "pixels", "levels", "threads", "processes")
UNREAL = "not verified on a real file"
IMAGE = picture(384, 512)

Pixels = np.ndarray[Any, Any]
Second = Callable[[Path], Pixels]


@dataclass(frozen=True)
class Format:
    """A row: how such a slide is written, and what must be found in it.

    Attributes
    ----------
    write
        Writes one in a directory; gives its path, or path and pixels (NaN where there are none).
    format, mpp, downsamples
        What must be found. The scale is given by the user where `is_given`.
    second, reader
        A second reader of level 0, and its name; the pixels written where it is None.
    real
        A real file in the repository, for the same second reader.
    tolerance
        Largest difference to the pixels written, where writing loses some.
    """

    write: Callable[[Path], Any]
    format: str
    mpp: float
    downsamples: tuple[float, ...]
    second: Second | None
    reader: str
    is_given: bool = False
    real: Path | None = None
    tolerance: int = 0


def with_openslide(path: Path) -> Pixels:
    with openslide.OpenSlide(path) as slide:
        return np.array(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]


def with_tifffile(path: Path) -> Pixels:
    pixels = tifffile.imread(path, series=0, level=0)
    channels_first = pixels.ndim == 3 and pixels.shape[0] < 8
    return np.moveaxis(pixels, 0, -1) if channels_first else pixels


def with_opencv(path: Path) -> Pixels:
    return cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def with_zarr(path: Path) -> Pixels:
    pixels = np.asarray(zarr.open_group(path, mode="r")["0"][...])
    return np.moveaxis(pixels.reshape(-1, *pixels.shape[-2:]), 0, -1)


def with_pydicom(path: Path) -> Pixels:
    return dicom.with_pydicom(path / "0.dcm")


def write_zarr(version: str) -> Callable[[Path], Path]:
    levels = omezarr.halves(picture(300, 400), 3)
    return lambda at: omezarr.write(at / "a.zarr", levels, version=version)


def write_picture(suffix: str) -> Callable[[Path], Path]:
    def write(directory: Path) -> Path:
        path = directory / f"a.{suffix}"
        cv2.imwrite(str(path), IMAGE[..., ::-1])
        return path

    return write


def striped(directory: Path) -> Path:
    options = {"tile": None, "rowsperstrip": 16, "compression": "lzw"}
    return write_pyramid(directory / "a.tif", IMAGE, levels=1, **options)


def jpeg2000(directory: Path) -> Path:
    return write_svs(directory / "a.svs", IMAGE, 0.25, 33005, {"mct": False, "level": 60})


def fluorescence(dtype: type) -> Callable[[Path], Path]:
    image = picture(384, 512, 4, dtype)
    names = ("DAPI", "p16", "COL7", "AF")
    return lambda at: write_ome(at / "a.ome.tif", image, 0.5, names=names, rgb=False)


HALVES = (1.0, 2.0, 4.0)
FORMATS: dict[str, Format] = {
    "Aperio SVS, JPEG": Format(
        lambda at: write_svs(at / "a.svs", IMAGE), "Aperio SVS", 0.25, (1, 4),
        with_openslide, "OpenSlide", real=REAL / "CMU-1-Small-Region.svs",
    ),
    "Aperio SVS, JPEG 2000": Format(
        jpeg2000, "Aperio SVS", 0.25, (1, 4), with_openslide, "OpenSlide"
    ),
    "Hamamatsu NDPI": Format(
        lambda at: write_ndpi(at / "a.ndpi", IMAGE), "Hamamatsu NDPI", 0.25, (1, 2),
        with_openslide, "OpenSlide", real=REAL / "skin-if-DAPI.ndpi",
    ),
    "Hamamatsu NDPI over 4 GB": Format(
        lambda at: write_ndpi(at / "a.ndpi", IMAGE, start=5 * 2**30), "Hamamatsu NDPI", 0.25,
        (1, 2), with_openslide, "OpenSlide",
    ),
    "OME-TIFF, RGB": Format(
        lambda at: write_ome(at / "a.ome.tif", IMAGE, compression="jpeg"), "OME-TIFF", 0.25,
        HALVES, with_tifffile, "tifffile.imread", real=REAL / "OS-2-ndpi.ome.tif",
    ),
    "OME-TIFF, channels of 8 bits": Format(
        fluorescence(np.uint8), "OME-TIFF", 0.5, HALVES, with_tifffile, "tifffile.imread"
    ),
    "OME-TIFF, channels of 16 bits": Format(
        fluorescence(np.uint16), "OME-TIFF", 0.5, HALVES, with_tifffile, "tifffile.imread"
    ),
    "Tiled pyramidal TIFF": Format(
        lambda at: write_pyramid(at / "a.tif", IMAGE, compression="jpeg"), "TIFF", 0.25, HALVES,
        with_openslide, "OpenSlide",
    ),
    "Striped TIFF": Format(striped, "TIFF", 0.25, (1,), with_tifffile, "tifffile.imread"),
    "Philips TIFF": Format(
        lambda at: write_philips(at / "a.tiff", IMAGE), "Philips TIFF", 0.25, HALVES,
        with_openslide, "OpenSlide",
    ),
    "3DHISTECH MRXS": Format(
        vendors.mrxs, "3DHISTECH MRXS", 0.25, HALVES, None, "pixels written"
    ),
    "Leica SCN": Format(vendors.scn, "Leica SCN", 0.25, (), None, "pixels written"),
    "Ventana BIF": Format(vendors.bif, "Ventana BIF", 0.25, (), None, "pixels written"),
    "Hamamatsu VMS": Format(
        vendors.vms, "Hamamatsu VMS", 0.25, (), None, "pixels written", tolerance=16
    ),
    "DICOM": Format(
        lambda at: dicom.write_slide(at / "a", picture(100, 130)), "DICOM WSI", 0.5, (1, 2),
        with_pydicom, "pydicom",
    ),
    "OME-Zarr 0.4": Format(
        write_zarr("0.4"), "OME-Zarr 0.4", 0.5, HALVES, with_zarr, "zarr"
    ),
    "OME-Zarr 0.5": Format(
        write_zarr("0.5"), "OME-Zarr 0.5", 0.5, HALVES, with_zarr, "zarr"
    ),
    "PNG, scale given": Format(
        write_picture("png"), "PNG picture", 0.4, (1,), with_opencv, "OpenCV", is_given=True
    ),
    "JPEG, scale given": Format(
        write_picture("jpg"), "JPEG picture", 0.4, (1,), with_opencv, "OpenCV", is_given=True,
        tolerance=0,
    ),
}  # fmt: skip


def read_all(slide: Slide) -> Pixels:
    with slide:
        return slide.region(0, 0, *slide.shape[:2])


def pixels_in_another_process(slide: Slide) -> tuple[str, int]:
    with slide:
        return slide.format, int(slide.overview(4 * slide.mpp).astype(np.int64).sum())


class Checks:
    """What is checked of one slide; each method fails where the answer is no."""

    def __init__(self, row: Format, slide: Slide, truth: Pixels) -> None:
        self.row, self.slide, self.truth = row, slide, truth

    def opens(self) -> None:
        assert self.slide.format == self.row.format
        self.slide.info()

    def scale(self) -> None:
        assert self.slide.mpp == pytest.approx(self.row.mpp, rel=1e-3)
        assert (self.slide.mpp_source == "given") == self.row.is_given

    def pixels(self) -> None:
        found = read_all(self.slide)
        known = ~np.isnan(self.truth[..., 0])
        assert found.shape == self.truth.shape
        difference = np.abs(found[known].astype(float) - self.truth[known])
        assert difference.max() <= self.row.tolerance

    def levels(self) -> None:
        found = [level.downsample for level in self.slide.levels]
        assert found[0] == (1, 1)
        if self.row.downsamples:
            assert found == [(k, k) for k in self.row.downsamples]
        for k, level in enumerate(self.slide.levels):
            height, width = level.shape
            pixels = self.slide.region(0, 0, height, width, k)
            assert pixels.shape[:2] == level.shape
            for side, base in zip(level.shape, self.slide.shape, strict=False):
                assert abs(side * level.downsample[0] - base) <= 2 * level.downsample[0]

    def threads(self) -> None:
        whole = read_all(self.slide)
        height, width, _ = self.slide.shape
        corners = [(y, x) for y in range(0, height - 40, 29) for x in range(0, width - 40, 31)]

        def is_right(corner: tuple[int, int]) -> bool:
            y, x = corner
            return np.array_equal(self.slide.region(y, x, 40, 40), whole[y : y + 40, x : x + 40])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(is_right, corners[:200]))

    def processes(self) -> None:
        here = pixels_in_another_process(self.slide)
        assert pool().apply(pixels_in_another_process, (self.slide,)) == here


@cache
def pool() -> Any:
    return multiprocessing.get_context("spawn").Pool(1)


def close_the_pool() -> None:
    if pool.cache_info().currsize:
        pool().close()
        pool().join()
        pool.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _no_pool_is_left() -> Iterator[None]:
    yield
    close_the_pool()


@cache
def check(name: str) -> dict[str, str]:
    """Answer every question about a format: ``yes``, or ``no`` and why."""
    row = FORMATS[name]
    with tempfile.TemporaryDirectory() as directory:
        written = row.write(Path(directory))
        path = getattr(written, "path", written)
        truth = getattr(written, "truth", None) if row.second is None else row.second(path)
        given = row.mpp if row.is_given else None
        try:
            with open_slide(path, mpp=given) as slide:
                checks = Checks(row, slide, np.asarray(truth))
                answers = {what: _answer(getattr(checks, what)) for what in COLUMNS}
        except Exception as error:
            answers = {what: f"no: {error!s:.60}" for what in COLUMNS}
    answers["real"] = _real(row)
    return answers


def _answer(question: Callable[[], None]) -> str:
    try:
        question()
    except Exception as error:  # the table tells what went wrong
        return f"no: {type(error).__name__} {error!s:.60}".replace("\n", " ").replace("|", "/")
    return "yes"


def _real(row: Format) -> str:
    if row.real is None or row.second is None:
        return UNREAL
    with open_slide(row.real) as slide:
        found, expected = read_all(slide), row.second(row.real)
    equal = np.array_equal(found, expected)
    return f"{row.real.name}, {'equal' if equal else 'not equal'} to {row.reader}"


def table() -> str:
    head = ("format", *COLUMNS[:2], "pixels equal to", *COLUMNS[3:], "real file")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in FORMATS.items():
        found = check(name)
        pixels = row.reader if found["pixels"] == "yes" else found["pixels"]
        if found["pixels"] == "yes" and row.tolerance:
            pixels += f" ±{row.tolerance} (JPEG)"
        cells = [name, found["opens"], found["scale"], pixels]
        cells += [found[what] for what in COLUMNS[3:]] + [found["real"]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@pytest.mark.parametrize("name", FORMATS)
def test_format(name):
    answers = check(name)
    assert {what: answers[what] for what in COLUMNS} == dict.fromkeys(COLUMNS, "yes")
    assert "not equal" not in answers["real"]


def test_the_document_says_what_was_found():
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.search(f"{BEGIN}\n(.*)\n{END}", text, re.DOTALL)
    assert found, f"{DOCUMENT.name} has lost the marks of its table"
    assert found[1] == table(), "run: python tests/test_formats_table.py"


def rewrite() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    parts = text.partition(BEGIN)[0], text.partition(END)[2]
    DOCUMENT.write_text(f"{parts[0]}{BEGIN}\n{table()}\n{END}{parts[1]}", encoding="utf-8")


if __name__ == "__main__":
    rewrite()
    close_the_pool()
