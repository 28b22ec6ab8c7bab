"""What row curves of an experiment say besides: risk foretold from the twin, and how soon rows are learned."""

import warnings
from typing import Any

import pandas as pd

from mechdistill import arguments, stats
from mechdistill.ambient import neutral
from mechdistill.analysis._apply import measured
from mechdistill.analysis._arms import arms
from mechdistill.analysis._compare import usual_baseline
from mechdistill.analysis._tabular_null import laws
from mechdistill.config import ArmConfig, OccurrenceWeights, RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run
from mechdistill.tables import ROW_CURVES, metrics, with_arms

_LOAD = "must be an experiment, as md.load(path) gives it"


@neutral()
def predicted_risk(experiment: Experiment, *, baseline: str | None = None) -> pd.DataFrame:
    """Squared error of distilled runs, as measured and as foretold with nothing fitted: the `predicted-risk` table.

    predicted = (1-alpha)²·(squared error of the twin of the arm `baseline`) + alpha²·(that of the teacher), row by row
    at every checkpoint that both have, then means over positions by entropy quartile and over all (null bucket); see
    `stats.predicted_risk`. `tabular` is the error of the count table that sees the run's data and minimises its
    objective (`tabular_null` without pseudo-counts), null where triggers are not shown, so that no row has one law.

    Arms whose risk the formula is not about are left out with a warning: alpha that is no number, another divergence
    than forward KL, a temperature, routing, weighted or smoothed labels, a teacher that draws, moves or follows the
    student, a warm start, and twins in another sandbox, of another model, trained otherwise or not from plain labels.
    The baseline is the arm `spt`, or the first that does not distil. Raises
    `MechdistillError` where nothing is left. Source: after Menon et al. 2021.
    """
    arguments.instance(experiment, "experiment", Experiment, _LOAD)
    table, lines = risk_of(experiment, measured(ROW_CURVES.name)(experiment, "all"), baseline)
    for line in lines:
        warnings.warn(line, stacklevel=3)
    return table


@neutral()
def learning_speed(experiment: Experiment, *, baseline: str | None = None) -> pd.DataFrame:
    """How soon each row is learned, and its slope on row entropy with an interval over seeds: `learning-speed`.

    Of students, from `row_curves` at all checkpoints: tokens until each row's KL has halved, the slope of their
    logarithm on row entropy of every run, its mean over the seeds of every arm, and the paired difference from the arm
    `baseline` (`spt`, or the first that does not distil); see `stats.learning_speed`.
    """
    arguments.instance(experiment, "experiment", Experiment, _LOAD)
    return speed_of(experiment, measured(ROW_CURVES.name)(experiment, "all"), baseline)


def speed_of(target: Run | Experiment, row_curves: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """The same of the target's `row-curves` at all checkpoints."""
    if baseline is None and isinstance(target, Experiment):
        usual = usual_baseline(target)
        baseline = usual if usual in set(row_curves["arm"]) else None
    return with_arms(stats.learning_speed(row_curves, baseline), arms(target))


def risk_of(
    experiment: Experiment, row_curves: pd.DataFrame, baseline: str | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """The `predicted-risk` table of the experiment's `row-curves` at all checkpoints, and what it leaves out."""
    baseline = usual_baseline(experiment) if baseline is None else baseline
    runs = {run.name: run for run in experiment.runs if run.name in set(row_curves["run"])}
    students = [run for run in runs.values() if not run.config.is_teacher]
    twins = {run.config.seed: run.config for run in students if run.config.treatment == baseline}
    lines: list[str] = []
    tables: list[pd.DataFrame] = []
    for arm in dict.fromkeys(run.config.treatment for run in students if run.config.objective.distils):
        of_arm = [run for run in students if run.config.treatment == arm and run.config.seed in twins]
        reason = next((why for run in of_arm if (why := _why_not(run.config, twins[run.config.seed]))), None)
        if not of_arm:
            reason = f"without a twin of {baseline}"
        if reason is not None:
            lines.append(f"left out: {arm} ({reason})")
            continue
        teacher = pd.concat([_teacher(run) for run in of_arm], ignore_index=True)
        tabular = pd.concat([_tabular(run, row_curves) for run in of_arm], ignore_index=True)
        alpha: Any = of_arm[0].config.objective.alpha
        both = row_curves[row_curves["run"].isin([run.name for run in of_arm]) | (row_curves["arm"] == baseline)]
        tables.append(stats.predicted_risk(both, teacher, tabular, arm=arm, baseline=baseline, alpha=alpha))
    if not tables:
        why = "; ".join(lines) or "no arm distils"
        raise MechdistillError(f"{experiment.path}: no risk can be foretold ({why}); train twins with one alpha")
    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    return with_arms(table, arms(experiment)), lines


def _why_not(config: RunConfig, twin: RunConfig) -> str | None:
    """Why the formula is not about a run's risk."""
    arm = config.objective
    parts = [teacher.traits for teacher in config.teachers.values()]
    reasons = {
        "its alpha is no number": not isinstance(arm.alpha, int | float),
        "its divergence is not forward KL": not arm.divergence.is_forward_kl,
        "it has a temperature": arm.temperature != 1,
        "it routes": arm.routing is not None,
        "its labels are smoothed or weighted": arm.label_smoothing != 0 or arm.ce_weights != OccurrenceWeights(),
        "its teacher draws, moves or follows the student": any(
            traits.draws or traits.moves or traits.follows_student for traits in parts
        ),
        "it begins at a checkpoint": config.start is not None or twin.start is not None,
        "in another sandbox than its twin": config.sandbox != twin.sandbox,
        "another model than its twin": config.model != twin.model,
        "trained otherwise than its twin": config.training != twin.training,
        "its twin does not learn from plain labels": twin.objective != ArmConfig(),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _teacher(run: Run) -> pd.DataFrame:
    """The squared error of what a run is taught, row by row."""
    targets = run.targets()
    if targets is None:
        raise MechdistillError(f"{run.path}: says nothing of its teacher's rows; train it again")
    rows = targets[(targets["metric"] == metrics.SQUARED_ERROR.name) & targets["row"].notna()]
    return rows[["row", "value"]].assign(seed=run.config.seed)


def _tabular(run: Run, row_curves: pd.DataFrame) -> pd.DataFrame:
    """The squared error of the run's tabular null at its checkpoints, row by row."""
    columns = ["seed", "tokens", "row", "value"]
    if not run.sandbox.shows_triggers:
        return pd.DataFrame({name: pd.Series(dtype="Int64" if name != "value" else "float64") for name in columns})
    steps = sorted({int(step) for step in row_curves.loc[row_curves["run"] == run.name, "step"]})
    found: list[pd.DataFrame] = []
    for step, law in zip(steps, laws(run, steps, 0.0), strict=True):
        errors = ((law.numpy() - run.sandbox.pi) ** 2).sum(axis=1)
        found.append(
            pd.DataFrame(
                {"seed": run.config.seed, "tokens": run.tokens_at(step), "row": range(len(errors)), "value": errors}
            )
        )
    return pd.concat(found, ignore_index=True)
