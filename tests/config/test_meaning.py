"""Arms that would be simpler arms under another name, and runs that would lie in one directory, are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.config import RunConfig, expand
from mechdistill.errors import MechdistillError
from tests.helpers import micro

PARTS = {"oracle": {"kind": "oracle"}, "flat": {"kind": "uniform"}, "truth": {"kind": "oracle"}}


def arm(**settings: Any) -> dict[str, Any]:
    return {"teachers": PARTS, "arms": {"x": {"alpha": 0.5, "teacher": "young"} | settings}}


def taught_by(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"teachers": {**PARTS, "t": settings}, "arms": {"x": {"alpha": 0.5, "teacher": "t"} | more}}


BLIND = {"signal": "random", "quantile": 0.5}
BY_CLASS = {"kind": "by-occurrence", "ordinary": 0.9, "first": 0.5}
WHOLE: list[dict[str, Any]] = [  # each term weighs on all positions at a time, or on none
    {},
    {"alpha": 1},
    {"alpha": 0, "teacher": None, "ce_weights": {"copyable": 0.1}},
    {"alpha": {"kind": "linear", "start": 1, "end": 0}},
    {"alpha": {"kind": "stages", "stages": [[0, 1], [0.5, 0]]}},
    {"alpha": {**BY_CLASS, "copyable": 0.1}},
    {"ce_weights": {"ordinary": 0, "first": 0, "copyable": 0}},
]
PARTIAL: list[dict[str, Any]] = [
    {"routing": BLIND},
    {"alpha": 1, "routing": BLIND | {"keep": 1}},
    {"alpha": 1, "routing": BLIND},
    {"alpha": 0, "teacher": None, "ce_weights": {"copyable": 0}},
    {"alpha": {"kind": "stages", "stages": [[0, 0.5], [0.5, 0]]}, "routing": BLIND | {"keep": 1}},
    {"alpha": {**BY_CLASS, "copyable": 0}},
    {"alpha": {**BY_CLASS, "copyable": 1}},
]


EQUAL = [
    (arm(alpha={"kind": "linear", "start": 0, "end": 0}), "is standard training (SPT); leave alpha out"),
    (arm(alpha={"kind": "cosine", "start": 0.5, "end": 0.5}), "is alpha: 0.5; write that"),
    (arm(alpha={"kind": "stages", "stages": [[0, 0]]}), "is standard training (SPT); leave alpha out"),
    (arm(alpha={"kind": "stages", "stages": [[0, 0.3], [0.5, 0.3]]}), "the one from 0.5 on is 0.3, like the one"),
    (arm(alpha={"kind": "stages", "stages": [[0, 0.3], [0.99, 0.1]]}), "none of the 24 steps of training lies in"),
    (arm(alpha={"kind": "by-occurrence", "ordinary": 0, "first": 0, "copyable": 0}), "is standard training (SPT)"),
    (arm(alpha={"kind": "by-occurrence", "ordinary": 1, "first": 1, "copyable": 1}), "is alpha: 1"),
    (arm(alpha={"kind": "optimal"}, teacher="oracle"), "alpha=optimal: is 1 everywhere with the oracle"),
    (
        arm(alpha={"kind": "by-occurrence", "ordinary": 0.5, "first": 1, "copyable": 1}, ce_weights={"first": 2}),
        "ce_weights.first=2: has no effect where alpha is 1",
    ),
    (
        arm(
            alpha={"kind": "by-occurrence", "ordinary": 0.5, "first": 0.5, "copyable": 0},
            routing={"signal": "oracle-class"},
        ),
        "routing.signal=oracle-class: routes where alpha is 0 already",
    ),
    (
        arm(routing={"signal": "random", "quantile": 1, "keep": 1}),
        "routes all of 16 positions, which equals an arm wit",
    ),
    (arm(routing={"signal": "teacher-entropy", "quantile": 0}), "routes none of 16 positions"),
    (arm(routing={"signal": "teacher-entropy", "quantile": 0.03}), "routes none of 16 positions"),
    (arm(routing={"signal": "teacher-entropy", "quantile": 0.99}), "routes all of 16 positions"),
    (arm(routing={"signal": "teacher-entropy", "nats": 2.5}), "with tail=low routes all positions"),
    (arm(routing={"signal": "student-entropy", "nats": 0, "tail": "high"}), "with tail=high routes all positions"),
    (arm(routing={"signal": "student-entropy", "nats": 9, "tail": "high"}), "with tail=high routes no position"),
    (arm(divergence={"kind": "normalised-jsd", "beta": 0}), "divergence.beta=0: must be greater"),
    (arm(divergence={"kind": "normalised-jsd", "beta": 1}), "divergence.beta=1: must be less"),
    (arm(teacher="flat", temperature=2.0), "temperature=2: changes nothing of flat"),
    (taught_by({"kind": "top-k", "of": "young", "k": 1}, temperature=2.0), "temperature=2: changes nothing of t"),
    (taught_by({"kind": "noisy", "epsilon": 0}), "teachers.t.epsilon=0: must be greater than 0"),
    (taught_by({"kind": "noisy", "epsilon": 1}), "equals kind: uniform"),
    (taught_by({"kind": "noisy", "below": 2.6}), "below=2.6: is everywhere"),
    (taught_by({"kind": "tilted", "below": 2.6}), "below=2.6: is everywhere"),
    (taught_by({"kind": "noisy", "of": "flat"}), "equals flat; use that"),
    (taught_by({"kind": "permuted", "of": "flat"}), "equals flat; use that"),
    (taught_by({"kind": "top-k", "of": "young", "k": 12}), "keeps all 12 tokens, which equals the teacher young"),
    (taught_by({"kind": "temperature", "of": "young", "temperature": 1}), "equals the teacher young; use that"),
    (taught_by({"kind": "ensemble", "of": ["young", "young"]}), "equals that teacher"),
    (taught_by({"kind": "splice", "copyable": "young", "elsewhere": "young"}), "equals that teacher"),
    (taught_by({"kind": "ensemble", "of": ["oracle", "truth"]}), "t is of equal teachers, which equals oracle"),
    (taught_by({"kind": "progressive", "of": "young", "stages": [[0, 1]]}), "equals the teacher young"),
    (taught_by({"kind": "progressive", "of": "young", "stages": [[0, 0.5], [0.5, 0.5]]}), "drop it"),
    (taught_by({"kind": "progressive", "of": "young", "stages": [[0, 0.5], [0.99, 1]]}), "none of the 24 steps"),
    (taught_by({"kind": "ema", "decay": 0}), "is the student itself"),
    *((arm(normalise="per-term", **settings), "normalise=per-term: has no effect") for settings in WHOLE),
    (arm(normalise="per-term", alpha={"kind": "optimal"}, routing=BLIND), "hangs on rounding; drop one"),
]


@pytest.mark.parametrize(("changes", "said"), EQUAL, ids=lambda value: value if isinstance(value, str) else "")
def test_a_setting_without_effect_is_refused_and_says_what_it_equals(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MechdistillError) as error:
        micro(**changes)
    assert said in str(error.value)
    assert str(error.value).startswith(("arms.x.", "teachers.t."))


@pytest.mark.parametrize("settings", PARTIAL, ids=str)
def test_each_term_may_have_its_own_mean_where_it_weighs_on_some_positions_only(settings: dict[str, Any]) -> None:
    (config,) = [run for run in expand(micro(**arm(normalise="per-term", **settings))) if run.treatment == "x"]
    assert config.objective.normalise == "per-term"


def test_documented_defaults_may_be_written_out() -> None:
    written = micro(
        arms={
            "spt": {"alpha": 0.0, "label_smoothing": 0, "ce_weights": {"copyable": 1}, "normalise": "all"},
            "dpt": {"alpha": 0.9, "teacher": "young", "temperature": 1.0, "soften": "teacher"},
        },
        lr_scales=[1],
    )
    assert expand(written) == expand(micro())


SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"alpha": 0.0}),
    ({}, {"training": {"evaluate_every": 7, "checkpoint_every": 3}}),
    ({}, {"training": {"tokens": 16 * 4 * 24 - 5}}),
    ({}, {"model": {"d_head": 8, "n_kv_heads": 2}}),
    ({}, {"model": {"act": "relu"}}),  # there is no MLP
    ({"model": {"kind": "bigram"}}, {"model": {"kind": "bigram", "n_layers": 1}}),
    ({"alpha": 0.5, "teacher": "oracle"}, {"alpha": 0.5, "teacher": "truth"}),
    (
        {"alpha": 0.5, "teacher": "oracle", "routing": {"signal": "random", "quantile": 0.5}},
        {"alpha": 0.5, "teacher": "oracle", "routing": {"signal": "random", "quantile": 0.51}},
    ),
    ({"label_smoothing": {"match": "dpt"}}, {"label_smoothing": {"match": "dpt"}}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_arms_that_train_the_same_runs_are_refused(one: dict[str, Any], other: dict[str, Any]) -> None:
    teachers = {"oracle": {"kind": "oracle"}, "truth": {"kind": "oracle"}}
    with pytest.raises(MechdistillError, match=r"arms\.b: its run b equals (a|spt) in all but the name"):
        micro(teachers=teachers, arms={"a": {"training": {"lr": 1e-3}, **one}, "b": _at(1e-3, other)})


@pytest.mark.parametrize("settings", [{"alpha": 1e-20, "teacher": "young"}, {"label_smoothing": 1e-12}])
def test_a_weight_that_is_lost_in_float32_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(MechdistillError, match=r"must be 0 or at least 1e-06"):
        micro(arms={"x": settings})


def _at(lr: float, settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "training": {"lr": lr, **settings.get("training", {})}}


def test_entries_that_are_seeded_by_name_are_not_the_same() -> None:
    drawn = {"kind": "sampled", "of": "young", "n": 1}
    micro(
        teachers={"s": drawn, "t": drawn, "old": {"kind": "checkpoint", "training": {"tokens": 16 * 4 * 8}}},
        arms={name: {"alpha": 0.5, "teacher": name} for name in ("s", "t", "old", "young")},
    )


def _bits(run: RunConfig) -> str:
    looking = {"evaluate_every": 1, "checkpoint_every": 1, "eval_sequences": 1}
    training = run.training.model_copy(update=looking)
    return run.model_copy(update={"treatment": "", "training": training}).model_dump_json()


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "ce_weights": st.fixed_dictionaries({}, optional={"copyable": st.sampled_from([0.0, 1.0])}),
                "label_smoothing": st.sampled_from([0, 0.1]),
                "training": st.fixed_dictionaries(
                    {}, optional={"lr": st.sampled_from([1e-3, 3e-3]), "evaluate_every": st.sampled_from([5, 6])}
                ),
                "model": st.fixed_dictionaries({}, optional={"n_heads": st.sampled_from([1, 2])}),
            },
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_two_runs_of_an_accepted_experiment_resolve_alike(arms: list[dict[str, Any]]) -> None:
    refused = ""
    try:
        config = micro(arms={f"a{i}": each for i, each in enumerate(arms)})
    except MechdistillError as error:
        refused = str(error)
    else:
        runs = [_bits(run) for run in expand(config)]
        assert len(set(runs)) == len(runs)
    assert refused == "" or "equals" in refused


TRUNK = {"schedule": "trunk", "tokens": 16 * 4 * 40}
ONE_DIRECTORY = [
    ({"lr_scales": [1, 0.3, 0.1 + 0.2]}, "lr_scales=[1.0, 0.3, 0.30000000000000004]: 0.30000000000000004 and 0.3 are"),
    ({"lr_scales": [1.0000001]}, "lr_scales=[1.0000001]: 1.0000001 and 1 are both written 1"),
    ({"arms": {"SPT": {"label_smoothing": 0.1}}}, "arms.SPT: differs from spt in case only"),
    ({"teachers": {"Young": {"kind": "oracle"}}}, "teachers.Young: differs from young in case only"),
    ({"arms": {"Figures": {}}}, "arms.Figures: 'figures' is a reserved name"),
    ({"arms": {"NUL": {}}}, "arms.NUL='NUL': must be another name"),
    ({"arms": {"e\u0301": {}}}, "must be 1 to 64 letters"),
    ({"arms": {"spt.": {}}}, "must be 1 to 64 letters"),
    (
        {"arms": {"spt": {"training": TRUNK | {"branches": [16 * 4 * 20]}}, "spt-at-1280": {}}},
        "arms.spt-at-1280: is also what an arm at another rate or a branch is called",
    ),
    (
        {"arms": {"x": {"training": TRUNK | {"branches": [16 * 4 * 4], "anneal": 0.9}}}},
        "the one of 256 tokens has 4 steps and would anneal over all of them, leaving its trunk at step 0",
    ),
    (
        {"arms": {"x": {"training": TRUNK | {"branches": [16 * 4 * 20], "anneal": 0.01}}}},
        "the one of 1280 tokens has 20 steps and would anneal over its last one alone, at the full rate",
    ),
    (
        {"arms": {"x": {"training": TRUNK | {"branches": [16 * 4 * 20 - 1, 16 * 4 * 20]}}}},
        "has 20 steps like another",
    ),
]


@pytest.mark.parametrize(("changes", "said"), ONE_DIRECTORY)
def test_runs_that_could_not_lie_beside_each_other_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(MechdistillError) as error:
        micro(**changes)
    assert said in str(error.value)


@given(st.floats(0.01, 0.99), st.integers(1, 40))
def test_a_branch_that_is_accepted_leaves_its_trunk_after_it_has_begun(anneal: float, steps: int) -> None:
    training = TRUNK | {"branches": [64 * steps], "anneal": anneal}
    try:
        config = micro(arms={"x": {"training": training}})
    except MechdistillError:
        return
    starts = [run.branch.start for run in expand(config) if run.branch]
    assert starts
    assert all(1 <= start <= steps - 2 for start in starts)


def test_a_warm_up_that_outlasts_training_is_said() -> None:
    assert micro().remarks() == []
    (line,) = micro(training={"warmup": 96}).remarks()
    assert line.startswith("training.warmup=96: is longer than the 24 steps of training")
    assert "0.25 of training.lr" in line
