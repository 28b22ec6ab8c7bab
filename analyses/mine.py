"""Definitions of my own: a teacher, a routing signal and a head score. `md.plugin("mine.py")`, or --plugin mine.py."""

import math

import torch

import mechdistill as md


@md.teacher()
def forgetful(tokens, labels, of, *, forgets: float = 0.25):
    """Another teacher that guesses uniformly with probability `forgets` wherever the next token could be copied."""
    vocab = of.shape[-1]
    guess = torch.full((*tokens.shape, vocab), math.log(forgets / vocab))
    mixed = torch.logaddexp(of + math.log1p(-forgets), guess)
    return torch.where(labels.copyable[..., None], mixed, of)


@md.routing_signal()
def margin(seen):
    """The teacher's probability of its first guess less that of its second: low where it is of two minds."""
    first, second = seen.teacher_log_probs.exp().topk(2).values.unbind(-1)
    return first - second


def _other_triggers(probe, sources):
    earlier = torch.ones(sources.shape[1:], dtype=torch.bool).tril(-1)
    return sources.any(-1, keepdim=True) & probe.is_trigger[:, None] & earlier & ~sources


@md.attention_score(on="natural", decoys=_other_triggers)
def duplicate_trigger(probe):
    """Attention from a trigger to its own earlier occurrences; as a null, to those of other triggers."""
    same = probe.tokens[:, :, None] == probe.tokens[:, None]
    return (same & probe.is_trigger[:, :, None]).tril(-1)
