"""What tables without context come to: the tables of measures, of a run's tabular null in the place of its model."""

import pandas as pd

from mechdistill.analysis._apply import of_run
from mechdistill.analysis._tabular_null import tabular_null
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.model import Bigram
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import Run
from mechdistill.subject import Subject
from mechdistill.tables import MEASURES, METRICS_LOG, Measure, frame, resolve


class NullTables:
    """Of any number of runs; each table is made once."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, int], Bigram] = {}
        self._made: dict[tuple[str, str, int], pd.DataFrame] = {}

    def table(self, name: str, run: Run, *, follow: bool = False) -> pd.DataFrame:
        """The table of a measure, or of inline metrics, at the run's last step; with `follow`, at all its checkpoints.

        Empty for what is not about a model, or about heads, which a table has not.
        """
        log = name == METRICS_LOG.name
        if not log and (name not in MEASURES or "heads" in MEASURES[name].needs):
            return pd.DataFrame()
        steps = run.steps if follow and not log else run.steps[-1:]
        return pd.concat([self._at(name, run, step) for step in steps], ignore_index=True)

    def _at(self, name: str, run: Run, step: int) -> pd.DataFrame:
        key = (name, str(run.path), step)
        if key not in self._made:
            if name == METRICS_LOG.name:
                data = EvaluationSet.held_out(run.world, run.config.training.eval_sequences)
                made = frame(METRICS_LOG, inline_metrics(predict(self._model(run, step), data)))
            else:
                made = resolve(MEASURES[name].compute)(self._subject(run, step))
            self._made[key] = of_run(made, run, step)
        return self._made[key]

    def _model(self, run: Run, step: int) -> Bigram:
        key = (str(run.path), step)
        if key not in self._models:
            self._models[key] = tabular_null(run, min(run.tokens_at(step), run.config.training.tokens))
        return self._models[key]

    def _subject(self, run: Run, step: int) -> Subject:
        def another(measure: Measure) -> pd.DataFrame:
            raise MechdistillError(f"{measure.name}: is measured of no table without context")

        return Subject(
            open_model=lambda: self._model(run, step),
            world=run.world,
            table=another,
            untrained=lambda _: None,
            open_targets=run.targets,
        )
