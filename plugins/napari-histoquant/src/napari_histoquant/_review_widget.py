"""The Review widget: worklist, tools, live numbers, and the keys. What happens is the desk's."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pint
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from histoquant import HistoquantError
from histoquant.review import ReviewSession
from histoquant.review.edits import COMPARTMENT_NAMES
from napari_histoquant._panels import (
    LEGEND_STYLE,
    NumberTable,
    Steps,
    StripView,
    Worklist,
    beside,
    button,
    legend,
)
from napari_histoquant.desk import REASONS, TOOLS, Desk, Tool
from napari_histoquant.discretion import DiscreetLogs

_VIEW_MS, _PATIENCE_MS = 60, 400
_LIST_PX = 150
Action = Callable[["ReviewWidget"], object]

KEYS: dict[str, tuple[str, Action]] = {
    "P": ("positive: the nucleus under the cursor", lambda w: w.set_class("positive")),
    "N": ("negative", lambda w: w.set_class("negative")),
    "X": ("not a nucleus", lambda w: w.set_class("not_a_nucleus")),
    "R": ("back to what the program said", lambda w: w.set_class("automatic")),
    "A": ("add a positive nucleus here", lambda w: w.add("positive")),
    "Shift-A": ("add a negative nucleus here", lambda w: w.add("negative")),
    "Shift-P": ("draw around nuclei: positive", lambda w: w.take("positive")),
    "Shift-N": ("draw around nuclei: negative", lambda w: w.take("negative")),
    "Shift-X": ("draw around what is no nucleus", lambda w: w.take("not_a_nucleus")),
    "E": ("draw a region to leave out", lambda w: w.take("exclude")),
    "I": ("draw a region to take in", lambda w: w.take("include")),
    "C": ("draw a compartment", lambda w: w.take("compartment")),
    "J": ("draw the junction anew", lambda w: w.take("redraw")),
    "K": ("draw along junction to take away", lambda w: w.take("cut")),
    "Q": ("most uncertain first: on, off", lambda w: w.toggle_queue()),
    ".": ("next uncertain one", lambda w: w.desk_do(lambda d: d.next_doubt(1))),
    ",": ("the one before", lambda w: w.desk_do(lambda d: d.next_doubt(-1))),
    "H": (
        "hide or show the measurements",
        lambda w: w.desk_do(lambda d: d.easel.show_measurements()),
    ),
    "Control-Z": ("undo", lambda w: w.desk_do(lambda d: d.undo())),
    "Control-Shift-Z": ("redo", lambda w: w.desk_do(lambda d: d.redo())),
    "PageDown": ("next slide", lambda w: w.desk_do(lambda d: d.step(1))),
    "PageUp": ("previous slide", lambda w: w.desk_do(lambda d: d.step(-1))),
    "Control-Return": ("accept the slide, and go on", lambda w: w.accept()),
    "Escape": ("put the tool down, leave the queue", lambda w: w.put_down()),
}


class ReviewWidget(QWidget):
    """Review the slides of a results directory.

    Parameters
    ----------
    napari_viewer
        The viewer that shows them.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        # Units take pint half a second to read: now, as part of loading, and not at a slide.
        pint.Quantity("1 um")
        self.viewer = napari_viewer
        self.desk: Desk | None = None
        self._listed: object = None
        self._place: object = None
        self._bound: object = None
        self._logs: DiscreetLogs | None = None
        self.strip = StripView()
        self._strip_dock: Any = None
        self.pages = QStackedWidget()
        self.pages.addWidget(self._start_page())
        self.pages.addWidget(self._desk_page())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.pages)
        self.setMinimumWidth(430)
        self._view_timer = QTimer(self)
        self._view_timer.setSingleShot(True)
        self._view_timer.timeout.connect(self._view_moved)
        self._steps = Steps(self)
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.timeout.connect(self._say_wait)

    # -- beginning and end --------------------------------------------------------------------

    def begin(self, directory: str | Path, reviewer: str, blind: bool) -> bool:
        """Start the review of a results directory; False when it cannot be, with a message."""
        self.end()
        if blind and len(self.viewer.layers):
            self.start_message.setText(
                "Layers are open in this window, and their names may tell slides: close them "
                "before a blinded review."
            )
            return False
        try:
            session = ReviewSession(directory, reviewer, blind=blind)
        except HistoquantError as error:
            self.start_message.setText(str(error))
            return False
        workers = beside(self, "review"), beside(self, "line")
        self.desk = Desk(self.viewer, session, *workers, spread=self._steps.take)
        self.desk.listeners.append(self._show)
        self.viewer.mouse_move_callbacks.append(self._on_move)
        camera = self.viewer.scene.camera
        camera.events.zoom.connect(self._camera_moved)
        camera.events.center.connect(self._camera_moved)
        self._bind(self.viewer)
        if self._strip_dock is None:
            self._strip_dock = self.viewer.window.add_dock_widget(
                self.strip, name="Straightened junction", area="bottom"
            )
        self.pages.setCurrentIndex(1)
        self.viewer.title = "Review"
        if blind:
            self.directory.clear()  # a path may tell the slides
            self._logs = DiscreetLogs(session.hide)
            self._logs.turn_on()
        self.desk.start()
        return True

    def _fit(self) -> None:
        if self.desk is not None:
            self.viewer.reset_view()

    def end(self) -> None:
        """Leave the review. Everything is on the disk already."""
        if self.desk is None:
            return
        camera = self.viewer.scene.camera
        camera.events.zoom.disconnect(self._camera_moved)
        camera.events.center.disconnect(self._camera_moved)
        if self._on_move in self.viewer.mouse_move_callbacks:
            self.viewer.mouse_move_callbacks.remove(self._on_move)
        for key in KEYS:
            self.viewer.bind_key(key, None, overwrite=True)
        self.strip.follow(None, (0, 0))
        self._patience.stop()
        self.desk.close()
        self.desk = self._bound = self._listed = self._place = None
        if self._logs is not None:
            self._logs.turn_off()
            self._logs = None
        self.pages.setCurrentIndex(0)

    def open(self, name: str) -> None:
        """Open a slide of the worklist."""
        self.desk_do(lambda desk: desk.open(name))

    def settle(self) -> None:
        """Wait until everything that was asked for is done and shown."""
        while self.desk is not None and (self.desk.busy or self.desk.reading):
            QApplication.processEvents()
            time.sleep(0.002)

    def closeEvent(self, event: Any) -> None:
        """Closing the panel ends the review."""
        self._view_timer.stop()
        self.end()
        self.strip.stop()
        super().closeEvent(event)

    # -- what keys and buttons do -------------------------------------------------------------

    def desk_do(self, act: Callable[[Desk], object]) -> None:
        """Let the desk do something, where there is one."""
        if self.desk is not None:
            act(self.desk)

    def hide_or_show(self) -> None:
        """Show the slide alone, or with what was measured."""
        self.desk_do(lambda desk: desk.easel.show_measurements())

    def set_class(self, value: str) -> None:
        """Judge the nucleus of the queue, or the one under the cursor."""
        self.desk_do(lambda desk: desk.set_class(value, self._cursor()))

    def add(self, value: str) -> None:
        """Add a nucleus under the cursor."""
        self.desk_do(lambda desk: desk.add_nucleus(self._cursor(), value))

    def take(self, tool: Tool) -> None:
        """Take a tool up; the same one again puts it down."""
        if self.desk is None:
            return
        self.desk.reason = self.reason.currentText().strip()
        self.desk.compartment = self.compartment.currentText().replace(" ", "_")
        self.desk.choose_tool("look" if self.desk.tool == tool else tool)

    def put_down(self) -> None:
        """Put the tool down; without one, leave the queue."""
        if self.desk is None:
            return
        if self.desk.tool != "look":
            self.desk.choose_tool("look")
        elif self.desk.queue is not None:
            self.desk.stop_queue()

    def toggle_queue(self) -> None:
        """Start going through what is uncertain, or stop."""
        if self.desk is not None:
            if self.desk.queue is None:
                self.desk.start_queue()
            else:
                self.desk.stop_queue()

    def accept(self) -> None:
        """Accept the slide and open the next one."""
        desk, review = self.desk, self.desk.review if self.desk is not None else None
        if desk is None or review is None:
            return

        def go_on() -> None:
            self.words.clear()
            if desk.review is review:
                desk.step(1)

        desk.judge("accepted", self.words.text(), go_on)

    def reject(self) -> None:
        """Reject the slide, for the reason that was typed."""
        self.desk_do(lambda desk: desk.judge("rejected", self.words.text(), self.words.clear))

    def note(self) -> None:
        """Put the words that were typed on the slide."""
        self.desk_do(lambda desk: desk.note(self.words.text(), then=self.words.clear))

    # -- showing ------------------------------------------------------------------------------

    def _show(self) -> None:
        desk = self.desk
        if desk is None:
            return
        self.message.setText(desk.message)
        self.viewer.status = desk.message
        if desk.busy and not self._patience.isActive():
            self._patience.start(_PATIENCE_MS)
        for tool, made in self.tools.items():
            made.setChecked(desk.tool == tool)
        self.queue_button.setChecked(desk.queue is not None)
        review = desk.review
        if review is not self._bound:
            self._slide_changed(review)
        state = None if review is None else (review, len(review.history), review.numbers())
        if state == self._listed and review is not None:
            return
        self._listed = state
        place = None if review is None else (review.name, review.verdict)
        if place != self._place or review is None:
            self._place = place
            self.worklist.show_items(desk.items, review.name if review else None)
        if review is None:
            return
        numbers = review.numbers()
        if review.history and review.verdict == "open":
            self.worklist.show_edits(review.name, numbers.n_edits)
        self.numbers.show_numbers(numbers, review.marker)
        self.pending.setText(desk.waiting_words)
        self.pending.setVisible(bool(desk.waiting_words))
        self.undo_button.setEnabled(review.can_undo)
        self.redo_button.setEnabled(review.can_redo)
        self.history.clear()
        for line in reversed(review.history):
            self.history.addItem(f"{line.n}. {line.text}" + ("" if line.active else "  (undone)"))

    def _slide_changed(self, review: object) -> None:
        first, self._bound = self._bound is None, review
        self.strip.follow(None, (0, 0))
        if self.desk is None or review is None:
            return
        self.legend.setText(legend("nuclei" in self.desk.layers))
        if self.desk.straightener is not None:
            self.strip.follow(self.desk.straightener, self.desk.straightener.middle)
        for layer in self.desk.layers.values():
            self._bind(layer)
        self.viewer.layers.selection.active = self.desk.layers.get("slide0")
        if first:
            QTimer.singleShot(0, self._fit)  # once the docks have taken their place

    def _say_wait(self) -> None:
        if self.desk is not None and self.desk.busy:
            self.message.setText("Opening …" if self.desk.opening else "Measuring …")

    def _camera_moved(self, event: object = None) -> None:
        del event
        if not self._view_timer.isActive():
            self._view_timer.start(_VIEW_MS)

    def _view_moved(self) -> None:
        if self.desk is not None:
            self.desk.easel.refresh()
            self.thinned.setText(self.desk.easel.thinned)

    def _on_move(self, viewer: Any, event: Any) -> None:
        del viewer, event
        if self.desk is not None and self.desk.straightener is not None:
            self.strip.follow(self.desk.straightener, self._cursor())

    def _cursor(self) -> tuple[float, float]:
        y, x = self.viewer.cursor.position[-2:]
        return float(y), float(x)

    def _bind(self, target: Any) -> None:
        """Bind the keys on the viewer, and on layers, whose own keys would come first."""
        for key, (_, action) in KEYS.items():
            target.bind_key(key, _bound(self, action), overwrite=True)

    # -- building -----------------------------------------------------------------------------

    def _start_page(self) -> QWidget:
        page = QWidget()
        rows = QFormLayout(page)
        self.directory, self.reviewer = QLineEdit(), QLineEdit(_user())
        self.directory.setPlaceholderText("results directory: the one with ledger.csv")
        self.blind = QCheckBox("Blinded: code names, shuffled, nothing that tells the slide")
        rows.addRow("Results", self.directory)
        rows.addRow("", button("Choose …", "Choose a results directory", self._browse))
        rows.addRow("Reviewer", self.reviewer)
        rows.addRow("", self.blind)
        rows.addRow("", button("Start", "Open the worklist", self._start))
        self.start_message = QLabel()
        self.start_message.setWordWrap(True)
        rows.addRow(self.start_message)
        return page

    def _start(self) -> None:
        self.begin(
            self.directory.text().strip(), self.reviewer.text().strip(), self.blind.isChecked()
        )

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Results directory", self.directory.text())
        if chosen:
            self.directory.setText(chosen)

    def _desk_page(self) -> QWidget:
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        self.worklist = Worklist()
        self.worklist.cellClicked.connect(lambda row, _: self.open(self.worklist.name_at(row)))
        self.worklist.setFixedHeight(_LIST_PX)
        self.numbers = NumberTable()
        self.history = QListWidget()
        self.history.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        tabs = QTabWidget()
        tabs.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for widget, title in (
            (self.numbers, "Numbers"),
            (self.history, "Edits"),
            (_key_page(), "Keys"),
        ):
            tabs.addTab(widget, title)
        self.message, self.thinned, self.pending = QLabel(), QLabel(), QLabel()
        self.legend = QLabel()
        for label in (self.message, self.thinned, self.pending, self.legend):
            label.setWordWrap(True)
        self.message.setMinimumHeight(34)
        self.message.setStyleSheet("font-weight: bold")
        self.legend.setStyleSheet(LEGEND_STYLE)
        self.pending.hide()
        layout.addWidget(self.worklist)
        layout.addLayout(self._tool_rows())
        layout.addWidget(self.message)
        layout.addWidget(self.legend)
        layout.addWidget(self.thinned)
        layout.addWidget(tabs, 1)
        layout.addWidget(self.pending)
        layout.addLayout(self._verdict_row())
        return page

    def _tool_rows(self) -> QGridLayout:
        grid = QGridLayout()
        names: tuple[tuple[Tool, str], ...] = (
            ("positive", "Positive ⇧P"), ("negative", "Negative ⇧N"),
            ("not_a_nucleus", "No nucleus ⇧X"), ("exclude", "Leave out E"),
            ("include", "Take in I"), ("compartment", "Compartment C"),
            ("redraw", "Junction J"), ("cut", "Cut K"),
        )  # fmt: skip
        self.tools: dict[Tool, QPushButton] = {}
        for number, (tool, text) in enumerate(names):
            made = button(text, TOOLS[tool], partial(self.take, tool), checkable=True)
            made.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self.tools[tool] = made
            grid.addWidget(made, number // 4, number % 4)
        self.queue_button = button(
            "Doubtful Q", "Go through what is nearest to the threshold", self.toggle_queue, True
        )
        self.undo_button = button("Undo", "Ctrl+Z", lambda: self.desk_do(lambda d: d.undo()))
        self.redo_button = button("Redo", "Ctrl+Shift+Z", lambda: self.desk_do(lambda d: d.redo()))
        hide = button("Show/hide H", "The slide alone, or with what was measured",
                      self.hide_or_show)  # fmt: skip
        for column, press in enumerate(
            (self.queue_button, hide, self.undo_button, self.redo_button)
        ):
            grid.addWidget(press, 2, column)
        self.reason, self.compartment = QComboBox(), QComboBox()
        self.reason.setEditable(True)
        self.reason.addItems(list(REASONS))
        self.compartment.addItems([name.replace("_", " ") for name in COMPARTMENT_NAMES[1:]])
        self.compartment.setCurrentText("epidermis")
        self.compartment.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.reason.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.reason.currentTextChanged.connect(self._reason_changed)
        self.compartment.currentTextChanged.connect(self._reason_changed)
        grid.addWidget(QLabel("Reason"), 3, 0)
        grid.addWidget(self.reason, 3, 1)
        grid.addWidget(QLabel("Compartment"), 3, 2)
        grid.addWidget(self.compartment, 3, 3)
        return grid

    def _reason_changed(self, text: str) -> None:
        del text
        if self.desk is not None:
            self.desk.reason = self.reason.currentText().strip()
            self.desk.compartment = self.compartment.currentText().replace(" ", "_")

    def _verdict_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        self.words = QLineEdit()
        self.words.setPlaceholderText("reason, or a note")
        self.words.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        row.addWidget(self.words, 1)
        row.addWidget(button("Note", "Put these words on the slide", self.note))
        row.addWidget(button("Reject", "Leave the slide out, for this reason", self.reject))
        row.addWidget(button("Accept", "Ctrl+Enter: accept, and go on to the next", self.accept))
        return row


def _bound(widget: ReviewWidget, action: Action) -> Callable[[Any], None]:
    def act(target: Any) -> None:
        del target
        action(widget)

    return act


def _key_page() -> QLabel:
    rows = "".join(
        f"<tr><td><b>{k}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>" for k, (what, _) in KEYS.items()
    )
    label = QLabel(f"<table>{rows}</table>")
    label.setAlignment(Qt.AlignmentFlag.AlignTop)
    return label


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
