"""The tables that figures and sentences are made of, by name, and every figure that can be drawn of them.

Each is made once, when first asked for. What cannot be had is left out with the reason, never silently.
"""

import re
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill import plots
from mechdistill.analysis import (
    Applied,
    Dynamics,
    arms,
    claims,
    compared,
    dynamics_of,
    match_heads,
    risk_of,
    speed_of,
    variance_shares,
)
from mechdistill.config import CrossedSeeds
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run
from mechdistill.tables import (
    COMPARISON,
    DYNAMICS,
    EARLY_WARNING,
    INDUCTION_SCORES,
    LEARNING_SPEED,
    MATCHES,
    MEASURES,
    METRICS_LOG,
    PREDICTED_RISK,
    ROW_CURVES,
    SCORECARD,
    VARIANCE,
    arms_of,
    frame,
    with_arms,
)

_ABSOLUTE = re.compile(r"(?<![\w.])(?:[A-Za-z]:\\|[/\\~])(?:[^\s/\\:;,()'\"]+[/\\])+([^\s/\\:;,()'\"]+)")
"""A path of this machine, of which the page, which goes to other people, keeps the last part."""


class Material:
    """The tables of a run or an experiment."""

    def __init__(self, target: Run | Experiment, *, fresh: bool = False):
        self._target, self._fresh = target, fresh
        self._made: dict[tuple[str, str | None], pd.DataFrame | MechdistillError] = {}
        self.remarks: list[str] = []
        """What was left out, and why."""
        self.runs = self._started()

    def _started(self) -> list[Run]:
        """Runs that have anything to show, students first."""
        if isinstance(self._target, Run):
            return [self._target]
        runs = [run for run in self._target.runs if run.steps]
        if not runs:
            raise MechdistillError(f"{self._target.path}: no run has a checkpoint yet; train it first")
        for run in runs:
            if run.status["state"] != "finished":
                self.remarks.append(f"{run.name} is not finished: shown at step {run.steps[-1]} of {run.config.steps}")
        return runs

    def table(self, name: str, checkpoint: Literal["last", "all"] | None = None) -> pd.DataFrame:
        """A table by its name, of a measure at a checkpoint (its own choice unless given).

        Raises `MechdistillError` where it cannot be made, each time with the same reason.
        """
        if name in MEASURES:
            checkpoint = checkpoint or MEASURES[name].checkpoint
        key = (name, checkpoint)
        if key not in self._made:
            self._made[key] = self._make(name, checkpoint)
        made = self._made[key]
        if isinstance(made, MechdistillError):
            raise made
        return made

    def finished(self) -> pd.DataFrame:
        """The `metrics` table of finished runs alone: what `compare` is of."""
        log = self.table(METRICS_LOG.name)
        done = {run.name for run in self.runs if run.status["state"] == "finished"}
        return log[log["run"].isin(done)]

    def find(self, name: str, checkpoint: Literal["last", "all"] | None = None) -> pd.DataFrame | None:
        """The same, or None where it cannot be made; then the reason is among the remarks."""
        try:
            return self.table(name, checkpoint)
        except MechdistillError as error:
            self.remark(str(error))
            return None

    def of(self, drawing: plots.Drawing) -> list[pd.DataFrame] | None:
        """The tables that a figure needs, or None where one of them cannot be made."""
        tables: list[pd.DataFrame] = []
        for name in drawing.tables:
            table = self.find(name, drawing.checkpoint if name in MEASURES else None)
            if table is None:
                return None
            tables.append(table)
        return tables

    def _make(self, name: str, checkpoint: Literal["last", "all"] | None) -> pd.DataFrame | MechdistillError:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                made = self._computed(name, checkpoint)
            except MechdistillError as error:
                made = error
        for warning in heard:
            if issubclass(warning.category, UserWarning):
                self.remark(f"{name}: {warning.message}")
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return made

    def _computed(self, name: str, checkpoint: Literal["last", "all"] | None) -> pd.DataFrame:
        makers: dict[str, Callable[[], pd.DataFrame]] = {
            METRICS_LOG.name: self._log,
            COMPARISON.name: self._compared,
            SCORECARD.name: lambda: claims(self._experiment("test claims on")),
            MATCHES.name: lambda: match_heads(self._experiment("match its heads with")),
            DYNAMICS.name: lambda: self._dynamics().runs,
            EARLY_WARNING.name: lambda: self._dynamics().warning,
            PREDICTED_RISK.name: self._risk,
            VARIANCE.name: self._variance,
            LEARNING_SPEED.name: lambda: speed_of(self._target, self.table(ROW_CURVES.name, "all")),
        }
        if name in makers:
            return makers[name]()
        return Applied(MEASURES[name])(self._target, checkpoint, fresh=self._fresh)

    def _variance(self) -> pd.DataFrame:
        """Empty where seeds are not crossed: there is nothing to split."""
        crossed = isinstance(self._target, Experiment) and isinstance(self._target.config.seeds, CrossedSeeds)
        return variance_shares(self._experiment("vary")) if crossed else frame(VARIANCE, [])

    def _log(self) -> pd.DataFrame:
        return with_arms(pd.concat([run.metrics() for run in self.runs], ignore_index=True), arms(self._target))

    def _compared(self) -> pd.DataFrame:
        found = compared(self._experiment("compare it with"))
        for line in found.left_out:
            self.remark(f"{COMPARISON.name}: {line}")
        return found.table

    def _risk(self) -> pd.DataFrame:
        table, lines = risk_of(self._experiment("foretell its rows from"), self.table(ROW_CURVES.name, "all"))
        for line in lines:
            self.remark(f"{PREDICTED_RISK.name}: {line}")
        return table

    def _experiment(self, what: str) -> Experiment:
        if isinstance(self._target, Run):
            raise MechdistillError(f"{self._target.name}: one run has no twin to {what}")
        return self._target

    def _dynamics(self) -> Dynamics:
        found = dynamics_of(self._target, self.table(INDUCTION_SCORES.name, "all"), self.table(METRICS_LOG.name))
        for line in found.left_out:
            self.remark(f"{DYNAMICS.name}: {line}")
        return found

    def remark(self, text: str) -> None:
        """Note what was left out, once."""
        text = _ABSOLUTE.sub(r"\1", text.replace(f"{self._target.path}", self._target.path.name))
        if text not in self.remarks:
            self.remarks.append(text)


class Drawn(NamedTuple):
    """A figure of an experiment."""

    drawing: plots.Drawing
    figure: go.Figure
    json: str
    """As plotly reads it."""
    seed: int | None
    """The one that it shows, where it has a panel for each run and there are several seeds."""
    seeds: int
    """How many there are."""


def drawn(material: Material) -> list[Drawn]:
    """Every figure that can be drawn of what there is, in the order of a report."""
    students = [run for run in material.runs if not run.config.is_teacher] or material.runs
    seeds = sorted({run.config.seed for run in students})
    found: list[Drawn] = []
    for drawing in plots.drawings():
        tables = material.of(drawing)
        if tables is None:
            continue
        seed = seeds[0] if drawing.per_run and len(seeds) > 1 else None
        if seed is not None:
            tables = [with_arms(table[table["seed"] == seed], arms_of(table)) for table in tables]
        owner = plots.FIGURES if drawing.name in plots.FIGURES else MEASURES
        try:
            made = owner.call(drawing.name, _made, drawing, tables)
        except MechdistillError as error:  # a user's figure: the others are drawn all the same
            material.remark(str(error))
            continue
        if made is not None:
            found.append(Drawn(drawing, made[0], made[1], seed, len(seeds)))
    return found


def _made(drawing: plots.Drawing, tables: list[pd.DataFrame]) -> tuple[go.Figure, str] | None:
    """The figure and its JSON; raises `MechdistillError` for what is no figure."""
    figure = drawing.draw(*tables)
    if figure is None:
        return None
    if not isinstance(figure, go.Figure):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MechdistillError(
            f"figure '{drawing.name}': gave {type(figure).__name__}; must be a plotly Figure or None"
        )
    return figure, str(figure.to_json())
