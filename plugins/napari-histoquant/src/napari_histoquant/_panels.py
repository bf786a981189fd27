"""Parts of the Review widget: tables that leave the keyboard to the canvas, and the strip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QPointF, QRectF, Qt, QTimer
from qtpy.QtCore import Signal as Signal  # type: ignore[attr-defined,unused-ignore]
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from histoquant.review import Numbers, WorkItem
from napari_histoquant.layers import CLASS_LEGEND, LINE_LEGEND
from napari_histoquant.strip import Straightener, Strip
from napari_histoquant.worker import Background

Qt_NoFocus = Qt.FocusPolicy.NoFocus
_HEADLINES = {
    "p16": ("positive_percent", "n_positive", "n_nuclei", "epidermis_positive_percent",
            "basal_positive_percent", "suprabasal_positive_percent", "positive_per_mm_dej",
            "papillary_positive_percent", "papillary_positive_per_mm2", "h_score",
            "dej_length_mm", "measured_length_mm"),
    "col7": ("continuity_percent", "n_gaps", "gap_length_median_um", "peak_od_mean",
             "integrated_od_um_mean", "fwhm_um_median", "dej_length_mm", "measured_length_mm"),
}  # fmt: skip
_MARKS = {"accepted": "✓", "rejected": "✗", "started": "…", "failed": "!", "new": ""}
_CHANGED, _DIM = QColor("#ffb000"), QColor("#9a9a9a")
_POLL_MS = 40


class Table(QTableWidget):
    """A table to read and to click, that leaves the keyboard to the canvas."""

    def __init__(self, columns: Sequence[str]) -> None:
        super().__init__(0, len(columns))
        self.setHorizontalHeaderLabels(list(columns))
        self.setFocusPolicy(Qt_NoFocus)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        self.setWordWrap(False)
        beside: Any = self.verticalHeader()
        beside.hide()
        beside.setDefaultSectionSize(20)
        header: Any = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(True)

    def put(
        self, row: int, column: int, text: str, tip: str = "", colour: QColor | None = None
    ) -> None:
        """Write one cell."""
        item = self.item(row, column)
        if item is None:
            item = QTableWidgetItem()
            self.setItem(row, column, item)
        item.setText(text)
        item.setToolTip(tip)
        if colour is not None:
            item.setForeground(colour)
        else:
            item.setData(Qt.ItemDataRole.ForegroundRole, None)


class Worklist(Table):
    """Slides to look at."""

    def __init__(self) -> None:
        super().__init__(("", "slide", "marker", "quality", "edits", "what to look at"))

    def show_items(self, items: Sequence[WorkItem], current: str | None) -> None:
        """Write the list; the slide at hand is selected."""
        self.setRowCount(len(items))
        for row, item in enumerate(items):
            why = "; ".join(item.doubts) or item.reason
            about = f"{item.name}, {item.sample}" if item.sample else item.name
            cells = (_MARKS.get(item.status, ""), item.name, item.marker, item.quality,
                     str(item.n_edits or ""), why)  # fmt: skip
            colour = _DIM if item.status in ("failed", "accepted", "rejected") else None
            for column, text in enumerate(cells):
                self.put(
                    row, column, text, why if column == 5 else f"{about}: {item.status}", colour
                )
            if item.name == current:
                self.selectRow(row)

    def show_edits(self, name: str, n_edits: int) -> None:
        """Bring one slide's count up to date without reading the whole list again."""
        for row in range(self.rowCount()):
            if self.name_at(row) == name:
                self.put(row, 0, _MARKS["started"], f"{name}: started")
                self.put(row, 4, str(n_edits or ""), f"{name}: started")

    def name_at(self, row: int) -> str:
        """Name of the slide in a row."""
        item = self.item(row, 1)
        return item.text() if item is not None else ""


class NumberTable(Table):
    """The slide's figures, and how far they are from the automatic ones."""

    def __init__(self) -> None:
        super().__init__(("", "now", "automatic", "change"))

    def show_numbers(self, numbers: Numbers, marker: str) -> None:
        """Write the headline figures, then whatever else has changed."""
        by_name = {row.name: row for row in numbers.rows}
        first = [by_name[name] for name in _HEADLINES[marker] if name in by_name]
        rows = first + [row for row in numbers.changed if row not in first]
        self.setRowCount(len(rows))
        for at, row in enumerate(rows):
            changed = row.value != row.automatic
            colour = _CHANGED if changed else None
            name = row.name.replace("_", " ")
            self.put(at, 0, name, f"<p>{row.meaning} ({row.unit})</p>")
            self.put(at, 1, _figure(row.value), row.reason, colour)
            self.put(at, 2, _figure(row.automatic), "", _DIM)
            delta = "" if row.delta is None or not changed else f"{row.delta:+.4g}"
            self.put(at, 3, delta, "", colour)


class StripView(QWidget):
    """The straightened junction around the cursor; a click goes there on the slide.

    Pixels are read in a thread: the cursor never waits for them.
    """

    clicked = Signal(float, float)

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumHeight(150)
        self.setFocusPolicy(Qt_NoFocus)
        self.setToolTip(
            "The junction laid straight: epidermis above, dermis below. It follows the cursor; "
            "click to go there."
        )
        self.strip: Strip | None = None
        self._source: Straightener | None = None
        self._pixmap: QPixmap | None = None
        self._wanted: tuple[float, float] | None = None
        self._pending: Future[Strip | None] | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="strip")
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._poll)

    def follow(self, source: Straightener | None, point_um: tuple[float, float]) -> None:
        """Show the junction nearest to a point; the newest wish counts."""
        if source is None:
            self.strip, self._pixmap, self._source = None, None, None
            self.update()
            return
        self._source, self._wanted = source, point_um
        if not self._timer.isActive():
            self._timer.start(_POLL_MS)

    def stop(self) -> None:
        """Wait for what is being read, and read no more."""
        self._timer.stop()
        self._wanted = self._source = None
        self._pool.shutdown(wait=True, cancel_futures=True)

    def settle(self) -> None:
        """Wait until the newest wish is shown."""
        while self._timer.isActive():
            if self._pending is not None:
                self._pending.exception()
            self._poll()

    def paintEvent(self, event: Any) -> None:
        """Draw the strip, the junction, and where the cursor is."""
        del event
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor("#262930"))
        if self.strip is None or self._pixmap is None:
            painter.setPen(_DIM)
            painter.drawText(
                self.rect(),
                Qt.AlignmentFlag.AlignCenter,
                "no junction here" if self._source is None else "",
            )
            return
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        box = self._box()
        painter.drawPixmap(box, self._pixmap, QRectF(self._pixmap.rect()))
        self._draw_lines(painter, box, self.strip)

    def mousePressEvent(self, event: Any) -> None:
        """Go there."""
        if self.strip is not None and self._source is not None:
            box = self._box()
            column = round(
                (event.position().x() - box.left()) / box.width() * len(self.strip.arc_um)
            )
            self.clicked.emit(*self._source.point_at(self.strip, column))

    def _draw_lines(self, painter: QPainter, box: QRectF, strip: Strip) -> None:
        middle = box.top() + box.height() * -strip.depth_um[0] / np.ptp(strip.depth_um)
        painter.setPen(QPen(QColor("#000000"), 1, Qt.PenStyle.DotLine))
        painter.drawLine(QPointF(box.left(), middle), QPointF(box.right(), middle))
        column = box.width() / len(strip.arc_um)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(140, 140, 140, 110))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], strip.excluded.astype(int), [0]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            painter.drawRect(
                QRectF(
                    box.left() + start * column, box.top(), (stop - start) * column, box.height()
                )
            )
        at = box.left() + (strip.centre + 0.5) * column
        painter.setPen(QPen(QColor("#f000ff"), 2))
        painter.drawLine(QPointF(at, box.top()), QPointF(at, box.bottom()))
        painter.setPen(QColor("#202020"))
        painter.setFont(QFont(painter.font().family(), 8))
        painter.drawText(QPointF(box.left() + 4, box.top() + 12), "epidermis")
        painter.drawText(QPointF(box.left() + 4, box.bottom() - 4), "dermis")
        where = f"{strip.arc_um[strip.centre] / 1000:.2f} mm along"
        painter.drawText(QPointF(box.right() - 92, box.bottom() - 4), where)

    def _box(self) -> QRectF:
        """Where the strip is drawn: as large as fits, um square."""
        assert self.strip is not None
        height, width = self.strip.pixels.shape[:2]
        factor = min(self.width() / width, self.height() / height)
        return QRectF((self.width() - width * factor) / 2, (self.height() - height * factor) / 2,
                      width * factor, height * factor)  # fmt: skip

    def _poll(self) -> None:
        if self._pending is not None:
            if not self._pending.done():
                return
            failed = self._pending.exception() is not None
            self.strip = None if failed else self._pending.result()
            self._pending = None
            self._pixmap = None if self.strip is None else _pixmap(self.strip.pixels)
            self.update()
        if self._wanted is not None and self._source is not None:
            point, self._wanted = self._wanted, None
            self._pending = self._pool.submit(self._source.around, point)
        else:
            self._timer.stop()


class Steps(QObject):
    """Takes steps one by one, with the viewer's own work between them."""

    def __init__(self, owner: QObject) -> None:
        super().__init__(owner)
        self._steps: Iterator[None] = iter(())
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._next)

    def take(self, steps: Iterator[None]) -> None:
        """Take these steps instead of what is left of others."""
        self._steps = steps
        self._timer.start(0)

    def _next(self) -> None:
        try:
            next(self._steps)
        except StopIteration:
            self._timer.stop()
        except BaseException:
            self._timer.stop()
            raise


class _Bell(QObject):
    """Rings in the thread that shows things, whichever thread it is pulled in."""

    rung = Signal()


def beside(owner: QObject, name: str) -> Background:
    """A worker in a thread of its own, which delivers where `owner` lives."""
    bell = _Bell(owner)
    worker = Background(bell.rung.emit, name)
    bell.rung.connect(worker.deliver, Qt.ConnectionType.QueuedConnection)
    return worker


def button(
    text: str, tip: str, action: Callable[[], object], checkable: bool = False
) -> QPushButton:
    """A button that leaves the keyboard to the canvas."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt_NoFocus)
    made.setCheckable(checkable)
    made.clicked.connect(lambda: action())
    return made


def legend(nuclei: bool) -> str:
    """What the colours on the slide mean, as rich text."""
    entries = CLASS_LEGEND if nuclei else LINE_LEGEND
    sign = "◯" if nuclei else "▬"
    parts = (f'<span style="color:{colour}">{sign}</span> {word}' for word, colour in entries)
    return "&nbsp;&nbsp; ".join(parts)


LEGEND_STYLE = "background: #ece7f0; color: #202020; padding: 2px 4px"
"""Like the glass of a slide, so that the colours look as they do on it."""


def _pixmap(pixels: Any) -> QPixmap:
    data = np.ascontiguousarray(pixels)
    height, width = data.shape[:2]
    image = QImage(data.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image.copy())


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"
