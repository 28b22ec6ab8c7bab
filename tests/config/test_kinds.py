"""The registries of teachers, divergences and signals: what they hold, and what is no entry of them."""

import inspect

import pytest

from mechdistill.config import DIVERGENCES, SIGNALS, TEACHERS, Traits, experiment
from mechdistill.config.teachers import NoisyTeacher
from mechdistill.errors import MechdistillError
from mechdistill.tables import resolve
from tests.helpers import micro


@pytest.mark.parametrize("registry", [TEACHERS, DIVERGENCES, SIGNALS], ids=lambda registry: registry.kind)
def test_every_entry_is_there_and_says_what_it_is(registry) -> None:
    for name, entry in registry.items():
        assert entry.name == name
        found = resolve(entry.implementation)
        assert found.__module__.startswith("mechdistill.")
        assert len(inspect.getdoc(found) or "") > 80, name


def test_a_kind_knows_its_name_and_takes_no_other() -> None:
    assert NoisyTeacher() == NoisyTeacher.model_validate({"kind": "noisy"})
    with pytest.raises(ValueError, match="kind='ema': must be 'noisy'"):
        NoisyTeacher(kind="ema")


def test_traits_are_those_that_the_checks_need() -> None:
    having = {
        trait: {kind for kind, entry in TEACHERS.items() if getattr(entry.config.traits, trait)}
        for trait in Traits.__dataclass_fields__
    }
    assert having == {
        "draws": {"sampled", "top-k"},
        "gives_labels": {"sampled"},
        "moves": {"ema", "progressive"},
        "follows_student": {"ema"},
        "reads_occurrence": {"splice"},
        "knows_rows": {"oracle", "bigram"},
        "knows_targets": {"oracle"},
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"teachers": {"a": {"kind": "spiral"}}}, "teachers.a.kind='spiral': must be one of 'oracle', 'bigram', "),
        ({"teachers": {"a": {"kind": []}}}, "teachers.a.kind=[]: must be one of 'oracle', 'bigram', "),
        ({"teachers": {"a": {}}}, "teachers.a.kind: missing; say which kind it is"),
        ({"teachers": {"a": 5}}, "teachers.a=5: must be a mapping"),
        ({"arms": {"dpt": {"divergence": "L2"}}}, "arms.dpt.divergence.kind='L2': must be one of 'forward-kl', "),
        ({"arms": {"dpt": {"divergence": 2}}}, "arms.dpt.divergence=2: must be a mapping"),
        ({"arms": {"dpt": {"routing": {"signal": "x"}}}}, "arms.dpt.routing.signal='x': must be one of 'teacher-ent"),
        ({"arms": {"dpt": {"routing": {"signal": 2}}}}, "arms.dpt.routing.signal=2: must be a string"),
    ],
)
def test_an_unknown_kind_is_one_line_with_those_there_are_and_where_ones_own_come_from(data, message: str) -> None:
    with pytest.raises(MechdistillError) as error:
        micro(**data)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    if "one of" in message:
        assert str(error.value).endswith("one of your own comes with --plugin FILE.py")


def test_a_text_is_not_read_while_checking() -> None:
    rows = {"kind": "corpus", "path": "nowhere.txt"}
    config = experiment({"sandbox": {"rows": rows}, "arms": {"spt": {}}})
    assert config.sandbox.rows.model_dump() == {**rows, "sha256": None}
