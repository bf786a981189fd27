"""A slide whose errors tell a blinded reviewer no names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from histoquant.errors import SlideError
from histoquant.slides import Slide
from histoquant.slides.grid import Grid
from histoquant.slides.scale import Scale
from histoquant.slides.source import Source

if TYPE_CHECKING:
    import dask.array as da


class VeiledSlide(Slide):
    """The same slide; what it says of itself when it cannot be read goes through `hide`.

    Made from an open slide, whose file it shares. A copy in another process has no `hide`, and
    says nothing of where it failed.
    """

    _hide: Callable[[str], str] = staticmethod(lambda _: "the slide cannot be read")

    @classmethod
    def of(cls, slide: Slide, hide: Callable[[str], str]) -> VeiledSlide:
        """Put the veil on `slide`."""
        veiled = cls.__new__(cls)
        veiled.__dict__.update(vars(slide), _hide=hide)
        return veiled

    def __repr__(self) -> str:
        return self._hide(super().__repr__())

    def region(self, *window: Any, **options: Any) -> npt.NDArray[Any]:
        """As `Slide.region`."""
        with self._veiled():
            return super().region(*window, **options)

    def read(self, *window: Any, **options: Any) -> npt.NDArray[Any]:
        """As `Slide.read`."""
        with self._veiled():
            return super().read(*window, **options)

    def known(self, mpp: float) -> npt.NDArray[np.bool_]:
        """As `Slide.known`."""
        with self._veiled():
            return super().known(mpp)

    def associated(self, name: str) -> npt.NDArray[np.uint8]:
        """As `Slide.associated`."""
        with self._veiled():
            return super().associated(name)

    def info(self) -> dict[str, Any]:
        """As `Slide.info`."""
        with self._veiled():
            return super().info()

    def pixels(self, mpp: float) -> da.Array:
        """As `Slide.pixels`."""
        with self._veiled():
            return super().pixels(mpp)

    @property
    def fingerprint(self) -> str:
        """As `Slide.fingerprint`."""
        with self._veiled():
            return super().fingerprint

    def _unknown_boxes(self) -> list[tuple[float, float, float, float]]:
        with self._veiled():
            return super()._unknown_boxes()

    def _grid(self, mpp: float) -> Grid:
        with self._veiled():
            return super()._grid(mpp)

    def _open(self) -> tuple[Source, Scale | None]:
        with self._veiled():
            return super()._open()

    @contextmanager
    def _veiled(self) -> Iterator[None]:
        try:
            yield
        except (SlideError, OSError) as error:
            kind = type(error) if isinstance(error, SlideError) else SlideError
            raise kind(self._hide(str(error))) from None
