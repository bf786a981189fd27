"""Whether a slide is fit to be measured: ok, review or reject, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from histoquant.settings import QualitySettings

Verdict = Literal["ok", "review", "reject"]
ORDER: tuple[Verdict, ...] = ("ok", "review", "reject")


def judge(summary: Mapping[str, object], settings: QualitySettings) -> tuple[Verdict, list[str]]:
    """Verdict on a slide, and the reasons for it in words.

    Parameters
    ----------
    summary
        The slide's figures by column; what is missing is no reason of its own.
    """
    found = list(_doubts(summary, settings))
    worst = max((ORDER.index(verdict) for verdict, _ in found), default=0)
    return ORDER[worst], [why for _, why in found]


def _doubts(
    summary: Mapping[str, object], settings: QualitySettings
) -> Iterator[tuple[Verdict, str]]:
    share = _number(summary, "artefact_percent")
    if share is not None and share >= settings.review_percent:
        verdict: Verdict = "reject" if share >= settings.reject_percent else "review"
        limit = settings.reject_percent if verdict == "reject" else settings.review_percent
        yield verdict, f"{share:.0f} % of the tissue lies in artefacts (limit {limit:g} %)"
    focus = _number(summary, "focus_score")
    if focus is not None and focus < settings.review_focus:
        verdict = "reject" if focus < settings.reject_focus else "review"
        limit = settings.reject_focus if verdict == "reject" else settings.review_focus
        yield verdict, f"the slide is out of focus: focus score {focus:.2f} (limit {limit:g})"
    length = _number(summary, "measured_length_mm")
    if _number(summary, "dej_length_mm") is None:
        yield "review", "no junction was found"
    elif length is not None and length < settings.review_length_mm:
        yield (
            "review",
            f"only {length:.2f} mm of junction is measured "
            f"(limit {settings.review_length_mm:g} mm)",
        )
    saturated = _number(summary, "tissue_saturated_percent")
    if saturated is not None and saturated >= settings.review_saturated_percent:
        yield (
            "review",
            f"{saturated:.0f} % of the tissue is saturated "
            f"(limit {settings.review_saturated_percent:g} %)",
        )
    tiles = _number(summary, "damaged_tiles")
    if tiles:
        yield "review", f"{tiles:.0f} unreadable tile(s)"


def _number(summary: Mapping[str, object], name: str) -> float | None:
    value = summary.get(name)
    if not isinstance(value, int | float) or value != value:
        return None
    return float(value)
