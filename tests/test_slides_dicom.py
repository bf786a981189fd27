"""DICOM slides written with pydicom, read with wsidicom, compared with what pydicom reads."""

from __future__ import annotations

import os
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.uid import VLWholeSlideMicroscopyImageStorage as WSI

from helpers import on_two_cores
from histoquant.errors import ScaleError, SlideError
from histoquant.slides.dicom import DicomSource, content_files, is_dicom
from histoquant.slides.scale import resolve_scale

RNG = np.random.default_rng(21)
TILE = (32, 48)
SERIES, OTHER_SERIES = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"


def smooth(height, width, channels=3):
    """Pixels that survive JPEG nearly unchanged."""
    y, x, c = np.ogrid[:height, :width, :channels]
    return (128 + 60 * np.sin(y / 15 + c) + 60 * np.cos(x / 20)).astype(np.uint8)


NOISE = RNG.integers(0, 256, (100, 130, 3), dtype=np.uint8)


def tiles_of(pixels, tile=TILE):
    """(row, column, tile) of every tile, padded to the full size with 7."""
    for row in range(-(-pixels.shape[0] // tile[0])):
        for column in range(-(-pixels.shape[1] // tile[1])):
            out = np.full((*tile, *pixels.shape[2:]), 7, pixels.dtype)
            part = pixels[row * tile[0] :, column * tile[1] :][: tile[0], : tile[1]]
            out[: part.shape[0], : part.shape[1]] = part
            yield row, column, out


def encode(tile, syntax, photometric):
    if syntax == JPEGBaseline8Bit:
        space = {"RGB": "RGB", "MONOCHROME2": "GRAYSCALE"}.get(photometric, "YCBCR")
        return imagecodecs.jpeg8_encode(tile, level=95, outcolorspace=space)
    if syntax in (JPEG2000, JPEG2000Lossless):
        lossless = syntax == JPEG2000Lossless
        return imagecodecs.jpeg2k_encode(
            tile, level=0 if lossless else 45, reversible=lossless, codecformat="j2k",
            mct=photometric.startswith("YBR"),
        )  # fmt: skip
    if syntax == JPEGLSLossless:
        return imagecodecs.jpegls_encode(tile)
    if syntax == RLELossless:
        from wsidicom.codec.rle import RleCodec

        return RleCodec.encode(tile)
    return tile.astype(tile.dtype.newbyteorder("<")).tobytes()


def dataset(pixels, *, spacing=(0.0005, 0.0005), series=SERIES, kind="VOLUME", number=1):
    """The header of an image of (y, x[, c]) `pixels`; `spacing` is (y, x) in mm."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = WSI, f"{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498", series
    data.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.9"
    data.Modality, data.ImageType = "SM", ["ORIGINAL", "PRIMARY", kind, "NONE"]
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = pixels.shape[:2]
    data.Rows, data.Columns = TILE
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.ImagedVolumeHeight = float(pixels.shape[0] * (spacing or (0.0008,))[0])
    data.ImagedVolumeWidth = float(pixels.shape[1] * (spacing or (0.0008,))[-1])
    path = Dataset()
    path.OpticalPathIdentifier, path.OpticalPathDescription = "1", ""
    data.OpticalPathSequence = [path]
    data.NumberOfOpticalPaths = data.TotalPixelMatrixFocalPlanes = 1
    data.SharedFunctionalGroupsSequence = [Dataset()]
    if spacing:
        measures = Dataset()
        measures.PixelSpacing, measures.SliceThickness = list(spacing), 0.004
        data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [measures]
    return data


def write(
    path,
    pixels,
    *,
    syntax=ExplicitVRLittleEndian,
    photometric=None,
    sparse=False,
    absent=(),
    change=None,
    prepare=lambda tile: tile,
    **header,
):
    """Write one image; `absent` tiles (row, column) get no frame, `change` edits the header."""
    data = dataset(pixels, **header)
    if photometric:
        data.PhotometricInterpretation = photometric
    frames, places = [], []
    for row, column, tile in tiles_of(pixels):
        if (row, column) not in absent:
            frames.append(encode(prepare(tile), syntax, data.PhotometricInterpretation))
            places.append((row, column))
    data.NumberOfFrames = len(frames)
    data.DimensionOrganizationType = "TILED_SPARSE" if sparse else "TILED_FULL"
    if sparse:
        data.PerFrameFunctionalGroupsSequence = [place(*where) for where in places]
    data.PixelData = encapsulate(frames) if UID(syntax).is_encapsulated else b"".join(frames)
    data["PixelData"].VR = "OB" if data.BitsAllocated == 8 or UID(syntax).is_encapsulated else "OW"
    if change:
        change(data)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return path


def place(row, column):
    frame, where = Dataset(), Dataset()
    where.RowPositionInTotalImagePixelMatrix = row * TILE[0] + 1
    where.ColumnPositionInTotalImagePixelMatrix = column * TILE[1] + 1
    where.ZOffsetInSlideCoordinateSystem = 0.0
    frame.PlanePositionSlideSequence = [where]
    return frame


def write_slide(folder, pixels=NOISE, factors=(1, 2), **options):
    """A pyramid of every `factor`-th pixel, with label and overview."""
    folder.mkdir(exist_ok=True)
    spacing = options.pop("spacing", (0.0005, 0.0005))
    for k, factor in enumerate(factors):
        level = pixels[::factor, ::factor]
        fine = tuple(mm * factor for mm in spacing) if spacing else None
        write(folder / f"{k}.dcm", level, spacing=fine, number=k + 1, **options)
    write(folder / "l.dcm", LABEL, kind="LABEL", number=90)
    write(folder / "o.dcm", LABEL[:20], kind="OVERVIEW", number=91)
    return folder


LABEL = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)


def whole(source, level=0, fill=0):
    return source.region(level, 0, 0, *source.levels[level].shape, fill)


def with_pydicom(path):
    """All pixels of a full native or compressed image, put together from pydicom's frames."""
    data = pydicom.dcmread(path)
    frames = data.pixel_array.reshape(-1, *TILE, data.SamplesPerPixel)
    rows, columns = data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns
    across = -(-columns // TILE[1])
    lines = [np.concatenate(frames[k : k + across], axis=1) for k in range(0, len(frames), across)]
    return np.concatenate(lines)[:rows, :columns]


# --- pixels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_folder_and_single_file(tmp_path, sparse):
    folder = write_slide(tmp_path / "slide", factors=(1, 2, 3), sparse=sparse)
    for path in (folder, folder / "1.dcm", folder / "l.dcm"):
        assert is_dicom(path)
        source = DicomSource(path)
        assert source.format == "DICOM WSI"
        assert source.compression == "Explicit VR Little Endian"
        assert source.channels == ("red", "green", "blue")
        assert source.is_colour
        assert source.dtype == np.uint8
        assert not source.has_icc_profile
        assert [level.shape for level in source.levels] == [(100, 130), (50, 65), (34, 44)]
        assert [level.downsample for level in source.levels] == [(1, 1), (2, 2), (3, 3)]
        for k, factor in enumerate((1, 2, 3)):
            np.testing.assert_array_equal(whole(source, k), NOISE[::factor, ::factor])
            if not sparse:
                np.testing.assert_array_equal(whole(source, k), with_pydicom(folder / f"{k}.dcm"))
        np.testing.assert_array_equal(source.region(0, 20, 30, 60, 70, 0), NOISE[20:80, 30:100])
        assert source.region(0, 5, 5, 7, 0, 0).shape == (7, 0, 3)
        assert source.missing_boxes() == source.damaged_boxes() == []
        source.close()
        np.testing.assert_array_equal(source.region(0, 99, 129, 1, 1, 0), NOISE[99:, 129:])
        source.close()
        assert [file.name for file in content_files(path)] == [
            "0.dcm",
            "1.dcm",
            "2.dcm",
            "l.dcm",
            "o.dcm",
        ]


COMPRESSED = [
    (ImplicitVRLittleEndian, "RGB", 0),
    (JPEGBaseline8Bit, "RGB", 0),
    (JPEGBaseline8Bit, "YBR_FULL_422", 1),
    (JPEG2000Lossless, "RGB", 0),
    (JPEG2000Lossless, "YBR_RCT", 0),
    (JPEG2000, "YBR_ICT", 1),
    (JPEGLSLossless, "RGB", 0),
    (RLELossless, "RGB", 0),
]


@pytest.mark.parametrize(("syntax", "photometric", "tolerance"), COMPRESSED)
def test_compressions_against_pydicom(tmp_path, syntax, photometric, tolerance):
    pixels = smooth(100, 130)
    path = write(tmp_path / "a.dcm", pixels, syntax=syntax, photometric=photometric)
    source = DicomSource(path)
    read = whole(source)
    is_lossy = syntax in (JPEGBaseline8Bit, JPEG2000)
    assert np.abs(read.astype(int) - pixels).mean() <= (2 if is_lossy else 0)
    assert source.compression == UID(syntax).name
    if syntax != JPEGLSLossless:  # pydicom has no decoder for it here
        expected = with_pydicom(path).astype(int)
        assert np.abs(read.astype(int) - expected).max() <= tolerance
    source.close()


def test_ybr_full_becomes_rgb(tmp_path):
    pixels = smooth(100, 130)
    path = write(
        tmp_path / "a.dcm",
        pixels,
        syntax=RLELossless,
        photometric="YBR_FULL",
        prepare=lambda tile: convert_color_space(tile, "RGB", "YBR_FULL"),
    )
    source = DicomSource(path)
    assert np.abs(whole(source).astype(int) - pixels).max() <= 3
    source.close()


@pytest.mark.parametrize(
    ("syntax", "dtype"),
    [
        (ExplicitVRLittleEndian, np.uint8),
        (ExplicitVRLittleEndian, np.uint16),
        (RLELossless, np.uint8),
        (JPEG2000Lossless, np.uint8),
        (JPEG2000Lossless, np.uint16),
        (JPEGLSLossless, np.uint16),
    ],
)
def test_monochrome(tmp_path, syntax, dtype):
    pixels = RNG.integers(0, np.iinfo(dtype).max, (70, 90)).astype(dtype)
    source = DicomSource(write(tmp_path / "a.dcm", pixels, syntax=syntax))
    assert source.channels == ("grey",)
    assert source.is_colour
    read = whole(source)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read[..., 0], pixels)
    source.close()


def test_optical_paths_are_channels(tmp_path):
    stains = [RNG.integers(0, 65536, (70, 90)).astype(np.uint16) for _ in range(3)]

    def name(identifier, words):
        def change(data):
            data.OpticalPathSequence[0].OpticalPathIdentifier = identifier
            data.OpticalPathSequence[0].OpticalPathDescription = words

        return change

    for k, words in enumerate(("DAPI", "", "TRITC")):
        for j, factor in enumerate((1, 2)):
            pixels, mm = stains[k][::factor, ::factor], (0.0005 * factor,) * 2
            write(
                tmp_path / f"{k}{j}.dcm", pixels, spacing=mm, number=10 * k + j + 1,
                change=name(str(k), words), sparse=k == 1, absent=[(1, 0)] if k == 1 else (),
            )  # fmt: skip
    source = DicomSource(tmp_path)
    assert source.channels == ("DAPI", "channel 1", "TRITC")
    assert not source.is_colour
    expected = np.stack(stains, axis=-1)
    expected[32:64, :48, 1] = 5
    np.testing.assert_array_equal(whole(source, fill=5), expected)
    assert source.missing_boxes()[0] == (32, 0, 32, 48)
    source.close()


def test_absent_frames_are_missing(tmp_path):
    folder = write_slide(tmp_path / "slide", sparse=True, absent=[(1, 2), (0, 0)])
    source = DicomSource(folder)
    assert [level.missing_tiles for level in source.levels] == [2, 1]
    assert source.missing_boxes() == [(0, 0, 32, 48), (32, 96, 32, 48), (0, 0, 64, 96)]
    expected = NOISE.copy()
    expected[:32, :48] = expected[32:64, 96:144] = 211
    np.testing.assert_array_equal(whole(source, fill=211), expected)
    source.close()


def test_label_and_overview(tmp_path):
    source = DicomSource(write_slide(tmp_path / "slide"))
    assert source.associated == ("label", "macro")
    np.testing.assert_array_equal(source.associated_image("label"), LABEL)
    np.testing.assert_array_equal(source.associated_image("macro"), LABEL[:20])
    with pytest.raises(SlideError, match="no image 'thumbnail'; there are: label, macro"):
        source.associated_image("thumbnail")
    source.close()


def test_thumbnail_and_icc_profile(tmp_path):
    def profile(data):
        data.OpticalPathSequence[0].ICCProfile = bytes(100_000)

    write(tmp_path / "a.dcm", NOISE, change=profile)
    write(tmp_path / "t.dcm", NOISE[::4, ::4], kind="THUMBNAIL", number=2)
    source = DicomSource(tmp_path)
    assert source.has_icc_profile
    assert len(source.levels) == 1
    np.testing.assert_array_equal(source.associated_image("thumbnail"), NOISE[::4, ::4])
    source.close()


# --- scale -----------------------------------------------------------------------------------


def test_row_spacing_comes_first(tmp_path):
    """PixelSpacing is (distance of rows, distance of columns): (y, x)."""
    source = DicomSource(write(tmp_path / "a.dcm", NOISE, spacing=(0.0004, 0.0005)))
    assert source.claims[0].y_um == pytest.approx(0.4)
    assert source.claims[0].x_um == pytest.approx(0.5)
    with pytest.raises(ScaleError, match="not square: 0.5 um in x, 0.4 um in y"):
        resolve_scale(tmp_path, source.claims, None)
    source.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"spacing": (0.0005, 0.000502)}, ("DICOM PixelSpacing", 0.501)),
        ({"spacing": None}, ("DICOM ImagedVolumeWidth", 0.8)),
    ],
)
def test_scale(tmp_path, options, expected):
    source = DicomSource(write(tmp_path / "a.dcm", NOISE, **options))
    scale = resolve_scale(tmp_path, source.claims, None)
    assert (scale.source, scale.mpp) == (expected[0], pytest.approx(expected[1]))
    source.close()


@pytest.mark.parametrize("spacing", [(0.0, 0.0), (-0.0005, 0.0005), (1.0, 1.0)])
def test_absurd_spacing_is_no_reason_to_look_elsewhere(tmp_path, spacing):
    def change(data):
        measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.PixelSpacing = list(spacing)

    source = DicomSource(write(tmp_path / "a.dcm", NOISE, change=change))
    with pytest.raises(ScaleError, match="cannot be used: found PixelSpacing"):
        resolve_scale(tmp_path, source.claims, None)
    source.close()


def test_no_scale(tmp_path):
    def change(data):
        del data.ImagedVolumeWidth

    source = DicomSource(write(tmp_path / "a.dcm", NOISE, spacing=None, change=change))
    with pytest.raises(ScaleError, match="no DICOM PixelSpacing"):
        resolve_scale(tmp_path, source.claims, None)
    source.close()


# --- what is refused -------------------------------------------------------------------------


def set_(**values):
    def change(data):
        for name, value in values.items():
            setattr(data, name, value)

    return change


def off_the_grid(data):
    first = data.PerFrameFunctionalGroupsSequence[0].PlanePositionSlideSequence[0]
    first.ColumnPositionInTotalImagePixelMatrix = 12


def twice_the_same(data):
    data.PerFrameFunctionalGroupsSequence[1] = place(0, 0)


def outside(data):
    data.PerFrameFunctionalGroupsSequence[1] = place(9, 9)


def two_depths(data):
    position = data.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
    position.ZOffsetInSlideCoordinateSystem = 3.0


def without(name):
    return lambda data: delattr(data, name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"change": set_(PlanarConfiguration=1)}, "plane by plane"),
        ({"change": set_(PhotometricInterpretation="MONOCHROME1")}, "stored as MONOCHROME1"),
        ({"change": set_(PhotometricInterpretation="YBR_PARTIAL_422")}, "YBR_PARTIAL_422"),
        ({"change": set_(PhotometricInterpretation="YBR_FULL")}, "YBR_FULL in Explicit VR"),
        ({"change": set_(BitsStored=12)}, "12 of 8 bits"),
        ({"change": set_(PixelRepresentation=1)}, "signed pixels"),
        ({"change": set_(SamplesPerPixel=4)}, "4 samples per pixel of RGB"),
        ({"change": set_(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])}, "no level, label"),
        ({"change": set_(TotalPixelMatrixRows=0)}, "cannot be"),
        ({"change": set_(TotalPixelMatrixRows=2**31)}, "cannot be"),
        ({"change": set_(NumberOfFrames=10**9)}, "cannot be"),
        ({"change": set_(Rows=60000, Columns=60000)}, "too large to decode at once"),
        ({"change": set_(NumberOfFrames=11)}, "cannot be read"),
        ({"change": set_(TotalPixelMatrixRows=400)}, "cannot be read"),
        ({"change": without("Rows")}, "header cannot be read"),
        ({"change": without("SeriesInstanceUID")}, "header cannot be read"),
        ({"sparse": True, "change": off_the_grid}, "not lie on a grid"),
        ({"sparse": True, "change": twice_the_same}, "two frames claim one tile"),
        ({"sparse": True, "change": outside}, "cannot be read"),
        ({"sparse": True, "change": two_depths}, "2 focal planes"),
        ({"sparse": True, "change": without("PerFrameFunctionalGroupsSequence")}, "cannot be read"),
    ],
)
def test_refused(tmp_path, options, words):
    path = write(tmp_path / "a.dcm", NOISE, **options)
    with pytest.raises(SlideError, match=rf"(?s){re.escape(str(tmp_path))}.*{words}"):
        DicomSource(path)


@pytest.mark.parametrize(
    ("syntax", "pixels", "words"),
    [
        (ExplicitVRBigEndian, NOISE[..., 0], "compressed as Explicit VR Big Endian"),
        (DeflatedExplicitVRLittleEndian, NOISE, "compressed as Deflated"),
        (RLELossless, NOISE[..., 0].astype(np.uint16), "16 bits per sample in RLE"),
    ],
)
def test_refused_compressions(tmp_path, syntax, pixels, words):
    path = write(tmp_path / "a.dcm", pixels, syntax=syntax)
    with pytest.raises(SlideError, match=words):
        DicomSource(path)


def test_which_files_are_the_slide(tmp_path):
    folder = write_slide(tmp_path / "slides")
    write(folder / "other.dcm", NOISE, series=OTHER_SERIES)
    (folder / "notes.txt").write_text("a note")
    assert len(DicomSource(folder / "1.dcm").levels) == 2
    assert content_files(folder / "other.dcm") == [folder / "other.dcm"]
    with pytest.raises(SlideError, match=r"2 slides in one folder.*0\.dcm, other\.dcm"):
        DicomSource(folder)
    write(folder / "other.dcm", NOISE, number=7)
    with pytest.raises(SlideError, match="2 images of 130 x 100 px in one series"):
        DicomSource(folder)
    write(folder / "other.dcm", NOISE[:50, :50], number=7)
    with pytest.raises(SlideError, match=r"50 x 50 px \(other\.dcm\) does not show the same"):
        DicomSource(folder)
    write(folder / "other.dcm", NOISE[::2, ::2, 0], number=7)
    with pytest.raises(SlideError, match="differ in channels|2 images of"):
        DicomSource(folder)


def test_no_slide_among_the_files(tmp_path):
    write(tmp_path / "l.dcm", LABEL, kind="LABEL")
    with pytest.raises(SlideError, match="no whole-slide image among its DICOM files"):
        DicomSource(tmp_path)
    with pytest.raises(SlideError, match="without a slide; found only LABEL"):
        DicomSource(tmp_path / "l.dcm")
    write(tmp_path / "ct.dcm", NOISE, change=set_(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"))
    with pytest.raises(SlideError, match="a DICOM file, but no slide image"):
        DicomSource(tmp_path / "ct.dcm")
    write(tmp_path / "DICOMDIR", NOISE, change=set_(SOPClassUID="1.2.840.10008.1.3.10"))
    with pytest.raises(SlideError, match="the index of a DICOM disc"):
        DicomSource(tmp_path / "DICOMDIR")


def test_sniffing(tmp_path):
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "nothing.dcm")
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICX")
    assert not is_dicom(tmp_path)
    (tmp_path / "b").write_bytes(bytes(128) + b"DICM")
    assert is_dicom(tmp_path)
    assert is_dicom(tmp_path / "b")


def test_library_that_is_not_installed(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", NOISE)
    monkeypatch.setattr("histoquant.slides.dicom.find_spec", lambda name: None)
    for read in (DicomSource, content_files):
        with pytest.raises(SlideError, match=r"wsidicom is not .* pip install histoquant\[dicom\]"):
            read(path)


def test_library_that_is_too_old(tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", NOISE)
    monkeypatch.setitem(sys.modules, "histoquant.slides.dicom_pixels", None)
    with pytest.raises(SlideError, match=r"another version .* pip install histoquant\[dicom\]"):
        DicomSource(path)


def test_two_colour_pictures_in_one_level(tmp_path):
    write(tmp_path / "a.dcm", NOISE)

    def second(data):
        data.OpticalPathSequence[0].OpticalPathIdentifier = "2"

    write(tmp_path / "b.dcm", NOISE, number=2, change=second)
    with pytest.raises(SlideError, match=r"2 colour pictures .*optical paths 1, 2"):
        DicomSource(tmp_path)


def test_concatenation(tmp_path):
    """One image in two files; without the second file it is refused."""
    frames = [tile for _, _, tile in tiles_of(NOISE)]

    def part(first, count):
        def change(data):
            data.NumberOfFrames = count
            data.PixelData = b"".join(t.tobytes() for t in frames[first : first + count])
            data.SOPInstanceUIDOfConcatenationSource = f"{SERIES}.77"
            data.ConcatenationUID = f"{SERIES}.78"
            data.ConcatenationFrameOffsetNumber = first
            data.InConcatenationNumber = 1 + (first > 0)

        return change

    write(tmp_path / "a.dcm", NOISE, change=part(0, 5))
    write(tmp_path / "b.dcm", NOISE, number=2, change=part(5, 7))
    source = DicomSource(tmp_path)
    np.testing.assert_array_equal(whole(source), NOISE)
    source.close()
    (tmp_path / "b.dcm").unlink()
    with pytest.raises(SlideError, match="5 frames for 12 tiles"):
        DicomSource(tmp_path)


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("syntax", "photometric"), [(s, p) for s, p, _ in COMPRESSED if s != ImplicitVRLittleEndian]
)
def test_corrupt_frame_is_named(tmp_path, syntax, photometric):
    """The frame of tile row 1, column 1 (of 3 columns) is zeroed, but for its first bytes."""
    pixels = smooth(64, 144)
    path = write(tmp_path / "a.dcm", pixels, syntax=syntax, photometric=photometric)
    good = whole(DicomSource(path))
    data = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=6))
    content = path.read_bytes()
    at = content.index(frames[4])
    path.write_bytes(
        content[: at + 20] + bytes(len(frames[4]) - 20) + content[at + len(frames[4]) :]
    )
    source = DicomSource(path)
    np.testing.assert_array_equal(source.region(0, 0, 0, 32, 144, 0), good[:32])
    with pytest.raises(SlideError, match="level 0, tile row 1, column 1 cannot be decoded"):
        whole(source)
    tolerant = DicomSource(path, on_damage="missing")
    expected = good.copy()
    expected[32:, 48:96] = 44
    np.testing.assert_array_equal(whole(tolerant, fill=44), expected)
    assert tolerant.damaged_boxes() == [(32, 48, 32, 48)]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
@pytest.mark.parametrize("sparse", [False, True])
def test_truncated_file(tmp_path, syntax, sparse):
    """Pixels or SlideError, and never pixels that are not in the file."""
    pixels = smooth(100, 130)
    path = write(tmp_path / "a.dcm", pixels, syntax=syntax, sparse=sparse)
    good, content = whole(DicomSource(path)), path.read_bytes()
    for part in (0.2, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(len(content) * part)])
        try:
            source = DicomSource(path, on_damage="missing")
        except SlideError:
            continue
        read = whole(source, fill=1)
        lost = np.zeros(read.shape[:2], bool)
        for top, left, height, width in source.damaged_boxes():
            lost[int(top) : int(top + height), int(left) : int(left + width)] = True
        assert lost.any()
        np.testing.assert_array_equal(read[~lost], good[~lost])
        with pytest.raises(SlideError, match="tile row"):
            whole(DicomSource(path))


def test_damaged_finest_level_is_not_passed_over(tmp_path):
    folder = write_slide(tmp_path / "slide")
    content = (folder / "0.dcm").read_bytes()
    (folder / "0.dcm").write_bytes(content[:700])
    for path in (folder, folder / "1.dcm"):
        with pytest.raises(SlideError, match=r"0\.dcm: this DICOM header cannot be read"):
            DicomSource(path)


def test_file_that_vanishes(tmp_path):
    folder = write_slide(tmp_path / "slide")
    source = DicomSource(folder)
    source.close()
    (folder / "0.dcm").unlink()
    with pytest.raises(SlideError, match="0.dcm|cannot be read"):
        whole(source)


def test_jpeg_that_claims_gigabytes(tmp_path):
    path = write(tmp_path / "a.dcm", smooth(32, 48), syntax=JPEGBaseline8Bit)
    content = path.read_bytes()
    at = content.index(b"\xff\xc0") + 5
    path.write_bytes(content[:at] + b"\x20\x00\x20\x00" + content[at + 4 :])
    with pytest.raises(SlideError, match="it claims 8192 x 8192 px"):
        whole(DicomSource(path))


# --- threads, processes, files ---------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless])
def test_threads(tmp_path, syntax):
    source = DicomSource(write(tmp_path / "a.dcm", NOISE, syntax=syntax))
    corners = [(y, x) for y in range(0, 50, 3) for x in range(0, 80, 7)]

    def read(corner):
        if corner == (24, 35):
            source.close()
        return source.region(0, *corner, 50, 50, 0)

    with ThreadPoolExecutor(8) as pool:
        windows = list(pool.map(read, corners))
    for (y, x), window in zip(corners, windows, strict=True):
        np.testing.assert_array_equal(window, NOISE[y : y + 50, x : x + 50])
    source.close()


def read_sum(path: str, y: int) -> int:
    return int(DicomSource(Path(path)).region(0, y, 0, 50, 130, 0).sum())


def test_spawned_processes(tmp_path):
    folder = write_slide(tmp_path / "slide")
    assert on_two_cores(read_sum, [(str(folder), y) for y in (0, 50)]) == [
        int(NOISE[:50].sum()),
        int(NOISE[50:].sum()),
    ]


def test_no_file_stays_open(tmp_path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files cannot be counted here")
    folder = write_slide(tmp_path / "slide")
    DicomSource(folder).close()
    before = len(os.listdir(descriptors))
    for _ in range(3):
        source = DicomSource(folder)
        whole(source)
        source.close()
    broken = write(tmp_path / "broken.dcm", NOISE, change=set_(TotalPixelMatrixRows=400))
    with pytest.raises(SlideError):
        DicomSource(broken)
    assert len(os.listdir(descriptors)) == before


# --- fuzz ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_fuzzed_headers(tmp_path, sparse):
    """Whatever bytes the header holds: pixels, or SlideError."""
    path = write(tmp_path / "a.dcm", smooth(64, 96), syntax=JPEGBaseline8Bit, sparse=sparse)
    content = path.read_bytes()
    end = content.index(b"\xe0\x7f\x10\x00")
    rng = random.Random(4)
    opened = 0
    for _ in range(250):
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 4))):
            at = rng.randrange(132, end + 12)
            data[at] = rng.choice((0, 1, 255, rng.randrange(256)))
        if rng.random() < 0.1:
            del data[rng.randrange(132, len(data)) :]
        path.write_bytes(data)
        try:
            source = DicomSource(path, on_damage="missing")
            height, width = (min(side, 200) for side in source.levels[0].shape)
            assert source.region(0, 0, 0, height, width, 0).shape[:2] == (height, width)
            resolve_scale(path, source.claims, 0.5)
            source.close()
            opened += 1
        except SlideError:
            pass
    assert 20 < opened < 240
