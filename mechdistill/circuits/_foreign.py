"""Models that we have not trained: a folder in Hugging Face's format as a TransformerLens bridge.

Nothing is fetched, no code that comes with a model is run, and no pickled weights are read.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechdistill.circuits._view import HeadView
from mechdistill.errors import MechdistillError, named, one_line, quoted

CONFIG = "config.json"
_LATER = 1e-6  # of attention
_SHORTEST = 3  # tokens of context: a start token, and one that is repeated
_FEW = 2  # sequences that say how a model reads its weights
_NEAR = 1e-2  # nats
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def open_bridge(model: Any) -> Any:
    """A bridge as it is; a folder with config.json and safetensors weights as a bridge in float32, on the CPU.

    Raises `MechdistillError` for a folder that is none, for weights that are pickled or not all there, and for what
    TransformerLens does not know.
    """
    if isinstance(model, Path):
        return _booted(model, named(str(model)))
    if not hasattr(model, "run_with_cache") or not hasattr(model, "cfg"):
        raise MechdistillError(f"model={quoted(model)}: must be a run, an experiment, a bridge, a folder or a name")
    return model


def _booted(folder: Path, name: str) -> Any:
    if not (folder / CONFIG).is_file():
        raise MechdistillError(f"{name}: has no {CONFIG}; give a folder in Hugging Face's format")
    if not any(folder.glob("*.safetensors")):
        pickled = next((file.name for kind in _PICKLED for file in sorted(folder.glob(kind))), None)
        why = "holds no safetensors weights" if pickled is None else f"{pickled} is pickled, which can run code"
        raise MechdistillError(f"{name}: {why}; save the model with safe_serialization=True")
    from safetensors import SafetensorError
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoModelForCausalLM

    try:
        with _quiet():
            opened: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, use_safetensors=True,
                dtype=torch.float32, attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
            loaded, found = opened
            lacking = sorted(found["missing_keys"])
            if not lacking:
                tokenizer = _only_a_start(folder, int(loaded.config.vocab_size))
                return TransformerBridge.boot_transformers(
                    str(folder), hf_model=loaded, tokenizer=tokenizer, device="cpu"
                ).eval()
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, ImportError, SafetensorError) as error:
        raise MechdistillError(f"{name}: cannot be opened ({one_line(str(error), 200)}); give another model") from None
    raise MechdistillError(f"{name}: {len(lacking)} weights are missing ({lacking[0]}, ...); restore the file")


def _only_a_start(folder: Path, vocab: int) -> Any:
    """A tokenizer that knows nothing but where sequences start: random tokens need no other, and folders may lack one.

    The bridge asks for one, and would look for the model's own.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    start = config.get("bos_token_id")
    if not isinstance(start, int) or not 0 <= start < vocab:
        start = 0
    words = Tokenizer(WordLevel({"<start>": start}, unk_token="<start>"))
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), "<start>")
    # without add_bos_token the bridge would read the folder's own tokenizer in its place, with a start of its own
    return PreTrainedTokenizerFast(tokenizer_object=words, name_or_path=str(folder), add_bos_token=True, **special)


def require_causal_attention(view: HeadView, tokens: Int[Tensor, "batch pos"]) -> None:
    """Raise `MechdistillError` for a model without attention patterns, or whose queries attend to later positions.

    So it does for one whose context has no room for repeated tokens, and for one that TransformerLens opens but cannot
    run, as where it is wrong about how heads are grouped.
    """
    if view.n_ctx < _SHORTEST:
        raise MechdistillError(
            f"model: a context of {view.n_ctx} has no room for a start token and two repeated ones; give another model"
        )
    hooks = view.model.hook_dict
    lacking = next((n for n in range(view.n_layers) if f"blocks.{n}.attn.hook_pattern" not in hooks), None)
    if lacking is not None:
        raise MechdistillError(f"model: layer {lacking} has no attention pattern; give one that attends in every layer")
    try:
        patterns = view.patterns(tokens)
    except (RuntimeError, IndexError, AttributeError) as error:
        why = one_line(str(error), 200)
        raise MechdistillError(f"model: TransformerLens cannot run it ({why}); give another model") from error
    for pattern in patterns:
        if not pattern.isfinite().all():
            raise MechdistillError("model: its attention is not finite, as of broken weights; restore them")
        if pattern.triu(1).max() > _LATER:
            raise MechdistillError("model: attends to later positions; give a causal language model")


@torch.no_grad()
def reads_as_written(view: HeadView, tokens: Int[Tensor, "batch pos"]) -> bool:
    """Whether the model's law is that of norm(residual stream) W_U + b_U, as scores of weights and outputs take it.

    It is not where a norm multiplies by 1 + weight (Gemma), comes after attention (OLMo 2), where there is none at the
    end (OPT-350M), or logits are scaled or capped (Granite, Cohere).
    """
    if not hasattr(view.model, "ln_final"):
        return False
    if not all(hasattr(block, "ln1") for block in view.model.blocks) and view.norm(None).eps is not None:
        return False
    few = tokens[:_FEW]
    law = (view.norm(None)(view.outputs(few).resid_post[-1]) @ view.W_U + view.b_U).log_softmax(dim=-1)
    own = view.model(few.to(view.device)).detach().cpu().to(law.dtype).log_softmax(dim=-1)
    return bool((law - own).abs().max() < _NEAR)


@contextmanager
def _quiet() -> Generator[None]:
    """Without progress bars and remarks of transformers'."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
