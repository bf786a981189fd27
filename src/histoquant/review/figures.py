"""The figures of a slide under review beside the automatic ones."""

from __future__ import annotations

from dataclasses import dataclass

from histoquant import tables
from histoquant.review.measuring import EditedSlide, Measured

_HIDDEN = {"mpp", "white_r", "white_g", "white_b", "n_edits", "damaged_tiles"}
_LIMITS = ("_low", "_high")


@dataclass(frozen=True)
class NumberRow:
    """One figure of the slide, now and as the program had it; None where missing."""

    name: str
    unit: str
    meaning: str
    value: float | None
    automatic: float | None
    reason: str = ""

    @property
    def delta(self) -> float | None:
        """Now less automatic; None where either is missing."""
        if self.value is None or self.automatic is None:
            return None
        return self.value - self.automatic


@dataclass(frozen=True)
class Numbers:
    """The slide's row.

    Attributes
    ----------
    rows
        Figures in the order of the tables, limits and traces left out.
    n_edits
        Edits that hold and change figures.
    pending
        Why figures wait for the slide's pixels; empty when none does.
    """

    rows: tuple[NumberRow, ...]
    n_edits: int
    pending: str = ""

    def __getitem__(self, name: str) -> NumberRow:
        """The figure called `name`."""
        return next(row for row in self.rows if row.name == name)

    @property
    def changed(self) -> tuple[NumberRow, ...]:
        """Figures that differ from the automatic ones."""
        return tuple(row for row in self.rows if row.value != row.automatic)


def numbers_of(slide: EditedSlide, measured: Measured) -> Numbers:
    """The row of an edited slide, with the automatic one."""
    automatic = slide.automatic.summary
    rows = tuple(
        NumberRow(
            c.name,
            c.unit,
            c.meaning,
            _float(measured.summary[c.name]),
            _float(automatic.get(c.name)),
            measured.reasons.get(c.name, ""),
        )
        for c in tables.measured_columns(slide.automatic.marker)
        if c.dtype in ("int64", "float64")
        and c.name not in _HIDDEN
        and not c.name.endswith(_LIMITS)
    )
    return Numbers(rows, measured.n_edits, measured.pending)


def _float(value: object) -> float | None:
    return None if tables.is_missing(value) else float(str(value))
