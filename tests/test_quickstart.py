"""The claims about the default preset, on the real thing: two seeds, minutes of training."""

from pathlib import Path

import pytest

import mechdistill as md
from mechdistill.config import load_experiment
from mechdistill.runs import Experiment, load
from mechdistill.training import train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def spt(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out: Path = tmp_path_factory.mktemp("study") / "quickstart"
    config = load_experiment(settings=["arms={spt: {alpha: 0.0}}", "seeds=[0, 1]"])
    assert {outcome.state for outcome in train(config, out, jobs=2)} == {"finished"}
    experiment = load(out)
    assert isinstance(experiment, Experiment)
    return experiment


def test_spt_forms_the_copy_circuit_in_every_seed(spt: Experiment) -> None:
    for run in spt.runs:
        last = run.metrics().query("step == step.max() and occurrence == '2+'").set_index("metric")["value"]
        assert last["copy-accuracy"] >= 0.95, run.name
        assert last["no-matching-accuracy"] < 0.6, "the baseline must leave room for a circuit"


def test_knocking_out_the_lookup_heads_costs_five_times_its_control(spt: Experiment) -> None:
    effects = md.ablate(spt).query("metric == 'copy-loss-delta' and ablation == 'mean' and mode == 'full'")
    for run, rows in effects.groupby("run"):
        lookup = rows[rows["what"] == "lookup"]["value"].item()
        controls = rows[rows["what"] == "lookup: outside"]["value"]
        if controls.empty:  # every head of the layer belongs to the circuit
            controls = rows[rows["what"] == "lookup: removed subspace"]["value"]
        assert lookup >= 5 * controls.mean() > 0, run


def test_scores_rise_from_chance(spt: Experiment) -> None:
    scores = md.induction_scores(spt).query("metric == 'trigger-lookup'")
    best = scores.loc[scores.groupby("run")["value"].idxmax()]
    assert (best["value"] > 0.9).all()
    assert (best["null_max"] < 0.2).all()
    assert (best["untrained"] < 0.1).all()


def test_in_a_bernoulli_world_heads_become_general_induction_heads(tmp_path: Path) -> None:
    config = load_experiment(preset_name="general", settings=["arms={spt: {alpha: 0.0}}"])
    assert {outcome.state for outcome in train(config, tmp_path / "general")} == {"finished"}
    for run in load(tmp_path / "general").runs:
        last = run.metrics().query("step == step.max() and occurrence == '2+'").set_index("metric")["value"]
        assert last["copy-accuracy"] >= 0.95, run.name
        assert last["no-matching-accuracy"] < 0.6, "the baseline must leave room for a circuit"
        general = md.induction_scores(run).query("metric == 'induction'")
        assert general["value"].max() > 0.4 > 10 * general["chance"].max()
        assert general["untrained"].max() < 0.1
