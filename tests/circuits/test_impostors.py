"""What is named a part of the copy circuit, and what only looks like it: heads made by hand, and random networks."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mechdistill.circuits import SCORES, CopyCircuit, Head, copy_circuit, crossed, head_scores, probes, standouts
from mechdistill.model import Transformer
from mechdistill.sandbox import Sandbox
from tests.helpers import induction_network, only, transformer, world

BILINEAR = Callable[["Stream"], Tensor]


class Stream:
    """Where the parts of the residual stream of `induction_network` are: this token, its position, the token before."""

    def __init__(self, sandbox: Sandbox):
        self.sandbox = sandbox
        vocab, n_ctx = sandbox.vocab, sandbox.seq_len
        self.d = 2 * vocab + n_ctx
        self.token = torch.arange(vocab)
        self.position = torch.arange(vocab, vocab + n_ctx)
        self.before = torch.arange(vocab + n_ctx, self.d)
        self.triggers = torch.tensor(sandbox.triggers)

    def logits(self, queries: Tensor, sources: Tensor, values: Tensor | float = 1.0) -> Tensor:
        """[d, d]: a query with one of these features looks at a source with one of those."""
        m = torch.zeros(self.d, self.d)
        m[queries[:, None], sources] = values if isinstance(values, float) else values.float()
        return m

    def offset(self, *back: int) -> Tensor:
        """Looks so many positions back, at all of them equally."""
        m = torch.zeros(self.d, self.d)
        for k in back:
            m[self.position[k:], self.position[k:] - k] = 1.0
        return m


def network(sandbox: Sandbox, layer: int, bilinear: BILINEAR) -> Transformer:
    """`induction_network` without norms, but head 0 of one layer attends by softmax of 60 · x_query M x_source."""
    d = 2 * sandbox.vocab + sandbox.seq_len
    model = induction_network(sandbox.vocab, sandbox.seq_len, d_head=d, norm="none")
    with torch.no_grad():
        q, k, _ = (part.view(2, d, -1) for part in model.blocks[layer].attn.W_QKV.chunk(3))
        q[0] = bilinear(Stream(sandbox)).T * 60 * d**0.5
        k[0] = torch.eye(d)
    return model


def slope(s: Stream, direction: int) -> Tensor:
    """Every query, by where a source stands."""
    return s.logits(s.token, s.position, direction * 0.02 * torch.arange(len(s.position)).expand(len(s.token), -1))


LOOKUP_IMPOSTORS: dict[str, BILINEAR] = {
    "what followed any trigger": lambda s: s.logits(s.token, s.before[s.triggers]),
    "that, at triggers only": lambda s: s.logits(s.triggers, s.before[s.triggers]),
    "that, at one trigger only": lambda s: s.logits(s.triggers[:1], s.before[s.triggers]),
    "what followed one trigger": lambda s: s.logits(s.token, s.before[s.triggers[:1]]),
    "what first followed a trigger": lambda s: s.logits(s.token, s.before[s.triggers]) + slope(s, -1),
    "what last followed a trigger": lambda s: s.logits(s.token, s.before[s.triggers]) + slope(s, 1),
    "what last followed, at one trigger": lambda s: s.logits(s.triggers[:1], s.before[s.triggers]) + slope(s, 1),
    "the first positions": lambda s: slope(s, -1),
    "the last positions": lambda s: slope(s, 1),
    "the last three positions": lambda s: s.offset(0, 1, 2),
    "two positions back": lambda s: s.offset(2),
    "everything": lambda s: torch.zeros(s.d, s.d),
    "what is no trigger": lambda s: s.logits(s.token, s.token) - 9 * s.logits(s.token, s.token[s.triggers]),
    "any trigger": lambda s: s.logits(s.token, s.token[s.triggers]),
    "itself": lambda s: s.offset(0),
}
PREVIOUS_IMPOSTORS = ("any trigger", "the last positions", "the last three positions", "two positions back", "itself")


@pytest.mark.parametrize("count", [1, 3, 5, 10])
def test_a_head_that_matches_nothing_is_named_by_no_rule(count: int) -> None:
    sandbox = world(vocab=24, seq_len=32, triggers={"count": count})
    for name, bilinear in LOOKUP_IMPOSTORS.items():
        if count == 1 and ("followed" in name or "that" in name):
            continue  # with one trigger, what followed it is the right place
        scores = head_scores(network(sandbox, 1, bilinear), sandbox, torch.Generator().manual_seed(0), sequences=32)
        named = {score.name: [h for h in standouts(scores, score) if h == Head(1, 0)] for score in SCORES.values()}
        assert not any(named.values()), (name, named)
        assert copy_circuit(scores) == CopyCircuit((), ()), name


def test_a_head_that_does_not_look_at_the_token_before_is_no_previous_token_head() -> None:
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 5})
    for name in PREVIOUS_IMPOSTORS:
        scores = head_scores(network(sandbox, 0, LOOKUP_IMPOSTORS[name]), sandbox, torch.Generator().manual_seed(0))
        assert all(Head(0, 0) not in standouts(scores, score) for score in SCORES.values()), name


class Counting:
    """A network of two heads, of which the second has an attention pattern that no bilinear form gives: it counts."""

    def __init__(self, sandbox: Sandbox, score: Callable[[Tensor, Tensor], Tensor]):
        self.cfg = SimpleNamespace(n_layers=2, n_heads=1, n_ctx=sandbox.seq_len, d_vocab=sandbox.vocab)
        self._triggers, self._score = torch.tensor(sandbox.triggers), score

    def parameters(self) -> Iterator[Tensor]:
        return iter([torch.zeros(1)])

    def run_with_cache(self, tokens: Tensor, names_filter: object = None) -> tuple[None, dict[str, Tensor]]:
        after = torch.zeros(tokens.shape, dtype=torch.bool)
        after[:, 1:] = torch.isin(tokens, self._triggers)[:, :-1]
        n = tokens.shape[1]
        where = torch.arange(n)
        back = (20.0 * (where[:, None] - where == 1)).expand(len(tokens), -1, -1)
        logits = 12 * after[:, None] * (1 + self._score(tokens, after).float())
        seen = torch.ones(n, n).tril().bool()
        patterns = [x.masked_fill(~seen, -torch.inf).softmax(-1)[:, None] for x in (back, logits)]
        return None, {f"blocks.{layer}.attn.hook_pattern": pattern for layer, pattern in enumerate(patterns)}


def same_ordinal(tokens: Tensor, after: Tensor) -> Tensor:
    """From the m-th of a trigger to what followed any trigger the m-1-th time that it came."""
    times = (tokens[:, :, None] == tokens[:, None]).tril().sum(-1)
    return F.pad(times, (1, 0))[:, None, :-1] == times[:, :, None] - 1


def same_count(tokens: Tensor, after: Tensor) -> Tensor:
    """To what has followed triggers as often as the query's trigger has come before."""
    equal = tokens[:, :, None] == tokens[:, None]
    times = equal.tril().sum(-1) - 1
    seen = torch.ones(equal.shape[1:]).tril()
    followed = torch.einsum("bsu,qu->bqs", (equal & after[:, None]).float(), seen)
    return followed == times[:, :, None]


@pytest.mark.parametrize("count", [2, 5, 10])
@pytest.mark.parametrize("score", [same_ordinal, same_count])
def test_a_head_that_counts_is_named_by_no_rule(score: Callable[[Tensor, Tensor], Tensor], count: int) -> None:
    sandbox = world(vocab=32, seq_len=64, triggers={"count": count})
    of_attention = [name for name, score in SCORES.items() if score.sources is not None]
    scores = head_scores(Counting(sandbox, score), sandbox, torch.Generator().manual_seed(0), names=of_attention)
    value = scores.query("layer == 1 and metric == 'trigger-lookup'")["value"].item()
    assert value > 0.25, "it looks like one"
    assert not any(Head(1, 0) in standouts(scores, score) for score in SCORES.values())


@pytest.mark.parametrize("sequences", [4, 64])
@pytest.mark.parametrize(
    "triggers",
    [{"count": 1}, {"count": 3}, {"count": 10}, {"count": 3, "noise": 0.4}, only(kind="bernoulli", rate=0.3)],
    ids=str,
)
def test_a_head_that_matches_is_named(triggers: dict, sequences: int) -> None:
    sandbox = world(vocab=24, seq_len=32, triggers=triggers)
    model = induction_network(sandbox.vocab, sandbox.seq_len)
    scores = head_scores(model, sandbox, torch.Generator().manual_seed(0), sequences=sequences)
    assert copy_circuit(scores) == CopyCircuit(lookup=(Head(1, 0),), previous_token=(Head(0, 0),))


@pytest.mark.parametrize(("sequences", "networks"), [(4, 26), (16, 20), (128, 13)])
def test_random_networks_have_no_circuit(sequences: int, networks: int) -> None:
    """At least 200 heads each; one network in a hundred may have one by what is promised."""
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 5})
    found = 0
    for seed in range(networks):
        model = transformer(d_vocab=24, n_ctx=32, seed=seed, n_heads=8)
        scores = head_scores(model, sandbox, torch.Generator().manual_seed(seed), sequences=sequences)
        found += any(standouts(scores, score) for score in SCORES.values())
    assert found <= 1
    assert networks * 16 >= 200


def test_crossing_changes_the_match_and_nothing_else() -> None:
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 5})
    natural = probes(sandbox, 32, 32, torch.Generator().manual_seed(0)).natural
    cells = crossed(natural, SCORES["trigger-lookup"].sources(natural), one_trigger=False)
    assert cells is not None
    triggers, right = set(sandbox.triggers), []
    for i, b in enumerate(cells.sequence.tolist()):
        q, sources = int(cells.query[i]), set(cells.sources[i].nonzero().flatten().tolist())
        versions = [tokens[: q + 1] for tokens in cells.tokens[:, i].tolist()]
        assert versions[0] == natural.tokens[b, : q + 1].tolist()
        assert sources == {j + 1 for j in range(q - 1) if versions[0][j] == versions[0][q]}
        for tokens, matches in zip(versions, cells.matches.tolist(), strict=True):
            follows = {tokens[s - 1] for s in sources}
            assert (follows == {tokens[q]}) == matches
            assert tokens[q] in triggers
            assert follows <= triggers
            assert [tokens[s] for s in sources] == [versions[0][s] for s in sources]
        changed = {p for tokens in versions for p in range(q) if tokens[p] != versions[0][p]}
        assert {versions[0][p] for p in changed} == {versions[0][q], versions[3][q]}
        right.append(len({tokens[q] for tokens in versions}) == 2)
    assert len(right) > 20
    assert all(right)
