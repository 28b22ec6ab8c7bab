"""The pairs, each a function that returns one ratio a round."""

import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mechdistill.circuits import CopyCircuit, ablate
from mechdistill.config import ExperimentConfig, RunConfig, expand, load_experiment
from mechdistill.model import build, to_transformer_lens
from mechdistill.positions import HELD_OUT, EvaluationSet
from mechdistill.runs import RunWriter
from mechdistill.sandbox import CHUNK, Sandbox
from mechdistill.training._loop import train_run
from mechdistill.training._trainer import Trainer
from tests.benchmarks.reference import PlainTransformer, ablation_loop, bare_steps, choice_loop, uncached_sampler

SETTINGS: list[str] = []  # KEY=VALUE, to measure another model than the default


def default_run(steps: int, arms: str = "{spt: {alpha: 0.0}}") -> RunConfig:
    """The last run of the default preset with such arms, cut to so many steps."""
    experiment: ExperimentConfig = load_experiment(settings=[f"arms={arms}", *SETTINGS])
    run = expand(experiment)[-1]
    tokens = steps * run.training.batch * run.sandbox.seq_len
    return run.model_copy(update={"training": run.training.model_copy(update={"tokens": tokens})})


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def train_seconds(run: RunConfig) -> float:
    """The whole loop: data, step, inline evaluations, logging, checkpoints, resume states."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(run, RunWriter(Path(folder), run), "cpu")
        return seconds(lambda: train_run(trainer, lambda _: None, lambda: False))


def loop_against_plain(rounds: int, steps: int) -> list[float]:
    """Speed of `train` over that of the bare step of the same model in plain PyTorch."""
    run = default_run(steps)
    sequences = Sandbox(run.sandbox).sequences(0, 0, run.training.batch)
    ratios = []
    for _ in range(rounds):
        plain = PlainTransformer(run.model, run.sandbox.vocab, run.sandbox.seq_len)
        bare = seconds(lambda plain=plain: bare_steps(plain, run.training, sequences, steps))
        ratios.append(bare / train_seconds(run))
    return ratios


def loop_against_bridge(rounds: int, steps: int) -> list[float]:
    """Speed of `train` over that of the bare step of a boot_native bridge of the same shape."""
    run = default_run(steps)
    sequences = Sandbox(run.sandbox).sequences(0, 0, run.training.batch)
    ours = build(run.model, d_vocab=run.sandbox.vocab, n_ctx=run.sandbox.seq_len, init_seed=0)
    bridge = to_transformer_lens(ours).train()
    ratios = []
    for _ in range(rounds):
        bare = seconds(lambda: bare_steps(bridge, run.training, sequences, steps))
        ratios.append(bare / train_seconds(run))
    return ratios


def distilled_against_parts(rounds: int, steps: int) -> list[float]:
    """Time of a step distilled from a checkpoint of the student's size, over a student's step plus the forward pass."""
    spt, dpt = default_run(steps), default_run(steps, "{dpt: {alpha: 0.9, teacher: half-formed}}")
    teacher = build(dpt.model, d_vocab=dpt.sandbox.vocab, n_ctx=dpt.sandbox.seq_len, init_seed=1).requires_grad_(False)
    tokens = Sandbox(dpt.sandbox).sequences(0, 0, dpt.training.batch)[:, :-1]
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            alone = Trainer(spt, RunWriter(Path(folder), spt), "cpu")
            distilled = Trainer(dpt, RunWriter(Path(folder), dpt), "cpu", lambda name, fraction: teacher)
            student = seconds(lambda alone=alone: repeat(alone.train_step, steps))
            forward = seconds(lambda: repeat(lambda: teacher(tokens), steps))
            both = seconds(lambda distilled=distilled: repeat(distilled.train_step, steps))
            ratios.append(both / (student + forward))
    return ratios


def repeat(work: Callable[[], object], times: int) -> None:
    for _ in range(times):
        work()


def sampler_against_loop(rounds: int, steps: int) -> list[float]:
    """Tokens a second of the sampler over those of a per-token `choice` loop."""
    del steps
    sandbox, n_loop = Sandbox(default_run(1).sandbox), 8
    ratios = []
    for number in range(rounds):
        ours = seconds(lambda number=number: sandbox._draw_chunk(1, "train", number)) / CHUNK
        ratios.append(seconds(lambda: choice_loop(sandbox, n_loop)) / n_loop / ours)
    return ratios


def cached_against_uncached(rounds: int, steps: int) -> list[float]:
    """Speed of sampling with the cache over reading everything again: 64 sequences from one token to 256."""
    length, batch = max(2, min(256, steps)), 64  # the steps of a smoke test make it short
    run = default_run(1)
    model = build(run.model, d_vocab=run.sandbox.vocab, n_ctx=length, init_seed=0)
    prompts, generator = torch.zeros(batch, 1, dtype=torch.long), torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(rounds):
        again = seconds(lambda: uncached_sampler(model, prompts, length - 1, temperature=1.0, generator=generator))
        ratios.append(again / seconds(lambda: model.generate(prompts, length - 1, generator=generator)))
    return ratios


def ablation_against_hooks(rounds: int, steps: int) -> list[float]:
    """Speed of ablating every head by every kind in every mode over one `run_with_hooks` pass each."""
    run = default_run(1)
    model = build(run.model, d_vocab=run.sandbox.vocab, n_ctx=run.sandbox.seq_len, init_seed=0)
    sandbox, count = Sandbox(run.sandbox), min(HELD_OUT, 8 * steps)  # few in a smoke test
    ratios = []
    for _ in range(rounds):
        data = EvaluationSet.held_out(sandbox, count)
        data.labels  # noqa: B018  (computed once whoever ablates)
        naive = seconds(lambda data=data: ablation_loop(model, data))
        ours = seconds(lambda data=data: ablate(model, data, CopyCircuit((), ()), torch.Generator().manual_seed(0)))
        ratios.append(naive / ours)
    return ratios


def help_against_torch(rounds: int, steps: int) -> list[float]:
    """How much faster `mechdistill --help` is than `python -c "import torch"`."""
    del steps
    helped = [str(Path(sys.executable).with_name("mechdistill")), "--help"]
    imported = [sys.executable, "-c", "import torch"]
    ratios = []
    for _ in range(rounds):
        ours = seconds(lambda: subprocess.run(helped, check=True, capture_output=True))
        ratios.append(seconds(lambda: subprocess.run(imported, check=True, capture_output=True)) / ours)
    return ratios


def memory_against_plain(rounds: int, steps: int) -> list[float]:
    """Growth of peak memory above the imports: `train` over a plain PyTorch loop, each in a fresh process."""

    def growth(kind: str) -> float:
        code = f"from tests.benchmarks.pairs import report_growth; report_growth({kind!r}, {steps})"
        result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return float(result.stdout)

    return [growth("train") / growth("plain") for _ in range(rounds)]


def report_growth(kind: str, steps: int) -> None:
    """Print the growth in KiB of one of the two loops in this process (Linux)."""
    torch.set_num_threads(1)
    run = default_run(steps)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of the imports
    before = _status_kib("VmRSS")
    if kind == "train":
        train_seconds(run)
    else:
        sequences = Sandbox(run.sandbox).sequences(0, 0, run.training.batch)
        plain = PlainTransformer(run.model, run.sandbox.vocab, run.sandbox.seq_len)
        bare_steps(plain, run.training, sequences, steps)
    print(_status_kib("VmHWM") - before)


def _status_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
