"""The manipulation checks of a trained experiment: as stored, as printed, and as computed from its models alone."""

from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

import mechdistill as md
from mechdistill.cli._checks import about_teaching, check_tables, stops
from mechdistill.config import load_experiment
from mechdistill.runs import Experiment
from mechdistill.sandbox import Sandbox
from mechdistill.tables import TRAINED, frame, metrics
from mechdistill.training import train
from tests.helpers import copied, micro, only
from tests.training.test_training import opened

ROUTED = {"alpha": 0.9, "teacher": "young", "routing": {"signal": "teacher-entropy", "quantile": 0.2}}
OPPOSITE = {"alpha": 1, "teacher": "young", "routing": ROUTED["routing"] | {"tail": "high", "quantile": 0.8, "keep": 1}}
BLIND = {"alpha": 0.9, "teacher": "young", "routing": {"signal": "random", "quantile": 0.2}}


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("checks") / "x"
    until = {"until": {metrics.COPY_ACCURACY.name: 0.01}}
    train(micro(arms={"routed": ROUTED, "blind": BLIND, "opposite": OPPOSITE}, teachers={"young": until}), out)
    return opened(out)


@torch.no_grad()
def by_hand(experiment: Experiment) -> dict[str, float]:
    """KL(oracle ‖ model) at ordinary positions of teacher over twin, the teacher's mass, and the copyable share."""
    world = experiment.runs[0].sandbox
    batch = world.evaluation(16)
    labels = world.labels(batch.tokens, batch.triggers)
    oracle = labels.log_probs.double()
    laws = {
        name: experiment.run(name).model()(batch.tokens).double().log_softmax(-1)
        for name in ("teachers/young/seed-0", "spt/seed-0")
    }
    kls = [
        torch.where(oracle > -torch.inf, oracle.exp() * (oracle - law), 0).sum(-1)[labels.occurrence == 0].mean()
        for law in laws.values()
    ]
    mass = laws["teachers/young/seed-0"].exp().gather(-1, batch.next_tokens[..., None])[labels.occurrence >= 2].mean()
    share = (labels.occurrence >= 2).double().mean()
    return {"ratio": float(kls[0] / kls[1]), "mass": float(mass), "share": float(share)}


def test_checks_are_those_of_the_models_and_are_stored(routed: Experiment) -> None:
    expected, table = by_hand(routed), md.checks(routed)
    assert set(table["arm"]) == {"dpt", "routed", "blind", "opposite"}
    assert set(table[table["check"] == "routing-gain"]["arm"]) == {"routed"}
    for _, rows in table.groupby("arm"):
        values = rows.set_index("check")["value"]
        assert values["teacher-rows"] == pytest.approx(expected["ratio"], rel=1e-4)
        assert values["teacher-copying"] == pytest.approx(expected["mass"], rel=1e-4)
    own = table[table["arm"] == "routed"].set_index("check")["value"]
    assert own["routing-gain"] == pytest.approx(own["realised-precision"] / expected["share"], rel=1e-6)
    pd.testing.assert_frame_equal(pd.read_parquet(routed.path / "checks.parquet"), table, check_dtype=False)


def test_an_experiment_that_teaches_nobody_has_no_checks(tmp_path: Path) -> None:
    train(micro(arms=only({"spt": {}})), tmp_path / "x")
    assert md.checks(opened(tmp_path / "x")).empty
    assert not (tmp_path / "x/checks.parquet").exists()
    assert list(check_tables(md.checks(opened(tmp_path / "x")))) == []


def test_a_damaged_run_is_left_out_by_name(routed: Experiment, tmp_path: Path) -> None:
    out = copied(routed.path, tmp_path / "x")
    (out / "spt/seed-0/metrics.parquet").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out of the manipulation checks: .*spt/seed-0/metrics.parquet: corrupt"):
        table = md.checks(opened(out)).set_index(["arm", "check"])
    assert table.loc[("dpt", "teacher-rows"), "passed"] is pd.NA, "without its twin nobody can say"
    assert table.loc[("dpt", "teacher-copying"), "passed"] is not pd.NA


def test_what_the_terminal_and_json_say_of_teaching(routed: Experiment) -> None:
    checks, text = md.checks(routed), StringIO()
    console = Console(file=text, width=100)
    for table in check_tables(checks):
        console.print(table)
    for word in ("routing-gain", "realised-precision", "realised-recall", ">= 2", "<= 0.5", "0.6 to 0.9", "no"):
        assert word in text.getvalue()
    rows = [
        {"run": run.name, "step": run.status["step"], **about_teaching(run, run.metrics(), checks)}
        for run in routed.runs
    ]
    results = frame(TRAINED, rows).set_index("run")
    assert results.loc["routed/seed-0", "failed_checks"].startswith("teacher-rows")
    assert pd.isna(results.loc["spt/seed-0", "failed_checks"])
    assert 0 <= results.loc["blind/seed-0", "routing-recall"] <= 1
    teacher = results.loc["teachers/young/seed-0"]
    assert teacher["stopped_at"] >= teacher["until"] == 0.01
    (line,) = stops(results.reset_index())
    assert line.startswith("teachers/young/seed-0: stopped at step 5, copy-accuracy 0.")
    assert line.endswith("(asked for: 0.01)")


@pytest.mark.parametrize(("preset", "routes"), [("routing", True), ("paper", False)])
def test_routing_can_route_in_the_world_that_is_made_for_it(preset: str, routes: bool) -> None:
    """By a teacher that is the oracle, but gives 15 % (as `leaky` learns) of what it could copy to the row instead."""
    config = load_experiment(preset_name=preset)
    world = Sandbox(config.sandbox)
    batch = world.evaluation(128)
    labels = world.labels(batch.tokens, batch.triggers)
    copyable = labels.occurrence >= 2
    leaked = 0.85 * labels.log_probs.exp() + 0.15 * world.log_pi[batch.tokens].exp()
    law = torch.where(copyable[..., None], leaked, labels.log_probs.exp())
    entropy = -torch.xlogy(law, law).sum(-1)
    routing = config.arms["dpt-90-routed"].routing
    assert routing is not None
    assert routing.quantile == 0.15
    lowest = entropy.argsort(dim=-1)[:, :10]  # of 64
    precision = copyable.gather(-1, lowest).double().mean()
    assert (precision >= 2 * copyable.double().mean()) == routes
