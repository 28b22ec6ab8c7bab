"""What tables without context come to: the tables of measures, of a run's tabular null in the place of its model."""

import pandas as pd

from mechdistill.analysis._apply import of_run
from mechdistill.analysis._tabular_null import PSEUDO_COUNT, as_model, laws
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.model import Bigram
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import Run
from mechdistill.subject import Subject
from mechdistill.tables import MEASURES, METRICS_LOG, Measure, frame, resolve


class NullTables:
    """Of any number of runs; each table is made once.

    With `follow` at all checkpoints, and of raw frequencies, whose squared error is what theory is about; else at the
    last, and of frequencies whose KL is finite.
    """

    def __init__(self, *, follow: bool):
        self._follow = follow
        self._models: dict[tuple[str, int], Bigram] = {}
        self._made: dict[tuple[str, str, int], pd.DataFrame] = {}

    def table(self, name: str, run: Run) -> pd.DataFrame:
        """The table of a measure, or of inline metrics at the last step; empty for what is not about a model, or about
        heads, which a table has not."""
        log = name == METRICS_LOG.name
        if not log and (name not in MEASURES or "heads" in MEASURES[name].needs):
            return pd.DataFrame()
        steps = run.steps if self._follow and not log else run.steps[-1:]
        self._count(run, steps)
        return pd.concat([self._at(name, run, step) for step in steps], ignore_index=True)

    def _count(self, run: Run, steps: list[int]) -> None:
        """The tables after these steps, in one walk through the data."""
        if any((str(run.path), step) not in self._models for step in steps):
            counted = laws(run, tuple(steps), 0.0 if self._follow else PSEUDO_COUNT)
            for step, law in zip(steps, counted, strict=True):
                self._models[str(run.path), step] = as_model(law, run.config.sandbox.seq_len)

    def _at(self, name: str, run: Run, step: int) -> pd.DataFrame:
        key = (name, str(run.path), step)
        if key not in self._made:
            if name == METRICS_LOG.name:
                data = EvaluationSet.held_out(run.world, run.config.training.eval_sequences)
                made = frame(METRICS_LOG, inline_metrics(predict(self._models[str(run.path), step], data)))
            else:
                made = resolve(MEASURES[name].compute)(self._subject(run, step))
            self._made[key] = of_run(made, run, step)
        return self._made[key]

    def _subject(self, run: Run, step: int) -> Subject:
        def another(measure: Measure) -> pd.DataFrame:
            raise MechdistillError(f"{measure.name}: is measured of no table without context")

        return Subject(
            open_model=lambda: self._models[str(run.path), step],
            world=run.world,
            table=another,
            untrained=lambda _: None,
            open_targets=run.targets,
        )
