"""A run's checkpoints as folders that `AutoModelForCausalLM.from_pretrained` opens: the last at the root, and each as
`step-N`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch

from mechdistill.model import to_transformers, transformers_architecture
from mechdistill.publishing._tokenizer import tokenizer_files
from mechdistill.runs import Run, write_bytes, write_text


def check_transformers(runs: Sequence[Run]) -> None:
    """Raise `MechdistillError` naming what transformers could not open of one of the runs."""
    for run in runs:
        transformers_architecture(run.config.model)
        tokenizer_files(run.world.symbols, run.world.seq_len)


def write_transformers(run: Run, target: Path, steps: Iterable[int] = ()) -> None:
    """Write the run's last checkpoint as a transformers folder, and those of `steps` as folders `step-N` in it."""
    words = tokenizer_files(run.world.symbols, run.world.seq_len)
    for folder, step in ((target, run.resolve("last")), *((target / f"step-{step}", step) for step in steps)):
        folder.mkdir(parents=True, exist_ok=True)
        _write_model(to_transformers(run.model(step)), folder)
        for name, text in words.items():
            write_text(folder / name, text)


def _write_model(model: Any, folder: Path) -> None:
    """Config, generation config and weights; as `save_pretrained` writes them, without its bars."""
    model.config.architectures = [type(model).__name__]
    model.config.dtype = model.dtype
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set[str]()  # one parameter, stored once
    weights = {name: weight.contiguous() for name, weight in model.state_dict().items() if name not in tied}
    write_bytes(folder / "model.safetensors", safetensors.torch.save(weights, {"format": "pt"}))
