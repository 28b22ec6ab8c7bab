"""What heads and layers do to the prediction where something can be copied, and what context is worth to the model."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.circuits._probes import Probe, Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._score import UNDEFINED, Scored, head_score
from mechdistill.positions import worth_of_context


class _Copies(NamedTuple):
    """Predictions that can be made by copying: where they stand in a probe, and what comes next there."""

    probe: Probe
    sequence: Int[Tensor, " prediction"]
    pos: Int[Tensor, " prediction"]
    answer: Int[Tensor, " prediction"]

    @property
    def wrong(self) -> Int[Tensor, " prediction"]:
        """The answers of predictions half the probe away."""
        return self.answer.roll(len(self.answer) // 2)

    def by_sequence(self, values: Float[Tensor, "*by prediction"]) -> Float[Tensor, "*by sequence"]:
        """Their means in every sequence that has any."""
        kept, index, count = self.sequence.unique(return_inverse=True, return_counts=True)
        return values.new_zeros(*values.shape[:-1], len(kept)).index_add(-1, index, values) / count


def _copies(probes: Probes) -> _Copies | None:
    """Occurrences >= 2 of triggers; where the world has none, the second block but its last position."""
    natural, repeated = probes.natural, probes.repeated
    if natural.occurrence is not None and natural.next_tokens is not None and (natural.occurrence > 0).any():
        sequence, pos = (natural.occurrence >= 2).nonzero(as_tuple=True)
        found = _Copies(natural, sequence, pos, natural.next_tokens[sequence, pos])
    else:
        second = torch.arange(repeated.tokens.shape[1]) > repeated.length
        second[-1] = False
        sequence, pos = second.expand(repeated.tokens.shape).nonzero(as_tuple=True)
        found = _Copies(repeated, sequence, pos, repeated.tokens[sequence, pos + 1])
    return found if len(found.answer) else None


@head_score(label="direct logit attribution", unit="logits", low=-math.inf, high=math.inf, chance="0")
def direct_logit_attribution(view: HeadView, probes: Probes) -> Scored:
    """What the head itself adds to the right token's logit, less the mean of what it adds to all tokens' logits.

    z W_O through the final norm with the scale that it has there, times W_U, at occurrences >= 2 of triggers in
    sequences of the world; in a world without triggers, in the second copy of a block. Range: any; chance 0. Null: the
    same toward the right token of another such position. Source: Elhage et al. 2021; Wang et al. 2022.
    """
    copies = _copies(probes)
    if copies is None:
        return UNDEFINED
    outputs, final, w_u = view.outputs(copies.probe.tokens), view.norm(None), view.W_U
    scale = final.scale(outputs.resid_post[-1][copies.sequence, copies.pos])
    mean = w_u.mean(dim=1, keepdim=True)

    def toward(tokens: Tensor) -> Tensor:
        return final.read(w_u[:, tokens] - mean).T / scale

    added: list[Tensor] = []
    for directions in (toward(copies.answer), toward(copies.wrong)):
        of_layers = [
            torch.einsum("nhd,hdm,nm->hn", z[copies.sequence, copies.pos], w_o, directions)
            for z, w_o in zip(outputs.z, view.W_O, strict=True)
        ]
        added.append(copies.by_sequence(torch.stack(of_layers)).transpose(1, 2))
    return Scored(added[0].mean(dim=1), 0.0, added[1])


@head_score(label="logit lens", unit="nats", high=math.inf, chance="ln(vocab), uniform guessing")
def logit_lens(view: HeadView, probes: Probes) -> Scored:
    """Loss of the law that the unembedding reads from the residual stream after each layer, nats.

    softmax(norm(resid_post) W_U + b_U) at the same positions as direct-logit-attribution; after the last layer it is
    the model's own loss there. Range 0 and above; chance ln(vocab). Null: the same law's loss on the right tokens of
    other such positions. Source: nostalgebraist 2020.
    """
    copies = _copies(probes)
    if copies is None:
        return UNDEFINED
    outputs, final, unembed, b_u = view.outputs(copies.probe.tokens), view.norm(None), view.W_U, view.b_U
    losses: list[Tensor] = []
    for resid in outputs.resid_post:
        law = (final(resid[copies.sequence, copies.pos]) @ unembed + b_u).log_softmax(dim=-1)
        losses.append(-torch.stack([law.gather(1, of[:, None])[:, 0] for of in (copies.answer, copies.wrong)]))
    right, wrong = copies.by_sequence(torch.stack(losses)).unbind(dim=1)
    return Scored(right.mean(dim=1), math.log(view.vocab), wrong[:, :, None])


@head_score(label="in-context learning", low=-math.inf, high=math.inf, chance="0: context is not used")
def icl_score(view: HeadView, probes: Probes) -> Scored:
    """(loss at occurrence 1 - loss at occurrences >= 2 of triggers) of the model, over the same of the oracle.

    1 where the model gains from context what there is to gain. Range: any; chance 0, as of a model that looks at no
    context. Null: the untrained twin. Undefined where the world has no triggers or does not know its own law. Source:
    ours, after Olsson et al. 2022. `in-context` has the same of models without heads.
    """
    probe = probes.natural
    if probe.occurrence is None or probe.oracle_loss is None or not (probe.occurrence >= 2).any():
        return UNDEFINED
    loss = _loss(view, probe)
    assert loss is not None
    return Scored(torch.tensor(worth_of_context(loss, probe.oracle_loss, probe.occurrence)), 0.0)


@head_score(label="loss late less loss early", unit="nats", low=-math.inf, high=math.inf, chance="0")
def late_minus_early(view: HeadView, probes: Probes) -> Scored:
    """Mean loss in the last quarter of positions less that in the first, on sequences of the world, nats.

    Negative where the model predicts better the more it has read. Range: any; chance 0. Null: the untrained twin.
    Undefined without a world. Source: Olsson et al. 2022 (the 500th token less the 50th).
    """
    loss = _loss(view, probes.natural)
    if loss is None:
        return UNDEFINED
    quarter = max(1, loss.shape[1] // 4)
    return Scored(loss[:, -quarter:].mean() - loss[:, :quarter].mean(), 0.0)


def _loss(view: HeadView, probe: Probe) -> Float[Tensor, "batch pos"] | None:
    """Of the model on sequences of the world, nats; None where no world says what comes next."""
    if probe.next_tokens is None:
        return None
    logits = view.norm(None)(view.outputs(probe.tokens).resid_post[-1]) @ view.W_U + view.b_U
    return -logits.log_softmax(dim=-1).gather(2, probe.next_tokens[..., None])[..., 0]
