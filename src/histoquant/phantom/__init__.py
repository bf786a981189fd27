"""Synthetic skin-biopsy slides with known truth.

Nothing here knows how slides are measured, and nothing that measures knows this: the truth
follows from what is drawn. A slide is continuous geometry in um, painted as optical density
of each stain, and turned to pixels by Beer-Lambert's law, optics, a sensor and JPEG; or by
fluorescence (`histoquant.phantom.fluorescence`).
"""

from __future__ import annotations

from histoquant.phantom.cohort import plan_cohort, write_cohort
from histoquant.phantom.fluorescence import FluorescenceRecipe, write_fluorescence
from histoquant.phantom.recipe import PhantomRecipe, preset_recipe
from histoquant.phantom.slide import write_slide
from histoquant.phantom.trial import Course, Trial, plan_trial, write_trial
from histoquant.phantom.truth import Truth

__all__ = [
    "Course",
    "FluorescenceRecipe",
    "PhantomRecipe",
    "Trial",
    "Truth",
    "plan_cohort",
    "plan_trial",
    "preset_recipe",
    "write_cohort",
    "write_fluorescence",
    "write_slide",
    "write_trial",
]
