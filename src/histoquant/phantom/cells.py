"""Where the nuclei are, compartment by compartment, and how strongly they are stained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from histoquant.phantom.geometry import Section
from histoquant.phantom.noise import Array, Mask, stream
from histoquant.phantom.nucleus import Crowd, Nucleus, Vessel
from histoquant.phantom.recipe import PhantomRecipe
from histoquant.phantom.tissue import Fields, JunctionDistance

PAPILLARY_UM = 100.0
"""The papillary dermis reaches this far below the junction."""

EDGE_UM = 4.0
"""No nucleus has its centre nearer to a cut edge than this."""


class Placement:
    """Places the cells of one section, compartment after compartment."""

    def __init__(
        self,
        section: Section,
        recipe: PhantomRecipe,
        seed: int,
        fields: Fields,
        junction: JunctionDistance,
    ) -> None:
        self.section, self.recipe, self.seed = section, recipe, seed
        self.fields, self.junction = fields, junction
        self.crowd = Crowd()
        self.vessels: list[Vessel] = []

    def run(self) -> tuple[list[Nucleus], list[Vessel]]:
        """Return all nuclei, in a fixed order, and the vessels."""
        self._basal()
        self._suprabasal()
        self._vessels()
        self._fibroblasts()
        return self.crowd.nuclei, self.vessels

    def _inside(self, s: Array, d: Array) -> Mask:
        left, right = self.section.ends(d)
        inside: Mask = (
            (s > left + EDGE_UM)
            & (s < right - EDGE_UM)
            & (d > self.section.top(s) + 3.0)
            & (d < self.section.lower(s) - EDGE_UM)
        )
        return inside

    def _basal(self) -> None:
        rng = stream(self.seed, "basal")
        line, arc = self.junction.points, self.junction.arc
        position = rng.uniform(3, 6)
        while position < arc[-1] - 3:
            place = np.array([np.interp(position, arc, line[:, axis]) for axis in (0, 1)])
            ahead, behind = (
                np.array([np.interp(position + by, arc, line[:, axis]) for axis in (0, 1)])
                for by in (3.0, -3.0)
            )
            tangent = ahead - behind
            up = np.array([-tangent[1], tangent[0]]) / np.hypot(*tangent)
            long, short = rng.uniform(3.4, 4.6), rng.uniform(2.0, 2.8)
            centre = place + up * (long + rng.uniform(0.9, 2.4))
            angle = float(np.arctan2(up[0], up[1]) + rng.normal(0, 0.22))
            cell = Nucleus(float(centre[0]), float(centre[1]), long, short, angle, "basal")
            if self._allowed(cell, least=-16.0, most=-long - 0.5):
                self.crowd.add(cell, rng.choice([-0.5, 0.0, 0.3], p=[0.10, 0.40, 0.5]))
            position += rng.uniform(*self.recipe.basal_spacing_um)

    def _allowed(self, cell: Nucleus, least: float, most: float) -> bool:
        point = np.array([[cell.y, cell.x]])
        s, d = self.section.frame.to_tissue(point[:, 0], point[:, 1])
        if not self._inside(s, d)[0]:
            return False
        return bool(least <= self.junction.at(point)[0][0] <= most)

    def _candidates(
        self, rng: np.random.Generator, count: int, epidermis: bool
    ) -> tuple[Array, Array, Array, Array]:
        """Return slide points (n, 2), s, d and distance to the junction of random places."""
        section = self.section
        s = rng.uniform(-section.half_length_um - 12, section.half_length_um + 12, count)
        share = rng.uniform(0, 1, count)
        top, dej, low = section.top(s), section.junction(s), section.lower(s)
        d = top + share * (dej - top) if epidermis else dej + share * (low - dej)
        deepest = float((dej - top).max() if epidermis else (low - dej).max())
        keep = rng.uniform(0, deepest, count) < (dej - top if epidermis else low - dej)
        keep &= self._inside(s, d)
        s, d = s[keep], d[keep]
        points = np.column_stack(section.frame.to_slide(s, d))
        return points, s, d, self.junction.at(points)[0]

    def _direction(self, s: Array, d: Array, slope: Array) -> Array:
        """Return the angle on the slide of a direction dd/ds in the tissue."""
        ahead = self.section.frame.to_slide(s + 1, d + slope)
        behind = self.section.frame.to_slide(s - 1, d - slope)
        return np.arctan2(ahead[0] - behind[0], ahead[1] - behind[1])

    def _suprabasal(self) -> None:
        rng = stream(self.seed, "suprabasal")
        section = self.section
        area = 2 * section.half_length_um * 90
        points, s, d, distance = self._candidates(rng, int(area / 2.5), epidermis=True)
        top, dej = section.top(s), section.junction(s)
        height = (dej - d) / (dej - top)
        share = (dej - d) / (dej - top)
        rise = np.gradient(np.vstack([section.top(s + h) for h in (-4, 0, 4)]), 4, axis=0)[1]
        flat = self._direction(s, d, rise)
        for i in np.flatnonzero(distance < -10.5):
            layer = height[i]
            if rng.uniform() > 1.02 - 0.62 * share[i] ** 2:
                continue
            flattening = np.clip((layer - 0.45) / 0.45, 0, 1)
            long = rng.uniform(3.4, 4.7) * (1 + 0.1 * flattening)
            short = long * rng.uniform(0.76, 0.97) * (1 - 0.5 * flattening)
            turn = rng.normal(0, 0.9 - 0.75 * flattening)
            y, x = points[i]
            cell = Nucleus(float(y), float(x), long, short, float(flat[i] + turn), "suprabasal")
            gap = np.sqrt(self.recipe.suprabasal_area_um2) - 8.1 + rng.uniform(-1.2, 1.2)
            gap = -0.4 if rng.uniform() < 0.02 else gap * (1 + 0.5 * layer)
            if -distance[i] > 7.0 + short:
                self.crowd.add(cell, gap)

    def _vessels(self) -> None:
        rng = stream(self.seed, "vessels")
        section = self.section
        area = 2 * section.half_length_um * section.depth_um * 0.7 * 1e-6
        count = rng.poisson(self.recipe.vessels_per_mm2 * area)
        points, _, d, distance = self._candidates(rng, 60 * count + 60, epidermis=False)
        for i in np.flatnonzero(distance > 14):
            if len(self.vessels) >= count:
                break
            y, x = (float(value) for value in points[i])
            long, slim = rng.uniform(3.0, 9.5), rng.uniform(0.35, 0.8)
            if distance[i] < long + 8 or any(
                np.hypot(y - v.y, x - v.x) < long + v.long + 22 for v in self.vessels
            ):
                continue
            vessel = Vessel(y, x, long, max(1.8, long * slim), rng.uniform(0, np.pi))
            self.vessels.append(vessel)
            self._around(vessel, rng)

    def _around(self, vessel: Vessel, rng: np.random.Generator) -> None:
        cos, sin = np.cos(vessel.angle), np.sin(vessel.angle)
        for turn in rng.permutation(np.arange(6) * np.pi / 3)[: rng.integers(2, 5)]:
            turn = turn + rng.normal(0, 0.2)
            u, v = (vessel.long + 2.0) * np.cos(turn), (vessel.short + 2.0) * np.sin(turn)
            du, dv = -vessel.long * np.sin(turn), vessel.short * np.cos(turn)
            angle = np.arctan2(sin * du + cos * dv, cos * du - sin * dv)
            y, x = vessel.y + sin * u + cos * v, vessel.x + cos * u - sin * v
            long, short = rng.uniform(3.4, 5.0), rng.uniform(1.3, 1.9)
            cell = Nucleus(float(y), float(x), long, short, float(angle), "endothelial")
            if self._allowed(cell, long + 1, np.inf):
                self.crowd.add(cell, 0.2)
        for _ in range(rng.poisson(4.5 if vessel.long > 4.5 else 1.5)):
            away, turn = vessel.long + 5 + rng.exponential(7), rng.uniform(0, 2 * np.pi)
            y, x = vessel.y + away * np.sin(turn), vessel.x + away * np.cos(turn)
            long = rng.uniform(2.6, 3.4)
            short = long * rng.uniform(0.82, 1)
            cell = Nucleus(float(y), float(x), long, short, rng.uniform(0, 3), "lymphocyte")
            if self._allowed(cell, long + 1, np.inf) and not self._in_lumen(cell):
                self.crowd.add(cell, rng.uniform(-0.4, 2.0))

    def _in_lumen(self, cell: Nucleus) -> bool:
        return any(
            np.hypot(cell.y - v.y, cell.x - v.x) < v.long + cell.short + 1.5 for v in self.vessels
        )

    def _fibroblasts(self) -> None:
        rng = stream(self.seed, "fibroblasts")
        section, recipe = self.section, self.recipe
        area = 2 * section.half_length_um * section.depth_um
        points, s, d, distance = self._candidates(rng, int(area / 60), epidermis=False)
        angles = self._direction(s, d, self.fields.collagen_slope(s, d))
        # A candidate stands for its share of the area drawn from.
        drawn = (
            2
            * (section.half_length_um + 12)
            * float((section.lower(s) - section.junction(s)).max())
        )
        per_mm2 = int(area / 60) / drawn * 1e6
        wanted = np.where(
            distance < PAPILLARY_UM, recipe.papillary_per_mm2, recipe.reticular_per_mm2
        )
        for i in np.flatnonzero(rng.uniform(0, 1, len(s)) < 1.15 * wanted / per_mm2):
            papillary = distance[i] < PAPILLARY_UM
            long = rng.uniform(4.2, 6.6) if papillary else rng.uniform(5.0, 8.0)
            short = rng.uniform(1.2, 2.3) if papillary else rng.uniform(1.0, 1.7)
            y, x = points[i]
            angle = float(angles[i] + rng.normal(0, 0.45 if papillary else 0.2))
            cell = Nucleus(float(y), float(x), long, short, angle, "fibroblast")
            if distance[i] > (long + short) / 2 + 1.5 and not self._in_lumen(cell):
                self.crowd.add(cell, rng.uniform(0.3, 4.0))


def finish(
    nuclei: list[Nucleus], recipe: PhantomRecipe, seed: int, marker: str, junction: JunctionDistance
) -> list[Nucleus]:
    """Give every nucleus its compartment, outline, counterstain, melanin and marker."""
    rng = stream(seed, "stain")
    distance = junction.at(np.array([[n.y, n.x] for n in nuclei]))[0]
    low, high = recipe.hematoxylin_od
    done = []
    for nucleus, away in zip(nuclei, distance, strict=True):
        level = rng.beta(2.2, 2.2)
        od = {
            "lymphocyte": high * rng.uniform(0.95, 1.2),
            "basal": low + (high - low) * (0.15 + 0.85 * level),
        }.get(nucleus.kind, low + (high - low) * level * 0.9)
        if nucleus.kind != "basal" and rng.uniform() < 0.08:
            od *= 0.62  # Grazed by the section: less of its thickness lies in the slice.
        slender = nucleus.kind in ("fibroblast", "endothelial")
        sizes = rng.uniform(0, (0.10, 0.09, 0.05) if slender else (0.07, 0.06, 0.045))
        bumps = (*sizes, *rng.uniform(0, 2 * np.pi, 3))
        cap = rng.uniform(*recipe.melanin_od)
        pigmented = nucleus.kind == "basal" and rng.uniform() < recipe.melanin_fraction
        done.append(
            replace(
                nucleus,
                compartment=_compartment(nucleus.kind, away),
                dej_distance=float(away),
                hematoxylin=float(od * recipe.stain_strength),
                melanin=float(cap) if pigmented else 0.0,
                bumps=tuple(float(b) for b in bumps),
                bend=float(rng.normal(0, 0.09)) if slender else 0.0,
                grain=(float(rng.uniform(0, 256)), float(rng.uniform(0, 256))),
            )
        )
    return _with_marker(done, recipe, seed, marker)


def _compartment(kind: str, distance: float) -> str:
    if kind in ("basal", "suprabasal"):
        return f"epidermis_{kind}"
    if kind == "adnexal":
        return "adnexa"
    return "dermis_papillary" if distance <= PAPILLARY_UM else "dermis_reticular"


def _with_marker(
    nuclei: list[Nucleus], recipe: PhantomRecipe, seed: int, marker: str
) -> list[Nucleus]:
    rng = stream(seed, "marker")
    low, high = recipe.p16_negative_od if marker == "p16" else (0.0, recipe.background_dab_od[1])
    background = low + (high - low) * rng.beta(1.3, 3.2, len(nuclei))
    done = [replace(n, dab=float(od)) for n, od in zip(nuclei, background, strict=True)]
    if marker != "p16":
        return done
    shares = {
        "basal": recipe.p16_basal_fraction,
        "suprabasal": recipe.p16_suprabasal_fraction,
        "fibroblast": recipe.p16_dermal_fraction,
    }
    for kind, share in shares.items():
        members = [i for i, n in enumerate(done) if n.kind == kind]
        for i in rng.permutation(members)[: round(share * len(members))]:
            weak = rng.uniform() < recipe.p16_weak_share
            span = recipe.p16_weak_od if weak else recipe.p16_od
            od = span[0] + (span[1] - span[0]) * (rng.uniform() if weak else rng.beta(1.5, 1.7))
            ratio = rng.uniform(*recipe.p16_cytoplasm_ratio)
            done[i] = replace(done[i], dab=float(od), cytoplasm=float(od * ratio), positive=True)
    return done
