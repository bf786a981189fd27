"""The reviewer's desk: one slide of a review as layers, tools that make edits, a queue of doubts.

Everything the Review widget does happens here, without Qt: the widget forwards keys, clicks and
drawn lines, and shows what the desk says. An edit goes to the journal first; the layers follow.

Measuring, the journal and the slide's files are a worker's (`napari_histoquant.worker`): nothing
that takes long holds up the viewer, and edits made meanwhile wait in line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel

from histoquant import HistoquantError
from histoquant.review import Change, Measured, ReviewSession, SlideReview, WorkItem
from histoquant.review import edits as e
from napari_histoquant.backroom import Act, Backroom, Carried, Opened
from napari_histoquant.easel import Easel
from napari_histoquant.strip import Straightener
from napari_histoquant.worker import Inline, Worker

Floats = npt.NDArray[np.float64]
Then = Callable[[], object]
Place = Sequence[float] | Floats
Tool = Literal["look", "positive", "negative", "not_a_nucleus", "automatic", "exclude", "include",
               "compartment", "redraw", "cut"]  # fmt: skip

CLASSES: dict[str, str] = {
    "positive": "positive",
    "negative": "negative",
    "not_a_nucleus": "not a nucleus",
    "automatic": "as the program had it",
}
TOOLS: dict[Tool, str] = {
    "look": "Move and zoom",
    "positive": "Draw around nuclei: they become positive",
    "negative": "Draw around nuclei: they become negative",
    "not_a_nucleus": "Draw around what is no nucleus",
    "automatic": "Draw around nuclei: the program's word holds again",
    "exclude": "Draw around what is to be left out",
    "include": "Draw around what is to be measured after all",
    "compartment": "Draw around tissue: it becomes",
    "redraw": "Draw the junction anew, from one place on it to another",
    "cut": "Draw along junction that is none: it is taken away",
}
REASONS = ("artefact", "fold", "out of focus", "torn or crushed", "pen or ink", "blood",
           "hair follicle or gland", "not skin surface")  # fmt: skip

_FOCUS_ZOOM = 6.0  # screen pixels per um, when the queue jumps to a nucleus


def _at_once(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


class Desk:
    """One reviewer's view on a results directory.

    Parameters
    ----------
    viewer
        Where layers are shown.
    session
        The review.
    worker
        Measures and writes; by default at once, where it is asked for.
    reader
        Reads collagen VII along junction that was drawn anew, while edits go on.
    spread
        Takes the steps of what is long to show, with the viewer's own work between them.

    Attributes
    ----------
    review
        The slide at hand; None before the first one, and while one is being opened.
    items
        The worklist.
    last
        What was done last; None when it was refused.
    message
        What was done or refused last, in words.
    reason
        Why the next region is left out or taken in.
    compartment
        What the compartment tool paints.
    listeners
        Called with no argument after everything that changes what is to be seen.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        session: ReviewSession,
        worker: Worker | None = None,
        reader: Worker | None = None,
        spread: Callable[[Iterator[None]], None] = _at_once,
    ) -> None:
        self.viewer, self.session = viewer, session
        self.review: SlideReview | None = None
        self.items: list[WorkItem] = []
        self.straightener: Straightener | None = None
        self.last: Change | None = None
        self.message = ""
        self.reason: str = REASONS[0]
        self.compartment = "epidermis"
        self.tool: Tool = "look"
        self.queue: list[int] | None = None
        self.at = 0
        self.listeners: list[Callable[[], None]] = []
        self._worker, self._reader = worker or Inline(), reader or Inline()
        self.easel = Easel(viewer)
        self._backroom = Backroom(session)
        self._spread = spread
        self._wanted = ""  # name of the slide that is shown or being opened
        self._found: Opened | None = None  # what is shown, or being put up
        self._closed = False
        viewer.mouse_drag_callbacks.append(self._on_drag)

    # -- slides -------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the worklist, and open the first slide that is not judged yet."""
        self._worker.submit(self.session.worklist, self._listed, self._refused)

    @property
    def busy(self) -> bool:
        """Whether an edit, or the opening of a slide, is on its way."""
        return self._worker.busy or self.opening

    @property
    def reading(self) -> bool:
        """Whether collagen VII is being read along a new line."""
        return self._reader.busy

    @property
    def layers(self) -> dict[str, Any]:
        """Layers of the slide at hand."""
        return dict(self.easel.layers)

    @property
    def waiting_words(self) -> str:
        """Why figures are missing for the time being; empty when they are not."""
        pending = "" if self.review is None else self.review.numbers().pending
        return "Reading collagen VII along the new line …" if pending and self.reading else pending

    @property
    def opening(self) -> bool:
        """Whether a slide is being opened."""
        return bool(self._wanted) and self.review is None

    def open(self, name: str) -> None:
        """Open a slide of the worklist; where that is impossible, `message` says why."""
        self.leave()
        self._wanted = name
        self._say(f"Opening {name} …")
        work = partial(self._backroom.open, name, lambda: self._wanted == name)
        self._worker.submit(work, self._opened, self._not_opened)

    def step(self, direction: int) -> None:
        """Go to the next (1) or previous (-1) slide of the worklist."""
        names = [item.name for item in self.items if item.status != "failed"]
        here = names.index(self._wanted) if self._wanted in names else -1
        there = here + direction
        if 0 <= there < len(names):
            self.open(names[there])
        else:
            self._say("This is the last slide" if direction > 0 else "This is the first")

    def leave(self) -> None:
        """Close the slide at hand. Edits that were made are finished, and on the disk."""
        self.easel.clear()
        self.straightener = self.review = self.queue = self._found = None
        self._wanted = ""
        self.choose_tool("look")
        self._worker.submit(self._backroom.release, lambda _: None, self._refused)

    def close(self) -> None:
        """Leave the slide and the viewer; edits that are on their way are finished."""
        if self._closed:
            return
        self._closed = True
        self.listeners.clear()
        self.leave()
        self.easel.take_down()
        self._worker.stop()
        self._reader.stop()
        if self._on_drag in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_drag)
        self.session.close()

    # -- edits --------------------------------------------------------------------------------

    def apply(self, edit: e.Edit, then: Then | None = None) -> None:
        """Make an edit; when it is refused, `message` says why.

        Parameters
        ----------
        then
            Called when the edit holds.
        """
        self._change(lambda review: review.carry_out(edit), then=then)

    def undo(self) -> None:
        """Take the last edit back."""
        self._change(lambda review: review.carry_out_undo(), "There is nothing to undo")

    def redo(self) -> None:
        """Do again what was undone."""
        self._change(lambda review: review.carry_out_redo(), "There is nothing to redo")

    def set_class(self, value: str, point_um: Place | None = None) -> None:
        """Call a nucleus positive, negative, not a nucleus, or what the program called it.

        The nucleus of the queue, where it is on, else the one at `point_um`; the queue goes on.
        """
        self.last = None
        if self.review is None or self.review.nuclei is None:
            self._say("There are no nuclei on this slide to judge")
            return
        row = self._row(point_um)
        if row is None:
            self._say("No nucleus under the cursor: point at one, or press A to add it")
            return
        self.apply(self.review.set_class([row], value))  # type: ignore[arg-type]
        if self.queue is not None:
            self.next_doubt()

    def add_nucleus(self, point_um: Place, value: str = "positive") -> None:
        """Add a nucleus that the program missed."""
        y, x = map(float, point_um)
        self.apply(e.AddNucleus((y, x), value))  # type: ignore[arg-type]

    def draw(self, line_um: Floats) -> None:
        """What a drawn line does depends on the tool."""
        self.last = None
        if self.review is None or len(line_um) < 2:
            return
        line = tuple((float(y), float(x)) for y, x in _thinned(np.asarray(line_um, np.float64)))
        tool = self.tool
        if tool not in ("redraw", "cut") and len(line) < 3:
            self._say("Too small: hold the mouse button and draw around it")
            return
        if tool in CLASSES:
            self._lasso(line, tool)
            return
        makers: dict[str, Callable[[], e.Edit]] = {
            "redraw": lambda: e.RedrawJunction(line),
            "cut": lambda: e.DeleteJunction(line[0], line[-1], self.reason),
            "exclude": lambda: e.ExcludeRegion(line, self.reason),
            "include": lambda: e.IncludeRegion(line, self.reason),
            "compartment": lambda: e.SetCompartment(line, self.compartment),
        }
        if tool in makers:
            self._make(makers[tool])

    def judge(self, value: str, reason: str = "", then: Then | None = None) -> None:
        """Accept or reject the slide, or leave it open again."""
        self._make(lambda: e.SetVerdict(value, reason.strip()), then)  # type: ignore[arg-type]

    def note(self, text: str, point_um: Place | None = None, then: Then | None = None) -> None:
        """Put words on the slide, or on a place of it."""
        at = None if point_um is None else (float(point_um[0]), float(point_um[1]))
        self._make(lambda: e.AddNote(text.strip(), at), then)

    # -- tools and the queue ------------------------------------------------------------------

    def choose_tool(self, tool: Tool) -> None:
        """Take a tool up; moving the view with the mouse waits until it is put down."""
        self.tool = tool
        self.viewer.scene.camera.mouse_pan = tool == "look"
        self.viewer.cursor.style = "standard" if tool == "look" else "cross"
        what = f" {self.compartment.replace('_', ' ')}" if tool == "compartment" else ""
        self._say("" if tool == "look" else f"{TOOLS[tool]}{what}. Esc puts the tool down.")

    def start_queue(self) -> bool:
        """Go through what is nearest to the threshold, most uncertain first."""
        if self.review is None:
            return False
        self.queue, self.at = [int(row) for row in self.review.queue()], -1
        if not self.queue:
            self.queue = None
            return self._say("Nothing here is near the threshold", False)
        return self.next_doubt()

    def stop_queue(self) -> None:
        """Leave the queue."""
        self.queue = None
        self.easel.mark(None)
        self._say("")

    def next_doubt(self, step: int = 1) -> bool:
        """Go to the next doubtful nucleus or bin; back with -1."""
        if self.review is None or not self.queue:
            return False
        if not 0 <= self.at + step < len(self.queue):
            return self._say(
                "That was the last one" if step > 0 else "This is the first one", False
            )
        self.at += step
        point = self._doubtful_point()
        camera = self.viewer.scene.camera
        camera.zoom = max(camera.zoom, _FOCUS_ZOOM)
        camera.center = (0.0, float(point[0]), float(point[1]))
        self.easel.refresh()
        self.easel.mark(point)
        return self._say(self._words())

    # -- what comes back from it ----------------------------------------------------------------

    def _listed(self, items: list[WorkItem]) -> None:
        self.items = items
        new = [item.name for item in items if item.status in ("new", "started")]
        first = new or [item.name for item in items if item.status != "failed"]
        if first:
            self.open(first[0])

    def _opened(self, found: Opened | None) -> None:
        if found is not None and found.review.name == self._wanted and self.review is None:
            self._found = found
            self._spread(self._put_up(found))

    def _put_up(self, found: Opened) -> Iterator[None]:
        """Show a slide, step by step; another one may be asked for in between."""
        try:
            for _ in self.easel.put_up(found.review, found.pictures, found.scene):
                yield
                if found is not self._found:
                    return
        except Exception as error:
            self._not_opened(error)
            return
        self.review, self.straightener = found.review, found.scene.straightener
        self._bring_up_to_date()
        self.viewer.title = f"Review: {self.review.name}"
        problems = filter(None, [*self.review.problems, found.problem])
        self._read_line()
        self._say("; ".join(problems) or f"{self.review.name} is open")

    def _not_opened(self, error: Exception) -> None:
        self._wanted = ""
        self._refused(error)

    def _refused(self, error: Exception) -> None:
        self.last = None
        known = isinstance(error, HistoquantError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self._say(self.session.hide(text))
        if not known and not self.session.blind:  # a traceback may show what must be hidden
            raise error

    def _arrived(
        self, review: SlideReview, nothing: str, then: Then | None, found: Carried | None
    ) -> None:
        if found is None:
            self.last = None
            if nothing and review is self.review:
                self._say(nothing)
            return
        review.take_over(found.change)
        self.last = found.change
        self._bring_up_to_date(review)
        if review is self.review:
            self._follow(found)
            words = self._words() if self.queue is not None else found.change.text
            self._read_line()
            self._say(self.session.hide(words))
        if then is not None:
            then()

    def _read_line(self) -> None:
        """Read collagen VII of a junction drawn anew; edits go on meanwhile."""
        review = self.review
        waiting = None if review is None else review.waiting
        if review is None or waiting is None or self.straightener is None or self._reader.busy:
            return
        self._reader.submit(
            lambda: review.profiles_of(waiting, lambda _: self._go_on(review)),
            partial(self._take_line, review, waiting),
            self._line_unread,
        )

    def _go_on(self, review: SlideReview) -> None:
        if review is not self.review:
            raise HistoquantError("the slide was left")

    def _take_line(self, review: SlideReview, of: Measured, profiles: Any) -> None:
        if review is self.review:
            self._change(lambda held: held.carry_out_line(of, profiles), then=None)

    def _line_unread(self, error: Exception) -> None:
        if self.review is not None and self.review.waiting is not None:
            self._refused(error)

    # -- inner works --------------------------------------------------------------------------

    def _say(self, message: str, result: bool = True) -> bool:
        self.message = message
        for listener in self.listeners:
            listener()
        return result

    def _make(self, maker: Callable[[], e.Edit], then: Then | None = None) -> None:
        """Make an edit that may be refused before it is tried."""
        try:
            edit = maker()
        except HistoquantError as error:
            self._refused(error)
            return
        self.apply(edit, then)

    def _change(self, act: Act, nothing: str = "", then: Then | None = None) -> None:
        self.last = None
        review = self.review
        if review is None:
            self._say("Wait until the slide is open" if self.opening else "Open a slide first")
            return
        arrived = partial(self._arrived, review, nothing, then)
        self._worker.submit(partial(self._backroom.carry_out, act), arrived, self._refused)
        if self.busy:
            self._say(self.message)

    def _bring_up_to_date(self, review: SlideReview | None = None) -> None:
        """Write into the worklist what a review says by now."""
        review = review or self.review
        if review is None or not review.history:
            return
        status = "started" if review.verdict == "open" else review.verdict
        told = {"status": status, "n_edits": review.numbers().n_edits}
        reason = self.session.hide(review.verdict_reason)
        self.items = [
            replace(item, **told, reason=reason) if item.name == review.name else item
            for item in self.items
        ]

    def _follow(self, found: Carried) -> None:
        """Bring the layers up to date with an edit."""
        change = found.change
        if found.scene is not None:
            self.easel.draw(found.scene)
            self.straightener = found.scene.straightener
            if self.queue is not None and self.review is not None and self.review.nuclei is None:
                self.stop_queue()  # its bins are others now
        if len(change.rows) or change.reload_nuclei:
            self.easel.draw_nuclei(others=change.reload_nuclei)

    def _lasso(self, line: e.Line, value: str) -> None:
        assert self.review is not None
        rows = self.review.inside(line)
        if len(rows):
            self.apply(self.review.set_class(rows, value))  # type: ignore[arg-type]
        else:
            self._say("No nuclei lie inside")

    def _row(self, point_um: Place | None) -> int | None:
        assert self.review is not None
        if self.queue is not None:
            return self.queue[self.at]
        return None if point_um is None else self.review.nearest([float(v) for v in point_um])

    def _doubtful_point(self) -> Floats:
        assert self.review is not None
        assert self.queue is not None
        row = self.queue[self.at]
        if self.review.nuclei is not None:
            centre: Floats = self.easel.points_um[row]
            return centre
        place = self.review.bins[["y_px", "x_px"]].iloc[row].to_numpy(np.float64)
        at: Floats = place * self.review.mpp
        return at

    def _words(self) -> str:
        assert self.review is not None
        assert self.queue is not None
        row, threshold = self.queue[self.at], self.review.threshold_od
        table, name = (
            (self.review.nuclei, "dab_od_mean")
            if self.review.nuclei is not None
            else (self.review.bins, "peak_od")
        )
        return (
            f"{self.at + 1} of {len(self.queue)} near the threshold: "
            f"OD {table[name].iloc[row]:.3f}, threshold {threshold:.3f}"
        )

    def _on_drag(self, viewer: Any, event: Any) -> Any:
        """A drag with a tool draws; without one it moves the view, and a click does nothing."""
        del viewer
        if self.review is None or self.tool == "look" or event.button != 1:
            return
        drawn = [np.asarray(event.position[-2:], np.float64)]
        yield
        while event.type == "mouse_move":
            drawn.append(np.asarray(event.position[-2:], np.float64))
            self.easel.preview(drawn)
            yield
        self.easel.preview([])
        if len(drawn) > 1:
            self.draw(np.array(drawn))
        elif self.tool in ("positive", "negative", "not_a_nucleus", "automatic"):
            self.set_class(self.tool, drawn[0])
        event.handled = True


def _thinned(line: Floats, least_um: float = 1.0) -> Floats:
    """A drawn line without the points that a slow hand puts on one another."""
    kept = [line[0]]
    for point in line[1:-1]:
        if np.hypot(*(point - kept[-1])) >= least_um:
            kept.append(point)
    return np.array([*kept, line[-1]])
