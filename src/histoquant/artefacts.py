"""Names of what a pathologist leaves out of a slide, and the words for them."""

from __future__ import annotations

NONE, PEN, DEBRIS, BUBBLE, COVERSLIP, BLOOD, FOLD, BLUR = range(8)

NAMES = {
    PEN: "pen",
    DEBRIS: "debris",
    BUBBLE: "bubble",
    COVERSLIP: "coverslip",
    BLOOD: "blood",
    FOLD: "fold",
    BLUR: "blur",
}
"""Part of the name of a column: ``excluded_pen_mm2``."""

REASONS = (
    "",
    "pen or ink",
    "debris",
    "air bubble",
    "edge of the coverslip",
    "blood",
    "fold",
    "out of focus",
)
"""By code: why what lies there is left out."""

OPAQUE = (PEN, DEBRIS, BLOOD, FOLD)
"""What hides the tissue or passes for another one: no compartment is looked for there."""
