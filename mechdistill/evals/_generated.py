"""What a model generates, as it is sampled: how different, and how much of it the oracle deems possible.

Every model draws the same number of sequences of the same length from the same start tokens, and the world's own
held-out sequences, as many and as long, stand beside each number.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.evals._diversity import distinct_n, ngram_kernel, unique_correct, vendi_score
from mechdistill.evals._support import on_support
from mechdistill.laws import entropy, soften
from mechdistill.model import Model
from mechdistill.positions import CHUNK_BYTES, HELD_OUT
from mechdistill.subject import PROBE_SEED, Subject
from mechdistill.tables import DIVERSITY, Metric, frame, metrics
from mechdistill.world import KnownWorld, known

SEQUENCES = 256
"""Drawn at each temperature: distinct-n of another number is another quantity."""
TEMPERATURES = (0.7, 1.0, 1.3)
N_GRAMS = (1, 2, 3, 4)
SAMPLED = (1, 4, 16)
"""Continuations of a prompt among which different valid ones are counted."""
_LONGEST = 128  # tokens of a generated sequence
_PROMPTS, _SAMPLES, _PROMPT_TOKENS, _NEW_TOKENS = 32, 16, 32, 4
_VENDI_N = 2


class _Value(NamedTuple):
    """A number of one source of sequences, and where in the table it stands."""

    metric: Metric
    value: float
    about: dict[str, int]


def diversity(model: Model, world: KnownWorld) -> pd.DataFrame:
    """The `diversity` table of a model in a world that knows its own law, a pure function of both.

    At each temperature, over 256 sequences of at most 128 tokens from start tokens of the world: `distinct-n` for n of
    1 to 4 (`distinct_n`); `valid-distinct-n`, of n-grams whose every transition is valid; `validity`, the share of
    valid transitions, in [0, 1], chance about the support's size over vocab (`on_support`: wrong copies are invalid
    too, since the oracle knows the target by then); `entropy-rate`, the mean entropy of the law sampled from, nats
    a token, in [0, ln(vocab)], and `oracle-entropy-rate`, that of the oracle along the world's own sequences;
    `vendi-score` of bigram counts (`vendi_score`), in [1, 256]. Over 32 held-out beginnings, 16 times continued by 4
    tokens: `unique-correct` (`unique_correct`) for k of 1, 4 and 16, in [0, k].

    Noise raises diversity: 5 % of uniform tokens may double distinct-2. Read each number beside validity, and beside
    `reference`, the same of the world's own sequences (continuations: of the oracle's draws). Sources: Li et al. 2016;
    Friedman and Dieng 2023; Holtzman et al. 2020.
    """
    length = min(world.seq_len, _LONGEST)
    beginnings = world.evaluation(_PROMPTS, start=HELD_OUT).tokens[:, : min(_PROMPT_TOKENS, world.seq_len // 2)]
    own = world.evaluation(SEQUENCES).tokens[:, :length]
    reference = list(_values(world, own, _continued_by_oracle(world, beginnings), _entropy_rate_of_oracle(world, own)))
    rate = next(each.value for each in reference if each.metric is metrics.ENTROPY_RATE)
    rows: list[dict[str, Any]] = []
    for temperature in TEMPERATURES:
        tokens = _generated(model, _starts(world), length - 1, temperature)
        continued = _generated(model, beginnings.repeat_interleave(_SAMPLES, dim=0), _NEW_TOKENS, temperature)
        found = _values(world, tokens, continued, _entropy_rate(model, tokens, temperature))
        for ours, theirs in zip(found, reference, strict=True):
            drawn = continued if ours.metric is metrics.UNIQUE_CORRECT else tokens
            beside = {"reference": theirs.value, "sequences": len(drawn), **ours.about}
            rows.append(ours.metric.row(ours.value, temperature=temperature, **beside))
    rows.append(metrics.ORACLE_ENTROPY_RATE.row(rate, temperature=1.0, reference=rate, sequences=len(own)))
    return frame(DIVERSITY, rows)


def measure_diversity(subject: Subject) -> pd.DataFrame:
    """The `diversity` of a subject's model in its world."""
    return diversity(subject.model, known(subject.world, DIVERSITY.name))


def _values(
    world: KnownWorld, tokens: Int[Tensor, "sequence pos"], continued: Int[Tensor, "continuation all"], rate: float
) -> Iterator[_Value]:
    """All numbers of one source of sequences, in a fixed order."""
    valid = _valid(world, tokens)
    yield _Value(metrics.VALIDITY, float(valid.float().mean()), {})
    for n in N_GRAMS:
        yield _Value(metrics.DISTINCT, distinct_n(tokens, n), {"n": n})
        if n > 1:  # a single token has no transition
            yield _Value(metrics.VALID_DISTINCT, distinct_n(tokens, n, valid), {"n": n})
    yield _Value(metrics.ENTROPY_RATE, rate, {})
    yield _Value(metrics.VENDI, vendi_score(ngram_kernel(tokens, _VENDI_N)), {"n": _VENDI_N})
    new = continued[:, -_NEW_TOKENS:].unflatten(0, (_PROMPTS, _SAMPLES))
    right = _valid(world, continued)[:, -_NEW_TOKENS:].all(dim=1).unflatten(0, (_PROMPTS, _SAMPLES))
    for k in SAMPLED:
        yield _Value(metrics.UNIQUE_CORRECT, unique_correct(new, right, k), {"k": k})


def _generator() -> torch.Generator:
    """The same draws for every model and temperature, so that models differ by what they are."""
    return torch.Generator().manual_seed(PROBE_SEED)


def _starts(world: KnownWorld) -> Int[Tensor, "sequence 1"]:
    law = torch.tensor(world.start_law)
    return torch.multinomial(law, SEQUENCES, replacement=True, generator=_generator())[:, None]


def _generated(
    model: Model, prompts: Int[Tensor, "sequence pos"], new: int, temperature: float
) -> Int[Tensor, "continuation all"]:
    return model.generate(prompts, new, temperature=temperature, generator=_generator()).cpu()


def _continued_by_oracle(world: KnownWorld, beginnings: Int[Tensor, "prompt pos"]) -> Int[Tensor, "continuation all"]:
    tokens, generator = beginnings.repeat_interleave(_SAMPLES, dim=0), _generator()
    for _ in range(_NEW_TOKENS):
        last = torch.cat([world.law(part)[:, -1] for part in _parts(tokens, world)])
        tokens = torch.cat((tokens, torch.multinomial(last.exp(), 1, generator=generator)), dim=1)
    return tokens


def _valid(world: KnownWorld, tokens: Int[Tensor, "sequence pos"]) -> Bool[Tensor, "sequence pos_minus_1"]:
    """Whether each transition is on the support of the oracle's law given all that came before it."""
    return torch.cat([on_support(world.law(part[:, :-1]), part[:, 1:]) for part in _parts(tokens, world)])


@torch.no_grad()
def _entropy_rate(model: Model, tokens: Int[Tensor, "sequence pos"], temperature: float) -> float:
    """Mean entropy of the laws that tokens were drawn from, nats a token."""
    device = next(model.parameters()).device

    def entropies(inputs: Int[Tensor, "sequence pos"]) -> Float[Tensor, "sequence pos"]:
        log_probs = model(inputs.to(device)).float().log_softmax(dim=-1)
        return entropy(soften(log_probs, temperature)).cpu()

    inputs = tokens[:, :-1]
    return float(torch.cat([entropies(part) for part in inputs.split(_fit(inputs, model.d_vocab))]).mean())


def _entropy_rate_of_oracle(world: KnownWorld, own: Int[Tensor, "sequence pos"]) -> float:
    return float(torch.cat([entropy(world.law(part[:, :-1])) for part in _parts(own, world)]).mean())


def _parts(tokens: Int[Tensor, "sequence pos"], world: KnownWorld) -> tuple[Int[Tensor, "part pos"], ...]:
    return tokens.split(_fit(tokens, world.vocab))


def _fit(tokens: Int[Tensor, "sequence pos"], vocab: int) -> int:
    """How many sequences' laws may be held together."""
    return max(1, CHUNK_BYTES // (4 * tokens.shape[1] * vocab))
