"""mechdistill: how distillation changes the circuits that a transformer forms.

    import mechdistill as md
    experiment = md.load("runs/quickstart")
    model = experiment.run("spt/seed-0").model("last")   # run_with_cache, run_with_hooks, add_hook
    md.induction_scores(experiment)                       # a pandas table, one row a head and score

The functions mirror the commands. Names are imported when first used, so that `mechdistill --help` does not wait for
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechdistill.analysis import ablate, induction_scores, row_curves
    from mechdistill.comparison import compare
    from mechdistill.config import load_experiment
    from mechdistill.errors import MechdistillError
    from mechdistill.model import from_transformer_lens, to_transformer_lens
    from mechdistill.prompting import prompt
    from mechdistill.runs import Experiment, Run, load, publish, sql
    from mechdistill.training import train

_HOMES = {
    "Experiment": "mechdistill.runs",
    "MechdistillError": "mechdistill.errors",
    "Run": "mechdistill.runs",
    "ablate": "mechdistill.analysis",
    "compare": "mechdistill.comparison",
    "from_transformer_lens": "mechdistill.model",
    "induction_scores": "mechdistill.analysis",
    "load": "mechdistill.runs",
    "load_experiment": "mechdistill.config",
    "prompt": "mechdistill.prompting",
    "publish": "mechdistill.runs",
    "row_curves": "mechdistill.analysis",
    "sql": "mechdistill.runs",
    "to_transformer_lens": "mechdistill.model",
    "train": "mechdistill.training",
}

__all__ = [
    "Experiment",
    "MechdistillError",
    "Run",
    "ablate",
    "compare",
    "from_transformer_lens",
    "induction_scores",
    "load",
    "load_experiment",
    "prompt",
    "publish",
    "row_curves",
    "sql",
    "to_transformer_lens",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mechdistill' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
