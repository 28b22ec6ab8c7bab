"""What a run was trained in is noted with it, and known again where a world is opened."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run, list_runs, load
from mechdistill.training import train
from mechdistill.world import differences, fingerprint
from tests.helpers import copied, micro, only, rewritten, world
from tests.world.test_world import Letters


def test_different_worlds_differ_and_the_same_does_not() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"seq_len": 17},
        {"vocab": 13},
        {"rows": {"high": 2.0001}},
        {"rows": only(kind="dirichlet")},
        {"triggers": {"count": 3}},
        {"triggers": only(tokens=[5, 9])},
        {"triggers": {"noise": 0.001}},
        {"triggers": {"targets": "row"}},
        {"triggers": only(kind="bernoulli", rate=0.3)},
        {"triggers": only(kind="bernoulli", rate=0.3001)},
    ]
    worlds = [fingerprint(world(**change)) for change in changes]
    for (i, one), (j, other) in combinations(enumerate(worlds), 2):
        assert differences(one, other), (changes[i], changes[j])
    for change, one in zip(changes, worlds, strict=True):
        assert differences(fingerprint(world(**change)), json.loads(json.dumps(one))) == []
    assert differences(worlds[0], worlds[6])[0] == "triggers (9, 5) here, (9, 5, 8) when trained"


def test_sums_are_those_of_the_definition_and_roundings_do_not_count() -> None:
    sandbox = world()
    record = fingerprint(sandbox)
    rng = np.random.Generator(np.random.Philox(0))
    left, right = 1 + rng.random((6, 12)), 1 + rng.random((6, 12))
    cells, pi = [(i, j) for i in range(12) for j in range(12)], sandbox.pi
    expected = [sum(u[i] * pi[i, j] * v[j] for i, j in cells) for u, v in zip(left, right, strict=True)]
    np.testing.assert_allclose(record["pi"], expected, rtol=1e-13)
    for factor, said in ((1 + 1e-9, []), (1 + 1e-5, ["another transition matrix"])):
        assert differences(record | {"pi": [factor * value for value in record["pi"]]}, record) == said


def test_a_world_without_a_law_is_known_by_its_sequences() -> None:
    class Others(Letters):
        def evaluation(self, count: int, start: int = 0) -> Any:
            return super().evaluation(count, start + 1)

    assert differences(fingerprint(Letters()), fingerprint(Letters())) == []
    assert differences(fingerprint(Letters()), fingerprint(Others())) == ["another held-out sequences"]


def elsewhere(run: Path) -> None:
    """Make a run one that was trained where the second trigger was another."""
    rewritten(run, "provenance.json", fingerprint=Run(run).provenance["fingerprint"] | {"triggers": [9, 7]})


SAID = r"this machine makes another world .* \(triggers \(9, 5\) here, \(9, 7\) when trained\)"


def test_a_run_is_not_measured_in_another_world_than_it_was_trained_in(trained: Experiment, tmp_path: Path) -> None:
    out = copied(trained.path, tmp_path / "x")
    run = out / "spt/seed-0"
    elsewhere(run)
    for act in (lambda: Run(run).sandbox, lambda: md.row_curves(load(run), "last")):
        with pytest.raises(MechdistillError, match=SAID):
            act()
    with pytest.raises(
        MechdistillError, match=r"were trained in different worlds \(triggers \(9, 7\) in the first, \(9, 5\)"
    ):
        md.compare(load(out))
    elsewhere(out / "dpt/seed-0")
    more = micro(arms={"more": {"label_smoothing": 0.1}})
    with pytest.warns(UserWarning, match="no manipulation checks: .* different worlds"):
        outcomes = train(more, out)
    (message,) = [outcome.message for outcome in outcomes if outcome.state == "failed"]
    assert "triggers (9, 5) here, (9, 7) when trained" in str(message)


def test_a_run_is_not_resumed_in_another_world(tmp_path: Path) -> None:
    count = iter(range(20))
    train(micro(), tmp_path / "x", stopped=lambda: next(count, None) is None)
    (state,) = (tmp_path / "x").rglob("state.safetensors")
    elsewhere(state.parents[1])
    with pytest.warns(UserWarning, match="no manipulation checks: .* different worlds"):
        outcomes = train(micro(arms={}), tmp_path / "x")
    message = next(outcome.message for outcome in outcomes if outcome.message)
    assert "triggers (9, 5) here, (9, 7) when trained" in message


def test_no_world_is_made_where_none_is_asked_for(trained: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> Any:
        raise AssertionError("a world was made")

    monkeypatch.setattr("mechdistill.runs._run.open_world", refuse)
    acts: list[Callable[[], Any]] = [
        lambda: list_runs(trained.path),
        lambda: load(trained.path / "spt/seed-0").model("last"),
        lambda: [run.metrics() for run in trained.runs],
        lambda: md.compare(trained, formed=0.5),
    ]
    for act in acts:
        act()


def test_a_comparison_without_the_world_leaves_out_what_needs_it(
    trained: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = md.compare(trained)

    def refuse(_: Any) -> Any:
        raise MechdistillError("novel.txt: gone")

    monkeypatch.setattr("mechdistill.runs._run.open_world", refuse)
    with pytest.warns(UserWarning, match="left out: formation-tokens .no threshold without the world: novel.txt: gone"):
        found = md.compare(load(trained.path))
    assert set(found["metric"]) == set(whole["metric"]) - {"formation-tokens"}
