"""What is on disk of a results directory, in the formats of other programs."""

from collections.abc import Sequence
from importlib.util import find_spec

from histoquant.export.run import FORMATS, Exported, Format, export_results
from histoquant.export.workbook import write_workbook
from histoquant.rundir import RunDirectory

__all__ = [
    "FORMATS",
    "Exported",
    "Format",
    "export_results",
    "tables_as_workbook",
    "write_workbook",
]


def tables_as_workbook(directory: RunDirectory, rows: Sequence[dict[str, object]]) -> None:
    """Write ``markers.xlsx`` beside the other tables, where openpyxl is there to write it."""
    if find_spec("openpyxl") is not None:
        write_workbook(directory, directory.path / "markers.xlsx", rows)
