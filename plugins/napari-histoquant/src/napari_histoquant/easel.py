"""The layers of a slide under review, and what of it is drawn as the view moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Layer

from histoquant.review import SlideReview
from napari_histoquant import layers as look
from napari_histoquant.scene import Scene
from napari_histoquant.window import Box, Shown, choose

Floats = npt.NDArray[np.float64]

NOTHING = np.empty((0, 2))
_LEAST_LINE_PX = 1.6
PICTURE = "slide"
_ORDER = ("compartments", "regions", "junction", "bins", "nuclei", "focus", "drawing")
_FOCUS = {
    "units": ("um", "um"), "axis_labels": ("y", "x"), "name": "Here", "size": 16.0,
    "face_color": "transparent", "border_color": "#f000ff", "border_width": 0.1, "ndim": 2,
    "symbol": "disc",
}  # fmt: skip


class Easel:
    """Draws one slide at a time.

    Parameters
    ----------
    viewer
        Where layers are shown.

    Attributes
    ----------
    layers
        Of the slide at hand: slide, compartments, regions, junction, bins, nuclei.
    points_um
        (n, 2) centres of the nuclei, (y, x).
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.layers: dict[str, Layer] = {}
        self.points_um: Floats = NOTHING
        self._review: SlideReview | None = None
        self._shown: Shown | None = None

    def put_up(
        self, review: SlideReview, pictures: Sequence[look.LayerData], scene: Scene
    ) -> Iterator[None]:
        """Show a slide, a layer at each step: together they would hold up the viewer."""
        lines = dict(scene.layers)
        if review.nuclei is not None:
            lines["nuclei"] = look.nuclei_layer(review.nuclei.iloc[:0])
        lines["focus"] = (NOTHING, _FOCUS, "points")
        lines["drawing"] = look.line_layer(NOTHING, look.VERMILION, "Drawing")
        for key in set(self.layers) - set(lines):
            self._remove(key)
        for number, data in enumerate(pictures):
            self._add(f"{PICTURE}{number}", data)
            self.viewer.reset_view()
            yield
        self.viewer.canvas.overlays.scale_bar.visible = True
        yield
        self._review, self.points_um = review, review.points_um
        for key, data in lines.items():
            if key not in self.layers:
                self._add(key, data)
            elif data[2] == "vectors":
                _replace_vectors(self.layers[key], data)
            if key != "nuclei":
                self.layers[key].visible = True
            yield
        self.viewer.reset_view()
        self.refresh(force=True)
        if "nuclei" in self.layers:
            self.layers["nuclei"].visible = True
        yield

    def clear(self) -> None:
        """Show no slide; hidden layers stay for the next one, as making them takes long."""
        self._review = self._shown = None
        self.points_um = NOTHING
        for key, layer in list(self.layers.items()):
            if key.startswith(PICTURE):
                self._remove(key)
            else:
                layer.visible = False
        self.mark(None)

    def take_down(self) -> None:
        """Remove all layers."""
        for key in list(self.layers):
            self._remove(key)
        self._review = self._shown = None

    def draw(self, scene: Scene) -> None:
        """Draw lines as they are now."""
        for key, data in scene.layers.items():
            if key in self.layers:
                _replace_vectors(self.layers[key], data)
        self._widen()

    def draw_nuclei(self, *, others: bool) -> None:
        """Draw the nuclei in view again; `others` when they are not the same ones as before."""
        if self._review is not None and others:
            self.points_um = self._review.points_um
        self.refresh(force=True)

    def refresh(self, force: bool = False) -> None:
        """Draw the nuclei in view, and lines wide enough to see; after every move of the view."""
        self._widen()
        layer = self.layers.get("nuclei")
        if layer is None or self._review is None or self._review.nuclei is None:
            return
        view = self.view_box()
        if not force and self._shown is not None and self._shown.covers(view):
            return
        table = self._review.nuclei
        first = table["positive"].fillna(False).to_numpy(bool)
        if "added" in table:
            first = first | table["added"].fillna(False).to_numpy(bool)
        self._shown = choose(self.points_um, first, view)
        self._put_nuclei(layer, self._shown)

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
        shown, all_of_them = len(self._shown.rows), len(self.points_um)
        return f"{shown:,} of {all_of_them:,} nuclei drawn; zoom in for all"

    def show_measurements(self, shown: bool | None = None) -> None:
        """Show or hide everything but the slide; turn it over when not told."""
        own = [layer for key, layer in self.layers.items() if not key.startswith(PICTURE)]
        wanted = not any(layer.visible for layer in own) if shown is None else shown
        for layer in own:
            layer.visible = wanted

    def mark(self, point: Floats | None) -> None:
        """Put a ring around a place, or take it away."""
        layer: Any = self.layers.get("focus")
        if layer is not None:
            layer.data = NOTHING if point is None else np.asarray(point, np.float64)[None]
            layer.editable = False

    def preview(self, drawn: Sequence[Floats]) -> None:
        """Show the line that is being drawn; none takes it away."""
        layer: Any = self.layers.get("drawing")
        if layer is None:
            return
        layer.edge_width = 2.5 / max(self.viewer.scene.camera.zoom, 1e-9)
        line = np.array(drawn) if len(drawn) > 1 else NOTHING
        _replace_vectors(layer, look.line_layer(line, look.VERMILION, "Drawing"))

    def _add(self, key: str, data: look.LayerData) -> None:
        layer = Layer.create(*data)
        above = [self.layers[k] for k in self.layers if _rank(k) > _rank(key)]
        places = [self.viewer.layers.index(one) for one in above if one in self.viewer.layers]
        self.layers[key] = layer
        self.layers = dict(sorted(self.layers.items(), key=lambda item: _rank(item[0])))
        self.viewer.layers.insert(min(places, default=len(self.viewer.layers)), layer)
        layer.editable = False  # what is changed by hand here would be in no journal

    def _remove(self, key: str) -> None:
        layer = self.layers.pop(key)
        if layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def _put_nuclei(self, layer: Any, shown: Shown) -> None:
        assert self._review is not None
        assert self._review.nuclei is not None
        table = self._review.nuclei.iloc[shown.rows]
        with layer.events.blocker_all(), layer._border.events.blocker_all():
            layer.data = self.points_um[shown.rows]
            layer.features = look.nuclei_features(table)
            if len(shown.rows):
                layer.border_color = look.nuclei_colours(table)
            layer.size = look.NUCLEUS_UM
            layer.border_width = look.RING
            layer.face_color = "transparent"
        layer.editable = False  # napari makes it editable again with new data
        layer.refresh()

    def _widen(self) -> None:
        """Lines have a width in um; zoomed out they still are a line on the screen."""
        least = _LEAST_LINE_PX / max(self.viewer.scene.camera.zoom, 1e-9)
        thin = look.THIN_UM if "bins" in self.layers else look.JUNCTION_UM
        for key, width in (
            ("compartments", look.THIN_UM),
            ("junction", thin),
            ("bins", look.BIN_UM),
        ):
            layer: Any = self.layers.get(key)
            wanted = max(width, least * (2 if key == "bins" else 1))
            if layer is not None and not 0.8 < layer.edge_width / wanted < 1.25:
                layer.edge_width = wanted


def _rank(key: str) -> tuple[int, str]:
    """Undermost first."""
    return (0, key) if key.startswith(PICTURE) else (1 + _ORDER.index(key), key)


def _replace_vectors(layer: Any, data: look.LayerData) -> None:
    vectors, meta, _ = data
    # A hidden layer does not look which of its vectors are in view until it is shown again;
    # drawn before, it would draw those of the vectors that were there.
    with nullcontext() if layer.visible else layer.events.blocker_all():
        layer.data = vectors
        if len(vectors):
            layer.edge_color = meta["edge_color"]
    layer.editable = False  # napari makes it editable again with new data
