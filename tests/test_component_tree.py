"""The flood finds what thresholding at every level and choosing by hand finds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from histoquant.component_tree import ShapeRules, best_components
from histoquant.waists import split_at_waists

RULES = ShapeRules(
    min_area=6.0,
    max_area=150.0,
    max_extent=20.0,
    typical_area=30.0,
    edge_half=4.0,
    min_edge=0.5,
    min_contrast=1.0,
    fit_power=3,
    min_fit=0.6,
    min_score=0.05,
    min_seen=0.5,
)
FLAT = RULES._replace(min_contrast=0.0)


def picture(seed: int, shape: tuple[int, int] = (44, 38)) -> NDArray[np.uint8]:
    """Smooth hills, some of them touching."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.random(shape), (0, 0), rng.uniform(1.2, 2.5))
    return ((noise - noise.min()) / np.ptp(noise) * 90).astype(np.uint8)


def score(grey, inside, level, blocked) -> float:
    """What the rules say of one component, from its mask alone."""
    y, x = np.nonzero(inside)
    area = len(y)
    if not RULES.min_area <= area <= RULES.max_area:
        return 0.0
    edges = blind = steps = 0
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        for v, u in zip(y, x, strict=True):
            a, b = v + dy, u + dx
            outside = a < 0 or b < 0 or a >= grey.shape[0] or b >= grey.shape[1]
            if not outside and inside[a, b]:
                continue
            edges += 1
            if outside or blocked[a, b]:
                blind += 1
            else:
                steps += int(grey[v, u]) - int(grey[a, b])
    if edges - blind < RULES.min_seen * edges:
        return 0.0
    edge = steps / (edges - blind)
    contrast = grey[inside].astype(float).mean() - level
    if edge < RULES.min_edge or contrast < RULES.min_contrast:
        return 0.0
    spread = np.cov(np.vstack((y, x)), bias=True) + np.eye(2) / 12
    fit = min(area / (4 * np.pi * np.sqrt(max(np.linalg.det(spread), 1e-9))), 1)
    if fit < RULES.min_fit:
        return 0.0
    convex = min(2 * (np.ptp(y) + np.ptp(x) + 2) / edges, 1)
    size = min(area / RULES.typical_area, 1)
    return edge / (edge + RULES.edge_half) * fit**RULES.fit_power * convex * np.sqrt(size)


def by_hand(grey, eligible, blocked) -> set[frozenset[int]]:
    """Threshold at every level; from the darkest level down the best disjoint set."""

    def best(region, level) -> tuple[float, float, list[NDArray[np.bool_]]]:
        """Area, area * score and components of the best choice inside `region`."""
        inner = [0.0, 0.0, []]
        parts, count = ndimage.label(region & (grey > level))
        for k in range(1, count + 1):
            part = parts == k
            for i, value in enumerate(best(part, int(grey[part].min()))):
                inner[i] = inner[i] + value
        y, x = np.nonzero(region)
        rim = ndimage.binary_dilation(region) & ~region & ~blocked & ~eligible
        whole = not (rim & (grey >= level)).any()
        fits = len(y) <= RULES.max_area and max(np.ptp(y), np.ptp(x)) < RULES.max_extent
        s = score(grey, region, level, blocked) if whole and fits else 0.0
        if s >= RULES.min_score and s * inner[0] >= inner[1]:
            return len(y), len(y) * s, [region]
        return tuple(inner)

    chosen = []
    parts, count = ndimage.label(eligible & ~blocked)
    for k in range(1, count + 1):
        part = parts == k
        chosen += best(part, int(grey[part].min()))[2]
    return {frozenset(np.flatnonzero(mask).tolist()) for mask in chosen}


def as_sets(labels) -> set[frozenset[int]]:
    flat = labels.ravel()
    return {frozenset(np.flatnonzero(flat == k).tolist()) for k in np.unique(flat) if k}


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), floor=st.integers(0, 45), with_blocked=st.booleans())
def test_the_flood_chooses_what_thresholding_at_every_level_does(
    seed: int, floor: int, with_blocked: bool
) -> None:
    grey = picture(seed)
    blocked = np.zeros(grey.shape, np.bool_)
    if with_blocked:
        blocked = picture(seed + 1) > 65
    eligible = grey > floor
    found = as_sets(best_components(grey, eligible, blocked, RULES, False))
    assert found == by_hand(grey, eligible, blocked)


def test_hills_are_found_and_a_part_of_one_is_none() -> None:
    grey = np.zeros((30, 60), np.uint8)
    grey[10:18, 8:16] = 50
    grey[10:18, 40:48] = 50
    eligible = np.ones(grey.shape, np.bool_)
    nothing = np.zeros(grey.shape, np.bool_)
    assert len(as_sets(best_components(grey, eligible, nothing, FLAT, False))) == 2
    eligible[:, 44:] = False  # what is left of the right one is no component of its level
    found = as_sets(best_components(grey, eligible, nothing, FLAT, False))
    assert found == {frozenset(np.flatnonzero(grey * (np.arange(60) < 30)).tolist())}


def test_only_regions_beside_what_is_blocked_are_looked_at() -> None:
    grey = np.zeros((30, 60), np.uint8)
    grey[10:18, 8:16] = 50
    grey[10:18, 40:48] = 50
    blocked = np.zeros(grey.shape, np.bool_)
    blocked[8:20, 16:18] = True
    found = as_sets(best_components(grey, grey > 0, blocked, FLAT, True))
    assert found == {frozenset(np.flatnonzero(grey * (np.arange(60) < 30)).tolist())}


@pytest.mark.parametrize("turn", [0, 1])
def test_two_discs_that_touch_are_split_and_an_ellipse_is_not(turn: int) -> None:
    y, x = np.mgrid[:40, :70]
    labels = np.zeros((40, 70), np.int32)
    labels[np.hypot(y - 20, x - 12) < 7] = 3
    labels[np.hypot(y - 20, x - 25) < 7] = 3
    labels[np.hypot((y - 20) / 5, (x - 52) / 11) < 1] = 9
    labels = np.ascontiguousarray(np.rot90(labels, turn))
    core = ShapeRules(
        min_area=10.0, max_area=900.0, max_extent=60.0, typical_area=40.0, edge_half=0.0,
        min_edge=0.0, min_contrast=2.0, fit_power=8, min_fit=0.8, min_score=0.0, min_seen=0.0,
    )  # fmt: skip
    split = split_at_waists(labels, 0.95, 5.0, core, min_piece=20.0)
    assert (split > 0).tolist() == (labels > 0).tolist()
    sizes = sorted(np.unique(split[split > 0], return_counts=True)[1])
    assert len(sizes) == 3
    assert sizes[1] - sizes[0] < 12  # the two halves
    kept = split_at_waists(labels, 0.95, 5.0, core, min_piece=200.0)
    assert np.unique(kept).tolist() == [0, 9]  # pieces that are too small vanish
