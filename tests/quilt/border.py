"""Where epithelium meets dermis: lines x, y in um, and how far each pixel is from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, label, map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from quilt.appendages import Appendages
from quilt.layout import Frame, Section
from quilt.raster import TEXTURE_UM
from quilt.skin import Array, Labels, Mask, Plane

WALK_STEP_UM = 0.15
APART_UM = 60.0  # between stretches on the walk, so that nothing runs on from one to the next
REACH_UM = 60.0  # further from the border, distances do not matter
SPARE_STEPS = 60  # of a table along the walk, beyond its end
FILLET_UM = 30.0  # how far off a corner its rounding begins
SHORTEST_UM = 25.0
SHORTEST_POINTS = 12


@dataclass(frozen=True)
class Walk:
    """All stretches of the border end to end: first those of the epidermis, then of adnexa.

    `points` is (n, 2), one every 0.15 um; `at_um` the way there; `stretch` its number.
    """

    points: Array
    at_um: Array
    stretch: Labels
    epidermal: int  # how many stretches are the epidermis'

    @property
    def table_um(self) -> Array:
        """Places along the walk for tables: one per pixel of a texture."""
        count = int(self.at_um[-1] / TEXTURE_UM) + SPARE_STEPS
        return (np.arange(count) + 0.5) * TEXTURE_UM

    def ends_um(self, stretch: int) -> tuple[float, float]:
        at_um = self.at_um[self.stretch == stretch]
        return float(at_um[0]), float(at_um[-1])

    @property
    def epidermal_ends_um(self) -> list[tuple[float, float]]:
        return [self.ends_um(stretch) for stretch in range(self.epidermal)]


@dataclass(frozen=True)
class Anatomy:
    """A section with its epithelium.

    Attributes
    ----------
    epidermis, adnexa
        Interfollicular epidermis with the corneum and all above, and adnexa with their lumens.
    epithelium
        Both, up to the top of the corneum.
    surface
        Lower bounds of the epidermis, left to right.
    depth_um
        Distance from the nearest border, positive in epithelium; at most 60.
    at_um, stretch
        Where on the walk that is, and on which stretch; the stretch is -1 far from any border.
    """

    section: Section
    appendages: Appendages
    epidermis: Mask
    adnexa: Mask
    epithelium: Mask
    surface: list[Array]
    walk: Walk
    depth_um: Plane
    at_um: Plane
    stretch: Labels

    @property
    def near(self) -> Mask:
        return self.stretch >= 0


def length_um(line: Array) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def smoothed(line: Array) -> Array:
    """Line without the steps that pixels leave."""
    return np.stack([gaussian_filter1d(line[:, k], 1.5, mode="nearest") for k in (0, 1)], axis=1)


def contours(field: Plane, keep: Mask, mpp: float) -> list[Array]:
    """Lines on which a field is 0, where they lie in `keep`."""
    lines = []
    for contour in find_contours(field, 0):
        points = (contour[:, ::-1] + 0.5) * mpp
        kept = map_coordinates(keep.astype(np.float32), contour.T, order=1) > 0.5
        labels, count = label(kept)
        parts = [points[labels == number + 1] for number in range(count)]
        closed = np.allclose(points[0], points[-1])
        if count > 1 and kept[0] and kept[-1] and closed:
            parts = [np.concatenate([parts[-1], parts[0]]), *parts[1:-1]]
        lines += [part for part in parts if len(part) > SHORTEST_POINTS]
    return lines


def top_of_epidermis(section: Section) -> list[Array]:
    """Lines between the cut ends at which the viable epidermis begins."""
    down = section.down_um
    # Far from it only the sign counts, so that nothing is interpolated from afar.
    field = np.where(np.abs(down) < 30, down, np.sign(down) * 30)
    return [smoothed(line) for line in contours(field, section.ends_um > 0, section.frame.mpp)]


def _ordered(lines: list[Array], frame: Frame) -> list[Array]:
    """Long enough lines, each of them and all of them from left to right along the skin."""
    lines = [line for line in lines if length_um(line) > SHORTEST_UM]
    rightward = [(frame.turn.T @ (line[-1] - line[0]))[0] > 0 for line in lines]
    lines = [line if right else line[::-1] for line, right in zip(lines, rightward, strict=True)]
    return sorted(lines, key=lambda line: (line @ frame.turn)[:, 0].min())


def _walk(epidermal: list[Array], adnexal: list[Array]) -> Walk:
    points, at_um, stretch = [], [], []
    start = 0.0
    for number, line in enumerate(epidermal + adnexal):
        corners = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        every = np.arange(0, corners[-1], WALK_STEP_UM)
        points.append(np.stack([np.interp(every, corners, line[:, k]) for k in (0, 1)], axis=1))
        at_um.append(every + start)
        stretch.append(np.full(len(every), number))
        start = at_um[-1][-1] + APART_UM
    return Walk(
        np.concatenate(points), np.concatenate(at_um), np.concatenate(stretch), len(epidermal)
    )


def _joined(section: Section, appendages: Appendages) -> Plane:
    """Distance to the border of all epithelium, rough; rounded where a follicle opens."""
    below = section.below_um
    joined = np.minimum(below, appendages.wall_um)
    wall = appendages.follicle_um
    if wall is None:
        return joined
    fillet = np.clip(FILLET_UM - np.abs(below - wall), 0, None) ** 2 / (4 * FILLET_UM)
    corner = (below > -FILLET_UM / 2) & (wall > -FILLET_UM / 2)
    return np.minimum(joined, np.minimum(below, wall) - np.where(corner, fillet, 0))


def _nearest(section: Section, appendages: Appendages, walk: Walk) -> tuple[Plane, Plane, Labels]:
    """Distance to the walk, way along it, and stretch, of each pixel near the border."""
    rough = np.minimum(np.abs(section.below_um), np.abs(appendages.wall_um))
    # These are no true distances: some more are asked for, lest any be missed.
    near = (rough < REACH_UM + 15) & (section.ends_um > -20)
    near &= section.down_um > -section.corneum_um
    x, y = section.frame.centres_um
    centres = np.stack([x[near], y[near]], axis=1)
    distance, index = cKDTree(walk.points).query(centres, distance_upper_bound=REACH_UM)
    found = np.isfinite(distance)
    pixels = tuple(axis[found] for axis in np.nonzero(near))
    depth, at_um = np.full(section.shape, REACH_UM, np.float32), np.zeros(section.shape, np.float32)
    stretch = np.full(section.shape, -1)
    depth[pixels], at_um[pixels] = distance[found], walk.at_um[index[found]]
    stretch[pixels] = walk.stretch[index[found]]
    return depth, at_um, stretch


def anatomy_of(section: Section, appendages: Appendages) -> Anatomy:
    """Join epidermis and appendages, and follow their borders."""
    mpp, below, inside = section.frame.mpp, section.below_um, section.tissue_um > 0
    joined = _joined(section, appendages)
    of_adnexa = appendages.wall_um < below
    adnexa = (joined < 0) & of_adnexa & (below > 0)
    field = np.clip(joined, -5, 5)  # far from 0 nothing is to be interpolated
    # 5 um down: the sides of the section are no lower bound where they meet the surface.
    bounds = contours(field, inside & (section.down_um > 5) & ~of_adnexa, mpp)
    surface = _ordered(bounds, section.frame)
    walk = _walk(surface, contours(field, inside & (below > 0) & of_adnexa, mpp))
    epithelium = (joined < 0) & (section.down_um > -section.corneum_um)
    depth, at_um, stretch = _nearest(section, appendages, walk)
    return Anatomy(
        section=section,
        appendages=appendages,
        epidermis=(joined < 0) & ~adnexa,
        adnexa=adnexa,
        epithelium=epithelium,
        surface=surface,
        walk=walk,
        depth_um=np.where(epithelium, depth, -depth),
        at_um=at_um,
        stretch=stretch,
    )
