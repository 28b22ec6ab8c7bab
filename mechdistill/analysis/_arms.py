"""Which arms an experiment has, in which order: what its figures' colours hang on."""

from mechdistill.config import expand
from mechdistill.errors import MechdistillError
from mechdistill.runs import EXPERIMENT, Experiment, Run


def arms(target: Run | Experiment) -> list[str]:
    """Treatments of an experiment, students first; of a lone run, those of the experiment that it lies in."""
    if isinstance(target, Run):
        around = target.path.resolve().parents[len(target.config.path.parts) - 1]
        if not (around / EXPERIMENT).exists():
            return [target.config.treatment]
        try:
            target = Experiment(around)
        except MechdistillError:  # a run is whole without it, and can be measured
            return [target.config.treatment]
    runs = sorted(expand(target.config), key=lambda run: run.is_teacher)
    return list(dict.fromkeys(run.treatment for run in runs))
