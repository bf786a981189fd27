"""From results to figures: which figure shows what, with which words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from histoquant.study import figures
from histoquant.study.agreement import bland_altman
from histoquant.study.design import Design
from histoquant.study.figures import ForestRow, Interval, Slope
from histoquant.study.flow_figure import FlowStep, flow
from histoquant.study.means import Scale, counted, mean_of, number, p_text, shown
from histoquant.study.outcomes import ROLES, Outcome
from histoquant.study.pairs import Pairs, SiteValues, site_values
from histoquant.study.sensitivity import THRESHOLD, USED, Line
from histoquant.study.svg import Drawing
from histoquant.study.svg import Scale as AxisScale

Floats = npt.NDArray[np.float64]
_ROLE_WORDS = {
    "primary": "Primary",
    "secondary": "Secondary",
    "exploratory": "Exploratory",
}


def pair_slopes(pairs: Pairs, design: Design, sentence: str) -> Drawing:
    """Each person's two sites at the visit of the comparison."""
    arms = design.terms
    panel = _slope(pairs.visit, (arms.placebo, arms.treated), (pairs.placebo, pairs.treated))
    return figures.paired_slopes(_title(pairs.outcome), _unit(pairs.outcome), [panel], [sentence])


def change_slopes(pairs: Pairs, design: Design, sentence: str) -> Drawing | None:
    """Each site from its own baseline; None where no one has all four values."""
    before_treated, before_placebo = pairs.baseline_treated, pairs.baseline_placebo
    if before_treated is None or before_placebo is None:
        return None
    both = np.isfinite(before_treated) & np.isfinite(before_placebo)
    if not both.any():
        return None
    labels = (design.baseline, pairs.visit)
    arms = design.terms
    panels = [
        _slope(arms.placebo, labels, (before_placebo[both], pairs.placebo[both])),
        _slope(arms.treated, labels, (before_treated[both], pairs.treated[both])),
    ]
    title = f"{_title(pairs.outcome)}: change from baseline"
    return figures.paired_slopes(title, _unit(pairs.outcome), panels, [sentence])


def _slope(title: str, labels: tuple[str, str], values: tuple[Floats, Floats]) -> Slope:
    scale: Scale = "log" if min(v.min(initial=1.0) for v in values) > 0 else "linear"
    left, right = (_side_mean(v, scale) for v in values)
    return Slope(title, *labels, *values, left, right)


def _side_mean(values: Floats, scale: Scale) -> Interval:
    mean = mean_of(np.log(values) if scale == "log" else values)
    return shown(mean.estimate, scale), shown(mean.low, scale), shown(mean.high, scale)


def ratio_forest(rows: Sequence[Mapping[str, object]], design: Design, confidence: str) -> Drawing:
    """The ratios of all outcomes, by role; `rows` are those of ``contrasts.csv``."""
    lines: list[ForestRow] = []
    for role in ROLES:
        own = [row for row in rows if row["role"] == role]
        if own:
            lines.append(ForestRow(_ROLE_WORDS[role]))
        for row in own:
            lines.append(_forest_row(row, strong=role == "primary"))
    arms = design.terms
    return figures.forest(
        f"{arms.treated} over {arms.placebo}, {design.primary_visit}",
        lines,
        f"geometric mean of {arms.treated} / {arms.placebo} (log scale)",
        [f"{confidence} t interval on the log; n is people, each with both sites"],
    )


def _forest_row(row: Mapping[str, object], *, strong: bool) -> ForestRow:
    label = f"{row['marker']} {row['outcome']}"
    estimate, low, high = (_float(row[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    n = f"n = {row['n_pairs']}"
    if not math.isfinite(estimate):
        return ForestRow(label, (math.nan,) * 3, f"no ratio, {n}", strong)
    if not math.isfinite(low):
        return ForestRow(
            label, (estimate, low, high), f"{number(estimate)}, no interval, {n}", strong
        )
    text = f"{number(estimate)} ({number(low)} to {number(high)}), {n}"
    return ForestRow(label, (estimate, low, high), text, strong)


def threshold_curve(outcome: Outcome, lines: Iterable[Line], confidence: str) -> Drawing | None:
    """The ratio over the cut-offs of the sweep; None where there is no such curve."""
    own = [x for x in lines if x.analysis == THRESHOLD and x.scale == "log" and x.mean.has_interval]
    used = [float(x.level) for x in own if USED in x.note]
    if len(own) < 2 or len(used) != 1:
        return None
    cuts = [float(x.level) for x in own]
    ratios = [
        tuple(shown(v, "log") for v in (x.mean.estimate, x.mean.low, x.mean.high)) for x in own
    ]
    n = sorted({x.mean.n for x in own})
    people = _people(n[0]) if len(n) == 1 else f"{n[0]} to {n[-1]} people"
    return figures.threshold_sensitivity(
        f"{_title(outcome)} over the threshold",
        "mean nuclear DAB optical density from which a nucleus is positive",
        cuts,
        ratios,  # type: ignore[arg-type]
        used[0],
        [f"Ratio with {confidence} interval at every cut-off of the sweep, {people}"],
    )


def pigment_agreement(markers: pd.DataFrame) -> Drawing | None:
    """Percent positive of every sample with and without nuclei suspected of pigment."""
    names = ["positive_percent", "positive_percent_without_pigment"]
    if not set(names) <= set(markers.columns):
        return None
    table = markers.loc[markers["marker"] == "p16", names].to_numpy(np.float64)
    table = table[np.isfinite(table).all(axis=1)]
    if len(table) < 3:
        return None
    AxisScale.around(table.ravel(), 0, 1)  # refuses what no axis can show
    found = bland_altman(table[:, 0], table[:, 1])
    if not math.isfinite(found.lower.low):
        return None
    return figures.bland_altman(
        "p16: percent positive with and without suspected pigment",
        "percentage points",
        table[:, 0],
        table[:, 1],
        (found.bias.estimate, found.bias.low, found.bias.high),
        (
            (found.lower.estimate, found.lower.low, found.lower.high),
            (found.upper.estimate, found.upper.low, found.upper.high),
        ),
        [
            f"{len(table)} samples of both arms; bias and limits of agreement with 95 % intervals",
            *_trend(table[:, 0], table[:, 1]),
        ],
    )


def _trend(first: Floats, second: Floats) -> list[str]:
    """That the difference goes with the mean, where it does: the limits take that it does not."""
    mean, apart = (first + second) / 2, first - second
    if np.ptp(mean) == 0 or np.ptp(apart) == 0:
        return []
    line = stats.linregress(mean, apart)
    half = float(stats.t.isf(0.025, len(mean) - 2)) * float(line.stderr)
    low, high = float(line.slope) - half, float(line.slope) + half
    if low <= 0 <= high:
        return []
    way = "grows" if low > 0 else "falls"
    return [
        f"The difference {way} with the mean, by {number(line.slope)} ({number(low)} to "
        f"{number(high)}) points per point: the limits are those of the middle of its range"
    ]


def flow_diagram(design: Design, markers: pd.DataFrame, pairs: Sequence[Pairs]) -> Drawing:
    """People and sites from enrolment to analysis; `pairs` has one outcome per marker."""
    n = design.n_enrolled
    found = [site_values(design, markers, p.outcome, p.visit) for p in pairs]
    visit = design.primary_visit
    steps = [FlowStep("Enrolled", n, 2 * n)]
    steps.append(FlowStep("Randomised: one site to each arm", n, 2 * n))
    if design.baseline:
        before = [site_values(design, markers, p.outcome, design.baseline) for p in pairs]
        steps.append(_measured(f"Measured at {design.baseline}", before, n))
    gone = [p for p in design.people if not any(p in own.people for own in pairs)]
    seen = _any_site(found, n)
    measured = int(seen[[i for i, p in enumerate(design.people) if p in gone]].sum())
    last = steps.pop()
    lost = _lost_lines(gone, pairs, measured, visit)
    steps.append(FlowStep(last.label, last.people, last.sites, lost))
    kept = n - len(gone)
    steps.append(FlowStep(f"Both sites measured at {visit}", kept, 2 * kept))
    ends = [_analysed(own, gone) for own in pairs]
    return flow("Flow of people and sites", steps, ends)


def _measured(label: str, found: Sequence[SiteValues], n: int) -> FlowStep:
    seen = _any_site(found, n)
    return FlowStep(label, int(seen.any(axis=1).sum()), int(seen.sum()))


def _any_site(found: Sequence[SiteValues], n: int) -> npt.NDArray[np.bool_]:
    """(n, 2) whether a site has a value of any of the outcomes."""
    seen = np.zeros((n, 2), bool)
    for one in found:
        seen |= np.isfinite(one.values)
    return seen


def _lost_lines(
    gone: Sequence[str], pairs: Sequence[Pairs], measured: int, visit: str
) -> tuple[str, ...]:
    if not gone:
        return ()
    reasons = Counter(
        " and ".join(dict.fromkeys(own.lost[person] for own in pairs)) for person in gone
    )
    head = f"No pair at {visit}: {_people(len(gone))}, {2 * len(gone)} sites"
    lines = [f"{count}: {reason}" for reason, count in reasons.most_common()]
    partner = [f"{measured} of these sites were measured without a partner"] if measured else []
    return (head, *lines, *partner)


def _analysed(pairs: Pairs, gone: Sequence[str]) -> FlowStep:
    more = Counter(reason for person, reason in pairs.lost.items() if person not in gone)
    lines = tuple(f"{count} more without a pair: {reason}" for reason, count in more.most_common())
    return FlowStep(f"Analysed: {pairs.outcome.marker}", pairs.n, 2 * pairs.n, lines)


def result_sentence(row: Mapping[str, object], design: Design, confidence: str) -> str:
    """One line of ``contrasts.csv`` in words, never a P without its interval."""
    n, arms = int(_float(row["n_pairs"])), design.terms
    people = f"{_people(n)} of {row['n_enrolled']} enrolled"
    ratio = row["scale"] == "ratio"
    names = ("ratio", "ratio_low", "ratio_high") if ratio else (
        "mean_difference", "mean_difference_low", "mean_difference_high"
    )  # fmt: skip
    estimate, low, high = (_float(row[name]) for name in names)
    word = "/" if ratio else "less"
    if not math.isfinite(estimate):
        return f"{people}: {row['note']}."
    if not math.isfinite(low):
        about = f"{arms.treated} {word} {arms.placebo} {number(estimate)}, without an interval"
        return f"{people}: {about} ({row['note']})."
    exact = (
        f"exact signed-rank {p_text(_float(row['p_signed_rank']))}, the least possible being "
        f"{_float(row['p_floor']):.2g}"
    )
    return (
        f"{people}: {arms.treated} {word} {arms.placebo} {number(estimate)} ({confidence} interval "
        f"{number(low)} to {number(high)}), {p_text(_float(row['p_t']))} (t); {exact}."
    )


def _people(count: int) -> str:
    return counted(count, "person", "people")


def _title(outcome: Outcome) -> str:
    return f"{outcome.marker} {outcome.name}"


def _unit(outcome: Outcome) -> str:
    return outcome.name if outcome.unit in ("", "1") else f"{outcome.name} ({outcome.unit})"


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else math.nan
