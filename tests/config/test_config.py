import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.config import (
    RunConfig,
    expand,
    experiment,
    load_experiment,
    parse_yaml,
    preset_names,
    preset_text,
    to_yaml,
)
from mechdistill.errors import MechdistillError
from tests.helpers import micro

BAD = {
    "training.lrr=1": "training.lrr: unknown key; did you mean 'lr'?",
    "lr=3": "unknown key 'lr'; did you mean 'training.lr'?",
    "trainig.lr=3": "did you mean 'training",
    "arms.dpt-90.alpha=1.2": "arms.dpt-90.alpha=1.2: must be less than or equal to 1",
    "arms.dpt-90.alpha=true": "arms.dpt-90.alpha=True: must be a number",
    "arms.dpt-90.teacher=nobody": "must name an entry of teachers (defined: half-formed, imperfect, oracle)",
    "arms.dpt-90.teacher=null": "arms.dpt-90.alpha=0.9: needs a teacher",
    "arms.spt.temperature=2.0": "arms.spt.alpha=0: temperature would have no effect",
    "arms.teachers={}": "'teachers' is a reserved name",
    "arms.spt.training={lrx: 3}": "arms.spt.training.lrx: unknown key; did you mean 'lr'?",
    "arms.spt.training={lr: -1}": "arms.spt.training.lr=-1: must be greater than 0",
    "teachers.half-formed.model={n_heads: 3}": "teachers.half-formed.model.n_heads=3: must divide d_model",
    "teachers.half-formed.until={copy-acuracy: 0.5}": "must be 'copy-accuracy'",
    "sandbox.triggers.count=70": "sandbox.triggers.count=70: must be at most vocab - 4 = 60",
    "sandbox.triggers.tokens=[3, 99, 4, 5, 6]": "triggers.tokens=99: must be between 0 and vocab - 1",
    "sandbox.triggers.noise=1.0": "must be less than 1",
    "sandbox.rows.high=4.2": "rows.high=4.2: must be at most ln(vocab) = 4.1589",
    "sandbox.rows.low=4.1": "rows.low=4.1: must be at most rows.high=4.0",
    "training.lr=nan": "training.lr='nan': must be a number",
    "training.lr=.nan": "training.lr=nan: must be a finite number",
    "training.lr=.inf": "must be a finite number",
    "training.tokens=1.5": "training.tokens=1.5: must be a",
    "training.tokens=yes please": "training.tokens='yes please': must be a",
    "training.batch=0": "training.batch=0: must be greater than or equal to 1",
    "model.n_heads=7": "model.n_heads=7: must divide d_model=128",
    "model.d_mlp=12": "model.d_mlp=12: has no effect with attn_only: true",
    "seeds=[0, 0]": "seeds=[0, 0]: must not repeat a value",
    "seeds=[-1]": "must be greater than or equal to 0",
    "seeds=[]": "seeds=[]",
    "version=2": "version=2: must be 1",
    "version=true": "version='True': must be 1",
    "training.lr=2001-13-45": "--set training.lr=2001-13-45",
    "training.lr=!!int abc": "--set training.lr=!!int abc",
    "sandbox.triggers={tokens: 5}": "sandbox.triggers.tokens=5",
    "sandbox.triggers={kind: bernoulli, rate: 1.5}": "sandbox.triggers.rate",
    "sandbox.triggers={kind: bernoulli, rate: [0.1, 0.2]}": "must have one a token (64)",
    "sandbox.rows={kind: two-level, high: 65}": "rows.high=65: must be at most vocab=64",
    "sandbox.rows.kind=spiral": "must be one of",
    "name=../x": "name='../x'",
    "training": "--set training: must be KEY=VALUE",
    "training.lr=[1": "--set training.lr=[1",
    "training.lr.x=1": "--set training.lr.x=1: 'x' lies inside a value that has no keys",
}


@pytest.mark.parametrize("setting", list(BAD))
def test_bad_settings_are_one_line_with_value_and_rule(setting: str) -> None:
    with pytest.raises(MechdistillError) as error:
        load_experiment(settings=[setting])
    message = str(error.value)
    assert BAD[setting] in message
    assert "\n" not in message


def test_numbers_are_read_as_yaml_1_2() -> None:
    data = parse_yaml("{a: 3e-3, b: 5e6, c: 6_000_000, d: no, e: 012}", "test")
    assert data["a"] == pytest.approx(0.003)
    assert data["b"] == 5e6
    assert data["c"] == 6_000_000
    assert data["d"] == "no", "no is a string in YAML 1.2"
    assert load_experiment(settings=["training.tokens=6e6"]).training.tokens == 6_000_000


def test_yaml_cannot_execute_code() -> None:
    with pytest.raises(MechdistillError, match="not valid YAML"):
        parse_yaml("!!python/object/apply:os.system ['true']", "test")


@pytest.mark.parametrize("text", ["[1, 2]", "7", "null", "a: 1\na: 2"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(MechdistillError):
        experiment(parse_yaml(text, "test"))


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_sound_and_survive_a_round_trip(name: str) -> None:
    config = load_experiment(preset_name=name)
    assert experiment(parse_yaml(to_yaml(config), "test")) == config
    assert config.name == name
    assert preset_text(name).startswith("#"), "a preset starts with what it is for"


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(MechdistillError, match="did you mean 'quickstart'"):
        load_experiment(preset_name="quikstart")


def test_the_contracts_example_file_is_read(tmp_path) -> None:
    text = """
    version: 1
    name: quickstart
    sandbox: {vocab: 64, seq_len: 64, seed: 1234,
              rows: {kind: graded, low: 0.05, high: 4.0},
              triggers: {kind: fixed, count: 5, targets: uniform, noise: 0.0}}
    model: {kind: transformer, n_layers: 2, d_model: 64, n_heads: 4, attn_only: true, norm: layernorm,
            positions: learned}
    training: {tokens: 6_000_000, batch: 32, lr: 5e-3, betas: [0.9, 0.95], weight_decay: 0.01, warmup: 100,
               schedule: cosine, evaluate_every: 50, checkpoint_every: 100}
    teachers:
      half-formed: {kind: checkpoint, until: {copy-accuracy: 0.6}, seed: per-student}
    arms:
      spt: {alpha: 0.0}
      dpt-90: {alpha: 0.9, teacher: half-formed, temperature: 1.0}
      spt-2x: {alpha: 0.0, training: {tokens: 12_000_000}}
    seeds: [0]
    """
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    config = load_experiment(path)
    assert config.training.lr == 5e-3
    assert config.arm_training("spt-2x").tokens == 12_000_000
    assert config.arm_training("spt-2x").lr == 5e-3
    with pytest.raises(MechdistillError, match="give one of the two"):
        load_experiment(path, preset_name="tiny")
    with pytest.raises(MechdistillError, match="no such experiment file"):
        load_experiment(tmp_path / "missing.yaml")


def test_twins_differ_in_the_treatment_only_and_teachers_are_nobodys_twin() -> None:
    runs = expand(micro(seeds=[0, 1]))
    assert [str(run.path) for run in runs] == [
        "teachers/young/seed-0",
        "teachers/young/seed-1",
        "spt/seed-0",
        "dpt/seed-0",
        "spt/seed-1",
        "dpt/seed-1",
    ]
    by_name = {str(run.path): run for run in runs}
    spt, dpt = by_name["spt/seed-0"], by_name["dpt/seed-0"]
    same = spt.model_dump(exclude={"treatment", "objective", "teachers"})
    assert same == dpt.model_dump(exclude={"treatment", "objective", "teachers"})
    assert [str(path) for path in dpt.needs] == ["teachers/young/seed-0"]
    assert spt.needs == ()
    seeds = {(run.init_seed, run.data_seed) for run in runs}
    assert len(seeds) == 4, "two students and two teachers, all different"
    for run in runs:
        if run.is_teacher:
            assert min(run.init_seed, run.data_seed) >= 2**31, "no student can have a teacher's seed"
            assert run.objective.alpha == 0


ORACLE = {"oracle": {"kind": "oracle"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"x": {"alpha": {"kind": "ramp"}, "teacher": "young"}}}, "arms.x.alpha.kind='ramp': must be one of"),
        ({"arms": {"x": {"alpha": {"start": 1}, "teacher": "young"}}}, "arms.x.alpha.kind: missing"),
        (
            {"arms": {"x": {"alpha": {"kind": "linear", "start": 2, "end": 0}, "teacher": "young"}}},
            "arms.x.alpha.start=2: must be less than or equal to 1",
        ),
        (
            {"arms": {"x": {"alpha": {"kind": "stages", "stages": [[0.5, 0.1]]}, "teacher": "young"}}},
            "arms.x.alpha.stages: must start at 0 and ascend",
        ),
        ({"arms": {"x": {"alpha": {"kind": "optimal"}}}}, "arms.x.alpha=optimal: needs a teacher"),
        ({"arms": {"alpha": {"teacher": "young"}}}, "arms.alpha.alpha=0: teacher would have no effect"),
        ({"arms": {"x": {"divergence": "jsd"}}}, "arms.x.alpha=0: divergence would have no effect"),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "divergence": {"kind": "jsd", "beta": 0}}}},
            "arms.x.divergence.beta=0: must be greater than 0",
        ),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "divergence": {"kind": "forward-kl", "beta": 0.5}}}},
            "arms.x.divergence.beta: unknown key",
        ),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "routing": {"signal": "teacher-entropy"}}}},
            "arms.x.routing.quantile: give exactly one of quantile (a fraction) and nats (a threshold)",
        ),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "routing": {"signal": "random", "nats": 1}}}},
            "arms.x.routing.signal=random: has neither nats nor tails",
        ),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "routing": {"signal": "oracle-class", "keep": True}}}},
            "arms.x.routing.keep='True': must be '1-alpha' or 1",
        ),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "soften": "both"}}},
            "arms.x.soften=both: has no effect at temperature 1",
        ),
        ({"arms": {"x": {"label_smoothing": {"match": "spt"}}}}, "arms.x.label_smoothing.match=spt: must name an arm"),
        (
            {
                "teachers": {"self": {"kind": "ema"}},
                "arms": {"dpt": {"teacher": "self"}, "x": {"label_smoothing": {"match": "dpt"}}},
            },
            "arms.x.label_smoothing.match=dpt: must name an arm whose teacher stays the same, and self does not",
        ),
        (
            {"arms": {"dpt": {"alpha": {"kind": "optimal"}}, "x": {"label_smoothing": {"match": "dpt"}}}},
            "arms.x.label_smoothing.match=dpt: must name an arm whose targets are known beforehand",
        ),
        (
            {
                "teachers": ORACLE,
                "arms": {
                    "far": {"alpha": 0.5, "teacher": "oracle", "sandbox": {"vocab": 16}},
                    "x": {"label_smoothing": {"match": "far"}},
                },
            },
            "arms.x.label_smoothing.match=far: must name an arm in the same sandbox",
        ),
        ({"arms": {"x": {"model": {"n_layers": 0}}}}, "arms.x.model.n_layers=0: must be greater than or equal to 1"),
        ({"arms": {"x": {"sandbox": {"vocab": 2}}}}, "arms.x.sandbox.vocab=2: must be greater than or equal to 4"),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "sandbox": {"seed": 7}}}},
            "arms.x.teacher=young: young is trained in another world than the arm's; set teachers.young.sandbox",
        ),
        (
            {"arms": {"x": {"alpha": 1, "teacher": "young", "label_smoothing": 0.1}}},
            "arms.x.label_smoothing: has no effect at alpha=1",
        ),
        (
            {"arms": {"x": {"alpha": 1, "teacher": "young", "ce_weights": {"first": 2}}}},
            "arms.x.ce_weights: has no effect at alpha=1",
        ),
        (
            {"arms": {"x": {"ce_weights": {"ordinary": 0, "first": 0, "copyable": 0}}}},
            "arms.x.ce_weights: are all 0",
        ),
        (
            {"sandbox": {"triggers": {"count": 0}}, "arms": {"x": {"ce_weights": {"copyable": 0.1}}}},
            "arms.x.ce_weights: has no effect in a world without triggers",
        ),
        (
            {
                "sandbox": {"triggers": {"count": 0}},
                "teachers": {**ORACLE, "s": {"kind": "splice", "copyable": "oracle", "elsewhere": "young"}},
                "arms": {"x": {"alpha": 0.5, "teacher": "s"}},
            },
            "arms.x.teacher=s: has no effect in a world without triggers",
        ),
        (
            {"sandbox": {"triggers": {"count": 0}}, "teachers": {"young": {"until": {"copy-accuracy": 0.5}}}},
            "teachers.young.until: copy-accuracy needs triggers",
        ),
        (
            {
                "teachers": {**ORACLE, "d": {"kind": "sampled", "of": "oracle", "n": 1}},
                "arms": {"x": {"alpha": 0.5, "teacher": "d", "temperature": 2}},
            },
            "arms.x.temperature=2.0: would soften the draws, not the law that they come from",
        ),
        (
            {
                "training": {"unique_sequences": 4},
                "teachers": {"c": {"kind": "count", "tokens": 65}},
                "arms": {"x": {"alpha": 0.5, "teacher": "c"}},
            },
            "arms.x.teacher=c: teachers.c.tokens=65 are more than the student's own 64",
        ),
        ({"arms": {"x": {"alpha": 0.5, "teacher": "young", "temperature": 1e-3}}}, "arms.x.temperature=0.001: must be"),
        ({"teachers": {"young": {"seed": -1}}}, "teachers.young.seed=-1: must be"),
        (
            {"arms": {"x": {"alpha": 0.5, "teacher": "young", "sandbox": {"vocab": 16}}}},
            "arms.x.teacher=young: young knows 12 tokens and 16 positions, the arm has 16 and 16",
        ),
        (
            {
                "teachers": {
                    "a": {"kind": "ensemble", "of": ["b", "young"]},
                    "b": {"kind": "sampled", "of": "a", "n": 1},
                }
            },
            "teachers.a: is made of itself (a -> b -> a)",
        ),
        ({"teachers": {"a": {"kind": "sampled", "of": "b", "n": 1}}}, "teachers.a: is made of b, which is no entry"),
        ({"teachers": {"a": {"kind": "sampled", "of": "young", "n": 0}}}, "teachers.a.n=0: must be greater"),
        (
            {"teachers": {**ORACLE, "a": {"kind": "progressive", "of": "oracle"}}},
            "teachers.a.of=oracle: must be a chec",
        ),
        (
            {"teachers": {"a": {"kind": "checkpoint", "run": "x", "until": {"copy-accuracy": 1.0}}}},
            "teachers.a.until: ",
        ),
        ({"teachers": {"a": {"kind": "checkpoint", "step": 3}}}, "teachers.a.step=3: needs `run`"),
        (
            {"teachers": {"a": {"kind": "tilted", "of": "young", "horizon": 2}}},
            "teachers.a.horizon=2: is exact for an oracle or a bigram only",
        ),
        (
            {"teachers": {"a": {"kind": "tilted", "horizon": 3}}, "arms": {"x": {"alpha": 0.5, "teacher": "a"}}},
            "arms.x.teacher=a: teachers.a.horizon=3 is exact only where the chain is plain",
        ),
    ],
)
def test_bad_teachers_and_objectives_are_one_line_that_starts_with_the_key(changes: dict, message: str) -> None:
    with pytest.raises(MechdistillError) as error:
        micro(**changes)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_teacher_and_objective_survives_the_resolved_file() -> None:
    config = micro(
        teachers={
            **ORACLE,
            "blind": {"kind": "bigram"},
            "flat": {"kind": "uniform"},
            "noisy": {"kind": "noisy", "of": "young", "below": 0.5},
            "counted": {"kind": "count", "tokens": 1000, "data": "fresh"},
            "growing": {"kind": "progressive", "of": "young", "stages": [[0, 0.5], [0.5, 1]]},
            "mean": {"kind": "ensemble", "of": ["oracle", "blind"]},
            "tuned": {"kind": "tilted", "beta": 0.5},
            "self": {"kind": "ema"},
            "spliced": {"kind": "splice", "copyable": "young", "elsewhere": "mean"},
            "soft": {"kind": "temperature", "of": "young", "temperature": 2},
            "top": {"kind": "top-k", "of": "young", "k": 1, "tail": "bucket"},
            "drawn": {"kind": "sampled", "of": "spliced", "n": 4},
            "wrong": {"kind": "permuted"},
            "fixed": {"kind": "checkpoint", "seed": 3},
        },
        arms={
            "a": {"alpha": {"kind": "optimal"}, "teacher": "drawn", "divergence": "jsd"},
            "b": {"alpha": 1, "teacher": "fixed", "routing": {"signal": "oracle-class", "keep": 1}},
            "c": {"label_smoothing": {"match": "dpt"}, "ce_weights": {"copyable": 0.1}, "model": {"n_layers": 1}},
        },
        seeds=[0, 1],
    )
    assert experiment(parse_yaml(to_yaml(config), "again")) == config
    runs = {str(run.path): run for run in expand(config)}
    assert list(runs["a/seed-0"].teachers) == ["young", "oracle", "blind", "mean", "spliced", "drawn"], "parts first"
    assert runs["c/seed-0"].model.n_layers == 1
    assert runs["c/seed-0"].matched == config.arms["dpt"]
    assert [str(path) for path in runs["c/seed-1"].needs] == ["teachers/young/seed-1"], "to know what it has to match"
    assert [str(path) for path in runs["b/seed-1"].needs] == ["teachers/fixed/seed-3"], "one for all students"
    for run in runs.values():
        assert RunConfig.model_validate(parse_yaml(to_yaml(run), "again")) == run


def test_a_teacher_that_no_arm_uses_is_not_trained() -> None:
    config = micro(teachers={"idle": {"kind": "checkpoint"}})
    assert "teachers/idle/seed-0" not in {str(run.path) for run in expand(config)}


@given(st.integers(1, 10**8), st.integers(1, 512), st.integers(8, 512))
def test_steps_cover_the_token_budget(tokens: int, batch: int, seq_len: int) -> None:
    config = micro(sandbox={"seq_len": seq_len}, training={"tokens": tokens, "batch": batch})
    assert expand(config)[-1].steps == math.ceil(tokens / (batch * seq_len))


def test_a_line_break_in_a_key_does_not_break_the_line() -> None:
    with pytest.raises(MechdistillError) as error:
        experiment({"arms\n": {}})
    assert str(error.value).startswith("arms\\n: unknown key; did you mean 'arms'?")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.text(), x),
        max_leaves=8,
    )
)
def test_whatever_is_in_a_file_is_accepted_or_refused_in_one_line(value: object) -> None:
    for data in (value, {"arms": value}, {"arms": {"a": {}}, "training": value}, {"arms": {"a": {}}, "sandbox": value}):
        try:
            experiment(data)
        except MechdistillError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message
