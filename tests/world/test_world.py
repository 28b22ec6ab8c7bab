"""A second tenant, as text will be: letters, no oracle, no triggers. What asks for none of them works in it."""

import pytest
import torch

import mechdistill as md
from mechdistill.circuits import head_scores
from mechdistill.errors import MechdistillError
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import Experiment, Run
from mechdistill.world import Batch, KnownWorld, Labels, Stream, World, known
from tests.helpers import induction_network, transformer, world

TEXT = "the quick brown fox jumps over the lazy dog and " * 9


class LetterLabels(Labels):
    def __init__(self, tokens: torch.Tensor):
        self.row = tokens


class Letters(World):
    provides = frozenset()
    seq_len = 24
    symbols = tuple(sorted(set(TEXT)))
    vocab = len(symbols)
    triggers = ()
    start_token = symbols.index(" ")

    def _batch(self, start: int, count: int) -> Batch:
        ids = torch.tensor([self.symbols.index(letter) for letter in TEXT])
        sequences = torch.stack([ids[7 * (start + i) % 300 :][: self.seq_len + 1] for i in range(count)])
        return Batch(sequences, torch.zeros(count, self.vocab, dtype=torch.bool))

    def training(self, seed: int, unique: int | None = None) -> Stream:
        raise NotImplementedError

    def evaluation(self, count: int, start: int = 0) -> Batch:
        return self._batch(start, count)

    def labels(self, tokens: torch.Tensor, triggers: torch.Tensor | None = None) -> Labels:
        return LetterLabels(tokens)


def test_a_sandbox_is_a_world_that_knows_its_own_law() -> None:
    sandbox = world()
    assert isinstance(sandbox, KnownWorld)
    assert known(sandbox, "this test") is sandbox
    assert sandbox.provides == {"oracle", "triggers"}
    assert world(triggers={"count": 0}).provides == {"oracle"}


def test_heads_are_scored_in_a_world_without_oracle_or_triggers() -> None:
    letters = Letters()
    model = induction_network(letters.vocab, letters.seq_len)
    scores = head_scores(model, letters, torch.Generator().manual_seed(0), sequences=16)
    at = scores.set_index(["metric", "layer", "head"])["value"]
    assert at["induction", 1, 0] >= 0.95
    assert at["previous-token", 0, 0] >= 0.95
    assert "trigger-lookup" not in set(scores["metric"])


def test_what_a_world_lacks_is_said_in_one_line() -> None:
    letters = Letters()
    labels = letters.labels(letters.evaluation(2).tokens)
    for field in ("occurrence", "copyable", "bucket", "log_probs", "oracle_entropy"):
        with pytest.raises(MechdistillError, match="this world has no"):
            getattr(labels, field)
    with pytest.raises(MechdistillError, match="teacher 'x': needs a world that knows its own law"):
        known(letters, "teacher 'x'")


def test_losses_need_no_oracle() -> None:
    letters = Letters()
    model = transformer(d_vocab=letters.vocab, n_ctx=letters.seq_len)
    positions = predict(model, EvaluationSet.held_out(letters, 6))
    logits = model(letters.evaluation(6).tokens)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), letters.evaluation(6).next_tokens.flatten())
    assert positions.loss.mean().item() == pytest.approx(expected.item(), rel=1e-5)
    with pytest.raises(MechdistillError, match="this world has no oracle"):
        _ = positions.kl


def test_measures_say_what_they_need_of_a_world(trained: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "world", Letters())
    run = Run(trained.path / "spt/seed-0")
    with pytest.raises(MechdistillError, match=r"spt/seed-0: has no oracle, which row-curves needs"):
        md.row_curves(run)
    with pytest.raises(MechdistillError, match=r"nothing to measure .*spt/seed-0 has no oracle"):
        md.ablate(Experiment(trained.path))
