"""Nuclei against expert outlines: detection F1, positive F1, error of percent positive.

    python benchmarks/nuclei_fields.py DIRECTORY [--mpp 0.27] [--analysis 0.5]

DIRECTORY holds DeepLIIF-style panels (PNG): square images side by side, the first the bright-field
IHC, the last the truth (red: positive nucleus, blue: negative, green: outline). They are not
redistributable, so they do not come with histoquant. A detection is right when its centroid lies
in an annotated nucleus that no detection has taken yet; one setting for all images.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from histoquant.detection import least_contrast
from histoquant.nuclei import measure_nuclei, segment_nuclei
from histoquant.settings import Settings
from histoquant.stains import StainModel, measure_white, optical_density, unmix

# Headless QuPath 0.7.0 positive cell detection, "Optical density sum", other settings default.
QUPATH = {"Bladder1": (0.771, 0.581, 2.5), "Lung1": (0.809, 0.696, 0.9)}
MIN_TRUTH_PX = 30


def read_panels(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.bool_]]:
    """IHC, labels of the annotated nuclei, and which labels are positive (index 0 unused)."""
    rgb = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if rgb is None:
        raise SystemExit(f"{path} is not an image")
    panels = cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB)
    side = panels.shape[0]
    truth = panels[:, -side:]
    red = truth[..., 0] > 150
    blue = (truth[..., 2] > 150) & ~red
    labels = np.zeros(red.shape, np.int32)
    positive = [False]
    for mask, is_positive in ((red, True), (blue, False)):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=4
        )
        for k in range(1, count):
            if stats[k, cv2.CC_STAT_AREA] >= MIN_TRUTH_PX:
                labels[parts == k] = len(positive)
                positive.append(is_positive)
    return panels[:, :side], labels, np.array(positive)


def detect(
    rgb: NDArray[np.uint8], mpp: float, settings: Settings
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Centroids (n, 2) in pixels of `rgb` and which are positive, with default settings."""
    target = settings.nuclei.mpp
    factor = mpp / target
    height, width = (round(n * factor) for n in rgb.shape[:2])
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    white = measure_white(cv2.resize(rgb, None, fx=mpp, fy=mpp, interpolation=cv2.INTER_AREA))
    model = StainModel.preset("hdab", white.values)
    contrast = least_contrast([small], model, settings)
    nuclei = settings.nuclei.model_copy(update={"min_contrast_od": contrast})
    stains = unmix(optical_density(small, model.white), model)
    labels = segment_nuclei(stains, target, nuclei)
    found = measure_nuclei(labels, stains, target, nuclei)
    points = np.column_stack((found["y_px"], found["x_px"])) / factor
    return points, found["dab_od_mean"] >= settings.p16.thresholds_od[0]


def compare(
    points: NDArray[np.float64],
    positive: NDArray[np.bool_],
    truth: NDArray[np.int32],
    truly: NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Detection F1, positive F1, and error of percent positive in points."""
    index = np.clip(points.astype(int), 0, np.array(truth.shape) - 1)
    taken: set[int] = set()
    right = right_positive = 0
    for label, is_positive in zip(truth[index[:, 0], index[:, 1]], positive, strict=True):
        if label and label not in taken:
            taken.add(int(label))
            right += 1
            right_positive += bool(is_positive and truly[label])
    total, total_positive = len(truly) - 1, int(truly.sum())
    f1 = 2 * right / (total + len(points))
    f1_positive = 2 * right_positive / max(total_positive + int(positive.sum()), 1)
    error = 100 * (positive.mean() - total_positive / total) if len(points) else np.nan
    return f1, f1_positive, float(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--mpp", type=float, default=0.27, help="um/px of the images")
    parser.add_argument("--analysis", type=float, default=0.5, help="um/px of the analysis")
    arguments = parser.parse_args()
    settings = Settings().with_values([f"nuclei.mpp={arguments.analysis}"])
    print("image            F1     positive F1   percent-positive error   (QuPath 0.7.0)")
    for path in sorted(arguments.directory.glob("*.png")):
        rgb, truth, truly = read_panels(path)
        f1, f1_positive, error = compare(*detect(rgb, arguments.mpp, settings), truth, truly)
        print(
            f"{path.stem:14} {f1:6.3f} {f1_positive:11.3f} {error:+15.1f}"
            f"              {QUPATH.get(path.stem, '')}"
        )


if __name__ == "__main__":
    main()
