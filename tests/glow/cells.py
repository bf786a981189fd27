"""Where nuclei lie, how large and bright they are, and which of them are positive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from glow.lines import even, normals
from glow.plan import Plan, Ring
from glow.raster import distance_to, look, scattered
from glow.rings import dermis_of
from glow.skin import NUCLEUS, Preset
from woven.grid import Grid
from woven.skin import Array, Mask, Table

KINDS = {
    "basal": ("epidermis", 1.15),
    "suprabasal": ("epidermis", 0.8),
    "adnexa": ("adnexa", 1.1),
    "fibroblast": ("dermis", 0.8),
    "endothelium": ("dermis", 0.9),
    "lymphocyte": ("dermis", 1.4),
}
"""The compartment of each kind of nucleus, and its mean light, relative."""


@dataclass(frozen=True)
class Row:
    """Nuclei side by side, `inward_um` from a line."""

    kind: str
    inward_um: float
    pitch_um: float
    axes_um: tuple[float, float]
    upright: bool = True


BASAL = Row("basal", 5.4, 6.6, (9.0, 5.4))
WALL = Row("adnexa", 5.2, 6.6, (8.8, 5.2))
TILE_UM = 16.0  # as much room as a nucleus takes: only the tiles around need be asked


class Crowd:
    """Nuclei placed so far; there is no room for one that would lie on another."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._rows: list[tuple[Any, ...]] = []
        self._taken: dict[tuple[int, int], list[tuple[float, float, float]]] = {}

    def _nearby(self, column: int, row: int) -> Iterator[tuple[float, float, float]]:
        for i in (column - 1, column, column + 1):
            for j in (row - 1, row, row + 1):
                yield from self._taken.get((i, j), ())

    def add(
        self,
        kind: str,
        centre: Array,
        room_um: float,
        axes_um: tuple[float, float],
        angle: float,
        light: float = 1.0,
    ) -> None:
        """Place a nucleus of about these diameters if its disc of room, a diameter too, is free."""
        x, y = (float(value) for value in centre)
        tile = int(x // TILE_UM), int(y // TILE_UM)
        for other_x, other_y, other in self._nearby(*tile):
            if (other_x - x) ** 2 + (other_y - y) ** 2 < ((room_um + other) / 2) ** 2:
                return
        self._taken.setdefault(tile, []).append((x, y, room_um))
        vary = self.rng.normal(0, 1, 4)
        long, short = axes_um[0] * np.exp(0.1 * vary[0]), axes_um[1] * np.exp(0.08 * vary[1])
        compartment, mean = KINDS[kind]
        light *= mean * np.exp(0.25 * vary[2])
        self._rows.append(
            (x, y, np.pi / 4 * long * short, compartment, kind, False, 0.0, long, short,
             angle + 0.15 * vary[3], light)
        )  # fmt: skip

    def add_row(self, line: Array, inside: Mask, row: Row) -> None:
        """Place nuclei along a line, on that side of it which is `inside`."""
        points, step_um = even(line, 0.5), 0.5
        normal, at_um = normals(points), 0.0
        while at_um / step_um < len(points):
            index = int(at_um / step_um)
            across = np.arctan2(normal[index, 1], normal[index, 0])
            for sign in (1, -1):
                inward = row.inward_um + self.rng.normal(0, 0.7)
                centre = points[index] + sign * normal[index] * inward
                if look(inside, centre):
                    angle = across + (0 if row.upright else np.pi / 2)
                    self.add(row.kind, centre, row.pitch_um * 0.84, row.axes_um, angle)
                    break
            at_um += row.pitch_um * self.rng.uniform(0.85, 1.2)

    def table(self) -> Table:
        """All that were placed."""
        return np.array(self._rows, NUCLEUS)


def all_nuclei(plan: Plan, preset: Preset, grid: Grid, rng: np.random.Generator) -> Table:
    """Fill a section with nuclei, in it and beyond the picture; none is positive yet."""
    crowd = Crowd(rng)
    tissue, epidermis = grid.mask(plan.tissue), grid.mask(plan.viable)
    for line in plan.junctions:
        crowd.add_row(line, epidermis, BASAL)
    _fill_epidermis(crowd, plan, grid, epidermis)
    for ring in plan.rings:
        within = grid.mask(ring.whole) & ~grid.mask(ring.lumen) & tissue
        if ring.kind == "vessel":
            flat = Row("endothelium", 2.0, rng.uniform(10, 16), (10.0, 3.2), upright=False)
            crowd.add_row(ring.outline, within, flat)
        else:
            _fill_adnexa(crowd, ring, grid, within)
    dermis = dermis_of(plan, grid)
    for cluster in _clusters(plan, preset, dermis, rng):
        _add_lymphocytes(crowd, cluster, dermis)
    wanted = int(dermis.sum() * grid.mpp**2 * 1e-6 * preset.fibroblasts_per_mm2)
    _add_fibroblasts(crowd, dermis, dermis & (distance_to(plan.junctions, grid) > 5), wanted)
    return crowd.table()


def _fill_epidermis(crowd: Crowd, plan: Plan, grid: Grid, epidermis: Mask) -> None:
    """Place what lies above the basal row: the higher, the flatter and dimmer."""
    up, down = distance_to(plan.junctions, grid), distance_to(plan.surface, grid)
    slope_x, slope_y = (np.gradient(down, axis=axis) for axis in (1, 0))
    room = epidermis & (up > 8) & (down > 5)
    for centre in scattered(room, int(epidermis.sum() * grid.mpp**2 / 12), crowd.rng):
        height = look(up, centre)
        share = height / (height + look(down, centre))
        flat = np.clip((share - 0.6) / 0.4, 0, 1)
        angle = np.arctan2(look(slope_y, centre), look(slope_x, centre))
        angle += np.pi / 2 if flat > 0.1 else 0
        angle += crowd.rng.normal(0, 0.5 * (1 - flat) + 0.1)
        apart = np.interp(height, [8, 25, 60], [8.0, 10.5, 12.5]) + 4 * flat
        axes = 8.8 + 2.2 * flat, 6.8 - 3.2 * flat
        crowd.add("suprabasal", centre, apart, axes, angle, 1 - 0.35 * share)


def _fill_adnexa(crowd: Crowd, ring: Ring, grid: Grid, within: Mask) -> None:
    """Place a row along the wall of a follicle or gland, and what lies further in."""
    for line in ring.membranes:
        crowd.add_row(line, within, WALL)
    inner = within & (distance_to([ring.outline], grid) > 7)
    for centre in scattered(inner, int(within.sum() * 0.3), crowd.rng):
        crowd.add("adnexa", centre, 8.5, (8.0, 6.2), crowd.rng.uniform(0, 3.14), 0.85)


@dataclass(frozen=True)
class Cluster:
    """Lymphocytes around a point, drawn out along a direction; um."""

    centre: Array
    spread_um: float
    along_um: Array


def _clusters(plan: Plan, preset: Preset, dermis: Mask, rng: np.random.Generator) -> list[Cluster]:
    """Choose clusters anywhere, and such as lie along the junction."""
    clusters = [
        Cluster(centre, rng.uniform(9, 22), rng.normal(0, 60, 2))
        for centre in scattered(dermis, preset.clusters, rng)
    ]
    for _ in range(preset.hugging):
        line = even(plan.junctions[rng.integers(len(plan.junctions))], 1.0)
        at, last = int(rng.integers(len(line))), len(line) - 1
        along = line[min(at + 60, last)] - line[max(at - 60, 0)]
        clusters.append(Cluster(line[at], rng.uniform(12, 18), along))
    return clusters


def _add_lymphocytes(crowd: Crowd, cluster: Cluster, dermis: Mask) -> None:
    rng, spread = crowd.rng, cluster.spread_um
    for _ in range(int(spread * rng.uniform(5, 12))):
        centre = cluster.centre + rng.normal(0, spread, 2) + cluster.along_um * rng.normal(0, 0.4)
        if look(dermis, centre):
            crowd.add("lymphocyte", centre, 5.6, (6.4, 5.6), rng.uniform(0, 3.14))


def _add_fibroblasts(crowd: Crowd, dermis: Mask, free: Mask, count: int) -> None:
    """Place spindles along a direction that turns slowly over the dermis."""
    rng, size = crowd.rng, dermis.shape[::-1]
    turn = cv2.resize(rng.normal(0, 0.7, (6, 7)), size, interpolation=cv2.INTER_CUBIC)
    turn = turn + rng.uniform(0, 3.14)
    for centre in scattered(free, count, rng):
        axes = rng.uniform(9, 16), rng.uniform(2.6, 4.2)
        angle = look(turn, centre) + rng.normal(0, 0.35)
        crowd.add("fibroblast", centre, 8.0, axes, angle)


def stained_p16(nuclei: Table, preset: Preset, rng: np.random.Generator) -> Table:
    """Choose positive nuclei; the marker in photo-electrons, a little of it in all others too."""
    dermal = nuclei["compartment"] == "dermis"
    rate = np.where(dermal, preset.positive_dermal, preset.positive_epithelial)
    rate[nuclei["kind"] == "basal"] = preset.positive_basal
    rate[nuclei["kind"] == "lymphocyte"] = 0.01
    stained = nuclei.copy()
    stained["positive"] = rng.random(len(nuclei)) < rate
    strong, weak = np.exp(rng.normal(0, 0.35, (2, len(nuclei))))
    weak = 0.08 * np.clip(weak, 0.3, 2.0)
    light = np.where(stained["positive"], np.clip(strong, 0.5, 2.5), weak)
    stained["marker"] = preset.marker_electrons * light
    return stained
