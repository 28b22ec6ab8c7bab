from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mechdistill as md
from mechdistill.analysis import compare, outcomes
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.tables import COMPARISON, OUTCOMES
from mechdistill.tables.metrics import FORMATION
from mechdistill.training import train
from tests.helpers import micro, only
from tests.training.test_training import opened


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("compare") / "x"
    train(micro(seeds=[0, 1, 2, 3], arms={"other": {"sandbox": {"triggers": {"count": 0}}}}), out)
    return opened(out)


def last(run: md.Run, metric: str, occurrence: str | None) -> float:
    rows = run.metrics()
    rows = rows[(rows["metric"] == metric) & rows["bucket"].isna() & (rows["step"] == rows["step"].max())]
    rows = rows[rows["occurrence"].isna()] if occurrence is None else rows[rows["occurrence"] == occurrence]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def test_every_row_is_the_paired_difference_of_twins_at_the_last_evaluation(experiment: Experiment) -> None:
    with pytest.warns(UserWarning, match="left out: other"):
        table = compare(experiment)
    assert list(table.columns) == [c.name for c in COMPARISON.columns]
    assert set(table["arm"]) == {"dpt"}
    assert set(table["baseline"]) == {"spt"}
    for name, outcome in OUTCOMES.items():
        if outcome.metric is FORMATION:
            continue  # of the whole run
        by_arm = {
            arm: [
                last(experiment.run(f"{arm}/seed-{seed}"), outcome.metric.name, outcome.occurrence) for seed in range(4)
            ]
            for arm in ("spt", "dpt")
        }
        row = table[table["metric"] == name].iloc[0]
        test = stats.ttest_rel(by_arm["dpt"], by_arm["spt"])
        assert row["n"] == 4
        assert row["difference"] == pytest.approx(np.mean(by_arm["dpt"]) - np.mean(by_arm["spt"]))
        assert row["p"] == pytest.approx(test.pvalue)
        assert (row["low"], row["high"]) == pytest.approx(tuple(test.confidence_interval()))


def test_holm_covers_the_primaries_alone(experiment: Experiment) -> None:
    with pytest.warns(UserWarning, match="left out"):
        table = compare(experiment)
    assert set(table[table["p_holm"].notna()]["metric"]) <= {
        name for name, outcome in OUTCOMES.items() if outcome.primary
    }
    assert table[table["metric"] == "loss"]["p_holm"].isna().all()


def test_formation_counts_tokens_and_runs_that_never_form_count_as_the_horizon(experiment: Experiment) -> None:
    runs = [(run.config.treatment, run) for run in experiment.runs if run.config.treatment in ("spt", "dpt")]
    never = outcomes(runs, formed=1.0)
    assert set(never[never["metric"] == FORMATION.name]["value"]) == {16 * 4 * 24}
    always = outcomes(runs, formed=0.0)
    assert set(always[always["metric"] == FORMATION.name]["value"]) == {0}


def test_two_experiments_are_compared_arm_by_arm(experiment: Experiment, tmp_path: Path) -> None:
    train(micro(seeds=[0, 1, 2], training={"lr": 1e-3}), tmp_path / "slow")
    table = compare(experiment, opened(tmp_path / "slow"))
    assert set(table["arm"]) == {f"{tmp_path / 'slow'}:spt", f"{tmp_path / 'slow'}:dpt"}
    assert set(table["baseline"]) == {f"{experiment.path}:spt", f"{experiment.path}:dpt"}
    assert set(table["n"]) == {3}
    assert (table[table["metric"] == "loss"]["difference"] > 0).all(), "a lower rate learns less in so few steps"


def test_what_cannot_be_compared_is_refused_in_one_line(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(MechdistillError, match=r"baseline='nobody': .*; there are: dpt, other, spt"):
        compare(experiment, baseline="nobody")
    with (
        pytest.warns(UserWarning, match="left out: dpt, spt"),
        pytest.raises(MechdistillError, match="only other has finished runs in its sandbox"),
    ):
        compare(experiment, baseline="other")
    train(micro(arms=only({"lonely": {}})), tmp_path / "x")
    with pytest.raises(MechdistillError, match="no arm with finished runs in both"):
        compare(experiment, opened(tmp_path / "x"))


def test_unfinished_runs_are_left_out_with_a_warning(tmp_path: Path) -> None:
    count = iter(range(110))
    train(micro(seeds=[0, 1]), tmp_path / "x", stopped=lambda: next(count, None) is None)
    with pytest.warns(UserWarning, match="runs are not finished, left out"):
        table = compare(opened(tmp_path / "x"))
    assert isinstance(table, pd.DataFrame)
    assert set(table["n"]) == {1}
    assert table["low"].isna().all(), "no interval from one seed"
