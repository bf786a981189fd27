"""How many people a paired study needs, from a pilot, by simulation.

The pilot's pairs give the spread of the effect between people. People are then drawn with the
effect worth finding, some drop out, the pairs left are tested as the study will be, and the
share of studies that find it is the power. A pilot of a few pairs knows the spread badly, so
a second curve takes the upper limit of it (Browne 1995).

A person who loses one site is lost as a pair; drop-out here does not depend on the effect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from histoquant.errors import StudyError
from histoquant.study.exact import subset_sums
from histoquant.study.means import (
    NAN,
    Floats,
    Scale,
    all_equal,
    mean_of,
    number,
    pair_effects,
    shown,
    unit_of,
)

Test = Literal["t", "signed_rank"]
Shape = Literal["normal", "resample"]

LARGEST = 1000
"""More people than this are not simulated: the effect is too small for such a study."""
_UPPER = 0.8
_FEWEST = 3


@dataclass(frozen=True)
class Question:
    """What is asked of the simulation. A value out of range is a `StudyError`.

    Attributes
    ----------
    effect
        The effect worth finding: a ratio treated / placebo where the pilot's values are
        compared as ratios, else a difference. None: the pilot's own estimate.
    target
        Power wanted.
    drop_out
        Share of people expected to be lost.
    alpha
        Two-sided level.
    test
        ``t`` (of the log ratios or differences) or ``signed_rank`` (exact).
    shape
        ``normal``: effects are drawn from a normal distribution; ``resample``: from the
        pilot's own pairs, centred and stretched to their standard deviation.
    sizes
        People enrolled to try; empty: around the number that a normal approximation gives.
    n_simulations
        Studies drawn per size.
    seed
        Everything random follows from it; a size gives the same power whatever else is tried.
    """

    effect: float | None = None
    target: float = 0.8
    drop_out: float = 0.0
    alpha: float = 0.05
    test: Test = "t"
    shape: Shape = "normal"
    sizes: tuple[int, ...] = ()
    n_simulations: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("target", 0, 1), ("alpha", 0, 1)):
            if not low < getattr(self, name) < high:
                raise StudyError(f"{name} lies between 0 and 1, found {getattr(self, name)}")
        if not 0 <= self.drop_out < 1:
            raise StudyError(f"drop_out lies between 0 and 1, found {self.drop_out}")
        if self.n_simulations < 1 or any(n < 1 for n in self.sizes):
            raise StudyError("simulations and sizes are counts of at least 1")
        if self.effect is not None and not math.isfinite(self.effect):
            raise StudyError(f"the effect must be a number, found {self.effect}")


@dataclass(frozen=True)
class Point:
    """Power at one size, with the standard error that the simulation leaves."""

    n_enrolled: int
    power: float
    mc_error: float
    mean_pairs: float


@dataclass(frozen=True)
class Curve:
    """Power against size for one spread.

    Attributes
    ----------
    spread
        Where the standard deviation comes from.
    sd
        Of the effects, on the scale of the analysis.
    smallest
        Least number of people from which on every size tried reaches the target; None where
        none does.
    """

    spread: str
    sd: float
    points: tuple[Point, ...]
    smallest: int | None

    def rows(self) -> list[dict[str, object]]:
        """Rows of the power table, less what the outcome is."""
        return [
            {
                "spread": self.spread,
                "n_enrolled": p.n_enrolled,
                "mean_pairs": p.mean_pairs,
                "power": p.power,
                "mc_error": p.mc_error,
            }
            for p in self.points
        ]


@dataclass(frozen=True)
class Power:
    """Answer to a `Question`.

    Attributes
    ----------
    question
        With the effect that was used.
    n_pilot, scale
        Complete pairs of the pilot, and the scale of their effects.
    curves
        With the pilot's spread, and with the upper limit of it.
    sentences
        What to tell the reader.
    reason
        Why there are no curves; empty where there are.
    """

    question: Question
    n_pilot: int
    scale: Scale
    curves: tuple[Curve, ...] = ()
    sentences: tuple[str, ...] = ()
    reason: str = ""

    def rows(self) -> list[dict[str, object]]:
        """Rows of the power table, less what the outcome is."""
        return [row for curve in self.curves for row in curve.rows()]


def power_from_pilot(
    treated: npt.ArrayLike, placebo: npt.ArrayLike, question: Question | None = None
) -> Power:
    """Power of a paired study like the pilot.

    Parameters
    ----------
    treated, placebo
        (n,) values of the pilot's pairs, such as `pairs.Pairs` holds them.
    """
    question = question or Question()
    effects, scale, note = pair_effects(treated, placebo)
    mean = mean_of(effects, question.alpha)
    if effects.size < 2 or all_equal(effects):
        reason = f"the pilot tells no spread between people: {mean.reason}"
        return Power(question, effects.size, scale, reason=reason, sentences=(reason,))
    if question.effect is not None and scale == "log" and question.effect <= 0:
        reason = f"a ratio lies above 0, found {question.effect:g}"
        return Power(question, effects.size, scale, reason=reason, sentences=(reason,))
    own = question.effect is None
    delta = mean.estimate if question.effect is None else _on_scale(question.effect, scale)
    question = replace(question, effect=shown(delta, scale))
    unit = unit_of(effects)
    sd = float((effects / unit).std(ddof=1)) * unit
    upper = sd * math.sqrt((effects.size - 1) / stats.chi2.ppf(1 - _UPPER, effects.size - 1))
    spreads = (("pilot", sd), (f"upper {100 * _UPPER:g} % limit of the pilot's", upper))
    curves = tuple(power_curve(delta, s, question, effects, word) for word, s in spreads)
    sentences = _sentences(question, curves, effects.size, scale, own)
    return Power(question, effects.size, scale, curves, (*sentences, *filter(None, [note])))


def power_curve(
    delta: float,
    sd: float,
    question: Question,
    pilot: npt.ArrayLike = (),
    spread: str = "given",
) -> Curve:
    """Power against size for an effect and a spread, on the scale of the analysis.

    Parameters
    ----------
    delta, sd
        Mean and standard deviation of the effects of the people.
    pilot
        Effects to draw from, for the shape ``resample``.
    """
    shape = _standard(np.asarray(pilot, np.float64)) if question.shape == "resample" else None
    sizes = sorted(set(question.sizes)) or _sizes(delta / sd, question)
    points = tuple(_power(n, delta / sd, question, shape) for n in sizes)
    return Curve(spread, sd, points, _smallest(points, question.target))


def _power(n: int, dz: float, question: Question, shape: Floats | None) -> Point:
    """Power with `n` people whose effects have mean `dz` and standard deviation 1."""
    rng = np.random.default_rng([question.seed, n])
    total = question.n_simulations
    left = rng.binomial(n, 1 - question.drop_out, total) if question.drop_out else [n] * total
    found = 0
    for m, times in zip(*np.unique(left, return_counts=True), strict=True):
        size = (int(times), int(m))
        drawn = rng.standard_normal(size) if shape is None else rng.choice(shape, size)
        found += _found(drawn + dz, question.test, question.alpha)
    power = found / total
    error = math.sqrt(power * (1 - power) / total)
    return Point(n, power, error, float(np.mean(left)))


def _found(effects: Floats, test: Test, alpha: float) -> int:
    """How many rows are significant; a row too short to test, or without spread, is not."""
    m = effects.shape[1]
    if m < 2:
        return 0
    if test == "signed_rank":
        ranks = np.abs(effects).argsort(axis=1).argsort(axis=1) + 1
        upper = np.where(effects > 0, ranks, 0).sum(axis=1)
        return int((np.minimum(upper, m * (m + 1) // 2 - upper) <= _rank_limit(m, alpha)).sum())
    limit = stats.t.isf(alpha / 2, m - 1) / math.sqrt(m)
    return int((np.abs(effects.mean(axis=1)) > limit * effects.std(axis=1, ddof=1)).sum())


@cache
def _rank_limit(m: int, alpha: float) -> int:
    """Largest rank sum of the rarer sign that is significant in `m` pairs without ties, or -1."""
    p = 2 * np.cumsum(subset_sums(range(1, m + 1)))
    return int(np.searchsorted(p, alpha * (1 + 1e-12), side="right")) - 1


def _sizes(dz: float, question: Question) -> list[int]:
    """Sizes around the normal approximation's; none where it lies beyond `LARGEST`."""
    z = stats.norm.isf(question.alpha / 2) + stats.norm.ppf(question.target)
    if not abs(dz) > 0 or (guess := (z / dz) ** 2 / (1 - question.drop_out)) > LARGEST:
        return []
    low, high = max(_FEWEST, math.floor(0.5 * guess)), math.ceil(1.5 * guess) + 8
    step = max(1, (high - low) // 40)
    return list(range(low, high + step, step))


def _smallest(points: tuple[Point, ...], target: float) -> int | None:
    smallest = None
    for point in reversed(points):
        if point.power < target:
            break
        smallest = point.n_enrolled
    return smallest


def _standard(pilot: Floats) -> Floats:
    """The pilot's effects with mean 0 and, as a population, standard deviation 1."""
    return np.asarray((pilot - pilot.mean()) / pilot.std(), np.float64)


def _on_scale(effect: float, scale: Scale) -> float:
    return math.log(effect) if scale == "log" else effect


def _sentences(
    question: Question, curves: tuple[Curve, ...], n: int, scale: Scale, own: bool
) -> Iterator[str]:
    effect = question.effect if question.effect is not None else NAN
    word = f"a ratio of {number(effect)}" if scale == "log" else f"a difference of {number(effect)}"
    lost = f", {100 * question.drop_out:g} % of them lost" if question.drop_out else ""
    for curve in curves:
        start = f"To find {word} with {100 * question.target:g} % power ({curve.spread} spread"
        start += f", SD {number(curve.sd)})"
        if curve.smallest is None:
            tried = [p.n_enrolled for p in curve.points]
            why = f"no size up to {max(tried)} is enough" if tried else f"over {LARGEST} people"
            yield f"{start}: {why}{lost}."
            continue
        at = next(p for p in curve.points if p.n_enrolled == curve.smallest)
        most = "at most " if at == curve.points[0] and at.n_enrolled > _FEWEST else ""
        yield (
            f"{start}: {most}{curve.smallest} people{lost} (power {100 * at.power:.1f} %, "
            f"Monte Carlo error {100 * at.mc_error:.1f})."
        )
    if own:
        yield (
            f"The effect is the pilot's own estimate, from {n} pairs: estimates that look worth "
            "a study tend to be too large. Give the smallest effect that would matter instead."
        )
