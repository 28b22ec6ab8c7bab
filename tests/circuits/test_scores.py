import pandas as pd
import pytest
import torch
from scipy import stats

from mechdistill.circuits import SCORES, HeadView, _view, attention_to, head_scores
from mechdistill.circuits._probes import probes, repeated_blocks
from mechdistill.circuits.scores import p_beyond
from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram
from mechdistill.sandbox import Sandbox
from tests.helpers import induction_network, only, transformer, world

ATTENTION = [name for name, score in SCORES.items() if score.sources is not None]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(scores: pd.DataFrame, metric: str, layer: int, head: int) -> pd.Series:
    rows = scores[(scores["metric"] == metric) & (scores["layer"] == layer) & (scores["head"] == head)]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return world(vocab=24, seq_len=32, rows={"high": 2.0}, triggers={"count": 3})


@pytest.fixture(scope="module")
def hand_built(sandbox: Sandbox) -> pd.DataFrame:
    return head_scores(induction_network(sandbox.vocab, sandbox.seq_len), sandbox, generator())


def test_a_hand_built_induction_circuit_is_found(hand_built: pd.DataFrame) -> None:
    for metric in ("induction", "induction-general", "trigger-lookup"):
        assert one(hand_built, metric, 1, 0)["value"] >= 0.95, metric
    for metric in ("previous-token", "previous-token-after-trigger"):
        assert one(hand_built, metric, 0, 0)["value"] >= 0.95, metric


def test_its_other_heads_score_chance(hand_built: pd.DataFrame) -> None:
    for metric in ATTENTION:
        for layer in (0, 1):
            uniform = one(hand_built, metric, layer, 1)
            assert uniform["value"] == pytest.approx(uniform["chance"], abs=1e-3), metric
    assert one(hand_built, "induction", 0, 0)["value"] < 0.1, "the previous-token head is no induction head"
    assert one(hand_built, "previous-token", 1, 0)["value"] < 0.2, "the induction head is no previous-token head"
    assert one(hand_built, "duplicate-token", 1, 0)["value"] < 0.1


def test_the_null_is_low_where_the_score_is_high(hand_built: pd.DataFrame) -> None:
    for metric, layer in (
        ("induction", 1),
        ("induction-general", 1),
        ("trigger-lookup", 1),
        ("previous-token", 0),
        ("previous-token-after-trigger", 0),
    ):
        row = one(hand_built, metric, layer, 0)
        assert row["null_mean"] < 0.2, metric
        assert row["null_max"] >= row["null_mean"]
        assert row["null_sd"] >= 0


def test_an_induction_network_predicts_by_induction(sandbox: Sandbox) -> None:
    """The scores are about a network that really does it."""
    model = induction_network(sandbox.vocab, sandbox.seq_len)
    blocks = repeated_blocks(sandbox, 16, model.n_ctx, generator())
    guesses = model(blocks.repeated)[:, blocks.length + 1 : -1].argmax(-1)
    assert (guesses == blocks.repeated[:, blocks.length + 2 :]).float().mean() > 0.95


def test_repeated_blocks_are_what_they_say(sandbox: Sandbox) -> None:
    blocks = repeated_blocks(sandbox, 40, 32, generator())
    length = blocks.length
    assert length == 15
    assert blocks.repeated.shape[1] == 2 * length + 1 <= 32
    assert torch.equal(blocks.repeated[:, 1 : length + 1], blocks.repeated[:, length + 1 :])
    assert torch.equal(blocks.control[:, length + 1 :], blocks.repeated[:, length + 1 :]), "same queries"
    assert not torch.equal(blocks.control[:, : length + 1], blocks.repeated[:, : length + 1])
    for sequence in blocks.repeated.tolist():
        block = sequence[1 : length + 1]
        assert len(set(block)) == length
        assert set(sandbox.triggers) <= set(block)
        assert sequence[0] == sandbox.start_token
        assert sandbox.start_token not in block
    positions = (blocks.repeated[:, 1 : length + 1] == sandbox.triggers[0]).float().argmax(1)
    assert len(set(positions.tolist())) > 5, "triggers stand anywhere in the block"


def test_scores_equal_loops_over_positions(sandbox: Sandbox) -> None:
    """Every score written out as plain loops over the patterns of a random model."""
    model = transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, seed=4)
    scores = head_scores(model, sandbox, generator(3), sequences=8)
    blocks = repeated_blocks(sandbox, 8, model.n_ctx, generator(3))
    length, triggers = blocks.length, set(sandbox.triggers)
    sequences = sandbox.evaluation(8).tokens
    fourfold = probes(sandbox, 8, model.n_ctx, generator(3)).fourfold.tokens
    view = HeadView(model)
    on_blocks, on_sandbox, on_four = (view.patterns(tokens) for tokens in (blocks.repeated, sequences, fourfold))

    def mean_over(pattern: torch.Tensor, tokens: torch.Tensor, sources) -> float:
        per_sequence = []
        for b, sequence in enumerate(tokens.tolist()):
            paid = [
                sum(float(pattern[b, q, s]) for s in found)
                for q in range(len(sequence))
                if (found := sources(sequence, q))
            ]
            if paid:
                per_sequence.append(sum(paid) / len(paid))
        return sum(per_sequence) / len(per_sequence)

    def earlier(sequence: list[int], q: int) -> list[int]:
        if sequence[q] not in triggers:
            return []
        return [j + 1 for j in range(q) if sequence[j] == sequence[q] and j + 1 < q]

    def preceded(sequence: list[int], q: int) -> list[int]:
        return [s for s in range(1, q + 1) if sequence[s - 1] == sequence[q]]

    expected = {
        "prefix-matching": (on_four, fourfold, lambda x, q: preceded(x, q) if x[q] in triggers else []),
        "prefix-matching-general": (on_four, fourfold, lambda x, q: preceded(x, q) if x[q] not in triggers else []),
        "induction": (
            on_blocks,
            blocks.repeated,
            lambda x, q: [q - length + 1] if q > length and x[q] in triggers else [],
        ),
        "induction-general": (
            on_blocks,
            blocks.repeated,
            lambda x, q: [q - length + 1] if q > length and x[q] not in triggers else [],
        ),
        "duplicate-token": (on_blocks, blocks.repeated, lambda x, q: [q - length] if q > length else []),
        "previous-token": (on_sandbox, sequences, lambda x, q: [q - 1] if q >= 2 else []),
        "previous-token-after-trigger": (
            on_sandbox,
            sequences,
            lambda x, q: [q - 1] if q >= 2 and x[q - 1] in triggers else [],
        ),
        "trigger-lookup": (on_sandbox, sequences, earlier),
    }
    assert set(expected) == set(ATTENTION)
    for metric, (patterns, tokens, sources) in expected.items():
        for layer in range(2):
            for head in range(2):
                by_loop = mean_over(patterns[layer][:, head], tokens, sources)
                assert one(scores, metric, layer, head)["value"] == pytest.approx(by_loop, abs=1e-5), metric


def test_one_query_of_each_sequence_costs_no_whole_patterns(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    view = HeadView(transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len))
    tokens, query = sandbox.evaluation(5).tokens, torch.tensor([3, 31, 0, 8, 20])
    monkeypatch.setattr(_view, "_PATTERN_BYTES", 2 * 4 * 2 * 2 * 32**2)  # two sequences at a time
    for rows, patterns in zip(view.attention_from(tokens, query), view.patterns(tokens), strict=True):
        for i, q in enumerate(query):
            torch.testing.assert_close(rows[i], patterns[i, :, q])


def test_uniform_attention_scores_chance_exactly(sandbox: Sandbox) -> None:
    model = induction_network(sandbox.vocab, sandbox.seq_len, sharpness=0.0)
    scores = head_scores(model, sandbox, generator())
    of_attention = scores[scores["metric"].isin([*ATTENTION, "induction-strength"])]
    assert (of_attention["value"] - of_attention["chance"]).abs().max() < 1e-5


def test_attention_to_ignores_sequences_without_queries() -> None:
    pattern = torch.tensor([[[[1.0, 0.0], [0.25, 0.75]]], [[[1.0, 0.0], [0.5, 0.5]]]])
    sources = torch.zeros(2, 2, 2, dtype=torch.bool)
    sources[0, 1, 0] = True
    scored = attention_to(pattern, sources)
    assert scored[0, 0] == 0.25
    assert scored[1, 0].isnan()


def test_scoring_leaves_no_hooks_and_repeats_to_the_bit(sandbox: Sandbox) -> None:
    model = transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len)
    first, again = (head_scores(model, sandbox, generator(), sequences=8) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    assert not any(hook.has_hooks() for hook in model.hook_points())


@pytest.mark.parametrize("triggers", [{"count": 0}, only(kind="bernoulli", rate=0.3)], ids=str)
def test_a_world_without_fixed_triggers_is_scored_on_all_queries_under_one_name(triggers: dict) -> None:
    sandbox = world(triggers=triggers)
    scores = head_scores(induction_network(sandbox.vocab, sandbox.seq_len), sandbox, generator())
    assert ("trigger-lookup" in set(scores["metric"])) == ("rate" in triggers)
    assert not {"induction-general", "prefix-matching-general"} & set(scores["metric"])
    assert one(scores, "induction", 1, 0)["value"] >= 0.95
    of_attention = scores[scores["metric"].isin(ATTENTION)]
    values = of_attention.pivot(index=["layer", "head"], columns="metric", values="value")
    assert not values.T.duplicated().any(), "no two names of the same numbers"


def test_p_is_that_of_a_t_test_over_sequences_for_all_heads_together() -> None:
    excess = 0.12 + 0.1 * torch.randn(2, 9, 3, generator=generator())
    expected = stats.ttest_1samp(excess.double().numpy(), 0.1, axis=1, alternative="greater").pvalue * 6
    assert p_beyond(excess).numpy() == pytest.approx(expected.clip(max=1))
    assert (p_beyond(torch.full((1, 4, 2), 0.5)) < 1e-9).all(), "no spread at all"
    assert (p_beyond(torch.full((1, 4, 2), 0.1)) > 0.1).all()
    assert (p_beyond(torch.ones(1, 1, 2)) == 1).all(), "one sequence says nothing"


def test_a_model_without_heads_is_refused() -> None:
    with pytest.raises(MechdistillError, match="no attention heads"):
        head_scores(Bigram(d_vocab=12, n_ctx=16), world(), generator())


@pytest.mark.parametrize("name", ATTENTION)
def test_every_score_says_what_it_is(name: str) -> None:
    text = SCORES[name].doc
    for word in ("A[q", "Range", "chance", "Null", "Source"):
        assert word in text or (word == "A[q" and "ttention from" in text), f"{name} does not give its {word}"
