"""The scorecard of trained runs: its numbers from the runs' own tables, and those of their tables without context."""

import json
from pathlib import Path

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import Experiment
from mechdistill.stats import row_gain_slope
from mechdistill.tables import LATER, frame, last_step, metrics, pick
from mechdistill.tables._schemas import METRICS_LOG
from mechdistill.training import train
from tests.helpers import mechdistill, micro, only
from tests.training.test_training import opened

ARMS = {
    "plain": {},
    "taught": {"alpha": 0.9, "teacher": "imperfect"},
    "perfect": {"alpha": 0.9, "teacher": "oracle"},
}
TEACHERS = {"oracle": {"kind": "oracle"}, "imperfect": {"kind": "splice", "copyable": "young", "elsewhere": "oracle"}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("claims") / "x"
    train(micro(arms=only(ARMS), teachers=TEACHERS, seeds=[0, 1, 2]), out)
    return opened(out)


@pytest.fixture(scope="module")
def card(study: Experiment) -> pd.DataFrame:
    return md.claims(study)


def excess(log: pd.DataFrame) -> float:
    return float(pick(last_step(log), metrics.COPY_EXCESS, LATER)["value"].item())


def test_effects_are_those_of_the_runs_and_the_nulls_of_their_tables(study: Experiment, card: pd.DataFrame) -> None:
    line = card[card["claim"] == "C3"].iloc[0]
    assert line["arms"] == "dpt-90: taught, spt: plain"
    runs = [(study.run(f"taught/seed-{seed}"), study.run(f"plain/seed-{seed}")) for seed in range(3)]
    assert line["effect"] == pytest.approx(sum(excess(a.metrics()) - excess(b.metrics()) for a, b in runs) / 3)
    assert line["n"] == 3

    def table(run: md.Run) -> float:
        data = EvaluationSet.held_out(run.world, run.config.training.eval_sequences)
        rows = frame(METRICS_LOG, inline_metrics(predict(md.tabular_null(run), data)))
        return excess(rows.assign(run=run.name, step=1))

    assert line["null_effect"] == pytest.approx(sum(table(a) - table(b) for a, b in runs) / 3)

    slopes = row_gain_slope(md.row_curves(study), "perfect", "plain")
    first = card[card["claim"] == "C1"]["effect"].iloc[0]
    assert first == pytest.approx(sum(gain.slope for gain in slopes.values()) / 3)
    scores = md.induction_scores(study)
    best = scores[scores["metric"] == "trigger-lookup"].groupby(["arm", "seed"])["value"].max()
    lookup = card[card["criterion"].str.startswith("Δ trigger-lookup")]["effect"].iloc[0]
    assert lookup == pytest.approx((best["taught"] - best["plain"]).mean())


def test_what_needs_other_arms_is_not_tested_and_the_command_says_the_same(
    study: Experiment, card: pd.DataFrame
) -> None:
    verdicts = card.drop_duplicates("claim").set_index("claim")["claim_verdict"]
    assert set(verdicts[["C4b", *(f"C{i}" for i in range(5, 13))]]) == {"not tested"}
    result = mechdistill("claims", study.path, "--json", "--no-null")
    assert result.returncode == 0, result.stderr
    rows = pd.DataFrame(json.loads(result.stdout)["rows"])
    assert rows["verdict"].tolist() == card["verdict"].tolist()
    assert rows["effect"].dropna().tolist() == pytest.approx(card["effect"].dropna().tolist())
    assert rows["null_effect"].isna().all()
    told = mechdistill("claims", study.path, "--no-figure", "--no-null")
    for claim, verdict in verdicts.items():
        assert f"{claim} " in told.stdout
        assert verdict in next(line for line in told.stdout.splitlines() if line.startswith(f"{claim} "))
    assert "C4b: not tested: no arm beside taught is spt-downweight" in told.stderr


def test_one_run_and_crossed_seeds_are_refused(study: Experiment, tmp_path: Path) -> None:
    with pytest.raises(MechdistillError, match="must be an experiment"):
        md.claims(study.run("plain/seed-0"))  # pyright: ignore[reportArgumentType]
    crossed = {"init": "0-2", "data": "0-2"}
    train(micro(arms=only(plain={}), teachers=only(), seeds=only(crossed), training={"tokens": 16 * 4 * 6}), tmp_path)
    with pytest.raises(MechdistillError, match="seeds are crossed, so that pairs are not independent"):
        md.claims(opened(tmp_path))
    shares = md.variance_shares(opened(tmp_path))
    losses = {
        (run.config.init_seed, run.config.data_seed): float(
            pick(last_step(run.metrics()), metrics.LOSS, None)["value"].item()
        )
        for run in opened(tmp_path).runs
    }
    cells = pd.Series(losses).unstack().to_numpy()
    by_init, by_data, all_ = cells.mean(axis=1), cells.mean(axis=0), cells.mean()
    rest = ((cells - by_init[:, None] - by_data[None] + all_) ** 2).sum() / 4
    expected = {
        "init": max(0.0, by_init.var(ddof=1) - rest / 3),
        "data": max(0.0, by_data.var(ddof=1) - rest / 3),
        "rest": rest,
    }
    found = shares[shares["metric"] == metrics.LOSS.name].set_index("factor")["variance"]
    assert found.to_dict() == pytest.approx(expected)
