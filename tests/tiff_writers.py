"""Slides as scanners write them, with pixels that are known: SVS, NDPI, Philips, OME, plain.

Every function writes `image` (y, x, c) at `path` and gives the path. What a codec loses is
found with a second reader; see `test_formats_table`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

Image = npt.NDArray[Any]

APERIO = "Aperio Image Library v12.0.15\r\n{width}x{height} (240x240) JPEG/RGB Q=70|MPP = {mpp}"


def picture(
    height: int, width: int, channels: int = 3, dtype: Any = np.uint8, seed: int = 0
) -> Image:
    """Smooth blobs on a ramp with a little noise: no two tiles alike, no axis symmetric."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    top = np.iinfo(dtype).max
    planes = []
    for k in range(channels):
        wave = np.sin(y / (17 + 3 * k) + seed) * np.cos(x / (23 + 5 * k))
        ramp = 0.3 * y / height + 0.15 * x / width
        planes.append(0.15 + 0.15 * (1 + wave) + ramp + 0.02 * rng.random((height, width)))
    return (np.stack(planes, axis=-1) * top).astype(dtype)


def halved(image: Image) -> Image:
    height, width = (side // 2 * 2 for side in image.shape[:2])
    crop = image[:height, :width].astype(np.uint32)
    total = crop[::2, ::2] + crop[1::2, ::2] + crop[::2, 1::2] + crop[1::2, 1::2]
    return ((total + 2) // 4).astype(image.dtype)


def write_svs(
    path: Path, image: Image, mpp: float = 0.25, compression: Any = "jpeg", quality: Any = None
) -> Path:
    """Write an Aperio SVS: scan, striped thumbnail, 4x level, label (LZW) and macro (JPEG)."""
    quarter = halved(halved(image))
    text = APERIO.format(width=image.shape[1], height=image.shape[0], mpp=mpp)
    scan: dict[str, Any] = {
        "tile": (240, 240),
        "photometric": "rgb",
        "compression": compression,
        "metadata": None,
    }
    if quality is not None:
        scan["compressionargs"] = quality
    other: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(image, description=text, **scan)
        tiff.write(halved(quarter), rowsperstrip=16, description=text, compression="jpeg", **other)
        tiff.write(quarter, description=text, **scan)
        label, macro = picture(90, 80, seed=8), picture(60, 150, seed=9)
        first_line = text.partition("\r\n")[0]
        tiff.write(
            label,
            subfiletype=1,
            description=f"{first_line}\r\nlabel 80x90",
            compression="lzw",
            **other,
        )
        tiff.write(
            macro,
            subfiletype=9,
            description=f"{first_line}\r\nmacro 150x60",
            compression="jpeg",
            **other,
        )
    return path


def write_ome(path: Path, image: Image, mpp: float = 0.25, levels: int = 3, **options: Any) -> Path:
    """Write an OME-TIFF pyramid of SubIFDs: RGB (y, x, 3), else one page a channel (y, x, c)."""
    is_rgb = options.pop("rgb", image.shape[2] == 3)
    names = options.pop("names", None)
    metadata: dict[str, Any] = {"axes": "YXS" if is_rgb else "CYX"}
    if names:
        metadata["Channel"] = {"Name": list(names)}
    for axis in "XY":
        metadata |= {f"PhysicalSize{axis}": mpp, f"PhysicalSize{axis}Unit": "µm"}
    options = {"tile": (128, 128), "photometric": "rgb" if is_rgb else "minisblack", **options}
    with tifffile.TiffWriter(path, ome=True, bigtiff=options.pop("bigtiff", False)) as tiff:
        for k in range(levels):
            stored = image if is_rgb else np.moveaxis(image, -1, 0)
            if k == 0:
                tiff.write(stored, subifds=levels - 1, metadata=metadata, **options)
            else:
                tiff.write(stored, subfiletype=1, metadata=None, **options)
            image = halved(image)
    return path


def write_pyramid(
    path: Path, image: Image, mpp: float = 0.25, levels: int = 3, **options: Any
) -> Path:
    """Write a plain pyramid, one page a level."""
    options = {"tile": (128, 128), "photometric": "rgb", "metadata": None, **options}
    writer = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    with tifffile.TiffWriter(path, **writer) as tiff:
        for _ in range(levels):
            stored = image
            if options.get("planarconfig") == "separate":
                stored = np.moveaxis(image, -1, 0)
            tiff.write(stored, resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit=3, **options)
            image = halved(image)
    return path


def write_philips(
    path: Path, image: Image, mpp: float = 0.25, levels: int = 3, tile: int = 128
) -> Path:
    """Write a Philips TIFF: levels padded to whole tiles, spacings in the XML, label, macro."""
    spacing = [mpp / 1000 * 2**k for k in range(levels)]
    sequence = "".join(
        '<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING" '
        'Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
        f'"{mm:.9f}" "{mm:.9f}"</Attribute>'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x301D" Element="0x100B" '
        f'PMSVR="IUInt16">{k}</Attribute></DataObject>'
        for k, mm in enumerate(spacing)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="DICOM_MANUFACTURER" Group="0x0008" Element="0x0070" PMSVR="IString">'
        'PHILIPS</Attribute><Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" '
        'Element="0x1003" PMSVR="IDataObjectArray"><Array><DataObject '
        'ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" '
        'Element="0x1004" PMSVR="IString">WSI</Attribute><Attribute '
        'Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">'
        f'"{spacing[0]:.9f}" "{spacing[0]:.9f}"</Attribute><Attribute '
        'Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x301D" Element="0x1013" '
        f'PMSVR="IDataObjectArray"><Array>{sequence}</Array></Attribute></DataObject></Array>'
        "</Attribute></DataObject>"
    )
    options: dict[str, Any] = {
        "tile": (tile, tile),
        "photometric": "rgb",
        "compression": "jpeg",
        "metadata": None,
        "software": "Philips DP v1.0",
    }
    other: dict[str, Any] = {"photometric": "rgb", "metadata": None, "compression": "jpeg"}
    with tifffile.TiffWriter(path) as tiff:
        for k in range(levels):
            padding = [(0, -side % tile) for side in image.shape[:2]]
            padded = np.pad(image, [*padding, (0, 0)], constant_values=255)
            tiff.write(
                padded,
                subfiletype=min(k, 1),
                description=xml if k == 0 else f"level={k}",
                **options,
            )
            image = halved(image)
        tiff.write(picture(60, 150, seed=9), description="Macro", rowsperstrip=60, **other)
        tiff.write(picture(90, 80, seed=8), description="Label", rowsperstrip=90, **other)
    return path


def write_ndpi(
    path: Path,
    image: Image,
    mpp: float = 0.25,
    start: int = 16,
    tile: tuple[int, int] = (8, 64),
    levels: int = 2,
) -> Path:
    """Write a Hamamatsu NDPI: one JPEG a level with restart markers, 64-bit offsets, a macro.

    The pixels begin at byte `start`: beyond 4 GiB the file is sparse, and only the upper halves
    of the offsets say where anything is.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<4sQ", b"II*\0", 0))
        pointer = 4
        position = start
        for k in range(levels):
            scan = _restarted_jpeg(image, tile)
            pointer, position = _write_ndpi_page(
                file, pointer, position, image.shape, scan, mpp * 2**k, 20.0 / 2**k
            )
            image = halved(image)
        macro = picture(60, 152, seed=9)
        data = imagecodecs.jpeg_encode(macro, level=95)
        _write_ndpi_page(file, pointer, position, macro.shape, (data, []), 20.0, -1.0)
    return path


def _restarted_jpeg(image: Image, tile: tuple[int, int]) -> tuple[bytes, list[int]]:
    """Join the tiles' scans with restart markers, as one JPEG of the whole image.

    The image must be whole tiles; each tile is one restart interval, one MCU high.
    """
    height, width = image.shape[:2]
    assert not height % tile[0]
    assert not width % tile[1]
    scans = []
    header = b""
    for y in range(0, height, tile[0]):
        for x in range(0, width, tile[1]):
            part = np.ascontiguousarray(image[y : y + tile[0], x : x + tile[1]])
            jpeg = imagecodecs.jpeg_encode(part, level=90, subsampling="444", optimize=False)
            begin = jpeg.index(b"\xff\xda")
            begin += 2 + int.from_bytes(jpeg[begin + 2 : begin + 4])
            header = header or jpeg[:begin]
            scans.append(jpeg[begin:-2])
    frame = header.index(b"\xff\xc0")
    sized = header[: frame + 5] + struct.pack(">HH", height, width) + header[frame + 9 :]
    scan = sized.index(b"\xff\xda")
    interval = struct.pack(">HHH", 0xFFDD, 4, tile[1] // 8)
    data = sized[:scan] + interval + sized[scan:]
    starts = []
    for k, part in enumerate(scans):
        starts.append(len(data))
        data += part + (struct.pack(">H", 0xFFD0 + k % 8) if k + 1 < len(scans) else b"\xff\xd9")
    return data, starts


def _write_ndpi_page(
    file: Any,
    pointer: int,
    position: int,
    shape: tuple[int, ...],
    scan: tuple[bytes, list[int]],
    mpp: float,
    lens: float,
) -> tuple[int, int]:
    """Write pixels and directory; give where the next directory's offset and data belong."""
    data, starts = scan
    file.seek(position)
    file.write(data)
    end = position + len(data)
    entries: list[tuple[int, int, int, bytes]] = []

    def outside(payload: bytes) -> bytes:
        nonlocal end
        end += end % 2
        file.seek(end)
        file.write(payload)
        at, end = end, end + len(payload)
        return struct.pack("<Q", at)

    def number(code: int, kind: int, value: int) -> None:
        entries.append((code, kind, 1, struct.pack("<Q", value)))

    def rational(code: int, value: float) -> None:
        entries.append((code, 5, 1, outside(struct.pack("<II", round(value), 1))))

    number(256, 4, shape[1])
    number(257, 4, shape[0])
    entries.append((258, 3, 3, outside(struct.pack("<HHH", 8, 8, 8))))
    number(259, 3, 7)
    number(262, 3, 6)
    entries.append((271, 2, 10, outside(b"Hamamatsu\0")))
    number(273, 4, position)
    number(277, 3, 3)
    number(278, 4, shape[0])
    number(279, 4, len(data))
    rational(282, 1e4 / mpp)
    rational(283, 1e4 / mpp)
    number(284, 3, 1)
    number(296, 3, 3)
    number(65420, 4, 1)
    entries.append((65421, 11, 1, struct.pack("<fI", lens, 0)))
    for code in (65422, 65423, 65424):  # stage position and focal plane, nm
        number(code, 9, 0)
    if starts:
        low = np.asarray(starts, "<u4").tobytes()
        entries.append((65426, 4, len(starts), outside(low)))
    end += end % 2
    file.seek(end)
    file.write(struct.pack("<H", len(entries)))
    for code, kind, count, value in entries:
        file.write(struct.pack("<HHI4s", code, kind, count, value[:4]))
    after = file.tell()
    file.write(struct.pack("<Q", 0))  # the next directory
    file.write(b"".join(value[4:] for *_, value in entries))
    following = file.tell()
    file.seek(pointer)
    file.write(struct.pack("<Q", end))
    return after, following
