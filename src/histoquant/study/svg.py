"""A small drawing kit: scales, ticks and marks as SVG text, the same in every run.

Nothing random and no date goes into a drawing, text stays text, and colours are those of
Okabe and Ito (2008), which people with any colour vision can tell apart. Shapes and dashes
carry what colours carry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from histoquant.errors import StudyError
from histoquant.printable import printable

INK, SOFT, LINE, TINT = "#1d2430", "#5b6472", "#d9dee6", "#f4f6f9"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#00785a"

_NAMESPACE = "http://www.w3.org/2000/svg"
_FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LETTER_EM = 0.56
"""Width of an average letter: what text takes where no font can be asked."""

_LARGEST, _LEAST = 1e100, 1e-100
"""No measure is beyond these, and arithmetic on what is leaves the range of float64."""

Point = tuple[float, float]


class AxisError(StudyError):
    """Values that no axis can show."""


def text_width(text: str, size: float = 13) -> float:
    """About how wide `text` is, in px; rather too wide than too narrow."""
    return _LETTER_EM * size * len(text)


def wrap(text: str, width: float, size: float = 13) -> list[str]:
    """`text` in lines of at most about `width` px; a longer word has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def number(value: float) -> str:
    """A number of an axis: no more digits than it needs."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}".replace("-", "\u2212")


@dataclass(frozen=True)
class Scale:
    """From values to px along one axis.

    Attributes
    ----------
    low, high
        Values at the ends; both positive where `log` is set.
    start, end
        Px of these ends.
    log
        Equal ratios take equal lengths.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Iterable[float], start: float, end: float, *, log: bool = False
    ) -> Scale:
        """A scale that holds all finite `values` with a margin of 6 %.

        Raises
        ------
        AxisError
            Where the values are too large, too small or too close for an axis.
        """
        kept = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(kept), max(kept)
        if max(abs(low), abs(high)) > _LARGEST or (log and low < _LEAST):
            raise AxisError(f"no axis can show values from {low:g} to {high:g}")
        if log:
            margin = 0.06 * math.log(high / low) or math.log(1.3)
            return cls(low / math.exp(margin), high * math.exp(margin), start, end, log=True)
        size = max(abs(low), abs(high))
        margin = max(0.06 * (high - low), 1e-9 * size) if high > low else 0.5 * size or 1.0
        if margin < _LEAST:
            raise AxisError(f"no axis can show values from {low:g} to {high:g}")
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Px of `value`; one beyond an end is put on that end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values along the axis, about `about` of them."""
        return _log_ticks(self, about) if self.log else _linear_ticks(self, about)


def _linear_ticks(scale: Scale, about: int) -> list[float]:
    rough = (scale.high - scale.low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(m for m in (1, 2, 5, 10) if m * power >= 0.9 * rough)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _log_ticks(scale: Scale, about: int) -> list[float]:
    """The coarsest of a few round series that gives at least three ticks."""
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    chosen: list[float] = []
    if len(decades) > 2 * about + 2:
        kept = decades[:: math.ceil(len(decades) / about)]
        return [t for d in kept if scale.low <= (t := 10.0**d) <= scale.high]
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(range(1, 10))):
        ticks = [float(f"{s * 10.0**d:.3g}") for d in decades for s in steps]
        chosen = [t for t in ticks if scale.low <= t <= scale.high]
        if len(chosen) >= max(3, about - 2):
            return chosen
    return chosen if len(chosen) >= 3 else _linear_ticks(scale, about)


class Drawing:
    """Marks in the order they are drawn, in px from the top left."""

    def __init__(self, width: float, height: float, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._head = (title, description)
        self._marks: list[str] = []

    def line(
        self, start: Point, end: Point, colour: str = INK, width: float = 1.5, dash: str = "",
        opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """A straight line."""
        (x1, y1), (x2, y2) = start, end
        self._add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, stroke_width=width,
                  stroke_dasharray=dash, opacity=opacity, stroke_linecap="round")  # fmt: skip

    def path(self, points: Sequence[Point], colour: str = INK, width: float = 1.5) -> None:
        """A line through `points`."""
        self._add("polyline", points=_points(points), fill="none", stroke=colour,
                  stroke_width=width, stroke_linejoin="round")  # fmt: skip

    def area(self, points: Sequence[Point], colour: str, opacity: float = 0.15) -> None:
        """A filled polygon."""
        self._add("polygon", points=_points(points), fill=colour, opacity=opacity)

    def box(
        self, corner: Point, size: Point, fill: str = "none", colour: str = LINE, width: float = 1.2
    ) -> None:
        """A rectangle with soft corners; `corner` is its top left, `size` width and height."""
        self._add("rect", x=corner[0], y=corner[1], width=size[0], height=size[1], rx=5,
                  fill=fill, stroke=colour, stroke_width=width)  # fmt: skip

    def dot(
        self, at: Point, radius: float = 3.5, fill: str = INK, ring: str = "none", hint: str = ""
    ) -> None:
        """A disc; `hint` shows under the pointer."""
        note = f"<title>{_escaped(hint)}</title>" if hint else ""
        self._add("circle", note, cx=at[0], cy=at[1], r=radius, fill=fill, stroke=ring,
                  stroke_width=1.4)  # fmt: skip

    def image(self, corner: Point, size: Point, uri: str) -> None:
        """A picture from a data URI, stretched to `size`."""
        self._add("image", x=corner[0], y=corner[1], width=size[0], height=size[1], href=uri,
                  preserveAspectRatio="none")  # fmt: skip

    def diamond(self, at: Point, half: float = 6, fill: str = INK) -> None:
        """A filled diamond."""
        x, y = at
        self._add("polygon", points=_points([(x - half, y), (x, y - half), (x + half, y),
                                             (x, y + half)]), fill=fill)  # fmt: skip

    def text(
        self, at: Point, text: str, *, anchor: str = "start", colour: str = INK,
        size: float = 13, bold: bool = False, turned: bool = False,
    ) -> None:  # fmt: skip
        """A line of text with its baseline at `at`; `turned` reads upwards."""
        x, y = at
        turn = f"rotate(-90 {_px(x)} {_px(y)})" if turned else ""
        self._add("text", _escaped(text), x=x, y=y, fill=colour, font_size=size,
                  text_anchor=anchor, font_weight="600" if bold else "",
                  transform=turn)  # fmt: skip

    def heading(self, title: str, below: Sequence[str] = (), x: float = 16) -> float:
        """Title and lines below it at the top; returns the y where the drawing may start."""
        self.text((x, 26), title, size=15, bold=True)
        for row, line in enumerate(below):
            self.text((x, 46 + 17 * row), line, colour=SOFT, size=12.5)
        return 46 + 17 * len(below)

    def axis_left(self, scale: Scale, x: float, right: float, label: str) -> None:
        """Ticks, their numbers and faint lines across; `label` reads upwards beside them."""
        for tick in scale.ticks():
            y = scale(tick)
            self.line((x, y), (right, y), LINE, 1)
            self.text((x - 8, y + 4), number(tick), anchor="end", colour=SOFT, size=12)
        middle = (scale.start + scale.end) / 2
        self.text((16, middle), label, anchor="middle", colour=SOFT, size=12.5, turned=True)

    def axis_below(self, scale: Scale, y: float, top: float, label: str) -> None:
        """Ticks, their numbers and faint lines upwards; `label` stands below."""
        for tick in scale.ticks():
            x = scale(tick)
            self.line((x, top), (x, y), LINE, 1)
            self.text((x, y + 18), number(tick), anchor="middle", colour=SOFT, size=12)
        middle = (scale.start + scale.end) / 2
        self.text((middle, y + 38), label, anchor="middle", colour=SOFT, size=12.5)

    def inline(self) -> str:
        """The drawing for a page, where the namespace is known."""
        return self._svg("")

    def file(self) -> str:
        """The drawing as the text of an ``.svg`` file."""
        head = '<?xml version="1.0" encoding="UTF-8"?>\n'
        return head + self._svg(f' xmlns="{_NAMESPACE}"') + "\n"

    def _svg(self, namespace: str) -> str:
        title, description = (_escaped(text) for text in self._head)
        size = f"{_px(self.width)} {_px(self.height)}"
        head = (
            f'<svg{namespace} viewBox="0 0 {size}" width="{_px(self.width)}" '
            f'height="{_px(self.height)}" role="img" font-family="{_FONT}">'
        )
        marks = "\n".join(self._marks)
        return (
            f"{head}\n<title>{title}</title>\n<desc>{description}</desc>\n"
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n{marks}\n</svg>'
        )

    def _add(self, mark: str, content: str = "", **attributes: object) -> None:
        given = " ".join(
            f'{name.replace("_", "-")}="{_px(value) if isinstance(value, float) else value}"'
            for name, value in attributes.items()
            if value != "" and not (name == "opacity" and value == 1)
        )
        self._marks.append(f"<{mark} {given}>{content}</{mark}>" if content
                           else f"<{mark} {given}/>")  # fmt: skip


def _escaped(text: str) -> str:
    return escape(printable(text))


def _points(points: Iterable[Point]) -> str:
    return " ".join(f"{_px(x)},{_px(y)}" for x, y in points)


def _px(value: float) -> str:
    """Px with two decimals at most, the same on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
