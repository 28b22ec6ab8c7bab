"""Head scores: how much of a head's attention goes where a named circuit would send it.

Every score is the mean, over the queries it names, of the attention that a head pays to the sources it names. Beside
it stand chance (uniform causal attention through the same function) and a null (the same queries where the sources
mean nothing), so that no score has to be read against a bare threshold.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.circuits._probes import repeated_blocks
from mechdistill.errors import MechdistillError
from mechdistill.model import Model, Transformer
from mechdistill.sandbox import Sandbox
from mechdistill.tables import frame

Sources = Bool[Tensor, "batch query source"]


def attention_to(pattern: Float[Tensor, "batch head query source"], sources: Sources) -> Float[Tensor, "batch head"]:
    """Mean over the queries that have sources of the attention paid to them: the score of every head.

    score[b, h] = mean over q with sources of Σ_s A[b, h, q, s]·sources[b, q, s]. Range [0, 1]; nan for a sequence in
    which no query has a source.
    """
    paid = torch.einsum("bhqs,bqs->bh", pattern, sources.to(pattern.dtype))
    return paid / sources.any(dim=-1).sum(dim=-1, keepdim=True)


def _at_offset(queries: Bool[Tensor, "batch query"], offset: int) -> Sources:
    """For each of the queries, the one source `offset` positions before it."""
    batch, length = queries.shape
    sources = torch.zeros(batch, length, length, dtype=torch.bool)
    q = torch.arange(offset, length)
    sources[:, q, q - offset] = queries[:, offset:]
    return sources


class Probe(NamedTuple):
    """What a score looks at: sequences of a kind, and on them the queries and sources."""

    tokens: Int[Tensor, "batch pos"]
    length: int  # of a repeated block; 0 for sandbox sequences
    is_trigger: Bool[Tensor, "batch pos"]
    triggers: Bool[Tensor, "batch vocab"] | None  # of each sandbox sequence
    sandbox: Sandbox


def _second_block(probe: Probe) -> Bool[Tensor, "batch pos"]:
    return (torch.arange(probe.tokens.shape[1]) > probe.length).expand(probe.tokens.shape)


def induction(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold a trigger.

    The head looks at what followed the current token last time. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null: the same queries and sources with another first block. Where the sandbox has no fixed triggers, all
    queries count. Source: Olsson et al. 2022; the split by query is ours, since heads trained on fixed triggers
    fire at triggers only.
    """
    queries = _second_block(probe)
    return _at_offset(queries & probe.is_trigger if probe.sandbox.triggers else queries, probe.length - 1)


def induction_general(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold no trigger.

    A head that scores here is an induction head for any token. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null: as for `induction`. Source: Olsson et al. 2022.
    """
    return _at_offset(_second_block(probe) & ~probe.is_trigger, probe.length - 1)


def duplicate_token(probe: Probe) -> Sources:
    """A[q, q-L] in the second copy of a block of length L: attention to the earlier copy of the same token.

    Range [0, 1]; chance 1/(q+1) averaged over the queries. Null: the same queries and sources with another first
    block. Source: Wang et al. 2022 (IOI).
    """
    return _at_offset(_second_block(probe), probe.length)


def previous_token(probe: Probe) -> Sources:
    """A[q, q-1] on sandbox sequences: attention to the token just before, q >= 2.

    Range [0, 1]; chance 1/(q+1) averaged over those q. Null: A[q, q-2] at the same queries. Source: Olsson et al.
    2022; their first query is left out here, as it has no position for the null.
    """
    return _at_offset(_from_two(probe), 1)


def _from_two(probe: Probe) -> Bool[Tensor, "batch pos"]:
    return (torch.arange(probe.tokens.shape[1]) >= 2).expand(probe.tokens.shape)


def previous_token_after_trigger(probe: Probe) -> Sources:
    """A[q, q-1] on sandbox sequences where position q-1 holds a trigger, q >= 2: the first half of the copy circuit.

    Range [0, 1]; chance 1/(q+1) averaged over those q. Null: A[q, q-2] at the same queries. Source: Bietti et al. 2023.
    """
    return _at_offset(_after_trigger(probe), 1)


def _after_trigger(probe: Probe) -> Bool[Tensor, "batch pos"]:
    after = torch.cat((torch.zeros_like(probe.is_trigger[:, :1]), probe.is_trigger[:, :-1]), dim=1)
    return after & _from_two(probe)


def trigger_lookup(probe: Probe) -> Sources:
    """Attention from occurrence >= 2 of a trigger to the positions right after its earlier occurrences.

    On sandbox sequences: the second half of the copy circuit, where it is used; the score that ranks heads. Range
    [0, 1]; chance (number of sources)/(q+1) averaged over the queries. Null: the same queries, one position further
    right. A query directly after its own earlier occurrence (a self-loop) is no source. Source: Bietti et al. 2023.
    """
    return probe.sandbox.lookup_sources(probe.tokens, probe.triggers)


def _one_further_right(sources: Sources) -> Sources:
    """Each query's sources moved right by one, dropping those that reach the query or are sources themselves."""
    shifted = torch.zeros_like(sources)
    shifted[:, :, 1:] = sources[:, :, :-1]
    length = sources.shape[1]
    earlier = torch.arange(length) < torch.arange(length)[:, None]
    return shifted & earlier & ~sources


class Score(NamedTuple):
    """A registered score: on which sequences, which sources, and which sources for the null (None: the control)."""

    on: str  # "repeated" or "sandbox"
    sources: Callable[[Probe], Sources]
    decoys: Callable[[Probe], Sources] | None


SCORES: dict[str, Score] = {
    "induction": Score("repeated", induction, None),
    "induction-general": Score("repeated", induction_general, None),
    "duplicate-token": Score("repeated", duplicate_token, None),
    "previous-token": Score("sandbox", previous_token, lambda probe: _at_offset(_from_two(probe), 2)),
    "previous-token-after-trigger": Score(
        "sandbox", previous_token_after_trigger, lambda probe: _at_offset(_after_trigger(probe), 2)
    ),
    "trigger-lookup": Score("sandbox", trigger_lookup, lambda probe: _one_further_right(trigger_lookup(probe))),
}


def head_scores(model: Model, sandbox: Sandbox, generator: torch.Generator, *, sequences: int = 64) -> pd.DataFrame:
    """Every score of every head: the `induction-scores` table of one model (its `untrained` column left null).

    `value` is the mean over `sequences` probe sequences; `null_mean` and `null_sd` are mean and standard deviation
    over sequences of the same function at the null; `null_max` is the largest null_mean of the score over all heads.
    Scores that no query defines (say induction-general where every token is a trigger) are left out. Raises
    `MechdistillError` for a model without heads.
    """
    if not isinstance(model, Transformer):
        raise MechdistillError("model.kind=bigram: has no attention heads to score; use a transformer run")
    probes, patterns = _probes(model, sandbox, generator, sequences)
    rows: list[dict[str, Any]] = []
    for metric, score in SCORES.items():
        sources = score.sources(probes[score.on])
        null_sources = sources if score.decoys is None else score.decoys(probes[score.on])
        null_on = "control" if score.decoys is None else score.on
        length = sources.shape[1]
        uniform = torch.ones(len(sources), 1, length, length).tril() / torch.arange(1, length + 1)[:, None]
        chance = float(attention_to(uniform, sources).nanmean())
        values = [attention_to(pattern, sources).nanmean(dim=0) for pattern in patterns[score.on]]
        nulls = [attention_to(pattern, null_sources) for pattern in patterns[null_on]]
        nulls = [null[~null.isnan().any(dim=1)] for null in nulls]
        null_max = max((float(null.mean(dim=0).max()) for null in nulls if len(null)), default=torch.nan)
        rows += [
            {
                "metric": metric,
                "value": float(values[layer][head]),
                "layer": layer,
                "head": head,
                "chance": chance,
                "null_mean": float(nulls[layer][:, head].mean()) if len(nulls[layer]) else None,
                "null_sd": float(nulls[layer][:, head].std()) if len(nulls[layer]) > 1 else None,
                "null_max": null_max,
            }
            for layer in range(model.config.n_layers)
            for head in range(model.config.n_heads)
        ]
    return frame("induction-scores", [row for row in rows if row["value"] == row["value"]])


def _probes(
    model: Transformer, sandbox: Sandbox, generator: torch.Generator, sequences: int
) -> tuple[dict[str, Probe], dict[str, list[Tensor]]]:
    blocks = repeated_blocks(sandbox, sequences, model.n_ctx, generator)
    natural = sandbox.evaluation(sequences)
    fixed = torch.tensor(sandbox.triggers, dtype=torch.long)
    probes = {
        kind: Probe(tokens, blocks.length, torch.isin(tokens, fixed), None, sandbox)
        for kind, tokens in (("repeated", blocks.repeated), ("control", blocks.control))
    }
    is_trigger = sandbox.is_trigger(natural.tokens, natural.triggers)
    probes["sandbox"] = Probe(natural.tokens, 0, is_trigger, natural.triggers, sandbox)
    return probes, {kind: attention_patterns(model, probe.tokens) for kind, probe in probes.items()}


@torch.no_grad()
def attention_patterns(
    model: Transformer, tokens: Int[Tensor, "batch pos"]
) -> list[Float[Tensor, "batch head query source"]]:
    """The attention patterns of each layer on the CPU."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.config.n_layers)]
    _, cache = model.run_with_cache(tokens.to(model.W_E.device), names_filter=names)
    return [cache[name].float().cpu() for name in names]
