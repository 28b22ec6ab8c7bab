"""Builders that several tests use: small configs, small worlds, and a network that is an induction circuit by hand."""

import contextlib
import gc
import io
import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mechdistill import plugins
from mechdistill.cli import main
from mechdistill.config import ExperimentConfig, ModelConfig, SandboxConfig, experiment
from mechdistill.model import Transformer
from mechdistill.registry import Registry
from mechdistill.runs import Run, _binding
from mechdistill.runs._files import temporary
from mechdistill.sandbox import Sandbox


def micro(**changes: Any) -> ExperimentConfig:
    """Twins and a teacher in a world so small that training all three takes a second."""
    data: dict[str, Any] = {
        "name": "micro",
        "sandbox": {"vocab": 12, "seq_len": 16, "rows": {"high": 2.0}, "triggers": {"count": 2}},
        "model": {"n_layers": 2, "d_model": 16, "n_heads": 2},
        "training": {
            "tokens": 16 * 4 * 24,
            "batch": 4,
            "warmup": 4,
            "evaluate_every": 5,
            "checkpoint_every": 6,
            "eval_sequences": 16,
        },
        "teachers": {"young": {"kind": "checkpoint", "training": {"tokens": 16 * 4 * 8}}},
        "arms": {"spt": {}, "dpt": {"alpha": 0.9, "teacher": "young"}},
    }
    return experiment(merged(data, changes))


class only(dict[str, Any]):  # noqa: N801  (reads as a word)
    """A value of `merged`'s changes that replaces a mapping instead of being merged into it."""


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with nested `changes` applied."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        merge = isinstance(old, dict) and isinstance(value, dict) and not isinstance(value, only)
        result[key] = merged(old, value) if merge else dict(value) if isinstance(value, only) else value
    return result


def world(**changes: Any) -> Sandbox:
    """A small sandbox."""
    base: dict[str, Any] = {"vocab": 12, "seq_len": 16, "rows": {"high": 2.0}, "triggers": {"count": 2}}
    return Sandbox(SandboxConfig.model_validate(merged(base, changes)))


def transformer(*, d_vocab: int = 12, n_ctx: int = 16, seed: int = 0, **changes: Any) -> Transformer:
    """A small transformer with random weights, norms included, so that nothing is an identity by accident."""
    config = ModelConfig(**{"n_layers": 2, "d_model": 16, "n_heads": 2, **changes})
    model = Transformer(config, d_vocab=d_vocab, n_ctx=n_ctx)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float(name.endswith("weight")), 0.3, generator=generator)
    return model.requires_grad_(False)


def left_over(path: Path) -> Path:
    """What a writer of a file is called that was killed on this machine."""
    name = temporary(path).name
    mine, pid = name.rsplit("-", 2)[0], 2**22 + 1  # beyond what Linux gives a process
    return path.with_name(f"{mine}-{pid}-{name.rsplit('-', 1)[1]}")


def mechdistill(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command as in a process of its own, but in this one, which need not import torch again."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    before = sys.argv, sys.unraisablehook, signal.getsignal(signal.SIGINT)
    sys.argv = ["mechdistill", *map(str, arguments)]
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default", UserWarning)
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        finally:
            sys.argv, sys.unraisablehook = before[:2]
            signal.signal(signal.SIGINT, before[2])
            gc.enable()
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def only_meanwhile() -> Iterator[None]:
    """What is registered or loaded as a plug-in meanwhile is gone afterwards."""
    states = [(registry, registry.state()) for registry in Registry.every]
    files = dict(plugins._loaded)
    try:
        yield
    finally:
        for registry, state in states:
            registry.restore(state)
        plugins._loaded.clear()
        plugins._loaded.update(files)


def copied(experiment: Path, to: Path) -> Path:
    """A copy of an experiment without what other tests have had measured and drawn there."""
    return Path(shutil.copytree(experiment, to, ignore=shutil.ignore_patterns("tables", "figures")))


def rewritten(run: Path, file: str, without: tuple[str, ...] = (), /, **changes: Any) -> None:
    """Change values of a run's status.json or provenance.json as its writer would; the status forgets some files."""
    of, held = Run(run).owner.identity, Run(run).held if file == "status.json" else None
    record = json.loads((run / file).read_text()) | changes
    del record["binding"]
    if held is not None:
        held = held._replace(files=tuple(name for name in held.files if name not in without))
    (run / file).write_text(json.dumps(_binding.sealed(record, of, held)))


def unfinished(run: Path) -> None:
    """Make a finished run one that was interrupted at its end: its metrics are still in its log."""
    rewritten(run, "status.json", ("metrics.parquet",), state="interrupted")
    (run / "metrics.parquet").unlink()


def induction_network(vocab: int, n_ctx: int, *, sharpness: float = 400.0, **changes: Any) -> Transformer:
    """A two-layer, attention-only transformer that is an induction circuit, weight by weight.

    The residual stream has three parts: what token (vocab), which position (n_ctx), what token came before (vocab).
    L0H0 attends to the previous position and copies that token into the third part. L1H0 matches its own token
    against the third part of the sources, so it finds what followed the token last time. The other head of each
    layer is zero and attends uniformly. The unembedding is not part of the test.
    """
    token, position, before = (
        range(vocab),
        range(vocab, vocab + n_ctx),
        range(vocab + n_ctx, 2 * vocab + n_ctx),
    )
    shape: dict[str, Any] = {"d_head": max(vocab, n_ctx), **changes}
    d = shape["d_head"]
    model = Transformer(
        ModelConfig(n_layers=2, d_model=2 * vocab + n_ctx, n_heads=2, **shape), d_vocab=vocab, n_ctx=n_ctx
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln" not in name:
                parameter.zero_()
        model.W_E[:, token] = torch.eye(vocab)
        model.W_pos[:, position] = torch.eye(n_ctx)
        model.W_pos[0, before] = -3.0  # position 0 can only look at itself, which must not pass for a token before
        q, k, v = (part.view(2, d, -1) for part in model.blocks[0].attn.W_QKV.chunk(3))
        for p in range(1, n_ctx):  # the query at p reads like the key at p - 1
            q[0, p - 1, position[p]] = sharpness
        for p in range(n_ctx):
            k[0, p, position[p]] = 1.0
        for t in range(vocab):
            v[0, t, token[t]] = 1.0
            model.blocks[0].attn.W_O[0, t, before[t]] = 1.0
        q, k, v = (part.view(2, d, -1) for part in model.blocks[1].attn.W_QKV.chunk(3))
        for t in range(vocab):
            q[0, t, token[t]] = sharpness
            k[0, t, before[t]] = 1.0
            v[0, t, token[t]] = 1.0
            model.blocks[1].attn.W_O[0, t, token[t]] = 1.0
        model.W_U[token] = torch.eye(vocab)
    return model.requires_grad_(False)
