"""Accuracy on phantoms: measured against true, over seeds and presets, the worst case shown.

    python benchmarks/accuracy.py --seeds 20 --presets easy typical hard --workers 2

Every phantom is drawn at a random angle. Differences are measured minus true.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

FIGURES = {
    "p16": ("junction_median_um", "junction_p95_um", "dej_length_percent", "thickness_percent",
            "nuclei_percent", "positive_points"),
    "col7": ("junction_median_um", "junction_p95_um", "dej_length_percent", "thickness_percent",
             "continuity_points", "integrated_od_percent"),
}  # fmt: skip


def measure_phantom(job: tuple[str, str, int], folder: Path) -> dict[str, object]:
    """Draw one phantom, measure it, compare."""
    import histoquant as hq

    marker, preset, seed = job
    path = folder / f"{marker}_{preset}_{seed}.ome.tif"
    truth = hq.phantom.write_slide(path, marker, seed, preset, size_mm=(1.1, 0.9))
    result = hq.quantify(path, marker)
    path.unlink()
    return {"marker": marker, "preset": preset, "seed": seed} | compare(result, truth)


def compare(result, truth) -> dict[str, float]:
    """Differences of one slide, in the units their names say."""
    found, true = result.summary, truth.summary
    if not result.junction_line.stretches:
        return {"found": 0.0}
    line = truth.junction[["y_px", "x_px"]].to_numpy() * true["mpp"]
    away = np.abs(result.junction_line.depth_um(line))
    vertices = np.concatenate([s.points_um for s in result.junction_line.stretches])
    false = cKDTree(line).query(vertices)[0] > 15

    def percent(name: str, unit: float, true_name: str) -> float:
        return 100 * (found[name] * unit / true[true_name] - 1)

    differences = {
        "found": float((away < 15).mean()),
        "false": float(false.mean()),
        "junction_median_um": float(np.median(away)),
        "junction_p95_um": float(np.quantile(away, 0.95)),
        "dej_length_percent": percent("dej_length_mm", 1000, "dej_length_um"),
        "thickness_percent": percent(
            "epidermis_thickness_um_mean", 1, "epidermis_thickness_um_mean"
        ),
    }
    if result.marker == "p16":
        differences["nuclei_percent"] = percent("n_nuclei", 1, "n_nuclei")
        differences["positive_points"] = found["positive_percent"] - true["positive_percent"]
    else:
        differences["continuity_points"] = found["continuity_percent"] - true["continuity_percent"]
        differences["integrated_od_percent"] = percent(
            "integrated_od_um_mean", 1, "integrated_od_um_mean"
        )
    return differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--presets", nargs="+", default=["easy", "typical", "hard"])
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = [(m, p, s) for m in FIGURES for p in options.presets for s in seeds]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(partial(measure_phantom, folder=Path(folder)), jobs))
    table = pd.DataFrame(rows)
    pd.set_option("display.width", 200)
    for (marker, preset), group in table.groupby(["marker", "preset"], sort=False):
        columns = ["found", "false", *FIGURES[str(marker)]]
        print(f"\n{marker}, {preset}, {len(group)} seeds")
        worst = group.set_index("seed")[columns].abs().agg(["idxmax", "max"]).T
        worst.loc["found"] = [group.set_index("seed")["found"].idxmin(), group["found"].min()]
        summary = pd.DataFrame({"median": group[columns].median(), "worst": worst["max"],
                                "seed of the worst": worst["idxmax"]})  # fmt: skip
        print(summary.astype({"median": float, "worst": float}).round(2).to_string())


if __name__ == "__main__":
    main()
