import json
from pathlib import Path

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.analysis import all_dynamics, dynamics_of
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.tables import DYNAMICS, DYNAMICS_TWINS, EARLY_WARNING
from mechdistill.training import train
from tests.helpers import mechdistill, micro, only
from tests.training.test_training import opened


@pytest.fixture(scope="module")
def four_seeds(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("dynamics") / "x"
    train(micro(seeds=[0, 1, 2, 3]), out)
    return opened(out)


def planted(experiment: Experiment) -> pd.DataFrame:
    """An `induction-scores` table in which head L1H0 looks things up from a step of the run's own on."""
    scores = md.induction_scores(experiment, "all")
    at = scores["step"] >= scores["arm"].map(lambda arm: 12 if arm == "dpt" else 6)
    chosen = (scores["metric"] == "trigger-lookup") & (scores["layer"] == 1) & (scores["head"] == 0)
    value = (scores["null_mean"] + 0.8).where(chosen & at, scores["null_mean"])
    impostor = ((scores["metric"] == "induction") & at).astype("float64")  # rises, and its null with it
    return scores.assign(value=value + impostor * 0.5, null_mean=scores["null_mean"] + impostor * 0.5)


def test_planted_heads_form_where_they_were_planted_and_an_impostor_never(four_seeds: Experiment) -> None:
    log = pd.concat([run.metrics() for run in four_seeds.runs])
    found = dynamics_of(four_seeds, planted(four_seeds), log)
    runs = found.runs
    assert set(runs["arm"]) == {"spt", "dpt"}, "teachers are no students"
    assert runs["run"].nunique() == 8
    formed = runs[runs["formed"]]
    assert set(formed["metric"]) == {"trigger-lookup"}
    assert formed.groupby("arm")["step"].unique().map(list).to_dict() == {"spt": [6], "dpt": [12]}
    row = found.twins[(found.twins["metric"] == "trigger-lookup") & (found.twins["what"] == "crossing")].iloc[0]
    assert (row["n"], row["difference"]) == (4, pytest.approx(5))  # half-way from 4 to 6, and from 8 to 12
    assert (found.warning["censored"] == 4).all(), "no run copies so soon"
    assert found.warning["error"].isna().all()
    stated = dynamics_of(four_seeds, planted(four_seeds), log, beyond=0.9).runs
    assert not stated["formed"].any()
    assert (stated.loc[stated["metric"] == "trigger-lookup", "threshold"] == 0.9).all()


def test_the_command_gives_each_of_its_tables_and_python_the_same(four_seeds: Experiment) -> None:
    shown = mechdistill("dynamics", four_seeds.path, "--no-figure")
    assert shown.returncode == 0, shown.stderr
    for text in ("when each part forms", "copy-accuracy", "formation step of an unseen seed"):
        assert text in shown.stdout
    for rows, table, mine in (
        ("runs", DYNAMICS, md.dynamics(four_seeds)),
        ("twins", DYNAMICS_TWINS, md.compare_dynamics(four_seeds)),
        ("early-warning", EARLY_WARNING, md.early_warning(four_seeds)),
    ):
        document = json.loads(mechdistill("dynamics", four_seeds.path, "--json", "--rows", rows).stdout)
        assert len(document["rows"]) == len(mine)
        assert list(document["rows"][0]) == [column.name for column in table.columns] == list(mine)
    one = mechdistill("dynamics", four_seeds.path / "spt/seed-0", "--json")
    assert {row["run"] for row in json.loads(one.stdout)["rows"]} == {"spt/seed-0"}


def test_an_arm_in_another_world_is_no_twin_and_bursts_are_told_from_the_rest(tmp_path: Path) -> None:
    other = {"sandbox": {"triggers": {"kind": "fixed", "count": 1}}}
    arms = only(
        {
            "spt": {},
            "easy": other,
            "dense": {"label_smoothing": 0.1, "training": {"burst": {"every": 1, "change": 1e-3}}},
        }
    )
    train(micro(arms=arms, seeds=[0, 1]), tmp_path / "x")
    found = all_dynamics(opened(tmp_path / "x"), formed=0.5)
    assert "left out, in another sandbox than spt: easy seeds 0, 1" in found.left_out
    assert set(found.runs["arm"]) == {"spt", "dense"}
    assert set(found.twins["arm"]) == {"dense"}
    sparse, *dense = (opened(tmp_path / "x").run(name) for name in ("spt/seed-0", "dense/seed-0", "dense/seed-1"))
    assert len(dense[0].steps) > len(sparse.steps)
    seen = found.warning.query("arm == 'dense' and metric != 'copy-accuracy'")["seen"]
    assert set(seen) <= set(dense[0].steps) & set(dense[1].steps)
    with pytest.raises(MechdistillError, match="baseline='spt': one run has no twins"):
        all_dynamics(sparse, baseline="spt")


def test_bad_questions_are_one_line(four_seeds: Experiment) -> None:
    for arguments, message in (
        (("--baseline", "nobody"), "arm 'nobody': no run to compare with"),
        (("--beyond", "0"), "beyond=0.0: must be above 0"),
        (("--formed", "2"), "--formed"),
    ):
        result = mechdistill("dynamics", four_seeds.path, *arguments)
        assert result.returncode == 2
        assert message in result.stderr
    teacher = mechdistill("dynamics", next((four_seeds.path / "teachers").glob("*/seed-*")))
    assert (teacher.returncode, "is a teacher's training, which is no arm" in teacher.stderr) == (2, True)
    with pytest.raises(MechdistillError, match=r"experiment=.*: must be an experiment, as md.load"):
        md.early_warning(four_seeds.runs[0])
