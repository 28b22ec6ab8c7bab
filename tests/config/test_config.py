import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.config import (
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
    "arms.dpt-90.teacher=nobody": "arms.dpt-90.teacher=nobody: must name an entry of teachers (defined: half-formed)",
    "arms.dpt-90.teacher=null": "arms.dpt-90.alpha=0.9: needs a teacher",
    "arms.spt.temperature=2.0": "arms.spt.alpha=0: a teacher or temperature would have no effect",
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
    "seeds=[0, 0]": "seeds=[0, 0]: must not repeat a seed",
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
    "sandbox.rows={kind: corpus, path: nowhere.txt}": "rows.path=nowhere.txt: must be a readable UTF-8 text file",
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
    same = spt.model_dump(exclude={"arm", "objective", "teacher"})
    assert same == dpt.model_dump(exclude={"arm", "objective", "teacher"})
    assert str(dpt.teacher_path) == "teachers/young/seed-0"
    assert spt.teacher_path is None
    seeds = {(run.init_seed, run.data_seed) for run in runs}
    assert len(seeds) == 4, "two students and two teachers, all different"
    for run in runs:
        if run.is_teacher:
            assert min(run.init_seed, run.data_seed) >= 2**31, "no student can have a teacher's seed"
            assert run.objective.alpha == 0


def test_a_teacher_that_no_arm_uses_is_not_trained() -> None:
    config = micro(teachers={"idle": {"kind": "checkpoint"}})
    assert "teachers/idle/seed-0" not in {str(run.path) for run in expand(config)}


@given(st.integers(1, 10**9), st.integers(1, 512), st.integers(8, 512))
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
