import numpy as np
import pytest
import torch

from mechdistill.errors import MechdistillError
from mechdistill.sandbox import CHUNK, Sandbox, prompts
from tests.helpers import only, world

WORLDS = [{"count": 1}, {"count": 2}, {"count": 2, "noise": 0.3}, {"kind": "bernoulli", "rate": 0.4}]


@pytest.mark.parametrize("triggers", WORLDS)
def test_shares_and_occurrence_agree_with_brute_simulation_within_their_standard_errors(triggers: dict) -> None:
    sandbox = world(seq_len=24, triggers=only(triggers))
    computed, n = sandbox.copyable_share(), 8 * CHUNK
    batches = [sandbox.batch(7, i * CHUNK, CHUNK) for i in range(8)]
    tokens = torch.cat([data.tokens for data in batches])
    again = torch.cat([sandbox.occurrence(data.tokens, data.triggers) >= 2 for data in batches]).double()
    assert computed.value[0] == 0
    error = (again.std(0) / n**0.5).numpy()
    assert (np.abs(again.mean(0).numpy() - computed.value) <= 5 * np.hypot(error, computed.error) + 1e-9).all()
    assert computed.mean_error < 0.004
    exact = triggers in WORLDS[:3]
    assert exact == (computed.mean_error == 0) == (sandbox.stationary_error == 0), "121 joint targets are all taken"
    # how often each token occurs: the frequency in sequences, not the law of a chain with averaged rows
    frequency = torch.stack([(tokens == token).double().mean(1) for token in range(12)])  # [token, sequence]
    error = np.hypot((frequency.std(1) / n**0.5).numpy(), sandbox.stationary_error)
    assert sandbox.stationary.sum() == pytest.approx(1)
    assert (np.abs(frequency.mean(1).numpy() - sandbox.stationary) <= 5 * error).all()
    if triggers == {"count": 2}:
        assert (np.abs(frequency.mean(1).numpy() - sandbox.start_law) > 5 * error).any(), "the old law would fail"


def test_a_plain_chain_has_nothing_to_copy() -> None:
    assert (world(triggers={"count": 0}).copyable_share().value == 0).all()


@pytest.fixture(params=[{"count": 3}, {"count": 1}, {"kind": "bernoulli", "rate": 0.3}])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return world(vocab=20, seq_len=32, triggers=only(request.param))


@pytest.mark.parametrize("kind", ["copy", "needle", "counterfactual"])
def test_a_prompt_shows_its_pair_once_and_ends_with_the_key(sandbox: Sandbox, kind) -> None:
    task = prompts(sandbox, kind, 200, seed=1)
    places: set[tuple[int, int]] = set()
    for tokens, answer, distance, end, p in zip(*(field.tolist() for field in task), strict=True):
        key, at = tokens[end], end - distance
        assert tokens[at] == key
        assert tokens[at + 1] == answer
        assert [i for i, t in enumerate(tokens) if t == key] == [at, end]
        assert answer != key
        assert answer not in sandbox.triggers
        assert p == pytest.approx(sandbox.pi[key, answer])
        assert sandbox.rate[key] > 0
        decoys = [i for i, t in enumerate(tokens) if t in sandbox.triggers and t != key]
        assert len(decoys) == (len(sandbox.triggers) > 1)
        for i in decoys:
            assert i + 1 < end
            assert tokens[i + 1] not in (answer, *sandbox.triggers)
            assert not {i, i + 1} & {at, at + 1}
        places.add((distance, at))
    if kind == "needle":
        assert places == {(31, 0)}
    else:
        assert {distance for distance, _ in places} == {2, 4, 8, 16}
        near, far = ([at for distance, at in places if distance == d] for d in (2, 16))
        assert min(near) < 6, "near pairs stand early too"
        assert max(near) > 25
        assert max(far) > 10, "far ones late"
    if kind == "counterfactual":
        copied = prompts(sandbox, "copy", 50, seed=1)
        assert task.row_probability.mean() < copied.row_probability.mean() / 3
        for key, answer in zip(task.key.tolist(), task.answer.tolist(), strict=True):
            possible = [t for t in range(20) if t != key and t not in sandbox.triggers]
            assert answer in sorted(possible, key=lambda t: sandbox.pi[key, t])[: len(possible) // 4]
        assert len(set(zip(task.key.tolist(), task.answer.tolist(), strict=True))) > 3 * len(set(task.key.tolist()))
    again = prompts(sandbox, kind, 200, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(task, again, strict=True))
    assert not torch.equal(prompts(sandbox, kind, 200, seed=2).tokens, task.tokens)


def test_the_oracle_solves_the_tasks() -> None:
    sandbox = world(vocab=20, seq_len=32, triggers={"count": 3})
    for kind in ("copy", "needle", "counterfactual"):
        task = prompts(sandbox, kind, 40, seed=0)
        assert torch.equal(sandbox.law(task.tokens)[torch.arange(40), task.end].argmax(-1), task.answer)


@pytest.mark.parametrize("seq_len", [8, 9, 11])
def test_short_prompts_have_room_for_every_distance(seq_len: int) -> None:
    sandbox = world(seq_len=seq_len)
    for distance in range(2, seq_len):
        task = prompts(sandbox, "copy", 60, seed=0, distances=[distance])
        for tokens, end in zip(task.tokens.tolist(), task.end.tolist(), strict=True):
            assert len({t for t in tokens[:end] if t in sandbox.triggers}) == 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(MechdistillError, match="must be between 2 and seq_len - 1"):
        prompts(world(), "copy", 4, seed=0, distances=[16])
    with pytest.raises(MechdistillError, match="need a world with triggers"):
        prompts(world(triggers={"count": 0}), "copy", 4, seed=0)
