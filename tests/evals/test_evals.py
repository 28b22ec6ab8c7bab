import math

import numpy as np
import pytest
import torch

from mechdistill.config import load_experiment
from mechdistill.evals import describe, inline_metrics, row_curves
from mechdistill.evals._world import mean_error
from mechdistill.positions import EvaluationSet, Positions, predict
from mechdistill.sandbox import Sandbox
from tests.helpers import only, transformer, world


@pytest.fixture(scope="module")
def data() -> EvaluationSet:
    return EvaluationSet.held_out(world(seq_len=40), 64)


def value(rows: list[dict], metric: str, **where: int) -> float:
    found = [r["value"] for r in rows if r["metric"] == metric and all(r.get(k) == v for k, v in where.items())]
    assert len(found) == 1, (metric, where, found)
    return found[0]


def test_the_oracle_is_perfect_and_uniform_is_at_chance(data: EvaluationSet) -> None:
    oracle = inline_metrics(Positions(data, data.labels.log_probs))
    assert value(oracle, "copy-accuracy", occurrence="2+") == 1
    assert value(oracle, "copy-loss", occurrence="2+") == 0
    assert value(oracle, "copy-excess", occurrence="1") == 0
    for bucket in range(4):
        assert value(oracle, "kl", bucket=bucket) == pytest.approx(0, abs=1e-6)
    vocab = data.world.vocab
    uniform = inline_metrics(Positions(data, torch.full_like(data.labels.log_probs, -math.log(vocab))))
    assert value(uniform, "copy-loss", occurrence="2+") == pytest.approx(math.log(vocab))
    assert value(uniform, "loss") == pytest.approx(math.log(vocab))
    entropy = float(data.labels.oracle_entropy[data.ordinary].mean())
    pooled = next(r["value"] for r in uniform if r["metric"] == "kl" and "bucket" not in r)
    assert pooled == pytest.approx(math.log(vocab) - entropy, abs=1e-5)


def test_a_bigram_guesser_is_perfect_on_rows_and_blind_at_copies(data: EvaluationSet) -> None:
    rows = inline_metrics(Positions(data, data.world.log_pi[data.tokens]))
    assert value(rows, "kl", bucket=0) == pytest.approx(0, abs=1e-6)
    assert value(rows, "copy-accuracy", occurrence="2+") < 0.5
    assert value(rows, "copy-excess", occurrence="2+") > 1


def test_occurrence_one_is_never_pooled_with_later_ones(data: EvaluationSet) -> None:
    """A model that is right at occurrence >= 2 only."""
    law = data.labels.log_probs.clone()
    wrong = torch.full_like(law, -math.inf)
    wrong.scatter_(-1, ((data.next_tokens + 1) % data.world.vocab)[..., None], 0.0)
    mixed = torch.where((data.labels.occurrence == 1)[..., None], wrong, law)
    rows = inline_metrics(Positions(data, mixed))
    assert value(rows, "copy-accuracy", occurrence="2+") == 1
    assert value(rows, "copy-accuracy", occurrence="1") == 0


def test_row_curves_equal_a_loop(data: EvaluationSet) -> None:
    sandbox = data.world
    positions = predict(transformer(d_vocab=sandbox.vocab, n_ctx=40), data)
    table = row_curves(positions)
    probs, pi = positions.log_probs.exp().double().numpy(), sandbox.pi
    for row in range(sandbox.vocab):
        rows = table[table["row"] == row]
        if row in sandbox.triggers:
            assert rows.empty
            continue
        at = [(b, q) for b, q in np.ndindex(*data.tokens.shape) if data.tokens[b, q] == row]
        kl = np.mean([(pi[row] * (np.log(pi[row]) - np.log(probs[b, q]))).sum() for b, q in at])
        squared = np.mean([((pi[row] - probs[b, q]) ** 2).sum() for b, q in at])
        found = rows.set_index("metric")["value"]
        assert found["kl"] == pytest.approx(kl, rel=1e-4)
        assert found["squared-error"] == pytest.approx(squared, rel=1e-4)
        assert found["positions"] == len(at)
        assert rows["row_entropy"].iloc[0] == pytest.approx(sandbox.row_entropy[row])
        assert rows["bucket"].iloc[0] == sandbox.bucket[row]
    copying = table[table["row"].isna()]
    assert set(copying["occurrence"]) == {"1", "2", "3+"}
    exact = positions.loss[data.labels.occurrence == 2].mean().item()
    found = copying[(copying["metric"] == "copy-loss") & (copying["occurrence"] == "2")]["value"].item()
    assert found == pytest.approx(exact)
    assert "no-matching-accuracy" not in set(copying[copying["occurrence"] == "1"]["metric"])


def test_a_plain_chain_has_no_copy_rows() -> None:
    data = EvaluationSet.held_out(world(triggers={"count": 0}), 8)
    rows = inline_metrics(Positions(data, data.labels.log_probs))
    assert not [r for r in rows if r["metric"].startswith("copy")]
    assert all(math.isfinite(r["value"]) for r in rows)


@pytest.mark.parametrize("triggers", [{"count": 2}, {"kind": "bernoulli", "rate": 0.4, "noise": 0.1}, {"count": 0}])
def test_the_description_of_a_world_adds_up(triggers: dict) -> None:
    sandbox = world(seq_len=24, triggers=only(triggers))
    table = describe(sandbox, sequences=512)
    of = table[table["row"].isna() & table["position"].isna()].set_index("metric")["value"]
    stationary = table[table["metric"] == "stationary"]
    assert stationary["value"].sum() == pytest.approx(1)
    assert stationary["row_entropy"].tolist() == pytest.approx(sandbox.row_entropy.tolist())
    assert of["oracle-loss"] <= of["bigram-loss"] + 1e-6
    assert ("no-matching-exact" in of) == (triggers != {"count": 0})
    assert of["uniform-loss"] == pytest.approx(math.log(12))
    shares = table[table["position"].notna()].pivot(index="position", columns="metric", values="value")
    assert (shares["copyable-share"] - shares["simulated-share"]).abs().mean() < 0.03
    if triggers == {"count": 0}:
        assert of["oracle-loss"] == pytest.approx(of["bigram-loss"])
        assert "no-matching-accuracy" not in of
    else:
        assert of["no-matching-accuracy"] < of["oracle-copy-accuracy"] <= 1
        expected = float((sandbox.stationary * sandbox.rate).sum())
        assert of["trigger-share"] == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    "triggers",
    [{"count": 1, "noise": 0.2}, {"count": 2, "targets": "row"}, {"kind": "bernoulli", "rate": 0.4, "noise": 0.1}],
)
def test_the_best_bigram_is_the_mean_law_at_each_token_and_no_table_loses_less(triggers: dict) -> None:
    sandbox = world(seq_len=24, triggers=only(triggers))
    law = torch.zeros(12, 12, dtype=torch.float64)
    for part in range(4):
        data = sandbox.batch(5, 2048 * part, 2048)
        law.index_add_(0, data.tokens.flatten(), sandbox.law(data.tokens).exp().double().flatten(0, 1))
    fitted, ours = law / law.sum(1, keepdim=True), torch.tensor(sandbox.best_bigram)
    share = law.sum(1) / law.sum()
    assert float((share[:, None] * (ours - fitted).abs()).sum()) < 0.03
    fresh = sandbox.batch(6, 0, 4096)
    losses = {
        name: float(-table[fresh.tokens, fresh.next_tokens].log().mean())
        for name, table in (("ours", ours), ("fitted", fitted), ("rows", torch.tensor(sandbox.pi)))
    }
    assert losses["ours"] == pytest.approx(losses["fitted"], abs=2e-3)
    assert losses["ours"] < losses["rows"] - 0.01


def test_what_copying_is_worth_in_the_default_world() -> None:
    table = describe(Sandbox(load_experiment(None, preset_name="quickstart", settings=[]).sandbox))
    of = table[table["row"].isna() & table["position"].isna()].set_index("metric")["value"]
    assert of["bigram-loss"] == pytest.approx(2.219, abs=0.01)
    assert of["oracle-loss"] == pytest.approx(1.766, abs=0.001)
    assert of["bigram-loss"] - of["oracle-loss"] == pytest.approx(0.45, abs=0.01)
    assert of["no-matching-exact"] == 1
    errors = table[table["row"].isna() & table["position"].isna()].set_index("metric")["error"]
    assert 0 < errors["copyable-share"] < 0.0005
    # of a draw of 1024 sequences: the expectations are 2.2184, 1.793 and .547
    for metric, expected in (("bigram-loss", 2.2184), ("oracle-loss", 1.793), ("no-matching-accuracy", 0.547)):
        assert abs(of[metric] - expected) < 4 * errors[metric] < 0.07


def test_the_error_of_a_mean_over_masked_positions_is_that_of_many_draws() -> None:
    """Positions of a sequence go together, and sequences have different numbers of them."""
    generator = torch.Generator().manual_seed(0)
    means, errors = [], []
    for _ in range(400):
        mask = torch.rand(64, 10, generator=generator) < torch.rand(64, 1, generator=generator)
        values = torch.randn(64, 1, generator=generator) + torch.randn(64, 10, generator=generator)
        means.append(float(values[mask].mean()))
        errors.append(mean_error(values, mask))
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
