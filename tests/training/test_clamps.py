"""Training with clamped heads, held against the same step in plain PyTorch, and measuring what was trained."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mechdistill as md
from mechdistill.config import ExperimentConfig
from mechdistill.errors import MechdistillError
from mechdistill.report._choice import choose
from mechdistill.runs import Experiment, Run
from mechdistill.sandbox import Sandbox
from mechdistill.training import train
from tests.helpers import micro, only, transformer
from tests.model.test_clamp import by_counting, some_tokens
from tests.training.test_training import fingerprints, opened, states

HEAD, PATTERN = "L0H1", "previous-token"


def held_at(*patterns: str) -> dict[str, Any]:
    return {p: {"model": {"clamps": [{"head": HEAD, "pattern": p}]}} for p in patterns}


def experiment(**training: Any) -> ExperimentConfig:
    about = {"warmup": 0, "schedule": "constant", "weight_decay": 0.0, "grad_clip": None, **training}
    return micro(arms=only({"spt": {}, **held_at(PATTERN, "two-back")}), teachers=only({}), training=about)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("clamps") / "x"
    assert states(train(experiment(), out)) == {"finished"}
    return opened(out)


def logits(w: dict[str, Tensor], tokens: Tensor, heads: int, clamped: dict[tuple[int, int], str]) -> Tensor:
    """Two layers of attention, written out head by head."""

    def ln(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w.get(f"{name}.bias"), eps=1e-5)

    x = w["W_E"][tokens] + w["W_pos"][: tokens.shape[1]]
    for layer in range(2):
        read, at = ln(f"blocks.{layer}.ln1", x), f"blocks.{layer}.attn"
        q, k, v = (read @ part.T for part in w[f"{at}.W_QKV"].chunk(3))
        for head in range(heads):
            d = q.shape[-1] // heads
            part = slice(head * d, (head + 1) * d)
            if (layer, head) in clamped:
                pattern = by_counting(clamped[layer, head], tokens).to(x.dtype)
            else:
                scores = q[..., part] @ k[..., part].mT / math.sqrt(d)
                pattern = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf).softmax(-1)
            x = x + pattern @ v[..., part] @ w[f"{at}.W_O"][head]
    return ln("ln_final", x) @ w["W_U"]


def test_a_step_is_that_of_plain_pytorch_with_the_pattern_put_in_by_hand(trained: Experiment) -> None:
    """The first update of AdamW is the rate times g / (|g| + eps), so that rounding shows where g is about eps."""
    run = trained.run(f"{PATTERN}/seed-0")
    before, after = run.weights(0), run.weights(1)
    w = {name: tensor.clone().requires_grad_() for name, tensor in before.items()}
    batch = Sandbox(run.config.sandbox).training(run.config.data_seed).batch(0, run.config.training.batch)
    loss = F.cross_entropy(logits(w, batch.tokens, 2, {(0, 1): PATTERN}).flatten(0, 1), batch.next_tokens.flatten())
    optimiser = torch.optim.AdamW(w.values(), lr=run.config.training.lr, betas=(0.9, 0.95), weight_decay=0.0)
    loss.backward()
    optimiser.step()
    assert before.keys() == after.keys()
    checked = 0
    for name, parameter in w.items():
        assert parameter.grad is not None
        clear = (parameter.grad.abs() > 1e-5) | (parameter.grad == 0)
        checked += int(clear.sum())
        torch.testing.assert_close(after[name][clear], parameter.detach()[clear], rtol=0, atol=1e-6)
    assert checked > 0.6 * sum(parameter.numel() for parameter in w.values())


def test_gradients_are_those_of_plain_pytorch() -> None:
    """In double precision, through both layers' clamps, at weights where nothing is small."""
    clamps = {(0, 1): PATTERN, (1, 0): "induction"}
    named = [{"head": f"L{layer}H{head}", "pattern": pattern} for (layer, head), pattern in clamps.items()]
    model = transformer(clamps=named).double().requires_grad_()
    w = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    tokens = some_tokens()
    logits(w, tokens, 2, clamps).log_softmax(-1)[:, :-1].square().mean().backward()
    model(tokens).log_softmax(-1)[:, :-1].square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, w[name].grad, rtol=0, atol=1e-10)
    q, k, _ = (part.view(2, 8, -1) for part in model.blocks[0].attn.W_QKV.grad.chunk(3))
    assert not q[1].any()
    assert not k[1].any()
    assert q[0].any()


def query_and_key(run: Run, step: int) -> Tensor:
    q, k, _ = run.weights(step)["blocks.0.attn.W_QKV"].chunk(3)
    return torch.stack([q.view(2, 8, -1), k.view(2, 8, -1)])  # of each head


def test_queries_and_keys_of_a_clamped_head_get_no_gradient(trained: Experiment) -> None:
    run, last = trained.run(f"{PATTERN}/seed-0"), trained.run("spt/seed-0").steps[-1]
    start, end = query_and_key(run, 0), query_and_key(run, last)
    assert torch.equal(start[:, 1], end[:, 1])
    assert not torch.equal(start[:, 0], end[:, 0])
    free = trained.run("spt/seed-0")
    assert not torch.equal(query_and_key(free, 0)[:, 1], query_and_key(free, last)[:, 1])
    assert run.weights_digest(0) == free.weights_digest(0), "twins start from the same weights"


def test_what_is_measured_is_the_network_that_was_trained(trained: Experiment) -> None:
    run = trained.run(f"{PATTERN}/seed-0")
    data = Sandbox(run.config.sandbox).evaluation(run.config.training.eval_sequences)
    tokens, following = data.tokens, data.next_tokens
    said = run.metrics().query("metric == 'loss'")
    losses = {
        clamped: float(F.cross_entropy(run.model(clamped=clamped)(tokens).flatten(0, 1), following.flatten()))
        for clamped in (True, False)
    }
    assert said["value"].iloc[-1] == pytest.approx(losses[True], abs=1e-6)
    assert losses[False] != pytest.approx(losses[True], abs=1e-4), "the bare network is another"
    _, cache = run.model().run_with_cache(tokens)
    torch.testing.assert_close(cache["pattern", 0][:, 1], by_counting(PATTERN, tokens))


def test_head_scores_of_a_clamped_run_are_of_the_clamped_network(trained: Experiment) -> None:
    table = md.induction_scores(trained.run(f"{PATTERN}/seed-0"))
    mine = table[(table["layer"] == 0) & (table["head"] == 1) & (table["metric"] == "previous-token")]
    assert mine["value"].item() == pytest.approx(1.0)


def test_a_clamped_run_resumes_to_the_bit(trained: Experiment, tmp_path: Path) -> None:
    for _ in range(20):
        left = iter(range(7))
        if states(train(experiment(), tmp_path / "x", stopped=lambda left=left: next(left, None) is None)) == {
            "finished"
        }:
            break
    assert fingerprints(tmp_path / "x") == fingerprints(trained.path)


def test_two_arms_with_the_same_clamps_are_the_same() -> None:
    twice = [{"head": "L0H0", "pattern": "two-back"}, {"head": "L1H0", "pattern": "induction"}]
    arms = {"one": {"model": {"clamps": twice}}, "other": {"model": {"clamps": twice[::-1]}}}
    with pytest.raises(MechdistillError, match="equals one in all but the name"):
        micro(arms=only(arms), teachers=only({}))


def test_the_page_leaves_out_what_it_would_show_unclamped(trained: Experiment) -> None:
    choice = choose(trained.runs, 10**9)
    assert {checkpoint.run.name for checkpoint in choice.checkpoints} == {"spt/seed-0"}
    assert f"clamps no head: {PATTERN}/seed-0, two-back/seed-0." in choice.said
    with pytest.raises(MechdistillError, match="all runs have clamps"):
        choose([trained.run(f"{PATTERN}/seed-0")], 10**9)
