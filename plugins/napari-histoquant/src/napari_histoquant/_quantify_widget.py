"""The Quantify widget: a form, a progress bar, and the command line that does the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from histoquant import HistoquantError
from histoquant.settings import MARKERS
from napari_histoquant import form
from napari_histoquant.job import Job

_POLL_MS = 100


class QuantifyWidget(QWidget):
    """Measure p16 or collagen VII on an open slide.

    Parameters
    ----------
    napari_viewer
        The viewer whose slides are offered.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.job: Job | None = None
        self.slide, self.marker = QComboBox(), QComboBox()
        self.marker.addItems(list(MARKERS))
        self.out, self.mpp = QLineEdit(), QLineEdit()
        self.out.setPlaceholderText("folder for the results")
        self.mpp.setPlaceholderText("as the file says")
        self.group, self.pages = QComboBox(), QStackedWidget()
        self.inputs: dict[tuple[str, str], QComboBox | QLineEdit] = {}
        self.command = QPlainTextEdit()
        self.command.setReadOnly(True)
        self.command.setMaximumHeight(84)
        self.copy_button, self.run_button = QPushButton("Copy"), QPushButton("Measure")
        self.cancel_button = QPushButton("Cancel")
        self.bar, self.status = QProgressBar(), QLabel()
        self.status.setWordWrap(True)
        self._fill_settings()
        self._arrange()
        self._connect()
        self._list_slides()
        self._show_idle()

    def request(self) -> form.Request:
        """What the form asks for now.

        Raises
        ------
        histoquant.HistoquantError
            When something is missing or wrong; the message says what.
        """
        slide = self.slide.currentData()
        if not slide:
            raise HistoquantError("Open a slide first: drop its file on the viewer.")
        out = self.out.text().strip()
        if not out:
            raise HistoquantError("Choose a folder for the results.")
        request = form.Request(
            slide, self.marker.currentText(), out, self._assignments(), self._mpp()
        )
        request.settings()
        return request

    def start(self) -> None:
        """Begin to measure."""
        try:
            request = self.request()
        except HistoquantError as error:
            self.status.setText(str(error))
            return
        self.job = Job(request)
        self._show_busy()
        self.timer.start(_POLL_MS)

    def cancel(self) -> None:
        """Stop measuring."""
        if self.job is not None:
            self.status.setText("Stopping …")
            self.job.cancel()

    def closeEvent(self, event: Any) -> None:
        """A measurement does not outlive its window."""
        if self.job is not None and self.job.poll() == "running":
            self.job.cancel()
        self.timer.stop()
        for changed in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            changed.disconnect(self._list_slides)
        super().closeEvent(event)

    def _poll(self) -> None:
        assert self.job is not None
        state = self.job.poll()
        self.bar.setValue(round(100 * self.job.fraction))
        self.status.setText(f"{self.job.stage} …" if state == "running" else self.job.message)
        if state != "running":
            self.timer.stop()
            self._show_idle()
        if state == "done" and self.job.result is not None:
            self._show_result(self.job.result)

    def _show_result(self, directory: Path) -> None:
        """Put what was measured over the slide that is already there."""
        from napari.layers import Layer

        from histoquant import read_result
        from napari_histoquant.results import measured_layers

        for data in measured_layers(read_result(directory), directory):
            layer = Layer.create(*data)
            if layer.name in self.viewer.layers:
                self.viewer.layers.remove(layer.name)
            self.viewer.add_layer(layer)

    def _fill_settings(self) -> None:
        for group, about in form.groups().items():
            page, rows = QWidget(), QFormLayout()
            page.setLayout(rows)
            rows.addRow(_wrapped(about))
            for field in (f for f in form.fields() if f.group == group):
                entry = _entry(field)
                self.inputs[field.key] = entry
                rows.addRow(field.name, entry)
            area = QScrollArea()
            area.setWidgetResizable(True)
            area.setWidget(page)
            self.pages.addWidget(area)
            self.group.addItem(group)

    def _arrange(self) -> None:
        rows = QFormLayout()
        rows.addRow("Slide", self.slide)
        rows.addRow("Marker", self.marker)
        browse = QPushButton("…")
        browse.setToolTip("Choose the folder for the results")
        browse.clicked.connect(self._browse)
        rows.addRow("Results in", _side_by_side(self.out, browse))
        rows.addRow("um per pixel", self.mpp)
        rows.addRow("Settings", self.group)
        layout = QVBoxLayout(self)
        layout.addLayout(rows)
        layout.addWidget(self.pages, 1)
        layout.addWidget(QLabel("The same on the command line:"))
        layout.addWidget(self.command)
        layout.addWidget(_side_by_side(self.copy_button, self.run_button, self.cancel_button))
        layout.addWidget(self.bar)
        layout.addWidget(self.status)

    def _connect(self) -> None:
        self.timer = QTimer(self)
        self.timer.timeout.connect(self._poll)
        self.group.currentIndexChanged.connect(self.pages.setCurrentIndex)
        self.run_button.clicked.connect(self.start)
        self.cancel_button.clicked.connect(self.cancel)
        self.copy_button.clicked.connect(self._copy)
        for entry in (self.slide, self.marker, self.out, self.mpp, *self.inputs.values()):
            changed = (
                entry.currentIndexChanged if isinstance(entry, QComboBox) else entry.textChanged
            )
            changed.connect(self._show_command)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self._list_slides)

    def _list_slides(self, event: object = None) -> None:
        del event
        chosen = self.slide.currentData()
        self.slide.clear()
        seen = set()
        for layer in self.viewer.layers:
            path = layer.metadata.get("histoquant", {}).get("slide")
            if path and path not in seen:
                seen.add(path)
                self.slide.addItem(Path(path).name, path)
        self.slide.setCurrentIndex(max(0, self.slide.findData(chosen)))
        if (
            not self.out.text()
            and self.slide.currentData()
            and "://" not in self.slide.currentData()
        ):
            self.out.setText(str(Path(self.slide.currentData()).parent / "histoquant_results"))
        self._show_command()

    def _assignments(self) -> tuple[str, ...]:
        values = {
            key: entry.currentText() if isinstance(entry, QComboBox) else entry.text()
            for key, entry in self.inputs.items()
        }
        return form.assignments(values)

    def _mpp(self) -> float | None:
        text = self.mpp.text().strip()
        try:
            return float(text) if text else None
        except ValueError:
            raise HistoquantError(f"um per pixel: {text!r} is no number.") from None

    def _show_command(self, event: object = None) -> None:
        del event
        try:
            self.command.setPlainText(self.request().command_line())
        except HistoquantError as error:
            self.command.setPlainText(f"({error})")

    def _copy(self) -> None:
        clipboard: Any = QApplication.clipboard()
        clipboard.setText(self.command.toPlainText())

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the results", self.out.text())
        if chosen:
            self.out.setText(chosen)

    def _show_busy(self) -> None:
        self.run_button.setEnabled(False)
        self.cancel_button.setEnabled(True)
        self.bar.setVisible(True)
        self.bar.setValue(0)

    def _show_idle(self) -> None:
        self.run_button.setEnabled(True)
        self.cancel_button.setEnabled(False)
        self.bar.setVisible(False)


def _entry(field: form.Field) -> QComboBox | QLineEdit:
    """An input whose tip is what the settings say of the field."""
    entry: QComboBox | QLineEdit
    if field.choices:
        entry = box = QComboBox()
        box.addItems(list(field.choices))
        box.setCurrentText(field.default)
    else:
        entry = QLineEdit(field.default)
        entry.setPlaceholderText("unset")
    limits = f" ({field.limits})" if field.limits else ""
    entry.setToolTip(f"<p>{field.description}{limits}</p>")
    return entry


def _wrapped(text: str) -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def _side_by_side(*widgets: QWidget) -> QWidget:
    box = QWidget()
    row = QHBoxLayout(box)
    row.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        row.addWidget(widget)
    return box
