"""Real skin as a slide of ours would show it: the hematoxylin of an H&E slide, drawn as H-DAB."""

import numpy as np
import pytest
import tifffile

import histoquant as hq
from helpers import REAL
from histoquant.anatomy import ADNEXA, EPIDERMIS, STRATUM_CORNEUM

MPP = 0.499
WHITE = np.array([242.0, 241.0, 242.0])
# Of CMU-1, by principal components: what its two stains look like.
HEMATOXYLIN, EOSIN = np.array([0.789, 0.526, 0.318]), np.array([0.130, 0.861, 0.492])
H_OF_HDAB, DAB = np.array([0.650, 0.704, 0.286]), np.array([0.268, 0.570, 0.776])


def redrawn(path, strength):
    """Eosin becomes a trace of both stains, as the haze of a section is."""
    density = -np.log10(np.maximum(tifffile.imread(REAL / "CMU-1-Small-Region.svs"), 1) / WHITE)
    vectors = np.stack([HEMATOXYLIN, EOSIN, np.cross(HEMATOXYLIN, EOSIN)])
    blue, pink, _ = np.moveaxis(density @ np.linalg.inv(vectors), -1, 0)
    haze = 0.14 * np.maximum(pink, -0.02)[..., None] * (DAB + H_OF_HDAB)
    od = strength * (np.maximum(blue, -0.02)[..., None] * H_OF_HDAB + haze)
    noise = np.random.default_rng(0).normal(0, 1, od.shape)
    rgb = np.clip(WHITE * 10**-od + noise, 0, 255).astype(np.uint8)
    tifffile.imwrite(path, rgb, tile=(256, 256), compression="jpeg", photometric="rgb",
                     compressionargs={"level": 88}, resolution=(1e4 / MPP, 1e4 / MPP),
                     resolutionunit="CENTIMETER")  # fmt: skip
    return path


@pytest.fixture(scope="module", params=[0.35, 0.7], ids=["weak", "usual"])
def result(request, tmp_path_factory):
    path = redrawn(tmp_path_factory.mktemp("hdab") / "skin.tif", request.param)
    return hq.quantify(path, "p16")


def share(result, code, top_um, left_um, bottom_um, right_um):
    """Of a box, what has a compartment's code."""
    mpp = result.compartments.mpp
    rows, columns = (
        slice(int(top_um / mpp), int(bottom_um / mpp)),
        slice(int(left_um / mpp), int(right_um / mpp)),
    )
    return (result.compartments.labels[rows, columns] == code).mean()


def test_keratin_in_the_mouth_of_the_follicle_is_corneum(result):
    assert share(result, STRATUM_CORNEUM, 660, 660, 800, 740) > 0.9


def test_the_depth_of_the_follicle_is_left_out(result):
    assert share(result, ADNEXA, 1050, 580, 1150, 650) > 0.9


def test_the_junction_runs_along_the_left_of_the_epithelium_only(result):
    """Seen by eye: points (y, x) in um where epithelium borders on dermis."""
    seen = np.array([[395.0, 569.0], [511.0, 541.0], [650.0, 577.0]])
    assert np.abs(result.junction_line.depth_um(seen)).max() < 12
    assert share(result, EPIDERMIS, 480, 570, 640, 600) > 0.8
    assert result.summary["dej_length_mm"] < 2.3
