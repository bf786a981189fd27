"""Fixtures that several test modules use."""

from fakes import fake_pipeline

__all__ = ["fake_pipeline"]
