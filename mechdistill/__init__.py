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
    from mechdistill.analysis import (
        Applied,
        claims,
        compare,
        compare_dynamics,
        difference_in_differences,
        dynamics,
        early_warning,
        learning_speed,
        match_heads,
        predicted_risk,
        prompt,
        tabular_null,
        token_matrices,
        variance_shares,
    )
    from mechdistill.config import load_experiment
    from mechdistill.errors import MechdistillError
    from mechdistill.extend import (
        ablation,
        attention_score,
        divergence,
        head_score,
        measure,
        metric,
        routing_signal,
        teacher,
    )
    from mechdistill.model import from_transformer_lens, to_transformer_lens, to_transformers
    from mechdistill.plugins import plugin
    from mechdistill.publishing import publish
    from mechdistill.registry import Registry
    from mechdistill.report import explore
    from mechdistill.runs import Experiment, Run, load, sql
    from mechdistill.tables import Measure
    from mechdistill.training import checks, train

    ablate: Applied
    diversity: Applied
    in_context: Applied
    induction_scores: Applied
    pass_at_k: Applied
    row_curves: Applied
    wiring: Applied

_HOMES = {
    "Experiment": "mechdistill.runs",
    "MechdistillError": "mechdistill.errors",
    "Run": "mechdistill.runs",
    "ablation": "mechdistill.extend",
    "attention_score": "mechdistill.extend",
    "checks": "mechdistill.training",
    "claims": "mechdistill.analysis",
    "compare": "mechdistill.analysis",
    "compare_dynamics": "mechdistill.analysis",
    "difference_in_differences": "mechdistill.analysis",
    "divergence": "mechdistill.extend",
    "dynamics": "mechdistill.analysis",
    "early_warning": "mechdistill.analysis",
    "explore": "mechdistill.report",
    "from_transformer_lens": "mechdistill.model",
    "head_score": "mechdistill.extend",
    "learning_speed": "mechdistill.analysis",
    "load": "mechdistill.runs",
    "load_experiment": "mechdistill.config",
    "match_heads": "mechdistill.analysis",
    "measure": "mechdistill.extend",
    "metric": "mechdistill.extend",
    "plugin": "mechdistill.plugins",
    "predicted_risk": "mechdistill.analysis",
    "prompt": "mechdistill.analysis",
    "publish": "mechdistill.publishing",
    "routing_signal": "mechdistill.extend",
    "sql": "mechdistill.runs",
    "tabular_null": "mechdistill.analysis",
    "teacher": "mechdistill.extend",
    "token_matrices": "mechdistill.analysis",
    "to_transformer_lens": "mechdistill.model",
    "to_transformers": "mechdistill.model",
    "train": "mechdistill.training",
    "variance_shares": "mechdistill.analysis",
}

__all__ = [
    "Experiment",
    "MechdistillError",
    "Run",
    "ablation",
    "attention_score",
    "checks",
    "claims",
    "compare",
    "compare_dynamics",
    "difference_in_differences",
    "divergence",
    "dynamics",
    "early_warning",
    "explore",
    "from_transformer_lens",
    "head_score",
    "learning_speed",
    "load",
    "load_experiment",
    "match_heads",
    "measure",
    "metric",
    "plugin",
    "predicted_risk",
    "prompt",
    "publish",
    "routing_signal",
    "sql",
    "tabular_null",
    "teacher",
    "to_transformer_lens",
    "to_transformers",
    "token_matrices",
    "train",
    "variance_shares",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    measure = next((measure for measure in _measures().values() if measure.function_name == name), None)
    if measure is None:
        raise AttributeError(f"module 'mechdistill' has no attribute '{name}'")
    return import_module("mechdistill.analysis").Applied(measure)


def __dir__() -> list[str]:
    return sorted([*__all__, *(measure.function_name for measure in _measures().values())])


def _measures() -> "Registry[Measure]":
    """Every measure is a function here, a user's own too."""
    return import_module("mechdistill.tables").MEASURES
