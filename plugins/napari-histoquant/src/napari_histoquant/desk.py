"""The reviewer's desk: one slide of a review as layers, tools that make edits, a queue of doubts.

Everything the Review widget does happens here, without Qt: the widget forwards keys, clicks and
drawn lines, and shows what the desk says. An edit goes to the journal first; the layers follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer

from histoquant import Compartments, HistoquantError
from histoquant.review import Change, ReviewSession, SlideReview
from histoquant.review import edits as e
from histoquant.slides import Slide
from napari_histoquant import layers as look
from napari_histoquant.strip import Straightener
from napari_histoquant.window import Box, Shown, choose

Floats = npt.NDArray[np.float64]
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
_LEAST_LINE_PX = 1.6
_NOTHING = np.empty((0, 2))


class Desk:
    """One reviewer's view on a results directory.

    Parameters
    ----------
    viewer
        Where layers are shown.
    session
        The review.

    Attributes
    ----------
    review
        The slide at hand; None before the first one.
    message
        What was done or refused last, in words.
    reason
        Why the next region is left out or taken in.
    compartment
        What the compartment tool paints.
    listeners
        Called with no argument after everything that changes what is to be seen.
    """

    def __init__(self, viewer: ViewerModel, session: ReviewSession) -> None:
        self.viewer, self.session = viewer, session
        self.review: SlideReview | None = None
        self.straightener: Straightener | None = None
        self.message = ""
        self.reason: str = REASONS[0]
        self.compartment = "epidermis"
        self.tool: Tool = "look"
        self.queue: list[int] | None = None
        self.at = 0
        self.listeners: list[Callable[[], None]] = []
        self._slide: Slide | None = None
        self._layers: dict[str, Layer] = {}
        self._outlined: Compartments | None = None
        self._shown: Shown | None = None
        self._points = _NOTHING
        viewer.mouse_drag_callbacks.append(self._on_drag)

    # -- slides -------------------------------------------------------------------------------

    def open(self, name: str) -> bool:
        """Open a slide of the worklist; False when that is impossible, and `message` says why."""
        self.leave()
        try:
            self.review = self.session.slide(name)
        except HistoquantError as error:
            return self._say(self.session.hide(str(error)), False)
        problems = list(self.review.problems)
        try:
            self._slide = self.review.open_slide()
        except HistoquantError as error:
            problems.append(f"the slide itself cannot be shown: {error}")
        self._build()
        self.viewer.title = f"Review: {self.review.name}"
        self.viewer.reset_view()
        self.refresh_view()
        self._say("; ".join(problems) or f"{self.review.name} is open")
        return True

    def step(self, direction: int) -> bool:
        """Go to the next (1) or previous (-1) slide of the worklist."""
        items = [item.name for item in self.session.worklist() if item.status != "failed"]
        here = items.index(self.review.name) if self.review and self.review.name in items else -1
        there = here + direction
        if not 0 <= there < len(items):
            return self._say(
                "This is the last slide" if direction > 0 else "This is the first", False
            )
        return self.open(items[there])

    def leave(self) -> None:
        """Close the slide at hand. Every edit is on the disk already."""
        for layer in list(self._layers.values()):
            if layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._layers, self._shown, self.queue, self._outlined = {}, None, None, None
        self.straightener = None
        self.choose_tool("look")
        if self.review is not None:
            self.review.close()
            self.review = None
        if self._slide is not None:
            self._slide.close()
            self._slide = None

    def close(self) -> None:
        """Leave the slide and the viewer."""
        self.leave()
        if self._on_drag in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_drag)
        self.session.close()
        self.listeners.clear()

    # -- edits --------------------------------------------------------------------------------

    def apply(self, edit: e.Edit) -> Change | None:
        """Make an edit; None when it is refused, and `message` says why."""
        return self._change(lambda review: review.apply(edit))

    def undo(self) -> Change | None:
        """Take the last edit back."""
        return self._change(lambda review: review.undo(), "There is nothing to undo")

    def redo(self) -> Change | None:
        """Do again what was undone."""
        return self._change(lambda review: review.redo(), "There is nothing to redo")

    def set_class(self, value: str, point_um: Place | None = None) -> Change | None:
        """Call a nucleus positive, negative, not a nucleus, or what the program called it.

        The nucleus of the queue, where it is on, else the one at `point_um`; the queue goes on.
        """
        if self.review is None or self.review.nuclei is None:
            self._say("There are no nuclei on this slide to judge")
            return None
        row = self._row(point_um)
        if row is None:
            self._say("No nucleus under the cursor: point at one, or press A to add it")
            return None
        done = self.apply(self.review.set_class([row], value))  # type: ignore[arg-type]
        if done is not None and self.queue is not None:
            self.next_doubt()
        return done

    def click(self, point_um: Place) -> Change | None:
        """Turn the nucleus at a point over: negative becomes positive, positive negative."""
        row = None if self.review is None else self.review.nearest([float(v) for v in point_um])
        if self.review is None or row is None or self.review.nuclei is None:
            return None
        positive = bool(self.review.nuclei["positive"].fillna(False).iloc[row])
        return self.apply(self.review.set_class([row], "negative" if positive else "positive"))

    def add_nucleus(self, point_um: Place, value: str = "positive") -> Change | None:
        """Add a nucleus that the program missed."""
        y, x = map(float, point_um)
        return self.apply(e.AddNucleus((y, x), value))  # type: ignore[arg-type]

    def draw(self, line_um: Floats) -> Change | None:
        """What a drawn line does depends on the tool."""
        if self.review is None or len(line_um) < 2:
            return None
        line = tuple((float(y), float(x)) for y, x in _thinned(np.asarray(line_um, np.float64)))
        tool = self.tool
        if tool not in ("redraw", "cut") and len(line) < 3:
            self._say("Too small: hold the mouse button and draw around it")
            return None
        if tool in CLASSES:
            return self._lasso(line, tool)
        makers: dict[str, Callable[[], e.Edit]] = {
            "redraw": lambda: e.RedrawJunction(line),
            "cut": lambda: e.DeleteJunction(line[0], line[-1], self.reason),
            "exclude": lambda: e.ExcludeRegion(line, self.reason),
            "include": lambda: e.IncludeRegion(line, self.reason),
            "compartment": lambda: e.SetCompartment(line, self.compartment),
        }
        return self._change(lambda review: review.apply(makers[tool]())) if tool in makers else None

    def judge(self, value: str, reason: str = "") -> Change | None:
        """Accept or reject the slide, or leave it open again."""
        return self._change(
            lambda review: review.apply(e.SetVerdict(value, reason.strip()))  # type: ignore[arg-type]
        )

    def note(self, text: str, point_um: Place | None = None) -> Change | None:
        """Put words on the slide, or on a place of it."""
        at = None if point_um is None else (float(point_um[0]), float(point_um[1]))
        return self._change(lambda review: review.apply(e.AddNote(text.strip(), at)))

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
        self._mark(None)
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
        self.refresh_view()
        self._mark(point)
        return self._say(f"{self.at + 1} of {len(self.queue)} near the threshold: {self._words()}")

    # -- what is drawn ------------------------------------------------------------------------

    def refresh_view(self, force: bool = False) -> None:
        """Draw the nuclei in view, and lines wide enough to see; after every move of the view."""
        self._widen()
        layer = self._layers.get("nuclei")
        if layer is None or self.review is None or self.review.nuclei is None:
            return
        view = self.view_box()
        if not force and self._shown is not None and self._shown.covers(view):
            return
        table = self.review.nuclei
        first = table["positive"].fillna(False).to_numpy(bool)
        if "added" in table:
            first = first | table["added"].fillna(False).to_numpy(bool)
        self._shown = choose(self._points, first, view)
        self._put_nuclei(layer)

    def view_box(self) -> Box:
        """Top, left, bottom, right of what is on the screen, in um."""
        camera = self.viewer.scene.camera
        height, width = (n / max(camera.zoom, 1e-9) for n in self.viewer.canvas.size)
        y, x = camera.center[-2:]
        return y - height / 2, x - width / 2, y + height / 2, x + width / 2

    @property
    def thinned(self) -> str:
        """That not all nuclei are drawn, in words; empty when all are."""
        if self._shown is None or self._shown.complete:
            return ""
        return f"{len(self._shown.rows):,} of {len(self._points):,} nuclei drawn; zoom in for all"

    def show_measurements(self, shown: bool | None = None) -> None:
        """Show or hide everything but the slide; turn it over when not told."""
        own = [layer for key, layer in self._layers.items() if not key.startswith("slide")]
        wanted = not any(layer.visible for layer in own) if shown is None else shown
        for layer in own:
            layer.visible = wanted

    @property
    def layers(self) -> dict[str, Layer]:
        """Layers of the slide at hand: slide, compartments, regions, junction and nuclei."""
        return dict(self._layers)

    # -- inner works --------------------------------------------------------------------------

    def _say(self, message: str, result: bool = True) -> bool:
        self.message = message
        for listener in self.listeners:
            listener()
        return result

    def _change(
        self, act: Callable[[SlideReview], Change | None], nothing: str = ""
    ) -> Change | None:
        if self.review is None:
            self._say("Open a slide first")
            return None
        try:
            change = act(self.review)
        except (HistoquantError, OSError) as error:
            self._say(self.session.hide(str(error)))
            return None
        if change is None:
            self._say(nothing)
            return None
        self._follow(change)
        self._say(self.session.hide(change.text))
        return change

    def _follow(self, change: Change) -> None:
        """Bring the layers up to date with an edit."""
        assert self.review is not None
        if change.reload_nuclei:
            self._points = self.review.points_um
        if change.geometry:
            self._rebuild_geometry()
        if "nuclei" in self._layers and (len(change.rows) or change.reload_nuclei):
            self.refresh_view(force=True)

    def _lasso(self, line: e.Line, value: str) -> Change | None:
        assert self.review is not None
        rows = self.review.inside(line)
        if not len(rows):
            self._say("No nuclei lie inside")
            return None
        return self.apply(self.review.set_class(rows, value))  # type: ignore[arg-type]

    def _row(self, point_um: Place | None) -> int | None:
        assert self.review is not None
        if self.queue is not None:
            return self.queue[self.at]
        return None if point_um is None else self.review.nearest([float(v) for v in point_um])

    def _build(self) -> None:
        assert self.review is not None
        review = self.review
        self._points = review.points_um
        if self._slide is not None:
            for number, data in enumerate(
                look.slide_layers(self._slide, keep_path=not self.session.blind)
            ):
                self._add(f"slide{number}", data)
        self._add("compartments", self._outlines())
        self._add("regions", self._regions())
        self._add("junction", look.junction_layer(review.junction))
        if look.has_profile(review.bins):
            self._add("bins", look.bins_layer(review.bins, review.mpp))
        if review.nuclei is not None:
            self._add("nuclei", look.nuclei_layer(review.nuclei.iloc[:0]))
        self._add("focus", (_NOTHING, _FOCUS, "points"))
        self._add("drawing", look.line_layer(_NOTHING, look.VERMILION, "Drawing"))
        self._straighten()

    def _add(self, key: str, data: look.LayerData) -> None:
        layer = Layer.create(*data)
        self._layers[key] = layer
        self.viewer.add_layer(layer)
        layer.editable = False  # what is changed by hand here would be in no journal

    def _straighten(self) -> None:
        assert self.review is not None
        self.straightener = (
            Straightener(self._slide, self.review.junction)
            if self._slide is not None and self.review.junction.stretches
            else None
        )

    def _rebuild_geometry(self) -> None:
        """Draw compartments, regions, junction and bins as they stand now."""
        assert self.review is not None
        review = self.review
        if review.compartments is not self._outlined:
            _replace_vectors(self._layers["compartments"], self._outlines())
        _replace_vectors(self._layers["junction"], look.junction_layer(review.junction))
        if "bins" in self._layers and look.has_profile(review.bins):
            _replace_vectors(self._layers["bins"], look.bins_layer(review.bins, review.mpp))
        _replace_vectors(self._layers["regions"], self._regions())
        self._straighten()
        self._widen()

    def _outlines(self) -> look.LayerData:
        assert self.review is not None
        self._outlined = self.review.compartments
        return look.outline_layer(self._outlined.labels, self._outlined.mpp)

    def _regions(self) -> look.LayerData:
        assert self.review is not None
        drawn = self.review.regions
        colours = [look.GREY if isinstance(r, e.ExcludeRegion) else look.GREEN for r in drawn]
        polygons = [np.asarray(r.polygon_um, np.float64) for r in drawn]
        return look.region_layer(polygons, colours)

    def _put_nuclei(self, layer: Any) -> None:
        assert self.review is not None
        assert self.review.nuclei is not None
        assert self._shown is not None
        rows = self._shown.rows
        table = self.review.nuclei.iloc[rows]
        with layer.events.blocker_all(), layer._border.events.blocker_all():
            layer.data = self._points[rows]
            layer.features = look.nuclei_features(table)
            if len(rows):
                layer.border_color = look.nuclei_colours(table)
            layer.size = look.NUCLEUS_UM
            layer.border_width = look.RING
            layer.face_color = "transparent"
        layer.editable = False  # napari makes it editable again with new data
        layer.refresh()

    def _widen(self) -> None:
        """Lines have a width in um; zoomed out they still are a line on the screen."""
        least = _LEAST_LINE_PX / max(self.viewer.scene.camera.zoom, 1e-9)
        thin = look.THIN_UM if "bins" in self._layers else look.JUNCTION_UM
        for key, width in (
            ("compartments", look.THIN_UM),
            ("junction", thin),
            ("bins", look.BIN_UM),
        ):
            layer: Any = self._layers.get(key)
            wanted = max(width, least * (2 if key == "bins" else 1))
            if layer is not None and not 0.8 < layer.edge_width / wanted < 1.25:
                layer.edge_width = wanted

    def _mark(self, point: Floats | None) -> None:
        layer: Any = self._layers.get("focus")
        if layer is not None:
            layer.data = _NOTHING if point is None else np.asarray(point, np.float64)[None]
            layer.editable = False

    def _doubtful_point(self) -> Floats:
        assert self.review is not None
        assert self.queue is not None
        row = self.queue[self.at]
        if self.review.nuclei is not None:
            centre: Floats = self._points[row]
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
        return f"OD {table[name].iloc[row]:.3f}, threshold {threshold:.3f}"

    def _on_drag(self, viewer: Any, event: Any) -> Any:
        """A drag with a tool draws; without one it moves the view, and a click does nothing."""
        del viewer
        if self.review is None or self.tool == "look" or event.button != 1:
            return
        drawn = [np.asarray(event.position[-2:], np.float64)]
        yield
        while event.type == "mouse_move":
            drawn.append(np.asarray(event.position[-2:], np.float64))
            self._preview(drawn)
            yield
        self._preview([])
        if len(drawn) > 1:
            self.draw(np.array(drawn))
        elif self.tool in ("positive", "negative", "not_a_nucleus", "automatic"):
            self.set_class(self.tool, drawn[0])
        event.handled = True

    def _preview(self, drawn: Sequence[Floats]) -> None:
        layer: Any = self._layers.get("drawing")
        if layer is None:
            return
        layer.edge_width = 2.5 / max(self.viewer.scene.camera.zoom, 1e-9)
        line = np.array(drawn) if len(drawn) > 1 else _NOTHING
        _replace_vectors(layer, look.line_layer(line, look.VERMILION, "Drawing"))


_FOCUS = {
    "units": ("um", "um"), "axis_labels": ("y", "x"), "name": "Here", "size": 16.0,
    "face_color": "transparent", "border_color": "#f000ff", "border_width": 0.1, "ndim": 2,
    "symbol": "disc",
}  # fmt: skip


def _replace_vectors(layer: Any, data: look.LayerData) -> None:
    vectors, meta, _ = data
    layer.data = vectors
    if len(vectors):
        layer.edge_color = meta["edge_color"]


def _thinned(line: Floats, least_um: float = 1.0) -> Floats:
    """A drawn line without the points that a slow hand puts on one another."""
    kept = [line[0]]
    for point in line[1:-1]:
        if np.hypot(*(point - kept[-1])) >= least_um:
            kept.append(point)
    return np.array([*kept, line[-1]])
