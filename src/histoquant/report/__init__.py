"""One self-contained page for people: what was measured, on which slides, and what is missing."""

from histoquant.report.figures import HEADLINES
from histoquant.report.page import write_report

__all__ = ["HEADLINES", "write_report"]
