"""The report of an experiment: the answer and its picture, the trained models live, then figures, checks, provenance.

Everything is computed from the run directory's tables, and stands in one file that works offline. A figure finds its
place by being registered in `plots.FIGURES`; a measure without a registered figure is drawn all the same.
"""

from html import escape
from typing import NamedTuple

import pandas as pd
from plotly.offline import get_plotlyjs

from mechdistill import training
from mechdistill.ambient import neutral
from mechdistill.config import expand
from mechdistill.plots import DARK_SCRIPT
from mechdistill.report._answer import Evidence, Pair, answer
from mechdistill.report._choice import MAX_SIZE, budget_of, choose, foremost
from mechdistill.report._claims import claims_section, verdicts
from mechdistill.report._explorer import explorer
from mechdistill.report._glossary import glossary, marked
from mechdistill.report._material import Drawn, Material, drawn
from mechdistill.report._page import Payload, asset, page
from mechdistill.report._sections import arms_section, checks_section, provenance_section
from mechdistill.runs import Experiment, Run, opened
from mechdistill.tables import ABLATE, CHECK_TABLE, COMPARISON, INDUCTION_SCORES, METRICS_LOG, SCORECARD, frame


class Report(NamedTuple):
    """A page, and what to say about it."""

    html: str
    models: str
    """Which checkpoints run in it, and which were left out."""
    remarks: list[str]
    """What else was left out, and why."""


@neutral()
def report(target: Run | Experiment, *, max_size: float = MAX_SIZE, fresh: bool = False) -> Report:
    """The page of a run or an experiment; `max_size` is for the weights in it, MB.

    Measures what no cached table holds yet: every score at every checkpoint, ablations at the last, row curves. Raises
    `MechdistillError` where no run has a checkpoint, or where not even one model fits.
    """
    opened(target)
    budget = budget_of(max_size)
    material = Material(target, fresh=fresh)
    choice = choose(material.runs, budget)  # raises, before anything is measured
    checks = training.checks(target) if isinstance(target, Experiment) else frame(CHECK_TABLE, [])
    comparison = material.find(COMPARISON.name) if isinstance(target, Experiment) else None
    scores = material.find(INDUCTION_SCORES.name, "all")
    effects = material.find(ABLATE.name, "last")
    scorecard = material.find(SCORECARD.name) if isinstance(target, Experiment) else None
    log = material.table(METRICS_LOG.name) if comparison is None else material.finished()
    answered = answer(Evidence(log, comparison, pair(target, comparison), scores, effects, checks))
    live = explorer(material.runs, scores=scores, effects=effects, choice=choice)
    first, *others = drawn(material)
    name = target.config.name if isinstance(target, Experiment) else target.name
    body = "".join(
        [
            "<main>",
            _header(name, material, with_claims=scorecard is not None),
            f'<section id="answer"><h2>{marked(answered.question)}</h2><ol>',
            *(f"<li>{marked(sentence)}</li>" for sentence in answered.sentences),
            f"</ol>{verdicts(scorecard)}{_figure(first)}</section>",
            f"<section><h2>The trained models, live</h2>{live.markup}</section>",
            arms_section(log, comparison, scores),
            claims_section(scorecard),
            '<section id="figures"><h2>Figures</h2>',
            *(_figure(each) for each in others),
            "</section>",
            checks_section(checks),
            _left_out(material.remarks),
            provenance_section(target, material.runs),
            f'<section id="glossary"><h2>Words</h2>{glossary()}</section></main>',
        ]
    )
    blobs = live.blobs | {"plotly": get_plotlyjs().encode()}
    blobs |= {f"figure {each.drawing.name}": each.json.encode() for each in (first, *others)}
    html = page(
        title=f"{name}: report",
        body=body,
        styles=[*live.styles, asset("report.css")],
        scripts=[*live.scripts, DARK_SCRIPT, asset("report.js")],
        payload=Payload({"explorer": live.json}, blobs),
    )
    return Report(html, live.said, material.remarks)


def pair(target: Run | Experiment, comparison: pd.DataFrame | None) -> Pair | None:
    """The arm that the answer is about, and its baseline: the foremost that distils, else the first compared."""
    if comparison is None or comparison.empty or isinstance(target, Run):
        return None
    compared, baseline = list(dict.fromkeys(comparison["arm"])), str(comparison["baseline"].iloc[0])
    distilling = {run.treatment for run in expand(target.config) if not run.is_teacher and run.objective.distils}
    taught = [arm for arm in compared if arm in distilling]
    arm = str(foremost(taught) if taught else compared[0])
    return Pair(arm, baseline, arm in distilling and baseline not in distilling)


def _header(name: str, material: Material, *, with_claims: bool) -> str:
    students = [run for run in material.runs if not run.config.is_teacher]
    arms = list(dict.fromkeys(run.config.treatment for run in students))
    seeds = {run.config.seed for run in students}
    tokens = max(run.tokens_at(run.steps[-1]) for run in material.runs)
    seed_word = "seed" if len(seeds) == 1 else "seeds"
    about = f"{', '.join(arms)}; {len(seeds)} {seed_word}; up to {tokens / 1e6:.1f} M tokens a run"
    links = (("answer", "Answer"), ("explorer", "Live heads"), ("arms", "Arms"))
    links += (("claims", "Claims"),) * with_claims
    links += (("figures", "Figures"), ("provenance", "Provenance"), ("glossary", "Words"))
    nav = "".join(f'<a href="#{anchor}" data-goto="{anchor}">{text}</a>' for anchor, text in links)
    return f"<header><h1>{escape(name)}</h1><p>{escape(about)}</p><nav>{nav}</nav></header>"


def _figure(drawn: Drawn) -> str:
    """A place for a figure, which the page draws; its words are read out where it cannot be seen."""
    only = "" if drawn.seed is None else f"Seed {drawn.seed}, one of {drawn.seeds}."
    caption = f"<figcaption>{only}</figcaption>" if only else ""
    name = escape(drawn.drawing.name, quote=True)
    return f'<figure><div class="plot" data-figure="{name}" role="figure"></div>{caption}</figure>'


def _left_out(remarks: list[str]) -> str:
    if not remarks:
        return ""
    lines = "".join(f"<li>{escape(remark)}</li>" for remark in remarks)
    return f'<section id="left-out"><h2>Left out</h2><ul>{lines}</ul></section>'
