import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mechdistill as md
from mechdistill.analysis import compare, compared, formation_threshold
from mechdistill.errors import MechdistillError
from mechdistill.positions import HELD_OUT
from mechdistill.runs import Experiment
from mechdistill.tables import COMPARISON, OUTCOMES
from mechdistill.tables.metrics import FORMATION
from mechdistill.training import train
from tests.helpers import copied, micro, only, rewritten, world
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
    with pytest.warns(UserWarning, match="left out, in another sandbox than spt: other seeds 0, 1, 2, 3"):
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


def test_formation_counts_tokens_and_says_when_nothing_formed(experiment: Experiment) -> None:
    with pytest.warns(UserWarning, match="left out"):
        never, always = (compare(experiment, formed=formed).set_index("metric") for formed in (1.0, 0.0))
    row = never.loc[FORMATION.name]
    assert (row["threshold"], row["horizon"], row["censored"], row["baseline_censored"]) == (1, 16 * 4 * 24, 4, 4)
    assert row["note"] == f"nothing formed in either arm by {16 * 4 * 24} tokens"
    assert row[["difference", "p", "low"]].isna().all()
    assert row["p_holm"] == 1
    assert always.loc[FORMATION.name, "difference"] == 0
    assert always.loc[FORMATION.name, "censored"] == 0


@pytest.mark.parametrize(
    ("triggers", "noise"),
    [({"count": 3}, 0), ({"count": 1}, 0), ({"count": 3, "noise": 0.3}, 0.3), ({"count": 1, "noise": 0.5}, 0.5)],
    ids=str,
)
def test_the_usual_threshold_lies_between_what_needs_no_circuit_and_the_oracle(triggers: dict, noise: float) -> None:
    sandbox = world(vocab=24, seq_len=32, triggers=triggers)
    threshold = formation_threshold(sandbox)
    batch = sandbox.evaluation(HELD_OUT)
    best, headless, positions = 0, 0, 0
    for tokens, law in zip(batch.sequences.tolist(), sandbox.law(batch.tokens).argmax(-1).tolist(), strict=True):
        for q, token in enumerate(tokens[:-1]):
            if token in sandbox.triggers and token in tokens[:q]:
                positions += 1
                best += law[q] == tokens[q + 1]
                headless += sandbox.mean_pi[token].argmax() == tokens[q + 1]
    assert threshold is not None
    assert headless / positions + 0.03 < threshold < best / positions - 0.03, "never out of reach"
    assert threshold < 1 - noise / 2
    assert formation_threshold(world(triggers={"count": 0})) is None, "nothing can be copied"


def test_two_experiments_are_compared_arm_by_arm(experiment: Experiment, tmp_path: Path) -> None:
    train(micro(seeds=[0, 1, 2], training={"lr": 1e-3}), tmp_path / "slow")
    with pytest.warns(UserWarning, match=r"x: left out, without a finished twin: spt seed 3|left out, an arm that"):
        table = compare(experiment, opened(tmp_path / "slow"))
    assert set(table["arm"]) == {f"{tmp_path / 'slow'}:spt", f"{tmp_path / 'slow'}:dpt"}
    assert set(table["baseline"]) == {f"{experiment.path}:spt", f"{experiment.path}:dpt"}
    assert set(table["n"]) == set(table["expected"]) == {3}
    assert (table[table["metric"] == "loss"]["difference"] > 0).all(), "a lower rate learns less in so few steps"


def test_what_cannot_be_compared_is_refused_in_one_line(experiment: Experiment, tmp_path: Path) -> None:
    with pytest.raises(MechdistillError, match=r"baseline='nobody': .*; there are: dpt, other, spt"):
        compare(experiment, baseline="nobody")
    with pytest.raises(MechdistillError, match=r"only other has finished runs .* in another sandbox than other: spt"):
        compare(experiment, baseline="other")
    train(micro(arms=only({"lonely": {}})), tmp_path / "x")
    with pytest.raises(MechdistillError, match="no arm with finished runs in both"):
        compare(experiment, opened(tmp_path / "x"))


def test_every_run_of_the_experiment_file_is_accounted_for(experiment: Experiment, tmp_path: Path) -> None:
    path = copied(experiment.path, tmp_path / "x")
    shutil.rmtree(path / "dpt/seed-2")
    rewritten(path / "spt/seed-3", "status.json", state="failed")
    result = compared(opened(path))
    assert (result.used, result.named) == (4, 12)
    assert result.left_out == [
        "left out, in another sandbox than spt: other seeds 0, 1, 2, 3",
        "left out, without a finished twin: spt seed 2; dpt seed 3",
        "left out, missing: dpt seed 2",
        "left out, not finished: spt seed 3",
    ]
    assert set(result.table["n"]) == {2}
    assert set(result.table["expected"]) == {4}
    assert set(result.table.dropna(subset="p_holm")["p_holm"]) == {1}, "too few pairs are no answer"


def test_unfinished_runs_are_left_out_with_a_warning(tmp_path: Path) -> None:
    count = iter(range(110))
    train(micro(seeds=[0, 1]), tmp_path / "x", stopped=lambda: next(count, None) is None)
    with pytest.warns(UserWarning, match="left out, "):
        table = compare(opened(tmp_path / "x"))
    assert isinstance(table, pd.DataFrame)
    assert set(table["n"]) == {1}
    assert set(table["expected"]) == {2}
    assert table["low"].isna().all(), "no interval from one seed"


def test_warm_starts_are_held_against_what_begins_where_they_do(tmp_path: Path) -> None:
    """`spt` begins at random weights: against it, what the checkpoint had seen would pass for the teaching."""
    start = {"init": {"arm": "spt", "step": 12}, "training": {"tokens": 16 * 4 * 6}}
    arms = only({"spt": {}, "spt-on": start, "taught-on": {**start, "alpha": 0.9, "teacher": "oracle"}})
    train(micro(arms=arms, teachers=only(oracle={"kind": "oracle"}), seeds=[0, 1, 2]), tmp_path / "x")
    with pytest.warns(UserWarning, match="left out, begun at other weights than spt-on: spt seeds 0, 1, 2"):
        table = compare(opened(tmp_path / "x"))
    assert set(table["baseline"]) == {"spt-on"}
    assert set(table["arm"]) == {"taught-on"}
    with pytest.raises(MechdistillError, match=r"only spt has finished runs beside it; .*begun at other weights"):
        compare(opened(tmp_path / "x"), baseline="spt")
