"""Follicles that open on the skin: epithelium that hangs together with epidermis and is none.

By shape alone: canals with keratin in them lead into the depth, and what has none reaches far
deeper than rete ridges do. Depth is taken from the open skin, which a cut edge is not.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from histoquant.tissue import distance_um
from histoquant.windowed import window_around

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LOOK_THROUGH_UM = 300.0  # epithelium thicker than this is no epidermis to look through
_MOUTH_UM = 60.0  # half the width of the widest opening of a follicle
_BASE_SHARE = 0.6  # of the junction lies above it; follicles make up less than the rest
_SUNKEN_RATIO, _LEAST_SUNKEN_UM = 1.9, 160.0  # rete ridges reach less deep
_SMALL_SUNKEN_UM2, _SMALL_SUNKEN_RATIO = 6000.0, 1.08
_SUNKEN_SHAPE = 0.55  # depth over width of what is cut off, at least
_SUNKEN_HALF_UM = 100.0  # half the width of a follicle, at most
_SUNKEN_VIEW_UM = 250.0  # around the epidermis: the open surface, from a mouth's width off
CANAL_UM, _CANAL_DEPTH_UM, _WALL_UM = 40.0, 50.0, 30.0  # of a follicle: widest, least, thickest
_LEAN, _SIDE_UM = 1.2, 10.0  # way of a follicle per depth; half of what is left of a ridge
_LEAST_FULL = 0.2  # of a canal, with keratin
_LID_UM, _LONG_CANAL_UM = 24.0, 100.0  # epithelium drawn over a mouth; less deep are papillae


def find_canals(gaps: Mask, tissue: Mask, outside: Mask, mpp: float) -> Mask:
    """Narrow gaps in the epithelium that lead from outside into the depth: follicles that open.

    There is keratin in them, if not everywhere; cracks are empty.

    A papilla is as narrow, but has epidermis between it and the outside, thicker than what may be
    drawn over a mouth full of keratin.
    """
    count, numbers = cv2.connectedComponents(gaps.astype(np.uint8), connectivity=4)
    pieces = np.asarray(numbers, np.int64)
    depth = distance_um(outside, mpp)
    top, bottom = np.full(count, np.inf, np.float32), np.zeros(count, np.float32)
    np.minimum.at(top, pieces[gaps], depth[gaps])
    np.maximum.at(bottom, pieces[gaps], depth[gaps])
    opens = (top <= 1.5 * mpp) & (bottom >= _CANAL_DEPTH_UM)
    opens |= (top <= _LID_UM) & (bottom >= _LONG_CANAL_UM)
    area, full = (np.bincount(pieces[m], minlength=count) for m in (gaps, gaps & tissue))
    opens &= full >= _LEAST_FULL * area
    opens[0] = False
    return np.asarray(opens[pieces])


def find_sunken(
    surface: Mask, outside: Mask, cut: Mask, canals: Mask, dermis: Mask, mpp: float
) -> Mask:
    """Parts of the epidermis that reach far deeper than its rete ridges: follicles that open.

    Depth is taken from the skin surface: the mouth of a follicle, filled with keratin, is none,
    nor is glass that only dermis borders on, nor what is `cut`.
    Around `canals` it is their walls. Elsewhere a part is cut off at the level that most of the
    junction lies above, if it is deeper from there than wide: epithelium that is thick over a long
    way is no follicle. The walls of a follicle run downwards and have no say in that level.
    """
    sunken = np.zeros_like(surface)
    if surface.any():
        view = window_around(surface, round(_SUNKEN_VIEW_UM / mpp))
        sunken[view] = _sunken_in_view(
            surface[view], outside[view], cut[view], canals[view], dermis[view], mpp
        )
    return sunken


def _sunken_in_view(
    surface: Mask, outside: Mask, cut: Mask, canals: Mask, dermis: Mask, mpp: float
) -> Mask:
    depth = distance_um(_open_skin(surface, outside, dermis, mpp) & ~cut, mpp)
    away = distance_um(canals, mpp)
    walls = surface & (away <= _WALL_UM) & (away < depth)
    kept = surface & ~walls
    border = kept & (distance_um(dermis, mpp) <= 1.5 * mpp) & np.isfinite(depth)
    sunken = np.zeros_like(kept)
    while (border & ~sunken).any():
        # The border of what sinks is none of the skin's, and was counted with it.
        base = _level(depth, border & ~sunken, kept)
        found = _below_level(kept, depth, base, sunken, mpp)
        if not (found & ~sunken).any():
            break
        sunken |= found
    return walls | sunken


def _below_level(kept: Mask, depth: FloatArray, base: float, before: Mask, mpp: float) -> Mask:
    """Parts of the epidermis below a level (um) that are deeper, and deeper than wide.

    Once some have been found, `before`, only what goes on from them: the level falls with them, and
    thick epithelium far from the open skin would be next.
    """
    deepest = min(max(_LEAST_SUNKEN_UM, _SUNKEN_RATIO * base), LOOK_THROUGH_UM)
    below = kept & (depth > min(base, deepest)) & np.isfinite(depth)
    count, numbers = cv2.connectedComponents(below.astype(np.uint8), connectivity=4)
    pieces = np.asarray(numbers, np.int32)
    innermost = np.zeros(count, np.float32)
    np.maximum.at(innermost, np.asarray(pieces, np.int64)[below], depth[below])
    reach = np.maximum(innermost - min(base, deepest), 0)
    area = np.bincount(pieces.ravel(), minlength=count) * mpp**2
    # A ridge with a vessel against its tip is hardly deeper than ridges get, and small.
    enough = np.where(area < _SMALL_SUNKEN_UM2, _SMALL_SUNKEN_RATIO, 1.0) * deepest
    sinks = (innermost > enough) & (reach**2 >= _SUNKEN_SHAPE * area)
    sinks &= half_widths(below, pieces, count, mpp) <= _SUNKEN_HALF_UM
    if before.any():
        sinks &= np.bincount(pieces[before], minlength=count) > 0
    sinks[0] = False
    sunken = np.asarray(sinks[pieces])
    return sunken & ~_beside(kept & ~sunken, sunken, depth, deepest, mpp)


def _beside(kept: Mask, sunken: Mask, depth: FloatArray, deepest: float, mpp: float) -> Mask:
    """Rete ridges that grow together with a follicle: it goes down, they lie to its side."""
    away = distance_um(sunken & (depth > deepest), mpp)
    side = sunken & (away > _LEAN * (deepest - depth) + _SIDE_UM)
    _, numbers = cv2.connectedComponents((side | kept).astype(np.uint8), connectivity=4)
    return side & np.isin(numbers, np.unique(numbers[kept]))


def _open_skin(surface: Mask, outside: Mask, dermis: Mask, mpp: float) -> Mask:
    """The open skin surface, drawn on over mouths of follicles."""
    mouth = int(np.ceil(_MOUTH_UM / mpp)) + 1
    wide = np.pad(outside, mouth, mode="edge")  # glass at the picture's end may go on
    away = distance_um(distance_um(~wide, mpp) > _MOUTH_UM, mpp)[mouth:-mouth, mouth:-mouth]
    to_skin = distance_um(surface, mpp)
    own = (away <= _MOUTH_UM) & (to_skin <= _MOUTH_UM) & (to_skin <= distance_um(dermis, mpp))
    return np.asarray(own)


def _level(depth: FloatArray, border: Mask, surface: Mask) -> float:
    """The depth that `_BASE_SHARE` of the border lies above, as seen from the open surface."""
    known = np.where(np.isfinite(depth), depth, 0)
    down = np.gradient(cv2.GaussianBlur(known, (0, 0), 2.0))
    across = np.gradient(cv2.GaussianBlur(surface.astype(np.float32), (0, 0), 2.0))
    facing = np.abs(down[0] * across[0] + down[1] * across[1])
    weight = (facing / np.maximum(np.hypot(*down) * np.hypot(*across), 1e-6))[border]
    order = np.argsort(depth[border])
    share = np.cumsum(weight[order]) / max(float(weight.sum()), 1e-6)
    at = min(int(np.searchsorted(share, _BASE_SHARE)), len(order) - 1)
    return float(depth[border][order[at]])


def half_widths(
    mask: Mask, pieces: npt.NDArray[np.int32], count: int, mpp: float
) -> npt.NDArray[np.float32]:
    """Radius (um) of the largest disc within each of `count` numbered pieces of `mask`."""
    inner = distance_um(~np.pad(mask, 1, mode="edge"), mpp)[1:-1, 1:-1]
    widest = np.zeros(count, np.float32)
    np.maximum.at(widest, np.asarray(pieces, np.int64)[mask], inner[mask])
    return widest
