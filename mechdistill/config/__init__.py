"""The experiment file: schema, bounds, presets, YAML in and out."""

from mechdistill.config._burst import BurstConfig
from mechdistill.config._clamp import DUPLICATE, PREVIOUS, TWO_BACK, ClampConfig
from mechdistill.config._definitions import definition_digest, definitions
from mechdistill.config._divergences import (
    DIVERGENCES,
    JSD,
    Divergence,
    DivergenceConfig,
    FlooredDivergence,
    ForwardKL,
    NormalisedJSD,
    ReverseKL,
    TotalVariation,
)
from mechdistill.config._experiment import ExperimentConfig, experiment
from mechdistill.config._files import (
    load_experiment,
    preset_names,
    preset_text,
    read_experiment,
)
from mechdistill.config._kinds import Kind, KindConfig
from mechdistill.config._memory import refuse_model_beyond_memory, refuse_what_does_not_fit, refuse_world_beyond_memory
from mechdistill.config._model import ModelConfig
from mechdistill.config._objective import (
    Alpha,
    AlphaByOccurrence,
    ArmConfig,
    MatchedSmoothing,
    OccurrenceWeights,
    OptimalAlpha,
    RampAlpha,
    StagedAlpha,
)
from mechdistill.config._problem import problem
from mechdistill.config._routing import SIGNALS, RoutingConfig, Signal
from mechdistill.config._run import TEACHER_ARM, RunConfig, expand, hashed_seed
from mechdistill.config._sandbox import (
    MOST_OF_A_TEXT,
    BernoulliTriggers,
    CorpusRows,
    DirichletRows,
    FixedTriggers,
    GradedRows,
    SandboxConfig,
    SupportRows,
    TwoLevelRows,
)
from mechdistill.config._seeds import FACTORS, Combination, CrossedSeeds, combinations, seed_range
from mechdistill.config._signature import kind_class, kind_of_function
from mechdistill.config._start import WarmStart, check_shapes
from mechdistill.config._teacher import Student, TeacherConfig, Traits
from mechdistill.config._trained import CheckpointTeacher
from mechdistill.config._training import TrainingConfig
from mechdistill.config._yaml import parse_yaml, to_yaml
from mechdistill.config.teachers import (
    TEACHERS,
    TeacherEntry,
)

__all__ = [
    "DIVERGENCES",
    "DUPLICATE",
    "FACTORS",
    "JSD",
    "MOST_OF_A_TEXT",
    "PREVIOUS",
    "SIGNALS",
    "TEACHERS",
    "TEACHER_ARM",
    "TWO_BACK",
    "Alpha",
    "AlphaByOccurrence",
    "ArmConfig",
    "BernoulliTriggers",
    "BurstConfig",
    "CheckpointTeacher",
    "ClampConfig",
    "Combination",
    "CorpusRows",
    "CrossedSeeds",
    "DirichletRows",
    "Divergence",
    "DivergenceConfig",
    "ExperimentConfig",
    "FixedTriggers",
    "FlooredDivergence",
    "ForwardKL",
    "GradedRows",
    "Kind",
    "KindConfig",
    "MatchedSmoothing",
    "ModelConfig",
    "NormalisedJSD",
    "OccurrenceWeights",
    "OptimalAlpha",
    "RampAlpha",
    "ReverseKL",
    "RoutingConfig",
    "RunConfig",
    "SandboxConfig",
    "Signal",
    "StagedAlpha",
    "Student",
    "SupportRows",
    "TeacherConfig",
    "TeacherEntry",
    "TotalVariation",
    "TrainingConfig",
    "Traits",
    "TwoLevelRows",
    "WarmStart",
    "check_shapes",
    "combinations",
    "definition_digest",
    "definitions",
    "expand",
    "experiment",
    "hashed_seed",
    "kind_class",
    "kind_of_function",
    "load_experiment",
    "parse_yaml",
    "preset_names",
    "preset_text",
    "problem",
    "read_experiment",
    "refuse_model_beyond_memory",
    "refuse_what_does_not_fit",
    "refuse_world_beyond_memory",
    "seed_range",
    "to_yaml",
]
