"""Looking at one prompt of one's own: what a checkpoint predicts there, what the oracle says, and every activation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.config import CorpusRows
from mechdistill.errors import MechdistillError, quoted
from mechdistill.laws import forward_kl
from mechdistill.model import Model, whole_tokens
from mechdistill.runs import Run, Step
from mechdistill.world import KnownWorld, World, known


@dataclass(frozen=True)
class Prompt:
    """One prompt run through one checkpoint."""

    tokens: Int[Tensor, "1 pos"]
    logits: Float[Tensor, "1 pos vocab"]
    cache: Any  # every activation by its hook name, as run_with_cache gives them
    model: Model
    world: KnownWorld

    @property
    def table(self) -> pd.DataFrame:
        """One row a position: the token, the model's and the oracle's best guess of the next, and how they differ.

        `probability` and `oracle_probability` are those of each one's own best guess; `next_probability` is the
        model's of the token that does come next (null at the end); `kl` is KL(oracle ‖ model), nats, 0 for the oracle.
        """
        log_probs = self.logits[0].log_softmax(dim=-1)
        law = self.world.law(self.tokens)[0]
        guess, oracle = log_probs.max(dim=-1), law.max(dim=-1)
        names = self.world.symbols
        following = [*self.tokens[0, 1:].tolist(), None]
        return pd.DataFrame(
            {
                "position": range(self.tokens.shape[1]),
                "token": self.tokens[0].tolist(),
                "symbol": [names[t] for t in self.tokens[0].tolist()],
                "trigger_rate": self.world.rate[self.tokens[0].numpy()],
                "guess": [names[t] for t in guess.indices.tolist()],
                "probability": guess.values.exp().tolist(),
                "oracle_guess": [names[t] for t in oracle.indices.tolist()],
                "oracle_probability": oracle.values.exp().tolist(),
                "next_probability": [
                    None if token is None else float(log_probs[i, token].exp()) for i, token in enumerate(following)
                ],
                "kl": forward_kl(law[None], log_probs[None])[0].tolist(),
            }
        )

    def pattern(self, layer: SupportsIndex, head: SupportsIndex) -> Float[Tensor, "query source"]:
        """The attention pattern of one head. Raises `MechdistillError` where there is no such head."""
        layer, head = arguments.whole(layer, "layer"), arguments.whole(head, "head")
        pattern = self.cache.cache_dict.get(f"blocks.{layer}.attn.hook_pattern")
        if pattern is None or head >= pattern.shape[1]:
            raise MechdistillError(f"layer {layer}, head {head}: the model has no such head")
        return pattern[0, head]


@neutral()
def prompt(run: Run, tokens: str | Sequence[int] | Tensor, checkpoint: Step = "last") -> Prompt:
    """Run a checkpoint on a prompt of your own: token ids, or, in a world made from a text, a string of its symbols.

    Raises `MechdistillError` for text in a world whose tokens are numbered, for what is no single sequence of whole
    numbers, for a token that the world does not have, and for an empty prompt or one longer than seq_len.
    """
    arguments.instance(run, "run", Run, "must be a run, like md.load(path).run('spt/seed-0')")
    world = known(run.world, "prompt")
    if isinstance(tokens, str) and not isinstance(run.config.sandbox.rows, CorpusRows):
        raise MechdistillError(f"prompt {quoted(tokens)}: this world's tokens are numbers; give a list of them")
    ids = _spelled(world, tokens) if isinstance(tokens, str) else whole_tokens(tokens)
    if ids.ndim != 1:
        raise MechdistillError(f"prompt of shape {list(ids.shape)}: must be one sequence, [pos]; give them one by one")
    if not 1 <= len(ids) <= world.seq_len:
        raise MechdistillError(f"prompt of {len(ids)} tokens: must have between 1 and seq_len = {world.seq_len}")
    for token in ids.tolist():
        if not 0 <= token < world.vocab:
            raise MechdistillError(f"prompt token {token}: must be between 0 and vocab - 1 = {world.vocab - 1}")
    model = run.model(checkpoint)
    batch = ids[None].cpu()
    logits, cache = model.run_with_cache(batch)
    return Prompt(batch, logits, cache, model, world)


def _spelled(world: World, text: str) -> Int[Tensor, " pos"]:
    """The tokens that a text's symbols stand for."""
    known = {symbol: token for token, symbol in enumerate(world.symbols)}
    unknown = [symbol for symbol in text if symbol not in known]
    if unknown:
        raise MechdistillError(f"prompt symbol {unknown[0]!r}: this world has {''.join(world.symbols)!r}")
    return torch.tensor([known[symbol] for symbol in text], dtype=torch.long)
