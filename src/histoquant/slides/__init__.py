"""Whole slides as lazy pixels at a known scale: the only place that knows file formats."""

from histoquant.slides.slide import Slide, open_slide
from histoquant.slides.source import Level

__all__ = ["Level", "Slide", "open_slide"]
