"""Accuracy on phantoms: measured against true, over seeds and presets, the worst case shown.

    python benchmarks/accuracy.py --seeds 20 --presets easy typical hard --workers 2

Every phantom is drawn at a random angle. Differences are measured minus true. Length, thickness,
interdigitation, rete ridges and collagen VII are compared over the same stretch: what histoquant
leaves out at the cut edges is left out of the truth, too. The `whole_` figures are against all of
the truth. The true junction is rough on every scale, and its length grows with the finest one that
is counted: `smooth_length` is against the truth at the scale of the measure, smoothed by 2 um, a
pixel of the picture that compartments are found on.

The presets easy_skin, typical_skin and hard_skin add follicles, glands, pigment, infiltrate,
missing and detached epidermis, folds, tears and crumbs. What of their junction is hidden by a
fold, or detached, counts neither as found nor as missed; nor do stretches that are shorter than
the least that is measured.

    python benchmarks/accuracy.py --repeat --seeds 3

draws the same tissue at other angles and at 0.25 um/px instead: every figure in percent of the
first picture's; and without its collagen VII: how far the junction moves.
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
    "p16": ("nuclei_percent", "positive_points", "compartment_percent", "nuclei_found_percent"),
    "col7": (
        "continuity_points",
        "integrated_od_percent",
        "fwhm_um",
        "corrected_fwhm_um",
        "gaps_missed",
        "gaps_false",
        "gap_f1_lost",
    ),
}
BOTH = ("junction_median_um", "junction_p95_um", "length_percent", "smooth_length_percent",
        "thickness_percent",
        "interdigitation_percent", "ridges_percent", "whole_length_percent",
        "whole_thickness_percent", "whole_interdigitation_percent")  # fmt: skip
REPEATED = ("dej_length_mm", "epidermis_thickness_um_mean", "interdigitation_index",
            "ridges_per_mm", "epidermis_area_mm2", "n_nuclei", "positive_percent",
            "continuity_percent", "integrated_od_um_mean")  # fmt: skip
LEAST = {"found", "compartment_percent", "nuclei_found_percent"}  # the worst is the least
FALSE_UM = 15.0
SAME_UM = 4.0  # between centres of a true nucleus and the one found
GAP_UM = 20.0
SMOOTH_UM = 2.0
MEASURED = ("length_percent", "smooth_length_percent", "thickness_percent",
            "interdigitation_percent", "ridges_percent")  # fmt: skip
MIN_LENGTH_UM = 150.0  # the settings' junction.min_length_um


def measure_phantom(
    job: tuple[str, str, int], folder: Path, fluorescence: bool = False
) -> dict[str, object]:
    """Draw one phantom, measure it, compare."""
    import histoquant as hq
    from histoquant.phantom.fluorescence import write_fluorescence

    marker, preset, seed = job
    path = folder / f"{marker}_{preset}_{seed}.ome.tif"
    draw = write_fluorescence if fluorescence else hq.phantom.write_slide
    truth = draw(path, marker, seed, preset, size_mm=(1.1, 0.9))
    result = hq.quantify(path, marker)
    path.unlink()
    return {"marker": marker, "preset": preset, "seed": seed} | compare(result, truth)


def compare(result, truth) -> dict[str, float]:
    """Differences of one slide, in the units their names say."""
    found, true = result.summary, truth.summary
    if not result.junction_line.stretches:
        return {"found": 0.0}
    line = truth.junction[["y_px", "x_px"]].to_numpy() * true["mpp"]
    away = np.abs(result.junction_line.depth_um(line))[to_be_found(truth)]
    vertices = np.concatenate([s.points_um for s in result.junction_line.stretches])
    false = cKDTree(line).query(vertices)[0] > FALSE_UM

    def percent(name: str, unit: float, true_name: str) -> float:
        return 100 * (found[name] * unit / true[true_name] - 1)

    differences = {
        "found": float((away < FALSE_UM).mean()),
        "false": float(false.mean()),
        "junction_median_um": float(np.median(away)),
        "junction_p95_um": float(np.quantile(away, 0.95)),
        "whole_length_percent": percent("dej_length_mm", 1000, "dej_length_um"),
        "whole_thickness_percent": percent(
            "epidermis_thickness_um_mean", 1, "epidermis_thickness_um_mean"
        ),
        "whole_interdigitation_percent": percent(
            "interdigitation_index", 1, "interdigitation_index"
        ),
        **compare_measured(result, truth),
    }
    if result.marker == "p16":
        own = truth.nuclei[truth.nuclei["compartment"] != "adnexa"]  # which are left out
        differences["nuclei_percent"] = 100 * (found["n_nuclei"] / len(own) - 1)
        differences["positive_points"] = found["positive_percent"] - 100 * own["positive"].mean()
        differences |= compare_nuclei(result.nuclei, truth)
    else:
        differences |= compare_line(result, truth)
    return differences


def compare_nuclei(nuclei, truth) -> dict[str, float]:
    """True nuclei that were found (percent), and how many of those in the right compartment."""
    counted = nuclei[~nuclei["excluded"]]
    points = counted[["y_um", "x_um"]].to_numpy()
    true = truth.nuclei[["y_um", "x_um"]].to_numpy()
    away, nearest = cKDTree(true).query(points)
    back = cKDTree(points).query(true)[1]
    pairs = (away < SAME_UM) & (back[nearest] == np.arange(len(points)))
    there = truth.nuclei["compartment"].to_numpy()[nearest[pairs]]
    right = (there == counted["compartment"].to_numpy()[pairs]).mean()
    return {
        "compartment_percent": 100 * float(right),
        "nuclei_found_percent": 100 * float(pairs.sum()) / len(true),
    }


def compare_line(result, truth) -> dict[str, float]:
    """Collagen VII over the stretch that was measured, and its gaps of 20 um or more.

    A gap of 20 um or more is found, or true, when half of the longer of the two is common to it
    and to one on the other side, of whatever length: 19 um for 21 is no miss.
    """
    from histoquant.gaps import find_gaps

    junction, found, table = result.junction_line, result.summary, truth.junction
    line = table[["y_px", "x_px"]].to_numpy() * truth.summary["mpp"]
    kept = ~junction.excluded_at(line)
    arc, places = table["arc_um"].to_numpy(), cKDTree(line)
    own = table[kept]
    lost = own["in_gap"].to_numpy(bool)

    def on_truth(gap) -> tuple[float, float]:
        stretch = junction.stretches[gap.stretch]
        ends = [[np.interp(at, stretch.arc_um, stretch.points_um[:, k]) for k in (0, 1)]
                for at in (gap.start_um, gap.end_um)]  # fmt: skip
        return tuple(np.sort(arc[places.query(ends)[1]]))

    def in_measured(gap: tuple[float, float]) -> bool:
        return bool(kept[np.searchsorted(arc, np.mean(gap)) - 1])

    seen = [g for g in map(on_truth, find_gaps(result.junction, 0.0)) if in_measured(g)]
    real = [g for g in truth.gaps[["start_um", "end_um"]].to_numpy() if in_measured(g)]

    def unmatched(gaps, others) -> tuple[int, int]:
        long = [g for g in gaps if g[1] - g[0] >= GAP_UM]
        return sum(not any(_same(g, o) for o in others) for g in long), len(long)

    (missed, n_real), (false, n_seen) = unmatched(real, seen), unmatched(seen, real)
    hits = n_real - missed
    f1 = 2 * hits / (2 * hits + missed + false) if n_real or n_seen else 1.0
    return {
        "continuity_points": found["continuity_percent"] - 100 * (1 - lost.mean()),
        "integrated_od_percent": 100
        * (found["integrated_od_um_mean"] / own["integrated_od_um"].mean() - 1),
        "fwhm_um": found["fwhm_um_median"] - own.loc[~lost, "fwhm_um"].median(),
        "corrected_fwhm_um": found["fwhm_corrected_um_median"]
        - own.loc[~lost, "fwhm_um"].median(),
        "gaps_missed": missed,
        "gaps_false": false,
        "gap_f1_lost": 1 - f1,
        "gaps_hit": hits,
    }  # fmt: skip


def _same(a, b) -> bool:
    common = min(a[1], b[1]) - max(a[0], b[0])
    return common >= 0.5 * max(a[1] - a[0], b[1] - b[0])


def to_be_found(truth) -> np.ndarray:
    """Which vertices of the true junction can be found."""
    table = truth.junction
    if "stretch" not in table:
        return np.ones(len(table), bool)
    long = table.groupby("stretch")["arc_um"].transform(np.ptp) >= MIN_LENGTH_UM
    return ((table["hidden"] == "") & long).to_numpy()


def true_lines(truth) -> list[np.ndarray]:
    """The true junction, stretch by stretch, (n, 2) (y, x) in um."""
    table = truth.junction.assign(**{} if "stretch" in truth.junction else {"stretch": 0})
    lines = [group[["y_px", "x_px"]].to_numpy() * truth.summary["mpp"]
             for _, group in table.groupby("stretch")]  # fmt: skip
    return [line for line in lines if len(line) > 3]


def compare_measured(result, truth) -> dict[str, float]:
    """Percent off over the stretch that was measured."""
    from histoquant.junction import Stretch
    from histoquant.morphometry import ridge_heights
    from histoquant.polyline import smooth_course, smooth_line
    from histoquant.settings import Settings

    settings, junction = Settings().junction, result.junction_line
    lines, stretches, smooth_um = true_lines(truth), [], 0.0
    for line in lines:
        step = float(np.hypot(*np.diff(line, axis=0).T).mean())
        course = smooth_course(line, settings.chord_um / step)
        stretches.append(Stretch(line, junction.excluded_at(line), course))
        smooth = smooth_line(line, 1.0, SMOOTH_UM)
        if smooth is not None:
            smooth_um += length_of(smooth, ~junction.excluded_at(smooth))
    tree, surface, area = cKDTree(np.concatenate(lines)), 0.0, 0.0
    for ring in epidermis_rings(truth):
        far = tree.query(ring)[0] > 20
        surface += length_of(ring, far & ~junction.excluded_at(ring))
        area += measured_area(ring, junction)
    length = sum(s.measured_length_um for s in stretches)
    if not length or not surface:  # nothing of the truth was measured
        return dict.fromkeys(MEASURED, np.nan)
    true = {
        "length": length / 1e3,
        "smooth_length": smooth_um / 1e3,
        "thickness": area / surface,
        "interdigitation": length / surface,
        "ridges": sum(len(ridge_heights(s, settings)) for s in stretches) / surface * 1e3,
    }
    found = {
        "length": "measured_length_mm",
        "smooth_length": "measured_length_mm",
        "thickness": "epidermis_thickness_um_mean",
        "interdigitation": "interdigitation_index",
        "ridges": "ridges_per_mm",
    }
    return {f"{k}_percent": 100 * (result.summary[found[k]] / true[k] - 1) for k in true}


def epidermis_rings(truth) -> list[np.ndarray]:
    """Outlines of the true epidermis, (n, 2) (y, x) in um, a point every um."""
    rings = []
    for feature in truth.compartments["features"]:
        if feature["properties"]["classification"]["name"] == "epidermis":
            ring = np.array(feature["geometry"]["coordinates"][0])[:, ::-1] * truth.summary["mpp"]
            arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
            at = np.arange(0, arc[-1])
            rings.append(np.column_stack([np.interp(at, arc, ring[:, axis]) for axis in (0, 1)]))
    return rings


def length_of(line: np.ndarray, kept: np.ndarray) -> float:
    """Length of the segments of a line both ends of which are kept."""
    return float(np.hypot(*np.diff(line, axis=0).T)[kept[1:] & kept[:-1]].sum())


def measured_area(ring: np.ndarray, junction) -> float:
    """Area (um2) of the outline over junction that is measured, on a grid of 2 um."""
    import shapely

    low, high = ring.min(axis=0), ring.max(axis=0)
    grid = np.stack(np.mgrid[low[0] : high[0] : 2, low[1] : high[1] : 2], axis=-1).reshape(-1, 2)
    inside = grid[shapely.contains_xy(shapely.Polygon(ring), grid)]
    return 4.0 * float((~junction.excluded_at(inside)).sum())


def repeat_phantom(job: tuple[str, int], folder: Path) -> list[dict[str, object]]:
    """The same tissue at other angles and scales, and without its marker."""
    import histoquant as hq

    marker, seed = job
    ways = {"first": (31.0, 0.5), "turned": (158.0, 0.5), "0.25 um/px": (31.0, 0.25)}
    knobs = {"size_mm": (1.2, 1.2), "section_length_um": 850.0}
    path, rows, first = folder / f"repeat_{marker}_{seed}.ome.tif", [], None
    for name, (angle, mpp) in ways.items():
        hq.phantom.write_slide(path, marker, seed, mpp=mpp, angle_deg=angle, **knobs)
        result = hq.quantify(path, marker)
        first = first or result
        for figure in REPEATED:
            if name != "first" and figure in result.summary:
                off = 100 * (result.summary[figure] / first.summary[figure] - 1)
                rows.append({"marker": marker, "way": name, "figure": figure, "off": off})
    if marker == "col7":
        bare = {"col7_peak_od": 0.0, "col7_peak_floor_od": 0.0}
        hq.phantom.write_slide(path, marker, seed, angle_deg=31.0, **knobs, **bare)
        moved = hq.quantify(path, marker).junction_line
        points = np.concatenate([s.points_um for s in moved.stretches])
        off = float(np.median(np.abs(first.junction_line.depth_um(points))))
        rows.append({"marker": marker, "way": "without it", "figure": "moved_um", "off": off})
    path.unlink()
    return rows


def report_repeats(seeds: range, workers: int) -> None:
    jobs = [(marker, seed) for marker in FIGURES for seed in seeds]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(workers) as pool:
        rows = sum(pool.map(partial(repeat_phantom, folder=Path(folder)), jobs), [])
    off = pd.DataFrame(rows).groupby(["marker", "way", "figure"], sort=False)["off"]
    print(off.agg(median="median", worst=lambda v: v[v.abs().idxmax()]).round(2).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--presets", nargs="+", default=["easy", "typical", "hard"])
    parser.add_argument("--markers", nargs="+", default=list(FIGURES), choices=list(FIGURES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fluorescence", action="store_true", help="16-bit fluorescence instead")
    parser.add_argument("--repeat", action="store_true")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    if options.repeat:
        report_repeats(seeds, options.workers)
        return
    jobs = [(m, p, s) for m in options.markers for p in options.presets for s in seeds]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(options.workers) as pool:
        measure = partial(measure_phantom, folder=Path(folder), fluorescence=options.fluorescence)
        rows = list(pool.map(measure, jobs))
    table = pd.DataFrame(rows)
    pd.set_option("display.width", 200)
    for (marker, preset), group in table.groupby(["marker", "preset"], sort=False):
        columns = ["found", "false", *BOTH, *FIGURES[str(marker)]]
        print(f"\n{marker}, {preset}, {len(group)} seeds")
        worst = group.set_index("seed")[columns].abs().agg(["idxmax", "max"]).T
        for name in LEAST.intersection(columns):
            worst.loc[name] = [group.set_index("seed")[name].idxmin(), group[name].min()]
        summary = pd.DataFrame({"median": group[columns].median(), "worst": worst["max"],
                                "seed of the worst": worst["idxmax"]})  # fmt: skip
        print(summary.astype({"median": float, "worst": float}).round(2).to_string())
        if marker == "col7":
            hits, wrong = group["gaps_hit"].sum(), group[["gaps_missed", "gaps_false"]].sum().sum()
            print(
                f"gaps of {GAP_UM:g} um or more, all seeds: F1 {2 * hits / (2 * hits + wrong):.3f}"
            )


if __name__ == "__main__":
    main()
