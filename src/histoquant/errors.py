"""Everything histoquant raises on purpose.

::

    HistoquantError
    ├── SlideError          a slide cannot be opened, read, or trusted
    │   └── ScaleError      its microns per pixel are missing, absurd or unequal
    ├── StainError          colours that cannot be separated (no glass, degenerate vectors)
    │   └── DarkFieldError  a picture in colours whose background is black: fluorescence
    ├── SettingsError       a setting is unknown or out of range
    ├── ManifestError       rows of a manifest that cannot be used, all of them at once
    ├── ResultError         a results directory that is missing, locked or damaged
    ├── ReviewError         an edit, a journal or a review that cannot be used
    └── StudyError          a study that cannot be analysed as asked: wrong table, unknown outcome
        └── DesignError     a design that contradicts itself or the samples, all of it at once

A message says what was found, where, and what to do next. The command line prints it
without a traceback and exits with 2 (usage, input) or 1 (a slide of several failed).
"""

from __future__ import annotations


class HistoquantError(Exception):
    """Base of every error raised on purpose by histoquant."""


class SlideError(HistoquantError):
    """A slide that cannot be opened, read or trusted."""


class ScaleError(SlideError):
    """A slide whose microns per pixel are missing, absurd or unequal in x and y."""


class StainError(HistoquantError):
    """Colours that cannot be separated, such as a slide without glass to take white from."""


class DarkFieldError(StainError):
    """A picture in colours with a black background, which is fluorescence."""


class SettingsError(HistoquantError):
    """A setting that does not exist or is out of range."""


class ManifestError(HistoquantError):
    """A manifest with rows that cannot be used; the message lists all of them."""


class ResultError(HistoquantError):
    """A results directory that is missing, locked or damaged."""


class ExportError(HistoquantError):
    """An export that cannot be made as asked, such as one whose library is not installed."""


class ReviewError(HistoquantError):
    """An edit, a journal of edits or a review that cannot be used, and why."""


class StudyError(HistoquantError):
    """A study that cannot be analysed as asked, such as nuclei offered as people."""


class DesignError(StudyError):
    """A design that contradicts itself or the samples; the message lists all of it."""
