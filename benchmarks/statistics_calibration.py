"""Are the P values and intervals of ``histoquant study`` what they say they are?

    python benchmarks/statistics_calibration.py --simulations 20000 --count-simulations 1000

Studies of n people are drawn and analysed: without an effect, to see how often one is found at
P <= 0.05 (type-I error, to be 5 %), and with a ratio of 0.7, to see how often the 95 % interval
holds the truth (coverage, to be 95 %). Beside it the wrong analysis, which takes nuclei for
people. Prints a Markdown table; `--check` fails when the primary analysis is off its target.

skewed         log-normal values: people differ (SD of the log 0.6), their sites too (0.4), and 300
               nuclei of a site by 0.6; the value of a site is the geometric mean of its nuclei
uneven         the same, and people respond unevenly: the log ratio of a person is drawn from an
               exponential distribution (SD 0.4) about its mean, which is what should be found; "no
               effect" is then a mean of none
overdispersed  positives on 3 to 6 mm of junction, about 8 per mm; people differ as above, sites by
               a gamma variable with a coefficient of variation of 0.5: far more than Poisson
sparse         such counts with 0.6 per mm and people alike: many sites have no positive at all, so
               there is no ratio and differences are compared
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from histoquant.study.counts import rate_ratio
from histoquant.study.exact import hodges_lehmann, signed_rank, subset_sums
from histoquant.study.means import mean_of, pair_effects

Floats = NDArray[np.float64]
SIZES = (8, 17, 36)
EFFECT = 0.7
PERSON_SD, SITE_SD, NUCLEUS_SD, NUCLEI = 0.6, 0.4, 0.6, 300
SITE_CV, RESPONSE_SD = 0.5, 0.4
TYPE_I, COVERAGE = (4.3, 5.7), (94.0, 96.0)


@dataclass(frozen=True)
class Drawn:
    """`n` pairs of many studies: values (studies, n, 2), treated first, and the wrong P.

    `counts` and `lengths` have the same shape where the data are counts.
    """

    values: Floats
    wrong_p: Floats
    counts: Floats | None = None
    lengths: Floats | None = None


def skewed(
    rng: np.random.Generator, shape: tuple[int, int], ratio: float, response_sd: float = 0
) -> Drawn:
    people = rng.normal(0, PERSON_SD, (*shape, 1))
    sites = people + rng.normal(0, SITE_SD, (*shape, 2)) + [np.log(ratio), 0.0]
    sites[..., 0] += response_sd * (1 - rng.standard_exponential(shape))
    means = sites + rng.normal(0, NUCLEUS_SD / np.sqrt(NUCLEI), sites.shape)
    within = NUCLEUS_SD**2 * rng.chisquare(NUCLEI - 1, sites.shape)
    arms = means.mean(axis=1)
    squares = (within + NUCLEI * (means - arms[:, None, :]) ** 2).sum(axis=(1, 2))
    n = NUCLEI * shape[1]
    t = (arms[:, 0] - arms[:, 1]) / np.sqrt(squares / (2 * n - 2) * 2 / n)
    return Drawn(np.exp(means), 2 * stats.t.sf(np.abs(t), 2 * n - 2))


def uneven(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Drawn:
    return skewed(rng, shape, ratio, response_sd=RESPONSE_SD)


def counted(
    rng: np.random.Generator, shape: tuple[int, int], ratio: float, per_mm: float, person_sd: float
) -> Drawn:
    people = np.exp(rng.normal(0, person_sd, (*shape, 1)))
    sites = rng.gamma(1 / SITE_CV**2, SITE_CV**2, (*shape, 2))
    lengths = rng.uniform(3, 6, (*shape, 2))
    counts = rng.poisson(per_mm * people * sites * lengths * [ratio, 1.0]).astype(np.float64)
    y, mm = counts.sum(axis=1), lengths.sum(axis=1)
    total, share = y.sum(axis=1), mm[:, 0] / mm.sum(axis=1)
    z = (y[:, 0] - total * share) / np.sqrt(np.maximum(total, 1) * share * (1 - share))
    return Drawn(counts / lengths, 2 * stats.norm.sf(np.abs(z)), counts, lengths)


def overdispersed(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Drawn:
    return counted(rng, shape, ratio, per_mm=8, person_sd=PERSON_SD)


def sparse(rng: np.random.Generator, shape: tuple[int, int], ratio: float) -> Drawn:
    return counted(rng, shape, ratio, per_mm=0.6, person_sd=0)


Draw = Callable[[np.random.Generator, tuple[int, int], float], Drawn]
DATA: dict[str, Draw] = {
    "skewed": skewed,
    "uneven": uneven,
    "overdispersed": overdispersed,
    "sparse": sparse,
}


@dataclass(frozen=True)
class Truth:
    """What the intervals should hold: mean log ratio, mean and pseudo-median difference."""

    log_ratio: float
    difference: float
    pseudo_median: float


def truth_of(draw: Draw, seed: int, pairs: int = 2_000_000) -> Truth:
    """From one very large study."""
    values = draw(np.random.default_rng(seed), (1, pairs), EFFECT).values[0]
    positive = values[(values > 0).all(axis=1)]
    difference = values[:, 0] - values[:, 1]
    half = pairs // 2
    walsh = (difference[:half] + difference[half : 2 * half]) / 2
    return Truth(
        float(np.log(positive[:, 0] / positive[:, 1]).mean()),
        float(difference.mean()),
        float(np.median(walsh)),
    )


@dataclass(frozen=True)
class Analysed:
    """Per study: the primary analysis (P, limits, scale) and the signed-rank one."""

    p: Floats
    low: Floats
    high: Floats
    is_ratio: NDArray[np.bool_]
    p_rank: Floats
    low_hl: Floats
    high_hl: Floats


def analyse(values: Floats) -> Analysed:
    """The analyses of `histoquant.study.contrasts`, for many studies at once."""
    difference = values[..., 0] - values[..., 1]
    is_ratio = (values > 0).all(axis=(1, 2))
    logs = np.log(np.where(is_ratio[:, None, None], values, 1.0))
    effects = np.where(is_ratio[:, None], logs[..., 0] - logs[..., 1], difference)
    n = effects.shape[1]
    mean, se = effects.mean(axis=1), effects.std(axis=1, ddof=1) / np.sqrt(n)
    half = stats.t.isf(0.025, n - 1) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t.sf(np.abs(mean / se), n - 1)
    p = np.where(se > 0, p, 1.0)
    low_hl, high_hl = shift_limits(difference)
    return Analysed(p, mean - half, mean + half, is_ratio, rank_p(difference), low_hl, high_hl)


def rank_p(difference: Floats) -> Floats:
    """Exact signed-rank P (Pratt) of studies without ties other than zeros."""
    n = difference.shape[1]
    zeros = (difference == 0).sum(axis=1)
    ranks = np.abs(difference).argsort(axis=1).argsort(axis=1) + 1
    w = np.where(difference > 0, ranks, 0).sum(axis=1)
    p = np.ones(len(difference))
    for z in np.unique(zeros):
        own = zeros == z
        chance = subset_sums(range(z + 1, n + 1))
        smaller = np.minimum(w[own], chance.size - 1 - w[own])
        p[own] = np.minimum(1, 2 * np.cumsum(chance)[smaller])
    return p


def shift_limits(difference: Floats, chunk: int = 2000) -> tuple[Floats, Floats]:
    """Hodges-Lehmann limits of every study."""
    n = difference.shape[1]
    i, j = np.triu_indices(n)
    k = int(np.searchsorted(np.cumsum(subset_sums(range(1, n + 1))), 0.025, side="right"))
    low, high = [], []
    for start in range(0, len(difference), chunk):
        part = difference[start : start + chunk]
        walsh = np.partition((part[:, i] + part[:, j]) / 2, (k - 1, i.size - k), axis=1)
        low.append(walsh[:, k - 1])
        high.append(walsh[:, i.size - k])
    return np.concatenate(low), np.concatenate(high)


def same_as_histoquant(values: Floats, found: Analysed, studies: int = 50) -> None:
    """Stop when the analyses of many studies at once are not those of histoquant."""
    for s in range(min(studies, len(values))):
        treated, placebo = values[s].T
        mean = mean_of(pair_effects(treated, placebo)[0])
        shift, rank = hodges_lehmann(treated - placebo), signed_rank(treated - placebo)
        pairs = [(found.p_rank[s], rank.p)]
        if mean.has_interval:
            pairs += [(found.p[s], mean.p), (found.low[s], mean.low), (found.high[s], mean.high)]
        if not shift.reason:
            pairs += [(found.low_hl[s], shift.low), (found.high_hl[s], shift.high)]
        np.testing.assert_allclose(*np.transpose(pairs), rtol=1e-9, atol=1e-12)


def cell(data: str, n: int, simulations: int, truth: Truth, seed: int) -> dict[str, float]:
    """Percent of studies: type-I errors, and intervals that hold the truth."""
    rng = np.random.default_rng([seed, n, list(DATA).index(data)])
    null = DATA[data](rng, (simulations, n), 1.0)
    found = analyse(null.values)
    same_as_histoquant(null.values, found)
    effect = analyse(DATA[data](rng, (simulations, n), EFFECT).values)
    true = np.where(effect.is_ratio, truth.log_ratio, truth.difference)
    median = truth.pseudo_median
    return {
        "primary_type_i": 100 * float((found.p <= 0.05).mean()),
        "primary_coverage": 100 * float(((effect.low <= true) & (true <= effect.high)).mean()),
        "rank_type_i": 100 * float((found.p_rank <= 0.05).mean()),
        "rank_coverage": 100
        * float(((effect.low_hl <= median) & (median <= effect.high_hl)).mean()),
        "ratio_percent": 100 * float(found.is_ratio.mean()),
        "wrong_type_i": 100 * float((null.wrong_p <= 0.05).mean()),
    }


def count_model(data: str, n: int, simulations: int, seed: int) -> float:
    """Percent of studies without an effect in which the negative binomial model finds one."""
    drawn = DATA[data](np.random.default_rng([seed, n]), (simulations, n), 1.0)
    if drawn.counts is None or drawn.lengths is None or not simulations:
        return float("nan")
    pairs = zip(drawn.counts, drawn.lengths, strict=True)
    return 100 * float(np.mean([rate_ratio(y, mm).p <= 0.05 for y, mm in pairs]))


def off_target(results: dict[tuple[str, int], dict[str, float]]) -> list[str]:
    """Cells of the primary analysis outside 5 +- 0.7 and 95 +- 1 %."""
    return [
        f"{data}, n = {n}: {name} {own[name]:.2f} %"
        for (data, n), own in results.items()
        for name, (low, high) in (("primary_type_i", TYPE_I), ("primary_coverage", COVERAGE))
        if not low <= own[name] <= high
    ]


def table(results: dict[tuple[str, int], dict[str, float]]) -> str:
    """The results in Markdown."""
    lines = [
        "| data | pairs | ratio, t: type I | coverage | signed rank: type I | "
        "Hodges-Lehmann: coverage | count model: type I | nuclei as n: type I |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (data, n), own in results.items():
        counts = own.get("count_type_i", float("nan"))
        cells = [f"{own[k]:.1f} %" for k in ("primary_type_i", "primary_coverage")]
        cells += [f"{own[k]:.1f} %" for k in ("rank_type_i", "rank_coverage")]
        cells += ["" if np.isnan(counts) else f"{counts:.1f} %", f"{own['wrong_type_i']:.0f} %"]
        lines.append(f"| {data} | {n} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(simulations: int, count_simulations: int, seed: int) -> dict[tuple[str, int], dict]:
    results: dict[tuple[str, int], dict[str, float]] = {}
    for data, draw in DATA.items():
        truth = truth_of(draw, seed)
        for n in SIZES:
            own = cell(data, n, simulations, truth, seed)
            own["count_type_i"] = count_model(data, n, count_simulations, seed)
            results[data, n] = own
            print(f"{data} n={n}: {own}", file=sys.stderr, flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    parser.add_argument("--count-simulations", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    results = run(options.simulations, options.count_simulations, options.seed)
    print(table(results))
    wrong = off_target(results)
    for line in wrong:
        print(f"off target: {line}", file=sys.stderr)
    return 1 if options.check and wrong else 0


if __name__ == "__main__":
    sys.exit(main())
