from itertools import pairwise

import numpy as np
import pytest
import torch

from mechdistill import teachers
from mechdistill.sandbox import CHUNK, Sandbox
from tests.helpers import world
from tests.teachers.every import ENTRIES, built


def table(teacher: teachers.Teacher, sandbox: Sandbox) -> np.ndarray:
    tokens = torch.arange(sandbox.vocab)[None]
    return teacher.log_probs(tokens, sandbox.labels(tokens))[0].exp().numpy()


def counted(sequences: np.ndarray, tokens: int, vocab: int) -> np.ndarray:
    counts = np.zeros((vocab, vocab))
    pairs = [(s, y) for sequence in sequences for s, y in pairwise(sequence)]
    for s, y in pairs[:tokens]:
        counts[s, y] += 1
    counts[counts.sum(1) == 0] = 1
    return counts / counts.sum(1, keepdims=True)


@pytest.mark.parametrize("tokens", [1, 7, 16, 17, 160, 3001])
def test_it_counts_the_first_tokens_of_the_students_stream(tokens: int) -> None:
    sandbox = world()
    sequences = sandbox.sequences(5, 0, 200).numpy()
    teacher = teachers.Count(sandbox, sandbox.training(5), tokens)
    np.testing.assert_allclose(table(teacher, sandbox), counted(sequences, tokens, 12), rtol=1e-6)


def test_rows_never_seen_are_uniform_and_successors_never_seen_excluded() -> None:
    sandbox = world()
    first = sandbox.sequences(0, 0, 1)[0]
    law = table(teachers.Count(sandbox, sandbox.training(0), 1), sandbox)
    assert law[first[0], first[1]] == 1
    others = np.delete(law, int(first[0]), axis=0)
    np.testing.assert_allclose(others, 1 / 12, rtol=1e-6)


def test_it_counts_across_chunks_and_epochs() -> None:
    sandbox = world()
    sequences = CHUNK + 3
    got = table(teachers.Count(sandbox, sandbox.training(0), sequences * 16 - 5), sandbox)
    want = counted(sandbox.sequences(0, 0, sequences).numpy(), sequences * 16 - 5, 12)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    few = sandbox.training(0, unique=10)
    got = table(teachers.Count(sandbox, few, 25 * 16), sandbox)
    np.testing.assert_allclose(got, counted(few.batch(0, 25).sequences.numpy(), 25 * 16, 12), rtol=1e-6)


def test_same_data_are_the_students_and_fresh_data_nobodys() -> None:
    sandbox = world()
    same = table(built("count", sandbox, seed=3), sandbox)
    np.testing.assert_allclose(same, counted(sandbox.sequences(3, 0, 7).numpy(), 100, 12), rtol=1e-6)
    entries = ENTRIES | {"b": ENTRIES["count-fresh"]}
    fresh = [built(name, sandbox, seed, entries) for name, seed in (("count-fresh", 3), ("count-fresh", 4), ("b", 3))]
    laws = [same, *(table(teacher, sandbox) for teacher in fresh)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(laws) for b in laws[:i]), "by name and by student seed"


def test_it_converges_to_the_transition_matrix_where_there_is_no_trigger() -> None:
    sandbox = world()
    got = table(teachers.Count(sandbox, sandbox.training(0), 400_000), sandbox)
    ordinary = [token for token in range(12) if token not in sandbox.triggers]
    assert np.abs(got - sandbox.pi)[ordinary].max() < 0.01
