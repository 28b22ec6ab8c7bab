"""In-context tasks, against an induction circuit made by hand, a table, and a loop over prompts."""

import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.evals import in_context
from mechdistill.model import Bigram
from mechdistill.positions import EvaluationSet, predict
from mechdistill.sandbox import Sandbox, prompts
from mechdistill.subject import PROBE_SEED
from tests.helpers import induction_network, only, transformer, world

KINDS = ("copy", "needle", "counterfactual")


def accuracy(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["metric"] == "in-context-accuracy"]


def bigram(sandbox: Sandbox) -> Bigram:
    model = Bigram(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len)
    model.table.data = torch.tensor(sandbox.pi).log().float()
    return model


@pytest.mark.parametrize("triggers", [{"count": 3}, {"kind": "bernoulli", "rate": 0.3}])
def test_an_induction_circuit_copies_from_everywhere_whatever_the_row_says(triggers: dict) -> None:
    sandbox = world(vocab=20, seq_len=24, triggers=only(triggers))
    table = in_context(induction_network(20, 24), EvaluationSet.held_out(sandbox, 32))
    right = accuracy(table)
    assert (right["value"] == 1).all()
    assert (right["error"] == 0).all()
    shapes = right.groupby("task")["distance"].agg(lambda of: sorted(of.dropna()))
    assert shapes.to_dict() == {"copy": [2, 4, 8, 16], "counterfactual": [2, 4, 8, 16], "needle": [23]}
    assert set(right["quarter"].dropna()) == {0, 1, 2, 3}
    assert (table[table["metric"] == "row-wins"]["value"] == 0).all()
    if sandbox.triggers:
        assert (right["ceiling"] == 1).all()
        assert (right["no_matching"] == 0.5).all(), "who matches nothing cannot tell the pair from the decoy"
    else:
        assert right[right["task"] == "copy"]["ceiling"].mean() < 1, "a first pair may be no trigger's"
        assert right["no_matching"].isna().all()


@pytest.mark.parametrize("triggers", [{"count": 3, "noise": 0.2}, {"kind": "bernoulli", "rate": 0.3}])
def test_values_and_what_stands_beside_them_equal_a_loop_over_prompts(triggers: dict) -> None:
    sandbox = world(vocab=16, seq_len=20, rows={"high": 2.5}, triggers=only(triggers))
    model = transformer(d_vocab=16, n_ctx=20)
    table = in_context(model, EvaluationSet.held_out(sandbox, 16))
    for kind, distances in zip(KINDS, (4, 1, 4), strict=True):
        task = prompts(sandbox, kind, 128 * distances, PROBE_SEED)
        seen: dict[tuple[str, int], list[tuple[float, ...]]] = {}
        for tokens, answer, distance, end, _ in zip(*task, strict=True):
            prompt = tokens[: end + 1][None]
            law, oracle = model(prompt)[0, -1].log_softmax(-1), sandbox.law(prompt)[0, -1]
            row = int(sandbox.pi[int(prompt[0, -1])].argmax())
            at = int(end - distance)
            one = (
                law.argmax() == answer,
                -law[answer],
                law.argmax() == row,
                oracle.argmax() == answer,
                -oracle[answer],
            )
            for where in (("distance", int(distance)), ("quarter", 4 * at // 20)):
                seen.setdefault(where, []).append(tuple(map(float, one)))
        for (column, number), numbers in seen.items():
            if column == "quarter" and kind == "needle":
                continue
            found = table[(table["task"] == kind) & (table[column] == number)].set_index("metric")
            expected = torch.tensor(numbers).mean(0).tolist()
            assert found["value"].tolist() == pytest.approx(expected[: len(found)], abs=1e-4)
            assert found["ceiling"].tolist()[:2] == pytest.approx(expected[3:], abs=1e-4)
            assert (found["prompts"] == len(numbers)).all()
            spread = torch.tensor(numbers)[:, 1].std() / len(numbers) ** 0.5
            assert found["error"]["in-context-loss"] == pytest.approx(float(spread), rel=1e-3)


def test_a_table_without_context_is_right_as_often_as_its_row_is_and_gains_nothing() -> None:
    sandbox = world(vocab=20, seq_len=24, triggers=only({"kind": "bernoulli", "rate": 0.3, "targets": "row"}))
    data = EvaluationSet.held_out(sandbox, 256)
    table = in_context(bigram(sandbox), data)
    for kind in KINDS:
        task = prompts(sandbox, kind, 128 * (1 if kind == "needle" else 4), PROBE_SEED)
        likeliest = torch.tensor(sandbox.pi).argmax(-1)[task.key] == task.answer
        for distance in task.distance.unique().tolist():
            found = table[(table["task"] == kind) & (table["distance"] == distance)].set_index("metric")["value"]
            at = task.distance == distance
            assert found["in-context-accuracy"] == pytest.approx(float(likeliest[at].float().mean()))
            assert found["in-context-loss"] == pytest.approx(float(-task.row_probability[at].log().mean()), rel=1e-4)
            if kind == "counterfactual":
                assert found["row-wins"] == 1
                assert found["in-context-accuracy"] == 0


def test_context_is_worth_nothing_to_a_table_unless_triggers_differ_and_then_that_stands_beside_it() -> None:
    for triggers in ({"count": 3}, {"kind": "bernoulli", "rate": 0.3, "targets": "row"}):
        sandbox = world(vocab=20, seq_len=24, triggers=only(triggers))
        model = bigram(sandbox)
        model.table.data = torch.tensor(sandbox.best_bigram).log().float()
        data = EvaluationSet.held_out(sandbox, 256)
        worth = in_context(model, data).set_index("metric").loc["icl-against-oracle"]
        assert worth["value"] == pytest.approx(worth["no_context"], abs=1e-4)
        assert worth["ceiling"] == 1
    sandbox = world(vocab=20, seq_len=24, triggers={"count": 3})
    model = bigram(sandbox)
    model.table.data[list(sandbox.triggers)] = 0.0  # its law of targets is uniform too, wherever it stands
    alike = in_context(model, EvaluationSet.held_out(sandbox, 256)).set_index("metric").loc["icl-against-oracle"]
    assert alike["value"] == pytest.approx(0, abs=1e-5)


def test_what_context_is_worth_is_that_of_the_head_score_and_one_for_a_copier(trained) -> None:
    sandbox = world(vocab=20, seq_len=64, triggers={"count": 3})
    data = EvaluationSet.held_out(sandbox, 128)
    positions = predict(induction_network(20, 64), data)
    gain = positions.loss[data.occurrence == 1].mean() - positions.loss[data.occurrence >= 2].mean()
    oracle = data.oracle_loss[data.occurrence == 1].mean() - data.oracle_loss[data.occurrence >= 2].mean()
    table = in_context(induction_network(20, 64), data)
    assert table[table["metric"] == "icl-against-oracle"]["value"].item() == pytest.approx(float(gain / oracle))
    run = trained.run("spt/seed-0")
    ours, heads = md.in_context(run), md.induction_scores(run)
    score = heads[heads["metric"] == "icl-score"]["value"].item()
    assert ours[ours["metric"] == "icl-against-oracle"]["value"].item() == pytest.approx(score, abs=0.05)
