"""The study as a page that a reviewer can read alone: what was done, found, and cannot be said.

`section` makes the part that the report takes in, `whole` a page of its own around it. Both
hold their figures, load nothing, and escape every text that comes from outside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from histoquant.printable import finalize
from histoquant.study.analyse import ALL_ROWS
from histoquant.study.columns import CONTRASTS
from histoquant.study.contrasts import FEW
from histoquant.study.exact import floor_of
from histoquant.study.illustrate import result_sentence
from histoquant.study.means import counted, number
from histoquant.study.outcomes import NO_PLAN
from histoquant.study.svg import Drawing
from histoquant.tables import is_missing

if TYPE_CHECKING:
    from histoquant.study.run import StudyResult

DASH = "–"


def section(
    result: StudyResult, figures: Mapping[str, Drawing | str], facts: Mapping[str, Any]
) -> str:
    """The study's part of the report, as HTML.

    Parameters
    ----------
    figures
        File name without suffix -> figure, or why it is left out.
    facts
        Content of ``study.json``.
    """
    lead = {own.outcome.key for own in result.lead}
    return _environment().get_template("section.html").render(
        title=result.plan.title,
        arms=result.design.terms,
        confidence=result.confidence,
        version=facts["version"],
        written=facts["written"],
        warnings=result.warnings,
        findings=list(_findings(result)),
        plan_sentences=_plan_sentences(result),
        design_notes=result.design.notes,
        figures=_placed(figures),
        not_drawn=[why for why in figures.values() if isinstance(why, str)],
        meaning={c.name: c.meaning for c in CONTRASTS},
        contrasts=[_contrast(own.row, own.outcome) for own in result.outcomes],
        more=[f"{own.outcome.key}: {text}" for own in result.lead for text in own.more],
        reversal=[
            row | {"lead": f"{row['marker']}:{row['outcome']}" in lead}
            for row in result.tables["reversal.csv"]
        ],
        baseline=result.design.baseline,
        visit=result.design.primary_visit,
        missing_rows=[row for own in result.lead for row in own.missing_rows],
        sensitivity=[row for own in result.lead for row in own.sensitivity_rows],
        adequacy=[f"{o.outcome.key}: {o.adequacy}" for o in result.lead if o.adequacy],
        limits=list(_limits(result)),
        methods=list(_methods(result, facts)),
        design_sha256=facts["design_sha256"],
        markers_sha256=facts["markers_sha256"],
        plan_sha256=facts["plan_sha256"],
    )  # fmt: skip


def whole(section_html: str, title: str) -> str:
    """A page of its own around a section."""
    page = _environment().get_template("page.html")
    return page.render(section=Markup(section_html), title=title)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("histoquant.study", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.globals.update(show=_show, missing=is_missing, p=_p)
    return environment


def _placed(figures: Mapping[str, Drawing | str]) -> dict[str, Any]:
    """Figures by their place on the page, as markup of our own making."""
    inline = {
        name: Markup(drawing.inline())
        for name, drawing in figures.items()
        if not isinstance(drawing, str)
    }
    places = {"slopes": "pairs_", "changes": "change_", "thresholds": "threshold_",
              "agreement": "agreement_"}  # fmt: skip
    out: dict[str, Any] = {
        place: [html for name, html in inline.items() if name.startswith(start)]
        for place, start in places.items()
    }
    return out | {name: inline.get(name) for name in ("flow", "forest")}


def _findings(result: StudyResult) -> Iterator[dict[str, str]]:
    for own in result.lead:
        about = f"{own.outcome.marker} {own.outcome.name} ({own.outcome.role}):"
        text = result_sentence(own.row, result.design, result.confidence)
        if own.reversal is not None:
            text += f" Against baseline: {own.reversal.reading}."
        yield {"about": about, "text": text}


def _plan_sentences(result: StudyResult) -> list[str]:
    if result.lock is None:
        return [f"{NO_PLAN}."]
    declared = [
        f"{role.capitalize()}: {', '.join(names) or 'none'}."
        for role, names in result.plan.roles.items()
    ]
    margins = [f"{name} {number(value)}" for name, value in result.plan.margin.items()]
    declared += (
        [f"Margins within which an effect counts as none: {', '.join(margins)}."] if margins else []
    )
    sentences = result.lock.sentences()
    if result.lock.locked_at == result.lock.unblinded_at:
        sentences.append(
            "It was locked by the analysis itself: nothing shows that it was written before the "
            "arms were known. histoquant study --lock-plan locks a plan beforehand."
        )
    return [*sentences, *declared]


def _contrast(row: Mapping[str, object], outcome: Any) -> dict[str, object]:
    return {**row, "unit": outcome.unit, "title": outcome.meaning}


def _limits(result: StudyResult) -> Iterator[str]:
    arms = result.design.terms
    yield (
        "Carry-across: both sites belong to one person, so a cream that reaches the other hand, by "
        "touch or through the blood, acts on both. A design within persons cannot estimate this. "
        "It would make the two sites more alike and the effect look smaller than it is."
    )
    yield (
        "n is people. Nuclei, bins of junction and sections of one person resemble each other: "
        "counted as n they would make chance look like an effect, so histoquant refuses tables "
        "of them. They make a person's value more exact, which the limits in the marker table "
        "show, and they add nobody."
    )
    sizes = sorted({own.pairs.n for own in result.lead})
    for n in sizes:
        if n:
            yield _floor_sentence(n)
    lost = [own for own in result.lead if own.pairs.lost]
    if lost:
        yield (
            "Lost people: the comparison is that of the completers. The table of missing people "
            "says what those lost would have to look like for the conclusion to change; it "
            "cannot say what they look like."
        )
    if not result.design.baseline:
        yield (
            "No baseline: reversal cannot be told from slowed progression, and chance differences "
            "between the two sites before treatment cannot be taken out."
        )
    if result.lock is None:
        yield "No plan: nothing was declared before the arms were known; take every P as a hint."
    yield (
        f"Whether {arms.treated} and {arms.placebo} were told apart by anyone who measured, "
        "reviewed or chose sections is not in these files."
    )


def _floor_sentence(n: int) -> str:
    least = number(floor_of(n))
    text = f"With {counted(n, 'pair')} no exact two-sided P can be below {least}"
    if n >= FEW:
        return f"{text}."
    text += ", so that no effect, however large, can reach 0.05 in an exact test."
    if n < 2:
        return text
    return f"{text} The t test can, but it leans on normality, which so few cannot show."


def _methods(result: StudyResult, facts: Mapping[str, Any]) -> Iterator[str]:
    arms, plan, confidence = result.design.terms, result.plan, result.confidence
    libraries = ", ".join(f"{name} {number_}" for name, number_ in facts["libraries"].items())
    yield (
        f"Unit of analysis was the person: {arms.treated} against {arms.placebo} within each "
        f"person at {result.design.primary_visit}, from one value per site with sections pooled "
        "by summed numerators and denominators. The effect is the geometric mean of the ratio "
        f"with a {confidence} t interval and P (the primary analysis) on the log scale, and beside "
        "it the Hodges-Lehmann estimate of the difference with the interval of the signed-rank "
        "test. P values are two-sided. The Wilcoxon signed-rank test is exact with ties, and with "
        "zeros ranked (Pratt); the sign-flip permutation of the mean is exact up to 20 pairs and "
        "by 100 000 seeded draws above. The P of the primary analysis was corrected by Holm "
        "within primary and within secondary outcomes, and by Benjamini and Hochberg within "
        "exploratory ones. Values of 0 have no logarithm: an outcome with such values is compared "
        "by differences, of all pairs."
    )
    if result.design.baseline:
        yield (
            f"Change from {result.design.baseline} was taken within each site; the difference in "
            "differences is the treated change against the placebo change in the same person, and "
            "ANCOVA the difference at follow-up adjusted for the difference at baseline, centred "
            "on the 0 that randomisation expects. A reading of reversal needs the intervals of "
            "both the treated site's own change and of the difference in differences to exclude "
            "none (intersection-union)."
        )
    yield from _methods_beside(result)
    yield (
        "People without a complete pair were left out, and what they could have changed is given "
        "by the tipping point of a pattern-mixture model, and by giving the missing pairs on "
        "average the lowest and the highest effect seen, with the standard error of the "
        "completers. The comparison was repeated over all thresholds of the sweep, with and "
        "without nuclei suspected of pigment, with and without reviewers' edits, and by staining "
        "batch."
    )
    yield (
        f"Software: histoquant {facts['version']} with {libraries}. Level {plan.alpha:g}, "
        f"two-sided; seed {plan.seed}."
    )


def _methods_beside(result: StudyResult) -> Iterator[str]:
    """What was made beside the comparison, of outcomes that it was made of."""
    said = ["The comparison was repeated without each person in turn."]
    if any(own.outcome.is_rate for own in result.lead):
        said.append(
            "Rates were also compared as counts, with their length, area or total as offset, by a "
            "negative binomial model fitted by generalised estimating equations with persons as "
            "clusters, with the small-sample variance of Mancl and DeRouen and t limits."
        )
    if any(text.startswith(ALL_ROWS) for own in result.lead for text in own.more):
        said.append(
            "Repeated visits or sections were taken together by a linear mixed model (REML) with "
            "person and hand as random, or by one summary per person where that could not be "
            "fitted; degrees of freedom are those of the people."
        )
    if any(own.adequacy for own in result.lead):
        said.append(
            "The interval of a sample along its junction is from a bootstrap of its arc length in "
            "blocks."
        )
    yield " ".join(said)


def _show(value: object) -> str:
    """A cell for people: four significant digits, a dash where it is missing."""
    if is_missing(value) or value == "":
        return DASH
    if isinstance(value, float):
        return number(value) if math.isfinite(value) else str(value)
    return str(value)


def _p(value: object) -> str:
    """A P value for a table: two digits, never as zero."""
    if not isinstance(value, float) or is_missing(value):
        return DASH
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
