"""Our models as Hugging Face models: equal to ours, and what TransformerLens's tools say of them equal to hand."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformer_lens import patching
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.tools.analysis import EdgeAttributionConfig, attribution_patch, direct_logit_attribution
from transformers.models.llama.modeling_llama import LlamaRMSNorm

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, Transformer
from mechdistill.publishing._tokenizer import tokenizer
from tests.helpers import induction_network, transformer
from tests.model.options import MLPS, grid, label

TOKENS = torch.randint(0, 12, (4, 16), generator=torch.Generator().manual_seed(3))
GPT2 = {"positions": "learned", "norm": "layernorm"}
LLAMA = {"positions": "rotary", "norm": "rmsnorm"}
HELD = [
    {**mlp, **options}
    for mlp in MLPS
    for options in grid()
    if (options.items() >= GPT2.items() and mlp.get("act") != "swiglu")
    or (options.items() >= LLAMA.items() and mlp.get("act") in (None, "swiglu"))
]


@pytest.fixture
def float64_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama's RMSNorm, which computes in float32 whatever the dtype, in the dtype of what it is given."""

    def forward(norm: Any, x: Tensor) -> Tensor:
        return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt()

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)


def furthest(ours: Tensor, theirs: Tensor) -> float:
    assert ours.dtype == theirs.dtype
    return ((ours - theirs).abs().max() / ours.abs().max()).item()


@torch.no_grad()
def test_logits_are_ours_in_float32() -> None:
    for options in HELD:
        model = transformer(**options)
        assert furthest(model(TOKENS), md.to_transformers(model)(TOKENS).logits) <= 1e-5, label(options)


@torch.no_grad()
def test_logits_are_ours_in_float64(float64_norms: None) -> None:
    for options in HELD:
        model = transformer(**options).double()
        assert furthest(model(TOKENS), md.to_transformers(model)(TOKENS).logits) <= 1e-10, label(options)


@torch.no_grad()
def test_llama_in_float64_agrees_to_float32_unless_its_norm_is_replaced() -> None:
    model = transformer(**LLAMA).double()
    assert 1e-10 < furthest(model(TOKENS), md.to_transformers(model)(TOKENS).logits) <= 1e-5


@pytest.mark.parametrize("options", [GPT2, {**LLAMA, "d_head": 6, "n_kv_heads": 1}], ids=label)
@torch.no_grad()
def test_the_greedy_continuation_and_the_patterns_are_ours(options: dict) -> None:
    model = transformer(**options)
    theirs = md.to_transformers(model)
    prompts = TOKENS[:, :4]
    ours = model.generate(prompts, 12, temperature=0.0)
    assert torch.equal(theirs.generate(prompts, max_new_tokens=12, do_sample=False), ours)
    theirs.set_attn_implementation("eager")
    patterns = theirs(TOKENS, output_attentions=True).attentions
    _, cache = model.run_with_cache(TOKENS)
    for layer, pattern in enumerate(patterns):
        torch.testing.assert_close(pattern, cache["pattern", layer], rtol=1e-4, atol=1e-6)


def test_the_export_is_a_copy_and_draws_nothing() -> None:
    model = transformer(tied=True)
    state = torch.get_rng_state()
    exported = md.to_transformers(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert exported.lm_head.weight is exported.transformer.wte.weight
    assert not exported.training
    before = exported(TOKENS).logits
    with torch.no_grad():
        model.W_E.add_(1.0)
    assert torch.equal(exported(TOKENS).logits, before)
    untied = md.to_transformers(transformer())
    assert untied.lm_head.weight is not untied.transformer.wte.weight


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": "rmsnorm"}, r"model\.norm=rmsnorm, model\.positions=learned: .*layernorm with learned"),
        ({"norm": "none"}, r"model\.norm=none"),
        ({"positions": "rotary"}, r"model\.norm=layernorm, model\.positions=rotary"),
        ({"attn_only": False, "act": "swiglu"}, r"model\.act=swiglu: GPT-2.*has gelu or relu"),
        ({**LLAMA, "attn_only": False, "act": "gelu"}, r"model\.act=gelu: Llama.*has swiglu"),
        ({"d_head": 5}, r"model\.d_head=5: GPT-2 has d_model / n_heads = 8"),
    ],
)
def test_what_no_architecture_computes_is_refused_by_name(options: dict, said: str) -> None:
    with pytest.raises(MechdistillError, match=said) as refusal:
        md.to_transformers(transformer(**options))
    assert "\n" not in str(refusal.value)
    assert "to_transformer_lens" in str(refusal.value)


def test_what_is_no_transformer_of_ours_is_refused() -> None:
    with pytest.raises(MechdistillError, match="bigram"):
        md.to_transformers(Bigram(d_vocab=12, n_ctx=16))
    with pytest.raises(MechdistillError, match="must be a model of mechdistill's"):
        md.to_transformers(md.to_transformers(transformer()))


# TransformerLens's tools, which fail on the native export, against plain torch from our weights


class ByHand:
    """One pass of our network, written out, with what is `added` to what writers write and to what readers read.

    Keys are ("embed",), ("head", layer, head), ("mlp", layer) for writers, and ("q" | "k" | "v", layer, head),
    ("mlp_in", layer), ("logits",) for readers, which read before the norm.
    """

    def __init__(self, model: Transformer, tokens: Tensor, added: dict[tuple, Tensor] | None = None):
        self.added, self.wrote = added or {}, {}
        x = self.write(("embed",), model.W_E[tokens]) + model.W_pos[: tokens.shape[-1]]
        hidden = torch.ones(tokens.shape[-1], tokens.shape[-1], dtype=torch.bool).triu(1)
        self.patterns = []
        for layer, block in enumerate(model.blocks):
            attn, writes, patterns = block.attn, [], []
            for head in range(attn.n_heads):
                q, k, v = (
                    norm(block.ln1, self.read((part, layer, head), x)) @ W[head] + (0 if b is None else b[head])
                    for part, W, b in zip(
                        "qkv", (attn.W_Q, attn.W_K, attn.W_V), (attn.b_Q, attn.b_K, attn.b_V), strict=True
                    )
                )
                scores = (q @ k.transpose(-2, -1) / attn.d_head**0.5).masked_fill(hidden, -torch.inf)
                patterns.append(scores.softmax(-1))
                writes.append(self.write(("head", layer, head), patterns[-1] @ v @ attn.W_O[head]))
            self.patterns.append(torch.stack(patterns, dim=1))
            x = x + sum(writes) + (0 if attn.b_O is None else attn.b_O)
            if (mlp := block.mlp) is not None:
                pre = norm(block.ln2, self.read(("mlp_in", layer), x)) @ mlp.W_in + (
                    0 if mlp.b_in is None else mlp.b_in
                )
                out = pre * (1 + torch.erf(pre / 2**0.5)) / 2 @ mlp.W_out + (0 if mlp.b_out is None else mlp.b_out)
                x = x + self.write(("mlp", layer), out)
        self.last = self.read(("logits",), x)
        self.logits = norm(model.ln_final, self.last) @ model.W_U

    def read(self, key: tuple, x: Tensor) -> Tensor:
        return x + self.added.get(key, 0)

    def write(self, key: tuple, x: Tensor) -> Tensor:
        self.wrote[key] = x + self.added.get(key, 0)
        return self.wrote[key]


def norm(weights: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weights.weight + weights.bias


def metric(logits: Tensor) -> Tensor:
    """How much more the last position says token 3 than token 5."""
    return (logits[:, -1, 3] - logits[:, -1, 5]).mean()


CLEAN = TOKENS[:2]
CORRUPT = TOKENS[:2].clone()
CORRUPT[:, 5:9] = TOKENS[2:, 5:9]
MODELS = {
    "random": transformer(n_layers=3, seed=1),
    "with biases and MLPs": transformer(attn_only=False, biases=True, seed=2),
    "induction": induction_network(12, 16, d_head=20, sharpness=9.0),
}


def gradients(model: Transformer, keys: list[tuple], tokens: Tensor) -> dict[tuple, Tensor]:
    """Of the metric on one sequence by whatever is added at the keys."""
    zeros = {key: torch.zeros(1, tokens.shape[1], model.config.d_model, requires_grad=True) for key in keys}
    total = metric(ByHand(model, tokens, zeros).logits)
    return dict(zip(keys, torch.autograd.grad(total, list(zeros.values()), allow_unused=True), strict=True))


def key_of(node: Any) -> tuple:
    """The key of a node of TransformerLens's."""
    kinds = {"attn_head_out": "head", "mlp_out": "mlp", "q_input": "q", "k_input": "k", "v_input": "v"}
    kind = kinds.get(node.kind, node.kind)
    place = () if kind in ("embed", "logits") else (node.layer,) if kind.startswith("mlp") else (node.layer, node.head)
    return (kind, *place)


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Transformer:
    return MODELS[request.param]


@pytest.fixture
def bridge(model: Transformer) -> Any:
    """The export as TransformerLens opens it."""
    words = tokenizer([str(token) for token in range(12)], 16)
    hf_model = md.to_transformers(model)
    return TransformerBridge.boot_transformers("gpt2", hf_model=hf_model, device="cpu", tokenizer=words)


def assert_close(theirs: Any, ours: Any) -> None:
    torch.testing.assert_close(torch.as_tensor(theirs), torch.as_tensor(ours), rtol=1e-4, atol=1e-4, equal_nan=True)


def test_the_cache_holds_what_the_network_computes(model: Transformer, bridge: Any) -> None:
    by_hand = ByHand(model, CLEAN)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(CLEAN)
    assert_close(logits, by_hand.logits)
    assert_close(logits, model(CLEAN))
    for layer in range(model.config.n_layers):
        assert_close(cache["pattern", layer], by_hand.patterns[layer])
    assert_close(cache[f"blocks.{model.config.n_layers - 1}.hook_resid_post"], by_hand.last)


def test_direct_logit_attribution_of_heads(model: Transformer, bridge: Any) -> None:
    """(head's write, centred) / scale of the final norm · (weight of the norm * the difference of two logits)."""
    bridge.enable_compatibility_mode(disable_warnings=True)
    with torch.no_grad():
        theirs = direct_logit_attribution(bridge, CLEAN, torch.tensor([3, 3]), torch.tensor([5, 5]), unit="head")
    by_hand = ByHand(model, CLEAN)
    last = by_hand.last[:, -1]
    scale = ((last - last.mean(-1, keepdim=True)).pow(2).mean(-1) + 1e-5).sqrt()
    direction = model.ln_final.weight * (model.W_U[:, 3] - model.W_U[:, 5])
    total = 0
    for name, value in zip(theirs.labels, theirs.attribution, strict=True):
        total = total + value
        if name.startswith("L"):
            layer, head = (int(part) for part in name[1:].split("H"))
            attn = model.blocks[layer].attn
            constant = model.blocks[layer].ln1.bias @ attn.W_V[head] + (0 if attn.b_V is None else attn.b_V[head])
            # what a head writes whatever it attends to is folded into the layer's bias
            write = by_hand.wrote["head", layer, head][:, -1] - constant @ attn.W_O[head]
            assert_close(value, (write - write.mean(-1, keepdim=True)) @ direction / scale)
    shift = model.ln_final.bias @ (model.W_U[:, 3] - model.W_U[:, 5])
    assert_close(total, by_hand.logits[:, -1, 3] - by_hand.logits[:, -1, 5] - shift)


@pytest.mark.parametrize("granularity", ["node", "edge"])
def test_node_and_edge_attribution(model: Transformer, bridge: Any, granularity: Any) -> None:
    """(what a writer writes, clean - corrupt) · d metric / d (what it adds to the stream, or to one reader)."""
    theirs = attribution_patch(bridge, CLEAN, CORRUPT, metric, EdgeAttributionConfig(granularity=granularity))
    scored = (
        theirs.edge_scores if granularity == "edge" else {(node, node): v for node, v in theirs.node_scores.items()}
    )
    ours = dict.fromkeys(scored, 0.0)
    for clean, corrupt in zip(CLEAN.split(1), CORRUPT.split(1), strict=True):
        wrote = ByHand(model, clean).wrote, ByHand(model, corrupt).wrote
        slopes = gradients(model, sorted({key_of(reader) for _, reader in scored}, key=str), corrupt)
        for writer, reader in scored:
            key, at, slope = key_of(writer), writer.position, slopes[key_of(reader)]
            if key in wrote[0] and slope is not None:  # neither: the MLPs of zeros, which neither write nor read
                ours[writer, reader] += ((wrote[0][key] - wrote[1][key])[0, at] @ slope[0, at]).item() / len(CLEAN)
    assert len(scored) > 100
    assert max(map(abs, ours.values())) > 1e-2
    assert_close(list(scored.values()), list(ours.values()))


@pytest.mark.parametrize("component", ["q", "k", "v"])
def test_exact_direct_path_patching(model: Transformer, bridge: Any, component: Any) -> None:
    """One head's clean write in place of its corrupt one in what one part of one later head reads, nowhere else."""
    with torch.no_grad():
        _, clean = bridge.run_with_cache(CLEAN)
        _, corrupt = bridge.run_with_cache(CORRUPT)
        theirs = patching.get_act_patch_direct_path_all_sources(
            bridge, CORRUPT, clean, corrupt, metric, component, verbose=False
        )
    wrote = ByHand(model, CLEAN).wrote, ByHand(model, CORRUPT).wrote
    ours = torch.zeros_like(theirs)
    heads = [key for key in wrote[0] if key[0] == "head"]
    for _, a, i in heads:
        for _, b, j in heads:
            if b > a:
                delta = wrote[0]["head", a, i] - wrote[1]["head", a, i]
                ours[a, i, b, j] = metric(ByHand(model, CORRUPT, {(component, b, j): delta}).logits)
    assert (ours - metric(ByHand(model, CORRUPT).logits)).abs().max() > 1e-2
    assert_close(theirs, ours)


@pytest.mark.parametrize("mode", ["Q", "K", "V"])
def test_composition_scores(model: Transformer, bridge: Any, mode: Any) -> None:
    first, second = (model.blocks[layer].attn for layer in (0, 1))
    scores = bridge.all_composition_scores(mode)
    for a in range(2):
        for b in range(2):
            writes, qk = first.W_V[a] @ first.W_O[a], second.W_Q[b] @ second.W_K[b].T
            reads = {"Q": qk, "K": qk.T, "V": second.W_V[b] @ second.W_O[b]}[mode]
            size = writes.norm() * reads.norm()
            assert_close(scores[0, a, 1, b], (writes @ reads).norm() / size if size else torch.nan)
