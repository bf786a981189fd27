"""Slides of vendors without a free sample, written after what OpenSlide reads of their formats.

Each holds pixels without loss (VMS: JPEG), so that every pixel is known, and what its format is
feared for: areas that were not scanned, offsets, overlaps, tiles without data.
"""

from __future__ import annotations

import base64
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TILE = 64


def texture(height, width, seed=0):
    """Smooth stains on a pale ground with fine noise: every pixel differs from its neighbours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(y / 17 + k) + np.cos(x / (23 + 5 * k)) for k in range(3)], axis=-1)
    noise = rng.normal(0, 4, (height, width, 3))
    return np.clip(150 + 30 * waves + noise, 0, 255).astype(np.uint8)


def halved(image):
    height, width = (side // 2 * 2 for side in image.shape[:2])
    cropped = image[:height, :width].astype(np.uint32)
    total = cropped[::2, ::2] + cropped[1::2, ::2] + cropped[::2, 1::2] + cropped[1::2, 1::2]
    return ((total + 2) // 4).astype(image.dtype)


@dataclass(frozen=True)
class Written:
    """A slide on disk: its path, and level 0 with NaN where there are no pixels."""

    path: Path
    truth: np.ndarray

    @property
    def gaps(self):
        return np.isnan(self.truth[..., 0])


def _frame(height, width, parts):
    truth = np.full((height, width, 3), np.nan)
    for top, left, image in parts:
        truth[top : top + image.shape[0], left : left + image.shape[1]] = image
    return truth


def write_scn(
    path,
    parts,
    frame,
    um=0.25,
    um_y=None,
    illumination="brightfield",
    unit=("CENTIMETER", 10000),
):
    """Write a Leica SCN: `parts` (top, left, image) scanned in a frame of (rows, columns)."""
    nm = round(um * 1000)
    height, width = frame
    macro = texture(80, 120, seed=99)
    levels = [[image, halved(halved(image))] for _, _, image in parts]
    images, ifd = [], 1
    for (top, left, image), pyramid in zip(parts, levels, strict=True):
        rows, columns = image.shape[:2]
        dimensions = "".join(
            f'<dimension sizeX="{small.shape[1]}" sizeY="{small.shape[0]}" ifd="{ifd + r}"/>'
            for r, small in enumerate(pyramid)
        )
        ifd += len(pyramid)
        view = (columns * nm, rows * nm, left * nm, top * nm)
        images.append(_scn_image(dimensions, view, illumination))
    whole = '<dimension sizeX="120" sizeY="80" r="0" ifd="0"/>'
    images.insert(0, _scn_image(whole, (width * nm, height * nm, 0, 0), "brightfield"))
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection name="c" sizeX="{width * nm}" sizeY="{height * nm}">'
        f"<barcode>MTIz</barcode>{''.join(images)}</collection></scn>"
    )
    options = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None}
    options["compression"] = "deflate"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(macro, description=xml, **options)
        for pyramid in levels:
            for level, small in enumerate(pyramid):
                per_unit = [unit[1] / side / 4**level for side in (um, um_y or um)]
                tiff.write(small, resolution=per_unit, resolutionunit=unit[0], **options)
    return Written(path, _frame(height, width, parts))


def _scn_image(dimensions, view, illumination):
    across, down, left, top = view
    return (
        f"<image><pixels>{dimensions}</pixels>"
        f'<view sizeX="{across}" sizeY="{down}" offsetX="{left}" offsetY="{top}" spacingZ="0"/>'
        "<scanSettings><objectiveSettings><objective>40</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.65</numericalAperture>"
        f"<illuminationSource>{illumination}</illuminationSource></illuminationSettings>"
        "</scanSettings></image>"
    )


def write_bif(path, areas, overlap=4, um=0.25, direction="RIGHT"):
    """Write a Ventana BIF: `areas` are (left, bottom, rows of tiles, columns of tiles).

    Positions (px) are those of the format: from the left, and up from below all areas.
    """
    step = TILE - overlap
    columns = sum(area[3] for area in areas)
    rows = max(area[2] for area in areas)
    sheet = np.zeros((rows * TILE, columns * TILE, 3), np.uint8)
    infos, origins, parts, start = [], [], [], 0
    heights = [(area[2] - 1) * step + TILE for area in areas]
    top_of_all = max(area[1] + height for area, height in zip(areas, heights, strict=True))
    for k, ((left, bottom, down, across), height) in enumerate(zip(areas, heights, strict=True)):
        image = texture(height, (across - 1) * step + TILE, seed=k)
        for row in range(down):
            for column in range(across):
                tile = image[row * step : row * step + TILE, column * step : column * step + TILE]
                corner = row * TILE, (start + column) * TILE
                sheet[corner[0] : corner[0] + TILE, corner[1] : corner[1] + TILE] = tile
        infos.append(_bif_area(left, bottom, down, across, overlap, direction))
        origins.append(f'<AOI{k} OriginX="{start * TILE}" OriginY="0"/>')
        # OpenSlide puts an area where its first tile would lie on one grid over the slide
        parts.append((top_of_all - bottom - height, left, image))
        start += across
    xml = (
        f"<EncodeInfo><SlideStitchInfo>{''.join(infos)}</SlideStitchInfo>"
        f"<AoiOrigin>{''.join(origins)}</AoiOrigin></EncodeInfo>"
    )
    scanner = f'<iScan Magnification="40" ScanRes="{um}" UnitNumber="1"/>'
    options = {"photometric": "rgb", "metadata": None, "compression": "deflate"}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            texture(90, 60, seed=98),
            description="Label Image",
            extratags=[_xmp(scanner)],
            **options,
        )
        tiff.write(
            sheet,
            tile=(TILE, TILE),
            description="level=0 mag=40 quality=90",
            extratags=[_xmp(xml)],
            **options,
        )
    bottom = max(top + image.shape[0] for top, _, image in parts)
    right = max(left + image.shape[1] for _, left, image in parts)
    return Written(path, _frame(bottom, right, parts))


def _bif_area(left, bottom, down, across, overlap, direction):
    joints = []

    def number(row, column):  # counted from the bottom row up, in zigzag
        up = down - 1 - row
        return up * across + (across - 1 - column if up % 2 else column) + 1

    for row in range(down):
        for column in range(across):
            if column + 1 < across:
                pair = number(row, column), number(row, column + 1)
                joints.append(_bif_joint(direction, *pair, overlap, 0))
            if row + 1 < down:
                pair = number(row + 1, column), number(row, column)
                joints.append(_bif_joint("UP", *pair, 0, overlap))
    return (
        f'<ImageInfo AOIScanned="1" Width="{TILE}" Height="{TILE}" NumRows="{down}" '
        f'NumCols="{across}" Pos-X="{left}" Pos-Y="{bottom}">{"".join(joints)}</ImageInfo>'
    )


def _bif_joint(direction, first, second, x, y):
    return (
        f'<TileJointInfo Direction="{direction}" Tile1="{first}" Tile2="{second}" '
        f'OverlapX="{x}" OverlapY="{y}" Confidence="99"/>'
    )


def _xmp(text):
    data = text.encode() + b"\0"
    return 700, 1, len(data), data, True


def write_philips(path, image, empty=(), um=0.25, um_y=None):
    """Write a Philips TIFF of 3 levels; tiles `empty` (row, column) of level 0 hold no data."""
    pyramid = [image, halved(image), halved(halved(image))]
    spacings = [f'"{um_y * 2**k / 1000 if um_y else um * 2**k / 1000}" "{um * 2**k / 1000}"'
                for k in range(3)]  # fmt: skip
    label = io.BytesIO()
    Image.fromarray(texture(40, 30, seed=97)).save(label, "JPEG")
    representations = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f"{_philips('DICOM_PIXEL_SPACING', spacing)}{_philips('PIIM_NUMBER', k)}</DataObject>"
        for k, spacing in enumerate(spacings)
    )
    wsi = (
        f"{_philips('PIM_DP_IMAGE_TYPE', 'WSI')}{_philips('DICOM_PIXEL_SPACING', spacings[0])}"
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>'
        f"{representations}</Array></Attribute>"
    )
    labels = (
        f"{_philips('PIM_DP_IMAGE_TYPE', 'LABELIMAGE')}"
        f"{_philips('PIM_DP_IMAGE_DATA', base64.b64encode(label.getvalue()).decode())}"
    )
    xml = (
        '<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>'
        f'<DataObject ObjectType="DPScannedImage">{wsi}</DataObject>'
        f'<DataObject ObjectType="DPScannedImage">{labels}</DataObject>'
        "</Array></Attribute></DataObject>"
    )
    options = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None}
    options["compression"] = "deflate"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for k, small in enumerate(pyramid):
            padded = np.pad(small, [*((0, -side % TILE) for side in small.shape[:2]), (0, 0)])
            stored = padded if k else small  # coarser levels claim the size of whole tiles
            tiff.write(
                stored,
                subfiletype=int(k > 0),
                description=xml if k == 0 else None,
                software="Philips DP v1.0" if k == 0 else False,
                **options,
            )
    truth = image.astype(float)
    columns = -(-image.shape[1] // TILE)
    drop_tiles(path, [row * columns + column for row, column in empty])
    for row, column in empty:
        truth[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = np.nan
    return Written(path, truth)


def _philips(name, value):
    return f'<Attribute Name="{name}">{value}</Attribute>'


def drop_tiles(path, tiles, page=0):
    """Leave tiles of a page without data, as sparse files do."""
    if not tiles:
        return
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("TileByteCounts", "TileOffsets"):
            tag = tiff.pages[page].tags[name]
            tag.overwrite([0 if k in tiles else value for k, value in enumerate(tag.value)])


def write_mrxs(path, images, grid, size=(48, 64), um=0.25, um_y=None, overlap=(0, 0), levels=3):
    """Write a 3DHISTECH slide: `images` {(row, column): picture of `size`} on a `grid` of them.

    The rest of the grid was not scanned. Coarser levels are joined from 2 x 2 images of the
    finer one, as the scanner does.
    """
    rows, columns = grid
    (height, width), identity = size, "0123456789ABCDEF"
    folder = path.with_suffix("")
    folder.mkdir()
    data, pages, pyramid = bytearray(b"data"), [], dict(images)
    for level in range(levels):
        step, page = 2**level, []
        for (row, column), image in sorted(pyramid.items()):
            png = _png(image)
            page.append((row * step * columns + column * step, len(data), len(png), 0))
            data += png
        pages.append(page)
        pyramid = _joined(pyramid, size)
    records = []
    for k, image in enumerate((texture(50, 70, seed=96), texture(30, 20, seed=95))):
        jpeg = io.BytesIO()
        Image.fromarray(image).save(jpeg, "JPEG", quality=95)
        records.append((len(data), len(jpeg.getvalue()), 0))
        data += jpeg.getvalue()
        assert k < 2
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_mrxs_index(identity, pages, records))
    (folder / "Slidedat.ini").write_text(
        _slidedat(identity, grid, size, (um_y or um, um), overlap, levels), encoding="utf-8-sig"
    )
    Image.fromarray(texture(20, 20)).save(path, "JPEG")
    down, across = height - overlap[0], width - overlap[1]
    truth = _frame(
        rows * height - (rows - 1) * overlap[0],
        columns * width - (columns - 1) * overlap[1],
        [(row * down, column * across, image) for (row, column), image in images.items()],
    )
    return Written(path, truth)


def _joined(pyramid, size):
    coarser = {}
    for (row, column), image in pyramid.items():
        canvas = coarser.setdefault((row // 2, column // 2), np.zeros((*size, 3), np.uint8))
        small = halved(image)
        top, left = row % 2 * small.shape[0], column % 2 * small.shape[1]
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return coarser


def _png(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _mrxs_index(identity, pages, records):
    head = b"01.02" + identity.encode()
    body = bytearray(head + bytes(8))

    def put(*numbers):
        at = len(body)
        body.extend(struct.pack(f"<{len(numbers)}i", *numbers))
        return at

    entries = []
    for page in pages:
        numbers = [number for entry in page for number in entry]
        entries.append(put(0, put(len(page), 0, *numbers)))
    hierarchy = put(*entries)
    others = [put(0, put(1, 0, 0, 0, *record)) for record in records]
    struct.pack_into("<2i", body, len(head), hierarchy, put(*others))
    return bytes(body)


def _slidedat(identity, grid, size, um, overlap, levels):
    lines = [
        "[GENERAL]",
        f"SLIDE_ID={identity}",
        f"IMAGENUMBER_X={grid[1]}",
        f"IMAGENUMBER_Y={grid[0]}",
        "OBJECTIVE_MAGNIFICATION=40",
        "CameraImageDivisionsPerSide=1",
        "[HIERARCHICAL]",
        "INDEXFILE=Index.dat",
        "HIER_COUNT=1",
        "HIER_0_NAME=Slide zoom level",
        f"HIER_0_COUNT={levels}",
        *(f"HIER_0_VAL_{k}_SECTION=LAYER_{k}" for k in range(levels)),
        "NONHIER_COUNT=1",
        "NONHIER_0_NAME=Scan data layer",
        "NONHIER_0_COUNT=2",
        "NONHIER_0_VAL_0=ScanDataLayer_SlideThumbnail",
        "NONHIER_0_VAL_0_SECTION=MACRO",
        "NONHIER_0_VAL_1=ScanDataLayer_SlideBarcode",
        "NONHIER_0_VAL_1_SECTION=LABEL",
        "[MACRO]",
        "THUMBNAIL_IMAGE_TYPE=JPEG",
        "[LABEL]",
        "BARCODE_IMAGE_TYPE=JPEG",
        "[DATAFILE]",
        "FILE_COUNT=1",
        "FILE_0=Data0000.dat",
    ]
    for k in range(levels):
        lines += [
            f"[LAYER_{k}]",
            f"IMAGE_CONCAT_FACTOR={min(k, 1)}",
            f"OVERLAP_X={overlap[1] / 2**k}",
            f"OVERLAP_Y={overlap[0] / 2**k}",
            f"MICROMETER_PER_PIXEL_X={um[1] * 2**k}",
            f"MICROMETER_PER_PIXEL_Y={um[0] * 2**k}",
            "IMAGE_FILL_COLOR_BGR=16777215",
            "IMAGE_FORMAT=PNG",
            f"DIGITIZER_WIDTH={size[1]}",
            f"DIGITIZER_HEIGHT={size[0]}",
        ]
    return "\n".join(lines) + "\n"


def write_vms(path, height=128, width=256, um=0.25, um_y=None):
    """Write a Hamamatsu VMS of one JPEG with restart markers; the truth is what Pillow decodes."""
    image = path.with_suffix(".jpg")
    options = {"quality": 92, "subsampling": 0, "restart_marker_blocks": 8}
    Image.fromarray(texture(height, width)).save(image, "JPEG", **options)
    small = halved(halved(texture(height, width)))
    Image.fromarray(small).save(path.with_suffix(".map.jpg"), "JPEG", **options)
    Image.fromarray(texture(30, 60, seed=94)).save(path.with_suffix(".macro.jpg"), "JPEG")
    path.write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\n"
        f"ImageFile={image.name}\nMapFile={path.stem}.map.jpg\nMacroImage={path.stem}.macro.jpg\n"
        f"SourceLens=40\nPhysicalWidth={round(width * um * 1000)}\n"
        f"PhysicalHeight={round(height * (um_y or um) * 1000)}\n"
    )
    with Image.open(image) as decoded:
        return Written(path, np.asarray(decoded).astype(float))
