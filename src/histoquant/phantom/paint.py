"""Stain maps of tissue: optical density of each stain on a fine grid of points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histoquant.phantom.appendages import within
from histoquant.phantom.extras import Extras
from histoquant.phantom.noise import Array, Mask
from histoquant.phantom.nucleus import Nucleus
from histoquant.phantom.scene import Scene

LINE_UM = 9.0
"""The collagen VII line is drawn this far from the junction; its OD is 0 beyond."""

_SQUASH = 1.5
"""Cells of the epidermis are wider than high: depths count this much more."""


@dataclass
class Stains:
    """OD of hematoxylin, DAB and melanin on a grid, each (h, w) float32."""

    hematoxylin: NDArray[np.float32]
    dab: NDArray[np.float32]
    melanin: NDArray[np.float32]


class Painter:
    """Paints any window of a scene; a pixel depends on its position only."""

    def __init__(self, scene: Scene) -> None:
        from scipy.spatial import KDTree

        self.scene = scene
        indices = [i for i, n in enumerate(scene.nuclei) if _in_epithelium(n)]
        cells = [scene.nuclei[i] for i in indices]
        self._indices = np.array(indices, np.int32)
        s, d = scene.section.frame.to_tissue(
            np.array([n.y for n in cells]), np.array([n.x for n in cells])
        )
        self._cells = KDTree(np.column_stack([s, _SQUASH * d])) if len(cells) > 1 else None
        self._centres = np.array([[n.y, n.x, n.reach + 8] for n in scene.nuclei]).reshape(-1, 3)
        self._shades = 1 + 0.16 * np.sin(np.arange(len(cells)) * 2.399963 * 7)

    def paint(self, y_um: Array, x_um: Array) -> Stains:
        """Return the stains at the crossings of ``y_um`` (h,) and ``x_um`` (w,)."""
        shape = (len(y_um), len(x_um))
        stains = Stains(*(np.zeros(shape, np.float32) for _ in range(3)))
        y, x = np.broadcast_arrays(y_um[:, None], x_um[None, :])
        s, d = self.scene.section.frame.to_tissue(y, x)
        section = self.scene.section
        left, right = section.ends(d)
        held = (s > left) & (s < right) & (d < section.lower(s))
        extras = self.scene.extras
        if extras is not None:
            held &= ~extras.lost(section, s, d)
        top, dej = section.top(s), section.junction(s)
        epidermis, dermis = held & (d >= top) & (d < dej), held & (d >= dej)
        corneum = held & (d < top) & (d >= section.outer(s))
        if not held.any():
            return stains
        spare = np.minimum(np.minimum(s - left, right - s), section.lower(s) - d)
        height = (dej - d) / (dej - top)
        if extras is not None:
            return self._dressed(
                stains, extras, (epidermis, dermis, corneum), (y, x), (s, d), spare, height
            )
        self._dermis(stains, dermis, s, d, d - dej, spare)
        self._vessels(stains, dermis, y, x)
        owner = self._epidermis(stains, epidermis, s, d, height)
        self._corneum(stains, corneum, s, d, (top - d) / section.corneum(s))
        for index in self._near(y_um, x_um):
            home = epidermis if _in_epithelium(self.scene.nuclei[index]) else dermis
            self._nucleus(stains, index, home, owner, y_um, x_um)
        # Last, so that its strength is known whatever cells lie beneath it.
        if self.scene.marker == "col7":
            self._line(stains, (epidermis | dermis) & (np.abs(d - dej) < 6 * LINE_UM), y, x)
        return stains

    def _dressed(
        self,
        stains: Stains,
        extras: Extras,
        layers: tuple[Mask, Mask, Mask],
        place: tuple[Array, Array],
        tissue: tuple[Array, Array],
        spare: Array,
        height: Array,
    ) -> Stains:
        """Paint skin with appendages, pigment and damage."""
        epidermis, dermis, corneum = layers
        (y, x), (s, d) = place, tissue
        section = self.scene.section
        dej, top = section.junction(s), section.top(s)
        outside, canal, number = within(extras.appendages, s, d)
        opens = np.array([a.opens for a in extras.appendages] + [False])[number]
        follicle = np.array([a.kind == "follicle" for a in extras.appendages] + [False])[number]
        adnexa = dermis & (outside < 0)
        plug = (adnexa & follicle & (canal < 0)) | (epidermis & opens & (canal < 0))
        lumen = adnexa & ~follicle & (canal < 0)
        dermis = dermis & ~adnexa
        cells = (epidermis | adnexa) & ~plug & ~lumen
        self._dermis(stains, dermis, s, d, d - dej, spare)
        self._vessels(stains, dermis, y, x)
        owner = self._epidermis(stains, cells, s, d, np.where(adnexa, 0.35, height))
        self._corneum(
            stains, corneum | plug, s, d, np.where(plug, 0.35, (top - d) / section.corneum(s))
        )
        stains.dab[corneum | plug] += np.float32(extras.corneum_dab) * np.clip(
            stains.hematoxylin[corneum | plug] / 0.05, 0, 1.5
        )
        for index in self._near(y[:, 0], x[0]):
            home = cells if _in_epithelium(self.scene.nuclei[index]) else dermis
            self._nucleus(stains, index, home, owner, y[:, 0], x[0])
        self._pigment(stains, extras, epidermis & cells, s, dej - d)
        self._melanophages(stains, extras, dermis, y, x)
        if self.scene.marker == "col7":
            junction = (epidermis | dermis) & (outside > 0) & ~extras.damage.is_missing(s)
            self._line(stains, junction & (np.abs(d - dej) < 6 * LINE_UM), y, x)
            self._lining(stains, (dermis | adnexa) & (np.abs(outside) < LINE_UM), outside, y, x)
        folded = extras.damage.folded(s, d)
        for stain in (stains.hematoxylin, stains.dab, stains.melanin):
            stain[folded] *= 1.9
        return stains

    def _pigment(self, stains: Stains, extras: Extras, mask: Mask, s: Array, above: Array) -> None:
        """Melanin of the epidermis, by its height above the junction."""
        stains.melanin[mask] += extras.pigment_at(s, above)[mask]

    def _melanophages(self, stains: Stains, extras: Extras, mask: Mask, y: Array, x: Array) -> None:
        for at_y, at_x, radius, od in extras.pigment:
            rows = np.flatnonzero(np.abs(y[:, 0] - at_y) < 2.5 * radius)
            columns = np.flatnonzero(np.abs(x[0] - at_x) < 2.5 * radius)
            if not len(rows) or not len(columns):
                continue
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            away = np.hypot(y[window] - at_y, x[window] - at_x) / radius
            grain = self.scene.fields.chromatin.at(y[window], x[window])
            grains = np.clip(1 + 0.6 * grain, 0, 2)
            stains.melanin[window] += (od * np.exp(-(away**4)) * grains * mask[window]).astype(
                np.float32
            )

    def _lining(self, stains: Stains, mask: Mask, outside: Array, y: Array, x: Array) -> None:
        """Collagen VII around an appendage: like the junction's, without gaps."""
        od = 0.9 * self.scene.recipe.col7_peak_od * np.exp2(-4 * ((outside[mask] - 0.3) / 2.4) ** 2)
        grain = self.scene.fields.grain.at(y[mask], x[mask])
        stains.dab[mask] += (od * np.clip(1 + 0.15 * grain, 0.4, 1.6)).astype(np.float32)

    def _near(self, y_um: Array, x_um: Array) -> list[int]:
        y, x, reach = self._centres.T
        near = (y > y_um[0] - reach) & (y < y_um[-1] + reach)
        near &= (x > x_um[0] - reach) & (x < x_um[-1] + reach)
        return [int(i) for i in np.flatnonzero(near)]

    def _dermis(
        self, stains: Stains, mask: Mask, s: Array, d: Array, below: Array, left: Array
    ) -> None:
        """Paint collagen: fine and felted under the junction, bundles with clear gaps deeper.

        ``below`` is the depth under the junction, ``left`` what is left to the cut edge.
        """
        fields, recipe = self.scene.fields, self.scene.recipe
        s, d, below, left = s[mask], d[mask], below[mask], left[mask]
        across, along, border = fields.weave(s, d)
        bundle = fields.bundle.at(across, along)
        fibril = fields.fibril.at(across, along)
        cloud = fields.cloud.at(d, s + 170.0)
        grain = fields.grain.at(d, s)
        cleft = _ramp(np.abs(bundle) + 0.10 * grain, 0.04, np.maximum(0.34 + 0.10 * cloud, 0.10))
        cleft *= _ramp(border + 0.03 * grain, 0.0, 0.10)
        reticular = (0.08 + 0.92 * cleft) * (1 + 0.26 * fibril + 0.16 * grain + 0.20 * cloud)
        loose = _ramp(np.abs(fibril + 0.8 * grain), 0.04, 0.45)
        papillary = (0.40 + 0.40 * loose) * (1 + 0.26 * fibril + 0.24 * grain + 0.18 * cloud)
        mix = _ramp(below + 18 * cloud, 30.0, 120.0)
        density = np.maximum(mix * reticular + (1 - mix) * papillary, 0.02)
        density *= _ramp(left + 2.5 * bundle + 2.0 * fibril, -1.0, 4.0)
        stains.hematoxylin[mask] = recipe.dermis_hematoxylin_od * recipe.stain_strength * density
        stains.dab[mask] = self.scene.scanner.background_dab * density

    def _vessels(self, stains: Stains, mask: Mask, y: Array, x: Array) -> None:
        for vessel in self.scene.vessels:
            reach = vessel.long + 4
            rows = np.flatnonzero(np.abs(y[:, 0] - vessel.y) < reach)
            columns = np.flatnonzero(np.abs(x[0] - vessel.x) < reach)
            if not len(rows) or not len(columns):
                continue
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            dy, dx = y[window] - vessel.y, x[window] - vessel.x
            cos, sin = np.cos(vessel.angle), np.sin(vessel.angle)
            u, v = cos * dx + sin * dy, cos * dy - sin * dx
            away = (np.hypot(u / vessel.long, v / vessel.short) - 1) * vessel.short
            lumen = _ramp(-away, -0.4, 0.4) * mask[window]
            wall = np.exp(-(((away - 1.0) / 0.9) ** 2)) * mask[window]
            for stain, level in ((stains.hematoxylin, 0.10), (stains.dab, 0.01)):
                stain[window] = stain[window] * (1 - 0.92 * lumen) + level * wall

    def _epidermis(
        self, stains: Stains, mask: Mask, s: Array, d: Array, height: Array
    ) -> NDArray[np.int32]:
        """Paint the cells of the epidermis; return which nucleus each pixel belongs to, or -1."""
        owner = np.full(mask.shape, -1, np.int32)
        if self._cells is None or not mask.any():
            return owner
        fields, recipe = self.scene.fields, self.scene.recipe
        s, d, height = s[mask], d[mask], height[mask]
        found, places = self._cells.query(np.column_stack([s, _SQUASH * d]), k=2)
        distance, cell = np.asarray(found), np.asarray(places, np.intp)[:, 0]
        border = np.exp(-(((distance[:, 1] - distance[:, 0]) / 1.3) ** 2))
        grain, cloud = fields.grain.at(d + 77.0, s), fields.cloud.at(d, s)
        granules = _ramp(height, 0.80, 0.92) * np.maximum(grain, 0)
        density = self._shades[cell] * (1 + 0.10 * grain + 0.08 * cloud)
        density *= (1 - 0.42 * border) * (1.18 - 0.25 * height) + 0.45 * granules
        stains.hematoxylin[mask] = recipe.epidermis_hematoxylin_od * recipe.stain_strength * density
        stains.dab[mask] = self.scene.scanner.background_dab * density
        owner[mask] = self._indices[cell]
        return owner

    def _corneum(self, stains: Stains, mask: Mask, s: Array, d: Array, height: Array) -> None:
        fields = self.scene.fields
        s, d, height = s[mask], d[mask], height[mask]
        cloud = fields.cloud.at(d, s + 41.0)
        lamella = fields.lamella.at(d + 5.0 * fields.cloud.at(d + 91.0, s / 1.5), s)
        split = 0.04 + 0.42 * np.clip(height + 0.22 * cloud, 0, 1) ** 1.3
        keratin = _ramp(np.abs(lamella), split, split + 0.30)
        flaked = _ramp(height + 0.20 * cloud + 0.10 * lamella, 0.88, 0.98)
        keratin = keratin * (1 - flaked) * (1 + 0.25 * lamella) * (1.2 - 0.35 * height)
        keratin = np.maximum(keratin, 0)
        stains.hematoxylin[mask] = 0.055 * self.scene.recipe.stain_strength * keratin
        stains.dab[mask] = (0.035 + 1.1 * self.scene.scanner.background_dab) * keratin

    def _line(self, stains: Stains, mask: Mask, y: Array, x: Array) -> None:
        points = np.column_stack([y[mask], x[mask]])
        distance, arc = self.scene.junction.at(points, LINE_UM)
        near = np.isfinite(distance)
        od = np.zeros(len(points), np.float32)
        # Precipitate is granular: the mean over a few um stays that of the profile.
        grain = self.scene.fields.grain.at(points[near, 0], points[near, 1])
        grains = np.clip(1 + 0.15 * grain, 0.4, 1.6)
        od[near] = grains * self.scene.profile.od(distance[near], arc[near])
        stains.dab[mask] += od

    def _nucleus(
        self,
        stains: Stains,
        index: int,
        where: Mask,
        owner: NDArray[np.int32],
        y: Array,
        x: Array,
    ) -> None:
        nucleus = self.scene.nuclei[index]
        rows = np.flatnonzero(np.abs(y - nucleus.y) < nucleus.reach + 8)
        columns = np.flatnonzero(np.abs(x - nucleus.x) < nucleus.reach + 8)
        if not len(rows) or not len(columns):
            return
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        keratinocyte = nucleus.compartment.startswith("epidermis")
        home = where[window]
        u, v = _own_axes(nucleus, y[window[0], None] - nucleus.y, x[None, window[1]] - nucleus.x)
        radius, away = _outline(nucleus, u, v)
        cover = _ramp(-away, -0.35, 0.35) * home
        hematoxylin, dab = self._inside(nucleus, u, v, radius)
        if nucleus.cytoplasm:
            spread = self._cytoplasm(nucleus, u, v, away)
            cell = (0.06 + 0.94 * (owner[window] == index)) if keratinocyte else 1.0
            stains.dab[window] += (nucleus.cytoplasm * spread * cell * home).astype(np.float32)
        for stain, level in ((stains.hematoxylin, hematoxylin), (stains.dab, dab)):
            stain[window] = stain[window] * (1 - cover) + level * cover
        if nucleus.melanin:
            cap = ((u - 0.75 * nucleus.long) / 2.1) ** 2 + (v / (1.05 * nucleus.short)) ** 2
            grains = np.clip(1 + 0.7 * self.scene.fields.chromatin.at(v + 60, u + 60), 0, 2)
            stains.melanin[window] += (nucleus.melanin * np.exp(-cap) * grains * home).astype(
                np.float32
            )

    def _cytoplasm(self, nucleus: Nucleus, u: Array, v: Array, away: Array) -> Array:
        """Return the relative strength of the marker in the cell's body: uneven, fading out."""
        grain = self.scene.fields.grain.at(v + nucleus.grain[1], u + nucleus.grain[0])
        if nucleus.compartment.startswith("epidermis"):
            fading = _ramp(-away, -6.5, -0.5)
        else:
            body = np.hypot(u / (1.7 * nucleus.long), v / (1.3 * nucleus.short + 0.5))
            fading = _ramp(-body, -1.0, -0.5)
        spread: Array = fading * np.clip(1 + 0.3 * grain, 0.2, 2)
        return spread

    def _inside(self, nucleus: Nucleus, u: Array, v: Array, radius: Array) -> tuple[Array, Array]:
        """Return hematoxylin and DAB inside a nucleus; each has exactly the wanted mean."""
        texture = self._chromatin(nucleus, u, v, radius)
        side = np.linspace(-1.05, 1.05, 43)
        gv, gu = np.meshgrid(side * nucleus.long, side * nucleus.long, indexing="ij")
        own_radius, own_away = _outline(nucleus, gu, gv)
        weight = own_away < 0
        own = self._chromatin(nucleus, gu, gv, own_radius)[weight]
        hematoxylin = nucleus.hematoxylin * texture / own.mean()
        granular = np.maximum(texture, 0.15)
        dab = nucleus.dab * granular / np.maximum(own, 0.15).mean()
        return hematoxylin, dab

    def _chromatin(self, nucleus: Nucleus, u: Array, v: Array, radius: Array) -> Array:
        strength = self.scene.recipe.chromatin
        grain = self.scene.fields.chromatin.at(v + nucleus.grain[0], u + nucleus.grain[1])
        rim = np.exp(-(((radius - 0.88) / 0.16) ** 2))
        return np.maximum(1 + strength * grain + 1.3 * strength * rim, 0.1)


def _in_epithelium(nucleus: Nucleus) -> bool:
    return nucleus.compartment.startswith("epidermis") or nucleus.compartment == "adnexa"


def _own_axes(nucleus: Nucleus, dy: Array, dx: Array) -> tuple[Array, Array]:
    """Return coordinates along and across a nucleus, straightened if it is bent."""
    cos, sin = np.cos(nucleus.angle), np.sin(nucleus.angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    # A shear: the area of the outline stays what it is.
    return u, v - nucleus.bend * (u**2 / nucleus.long - 0.25 * nucleus.long)


def _outline(nucleus: Nucleus, u: Array, v: Array) -> tuple[Array, Array]:
    """Return relative radius (1 on the outline) and distance from the outline in um."""
    p, q = u / nucleus.long, v / nucleus.short
    turn = np.arctan2(q, p)
    limit = np.ones_like(turn)
    for order in range(3):
        limit += nucleus.bumps[order] * np.cos((order + 2) * turn + nucleus.bumps[order + 3])
    plain = np.hypot(p, q)
    radius = plain / limit
    # Length of the gradient of the radius turns a relative excess into um.
    slope = np.hypot(p / nucleus.long, q / nucleus.short) / np.maximum(plain, 1e-6) / limit
    return radius, (radius - 1) / np.maximum(slope, 1e-6)


Values = NDArray[np.floating[Any]]


def _ramp(value: Values, low: float | Values, high: float | Values) -> Array:
    """Rise smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((value - low) / (high - low), 0, 1)
    smooth: Array = t * t * (3 - 2 * t)
    return smooth
