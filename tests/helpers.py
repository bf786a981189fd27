"""Skin drawn by formula, slides painted by formula, and the sample slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from scipy.spatial import cKDTree

import histoquant as hq
from histoquant.anatomy import DERMIS, EPIDERMIS, STRATUM_CORNEUM, Compartments
from histoquant.collagen7 import Straightened
from histoquant.junction import Junction, Stretch
from histoquant.morphometry import junction_bins
from histoquant.results import SlideResult
from histoquant.settings import Settings

Floats = npt.NDArray[np.float64]

SAMPLES = Path(__file__).parent.parent / "sample_slides"
REAL = SAMPLES / "real"

FWHM_SIGMAS = 2 * np.sqrt(2 * np.log(2))
DEPTH = np.arange(-15, 20.25, 0.5)
FOUND_UM = 15.0
MIN_LENGTH_UM = 150.0  # the settings' junction.min_length_um
SAME_NUCLEUS_UM = 4.0  # between the centres of a true nucleus and the one found
SAME_BIN_UM = 8.0  # between a row of a drawn line and a bin of 10 um


def on_two_cores(function: Callable[..., Any], jobs: list[tuple[Any, ...]]) -> list[Any]:
    """`function` of every job, in order; it must be importable from a test module."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(function, *zip(*jobs, strict=True)))


def every_2_um(lines: Sequence[Floats]) -> Floats:
    """Points (n, 2) along polylines."""
    paths = [shapely.LineString(line) for line in lines]
    steps = [np.arange(0, path.length, 2.0) for path in paths]
    points = [
        shapely.get_coordinates(shapely.line_interpolate_point(path, step))
        for path, step in zip(paths, steps, strict=True)
    ]
    return np.concatenate(points)


def away_from(
    junction: Junction, wanted: Sequence[Floats], drawn: Sequence[Floats]
) -> dict[str, float]:
    """How far a junction lies from polylines (y, x) in um that were drawn.

    `wanted` of them are to be found; whatever is near any of them is not false.
    """
    away = np.abs(junction.depth_um(every_2_um(wanted)))
    vertices = np.concatenate([s.points_um for s in junction.stretches])
    return {
        "median_um": float(np.median(away)),
        "p95_um": float(np.quantile(away, 0.95)),
        "found": float((away < FOUND_UM).mean()),
        "false": float((cKDTree(every_2_um(drawn)).query(vertices)[0] > FOUND_UM).mean()),
    }


def away_from_drawn(result: SlideResult, drawn: Any) -> dict[str, Any]:
    """How far a result is from what a generator drew; lengths as shares of the drawn ones.

    `drawn` has `junctions` and `surface`, polylines (x, y) in um, and the area `viable`.
    """
    if not result.junction_line.stretches:
        return {"reason": result.reasons}
    lines = [line[:, ::-1] for line in drawn.junctions]
    long = [line for line in lines if length(line) >= MIN_LENGTH_UM]
    surface_um = sum(map(length, drawn.surface))
    found = result.summary
    return away_from(result.junction_line, long, lines) | {
        "length": found["dej_length_mm"] * 1000 / sum(map(length, lines)) - 1,
        "thickness": found["epidermis_thickness_um_mean"] * surface_um / drawn.viable.area - 1,
    }


def nuclei_away_from_drawn(result: SlideResult, drawn: Any) -> dict[str, float]:
    """Share of drawn nuclei that were missed; their number, and how many are positive (points).

    `drawn.nuclei` is a table with x, y (um), compartment and positive; adnexa do not count.
    """
    found, nuclei = result.summary, drawn.nuclei[drawn.nuclei["compartment"] != "adnexa"]
    centres = cKDTree(result.nuclei[["x_um", "y_um"]].to_numpy())
    away, _ = centres.query(np.stack([nuclei["x"], nuclei["y"]], 1))
    return {
        "missed": float(np.mean(away > SAME_NUCLEUS_UM)),
        "nuclei": found["n_nuclei"] / len(nuclei) - 1,
        "positive": found["positive_percent"] - 100 * nuclei["positive"].mean(),
    }


def line_away_from_drawn(result: SlideResult, drawn: Any, across: str) -> dict[str, float]:
    """Continuity (points) and what adds up across the line, where both are measured.

    `drawn.line` are tables with x, y (um), present, and the integral in the column `across`.
    """
    found, line = result.summary, np.concatenate(drawn.line)
    used = result.junction[~result.junction["excluded"]]
    bins = cKDTree(used[["x_px", "y_px"]].to_numpy() * found["mpp"])
    line = line[bins.query(np.stack([line["x"], line["y"]], 1))[0] < SAME_BIN_UM]
    return {
        "continuity": found["continuity_percent"] - 100 * line["present"].mean(),
        "integral": found["integrated_od_um_mean"] / line[across].mean() - 1,
    }


@dataclass(frozen=True)
class DrawnCase:
    """A slide of another author's generator; `most` are looser limits than those of the rest."""

    preset: str
    marker: str
    seed: int
    most: dict[str, float] = field(default_factory=dict)


def measured_against(drawn: Any, path: Path, marker: str, across: str) -> dict[str, Any]:
    """Measure a slide that was written to `path`, and compare it with what was drawn."""
    result = hq.quantify(path, marker)
    got = away_from_drawn(result, drawn)
    if "reason" in got:
        return got
    if marker == "col7":
        return got | line_away_from_drawn(result, drawn, across)
    return got | nuclei_away_from_drawn(result, drawn)


def measure_drawn(
    cases: dict[str, DrawnCase],
    folder: Path,
    draw: Callable[..., Any],
    write: Callable[[Path, Any], None],
    across: str,
) -> dict[str, dict[str, Any]]:
    """Draw, measure and compare all cases of one generator, two at a time."""
    jobs = [(case, folder, draw, write, across) for case in cases.values()]
    return dict(zip(cases, on_two_cores(_measure_case, jobs), strict=True))


def _measure_case(
    case: DrawnCase,
    folder: Path,
    draw: Callable[..., Any],
    write: Callable[[Path, Any], None],
    across: str,
) -> dict[str, Any]:
    drawn = draw(case.preset, case.marker, case.seed)
    path = folder / f"{case.preset}_{case.marker}_{case.seed}.ome.tif"
    write(path, drawn)
    return measured_against(drawn, path, case.marker, across)


def assert_as_drawn(got: dict[str, Any], most: dict[str, float]) -> None:
    """Fail unless the junction was found, and each figure is as drawn but for its `most`.

    ``not_found`` is the most of its length that may be missing, 2 % unless given.
    """
    assert "reason" not in got, got
    assert got["found"] >= 1 - most.get("not_found", 0.02)
    rest = {figure: value for figure, value in got.items() if figure != "found"}
    off = {figure: value for figure, value in rest.items() if not abs(value) <= most[figure]}
    assert not off, off


def distance_to_line(points: Floats, line: Floats) -> Floats:
    """Distance of each of (n, 2) points to the nearest segment of a polyline, by brute force."""
    start, along = line[:-1], np.diff(line, axis=0)
    offset = points[:, None] - start
    t = np.clip((offset * along).sum(axis=2) / (along**2).sum(axis=1), 0, 1)
    return np.hypot(*np.moveaxis(offset - t[..., None] * along, -1, 0)).min(axis=1)


def length(line: Floats) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def sine(amplitude: float, wavelength: float) -> Callable[[Floats], Floats]:
    """Depth of a border (um, downwards) over the way along the skin (um)."""
    return lambda u: amplitude * np.sin(2 * np.pi * u / wavelength)


def junction_of(*lines: Floats, excluded: slice | None = None, **kwargs: Any) -> Junction:
    """A junction whose stretches are `lines`, each its own smooth course."""
    stretches = []
    for line in lines:
        flags = np.zeros(len(line), bool)
        if excluded is not None:
            flags[excluded] = True
        stretches.append(Stretch(line, flags, kwargs.get("course", line)))
    return Junction(tuple(stretches))


@dataclass(frozen=True)
class Skin:
    """A drawn section: corneum 15 um, epidermis, dermis, with glass around.

    ``u`` runs along the skin from -half to half its length, ``v`` downwards from the mean
    border; the frame is mirrored, then turned clockwise about the middle of the picture.
    """

    border: Callable[[Floats], Floats]
    length_um: float = 700.0
    plate_um: float = 60.0
    dermis_um: float = 200.0
    angle_deg: float = 0.0
    mirror: bool = False
    side_um: float = 1000.0
    mpp: float = 2.0

    @property
    def _turn(self) -> Floats:
        angle = np.deg2rad(self.angle_deg)
        flip = -1.0 if self.mirror else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        return np.array([[cos, sin * flip], [-sin, cos * flip]])  # (v, u) to (y, x)

    def place(self, v: Floats, u: Floats) -> Floats:
        """Points of the skin's frame in the picture, (n, 2), (y, x) in um."""
        return np.column_stack([v, u]) @ self._turn.T + self.side_um / 2

    @property
    def line(self) -> Floats:
        """The true border in the picture, as finely as it matters."""
        u = np.arange(-self.length_um / 2, self.length_um / 2 + 0.1, 0.25)
        return self.place(self.border(u), u)

    def draw(self) -> Compartments:
        """Label every pixel; the score is the signed distance to the epidermis' outline."""
        count = round(self.side_um / self.mpp)
        centre = (np.stack(np.mgrid[:count, :count], axis=-1) + 0.5) * self.mpp - self.side_um / 2
        v, u = np.moveaxis(centre @ self._turn, -1, 0)
        half = self.length_um / 2
        below = np.where(v > self.border(u), 1.0, -1.0)
        reach = np.arange(-half - 40, half + 40, 0.25)
        outline = cKDTree(np.column_stack([self.border(reach), reach]))
        depth = below * outline.query(np.stack([v, u], axis=-1))[0]
        inside = np.minimum.reduce([-depth, v + self.plate_um, half - np.abs(u)])
        within = (np.abs(u) < half) & (v < self.dermis_um)
        labels = np.zeros((count, count), np.uint8)
        labels[within & (depth >= 0)] = DERMIS
        labels[within & (v < -self.plate_um) & (v > -self.plate_um - 15)] = STRATUM_CORNEUM
        labels[inside > 0] = EPIDERMIS
        return Compartments(labels, self.mpp, np.clip(inside / 4, -1, 1).astype(np.float32))


class PaintedSlide:
    """What measuring reads of a slide, painted by a function of (y, x) in um."""

    def __init__(
        self, shape: tuple[int, int], mpp: float, paint: Callable[[Floats, Floats], Any]
    ) -> None:
        self.shape, self.mpp, self._paint = (*shape, 3), mpp, paint

    def read(self, mpp: float, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        rows, columns = np.mgrid[y : y + height, x : x + width]
        rgb = self._paint((rows + 0.5) * mpp, (columns + 0.5) * mpp)
        return np.broadcast_to(np.rint(rgb), (height, width, 3)).astype(np.uint8)


def straight_junction(length_um: float = 600.0, stretches: int = 1) -> Junction:
    """Lines 200 um apart, walked rightwards: dermis below."""
    x = np.arange(0, length_um + 1, 2.0)
    lines = [np.column_stack([np.full_like(x, 50 + 200 * k), x]) for k in range(stretches)]
    return junction_of(*lines)


def lined(
    peak_od: float = 0.5,
    fwhm_um: float = 2.5,
    centre_um: float = 0.0,
    background: float = 0.03,
    gaps: Sequence[tuple[float, float]] = (),
    length_um: float = 600.0,
) -> tuple[Straightened, pd.DataFrame]:
    """A straightened Gaussian line with gaps (start, end), and the bins of its junction."""
    arc = np.arange(0, length_um, 0.5)
    sigma = fwhm_um / FWHM_SIGMAS
    line = peak_od * np.exp(-(((DEPTH - centre_um) / sigma) ** 2) / 2)
    present = np.ones(len(arc))
    for start, end in gaps:
        present[(arc >= start) & (arc < end)] = 0
    od = present[:, None] * line + background
    shape = od.shape
    straightened = Straightened(
        od.astype(np.float32),
        np.full(shape, 0.1, np.float32),
        np.zeros(shape, bool),
        np.zeros(len(arc), np.int64),
        arc,
        DEPTH,
    )
    return straightened, junction_bins(straight_junction(length_um), 0.5, Settings())
