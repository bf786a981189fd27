"""What takes long of a review: opening slides, measuring edits, working out what is drawn.

All of it runs in the worker's thread, one thing after another, and touches nothing that is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from histoquant import HistoquantError
from histoquant.review import Change, ReviewSession, SlideReview
from histoquant.slides import Slide
from napari_histoquant.layers import LayerData, slide_layers
from napari_histoquant.scene import Scene, scene_of

Act = Callable[[SlideReview], Change | None]


@dataclass(frozen=True, eq=False)
class Opened:
    """A slide that was opened, before it is shown.

    Attributes
    ----------
    slide
        None where its file cannot be read, and `problem` says why.
    pictures
        Its pixels.
    scene
        What lies over them.
    """

    review: SlideReview
    slide: Slide | None
    pictures: list[LayerData]
    scene: Scene
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Carried:
    """An edit that was measured and is on the disk; `scene` where lines changed."""

    change: Change
    scene: Scene | None


class Backroom:
    """Holds the one slide that is open.

    Parameters
    ----------
    session
        The review.
    """

    def __init__(self, session: ReviewSession) -> None:
        self._session = session
        self._held: Opened | None = None

    def open(self, name: str, wanted: Callable[[], bool]) -> Opened | None:
        """Open a slide in the place of the one before; None when it is not wanted any more.

        Raises
        ------
        ReviewError
            As `ReviewSession.slide`.
        """
        self.release()
        if not wanted():
            return None
        review = self._session.slide(name)
        slide, problem, pictures = None, "", list[LayerData]()
        try:
            slide = review.open_slide()
            pictures = slide_layers(slide, keep_path=not self._session.blind)
        except HistoquantError as error:
            problem = f"the slide itself cannot be shown: {error}"
        scene = scene_of(review.measured, review.mpp, slide)
        self._held = Opened(review, slide, pictures, scene, problem)
        return self._held

    def carry_out(self, act: Act) -> Carried | None:
        """Let an edit be made, and work out what is to be drawn; None when there is none to make.

        Raises
        ------
        ReviewError
            When it is refused.
        """
        held = self._held
        change = None if held is None else act(held.review)
        if held is None or change is None:
            return None
        if not change.geometry:
            return Carried(change, None)
        scene = scene_of(change.after, held.review.mpp, held.slide, held.scene.outlined)
        self._held = replace(held, scene=scene)
        return Carried(change, scene)

    def release(self) -> None:
        """Close what is open."""
        held, self._held = self._held, None
        if held is not None:
            held.review.close()
            if held.slide is not None:
                held.slide.close()
