"""What a run needs of the machine's memory, estimated before anything is made; what does not fit is refused.

The estimate is meant to be right within a factor of two: weights, gradients and the optimiser's two moments; the
activations of a training step and of an inline evaluation; the world's matrices and a chunk of its sequences. Peaks of
analyses are not in it.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from mechdistill.config._experiment import ExperimentConfig
from mechdistill.config._model import ModelConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._teacher import TeacherConfig
from mechdistill.config._trained import CheckpointTeacher
from mechdistill.config._training import TrainingConfig
from mechdistill.errors import MechdistillError

_FLOAT, _DOUBLE = 4, 8
_CHUNK = 2048  # sequences that a sandbox draws at once
_LAWS = 2**26  # bytes: the laws of an evaluation's chunk
_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def parameters(model: ModelConfig, vocab: int, seq_len: int) -> int:
    """How many numbers a model has, biases and norms aside."""
    if not model.has_heads:
        return vocab * vocab
    d, heads, kv = model.d_model, model.n_heads * model.head_width, model.kv_heads * model.head_width
    attention = d * (heads + 2 * kv) + heads * d
    mlp = 0 if model.attn_only else d * model.mlp_width * (3 if model.act == "swiglu" else 2)
    positions = d * seq_len if model.positions == "learned" else 0
    return vocab * d * (1 if model.tied else 2) + positions + model.n_layers * (attention + mlp)


def world_bytes(sandbox: SandboxConfig) -> int:
    """Matrices, tables of the sampler, and one chunk of sequences."""
    vocab, length = sandbox.vocab, sandbox.seq_len
    matrices = 10 * vocab * vocab * _DOUBLE  # pi, the averaged one, targets, their logarithms, samplers and work space
    chunk = _CHUNK * (length + 1) * 4 * _DOUBLE + _CHUNK * vocab * (_DOUBLE + 1)
    return matrices + chunk


def training_bytes(
    model: ModelConfig,
    sandbox: SandboxConfig,
    training: TrainingConfig,
    teachers: Iterable[TeacherConfig] = (),
    trained: Iterable[ModelConfig] = (),
) -> int:
    """Of a whole run: a world, a student, its teachers, of which `trained` are models."""
    vocab, length = sandbox.vocab, sandbox.seq_len
    held = list(teachers)
    weights = 4 * parameters(model, vocab, length)
    if training.burst is not None:
        weights += training.burst.held(training.evaluate_every) * parameters(model, vocab, length)
    weights += sum(parameters(each, vocab, length) for each in trained)
    laws = 6 + 2 * len(held)  # of the student, their gradients, the oracle's, the teachers'
    draws = sum(2 * getattr(each, "n", 0) for each in held)  # float64
    # scores, masked scores, pattern and what is held in its place, where the fused kernel cannot run
    explicit = 4 * len({clamp.place[0] for clamp in model.clamps}) * model.n_heads * length
    position = _activations(model) + explicit + laws * vocab + 2 * draws
    batch = training.batch * (length * position * _FLOAT + (length + 1) * _DOUBLE + vocab * (_DOUBLE + 1))
    looked_at = training.eval_sequences * length * (_activations(model) + explicit) * _FLOAT // max(model.n_layers, 1)
    bank = (training.unique_sequences or 0) * ((length + 1) * _DOUBLE + vocab)
    masks = model.n_layers * length * length if model.has_heads else 0
    chunk = min(_LAWS, training.eval_sequences * length * vocab * _FLOAT)
    return world_bytes(sandbox) + masks + weights * _FLOAT + batch + looked_at + laws * chunk + bank


def _activations(model: ModelConfig) -> int:
    """Numbers that a training step keeps for each position."""
    if not model.has_heads:
        return 0
    heads, kv = model.n_heads * model.head_width, model.kv_heads * model.head_width
    mlp = 0 if model.attn_only else 3 * model.d_model + 3 * model.mlp_width
    return model.n_layers * (4 * model.d_model + 2 * heads + 2 * kv + mlp) + 2 * model.d_model


def machine_bytes() -> int:
    """Of memory that this process may use at all: the machine's, or its container's."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else []
    for path in _CGROUP:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue  # no container, or not on Linux
        limits += [int(text)] if text.isdecimal() else []
    return min(limits, default=2**63)


def refuse_beyond_memory(needed: int, where: str, fix: str) -> None:
    """Raise `MechdistillError` for what the machine cannot hold."""
    there = machine_bytes()
    if needed > there:
        raise MechdistillError(
            f"{where}: would need about {needed / 1e9:,.1f} GB of memory, and this machine has {there / 1e9:,.1f} GB; "
            f"{fix}"
        )


def refuse_world_beyond_memory(sandbox: SandboxConfig) -> None:
    """Raise `MechdistillError` unless a world fits into the machine's memory."""
    refuse_beyond_memory(world_bytes(sandbox), "sandbox", f"lower vocab={sandbox.vocab} or seq_len={sandbox.seq_len}")


def refuse_model_beyond_memory(model: ModelConfig, sandbox: SandboxConfig, where: str) -> None:
    """Raise `MechdistillError` unless a stored model and its weights fit into the machine's memory."""
    needed = 2 * _FLOAT * parameters(model, sandbox.vocab, sandbox.seq_len)
    refuse_beyond_memory(needed, where, "open it on a larger machine, or restore the run's own file")


def refuse_what_does_not_fit(experiment: ExperimentConfig) -> None:
    """Raise `MechdistillError` unless every run of an experiment fits into the machine's memory, one at a time."""
    for arm in experiment.arms:
        sandbox, model, training = experiment.arm_sandbox(arm), experiment.arm_model(arm), experiment.arm_training(arm)
        teachers = experiment.arm_teachers(arm)
        here = [name for name, t in teachers.items() if isinstance(t, CheckpointTeacher) and t.is_trained_here]
        models = [experiment.teacher_model(name) for name in here]
        needed = training_bytes(model, sandbox, training, teachers.values(), models)
        refuse_beyond_memory(needed, f"arms.{arm}", f"lower {_largest(model, sandbox, training)}")
        for name in here:
            model, sandbox = experiment.teacher_model(name), experiment.teacher_sandbox(name)
            training = experiment.teacher_training(name)
            needed = training_bytes(model, sandbox, training)
            refuse_beyond_memory(needed, f"teachers.{name}", f"lower {_largest(model, sandbox, training)}")


def _largest(model: ModelConfig, sandbox: SandboxConfig, training: TrainingConfig) -> str:
    """Names the key that memory is spent on."""
    small = ModelConfig(n_layers=1, d_model=64)
    without = {
        f"training.batch={training.batch}": (model, sandbox, training.model_copy(update={"batch": 1})),
        f"model (d_model={model.d_model}, n_layers={model.n_layers}, d_mlp={model.d_mlp})": (small, sandbox, training),
        f"training.unique_sequences={training.unique_sequences}": (
            model,
            sandbox,
            training.model_copy(update={"unique_sequences": None}),
        ),
        f"sandbox (vocab={sandbox.vocab}, seq_len={sandbox.seq_len})": (
            model,
            sandbox.model_copy(update={"vocab": 4, "seq_len": 8}),
            training,
        ),
    }
    return min(without, key=lambda key: training_bytes(*without[key]))
