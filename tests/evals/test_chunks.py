"""Evaluation sets larger than what fits: walked in chunks, with the same numbers and no more memory."""

import weakref
from typing import Any

import pandas as pd
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechdistill.evals import inline_metrics, row_curves, teacher_metrics
from mechdistill.positions import EvaluationSet, Positions, predict
from mechdistill.sandbox import Sandbox
from tests.helpers import only, transformer, world

SMALL = 4 * 12 * 16 * 5  # bytes: five sequences of `world`

TRIGGERS = [only({"count": 2}), only(kind="bernoulli", rate=0.4, noise=0.1), only({"count": 0})]


def both(sandbox: Sandbox, sequences: int = 33) -> tuple[EvaluationSet, EvaluationSet]:
    """The same sequences as one chunk and as seven."""
    batch = sandbox.evaluation(sequences)
    whole, parts = EvaluationSet(sandbox, batch), EvaluationSet(sandbox, batch, SMALL)
    assert [len(part) for _, part in whole.chunks()] == [sequences]
    assert [first for first, _ in parts.chunks()] == [0, 5, 10, 15, 20, 25, 30]
    assert [len(part) for _, part in parts.chunks()] == [5, 5, 5, 5, 5, 5, 3]
    return whole, parts


def close(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    pd.testing.assert_frame_equal(pd.DataFrame(ours), pd.DataFrame(theirs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("triggers", TRIGGERS)
def test_every_number_is_that_of_the_whole(triggers: dict[str, Any]) -> None:
    whole, parts = (predict(transformer(), data) for data in both(world(triggers=triggers)))
    for name in ("loss", "kl", "squared_error", "correct", "excess", "missing"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-6, atol=1e-6)
    for name in ("occurrence", "bucket", "copyable", "ordinary", "first", "oracle_loss", "no_matching_hits"):
        assert torch.equal(getattr(parts.data, name), getattr(whole.data, name)), name
    close(inline_metrics(parts), inline_metrics(whole))
    close(teacher_metrics(parts), teacher_metrics(whole))
    pd.testing.assert_frame_equal(row_curves(parts), row_curves(whole), rtol=1e-6, atol=1e-6)


def test_a_law_can_be_a_function_of_a_chunk() -> None:
    whole, parts = both(world())
    given = Positions(whole, whole.labels.log_probs)
    oracle = Positions.of(parts, lambda part: part.labels.log_probs)
    assert inline_metrics(oracle) == inline_metrics(given)
    assert oracle.log_probs is None, "no law outlives its chunk"


def test_whoever_looks_in_passing_sees_every_sequence_once_in_order() -> None:
    whole, parts = both(world())
    seen: list[torch.Tensor] = []
    predict(transformer(), parts, lambda chunk, log_probs: seen.append(log_probs))
    torch.testing.assert_close(torch.cat(seen), predict(transformer(), whole).log_probs)


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def peak(sequences: int, chunk_bytes: int) -> int:
    sandbox = world(vocab=256, rows={"high": 4.0})
    data = EvaluationSet(sandbox, sandbox.evaluation(sequences), chunk_bytes)
    model = transformer(d_vocab=256)
    with Peak() as watched:
        positions = predict(model, data)
        inline_metrics(positions)
        row_curves(positions)
    return watched.peak


def test_memory_is_that_of_a_chunk_however_many_the_sequences() -> None:
    chunk = 2**18
    few, many = peak(64, chunk), peak(1024, chunk)
    numbers = 960 * 16 * 4 * 40  # what a few numbers and their means take at each further position
    assert many - few < numbers < peak(1024, 2**30) / 10, "and the control: as one chunk it takes much more"


def test_memory_of_long_sequences_is_no_square_of_their_length() -> None:
    sandbox = world(seq_len=2048)
    sandbox.no_matching_guesser  # noqa: B018  (chosen once a world, on other sequences)
    data = EvaluationSet(sandbox, sandbox.evaluation(64))
    with Peak() as watched:
        assert data.copyable.any()
        assert data.oracle_loss.isfinite().all()
        assert data.no_matching_hits.sum() > 0
    assert watched.peak < 2**28 <= 64 * 2048**2, "every pair of positions would take a byte at least"
