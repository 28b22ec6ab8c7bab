"""The experiment file: schema, bounds, presets, YAML in and out."""

from mechdistill.config._experiment import (
    ArmConfig,
    BigramTeacher,
    CheckpointTeacher,
    ExperimentConfig,
    OracleTeacher,
    Teacher,
    TrainingConfig,
    experiment,
    problem,
)
from mechdistill.config._files import (
    load_experiment,
    parse_yaml,
    preset_names,
    preset_text,
    read_experiment,
    to_yaml,
)
from mechdistill.config._model import ModelConfig
from mechdistill.config._run import TEACHER_ARM, RunConfig, expand
from mechdistill.config._sandbox import (
    BernoulliTriggers,
    CorpusRows,
    DirichletRows,
    FixedTriggers,
    GradedRows,
    SandboxConfig,
    TwoLevelRows,
)

__all__ = [
    "TEACHER_ARM",
    "ArmConfig",
    "BernoulliTriggers",
    "BigramTeacher",
    "CheckpointTeacher",
    "CorpusRows",
    "DirichletRows",
    "ExperimentConfig",
    "FixedTriggers",
    "GradedRows",
    "ModelConfig",
    "OracleTeacher",
    "RunConfig",
    "SandboxConfig",
    "Teacher",
    "TrainingConfig",
    "TwoLevelRows",
    "expand",
    "experiment",
    "load_experiment",
    "parse_yaml",
    "preset_names",
    "preset_text",
    "problem",
    "read_experiment",
    "to_yaml",
]
