"""Any reader reads the PNG back, and its bytes do not tell how many threads packed it."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from histoquant.png import encode_png


@pytest.mark.parametrize("shape", [(1, 1), (256, 40), (257, 31), (700, 333)])
def test_pixels_come_back(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3)).astype(np.uint8)
    png = encode_png(pixels)
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "RGB"
        assert (np.asarray(image) == pixels).all()
    read = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert (read[..., ::-1] == pixels).all()
    assert encode_png(pixels, workers=3) == png


def test_even_areas_take_no_room() -> None:
    assert len(encode_png(np.full((1000, 1000, 3), 240, np.uint8))) < 30_000
