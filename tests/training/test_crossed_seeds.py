"""Seeds of weights, data and teacher apart: every combination, whose numbers stay when more are added."""

from pathlib import Path

import pytest

from mechdistill.config import expand
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run, list_runs
from mechdistill.training import plan, train
from tests.helpers import micro, only

CROSSED = {"init": "0-1", "data": [0, 3]}


def test_every_combination_with_teachers_once_a_seed(tmp_path: Path) -> None:
    runs = expand(micro(seeds=only(CROSSED, teacher=[0, 2])))
    students = [run for run in runs if run.treatment == "spt"]
    assert {(run.init_seed, run.data_seed, run.teacher_seed) for run in students} == {
        (init, data, teacher) for init in (0, 1) for data in (0, 3) for teacher in (0, 2)
    }
    assert all(run.seed == run.init_seed * 1000 + run.data_seed + 10**6 * (run.teacher_seed or 0) for run in students)
    assert [str(run.path) for run in runs if run.is_teacher] == ["teachers/young/seed-0", "teachers/young/seed-2"]
    twins = {run.seed: run for run in runs if run.treatment == "dpt"}
    assert str(twins[2_001_003].teacher_path("young")) == "teachers/young/seed-2"


def test_one_init_seed_begins_alike_on_all_data_and_more_can_be_added(tmp_path: Path) -> None:
    alone = {"arms": only(spt={}), "teachers": only(), "training": {"tokens": 16 * 4 * 2}}
    train(micro(seeds=only(CROSSED), **alone), tmp_path)
    start = {name: Run(tmp_path / "spt" / f"seed-{name}").weights_digest(0) for name in (0, 3, 1000, 1003)}
    assert start[0] == start[3] != start[1000] == start[1003]
    end = {Run(tmp_path / "spt" / f"seed-{name}").weights_digest("last") for name in start}
    assert len(end) == 4
    listed = list_runs(tmp_path).set_index("seed")
    assert listed.loc[1003, ["init_seed", "data_seed", "teacher_seed"]].tolist() == [1, 3, 0]

    more = plan(micro(seeds=only(init=[2], data=[0, 3]), **alone), tmp_path)
    assert [run.seed for run in more.todo] == [2000, 2003]
    assert {each.student for each in more.merged.combinations} == {*start, 2000, 2003}
    with pytest.raises(MechdistillError, match="was made with crossed ones"):
        plan(micro(seeds=[0], **alone), tmp_path)
    assert len(Experiment(tmp_path).runs) == 4


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ({"init": "3-1"}, "seeds.init=.*did you mean 1-3"),
        ({"inits": [0]}, "seeds.inits: unknown key"),
        ({"init": [0, 0]}, "must not repeat a value"),
        ({"data": [1000]}, "seeds.data.0=1000: must be less than 1000"),
    ],
)
def test_what_is_no_crossing_is_refused(seeds: dict[str, object], message: str) -> None:
    with pytest.raises(MechdistillError, match=message):
        micro(seeds=only(seeds))
