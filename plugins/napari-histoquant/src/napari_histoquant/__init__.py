"""Whole-slide skin biopsies in napari: open, measure and review them with histoquant."""

__version__ = "0.1.0"
