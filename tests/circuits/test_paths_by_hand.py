"""Path patching against the network written out: no hooks, no module but the weights, every reader sums what it reads.

And against networks whose circuit is known, finite differences, and the promises that every tool of ours makes.
"""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from mechdistill.circuits import probes
from mechdistill.circuits.paths import (
    Edge,
    Node,
    Pairs,
    Reader,
    attribution,
    copy_gap,
    edges_of,
    minimal_pairs,
    path_effects,
    path_patching,
)
from mechdistill.circuits.paths._patch import written
from mechdistill.model import Transformer
from tests.helpers import induction_network, transformer, world
from tests.model.options import COVER, label
from tests.networks import (
    anti_induction_network,
    previous_token_network,
    redundant_network,
    trigger_gated_network,
)

_EPS = 1e-5

Written = dict[Node, Tensor]


def _pairs(**changes: Any) -> Pairs:
    sandbox = world(**{"vocab": 24, "seq_len": 32, "triggers": {"count": 3}, **changes})
    pairs = minimal_pairs(probes(sandbox, 24, sandbox.seq_len, torch.Generator().manual_seed(0)).natural)
    assert pairs is not None
    return pairs


def _norm(module: Any, kind: str, x: Tensor) -> Tensor:
    if kind == "none":
        return x
    if kind == "layernorm":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + _EPS).sqrt() * module.weight
    return x + module.bias if kind == "layernorm" else x


def _turned(x: Tensor) -> Tensor:
    """Neighbouring dimensions of [batch, pos, d] as complex numbers, turned by their position."""
    d, length = x.shape[-1], x.shape[1]
    frequency = 1.0 / 10_000 ** (torch.arange(0, d, 2).float() / d)  # in float32, as the model's tables are
    angle = torch.outer(torch.arange(length).float(), frequency)
    turn = torch.complex(angle.cos().double(), angle.sin().double())
    turned = torch.view_as_complex(x.reshape(*x.shape[:-1], d // 2, 2).contiguous()) * turn
    return torch.view_as_real(turned).flatten(-2)


def _mlp(mlp: Any, act: str, x: Tensor) -> Tensor:
    pre = x @ mlp.W_in + (0 if mlp.b_in is None else mlp.b_in)
    if act == "swiglu":
        gate = x @ mlp.W_gate
        hidden = gate / (1 + (-gate).exp()) * pre
    elif act == "relu":
        hidden = pre.clamp(min=0)
    else:
        hidden = pre * (1 + torch.erf(pre / 2**0.5)) / 2
    return hidden @ mlp.W_out + (0 if mlp.b_out is None else mlp.b_out)


def by_hand(model: Transformer, tokens: Tensor, edge: Edge | None = None, instead: Tensor | None = None) -> Any:
    """(logits, what each node wrote), where one edge carries `instead` of what its source wrote."""
    config, length = model.config, tokens.shape[1]
    group = config.n_heads // config.kv_heads
    wrote: Written = {Node(): model.W_E[tokens]}
    rest = torch.zeros_like(wrote[Node()])  # positions and biases, which no edge carries
    if model.W_pos is not None:
        rest = rest + model.W_pos[:length]

    def read(*readers: Reader) -> Tensor:
        parts = dict(wrote)
        if edge is not None and edge.reader in readers:
            assert instead is not None
            parts[edge.source] = instead
        return rest + sum(parts.values())

    future = torch.ones(length, length).triu(1).bool()
    for layer, block in enumerate(model.blocks):
        attn, outputs = block.attn, {}
        for head in range(config.n_heads):
            kv = head // group
            of = {"q": head, "k": kv * group, "v": kv * group}
            x = {p: _norm(block.ln1, config.norm, read(Reader(p, layer, of[p]))) for p in ("q", "k", "v")}  # pyright: ignore[reportArgumentType]
            q, k, v = x["q"] @ attn.W_Q[head], x["k"] @ attn.W_K[kv], x["v"] @ attn.W_V[kv]
            if attn.b_Q is not None:
                q, k, v = q + attn.b_Q[head], k + attn.b_K[kv], v + attn.b_V[kv]
            if config.positions == "rotary":
                q, k = _turned(q), _turned(k)
            scores = torch.einsum("bqd,bsd->bqs", q, k) / q.shape[-1] ** 0.5
            pattern = scores.masked_fill(future, -torch.inf).softmax(-1)
            outputs[Node(layer, head)] = torch.einsum("bqs,bsd,dm->bqm", pattern, v, attn.W_O[head])
        wrote |= outputs
        if attn.b_O is not None:
            rest = rest + attn.b_O
        if block.mlp is not None:
            wrote[Node(layer)] = _mlp(block.mlp, config.act, _norm(block.ln2, config.norm, read(Reader("mlp", layer))))
    return _norm(model.ln_final, config.norm, read(Reader("logits"))) @ model.W_U, wrote


def _random(**options: Any) -> Transformer:
    return transformer(d_vocab=24, n_ctx=32, **options).double()


@pytest.mark.parametrize("options", COVER, ids=label)
def test_each_edge_of_a_network_with_any_options_is_as_written_out(options: dict[str, Any]) -> None:
    model, pairs = _random(**options), _pairs()
    _, clean = by_hand(model, pairs.clean)
    logits, corrupt = by_hand(model, pairs.corrupt)
    torch.testing.assert_close(model(pairs.corrupt), logits, rtol=0, atol=1e-9)
    changes = written(model, pairs)
    assert set(changes) == set(clean)
    for node, change in changes.items():
        torch.testing.assert_close(change, clean[node] - corrupt[node], rtol=0, atol=1e-9)
    moved = 0
    for edge in edges_of(model):
        patched, _ = by_hand(model, pairs.corrupt, edge, clean[edge.source])
        expected = float(pairs.logit_difference(patched).mean())
        assert path_patching(model, pairs, edge.reader, changes[edge.source]) == pytest.approx(expected, abs=1e-9)
        moved += abs(expected - float(pairs.logit_difference(logits).mean())) > 1e-6
    assert moved > len(edges_of(model)) / 2, "and most of them matter here"


def test_no_edge_is_missing_and_none_leads_back() -> None:
    """Three layers of two heads with MLPs: a head reads thrice, all that earlier layers wrote; an MLP its own layer."""
    model = _random(n_layers=3, attn_only=False)
    before = [1, 4, 7]  # written before each layer: the embedding, and two heads and an MLP a layer
    heads = sum(2 * 3 * n for n in before)
    assert len(set(edges_of(model))) == len(edges_of(model)) == heads + sum(n + 2 for n in before) + 10
    for source, reader in edges_of(model):
        own = reader.input == "mlp" and source == Node(reader.layer, source.head) and source.head is not None
        assert source.layer is None or reader.layer is None or source.layer < reader.layer or own


@pytest.mark.parametrize("options", COVER, ids=label)
def test_the_screen_is_the_slope_of_the_exact_patch(options: dict[str, Any]) -> None:
    model, pairs = _random(**options), _pairs()
    changes, edges = written(model, pairs), edges_of(model)
    screen = attribution(model, pairs, changes, edges, points=(0.0,))
    step = 1e-4
    for edge in edges:
        up, down = (path_patching(model, pairs, edge.reader, sign * step * changes[edge.source]) for sign in (1, -1))
        assert screen[edge] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


def test_screen_and_exact_patch_agree_where_changes_are_small() -> None:
    """In a network whose attention is soft the first order is nearly all there is: the same order of edges."""
    model, pairs = _random(), _pairs()
    model.W_E *= 0.1
    changes, edges = written(model, pairs), edges_of(model)
    screen = attribution(model, pairs, changes, edges)
    corrupt = float(pairs.logit_difference(model(pairs.corrupt)).mean())
    exact = [path_patching(model, pairs, edge.reader, changes[edge.source]) - corrupt for edge in edges]
    assert spearmanr([screen[edge] for edge in edges], exact).statistic > 0.9


def _recovered(model: Transformer, pairs: Pairs) -> dict[str, float]:
    gap = copy_gap(model, pairs)
    assert gap.is_there
    return {str(effect.edge): effect.recovered or 0.0 for effect in path_effects(model, pairs, gap)}


def _built(build: Callable[..., Transformer], **options: Any) -> Callable[[], Transformer]:
    return lambda: build(24, 32, **options)


KEYS, SAYS = "L0H0 -> K L1H0", "L1H0 -> logits"


@pytest.mark.parametrize("norm", ["layernorm", "none"])
def test_of_an_induction_circuit_the_edge_into_keys_and_the_one_into_logits_recover_all(norm: str) -> None:
    """L0H0 reads tokens in its values and positions, which do not differ, in the rest; L1H0 matches by its keys."""
    pairs = _pairs()
    found = _recovered(induction_network(24, 32, norm=norm), pairs)
    carries = {"embed -> V L0H0", KEYS, SAYS}
    for edge, value in found.items():
        assert value == pytest.approx(float(edge in carries), abs=0.02), edge


def test_of_an_induction_head_that_denies_the_same_edges_recover_all_of_a_gap_below_zero() -> None:
    pairs = _pairs()
    model = anti_induction_network(24, 32, norm="none")
    gap = copy_gap(model, pairs)
    right = copy_gap(induction_network(24, 32, norm="none"), pairs)
    assert gap.size == pytest.approx(-right.size, rel=1e-4)
    found = _recovered(model, pairs)
    assert found[KEYS] == pytest.approx(1, abs=0.02)
    assert found[SAYS] == pytest.approx(1, abs=0.02)


def test_of_two_heads_that_do_the_same_each_edge_into_logits_recovers_half() -> None:
    pairs = _pairs()
    found = _recovered(redundant_network(24, 32, norm="none"), pairs)
    for head in ("L1H0", "L1H1"):
        assert found[f"{head} -> logits"] == pytest.approx(0.5, abs=1e-4)
        assert found[f"L0H0 -> K {head}"] == pytest.approx(0.5, abs=0.02)
    assert found["embed -> V L0H0"] == pytest.approx(1, abs=0.02)
    assert found["L0H1 -> logits"] == pytest.approx(0, abs=1e-4)


def test_a_trigger_gated_head_is_found_as_any_other() -> None:
    pairs = _pairs()
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 3})
    found = _recovered(trigger_gated_network(24, 32, sandbox.triggers), pairs)
    assert found[KEYS] == pytest.approx(1, abs=0.02)
    assert found[SAYS] == pytest.approx(1, abs=0.02)
    for part in ("Q", "V"):
        assert found[f"L0H0 -> {part} L1H0"] == pytest.approx(0, abs=0.02)


def test_without_a_head_that_looks_up_there_is_no_gap() -> None:
    assert not copy_gap(previous_token_network(24, 32), _pairs()).is_there


def test_what_can_be_copied_is_all_that_tells_clean_from_corrupt() -> None:
    """The same tokens as often, and the query's own; right and wrong are what an independent reading finds."""
    pairs = _pairs()
    for clean, corrupt, query, right, wrong in zip(*pairs, strict=True):
        assert clean.bincount(minlength=24).equal(corrupt.bincount(minlength=24))
        assert clean[query:].equal(corrupt[query:])
        assert len(clean[clean != corrupt].unique()) == 2
        for tokens, answer in ((clean, right), (corrupt, wrong)):
            own, before = tokens[query], tokens[:query].tolist()
            last = max(i for i, token in enumerate(before[:-1]) if token == own)
            assert before[last + 1] == answer
        assert right != wrong


def test_hooks_of_others_stay_inputs_and_weights_too_and_nothing_of_ours_does() -> None:
    model, pairs = _random(), _pairs()
    heard: list[str] = []
    model.add_hook("blocks.1.hook_k_input", lambda tensor, hook: heard.append(hook.name))
    before = [tensor.clone() for tensor in pairs], {name: p.clone() for name, p in model.named_parameters()}
    logits = model(pairs.clean)
    path_effects(model, pairs, copy_gap(model, pairs))
    heard.clear()
    torch.testing.assert_close(model(pairs.clean), logits, rtol=0, atol=0)
    assert len(heard) == 1
    assert all(was.equal(now) for was, now in zip(before[0], pairs, strict=True))
    assert all(before[1][name].equal(p) and p.grad is None for name, p in model.named_parameters())
    assert sum(len(point.fwd_hooks) + len(point.bwd_hooks) for point in model.hook_dict.values()) == 1


@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_only_the_head_that_reads_changes(kind: Any) -> None:
    model, pairs = _random(n_heads=4), _pairs()
    heard: list[Tensor] = []
    model.add_hook("blocks.1.attn.hook_z", lambda z, hook: heard.append(z))
    model(pairs.corrupt)
    path_patching(model, pairs, Reader(kind, 1, 2), written(model, pairs)[Node(0, 1)])
    changed = (heard[0] - heard[-1]).abs().amax(dim=(0, 1, 3)) > 1e-9
    assert changed.tolist() == [False, False, True, False]


def test_a_thousand_patches_leave_nothing_behind() -> None:
    """No tensor that Python knows of is more afterwards."""
    model, pairs = _random(d_model=8), _pairs()
    few = Pairs(*(tensor[:2] for tensor in pairs))
    change = written(model, few)[Node(0, 1)]

    def patch(times: int) -> int:
        for _ in range(times):
            path_patching(model, few, Reader("k", 1, 0), change)
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    patch(10)
    assert patch(10) == patch(1000)
