"""What a head's matrices have stored, as the accuracy of looking it up: Bietti et al.'s recall probes, no data needed.

Ties share a hit, so that a head of zeros scores chance.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.circuits._probes import Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._score import UNDEFINED, Scored, head_score

_MOST_TOKENS = 256
_TOLERANCE = 1e-5  # of the largest number, under which two are a tie: sums in another order


def _hits(logits: Float[Tensor, "*batch query answer"], right: Int[Tensor, " query"]) -> Float[Tensor, "*batch"]:
    """Share of queries whose right answer has the highest number; 1/n where n are equally high. -inf: no answer."""
    highest = logits.amax(dim=-1, keepdim=True)
    tied = logits >= highest - _TOLERANCE * highest.abs()
    won = tied.gather(-1, right[:, None].expand(*logits.shape[:-2], -1, 1))[..., 0]
    return (won / tied.sum(dim=-1)).mean(dim=-1)


def _tokens(probes: Probes, vocab: int) -> Int[Tensor, " token"]:
    """All tokens, or those of one random block where there are many."""
    if vocab <= _MOST_TOKENS:
        return torch.arange(vocab)
    return probes.repeated.tokens[0, 1 : probes.repeated.length + 1]


@head_score(label="recall: previous position", chance="mean 1/(t+1)")
def recall_previous_position(view: HeadView, probes: Probes) -> Scored:
    """Share of positions t >= 1 whose query p_t W_Q matches the key p_s W_K of s = t-1 best of all s <= t.

    p is the embedding of a position after the layer's norm; biases count. What makes a previous-token head. Range
    [0, 1]; chance 1/(t+1) averaged over t. Null: the untrained twin. Undefined without learned positions. Source:
    Bietti et al. 2023.
    """
    if view.W_pos is None:
        return UNDEFINED
    length = probes.natural.tokens.shape[1]
    b_q, b_k = view.biases("b_Q"), view.biases("b_K")
    t = torch.arange(1, length)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    values: list[Tensor] = []
    for layer in range(view.n_layers):
        p = view.norm(layer)(view.W_pos[:length])
        q = torch.einsum("pm,hmd->hpd", p, view.W_Q[layer]) + b_q[layer][:, None]
        k = torch.einsum("pm,hmd->hpd", p, view.W_K[layer]) + b_k[layer][:, None]
        values.append(_hits((q @ k.transpose(1, 2)).masked_fill(later, -torch.inf)[:, 1:], t - 1))
    return Scored(torch.stack(values), float((1 / (t + 1)).mean()))


@head_score(label="recall: output", chance="1/vocab")
def recall_output(view: HeadView, probes: Probes) -> Scored:
    """Share of tokens t whose logit is the largest of all in norm(W_E[t]) W_V W_O W_U: what the head copies at all.

    Norms folded in. Over all tokens of a vocabulary of at most 256, else over those of one random block. Range [0, 1];
    chance 1/vocab. Null: the untrained twin. Source: Bietti et al. 2023.
    """
    tokens = _tokens(probes, view.vocab)
    unembed = view.norm(None).read(view.W_U)
    values: list[Tensor] = []
    for layer in range(view.n_layers):
        moved = torch.einsum("tm,hmd,hdn->htn", view.norm(layer)(view.W_E[tokens]), view.W_V[layer], view.W_O[layer])
        values.append(torch.stack([_hits(one @ unembed, tokens) for one in moved]))  # one head: a vocabulary is large
    return Scored(torch.stack(values), 1 / view.vocab)


@head_score(label="recall: trigger", chance="1/(number of tokens)")
def recall_trigger(view: HeadView, probes: Probes) -> Scored:
    """Share of triggers k whose query W_E[k] W_Q matches best, of all triggers', the key (W_E[k] W_OV) W_K.

    W_OV is an earlier head's: what an earlier head writes of the token that it looks at. A pair scores high if the
    later head finds what followed a trigger through the earlier one. Norms as the layers have them; biases count, of
    queries and keys. Over the fixed triggers; where there are none over all tokens, or those of one random block where
    they are more than 256. Range [0, 1]; chance 1 over their number. Null: the untrained twin. Undefined with rotary
    positions. Source: Bietti et al. 2023.
    """
    if view.rotary:
        return UNDEFINED
    held = probes.repeated.tokens[probes.repeated.is_trigger].unique()
    tokens = held if len(held) else _tokens(probes, view.vocab)
    b_q, b_k = view.biases("b_Q"), view.biases("b_K")
    moved = [
        torch.einsum("tm,hmd,hdn->htn", view.norm(layer)(view.W_E[tokens]), view.W_V[layer], view.W_O[layer])
        for layer in range(view.n_layers)
    ]
    value = torch.full((view.n_layers, view.n_heads) * 2, torch.nan)
    for layer in range(1, view.n_layers):
        norm = view.norm(layer)
        q = torch.einsum("tm,hmd->htd", norm(view.W_E[tokens]), view.W_Q[layer]) + b_q[layer][:, None]
        written = norm(torch.stack(moved[:layer]))
        k = torch.einsum("lgtm,hmd->hlgtd", written, view.W_K[layer]) + b_k[layer][:, None, None, None]
        logits = torch.einsum("hqd,hlgtd->hlgqt", q, k)
        value[layer, :, :layer] = _hits(logits, torch.arange(len(tokens)))
    return Scored(value, 1 / len(tokens))
