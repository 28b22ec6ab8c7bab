"""Problems, the chance of saying what is right, and the measure: against plain forward passes and `generate`."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from mechdistill.evals import _paths, pass_at_k
from mechdistill.evals._paths import counted, drawn, path_chances
from mechdistill.evals._problems import MODELS_TURN, Problems, chains, hidden_target, multi_hop
from mechdistill.model import Bigram, Model
from mechdistill.sandbox import Sandbox
from mechdistill.tables import PASS_AT_K
from tests.helpers import induction_network, only, transformer, world

TASKS = (hidden_target, chains, multi_hop)
WORLDS = [{"count": 2}, {"count": 3, "noise": 0.3}, {"kind": "bernoulli", "rate": 0.3}, {"count": 0}]


def a_world(triggers: dict, **changes) -> Sandbox:
    return world(vocab=14, seq_len=24, rows=only({"kind": "graded", "low": 0.3, "high": 2.3}), triggers=only(triggers))


def table_model(law: np.ndarray, n_ctx: int = 24) -> Bigram:
    model = Bigram(d_vocab=len(law), n_ctx=n_ctx)
    model.load_state_dict({"table": torch.tensor(law).log().float()})
    return model


def few(problems: Problems, n: int) -> Problems:
    """The first n problems."""
    mine = problems.problem < n
    return problems._replace(
        prompts=problems.prompts[:n],
        forced=problems.forced[:n],
        paths=problems.paths[mine],
        problem=problems.problem[mine],
        weight=problems.weight[mine],
    )


@pytest.mark.parametrize("triggers", WORLDS)
def test_problems_are_what_they_say(triggers: dict) -> None:
    sandbox = a_world(triggers)
    data = sandbox.evaluation(512)
    sequences = [bytes(row.to(torch.uint8).numpy()) for row in data.sequences]
    median = np.median(sandbox.row_entropy[sandbox.rate < 1])
    for task in TASKS:
        problems = task(sandbox)
        if task is multi_hop and triggers == {"count": 0}:
            assert problems is None
            continue
        assert problems is not None
        again = task(sandbox)
        assert all(torch.equal(a, b) for a, b in zip(problems[1:6], again[1:6], strict=True)), "a pure function"
        n = len(problems.prompts)
        assert n >= 16
        assert set(problems.problem.tolist()) == set(range(n))
        weight = problems.by_problem(problems.weight)
        torch.testing.assert_close(weight.sum(dim=1), torch.ones(n, dtype=torch.float64))
        for i, prompt in enumerate(problems.prompts):
            text = bytes(prompt.to(torch.uint8).numpy())
            number = next(j for j, sequence in enumerate(sequences) if text in sequence)
            is_trigger = data.triggers[number]
            last = int(prompt[-1])
            if triggers.get("kind") != "bernoulli":  # a stretch may stand in several sequences
                assert not is_trigger[last]
            assert sandbox.row_entropy[last] >= median
            mine = problems.problem == i
            paths, w = problems.paths[mine], problems.weight[mine].numpy()
            assert len({tuple(path) for path in paths.tolist()}) == len(paths)
            forced = problems.forced[i]
            assert (paths[:, forced != MODELS_TURN] == forced[forced != MODELS_TURN]).all()
            if task is hidden_target:
                assert w.tolist() == pytest.approx(sandbox.pi[last].tolist())
            elif triggers == {"count": 0}:
                exact = sandbox.pi[last, paths[:, 0]] * sandbox.pi[paths[:, 0], paths[:, 1]]
                assert w == pytest.approx(exact / exact.sum())
                assert (sandbox.row_entropy[paths[:, 0]] >= median).all()
            elif task is chains:
                exact = sandbox.pi[last, paths[:, 0]] * sandbox.pi[paths[:, 2], paths[:, 3]]
                assert w == pytest.approx(exact / exact.sum())
                assert (sandbox.row_entropy[paths[:, 2]] >= median).all()
            for trigger, target in zip(forced[:-1].tolist(), paths[0, 1:].tolist(), strict=True):
                if trigger != MODELS_TURN and "noise" not in triggers:
                    at = [j for j, token in enumerate(prompt[:-1].tolist()) if token == trigger]
                    assert {int(prompt[j + 1]) for j in at} == {target}, "what the prompt has shown"
                    assert target not in sandbox.triggers


def test_what_chains_leave_out_is_weighed() -> None:
    """By hand: of each decision, the mass of what it can be."""
    sandbox = a_world({"count": 2})
    problems = chains(sandbox)
    masses = []
    for i, prompt in enumerate(problems.prompts.tolist()):
        paths = problems.paths[problems.problem == i].numpy()
        masses.append(
            sandbox.pi[prompt[-1], np.unique(paths[:, 0])].sum() * sandbox.pi[paths[0, 2], np.unique(paths[:, 3])].sum()
        )
    ordinary = 1 - sandbox.pi[:, list(sandbox.triggers)].sum(axis=1)
    assert problems.mass == pytest.approx(np.mean(masses))
    assert ordinary.min() ** 2 <= problems.mass < 1, "12 tokens are fewer than 32: only triggers are left out"


@pytest.mark.parametrize(
    ("changes", "at_once"),
    [({}, 2**25), ({}, 2**16), ({"positions": "rotary", "n_kv_heads": 1, "attn_only": False}, 2**25), ({}, 1)],
)
def test_chances_equal_plain_forward_passes(changes: dict, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_paths, "_AT_ONCE", at_once)
    sandbox, model = a_world({"count": 2}), transformer(d_vocab=14, n_ctx=24, **changes)
    for task in TASKS:
        problems = few(task(sandbox), 1 if at_once == 1 else 4)
        found = path_chances(model, problems, [0.5, 1.0, 2.0])
        whole = torch.cat([problems.prompts[problems.problem], problems.paths], dim=1)
        for j, temperature in enumerate((0.5, 1.0, 2.0)):
            law = (model(whole).double() / temperature).log_softmax(dim=-1)
            said = law[:, :-1].gather(2, whole[:, 1:, None])[..., 0][:, -problems.paths.shape[1] :]
            said = torch.where(problems.forced[problems.problem] == MODELS_TURN, said, 0.0)
            torch.testing.assert_close(found[:, j], said.sum(dim=1).exp(), rtol=2e-4, atol=1e-12)


def test_a_table_of_the_worlds_rows_has_the_closed_form() -> None:
    for triggers in ({"count": 0}, {"count": 2}):
        sandbox = a_world(triggers)
        model, pi = table_model(sandbox.pi), torch.tensor(sandbox.pi)
        problems = hidden_target(sandbox)
        last = problems.prompts[:, -1]
        torch.testing.assert_close(path_chances(model, problems, [1.0])[:, 0], pi[last].flatten(), rtol=1e-5, atol=1e-9)
        problems = chains(sandbox)
        path, start = problems.paths, problems.prompts[problems.problem, -1]
        if triggers["count"]:
            exact = pi[start, path[:, 0]] * pi[path[:, 1], path[:, 2]]
            exact = exact * pi[path[:, 2], path[:, 3]] * pi[path[:, 4], path[:, 5]]
        else:
            exact = pi[start, path[:, 0]] * pi[path[:, 0], path[:, 1]]
        torch.testing.assert_close(path_chances(model, problems, [1.0])[:, 0], exact, rtol=1e-5, atol=1e-9)


def test_a_circuit_made_by_hand_solves_every_lookup_and_no_decision() -> None:
    sandbox = a_world({"count": 2})
    model = induction_network(14, 24)
    with torch.no_grad():
        model.W_U *= 30
    table = pass_at_k(model, sandbox, torch.Generator().manual_seed(0))
    of = table[(table["metric"] == "pass-at-k") & (table["temperature"] == 1)].set_index(["task", "k", "exact"])[
        "value"
    ]
    assert of["multi-hop", 1, True] == pytest.approx(1)
    assert of["multi-hop", 1, False] == 1
    assert of["chains", 1, True] < 0.2
    vote = table[table["metric"] == "majority-vote"].set_index("task")
    assert vote.loc["multi-hop", "value"] == 1
    assert vote["exact"].to_dict() == {"hidden-target": True, "chains": False, "multi-hop": False}


@torch.no_grad()
def simulated(model: Model, problems: Problems, i: int, k: int, trials: int, seed: int) -> np.ndarray:
    """Whether one of k samples was the hidden solution, by `generate` alone: hidden solution and samples are drawn."""
    generator = torch.Generator().manual_seed(seed)
    mine = problems.problem == i
    hidden = torch.multinomial(problems.weight[mine], trials, replacement=True, generator=generator)
    tokens = problems.prompts[i].expand(trials * k, -1)
    for forced in problems.forced[i].tolist():
        if forced == MODELS_TURN:
            tokens = model.generate(tokens, 1, generator=generator)
        else:
            tokens = torch.cat([tokens, torch.full((len(tokens), 1), forced)], dim=1)
    said = tokens[:, problems.prompts.shape[1] :].view(trials, k, -1)
    return (said == problems.paths[mine][hidden][:, None]).all(dim=2).any(dim=1).numpy()


@pytest.mark.parametrize("make", ["random", "by hand", "table"])
@pytest.mark.parametrize("k", [1, 4])
def test_enumeration_equals_brute_force_simulation(make: str, k: int) -> None:
    """Chains and lookups: the chance by enumeration lies within the binomial error of 600 trials, in each problem."""
    sandbox = a_world({"count": 2})
    if make == "random":
        model: Model = transformer(d_vocab=14, n_ctx=24)
    elif make == "by hand":
        model = induction_network(14, 24)
        with torch.no_grad():
            model.W_U *= 4  # copies are likely, not certain
    else:
        model = table_model(sandbox.pi)
    trials = 600
    for task in (chains, multi_hop, hidden_target):
        problems = few(task(sandbox), 2)
        p = path_chances(model, problems, [1.0])[:, 0]
        for i in range(2):
            mine = problems.problem == i
            exact = float((problems.weight[mine] * (1 - (1 - p[mine]) ** k)).sum())
            found = simulated(model, problems, i, k, trials, seed=i).mean()
            assert abs(found - exact) < 4.5 * math.sqrt(max(exact * (1 - exact), 1 / trials) / trials), (task, i)


def test_samples_agree_with_enumeration_solution_by_solution() -> None:
    """The count of each is binomial."""
    sandbox, model, n = a_world({"count": 2}), transformer(d_vocab=14, n_ctx=24), 4000
    apart: list[float] = []
    for task in TASKS:
        problems = few(task(sandbox), 6)
        p = path_chances(model, problems, [1.0])[:, 0]
        said = drawn(model, problems, n, torch.Generator().manual_seed(1))
        counts = (said[problems.problem] == problems.paths[:, None]).all(dim=2).sum(dim=1)
        often = n * p > 5
        assert often.any()
        apart += ((counts - n * p) / (n * p * (1 - p)).sqrt())[often].tolist()
        right = (problems.weight * counts).sum() / n / 6
        assert counted(problems, said).pass_at_k(1) == pytest.approx(float(right)), "k = 1 is the share that is right"
    assert len(apart) > 80
    assert max(map(abs, apart)) < 4.5
    assert np.mean(np.square(apart)) == pytest.approx(1, abs=4 * math.sqrt(2 / len(apart)))


def of_metric(table: pd.DataFrame, metric: str, *, exact: bool = True) -> pd.DataFrame:
    return table[(table["metric"] == metric) & (table["exact"] == exact)]


@pytest.mark.parametrize("triggers", WORLDS)
def test_the_measure_in_every_world(triggers: dict) -> None:
    sandbox, model = a_world(triggers), transformer(d_vocab=14, n_ctx=24)
    table = pass_at_k(model, sandbox, torch.Generator().manual_seed(0))
    assert list(table.columns) == [column.name for column in PASS_AT_K.columns]
    expected = {"hidden-target", "chains"} | ({"multi-hop"} if triggers != {"count": 0} else set())
    assert set(table["task"]) == expected
    assert table["value"].between(0, 1).all()
    exact = of_metric(table, "pass-at-k").set_index(["task", "k", "temperature"])["value"]
    best = of_metric(table, "pass-at-k-optimum").set_index(["task", "k"])["value"]
    regret = of_metric(table, "regret").set_index(["task", "k", "temperature"])["value"]
    for (task, k, temperature), value in exact.items():
        assert value <= best[task, k] + 1e-12
        assert regret[task, k, temperature] == pytest.approx(best[task, k] - value)
    for task in expected:
        assert exact[task].unstack("temperature").diff().dropna().min().min() > 0, "more samples, more right"
    sampled = of_metric(table, "pass-at-k", exact=False)
    assert set(sampled["k"]) == {1, 2, 4, 8, 16}
    # pass@1 by samples is a share of problems x 256 draws, whose error is no larger than this
    for row in sampled[sampled["k"] == 1].to_dict("records"):
        p = exact[row["task"], 1, 1.0]
        assert abs(row["value"] - p) < 5 * math.sqrt(p / (16 * 256)) + 1e-9
    if triggers == {"count": 0}:
        again = pass_at_k(model, sandbox, torch.Generator().manual_seed(0))
        pd.testing.assert_frame_equal(table, again)


def test_the_oracle_of_a_plain_world_stays_below_the_optimum_and_samples_agree() -> None:
    sandbox = a_world({"count": 0})
    table = pass_at_k(table_model(sandbox.pi), sandbox, torch.Generator().manual_seed(0))
    at_one = table[(table["metric"] == "pass-at-k") & (table["temperature"] == 1)]
    exact = at_one[at_one["exact"]].set_index(["task", "k"])["value"]
    pi = sandbox.pi[hidden_target(sandbox).prompts[:, -1]]
    for k in (1, 16, 256):
        assert exact["hidden-target", k] == pytest.approx((pi * (1 - (1 - pi) ** k)).sum(axis=1).mean(), rel=1e-5)
    for row in at_one[~at_one["exact"]].to_dict("records"):
        assert row["value"] == pytest.approx(exact[row["task"], row["k"]], rel=0.05)
    assert (table[table["metric"] == "regret"]["value"] > 1e-4).any()


def test_where_nothing_fits_nothing_is_said() -> None:
    """Sequences of eight leave four tokens of prompt; what such prompts show decides which tasks there are."""
    sandbox = world(seq_len=8, triggers={"count": 1})
    table = pass_at_k(transformer(n_ctx=8), sandbox, torch.Generator().manual_seed(0))
    assert "hidden-target" in set(table["task"])
    assert table["value"].between(0, 1).all()
