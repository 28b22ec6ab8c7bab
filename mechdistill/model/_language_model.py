"""What every model here does with tokens: take them as users have them, say how well it predicts them, sample more."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model._cache import KVCache
from mechdistill.model._hooked import HookedModel
from mechdistill.model._tokens import token_batch


class LanguageModel(HookedModel):
    """A hooked model of the next token: model(tokens) -> logits [batch, pos, vocab]; pos is at most n_ctx."""

    d_vocab: int
    n_ctx: int

    def batch(self, tokens: Any) -> Int[Tensor, "batch pos"]:
        """Tokens beside the weights: one sequence as a batch of one, lists and arrays as tensors.

        Raises `MechdistillError` for what is no batch of whole numbers, and for a token outside the vocabulary; the
        latter not while training on an accelerator, since looking would have to wait for it.
        """
        device = next(self.parameters()).device
        return token_batch(tokens, self.d_vocab, device, check=device.type == "cpu" or not self.training)

    def kv_cache(self, batch: int, capacity: int | None = None) -> KVCache | None:  # noqa: ARG002
        """What reads each position only once while sampling; None for a model that looks at no earlier one."""
        return None

    def run_with_cache(self, *args: Any, remove_batch_dim: bool = False, **kwargs: Any) -> tuple[Any, Any]:
        """The output and every activation asked for: an `ActivationCache` (`cache["pattern", 0]`), or a dict."""
        if args:
            args = (self.batch(args[0]), *args[1:])
            if remove_batch_dim and len(args[0]) > 1:
                raise MechdistillError(f"remove_batch_dim=True: the batch has {len(args[0])} sequences; give one")
        return super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **kwargs)

    @torch.no_grad()
    def generate(
        self,
        tokens: Any,
        max_new_tokens: int = 10,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch all"]:
        """The prompts, each followed by max_new_tokens tokens drawn one by one from softmax(logits / temperature).

        [batch, pos] -> [batch, pos + max_new_tokens]; temperature 0 takes the likeliest token. Tokens are drawn on the
        generator's device, so a CPU generator, or torch's global one where none is given, gives the same draws
        wherever the model is. Hooks stay active; they see the prompt's positions once and then one new position at a
        time, so an edit must not count positions from the start.

        Raises `MechdistillError` for what is no prompt (see `batch`), if pos + max_new_tokens exceeds n_ctx, or for a
        temperature below 0 or infinite.
        """
        prompts = self.batch(tokens)
        batch, start = prompts.shape
        if isinstance(max_new_tokens, bool) or not hasattr(max_new_tokens, "__index__") or max_new_tokens < 0:
            raise MechdistillError(f"max_new_tokens={max_new_tokens!r}: must be a whole number, at least 0")
        if start + max_new_tokens > self.n_ctx:
            raise MechdistillError(
                f"max_new_tokens={max_new_tokens}: exceeds, with {start} prompt tokens, "
                f"n_ctx={self.n_ctx}; ask for at most {max(0, self.n_ctx - start)}"
            )
        if not 0 <= temperature < math.inf:
            raise MechdistillError(f"temperature={temperature}: must be at least 0 and finite")
        end = start + int(max_new_tokens)
        grown = torch.cat([prompts, prompts.new_zeros(batch, end - start)], dim=1)
        cache = self.kv_cache(batch, end)
        read = 0
        for stop in range(start, end):
            new = grown[:, read:stop]
            logits = (self(new) if cache is None else self(new, cache=cache))[:, -1]
            grown[:, stop] = _draw(logits, temperature, torch.default_generator if generator is None else generator)
            read = stop
        return grown


def returned(logits: Tensor, tokens: Int[Tensor, "batch pos"], return_type: str | None) -> Any:
    """What `return_type` asks for: logits, the mean loss of the next token within `tokens` (nats), both, or None."""
    if return_type is None:
        return None
    if return_type == "logits":
        return logits
    if return_type not in ("loss", "both"):
        raise MechdistillError(f"return_type={return_type!r}: must be logits, loss, both or None")
    if tokens.shape[1] < 2:
        raise MechdistillError(
            f"return_type={return_type!r}: a sequence of one token has no next one; give two or more"
        )
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten().long())
    return loss if return_type == "loss" else (logits, loss)


def _draw(logits: Float[Tensor, "batch vocab"], temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    # the likeliest token's logit is 0 first, so that a tiny temperature cannot overflow
    law = ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)
    return torch.multinomial(law.to(generator.device), 1, generator=generator)[:, 0].to(logits.device)
