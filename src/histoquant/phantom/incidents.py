"""What happens to skin besides its layers: how much of each, in one frozen recipe."""

from __future__ import annotations

from dataclasses import dataclass, fields

from histoquant.errors import SettingsError

Range = tuple[float, float]


@dataclass(frozen=True)
class Incidents:
    """Appendages, pigment, inflammation and damage of a section; the default is none of it.

    Pairs are ranges from which one value is drawn per section or per thing. Numbers per mm are
    per mm of section.
    """

    follicles_per_mm: float = 0.0
    """Hair follicles, with keratin in their canal and a collagen VII lining of their own."""
    open_share: float = 0.5
    """Share of the follicles that open onto the surface; the others lie in the dermis."""
    glands_per_mm: float = 0.0
    """Sweat glands: coils of tubules with a lumen, each with its lining."""
    melanophages_per_mm: float = 0.0
    """Pigmented cells in the papillary dermis."""
    basal_pigment_od: Range = (0.0, 0.0)
    """Melanin in the whole basal layer, in patches."""
    infiltrate_share: Range = (0.0, 0.0)
    """Share of the junction with lymphocytes right below it."""
    infiltrate_per_mm2: float = 5000.0
    """Lymphocytes per area of infiltrate."""
    missing_share: Range = (0.0, 0.0)
    """Share of the section without epidermis, in one stretch."""
    detached_share: Range = (0.0, 0.0)
    """Share of the section whose epidermis has come off the dermis, in one stretch."""
    cleft_um: Range = (12.0, 34.0)
    """Widest distance between detached epidermis and dermis."""
    folds_per_mm: float = 0.0
    """Folds across the section: double tissue."""
    tears_per_mm: float = 0.0
    """Tears from the lower edge into the dermis."""
    oblique_share: Range = (0.0, 0.0)
    """Share of the junction cut obliquely: its line is wider and paler."""
    oblique_factor: Range = (1.8, 3.0)
    """How much wider."""
    corneum_dab_od: Range = (0.0, 0.0)
    """DAB that the stratum corneum takes up."""
    ridge_factor: Range = (1.0, 1.0)
    """Factor on the height of all rete ridges of a section: flat when aged, deep when young."""
    crumbs_per_mm2: float = 0.0
    """Crumbs of tissue and keratin on the glass."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = min(value) if isinstance(value, tuple) else value
            if least < 0 or (isinstance(value, tuple) and value[0] > value[1]):
                raise SettingsError(f"incidents: {field.name} must rise from 0 or more: {value}")
            if field.name.endswith("share") and (
                max(value) if isinstance(value, tuple) else value
            ) > (1.0 if field.name == "open_share" else 0.6):
                raise SettingsError(f"incidents: {field.name} is too large a share: {value}")


FEW = Incidents(
    follicles_per_mm=0.6,
    glands_per_mm=0.8,
    ridge_factor=(0.5, 1.3),
    basal_pigment_od=(0.0, 0.05),
)
SOME = Incidents(
    follicles_per_mm=1.1,
    glands_per_mm=1.4,
    melanophages_per_mm=8.0,
    basal_pigment_od=(0.0, 0.14),
    infiltrate_share=(0.0, 0.25),
    missing_share=(0.0, 0.12),
    detached_share=(0.0, 0.10),
    folds_per_mm=0.25,
    tears_per_mm=0.8,
    oblique_share=(0.0, 0.15),
    corneum_dab_od=(0.0, 0.25),
    ridge_factor=(0.3, 1.5),
    crumbs_per_mm2=5.0,
)
MANY = Incidents(
    follicles_per_mm=1.8,
    glands_per_mm=2.2,
    melanophages_per_mm=20.0,
    basal_pigment_od=(0.05, 0.25),
    infiltrate_share=(0.1, 0.45),
    infiltrate_per_mm2=6500.0,
    missing_share=(0.0, 0.25),
    detached_share=(0.0, 0.22),
    folds_per_mm=0.6,
    tears_per_mm=1.6,
    oblique_share=(0.05, 0.3),
    corneum_dab_od=(0.0, 0.55),
    ridge_factor=(0.15, 1.7),
    crumbs_per_mm2=14.0,
)
