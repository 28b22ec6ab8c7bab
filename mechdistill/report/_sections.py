"""The parts of the report that are tables: every arm beside its baseline, manipulation checks, provenance."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

from mechdistill.circuits import copy_circuit, names
from mechdistill.config import to_yaml
from mechdistill.publishing import portable, provenance
from mechdistill.report._answer import bounds, difference, final
from mechdistill.report._glossary import marked
from mechdistill.runs import Experiment, Run
from mechdistill.tables import CHECKS, OUTCOMES, Metric, Outcome, last_step, metrics


class _Shown(NamedTuple):
    """An outcome in the table of arms: as it is, as a difference from the baseline, or both."""

    metric: Metric
    level: bool
    difference: bool


_SHOWN = (
    _Shown(metrics.COPY_ACCURACY, True, False),
    _Shown(metrics.COPY_EXCESS, True, True),
    _Shown(metrics.FORMATION, False, True),  # counted up to a pair's horizon: only its difference has a meaning
    _Shown(metrics.KL, True, True),
)


def arms_section(log: pd.DataFrame, comparison: pd.DataFrame | None, scores: pd.DataFrame | None) -> str:
    """Every arm: what its runs (of `log`) came to, its difference from the baseline, its lookup heads."""
    baselines = [] if comparison is None else list(dict.fromkeys(comparison["baseline"]))
    against = f" against {baselines[0]}" if len(baselines) == 1 else ""
    heads = ["arm", "runs"]
    for shown in _SHOWN:
        title = OUTCOMES[shown.metric.name].title
        heads += [title] if shown.level else []
        heads += [f"difference{against}" if shown.level else f"{title}, difference"] if shown.difference else []
    heads.append("lookup heads, first seed")
    rows: list[list[str]] = []
    for arm in dict.fromkeys(log["arm"]):
        row = [str(arm), str(log.loc[log["arm"] == arm, "run"].nunique())]
        for shown in _SHOWN:
            outcome = OUTCOMES[shown.metric.name]
            values = final(log, str(arm), outcome)
            level = f"{values.mean():.{outcome.digits}f}" if len(values) else "-"
            row += [level] if shown.level else []
            row += [_difference(comparison, str(arm), outcome)] if shown.difference else []
        rows.append([*row, _lookup(scores, str(arm))])
    note = "Means over finished runs at the last evaluation; differences over pairs of twins, with their 95 % interval."
    return f'<section id="arms"><h2>Every arm</h2><p>{marked(note)}</p>{table(heads, rows)}</section>'


def _difference(comparison: pd.DataFrame | None, arm: str, outcome: Outcome) -> str:
    line, digits = difference(comparison, arm, outcome), outcome.digits
    if line is None or pd.isna(line["difference"]):
        return "-"
    told = f"{line['difference']:+,.{digits}f}"
    return told if pd.isna(line["low"]) else f"{told} [{line['low']:,.{digits}f}, {line['high']:,.{digits}f}]"


def _lookup(scores: pd.DataFrame | None, arm: str) -> str:
    if scores is None:
        return "-"
    own = last_step(scores[scores["arm"] == arm])
    if own.empty:
        return "-"
    return names(copy_circuit(own[own["seed"] == own["seed"].min()]).lookup) or "none"


def checks_section(checks: pd.DataFrame) -> str:
    """Whether what each arm is taught is what the study says; nothing where none is taught."""
    if checks.empty:
        return ""
    verdict = {True: "yes", False: "no"}
    rows = [
        [
            row["arm"],
            str(row["seed"]),
            row["teacher"],
            CHECKS[row["check"]].label,
            f"{row['value']:.3f}",
            bounds(row),
            "-" if pd.isna(row["passed"]) else verdict[bool(row["passed"])],
        ]
        for row in checks.to_dict("records")
    ]
    heads = ["arm", "seed", "teacher", "check", "value", "has to be", "passed"]
    said = marked("These manipulation checks are made on what is taught alone, whatever the students do.")
    return f'<section id="checks"><h2>Was the teacher as meant?</h2><p>{said}</p>{table(heads, rows)}</section>'


def provenance_section(target: Run | Experiment, runs: Sequence[Run]) -> str:
    """Where the numbers come from: software, machine kind, runs, and the experiment file that makes them again."""
    about = provenance(runs[0])
    said = {key: about[key] for key in ("created", "revision", "python") if key in about}
    facts = said | about["conditions"] | about["packages"]
    listed = [
        [
            run.name,
            str(run.status["state"]),
            str(run.steps[-1]),
            f"{run.tokens_at(run.steps[-1]):,}",
            run.weights_digest()[:12],
        ]
        for run in runs
    ]
    heads = ["run", "state", "last step", "tokens", "SHA-256 of its weights"]
    config = escape(to_yaml(portable(target.config)))
    return (
        '<section id="provenance"><h2>Provenance</h2>'
        f"{table(['first run', ''], [[key, str(value)] for key, value in facts.items()])}"
        f"{table(heads, listed)}"
        f"<details><summary>The experiment file</summary><pre>{config}</pre></details></section>"
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """An HTML table of plain texts; the first column names the line."""
    head = "".join(f'<th scope="col">{marked(text)}</th>' for text in heads)
    lines = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _cells(row: Iterable[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(text)}</td>" for text in rest)
