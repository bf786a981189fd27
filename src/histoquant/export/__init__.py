"""What is on disk of a results directory, in the formats of other programs."""

from histoquant.export.run import FORMATS, Exported, Format, export_results
from histoquant.export.workbook import write_workbook

__all__ = ["FORMATS", "Exported", "Format", "export_results", "write_workbook"]
